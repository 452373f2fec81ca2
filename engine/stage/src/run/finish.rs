//! The end of a stage's run: the workers' parts of the sink as one, in memory or on disk.

use super::divide::{DiskBuild, Divider, TABLE_ROW};
use super::driver::{Held, Output, Run};
use super::late::LateKeys;
use super::merge::{finish_groups, finish_rows, merge_groups};
use super::metrics::table_kind;
use super::parts::Parts;
use super::sink::{GroupSink, build};
use super::worker::{Limit, SPILL_BYTES, Worker, WorkerSink};
use super::{Built, Carried, blocks_size};
use crate::Result;
use crate::context::Settings;
use crate::convert::Block;
use crate::program::Sink;
use datafusion::execution::memory_pool::MemoryReservation;
use millstream_kernels::program::Instr;
use std::sync::Arc;

impl Run<'_> {
    /// The workers' parts as one.
    pub(super) async fn finish(
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
            let order = self.order.clone();
            let done = pool.run(move || {
                let _timer = time.timer();
                finish_rows(parts, &program, &sink, order.as_deref())
            });
            let done = done.await?;
            self.count_ordered();
            done
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
        if bytes >= SPILL_BYTES {
            grown?;
        }
        let mut parts = vec![];
        for w in &mut workers {
            if let WorkerSink::Rows(r) = &mut w.sink {
                parts.extend(r.take(program)?);
            }
        }
        self.table(settings, parts, program, reservation, Built::size).await
    }

    /// The join table of these rows; in the end `reservation` is as large as `size` says.
    pub(super) async fn table(
        &self,
        settings: &Settings,
        parts: Vec<Block>,
        program: &Arc<crate::Program>,
        reservation: MemoryReservation,
        size: impl FnOnce(&Built) -> usize + Send + 'static,
    ) -> Result<Output> {
        let (program, sink, time) = (Arc::clone(program), self.stage.sink().clone(), self.metrics.compute.clone());
        let built = settings.pool.run(move || {
            let _timer = time.timer();
            let built = build(parts, &program, &sink)?;
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

    /// Counts the rows that a device has put in order, where that is all that there was to do.
    fn count_ordered(&self) {
        let works = |i: &Instr| matches!(i, Instr::Filter { .. } | Instr::Probe(_));
        let (Some(order), Some(gpu)) = (&self.order, &self.metrics.gpu) else { return };
        if !self.selects() && order.is_whole() && !self.stage.program().instrs.iter().any(works) {
            gpu.rows.add(self.metrics.input_rows.value());
        }
    }

    /// Counts what leaves.
    pub(super) fn counted(&self, output: Output) -> Output {
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
