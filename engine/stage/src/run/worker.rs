//! One worker of a stage: its chunks and its part of the sink.

use super::chunk::{Chunks, Columns, LateColumns, RowSink};
use super::divide::Divider;
use super::driver::MORSEL_ROWS;
use super::gpu::DeviceWorker;
use super::metrics::StageMetrics;
use super::reference::{ReferenceSink, RowProgram};
use super::sink::{GroupSink, RowsSink};
use super::source::Morsel;
use super::spill::Spiller;
use crate::convert::{Block, Reader};
use crate::program::Reg;
use crate::{Cancel, Error, Result};
use datafusion::execution::memory_pool::{MemoryPool, MemoryReservation};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// One worker: its chunks and its part of the sink.
pub(super) struct Worker {
    pub(super) sink: WorkerSink,
    pub(super) engine: Engine,
    pub(super) reader: Reader,
    /// What it has left half way, and the rows still to come.
    pub(super) open: Option<(LateColumns, Range<usize>)>,
    pub(super) reservation: MemoryReservation,
    pub(super) metrics: StageMetrics,
    /// Where what the memory limit does not allow goes; none where the memory is not limited, or what the
    /// sink holds has to stay.
    pub(super) limit: Option<Limit>,
    /// Rows of a build side that have gone to disk.
    pub(super) divider: Option<Divider>,
}

/// A limited memory, and where the rest goes.
#[derive(Clone)]
pub(super) struct Limit {
    pub(super) pool: Arc<dyn MemoryPool>,
    pub(super) bytes: usize,
    pub(super) spiller: Spiller,
    pub(super) cancel: Cancel,
}

impl Limit {
    /// Whether so much is in use that build sides, which stay until their readers are done, should leave
    /// the rest to groups and sorts.
    pub(super) fn is_near(&self) -> bool {
        self.pool.reserved() > self.bytes / 5 * 3
    }
}

pub(super) enum Engine {
    Chunks(Chunks),
    Device(DeviceWorker),
    Rows(RowProgram),
}

impl Engine {
    /// Whether it reads columns of a row group only when, and for the rows that, it needs.
    fn reads_late(&self) -> bool {
        match self {
            Engine::Chunks(_) => true,
            Engine::Device(d) => d.reads_late(),
            Engine::Rows(_) => false,
        }
    }
}

pub(super) enum WorkerSink {
    Group(Box<GroupSink>),
    Rows(RowsSink),
    Reference(ReferenceSink),
}

/// Rows of a row group after which a worker says what it holds.
pub(super) const RESERVE_ROWS: usize = 16 * 1024;

/// What a worker may hold however little memory is left: less is not worth a file, nor an error.
pub(super) const SPILL_BYTES: usize = 1 << 16;

impl Worker {
    /// Rows that a collect or build sink holds.
    pub(super) fn rows(&self) -> usize {
        if let WorkerSink::Rows(r) = &self.sink { r.len() } else { 0 }
    }

    /// Takes a morsel to the end of the program. With `pause` it may stop as soon as there are rows to be
    /// handed on, to [`Worker::go_on`] later.
    pub(super) fn morsel(&mut self, morsel: Morsel, inputs: &[usize], pause: bool) -> Result<()> {
        match morsel {
            Morsel::Fetched(f) if self.engine.reads_late() => {
                let rows = f.rows();
                self.begin(f.open()?, rows, pause)
            }
            Morsel::Resident(m) if matches!(self.engine, Engine::Device(_)) => {
                let rows = m.rows();
                self.metrics.input_rows.add(rows);
                if let Engine::Device(d) = &mut self.engine {
                    d.resident(Arc::new(Mutex::new(m)), rows, &mut self.sink)?;
                }
                self.reserve()
            }
            Morsel::Resident(m) if self.engine.reads_late() => {
                let rows = m.rows();
                self.begin(m, rows, pause)
            }
            morsel => {
                let mut reader = std::mem::take(&mut self.reader);
                morsel.blocks(inputs, &mut reader, |b| self.block(b))?;
                self.reader = reader;
                Ok(())
            }
        }
    }

    /// Takes `rows` rows of `columns` to the end of the program, reading only what it asks for.
    fn begin(&mut self, columns: impl Columns + Send + 'static, rows: usize, pause: bool) -> Result<()> {
        self.metrics.input_rows.add(rows);
        self.open = Some((Arc::new(Mutex::new(columns)), 0..rows));
        self.go_on(pause)
    }

    /// Whether rows have been left half way.
    pub(super) fn has_paused(&self) -> bool {
        self.open.is_some()
    }

