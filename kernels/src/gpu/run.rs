//! A run: rows pushed in, groups out.
//!
//! The caller's thread measures and packs rows into a chunk while the device thread uploads and runs
//! the one before; never more than these two chunks are held. A chunk's kernel is generated when the
//! chunk is full, because only then its ranges are known. After any error the run answers nothing more.

use super::device::{Device, Reply};
use super::dispatch::Chunk;
use super::kernel::Kernel;
use super::lower::Storage;
use super::pack::{Measured, Plan, Slab, measure, storage};
use super::partials::{GroupPartials, Timings};
use super::sink::Cells;
use super::tables::Tables;
use super::worker::cancelled;
use super::{DeviceProgram, HostColumn, HostTable, HostValues};
use crate::program::Type;
use crate::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// How a run behaves.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Set to true from anywhere: the run ends with `Closed` at the next chunk, or within a chunk.
    pub cancel: Arc<AtomicBool>,
    /// Bytes of a chunk, at most (also bounded by what the device binds at once).
    pub chunk_bytes_max: usize,
    /// Rows of a chunk, at most; rounded up to a multiple of 32, and down to what 32 bits count.
    pub chunk_rows_max: usize,
    /// Bytes of a buffer of join tables, at most (also bounded by what the device binds at once).
    pub table_bytes_max: usize,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { cancel: Arc::default(), chunk_bytes_max: 32 << 20, chunk_rows_max: 1 << 24, table_bytes_max: usize::MAX }
    }
}

/// Row numbers of a chunk, and a stride beyond them, stay within a u32.
const CHUNK_ROWS_MAX: usize = 1 << 30;
/// Rows of the first chunk at least; chunks double while rows keep coming, up to the maximum.
const FIRST_CHUNK_ROWS: usize = 1 << 16;

/// A program in the middle of its input. Dropping it frees what it holds on the device.
#[derive(Debug)]
pub struct GroupRun {
    device: Arc<Device>,
    id: u64,
    program: DeviceProgram,
    options: RunOptions,
    tables: Tables,
    table_buffers: usize,
    /// Per input: stored wide, stored with validity. Once true they stay, so that kernels settle.
    plan: Vec<Plan>,
    slab: Slab,
    in_flight: Option<Reply<(Vec<u32>, Timings)>>,
    /// Memory of a chunk that came back.
    spare: Vec<u32>,
    /// The cells of the groups on the device, and the rows in them.
    cells: Option<Cells>,
    rows_on_device: u64,
    /// Rows that the counts of the groups on the device can hold.
    pub(super) device_rows_max: u64,
    partials: GroupPartials,
    failed: bool,
}

impl GroupRun {
    pub(super) fn new(device: Arc<Device>, program: DeviceProgram, tables: &[HostTable], options: RunOptions) -> Result<Self> {
        let plan = narrowest(&program)?;
        if program.keys.iter().any(|(_, cardinality)| *cardinality == 0) {
            return Err(Error::bug("a group key without any code"));
        }
        let groups = program.keys.iter().try_fold(1u32, |n, (_, cardinality)| n.checked_mul(*cardinality));
        // Each aggregate takes a word or more; the exact check comes with the first kernel.
        let group_bytes = 4 * (1 + program.aggregates.len() as u64);
        let groups = groups.filter(|n| u64::from(*n) * group_bytes <= device.capabilities().binding_bytes_max);
        let groups = groups.ok_or_else(|| Error::unsupported("gpu: more groups than fit a buffer"))?;
        let (tables, buffers) = Tables::for_device(tables, &options, &device)?;
        let mut run = Self {
            id: device.new_run_id(),
            partials: GroupPartials::empty(&program, groups as usize),
            plan,
            table_buffers: buffers.len(),
            device,
            program,
            options,
            tables,
            slab: Slab::default(),
            in_flight: None,
            spare: Vec::new(),
            cells: None,
            rows_on_device: 0,
            device_rows_max: u32::MAX.into(),
            failed: false,
        };
        let (id, cancel, to_fill) = (run.id, Arc::clone(&run.options.cancel), std::mem::take(&mut run.tables.to_fill));
        let timings = run.device.call(move |worker| worker.open_run(id, &buffers, &to_fill, &cancel))?;
        run.partials.timings.add(&timings);
        Ok(run)
    }

    /// Adds `rows` rows, one column per input. Returns when they are packed, not when they are done.
    ///
    /// # Errors
    /// Of these rows or of earlier ones: `Unsupported` when a value may leave 64 bits, `Exhausted`
    /// when memory is used up, `Closed` when the device is gone or the run was cancelled.
    pub fn push(&mut self, columns: &[HostColumn], rows: usize) -> Result<()> {
        self.guarded(|run| run.append(columns, rows))
    }

    /// The groups of all rows pushed.
    ///
    /// # Errors
    /// As [`GroupRun::push`].
    pub fn finish(mut self) -> Result<GroupPartials> {
        self.guarded(|run| {
            run.flush()?;
            run.drain()
        })?;
        let none = GroupPartials::empty(&self.program, 0);
        Ok(std::mem::replace(&mut self.partials, none))
    }

    /// Rows were lost in an error: from then on there is no answer.
    fn guarded(&mut self, step: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        if self.failed {
            return Err(Error::new(ErrorKind::Closed, "gpu: an earlier step of this run failed"));
        }
        let result = step(self);
        self.failed = result.is_err();
        result
    }

