//! Readings of sensors, as they arrive: an endless stream, of which any part can be made at once.
//!
//! | column | |
//! | --- | --- |
//! | `at` | Timestamp(ms): when it was read. Readings arrive `per_second` a second, each up to `disorder_ms` after it was read |
//! | `sensor` | Int64, from 0: each reading is of a random one |
//! | `value` | Float64, 0 to 100 with six decimals |

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::error::{Error, Result};
use crate::random::Sequence;

/// A stream of readings. A reading depends on these numbers and its position only.
///
/// ```
/// use millstream_datasets::sensors::Readings;
///
/// let readings = Readings { sensors: 100, per_second: 1_000, disorder_ms: 50, seed: 1 };
/// let (all, some) = (readings.batch(0..1_000)?, readings.batch(500..600)?);
/// assert_eq!(all.slice(500, 100), some);
/// # Ok::<(), millstream_datasets::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readings {
    /// How many sensors there are.
    pub sensors: u64,
    /// Readings that arrive in a second of event time.
    pub per_second: u64,
    /// The longest time between a reading and its arrival.
    pub disorder_ms: u64,
    /// Other readings of the same kind.
    pub seed: u64,
}

impl Readings {
    /// The columns.
    pub fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), false),
            Field::new("sensor", DataType::Int64, false),
            Field::new("value", DataType::Float64, false),
        ]))
    }

    /// Some readings, in the order in which they arrive.
    ///
    /// # Errors
    /// `Invalid` where there are no sensors, or none a second.
    pub fn batch(&self, rows: Range<u64>) -> Result<RecordBatch> {
        if self.sensors == 0 || self.per_second == 0 {
            return Err(Error::Invalid(format!("{} sensors with {} readings a second", self.sensors, self.per_second)));
        }
        let sequence = |name| Sequence::new(self.seed, name);
        let (late, of, values) = (sequence("late"), sequence("sensor"), sequence("value"));
        let arrival = |row: u64| (u128::from(row) * 1000 / u128::from(self.per_second)) as i64;
        let at = |row: u64| arrival(row) - late.below(row, self.disorder_ms + 1) as i64;
        let at: TimestampMillisecondArray = rows.clone().map(at).collect::<Vec<_>>().into();
        let sensor: Int64Array = rows.clone().map(|row| of.below(row, self.sensors) as i64).collect::<Vec<_>>().into();
        let value: Float64Array = rows.map(|row| values.up_to_100(row)).collect::<Vec<_>>().into();
        RecordBatch::try_new(Self::schema(), vec![Arc::new(at), Arc::new(sensor), Arc::new(value)]).map_err(|e| Error::Bug(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType};

    #[test]
    fn readings_are_of_their_time_and_of_every_sensor() {
        let readings = Readings { sensors: 10, per_second: 1_000, disorder_ms: 50, seed: 7 };
        let batch = readings.batch(0..20_000).unwrap();
        let at = batch.column(0).as_primitive::<TimestampMillisecondType>();
        let delays: Vec<i64> = at.values().iter().enumerate().map(|(row, at)| row as i64 - at).collect();
        assert!(delays.iter().all(|d| (0..=50).contains(d)) && delays.contains(&0) && delays.contains(&50));
        let of = batch.column(1).as_primitive::<Int64Type>();
        assert!((0..10).all(|s| of.values().iter().filter(|o| **o == s).count() > 1_800));
        let values = batch.column(2).as_primitive::<Float64Type>();
        assert!(values.values().iter().all(|v| (0.0..=100.0).contains(v)));
        assert_ne!(batch, Readings { seed: 8, ..readings }.batch(0..20_000).unwrap());
        assert!(Readings { sensors: 0, ..readings }.batch(0..1).is_err() && Readings { per_second: 0, ..readings }.batch(0..1).is_err());
    }
}
