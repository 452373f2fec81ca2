//! `millstream bench`: runs a suite, verifies its answers, prints a line a query.

mod coverage;
mod device;
mod jobs;
mod latency;
mod machine;
mod recovery;
mod report;
mod usage;
mod windows;

use crate::args::{BenchArgs, Common, DeviceArg, Storage};
use crate::generate;
use crate::progress::Bar;
use crate::screen::print;
use crate::{Outcome, Usage};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use coverage::Coverage;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::physical_plan::ExecutionPlan;
use device::DeviceStages;
use millstream::{Profile, Session, profile_of};
use millstream_benches::{Expected, Query, Suite, Verifier, answer, suite, suites};
use millstream_datasets::Dataset;
use serde_json::json;
use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// What was measured of one query.
#[derive(Default)]
struct Measured {
    runs_ms: Vec<f64>,
    rows: usize,
    /// None where no answer is at hand.
    verified: Option<bool>,
    error: Option<String>,
    /// Of the last run.
    profile: Profile,
    /// Of the timed runs.
    peak_rss_mb: Option<f64>,
    /// Of one timed run, on average.
    cpu_s: Option<f64>,
}

pub async fn run(a: &BenchArgs, common: &Common) -> Outcome {
    match a.suite.as_str() {
        windows::NAME => return windows::run(a, common).await,
        latency::NAME => return latency::run(a, common).await,
        recovery::NAME => return recovery::run(a, common).await,
        machine::NAME => return machine::run(a, common).await,
        _ => {}
    }
    let suite = suite(&a.suite).ok_or_else(|| {
        let names: Vec<&str> =
            suites().iter().map(|suite| suite.name).chain([windows::NAME, latency::NAME, recovery::NAME, machine::NAME]).collect();
        Usage::new(format!("no suite {}: there are {}", a.suite, names.join(", ")))
    })?;
    let scale = a.scale.unwrap_or(suite.scale);
    let known = |id: &String| suite.query(id).is_some();
    if let Some(id) = a.queries.iter().find(|id| !known(id)) {
        return Err(Usage::new(format!("no query {id} in {}: there are {}", a.suite, ids(suite).join(", "))).into());
    }
    if common.device == DeviceArg::Gpu && millstream::devices()?.adapters.is_empty() {
        eprintln!("there is no GPU adapter here: every stage runs on the CPU");
    }
    let session = Session::with_options(common.options()?)?;
    let dir = folder(suite, scale, a, common).await?;
    for t in suite.tables {
        session.register(t, &dir.join(format!("{t}.parquet")).to_string_lossy()).await?;
    }
    if a.storage == Storage::Memory {
        load(suite, &session).await?;
    }
    if a.serve {
        return serve(suite, &session).await;
    }
    let mut results = vec![];
    print(&format!("{:>5} {:>10} {:>8}  {:<8} stages\n", "query", "median ms", "rows", "verified"))?;
    let (mut failed, mut coverage) = (vec![], Coverage::default());
    let mut on_device = DeviceStages::new(session.options().profile.as_deref());
    let chosen: Vec<&Query> = suite.queries.iter().filter(|q| a.queries.is_empty() || a.queries.iter().any(|id| id == q.id)).collect();
    let bar = Bar::new(chosen.len() as u64, "{bar:30} {pos}/{len} {msg} {elapsed}");
    for (at, q) in chosen.into_iter().enumerate() {
        bar.set(at as u64, q.id);
        let m = measure((suite, scale), q, &session, a, &|| bar.set(at as u64, q.id)).await;
        bar.aside(|| print_line(q, &m, common.verbose))?;
        if m.error.is_some() || m.verified == Some(false) || (a.verify && m.verified.is_none()) {
            failed.push(q.id);
        }
        coverage.add(q.id, &m.profile);
        on_device.add(q.id, &m.profile);
        results.push(report::query(q, &m));
    }
    drop(bar);
    if common.device == DeviceArg::Gpu {
        print(&format!("\n{on_device}\n{coverage}"))?;
    }
    if let Some(file) = &a.json {
        report::write(file, &report::suite(a, scale, common, &results))?;
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("not verified: {}", failed.join(", ")).into()) }
}

/// The folder of the tables; they are generated where they are not there yet.
async fn folder(suite: &Suite, scale: f64, a: &BenchArgs, common: &Common) -> Outcome<PathBuf> {
    let dataset: Dataset = suite.name.parse()?;
    dataset.rows(scale).map_err(|e| Usage::new(e.to_string()))?;
    // Who serves names the folder itself, whoever wrote it.
    let is_there = |t: &&str| common.data.join(format!("{t}.parquet")).exists();
    if a.serve && suite.tables.iter().all(is_there) || dataset.is_complete(&common.data, scale) {
        return Ok(common.data.clone());
    }
    let dir = common.data.join(format!("{dataset}-sf{scale}"));
    if !dataset.is_complete(&dir, scale) {
        // Off this thread, so that Ctrl-C is heard.
        let out = dir.clone();
        let written = move || generate::parquet(dataset, &out, scale, None).map_err(|e| e.to_string());
        tokio::task::spawn_blocking(written).await??;
    }
    Ok(dir)
}

/// Loads every table into memory, one line each on stderr.
async fn load(suite: &Suite, session: &Session) -> Outcome {
    let (all, mut bytes) = (Instant::now(), 0);
    for t in suite.tables {
        let started = Instant::now();
        let cached = session.cache(t).await?;
        bytes += cached.bytes;
        eprintln!("cached {t}: {} rows, {:.1} MB in {:.2} s", cached.rows, cached.bytes as f64 / 1e6, started.elapsed().as_secs_f64());
    }
    eprintln!(
        "cached {} tables, {:.1} MB in {:.2} s (not counted below)",
        suite.tables.len(),
        bytes as f64 / 1e6,
        all.elapsed().as_secs_f64()
    );
    Ok(())
}

