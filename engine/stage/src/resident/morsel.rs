//! Some rows of a table in memory, read column by column where a stage asks for them.

use super::ResidentTable;
use crate::Result;
use crate::convert::Block;
use crate::run::chunk::Columns;
use millstream_kernels::Vector;
use millstream_kernels::gpu::Piece;
use std::ops::Range;
use std::sync::Arc;

/// Rows of the columns that a program reads.
pub struct ResidentMorsel {
    table: Arc<ResidentTable>,
    /// The column of the table behind each input of the program.
    columns: Arc<[usize]>,
    rows: Range<usize>,
}

impl ResidentMorsel {
    pub(super) fn new(table: Arc<ResidentTable>, columns: Arc<[usize]>, rows: Range<usize>) -> Self {
        Self { table, columns, rows }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns.len()
    }

    /// All rows, as registers.
    pub fn block(&self) -> Block {
        self.table.block(self.columns.iter().copied(), self.rows.clone())
    }
}

impl Columns for ResidentMorsel {
    fn column(&mut self, c: usize, start: usize, len: usize, picked: Option<&[u32]>) -> Result<Vector> {
        let from = self.rows.start + start;
        let values = &self.table.columns[self.columns[c]].values;
        match picked {
            None => Ok(values.rows(from..from + len)),
            Some(picked) => values.picked(from..from + len, picked),
        }
    }

    fn piece(&self, c: usize, start: usize) -> Option<Piece> {
        self.table.piece(self.columns[c], self.rows.start + start)
    }

    fn codes_piece(&self, columns: &[usize], start: usize) -> Option<Piece> {
        let columns = columns.iter().map(|c| self.columns[*c]).collect();
        Some(self.table.codes_piece(columns, self.rows.start + start))
    }
}
