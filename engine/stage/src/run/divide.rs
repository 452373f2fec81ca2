//! A join whose build side the memory does not hold: both sides go to disk, divided by a hash of their
//! keys, and are joined part by part.
//!
//! A program is left where it probes such a table: the registers that the rest of it reads are written, and
//! read again when the table's part is in memory. A part that is still too large is divided again.

use super::chunk::{Chunks, Registers, RowSink};
use super::flush::PARTS;
use super::sink::{RowsSink, build};
use super::spill::{self, Piece, Spilled, Spiller, Writer};
use super::{Bound, Built, Held, vector_size};
use crate::convert::Block;
use crate::program::{Instr, Program, Reg, Sink};
use crate::{Cancel, Error, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use millstream_kernels::group::stable_hash;
use millstream_kernels::{Vector, gather, hash};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Bytes of rows that wait to be written.
const BUFFER: usize = 8 << 20;

/// Writes rows to disk, divided by a hash of their first columns.
pub(super) struct Divider {
    spiller: Spiller,
    cancel: Cancel,
    keys: usize,
    level: u32,
    file: Option<Writer>,
    parts: Vec<Vec<Piece>>,
}

/// Rows on disk, divided by part.
pub(super) struct Rows {
    file: Spilled,
    parts: Vec<Vec<Piece>>,
}

impl Divider {
    /// For rows whose first `keys` columns are the keys, divided `level` times before.
    pub(super) fn new(spiller: &Spiller, cancel: &Cancel, keys: usize, level: u32) -> Self {
        Self { spiller: spiller.clone(), cancel: cancel.clone(), keys, level, file: None, parts: vec![vec![]; PARTS] }
    }

    /// Writes these rows.
    ///
    /// # Errors
    /// A full disk; `Closed` when cancelled; what the kernels raise.
    pub(super) fn write(&mut self, block: &Block) -> Result<()> {
        let mut hashes = vec![0u64; block.rows];
        block.columns[..self.keys].iter().try_for_each(|k| stable_hash(k, &mut hashes))?;
        // The join table's own hash must not be the same in all rows of a part.
        let part = |h: &u64| (hash::word(h ^ u64::from(self.level + 1)) >> 32) as usize % PARTS;
        let mut rows: Vec<Vec<u32>> = vec![vec![]; PARTS];
        hashes.iter().enumerate().for_each(|(i, h)| rows[part(h)].push(i as u32));
        let file = match &mut self.file {
            Some(f) => f,
            none => none.insert(self.spiller.file()?),
        };
        for (rows, pieces) in rows.iter().zip(&mut self.parts).filter(|(r, _)| !r.is_empty()) {
            self.cancel.check()?;
            let columns = block.columns.iter().map(|c| spill::stored(&gather::gather(c, rows)?, rows.len()));
            pieces.push(file.write(columns.collect::<Result<_>>()?, rows.len())?);
        }
        Ok(())
    }

    /// What was written, none where nothing was.
    ///
    /// # Errors
    /// As [`Divider::write`].
    pub(super) fn finish(self) -> Result<Option<Rows>> {
        let parts = self.parts;
        self.file.map(|f| Ok(Rows { file: f.finish()?, parts })).transpose()
    }
}

impl Rows {
    /// How many pieces part `part` has.
    pub(super) fn pieces(&self, part: usize) -> usize {
        self.parts[part].len()
    }

    /// Piece `piece` of part `part`.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn read(&self, part: usize, piece: usize) -> Result<Block> {
        let piece = self.parts[part][piece];
        let columns = self.file.read(piece)?;
        Ok(Block { columns: spill::block(&columns, piece.rows)?.columns.into_iter().map(Vector::shared).collect(), rows: piece.rows })
    }

    /// The rows of part `part`, divided anew.
    fn divided(files: &[Rows], part: usize, mut into: Divider) -> Result<Vec<Rows>> {
        for f in files {
            (0..f.pieces(part)).try_for_each(|piece| into.write(&f.read(part, piece)?))?;
        }
        Ok(into.finish()?.into_iter().collect())
    }
}

