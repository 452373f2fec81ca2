//! Where the workers of a stage take their input from.

#![expect(clippy::disallowed_methods, reason = "Instant::now: how long a fetch took is a metric")]

use super::best::Bar;
use super::driver::{Held, MORSEL_ROWS};
use super::parts::Parts;
use super::split;
use crate::Result;
use crate::convert::{Block, Reader};
use crate::resident::ResidentMorsel;
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
    Resident(Runs<ResidentMorsel>),
    Blocks { blocks: Runs<Block>, _held: Held },
    Parts { parts: Arc<Parts>, next: AtomicUsize },
    Streams { batches: Mutex<mpsc::Receiver<datafusion::error::Result<RecordBatch>>>, _tasks: Vec<SpawnedTask<()>> },
}

/// Pieces of input in as many runs as there are workers: neighbours meet in one worker, whose groups then
/// have few keys in common with another's where the input is clustered.
pub(super) struct Runs<T> {
    /// Numbered pieces.
    runs: Vec<std::sync::Mutex<VecDeque<(usize, T)>>>,
    /// What rules pieces out while others are read.
    bar: Option<Bar>,
}

impl<T> Runs<T> {
    /// `all`, in order, for `workers` workers.
    pub(super) fn new(all: VecDeque<T>, workers: usize) -> Self {
        let share = all.len().div_ceil(workers.max(1)).max(1);
        let mut all = all.into_iter().enumerate();
        Self { runs: (0..workers.max(1)).map(|_| std::sync::Mutex::new(all.by_ref().take(share).collect())).collect(), bar: None }
    }

    /// `all` for `workers` workers, who begin with those that `bar` has first.
    ///
    /// # Errors
    /// As [`Bar::order`].
    pub(super) fn best_first(all: VecDeque<T>, workers: usize, bar: Option<Bar>) -> Result<Self> {
        let Some(bar) = bar else { return Ok(Self::new(all, workers)) };
        let mut all: Vec<Option<T>> = all.into_iter().map(Some).collect();
        let mut runs: Vec<VecDeque<(usize, T)>> = (0..workers.max(1)).map(|_| VecDeque::new()).collect();
        for (at, piece) in bar.order()?.into_iter().enumerate() {
            runs[at % workers.max(1)].extend(all[piece].take().map(|p| (piece, p)));
        }
        Ok(Self { runs: runs.into_iter().map(std::sync::Mutex::new).collect(), bar: Some(bar) })
    }

    /// The next of worker `w`: of its own run, then the last one of another's.
    fn take(&self, w: usize) -> Option<T> {
        let n = self.runs.len();
        let next = |i: usize| {
            let mut run = self.runs[(w + i) % n].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if i == 0 { run.pop_front() } else { run.pop_back() }
        };
        let wanted = |number: usize| self.bar.as_ref().is_none_or(|b| !b.rules_out(number));
        (0..n).find_map(|i| std::iter::from_fn(|| next(i)).find(|(number, _)| wanted(*number))).map(|(_, piece)| piece)
    }

    /// What is left, of the pieces' own measure.
    fn sum(&self, of: impl Fn(&T) -> usize) -> usize {
        let each = self.runs.iter().map(|run| run.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        each.map(|run| run.iter().map(|(_, piece)| of(piece)).sum::<usize>()).sum()
    }
}

/// What one worker takes at a time.
pub(super) enum Morsel {
    Fetched(Fetched),
    Resident(ResidentMorsel),
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
            Source::Resident(_) | Source::Blocks { .. } => Ok(self.ready(w)),
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
        if groups.sum(|_| 1) <= groups.runs.len() {
            return None;
        }
        let (source, fetch) = (Arc::clone(self), fetch.clone());
        Some(SpawnedTask::spawn(async move { source.next(w, &fetch).await }))
    }

    /// How many rows there are before the first is taken, where that is known.
    pub(super) fn rows(&self) -> Option<usize> {
        match self {
            Source::Groups { groups, .. } => Some(groups.sum(RowGroup::rows)),
            Source::Resident(morsels) => Some(morsels.sum(ResidentMorsel::rows)),
            Source::Blocks { blocks, .. } => Some(blocks.sum(|b| b.rows)),
            Source::Parts { .. } | Source::Streams { .. } => None,
        }
    }

    /// Another morsel of worker `w`, if there is one to be had without waiting.
    pub(super) fn ready(&self, w: usize) -> Option<Morsel> {
        match self {
            Source::Resident(morsels) => morsels.take(w).map(Morsel::Resident),
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
            Morsel::Resident(m) => take(m.block()),
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
