//! Feeds a stage: builds first, then morsels to workers, tails, and the sink's end.

#![expect(clippy::disallowed_methods, reason = "Instant::now: how long a step took is a metric")]

use super::chunk::Chunks;
use super::divide::{DiskBuild, Diverted, Divider, TABLE_ROW, gathers_first};
use super::drain::Drain;
use super::gpu::{DeviceSink, DeviceWorker};
use super::late::LateKeys;
use super::merge::{finish_groups, finish_rows, merge_groups};
use super::metrics::{StageMetrics, table_kind};
use super::parts::Parts;
use super::reference::{ReferenceSink, RowProgram};
use super::sink::{GroupSink, RowsSink, build};
use super::source::{Runs, Source};
use super::spill::Spiller;
use super::worker::{Engine, Limit, SPILL_BYTES, Worker, WorkerSink};
use super::{Bound, Built, Carried, blocks_size, split};
use crate::context::{Cancel, EpochContext, Settings};
use crate::convert::{Block, Reader, to_batch};
use crate::exec::StageExec;
use crate::program::{Device, Sink};
use crate::resident::ResidentSource;
use crate::scan::ParquetScan;
use crate::{Error, Result};
use arrow::array::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use millstream_kernels::Vector;
use millstream_kernels::program::{Instr, Probe};
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;
use tokio::sync::{Mutex, mpsc};

/// Rows of a morsel cut from a block or a table in memory.
pub(crate) const MORSEL_ROWS: usize = 64 * 1024;

/// Morsels a worker takes in one go where they are at hand: fewer wake-ups, and other stages still get
/// their turn on the pool.
const MORSELS: usize = 8;

/// What a stage leaves.
#[derive(Clone)]
pub enum Output {
    /// Rows, in narrow types.
    Blocks(Vec<Block>, Held),
    /// Groups on disk.
    Parts(Arc<Parts>),
    /// A join table.
    Table(Arc<Built>),
    /// A join's build side on disk.
    Disk(Arc<DiskBuild>),
}

/// The memory that rows take, given back when the last of their readers is done.
#[derive(Clone, Default)]
pub struct Held(#[expect(dead_code, reason = "dropping it is its use")] Option<Arc<MemoryReservation>>);

impl Held {
    pub(super) fn new(reservation: MemoryReservation) -> Self {
        Self(Some(Arc::new(reservation)))
    }
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
        let run = Run { stage, ctx: Arc::clone(&ctx), epoch, cancel, out, metrics: metrics.clone(), may_spill: true };
        let output = match shared {
            Some(shared) => shared.rows(&ctx, run.run()).await,
            None => run.run().await,
        };
        metrics.elapsed.add_elapsed(started);
        output
    }
    .boxed()
}

/// Runs the stage of a build side. `may_spill`: its rows may go to disk.
fn run_build<'a>(stage: &'a StageExec, ctx: &'a Arc<TaskContext>, cancel: &'a Cancel, may_spill: bool) -> BoxFuture<'a, Result<Output>> {
    async move {
        let metrics = StageMetrics::new(stage.metric_set(), stage.placement().device);
        let started = Instant::now();
        let (ctx, cancel) = (Arc::clone(ctx), cancel.clone());
        // The build side is whole in every epoch.
        let run = Run { stage, ctx, epoch: None, cancel, out: None, metrics: metrics.clone(), may_spill };
        let output = run.run().await;
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
    /// Whether what the sink holds may go to disk.
    may_spill: bool,
}

