//! The handle of a device: jobs go in, replies come out, from any thread.

use super::adapter::{AdapterInfo, CapabilityClass};
use super::kernel::Capabilities;
use super::resident::Residents;
use super::rows::RowRun;
use super::run::{GroupRun, RunOptions};
use super::worker::{Job, Shared, Worker, serve};
use super::{DeviceProgram, HostTable};
use crate::{Error, ErrorKind, Result};
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

/// A fault to act out, for tests of what happens after one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The next submission fails.
    Submit,
    /// The next allocation fails.
    OutOfMemory,
    /// The device is lost at the next submission.
    Lost,
    /// The device thread panics at the next submission.
    Panic,
}

/// Device memory held at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Bytes that live runs hold.
    pub live_bytes: u64,
    /// Bytes of columns that stay between runs.
    pub kept_bytes: u64,
    /// Bytes that wait for their next use.
    pub pooled_bytes: u64,
}

/// Objects of the driver that are alive at one moment, of a device alone in its instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceObjects {
    /// Buffers: those of live runs, of columns that stay, and those that wait for their next use.
    pub buffers: usize,
    /// Pipelines and modules of kernels.
    pub compiled: usize,
    /// What lives for a submission: bind groups, encoders, passes.
    pub passing: usize,
}

/// An open device. Its last handle gone, its thread ends and all its memory is free.
pub struct Device {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    info: AdapterInfo,
    class: CapabilityClass,
    next_run: AtomicU64,
}

/// The devices in use, one a class.
static OPEN: Mutex<[Weak<Device>; 2]> = Mutex::new([Weak::new(), Weak::new()]);

/// The devices that somebody uses.
pub(super) fn in_use() -> Vec<Arc<Device>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
}

/// The reply to a job.
pub(super) struct Reply<T> {
    receiver: Receiver<Result<T>>,
    shared: Arc<Shared>,
}

impl<T> std::fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply")
    }
}

impl<T> Reply<T> {
    /// Blocks until the job is done.
    ///
    /// # Errors
    /// The job's, or `Closed` when the device thread did not live to do it.
    pub fn wait(self) -> Result<T> {
        self.receiver.recv().unwrap_or_else(|_| Err(self.shared.closed()))
    }
}

impl Device {
    /// The best device of this machine: the one in use if there is one, else a new one. `None` where
    /// there is no adapter, which is normal. A device that was lost is not handed out again.
    ///
    /// # Errors
    /// `Closed` when there is an adapter and it does not open.
    pub fn open(class: CapabilityClass) -> Result<Option<Arc<Self>>> {
        // Held while opening, so that two callers do not open two devices.
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        match class {
            CapabilityClass::All => Self::open_in(&mut open[0], class),
            CapabilityClass::Floor => Self::open_in(&mut open[1], class),
        }
    }

    /// The device in `slot` if it is usable, else a new one, which `slot` then knows.
    pub(super) fn open_in(slot: &mut Weak<Self>, class: CapabilityClass) -> Result<Option<Arc<Self>>> {
        if let Some(device) = slot.upgrade().filter(|device| device.lost().is_none()) {
            return Ok(Some(device));
        }
        let device = Self::start(class)?.map(Arc::new);
        *slot = device.as_ref().map_or_else(Weak::new, Arc::downgrade);
        Ok(device)
    }

    fn start(class: CapabilityClass) -> Result<Option<Self>> {
        let shared = Arc::new(Shared::default());
        let (jobs, queue) = channel::<Job>();
        let (opened, opening) = channel();
        let thread_shared = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("millstream-gpu".into())
            .spawn(move || {
                // A driver may panic while it opens: then nothing is sent and the caller sees that.
                let worker = catch_unwind(|| Worker::open(class, &thread_shared));
                let (worker, reply) = match worker {
                    Ok(Ok(Some((worker, info)))) => (Some(worker), Ok(Some(info))),
                    Ok(Ok(None)) => (None, Ok(None)),
                    Ok(Err(error)) => (None, Err(error)),
                    Err(_) => return,
                };
                if opened.send(reply).is_ok()
                    && let Some(worker) = worker
                {
                    serve(worker, &queue);
                }
            })
            .map_err(|e| Error::new(ErrorKind::Exhausted, format!("gpu: no thread for the device: {e}")))?;
        let info = opening.recv().map_err(|_| Error::new(ErrorKind::Closed, "gpu: a driver panicked while its device was opened"))??;
        Ok(info.map(|info| Self { jobs: Some(jobs), thread: Some(thread), shared, info, class, next_run: AtomicU64::new(0) }))
    }