    /// Goes on with what it has left, reading only what the program asks for.
    pub(super) fn go_on(&mut self, pause: bool) -> Result<()> {
        let Some((columns, mut rows)) = self.open.take() else { return Ok(()) };
        while !rows.is_empty() {
            let next = rows.end.min(rows.start + RESERVE_ROWS);
            match &mut self.engine {
                Engine::Chunks(c) => c.late(&columns, rows.start..next, self.sink.rows()?)?,
                Engine::Device(d) => d.late(&columns, rows.start..next, self.sink.rows()?)?,
                Engine::Rows(_) => return Err(Error::bug("the reference reads whole blocks")),
            }
            self.reserve()?;
            rows.start = next;
            if pause && self.rows() >= MORSEL_ROWS && !rows.is_empty() {
                self.open = Some((columns, rows));
                return Ok(());
            }
        }
        Ok(())
    }

    fn block(&mut self, block: Block) -> Result<()> {
        self.metrics.input_rows.add(block.rows);
        match (&mut self.engine, &mut self.sink) {
            (Engine::Chunks(c), sink) => c.block(&block, sink.rows()?)?,
            (Engine::Device(d), sink) => d.block(block, sink)?,
            (Engine::Rows(p), WorkerSink::Reference(sink)) => p.block(&block, sink)?,
            (Engine::Rows(_), _) => return Err(Error::bug("the reference has its own sink")),
        }
        self.reserve()
    }

    /// Says what the sink holds. Groups and build rows that the memory limit does not allow go to disk.
    pub(super) fn reserve(&mut self) -> Result<()> {
        let held = match &self.sink {
            // Emptying the table takes as much again.
            WorkerSink::Group(g) if self.limit.is_some() => 2 * g.size(),
            WorkerSink::Group(g) => g.size(),
            WorkerSink::Rows(r) => r.size(),
            WorkerSink::Reference(_) => 0,
        };
        let grown = self.reservation.try_resize(held);
        if held < SPILL_BYTES {
            return Ok(());
        }
        let Some(limit) = &self.limit else { return Ok(grown?) };
        let short = grown.is_err() || matches!(self.sink, WorkerSink::Rows(_)) && limit.is_near();
        if short { self.spill() } else { Ok(()) }
    }

    /// Moves what the sink holds to disk.
    pub(super) fn spill(&mut self) -> Result<()> {
        let Some(limit) = &self.limit else { return Err(Error::bug("nowhere to spill to")) };
        match &mut self.sink {
            WorkerSink::Group(g) => g.spill(&limit.spiller, &limit.cancel)?,
            WorkerSink::Rows(r) => {
                let program = match &self.engine {
                    Engine::Chunks(chunks) => &chunks.bound.program,
                    Engine::Device(device) => device.program()?,
                    Engine::Rows(_) => return Err(Error::bug("the reference makes no build rows")),
                };
                if let Some(block) = r.take(program)? {
                    let new = || Divider::new(&limit.spiller, &limit.cancel, r.keys(), 0);
                    self.divider.get_or_insert_with(new).write(&block)?;
                }
            }
            WorkerSink::Reference(_) => return Err(Error::bug("the reference keeps everything")),
        }
        self.reservation.free();
        Ok(())
    }

    /// Runs rows on from the probe at instruction `at`.
    pub(super) fn resume(&mut self, at: usize, registers: &[Reg], block: &Block) -> Result<()> {
        match &mut self.engine {
            Engine::Chunks(c) => c.resume(at, registers, block, self.sink.rows()?)?,
            Engine::Rows(_) | Engine::Device(_) => return Err(Error::bug("only chunks are resumed")),
        }
        self.reserve()
    }

    pub(super) fn tail(&mut self, at: usize, range: Range<usize>) -> Result<()> {
        match (&mut self.engine, &mut self.sink) {
            (Engine::Chunks(c), sink) => c.tail(at, range, sink.rows()?)?,
            (Engine::Rows(p), WorkerSink::Reference(sink)) => p.tail(at, range, sink)?,
            (Engine::Rows(_), _) => return Err(Error::bug("the reference has its own sink")),
            (Engine::Device(d), sink) => d.tail(at, range, sink.rows()?)?,
        }
        self.reserve()
    }

    /// Takes the groups that the device still has.
    pub(super) fn land(&mut self) -> Result<()> {
        if let Engine::Device(d) = &mut self.engine {
            d.finish(&mut self.sink)?;
        }
        self.reserve()
    }
}

impl WorkerSink {
    pub(super) fn rows(&mut self) -> Result<&mut dyn RowSink> {
        match self {
            WorkerSink::Group(g) => Ok(g.as_mut()),
            WorkerSink::Rows(r) => Ok(r),
            WorkerSink::Reference(_) => Err(Error::bug("the reference takes values, not registers")),
        }
    }
}
