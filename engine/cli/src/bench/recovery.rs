//! `millstream bench recovery`: a job with much state is killed and opened again.

use super::jobs::{Opened, open};
use super::{report, usage};
use crate::Outcome;
use crate::args::{BenchArgs, Common};
use crate::screen::print;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use millstream::streams::{BlackholeSink, DriverOptions, GeneratedRows, GeneratedSource, Job, Values};
use millstream::{Session, Window, col, count, lit, max};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

pub const NAME: &str = "recovery";

/// What the rows of the job add up to.
#[derive(Clone, Default)]
struct Sums {
    events: Arc<AtomicI64>,
    ids: Arc<AtomicI64>,
}

pub async fn run(a: &BenchArgs, common: &Common) -> Outcome {
    let events = a.events.unwrap_or(20_000_000);
    let session = Session::with_options(common.options()?)?;
    // Small enough that the input does not end before the job is killed.
    let most = usize::try_from(events / 50)?.clamp(1, 1 << 20);
    let options = DriverOptions { checkpoint_ms: 1_000, epoch_rows_max: most, ..DriverOptions::default() };
    let sums = Sums::default();
    let mut opened = open(job(events, &session, sums.clone()).await?, None, options.clone()).await?;
    let (started, mut read) = (Instant::now(), 0);
    while read < events / 10 * 9 {
        read += opened.driver.step().await?.rows_in as u64;
    }
    opened.driver.checkpoint().await?;
    let filled_s = started.elapsed().as_secs_f64();
    let state_mb = opened.driver.metrics().state_bytes as f64 / 1e6;
    let Opened { driver, log } = opened;
    drop(driver);
    let stored_mb = log.as_ref().map_or(Ok(0), |l| size(l.path()))? as f64 / 1e6;
    let mut times = vec![];
    let mut log = log;
    for _ in 0..a.iterations.max(1) {
        let job = job(events, &session, sums.clone()).await?;
        let started = Instant::now();
        let mut again = open(job, log.take(), options.clone()).await?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        log = again.log.take();
    }
    let mut last = open(job(events, &session, sums.clone()).await?, log, options).await?;
    last.driver.run(1, || false).await?;
    let (counted, ids) = (sums.events.load(Ordering::Relaxed) as u64, sums.ids.load(Ordering::Relaxed) as u64);
    let verified = counted == events && ids == events * (events - 1) / 2;
    let ms = report::median(&times);
    print(&format!(
        "{:>12} {:>10} {:>10} {:>12} {:>10}  verified\n{read:>12} {:>10.1} {state_mb:>10.1} {stored_mb:>12.1} {ms:>10.1}  {}\n",
        "keys",
        "filled s",
        "state MB",
        "on disk MB",
        "opened ms",
        filled_s,
        if verified { "yes: every key once" } else { "NO" },
    ))?;
    if let Some(file) = &a.json {
        let result = json!({
            "id": "open", "median_ms": ms, "runs_ms": times, "rows": read, "verified": verified, "state_mb": state_mb, "stored_mb": stored_mb,
            "peak_rss_mb": usage::peak_rss_mb(),
        });
        report::write(file, &report::suite(a, events as f64 / 1e6, common, &[result]))?;
    }
    if verified { Ok(()) } else { Err(format!("{counted} of {events} events were counted").into()) }
}

/// A window that stays open over as many keys as there are events.
async fn job(events: u64, session: &Session, sums: Sums) -> Outcome<Job> {
    let rows = GeneratedRows::new(5)
        .column("id", Values::Count(0))
        .column("value", Values::Float(0.0..1.0))
        .column("at", Values::Time { start_ms: 0, per_second: 1_000_000 });
    let stream = session.stream(GeneratedSource::new("events", rows).limit(events))?.event_time("at", Duration::ZERO)?;
    let windows = stream.key_by([col("id")]).window(Window::tumble(Duration::from_secs(86_400)));
    let windows = windows.aggregate([count(lit(1)).alias("count"), max(col("value")).alias("greatest")]).await?;
    let summed = windows.schema()?;
    let counted = windows.map(summed, move |rows| {
        let sum = |column: &str| rows[column].as_primitive::<Int64Type>().values().iter().sum::<i64>();
        sums.events.fetch_add(sum("count"), Ordering::Relaxed);
        sums.ids.fetch_add(sum("id"), Ordering::Relaxed);
        Ok(rows)
    })?;
    Ok(counted.to(BlackholeSink::default())?)
}

/// Bytes of all files of a folder.
fn size(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}
