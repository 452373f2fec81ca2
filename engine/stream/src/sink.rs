//! Where rows go, to be seen when their checkpoint is true.

use crate::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

/// Whose output it is, and of which checkpoint: names made of it are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    /// The driver's.
    pub generation: u64,
    /// The number of the manifest that will name it.
    pub checkpoint: u64,
}

/// An output that is committed: rows are staged, then named in a manifest, then published.
///
/// A driver that dies leaves staged rows that no manifest names: they are never published. One that dies behind
/// its manifest leaves rows that the next driver publishes: [`Sink::publish`] has the same effect twice.
#[async_trait]
pub trait Sink: Send {
    /// Its name in messages and metrics.
    fn name(&self) -> &str;

    /// Takes rows; nobody sees them yet.
    ///
    /// # Errors
    /// `Retry` when they cannot be staged.
    async fn write(&mut self, batch: RecordBatch) -> Result<()>;

    /// Makes durable what was written since the last call; of `schema` also where that was nothing. Returns what
    /// [`Sink::publish`] needs to know, in text.
    ///
    /// # Errors
    /// `Retry` when it cannot be staged.
    async fn prepare(&mut self, attempt: Attempt, schema: &SchemaRef) -> Result<Vec<String>>;

    /// Lets readers see what these say; again after a failure, with the same effect.
    ///
    /// # Errors
    /// `Retry` when it cannot be reached, `Corrupt` when what was staged is gone.
    async fn publish(&mut self, items: &[String]) -> Result<()>;

    /// Removes what drivers before `generation` staged and no manifest names: `named` is what the last one does.
    ///
    /// # Errors
    /// `Retry` when it cannot be reached.
    async fn sweep(&mut self, generation: u64, named: &[String]) -> Result<()>;
}
