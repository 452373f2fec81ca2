//! Tables held in memory in the engine's narrow types: what `CACHE TABLE` leaves.
//!
//! Every column is one contiguous buffer. Integers and codes are kept in as many bytes as their range in the table needs,
//! and become registers chunk by chunk, where and for the rows that an instruction asks for; a morsel of anything else
//! is a slice without a copy. Strings of few distinct values are codes into one dictionary of the whole table: what is computed of
//! an entry holds for every morsel. Zone maps (least and greatest value a morsel) let filters skip morsels.
//!
//! ```text
//! load      Parquet row groups or a stream of batches -> columns
//! column    parts of a column as one, its statistics
//! zones     least and greatest value a morsel, pruning
//! source    the leaf of a plan: a DataFusion `DataSource`
//! morsel    some rows, read where a stage asks for them
//! provider  the table of a catalog
//! ```

mod column;
mod load;
mod morsel;
mod provider;
mod source;
mod zones;

pub use morsel::ResidentMorsel;
pub use provider::ResidentProvider;
pub use source::ResidentSource;

use crate::convert::Block;
use crate::run::MORSEL_ROWS;
use arrow::datatypes::SchemaRef;
use column::Column;
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::execution::memory_pool::MemoryReservation;
use millstream_kernels::Dictionary;
use millstream_kernels::gpu::{Piece, TableId};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// What is known of the values of a column.
pub(crate) enum Known {
    /// Strings of this dictionary, in every row.
    Dictionary(Arc<Dictionary>),
    /// Integers from the first to the second.
    Between(i64, i64),
    Bool,
}

/// A table in memory. It is never changed; its bytes are reserved in the session's memory pool as long
/// as it lives.
pub struct ResidentTable {
    name: String,
    schema: SchemaRef,
    rows: usize,
    columns: Vec<Column>,
    bytes: usize,
    id: TableId,
    /// Numbers of the codes that columns have together as group keys, after those of the columns themselves.
    codes: Mutex<HashMap<Vec<usize>, u32>>,
    _reservation: MemoryReservation,
}

impl fmt::Debug for ResidentTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResidentTable({}, {} rows)", self.name, self.rows)
    }
}

impl ResidentTable {
    fn new(name: String, schema: SchemaRef, rows: usize, columns: Vec<Column>, reservation: MemoryReservation) -> Self {
        let bytes = columns.iter().map(|c| c.bytes).sum();
        Self { name, schema, rows, columns, bytes, id: TableId::unique(), codes: Mutex::default(), _reservation: reservation }
    }

    /// The name it was cached under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names and logical types of the columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of morsels.
    pub fn morsels(&self) -> usize {
        self.rows.div_ceil(MORSEL_ROWS)
    }

    /// The rows of morsel `m`.
    fn rows_of(&self, m: usize) -> Range<usize> {
        m * MORSEL_ROWS..((m + 1) * MORSEL_ROWS).min(self.rows)
    }

    /// These rows of these columns, as registers.
    fn block(&self, columns: impl Iterator<Item = usize>, rows: Range<usize>) -> Block {
        let columns = columns.map(|c| self.columns[c].values.rows(rows.clone())).collect();
        Block { columns, rows: rows.len() }
    }

    /// What the rows of column `c` from `first` on are to a device; none where it does not hold such a column.
    fn piece(&self, c: usize, first: usize) -> Option<Piece> {
        let column = &self.columns[c];
        Some(self.id.piece(c as u32, first as u64, column.wide?, column.zones.null_count() > 0))
    }

    /// What the codes of `columns` together as group keys are to a device, from row `first` on.
    fn codes_piece(&self, columns: Vec<usize>, first: usize) -> Piece {
        self.id.piece(self.codes_number(columns), first as u64, false, false)
    }

    fn codes_number(&self, columns: Vec<usize>) -> u32 {
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.columns.len() + codes.len();
        *codes.entry(columns).or_insert(next as u32)
    }

    /// Exact numbers of rows, nulls and bytes; bounds and numbers of distinct values where they are known.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            num_rows: Precision::Exact(self.rows),
            total_byte_size: Precision::Exact(self.bytes),
            column_statistics: self.columns.iter().map(|c| c.statistics.clone()).collect(),
        }
    }
}
