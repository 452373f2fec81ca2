//! Right answers: those embedded for small scales, and those of an engine at hand for the others.

use std::fs;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::error::{Error, Result};
use crate::suite::{Query, Suite};

/// The rows that a query should return.
#[derive(Debug, Clone)]
pub struct Expected {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    all_ties: bool,
}

impl Expected {
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
    let file = suite
        .answers
        .iter()
        .filter(|(of_scale, _)| *of_scale == scale)
        .flat_map(|(_, files)| files.iter())
        .find_map(|(id, file)| (*id == query.id).then_some(*file));
    let Some(file) = file else { return Ok(None) };
    let (schema, batches) = read(Bytes::from_static(file))
        .map_err(|e| Error::Corrupt(format!("the answer of {} {} at scale {scale} cannot be read: {e}", suite.name, query.id)))?;
    Ok(Some(Expected::with_all_ties(schema, batches)))
}

/// The result that an engine stored as a Parquet file.
///
/// # Errors
/// `Invalid` when the file is missing or is not Parquet.
pub fn read_result(path: &Path) -> Result<Expected> {
    let file = fs::read(path).map_err(|e| Error::Invalid(format!("cannot read {}: {e}", path.display())))?;
    let (schema, batches) = read(Bytes::from(file)).map_err(|e| Error::Invalid(format!("cannot read {}: {e}", path.display())))?;
    Ok(Expected::of_engine(schema, batches))
}

fn read(file: Bytes) -> std::result::Result<(SchemaRef, Vec<RecordBatch>), Box<dyn std::error::Error>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let schema = reader.schema().clone();
    let batches = reader.build()?.collect::<std::result::Result<Vec<_>, _>>()?;
    Ok((schema, batches))
}
