//! Which rows are late.

use super::Windows;
use crate::{Error, ErrorKind, Result};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::{DataType, Int64Type};
use millstream_kernels::arith;

/// Rows that came.
pub(super) struct Arrival {
    /// Those that are on time.
    pub(super) on_time: RecordBatch,
    /// Those whose windows are all closed.
    pub(super) behind: Option<RecordBatch>,
    /// How many of those on time missed some of their windows.
    pub(super) partly: u64,
}

/// Divides rows by their event time, column `time`; `next` is the first window that is not closed.
///
/// # Errors
/// `Invalid` for an event time that is null or at the end of its range.
pub(super) fn arrived(batch: &RecordBatch, time: usize, windows: &Windows, next: Option<i64>) -> Result<Arrival> {
    let column = batch.column(time);
    if column.null_count() > 0 {
        let row = (0..column.len()).find(|r| column.is_null(*r)).unwrap_or(0);
        let schema = batch.schema();
        let name = schema.field(time).name();
        return Err(Error::new(ErrorKind::Invalid, format!("event time `{name}` is null in row {row} of a batch")));
    }
    let times = times(column)?;
    let all = Arrival { on_time: batch.clone(), behind: None, partly: 0 };
    if times.is_empty() {
        return Ok(all);
    }
    let (least, greatest) = arith::range_i64(&times);
    windows.check(least)?;
    windows.check(greatest)?;
    let Some(next) = next.filter(|next| least < windows.whole_from(*next)) else { return Ok(all) };
    let misses = |t: &&i64| (next..windows.whole_from(next)).contains(*t);
    let partly = times.iter().filter(misses).count() as u64;
    if least >= next {
        return Ok(Arrival { partly, ..all });
    }
    let keep: BooleanArray = times.iter().map(|t| Some(*t >= next)).collect();
    let behind = Some(filter_record_batch(batch, &not(&keep)?)?);
    Ok(Arrival { on_time: filter_record_batch(batch, &keep)?, behind, partly })
}

/// The greatest event time of a column, in its unit; none where all are null.
///
/// # Errors
/// `Invalid` for a column that is no timestamp nor a 64-bit integer.
pub fn greatest_time(column: &ArrayRef) -> Result<Option<i64>> {
    if !matches!(column.data_type(), DataType::Timestamp(..) | DataType::Date64 | DataType::Int64) {
        let text = format!("{}: a timestamp or a 64-bit integer is needed", column.data_type());
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    if column.null_count() > 0 {
        let known = arrow::compute::filter(column, &arrow::compute::is_not_null(column)?)?;
        return greatest_time(&known);
    }
    let times = times(column)?;
    Ok((!times.is_empty()).then(|| arith::range_i64(&times).1))
}

/// Event times as numbers in their unit.
fn times(column: &ArrayRef) -> Result<ScalarBuffer<i64>> {
    let data = column.to_data().into_builder().data_type(DataType::Int64).build()?;
    Ok(arrow::array::make_array(data).as_primitive::<Int64Type>().values().clone())
}
