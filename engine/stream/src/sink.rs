//! Where rows go, and when readers see them.

use crate::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::future::BoxFuture;
use std::sync::Arc;

/// Whose output it is, and of which checkpoint: names made of it are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    /// The driver's.
    pub generation: u64,
    /// The number of the manifest that will name it.
    pub checkpoint: u64,
}

/// When readers see rows. Either way they end up with each of them once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// When their checkpoint is true.
    #[default]
    Committed,
    /// When their epoch ends. A failure takes back what no checkpoint has, and the replay brings it again; so that readers
    /// are not told two things, only rows of which these columns are a key are taken, from operators that bring the row of
    /// a key again as it was.
    Epoch(Vec<String>),
}

/// Takes the rows of a job.
///
/// Rows are written, sealed into a checkpoint, staged, named in a manifest, and published by the [`Committer`]. A driver
/// that dies leaves staged rows that no manifest names: they are never published. One that dies behind its manifest
/// leaves rows that the next driver publishes.
#[async_trait]
pub trait Sink: Send {
    /// Its name in messages and metrics.
    fn name(&self) -> &str;

    /// When readers see what is written here.
    fn delivery(&self) -> Delivery {
        Delivery::Committed
    }

    /// Takes rows.
    ///
    /// # Errors
    /// `Retry` when they cannot be taken, `Closed` when another sink has taken over.
    async fn write(&mut self, batch: RecordBatch) -> Result<()>;

    /// All rows of an epoch are written: with [`Delivery::Epoch`] readers see them now.
    ///
    /// # Errors
    /// As [`Sink::write`].
    fn end_epoch(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes out what was written since the last call; of `schema` also where that was nothing. The future makes it durable
    /// while more is written here, and returns what [`Committer::publish`] needs to know, in text. It fails with `Retry`
    /// when that cannot be done.
    ///
    /// # Errors
    /// As [`Sink::write`].
    fn seal(&mut self, attempt: Attempt, schema: &SchemaRef) -> Result<BoxFuture<'static, Result<Vec<String>>>>;

    /// Who publishes what is staged here.
    fn committer(&self) -> Arc<dyn Committer>;
}

/// Lets readers see what a [`Sink`] staged.
#[async_trait]
pub trait Committer: Send + Sync {
    /// Lets readers see what these say; again after a failure, with the same effect.
    ///
    /// # Errors
    /// `Retry` when it cannot be reached, `Corrupt` when what was staged is gone.
    async fn publish(&self, items: &[String]) -> Result<()>;

    /// Removes what drivers before `generation` staged and no manifest names: `named` is what the last one does.
    ///
    /// # Errors
    /// `Retry` when it cannot be reached.
    async fn sweep(&self, generation: u64, named: &[String]) -> Result<()>;
}
