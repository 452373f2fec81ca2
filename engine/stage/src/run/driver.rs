//! Feeds a stage: builds first, then morsels to workers, tails, and the sink's end.

#![expect(clippy::disallowed_methods, reason = "Instant::now: how long a step took is a metric")]

use super::chunk::{Chunks, Columns, RowSink};
use super::gpu::{DeviceSink, DeviceWorker};
use super::late::LateKeys;
use super::merge::{finish_groups, finish_rows, merge_groups};
use super::metrics::{StageMetrics, table_kind};
use super::reference::{ReferenceSink, RowProgram};
use super::sink::{GroupSink, RowsSink};
use super::source::{Morsel, Runs, Source};
use super::{Bound, Built, Carried, split};
use crate::context::{Cancel, EpochContext, Settings};
use crate::convert::{Block, Reader, to_batch};
use crate::exec::StageExec;
use crate::program::{Device, Sink};
use crate::resident::ResidentSource;
use crate::scan::{Fetched, ParquetScan};
use crate::{Error, Result};
use arrow::array::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use millstream_kernels::Vector;
use millstream_kernels::program::Instr;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Mutex, mpsc};

/// Rows of a morsel cut from a block or a table in memory.
pub(crate) const MORSEL_ROWS: usize = 64 * 1024;

/// Morsels a worker takes in one go where they are at hand: fewer wake-ups, and other stages still get
/// their turn on the pool.
const MORSELS: usize = 8;

/// What a stage leaves.
pub enum Output {
    /// Rows, in narrow types.
    Blocks(Vec<Block>),
    /// A join table.
    Table(Arc<Built>),
}

/// Where a collect sink's batches go while the stage runs.
pub type BatchSender = mpsc::Sender<datafusion::error::Result<RecordBatch>>;

/// Runs a stage to its end. A collect sink with `out` streams its batches there and leaves no blocks.
pub fn run_stage<'a>(
    stage: &'a StageExec,
    ctx: Arc<TaskContext>,
    epoch: Option<Arc<EpochContext>>,
    cancel: Cancel,
    out: Option<BatchSender>,
) -> BoxFuture<'a, Result<Output>> {
    async move {
        let metrics = StageMetrics::new(stage.metric_set(), stage.placement().device);
        let started = Instant::now();
        let shared = stage.shared().filter(|_| epoch.is_none() && out.is_none());
        let run = Run { stage, ctx: Arc::clone(&ctx), epoch, cancel, out, metrics: metrics.clone() };
        let output = match shared {
            Some(shared) => shared.blocks(&ctx, run.blocks()).await.map(Output::Blocks),
            None => run.run().await,
        };
        metrics.elapsed.add_elapsed(started);
        output
    }
    .boxed()
}

/// One run of one stage.
pub(super) struct Run<'a> {
    pub(super) stage: &'a StageExec,
    pub(super) ctx: Arc<TaskContext>,
    pub(super) epoch: Option<Arc<EpochContext>>,
    pub(super) cancel: Cancel,
    out: Option<BatchSender>,
    pub(super) metrics: StageMetrics,
}

/// One worker: its chunks and its part of the sink.
pub(super) struct Worker {
    pub(super) sink: WorkerSink,
    engine: Engine,
    reader: Reader,
    reservation: MemoryReservation,
    metrics: StageMetrics,
}

enum Engine {
    Chunks(Chunks),
    Device(DeviceWorker),
    Rows(RowProgram),
}

pub(super) enum WorkerSink {
    Group(Box<GroupSink>),
    Rows(RowsSink),
    Reference(ReferenceSink),
}

/// Rows of a row group after which a worker says what it holds.
const RESERVE_ROWS: usize = 16 * 1024;

impl Worker {
    /// Takes a morsel to the end of the program.
    fn morsel(&mut self, morsel: Morsel, inputs: &[usize]) -> Result<()> {
        match morsel {
            Morsel::Fetched(f) if matches!(self.engine, Engine::Chunks(_)) => self.row_group(f),
            morsel => {
                let mut reader = std::mem::take(&mut self.reader);
                morsel.blocks(inputs, &mut reader, |b| self.block(b))?;
                self.reader = reader;
                Ok(())
            }
        }
    }

