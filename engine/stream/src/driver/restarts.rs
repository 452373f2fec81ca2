//! A job that fails for a reason outside of it is opened again.

use super::Driver;
use crate::{Error, ErrorKind, Result};
use std::time::Duration;

/// How often, and after how long, a job is opened again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarts {
    /// Failures in a row, without a checkpoint between them, after which it is given up.
    pub attempts: u32,
    /// Before the first; twice as long before each that follows.
    pub delay_ms: u64,
    /// The longest.
    pub delay_ms_max: u64,
}

impl Default for Restarts {
    fn default() -> Self {
        Self { attempts: 10, delay_ms: 100, delay_ms_max: 30_000 }
    }
}

/// A failure after which the job is opened again.
#[derive(Debug)]
pub struct Restart {
    /// How many there were in a row.
    pub attempt: u32,
    /// After so long.
    pub delay_ms: u64,
    /// Why.
    pub reason: Error,
}

/// Opens a job and runs it as [`Driver::run`] does. When something outside fails ([`ErrorKind::Retry`]) it is opened
/// again, by `open`, which makes sources, operators and sinks anew, and goes on from the last checkpoint; `told` hears why.
/// Any other error would come again, or another driver runs the job: it is returned. So is the driver when it has stopped.
///
/// # Errors
/// The first that is not to be tried again, or the last of too many in a row.
pub async fn run_restarting<F: Future<Output = Result<Driver>>>(
    restarts: &Restarts,
    mut open: impl FnMut() -> F,
    idle_ms: u64,
    mut stop: impl FnMut() -> bool,
    mut told: impl FnMut(&Restart),
) -> Result<Driver> {
    let (mut in_a_row, mut all, mut last) = (0, 0, None);
    loop {
        let reason = match open().await {
            Ok(mut driver) => {
                (driver.metrics.restarts, driver.metrics.last_failure) = (all, last.take());
                match driver.run(idle_ms, &mut stop).await {
                    Ok(()) => return Ok(driver),
                    Err(e) => {
                        if driver.metrics.checkpoints > 0 {
                            in_a_row = 0;
                        }
                        e
                    }
                }
            }
            Err(e) => e,
        };
        if reason.kind() != ErrorKind::Retry || in_a_row >= restarts.attempts || stop() {
            return Err(reason);
        }
        let delay_ms = restarts.delay_ms.saturating_mul(1 << in_a_row.min(30)).min(restarts.delay_ms_max);
        (in_a_row, all, last) = (in_a_row + 1, all + 1, Some(reason.to_string()));
        told(&Restart { attempt: in_a_row, delay_ms, reason });
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
    }
}
