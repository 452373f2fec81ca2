//! Results that engines stored as Parquet files, read batch by batch.

use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::Verifier;
use super::digest::Digest;
use super::mismatch::Mismatch;
use crate::answer::{Answer, Expected};
use crate::error::{Error, Result};
use crate::suite::Query;

/// The most rows that are compared one by one, which takes about 1 kB each; more are compared as digests.
const ROWS_MAX: u64 = 1_000_000;

/// A stored result.
struct Stored {
    rows: u64,
    schema: SchemaRef,
    batches: ParquetRecordBatchReader,
}

fn open(path: &Path) -> Result<Stored> {
    let cannot = |e: &dyn std::fmt::Display| Error::Invalid(format!("cannot read {}: {e}", path.display()));
    let file = File::open(path).map_err(|e| cannot(&e))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| cannot(&e))?;
    let rows = reader.metadata().file_metadata().num_rows().unsigned_abs();
    let schema = reader.schema().clone();
    Ok(Stored { rows, schema, batches: reader.build().map_err(|e| cannot(&e))? })
}

/// The result that an engine stored as a Parquet file, to compare others with: of a million rows, in no order, the
/// digest.
///
/// # Errors
/// `Invalid` when the file is missing or is not Parquet, or holds what is not compared.
pub fn read_result(query: &Query, path: &Path) -> Result<Expected> {
    let stored = open(path)?;
    if stored.rows > ROWS_MAX && query.order_by.is_empty() && query.limit.is_none() {
        return Ok(Expected::Digest(digest_of_file(query, path)?));
    }
    let batches = stored.batches.collect::<std::result::Result<Vec<_>, _>>().map_err(|e| unreadable(path, &e))?;
    Ok(Expected::Rows(Answer::of_engine(stored.schema, batches)))
}

/// The digest of the result that an engine stored as a Parquet file.
///
/// # Errors
/// `Invalid` when the file is missing or is not Parquet, or the query's result has no digest.
pub fn digest_of_file(query: &Query, path: &Path) -> Result<Digest> {
    let Stored { rows, schema, batches } = open(path)?;
    Digest::of(query, &schema, rows, batches).map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))
}

/// [`verify()`](super::verify()) for a result that is stored as a Parquet file.
///
/// # Errors
/// `Invalid` when the file is missing or is not Parquet. The inner error is the first difference.
pub fn verify_file(query: &Query, expected: &Expected, path: &Path) -> Result<std::result::Result<(), Mismatch>> {
    let stored = open(path)?;
    // Without a row the file still says which columns there are.
    let none = (stored.rows == 0).then(|| Ok(RecordBatch::new_empty(stored.schema)));
    let mut verifier = Verifier::new(query, expected);
    for batch in stored.batches.chain(none) {
        if let Err(mismatch) = verifier.add(batch.map_err(|e| unreadable(path, &e))?) {
            return Ok(Err(mismatch));
        }
    }
    Ok(verifier.finish())
}

fn unreadable(path: &Path, source: &ArrowError) -> Error {
    Error::Invalid(format!("cannot read {}: {source}", path.display()))
}
