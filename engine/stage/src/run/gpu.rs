//! A stage on a wgpu device.
//!
//! Three shapes. Where the device knows all aggregates of a group sink it makes the groups ([`groups`]); of any other
//! stage it runs the filters, probes and arithmetic and says which rows survive, and the host goes on with
//! those ([`rows`]). Rows of a sort or top-n sink it puts in order at the end ([`order`]). A block that the device cannot take
//! runs on the CPU, and is counted.

mod floats;
mod groups;
mod keys;
mod order;
mod parts;
mod predicates;
mod rows;
mod select;
mod split;
mod table;

pub(super) use order::DeviceOrder;
pub use parts::{Parts, RowParts, TableColumns, parts, row_parts};

use super::Bound;
use super::chunk::{LateColumns, RowSink};
use super::metrics::{Fallbacks, GpuMetrics};
use super::worker::WorkerSink;
use crate::context::Cancel;
use crate::convert::Block;
use crate::exec::StageExec;
use crate::program::{Program, Sink};
use crate::resident::ResidentSource;
use crate::{Error, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use groups::{DeviceGroups, GroupsWorker, Owed};
pub(super) use keys::DirectKeys;
use millstream_kernels::ErrorKind;
use millstream_kernels::gpu::{CapabilityClass, Device};
use rows::{DeviceRows, RowsWorker};
use select::Lookup;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a GPU would run a stage, from the plan alone: for EXPLAIN.
///
/// # Errors
/// Why no GPU can, naming the instruction or the type.
pub fn covers(stage: &StageExec) -> Result<String, String> {
    let (program, sink) = (stage.program(), stage.sink());
    let refused = split::refusal(program, sink);
    if refused.is_none() {
        let split = split::split(program, sink, &vec![true; stage.builds().len()], true).map_err(|e| e.to_string())?;
        let host = split.host.iter().chain(split.tables.iter().flat_map(|t| &t.instrs)).count();
        return Ok(format!("{} instructions on the device, {host} on the host", split.device.instrs.len()));
    }
    let nothing = || format!("no compute shader covers a {} sink, and nothing before it that one covers", sink.name());
    let refused = refused.filter(|_| matches!(sink, Sink::Group { .. }));
    let ordered = matches!(sink, Sink::Sort { .. }).then(|| order::covers(program, sink));
    match (selected(stage), refused, ordered) {
        (Some(split), refused, ordered) => {
            let how = match (refused, ordered) {
                (Some(why), _) => format!("; groups on the host: {why}"),
                (None, Some(Ok(()))) => "; sorted on the device".into(),
                (None, Some(Err(why))) => format!("; sorted on the host: {why}"),
                (None, None) => String::new(),
            };
            Ok(format!("{} instructions on the device, {} on the host{how}", split.device.instrs.len(), split.rest.len()))
        }
        (None, Some(why), _) | (None, None, Some(Err(why))) => Err(why),
        (None, None, Some(Ok(()))) => Ok(format!("{} instructions on the host; sorted on the device", program.instrs.len())),
        (None, None, None) => Err(nothing()),
    }
}

/// Of each input of a stage's program, the share of its rows that is on the device: columns of a table in memory that have
/// stayed there. None are where nothing has run on a device yet, or where the host filters rows first.
pub fn resident_shares(stage: &StageExec) -> Vec<f64> {
    let inputs = stage.program().inputs.len();
    let device = lock(&OPEN)[0].clone().flatten();
    let (Some(device), Some(source)) = (device, ResidentSource::below(stage.input())) else { return vec![0.0; inputs] };
    stage.program().inputs.iter().map(|c| source.share_on(&device, *c)).collect()
}

/// Of a group stage over a table in memory whose keys have codes that need not be looked up: how many codes, and the share
/// of its rows whose codes are on the device.
pub fn direct_codes(stage: &StageExec) -> Option<(u32, f64)> {
    let direct = DirectKeys::of(stage)?;
    let device = lock(&OPEN)[0].clone().flatten();
    Some((direct.codes, device.map_or(0.0, |device| DirectKeys::share_on(stage, &device))))
}

/// Of a class: not looked for, not there, or open.
type Known = Option<Option<Arc<Device>>>;

/// What is known of each class.
static OPEN: Mutex<[Known; 2]> = Mutex::new([const { None }; 2]);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the device would do of the rows of a stage before its sink, as far as the plan says; none where that is nothing.
fn selected(stage: &StageExec) -> Option<select::RowSplit> {
    select::split(stage.program(), &stage.sink().reads(), &vec![Lookup::Only; stage.builds().len()])
}

/// Whether the device has something to do for the rows of a stage before its sink.
pub(super) fn selects(stage: &StageExec) -> bool {
    selected(stage).is_some()
}

/// The device of a class, opened when first asked for and kept while the process lives; anew after it
/// was lost. All sessions share it: the limit of its memory is that of the stage that began last.
fn device(class: CapabilityClass, memory_bytes: Option<u64>) -> millstream_kernels::Result<Arc<Device>> {
    let mut open = lock(&OPEN);
    let known = match class {
        CapabilityClass::All => &mut open[0],
        CapabilityClass::Floor => &mut open[1],
    };
    let usable = known.as_ref().is_some_and(|d| d.as_ref().is_none_or(|d| d.lost().is_none()));
    if !usable {
        *known = None;
        *known = Some(Device::open(class)?);
    }
    let none = || millstream_kernels::Error::new(ErrorKind::Closed, "gpu: no adapter on this machine");
    let device = known.clone().flatten().ok_or_else(none)?;
    device.limit_memory(memory_bytes.unwrap_or(u64::MAX));
    Ok(device)
}

/// What a stage brings along to the device.
pub(super) struct Opening {
    pub class: CapabilityClass,
    /// Bytes of its memory that may be used; all there is where none is said.
    pub memory_bytes: Option<u64>,
    /// Threads of the pool.
    pub threads: usize,
    /// The whole program.
    pub whole: Arc<Bound>,
    /// Of a group stage, codes of the keys that need not be looked up.
    pub direct: Option<DirectKeys>,
    pub cancel: Cancel,
    pub metrics: GpuMetrics,
    pub fallbacks: Fallbacks,
    pub reservation: MemoryReservation,
}

/// The run of a stage on the device, shared by its workers.
#[derive(Clone)]
pub(super) enum DeviceRun {
    Groups(Arc<DeviceGroups>),
    Rows(Arc<DeviceRows>),
}

impl DeviceRun {
    /// Opens the device and readies the tables that it probes.
    ///
    /// # Errors
    /// `Closed` when there is no device; `Unsupported` where the tables leave it nothing to do; `Bug` for a
    /// stage that [`covers`] refuses.
    pub(super) fn open(opening: Opening, sink: &Sink) -> Result<Self> {
        Ok(match split::refusal(&opening.whole.program, sink) {
            None => Self::Groups(DeviceGroups::open(opening, sink)?),
            Some(_) => Self::Rows(DeviceRows::open(opening, sink)?),
        })
    }

    pub(super) fn worker(&self) -> DeviceWorker {
        match self {
            Self::Groups(run) => DeviceWorker::Groups(GroupsWorker::new(Arc::clone(run))),
            Self::Rows(run) => DeviceWorker::Rows(RowsWorker::new(Arc::clone(run))),
        }
    }
}

/// One worker of a stage on the device.
pub(super) enum DeviceWorker {
    Groups(GroupsWorker),
    Rows(RowsWorker),
}

impl DeviceWorker {
    /// Takes a block: through the device into `sink`, or on the CPU where the device cannot.
    ///
    /// # Errors
    /// What the program raises; `Exhausted` when memory for the block is refused; `Closed` when cancelled.
    pub(super) fn block(&mut self, block: Block, sink: &mut WorkerSink) -> Result<()> {
        match (self, sink) {
            (Self::Groups(w), WorkerSink::Group(sink)) => w.owed(Owed::Block(Arc::new(block)), sink),
            (Self::Groups(_), _) => Err(Error::bug("groups of a device have a group sink")),
            (Self::Rows(w), sink) => w.block(&block, sink.rows()?),
        }
    }

    /// Takes `rows` rows of a table in memory, of which the device may have columns already.
    ///
    /// # Errors
    /// As [`DeviceWorker::block`].
    pub(super) fn resident(&mut self, columns: LateColumns, rows: usize, sink: &mut WorkerSink) -> Result<()> {
        match (self, sink) {
            (Self::Groups(w), WorkerSink::Group(sink)) => w.owed(Owed::Late(columns, rows), sink),
            (Self::Groups(_), _) => Err(Error::bug("groups of a device have a group sink")),
            (Self::Rows(w), sink) => w.late(&columns, 0..rows, sink.rows()?),
        }
    }

    /// Whether [`DeviceWorker::late`] is for it.
    pub(super) fn reads_late(&self) -> bool {
        matches!(self, Self::Rows(_))
    }

    /// Takes rows of a row group that is decoded as it is read.
    ///
    /// # Errors
    /// As [`DeviceWorker::block`], and what `columns` raises; `Bug` for groups, which take whole blocks.
    pub(super) fn late(&mut self, columns: &LateColumns, rows: Range<usize>, sink: &mut dyn RowSink) -> Result<()> {
        match self {
            Self::Groups(_) => Err(Error::bug("groups of a device take whole blocks")),
            Self::Rows(w) => w.late(columns, rows, sink),
        }
    }

    /// The groups that the device still has, of all workers, into `sink`. Called once, after the last block of
    /// the last worker.
    ///
    /// # Errors
    /// As [`DeviceWorker::block`].
    pub(super) fn finish(&mut self, sink: &mut WorkerSink) -> Result<()> {
        match (self, sink) {
            (Self::Groups(w), WorkerSink::Group(sink)) => w.finish(sink),
            _ => Ok(()),
        }
    }

    /// The tail of the probe at instruction `at` of the whole program, on the CPU.
    ///
    /// # Errors
    /// What the program raises; `Bug` for groups, whose programs have no tail.
    pub(super) fn tail(&mut self, at: usize, range: Range<usize>, sink: &mut dyn RowSink) -> Result<()> {
        match self {
            Self::Groups(_) => Err(Error::bug("a tail on the device")),
            Self::Rows(w) => w.tail(at, range, sink),
        }
    }

    /// The whole program.
    pub(super) fn program(&self) -> Result<&Arc<Program>> {
        match self {
            Self::Groups(_) => Err(Error::bug("groups have no rows")),
            Self::Rows(w) => Ok(w.program()),
        }
    }
}
