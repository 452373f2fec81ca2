//! `millstream bench windows`: jobs over a stream in memory, with checkpoints on a local disk.

use super::jobs::{open, quantile};
use super::{report, usage};
use crate::args::{BenchArgs, Common};
use crate::progress::Bar;
use crate::screen::print;
use crate::{Outcome, Usage};
use arrow::array::RecordBatch;
use millstream::streams::{BlackholeSink, DriverOptions, Job, MemorySource, MemoryTable, Progress, Sink};
use millstream::{Options, Session, Window, col, count, lit, max};
use millstream_benches::{WINDOW_QUERIES, WindowQuery, Windowed, Work};
use millstream_datasets::sensors::Readings;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub const NAME: &str = "windows";

const READINGS: Readings = Readings { sensors: 100_000, per_second: 1_000_000, disorder_ms: 100, seed: 42 };

/// Rows of a batch of the source.
const BATCH_ROWS: u64 = 65_536;

/// What was measured of one query.
#[derive(Default)]
struct Measured {
    runs_ms: Vec<f64>,
    /// Of all timed runs: milliseconds of each epoch, and the most that a checkpoint kept the job from working.
    epochs_ms: Vec<f64>,
    pause_ms: f64,
    /// An epoch of a few rows: what it costs beside them.
    overhead_ms: f64,
    rows: u64,
    state_mb: f64,
    cpu_s: Option<f64>,
    peak_rss_mb: Option<f64>,
    /// Whether the rows are right: in one epoch, in epochs of random sizes, killed and restored.
    verified: Option<Result<(), String>>,
}

pub async fn run(a: &BenchArgs, common: &Common) -> Outcome {
    if let Some(id) = a.queries.iter().find(|id| WINDOW_QUERIES.iter().all(|q| q.id != **id)) {
        let names: Vec<&str> = WINDOW_QUERIES.iter().map(|q| q.id).collect();
        return Err(Usage::new(format!("no query {id} in {NAME}: there are {}", names.join(", "))).into());
    }
    let started = Instant::now();
    let events = a.events.unwrap_or(20_000_000);
    let parts = readings(events, common.threads())?;
    let bytes: usize = parts.iter().flatten().map(RecordBatch::get_array_memory_size).sum();
    eprintln!("made {events} readings, {:.1} MB in {:.2} s (not counted below)", bytes as f64 / 1e6, started.elapsed().as_secs_f64());
    let chosen: Vec<&WindowQuery> =
        WINDOW_QUERIES.iter().filter(|q| a.queries.is_empty() || a.queries.iter().any(|id| id == q.id)).collect();
    print(&format!(
        "{:>10} {:>10} {:>9} {:>9} {:>10} {:>8} {:>8} {:>10} {:>9}  verified\n",
        "query", "median ms", "M rows/s", "GB/s in", "rows out", "epoch ms", "p99", "pause ms", "10 rows"
    ))?;
    let bar = Bar::new(chosen.len() as u64, "{bar:30} {pos}/{len} {msg} {elapsed}");
    let (mut failed, mut results) = (vec![], vec![]);
    for (at, q) in chosen.into_iter().enumerate() {
        bar.set(at as u64, q.id);
        let m = measure(q, &parts, a, common).await?;
        bar.aside(|| print_line(q, &m, events, bytes))?;
        if !matches!(m.verified, Some(Ok(()))) {
            failed.push(q.id);
        }
        results.push(json(q, &m, events));
    }
    drop(bar);
    if let Some(file) = &a.json {
        report::write(file, &report::suite(a, events as f64 / 1e6, common, &results))?;
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("not verified: {}", failed.join(", ")).into()) }
}

/// The stream, batch by batch, dealt out to `parts` partitions.
fn readings(events: u64, parts: usize) -> Outcome<Vec<Vec<RecordBatch>>> {
    let part = |p: usize| {
        let starts = (0..events).step_by(BATCH_ROWS as usize).skip(p).step_by(parts);
        starts.map(|from| READINGS.batch(from..events.min(from + BATCH_ROWS))).collect::<Result<Vec<_>, _>>()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..parts).map(|p| scope.spawn(move || part(p))).collect();
        let made = threads.into_iter().map(|t| Ok(t.join().map_err(|_| "a thread panicked that makes readings")??));
        made.collect()
    })
}

async fn job(q: &WindowQuery, parts: &[Vec<RecordBatch>], session: &Session, sink: impl Sink + 'static) -> Outcome<Job> {
    let source = MemorySource::new("readings", Readings::schema(), parts.len());
    for (p, batches) in parts.iter().enumerate() {
        batches.iter().try_for_each(|b| source.push(p, b.clone()))?;
    }
    source.end()?;
    let stream = session.stream(source)?.event_time("at", Duration::from_millis(READINGS.disorder_ms))?;
    let stream = match q.work {
        Work::Stateless => {
            stream.filter(col("value").gt(lit(50.0)))?.select([col("sensor"), (lit(0.908) * col("value")).alias("value")])?
        }
        Work::Windows { width, slide } => {
            let ms = |n: i64| Duration::from_millis(n.unsigned_abs());
            let windows = stream.key_by([col("sensor")]).window(Window::hop(ms(width), ms(slide)));
            windows.aggregate([count(lit(1)).alias("count"), max(col("value")).alias("greatest")]).await?
        }
    };
    Ok(stream.to(sink)?)
}

