//! A stage whose rows the device filters, probes and computes, block by block; the host goes on with those that survive.
//!
//! The columns of a block that the device does not read stay where they are until an instruction of the rest reads
//! them, for the rows that are live by then. A worker waits for the device's answer to its block, so nothing is owed:
//! a block that the device cannot take runs on the CPU from its beginning.

use super::super::Bound;
use super::super::chunk::{Chunks, LateColumns, Registers, RowSink};
use super::super::metrics::{Fallback, Fallbacks, GpuMetrics};
use super::predicates::{Codes, Remembered};
use super::select::{self, Coded, Lookup, RowSplit};
use super::table::{DeviceTable, Input, Place, narrowed, stays};
use super::{Opening, device};
use crate::context::Cancel;
use crate::convert::Block;
use crate::program::{Program, Sink};
use crate::{Error, Result};
use millstream_kernels::gpu::{HostColumn, HostValues, KeptColumn, Piece, RowRun, Selected, SelectedRows, SelectedValues, Timings};
use millstream_kernels::program::{Instr, Reg, Type};
use millstream_kernels::{ErrorKind, Values, Vector, gather};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The run of a stage on the device, shared by its workers.
pub(in crate::run) struct DeviceRows {
    run: RowRun,
    pub(super) split: RowSplit,
    /// Of each output, how it becomes a register.
    outputs: Vec<Type>,
    /// The whole program, and what is left of it for the rows that survive.
    pub(super) whole: Arc<Bound>,
    rest: Arc<Bound>,
    pub(super) cancel: Cancel,
    metrics: GpuMetrics,
    fallbacks: Fallbacks,
    predicates: Remembered,
    /// The device failed: the CPU does what comes.
    off: AtomicBool,
    place: Place,
}

impl DeviceRows {
    pub(super) fn open(opening: Opening, sink: &Sink) -> Result<Arc<Self>> {
        let Opening { class, memory_bytes, whole, cancel, metrics, fallbacks, .. } = opening;
        let place = Place::new(device(class, memory_bytes)?);
        let program = &whole.program;
        let mut found: Vec<Lookup> = whole
            .tables
            .iter()
            .map(|t| match (t.table.by_code(), t.table.is_unique()) {
                (None, _) => Lookup::No,
                (Some(_), false) => Lookup::First,
                (Some(_), true) => Lookup::Only,
            })
            .collect();
        let (mut split, tables) = loop {
            let split = select::split(program, &sink.reads(), &found);
            let split = split.ok_or_else(|| Error::unsupported("the join tables leave the device nothing to do"))?;
            let ready: Vec<_> = split.tables.iter().map(|part| DeviceTable::new(part, &whole, &cancel)).collect();
            let refused: Vec<u16> = split.tables.iter().zip(&ready).filter(|(_, t)| t.is_none()).map(|(part, _)| part.table).collect();
            if refused.is_empty() {
                break (split, ready.into_iter().flatten().collect::<Vec<_>>());
            }
            refused.iter().for_each(|t| found[usize::from(*t)] = Lookup::No);
        };
        split.device.constants = whole.values.clone();
        let rest = Arc::new(Bound {
            program: Arc::new(Program { instrs: split.rest.clone(), ..program.as_ref().clone() }),
            ..whole.as_ref().clone()
        });
        let tables = tables.iter().map(DeviceTable::host).collect::<Option<Vec<_>>>();
        let tables = tables.ok_or_else(|| Error::bug("a join table that is no table of the device"))?;
        let run = place.device.prepare_rows(split.device.clone(), &tables, place.options(&cancel))?;
        metrics.add(&run.opening());
        let outputs = split.outputs.iter().map(|r| output(program, *r)).collect();
        Ok(Arc::new(Self {
            run,
            split,
            outputs,
            whole,
            rest,
            cancel,
            metrics,
            fallbacks,
            predicates: Remembered::default(),
            off: AtomicBool::new(false),
            place,
        }))
    }

    /// The rows of `read` that survive; none where the device cannot say.
    fn select(&self, read: &Read) -> Result<Option<SelectedRows>> {
        if self.off.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut timings = Timings::default();
        let selected = self.selected(read, &mut timings);
        self.metrics.add(&timings);
        match selected {
            Ok(selected) => {
                self.metrics.rows.add(read.block.rows);
                Ok(Some(selected))
            }
            Err(e) => {
                // A cancelled query also fails on the device.
                self.cancel.check()?;
                self.fallbacks.add(Fallback::of(e.kind()));
                if e.kind() != ErrorKind::Unsupported {
                    self.off.store(true, Ordering::Relaxed);
                }
                Ok(None)
            }
        }
    }

