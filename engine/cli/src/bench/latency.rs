//! `millstream bench latency`: from an event to a reader that sees the window that it closes.

use super::jobs::quantile;
use super::report;
use crate::args::{BenchArgs, Common};
use crate::screen::print;
use crate::{Outcome, Usage};
use arrow::array::{ArrayRef, AsArray, Int64Array, TimestampMillisecondArray};
use arrow::datatypes::Int64Type;
use millstream::streams::{Clock, Driver, DriverOptions, GeneratedRows, GeneratedSource, Log, SystemClock, UpsertTable, Values, local};
use millstream::{Session, Window, col, count, lit, max};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

pub const NAME: &str = "latency";

const PER_SECOND: u64 = 200_000;
const SENSORS: i64 = 100;
const WINDOW_MS: i64 = 10;
const KEY: [&str; 2] = ["window_start", "sensor"];

/// The deliveries, and whether rows are seen when their epoch ends.
const DELIVERIES: [(&str, bool); 2] = [("per epoch", true), ("committed", false)];

pub async fn run(a: &BenchArgs, common: &Common) -> Outcome {
    let known = DELIVERIES.map(|(name, _)| name.replace(' ', "-"));
    if let Some(id) = a.queries.iter().find(|id| !known.contains(id)) {
        return Err(Usage::new(format!("no query {id} in {NAME}: there are {}", known.join(", "))).into());
    }
    let events = a.events.unwrap_or(2_000_000);
    let options = DriverOptions::default();
    print(&format!(
        "{PER_SECOND} events/s, windows of {WINDOW_MS} ms of {SENSORS} sensors, a checkpoint every {} ms\n{:>10} {:>9} {:>8} {:>8} {:>8} {:>8}  verified\n",
        options.checkpoint_ms, "delivery", "windows", "p50 ms", "p90 ms", "p99 ms", "max ms"
    ))?;
    let (mut results, mut failed) = (vec![], vec![]);
    for ((name, per_epoch), id) in DELIVERIES.into_iter().zip(&known).filter(|(_, id)| a.queries.is_empty() || a.queries.contains(id)) {
        let (ms, counted) = measure(per_epoch, events, &options, common).await?;
        let verified = counted == events;
        if !verified {
            failed.push(name);
        }
        let [p50, p90, p99, most] = [0.5, 0.9, 0.99, 1.0].map(|share| quantile(&ms, share));
        let yes = if verified { "yes: every event is in the table once".into() } else { format!("NO: {counted} of {events} events") };
        print(&format!("{name:>10} {:>9} {p50:>8.1} {p90:>8.1} {p99:>8.1} {most:>8.1}  {yes}\n", ms.len()))?;
        results.push(json!({
            "id": id, "median_ms": p50, "runs_ms": [], "rows": ms.len(), "verified": verified, "events_per_s": PER_SECOND,
            "latency_ms": { "p50": p50, "p90": p90, "p99": p99, "max": most }, "checkpoint_interval_ms": options.checkpoint_ms,
        }));
    }
    if let Some(file) = &a.json {
        report::write(file, &report::suite(a, events as f64 / 1e6, common, &results))?;
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("not verified: {}", failed.join(", ")).into()) }
}

/// Milliseconds from the end of each window, which is when the event that closes it happens, until a reader on a thread of
/// its own has found its rows; and the events that the table counts in the end.
async fn measure(per_epoch: bool, events: u64, options: &DriverOptions, common: &Common) -> Outcome<(Vec<f64>, u64)> {
    let session = Session::with_options(common.options()?)?;
    let folder = tempfile::tempdir()?;
    let store = local(folder.path())?;
    let clock = Arc::new(SystemClock::new());
    let rows = GeneratedRows::new(3)
        .column("sensor", Values::Integer(0..SENSORS))
        .column("value", Values::Float(0.0..1.0))
        .column("at", Values::Time { start_ms: 0, per_second: PER_SECOND });
    let source = GeneratedSource::new("events", rows).limit(events).per_second(PER_SECOND, clock.clone());
    let stream = session.stream(source)?.event_time("at", Duration::ZERO)?.key_by([col("sensor")]);
    let windows = stream.window(Window::tumble(Duration::from_millis(WINDOW_MS.unsigned_abs())));
    let windows = windows.aggregate([count(lit(1)).alias("count"), max(col("value")).alias("greatest")]).await?;
    let table = UpsertTable::open(store.clone(), "table".into(), windows.schema()?, &KEY).await?;
    let sink = if per_epoch { table.sink_per_epoch("table")? } else { table.sink("table")? };
    let mut driver = Driver::open(windows.to(sink)?, Log::new(store, "job".into()), options.clone(), clock.clone()).await?;
    // The source begins a little later, when it is first asked: that is counted as latency.
    let began_us = clock.now_us();
    // The last windows are closed by the end of the input, not by an event.
    let last = (events * 1_000 / PER_SECOND).saturating_sub(2 * WINDOW_MS.unsigned_abs()) as i64;
    let seen = table.clone();
    let reader = std::thread::spawn(move || -> Result<Vec<f64>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let (mut version, mut start, mut latencies) = (0, 0, vec![]);
        while start < last {
            version = runtime.block_on(seen.changed(version));
            // One sensor stands for all: the rows of a window are seen at once.
            let key = |start| [Arc::new(TimestampMillisecondArray::from(vec![start])) as ArrayRef, Arc::new(Int64Array::from(vec![0]))];
            while start < last && seen.get(&key(start)).map_err(|e| e.to_string())?.num_rows() > 0 {
                start += WINDOW_MS;
                latencies.push(clock.now_us().saturating_sub(began_us) as f64 / 1e3 - start as f64);
            }
        }
        Ok(latencies)
    });
    driver.run(1, || false).await?;
    let latencies = reader.join().map_err(|_| "the reader panicked")??;
    let all = table.rows()?;
    let counts = all.column_by_name("count").ok_or("no counts")?.as_primitive::<Int64Type>();
    Ok((latencies, counts.values().iter().map(|n| n.unsigned_abs()).sum()))
}
