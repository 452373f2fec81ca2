//! A checkpoint on its way: sealed between two epochs, then made durable and true while others run.

use crate::Result;
use crate::log::{Log, Manifest, StateFile};
use crate::sink::{Attempt, Committer};
use arrow::array::RecordBatch;
use futures::future::BoxFuture;
use std::sync::Arc;

/// All that a checkpoint is of, taken out of the job.
pub(super) struct Sealed {
    /// Without the files of `state` and without outputs.
    pub(super) manifest: Manifest,
    /// Rows of state by operator.
    pub(super) state: Vec<(String, Vec<RecordBatch>)>,
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
        let outputs = futures::future::try_join_all(outputs);
        let files = state.into_iter().filter(|(_, rows)| !rows.is_empty()).map(|(operator, rows)| {
            let log = log.clone();
            async move { Ok::<(String, StateFile), crate::Error>((operator.clone(), log.write_state(attempt, operator, rows).await?)) }
        });
        let (outputs, files) = futures::future::try_join(outputs, futures::future::try_join_all(files)).await?;
        let bytes = files.iter().map(|(_, f)| f.bytes).sum();
        for (operator, file) in files {
            manifest.state.entry(operator).or_default().push(file);
        }
        manifest.outputs = outputs;
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
