//! Feeds a stage: builds first, then morsels to workers, tails, and the sink's end.

#![expect(clippy::disallowed_methods, reason = "Instant::now: how long a step took is a metric")]

use super::best::{Bar, BestRows, Last};
use super::chunk::Chunks;
use super::divide::{DiskBuild, Diverted, TABLE_ROW, gathers_first};
use super::gpu::{self, DeviceOrder, DeviceRun, DirectKeys, Opening};
use super::late::LateKeys;
use super::metrics::{Fallback, StageMetrics};
use super::parts::Parts;
use super::reference::{ReferenceSink, RowProgram};
use super::sink::{GroupSink, RowsSink};
use super::source::{Morsel, Runs, Source};
use super::spill::Spiller;
use super::top::FirstRows;
use super::worker::{Engine, Limit, Worker, WorkerSink};
use super::{Bound, Built, split};
use crate::context::{Cancel, EpochContext, Settings};
use crate::convert::{Block, Reader, to_batch};
use crate::exec::StageExec;
use crate::program::{Device, Sink};
use crate::resident::{ResidentMorsel, ResidentSource};
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
use millstream_kernels::program::Instr;
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

/// Bytes of a register for each row, about.
const REGISTER_ROW: usize = 8;

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
        let run = Run { stage, ctx: Arc::clone(&ctx), epoch, cancel, out, metrics: metrics.clone(), may_spill: true, order: None };
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
        let run = Run { stage, ctx, epoch: None, cancel, out: None, metrics: metrics.clone(), may_spill, order: None };
        let output = run.run().await;
        metrics.elapsed.add_elapsed(started);
        output
    }
    .boxed()
}

/// What the sink of a worker is told.
struct Told {
    limit: Option<Limit>,
    /// Rows that a build side will have.
    room: usize,
    /// What all workers know of the first rows, where those are wanted.
    last: Option<Arc<Last>>,
}

/// One run of one stage.
pub(super) struct Run<'a> {
    pub(super) stage: &'a StageExec,
    pub(super) ctx: Arc<TaskContext>,
    pub(super) epoch: Option<Arc<EpochContext>>,
    pub(super) cancel: Cancel,
    pub(super) out: Option<BatchSender>,
    pub(super) metrics: StageMetrics,
    /// Whether what the sink holds may go to disk.
    may_spill: bool,
    /// What orders its rows on a device.
    pub(super) order: Option<Arc<DeviceOrder>>,
}

