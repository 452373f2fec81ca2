//! Rows as a sink: all that come, or the first of all or of each group.

use super::super::best::BestRows;
use super::super::chunk::{Registers, RowSink};
use super::super::top::FirstRows;
use crate::Result;
use crate::convert::Block;
use crate::program::Program;
use millstream_kernels::Vector;
use millstream_kernels::gather::{self, Growing};
use millstream_kernels::program::Reg;

/// Rows as they come: collect, build and sort start from it.
pub struct RowsSink {
    registers: Vec<Reg>,
    /// How many of the first are a join's keys.
    keys: usize,
    columns: Vec<Growing>,
    rows: usize,
    kept: Kept,
}

/// Which rows are kept.
enum Kept {
    All,
    /// The first of each group.
    First(Box<FirstRows>),
    /// The first of all.
    Best(Box<BestRows>),
}

impl RowsSink {
    /// A sink of these registers of `program`.
    pub fn new(program: &Program, registers: Vec<Reg>) -> Self {
        let columns = registers.iter().map(|r| Growing::new(program.ty(*r))).collect();
        Self { registers, keys: 0, columns, rows: 0, kept: Kept::All }
    }

    /// The sink of a join's build side, whose first `keys` registers are the keys.
    pub fn keyed(self, keys: usize) -> Self {
        Self { keys, ..self }
    }

    /// A sink with room for so many rows.
    pub(in crate::run) fn with_room(self, rows: usize) -> Self {
        Self { columns: self.columns.into_iter().map(|c| c.with_room(rows)).collect(), ..self }
    }

    /// A sink of the first rows of each group.
    pub(in crate::run) fn only(self, first: FirstRows) -> Self {
        Self { kept: Kept::First(Box::new(first)), ..self }
    }

    /// A sink of the first rows of all.
    pub(in crate::run) fn best(self, best: BestRows) -> Self {
        Self { kept: Kept::Best(Box::new(best)), ..self }
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// How many of the first columns are a join's keys.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Bytes of memory held.
    pub fn size(&self) -> usize {
        self.columns.iter().map(Growing::size).sum::<usize>() + if let Kept::First(f) = &self.kept { f.size() } else { 0 }
    }

    /// The rows so far, none when there are none; the sink is empty again.
    ///
    /// # Errors
    /// As [`Growing::finish`].
    pub fn take(&mut self, program: &Program) -> Result<Option<Block>> {
        let full = std::mem::replace(self, Self::new(program, self.registers.clone()).keyed(self.keys));
        if full.rows == 0 {
            return Ok(None);
        }
        let block = Block { columns: gather::finish_all(full.columns)?, rows: full.rows };
        Ok(Some(match full.kept {
            Kept::First(mut first) => first.rows(&block.columns)?,
            Kept::Best(_) | Kept::All => block,
        }))
    }

    /// Keeps the rows of a chunk that are among the first of their group, and no longer those that were.
    fn keep(&mut self, first: &mut FirstRows, regs: &mut Registers) -> Result<()> {
        self.registers.iter().try_for_each(|r| regs.sync(*r))?;
        let kept = first.offer(regs, &self.registers, self.rows)?;
        for (r, column) in self.registers.iter().zip(&mut self.columns) {
            column.push(&gather::gather(regs.get(*r)?, &kept)?, kept.len())?;
        }
        self.rows += kept.len();
        if first.is_stale(self.rows) {
            let columns = self.taken()?;
            self.put(&first.rows(&columns)?)?;
        }
        Ok(())
    }

    /// Keeps the rows of a chunk that may be among the first of all.
    fn keep_best(&mut self, best: &mut BestRows, regs: &mut Registers) -> Result<()> {
        let few = best.leave_out(regs, &self.registers)?;
        if regs.rows > 0 {
            self.push(regs, few)?;
        }
        if best.is_stale(self.rows) {
            let rows = self.rows;
            let columns = self.taken()?;
            self.put(&best.rows(columns, rows)?)?;
        }
        Ok(())
    }

    /// Keeps all rows of a chunk. `few`: they are a few of each of many pages, which they would hold.
    fn push(&mut self, regs: &mut Registers, few: bool) -> Result<()> {
        self.registers.iter().try_for_each(|r| regs.sync(*r))?;
        for (r, column) in self.registers.iter().zip(&mut self.columns) {
            let v = regs.get(*r)?;
            if few { column.push(&gather::compacted(v), regs.rows)? } else { column.push(v, regs.rows)? }
        }
        self.rows += regs.rows;
        Ok(())
    }

    /// The columns so far; there are none any more.
    fn taken(&mut self) -> Result<Vec<Vector>> {
        let fresh = self.columns.iter().map(|c| Growing::new(c.ty())).collect();
        self.rows = 0;
        Ok(gather::finish_all(std::mem::replace(&mut self.columns, fresh))?)
    }

    fn put(&mut self, block: &Block) -> Result<()> {
        self.rows += block.rows;
        Ok(self.columns.iter_mut().zip(&block.columns).try_for_each(|(c, v)| c.push(v, block.rows))?)
    }
}

impl RowSink for RowsSink {
    fn consume(&mut self, regs: &mut Registers) -> Result<()> {
        let mut kept = std::mem::replace(&mut self.kept, Kept::All);
        let done = match &mut kept {
            Kept::All => self.push(regs, false),
            Kept::First(first) => self.keep(first, regs),
            Kept::Best(best) => self.keep_best(best, regs),
        };
        self.kept = kept;
        done
    }
}
