//! The terminal: its size, and what is on it while a query runs.

use crate::progress::Spinner;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Characters in a line: `COLUMNS` where set, else what the terminal of standard output says; none without one.
pub fn width() -> Option<usize> {
    number("COLUMNS").or_else(|| size().map(|(width, _)| width))
}

/// Lines, `LINES` first.
pub fn height() -> Option<usize> {
    number("LINES").or_else(|| size().map(|(_, height)| height))
}

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok().filter(|n| *n > 0)
}

fn size() -> Option<(usize, usize)> {
    let (width, height) = terminal_size::terminal_size_of(std::io::stdout())?;
    Some((width.0.into(), height.0.into())).filter(|size| size.0 > 0 && size.1 > 0)
}

/// What a query has put in front of the user: a spinner until rows come, then the rows, perhaps in a pager.
#[derive(Default)]
pub struct Foreground {
    spinner: Mutex<Option<Spinner>>,
    paging: AtomicBool,
    closed: AtomicBool,
    changed: Notify,
}

impl Foreground {
    /// Before a query starts.
    pub fn begin(&self) {
        self.closed.store(false, Ordering::Relaxed);
    }

    /// Shows a spinner until rows come, at the latest until the guard goes.
    pub fn spin(&self, spinner: Spinner) -> Spinning<'_> {
        *self.spinner() = Some(spinner);
        Spinning(self)
    }

    /// Takes the spinner away.
    pub fn clear(&self) {
        drop(self.spinner().take());
    }

    fn spinner(&self) -> MutexGuard<'_, Option<Spinner>> {
        self.spinner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pager has the terminal.
    pub fn is_paging(&self) -> bool {
        self.paging.load(Ordering::Relaxed)
    }

    pub fn set_paging(&self, on: bool) {
        self.paging.store(on, Ordering::Relaxed);
    }

    /// Nobody reads the rows of this query any more.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Waits until nobody reads the rows any more.
    pub async fn closed(&self) {
        while !self.is_closed() {
            self.changed.notified().await;
        }
    }
}

/// Ends a spinner.
pub struct Spinning<'a>(&'a Foreground);

impl Drop for Spinning<'_> {
    fn drop(&mut self) {
        self.0.clear();
    }
}