impl Run<'_> {
    async fn run(self) -> Result<Output> {
        let settings = Settings::of(&self.ctx)?;
        let mut carried = self.epoch.as_ref().and_then(|e| e.take(self.stage.id())).unwrap_or_default();
        let (tables, disk) = match carried.tables.take() {
            Some(tables) => (tables, vec![]),
            None => self.tables().await?,
        };
        self.stage.publish_filters(&tables, |t| disk.get(t).is_none_or(Option::is_none));
        let on_disk = disk.iter().any(Option::is_some);
        let program = if on_disk { Arc::new(gathers_first(self.stage.program())) } else { Arc::clone(self.stage.program()) };
        let bound = Arc::new(Bound { disk, ..Bound::new(program, tables.clone())? });
        let table = self.reservation(false);
        if let Some(block) = self.whole(&bound).filter(|b| table.try_grow(b.rows * TABLE_ROW).is_ok()) {
            self.metrics.input_rows.add(block.rows);
            return Ok(self.counted(self.table(&settings, vec![block], &bound.program, table, Built::table_size).await?));
        }
        drop(table);
        let bound = match self.leaf() {
            Some(leaf) if self.stage.placement().device == Device::Cpu && self.epoch.is_none() => Arc::new(bound.learned(leaf)),
            _ => bound,
        };
        let threads = if self.stage.placement().device == Device::Reference { 1 } else { settings.pool.threads() };
        let source = Arc::new(self.source(threads).await?);
        let limit = self.limit();
        let device = self.stage.placement().device;
        let gpu = self.device(&settings, &bound, self.reservation(false)).await?;
        // Rows are numbered within one run: what an epoch carries on has values.
        let plain = device == Device::Cpu && self.epoch.is_none() && !on_disk;
        let late = if plain { LateKeys::of(&bound, self.stage.sink()) } else { None };
        // Groups by row that may be equal by value must all meet, so they cannot be divided.
        let late = late.filter(|l| limit.is_none() || l.is_exact()).map(Arc::new);
        let (bound, sink) = match &late {
            Some(late) => (Arc::new(Bound { program: Arc::clone(&late.program), ..bound.as_ref().clone() }), late.sink.clone()),
            None => (bound, self.stage.sink().clone()),
        };
        let mut workers = vec![];
        for _ in 0..threads {
            workers.push(self.worker(&bound, &sink, device, gpu.as_ref(), limit.clone())?);
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

    /// The build sides; those on disk have a table without rows in their place.
    async fn tables(&self) -> Result<(Vec<Arc<Built>>, Vec<Option<Arc<DiskBuild>>>)> {
        let builds = self.stage.builds().iter().enumerate().map(|(t, b)| async move {
            let build = b.downcast_ref::<StageExec>().ok_or_else(|| Error::bug("a build side that is no stage"))?;
            match run_build(build, &self.ctx, &self.cancel, self.may_divide(t)).await? {
                Output::Table(t) => Ok((t, None)),
                Output::Disk(d) => Ok((Arc::new(d.nothing()?), Some(d))),
                Output::Blocks(..) | Output::Parts(_) => Err(Error::bug("a build side without a build sink")),
            }
        });
        Ok(futures::future::try_join_all(builds).await?.into_iter().unzip())
    }

    /// Whether the rows that probe table `t` can be joined part by part. `NOT IN` looks at all of them.
    fn may_divide(&self, t: usize) -> bool {
        let null_aware = |i: &Instr| matches!(i, Instr::Probe(p) if usize::from(p.table) == t && p.null_aware);
        let here = self.epoch.is_none() && self.stage.placement().device != Device::Reference;
        here && !self.stage.program().instrs.iter().any(null_aware)
    }

    /// The run on the device, for a stage placed on one; none, and counted, where it cannot begin.
    async fn device(&self, settings: &Settings, bound: &Arc<Bound>, reservation: MemoryReservation) -> Result<Option<Arc<DeviceSink>>> {
        let Some(gpu) = self.metrics.gpu.clone() else { return Ok(None) };
        if bound.disk.iter().any(Option::is_some) {
            self.metrics.fallbacks.add(1);
            return Ok(None);
        }
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
        limit: Option<Limit>,
    ) -> Result<Worker> {
        let program = &bound.program;
        // Build sides stay until their readers are done: nobody else can make them leave.
        let reservation = self.reservation(limit.is_some() && matches!(sink, Sink::Group { .. }));
        if device == Device::Reference {
            let sink = WorkerSink::Reference(ReferenceSink::new(sink.clone()));
            let engine = Engine::Rows(RowProgram::new(Arc::clone(bound)));
            return Ok(Worker {
                sink,
                engine,
                reader: Reader::default(),
                open: None,
                reservation,
                metrics: self.metrics.clone(),
                limit: None,
                divider: None,
            });
        }
        let sink = match sink {
            Sink::Group { keys, aggregates } => WorkerSink::Group(Box::new(GroupSink::new(program, keys, aggregates)?)),
            Sink::Build { keys, .. } => WorkerSink::Rows(RowsSink::new(program, sink.reads()).keyed(keys.len())),
            sink => WorkerSink::Rows(RowsSink::new(program, sink.reads())),
        };
        let engine = match gpu {
            Some(gpu) => Engine::Device(DeviceWorker::new(Arc::clone(gpu))),
            None => {
                let mut chunks = Chunks::new(Arc::clone(bound), self.cancel.clone());
                chunks.diverted = self.detours(bound)?;
                Engine::Chunks(chunks)
            }
        };
        Ok(Worker { sink, engine, reader: Reader::default(), open: None, reservation, metrics: self.metrics.clone(), limit, divider: None })
    }

    /// Where rows wait for tables on disk.
    fn detours(&self, bound: &Bound) -> Result<Vec<Diverted>> {
        let probes = bound.program.instrs.iter().enumerate();
        let on_disk = probes.filter(|(_, i)| matches!(i, Instr::Probe(p) if bound.on_disk(p.table).is_some()));
        let spiller = self.spiller();
        on_disk.map(|(at, _)| Diverted::new(&bound.program, self.stage.sink(), at, &spiller, &self.cancel)).collect()
    }

    fn spiller(&self) -> Spiller {
        Spiller::new(&self.ctx, self.stage.id(), self.stage.metric_set())
    }

    /// A consumer of the session's memory.
    fn reservation(&self, can_spill: bool) -> MemoryReservation {
        let consumer = MemoryConsumer::new(format!("{} {}", self.stage.id(), self.stage.sink().name()));
        consumer.with_can_spill(can_spill).register(self.ctx.memory_pool())
    }

    /// The memory limit and where the rest goes; none where there is no limit, or what the sink holds stays.
    fn limit(&self) -> Option<Limit> {
        let pool = Arc::clone(self.ctx.memory_pool());
        let MemoryLimit::Finite(bytes) = pool.memory_limit() else { return None };
        let divisible = match self.stage.sink() {
            Sink::Group { keys, .. } => !keys.is_empty(),
            Sink::Build { .. } => self.may_spill,
            Sink::Collect { .. } | Sink::Sort { .. } => false,
        };
        let here = divisible && self.epoch.is_none() && self.stage.placement().device != Device::Reference;
        here.then(|| Limit { pool, bytes, spiller: self.spiller(), cancel: self.cancel.clone() })
    }

    async fn source(&self, workers: usize) -> Result<Source> {
        let plan = see_through(self.stage.input());
        let inputs = &self.stage.program().inputs;
        if let Some(child) = plan.downcast_ref::<StageExec>() {
            let output = run_stage(child, Arc::clone(&self.ctx), self.epoch.clone(), self.cancel.clone(), None).await?;
            let (blocks, held) = match output {
                Output::Blocks(blocks, held) => (blocks, held),
                Output::Parts(parts) => return Ok(Source::Parts { next: AtomicUsize::new(0), parts }),
                Output::Table(_) | Output::Disk(_) => return Err(Error::bug("a join table as input")),
            };
            let pick = |b: Block| {
                let columns: Vec<Vector> = b.columns.into_iter().map(Vector::shared).collect();
                Block { columns: inputs.iter().map(|i| columns[*i].clone()).collect(), rows: b.rows }
            };
            let blocks = split(blocks.into_iter().map(pick).collect(), MORSEL_ROWS);
            return Ok(Source::Blocks { blocks: Runs::new(blocks.into(), workers), _held: held });
        }
        if let Some(resident) = plan.downcast_ref::<DataSourceExec>().and_then(ResidentSource::of) {
            // Cut into epochs first: which morsels are ruled out may differ from one to the next.
            let mine: Vec<usize> = self.slice((0..resident.table().morsels()).collect()).into();
            let all = mine.len();
            let kept = resident.keep(mine);
            self.metrics.morsels_pruned.add(all - kept.len());
            let blocks = kept.into_iter().map(|m| resident.morsel(inputs, m)).collect();
            return Ok(Source::Blocks { blocks: Runs::new(blocks, workers), _held: Held::default() });
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
                    // Rows that stream away are handed on after every morsel, and within a large one.
                    let pause = out.is_some();
                    let most = if pause { 1 } else { MORSELS };
                    worker = pool
                        .run(move || {
                            let _timer = time.timer();
                            worker.morsel(morsel, &inputs, pause)?;
                            for morsel in (1..most).map_while(|_| source.ready(w)) {
                                token.check()?;
                                worker.morsel(morsel, &inputs, pause)?;
                            }
                            Ok(worker)
                        })
                        .await?;
                    let Some(out) = &out else { continue };
                    flush(&mut worker, &stage, out, &metrics).await?;
                    while worker.has_paused() {
                        let time = metrics.compute.clone();
                        let going_on = move || {
                            let _timer = time.timer();
                            worker.go_on(pause).map(|()| worker)
                        };
                        worker = pool.run(going_on).await?;
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
            if let Some(build) = bound.on_disk(p.table) {
                workers = self.drain(settings, workers, bound, (at, p), build).await?;
                continue;
            }
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

    /// Joins the rows that wait at instruction `at` with their table, part by part.
    async fn drain(
        &self,
        settings: &Settings,
        mut workers: Vec<Worker>,
        bound: &Arc<Bound>,
        (at, p): (usize, &Probe),
        build: &Arc<DiskBuild>,
    ) -> Result<Vec<Worker>> {
        let (mut probe, mut registers) = (vec![], Arc::default());
        for w in &mut workers {
            let Engine::Chunks(chunks) = &mut w.engine else { return Err(Error::bug("only chunks wait for a table")) };
            let mine = chunks.diverted.iter().position(|d| d.at == at).ok_or_else(|| Error::bug("no rows wait here"))?;
            let mine = chunks.diverted.swap_remove(mine);
            registers = mine.registers();
            let (program, time) = (Arc::clone(&bound.program), self.metrics.compute.clone());
            let written = settings.pool.run(move || {
                let _timer = time.timer();
                mine.finish(&program)
            });
            probe.extend(written.await?);
        }
        let (pool, cancel, metrics, out) = (&settings.pool, &self.cancel, &self.metrics, self.out.as_ref());
        let (table, has_tail) = (usize::from(p.table), p.kind.has_tail());
        Drain { stage: self.stage, pool, cancel, metrics, out, at, table, has_tail, registers }.run(workers, Arc::clone(build), probe).await
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
        if matches!(sink, Sink::Build { .. }) && workers.iter().all(|w| matches!(w.sink, WorkerSink::Rows(_))) {
            return Ok(self.counted(self.finish_build(settings, workers, &program).await?));
        }
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
        if let Some(limit) = self.limit().filter(|_| !groups.is_empty()) {
            return self.finish_limited(settings, groups, limit, (program, sink, late)).await;
        }
        let output = if let Some(mut all) = reference.pop() {
            if let Some(before) = carried.reference.take() {
                all.prepend(before);
            }
            if last {
                all.finish(&program, checked)?
            } else {
                carried.reference = Some(all);
                Output::Blocks(vec![], Held::default())
            }
        } else if let Sink::Group { .. } = &sink {
            groups.extend(carried.groups.take());
            if last {
                Output::Blocks(finish_groups(groups, &pool, &program, &sink, checked, &time, late).await?, Held::default())
            } else {
                carried.groups = Some(merge_groups(groups, &pool, &program, &sink, &time).await?);
                Output::Blocks(vec![], Held::default())
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

    /// The join table of the workers' rows; on disk where the memory does not hold them.
    async fn finish_build(&self, settings: &Settings, mut workers: Vec<Worker>, program: &Arc<crate::Program>) -> Result<Output> {
        let bytes: usize = workers.iter().map(|w| w.reservation.size()).sum();
        let rows: usize = workers.iter().map(Worker::rows).sum();
        let divided = workers.iter().any(|w| w.divider.is_some());
        // The rows as one, and the table over them.
        let reservation = self.reservation(false);
        let grown = reservation.try_grow(bytes + rows * TABLE_ROW);
        if let Some(limit) = self.limit().filter(|l| divided || bytes >= SPILL_BYTES && (grown.is_err() || l.is_near())) {
            drop(reservation);
            let tasks = workers.into_iter().map(|mut w| {
                settings.pool.run(move || {
                    w.spill()?;
                    w.divider.map(Divider::finish).transpose()
                })
            });
            let files = futures::future::try_join_all(tasks).await?.into_iter().flatten().flatten().collect();
            let (program, sink, reservation) = (Arc::clone(program), self.stage.sink().clone(), self.reservation(false));
            return Ok(Output::Disk(Arc::new(DiskBuild { files, program, sink, spiller: limit.spiller, reservation })));
        }
        grown?;
        let mut parts = vec![];
        for w in &mut workers {
            if let WorkerSink::Rows(r) = &mut w.sink {
                parts.extend(r.take(program)?);
            }
        }
        self.table(settings, parts, program, reservation, Built::size).await
    }

    /// The join table of these rows; in the end `reservation` is as large as `size` says.
    async fn table(
        &self,
        settings: &Settings,
        parts: Vec<Block>,
        program: &Arc<crate::Program>,
        reservation: MemoryReservation,
        size: fn(&Built) -> usize,
    ) -> Result<Output> {
        let (program, sink, time) = (Arc::clone(program), self.stage.sink().clone(), self.metrics.compute.clone());
        let built = settings.pool.run(move || {
            let _timer = time.timer();
            let built = build(&parts, &program, &sink)?;
            drop(parts);
            reservation.resize(size(&built));
            Ok(built.holding(Held::new(reservation)))
        });
        Ok(Output::Table(Arc::new(built.await?)))
    }

    /// The groups' rows where the memory is limited: merged there if it holds them, else from disk.
    async fn finish_limited(
        &self,
        settings: &Settings,
        groups: Vec<GroupSink>,
        Limit { spiller, cancel, .. }: Limit,
        (program, sink, late): (Arc<crate::Program>, Sink, Option<Arc<LateKeys>>),
    ) -> Result<Output> {
        let (pool, checked, time) = (settings.pool.clone(), settings.checked, self.metrics.compute.clone());
        let reservation = self.reservation(true);
        // The merged groups, then their rows.
        let merged = groups.iter().map(GroupSink::size).sum();
        if !groups.iter().any(GroupSink::has_spilled) && reservation.try_grow(merged).is_ok() {
            let blocks = finish_groups(groups, &pool, &program, &sink, checked, &time, late).await?;
            reservation.resize(blocks_size(&blocks));
            return Ok(self.counted(Output::Blocks(blocks, Held::new(reservation))));
        }
        let tasks = groups.into_iter().map(|mut g| {
            let (time, spiller, cancel) = (time.clone(), spiller.clone(), cancel.clone());
            pool.run(move || {
                let _timer = time.timer();
                g.spill(&spiller, &cancel)?;
                Ok(g.take_spilled())
            })
        });
        let files = futures::future::try_join_all(tasks).await?.into_iter().flatten().collect();
        let rows = self.metrics.output_rows.clone();
        Ok(Output::Parts(Arc::new(Parts { files, program, sink, checked, late, spiller, reservation, cancel, time, rows })))
    }

    /// Counts what leaves.
    fn counted(&self, output: Output) -> Output {
        match &output {
            Output::Blocks(blocks, _) => self.metrics.output_rows.add(blocks.iter().map(|b| b.rows).sum()),
            // Counted as they are finished.
            Output::Parts(_) | Output::Disk(_) => {}
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
pub(super) async fn flush(worker: &mut Worker, stage: &StageExec, out: &BatchSender, metrics: &StageMetrics) -> Result<()> {
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
