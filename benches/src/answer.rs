//! Right answers: those embedded for small scales, and those of an engine at hand for the others.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::error::{Error, Result};
use crate::suite::{Query, Stored, Suite};
use crate::verify::Digest;

/// What a query should return.
#[derive(Debug, Clone)]
pub enum Expected {
    /// These rows.
    Rows(Answer),
    /// Rows with this digest: there are many of them.
    Digest(Digest),
}

/// The rows that a query should return.
#[derive(Debug, Clone)]
pub struct Answer {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    all_ties: bool,
}

impl Answer {
    /// The result that another engine gave, in its order. Where the query has a LIMIT, rows that tie with the
    /// last one are compared by their sort keys only, because the engine may have left out others that tie.
    pub fn of_engine(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { schema, batches, all_ties: false }
    }

    /// A result that goes past the LIMIT with every row that ties with the last one: compared in full.
    pub fn with_all_ties(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { schema, batches, all_ties: true }
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows, in order; past a LIMIT when ties are listed.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    pub(crate) fn all_ties(&self) -> bool {
        self.all_ties
    }
}

/// The embedded answer of a query at a scale; `None` when there is none.
///
/// # Errors
/// `Corrupt` when the embedded file cannot be read.
pub fn answer(suite: &Suite, scale: f64, query: &Query) -> Result<Option<Expected>> {
    let stored = suite
        .answers
        .iter()
        .filter(|(of_scale, _)| *of_scale == scale)
        .flat_map(|(_, files)| files.iter())
        .find_map(|(id, stored)| (*id == query.id).then_some(stored));
    let read = match stored {
        None => return Ok(None),
        Some(Stored::Rows(file)) => read(file).map(Expected::Rows),
        Some(Stored::Digest(text)) => Digest::from_json(text).map(Expected::Digest).map_err(Into::into),
    };
    read.map(Some).map_err(|e| Error::Corrupt(format!("the answer of {} {} at scale {scale} cannot be read: {e}", suite.name, query.id)))
}

fn read(file: &'static [u8]) -> std::result::Result<Answer, Box<dyn std::error::Error>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from_static(file))?;
    let schema = reader.schema().clone();
    let batches = reader.build()?.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(Answer::with_all_ties(schema, batches))
}
