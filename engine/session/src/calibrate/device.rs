//! The adapter that stages would run on, by the metrics of stages that are forced there.
//!
//! wgpu does not say how much memory an adapter has: what is assumed is the largest buffer that its driver allows, and no
//! more than [`MEMORY_MAX`]. A dispatch more is not told apart from its submission.

use super::Calibration;
use super::stages::{define, first_stage, session};
use crate::{AdapterInfo, Error, ErrorKind, GpuReport, Preference, Result, Session};
use millstream_cost::{Curve, Gpu, Kernel};
use std::collections::BTreeMap;

/// Rows of the tables that are sent.
const ROWS: usize = 2_000_000;
/// The best of so many runs, after the one that compiles.
const RUNS: usize = 3;
const SHORT_RUNS: usize = 15;
/// Memory of a device that is taken for granted, in bytes.
const MEMORY_MAX: u64 = 4 << 30;
/// Bytes of a group's cell, as the planner counts them.
const CELL_BYTES: f64 = 12.0;
/// What is measured as a difference costs this much a row at least.
const LEAST_NS: f64 = 1e-4;

/// Tables by the number of their keys: within a device's cache, and beyond most.
const KEYS: [usize; 2] = [1 << 14, 1 << 20];

pub async fn measure(how: &Calibration, adapter: &AdapterInfo) -> Result<Gpu> {
    let session = session(how.threads, Preference::Gpu)?;
    load(&session).await?;
    let one = best(&session, "select sum(a) from tiny", SHORT_RUNS).await?;
    let submit_ns = one.run.kernel_ms * 1e6;
    let sum = best(&session, "select sum(a) from big", RUNS).await?;
    let n = ROWS as f64;
    // Submissions aside.
    let row_ns = |r: &GpuReport| ((r.kernel_ms * 1e6 - r.chunks as f64 * submit_ns) / n).max(LEAST_NS);
    let (short, long) = (added(&session, 1).await?, added(&session, 33).await?);
    let map = ((row_ns(&long) - row_ns(&short)) / 32.0).max(LEAST_NS);

    // Columns stay on the device: only the first run of each brings them.
    let mut upload_bytes_per_s = sum.upload_bytes_per_s;
    let mut accumulate = vec![(CELL_BYTES, row_ns(&sum.run))];
    let (mut probe, mut gather) = (vec![], vec![]);
    let mut readback_bytes_per_s: f64 = 0.0;
    for keys in KEYS {
        let grouped = best(&session, &format!("select k{keys}, sum(a) from big group by k{keys}"), RUNS).await?;
        upload_bytes_per_s = upload_bytes_per_s.max(grouped.upload_bytes_per_s);
        let grouped = grouped.run;
        accumulate.push((keys as f64 * CELL_BYTES, row_ns(&grouped)));
        readback_bytes_per_s = readback_bytes_per_s.max(rate(grouped.bytes - grouped.upload_bytes, grouped.readback_ms));
        let joined = |what: &str| format!("select sum({what}) from big join keys{keys} on k{keys} = id where k{keys} >= 0");
        let looked_up = best(&session, &joined("a"), RUNS).await?.run;
        let fetched = best(&session, &joined("v"), RUNS).await?.run;
        probe.push((keys as f64 * 4.0, (row_ns(&looked_up) - row_ns(&sum.run)).max(LEAST_NS)));
        gather.push((keys as f64 * 4.0, (row_ns(&fetched) - row_ns(&looked_up)).max(LEAST_NS)));
    }
    let kernels =
        [(Kernel::Map, vec![(0.0, map)]), (Kernel::Gather, gather), (Kernel::Accumulate, accumulate), (Kernel::ProbeArray, probe)];
    Ok(Gpu {
        name: adapter.name.clone(),
        backend: adapter.backend.clone(),
        driver: adapter.driver.clone(),
        is_software: adapter.is_software,
        memory_bytes: adapter.buffer_bytes_max.min(MEMORY_MAX) as f64,
        upload_bytes_per_s,
        readback_bytes_per_s,
        read_bytes_per_s: rate(sum.run.upload_bytes + sum.run.kept_bytes, sum.run.kernel_ms),
        copy_bytes_per_s: Some(rate(sum.run.kept_bytes, sum.run.upload_ms)),
        submit_ns,
        dispatch_ns: 0.0,
        map_ns: (one.run.readback_ms * 1e6 - submit_ns).max(0.0),
        compile_ns: one.compile_ms * 1e6,
        kernels: kernels.into_iter().map(|(k, points)| (k, rising(points))).collect::<BTreeMap<_, _>>(),
    })
}

/// A larger table is never cheaper: what says so is noise.
fn rising(mut points: Vec<(f64, f64)>) -> Curve {
    let mut least = 0.0;
    for p in &mut points {
        least = f64::max(least, p.1);
        p.1 = least;
    }
    Curve(points)
}

async fn load(session: &Session) -> Result<()> {
    let columns: Vec<String> = KEYS.iter().map(|k| format!("value * 7919 % {k} as k{k}")).collect();
    let mut statements = vec![
        "create table tiny as select value as a from generate_series(1, 1000)".to_string(),
        format!("create table big as select value as a, value % 1000 as b, {} from generate_series(1, {ROWS})", columns.join(", ")),
    ];
    statements.extend(
        KEYS.iter().map(|k| format!("create table keys{k} as select value as id, value * 3 as v from generate_series(0, {k} - 1)")),
    );
    define(session, &statements).await?;
    for table in ["tiny".to_string(), "big".into()].into_iter().chain(KEYS.iter().map(|k| format!("keys{k}"))) {
        session.cache(&table).await?;
    }
    Ok(())
}

async fn added(session: &Session, instrs: usize) -> Result<GpuReport> {
    let terms: String = (0..instrs).map(|i| if i % 2 == 0 { " + b" } else { " + a" }).collect();
    Ok(best(session, &format!("select sum(a{terms}) from big"), RUNS).await?.run)
}

/// Of the runs of a stage: the least of each time; of the first, the time to compile, and how fast it brought its columns; 0
/// where some were there.
struct Best {
    run: GpuReport,
    compile_ms: f64,
    upload_bytes_per_s: f64,
}

async fn best(session: &Session, sql: &str, runs: usize) -> Result<Best> {
    let first = forced(session, sql).await?;
    let upload_bytes_per_s = if first.kept_bytes == 0 { rate(first.upload_bytes, first.upload_ms) } else { 0.0 };
    let mut run = forced(session, sql).await?;
    for _ in 1..runs {
        let next = forced(session, sql).await?;
        run.upload_ms = run.upload_ms.min(next.upload_ms);
        run.kernel_ms = run.kernel_ms.min(next.kernel_ms);
        run.readback_ms = run.readback_ms.min(next.readback_ms);
    }
    Ok(Best { run, compile_ms: first.compile_ms, upload_bytes_per_s })
}

async fn forced(session: &Session, sql: &str) -> Result<GpuReport> {
    let stage = first_stage(session, sql).await?;
    let failed = || Error::new(ErrorKind::Bug, format!("the adapter did not run what is to be measured ({}): {sql}", stage.reason));
    (stage.device == "gpu" && stage.fallbacks == 0).then_some(stage.gpu).ok_or_else(failed)
}

fn rate(bytes: usize, ms: f64) -> f64 {
    bytes.max(1) as f64 / (ms / 1e3).max(1e-6)
}
