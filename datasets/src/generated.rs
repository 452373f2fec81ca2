//! Rows of whatever columns one likes: for trying things out, and for tests.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::error::{Error, Result};
use crate::random::Sequence;

/// The values of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Int64: the row's number, from this one on.
    Count(i64),
    /// Int64: random, from the first to before the second.
    Integer(Range<i64>),
    /// Float64: random, from the first to before the second.
    Float(Range<f64>),
    /// Utf8View: so many different texts, `name 0` and so on, at random.
    Text(u64),
    /// Timestamp(ms): from `start_ms` on, `per_second` rows a second.
    Time {
        /// The time of row 0.
        start_ms: i64,
        /// Rows of a second.
        per_second: u64,
    },
}

/// Columns of random rows. A value depends on seed, column and row only.
///
/// ```
/// use millstream_datasets::generated::{Rows, Values};
///
/// let rows = Rows::new(7).column("id", Values::Count(1)).column("price", Values::Float(0.5..10.0));
/// let (all, some) = (rows.batch(0..100)?, rows.batch(50..60)?);
/// assert_eq!(all.slice(50, 10), some);
/// # Ok::<(), millstream_datasets::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    seed: u64,
    columns: Vec<(String, Values)>,
}

impl Rows {
    /// Rows without columns yet.
    pub fn new(seed: u64) -> Self {
        Self { seed, columns: vec![] }
    }

    /// With one more column.
    pub fn column(mut self, name: impl Into<String>, values: Values) -> Self {
        self.columns.push((name.into(), values));
        self
    }

    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        let ty = |v: &Values| match v {
            Values::Count(_) | Values::Integer(_) => DataType::Int64,
            Values::Float(_) => DataType::Float64,
            Values::Text(_) => DataType::Utf8View,
            Values::Time { .. } => DataType::Timestamp(TimeUnit::Millisecond, None),
        };
        Arc::new(Schema::new(self.columns.iter().map(|(name, v)| Field::new(name, ty(v), false)).collect::<Vec<_>>()))
    }

    /// Some rows.
    ///
    /// # Errors
    /// `Invalid` for a range without values, texts of which there are none, or no rows a second.
    pub fn batch(&self, rows: Range<u64>) -> Result<RecordBatch> {
        let columns = self.columns.iter().map(|(name, v)| self.values(name, v, rows.clone())).collect::<Result<Vec<_>>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.end.saturating_sub(rows.start) as usize));
        RecordBatch::try_new_with_options(self.schema(), columns, &options).map_err(|e| Error::Bug(e.to_string()))
    }

    fn values(&self, name: &str, values: &Values, rows: Range<u64>) -> Result<ArrayRef> {
        let random = Sequence::new(self.seed, name);
        let empty = || Error::Invalid(format!("column `{name}` has no values to choose from: {values:?}"));
        Ok(match values {
            Values::Count(from) => Arc::new(Int64Array::from_iter_values(rows.map(|row| from.wrapping_add(row as i64)))),
            Values::Integer(of) => {
                let many = of.end.checked_sub(of.start).filter(|n| *n > 0).ok_or_else(empty)? as u64;
                Arc::new(Int64Array::from_iter_values(rows.map(|row| of.start + random.below(row, many) as i64)))
            }
            Values::Float(of) => {
                if !(of.start < of.end && of.start.is_finite() && of.end.is_finite()) {
                    return Err(empty());
                }
                // Of 2^53 steps: as fine as a float between 1 and 2.
                const STEPS: u64 = 1 << 53;
                let at = |row| of.start + (of.end - of.start) * (random.below(row, STEPS) as f64 / STEPS as f64);
                Arc::new(Float64Array::from_iter_values(rows.map(at)))
            }
            Values::Text(0) => return Err(empty()),
            Values::Text(many) => {
                Arc::new(StringViewArray::from_iter_values(rows.map(|row| format!("{name} {}", random.below(row, *many)))))
            }
            Values::Time { per_second: 0, .. } => return Err(empty()),
            Values::Time { start_ms, per_second } => {
                let at = |row: u64| start_ms.wrapping_add((u128::from(row) * 1000 / u128::from(*per_second)) as i64);
                Arc::new(TimestampMillisecondArray::from_iter_values(rows.map(at)))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType};

    #[test]
    fn values_are_what_was_asked_for() {
        let rows = Rows::new(3)
            .column("n", Values::Count(10))
            .column("i", Values::Integer(-2..3))
            .column("f", Values::Float(1.5..2.0))
            .column("t", Values::Text(3))
            .column("at", Values::Time { start_ms: 5, per_second: 2_000 });
        let b = rows.batch(100..1_100).unwrap();
        assert_eq!(b.column(0).as_primitive::<Int64Type>().values()[..2], [110, 111]);
        let integers = b.column(1).as_primitive::<Int64Type>().values();
        assert!((-2..3).all(|v| integers.contains(&v)) && integers.iter().all(|v| (-2..3).contains(v)));
        assert!(b.column(2).as_primitive::<Float64Type>().values().iter().all(|v| (1.5..2.0).contains(v)));
        let texts: std::collections::BTreeSet<_> = b.column(3).as_string_view().iter().flatten().collect();
        assert_eq!(texts.into_iter().collect::<Vec<_>>(), ["t 0", "t 1", "t 2"]);
        assert_eq!(b.column(4).as_primitive::<TimestampMillisecondType>().values()[..3], [55, 55, 56]);
        let none = Values::Time { start_ms: 0, per_second: 0 };
        for bad in [Values::Integer(3..3), Values::Float(2.0..1.0), Values::Float(0.0..f64::INFINITY), Values::Text(0), none] {
            assert!(matches!(Rows::new(1).column("x", bad).batch(0..1), Err(Error::Invalid(_))));
        }
        assert_eq!(Rows::new(1).batch(0..7).unwrap().num_rows(), 7);
    }
}