    fn append(&mut self, columns: &[HostColumn], rows: usize) -> Result<()> {
        let measured = measured(&self.program, columns, rows, &mut self.plan)?;
        let mut from = 0;
        while from < rows {
            if self.slab.rows == self.slab.capacity || !self.slab.holds(&self.plan) {
                self.flush()?;
                self.begin_chunk(rows - from);
            }
            let to = rows.min(from + self.slab.capacity - self.slab.rows);
            self.slab.append(columns, &measured, from..to);
            from = to;
        }
        Ok(())
    }

    /// An empty slab, for `rows` rows at least if that many are allowed.
    fn begin_chunk(&mut self, rows: usize) {
        let bytes_max = self.options.chunk_bytes_max.min(self.device.capabilities().binding_bytes_max as usize);
        let capacity_max = Slab::capacity(&self.plan, bytes_max / 4).min(self.options.chunk_rows_max.clamp(32, CHUNK_ROWS_MAX));
        let capacity = rows.max(2 * self.slab.capacity).max(FIRST_CHUNK_ROWS);
        let words = std::mem::take(&mut self.spare);
        self.slab = Slab::new(words, &self.plan, capacity.min(capacity_max).next_multiple_of(32));
    }

    /// Sends the rows of the slab to the device.
    fn flush(&mut self) -> Result<()> {
        cancelled(&self.options.cancel)?;
        if self.slab.rows == 0 {
            return Ok(());
        }
        let capabilities = self.device.capabilities();
        let (kernel, cells) = Kernel::generate(&self.program, &self.slab.placed, &self.tables.placed, self.table_buffers, &capabilities)?;
        let rows = self.slab.rows as u32;
        let other_cells = self.cells.as_ref().is_some_and(|before| *before != cells);
        if other_cells || self.rows_on_device + u64::from(rows) > self.device_rows_max {
            self.drain()?;
        }
        self.land()?;
        self.cells = Some(cells);
        self.rows_on_device += u64::from(rows);
        let chunk = Chunk {
            workgroups: kernel.workgroups(rows, &capabilities),
            used: self.slab.used(),
            words: std::mem::take(&mut self.slab.words),
            kernel,
            rows,
            cancel: Arc::clone(&self.options.cancel),
        };
        self.slab.rows = 0;
        self.slab.placed.clear();
        let id = self.id;
        self.in_flight = Some(self.device.send(move |worker| worker.chunk(id, chunk)));
        Ok(())
    }

    /// Waits for the chunk on the device.
    fn land(&mut self) -> Result<()> {
        if let Some(reply) = self.in_flight.take() {
            let (words, timings) = reply.wait()?;
            self.spare = words;
            self.partials.timings.add(&timings);
        }
        Ok(())
    }

    /// Brings the groups on the device home.
    fn drain(&mut self) -> Result<()> {
        self.land()?;
        if let Some(cells) = self.cells.take() {
            let (id, cancel) = (self.id, Arc::clone(&self.options.cancel));
            let (words, timings) = self.device.call(move |worker| worker.drain(id, &cancel))?;
            self.partials.timings.add(&timings);
            self.partials.merge(&words, &cells);
            self.rows_on_device = 0;
        }
        Ok(())
    }
}

impl Drop for GroupRun {
    fn drop(&mut self) {
        let id = self.id;
        self.device.post(move |worker| worker.close_run(id));
    }
}

/// The narrowest storage of the inputs of `program`.
///
/// # Errors
/// `Unsupported` for types that the device does not hold.
pub(super) fn narrowest(program: &DeviceProgram) -> Result<Vec<Plan>> {
    let plans = program.inputs.iter().enumerate().map(|(i, ty)| match ty {
        Type::Bool => Ok((Storage::Bits, false)),
        Type::I32 | Type::I64 | Type::Decimal => Ok((Storage::Word, false)),
        ty => Err(Error::unsupported(format!("gpu: input {i} of type {ty:?}"))),
    });
    plans.collect()
}

/// Measures the inputs of `program`; `plan` then has room for them. Once wide or nullable it stays so: kernels settle.
///
/// # Errors
/// `Bug` for columns that are not the program's inputs.
pub(super) fn measured(program: &DeviceProgram, columns: &[HostColumn], rows: usize, plan: &mut [Plan]) -> Result<Vec<Measured>> {
    if columns.len() != program.inputs.len() {
        return Err(Error::bug("a push has another number of columns than the program has inputs"));
    }
    let measured = columns.iter().map(|c| measure(c, rows)).collect::<Result<Vec<Measured>>>()?;
    for (i, ((column, measured), (stored, nullable))) in columns.iter().zip(&measured).zip(plan).enumerate() {
        match (program.inputs[i], column.values) {
            (Type::Bool, HostValues::Bool(_)) => {}
            (Type::I32, HostValues::I32(_)) => {}
            (Type::I64 | Type::Decimal, HostValues::I32(_) | HostValues::I64(_)) => {}
            (ty, _) => return Err(Error::bug(format!("input {i} is no {ty:?}"))),
        }
        if storage(&column.values, measured) == Storage::Pair {
            *stored = Storage::Pair;
        }
        *nullable |= measured.nulls;
    }
    Ok(measured)
}