    /// Takes a row group, decoding only what the program asks for.
    fn row_group(&mut self, fetched: Fetched) -> Result<()> {
        let rows = fetched.rows();
        let columns: Rc<RefCell<dyn Columns>> = Rc::new(RefCell::new(fetched.open()?));
        self.metrics.input_rows.add(rows);
        let mut at = 0;
        while at < rows {
            let next = rows.min(at + RESERVE_ROWS);
            let Engine::Chunks(c) = &mut self.engine else { return Err(Error::bug("the reference reads whole blocks")) };
            c.late(&columns, at..next, self.sink.rows()?)?;
            self.reserve()?;
            at = next;
        }
        Ok(())
    }

    fn block(&mut self, block: Block) -> Result<()> {
        self.metrics.input_rows.add(block.rows);
        match (&mut self.engine, &mut self.sink) {
            (Engine::Chunks(c), sink) => c.block(&block, sink.rows()?)?,
            (Engine::Device(d), WorkerSink::Group(sink)) => d.block(block, sink)?,
            (Engine::Device(_), _) => return Err(Error::bug("the device has group sinks only")),
            (Engine::Rows(p), WorkerSink::Reference(sink)) => p.block(&block, sink)?,
            (Engine::Rows(_), _) => return Err(Error::bug("the reference has its own sink")),
        }
        self.reserve()
    }

    fn reserve(&mut self) -> Result<()> {
        let held = match &self.sink {
            WorkerSink::Group(g) => g.size(),
            WorkerSink::Rows(r) => r.size(),
            WorkerSink::Reference(_) => 0,
        };
        self.reservation.try_resize(held)?;
        Ok(())
    }

    fn tail(&mut self, at: usize, range: std::ops::Range<usize>) -> Result<()> {
        match (&mut self.engine, &mut self.sink) {
            (Engine::Chunks(c), sink) => c.tail(at, range, sink.rows()?),
            (Engine::Rows(p), WorkerSink::Reference(sink)) => p.tail(at, range, sink),
            (Engine::Rows(_), _) => Err(Error::bug("the reference has its own sink")),
            (Engine::Device(_), _) => Err(Error::bug("a tail on the device")),
        }
    }

    /// Takes the groups that the device still has.
    fn land(&mut self) -> Result<()> {
        if let (Engine::Device(d), WorkerSink::Group(sink)) = (&mut self.engine, &mut self.sink) {
            d.finish(sink)?;
        }
        self.reserve()
    }
}

impl WorkerSink {
    fn rows(&mut self) -> Result<&mut dyn RowSink> {
        match self {
            WorkerSink::Group(g) => Ok(g.as_mut()),
            WorkerSink::Rows(r) => Ok(r),
            WorkerSink::Reference(_) => Err(Error::bug("the reference takes values, not registers")),
        }
    }
}

