//! One chunk through a program on the CPU.
//!
//! A filter or a probe starts a new generation of rows; a register stays at the generation it was
//! written in and is gathered once, when an instruction of a later generation reads it.
//!
//! A filter that keeps most rows of a chunk starts none: its mask goes along, instructions run over the dead
//! rows too, and a sink that can leaves them out. Where an instruction fails, which it may on a dead row, the
//! live rows are taken out first and it runs again.

use super::Bound;
use super::divide::Diverted;
use crate::convert::{Block, Reader, to_array};
use crate::program::Call;
use crate::{Cancel, Error, Result};
use arrow::array::{Array, RecordBatch, RecordBatchOptions};
use datafusion::logical_expr::ColumnarValue;
use millstream_kernels::filter::{Selection, select_mask};
use millstream_kernels::gpu::Piece;
use millstream_kernels::join::ProbeScratch;
use millstream_kernels::program::{Instr, Reg};
use millstream_kernels::{Buf, Strings, Values, Vector, arith, bins, boolean, cast, compare, filter, gather, text};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Rows stay where they are, behind a mask, as long as so many of a hundred are live: if the live ones are taken out at
/// the sink at the latest, and if the sink takes the mask.
const MASKED: (usize, usize) = (75, 33);

/// Where the rows of a chunk go at the end of the program.
pub trait RowSink {
    /// Whether [`RowSink::consume`] leaves out the rows that the mask of `regs` has as dead.
    fn takes_masked(&self) -> bool {
        false
    }

    /// Takes the live rows: the sink reads its registers from `regs`.
    ///
    /// # Errors
    /// What the sink's kernels raise.
    fn consume(&mut self, regs: &mut Registers) -> Result<()>;
}

/// Columns that are read only where, and only for the rows that, somebody asks for.
pub trait Columns {
    /// Column `c` of the rows `start .. start + len`, or of those that `picked` names among them
    /// (relative to `start`). Chunks are asked for in ascending order, each as often as needed.
    ///
    /// # Errors
    /// `Invalid` when the data cannot be decoded; the message says where.
    fn column(&mut self, c: usize, start: usize, len: usize, picked: Option<&[u32]>) -> Result<Vector>;

    /// What the rows of column `c` from `start` on are, where they are of a table that never changes: a device that has
    /// them need not be given them again.
    fn piece(&self, _c: usize, _start: usize) -> Option<Piece> {
        None
    }

    /// The same of the codes that columns have together as group keys.
    fn codes_piece(&self, _columns: &[usize], _start: usize) -> Option<Piece> {
        None
    }
}

/// Columns of one worker at a time, which may go on on another thread.
pub type LateColumns = Arc<Mutex<dyn Columns + Send>>;

/// Where the inputs of a chunk are read when an instruction first needs them.
#[derive(Clone)]
struct Late {
    columns: LateColumns,
    inputs: usize,
    start: usize,
    len: usize,
}

/// The registers of one chunk.
#[derive(Clone, Default)]
pub struct Registers {
    slots: Vec<Option<(usize, Vector)>>,
    late: Option<Late>,
    /// Rows of the current generation.
    pub rows: usize,
    /// 1 = live, for each row of the current generation; absent when all are.
    mask: Option<Vec<u8>>,
    /// `steps[g]`: row of generation `g` behind each row of generation `g + 1`.
    steps: Vec<Arc<Vec<u32>>>,
    /// Row of generation `g` behind each live row, as far as composed: (up to generation, rows).
    composed: HashMap<usize, (usize, Arc<Vec<u32>>)>,
}

impl Registers {
    /// Empty registers for a program with `registers` of them.
    pub fn new(registers: usize, rows: usize) -> Self {
        Self { slots: vec![None; registers], late: None, rows, mask: None, steps: vec![], composed: HashMap::new() }
    }

    /// Registers of `registers` whose first `inputs` are read late, from the rows `start .. start + rows`.
    pub(super) fn late(registers: usize, inputs: usize, columns: &LateColumns, start: usize, rows: usize) -> Self {
        let late = Some(Late { columns: Arc::clone(columns), inputs, start, len: rows });
        Self { late, ..Self::new(registers, rows) }
    }

