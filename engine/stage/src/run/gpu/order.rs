//! The rows of a sort or top-n sink in order, by the device: it sorts the numbers that the host makes of their keys, or finds
//! the first of them. What those numbers leave open, of long strings and many wide keys, the host settles.

use super::device;
use crate::Result;
use crate::context::Cancel;
use crate::program::{Program, Sink};
use crate::run::metrics::{Fallback, Fallbacks, GpuMetrics};
use millstream_kernels::gpu::{CapabilityClass, SortOptions, Timings};
use millstream_kernels::program::Type;
use millstream_kernels::sort::Key;
use std::sync::atomic::{AtomicBool, Ordering};

/// What orders the rows of a stage on the device, shared by its workers.
pub(in crate::run) struct DeviceOrder {
    class: CapabilityClass,
    memory_bytes: Option<u64>,
    cancel: Cancel,
    metrics: GpuMetrics,
    fallbacks: Fallbacks,
    /// The device failed: the CPU does what comes.
    off: AtomicBool,
}

/// Why the device does not order the rows of this sink; none where it does, or there is nothing to order.
///
/// # Errors
/// The reason.
pub(super) fn covers(program: &Program, sink: &Sink) -> Result<(), String> {
    let Sink::Sort { columns, order, groups, .. } = sink else { return Err(format!("a {} sink has no order", sink.name())) };
    if !groups.is_empty() {
        return Err("no compute shader covers the first rows of groups".into());
    }
    let any = order.iter().filter_map(|k| columns.get(k.column)).find(|r| program.ty(**r) == Type::Any);
    any.map_or(Ok(()), |r| Err(format!("no compute shader orders {}", program.data_type(*r))))
}

impl DeviceOrder {
    /// For a sink that the device orders; none for any other.
    pub(in crate::run) fn of(
        (program, sink): (&Program, &Sink),
        (class, memory_bytes): (CapabilityClass, Option<u64>),
        cancel: &Cancel,
        metrics: GpuMetrics,
        fallbacks: &Fallbacks,
    ) -> Option<Self> {
        covers(program, sink).ok()?;
        Some(Self { class, memory_bytes, cancel: cancel.clone(), metrics, fallbacks: fallbacks.clone(), off: AtomicBool::new(false) })
    }

    /// Whether no order so far needed the CPU instead.
    pub(in crate::run) fn is_whole(&self) -> bool {
        !self.off.load(Ordering::Relaxed)
    }

    /// The rows `0..n` in the order of `keys`, or the first `fetch`; none, and counted, where the device cannot say.
    ///
    /// # Errors
    /// `Closed` when cancelled.
    pub(in crate::run) fn rows(&self, keys: &[Key<'_>], n: usize, fetch: Option<usize>) -> Result<Option<Vec<u32>>> {
        if !self.is_whole() {
            return Ok(None);
        }
        let mut timings = Timings::default();
        let options = SortOptions { cancel: self.cancel.flag(), ..SortOptions::default() };
        let rows = device(self.class, self.memory_bytes).and_then(|device| device.sort(keys, n, fetch, &options, &mut timings));
        self.metrics.add(&timings);
        match rows {
            Ok(rows) => Ok(Some(rows)),
            Err(e) => {
                // A cancelled query also fails on the device.
                self.cancel.check()?;
                self.fallbacks.add(Fallback::of(e.kind()));
                self.off.store(true, Ordering::Relaxed);
                Ok(None)
            }
        }
    }
}
