//! The splits of a job: which there are, how far each is read, and the watermark that follows.

use super::job::Input;
use crate::clock::Clock;
use crate::log::SplitPosition;
use crate::metrics::SplitMetrics;
use crate::source::{Fetched, SplitOrder};
use crate::watermark::SplitTime;
use crate::{Error, ErrorKind, Result};
use arrow::array::RecordBatch;
use std::sync::Arc;
use tokio::task::JoinSet;

struct Split {
    source: usize,
    id: String,
    offset: u64,
    ended: bool,
    time: SplitTime,
    rows: u64,
}

/// What was fetched of a split, and the greatest event time, or mark, in it.
struct Answer {
    split: usize,
    fetched: Fetched,
    greatest: Option<i64>,
}

/// Those of all splits that were asked for, and when that was done, in microseconds.
type Answers = Result<(Vec<Answer>, u64)>;

/// Rows of an epoch.
pub(super) struct Read {
    pub(super) rows: Vec<RecordBatch>,
    /// Microseconds that the job waited for them.
    pub(super) waited_us: u64,
    /// Microseconds that they waited for the job.
    pub(super) held_us: u64,
}

pub(super) struct Reading {
    splits: Vec<Split>,
    /// Whether every source has named all its splits.
    all_known: bool,
    discovered_ms: Option<u64>,
    /// Rows of the next epoch, on their way while this one is worked on.
    next: JoinSet<Answers>,
}

impl Reading {
    /// Goes on at these positions.
    pub(super) fn at(positions: &[SplitPosition], now_ms: u64) -> Self {
        let split = |s: &SplitPosition| Split {
            source: s.source,
            id: s.split.clone(),
            offset: s.offset,
            ended: s.ended,
            time: SplitTime::new(s.greatest, now_ms),
            rows: 0,
        };
        Self { splits: positions.iter().map(split).collect(), all_known: false, discovered_ms: None, next: JoinSet::new() }
    }

    pub(super) fn positions(&self) -> Vec<SplitPosition> {
        let position = |s: &Split| SplitPosition {
            source: s.source,
            split: s.id.clone(),
            offset: s.offset,
            ended: s.ended,
            greatest: s.time.greatest,
        };
        self.splits.iter().map(position).collect()
    }

    /// Whether no row will come any more.
    pub(super) fn has_ended(&self) -> bool {
        self.all_known && self.splits.iter().all(|s| s.ended)
    }

    /// Asks the sources which splits there are, if that was not done in the last `every_ms`.
    pub(super) async fn discover(&mut self, inputs: &[Input], now: u64, every_ms: u64) -> Result<()> {
        if self.all_known || self.discovered_ms.is_some_and(|at| now.saturating_sub(at) < every_ms) {
            return Ok(());
        }
        for (source, input) in inputs.iter().enumerate() {
            let mut ids = input.source.splits().await?;
            ids.sort();
            for id in ids {
                if !self.splits.iter().any(|s| s.source == source && s.id == id) {
                    self.splits.push(Split { source, id, offset: 0, ended: false, time: SplitTime::new(None, now), rows: 0 });
                }
            }
        }
        self.all_known = inputs.iter().all(|i| i.source.is_bounded());
        self.discovered_ms = Some(now);
        Ok(())
    }

    /// The splits that are read now.
    fn active(&self, inputs: &[Input]) -> Vec<usize> {
        let mut active = vec![];
        for (source, input) in inputs.iter().enumerate() {
            let open = self.splits.iter().enumerate().filter(|(_, s)| s.source == source && !s.ended);
            match input.source.order() {
                SplitOrder::Concurrent => active.extend(open.map(|(i, _)| i)),
                SplitOrder::Sequential => active.extend(open.map(|(i, _)| i).next()),
            }
        }
        active
    }