/// A build side on disk.
pub struct DiskBuild {
    pub(super) files: Vec<Rows>,
    pub(super) program: Arc<Program>,
    pub(super) sink: Sink,
    pub(super) spiller: Spiller,
    /// Of the consumer that a part's table is charged to; empty.
    pub(super) reservation: MemoryReservation,
}

impl std::fmt::Debug for DiskBuild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DiskBuild({} files)", self.files.len())
    }
}

impl DiskBuild {
    /// The table of part `part`.
    ///
    /// # Errors
    /// `Exhausted` when the memory does not hold it; what the disk says.
    pub(super) fn table(&self, part: usize) -> Result<Built> {
        let held = self.reservation.new_empty();
        let mut blocks = vec![];
        for f in &self.files {
            for piece in 0..f.pieces(part) {
                let block = f.read(part, piece)?;
                // As rows, as columns, and under them the table.
                held.try_grow(2 * size(&block) + TABLE_ROW * block.rows)?;
                blocks.push(block);
            }
        }
        let built = build(blocks, &self.program, &self.sink)?;
        held.resize(built.size());
        Ok(built.holding(Held::new(held)))
    }

    /// A table without rows.
    ///
    /// # Errors
    /// As [`build`].
    pub(super) fn nothing(&self) -> Result<Built> {
        build(vec![], &self.program, &self.sink)
    }

    fn keys(&self) -> usize {
        if let Sink::Build { keys, .. } = &self.sink { keys.len() } else { 0 }
    }

    /// Part `part` of both sides, divided anew.
    ///
    /// # Errors
    /// As [`Divider::write`].
    pub(super) fn divided(&self, probe: &[Rows], part: usize, level: u32, cancel: &Cancel) -> Result<(Self, Vec<Rows>)> {
        let into = || Divider::new(&self.spiller, cancel, self.keys(), level);
        let build = Self {
            files: Rows::divided(&self.files, part, into())?,
            program: Arc::clone(&self.program),
            sink: self.sink.clone(),
            spiller: self.spiller.clone(),
            reservation: self.reservation.new_empty(),
        };
        Ok((build, Rows::divided(probe, part, into())?))
    }
}

/// Bytes of a join table for each row, about.
pub(super) const TABLE_ROW: usize = 16;

/// Bytes of a block.
pub(super) fn size(block: &Block) -> usize {
    block.columns.iter().map(vector_size).sum()
}

/// Where a worker's rows wait for the parts of a build side on disk.
pub(super) struct Diverted {
    /// The probe's place in the program.
    pub(super) at: usize,
    registers: Arc<Vec<Reg>>,
    rows: RowsSink,
    divider: Divider,
}

impl Diverted {
    /// For the probe at instruction `at` of `program`, whose rows go on to `sink`.
    pub(super) fn new(program: &Program, sink: &Sink, at: usize, spiller: &Spiller, cancel: &Cancel) -> Result<Self> {
        let Some(Instr::Probe(p)) = program.instrs.get(at) else { return Err(Error::bug("a detour at an instruction that is no probe")) };
        let others = live(program, sink, at).into_iter().filter(|r| !p.keys.contains(r));
        let registers: Vec<Reg> = p.keys.iter().copied().chain(others).collect();
        let rows = RowsSink::new(program, registers.clone());
        Ok(Self { at, registers: Arc::new(registers), rows, divider: Divider::new(spiller, cancel, p.keys.len(), 0) })
    }

    /// The registers of a row, in the order of its columns on disk.
    pub(super) fn registers(&self) -> Arc<Vec<Reg>> {
        Arc::clone(&self.registers)
    }

    /// Takes the live rows.
    ///
    /// # Errors
    /// As [`Divider::write`].
    pub(super) fn take(&mut self, mut regs: Registers, program: &Program) -> Result<()> {
        self.rows.consume(&mut regs)?;
        if self.rows.size() >= BUFFER { self.write(program) } else { Ok(()) }
    }

