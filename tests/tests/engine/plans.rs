//! The plan of every query of TPC-H, h2o and ssb, as text: what is a stage, what it probes, what stays stock.
//!
//! After a change that is meant: `MILLSTREAM_WRITE_SNAPSHOTS=1 cargo test --release --workspace --test engine -- plans`.

use crate::world::{session, session_h2o, session_ssb, suite_h2o, suite_ssb, suite_tpch};
use datafusion::physical_plan::ExecutionPlan;
use millstream::{Options, Preference, Session};
use millstream_benches::Suite;
use millstream_stage::StageExec;
use millstream_stage::program::Instr;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

fn draw(plan: &Arc<dyn ExecutionPlan>, depth: usize, out: &mut String) {
    let name = match plan.downcast_ref::<StageExec>() {
        None => plan.name().to_string(),
        Some(stage) => {
            let instrs = &stage.program().instrs;
            let probes = instrs.iter().filter_map(|i| if let Instr::Probe(p) = i { Some(format!(" {:?}", p.kind)) } else { None });
            let calls: Vec<String> = stage.program().calls.iter().map(|c| format!(" call {}", c.expr)).collect();
            let filters = instrs.iter().filter(|i| matches!(i, Instr::Filter { .. })).count();
            format!("stage {}: filters {filters}, probes{}{}", stage.sink().name(), probes.collect::<String>(), calls.concat())
        }
    };
    writeln!(out, "{}{name}", "  ".repeat(depth)).unwrap();
    plan.children().into_iter().for_each(|c| draw(c, depth + 1, out));
}

/// The plans are those of the suite's file.
async fn as_they_were(suite: &Suite, session: Session) {
    let mut drawn = String::new();
    for q in suite.queries {
        let plan = session.sql(q.sql).await.unwrap().plan().await.unwrap();
        writeln!(drawn, "{}", q.id).unwrap();
        draw(&plan, 1, &mut drawn);
    }
    let file = PathBuf::from(format!("tests/engine/plans/{}.txt", suite.name));
    if std::env::var_os("MILLSTREAM_WRITE_SNAPSHOTS").is_some() {
        std::fs::write(&file, &drawn).unwrap();
    }
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = drawn.lines().zip(known.lines().chain(std::iter::repeat(""))).position(|(a, b)| a != b);
    let line = differs.unwrap_or_else(|| drawn.lines().count());
    let (now, was) = (drawn.lines().nth(line), known.lines().nth(line));
    assert!(drawn == known, "{} line {}: now {now:?}, known {was:?}", suite.name, line + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tpch_plans_are_as_they_were() {
    as_they_were(suite_tpch(), session(true, Preference::Auto).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h2o_plans_are_as_they_were() {
    as_they_were(suite_h2o(), session_h2o(true, Preference::Auto).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ssb_plans_are_as_they_were() {
    as_they_were(suite_ssb(), session_ssb(Options { device: Preference::Auto, ..Options::default() }).await).await;
}
