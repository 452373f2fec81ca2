//! The suite `windows`: what streams of readings have to become, told row by row and slowly.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};

/// What is done to a stream of `at`, `sensor`, `value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The `sensor` and 0.908 times the `value`, of rows whose value is above 50.
    Stateless,
    /// Of windows of event time, in ms, count and greatest value of each sensor.
    Windows {
        /// How long a window is.
        width: i64,
        /// How much later the next one begins.
        slide: i64,
    },
}

/// A query of the suite.
#[derive(Clone, Copy, Debug)]
pub struct WindowQuery {
    /// Its name on the command line.
    pub id: &'static str,
    /// What it asks.
    pub work: Work,
}

/// The queries, over 100,000 sensors and a million readings a second of event time.
pub const WINDOW_QUERIES: [WindowQuery; 4] = [
    WindowQuery { id: "stateless", work: Work::Stateless },
    WindowQuery { id: "tumble", work: Work::Windows { width: 5_000, slide: 5_000 } },
    WindowQuery { id: "hop1", work: Work::Windows { width: 1_000, slide: 1_000 } },
    WindowQuery { id: "hop100", work: Work::Windows { width: 50_000, slide: 500 } },
];

/// Which rows, whatever their order: their number, and a sum of their hashes.
type Bag = (u64, u64);

/// What the rows of a query have to be.
#[derive(Clone)]
pub struct Windowed {
    work: Work,
    sensors: usize,
    /// Of each span of `slide`: per sensor how many readings, and the greatest.
    spans: BTreeMap<i64, Vec<(i64, f64)>>,
    rows: Bag,
}

fn mixed(a: u64, b: u64) -> u64 {
    (a ^ b.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xBF58_476D_1CE4_E5B9).rotate_left(31).wrapping_mul(0x94D0_49BB_1331_11EB)
}

fn longs(column: &ArrayRef) -> Result<&[i64], String> {
    column.as_primitive_opt::<Int64Type>().map(|c| c.values().as_ref()).ok_or_else(|| format!("{} in place of Int64", column.data_type()))
}

fn floats(column: &ArrayRef) -> Result<&[f64], String> {
    column
        .as_primitive_opt::<Float64Type>()
        .map(|c| c.values().as_ref())
        .ok_or_else(|| format!("{} in place of Float64", column.data_type()))
}

/// A time as the number it is.
fn times(column: &ArrayRef) -> Result<Vec<i64>, String> {
    use arrow::datatypes::TimestampMillisecondType;
    let times = column.as_primitive_opt::<TimestampMillisecondType>();
    times.map(|c| c.values().to_vec()).ok_or_else(|| format!("{} in place of a timestamp", column.data_type()))
}

impl Windowed {
    /// The answer over no rows yet.
    pub fn new(work: Work, sensors: usize) -> Self {
        Self { work, sensors, spans: BTreeMap::new(), rows: (0, 0) }
    }

    /// Adds rows of the input.
    ///
    /// # Errors
    /// For columns of other types, and windows that are no whole number of slides.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let (at, of, values) = (times(batch.column(0))?, longs(batch.column(1))?, floats(batch.column(2))?);
        for ((at, of), value) in at.into_iter().zip(of).zip(values) {
            match self.work {
                Work::Stateless => {
                    if *value > 50.0 {
                        let hash = mixed(*of as u64, (value * 0.908).to_bits());
                        self.rows = (self.rows.0 + 1, self.rows.1.wrapping_add(hash));
                    }
                }
                Work::Windows { width, slide } if width % slide == 0 => {
                    let span = self.spans.entry(at.div_euclid(slide) * slide).or_insert_with(|| vec![(0, f64::MIN); self.sensors]);
                    let (count, greatest) = &mut span[*of as usize];
                    *count += 1;
                    *greatest = greatest.max(*value);
                }
                Work::Windows { width, slide } => return Err(format!("a width of {width} is no whole number of slides of {slide}")),
            }
        }
        Ok(())
    }

    /// A check of a result, as its rows come.
    pub fn check(&self) -> WindowCheck<'_> {
        WindowCheck { expected: self, rows: (0, 0), window: None, done: 0 }
    }

    /// Count and greatest value of each sensor in the window that begins at `start`.
    fn window(&self, start: i64, width: i64) -> Vec<(i64, f64)> {
        let mut all = vec![(0, f64::MIN); self.sensors];
        for (_, span) in self.spans.range(start..start + width) {
            all.iter_mut().zip(span).for_each(|(a, s)| *a = (a.0 + s.0, a.1.max(s.1)));
        }
        all
    }

    /// How many windows have rows.
    fn windows(&self, width: i64, slide: i64) -> usize {
        let starts = |span: &i64| {
            let span = *span;
            (0..width / slide).map(move |i| span - i * slide)
        };
        self.spans.keys().flat_map(starts).collect::<std::collections::BTreeSet<_>>().len()
    }
}

/// A check that is going on. Windows have to come whole, one after the other.
pub struct WindowCheck<'a> {
    expected: &'a Windowed,
    rows: Bag,
    /// The window whose rows come: its begin, and what is still missing of it.
    window: Option<(i64, Vec<(i64, f64)>)>,
    done: usize,
}

