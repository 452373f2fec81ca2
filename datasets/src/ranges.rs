//! Tables whose rows follow from their numbers: any range of them, batch by batch.

use crate::error::{Error, Result};
use arrow::array::{ArrayRef, RecordBatch, StructArray};
use arrow::datatypes::{FieldRef, SchemaRef};
use std::ops::Range;
use std::sync::Arc;

/// What makes the columns of a range of rows, in the order of the schema.
pub(crate) type Maker = Box<dyn Fn(Range<u64>) -> Vec<ArrayRef> + Send>;

/// Rows of one table, batch by batch.
pub struct Batches {
    schema: SchemaRef,
    columns: Maker,
    rows: Range<u64>,
    batch_rows: u64,
}

impl Batches {
    /// The rows `range` of `table`, which has `count` of them, `batch_rows` at a time.
    ///
    /// # Errors
    /// `Invalid` for batches without rows and for rows that the table does not have.
    pub(crate) fn new(table: (&str, u64), range: Range<u64>, batch_rows: usize, schema: SchemaRef, columns: Maker) -> Result<Self> {
        let (name, count) = table;
        if batch_rows == 0 {
            return Err(Error::Invalid("a batch must have at least one row".into()));
        }
        if range.end > count {
            return Err(Error::Invalid(format!("{name} has {count} rows at this scale, not {}", range.end)));
        }
        Ok(Self { schema, columns, rows: range, batch_rows: batch_rows as u64 })
    }

    /// The schema of every batch.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Iterator for Batches {
    type Item = RecordBatch;

    fn next(&mut self) -> Option<RecordBatch> {
        let from = self.rows.start;
        let to = self.rows.end.min(from.saturating_add(self.batch_rows));
        if from >= to {
            return None;
        }
        self.rows.start = to;
        let named: Vec<(FieldRef, ArrayRef)> = self.schema.fields().iter().cloned().zip((self.columns)(from..to)).collect();
        Some(RecordBatch::from(StructArray::from(named)))
    }
}
