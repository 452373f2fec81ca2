//! A group stage whose groups the device makes.
//!
//! Every worker of the pool decodes blocks and runs the host's part of the program ([`super::split`]); one run
//! on the device takes the rows of all of them. When the run ends its groups are added to a worker's
//! group sink, so that merging, carrying over epochs and finishing are the CPU's.
//!
//! A block is kept until its rows are in a group sink. Whatever fails on the device, the blocks that it
//! still owes and all that follow go through the whole program on the CPU: no source is read twice, no
//! row counts twice. Memory for kept blocks is reserved; where it is refused, the run ends early.

use super::super::chunk::Chunks;
use super::super::metrics::GpuMetrics;
use super::super::sink::{Computed, GroupSink, RowsSink};
use super::super::{Bound, vector_size};
use super::floats;
use super::split::{self, Form, Made, Split, TableKey};
use super::table::{DeviceTable, host_column, narrowed};
use super::{Opening, device};
use crate::context::Cancel;
use crate::convert::Block;
use crate::program::{Program, Sink};
use crate::{Error, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::metrics::Count;
use millstream_kernels::gpu::{Device, GroupPartials, GroupRun, HostColumn, HostValues, RunOptions};
use millstream_kernels::group::{Groups, KeyType};
use millstream_kernels::{Values, Vector};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of blocks that wait for the device's answer, at most.
pub(super) const PENDING_BYTES_MAX: usize = 256 << 20;

/// Groups that keys of tables may make together, whether they have rows or not: few enough for an array of them to cost less
/// than probing the tables on the host.
pub(super) const TABLE_GROUPS_MAX: u32 = 1 << 16;

/// What went wrong, by who deals with it.
enum Failure {
    /// The device: the CPU takes over.
    Device,
    /// This block alone: it has values that are not for the device.
    Block,
    /// The query.
    Query(Error),
}

impl From<millstream_kernels::Error> for Failure {
    fn from(_: millstream_kernels::Error) -> Self {
        Failure::Device
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::Query(e)
    }
}

/// The run of a stage on the device, shared by its workers.
pub(in crate::run) struct DeviceGroups {
    device: Arc<Device>,
    split: Split,
    /// The whole program, and the host's part of it.
    whole: Arc<Bound>,
    host: Arc<Bound>,
    tables: Vec<DeviceTable>,
    /// How many codes each key of a table has.
    cardinalities: Vec<u32>,
    cancel: Cancel,
    metrics: GpuMetrics,
    fallbacks: Count,
    state: Mutex<State>,
}

struct State {
    /// What the device counts, and for how many codes.
    run: Option<(GroupRun, usize)>,
    /// Of each entry of the split's floats that are halves: the exponent of the run that is going on.
    exponents: Vec<Option<i32>>,
    /// Codes of the keys.
    groups: Groups,
    /// Blocks with rows that are in no group sink yet.
    pending: Vec<Arc<Block>>,
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
        let Opening { class, whole, cancel, metrics, fallbacks, reservation } = opening;
        let device = device(class)?;
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
        Ok(Arc::new(Self { device, split, whole, host, tables, cardinalities, cancel, metrics, fallbacks, state: Mutex::new(state) }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the host's rows of `block` to the device. Where that is full, groups go into `sink` first.
    fn push(&self, state: &mut State, block: &Arc<Block>, parts: &[Block], sink: &mut GroupSink) -> Result<(), Failure> {
        let (inputs, keys) = (self.split.inputs.len(), self.split.inputs.len() + self.split.keys.len());
        let floats = match self.floats(state, parts) {
            Some(floats) => floats,
            None => {
                self.commit(state, sink)?;
                self.floats(state, parts).ok_or(Failure::Block)?
            }
        };
        let mut codes = vec![];
        for part in parts.iter().filter(|_| !self.split.keys.is_empty()) {
            let mut ids = Vec::with_capacity(part.rows);
            state.groups.ids(&part.columns[inputs..keys].iter().collect::<Vec<_>>(), part.rows, &mut ids)?;
            codes.push(ids.into_iter().map(|id| id as i32).collect::<Vec<i32>>());
        }
        let held = vector_sizes(block);
        let full = state.pending_bytes + held > PENDING_BYTES_MAX;
        let outgrown = state.run.as_ref().is_some_and(|(_, codes)| *codes < state.groups.len());
        if full || outgrown || state.reservation.try_resize(state.pending_bytes + held + state.groups.size()).is_err() {
            self.end_run(state, sink)?;
            // Refused even so: the CPU keeps no blocks.
            state.reservation.try_resize(held + state.groups.size()).map_err(|_| Failure::Device)?;
        }
        state.pending.push(Arc::clone(block));
        state.pending_bytes += held;
        let mut run = match state.run.take() {
            Some(run) => run,
            None => self.prepare(state.groups.len())?,
        };
        for (i, part) in parts.iter().enumerate() {
            let mut columns =
                part.columns[..inputs].iter().map(|v| host_column(v, part.rows)).collect::<Option<Vec<_>>>().ok_or(Failure::Device)?;
            columns.extend(codes.get(i).map(|c| HostColumn::new(HostValues::I32(c))));
            let floats = floats[i].iter().map(|v| host_column(v, part.rows)).collect::<Option<Vec<_>>>();
            columns.extend(floats.ok_or(Failure::Device)?);
            run.0.push(&columns, part.rows)?;
        }
        state.run = Some(run);
        Ok(())
    }

    /// The integers of the floats of each part, in the window of the run that is going on; of a new one where there
    /// is none. None where they are outside of it.
    fn floats(&self, state: &mut State, parts: &[Block]) -> Option<Vec<Vec<Vector>>> {
        let first = self.split.inputs.len() + self.split.keys.len();
        let mut exponents = state.exponents.clone();
        let mut all = vec![];
        for part in parts {
            let mut columns = vec![];
            for ((v, (_, form)), exponent) in part.columns[first..].iter().zip(&self.split.floats).zip(&mut exponents) {
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
    fn prepare(&self, groups: usize) -> Result<(GroupRun, usize), Failure> {
        let mut program = self.split.device.clone();
        program.constants = self.whole.values.clone();
        let codes = groups.max(1).next_power_of_two();
        for (n, (_, cardinality)) in program.keys.iter_mut().enumerate() {
            *cardinality = match self.cardinalities.get(n) {
                Some(of_table) => *of_table,
                None => u32::try_from(codes).map_err(|_| Failure::Device)?,
            };
        }
        let tables = self.tables.iter().map(DeviceTable::host).collect::<Option<Vec<_>>>().ok_or(Failure::Device)?;
        let options = RunOptions { cancel: self.cancel.flag(), ..RunOptions::default() };
        Ok((self.device.prepare(program, &tables, options)?, codes))
    }

    /// The keys of groups of a run, one column a key.
    fn keys(&self, state: &State, partials: &GroupPartials, groups: &[usize]) -> Result<Vec<Vector>> {
        if self.split.table_keys.is_empty() {
            let ids: Vec<u32> = groups.iter().map(|g| *g as u32).collect();
            return Ok(state.groups.keys(&ids)?);
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
        self.metrics.rows.add(state.pending.iter().map(|b| b.rows).sum());
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
    host: Chunks,
    cpu: Chunks,
}

impl GroupsWorker {
    pub(super) fn new(shared: Arc<DeviceGroups>) -> Self {
        let host = Chunks::new(Arc::clone(&shared.host), shared.cancel.clone());
        let cpu = Chunks::new(Arc::clone(&shared.whole), shared.cancel.clone());
        Self { shared, host, cpu }
    }

    /// Takes a block: to the device, or to `sink` where the device cannot.
    ///
    /// # Errors
    /// What the program raises; `Exhausted` when memory for the block is refused; `Closed` when cancelled.
    pub(super) fn block(&mut self, block: Block, sink: &mut GroupSink) -> Result<()> {
        if self.shared.lock().off {
            return self.cpu.block(&block, sink);
        }
        // What fails here fails on the CPU too, with its message, unless only rows fail that it never sees.
        let Ok(Some(parts)) = self.parts(&block) else {
            self.shared.cancel.check()?;
            self.shared.fallbacks.add(1);
            return self.cpu.block(&block, sink);
        };
        if parts.is_empty() {
            self.shared.metrics.rows.add(block.rows);
            return Ok(());
        }
        let block = Arc::new(block);
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if state.off {
            drop(state);
            return self.cpu.block(&block, sink);
        }
        let pushed = shared.push(&mut state, &block, &parts, sink);
        if matches!(pushed, Err(Failure::Block)) {
            drop(state);
            self.shared.fallbacks.add(1);
            return self.cpu.block(&block, sink);
        }
        let mut owed = self.settle(&mut state, pushed)?;
        drop(state);
        if let Some(owed) = &mut owed
            && !owed.last().is_some_and(|b| Arc::ptr_eq(b, &block))
        {
            owed.push(block);
        }
        self.rerun(owed.unwrap_or_default(), sink)
    }

    /// The groups of all workers' rows into `sink`. Called once, after the last block of the last worker.
    ///
    /// # Errors
    /// As [`GroupsWorker::block`].
    pub(super) fn finish(&mut self, sink: &mut GroupSink) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let committed = shared.commit(&mut state, sink);
        let owed = self.settle(&mut state, committed)?;
        drop(state);
        self.rerun(owed.unwrap_or_default(), sink)
    }

    /// After a failure of the device: turns it off and returns the blocks that it owes.
    fn settle(&self, state: &mut State, outcome: Result<(), Failure>) -> Result<Option<Vec<Arc<Block>>>> {
        match outcome {
            Ok(()) => Ok(None),
            Err(Failure::Query(e)) => Err(e),
            Err(Failure::Device | Failure::Block) => {
                // A cancelled query also fails on the device.
                self.shared.cancel.check()?;
                self.shared.fallbacks.add(1);
                state.off = true;
                state.run = None;
                state.reservation.free();
                Ok(Some(std::mem::take(&mut state.pending)))
            }
        }
    }

    fn rerun(&mut self, blocks: Vec<Arc<Block>>, sink: &mut GroupSink) -> Result<()> {
        blocks.iter().try_for_each(|b| self.cpu.block(b, sink))
    }

    /// The device's inputs and the group keys of the rows that the host leaves; none where a value does
    /// not fit 64 bits.
    fn parts(&mut self, block: &Block) -> Result<Option<Vec<Block>>> {
        let split = &self.shared.split;
        let columns: Vec<_> = split.inputs.iter().chain(&split.keys).copied().chain(split.floats.iter().map(|(r, _)| *r)).collect();
        let mut parts = if split.host.is_empty() {
            let columns = columns.iter().map(|r| block.columns[usize::from(*r)].clone()).collect();
            vec![Block { columns, rows: block.rows }]
        } else {
            let program = Arc::clone(&self.host.bound.program);
            let mut rows = RowsSink::new(&program, columns);
            self.host.block(block, &mut rows)?;
            rows.take(&program)?.into_iter().collect()
        };
        parts.retain(|p| p.rows > 0);
        let inputs = split.inputs.len();
        for part in &mut parts {
            let keys = part.columns.split_off(inputs);
            let narrow = std::mem::take(&mut part.columns).into_iter().map(narrowed).collect::<Option<Vec<_>>>();
            let Some(narrow) = narrow else { return Ok(None) };
            part.columns = narrow.into_iter().chain(keys).collect();
        }
        Ok(Some(parts))
    }
}

fn vector_sizes(block: &Block) -> usize {
    block.columns.iter().map(vector_size).sum()
}
