//! Which event times are complete: a watermark for each split, and the least of them.

use crate::{Error, ErrorKind, Result};
use arrow::array::RecordBatch;
use millstream_stage::greatest_time;
use std::fmt;
use std::sync::Arc;

/// How the watermark of a split follows from its rows.
#[derive(Clone, Debug)]
pub struct EventTime {
    /// The column that says when a row happened.
    pub column: String,
    /// What says how far the split is.
    pub marks: Marks,
    /// A split without rows for so long holds nothing back; none: it does for ever.
    pub idle_ms: Option<u64>,
}

/// A function of a batch: its rows say that no row before this time is to be expected in their split.
pub type MarkOf = Arc<dyn Fn(&RecordBatch) -> Result<Option<i64>> + Send + Sync>;

/// What says that no row with an earlier event time is to be expected in a split.
#[derive(Clone)]
pub enum Marks {
    /// The greatest event time so far: a row may come this much behind it, in the unit of the column.
    Disorder(i64),
    /// The greatest value so far of this column, of the type of the event time; null says nothing.
    Column(String),
    /// The greatest value so far of a function of the batches, which must not depend on where they begin. The text says
    /// which it is: a checkpoint of another is not taken.
    Function(String, MarkOf),
}

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Marks::Disorder(disorder) => write!(f, "{disorder} behind"),
            Marks::Column(column) => write!(f, "marks of column {column}"),
            Marks::Function(text, _) => write!(f, "marks of {text}"),
        }
    }
}

impl EventTime {
    /// What state depends on. Disorder and idleness may be others in another run.
    pub(crate) fn fingerprint(&self) -> String {
        match &self.marks {
            Marks::Disorder(_) => self.column.clone(),
            marks => format!("{}, {marks:?}", self.column),
        }
    }

    /// The greatest event time of a batch, or mark in it.
    pub(crate) fn greatest_of(&self, batch: &RecordBatch) -> Result<Option<i64>> {
        let greatest = |column: &str| {
            let values = batch.column_by_name(column);
            let values = values.ok_or_else(|| Error::new(ErrorKind::Invalid, format!("there is no event time column `{column}`")))?;
            greatest_time(values).map_err(|e| Error::new(ErrorKind::Invalid, format!("event time `{column}` is {e}")))
        };
        match &self.marks {
            Marks::Disorder(_) => greatest(&self.column),
            Marks::Column(column) => greatest(column),
            Marks::Function(text, function) => {
                let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| function(batch)));
                made.map_err(|_| Error::new(ErrorKind::Bug, format!("the watermark function `{text}` panicked")))?
            }
        }
    }
}

/// What is known of the event times of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SplitTime {
    /// The greatest so far: an event time, or a mark.
    pub(crate) greatest: Option<i64>,
    /// When the last rows came.
    pub(crate) last_rows_ms: u64,
}

impl SplitTime {
    pub(crate) fn new(greatest: Option<i64>, now_ms: u64) -> Self {
        Self { greatest, last_rows_ms: now_ms }
    }

    /// Rows came, of which this was the greatest.
    pub(crate) fn see(&mut self, greatest: Option<i64>, now_ms: u64) {
        self.greatest = self.greatest.max(greatest);
        self.last_rows_ms = now_ms;
    }

    /// No row with an earlier event time is expected; none where nothing is known yet.
    pub(crate) fn watermark(&self, time: &EventTime) -> Option<i64> {
        let disorder = if let Marks::Disorder(disorder) = time.marks { disorder } else { 0 };
        self.greatest.map(|g| g.saturating_sub(disorder))
    }

    pub(crate) fn is_idle(&self, time: &EventTime, now_ms: u64) -> bool {
        time.idle_ms.is_some_and(|idle| now_ms.saturating_sub(self.last_rows_ms) >= idle)
    }
}
