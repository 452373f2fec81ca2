//! Tables to and from the frames of Polars. Both hold Arrow's buffers, so most columns only change hands; `held_as` says
//! which do not.

use crate::error::guarded;
use crate::interop::polars::{export, import};
use crate::{Error, ErrorKind, Result, Session, Table};
use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_empty_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use polars::frame::DataFrame;
use polars::prelude::{Column, Series, TimeZone};
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fmt::Display;
use std::sync::Arc;

impl Table {
    /// Runs the plan for all rows, as a frame of Polars. Each batch is a chunk of the frame, in the memory that it came in,
    /// where Polars has the column's type: integers, floats, booleans, texts and bytes as views, dates, timestamps and durations
    /// down to milliseconds, times in nanoseconds, `Decimal128`, structs, and lists with offsets of 64 bits or of a fixed
    /// length. Others are cast first: of texts with offsets only views are written, 16 bytes a row; dictionaries of texts
    /// become categoricals. Batches have at most 8,192 rows where they were computed, so `rechunk` is worth its copy before
    /// many operations.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let session = millstream::Session::new()?;
    /// let table = session.sql("select * from (values ('a', 1), ('b', null)) t(word, number)").await?;
    /// let frame = table.to_polars().await?;
    /// assert_eq!(frame.shape(), (2, 2));
    /// assert_eq!(frame.column("number").unwrap().null_count(), 1);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Before it runs, `Unsupported` with the column's name for a type that Polars does not have (maps, unions, intervals,
    /// time zones that it does not know), `Invalid` for two columns of one name. Then as [`Table::collect`], and `Invalid` with
    /// the column's name for a value that Polars' type does not hold.
    pub async fn to_polars(&self) -> Result<DataFrame> {
        let columns = held(&self.schema())?;
        let batches = self.clone().collect().await?;
        guarded(async { frame(&columns, &batches) }).await
    }
}

impl Session {
    /// A frame of Polars as a table without a name, in the frame's own memory. Its chunks are the table's batches; columns
    /// whose chunks end elsewhere are sliced. What is copied: the codes of categoricals and enums, which become
    /// dictionaries, and a column that the frame holds as one value is written out.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use millstream::polars::df;
    /// use millstream::{col, lit};
    /// let frame = df!["shop" => ["north", "south"], "price" => [2.5, 4.0]].unwrap();
    /// let dear = millstream::Session::new()?.read_polars(&frame)?.filter(col("price").gt(lit(3)))?;
    /// assert_eq!(dear.to_polars().await?, df!["shop" => ["south"], "price" => [4.0]].unwrap());
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Unsupported` with the column's name for a type that Arrow does not have: objects of Rust, integers of 128 bits.
    pub fn read_polars(&self, frame: &DataFrame) -> Result<Table> {
        self.read_batches(batches(frame)?)
    }

    /// Registers a frame of Polars as table `name`, as [`Session::read_polars`] takes it; a table of this name is replaced.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let session = millstream::Session::new()?;
    /// session.register_polars("t", &millstream::polars::df!["a" => [1, 2, 3]].unwrap())?;
    /// let total = session.sql("select sum(a) as total from t").await?.to_polars().await?;
    /// assert_eq!(total, millstream::polars::df!["total" => [6_i64]].unwrap());
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Session::read_polars`], and `Invalid` when the name cannot be a table's.
    pub fn register_polars(&self, name: &str, frame: &DataFrame) -> Result<()> {
        self.register_batches(name, batches(frame)?)
    }
}

/// The Arrow type in which Polars holds a column of this one, itself wherever it can; none where there is none.
fn held_as(kind: &DataType) -> Option<DataType> {
    use DataType as D;
    let field = |f: &Field| Some(Arc::new(Field::new(f.name(), held_as(f.data_type())?, true)));
    let milliseconds = |unit: &TimeUnit| if *unit == TimeUnit::Second { TimeUnit::Millisecond } else { *unit };
    Some(match kind {
        D::Float16 => D::Float32,
        D::Utf8 | D::LargeUtf8 => D::Utf8View,
        D::Binary | D::LargeBinary | D::FixedSizeBinary(_) => D::BinaryView,
        D::Date64 => D::Timestamp(TimeUnit::Millisecond, None),
        D::Time32(_) | D::Time64(_) => D::Time64(TimeUnit::Nanosecond),
        D::Timestamp(unit, zone) => {
            TimeZone::opt_try_new(zone.as_deref()).ok()?;
            D::Timestamp(milliseconds(unit), zone.clone())
        }
        D::Duration(unit) => D::Duration(milliseconds(unit)),
        D::Decimal32(precision, scale)
        | D::Decimal64(precision, scale)
        | D::Decimal128(precision, scale)
        | D::Decimal256(precision, scale) => {
            let whole = scale.min(&0).unsigned_abs();
            let scale = *scale.max(&0);
            let precision = precision.saturating_add(whole).min(38);
            (scale.unsigned_abs() <= precision).then_some(D::Decimal128(precision, scale))?
        }
        D::List(item) | D::LargeList(item) | D::ListView(item) | D::LargeListView(item) => D::LargeList(field(item)?),
        D::FixedSizeList(item, width) if *width > 0 => D::FixedSizeList(field(item)?, *width),
        D::Struct(fields) => D::Struct(fields.iter().map(|f| field(f)).collect::<Option<Fields>>()?),
        D::Dictionary(_, values) => match held_as(values)? {
            D::Utf8View => kind.clone(),
            other => other,
        },
        D::RunEndEncoded(_, values) => held_as(values.data_type())?,
        D::Map(..) | D::Union(..) | D::Interval(_) | D::FixedSizeList(..) => return None,
        same => same.clone(),
    })
}

