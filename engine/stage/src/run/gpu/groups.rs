//! A group stage whose groups the device makes.
//!
//! Every worker of the pool decodes blocks, runs the host's part of the program ([`super::split`]) and packs what is left for
//! the device; one run there takes the rows of all of them. When the run ends its groups are added to a worker's
//! group sink, so that merging, carrying over epochs and finishing are the CPU's.
//!
//! A block is kept until its rows are in a group sink. Whatever fails on the device, the blocks that it
//! still owes and all that follow go through the whole program on the CPU: no source is read twice, no
//! row counts twice. Memory for kept blocks is reserved; where it is refused, the run ends early.

use super::super::chunk::{Chunks, LateColumns};
use super::super::metrics::{Fallback, Fallbacks, GpuMetrics};
use super::super::sink::{Computed, GroupSink, RowsSink};
use super::super::{Bound, vector_size};
use super::floats;
use super::keys::DirectKeys;
use super::split::{self, Form, Made, Split, TableKey};
use super::table::{DeviceTable, Input, Place, host_column, narrowed};
use super::{Opening, device};
use crate::context::Cancel;
use crate::convert::Block;
use crate::program::{Program, Sink};
use crate::{Error, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use millstream_kernels::gpu::{GroupPartials, GroupRun, HostColumn, HostValues, RunOptions, Turn};
use millstream_kernels::group::{Groups, KeyType};
use millstream_kernels::program::Reg;
use millstream_kernels::{Values, Vector};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of blocks that wait for the device's answer, at most.
pub(super) const PENDING_BYTES_MAX: usize = 256 << 20;

/// Groups that keys of tables may make together, whether they have rows or not: few enough for an array of them to cost less
/// than probing the tables on the host.
pub(super) const TABLE_GROUPS_MAX: u32 = 1 << 16;

/// What went wrong, by who deals with it.
enum Failure {
    /// The device: the CPU takes over.
    Device(Fallback),
    /// This block alone: it has values that are not for the device.
    Block,
    /// The query.
    Query(Error),
}

/// A register that is no column of a device: it was made to be one.
const NO_COLUMN: Failure = Failure::Device(Fallback::Bug);

impl From<millstream_kernels::Error> for Failure {
    fn from(e: millstream_kernels::Error) -> Self {
        Failure::Device(Fallback::of(e.kind()))
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Query(e)
    }
}

/// The run of a stage on the device, shared by its workers.
pub(in crate::run) struct DeviceGroups {
    place: Place,
    split: Split,
    /// The whole program, and the host's part of it.
    whole: Arc<Bound>,
    host: Arc<Bound>,
    tables: Vec<DeviceTable>,
    /// Codes of the keys, where they need not be looked up.
    direct: Option<DirectKeys>,
    /// How many codes each key of a table has.
    cardinalities: Vec<u32>,
    cancel: Cancel,
    metrics: GpuMetrics,
    fallbacks: Fallbacks,
    state: Mutex<State>,
    /// Threads that push at a time, and workers so far.
    threads: usize,
    workers: AtomicUsize,
}

/// Rows that are in a run as soon as they are packed.
struct Registered {
    run: Arc<GroupRun>,
    /// Of each part, codes of its keys where they were looked up, and the integers of its floats.
    columns: Vec<(Option<Vec<i32>>, Vec<Vector>)>,
}

struct State {
    /// What the device counts, and for how many codes.
    run: Option<(Arc<GroupRun>, usize)>,
    /// Of each entry of the split's floats that are halves: the exponent of the run that is going on.
    exponents: Vec<Option<i32>>,
    /// Codes of the keys.
    groups: Groups,
    /// Rows that are in no group sink yet.
    pending: Vec<Owed>,
    pending_bytes: usize,
    reservation: MemoryReservation,
    /// The device failed: the CPU does the rest.
    off: bool,
}

impl DeviceGroups {
    /// Opens the device and readies the tables that it probes.
    ///
    /// # Errors
    /// `Closed` when there is no device, `Bug` for a stage that [`covers`] refuses.
    pub(super) fn open(opening: Opening, sink: &Sink) -> Result<Arc<Self>> {
        let Opening { class, memory_bytes, threads, whole, direct, cancel, metrics, fallbacks, reservation } = opening;
        let place = Place::new(device(class, memory_bytes)?);
        let program = &whole.program;
        let mut can_probe: Vec<bool> = whole.tables.iter().map(|t| t.table.is_unique() && t.table.origin().is_some()).collect();
        let mut keys_of_tables = true;
        let (split, tables, cardinalities) = loop {
            let split = split::split(program, sink, &can_probe, keys_of_tables)?;
            let ready: Vec<_> = split.tables.iter().map(|part| DeviceTable::new(part, &whole, &cancel)).collect();
            let refused: Vec<u16> = split.tables.iter().zip(&ready).filter(|(_, t)| t.is_none()).map(|(part, _)| part.table).collect();
            if refused.is_empty() {
                let tables: Vec<DeviceTable> = ready.into_iter().flatten().collect();
                match cardinalities(&split.table_keys, &tables) {
                    Some(cardinalities) => break (split, tables, cardinalities),
                    None => keys_of_tables = false,
                }
            }
            // A table whose keys have no codes is probed on the host.
            refused.iter().for_each(|t| can_probe[usize::from(*t)] = false);
        };
        let host = Arc::new(Bound {
            program: Arc::new(Program { instrs: split.host.clone(), ..program.as_ref().clone() }),
            constants: whole.constants.clone(),
            values: vec![],
            tables: whole.tables.clone(),
            disk: vec![],
        });
        let types: Vec<KeyType> = split.keys.iter().map(|k| program.key_type(*k)).collect();
        let groups = Groups::new(&types);
        let exponents = vec![None; split.floats.len()];
        let state = State { run: None, exponents, groups, pending: vec![], pending_bytes: 0, reservation, off: false };
        Ok(Arc::new(Self {
            place,
            split,
            whole,
            host,
            tables,
            direct,
            cardinalities,
            cancel,
            metrics,
            fallbacks,
            state: Mutex::new(state),
            threads,
            workers: AtomicUsize::new(0),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the rows of `owed` the device's: whoever ends the run waits for them to be packed. Where the run is full, groups
    /// go into `sink` first. In a failure they are nobody's yet.
    fn register(&self, state: &mut State, owed: &Owed, parts: &[Part], sink: &mut GroupSink) -> Result<Registered, Failure> {
        let floats = match self.floats(state, parts) {
            Some(floats) => floats,
            None => {
                self.commit(state, sink)?;
                self.floats(state, parts).ok_or(Failure::Block)?
            }
        };
        let mut columns = vec![];
        for (part, floats) in parts.iter().zip(floats) {
            let codes = match &part.keys {
                Keys::Looked(keys) if !keys.is_empty() => {
                    let mut ids = Vec::with_capacity(part.rows);
                    state.groups.ids(&keys.iter().collect::<Vec<_>>(), part.rows, &mut ids)?;
                    Some(ids.into_iter().map(|id| id as i32).collect())
                }
                _ => None,
            };
            columns.push((codes, floats));
        }
        let held = owed.held();
        let full = state.pending_bytes + held > PENDING_BYTES_MAX;
        let outgrown = state.run.as_ref().is_some_and(|(_, codes)| *codes < state.groups.len());
        if full || outgrown || state.reservation.try_resize(state.pending_bytes + held + state.groups.size()).is_err() {
            self.end_run(state, sink)?;
            // Refused even so: the CPU keeps no blocks.
            state.reservation.try_resize(held + state.groups.size()).map_err(|_| Failure::Device(Fallback::HostMemory))?;
        }
        let (run, codes) = match state.run.take() {
            Some(run) => run,
            None => self.prepare(state.groups.len())?,
        };
        state.run = Some((Arc::clone(&run), codes));
        state.pending.push(owed.clone());
        state.pending_bytes += held;
        Ok(Registered { run, columns })
    }

    /// The integers of the floats of each part, in the window of the run that is going on; of a new one where there
    /// is none. None where they are outside of it.
    fn floats(&self, state: &mut State, parts: &[Part]) -> Option<Vec<Vec<Vector>>> {
        let mut exponents = state.exponents.clone();
        let mut all = vec![];
        for part in parts {
            let mut columns = vec![];
            for ((v, (_, form)), exponent) in part.floats.iter().zip(&self.split.floats).zip(&mut exponents) {
                let integers = match form {
                    Form::Ordered => vec![floats::ordered(v, part.rows)?],
                    Form::Halves => {
                        let window = match *exponent {
                            Some(window) => window,
                            None => floats::window(v, part.rows)?,
                        };
                        *exponent = Some(window);
                        let (high, low) = floats::halves(v, part.rows, window)?;
                        vec![high, low]
                    }
                };
                columns.extend(integers.into_iter().map(|i| Vector::with_valid(Values::I64(i.into()), v.valid.clone())));
            }
            all.push(columns);
        }
        state.exponents = exponents;
        Some(all)
    }

    /// Ends the run, keeping what its floats were for the block at hand.
    fn end_run(&self, state: &mut State, sink: &mut GroupSink) -> Result<(), Failure> {
        let exponents = state.exponents.clone();
        self.commit(state, sink)?;
        state.exponents = exponents;
        Ok(())
    }

    /// A run for at least `groups` groups. Their number doubles, so that few sizes of kernels exist.
    fn prepare(&self, groups: usize) -> Result<(Arc<GroupRun>, usize), Failure> {
        let mut program = self.split.device.clone();
        program.constants = self.whole.values.clone();
        let codes = self.direct.as_ref().map_or(groups.max(1).next_power_of_two(), |d| d.codes as usize);
        for (n, (_, cardinality)) in program.keys.iter_mut().enumerate() {
            *cardinality = match self.cardinalities.get(n) {
                Some(of_table) => *of_table,
                None => u32::try_from(codes).map_err(|_| Failure::Device(Fallback::DeviceMemory))?,
            };
        }
        let tables = self.tables.iter().map(DeviceTable::host).collect::<Option<Vec<_>>>().ok_or(NO_COLUMN)?;
        let options = RunOptions { writers: self.threads, ..self.place.options(&self.cancel) };
        Ok((Arc::new(self.place.device.prepare(program, &tables, options)?), codes))
    }

    /// The keys of groups of a run, one column a key.
    fn keys(&self, state: &State, partials: &GroupPartials, groups: &[usize]) -> Result<Vec<Vector>> {
        if self.split.table_keys.is_empty() {
            let ids: Vec<u32> = groups.iter().map(|g| *g as u32).collect();
            return Ok(match &self.direct {
                Some(direct) => direct.keys(&ids),
                None => state.groups.keys(&ids)?,
            });
        }
        let codes: Vec<Vec<u32>> = groups.iter().map(|g| partials.codes(*g)).collect();
        let mut columns = vec![];
        for (n, key) in self.split.table_keys.iter().enumerate() {
            let ids: Vec<u32> = codes.iter().map(|of_group| of_group[n]).collect();
            columns.extend(self.tables[key.table].codes()[key.code].keys(&ids)?);
        }
        Ok(columns)
    }

    /// Ends the run and adds its groups to `sink`: nothing is pending then.
    fn commit(&self, state: &mut State, sink: &mut GroupSink) -> Result<(), Failure> {
        let exponents = std::mem::replace(&mut state.exponents, vec![None; self.split.floats.len()]);
        let Some((run, _)) = state.run.take() else { return Ok(()) };
        let partials = run.finish()?;
        self.metrics.add(&partials.timings);
        let groups: Vec<usize> = (0..partials.rows.len()).filter(|g| partials.rows[*g] > 0).collect();
        let keys = self.keys(state, &partials, &groups)?;
        let computed: Vec<Computed> = self.split.made.iter().map(|made| computed(*made, &groups, &partials, &exponents)).collect();
        sink.absorb(&keys, groups.len(), &computed)?;
        self.metrics.rows.add(state.pending.iter().map(Owed::rows).sum());
        state.pending.clear();
        state.pending_bytes = 0;
        Ok(())
    }
}

/// How many codes each key has; none where that makes too many groups.
fn cardinalities(keys: &[TableKey], tables: &[DeviceTable]) -> Option<Vec<u32>> {
    // A table without rows has no codes, and no row finds one.
    let codes = |key: &TableKey| u32::try_from(tables.get(key.table)?.codes().get(key.code)?.len().max(1)).ok();
    let all = keys.iter().map(codes).collect::<Option<Vec<u32>>>()?;
    let groups = all.iter().try_fold(1u32, |groups, codes| groups.checked_mul(*codes))?;
    (groups <= TABLE_GROUPS_MAX).then_some(all)
}

/// A state of `groups`, from the aggregates that the device made for it.
fn computed(made: Made, groups: &[usize], partials: &GroupPartials, exponents: &[Option<i32>]) -> Computed {
    let value = |aggregate: usize, g: usize| partials.aggregates.get(aggregate)?.value(g);
    match made {
        Made::Exact(a) => Computed::Integers(groups.iter().map(|g| value(a, *g)).collect()),
        Made::Ordered(a) => Computed::Floats(groups.iter().map(|g| Some(floats::of_order(value(a, *g)? as i64))).collect()),
        Made::Sum { high, float } => {
            let exponent = exponents.get(float).copied().flatten().unwrap_or(0);
            let sum = |g: &usize| Some(floats::sum(value(high, *g)?, value(high + 1, *g)?, exponent));
            Computed::Floats(groups.iter().map(sum).collect())
        }
    }
}

/// One worker of a stage on the device.
pub(in crate::run) struct GroupsWorker {
    shared: Arc<DeviceGroups>,
    number: usize,
    host: Chunks,
    cpu: Chunks,
}

impl GroupsWorker {
    pub(super) fn new(shared: Arc<DeviceGroups>) -> Self {
        let host = Chunks::new(Arc::clone(&shared.host), shared.cancel.clone());
        let cpu = Chunks::new(Arc::clone(&shared.whole), shared.cancel.clone());
        let number = shared.workers.fetch_add(1, Ordering::Relaxed);
        Self { shared, number, host, cpu }
    }

    /// Takes rows: to the device, or to `sink` where the device cannot.
    ///
    /// # Errors
    /// What the program raises; `Exhausted` when memory for the rows is refused; `Closed` when cancelled.
    pub(super) fn owed(&mut self, owed: Owed, sink: &mut GroupSink) -> Result<()> {
        if self.shared.lock().off {
            return self.rerun(vec![owed], sink);
        }
        // What fails here fails on the CPU too, with its message, unless only rows fail that it never sees.
        let Ok(Some(parts)) = self.parts(&owed) else {
            self.shared.cancel.check()?;
            self.shared.fallbacks.add(Fallback::Values);
            return self.rerun(vec![owed], sink);
        };
        if parts.is_empty() {
            self.shared.metrics.rows.add(owed.rows());
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if state.off {
            drop(state);
            return self.rerun(vec![owed], sink);
        }
        let registered = match shared.register(&mut state, &owed, &parts, sink) {
            Ok(registered) => registered,
            Err(Failure::Block) => {
                drop(state);
                self.shared.fallbacks.add(Fallback::Values);
                return self.rerun(vec![owed], sink);
            }
            Err(failure) => {
                let mut all = self.settle(&mut state, failure)?;
                drop(state);
                all.push(owed);
                return self.rerun(all, sink);
            }
        };
        // Taken before the lock is let go: whoever ends the run comes after.
        let mut turn = registered.run.writer(self.number);
        drop(state);
        let pushed = push(&mut turn, &parts, &registered.columns);
        let Err(failure) = pushed else { return Ok(()) };
        // Before anyone who waits for the turn ends the run, and takes these rows for done.
        turn.fail();
        drop(turn);
        let mut state = shared.lock();
        // Whoever turned the device off has these rows, too.
        let all = if state.off { vec![] } else { self.settle(&mut state, failure)? };
        drop(state);
        self.rerun(all, sink)
    }

    /// The groups of all workers' rows into `sink`. Called once, after the last block of the last worker.
    ///
    /// # Errors
    /// As [`GroupsWorker::owed`].
    pub(super) fn finish(&mut self, sink: &mut GroupSink) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let Err(failure) = shared.commit(&mut state, sink) else { return Ok(()) };
        let all = self.settle(&mut state, failure)?;
        drop(state);
        self.rerun(all, sink)
    }

    /// After a failure of the device: turns it off and returns the rows that it owes.
    fn settle(&self, state: &mut State, failure: Failure) -> Result<Vec<Owed>> {
        let why = match failure {
            Failure::Query(e) => return Err(e),
            Failure::Device(why) => why,
            Failure::Block => Fallback::Values,
        };
        // A cancelled query also fails on the device.
        self.shared.cancel.check()?;
        self.shared.fallbacks.add(why);
        state.off = true;
        state.run = None;
        state.reservation.free();
        Ok(std::mem::take(&mut state.pending))
    }

    /// The whole program, on the CPU.
    fn rerun(&mut self, owed: Vec<Owed>, sink: &mut GroupSink) -> Result<()> {
        owed.iter().try_for_each(|owed| match owed {
            Owed::Block(block) => self.cpu.block(block, sink),
            Owed::Late(columns, rows) => self.cpu.late(columns, 0..*rows, sink),
        })
    }

    /// The device's inputs and the group keys of the rows that the host leaves; none where a value does
    /// not fit 64 bits.
    fn parts(&mut self, owed: &Owed) -> Result<Option<Vec<Part>>> {
        let split = &self.shared.split;
        let whole = match owed {
            Owed::Late(columns, rows) if split.host.is_empty() => {
                return Ok(Part::late(columns, *rows, &self.shared)?.map(|part| vec![part]));
            }
            Owed::Block(block) if split.host.is_empty() => {
                let columns = split.reads().map(|r| block.columns[usize::from(r)].clone()).collect();
                Some(Block { columns, rows: block.rows })
            }
            owed => {
                let program = Arc::clone(&self.host.bound.program);
                let mut rows = RowsSink::new(&program, split.reads().collect());
                match owed {
                    Owed::Block(block) => self.host.block(block, &mut rows)?,
                    Owed::Late(columns, len) => self.host.late(columns, 0..*len, &mut rows)?,
                }
                rows.take(&program)?
            }
        };
        Ok(whole.into_iter().filter(|block| block.rows > 0).map(|block| Part::of(block, &self.shared)).collect())
    }
}

/// Packs the rows of `parts` into a run.
fn push(turn: &mut Turn, parts: &[Part], columns: &[(Option<Vec<i32>>, Vec<Vector>)]) -> Result<(), Failure> {
    for (part, (codes, floats)) in parts.iter().zip(columns) {
        let mut columns = part.inputs.iter().map(|v| v.column(part.rows)).collect::<Option<Vec<_>>>().ok_or(NO_COLUMN)?;
        match (&part.keys, codes) {
            (Keys::Coded(codes), _) => columns.push(codes.column(part.rows).ok_or(NO_COLUMN)?),
            (_, codes) => columns.extend(codes.iter().map(|c| HostColumn::new(HostValues::I32(c)))),
        }
        let floats = floats.iter().map(|v| host_column(v, part.rows)).collect::<Option<Vec<_>>>();
        columns.extend(floats.ok_or(NO_COLUMN)?);
        turn.push(&columns, part.rows)?;
    }
    Ok(())
}

/// Rows that are kept until they are in a group sink.
#[derive(Clone)]
pub(in crate::run) enum Owed {
    Block(Arc<Block>),
    /// So many rows of a table in memory.
    Late(LateColumns, usize),
}

impl Owed {
    fn rows(&self) -> usize {
        match self {
            Self::Block(block) => block.rows,
            Self::Late(_, rows) => *rows,
        }
    }

    /// Bytes held for them alone.
    fn held(&self) -> usize {
        match self {
            Self::Block(block) => block.columns.iter().map(vector_size).sum(),
            Self::Late(..) => 0,
        }
    }
}

/// What the device is given of some rows, and what the host makes codes and integers of.
struct Part {
    inputs: Vec<Input>,
    keys: Keys,
    floats: Vec<Vector>,
    rows: usize,
}

enum Keys {
    /// To be looked up by one worker at a time.
    Looked(Vec<Vector>),
    /// Their codes.
    Coded(Input),
}

impl Part {
    /// A block with the columns that the split of `run` reads; none where a value does not fit 64 bits or has no code.
    fn of(mut block: Block, run: &DeviceGroups) -> Option<Self> {
        let mut keys = block.columns.split_off(run.split.inputs.len());
        let floats = keys.split_off(run.split.keys.len());
        let inputs = block.columns.into_iter().map(|v| Some(Input::Host(narrowed(v)?, None))).collect::<Option<Vec<_>>>()?;
        let keys = match &run.direct {
            Some(direct) => Keys::Coded(Input::Host(direct.codes(&keys, block.rows)?, None)),
            None => Keys::Looked(keys),
        };
        Some(Self { inputs, keys, floats, rows: block.rows })
    }

    /// So many rows of `columns`; as [`Part::of`].
    fn late(columns: &LateColumns, rows: usize, run: &DeviceGroups) -> Result<Option<Self>> {
        let mut columns = columns.lock().map_err(|_| Error::bug("a reader panicked"))?;
        let (split, program) = (&run.split, &run.whole.program);
        let input = |r: &Reg| Input::read(&mut *columns, (*r, program.ty(*r)), (0, rows), &run.place);
        let Some(inputs) = split.inputs.iter().map(input).collect::<Result<Option<Vec<_>>>>()? else { return Ok(None) };
        let piece =
            columns.codes_piece(&split.keys.iter().map(|r| usize::from(*r)).collect::<Vec<_>>(), 0).filter(|_| run.direct.is_some());
        let kept = piece.and_then(|p| run.place.device.kept(&p, rows, run.place.moment));
        let mut read = |r: &Reg| columns.column(usize::from(*r), 0, rows, None);
        let floats = split.floats.iter().map(|(r, _)| read(r)).collect::<Result<Vec<_>>>()?;
        let keys = match (kept, &run.direct) {
            (Some(kept), _) => Keys::Coded(Input::Kept(kept)),
            (None, direct) => {
                let keys = split.keys.iter().map(&mut read).collect::<Result<Vec<_>>>()?;
                match direct {
                    None => Keys::Looked(keys),
                    Some(direct) => {
                        let Some(codes) = direct.codes(&keys, rows) else { return Ok(None) };
                        Keys::Coded(Input::Host(codes, piece))
                    }
                }
            }
        };
        Ok(Some(Self { inputs, keys, floats, rows }))
    }
}
