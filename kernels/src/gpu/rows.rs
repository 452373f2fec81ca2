//! A run that selects rows: columns in, the rows that survive out, push by push.
//!
//! Pushes may come from several threads: each packs its rows on its own, and the device takes one chunk
//! after the other. A push with more rows than a chunk holds is several chunks.

use super::device::Device;
use super::dispatch::Chunk;
use super::kernel::Kernel;
use super::pack::{Plan, Slab};
use super::partials::Timings;
use super::run::{RunOptions, measured, narrowest};
use super::select::{SelectedRows, row_words};
use super::tables::Tables;
use super::worker::cancelled;
use super::{DeviceProgram, HostColumn, HostTable};
use crate::Result;
use std::sync::{Arc, Mutex, PoisonError};

/// A program that rows go through, its tables on the device. Dropping it frees what it holds there.
#[derive(Debug)]
pub struct RowRun {
    device: Arc<Device>,
    id: u64,
    program: DeviceProgram,
    options: RunOptions,
    tables: Tables,
    table_buffers: usize,
    /// Per input: stored wide, stored with validity.
    plan: Mutex<Vec<Plan>>,
    opening: Timings,
}

impl RowRun {
    pub(super) fn new(device: Arc<Device>, program: DeviceProgram, tables: &[HostTable], options: RunOptions) -> Result<Self> {
        let plan = Mutex::new(narrowest(&program)?);
        let (tables, buffers) = Tables::for_device(tables, &options, &device)?;
        let (id, table_buffers) = (device.new_run_id(), buffers.len());
        let mut run = Self { device, id, program, options, tables, table_buffers, plan, opening: Timings::default() };
        let (cancel, to_fill) = (Arc::clone(&run.options.cancel), std::mem::take(&mut run.tables.to_fill));
        run.opening = run.device.call(move |worker| worker.open_run(id, &buffers, &to_fill, &cancel))?;
        Ok(run)
    }

    /// Where the time of bringing the tables to the device went.
    pub fn opening(&self) -> Timings {
        self.opening
    }

    /// The rows of these that survive, one column per input, one word for 32 codes of each set; blocks until they
    /// are back. Where the time went is added to `timings`.
    ///
    /// # Errors
    /// `Unsupported` when a value may leave 64 bits: another push may work. `Exhausted` when memory is used up,
    /// `Closed` when the device is gone or the run was cancelled: then all later pushes fail too.
    pub fn select(&self, columns: &[HostColumn], sets: &[&[u32]], rows: usize, timings: &mut Timings) -> Result<SelectedRows> {
        let capabilities = self.device.capabilities();
        let (measured, plan) = {
            let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
            (measured(&self.program, columns, rows, &mut plan)?, plan.clone())
        };
        let words_max = self.options.chunk_bytes_max.min(capabilities.binding_bytes_max as usize) / 4;
        let most = Slab::capacity(&plan, words_max).min(words_max / row_words(self.program.outputs.len()));
        // Whole words of bits: what is on the device is copied by the word.
        let most = (most.min(self.options.chunk_rows_max) / 32 * 32).max(32);
        let mut all = SelectedRows::default();
        let mut from = 0;
        while from < rows {
            cancelled(&self.options.cancel)?;
            let to = rows.min(from + most);
            let mut slab = Slab::new(Vec::new(), &plan, (to - from).next_multiple_of(32));
            slab.append(columns, &measured, from..to, rows);
            let count = (to - from) as u32;
            let (kernel, returned) =
                Kernel::select(&self.program, sets, &slab.placed, &self.tables.placed, self.table_buffers, count, &capabilities)?;
            let chunk = Chunk {
                workgroups: kernel.workgroups(count, &capabilities),
                used: slab.used(),
                copied: std::mem::take(&mut slab.copied),
                to_keep: std::mem::take(&mut slab.to_keep),
                moment: self.options.moment,
                words: std::mem::take(&mut slab.words),
                kernel,
                rows: count,
                cancel: Arc::clone(&self.options.cancel),
            };
            let (id, parts) = (self.id, returned.parts.clone());
            let (found, words, spent) = self.device.call(move |worker| worker.select(id, chunk, &parts))?;
            timings.add(&spent);
            returned.read(&words, found as usize, from as u32, &mut all)?;
            from = to;
        }
        Ok(all)
    }
}

impl Drop for RowRun {
    fn drop(&mut self) {
        let id = self.id;
        self.device.post(move |worker| worker.close_run(id));
    }
}
