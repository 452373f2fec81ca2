//! TPC-H: the eight tables of the benchmark, row for row those of the official generator (crate `tpchgen`).
//!
//! Keys are Int64, other integers Int32, money Decimal128(15, 2), dates Date32, text Utf8View; no column is nullable.
//! The generator takes no seed: the specification fixes the rows of every scale.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator, RegionGenerator,
    SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RecordBatchIterator, RegionArrow, SupplierArrow,
};

use crate::error::{Error, Result};
use crate::marker::Marker;
use crate::sink::Format;
use crate::write::{self, BATCH_ROWS, Progress, Table};

/// The tables, in alphabetical order.
pub const TABLES: [&str; 8] = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];

/// The smallest scale: below it some tables would be empty, and rows refer to them.
pub const SCALE_MIN: f64 = 0.001;

/// The largest scale of the specification.
pub const SCALE_MAX: f64 = 100_000.0;

/// Changes whenever the files of a scale change, with the generator or with how they are laid out.
const GENERATOR: &str = "tpchgen-3 layout-1";

/// The rows of one table, or of one part of it, batch by batch.
pub struct Batches {
    inner: Box<dyn RecordBatchIterator>,
}

impl Batches {
    /// The schema of every batch.
    pub fn schema(&self) -> SchemaRef {
        self.inner.schema().clone()
    }
}

impl Iterator for Batches {
    type Item = RecordBatch;

    fn next(&mut self) -> Option<RecordBatch> {
        self.inner.next()
    }
}

/// The schema of a table.
///
/// # Errors
/// `Invalid` when there is no such table.
pub fn schema(table: &str) -> Result<SchemaRef> {
    batches(table, 1.0, BATCH_ROWS).map(|batches| batches.schema())
}

/// All rows of a table, `batch_rows` rows a batch (the last may have fewer).
///
/// ```
/// use millstream_datasets::tpch;
///
/// let rows: usize = tpch::batches("nation", 0.01, 8192)?.map(|batch| batch.num_rows()).sum();
/// assert_eq!(rows, 25);
/// # Ok::<(), millstream_datasets::Error>(())
/// ```
///
/// # Errors
/// `Invalid` when there is no such table, or the scale or the batch size is out of range.
pub fn batches(table: &str, scale: f64, batch_rows: usize) -> Result<Batches> {
    part_batches(table, scale, Part { index: 0, count: 1 }, batch_rows)
}

/// One of several parts of a table, for generating them in parallel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Which part, from 0.
    pub index: u32,
    /// How many parts there are: all of them, in order, are the table.
    pub count: u32,
}

/// The rows of one part of a table. `nation` and `region` lie wholly in part 0.
///
/// # Errors
/// `Invalid` when there is no such table, or the scale, the part or the batch size is out of range.
pub fn part_batches(table: &str, scale: f64, part: Part, batch_rows: usize) -> Result<Batches> {
    check_scale(scale)?;
    if batch_rows == 0 {
        return Err(Error::Invalid("a batch must have at least one row".into()));
    }
    let (Ok(count), true) = (i32::try_from(part.count), part.index < part.count) else {
        return Err(Error::Invalid(format!("there is no part {} of {}: parts are counted from 0", part.index, part.count)));
    };
    if part.index > 0 && matches!(table, "nation" | "region") {
        let schema = schema(table)?;
        return Ok(Batches { inner: Box::new(Nothing { schema }) });
    }
    // The generator counts parts from 1.
    let index = part.index as i32 + 1;
    macro_rules! of {
        ($arrow:ident, $generator:ident) => {
            Box::new($arrow::new($generator::new(scale, index, count)).with_batch_size(batch_rows))
        };
    }
    let inner: Box<dyn RecordBatchIterator> = match table {
        "customer" => of!(CustomerArrow, CustomerGenerator),
        "lineitem" => of!(LineItemArrow, LineItemGenerator),
        "nation" => of!(NationArrow, NationGenerator),
        "orders" => of!(OrderArrow, OrderGenerator),
        "part" => of!(PartArrow, PartGenerator),
        "partsupp" => of!(PartSuppArrow, PartSuppGenerator),
        "region" => of!(RegionArrow, RegionGenerator),
        "supplier" => of!(SupplierArrow, SupplierGenerator),
        _ => return Err(no_such_table(table)),
    };
    Ok(Batches { inner })
}

