//! Runs a job: epochs between checkpoints.
//!
//! ```text
//! job        what is run, and whether it holds together
//! reading    splits, how far each is read, the rows of the next epoch on their way
//! checkpoint sealed between two epochs, made durable and true while others run
//! restarts   a job that fails for a reason outside of it is opened again
//! ```

mod checkpoint;
mod job;
mod reading;
mod restarts;

pub use job::{Input, Job, Side};
pub use restarts::{Restart, Restarts, run_restarting};

use crate::clock::Clock;
use crate::log::{Log, Manifest};
use crate::metrics::{Metrics, OperatorMetrics};
use crate::sink::Attempt;
use crate::{Error, ErrorKind, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use checkpoint::{Committed, Sealed, publish};
use futures::{StreamExt, TryStreamExt};
use reading::{Read, Reading};
use std::sync::Arc;
use tokio::task::JoinSet;

/// How a driver runs.
#[derive(Clone, Debug)]
pub struct DriverOptions {
    /// Rows of an epoch at first, before it is known how long they take.
    pub epoch_rows: usize,
    /// The most rows of an epoch.
    pub epoch_rows_max: usize,
    /// How long an epoch should take: the next one is made smaller or larger.
    pub epoch_ms: u64,
    /// From one checkpoint to the next.
    pub checkpoint_ms: u64,
    /// How often sources are asked for new splits.
    pub discover_ms: u64,
    /// Every so many checkpoints all state is written anew, so that few files have to be read and kept.
    pub whole_every: u64,
}

impl Default for DriverOptions {
    fn default() -> Self {
        Self { epoch_rows: 1 << 16, epoch_rows_max: 1 << 20, epoch_ms: 20, checkpoint_ms: 1_000, discover_ms: 1_000, whole_every: 16 }
    }
}

/// Whether there was anything to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Rows came.
    Working,
    /// No rows for now.
    Idle,
    /// The input has ended: its last rows are published.
    Finished,
}

/// What an epoch did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whether there is more.
    pub progress: Progress,
    /// Rows read.
    pub rows_in: usize,
    /// Rows that went to the sink.
    pub rows_out: usize,
    /// Whether it ended in a checkpoint.
    pub checkpoint: bool,
}

/// State files that are read at a time.
const READ_AT_ONCE: usize = 4;

/// A job that runs, alone with its log. After an error it is of no more use: open another one.
pub struct Driver {
    job: Job,
    log: Log,
    options: DriverOptions,
    clock: Arc<dyn Clock>,
    /// The last one that is true.
    manifest: Manifest,
    reading: Reading,
    watermark: Option<i64>,
    epoch: u64,
    epoch_rows: usize,
    /// When the last checkpoint was sealed.
    sealed_ms: u64,
    /// Checkpoints since one had all state: no operator has more files.
    since_whole: u64,
    /// A checkpoint on its way: one at most. It dies with the driver.
    committing: JoinSet<Result<Committed>>,
    failed: bool,
    metrics: Metrics,
}