    fn write(&mut self, program: &Program) -> Result<()> {
        match self.rows.take(program)? {
            Some(block) => self.divider.write(&block),
            None => Ok(()),
        }
    }

    /// What is on disk.
    ///
    /// # Errors
    /// As [`Divider::write`].
    pub(super) fn finish(mut self, program: &Program) -> Result<Option<Rows>> {
        self.write(program)?;
        self.divider.finish()
    }
}

/// The registers that are written before instruction `at` and read from there on.
fn live(program: &Program, sink: &Sink, at: usize) -> BTreeSet<Reg> {
    let mut read: BTreeSet<Reg> = sink.reads().into_iter().collect();
    for i in &program.instrs[at..] {
        read.extend(i.reads());
        if let Instr::Probe(p) = i
            && let Some(residual) = &p.residual
        {
            read.extend(residual.instrs.iter().flat_map(Instr::reads).chain([residual.cond]));
        }
    }
    let mut written: BTreeSet<Reg> = (0..program.inputs.len() as Reg).collect();
    for i in &program.instrs[..at] {
        match i {
            // The same for all rows: set anew.
            Instr::Const { .. } => {}
            Instr::Probe(p) => written.extend([p.rows].into_iter().chain(p.mark)),
            i => written.extend(i.out()),
        }
    }
    read.intersection(&written).copied().collect()
}

/// The program with each gather right behind its probe: the row number is of a table that may be gone later.
pub(super) fn gathers_first(program: &Program) -> Program {
    let (gathers, rest): (Vec<&Instr>, Vec<&Instr>) = program.instrs.iter().partition(|i| matches!(i, Instr::Gather { .. }));
    let mut instrs = vec![];
    for i in rest {
        instrs.push(i.clone());
        if let Instr::Probe(p) = i {
            let mine = |g: &&&Instr| matches!(g, Instr::Gather { rows, .. } if *rows == p.rows);
            instrs.extend(gathers.iter().filter(mine).map(|g| (*g).clone()));
        }
    }
    Program { instrs, ..program.clone() }
}

impl Chunks {
    /// Takes the rows at a probe of a table that is on disk; none are left then.
    ///
    /// # Errors
    /// As [`Divider::write`].
    pub(super) fn divert(&mut self, at: usize, regs: Registers) -> Result<Option<Registers>> {
        match self.diverted.iter_mut().find(|d| d.at == at) {
            Some(d) => d.take(regs, &self.bound.program).map(|()| None),
            None => Ok(Some(regs)),
        }
    }

    /// Runs rows on from the probe at instruction `at` where they were diverted.
    ///
    /// # Errors
    /// As [`Chunks::block`].
    pub(super) fn resume(&mut self, at: usize, registers: &[Reg], block: &Block, sink: &mut dyn RowSink) -> Result<()> {
        let bound = Arc::clone(&self.bound);
        let program = &bound.program;
        let mut start = 0;
        while start < block.rows {
            self.cancel.check()?;
            let len = program.chunk_rows().min(block.rows - start);
            let mut regs = Registers::new(program.types.len(), len);
            registers.iter().zip(&block.columns).for_each(|(r, c)| regs.set(*r, c.slice(start, len)));
            for i in &program.instrs[..at] {
                if let Instr::Const { constant, out } = i {
                    regs.set(*out, bound.constants[usize::from(*constant)].clone());
                }
            }
            self.run(regs, at, sink)?;
            start += len;
        }
        Ok(())
    }

    /// Goes on with another table.
    pub(super) fn rebind(&mut self, table: usize, built: Arc<Built>) {
        let mut bound: Bound = self.bound.as_ref().clone();
        bound.tables[table] = built;
        self.bound = Arc::new(bound);
        self.probes[table] = Default::default();
    }
}
