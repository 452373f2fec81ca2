//! A run: rows pushed in, groups out.
//!
//! Several writers measure and pack rows, each into a chunk of its own, while the device thread uploads and runs the ones
//! before; a writer holds never more than two chunks. A chunk's kernel is generated when the chunk is full, because only then
//! its ranges are known. After any error the run answers nothing more.
//!
//! Locks: a writer's, then the run's. Chunks are sent under the run's lock, so that what is drained later has all that was
//! sent before.

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
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    /// Of the query ([`Device::moment`]): columns that stay on the device make room only for those of later queries.
    pub moment: u64,
    /// Threads that push rows of one run at a time.
    pub writers: usize,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            cancel: Arc::default(),
            chunk_bytes_max: 32 << 20,
            chunk_rows_max: 1 << 24,
            table_bytes_max: usize::MAX,
            moment: 0,
            writers: 1,
        }
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
    writers: Vec<Mutex<Writer>>,
    state: Mutex<State>,
    /// Rows that the counts of the groups on the device can hold.
    pub(super) device_rows_max: u64,
}

/// Rows on their way into a chunk.
#[derive(Debug)]
struct Writer {
    /// Per input: stored wide, stored with validity. Once true they stay, so that kernels settle.
    plan: Vec<Plan>,
    slab: Slab,
    in_flight: Option<Reply<(Vec<u32>, Timings)>>,
    /// Memory of a chunk that came back.
    spare: Vec<u32>,
}

/// What all writers share.
#[derive(Debug)]
struct State {
    /// The cells of the groups on the device, and the rows in them.
    cells: Option<Cells>,
    rows_on_device: u64,
    partials: GroupPartials,
    failed: bool,
}

/// A writer's turn. Whoever takes it while holding a lock of its own, and lets go of that, has its rows in the run before
/// anyone who takes that lock later can end the run.
pub struct Turn<'a> {
    run: &'a GroupRun,
    writer: MutexGuard<'a, Writer>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let writer = || Mutex::new(Writer { plan: plan.clone(), slab: Slab::default(), in_flight: None, spare: Vec::new() });
        let partials = GroupPartials::empty(&program, groups as usize);
        let mut run = Self {
            id: device.new_run_id(),
            writers: (0..options.writers.max(1)).map(|_| writer()).collect(),
            state: Mutex::new(State { cells: None, rows_on_device: 0, partials, failed: false }),
            table_buffers: buffers.len(),
            device,
            program,
            options,
            tables,
            device_rows_max: u32::MAX.into(),
        };
        let (id, cancel, to_fill) = (run.id, Arc::clone(&run.options.cancel), std::mem::take(&mut run.tables.to_fill));
        let timings = run.device.call(move |worker| worker.open_run(id, &buffers, &to_fill, &cancel))?;
        lock(&run.state).partials.timings.add(&timings);
        Ok(run)
    }

    /// The turn of writer `n`; waits while another thread has it.
    pub fn writer(&self, n: usize) -> Turn<'_> {
        Turn { run: self, writer: lock(&self.writers[n % self.writers.len()]) }
    }

    /// Adds `rows` rows, one column per input. Returns when they are packed, not when they are done.
    ///
    /// # Errors
    /// Of these rows or of earlier ones: `Unsupported` when a value may leave 64 bits, `Exhausted`
    /// when memory is used up, `Closed` when the device is gone or the run was cancelled.
    pub fn push(&self, columns: &[HostColumn], rows: usize) -> Result<()> {
        self.writer(0).push(columns, rows)
    }

    /// The groups of all rows pushed: of all writers, for whose turns it waits. Later pushes are of a run without rows.
    ///
    /// # Errors
    /// As [`GroupRun::push`].
    pub fn finish(&self) -> Result<GroupPartials> {
        self.guarded(|| {
            for writer in &self.writers {
                self.flush(&mut lock(writer))?;
            }
            // A chunk that failed says why.
            for writer in &self.writers {
                self.land(&mut lock(writer))?;
            }
            // So does a writer whose turn was waited for.
            let mut state = lock(&self.state);
            if state.failed { Err(earlier_failure()) } else { self.drain(&mut state) }
        })?;
        let none = GroupPartials::empty(&self.program, 0);
        Ok(std::mem::replace(&mut lock(&self.state).partials, none))
    }

    /// Rows were lost in an error: from then on there is no answer.
    fn guarded(&self, step: impl FnOnce() -> Result<()>) -> Result<()> {
        if lock(&self.state).failed {
            return Err(earlier_failure());
        }
        let result = step();
        lock(&self.state).failed |= result.is_err();
        result
    }

    fn append(&self, writer: &mut Writer, columns: &[HostColumn], rows: usize) -> Result<()> {
        let measured = measured(&self.program, columns, rows, &mut writer.plan)?;
        let mut from = 0;
        while from < rows {
            let slab = &writer.slab;
            if slab.rows == slab.capacity || !slab.holds(&writer.plan) || !slab.joins(columns) {
                self.flush(writer)?;
                self.begin_chunk(writer, rows - from);
            }
            let to = rows.min(from + writer.slab.capacity - writer.slab.rows);
            writer.slab.append(columns, &measured, from..to, rows);
            from = to;
        }
        Ok(())
    }

    /// An empty slab, for `rows` rows at least if that many are allowed.
    fn begin_chunk(&self, writer: &mut Writer, rows: usize) {
        let bytes_max = self.options.chunk_bytes_max.min(self.device.capabilities().binding_bytes_max as usize);
        let capacity_max = Slab::capacity(&writer.plan, bytes_max / 4).min(self.options.chunk_rows_max.clamp(32, CHUNK_ROWS_MAX));
        let capacity = rows.max(2 * writer.slab.capacity).max(FIRST_CHUNK_ROWS);
        let words = std::mem::take(&mut writer.spare);
        writer.slab = Slab::new(words, &writer.plan, capacity.min(capacity_max).next_multiple_of(32));
    }

    /// Sends the rows of the slab to the device.
    fn flush(&self, writer: &mut Writer) -> Result<()> {
        cancelled(&self.options.cancel)?;
        if writer.slab.rows == 0 {
            return Ok(());
        }
        let capabilities = self.device.capabilities();
        let slab = &mut writer.slab;
        let (kernel, cells) = Kernel::generate(&self.program, &slab.placed, &self.tables.placed, self.table_buffers, &capabilities)?;
        let rows = slab.rows as u32;
        let chunk = Chunk {
            workgroups: kernel.workgroups(rows, &capabilities),
            used: slab.used(),
            copied: std::mem::take(&mut slab.copied),
            to_keep: std::mem::take(&mut slab.to_keep),
            moment: self.options.moment,
            words: std::mem::take(&mut slab.words),
            kernel,
            rows,
            cancel: Arc::clone(&self.options.cancel),
        };
        slab.rows = 0;
        slab.placed.clear();
        self.land(writer)?;
        let mut state = lock(&self.state);
        let other_cells = state.cells.as_ref().is_some_and(|before| *before != cells);
        if other_cells || state.rows_on_device + u64::from(rows) > self.device_rows_max {
            self.drain(&mut state)?;
        }
        state.cells = Some(cells);
        state.rows_on_device += u64::from(rows);
        let id = self.id;
        writer.in_flight = Some(self.device.send(move |worker| worker.chunk(id, chunk)));
        Ok(())
    }

    /// Waits for the chunk on the device.
    fn land(&self, writer: &mut Writer) -> Result<()> {
        if let Some(reply) = writer.in_flight.take() {
            let (words, timings) = reply.wait()?;
            writer.spare = words;
            lock(&self.state).partials.timings.add(&timings);
        }
        Ok(())
    }

    /// Brings the groups on the device home, of all chunks sent so far.
    fn drain(&self, state: &mut State) -> Result<()> {
        if let Some(cells) = state.cells.take() {
            let (id, cancel) = (self.id, Arc::clone(&self.options.cancel));
            let (words, timings) = self.device.call(move |worker| worker.drain(id, &cancel))?;
            state.partials.timings.add(&timings);
            state.partials.merge(&words, &cells);
            state.rows_on_device = 0;
        }
        Ok(())
    }
}