impl Driver {
    /// Begins a generation of `job` with what the last one left in `log`.
    ///
    /// # Errors
    /// `Invalid` for a job that does not hold together or the log of another one; `Corrupt` for state that cannot be
    /// read; `Retry` when the store or a sink cannot be reached.
    pub async fn open(mut job: Job, log: Log, options: DriverOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        let fingerprint = job.fingerprint()?;
        let committers = job.committers();
        let manifest = log.claim(&Manifest::begin(fingerprint, committers.len())).await?;
        for operator in &mut job.operators {
            let Some(state) = manifest.operators.get(operator.id()) else { continue };
            operator.restore(state, vec![]).await?;
            let files = manifest.state.get(operator.id()).into_iter().flatten();
            let mut files = futures::stream::iter(files.map(|f| log.read_state(f))).buffered(READ_AT_ONCE);
            while let Some(rows) = files.try_next().await? {
                operator.restore(state, rows).await?;
            }
        }
        if let Some(s) = manifest.splits.iter().find(|s| s.source >= job.inputs.len()) {
            let text = format!("manifest {} has split `{}` of source {}, which this job does not have", manifest.number, s.split, s.source);
            return Err(Error::new(ErrorKind::Corrupt, text));
        }
        publish(&committers, &manifest).await?;
        for (committer, named) in committers.iter().zip(&manifest.outputs) {
            committer.sweep(manifest.generation, named).await?;
        }
        log.sweep(&manifest).await?;
        let now = clock.now_ms();
        let operators = job.operators.iter().map(|o| OperatorMetrics { id: o.id().to_string(), ..OperatorMetrics::default() });
        Ok(Self {
            reading: Reading::at(&manifest.splits, now),
            watermark: manifest.watermark,
            epoch: manifest.epoch,
            epoch_rows: options.epoch_rows.min(options.epoch_rows_max),
            sealed_ms: now,
            since_whole: manifest.chain(),
            committing: JoinSet::new(),
            failed: false,
            metrics: Metrics { operators: operators.collect(), ..Metrics::default() },
            job,
            log,
            options,
            clock,
            manifest,
        })
    }

    /// The columns of the rows that go to the sink.
    pub fn schema(&self) -> SchemaRef {
        self.job.schema()
    }

    /// What it says of itself.
    pub fn metrics(&self) -> Metrics {
        let (splits, held_back_by) = self.reading.metrics(&self.job.inputs, self.clock.now_ms());
        let mut metrics = Metrics { watermark: self.watermark, held_back_by, splits, ..self.metrics.clone() };
        for (m, o) in metrics.operators.iter_mut().zip(&self.job.operators) {
            (m.state_bytes, m.state_on_disk_bytes) = (o.size() as u64, o.on_disk());
            (m.partly_late_rows, m.device) = (o.partly_late(), o.device());
        }
        metrics.state_bytes = metrics.operators.iter().map(|o| o.state_bytes).sum();
        metrics.state_on_disk_bytes = metrics.operators.iter().map(|o| o.state_on_disk_bytes).sum();
        metrics.partly_late_rows = metrics.operators.iter().map(|o| o.partly_late_rows).sum();
        metrics
    }

    /// Runs one epoch, and a checkpoint where one is due, to its end.
    ///
    /// # Errors
    /// What source, operators, sink and store raise; `Closed` when another driver runs this job.
    pub async fn step(&mut self) -> Result<Step> {
        self.begin()?;
        let step = self.epoch(false).await?;
        self.failed = false;
        Ok(step)
    }

    /// Makes what was read so far durable and its rows visible. Nothing is left to do where the job has finished.
    ///
    /// # Errors
    /// As [`Driver::step`].
    pub async fn checkpoint(&mut self) -> Result<()> {
        self.begin()?;
        if !self.manifest.finished {
            self.checkpoint_now(false).await?;
        }
        self.failed = false;
        Ok(())
    }

    /// Runs until the input has ended or `stop` says so; then with a last checkpoint. Between epochs without rows it
    /// waits for `idle_ms`. Other than with [`Driver::step`], the rows of an epoch are fetched while the one before is worked
    /// on, and checkpoints are written while epochs go on.
    ///
    /// # Errors
    /// As [`Driver::step`].
    pub async fn run(&mut self, idle_ms: u64, mut stop: impl FnMut() -> bool) -> Result<()> {
        while !stop() {
            self.begin()?;
            let step = self.epoch(true).await?;
            self.failed = false;
            match step.progress {
                Progress::Working => {}
                Progress::Idle => {
                    let from = self.clock.now_us();
                    tokio::time::sleep(std::time::Duration::from_millis(idle_ms)).await;
                    self.metrics.idle_us += self.clock.now_us().saturating_sub(from);
                }
                Progress::Finished => return Ok(()),
            }
        }
        self.checkpoint().await
    }

