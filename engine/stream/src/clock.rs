//! Time by argument.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What says how late it is.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Milliseconds since some moment; never fewer than before.
    fn now_ms(&self) -> u64;

    /// The same in microseconds, for what is measured; a clock may have no more than milliseconds.
    fn now_us(&self) -> u64 {
        self.now_ms().saturating_mul(1_000)
    }
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl SystemClock {
    /// A clock that begins now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that others are given")]
    #[expect(clippy::new_without_default, reason = "each one begins at another moment")]
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }

    fn now_us(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

/// A clock that its owner moves: tests of pipelines run in no time, and the same each time.
#[derive(Debug, Default)]
pub struct VirtualClock(AtomicU64);

impl VirtualClock {
    /// Moves on.
    pub fn advance_ms(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