impl WindowCheck<'_> {
    /// Checks rows of the result.
    ///
    /// # Errors
    /// The first row that is wrong, doubled, or of a window whose turn it is not.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let Work::Windows { width, slide } = self.expected.work else {
            let rows = longs(batch.column(0))?.iter().zip(floats(batch.column(1))?);
            for (of, value) in rows {
                self.rows = (self.rows.0 + 1, self.rows.1.wrapping_add(mixed(*of as u64, value.to_bits())));
            }
            return Ok(());
        };
        let (start, end) = (times(batch.column(0))?, times(batch.column(1))?);
        let (of, counts, greatest) = (longs(batch.column(2))?, longs(batch.column(3))?, floats(batch.column(4))?);
        for row in 0..batch.num_rows() {
            let (start, end) = (start[row], end[row]);
            if self.window.as_ref().is_none_or(|w| w.0 != start) {
                let last = self.close()?;
                if start.rem_euclid(slide) != 0 || end != start + width || last.is_some_and(|l| start < l) {
                    return Err(format!("window {start} to {end} behind {last:?}"));
                }
                self.window = Some((start, self.expected.window(start, width)));
            }
            let of = of[row] as usize;
            let wanted = self.window.as_mut().and_then(|w| w.1.get_mut(of)).ok_or_else(|| format!("there is no sensor {of}"))?;
            let found = (counts[row], greatest[row]);
            if found != *wanted || found.0 == 0 {
                return Err(format!("sensor {of} in the window from {start}: {found:?} where {wanted:?} is right (or was there before)"));
            }
            wanted.0 = 0;
        }
        Ok(())
    }

    /// Checks that nothing is missing of the window that came last; its begin.
    fn close(&mut self) -> Result<Option<i64>, String> {
        let Some((start, rest)) = self.window.take() else { return Ok(None) };
        self.done += 1;
        match rest.iter().position(|r| r.0 != 0) {
            Some(of) => Err(format!("sensor {of} is missing in the window from {start}")),
            None => Ok(Some(start)),
        }
    }

    /// Checks that nothing is missing.
    ///
    /// # Errors
    /// What is.
    pub fn finish(mut self) -> Result<(), String> {
        self.close()?;
        match self.expected.work {
            Work::Stateless if self.rows == self.expected.rows => Ok(()),
            Work::Stateless => Err(format!("{} rows where {} are right, or others", self.rows.0, self.expected.rows.0)),
            Work::Windows { width, slide } => match self.expected.windows(width, slide) {
                all if all == self.done => Ok(()),
                all => Err(format!("{} windows of {all}", self.done)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array, TimestampMillisecondArray};
    use arrow::datatypes::{Field, Schema};
    use std::sync::Arc;

    fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
        let fields = columns.iter().enumerate().map(|(i, c)| Field::new(format!("c{i}"), c.data_type().clone(), false));
        RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns).unwrap()
    }

    fn at(v: &[i64]) -> ArrayRef {
        Arc::new(TimestampMillisecondArray::from(v.to_vec()))
    }

    fn long(v: &[i64]) -> ArrayRef {
        Arc::new(Int64Array::from(v.to_vec()))
    }

    fn float(v: &[f64]) -> ArrayRef {
        Arc::new(Float64Array::from(v.to_vec()))
    }

    fn verdict(expected: &Windowed, batches: &[RecordBatch]) -> Result<(), String> {
        let mut check = expected.check();
        batches.iter().try_for_each(|b| check.add(b))?;
        check.finish()
    }

    #[test]
    fn a_window_is_right_only_whole_and_once() {
        let mut expected = Windowed::new(Work::Windows { width: 20, slide: 10 }, 2);
        expected.add(&batch(vec![at(&[1, 2, 11]), long(&[0, 1, 0]), float(&[5.0, 6.0, 4.0])])).unwrap();
        let rows = |start: &[i64], of: &[i64], n: &[i64], v: &[f64]| {
            let end: Vec<i64> = start.iter().map(|s| s + 20).collect();
            batch(vec![at(start), at(&end), long(of), long(n), float(v)])
        };
        let (first, second) = (rows(&[-10, -10], &[0, 1], &[1, 1], &[5.0, 6.0]), rows(&[0, 0], &[1, 0], &[1, 2], &[6.0, 5.0]));
        let third = rows(&[10], &[0], &[1], &[4.0]);
        verdict(&expected, &[first.clone(), second.clone(), third.clone()]).unwrap();
        // Missing, doubled, out of turn, a wrong value, a window of another place.
        for wrong in [
            vec![&first, &second],
            vec![&first, &third],
            vec![&first, &second, &second, &third],
            vec![&first, &second, &third, &third],
            vec![&second, &first, &third],
            vec![&first, &second, &rows(&[10], &[0], &[1], &[4.5])],
            vec![&first, &second, &rows(&[10], &[0], &[2], &[4.0])],
            vec![&first, &second, &rows(&[10], &[1], &[1], &[4.0])],
            vec![&rows(&[-10], &[0], &[1], &[5.0]), &second, &third],
            vec![&first, &second, &rows(&[15], &[0], &[1], &[4.0])],
        ] {
            let wrong: Vec<RecordBatch> = wrong.into_iter().cloned().collect();
            assert!(verdict(&expected, &wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn rows_are_right_in_any_order_but_each_once() {
        let mut expected = Windowed::new(Work::Stateless, 9);
        expected.add(&batch(vec![at(&[1, 2, 3]), long(&[0, 1, 2]), float(&[50.5, 50.0, 99.0])])).unwrap();
        let rows = |of: &[i64], v: &[f64]| batch(vec![long(of), float(&v.iter().map(|v| v * 0.908).collect::<Vec<_>>())]);
        verdict(&expected, &[rows(&[2], &[99.0]), rows(&[0], &[50.5])]).unwrap();
        for wrong in
            [rows(&[0], &[50.5]), rows(&[0, 2, 2], &[50.5, 99.0, 99.0]), rows(&[0, 0], &[50.5, 99.0]), rows(&[0, 2], &[50.5, 99.1])]
        {
            assert!(verdict(&expected, std::slice::from_ref(&wrong)).is_err(), "{wrong:?}");
        }
    }
}