impl Run<'_> {
    async fn run(mut self) -> Result<Output> {
        let settings = Settings::of(&self.ctx)?;
        self.order = self.device_order(&settings);
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
        if let Some(rows) = self.whole(&bound) {
            let registers = rows.rows() * rows.columns() * REGISTER_ROW;
            if table.try_grow(rows.rows() * TABLE_ROW + registers).is_ok() {
                self.metrics.input_rows.add(rows.rows());
                let block = settings.pool.run(move || Ok(rows.block())).await?;
                let size = move |b: &Built| b.table_size() + registers;
                return Ok(self.counted(self.table(&settings, vec![block], &bound.program, table, size).await?));
            }
        }
        drop(table);
        let bound = match self.leaf() {
            Some(leaf) if self.stage.placement().device == Device::Cpu && self.epoch.is_none() => Arc::new(bound.learned(leaf)),
            _ => bound,
        };
        let threads = if self.stage.placement().device == Device::Reference { 1 } else { settings.pool.threads() };
        let last = Last::of(self.stage.sink()).filter(|_| self.stage.placement().device != Device::Reference && self.epoch.is_none());
        let source = Arc::new(self.source(threads, last.as_ref()).await?);
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
        // Where no row is dropped it is known how many there will be. A limited memory counts what is reserved, used or not.
        let all = source.rows().filter(|_| limit.is_none() && bound.program.keeps_rows()).unwrap_or(0);
        let room = (all + all / 8) / threads.max(1);
        let mut workers = vec![];
        for _ in 0..threads {
            let told = Told { limit: limit.clone(), room, last: last.clone() };
            workers.push(self.worker(&bound, &sink, device, gpu.as_ref(), told)?);
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
    fn whole(&self, bound: &Bound) -> Option<ResidentMorsel> {
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

    /// What orders the rows of a stage placed on a device, if that can.
    fn device_order(&self, settings: &Settings) -> Option<Arc<DeviceOrder>> {
        let metrics = self.metrics.gpu.clone()?;
        let of = (self.stage.program().as_ref(), self.stage.sink());
        DeviceOrder::of(of, (settings.gpu, settings.gpu_memory_bytes), &self.cancel, metrics, &self.metrics.fallbacks).map(Arc::new)
    }

    /// Whether a device has more to do than to order rows.
    pub(super) fn selects(&self) -> bool {
        self.order.is_none() || gpu::selects(self.stage)
    }

    /// The run on the device, for a stage placed on one; none, and counted, where it cannot begin.
    async fn device(&self, settings: &Settings, bound: &Arc<Bound>, reservation: MemoryReservation) -> Result<Option<DeviceRun>> {
        let Some(metrics) = self.metrics.gpu.clone().filter(|_| self.selects()) else { return Ok(None) };
        if bound.disk.iter().any(Option::is_some) {
            self.metrics.fallbacks.add(Fallback::Spilled);
            return Ok(None);
        }
        let (sink, class, whole) = (self.stage.sink().clone(), settings.gpu, Arc::clone(bound));
        let (cancel, fallbacks) = (self.cancel.clone(), self.metrics.fallbacks.clone());
        let memory_bytes = settings.gpu_memory_bytes;
        let direct = DirectKeys::of(self.stage);
        let threads = settings.pool.threads();
        let opening = Opening { class, memory_bytes, threads, whole, direct, cancel, metrics, fallbacks, reservation };
        let opened = settings.pool.run(move || DeviceRun::open(opening, &sink)).await;
        self.cancel.check()?;
        if let Err(e) = &opened {
            self.metrics.fallbacks.add(Fallback::of_stage(e.kind()));
        }
        Ok(opened.ok())
    }

    fn worker(
        &self,
        bound: &Arc<Bound>,
        sink: &Sink,
        device: Device,
        gpu: Option<&DeviceRun>,
        Told { limit, room, last }: Told,
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
            Sink::Group { keys, sets, aggregates } => {
                WorkerSink::Group(Box::new(GroupSink::new(program, keys, aggregates)?.over(sets, bound)?))
            }
            Sink::Build { keys, .. } => WorkerSink::Rows(RowsSink::new(program, sink.reads()).keyed(keys.len()).with_room(room)),
            Sink::Sort { columns, order, fetch: Some(n), groups, .. } if !groups.is_empty() => {
                let first = FirstRows::new(program, columns, groups, order, *n)?;
                WorkerSink::Rows(RowsSink::new(program, columns.clone()).only(first))
            }
            Sink::Sort { columns, order, fetch: Some(n), .. } => {
                let rows = RowsSink::new(program, columns.clone());
                WorkerSink::Rows(match last {
                    Some(last) => rows.best(BestRows::new(program, columns, (order, *n), last, self.order.clone())),
                    None => rows,
                })
            }
            sink => WorkerSink::Rows(RowsSink::new(program, sink.reads())),
        };
        let engine = match gpu {
            Some(gpu) => Engine::Device(gpu.worker()),
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
    pub(super) fn reservation(&self, can_spill: bool) -> MemoryReservation {
        let consumer = MemoryConsumer::new(format!("{} {}", self.stage.id(), self.stage.sink().name()));
        consumer.with_can_spill(can_spill).register(self.ctx.memory_pool())
    }

    /// The memory limit and where the rest goes; none where there is no limit, or what the sink holds stays.
    pub(super) fn limit(&self) -> Option<Limit> {
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

    async fn source(&self, workers: usize, last: Option<&Arc<Last>>) -> Result<Source> {
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
            let bar = Bar::new(last, self.stage, |c| kept.iter().map(|m| resident.ends(c, *m)).collect())?;
            return Ok(Source::Resident(Runs::best_first(resident.take(inputs, kept).collect(), workers, bar)?));
        }
        if let Some(scan) = plan.downcast_ref::<DataSourceExec>().and_then(|s| ParquetScan::of(s, inputs, &self.ctx))
            && let Some(groups) = scan.row_groups().await?
        {
            let groups = self.slice(groups);
            let bar = Bar::new(last, self.stage, |c| groups.iter().map(|g| scan.ends(c, g)).collect())?;
            return Ok(Source::Groups { scan: Arc::new(scan), groups: Runs::best_first(groups, workers, bar)? });
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
                let mut next = source.next(w, &metrics.fetch).await?;
                while let Some(morsel) = next {
                    cancel.check()?;
                    let ahead = source.ahead(w, &metrics.fetch);
                    let (inputs, time) = (Arc::clone(&inputs), metrics.compute.clone());
                    let (at_hand, token) = (Arc::clone(&source), cancel.clone());
                    // Rows that stream away are handed on after every morsel, and within a large one.
                    let pause = out.is_some();
                    let most = if pause { 1 } else { MORSELS };
                    worker = pool
                        .run(move || {
                            let _timer = time.timer();
                            worker.morsel(morsel, &inputs, pause)?;
                            for morsel in (1..most).map_while(|_| at_hand.ready(w)) {
                                token.check()?;
                                worker.morsel(morsel, &inputs, pause)?;
                            }
                            Ok(worker)
                        })
                        .await?;
                    if let Some(out) = &out {
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
                    next = match ahead {
                        Some(fetch) => fetched(fetch).await?,
                        None => source.next(w, &metrics.fetch).await?,
                    };
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
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> DataFusionError {
    Error::bug(format!("panic in an operator below a stage: {}", crate::context::panic_text(panic))).into()
}

async fn fetched(task: SpawnedTask<Result<Option<Morsel>>>) -> Result<Option<Morsel>> {
    task.join().await.map_err(|e| Error::bug(format!("a stage's fetch ended: {e}")))?
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