impl Turn<'_> {
    /// Rows that were to be pushed in this turn will not be: the run answers nothing more.
    pub fn fail(&mut self) {
        lock(&self.run.state).failed = true;
    }

    /// As [`GroupRun::push`].
    ///
    /// # Errors
    /// As there.
    pub fn push(&mut self, columns: &[HostColumn], rows: usize) -> Result<()> {
        let (run, writer) = (self.run, &mut *self.writer);
        run.guarded(|| run.append(writer, columns, rows))
    }
}

impl Drop for GroupRun {
    fn drop(&mut self) {
        let id = self.id;
        self.device.post(move |worker| worker.close_run(id));
    }
}

fn earlier_failure() -> Error {
    Error::new(ErrorKind::Closed, "gpu: an earlier step of this run failed")
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
            (ty, HostValues::Kept(kept)) if (ty == Type::Bool) == (kept.storage == Storage::Bits) => {}
            (Type::I32, HostValues::I32(_)) => {}
            (Type::I64 | Type::Decimal, HostValues::I32(_) | HostValues::I64(_)) => {}
            (ty, _) => return Err(Error::bug(format!("input {i} is no {ty:?}"))),
        }
        let here = storage(&column.values, measured);
        if here == Storage::Pair || column.piece.is_some_and(|p| p.wide && here != Storage::Bits) {
            *stored = Storage::Pair;
        }
        let stays = match column.values {
            HostValues::Kept(kept) => kept.valid_at.is_some(),
            _ => column.piece.is_some_and(|p| p.nullable),
        };
        *nullable |= measured.nulls || stays;
        if let HostValues::Kept(kept) = column.values
            && (*stored != kept.storage || *nullable != kept.valid_at.is_some())
        {
            return Err(Error::bug(format!("input {i} is kept in another form than that of the rows before")));
        }
    }
    Ok(measured)
}
