//! Where rows come from.

use crate::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

/// How the splits of a source are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitOrder {
    /// One after the other by name, as the files of a log: those not begun hold no watermark back.
    Sequential,
    /// All at once, as the partitions of a topic: each holds the watermark back until it has rows, is idle or ends.
    Concurrent,
}

/// A replayable input, divided into splits. The rows of a split have offsets; what was at an offset is there
/// again when it is asked for again.
#[async_trait]
pub trait Source: Send + Sync {
    /// Its name in messages and metrics.
    fn name(&self) -> &str;

    /// The columns of its rows.
    fn schema(&self) -> SchemaRef;

    /// How its splits are read.
    fn order(&self) -> SplitOrder;

    /// Whether no new split will ever come, once all are listed.
    fn is_bounded(&self) -> bool;

    /// The splits there are now. One that was there before may be missing if it was read to its end.
    ///
    /// # Errors
    /// `Retry` when they cannot be listed.
    async fn splits(&self) -> Result<Vec<String>>;

    /// Up to `rows` rows of `split` from `offset` on, at least one unless there are none now.
    ///
    /// # Errors
    /// `Retry` when it cannot be reached, `Invalid` for rows that cannot be read; the message says where.
    async fn fetch(&self, split: &str, offset: u64, rows: usize) -> Result<Fetched>;
}

/// Rows of a split.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// In the order of their offsets.
    pub batches: Vec<RecordBatch>,
    /// The offset behind them.
    pub next: u64,
    /// Whether nothing will ever follow.
    pub ended: bool,
}