/// The columns as Polars holds them.
fn held(schema: &Schema) -> Result<Vec<Field>> {
    let mut names = HashSet::new();
    let column = |f: &Arc<Field>| {
        if !names.insert(f.name().clone()) {
            let message = format!("a frame has no two columns {}: give one another name", f.name());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let none = || Error::new(ErrorKind::Unsupported, format!("column {}: Polars has no type for {}", f.name(), f.data_type()));
        Ok(Field::new(f.name(), held_as(f.data_type()).ok_or_else(none)?, true))
    };
    schema.fields().iter().map(column).collect()
}

fn about(column: &str, e: impl Display) -> Error {
    Error::new(ErrorKind::Invalid, format!("column {column}: {e}"))
}

/// The batches as a frame of these columns, one chunk a batch.
fn frame(columns: &[Field], batches: &[RecordBatch]) -> Result<DataFrame> {
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    let mut out = vec![];
    for (i, column) in columns.iter().enumerate() {
        let wrong = |e: &dyn Display| about(column.name(), e);
        let mut chunks = vec![];
        for batch in batches.iter().filter(|b| b.num_rows() > 0) {
            // Unsafe ones make nulls of what does not fit.
            let options = CastOptions { safe: false, ..Default::default() };
            let array = cast_with_options(batch.column(i), column.data_type(), &options).map_err(|e| wrong(&e))?;
            chunks.push(export(array.as_ref()).map_err(|e| wrong(&e))?);
        }
        if chunks.is_empty() {
            chunks.push(export(new_empty_array(column.data_type()).as_ref()).map_err(|e| wrong(&e))?);
        }
        let series = Series::try_new(column.name().as_str().into(), chunks).map_err(|e| wrong(&e))?;
        out.push(Column::from(series));
    }
    DataFrame::new(rows, out).map_err(|e| Error::new(ErrorKind::Bug, e))
}

/// The rows of a frame, cut wherever a chunk of any column ends.
fn batches(frame: &DataFrame) -> Result<Vec<RecordBatch>> {
    let (mut fields, mut columns) = (vec![], vec![]);
    let mut ends = BTreeSet::from([frame.height()]);
    for column in frame.columns() {
        let none = || Error::new(ErrorKind::Unsupported, format!("column {}: Arrow has no type for {}", column.name(), column.dtype()));
        let taken = import(column.as_materialized_series()).map_err(|e| about(column.name(), e))?;
        let (kind, chunks) = taken.ok_or_else(none)?;
        let chunks: VecDeque<ArrayRef> = chunks.into_iter().filter(|c| !c.is_empty()).collect();
        ends.extend(chunks.iter().scan(0, |end, chunk| {
            *end += chunk.len();
            Some(*end)
        }));
        fields.push(Field::new(column.name().as_str(), kind, true));
        columns.push(chunks);
    }
    let schema = Arc::new(Schema::new(fields));
    let mut out = vec![];
    let mut start = 0;
    for end in ends.into_iter().filter(|end| *end > 0) {
        let rows = end - start;
        let values = columns.iter_mut().filter_map(|chunks| first(chunks, rows)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), values, &options);
        out.push(batch.map_err(|e| Error::new(ErrorKind::Bug, e))?);
        start = end;
    }
    if out.is_empty() {
        out.push(RecordBatch::new_empty(schema));
    }
    Ok(out)
}

/// Takes the first `rows` rows, which lie in the first chunk.
fn first(chunks: &mut VecDeque<ArrayRef>, rows: usize) -> Option<ArrayRef> {
    let chunk = chunks.pop_front()?;
    if chunk.len() > rows {
        chunks.push_front(chunk.slice(rows, chunk.len() - rows));
    }
    Some(chunk.slice(0, rows))
}
