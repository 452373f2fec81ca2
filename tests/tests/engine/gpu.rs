//! Stages on the GPU, with all of a device's abilities and on the floor: placed there, run there,
//! and the rows of the CPU, also when the device fails.
//!
//! Tests that break a device break the one of class Floor; `alone` keeps the others of this file away.

mod leaks;
mod order;
mod pairs;
mod resident;
mod rows;
mod table;

use crate::world::{SCALE, has_gpu, session, suite_tpch};
use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, collect};
use millstream::{Options, Preference, Session};
use millstream_benches::{answer, verify};
use millstream_kernels::gpu::{CapabilityClass, Device, Fault};
use millstream_stage::run::Fallback;
use millstream_stage::{Device as Place, EpochContext, Settings, Sink, StageExec};
use std::sync::Arc;
use std::time::{Duration, Instant};
use table::{registered, with_options};
use tokio::sync::{Mutex, MutexGuard};

const CLASSES: [CapabilityClass; 2] = [CapabilityClass::All, CapabilityClass::Floor];

/// A run of a query and what its stages measured.
#[derive(Default)]
struct Ran {
    rows: Vec<RecordBatch>,
    group_stages: usize,
    /// Those of them placed on the GPU.
    on_gpu: usize,
    /// Stages of any sink placed there, and the kinds of their sinks.
    sinks_on_gpu: Vec<&'static str>,
    /// Rows of their inputs, and those that the device took.
    input_rows: usize,
    gpu_rows: usize,
    /// Chunks that kernels ran over.
    chunks: usize,
    fallbacks: usize,
    /// Why, by the names of the metrics, those of which there are any.
    reasons: Vec<&'static str>,
    upload_bytes: usize,
    kept_bytes: usize,
}

impl Ran {
    /// Its rows as text, in an order of their own.
    fn lines(&self) -> Vec<String> {
        let mut lines = self.lines_in_order();
        lines.sort();
        lines
    }

    /// Its rows as text.
    fn lines_in_order(&self) -> Vec<String> {
        let text = pretty_format_batches(&self.rows).unwrap().to_string();
        text.lines().filter(|l| l.starts_with('|')).map(str::to_string).collect()
    }

    /// All groups were made on the device and nowhere else.
    fn assert_on_gpu(&self, what: &str) {
        assert!(self.group_stages > 0 && self.on_gpu == self.group_stages, "{what}: {} of {}", self.on_gpu, self.group_stages);
        assert!(self.chunks >= self.on_gpu, "{what}: {} chunks", self.chunks);
        assert_eq!(self.fallbacks, 0, "{what}");
    }
}

async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

async fn run(session: &Session, sql: &str, class: CapabilityClass, epochs: usize) -> Ran {
    let plan = session.sql(sql).await.unwrap().plan().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let settings = Settings::of(&session.context().task_ctx()).unwrap();
    let settings = Arc::new(Settings { gpu: class, ..settings.as_ref().clone() });
    let mut ran = Ran::default();
    let mut epoch = Arc::new(EpochContext::first(epochs));
    loop {
        let fresh = reset_plan_states(Arc::clone(&plan)).unwrap();
        let config = session.context().copied_config().with_extension(Arc::clone(&epoch)).with_extension(Arc::clone(&settings));
        let task = TaskContext::default().with_session_config(config).with_runtime(session.context().runtime_env());
        ran.rows = collect(Arc::clone(&fresh), Arc::new(task)).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        (ran.group_stages, ran.on_gpu) = (0, 0);
        ran.sinks_on_gpu.clear();
        measure(&fresh, &mut ran);
        if epoch.is_final() {
            return ran;
        }
        epoch = Arc::new(epoch.next());
    }
}

