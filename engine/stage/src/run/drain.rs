//! The probe of a build side on disk: part after part, each worker another one.

use super::Bound;
use super::divide::{DiskBuild, Rows};
use super::driver::{Run, flush};
use super::flush::PARTS;
use super::spill::LEVELS;
use super::worker::{Engine, Worker};
use crate::context::Settings;
use crate::exec::StageExec;
use crate::program::Reg;
use crate::run::driver::BatchSender;
use crate::run::metrics::StageMetrics;
use crate::{Cancel, Error, ErrorKind, Pool, Result};
use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_kernels::program::Probe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the workers share while they join the parts of one probe.
pub(super) struct Drain<'a> {
    pub(super) stage: &'a StageExec,
    pub(super) pool: &'a Pool,
    pub(super) cancel: &'a Cancel,
    pub(super) metrics: &'a StageMetrics,
    pub(super) out: Option<&'a BatchSender>,
    /// The probe's place in the program, its table, and whether build rows are owed at its end.
    pub(super) at: usize,
    pub(super) table: usize,
    pub(super) has_tail: bool,
    pub(super) registers: Arc<Vec<Reg>>,
}

/// Both sides of a join on disk.
#[derive(Clone)]
struct Sides {
    build: Arc<DiskBuild>,
    probe: Arc<Vec<Rows>>,
}

impl Drain<'_> {
    /// Joins all parts.
    ///
    /// # Errors
    /// What the rest of the program raises; `Exhausted` for a part that the memory does not hold however
    /// often it is divided.
    pub(super) async fn run(&self, workers: Vec<Worker>, build: Arc<DiskBuild>, probe: Vec<Rows>) -> Result<Vec<Worker>> {
        let sides = Sides { build, probe: Arc::new(probe) };
        let next = AtomicUsize::new(0);
        let tasks = workers.into_iter().map(|mut worker| {
            let (sides, next) = (&sides, &next);
            async move {
                loop {
                    let part = next.fetch_add(1, Ordering::Relaxed);
                    if part >= PARTS {
                        return Ok::<_, Error>(worker);
                    }
                    worker = self.part(worker, sides.clone(), part, 0).await?;
                }
            }
        });
        futures::future::try_join_all(tasks).await
    }

    /// One part that was divided `level` times before.
    fn part(&self, worker: Worker, sides: Sides, part: usize, level: u32) -> BoxFuture<'_, Result<Worker>> {
        async move {
            self.cancel.check()?;
            let build = Arc::clone(&sides.build);
            match self.on_pool(move || build.table(part)).await {
                Ok(built) => self.joined(worker, Arc::new(built), sides.probe, part).await,
                Err(e) if e.kind() == ErrorKind::Exhausted && level < LEVELS => {
                    let cancel = self.cancel.clone();
                    let (build, probe) = self.on_pool(move || sides.build.divided(&sides.probe, part, level + 1, &cancel)).await?;
                    let smaller = Sides { build: Arc::new(build), probe: Arc::new(probe) };
                    let mut worker = worker;
                    for part in 0..PARTS {
                        worker = self.part(worker, smaller.clone(), part, level + 1).await?;
                    }
                    Ok(worker)
                }
                Err(e) => Err(e),
            }
        }
        .boxed()
    }

    /// The rows of one part, and the build rows that are still owed.
    async fn joined(&self, mut worker: Worker, built: Arc<super::Built>, probe: Arc<Vec<Rows>>, part: usize) -> Result<Worker> {
        let (at, table, rows) = (self.at, self.table, built.table.rows());
        if let Engine::Chunks(c) = &mut worker.engine {
            c.rebind(table, built);
        }
        for file in 0..probe.len() {
            for piece in 0..probe[file].pieces(part) {
                let (probe, registers) = (Arc::clone(&probe), Arc::clone(&self.registers));
                let resumed = self.on_pool(move || {
                    let block = probe[file].read(part, piece)?;
                    worker.resume(at, &registers, &block)?;
                    Ok(worker)
                });
                worker = self.flushed(resumed.await?).await?;
            }
        }
        if !self.has_tail {
            return Ok(worker);
        }
        let owed = self.on_pool(move || {
            worker.tail(at, 0..rows)?;
            Ok(worker)
        });
        self.flushed(owed.await?).await
    }

    async fn flushed(&self, mut worker: Worker) -> Result<Worker> {
        if let Some(out) = self.out {
            flush(&mut worker, self.stage, out, self.metrics).await?;
        }
        Ok(worker)
    }

    async fn on_pool<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let time = self.metrics.compute.clone();
        self.pool
            .run(move || {
                let _timer = time.timer();
                work()
            })
            .await
    }
}

impl Run<'_> {
    /// Joins the rows that wait at instruction `at` with their table, part by part.
    pub(super) async fn drain(
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
}
