//! Where the stages of TPC-H would run on other machines: golden placements over the profiles of `engine/cost/profiles`.
//!
//! The tables are those of scale 0.01 with the statistics of scale 10: a thousand times the rows, keys and bytes. Nothing runs.
//! Two columns: as the code is, which sends every column from the host; and were columns, results and compiled kernels on the device.
//!
//! After a change that is meant: `MILLSTREAM_WRITE_SNAPSHOTS=1 cargo test --release --workspace --test engine -- placement::`.

use crate::world::{data, session, suite_tpch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session as Catalog, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ScalarValue, Statistics};
use datafusion::config::ConfigOptions;
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::{DataSource, DataSourceExec};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use millstream::{MachineProfile, Options, Preference, Session, load_profile, profile_of};
use millstream_cost::{Gpu, Kernel};
use millstream_plan::{Machine, Place, Residency};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

type Plan = Arc<dyn ExecutionPlan>;

/// A table that says that it is `factor` times as large as it is.
#[derive(Debug)]
struct Scaled {
    table: Arc<dyn TableProvider>,
    factor: usize,
}

#[async_trait]
impl TableProvider for Scaled {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<datafusion::logical_expr::TableProviderFilterPushDown>> {
        self.table.supports_filters_pushdown(filters)
    }

    async fn scan(&self, session: &dyn Catalog, projection: Option<&Vec<usize>>, filters: &[Expr], limit: Option<usize>) -> Result<Plan> {
        let plan = self.table.scan(session, projection, filters, limit).await?;
        let leaf = plan.downcast_ref::<DataSourceExec>().expect("a scan");
        let config = leaf.data_source().downcast_ref::<FileScanConfig>().expect("of files");
        let statistics = scaled(config.statistics(), &self.schema(), self.factor);
        let source: Arc<dyn DataSource> = Arc::new(FileScanConfigBuilder::from(config.clone()).with_statistics(statistics).build());
        Ok(Arc::new(DataSourceExec::new(source)))
    }
}

/// Rows and bytes grow with the scale, and so do keys, of nations and regions aside.
fn scaled(mut statistics: Statistics, schema: &SchemaRef, factor: usize) -> Statistics {
    let times = |p: Precision<usize>| p.map(|n| n * factor);
    statistics.num_rows = times(statistics.num_rows);
    statistics.total_byte_size = times(statistics.total_byte_size);
    for (c, f) in statistics.column_statistics.iter_mut().zip(schema.fields()) {
        c.byte_size = times(c.byte_size);
        let name = f.name();
        if name.ends_with("key") && !name.contains("nation") && !name.contains("region") {
            c.max_value = c.max_value.clone().map(|v| match v {
                ScalarValue::Int64(Some(v)) => ScalarValue::Int64(Some(v * factor as i64)),
                other => other,
            });
        }
    }
    statistics
}

/// A session over TPC-H that takes its tables for those of scale 10.
async fn scale_10() -> Session {
    let session = session(true, Preference::Auto).await;
    for t in suite_tpch().tables {
        // Nations and regions are as many at any scale.
        let factor = if ["nation", "region"].contains(t) { 1 } else { 1000 };
        let table = session.context().table_provider(*t).await.unwrap();
        session.deregister(t).unwrap();
        session.context().register_table(*t, Arc::new(Scaled { table, factor })).unwrap();
    }
    session
}

fn fixture(name: &str) -> Arc<MachineProfile> {
    let file = PathBuf::from(format!("{}/../engine/cost/profiles/{name}.json", env!("CARGO_MANIFEST_DIR")));
    Arc::new(load_profile(&file).unwrap())
}

fn place(plan: &Plan, machine: Machine) -> Plan {
    Place::new(Preference::Auto, Some(Arc::new(machine))).optimize(Arc::clone(plan), &ConfigOptions::default()).unwrap()
}

/// The stages of a plan and where they would run.
fn devices(plan: &Plan) -> Vec<(String, String, String)> {
    let there = |s: &millstream::StageReport| s.there.clone().unwrap_or_else(|| "not priced".into());
    profile_of(plan).stages.iter().map(|s| (s.id.clone(), s.sink.clone(), there(s))).collect()
}