fn measure(plan: &Arc<dyn ExecutionPlan>, ran: &mut Ran) {
    if let Some(stage) = plan.downcast_ref::<StageExec>() {
        let metrics = stage.metrics().unwrap();
        let sum = |name: &str| metrics.sum_by_name(name).map_or(0, |v| v.as_usize());
        ran.chunks += sum("gpu_chunks");
        ran.fallbacks += sum("gpu_fallbacks");
        ran.reasons.extend(Fallback::ALL.iter().map(|(_, name)| *name).filter(|name| sum(name) > 0));
        ran.reasons.sort_unstable();
        ran.reasons.dedup();
        let counted = Fallback::ALL.iter().map(|(_, name)| sum(name)).sum::<usize>();
        assert_eq!(counted, sum("gpu_fallbacks"), "every fallback has one reason");
        ran.upload_bytes += sum("gpu_upload_bytes");
        ran.kept_bytes += sum("gpu_kept_bytes");
        let (is_group, is_placed) = (matches!(stage.sink(), Sink::Group { .. }), stage.placement().device == Place::Gpu);
        ran.group_stages += usize::from(is_group);
        ran.on_gpu += usize::from(is_group && is_placed);
        if is_placed {
            ran.sinks_on_gpu.push(stage.sink().name());
            ran.input_rows += sum("input_rows");
            ran.gpu_rows += sum("gpu_rows");
        }
    }
    plan.children().into_iter().for_each(|c| measure(c, ran));
}

