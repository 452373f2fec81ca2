//! Which event times are complete: a watermark for each split, and the least of them.

use crate::{Error, ErrorKind, Result};
use arrow::array::RecordBatch;
use millstream_stage::greatest_time;

/// How the watermark of a split follows from its rows.
#[derive(Clone, Debug)]
pub struct EventTime {
    /// The column that says when a row happened.
    pub column: String,
    /// A row may come this much behind the greatest event time before it, in the unit of the column.
    pub disorder: i64,
    /// A split without rows for so long holds nothing back; none: it does for ever.
    pub idle_ms: Option<u64>,
}

/// What is known of the event times of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SplitTime {
    /// The greatest so far.
    pub(crate) greatest: Option<i64>,
    /// When the last rows came.
    pub(crate) last_rows_ms: u64,
}

impl SplitTime {
    pub(crate) fn new(greatest: Option<i64>, now_ms: u64) -> Self {
        Self { greatest, last_rows_ms: now_ms }
    }

    /// Takes the rows of a batch into account.
    pub(crate) fn see(&mut self, time: &EventTime, batch: &RecordBatch, now_ms: u64) -> Result<()> {
        let column = batch.column_by_name(&time.column);
        let column = column.ok_or_else(|| Error::new(ErrorKind::Invalid, format!("there is no event time column `{}`", time.column)))?;
        let greatest = greatest_time(column).map_err(|e| Error::new(ErrorKind::Invalid, format!("event time `{}` is {e}", time.column)))?;
        if let Some(greatest) = greatest {
            self.greatest = self.greatest.max(Some(greatest));
            self.last_rows_ms = now_ms;
        }
        Ok(())
    }

    /// No row with an earlier event time is expected; none where nothing is known yet.
    pub(crate) fn watermark(&self, time: &EventTime) -> Option<i64> {
        self.greatest.map(|g| g.saturating_sub(time.disorder))
    }

    pub(crate) fn is_idle(&self, time: &EventTime, now_ms: u64) -> bool {
        time.idle_ms.is_some_and(|idle| now_ms.saturating_sub(self.last_rows_ms) >= idle)
    }
}