    /// These rows if the device has them.
    pub(super) fn kept(&self, piece: &Piece, rows: usize) -> Option<Arc<KeptColumn>> {
        self.place.device.kept(piece, rows, self.place.moment)
    }

    fn selected(&self, read: &Read, timings: &mut Timings) -> millstream_kernels::Result<SelectedRows> {
        let (block, rows) = (&read.block, read.block.rows);
        let wide = || millstream_kernels::Error::unsupported("a value does not fit 64 bits");
        let input = |reg: &Reg| {
            let r = usize::from(*reg);
            if let Some(kept) = &read.kept[r] {
                return Ok(Input::Kept(Arc::clone(kept)));
            }
            let column = &block.columns[r];
            let column = if column.constant { gather::expand(column, rows)? } else { column.clone() };
            let piece = read.pieces[r].filter(|_| stays(self.whole.program.ty(*reg)));
            narrowed(column).map(|v| Input::Host(v, piece)).ok_or_else(wide)
        };
        let inputs = self.split.inputs.iter().map(input).collect::<millstream_kernels::Result<Vec<Input>>>()?;
        let mut columns = inputs.iter().map(|v| v.column(rows)).collect::<Option<Vec<_>>>().ok_or_else(wide)?;
        let coded = |c: &Coded| {
            let keys: Vec<&Vector> = c.keys.iter().map(|r| &block.columns[usize::from(*r)]).collect();
            let (codes, found) = self.whole.tables[usize::from(c.table)].table.codes(&keys, rows)?;
            Ok((codes.into_iter().map(|c| c as i64).collect::<Vec<_>>(), found))
        };
        let codes = self.split.coded.iter().map(coded).collect::<millstream_kernels::Result<Vec<_>>>()?;
        let coded = |(codes, found)| HostColumn { valid: Some(found), ..HostColumn::new(HostValues::I64(codes)) };
        columns.extend(codes.iter().map(|(codes, found)| coded((codes, found))));
        let found = self.split.predicates.iter().enumerate().map(|(n, p)| self.predicates.of(n, p, read, self));
        let found = found.collect::<millstream_kernels::Result<Vec<_>>>()?;
        columns.extend(found.iter().map(Codes::column));
        let sets: Vec<&[u32]> = found.iter().map(|f| f.set.as_slice()).collect();
        self.run.select(&columns, &sets, rows, timings)
    }
}

/// What the device reads of some rows.
pub(super) struct Read {
    /// The columns that the host has read; nothing in place of the others.
    pub block: Block,
    /// By column, what is on the device and was not read.
    kept: Vec<Option<Arc<KeptColumn>>>,
    /// By column, what was read is.
    pub pieces: Vec<Option<Piece>>,
}

impl Read {
    /// A block, of no table.
    fn block(block: &Block) -> Self {
        let columns = block.columns.len();
        Self { block: block.clone(), kept: vec![None; columns], pieces: vec![None; columns] }
    }

    /// These rows of `columns`, of which the device reads `reads`.
    fn late(columns: &LateColumns, rows: &Range<usize>, reads: &[Reg], inputs: usize, run: &DeviceRows) -> Result<Self> {
        let nothing = Vector::new(Values::Bool(Vec::new().into()));
        let block = Block { columns: vec![nothing; inputs], rows: rows.len() };
        let mut read = Self { block, kept: vec![None; inputs], pieces: vec![None; inputs] };
        let mut columns = columns.lock().map_err(|_| Error::bug("a reader panicked"))?;
        for r in reads {
            let c = usize::from(*r);
            read.pieces[c] = columns.piece(c, rows.start);
            if stays(run.whole.program.ty(*r)) && !run.split.is_read_here(*r) {
                read.kept[c] = read.pieces[c].and_then(|p| run.kept(&p, rows.len()));
            }
            if read.kept[c].is_none() {
                read.block.columns[c] = columns.column(c, rows.start, rows.len(), None)?.shared();
            }
        }
        Ok(read)
    }
}

/// What the values of an output are in a register: row ids are numbers of 32 bits whatever is said of their type.
fn output(program: &Program, r: Reg) -> Type {
    let is_row = program.instrs.iter().any(|i| matches!(i, Instr::Probe(p) if p.rows == r));
    if is_row { Type::I32 } else { program.ty(r) }
}

