//! h2o.ai's db-benchmark: the tables of its group-by and its join task.
//!
//! The recipe is the published one, `_data/groupby-datagen.R` and `_data/join-datagen.R` of
//! <https://github.com/h2oai/db-benchmark> (continued as duckdblabs/db-benchmark), with K = 100 groups, no nulls,
//! rows in random order. Scale 1 has its smallest size, 1e7 rows.
//!
//! | table | rows N = scale * 1e7 | columns |
//! | --- | --- | --- |
//! | `x` | N | `id1`, `id2` of K texts, `id3` of N/K texts, `id4`, `id5` of K integers, `id6` of N/K, `v1` 1 to 5, `v2` 1 to 15, `v3` 0 to 100 |
//! | `lhs` | N | keys `id1` (as many as `small` has rows), `id2` (`medium`), `id3` (`big`), the same as text in `id4` to `id6`, `v1` 0 to 100 |
//! | `small`, `medium`, `big` | N/1e6, N/1e3, N, at least 10 | the first one, two, three keys of `lhs`, the same as text, `v2` 0 to 100 |
//!
//! Nine of ten keys of a column are on both sides; each side has another tenth that the other lacks. The recipe calls
//! the left table of the join `x` too; `lhs` is its name for it in the script. Integers are Int32, text is
//! Utf8View, other numbers are Float64 with six decimals; no column is nullable.
//!
//! What differs: the numbers come from SplitMix64 and Feistel networks and not from R's generator, so a value
//! depends on seed, table, column and row only; and below scale 1, which the recipe does not go, `small` and `medium`
//! keep at least ten rows.

mod columns;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::marker::Marker;
pub use crate::ranges::Batches;
use crate::sink::Format;
use crate::write::{self, BATCH_ROWS, Progress, Table};

/// The tables, in alphabetical order.
pub const TABLES: [&str; 5] = ["big", "lhs", "medium", "small", "x"];

/// The recipe's own seed, for which answers are known.
pub const SEED: u64 = 108;

/// The smallest scale: 10,000 rows, of which `medium` has its least ten.
pub const SCALE_MIN: f64 = 0.001;

/// The largest scale of db-benchmark: 1e9 rows.
pub const SCALE_MAX: f64 = 100.0;

/// Rows of the largest tables at scale 1.
const ROWS: f64 = 1e7;

/// Changes whenever the files of a scale change, with the generator or with how they are laid out.
const GENERATOR: &str = "h2o-1 layout-1";

/// The schema of a table.
///
/// # Errors
/// `Invalid` when there is no such table.
pub fn schema(table: &str) -> Result<SchemaRef> {
    batches(table, 1.0, SEED, BATCH_ROWS).map(|batches| batches.schema())
}

/// All rows of a table, `batch_rows` rows a batch (the last may have fewer).
///
/// ```
/// use millstream_datasets::h2o;
///
/// let rows: usize = h2o::batches("medium", 0.1, h2o::SEED, 8192)?.map(|batch| batch.num_rows()).sum();
/// assert_eq!(rows, 1000);
/// # Ok::<(), millstream_datasets::Error>(())
/// ```
///
/// # Errors
/// `Invalid` when there is no such table, or the scale or the batch size is out of range.
pub fn batches(table: &str, scale: f64, seed: u64, batch_rows: usize) -> Result<Batches> {
    range_batches(table, scale, seed, 0..rows(table, scale)?, batch_rows)
}

/// Some rows of a table, for generating it in parallel: a row is the same whatever the range it is asked for in.
///
/// # Errors
/// `Invalid` when there is no such table, the scale or the batch size is out of range, or the table has fewer rows.
pub fn range_batches(table: &str, scale: f64, seed: u64, range: Range<u64>, batch_rows: usize) -> Result<Batches> {
    let count = rows(table, scale)?;
    let columns = columns::columns(table, largest(scale)?, seed).ok_or_else(|| no_such_table(table))?;
    let fields: Vec<Field> = columns.iter().map(|column| Field::new(column.name, column.data_type(), false)).collect();
    let maker = move |rows: Range<u64>| columns.iter().map(|column| column.values(rows.clone())).collect();
    Batches::new((table, count), range, batch_rows, Arc::new(Schema::new(fields)), Box::new(maker))
}

/// The number of rows of a table.
///
/// # Errors
/// `Invalid` when there is no such table, or the scale is out of range.
pub fn rows(table: &str, scale: f64) -> Result<u64> {
    columns::rows(table, largest(scale)?).ok_or_else(|| no_such_table(table))
}

/// Writes `<out>/<table>.parquet` for every table (snappy, dictionaries, row groups of 122,880 rows, page
/// statistics) and then the marker that [`is_complete`] looks for. `progress` is called on this thread.
///
/// A run that dies leaves no half file under a table's name, and no marker; run it again. Memory is bounded by a row
/// group of two tables, whatever the scale.
///
/// # Errors
/// `Invalid` for a scale out of range or a folder that cannot be written, `Exhausted` when the disk is full,
/// `Retry` while another process generates into the same folder.
pub fn write_parquet(out: &Path, scale: f64, seed: u64, progress: &mut dyn FnMut(Progress)) -> Result<()> {
    write(out, scale, seed, Format::Parquet, progress)
}

/// [`write_parquet`] for any format: `<out>/<table>.<format>`. Formats may share a folder.
///
/// # Errors
/// As [`write_parquet`].
pub fn write(out: &Path, scale: f64, seed: u64, format: Format, progress: &mut dyn FnMut(Progress)) -> Result<()> {
    let mut tables = Vec::with_capacity(TABLES.len());
    for name in TABLES {
        let batches = batches(name, scale, seed, BATCH_ROWS)?;
        tables.push(Table { name, rows_expected: rows(name, scale)?, schema: batches.schema(), batches: Box::new(batches) });
    }
    write::write(out, &marker(scale, seed, format), tables, progress)
}

/// True when `dir` holds the whole Parquet data set of this scale and seed, written by this version of the generator.
pub fn is_complete(dir: &Path, scale: f64, seed: u64) -> bool {
    is_complete_as(dir, scale, seed, Format::Parquet)
}

/// [`is_complete`] for any format.
pub fn is_complete_as(dir: &Path, scale: f64, seed: u64, format: Format) -> bool {
    let marker = marker(scale, seed, format);
    let files = TABLES.map(|table| write::file_name(table, &marker));
    marker.holds(dir, &files)
}

/// The file of a table in a folder that [`write()`] filled.
pub fn file(dir: &Path, table: &str, format: Format) -> PathBuf {
    dir.join(format!("{table}.{format}"))
}

fn marker(scale: f64, seed: u64, format: Format) -> Marker {
    Marker { suite: "h2o", scale, seed: Some(seed), format, generator: GENERATOR }
}

fn no_such_table(table: &str) -> Error {
    Error::Invalid(format!("there is no h2o table `{table}`: it is one of {}", TABLES.join(", ")))
}

/// Rows of the largest tables.
fn largest(scale: f64) -> Result<u64> {
    if (SCALE_MIN..=SCALE_MAX).contains(&scale) {
        Ok((scale * ROWS).round() as u64)
    } else {
        Err(Error::Invalid(format!("the scale of h2o is between {SCALE_MIN} and {SCALE_MAX}, not {scale}")))
    }
}

#[cfg(test)]
mod tests;
