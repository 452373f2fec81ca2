//! A checkpoint on its way: sealed between two epochs, then made durable and true while others run.

use crate::Result;
use crate::log::{Log, Manifest};
use crate::operator::StateRows;
use crate::sink::{Attempt, Committer};
use futures::future::BoxFuture;
use std::sync::Arc;

/// All that a checkpoint is of, taken out of the job.
pub(super) struct Sealed {
    /// Without the files of `state` and without outputs.
    pub(super) manifest: Manifest,
    /// Rows of state, by operator.
    pub(super) state: Vec<(String, StateRows)>,
    /// What each sink has to stage.
    pub(super) outputs: Vec<BoxFuture<'static, Result<Vec<String>>>>,
}

/// A checkpoint that is true, and published.
pub(super) struct Committed {
    pub(super) manifest: Manifest,
    /// Of state that it wrote.
    pub(super) bytes: u64,
}

impl Sealed {
    /// Makes it durable, then true, then visible; then removes what nothing refers to any longer.
    ///
    /// # Errors
    /// `Closed` when another driver has begun; `Retry` when the store or a sink cannot be reached.
    pub(super) async fn commit(self, log: Log, committers: Vec<Arc<dyn Committer>>) -> Result<Committed> {
        let Self { mut manifest, state, outputs } = self;
        let attempt = Attempt { generation: manifest.generation, checkpoint: manifest.number };
        // One after the other: nobody waits for it, and what a store sees follows from the rows alone.
        for output in outputs {
            manifest.outputs.push(output.await?);
        }
        let mut bytes = 0;
        for (operator, rows) in state {
            let files = log.write_state(attempt, &operator, rows).await?;
            if !files.is_empty() {
                bytes += files.iter().map(|f| f.bytes).sum::<u64>();
                manifest.state.entry(operator).or_default().extend(files);
            }
        }
        log.commit(&manifest).await?;
        publish(&committers, &manifest).await?;
        log.sweep(&manifest).await?;
        Ok(Committed { manifest, bytes })
    }
}

/// Lets readers see what a manifest names.
pub(super) async fn publish(committers: &[Arc<dyn Committer>], manifest: &Manifest) -> Result<()> {
    for (committer, items) in committers.iter().zip(&manifest.outputs) {
        committer.publish(items).await?;
    }
    Ok(())
}