    /// Writes a register at the current generation.
    pub fn set(&mut self, r: Reg, v: Vector) {
        self.slots[r as usize] = Some((self.steps.len(), v));
    }

    /// Brings a register to the current generation.
    ///
    /// # Errors
    /// `Bug` when it was never written.
    pub fn sync(&mut self, r: Reg) -> Result<()> {
        let now = self.steps.len();
        let (at, constant) = match &self.slots[r as usize] {
            Some((at, v)) => (*at, v.constant),
            None => return self.fetch(r),
        };
        if at == now {
            return Ok(());
        }
        let rows = if constant { None } else { Some(self.rows_of(at)) };
        if let Some((at, v)) = &mut self.slots[r as usize] {
            if let Some(rows) = rows {
                *v = gather::gather(v, &rows)?;
            }
            *at = now;
        }
        Ok(())
    }

    /// Reads an input for the rows that are live by now.
    fn fetch(&mut self, r: Reg) -> Result<()> {
        let late = self.late.clone().filter(|l| (r as usize) < l.inputs);
        let late = late.ok_or_else(|| Error::bug(format!("register {r} is read before it is written")))?;
        let rows = if self.steps.is_empty() { None } else { Some(self.rows_of(0)) };
        let mut columns = late.columns.lock().map_err(|_| Error::bug("a reader panicked"))?;
        let v = columns.column(r as usize, late.start, late.len, rows.as_ref().map(|r| r.as_slice()))?;
        self.slots[r as usize] = Some((self.steps.len(), v));
        Ok(())
    }

    /// Whether a register has been written.
    pub fn is_written(&self, r: Reg) -> bool {
        self.slots.get(usize::from(r)).is_some_and(Option::is_some)
    }

    /// A register at the current generation; `sync` it first.
    ///
    /// # Errors
    /// `Bug` when it was never written.
    pub fn get(&self, r: Reg) -> Result<&Vector> {
        match &self.slots[r as usize] {
            Some((_, v)) => Ok(v),
            None => Err(Error::bug(format!("register {r} is read before it is written"))),
        }
    }

    /// Row of generation `g` behind each live row.
    fn rows_of(&mut self, g: usize) -> Arc<Vec<u32>> {
        let now = self.steps.len();
        let (mut at, mut rows) = match self.composed.get(&g) {
            Some((at, rows)) => (*at, Arc::clone(rows)),
            None => (g + 1, Arc::clone(&self.steps[g])),
        };
        while at < now {
            rows = Arc::new(self.steps[at].iter().map(|r| rows[*r as usize]).collect());
            at += 1;
        }
        self.composed.insert(g, (now, Arc::clone(&rows)));
        rows
    }

    /// Drops the rows where `keep`, one byte a row, is 0. `to_sink`: the sink takes rows behind a mask.
    pub fn keep(&mut self, mut keep: Vec<u8>, to_sink: bool) {
        if let Some(mask) = &self.mask {
            keep.iter_mut().zip(mask).for_each(|(k, m)| *k &= m);
        }
        let live = filter::count(&keep);
        let least = if to_sink { MASKED.1 } else { MASKED.0 };
        let masked = live < self.rows && live * 100 >= self.rows * least;
        self.mask = Some(keep).filter(|_| live < self.rows);
        if !masked {
            self.settle();
        }
    }

    /// 1 = live, for each row; absent when all are.
    pub fn mask(&self) -> Option<&[u8]> {
        self.mask.as_deref()
    }

    /// Takes the live rows out from among the dead ones. Whether there were any.
    pub fn settle(&mut self) -> bool {
        let Some(mask) = self.mask.take() else { return false };
        if let Selection::Rows(rows) = select_mask(&mask) {
            self.advance(rows);
        }
        true
    }

    /// Starts a generation: its row `i` is row `rows[i]` of the current one, whose mask is settled.
    pub fn advance(&mut self, rows: Vec<u32>) {
        self.rows = rows.len();
        self.steps.push(Arc::new(rows));
    }
}

