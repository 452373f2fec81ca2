//! Where the workers of a stage take their input from.

#![expect(clippy::disallowed_methods, reason = "Instant::now: how long a fetch took is a metric")]

use crate::Result;
use crate::convert::{Block, Reader};
use crate::scan::{Fetched, ParquetScan, RowGroup};
use arrow::array::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::physical_plan::metrics::Time;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Mutex, mpsc};

/// What workers take their input from.
pub(super) enum Source {
    Groups { scan: Arc<ParquetScan>, groups: Mutex<VecDeque<RowGroup>> },
    Blocks(Mutex<VecDeque<Block>>),
    Streams { batches: Mutex<mpsc::Receiver<datafusion::error::Result<RecordBatch>>>, _tasks: Vec<SpawnedTask<()>> },
}

/// What one worker takes at a time.
pub(super) enum Morsel {
    Fetched(Fetched),
    Block(Block),
    Batch(RecordBatch),
}

impl Source {
    /// The next morsel, none when the source is dry.
    pub(super) async fn next(&self, fetch: &Time) -> Result<Option<Morsel>> {
        match self {
            Source::Groups { scan, groups } => {
                let Some(group) = groups.lock().await.pop_front() else { return Ok(None) };
                let started = Instant::now();
                let fetched = scan.fetch(group).await?;
                fetch.add_elapsed(started);
                Ok(Some(Morsel::Fetched(fetched)))
            }
            Source::Blocks(blocks) => Ok(blocks.lock().await.pop_front().map(Morsel::Block)),
            Source::Streams { batches, .. } => match batches.lock().await.recv().await {
                Some(batch) => Ok(Some(Morsel::Batch(batch?))),
                None => Ok(None),
            },
        }
    }
}

impl Morsel {
    /// Hands the morsel's rows on as blocks of the program's inputs.
    pub(super) fn blocks(self, inputs: &[usize], reader: &mut Reader, mut take: impl FnMut(Block) -> Result<()>) -> Result<()> {
        match self {
            Morsel::Fetched(f) => f.decode(take),
            Morsel::Block(b) => take(b),
            Morsel::Batch(b) => {
                let block = reader.block(&b, inputs)?;
                take(block)
            }
        }
    }
}
