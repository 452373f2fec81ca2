//! The Star Schema Benchmark: one fact table, `lineorder`, and its four dimensions.
//!
//! P. O'Neil, E. O'Neil, X. Chen, *Star Schema Benchmark*, revision 3, 2009; where it leaves something open, as its
//! generator ssb-dbgen does. Scale 1 is SF1.
//!
//! | table | rows at scale SF | order |
//! | --- | --- | --- |
//! | `lineorder` | 6,000,000 SF | by order, then line |
//! | `customer` | 30,000 SF, at least 2,500 | by key |
//! | `supplier` | 2,000 SF, at least 250 | by key |
//! | `part` | 200,000 (1 + log2 SF), rounded down; below scale 1 it is 200,000 SF, at least 2,000 | by key |
//! | `date` | 2,556, from 1992-01-01 to 1998-12-30 | by day |
//!
//! The least numbers keep ten customers and one supplier a city, and two parts a brand, on average: below scale 1, which the
//! specification does not go, the fact table shrinks and queries select the same shares of it.
//!
//! Keys, dates (19970305), quantities and per cents are Int32, `lo_orderkey` and cents are Int64, so that engines whose sums and
//! products have the type of their input do not overflow; the rest is text, Utf8View; no column is nullable. Flags of days are 0 or 1. Words are those of TPC-H, from the crate `tpchgen`.
//!
//! What differs from ssb-dbgen: numbers come from SplitMix64, so a row depends on seed, scale, table and row number only.
//! Each seven orders have 1 to 7 lines in random order where there an order has 1 to 7 at random: so a table has exactly its
//! rows. Months and weekdays have their right names, and the last day of a month is flagged and not all others.

mod dates;
mod dimensions;
mod lineorder;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema, SchemaRef};
use tpchgen::distribution::Distributions;

use crate::error::{Error, Result};
use crate::marker::Marker;
pub use crate::ranges::Batches;
use crate::sink::Format;
use crate::write::{self, BATCH_ROWS, Progress, Table};

/// The tables, in alphabetical order.
pub const TABLES: [&str; 5] = ["customer", "date", "lineorder", "part", "supplier"];

/// The seed for which answers are known: the first with which each of the 13 queries has rows at scales 0.01, 0.1 and 1.
pub const SEED: u64 = 17;

/// The smallest scale: 6,000 rows of `lineorder`.
pub const SCALE_MIN: f64 = 0.001;

/// The largest scale of ssb-dbgen.
pub const SCALE_MAX: f64 = 1_000.0;

/// Changes whenever the files of a scale change, with the generator or with how they are laid out.
const GENERATOR: &str = "ssb-1 layout-1";

/// The columns of a table, in order: each with its name.
type Columns = Vec<(&'static str, ArrayRef)>;

/// What makes the columns of a range of rows, each with its name.
type Named = Box<dyn Fn(Range<u64>) -> Columns + Send>;

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
/// use millstream_datasets::ssb;
///
/// let rows: usize = ssb::batches("date", 0.01, ssb::SEED, 8192)?.map(|batch| batch.num_rows()).sum();
/// assert_eq!(rows, 2556);
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
    let columns = columns(table, scale, seed)?;
    let fields: Vec<Field> = columns(0..0).iter().map(|(name, values)| Field::new(*name, values.data_type().clone(), false)).collect();
    let maker = move |rows: Range<u64>| columns(rows).into_iter().map(|(_, values)| values).collect();
    Batches::new((table, count), range, batch_rows, Arc::new(Schema::new(fields)), Box::new(maker))
}

fn columns(table: &str, scale: f64, seed: u64) -> Result<Named> {
    let columns: Named = match table {
        "customer" => Box::new(dimensions::customer(seed)),
        "date" => Box::new(dates::columns),
        "lineorder" => Box::new(lineorder::columns(seed, &|table| rows(table, scale))?),
        "part" => Box::new(dimensions::part(seed)),
        "supplier" => Box::new(dimensions::supplier(seed)),
        _ => return Err(no_such_table(table)),
    };
    Ok(columns)
}

/// The texts of TPC-H.
fn words() -> &'static Distributions {
    Distributions::static_default()
}

/// The number of rows of a table.
///
/// # Errors
/// `Invalid` when there is no such table, or the scale is out of range.
pub fn rows(table: &str, scale: f64) -> Result<u64> {
    if !(SCALE_MIN..=SCALE_MAX).contains(&scale) {
        return Err(Error::Invalid(format!("the scale of ssb is between {SCALE_MIN} and {SCALE_MAX}, not {scale}")));
    }
    let linear = |base: f64| (base * scale).round() as u64;
    match table {
        "customer" => Ok(linear(30_000.0).max(2_500)),
        "date" => Ok(dates::DAYS),
        "lineorder" => Ok(linear(6_000_000.0)),
        "part" if scale >= 1.0 => Ok(200_000 * (1 + u64::from((scale as u64).ilog2()))),
        "part" => Ok(linear(200_000.0).max(2_000)),
        "supplier" => Ok(linear(2_000.0).max(250)),
        _ => Err(no_such_table(table)),
    }
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
    Marker { suite: "ssb", scale, seed: Some(seed), format, generator: GENERATOR }
}

fn no_such_table(table: &str) -> Error {
    Error::Invalid(format!("there is no ssb table `{table}`: it is one of {}", TABLES.join(", ")))
}

#[cfg(test)]
mod tests;