    /// About `rows` rows, from where the splits are.
    fn fetch(&self, inputs: &[Input], rows: usize, clock: Arc<dyn Clock>) -> impl Future<Output = Answers> + Send + 'static {
        let active = self.active(inputs);
        let share = (rows / active.len().max(1)).max(1);
        let wanted: Vec<_> = active
            .into_iter()
            .map(|i| {
                let (split, input) = (&self.splits[i], &inputs[self.splits[i].source]);
                (i, Arc::clone(&input.source), split.id.clone(), split.offset, input.time.clone())
            })
            .collect();
        async move {
            let fetches = wanted.into_iter().map(async |(split, source, id, offset, time)| {
                let fetched = source.fetch(&id, offset, share).await?;
                // Here, so that it is beside the epoch before where rows are fetched ahead.
                let mut greatest = None;
                for batch in &fetched.batches {
                    greatest = greatest.max(time.as_ref().map_or(Ok(None), |t| t.greatest_of(batch))?);
                }
                Ok::<_, Error>(Answer { split, fetched, greatest })
            });
            let fetched = futures::future::try_join_all(fetches).await?;
            Ok((fetched, clock.now_us()))
        }
    }

    /// The rows of an epoch; with `ahead` those of the next one are sent for.
    pub(super) async fn read(&mut self, inputs: &[Input], rows: usize, ahead: bool, clock: &Arc<dyn Clock>) -> Result<Read> {
        let asked_us = clock.now_us();
        let (fetched, done_us) = match self.next.join_next().await {
            Some(answers) => answers.map_err(|e| Error::new(ErrorKind::Bug, format!("a source failed: {e}")))??,
            None => self.fetch(inputs, rows, Arc::clone(clock)).await?,
        };
        let (now, waited_us, held_us) = (clock.now_ms(), clock.now_us().saturating_sub(asked_us), asked_us.saturating_sub(done_us));
        let mut out = vec![];
        for Answer { split, fetched: Fetched { batches, next, ended }, greatest } in fetched {
            let split = &mut self.splits[split];
            let rows = batches.iter().map(|b| b.num_rows() as u64).sum::<u64>();
            split.rows += rows;
            (split.offset, split.ended) = (next, ended);
            if rows > 0 {
                split.time.see(greatest, now);
            }
            out.extend(batches);
        }
        // Where less came than was asked for, rows that were sent for now would be old when the next epoch begins.
        let full = out.iter().map(RecordBatch::num_rows).sum::<usize>() * 2 > rows;
        if ahead && full && !self.active(inputs).is_empty() {
            self.next.spawn(self.fetch(inputs, rows, Arc::clone(clock)));
        }
        Ok(Read { rows: out, waited_us, held_us })
    }

    /// The least watermark of the splits that count.
    pub(super) fn watermark(&self, inputs: &[Input], now: u64) -> Option<i64> {
        let mut all: Vec<Option<i64>> = vec![];
        for (source, input) in inputs.iter().enumerate() {
            let Some(time) = &input.time else { continue };
            let mine = || self.splits.iter().filter(|s| s.source == source);
            match input.source.order() {
                // They are one log: what its last files said holds until the next ones say more.
                SplitOrder::Sequential => {
                    let idle = mine().all(|s| s.time.is_idle(time, now));
                    if !idle || mine().next().is_none() {
                        all.push(mine().filter_map(|s| s.time.watermark(time)).max());
                    }
                }
                SplitOrder::Concurrent => {
                    let counts = mine().filter(|s| !s.ended && !s.time.is_idle(time, now));
                    all.extend(counts.map(|s| s.time.watermark(time)));
                }
            }
        }
        all.into_iter().min().flatten()
    }

    /// The splits, and which of them holds the watermark back.
    pub(super) fn metrics(&self, inputs: &[Input], now: u64) -> (Vec<SplitMetrics>, Option<String>) {
        let time = |s: &Split| inputs[s.source].time.as_ref();
        let of_split = |s: &Split| SplitMetrics {
            source: inputs[s.source].source.name().to_string(),
            split: s.id.clone(),
            rows: s.rows,
            offset: s.offset,
            watermark: time(s).and_then(|t| s.time.watermark(t)),
            idle: time(s).is_some_and(|t| s.time.is_idle(t, now)),
            ended: s.ended,
        };
        let splits: Vec<_> = self.splits.iter().map(of_split).collect();
        // Files that are read later hold nothing back.
        let holders = self.active(inputs).into_iter().filter(|i| time(&self.splits[*i]).is_some()).map(|i| &splits[i]);
        let holder = holders.filter(|s| !s.idle).min_by_key(|s| s.watermark);
        let held_back_by = holder.map(|s| format!("{}/{}", s.source, s.split));
        (splits, held_back_by)
    }
}
