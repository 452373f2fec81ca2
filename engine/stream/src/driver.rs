//! Runs a job: epochs between checkpoints.

use crate::clock::Clock;
use crate::log::{Log, Manifest, SplitPosition};
use crate::metrics::{Metrics, SplitMetrics};
use crate::operator::Operator;
use crate::sink::{Attempt, Sink};
use crate::source::{Fetched, Source, SplitOrder};
use crate::watermark::{EventTime, SplitTime};
use crate::{Error, ErrorKind, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A source and how event time is told from its rows.
pub struct Input {
    /// Where rows come from.
    pub source: Arc<dyn Source>,
    /// Its event time; none where nothing downstream asks for one.
    pub time: Option<EventTime>,
}

/// What a driver runs: rows of all inputs through the operators, one after the other, to the sink.
pub struct Job {
    /// All of one schema.
    pub inputs: Vec<Input>,
    /// In the order in which rows pass them.
    pub operators: Vec<Box<dyn Operator>>,
    /// Where the rows go.
    pub sink: Box<dyn Sink>,
    /// Where late rows go, as they came to the operator that found them late; without one they are counted only.
    pub late: Option<Box<dyn Sink>>,
}

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

struct Split {
    source: usize,
    id: String,
    offset: u64,
    ended: bool,
    time: SplitTime,
    rows: u64,
}

/// A job that runs, alone with its log. After an error it is of no more use: open another one.
pub struct Driver {
    job: Job,
    log: Log,
    options: DriverOptions,
    clock: Arc<dyn Clock>,
    /// The last one that is true.
    manifest: Manifest,
    splits: Vec<Split>,
    /// Whether every source has named all its splits.
    all_known: bool,
    watermark: Option<i64>,
    epoch: u64,
    epoch_rows: usize,
    discovered_ms: Option<u64>,
    checkpointed_ms: u64,
    since_whole: u64,
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
        let schema = schema_of(&job)?;
        let mut fingerprint = format!("rows {schema}");
        for input in &job.inputs {
            let time = input.time.as_ref().map_or("no event time", |t| t.column.as_str());
            fingerprint = format!("{fingerprint} | {} by {time}", input.source.name());
        }
        for (i, operator) in job.operators.iter().enumerate() {
            if job.operators[..i].iter().any(|o| o.id() == operator.id()) {
                return Err(Error::new(ErrorKind::Invalid, format!("two operators have the id `{}`", operator.id())));
            }
            fingerprint = format!("{fingerprint} | {} {}", operator.id(), operator.fingerprint());
        }
        let sinks = 1 + usize::from(job.late.is_some());
        let manifest = log.claim(&Manifest::begin(fingerprint, sinks)).await?;
        for operator in &mut job.operators {
            let mut rows = vec![];
            for file in manifest.state.get(operator.id()).into_iter().flatten() {
                rows.extend(log.read_state(file).await?);
            }
            if let Some(state) = manifest.operators.get(operator.id()) {
                operator.restore(state, &rows)?;
            }
        }
        if let Some(s) = manifest.splits.iter().find(|s| s.source >= job.inputs.len()) {
            let text = format!("manifest {} has split `{}` of source {}, which this job does not have", manifest.number, s.split, s.source);
            return Err(Error::new(ErrorKind::Corrupt, text));
        }
        let now = clock.now_ms();
        let split = |s: &SplitPosition| Split {
            source: s.source,
            id: s.split.clone(),
            offset: s.offset,
            ended: s.ended,
            time: SplitTime::new(s.greatest, now),
            rows: 0,
        };
        let splits = manifest.splits.iter().map(split).collect();
        let (watermark, epoch, epoch_rows) = (manifest.watermark, manifest.epoch, options.epoch_rows.min(options.epoch_rows_max));
        let mut driver = Self {
            job,
            log,
            options,
            clock,
            splits,
            all_known: false,
            watermark,
            epoch,
            epoch_rows,
            discovered_ms: None,
            checkpointed_ms: now,
            since_whole: 0,
            failed: false,
            metrics: Metrics::default(),
            manifest,
        };
        driver.publish().await?;
        let generation = driver.manifest.generation;
        for (sink, named) in sinks_of(&mut driver.job).zip(&driver.manifest.outputs) {
            sink.sweep(generation, named).await?;
        }
        driver.log.sweep(&driver.manifest).await?;
        Ok(driver)
    }

    /// The columns of the rows that go to the sink.
    pub fn schema(&self) -> SchemaRef {
        out_schema(&self.job)
    }

    /// What it says of itself.
    pub fn metrics(&self) -> Metrics {
        let now = self.clock.now_ms();
        let time = |s: &Split| self.job.inputs[s.source].time.as_ref();
        let of_split = |s: &Split| SplitMetrics {
            source: self.job.inputs[s.source].source.name().to_string(),
            split: s.id.clone(),
            rows: s.rows,
            offset: s.offset,
            watermark: time(s).and_then(|t| s.time.watermark(t)),
            idle: time(s).is_some_and(|t| s.time.is_idle(t, now)),
            ended: s.ended,
        };
        let splits: Vec<_> = self.splits.iter().map(of_split).collect();
        // Files that are read later hold nothing back.
        let holders = self.active().into_iter().filter(|i| time(&self.splits[*i]).is_some()).map(|i| &splits[i]);
        let holder = holders.filter(|s| !s.idle).min_by_key(|s| s.watermark);
        let held_back_by = holder.map(|s| format!("{}/{}", s.source, s.split));
        let state_bytes = self.job.operators.iter().map(|o| o.size() as u64).sum();
        let partly_late_rows = self.job.operators.iter().map(|o| o.partly_late()).sum();
        Metrics { watermark: self.watermark, held_back_by, state_bytes, partly_late_rows, splits, ..self.metrics.clone() }
    }

    /// Runs one epoch, and a checkpoint where one is due.
    ///
    /// # Errors
    /// What source, operators, sink and store raise; `Closed` when another driver runs this job.
    pub async fn step(&mut self) -> Result<Step> {
        self.guard()?;
        self.failed = true;
        let step = self.epoch().await?;
        self.failed = false;
        Ok(step)
    }

    /// Makes what was read so far durable and its rows visible.
    ///
    /// # Errors
    /// As [`Driver::step`].
    pub async fn checkpoint(&mut self) -> Result<()> {
        self.guard()?;
        self.failed = true;
        self.commit(false).await?;
        self.failed = false;
        Ok(())
    }

    fn guard(&self) -> Result<()> {
        match self.failed {
            true => Err(Error::new(ErrorKind::Closed, "this driver has failed: open another one, it goes on from the last checkpoint")),
            false => Ok(()),
        }
    }

    /// Runs until the input has ended or `stop` says so; then with a last checkpoint. Between epochs without rows it
    /// waits for `idle_ms`.
    ///
    /// # Errors
    /// As [`Driver::step`].
    pub async fn run(&mut self, idle_ms: u64, stop: impl Fn() -> bool) -> Result<()> {
        while !stop() {
            match self.step().await?.progress {
                Progress::Working => {}
                Progress::Idle => tokio::time::sleep(std::time::Duration::from_millis(idle_ms)).await,
                Progress::Finished => return Ok(()),
            }
        }
        self.checkpoint().await
    }

    async fn epoch(&mut self) -> Result<Step> {
        if self.manifest.finished {
            return Ok(Step { progress: Progress::Finished, rows_in: 0, rows_out: 0, checkpoint: false });
        }
        let started = self.clock.now_ms();
        self.discover(started).await?;
        let rows = self.read(started).await?;
        let rows_in: usize = rows.iter().map(RecordBatch::num_rows).sum();
        let before = self.metrics.rows_out;
        self.pass(0, rows).await?;
        let ended = self.all_known && self.splits.iter().all(|s| s.ended);
        let watermark = if ended { Some(i64::MAX) } else { self.input_watermark(started) };
        if watermark > self.watermark {
            self.watermark = watermark;
            self.advance().await?;
        }
        self.epoch += 1;
        self.metrics.epochs += 1;
        self.metrics.rows_in += rows_in as u64;
        let now = self.clock.now_ms();
        self.adapt(rows_in, now.saturating_sub(started));
        let checkpoint = ended || now.saturating_sub(self.checkpointed_ms) >= self.options.checkpoint_ms;
        if checkpoint {
            self.commit(ended).await?;
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

    /// Asks the sources which splits there are.
    async fn discover(&mut self, now: u64) -> Result<()> {
        if self.all_known || self.discovered_ms.is_some_and(|at| now.saturating_sub(at) < self.options.discover_ms) {
            return Ok(());
        }
        for (source, input) in self.job.inputs.iter().enumerate() {
            let mut ids = input.source.splits().await?;
            ids.sort();
            for id in ids {
                if !self.splits.iter().any(|s| s.source == source && s.id == id) {
                    self.splits.push(Split { source, id, offset: 0, ended: false, time: SplitTime::new(None, now), rows: 0 });
                }
            }
        }
        self.all_known = self.job.inputs.iter().all(|i| i.source.is_bounded());
        self.discovered_ms = Some(now);
        Ok(())
    }

    /// The splits that are read now.
    fn active(&self) -> Vec<usize> {
        let mut active = vec![];
        for (source, input) in self.job.inputs.iter().enumerate() {
            let open = self.splits.iter().enumerate().filter(|(_, s)| s.source == source && !s.ended);
            match input.source.order() {
                SplitOrder::Concurrent => active.extend(open.map(|(i, _)| i)),
                SplitOrder::Sequential => active.extend(open.map(|(i, _)| i).next()),
            }
        }
        active
    }

    async fn read(&mut self, now: u64) -> Result<Vec<RecordBatch>> {
        let active = self.active();
        let share = (self.epoch_rows / active.len().max(1)).max(1);
        let fetches = active.iter().map(|i| {
            let split = &self.splits[*i];
            self.job.inputs[split.source].source.fetch(&split.id, split.offset, share)
        });
        let fetched = futures::future::try_join_all(fetches).await?;
        let mut out = vec![];
        for (i, Fetched { batches, next, ended }) in active.into_iter().zip(fetched) {
            let split = &mut self.splits[i];
            let input = &self.job.inputs[split.source];
            let rows: u64 = batches.iter().map(|b| b.num_rows() as u64).sum();
            for batch in batches {
                if let Some(time) = &input.time {
                    split.time.see(time, &batch, now)?;
                }
                out.push(batch);
            }
            (split.offset, split.ended, split.rows) = (next, ended, split.rows + rows);
        }
        Ok(out)
    }

    /// The least watermark of the splits that count.
    fn input_watermark(&self, now: u64) -> Option<i64> {
        let mut all: Vec<Option<i64>> = vec![];
        for (source, input) in self.job.inputs.iter().enumerate() {
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

    /// Passes rows to operator `from` and on to the sink.
    async fn pass(&mut self, from: usize, mut batches: Vec<RecordBatch>) -> Result<()> {
        for operator in &mut self.job.operators[from..] {
            if batches.is_empty() {
                return Ok(());
            }
            let rows = operator.rows(batches).await?;
            for late in rows.late {
                self.metrics.late_rows += late.num_rows() as u64;
                if let Some(sink) = &mut self.job.late {
                    sink.write(late).await?;
                }
            }
            batches = rows.out;
        }
        for batch in batches.into_iter().filter(|b| b.num_rows() > 0) {
            self.metrics.rows_out += batch.num_rows() as u64;
            self.job.sink.write(batch).await?;
        }
        Ok(())
    }

    /// Tells the operators the watermark, each when the rows that it sets free above have come.
    async fn advance(&mut self) -> Result<()> {
        let Some(watermark) = self.watermark else { return Ok(()) };
        for i in 0..self.job.operators.len() {
            loop {
                let due = self.job.operators[i].advance(watermark).await?;
                if due.is_empty() {
                    break;
                }
                self.pass(i + 1, due).await?;
            }
        }
        Ok(())
    }

    async fn commit(&mut self, finished: bool) -> Result<()> {
        let started = self.clock.now_ms();
        let whole = self.since_whole + 1 >= self.options.whole_every;
        let last = &self.manifest;
        let attempt = Attempt { generation: last.generation, checkpoint: last.number + 1 };
        let (mut operators, mut state, mut bytes) = (BTreeMap::new(), BTreeMap::new(), 0);
        for operator in &mut self.job.operators {
            let (beside, rows) = operator.checkpoint(whole).await?;
            let mut files = if whole { vec![] } else { last.state.get(operator.id()).cloned().unwrap_or_default() };
            if !rows.is_empty() {
                let file = self.log.write_state(attempt, operator.id(), &rows).await?;
                bytes += file.bytes;
                files.push(file);
            }
            operators.insert(operator.id().to_string(), beside);
            state.insert(operator.id().to_string(), files);
        }
        let (schema, late) = (out_schema(&self.job), late_schema(&self.job));
        let mut outputs = vec![self.job.sink.prepare(attempt, &schema).await?];
        if let Some(sink) = &mut self.job.late {
            outputs.push(sink.prepare(attempt, &late).await?);
        }
        let position = |s: &Split| SplitPosition {
            source: s.source,
            split: s.id.clone(),
            offset: s.offset,
            ended: s.ended,
            greatest: s.time.greatest,
        };
        let manifest = Manifest {
            number: attempt.checkpoint,
            epoch: self.epoch,
            watermark: self.watermark,
            splits: self.splits.iter().map(position).collect(),
            operators,
            state,
            outputs,
            finished,
            ..last.clone()
        };
        self.log.commit(&manifest).await?;
        self.manifest = manifest;
        self.since_whole = if whole { 0 } else { self.since_whole + 1 };
        self.publish().await?;
        self.log.sweep(&self.manifest).await?;
        let now = self.clock.now_ms();
        self.checkpointed_ms = now;
        self.metrics.checkpoints += 1;
        (self.metrics.checkpoint_ms, self.metrics.checkpoint_bytes) = (now.saturating_sub(started), bytes);
        Ok(())
    }

    async fn publish(&mut self) -> Result<()> {
        for (sink, items) in sinks_of(&mut self.job).zip(&self.manifest.outputs) {
            sink.publish(items).await?;
        }
        Ok(())
    }
}

fn sinks_of(job: &mut Job) -> impl Iterator<Item = &mut Box<dyn Sink>> {
    std::iter::once(&mut job.sink).chain(job.late.as_mut())
}

/// The one schema of all inputs.
fn schema_of(job: &Job) -> Result<SchemaRef> {
    let mut schemas = job.inputs.iter().map(|i| i.source.schema());
    let first = schemas.next().ok_or_else(|| Error::new(ErrorKind::Invalid, "a job needs an input"))?;
    match schemas.find(|s| s.fields() != first.fields()) {
        Some(other) => Err(Error::new(ErrorKind::Invalid, format!("the inputs of a job have one schema: {first} is not {other}"))),
        None => Ok(first),
    }
}

fn in_schema(job: &Job) -> SchemaRef {
    job.inputs.first().map_or_else(|| Arc::new(arrow::datatypes::Schema::empty()), |i| i.source.schema())
}

fn out_schema(job: &Job) -> SchemaRef {
    job.operators.last().map_or_else(|| in_schema(job), |o| o.schema())
}

/// Late rows are those of the first operator that has windows, as they came.
fn late_schema(job: &Job) -> SchemaRef {
    let at = job.operators.iter().position(|o| o.is_timed());
    match at {
        None | Some(0) => in_schema(job),
        Some(at) => job.operators[at - 1].schema(),
    }
}
