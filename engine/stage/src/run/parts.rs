//! Groups that have gone to disk: finished part by part, when somebody asks for their rows.

use super::flush::{OnDisk, PARTS};
use super::late::LateKeys;
use super::sink::GroupSink;
use super::spill::{LEVELS, Spiller};
use super::worker::SPILL_BYTES;
use crate::convert::Block;
use crate::program::{Program, Sink};
use crate::{Cancel, Error, Pool, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::metrics::{Count, Time};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;

/// The groups of a stage on disk.
pub struct Parts {
    pub(super) files: Vec<OnDisk>,
    pub(super) program: Arc<Program>,
    pub(super) sink: Sink,
    pub(super) checked: bool,
    pub(super) late: Option<Arc<LateKeys>>,
    pub(super) spiller: Spiller,
    /// Of the consumer that a part's groups are charged to; empty.
    pub(super) reservation: MemoryReservation,
    pub(super) cancel: Cancel,
    pub(super) time: Time,
    pub(super) rows: Count,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Parts({} files)", self.files.len())
    }
}

impl Parts {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        PARTS
    }

    /// The rows of part `part`, piece by piece.
    ///
    /// # Errors
    /// What the disk and the kernels raise; `Exhausted` for a part that no memory is left for.
    pub(super) fn each(&self, part: usize, mut take: impl FnMut(Block) -> Result<()>) -> Result<()> {
        self.merged(&self.files, part, 1, &mut |b| {
            self.rows.add(b.rows);
            take(b)
        })
    }

    fn merged(&self, files: &[OnDisk], part: usize, level: u32, take: &mut dyn FnMut(Block) -> Result<()>) -> Result<()> {
        let Sink::Group { keys, aggregates, .. } = &self.sink else { return Err(Error::bug("group sink expected")) };
        let mut all = GroupSink::new(&self.program, keys, aggregates)?.at_level(level);
        let held = self.reservation.new_empty();
        for file in files {
            for piece in 0..file.pieces(part) {
                self.cancel.check()?;
                file.add_to(&mut all, part, piece)?;
                // Emptying a table takes as much again, and so do its rows.
                let size = 2 * all.size();
                if let Err(full) = held.try_resize(size)
                    && size >= SPILL_BYTES
                {
                    if level > LEVELS {
                        return Err(full.into());
                    }
                    all.spill(&self.spiller, &self.cancel)?;
                    held.free();
                }
            }
        }
        if !all.has_spilled() {
            return match &self.late {
                Some(late) => take(late.finish(&mut all, self.checked)?),
                None => take(all.finish(self.checked)?),
            };
        }
        all.spill(&self.spiller, &self.cancel)?;
        let files = all.take_spilled();
        drop(all);
        held.free();
        (0..PARTS).try_for_each(|p| self.merged(&files, p, level + 1, take))
    }

    /// All rows, the parts finished by the pool's threads.
    pub(crate) fn stream(self: Arc<Self>, pool: &Pool) -> BoxStream<'static, Result<Block>> {
        let threads = pool.threads();
        let pool = pool.clone();
        let parts = (0..self.len()).map(move |p| {
            let (parts, pool) = (Arc::clone(&self), pool.clone());
            async move {
                let blocks = pool.run(move || {
                    let _timer = parts.time.timer();
                    let mut blocks = vec![];
                    parts.each(p, |b| {
                        blocks.push(b);
                        Ok(())
                    })?;
                    Ok(blocks)
                });
                match blocks.await {
                    Ok(blocks) => blocks.into_iter().map(Ok).collect(),
                    Err(e) => vec![Err(e)],
                }
            }
        });
        futures::stream::iter(parts).buffer_unordered(threads).map(futures::stream::iter).flatten().boxed()
    }
}
