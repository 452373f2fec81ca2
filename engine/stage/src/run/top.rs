//! The first rows of each group: what each worker keeps, and what is left of it in the end.

use super::chunk::Registers;
use crate::convert::Block;
use crate::program::{KeyOrder, Program, Reg, SortKey};
use crate::{Error, Result};
use millstream_kernels::group::Top;
use millstream_kernels::{Vector, gather};

/// Which of a sink's rows are among the first of their group.
pub(super) struct FirstRows {
    top: Top,
    /// Positions of the groups' keys among the sink's columns.
    keys: Vec<usize>,
    /// That of what orders the rows, if anything does.
    by: Option<usize>,
}

/// Rows beside those that have a place, after which they are dropped.
const SPARE_ROWS: usize = 1 << 16;

impl FirstRows {
    /// The first `fetch` rows of each group of a sink of these registers.
    ///
    /// # Errors
    /// `Unsupported` for an order of several keys.
    pub(super) fn new(program: &Program, registers: &[Reg], groups: &[usize], order: &[SortKey], fetch: usize) -> Result<Self> {
        let (by, of) = match order {
            [] => (None, KeyOrder::default()),
            [k] => (Some(k.column), KeyOrder { descending: k.descending, nulls_first: k.nulls_first }),
            _ => return Err(Error::unsupported("the first rows of groups by several keys")),
        };
        let types: Vec<_> = groups.iter().map(|c| program.key_type(registers[*c])).collect();
        Ok(Self { top: Top::new(&types, of, fetch), keys: groups.to_vec(), by })
    }

    pub(super) fn size(&self) -> usize {
        self.top.size()
    }

    /// The rows of a chunk that have a place so far, to be kept from row `next` on.
    ///
    /// # Errors
    /// What the kernel raises.
    pub(super) fn offer(&mut self, regs: &Registers, registers: &[Reg], next: usize) -> Result<Vec<u32>> {
        let keys = self.keys.iter().map(|k| regs.get(registers[*k])).collect::<Result<Vec<_>>>()?;
        let by = self.by.map(|b| regs.get(registers[b])).transpose()?;
        Ok(self.top.offer(&keys, by, regs.rows, u32::try_from(next).map_err(Error::bug)?)?)
    }

    /// Whether most of `rows` kept rows have lost their place.
    pub(super) fn is_stale(&self, rows: usize) -> bool {
        rows > SPARE_ROWS && rows / 2 > self.top.len() + SPARE_ROWS / 2
    }

    /// The kept rows that still have a place.
    ///
    /// # Errors
    /// What the kernel raises.
    pub(super) fn rows(&mut self, columns: &[Vector]) -> Result<Block> {
        let rows = self.top.renumber();
        let columns = columns.iter().map(|c| Ok(gather::gather(c, &rows)?)).collect::<Result<_>>()?;
        Ok(Block { columns, rows: rows.len() })
    }

    /// The first rows of a whole block.
    ///
    /// # Errors
    /// What the kernel raises.
    pub(super) fn of(mut self, block: &Block) -> Result<Block> {
        let keys: Vec<&Vector> = self.keys.iter().map(|k| &block.columns[*k]).collect();
        let kept = self.top.offer(&keys, self.by.map(|b| &block.columns[b]), block.rows, 0)?;
        let columns = block.columns.iter().map(|c| Ok(gather::gather(c, &kept)?)).collect::<Result<Vec<_>>>()?;
        self.rows(&columns)
    }
}
