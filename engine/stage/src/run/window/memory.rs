//! The memory that windows take, of that which the session allows.

use super::super::spill::Spiller;
use crate::{Error, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;

/// A share of the limit that is not worth a file.
const LEAST: usize = 16;

/// Groups that are added up at a time take at least so many bytes.
const SLICE_LEAST: usize = 1 << 20;

pub(super) struct Memory {
    reservation: MemoryReservation,
    limit: Option<usize>,
    pub(super) spiller: Spiller,
}

impl Memory {
    /// For the windows `id`; those that cannot go to disk leave others their fair share.
    pub(super) fn new(ctx: &TaskContext, id: &str, can_spill: bool) -> Self {
        let pool = ctx.memory_pool();
        let limit = if let MemoryLimit::Finite(bytes) = pool.memory_limit() { Some(bytes) } else { None };
        let reservation = MemoryConsumer::new(format!("windows {id}")).with_can_spill(can_spill).register(pool);
        Self { reservation, limit, spiller: Spiller::new(ctx, id, &ExecutionPlanMetricsSet::new()) }
    }

    /// Whether there is a limit.
    pub(super) fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// Reserves `bytes` in all, if there are as many.
    pub(super) fn holds(&self, bytes: usize) -> bool {
        self.reservation.try_resize(bytes).is_ok()
    }

    /// Reserves `bytes` in all.
    ///
    /// # Errors
    /// `Exhausted` where there are not as many.
    pub(super) fn hold(&self, bytes: usize) -> Result<()> {
        self.reservation.try_resize(bytes).map_err(Error::from)
    }

    /// Takes `bytes` in all, although there may not be as many.
    pub(super) fn take(&self, bytes: usize) {
        self.reservation.resize(bytes);
    }

    /// Whether `bytes` are worth a file.
    pub(super) fn is_worth(&self, bytes: usize) -> bool {
        self.limit.is_some_and(|limit| bytes >= limit / LEAST)
    }

    /// Bytes on disk that one of `threads` adds up at a time: in memory they are a few times as many.
    pub(super) fn slice(&self, threads: usize) -> u64 {
        self.limit.map_or(u64::MAX, |limit| (limit / LEAST / threads.max(1)).max(SLICE_LEAST) as u64)
    }
}
