//! The device's own clock, where it has one: how long the passes of a submission took there, without the way to it and back.

use super::worker::Worker;
use crate::Result;
use std::sync::atomic::AtomicBool;

/// Two moments of a submission, and the buffers on their way home.
pub(super) struct Clock {
    moments: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    readback: wgpu::Buffer,
    /// Nanoseconds of a tick.
    period_ns: f64,
}

/// Bytes of two moments.
const MOMENTS_BYTES: u64 = 16;

impl Clock {
    /// None where the device was not granted timestamps.
    pub fn new(device: &wgpu::Device, queue: &wgpu::Queue) -> Option<Self> {
        if !device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return None;
        }
        let (ty, count) = (wgpu::QueryType::Timestamp, 2);
        let moments = device.create_query_set(&wgpu::QuerySetDescriptor { label: None, ty, count });
        let buffer =
            |usage| device.create_buffer(&wgpu::BufferDescriptor { label: None, size: MOMENTS_BYTES, usage, mapped_at_creation: false });
        use wgpu::BufferUsages as U;
        let (resolved, readback) = (buffer(U::QUERY_RESOLVE | U::COPY_SRC), buffer(U::MAP_READ | U::COPY_DST));
        Some(Self { moments, resolved, readback, period_ns: queue.get_timestamp_period().into() })
    }

    /// The moments around a pass.
    pub fn around(&self) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.moments,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        }
    }

    /// Behind the pass, in the same submission.
    pub fn bring_home(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.resolve_query_set(&self.moments, 0..2, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.readback, 0, Some(MOMENTS_BYTES));
    }
}

impl Worker {
    /// Waits for `done`; nanoseconds between the moments of the last pass by the device's clock, 0 where it has none.
    pub(super) fn passed_ns(&mut self, done: &wgpu::SubmissionIndex, cancel: &AtomicBool) -> Result<u64> {
        let Some(clock) = &self.clock else {
            self.wait(done, cancel)?;
            return Ok(0);
        };
        let period_ns = clock.period_ns;
        let words = match self.read(&clock.readback, MOMENTS_BYTES, done, cancel) {
            Ok(words) => words,
            Err(error) => {
                // Its buffer may be mapped by now, or later.
                self.clock = Clock::new(&self.device, &self.queue);
                return Err(error);
            }
        };
        let moment = |at: usize| words.get(at).zip(words.get(at + 1)).map_or(0, |(low, high)| u64::from(*high) << 32 | u64::from(*low));
        // Clocks may stand still or begin anew.
        Ok((moment(2).saturating_sub(moment(0)) as f64 * period_ns) as u64)
    }
}