impl Run<'_> {
    async fn blocks(self) -> Result<Vec<Block>> {
        match self.run().await? {
            Output::Blocks(blocks) => Ok(blocks),
            Output::Table(_) => Err(Error::bug("a join table where rows are shared")),
        }
    }

    async fn run(self) -> Result<Output> {
        let settings = Settings::of(&self.ctx)?;
        let mut carried = self.epoch.as_ref().and_then(|e| e.take(self.stage.id())).unwrap_or_default();
        let tables = match carried.tables.take() {
            Some(tables) => tables,
            None => self.tables().await?,
        };
        self.stage.publish_filters(&tables);
        let bound = Arc::new(Bound::new(Arc::clone(self.stage.program()), tables.clone())?);
        if let Some(block) = self.whole(&bound) {
            let (program, sink, time) = (Arc::clone(&bound.program), self.stage.sink().clone(), self.metrics.compute.clone());
            self.metrics.input_rows.add(block.rows);
            let output = settings.pool.run(move || {
                let _timer = time.timer();
                finish_rows(vec![block], &program, &sink)
            });
            return Ok(self.counted(output.await?));
        }
        let bound = match self.leaf() {
            Some(leaf) if self.stage.placement().device == Device::Cpu && self.epoch.is_none() => Arc::new(bound.learned(leaf)),
            _ => bound,
        };
        let threads = if self.stage.placement().device == Device::Reference { 1 } else { settings.pool.threads() };
        let source = Arc::new(self.source(threads).await?);
        let reservation = MemoryConsumer::new(format!("{} {}", self.stage.id(), self.stage.sink().name())).register(self.ctx.memory_pool());

        let device = self.stage.placement().device;
        let gpu = self.device(&settings, &bound, reservation.new_empty()).await?;
        // Rows are numbered within one run: what an epoch carries on has values.
        let plain = device == Device::Cpu && self.epoch.is_none();
        let late = if plain { LateKeys::of(&bound, self.stage.sink()).map(Arc::new) } else { None };
        let (bound, sink) = match &late {
            Some(late) => (Arc::new(Bound { program: Arc::clone(&late.program), ..bound.as_ref().clone() }), late.sink.clone()),
            None => (bound, self.stage.sink().clone()),
        };
        let mut workers = vec![];
        for _ in 0..threads {
            workers.push(self.worker(&bound, &sink, device, gpu.as_ref(), reservation.new_empty())?);
        }
        let mut workers = self.feed(&settings, workers, &source).await?;
        if gpu.is_some() {
            workers = self.land(&settings, workers).await?;
        }
        workers = self.tails(&settings, workers, &bound).await?;
        if self.epoch.is_some() {
            carried.tables = Some(tables);
        }
        self.finish(&settings, workers, carried, (Arc::clone(&bound.program), sink, late)).await
    }

    /// The rows of a build sink over a table in memory that nothing filters: they are there already.
    fn whole(&self, bound: &Bound) -> Option<Block> {
        let plain = self.stage.placement().device == Device::Cpu && self.epoch.is_none() && bound.program.instrs.is_empty();
        if !plain || !matches!(self.stage.sink(), Sink::Build { .. }) {
            return None;
        }
        let resident = ResidentSource::of(self.leaf()?)?;
        let columns: Vec<usize> = self.stage.sink().reads().iter().map(|r| bound.program.inputs[usize::from(*r)]).collect();
        resident.whole(&columns)
    }

    /// The scan that the stage reads, if it reads one.
    fn leaf(&self) -> Option<&DataSourceExec> {
        see_through(self.stage.input()).downcast_ref()
    }

    async fn tables(&self) -> Result<Vec<Arc<Built>>> {
        let builds = self.stage.builds().iter().map(|b| async move {
            let build = b.downcast_ref::<StageExec>().ok_or_else(|| Error::bug("a build side that is no stage"))?;
            // The build side is whole in every epoch.
            match run_stage(build, Arc::clone(&self.ctx), None, self.cancel.clone(), None).await? {
                Output::Table(t) => Ok(t),
                Output::Blocks(_) => Err(Error::bug("a build side without a build sink")),
            }
        });
        futures::future::try_join_all(builds).await
    }

    /// The run on the device, for a stage placed on one; none, and counted, where it cannot begin.
    async fn device(&self, settings: &Settings, bound: &Arc<Bound>, reservation: MemoryReservation) -> Result<Option<Arc<DeviceSink>>> {
        let Some(gpu) = self.metrics.gpu.clone() else { return Ok(None) };
        let (bound, sink, class) = (Arc::clone(bound), self.stage.sink().clone(), settings.gpu);
        let (cancel, fallbacks) = (self.cancel.clone(), self.metrics.fallbacks.clone());
        let opened = settings.pool.run(move || DeviceSink::open(class, bound, &sink, cancel, gpu, fallbacks, reservation)).await;
        self.cancel.check()?;
        if opened.is_err() {
            self.metrics.fallbacks.add(1);
        }
        Ok(opened.ok())
    }

    fn worker(
        &self,
        bound: &Arc<Bound>,
        sink: &Sink,
        device: Device,
        gpu: Option<&Arc<DeviceSink>>,
        reservation: MemoryReservation,
    ) -> Result<Worker> {
        let program = &bound.program;
        if device == Device::Reference {
            let sink = WorkerSink::Reference(ReferenceSink::new(sink.clone()));
            let engine = Engine::Rows(RowProgram::new(Arc::clone(bound)));
            return Ok(Worker { sink, engine, reader: Reader::default(), reservation, metrics: self.metrics.clone() });
        }
        let sink = match sink {
            Sink::Group { keys, aggregates } => WorkerSink::Group(Box::new(GroupSink::new(program, keys, aggregates)?)),
            sink => WorkerSink::Rows(RowsSink::new(program, sink.reads())),
        };
        let engine = match gpu {
            Some(gpu) => Engine::Device(DeviceWorker::new(Arc::clone(gpu))),
            None => Engine::Chunks(Chunks::new(Arc::clone(bound), self.cancel.clone())),
        };
        Ok(Worker { sink, engine, reader: Reader::default(), reservation, metrics: self.metrics.clone() })
    }

    async fn source(&self, workers: usize) -> Result<Source> {
        let plan = see_through(self.stage.input());
        let inputs = &self.stage.program().inputs;
        if let Some(child) = plan.downcast_ref::<StageExec>() {
            let output = run_stage(child, Arc::clone(&self.ctx), self.epoch.clone(), self.cancel.clone(), None).await?;
            let Output::Blocks(blocks) = output else { return Err(Error::bug("a join table as input")) };
            let pick = |b: Block| {
                let columns: Vec<Vector> = b.columns.into_iter().map(Vector::shared).collect();
                Block { columns: inputs.iter().map(|i| columns[*i].clone()).collect(), rows: b.rows }
            };
            let blocks = split(blocks.into_iter().map(pick).collect(), MORSEL_ROWS);
            return Ok(Source::Blocks(Runs::new(blocks.into(), workers)));
        }
        if let Some(resident) = plan.downcast_ref::<DataSourceExec>().and_then(ResidentSource::of) {
            // Cut into epochs first: which morsels are ruled out may differ from one to the next.
            let mine: Vec<usize> = self.slice((0..resident.table().morsels()).collect()).into();
            let all = mine.len();
            let kept = resident.keep(mine);
            self.metrics.morsels_pruned.add(all - kept.len());
            let blocks = kept.into_iter().map(|m| resident.morsel(inputs, m)).collect();
            return Ok(Source::Blocks(Runs::new(blocks, workers)));
        }
        if let Some(scan) = plan.downcast_ref::<DataSourceExec>().and_then(|s| ParquetScan::of(s, inputs, &self.ctx))
            && let Some(groups) = scan.row_groups().await?
        {
            let groups = self.slice(groups);
            return Ok(Source::Groups { scan: Arc::new(scan), groups: Runs::new(groups, workers) });
        }
        self.streams(plan)
    }

    /// The part of the input that belongs to this epoch.
    fn slice<T>(&self, all: Vec<T>) -> VecDeque<T> {
        let Some(e) = &self.epoch else { return all.into() };
        all.into_iter().enumerate().filter(|(i, _)| i % e.epochs == e.epoch).map(|(_, t)| t).collect()
    }

    /// All partitions of a stock child, polled at once.
    fn streams(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Source> {
        let partitions = plan.output_partitioning().partition_count();
        let (tx, rx) = mpsc::channel(2 * partitions);
        let mut tasks = vec![];
        let slice = self.epoch.as_ref().map(|e| (e.epoch, e.epochs));
        for p in 0..partitions {
            let mut stream = plan.execute(p, Arc::clone(&self.ctx))?;
            let tx = tx.clone();
            tasks.push(SpawnedTask::spawn(async move {
                let mut number = 0;
                // A panic there must not look like the end of the input.
                while let Some(batch) =
                    AssertUnwindSafe(stream.next()).catch_unwind().await.unwrap_or_else(|p| Some(Err(panicked(p.as_ref()))))
                {
                    let failed = batch.is_err();
                    let mine = slice.is_none_or(|(epoch, epochs)| number % epochs == epoch);
                    number += 1;
                    let closed = (mine || failed) && tx.send(batch).await.is_err();
                    if closed || failed {
                        return;
                    }
                }
            }));
        }
        Ok(Source::Streams { batches: Mutex::new(rx), _tasks: tasks })
    }

    /// Runs every worker until the source is dry.
    async fn feed(&self, settings: &Settings, workers: Vec<Worker>, source: &Arc<Source>) -> Result<Vec<Worker>> {
        let inputs: Arc<Vec<usize>> = Arc::new(self.stage.program().inputs.clone());
        let mut tasks = vec![];
        for (w, mut worker) in workers.into_iter().enumerate() {
            let (source, pool, inputs) = (Arc::clone(source), settings.pool.clone(), Arc::clone(&inputs));
            let (metrics, cancel, out) = (self.metrics.clone(), self.cancel.clone(), self.out.clone());
            let stage = self.stage.clone();
            tasks.push(SpawnedTask::spawn(async move {
                while let Some(morsel) = source.next(w, &metrics.fetch).await? {
                    cancel.check()?;
                    let (inputs, time) = (Arc::clone(&inputs), metrics.compute.clone());
                    let (source, token) = (Arc::clone(&source), cancel.clone());
                    // Rows that stream away are handed on after every morsel.
                    let most = if out.is_some() { 1 } else { MORSELS };
                    worker = pool
                        .run(move || {
                            let _timer = time.timer();
                            worker.morsel(morsel, &inputs)?;
                            for morsel in (1..most).map_while(|_| source.ready(w)) {
                                token.check()?;
                                worker.morsel(morsel, &inputs)?;
                            }
                            Ok(worker)
                        })
                        .await?;
                    if let Some(out) = &out {
                        flush(&mut worker, &stage, out, &metrics).await?;
                    }
                }
                Ok::<_, Error>(worker)
            }));
        }
        // The first error ends the others: dropping a task aborts it, the token stops its pool work.
        let guard = self.cancel.guard();
        let done = futures::future::try_join_all(tasks.into_iter().map(joined)).await?;
        guard.disarm();
        Ok(done)
    }

    /// Brings the groups on the device home, into the first worker's sink.
    async fn land(&self, settings: &Settings, mut workers: Vec<Worker>) -> Result<Vec<Worker>> {
        let time = self.metrics.compute.clone();
        settings
            .pool
            .run(move || {
                let _timer = time.timer();
                workers.first_mut().map_or(Ok(()), Worker::land)?;
                Ok(workers)
            })
            .await
    }

    /// Build rows that are still owed, probe by probe.
    async fn tails(&self, settings: &Settings, mut workers: Vec<Worker>, bound: &Arc<Bound>) -> Result<Vec<Worker>> {
        if self.epoch.as_ref().is_some_and(|e| !e.is_final()) {
            return Ok(workers);
        }
        for (at, instr) in bound.program.instrs.iter().enumerate() {
            let Instr::Probe(p) = instr else { continue };
            if !p.kind.has_tail() {
                continue;
            }
            let rows = bound.tables[p.table as usize].table.rows();
            let share = rows.div_ceil(workers.len().max(1));
            let mut tasks = vec![];
            for (w, mut worker) in workers.into_iter().enumerate() {
                let range = (w * share).min(rows)..((w + 1) * share).min(rows);
                let (pool, time) = (settings.pool.clone(), self.metrics.compute.clone());
                tasks.push(async move {
                    pool.run(move || {
                        let _timer = time.timer();
                        worker.tail(at, range)?;
                        Ok(worker)
                    })
                    .await
                });
            }
            workers = futures::future::try_join_all(tasks).await?;
        }
        if let Some(out) = &self.out {
            for w in &mut workers {
                flush(w, self.stage, out, &self.metrics).await?;
            }
        }
        Ok(workers)
    }

    async fn finish(
        &self,
        settings: &Settings,
        workers: Vec<Worker>,
        mut carried: Carried,
        (program, sink, late): (Arc<crate::Program>, Sink, Option<Arc<LateKeys>>),
    ) -> Result<Output> {
        let (pool, checked) = (settings.pool.clone(), settings.checked);
        let last = self.epoch.as_ref().is_none_or(|e| e.is_final());
        let (mut groups, mut parts, mut reference) = (vec![], vec![], vec![]);
        let mut held = vec![];
        for w in workers {
            held.push(w.reservation);
            match w.sink {
                WorkerSink::Group(g) => groups.push(*g),
                WorkerSink::Rows(mut r) => parts.extend(r.take(&program)?),
                WorkerSink::Reference(r) => reference.push(r),
            }
        }
        for g in &groups {
            table_kind(self.stage.metric_set(), g.kind(), g.len());
        }
        let time = self.metrics.compute.clone();
        let output = if let Some(mut all) = reference.pop() {
            if let Some(before) = carried.reference.take() {
                all.prepend(before);
            }
            if last {
                all.finish(&program, checked)?
            } else {
                carried.reference = Some(all);
                Output::Blocks(vec![])
            }
        } else if let Sink::Group { .. } = &sink {
            groups.extend(carried.groups.take());
            if last {
                Output::Blocks(finish_groups(groups, &pool, &program, &sink, checked, &time, late).await?)
            } else {
                carried.groups = Some(merge_groups(groups, &pool, &program, &sink, &time).await?);
                Output::Blocks(vec![])
            }
        } else {
            pool.run(move || {
                let _timer = time.timer();
                finish_rows(parts, &program, &sink)
            })
            .await?
        };
        if let Some(e) = &self.epoch {
            e.put(self.stage.id(), carried);
        }
        Ok(self.counted(output))
    }

    /// Counts what leaves.
    fn counted(&self, output: Output) -> Output {
        match &output {
            Output::Blocks(blocks) => self.metrics.output_rows.add(blocks.iter().map(|b| b.rows).sum()),
            Output::Table(t) => {
                table_kind(self.stage.metric_set(), t.table.kind(), t.table.rows());
                self.metrics.output_rows.add(t.table.rows());
            }
        }
        output
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> DataFusionError {
    Error::bug(format!("panic in an operator below a stage: {}", crate::context::panic_text(panic))).into()
}

async fn joined(task: SpawnedTask<Result<Worker>>) -> Result<Worker> {
    task.join().await.map_err(|e| Error::bug(format!("a stage's task ended: {e}")))?
}

/// Sends a collect sink's rows on.
async fn flush(worker: &mut Worker, stage: &StageExec, out: &BatchSender, metrics: &StageMetrics) -> Result<()> {
    let WorkerSink::Rows(rows) = &mut worker.sink else { return Ok(()) };
    if let Some(b) = rows.take(stage.program())? {
        // From here on the rows are the reader's.
        worker.reserve()?;
        metrics.output_rows.add(b.rows);
        out.send(Ok(to_batch(&b, &stage.schema())?)).await.map_err(|_| Error::cancelled())?;
    }
    Ok(())
}

/// The node whose rows a whole-input sink reads: what only merges or yields is read through.
pub fn see_through(plan: &Arc<dyn ExecutionPlan>) -> &Arc<dyn ExecutionPlan> {
    if let Some(c) = plan.downcast_ref::<CoalescePartitionsExec>() {
        return see_through(c.input());
    }
    if let Some(c) = plan.downcast_ref::<CooperativeExec>() {
        return see_through(c.input());
    }
    plan
}
