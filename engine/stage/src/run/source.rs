//! Where the workers of a stage take their input from.

#![expect(clippy::disallowed_methods, reason = "Instant::now: how long a fetch took is a metric")]

use super::driver::{Held, MORSEL_ROWS};
use super::parts::Parts;
use super::split;
use crate::Result;
use crate::convert::{Block, Reader};
use crate::scan::{Fetched, ParquetScan, RowGroup};
use arrow::array::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::physical_plan::metrics::Time;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::sync::{Mutex, mpsc};

/// What workers take their input from.
pub(super) enum Source {
    Groups { scan: Arc<ParquetScan>, groups: Runs<RowGroup> },
    Blocks { blocks: Runs<Block>, _held: Held },
    Parts { parts: Arc<Parts>, next: AtomicUsize },
    Streams { batches: Mutex<mpsc::Receiver<datafusion::error::Result<RecordBatch>>>, _tasks: Vec<SpawnedTask<()>> },
}

/// Pieces of input in as many runs as there are workers: neighbours meet in one worker, whose groups then
/// have few keys in common with another's where the input is clustered.
pub(super) struct Runs<T>(Vec<std::sync::Mutex<VecDeque<T>>>);

impl<T> Runs<T> {
    /// `all`, in order, for `workers` workers.
    pub(super) fn new(all: VecDeque<T>, workers: usize) -> Self {
        let share = all.len().div_ceil(workers.max(1)).max(1);
        let mut all = all.into_iter();
        Self((0..workers.max(1)).map(|_| std::sync::Mutex::new(all.by_ref().take(share).collect())).collect())
    }

    /// The next of worker `w`: of its own run, then the last one of another's.
    fn take(&self, w: usize) -> Option<T> {
        let n = self.0.len();
        (0..n).find_map(|i| {
            let mut run = self.0[(w + i) % n].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if i == 0 { run.pop_front() } else { run.pop_back() }
        })
    }

    /// What is left, of the pieces' own measure.
    fn sum(&self, of: impl Fn(&T) -> usize) -> usize {
        self.0.iter().map(|run| run.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter().map(&of).sum::<usize>()).sum()
    }
}

/// What one worker takes at a time.
pub(super) enum Morsel {
    Fetched(Fetched),
    Block(Block),
    Part(Arc<Parts>, usize),
    Batch(RecordBatch),
}

impl Source {
    /// The next morsel of worker `w`, none when the source is dry.
    pub(super) async fn next(&self, w: usize, fetch: &Time) -> Result<Option<Morsel>> {
        match self {
            Source::Groups { scan, groups } => {
                let Some(group) = groups.take(w) else { return Ok(None) };
                let started = Instant::now();
                let fetched = scan.fetch(group).await?;
                fetch.add_elapsed(started);
                Ok(Some(Morsel::Fetched(fetched)))
            }
            Source::Blocks { blocks, .. } => Ok(blocks.take(w).map(Morsel::Block)),
            Source::Parts { parts, next } => {
                let part = next.fetch_add(1, Ordering::Relaxed);
                Ok((part < parts.len()).then(|| Morsel::Part(Arc::clone(parts), part)))
            }
            Source::Streams { batches, .. } => match batches.lock().await.recv().await {
                Some(batch) => Ok(Some(Morsel::Batch(batch?))),
                None => Ok(None),
            },
        }
    }

    /// The next morsel of worker `w`, on its way while the worker is busy with the one before. None where nothing is
    /// fetched, and at the end, when what one worker has asked for another might be without.
    pub(super) fn ahead(self: &Arc<Self>, w: usize, fetch: &Time) -> Option<SpawnedTask<Result<Option<Morsel>>>> {
        let Source::Groups { groups, .. } = self.as_ref() else { return None };
        if groups.sum(|_| 1) <= groups.0.len() {
            return None;
        }
        let (source, fetch) = (Arc::clone(self), fetch.clone());
        Some(SpawnedTask::spawn(async move { source.next(w, &fetch).await }))
    }

    /// How many rows there are before the first is taken, where that is known.
    pub(super) fn rows(&self) -> Option<usize> {
        match self {
            Source::Groups { groups, .. } => Some(groups.sum(RowGroup::rows)),
            Source::Blocks { blocks, .. } => Some(blocks.sum(|b| b.rows)),
            Source::Parts { .. } | Source::Streams { .. } => None,
        }
    }

    /// Another morsel of worker `w`, if there is one to be had without waiting.
    pub(super) fn ready(&self, w: usize) -> Option<Morsel> {
        match self {
            Source::Blocks { blocks, .. } => blocks.take(w).map(Morsel::Block),
            Source::Groups { .. } | Source::Parts { .. } | Source::Streams { .. } => None,
        }
    }
}

impl Morsel {
    /// Hands the morsel's rows on as blocks of the program's inputs.
    pub(super) fn blocks(self, inputs: &[usize], reader: &mut Reader, mut take: impl FnMut(Block) -> Result<()>) -> Result<()> {
        match self {
            Morsel::Fetched(f) => f.decode(take),
            Morsel::Block(b) => take(b),
            Morsel::Part(parts, part) => parts.each(part, |b| {
                let columns = inputs.iter().map(|i| b.columns[*i].clone().shared()).collect();
                split(vec![Block { columns, rows: b.rows }], MORSEL_ROWS).into_iter().try_for_each(&mut take)
            }),
            Morsel::Batch(b) => {
                let block = reader.block(&b, inputs)?;
                take(block)
            }
        }
    }
}