fn ids(suite: &Suite) -> Vec<&str> {
    suite.queries.iter().map(|q| q.id).collect()
}

/// Runs a query once to warm up, then `--iterations` times by the clock, with a `tick` before each, and once
/// more to verify its rows where an answer is at hand.
async fn measure((suite, scale): (&Suite, f64), q: &Query, session: &Session, a: &BenchArgs, tick: &dyn Fn()) -> Measured {
    let mut m = Measured::default();
    if let Err(e) = timed(q, session).await {
        m.error = Some(e);
        return m;
    }
    usage::reset_peak();
    let cpu_before = usage::cpu_s();
    for _ in 0..a.iterations {
        tick();
        match timed(q, session).await {
            Ok((plan, rows, ms)) => {
                m.runs_ms.push(ms);
                m.rows = rows;
                m.profile = profile_of(&plan);
            }
            Err(e) => m.error = Some(e),
        }
    }
    m.peak_rss_mb = usage::peak_rss_mb();
    m.cpu_s = cpu_before.zip(usage::cpu_s()).map(|(before, after)| (after - before) / a.iterations.max(1) as f64);
    let outcome = match answer(suite, scale, q) {
        Ok(None) => return m,
        Ok(Some(expected)) => verified(q, session, &expected).await,
        Err(e) => Err(e.to_string()),
    };
    m.verified = Some(outcome.is_ok());
    m.error = m.error.or(outcome.err());
    m
}

/// From SQL text to the last row, planning included.
async fn one(q: &Query, session: &Session) -> Result<(Vec<RecordBatch>, Arc<dyn ExecutionPlan>, f64), String> {
    let started = Instant::now();
    let text = |e: millstream::Error| e.to_string();
    let plan = session.sql(q.sql).await.map_err(text)?.plan().await.map_err(text)?;
    let batches = datafusion::physical_plan::collect(Arc::clone(&plan), session.context().task_ctx()).await.map_err(|e| text(e.into()))?;
    Ok((batches, plan, started.elapsed().as_secs_f64() * 1e3))
}

/// As [`one`], the rows let go as they come: what they take is not the engine's memory.
async fn timed(q: &Query, session: &Session) -> Result<(Arc<dyn ExecutionPlan>, usize, f64), String> {
    let (started, mut count) = (Instant::now(), 0);
    let plan = streamed(q, session, |batch| {
        count += batch.num_rows();
        Ok(())
    });
    Ok((plan.await?, count, started.elapsed().as_secs_f64() * 1e3))
}

/// Checks the rows of a run as they come.
async fn verified(q: &Query, session: &Session, expected: &Expected) -> Result<(), String> {
    let mut verifier = Verifier::new(q, expected);
    streamed(q, session, |batch| verifier.add(batch).map_err(|e| e.to_string())).await?;
    verifier.finish().map_err(|e| e.to_string())
}

async fn streamed(
    q: &Query,
    session: &Session,
    mut take: impl FnMut(RecordBatch) -> Result<(), String>,
) -> Result<Arc<dyn ExecutionPlan>, String> {
    let text = |e: millstream::Error| e.to_string();
    let plan = session.sql(q.sql).await.map_err(text)?.plan().await.map_err(text)?;
    let mut rows = millstream::run(session, &plan).map_err(text)?;
    while let Some(batch) = rows.next().await {
        take(batch.map_err(text)?)?;
    }
    Ok(plan)
}

fn print_line(q: &Query, m: &Measured, verbose: bool) -> std::io::Result<()> {
    let verified = m.verified.map_or("-", |v| if v { "yes" } else { "NO" });
    let stages = report::stages(&m.profile);
    print(&format!("{:>5} {:>10.1} {:>8}  {verified:<8} {stages}\n", q.id, report::median(&m.runs_ms), m.rows))?;
    if let Some(e) = &m.error {
        eprintln!("      {}: {e}", q.id);
    }
    if verbose {
        eprintln!("{}", m.profile);
    }
    Ok(())
}

/// One line in, `ID` or `ID FILE`, one line of JSON out: for the comparison with other engines.
async fn serve(suite: &Suite, session: &Session) -> Outcome {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (id, file) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        if id.is_empty() {
            continue;
        }
        let answer = match served(suite, session, id, file.trim()).await {
            Ok((ms, rows)) => json!({ "id": id, "ms": ms, "rows": rows, "error": null }),
            Err(e) => json!({ "id": id, "ms": null, "rows": null, "error": e }),
        };
        println!("{answer}");
    }
    Ok(())
}

/// Time and number of rows of a query; the rows are written to `file` unless it is empty.
async fn served(suite: &Suite, session: &Session, id: &str, file: &str) -> Result<(f64, usize), String> {
    let q = suite.query(id).ok_or_else(|| format!("there is no query {id}"))?;
    let (batches, plan, ms) = one(q, session).await?;
    if !file.is_empty() {
        store(file, &plan.schema(), &batches).map_err(|e| format!("cannot write {file}: {e}"))?;
    }
    Ok((ms, batches.iter().map(RecordBatch::num_rows).sum()))
}

fn store(file: &str, schema: &SchemaRef, batches: &[RecordBatch]) -> Outcome {
    let schema = batches.first().map_or_else(|| Arc::clone(schema), RecordBatch::schema);
    let mut writer = ArrowWriter::try_new(std::fs::File::create(file)?, schema, None)?;
    batches.iter().try_for_each(|b| writer.write(b))?;
    writer.close()?;
    Ok(())
}