/// Values that came back, as a register.
fn register(selected: Selected, ty: Type) -> Vector {
    let values = match (selected.values, ty) {
        (SelectedValues::Bool(v), _) => Values::Bool(v.into()),
        (SelectedValues::I32(v), Type::I32) => Values::I32(v.into()),
        // The literal null.
        (SelectedValues::I32(v), Type::Bool) => Values::Bool(vec![0; v.len()].into()),
        (SelectedValues::I32(v), _) => Values::I64(v.into_iter().map(i64::from).collect::<Vec<_>>().into()),
        (SelectedValues::I64(v), _) => Values::I64(v.into()),
    };
    Vector::with_valid(values, selected.valid.map(Into::into)).shared()
}

/// One worker of a stage on the device.
pub(in crate::run) struct RowsWorker {
    shared: Arc<DeviceRows>,
    rest: Chunks,
    cpu: Chunks,
}

impl RowsWorker {
    pub(super) fn new(shared: Arc<DeviceRows>) -> Self {
        let rest = Chunks::new(Arc::clone(&shared.rest), shared.cancel.clone());
        let cpu = Chunks::new(Arc::clone(&shared.whole), shared.cancel.clone());
        Self { shared, rest, cpu }
    }

    pub(super) fn program(&self) -> &Arc<Program> {
        &self.shared.whole.program
    }

    pub(super) fn block(&mut self, block: &Block, sink: &mut dyn RowSink) -> Result<()> {
        match self.shared.select(&Read::block(block))? {
            Some(selected) => {
                let registers = self.shared.whole.program.types.len();
                let shared: Vec<Vector> = block.columns.iter().map(|c| c.clone().shared()).collect();
                self.go_on(selected, sink, |first, span| {
                    let mut regs = Registers::new(registers, span);
                    shared.iter().enumerate().for_each(|(r, c)| regs.set(r as Reg, c.slice(first, span)));
                    regs
                })
            }
            None => self.cpu.block(block, sink),
        }
    }

    /// Takes the rows `rows` of `columns`: what the device reads, and does not have, is decoded for all of them, anything
    /// else for those that survive.
    pub(super) fn late(&mut self, columns: &LateColumns, rows: Range<usize>, sink: &mut dyn RowSink) -> Result<()> {
        let program = Arc::clone(self.program());
        let (registers, inputs, len) = (program.types.len(), program.inputs.len(), rows.len());
        let mut reads = self.shared.split.reads();
        let read = Read::late(columns, &rows, &reads, inputs, &self.shared)?;
        reads.retain(|r| read.kept[usize::from(*r)].is_none());
        let start = |first: usize, span: usize| {
            let mut regs = Registers::late(registers, inputs, columns, rows.start + first, span);
            reads.iter().for_each(|r| regs.set(*r, read.block.columns[usize::from(*r)].slice(first, span)));
            regs
        };
        match self.shared.select(&read)? {
            Some(selected) => self.go_on(selected, sink, start),
            None => {
                let chunk = program.chunk_rows();
                (0..len).step_by(chunk).try_for_each(|first| {
                    self.shared.cancel.check()?;
                    self.cpu.run(start(first, chunk.min(len - first)), 0, sink)
                })
            }
        }
    }

    /// Build rows that a probe still owes: on the CPU, which knows what was found.
    pub(super) fn tail(&mut self, at: usize, range: Range<usize>, sink: &mut dyn RowSink) -> Result<()> {
        self.cpu.tail(at, range, sink)
    }

    /// Runs the rest of the program for the rows that survive, chunk by chunk. `start` makes the registers of so many
    /// rows from one on.
    fn go_on(&mut self, selected: SelectedRows, sink: &mut dyn RowSink, start: impl Fn(usize, usize) -> Registers) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let outputs = selected.columns.into_iter().zip(&shared.outputs).map(|(column, ty)| register(column, *ty));
        let outputs: Vec<(Reg, Vector)> = shared.split.outputs.iter().copied().zip(outputs).collect();
        let mut at = 0;
        for rows in selected.rows.chunks(shared.rest.program.chunk_rows()) {
            shared.cancel.check()?;
            let (first, last) = (rows[0], rows[rows.len() - 1]);
            let span = (last - first) as usize + 1;
            let mut regs = start(first as usize, span);
            if span > rows.len() {
                regs.advance(rows.iter().map(|row| row - first).collect());
            }
            outputs.iter().for_each(|(r, v)| regs.set(*r, v.slice(at, rows.len())));
            at += rows.len();
            self.rest.run(regs, 0, sink)?;
        }
        Ok(())
    }
}