    /// What the device is, and what of it was granted.
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// The class it was opened with.
    pub fn class(&self) -> CapabilityClass {
        self.class
    }

    /// Why the device is gone, once it is.
    pub fn lost(&self) -> Option<String> {
        self.shared.lost()
    }

    /// Begins a run of `program` against `tables`.
    ///
    /// # Errors
    /// `Unsupported` for inputs that the device does not hold, `Exhausted` for tables that do not fit,
    /// `Closed` when the device is gone. See [`GroupRun`] for what the rows can make of it.
    pub fn prepare(self: &Arc<Self>, program: DeviceProgram, tables: &[HostTable], options: RunOptions) -> Result<GroupRun> {
        GroupRun::new(Arc::clone(self), program, tables, options)
    }

    /// Begins a run of `program` against `tables` that selects rows: its keys and aggregates are not looked at.
    ///
    /// # Errors
    /// As [`Device::prepare`].
    pub fn prepare_rows(self: &Arc<Self>, program: DeviceProgram, tables: &[HostTable], options: RunOptions) -> Result<RowRun> {
        RowRun::new(Arc::clone(self), program, tables, options)
    }

    /// Device memory held, after everything asked for so far is done.
    ///
    /// # Errors
    /// `Closed` when the device is gone.
    pub fn memory(&self) -> Result<DeviceMemory> {
        self.call(|worker| {
            let kept_bytes = worker.shared.residents().bytes();
            let live_bytes = worker.pool.live_bytes() - kept_bytes;
            Ok(DeviceMemory { live_bytes, kept_bytes, pooled_bytes: worker.pool.pooled_bytes() })
        })
    }

    /// Objects alive, after everything asked for so far is done.
    ///
    /// # Errors
    /// `Closed` when the device is gone.
    pub fn objects(&self) -> Result<DeviceObjects> {
        self.call(|worker| Ok(worker.objects()))
    }

    /// From now on no more than `bytes` of device memory are held; what needs more is `Exhausted`. Columns that stay
    /// between runs take half of it at most, and leave when runs need it.
    pub fn limit_memory(&self, bytes: u64) {
        self.post(move |worker| {
            if worker.pool.limit_bytes != bytes {
                worker.pool.limit_bytes = bytes;
                worker.pool.trim();
                worker.shrink();
            }
        });
    }

    /// Acts out `fault` once, at the next opportunity. For tests.
    pub fn inject(&self, fault: Fault) {
        self.shared.inject(fault);
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        Capabilities {
            int64: self.info.int64,
            binding_bytes_max: self.info.binding_bytes_max.min(self.info.buffer_bytes_max),
            workgroups_max: self.info.workgroups_max,
        }
    }

    /// The columns that stay on the device.
    pub(super) fn residents(&self) -> MutexGuard<'_, Residents> {
        self.shared.residents()
    }

    pub(super) fn new_run_id(&self) -> u64 {
        self.next_run.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends work to the device thread.
    pub(super) fn send<T: Send + 'static>(&self, work: impl FnOnce(&mut Worker) -> Result<T> + Send + 'static) -> Reply<T> {
        let (reply, receiver) = channel();
        self.post(move |worker| {
            // Nobody waits for it any more: fine.
            let _ = reply.send(work(worker));
        });
        Reply { receiver, shared: Arc::clone(&self.shared) }
    }

    /// Sends work and waits for it.
    pub(super) fn call<T: Send + 'static>(&self, work: impl FnOnce(&mut Worker) -> Result<T> + Send + 'static) -> Result<T> {
        self.send(work).wait()
    }

    /// Sends work that nobody waits for.
    pub(super) fn post(&self, work: impl FnOnce(&mut Worker) + Send + 'static) {
        if let Some(jobs) = &self.jobs {
            // The thread is gone: the job is dropped, and its reply with it.
            let _ = jobs.send(Box::new(work));
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It catches its panics; and what could be done about one now?
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("info", &self.info).field("class", &self.class).finish_non_exhaustive()
    }
}
