//! What only whole stages show: how long they take to start, decoding, expressions that are DataFusion's, sorting, and how much
//! longer kernels take chunk by chunk.

use super::{Calibration, Costs};
use crate::{Error, ErrorKind, MachineProfile, Options, Preference, Result, Session, StageReport};
use millstream_cost::{Curve, Kernel};
use std::sync::Arc;
use std::time::Instant;

/// Rows of the table that is decoded, sorted and computed on.
const ROWS: usize = 400_000;
/// The best of so many runs.
const RUNS: usize = 3;
/// Of so many where a run takes microseconds.
const SHORT_RUNS: usize = 40;
/// What is measured as a difference costs this much at least.
const LEAST_NS: f64 = 0.1;

/// The times of stages that depend on no row.
pub struct Starts {
    pub stage_ns: f64,
    pub thread_ns: f64,
}

/// A session that is priced by nothing.
pub fn session(threads: usize, device: Preference) -> Result<Session> {
    Session::with_options(Options { threads, device, ..Options::default() })
}

/// Runs statements that define something.
pub async fn define(session: &Session, statements: &[String]) -> Result<()> {
    for sql in statements {
        session.sql(sql).await?.collect().await?;
    }
    Ok(())
}

/// Adds the kernels that take a stage to `costs`.
pub async fn measure(how: &Calibration, costs: &mut Costs) -> Result<Starts> {
    std::fs::create_dir_all(&how.folder).map_err(|e| Error::new(ErrorKind::Invalid, format!("{}: {e}", how.folder.display())))?;
    let file = how.folder.join(format!("calibration-{}.parquet", std::process::id()));
    let path = file.to_string_lossy().replace('\'', "''");
    let outcome = measure_with(how, &path, costs).await;
    // What is left of it is in nobody's way, and the next one replaces it.
    let _ = std::fs::remove_file(&file);
    outcome
}

async fn measure_with(how: &Calibration, path: &str, costs: &mut Costs) -> Result<Starts> {
    let one = session(1, Preference::Cpu)?;
    // Numbers as tables have them: of few values, of many; and texts that no dictionary holds.
    let rows = format!(
        "select value as a, value % 50 as few, (value * 7919) % 100003 as many, value * 0.5 as f, \
         concat('a text of number ', value * 7919 % 1000003) as s from generate_series(1, {ROWS})"
    );
    let written = format!("copy ({rows}) to '{path}' options (format.compression snappy)");
    let loaded = format!("create table calibration as select * from '{path}'");
    define(&one, &[written, loaded, "create table tiny as select value as a from generate_series(1, 1000)".into()]).await?;
    one.cache("calibration").await?;
    one.cache("tiny").await?;

    let own = |r: &StageReport| (r.fetch_ms + r.compute_ms) * 1e6;
    let numbers = "select sum(few), sum(many), sum(a) from";
    let decoded = least(&one, &format!("{numbers} '{path}'"), RUNS, own).await?;
    let held = least(&one, &format!("{numbers} calibration"), RUNS, own).await?;
    let text = least(&one, &format!("select count(*) from '{path}' where s like '%no such text%'"), RUNS, own).await?;
    let text_held = least(&one, "select count(*) from calibration where s like '%no such text%'", RUNS, own).await?;
    let plain = least(&one, "select sum(f) from calibration", RUNS, own).await?;
    let call = least(&one, "select sum(sqrt(f)) from calibration", RUNS, own).await?;
    let unsorted = least(&one, "select many, f from calibration where a > 0", RUNS, own).await?;
    let sorted = least(&one, "select many, f from calibration where a > 0 order by many", RUNS, own).await?;
    let n = ROWS as f64;
    let row = |ns: f64, rows: f64| Curve::flat((ns / rows).max(LEAST_NS));
    costs.insert(Kernel::DecodeNumber, row(decoded - held, 3.0 * n));
    costs.insert(Kernel::DecodeText, row(text - text_held, n));
    costs.insert(Kernel::Call, row(call - plain, n));
    costs.insert(Kernel::Sort, row(sorted - unsorted, n * n.log2()));

    let stage_ns = start_ns(&one).await?;
    let mut thread_ns = 0.0;
    if how.threads > 1 {
        let all = session(how.threads, Preference::Cpu)?;
        define(&all, &["create table tiny as select value as a from generate_series(1, 1000)".into()]).await?;
        all.cache("tiny").await?;
        thread_ns = ((start_ns(&all).await? - stage_ns) / (how.threads - 1) as f64).max(0.0);
    }
    Ok(Starts { stage_ns, thread_ns })
}

/// From the start of a plan to its end, of a stage over next to no rows.
async fn start_ns(session: &Session) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..SHORT_RUNS {
        let plan = session.sql("select sum(a) from tiny").await?.plan().await?;
        let started = Instant::now();
        datafusion::physical_plan::collect(plan, session.context().task_ctx()).await?;
        least = least.min(started.elapsed().as_nanos() as f64);
    }
    Ok(least)
}

/// What kernels take within a stage over what they take alone, by stages that are priced by a profile which does not know yet.
pub async fn in_stage(profile: &MachineProfile) -> Result<f64> {
    const STAGES: [&str; 3] = [
        "select sum(a), count(*) from reference where b < 500",
        "select k, sum(a), min(b) from reference group by k",
        "select sum(a + b + a), max(b) from reference where b > 10",
    ];
    let options = Options { threads: 1, device: Preference::Cpu, profile: Some(Arc::new(profile.clone())), ..Options::default() };
    let mut logarithms = 0.0;
    for sql in STAGES {
        // A session each: it would learn from the one before.
        let session = Session::with_options(options.clone())?;
        let rows = format!(
            "create table reference as select value as a, value * 7919 % 1000 as b, value % 50 as k from generate_series(1, {ROWS})"
        );
        define(&session, &[rows]).await?;
        session.cache("reference").await?;
        let expected = first_stage(&session, sql).await?.cpu_est_ms.unwrap_or(0.0) * 1e6 - profile.cpu.stage_ns;
        let took = least(&session, sql, RUNS, |r| r.compute_ms * 1e6).await?;
        logarithms += (took / expected.max(1.0)).ln();
    }
    Ok((logarithms / STAGES.len() as f64).exp().max(1.0))
}

/// The least of what `of` reads off the query's first stage, in so many runs.
pub async fn least(session: &Session, sql: &str, runs: usize, of: impl Fn(&StageReport) -> f64) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..runs {
        least = least.min(of(&first_stage(session, sql).await?));
    }
    Ok(least)
}

/// The first stage of a query that has run.
pub async fn first_stage(session: &Session, sql: &str) -> Result<StageReport> {
    let (_, profile) = session.sql(sql).await?.profile().await?;
    let none = || Error::new(ErrorKind::Bug, format!("no stage to measure in: {sql}"));
    profile.stages.into_iter().next().ok_or_else(none)
}