async fn as_they_were(name: &str) {
    let (session, profile) = (scale_10().await, fixture(name));
    let all = Residency { columns: true, results: true, kernels: true };
    let mut drawn = format!("{:<5} {:<5} {:<8} {:<8} all resident\n", "query", "stage", "sink", "today");
    for q in suite_tpch().queries {
        let plan = session.sql(q.sql).await.unwrap().plan().await.unwrap();
        let today = devices(&place(&plan, Machine::recorded(Arc::clone(&profile))));
        let resident = devices(&place(&plan, Machine::recorded(Arc::clone(&profile)).with_residency(all)));
        for ((id, sink, today), (_, _, resident)) in today.iter().zip(&resident) {
            writeln!(drawn, "{:<5} {id:<5} {sink:<8} {today:<8} {resident}", q.id).unwrap();
        }
    }
    let file = PathBuf::from(format!("tests/engine/placements/{name}.txt"));
    if std::env::var_os("MILLSTREAM_WRITE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &drawn).unwrap();
    }
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = drawn.lines().zip(known.lines().chain(std::iter::repeat(""))).find(|(a, b)| a != b);
    assert!(drawn == known, "{name}: now and before: {differs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn placements_on_an_h100() {
    as_they_were("h100").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn placements_on_an_rtx_4090() {
    as_they_were("rtx4090").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn placements_on_an_m4() {
    as_they_were("m4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn placements_on_an_integrated_gpu() {
    as_they_were("integrated").await;
}

/// Prints what docs/PLACEMENT.md has: `cargo test --release --workspace --test engine -- --ignored --nocapture explain_on_an_h100`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints a page of the docs"]
async fn explain_on_an_h100() {
    let (session, profile) = (scale_10().await, fixture("h100"));
    let all = Residency { columns: true, results: true, kernels: true };
    for (title, residency) in [("as the code is", Residency::default()), ("all resident", all)] {
        println!("{title}\n");
        for q in suite_tpch().queries {
            let plan = session.sql(q.sql).await.unwrap().plan().await.unwrap();
            let placed = place(&plan, Machine::recorded(Arc::clone(&profile)).with_residency(residency));
            for s in profile_of(&placed).stages {
                let why = s.reason.split("(synthetic) ").last().unwrap_or_default();
                println!("{:<4} {:<4} {:<8} {} rows  {why}", q.id, s.id, s.sink, s.est_rows.unwrap_or_default());
            }
        }
        println!();
    }
}

/// A profile by which the device wins wherever it can run a stage.
fn winning() -> MachineProfile {
    let mut profile = fixture("h100").as_ref().clone();
    profile.cpu.kernels.values_mut().for_each(|c| c.0.iter_mut().for_each(|p| p.1 *= 20.0));
    for kernel in [Kernel::Pack, Kernel::GroupDirect, Kernel::DecodeNumber, Kernel::DecodeText, Kernel::Copy] {
        profile.cpu.kernels.get_mut(&kernel).unwrap().0.iter_mut().for_each(|p| p.1 /= 1000.0);
    }
    profile.cpu.threads = 1;
    profile
}

async fn q1() -> Plan {
    let session = scale_10().await;
    session.sql(suite_tpch().query("q1").unwrap().sql).await.unwrap().plan().await.unwrap()
}

fn reasons(plan: &Plan) -> String {
    profile_of(plan).stages.iter().map(|s| format!("{} {}: {}\n", s.sink, s.device, s.reason)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_chosen_where_it_wins_and_is_here() {
    let here = |there: bool| Machine::here(Arc::new(winning()), 1, Box::new(move |_: &Gpu| there));
    let chosen = reasons(&place(&q1().await, here(true)));
    assert!(chosen.contains("group gpu: auto: cpu ") && chosen.contains(", gpu "), "{chosen}");
    let gone = reasons(&place(&q1().await, here(false)));
    assert!(!gone.contains("gpu:") && gone.contains("the GPU of the profile is not here"), "{gone}");
    // By another machine's profile nothing runs on a device that is not here, and EXPLAIN says where it would.
    let placed = place(&q1().await, Machine::recorded(Arc::new(winning())));
    let there = profile_of(&placed);
    assert!(there.stages.iter().any(|s| s.device == "cpu" && s.there.as_deref() == Some("gpu")), "{there}");
    assert!(there.to_string().contains("here the CPU; on NVIDIA H100 PCIe with 32 cores (synthetic) gpu: cpu "), "{there}");
}

/// No driver is asked for anything unless a stage is to run there.
#[tokio::test(flavor = "multi_thread")]
async fn no_driver_is_asked_for_nothing() {
    let never = || Box::new(|_: &Gpu| -> bool { panic!("asked for an adapter") });
    let plan = q1().await;
    let dear = reasons(&place(&plan, Machine::here(fixture("integrated"), 2, never())));
    assert!(dear.contains("group cpu: auto: cpu "), "{dear}");
    let mut software = winning();
    software.gpu.as_mut().unwrap().is_software = true;
    let pretended = reasons(&place(&plan, Machine::here(Arc::new(software), 2, never())));
    assert!(pretended.contains("a software adapter is never chosen"), "{pretended}");
    let mut alone = winning();
    alone.gpu = None;
    let none = reasons(&place(&plan, Machine::here(Arc::new(alone), 2, never())));
    assert!(none.contains("no GPU was measured"), "{none}");
}

/// Runs correct what is expected of later ones, within bounds, and only of this machine.
#[tokio::test(flavor = "multi_thread")]
async fn runs_correct_estimates() {
    let mut slow = fixture("integrated").as_ref().clone();
    slow.cpu.kernels.values_mut().for_each(|c| c.0.iter_mut().for_each(|p| p.1 *= 200.0));
    let expected = |recorded: bool| {
        let profile = Some(Arc::new(slow.clone()));
        async move {
            let session = Session::with_options(Options { threads: 2, profile, recorded, ..Options::default() }).unwrap();
            session.register("lineitem", &data().join("lineitem.parquet").to_string_lossy()).await.unwrap();
            let sql = "select l_returnflag, sum(l_quantity) from lineitem group by l_returnflag";
            let mut all = vec![];
            for _ in 0..8 {
                let (_, profile) = session.sql(sql).await.unwrap().profile().await.unwrap();
                all.push(profile.stages[0].cpu_est_ms.unwrap());
            }
            (all[0], all[7])
        }
    };
    let (first, last) = expected(false).await;
    assert!(last < first / 3.0 && last > first / 4.1, "{first} then {last}");
    let (first, last) = expected(true).await;
    assert_eq!(first, last, "what runs here teaches nothing about another machine");
}