/// Runs chunks: the program's state that one worker keeps between chunks.
pub struct Chunks {
    pub(super) bound: Arc<Bound>,
    pub(super) probes: Vec<ProbeScratch>,
    /// Results of calls over the entries of the dictionary seen last, by call.
    memo: HashMap<u16, (u64, Option<Vector>)>,
    /// Entries already compared with a constant, by the register of the result.
    compared: HashMap<Reg, compare::EntryMemo>,
    pub(super) cancel: Cancel,
    /// The probes of tables on disk, where rows wait.
    pub(super) diverted: Vec<Diverted>,
}

impl Chunks {
    /// A worker's state.
    pub fn new(bound: Arc<Bound>, cancel: Cancel) -> Self {
        let probes = bound.tables.iter().map(|_| ProbeScratch::default()).collect();
        Self { bound, probes, memo: HashMap::new(), compared: HashMap::new(), cancel, diverted: vec![] }
    }

    /// Runs a block, chunk by chunk.
    ///
    /// # Errors
    /// What an instruction raises on a live row; `Closed` when cancelled.
    pub fn block(&mut self, block: &Block, sink: &mut dyn RowSink) -> Result<()> {
        let size = self.bound.program.chunk_rows();
        let mut at = 0;
        while at < block.rows {
            self.cancel.check()?;
            let len = size.min(block.rows - at);
            let mut regs = Registers::new(self.bound.program.types.len(), len);
            for (r, c) in block.columns.iter().enumerate() {
                regs.set(r as Reg, c.slice(at, len));
            }
            self.run(regs, 0, sink)?;
            at += len;
        }
        Ok(())
    }

    /// Runs the rows `rows` of `columns`, chunk by chunk; an input is read when an instruction needs it,
    /// for the rows that are live by then.
    ///
    /// # Errors
    /// As [`Chunks::block`], and what `columns` raises.
    pub fn late(&mut self, columns: &LateColumns, rows: Range<usize>, sink: &mut dyn RowSink) -> Result<()> {
        let program = Arc::clone(&self.bound.program);
        let mut at = rows.start;
        while at < rows.end {
            self.cancel.check()?;
            let len = program.chunk_rows().min(rows.end - at);
            self.run(Registers::late(program.types.len(), program.inputs.len(), columns, at, len), 0, sink)?;
            at += len;
        }
        Ok(())
    }

    /// Runs the program from instruction `from`.
    pub(super) fn run(&mut self, mut regs: Registers, from: usize, sink: &mut dyn RowSink) -> Result<()> {
        let bound = Arc::clone(&self.bound);
        // Where live rows are taken out for another reason than the sink.
        let settled = |i: &Instr| matches!(i, Instr::Probe(_) | Instr::Call { .. });
        let last = if sink.takes_masked() { bound.program.instrs.iter().rposition(settled).map_or(0, |at| at + 1) } else { usize::MAX };
        for (at, instr) in bound.program.instrs.iter().enumerate().skip(from) {
            if regs.rows == 0 {
                return Ok(());
            }
            match instr {
                Instr::Filter { cond } => {
                    regs.sync(*cond)?;
                    regs.keep(boolean::is_true(regs.get(*cond)?, regs.rows)?, at >= last);
                }
                Instr::Probe(p) => {
                    regs.settle();
                    let Some(r) = self.divert(at, regs)? else { return Ok(()) };
                    let Some(r) = self.probe(p, r, at, sink)? else { return Ok(()) };
                    regs = r;
                }
                instr => {
                    // A call is DataFusion's: what it does with a row is not known here.
                    if matches!(instr, Instr::Call { .. }) {
                        regs.settle();
                    }
                    if let Err(e) = self.step(instr, &mut regs) {
                        // It may have failed on a dead row.
                        if !regs.settle() {
                            return Err(e);
                        }
                        self.step(instr, &mut regs)?;
                    }
                }
            }
        }
        if !sink.takes_masked() {
            regs.settle();
        }
        if regs.rows > 0 { sink.consume(&mut regs) } else { Ok(()) }
    }