    /// After an error, or a future that was dropped, it is not known what is half done: `failed` until all is.
    fn begin(&mut self) -> Result<()> {
        if self.failed {
            let text = "this driver has failed: open another one, it goes on from the last checkpoint";
            return Err(Error::new(ErrorKind::Closed, text));
        }
        self.failed = true;
        Ok(())
    }

    /// An epoch; with `ahead` reading and checkpoints go on beside it.
    async fn epoch(&mut self, ahead: bool) -> Result<Step> {
        if self.manifest.finished {
            return Ok(Step { progress: Progress::Finished, rows_in: 0, rows_out: 0, checkpoint: false });
        }
        if let Some(done) = self.committing.try_join_next() {
            self.committed(done)?;
        }
        let started = self.clock.now_ms();
        self.reading.discover(&self.job.inputs, started, self.options.discover_ms).await?;
        let Read { rows, waited_us, held_us } = self.reading.read(&self.job.inputs, self.epoch_rows, ahead, &self.clock).await?;
        let rows_in: usize = rows.iter().map(RecordBatch::num_rows).sum();
        let before = self.metrics.rows_out;
        let asked = self.clock.now_ms();
        self.pass(0, rows).await?;
        let ended = self.reading.has_ended();
        let watermark = if ended { Some(i64::MAX) } else { self.reading.watermark(&self.job.inputs, started) };
        if watermark > self.watermark {
            self.watermark = watermark;
            self.advance().await?;
        }
        self.job.sinks().try_for_each(|sink| sink.end_epoch())?;
        self.epoch += 1;
        self.metrics.epochs += 1;
        self.metrics.rows_in += rows_in as u64;
        self.metrics.source_us += waited_us;
        self.metrics.backpressure_us += held_us;
        let now = self.clock.now_ms();
        // Rows that were fetched beside the last epoch cost this one nothing.
        self.adapt(rows_in, now.saturating_sub(if ahead { asked } else { started }));
        let checkpoint = ended || now.saturating_sub(self.sealed_ms) >= self.options.checkpoint_ms;
        if checkpoint && (ended || !ahead) {
            self.checkpoint_now(ended).await?;
        } else if checkpoint && self.committing.is_empty() {
            let sealed = self.seal(false).await?;
            self.committing.spawn(sealed.commit(self.log.clone(), self.job.committers()));
        }
        let progress = match (ended, rows_in) {
            (true, _) => Progress::Finished,
            (false, 0) => Progress::Idle,
            (false, _) => Progress::Working,
        };
        Ok(Step { progress, rows_in, rows_out: (self.metrics.rows_out - before) as usize, checkpoint })
    }

    /// Twice the rows after an epoch that took less than half its time, half of them after one that took twice.
    fn adapt(&mut self, rows: usize, took_ms: u64) {
        if took_ms > 2 * self.options.epoch_ms {
            self.epoch_rows = (self.epoch_rows / 2).max(1);
        } else if took_ms * 2 < self.options.epoch_ms && rows >= self.epoch_rows {
            self.epoch_rows = (self.epoch_rows * 2).min(self.options.epoch_rows_max);
        }
    }

    /// Passes rows to operator `from` and on to the sink.
    async fn pass(&mut self, from: usize, mut batches: Vec<RecordBatch>) -> Result<()> {
        let rows = |batches: &[RecordBatch]| batches.iter().map(|b| b.num_rows() as u64).sum::<u64>();
        for (operator, metrics) in self.job.operators.iter_mut().zip(&mut self.metrics.operators).skip(from) {
            if batches.is_empty() {
                return Ok(());
            }
            metrics.rows_in += rows(&batches);
            let began = self.clock.now_us();
            let made = operator.rows(batches).await?;
            metrics.busy_us += self.clock.now_us().saturating_sub(began);
            let aside = rows(&made.aside);
            metrics.rows_aside += aside;
            if operator.is_timed() {
                self.metrics.late_rows += aside;
            }
            if aside > 0 {
                let id = operator.id().to_string();
                for side in self.job.sides.iter_mut().filter(|s| s.operator == id) {
                    for batch in &made.aside {
                        side.sink.write(batch.clone()).await?;
                    }
                }
            }
            metrics.rows_out += rows(&made.out);
            batches = made.out;
        }
        let began = self.clock.now_us();
        for batch in batches.into_iter().filter(|b| b.num_rows() > 0) {
            self.metrics.rows_out += batch.num_rows() as u64;
            self.job.sink.write(batch).await?;
        }
        self.metrics.sink_us += self.clock.now_us().saturating_sub(began);
        Ok(())
    }