async fn tpch(id: &str) {
    if !has_gpu(id) {
        return;
    }
    let _alone = alone().await;
    let q = suite_tpch().query(id).unwrap();
    let expected = answer(suite_tpch(), SCALE, q).unwrap().unwrap();
    let session = session(true, Preference::Gpu).await;
    for class in CLASSES {
        for epochs in [1, 10] {
            let ran = run(&session, q.sql, class, epochs).await;
            verify(q, &expected, &ran.rows).unwrap_or_else(|m| panic!("{id} on {class:?} in {epochs} epochs: {m}"));
            ran.assert_on_gpu(id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn q1() {
    tpch("q1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn q6() {
    tpch("q6").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn q12_a_join_grouped_by_a_string() {
    tpch("q12").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn q14_a_join_with_a_predicate_on_the_tables_strings() {
    tpch("q14").await;
}

/// Every TPC-H query with the GPU asked for: what it cannot do runs on the CPU, and nothing falls back.
#[tokio::test(flavor = "multi_thread")]
async fn all_of_tpch() {
    if !has_gpu("all_of_tpch") {
        return;
    }
    let _alone = alone().await;
    let session = session(true, Preference::Gpu).await;
    let mut on_gpu = 0;
    for q in suite_tpch().queries {
        let ran = run(&session, q.sql, CapabilityClass::All, 1).await;
        let expected = answer(suite_tpch(), SCALE, q).unwrap().unwrap();
        verify(q, &expected, &ran.rows).unwrap_or_else(|m| panic!("{}: {m}", q.id));
        assert_eq!(ran.fallbacks, 0, "{}", q.id);
        on_gpu += ran.on_gpu;
    }
    assert!(on_gpu >= 15, "only {on_gpu} group stages on the GPU");
}

/// What a query over the generated tables is expected to do.
#[derive(Clone, Copy, PartialEq)]
enum Expect {
    /// All groups on the device.
    Gpu,
    /// On the device, but for rows that do not fit it.
    Part,
    /// The device, with no rows to see.
    NoRows,
}

const QUERIES: &[(&str, Expect)] = &[
    ("select k, count(*), count(v), sum(v), min(v), max(v), avg(v) from t group by k", Expect::Gpu),
    ("select s, d, count(*), sum(v), min(k), max(d) from t group by s, d", Expect::Gpu),
    (
        "select b, count(*) filter (where v > 10), sum(v) filter (where s like 's1%'), count(s) filter (where k is not null), count(f) from t group by b",
        Expect::Gpu,
    ),
    ("select count(*), sum(v), min(k) from t where k * 2 < 0", Expect::Gpu),
    ("select s, count(*) from t where s like '%1' and s <> 's11' and s in ('s1', 's11', 's21') group by s", Expect::Gpu),
    (
        "select d, sum(case when f > 0.5 then v when s = 's2' then -v else 0 end), sum(k * 3 - 7) from t where d > date '1970-02-01' or b group by d",
        Expect::Gpu,
    ),
    ("select count(*), sum(n), max(n) from (select k, count(*) n from t group by k)", Expect::Gpu),
    ("select count(*), sum(a), min(a) from (values (1), (null), (3)) x(a)", Expect::Gpu),
    ("select sum(v * weight), count(*) from t join dim on k = dk where name like 'n1%' or name is null", Expect::Gpu),
    ("select name, count(*), sum(v) from t join dim on k = dk group by name", Expect::Gpu),
    ("select weight, name, count(*), sum(v) from t join dim on k = dk group by weight, name", Expect::Gpu),
    ("select upper(name), min(v), sum(weight) from t join dim on k = dk group by upper(name)", Expect::Gpu),
    (
        "select a.name, b.name, count(*), sum(v), max(d) from t join dim a on k = a.dk join dim b on k + 2 = b.dk group by a.name, b.name",
        Expect::Gpu,
    ),
    ("select name, s, sum(weight) from t join dim on k = dk where upper(name) <> upper(s) group by name, s", Expect::Gpu),
    ("select count(*), sum(weight), count(name) from dim right join t on k = dk", Expect::Gpu),
    ("select count(*), sum(v) from t where k in (select dk from dim where name is not null)", Expect::Gpu),
    ("select s, round(sum(f), 6), min(f), max(f), round(avg(f), 9), count(f), sum(v) from t group by s", Expect::Gpu),
    ("select round(sum(f - 0.5) filter (where b), 6), max(-f) from t where d is not null", Expect::Gpu),
    // A division that only the host's filter keeps from failing.
    ("select count(*), sum(case when 100 / k > 3 then v else 0 end) from t where k <> 0", Expect::Gpu),
    ("select b, sum(w), max(w), min(w), count(w) from t group by b", Expect::Part),
    ("select k, w, count(*) from t where w > 40 group by k, w", Expect::Part),
    ("select s, sum(v) from empty group by s", Expect::NoRows),
    ("select name, sum(v) from t join dim on k = dk where dk > 1000 group by name", Expect::NoRows),
    ("select count(*), sum(v), max(d) from empty", Expect::NoRows),
    ("select count(*), sum(v) from t where s = 'nobody'", Expect::NoRows),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_are_those_of_the_cpu() {
    if !has_gpu("the_rows_are_those_of_the_cpu") {
        return;
    }
    let _alone = alone().await;
    let (cpu, gpu) = (registered(Preference::Cpu).await, registered(Preference::Gpu).await);
    for (sql, expect) in QUERIES {
        let want = run(&cpu, sql, CapabilityClass::All, 1).await;
        assert_eq!((want.on_gpu, want.chunks), (0, 0), "{sql}");
        for class in CLASSES {
            for epochs in [1, 10] {
                let ran = run(&gpu, sql, class, epochs).await;
                assert_eq!(ran.lines(), want.lines(), "{class:?}, {epochs} epochs: {sql}");
                match expect {
                    Expect::Gpu => ran.assert_on_gpu(sql),
                    Expect::Part => {
                        assert!(ran.chunks > 0 && ran.fallbacks > 0, "{sql}: {} {}", ran.chunks, ran.fallbacks);
                        assert_eq!(ran.reasons, ["gpu_fallbacks_values"], "{sql}");
                    }
                    Expect::NoRows => assert!(ran.on_gpu > 0 && ran.fallbacks == 0, "{sql}"),
                }
            }
        }
    }
    // Negative control: the comparison tells rows apart.
    let other = run(&gpu, QUERIES[0].0, CapabilityClass::All, 1).await;
    assert_ne!(other.lines(), run(&cpu, QUERIES[1].0, CapabilityClass::All, 1).await.lines());
}

/// The device of class Floor, that the stages use too.
fn floor() -> Arc<Device> {
    Device::open(CapabilityClass::Floor).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_fault_the_cpu_answers() {
    if !has_gpu("after_a_fault_the_cpu_answers") {
        return;
    }
    let _alone = alone().await;
    let session = session(true, Preference::Gpu).await;
    for id in ["q1", "q14"] {
        let q = suite_tpch().query(id).unwrap();
        let expected = answer(suite_tpch(), SCALE, q).unwrap().unwrap();
        for fault in [Fault::Submit, Fault::OutOfMemory, Fault::Lost, Fault::Panic] {
            run(&session, q.sql, CapabilityClass::Floor, 1).await.assert_on_gpu(id);
            floor().inject(fault);
            let ran = run(&session, q.sql, CapabilityClass::Floor, 1).await;
            verify(q, &expected, &ran.rows).unwrap_or_else(|m| panic!("{id} after {fault:?}: {m}"));
            let why = if fault == Fault::OutOfMemory { "gpu_fallbacks_device_memory" } else { "gpu_fallbacks_device" };
            assert!(ran.fallbacks > 0 && ran.reasons == [why], "{id}, {fault:?}: {:?}", ran.reasons);
        }
        // A device that was lost is replaced.
        run(&session, q.sql, CapabilityClass::Floor, 1).await.assert_on_gpu(id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_runs_out_in_the_middle_counts_no_row_twice() {
    if !has_gpu("memory_that_runs_out_in_the_middle_counts_no_row_twice") {
        return;
    }
    let _alone = alone().await;
    let cpu = registered(Preference::Cpu).await;
    // One thread, so that row groups come in order: the codes of `k` outgrow the first run in the second
    // one, its groups are kept; the next run gets to a chunk of twice the size, for which memory lacks.
    let gpu = async |gpu_memory_bytes: Option<u64>| {
        with_options(Options { threads: 1, device: Preference::Gpu, gpu_memory_bytes, ..Options::default() }).await
    };
    let sql = "select k, count(*), sum(v), min(d) from t group by k";
    let want = run(&cpu, sql, CapabilityClass::Floor, 1).await.lines();
    let mut both = 0;
    for limit_bytes in [1 << 10, 64 << 10, 256 << 10, 512 << 10, 1 << 20, 3 << 19, 2 << 20, 4 << 20] {
        let ran = run(&gpu(Some(limit_bytes)).await, sql, CapabilityClass::Floor, 1).await;
        assert_eq!(ran.lines(), want, "limit {limit_bytes}");
        assert!(ran.fallbacks == 0 || ran.reasons == ["gpu_fallbacks_device_memory"], "limit {limit_bytes}: {:?}", ran.reasons);
        both += usize::from(ran.chunks > 0 && ran.fallbacks > 0);
    }
    assert!(both > 0, "no limit let a first run end and a later one fail");
    assert_eq!(floor().memory().unwrap().live_bytes, 0);
    run(&gpu(None).await, sql, CapabilityClass::Floor, 1).await.assert_on_gpu(sql);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_limit_ends_runs_early() {
    if !has_gpu("a_memory_limit_ends_runs_early") {
        return;
    }
    let _alone = alone().await;
    let sql = "select b, count(*), sum(v), min(d), max(k) from t group by b";
    let roomy = run(&registered(Preference::Gpu).await, sql, CapabilityClass::All, 1).await;
    let options = Options { threads: 2, device: Preference::Gpu, memory_limit_bytes: Some(2 << 20), ..Options::default() };
    let tight = run(&with_options(options).await, sql, CapabilityClass::All, 1).await;
    assert_eq!(tight.lines(), roomy.lines());
    tight.assert_on_gpu(sql);
    assert!(tight.chunks > roomy.chunks, "{} and {} chunks", tight.chunks, roomy.chunks);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_query_frees_the_device() {
    if !has_gpu("a_cancelled_query_frees_the_device") {
        return;
    }
    let _alone = alone().await;
    let gpu = registered(Preference::Gpu).await;
    let sql = QUERIES[0].0;
    for wait_ms in [1, 10, 30] {
        let _ = tokio::time::timeout(Duration::from_millis(wait_ms), run(&gpu, sql, CapabilityClass::Floor, 1)).await;
        let deadline = Instant::now() + Duration::from_secs(10);
        while floor().memory().unwrap().live_bytes > 0 {
            assert!(Instant::now() < deadline, "memory of a cancelled query is still held");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    run(&gpu, sql, CapabilityClass::Floor, 1).await.assert_on_gpu(sql);
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_where_and_why() {
    let explain = async |device: Preference, sql: &str| {
        let session = registered(device).await;
        pretty_format_batches(&session.sql(sql).await.unwrap().collect().await.unwrap()).unwrap().to_string()
    };
    let text = explain(Preference::Gpu, "explain select s, sum(v) from t group by s").await;
    assert!(text.contains("device=gpu (asked for; "), "{text}");
    let text = explain(Preference::Gpu, "explain select count(distinct k), count(distinct s) from t").await;
    assert!(text.contains("device=cpu (gpu asked for, but no compute shader covers count distinct of Int64)"), "{text}");
    let text = explain(Preference::Gpu, "explain select median(f) from t").await;
    assert!(text.contains("but no compute shader covers median of Float64"), "{text}");
    let text = explain(Preference::Auto, "explain select s, sum(v) from t group by s").await;
    assert!(!text.contains("device=gpu"), "{text}");
    if has_gpu("explain_says_where_and_why") {
        let text = explain(Preference::Gpu, "explain analyze select s, sum(v) from t group by s").await;
        assert!(text.contains("gpu_kernel_time") && text.contains("gpu_upload_bytes") && text.contains("gpu_readback_time"), "{text}");
    }
}