async fn measure(q: &WindowQuery, parts: &[Vec<RecordBatch>], a: &BenchArgs, common: &Common) -> Outcome<Measured> {
    let mut m = Measured::default();
    let session = Session::with_options(common.options()?)?;
    for i in 0..=a.iterations {
        if i == 1 {
            usage::reset_peak();
        }
        let cpu = usage::cpu_s();
        let sink = BlackholeSink::default();
        let mut opened = open(job(q, parts, &session, sink.clone()).await?, None, DriverOptions::default()).await?;
        let (started, mut before, mut epochs) = (Instant::now(), Instant::now(), vec![]);
        // Asked between two epochs. The last one closes all windows that are left, and is not asked behind.
        let timed = || {
            epochs.push(before.elapsed().as_secs_f64() * 1e3);
            before = Instant::now();
            false
        };
        opened.driver.run(1, timed).await?;
        let metrics = opened.driver.metrics();
        (m.rows, m.state_mb) = (sink.rows(), metrics.state_bytes_max as f64 / 1e6);
        // The first run warms up.
        if i > 0 {
            m.runs_ms.push(started.elapsed().as_secs_f64() * 1e3);
            m.epochs_ms.extend(epochs.split_off(1));
            m.pause_ms = m.pause_ms.max(metrics.checkpoint_pause_us_max as f64 / 1e3);
            let cpu = cpu.zip(usage::cpu_s()).map(|(before, after)| (after - before) / a.iterations as f64);
            m.cpu_s = cpu.map(|s| s + m.cpu_s.unwrap_or(0.0));
        }
    }
    m.peak_rss_mb = usage::peak_rss_mb();
    m.overhead_ms = overhead(q, parts, &session).await?;
    m.verified = Some(verified(q, parts, common).await.map_err(|e| e.to_string()));
    Ok(m)
}

/// The median time of an epoch of ten rows.
async fn overhead(q: &WindowQuery, parts: &[Vec<RecordBatch>], session: &Session) -> Outcome<f64> {
    let options = DriverOptions { epoch_rows: 10, epoch_rows_max: 10, checkpoint_ms: u64::MAX, ..DriverOptions::default() };
    let mut opened = open(job(q, parts, session, BlackholeSink::default()).await?, None, options).await?;
    let mut times = vec![];
    for _ in 0..500 {
        let started = Instant::now();
        opened.driver.step().await?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(report::median(&times))
}

/// Whether the rows are right however the job runs: in one epoch; in epochs of many sizes; killed, and restored with
/// another number of threads.
async fn verified(q: &WindowQuery, parts: &[Vec<RecordBatch>], common: &Common) -> Outcome {
    let mut expected = Windowed::new(q.work, READINGS.sensors as usize);
    parts.iter().flatten().try_for_each(|b| expected.add(b))?;
    let events: usize = parts.iter().flatten().map(RecordBatch::num_rows).sum();
    let options = common.options()?;
    let sessions = [0, 1, 2].map(|more| Session::with_options(Options { threads: common.threads() + more, ..options.clone() }));
    let sessions = sessions.into_iter().collect::<Result<Vec<_>, _>>()?;
    let whole = DriverOptions { epoch_rows: events, epoch_rows_max: events, ..DriverOptions::default() };
    for (name, options, lives) in
        [("one epoch", whole, 1), ("streamed", DriverOptions::default(), 1), ("killed and restored", DriverOptions::default(), 5)]
    {
        let table = MemoryTable::default();
        let mut log = None;
        for life in 0..lives {
            let job = job(q, parts, &sessions[life % sessions.len()], table.sink("rows")).await?;
            let mut opened = open(job, log.take(), options.clone()).await?;
            // Each life but the last ends with its driver somewhere behind a checkpoint.
            let (mut read, share) = (0, events / lives);
            loop {
                let step = opened.driver.step().await?;
                read += step.rows_in;
                if step.progress == Progress::Finished || life + 1 < lives && read > share {
                    break;
                }
                if read > share / 2 && read - step.rows_in <= share / 2 {
                    opened.driver.checkpoint().await?;
                }
            }
            log = opened.log.take();
        }
        let mut check = expected.check();
        let outcome = table.rows()?.iter().try_for_each(|b| check.add(b)).and_then(|()| check.finish());
        outcome.map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

fn print_line(q: &WindowQuery, m: &Measured, events: u64, bytes: usize) -> std::io::Result<()> {
    let ms = report::median(&m.runs_ms);
    let verified = match &m.verified {
        Some(Ok(())) => "yes: bounded, streamed, killed and restored",
        Some(Err(_)) => "NO",
        None => "-",
    };
    print(&format!(
        "{:>10} {ms:>10.1} {:>9.1} {:>9.2} {:>10} {:>8.2} {:>8.2} {:>10.1} {:>9.3}  {verified}\n",
        q.id,
        events as f64 / ms / 1e3,
        bytes as f64 / ms / 1e6,
        m.rows,
        quantile(&m.epochs_ms, 0.5),
        quantile(&m.epochs_ms, 0.99),
        m.pause_ms,
        m.overhead_ms,
    ))?;
    if let Some(Err(e)) = &m.verified {
        eprintln!("      {}: {e}", q.id);
    }
    Ok(())
}

fn json(q: &WindowQuery, m: &Measured, events: u64) -> Value {
    let ms = report::median(&m.runs_ms);
    let verified = m.verified.as_ref().map(Result::is_ok);
    let error = m.verified.as_ref().and_then(|v| v.as_ref().err());
    json!({
        "id": q.id, "median_ms": ms, "runs_ms": m.runs_ms, "rows": m.rows, "verified": verified, "error": error,
        "peak_rss_mb": m.peak_rss_mb, "cpu_s": m.cpu_s, "events_per_s": events as f64 / ms * 1e3,
        "latency_ms": { "p50": null, "p99": null }, "state_mb": m.state_mb, "epoch_overhead_ms": m.overhead_ms,
        "epoch_ms": { "p50": quantile(&m.epochs_ms, 0.5), "p99": quantile(&m.epochs_ms, 0.99) },
        "checkpoint_pause_ms_max": m.pause_ms,
    })
}