/// The number of rows of a table. Exact but for `lineitem`, whose orders have 1 to 7 rows each: there within 1 %.
///
/// # Errors
/// `Invalid` when there is no such table, or the scale is out of range.
pub fn rows(table: &str, scale: f64) -> Result<u64> {
    check_scale(scale)?;
    let of_scale = |base: f64| (base * scale) as u64;
    match table {
        "customer" => Ok(of_scale(150_000.0)),
        "lineitem" => Ok(of_scale(6_001_215.0)),
        "nation" => Ok(25),
        "orders" => Ok(of_scale(1_500_000.0)),
        "part" => Ok(of_scale(200_000.0)),
        "partsupp" => Ok(4 * of_scale(200_000.0)),
        "region" => Ok(5),
        "supplier" => Ok(of_scale(10_000.0)),
        _ => Err(no_such_table(table)),
    }
}

/// Writes `<out>/<table>.parquet` for every table (snappy, dictionaries, row groups of 122,880 rows, page
/// statistics) and then the marker that [`is_complete`] looks for. `progress` is called on this thread.
///
/// A run that dies leaves no half file under a table's name, and no marker; run it again.
///
/// # Errors
/// `Invalid` for a scale out of range or a folder that cannot be written, `Exhausted` when the disk is full,
/// `Retry` while another process generates into the same folder.
pub fn write_parquet(out: &Path, scale: f64, progress: &mut dyn FnMut(Progress)) -> Result<()> {
    write(out, scale, Format::Parquet, progress)
}

/// [`write_parquet`] for any format: `<out>/<table>.<format>`. Formats may share a folder.
///
/// # Errors
/// As [`write_parquet`].
pub fn write(out: &Path, scale: f64, format: Format, progress: &mut dyn FnMut(Progress)) -> Result<()> {
    let mut tables = Vec::with_capacity(TABLES.len());
    for name in TABLES {
        let batches = batches(name, scale, BATCH_ROWS)?;
        tables.push(Table { name, rows_expected: rows(name, scale)?, schema: batches.schema(), batches: Box::new(batches) });
    }
    write::write(out, &marker(scale, format), tables, progress)
}

/// True when `dir` holds the whole Parquet data set of this scale, written by this version of the generator.
pub fn is_complete(dir: &Path, scale: f64) -> bool {
    is_complete_as(dir, scale, Format::Parquet)
}

/// [`is_complete`] for any format.
pub fn is_complete_as(dir: &Path, scale: f64, format: Format) -> bool {
    let marker = marker(scale, format);
    let files = TABLES.map(|table| write::file_name(table, &marker));
    marker.holds(dir, &files)
}

/// The file of a table in a folder that [`write()`] filled.
pub fn file(dir: &Path, table: &str, format: Format) -> PathBuf {
    dir.join(format!("{table}.{format}"))
}

fn marker(scale: f64, format: Format) -> Marker {
    Marker { suite: "tpch", scale, seed: None, format, generator: GENERATOR }
}

fn no_such_table(table: &str) -> Error {
    Error::Invalid(format!("there is no TPC-H table `{table}`: it is one of {}", TABLES.join(", ")))
}

fn check_scale(scale: f64) -> Result<()> {
    if (SCALE_MIN..=SCALE_MAX).contains(&scale) {
        Ok(())
    } else {
        Err(Error::Invalid(format!("the scale of TPC-H is between {SCALE_MIN} and {SCALE_MAX}, not {scale}")))
    }
}

/// A part without rows.
struct Nothing {
    schema: SchemaRef,
}

impl Iterator for Nothing {
    type Item = RecordBatch;

    fn next(&mut self) -> Option<RecordBatch> {
        None
    }
}

impl RecordBatchIterator for Nothing {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

#[cfg(test)]
mod tests;
