//! What the suites of streams share.

use crate::Outcome;
use millstream::streams::{Driver, DriverOptions, Job, Log, SystemClock, local};
use std::sync::Arc;

/// A driver, and the folder of its checkpoints.
pub struct Opened {
    pub driver: Driver,
    pub log: Option<tempfile::TempDir>,
}

/// Opens a job over a new log, or over that of an earlier driver.
pub async fn open(job: Job, log: Option<tempfile::TempDir>, options: DriverOptions) -> Outcome<Opened> {
    let folder = log.map_or_else(tempfile::tempdir, Ok)?;
    let log = Log::new(local(folder.path())?, "job".into());
    Ok(Opened { driver: Driver::open(job, log, options, Arc::new(SystemClock::new())).await?, log: Some(folder) })
}

/// The value that `share` of all are at or below.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