    /// Runs an instruction that keeps the rows as they are.
    pub(super) fn step(&mut self, instr: &Instr, regs: &mut Registers) -> Result<()> {
        for r in instr.reads() {
            regs.sync(r)?;
        }
        let n = regs.rows;
        let out = match instr {
            Instr::Const { constant, .. } => self.bound.constants[*constant as usize].clone(),
            Instr::Compare { op, a, b, out } => {
                let (a, b) = (regs.get(*a)?, regs.get(*b)?);
                compare::compare_remembered(*op, a, b, n, self.compared.entry(*out).or_default())?
            }
            Instr::Arith { op, a, b, ty, checked, .. } => arith::arith(*op, regs.get(*a)?, regs.get(*b)?, *ty, *checked, n)?,
            Instr::Bool { op, a, b, .. } => boolean::logic(*op, regs.get(*a)?, regs.get(*b)?, n)?,
            Instr::Not { a, .. } => boolean::not(regs.get(*a)?, n)?,
            Instr::IsNull { a, negated, .. } => boolean::is_null(regs.get(*a)?, *negated, n),
            Instr::Select { cond, a, b, .. } => boolean::select(regs.get(*cond)?, regs.get(*a)?, regs.get(*b)?, n)?,
            Instr::Cast { a, to, scale, .. } => cast::cast(regs.get(*a)?, *to, *scale)?,
            Instr::Bin { a, width, origin, unit, .. } => bins::bin(regs.get(*a)?, *width, *origin, *unit)?,
            Instr::Like { a, pattern, negated, .. } => text::like(regs.get(*a)?, pattern, *negated, n)?,
            Instr::Call { call, inputs, .. } => self.call(*call, inputs, regs)?,
            Instr::Gather { table, column, rows, .. } => {
                let built = &self.bound.tables[*table as usize];
                let Values::I32(rows) = &regs.get(*rows)?.values else {
                    return Err(Error::bug("row ids expected"));
                };
                gather::gather_outer(&built.columns[*column as usize], rows)?
            }
            Instr::Filter { .. } | Instr::Probe(_) => return Err(Error::bug("not a row-keeping instruction")),
        };
        if let Some(r) = instr.out() {
            regs.set(r, out);
        }
        Ok(())
    }

    fn call(&mut self, call: u16, inputs: &[Reg], regs: &Registers) -> Result<Vector> {
        let bound = Arc::clone(&self.bound);
        let c = &bound.program.calls[call as usize];
        if let ([r], true) = (inputs, c.per_entry) {
            let v = regs.get(*r)?;
            if let (Values::Str(Strings::Dict { codes, dict }), None, false) = (&v.values, &v.valid, v.constant) {
                let known = self.memo.get(&call).is_some_and(|(id, _)| *id == dict.id());
                if !known {
                    // An entry that no row has may raise: then the rows decide.
                    let entries = Vector::new(Values::Str(Strings::Dict {
                        codes: Buf::from((0..dict.values().len() as i32).collect::<Vec<_>>()),
                        dict: Arc::clone(dict),
                    }));
                    let result = evaluate(c, &[&entries], dict.values().len()).ok();
                    self.memo.insert(call, (dict.id(), result));
                }
                if let Some((_, Some(result))) = self.memo.get(&call) {
                    let rows: Vec<u32> = codes[..regs.rows].iter().map(|c| *c as u32).collect();
                    return Ok(gather::gather(result, &rows)?);
                }
            }
        }
        let inputs = inputs.iter().map(|r| regs.get(*r)).collect::<Result<Vec<_>>>()?;
        evaluate(c, &inputs, regs.rows)
    }
}

/// A call over rows.
pub(super) fn evaluate(c: &Call, inputs: &[&Vector], rows: usize) -> Result<Vector> {
    let columns = inputs.iter().zip(c.inputs.fields()).map(|(v, f)| to_array(v, f.data_type(), rows)).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::clone(&c.inputs), columns, &options)?;
    match c.expr.evaluate(&batch)? {
        ColumnarValue::Array(a) => Reader::default().vector(&a),
        ColumnarValue::Scalar(s) => {
            let v = Reader::default().vector(&s.to_array()?)?;
            Ok(Vector { constant: true, ..v })
        }
    }
}