    /// Tells the operators the watermark, each when the rows that it sets free above have come.
    async fn advance(&mut self) -> Result<()> {
        let Some(watermark) = self.watermark else { return Ok(()) };
        for i in 0..self.job.operators.len() {
            loop {
                let began = self.clock.now_us();
                let due = self.job.operators[i].advance(watermark).await?;
                let metrics = &mut self.metrics.operators[i];
                metrics.busy_us += self.clock.now_us().saturating_sub(began);
                metrics.rows_out += due.iter().map(|b| b.num_rows() as u64).sum::<u64>();
                if due.is_empty() {
                    break;
                }
                self.pass(i + 1, due).await?;
            }
        }
        Ok(())
    }

    /// A whole checkpoint, behind one that is on its way.
    async fn checkpoint_now(&mut self, finished: bool) -> Result<()> {
        if let Some(done) = self.committing.join_next().await {
            self.committed(done)?;
        }
        let sealed = self.seal(finished).await?;
        let done = sealed.commit(self.log.clone(), self.job.committers()).await;
        self.committed(Ok(done))
    }

    /// Takes out of operators and sinks what the next checkpoint is of. The last one is true by now.
    async fn seal(&mut self, finished: bool) -> Result<Sealed> {
        let (sealed_ms, began) = (self.clock.now_ms(), self.clock.now_us());
        let whole = self.since_whole + 1 >= self.options.whole_every;
        let mut manifest = Manifest {
            number: self.manifest.number + 1,
            epoch: self.epoch,
            watermark: self.watermark,
            splits: self.reading.positions(),
            outputs: vec![],
            finished,
            ..self.manifest.clone()
        };
        let attempt = Attempt { generation: manifest.generation, checkpoint: manifest.number };
        let held = self.job.operators.iter().map(|o| o.size() as u64).sum();
        self.metrics.state_bytes_max = self.metrics.state_bytes_max.max(held);
        let mut state = vec![];
        for operator in &mut self.job.operators {
            let (beside, rows) = operator.checkpoint(whole).await?;
            manifest.operators.insert(operator.id().to_string(), beside);
            if whole {
                manifest.state.remove(operator.id());
            }
            state.push((operator.id().to_string(), rows));
        }
        let schemas = self.job.schemas();
        let outputs = self.job.sinks().zip(&schemas).map(|(sink, schema)| sink.seal(attempt, schema)).collect::<Result<_>>()?;
        self.since_whole = if whole { 0 } else { self.since_whole + 1 };
        self.sealed_ms = sealed_ms;
        self.metrics.checkpoint_pause_us = self.clock.now_us().saturating_sub(began);
        self.metrics.checkpoint_pause_us_max = self.metrics.checkpoint_pause_us_max.max(self.metrics.checkpoint_pause_us);
        Ok(Sealed { manifest, state, outputs })
    }

    fn committed(&mut self, done: std::result::Result<Result<Committed>, tokio::task::JoinError>) -> Result<()> {
        let Committed { manifest, bytes } = done.map_err(|e| Error::new(ErrorKind::Bug, format!("a checkpoint failed: {e}")))??;
        self.manifest = manifest;
        self.metrics.checkpoints += 1;
        self.metrics.checkpoint_ms = self.clock.now_ms().saturating_sub(self.sealed_ms);
        self.metrics.checkpoint_bytes = bytes;
        Ok(())
    }
}
