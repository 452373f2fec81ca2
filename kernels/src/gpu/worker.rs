//! The one thread of a device that calls wgpu: error scopes are per thread, and a driver's panic must
//! end somewhere that is not a query.
//!
//! Invariants. Every job runs inside error scopes, so that each wgpu error becomes the error of the job
//! that caused it. After a panic or the loss of the device, every job is answered with `Closed`. No wait
//! is endless: it is cut into slices, between which cancellation and loss are looked at.

use super::Fault;
use super::adapter::{AdapterInfo, CapabilityClass, describe, granted, instance, usable};
use super::clock::Clock;
use super::device::DeviceObjects;
use super::dispatch::{Compiled, RunBuffers};
use super::pool::{Lease, Pool, Role};
use super::resident::Residents;
use crate::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Work for the device thread. Whoever sends it waits for a reply that the job holds the sender of:
/// a job dropped undone is a reply of its own.
pub(super) type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// What the device thread and its handle both see.
#[derive(Default)]
pub(super) struct Shared {
    /// Why the device is gone, once it is.
    lost: Mutex<Option<String>>,
    /// The last wgpu error that no error scope caught.
    uncaptured: Mutex<Option<String>>,
    /// A fault to act out at the next opportunity.
    fault: Mutex<Option<Fault>>,
    /// Columns that stay between runs.
    residents: Mutex<Residents>,
}

impl Shared {
    pub fn lose(&self, reason: impl Into<String>) {
        lock(&self.lost).get_or_insert(reason.into());
    }

    pub fn lost(&self) -> Option<String> {
        lock(&self.lost).clone()
    }

    pub fn closed(&self) -> Error {
        // A caller may learn of a panic before the unwinding thread has said so.
        self.lose("its thread has ended");
        let reason = self.lost().unwrap_or_default();
        Error::new(ErrorKind::Closed, format!("gpu: the device is gone: {reason}"))
    }

    pub fn residents(&self) -> std::sync::MutexGuard<'_, Residents> {
        lock(&self.residents)
    }

    pub fn inject(&self, fault: Fault) {
        *lock(&self.fault) = Some(fault);
    }

    fn fault(&self, wanted: impl Fn(Fault) -> bool) -> Option<Fault> {
        let mut fault = lock(&self.fault);
        if fault.is_some_and(wanted) { fault.take() } else { None }
    }
}

/// The value behind the lock, also after a panic: what is behind these locks is replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A slice of waiting: cancellation and loss are noticed after at most this.
const SLICE: Duration = Duration::from_millis(10);
/// Slices until a submission counts as hung.
const SLICES_MAX: u32 = 6000;

/// The device, its queue, and all that lives on it.
pub(super) struct Worker {
    instance: wgpu::Instance,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub clock: Option<Clock>,
    pub shared: Arc<Shared>,
    pub pool: Pool,
    /// Compiled kernels by their source.
    pub kernels: HashMap<String, Rc<Compiled>>,
    /// The buffers of columns that stay between runs, by their slots.
    pub kept: HashMap<u64, Lease>,
    pub next_slot: u64,
    /// What each live run holds on the device.
    pub runs: HashMap<u64, RunBuffers>,
    /// Workgroups of a dispatch, at most.
    pub workgroups_max: u32,
    /// The device has memory of its own.
    pub is_discrete: bool,
}

impl Worker {
    /// Opens the best adapter that yields a device; `None` without any adapter.
    ///
    /// # Errors
    /// `Closed` when there are adapters and none yields a device.
    pub fn open(class: CapabilityClass, shared: &Arc<Shared>) -> Result<Option<(Self, AdapterInfo)>> {
        let mut failure = None;
        let instance = instance();
        for adapter in usable(&instance) {
            let (limits, features) = granted(&adapter, class);
            let request = adapter.request_device(&wgpu::DeviceDescriptor {
                label: Some("millstream"),
                required_features: features,
                required_limits: limits.clone(),
                ..wgpu::DeviceDescriptor::default()
            });
            match pollster::block_on(request) {
                Ok((device, queue)) => {
                    let info = describe(&adapter, &limits, features);
                    let mut worker = Self::new(instance.clone(), device, queue, &limits, shared);
                    worker.is_discrete = adapter.get_info().device_type == wgpu::DeviceType::DiscreteGpu;
                    return Ok(Some((worker, info)));
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            None => Ok(None),
            Some(error) => Err(Error::new(ErrorKind::Closed, format!("gpu: no adapter opens: {error}"))),
        }
    }

    fn new(instance: wgpu::Instance, device: wgpu::Device, queue: wgpu::Queue, limits: &wgpu::Limits, shared: &Arc<Shared>) -> Self {
        // wgpu's default handler panics.
        let errors = Arc::clone(shared);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            *lock(&errors.uncaptured) = Some(error.to_string());
        }));
        let losses = Arc::clone(shared);
        device.set_device_lost_callback(move |reason, message| losses.lose(format!("{reason:?} {message}")));
        let clock = Clock::new(&device, &queue);
        Self {
            instance,
            clock,
            device,
            queue,
            shared: Arc::clone(shared),
            pool: Pool::new(limits.max_buffer_size),
            kernels: HashMap::new(),
            kept: HashMap::new(),
            next_slot: 0,
            runs: HashMap::new(),
            workgroups_max: limits.max_compute_workgroups_per_dimension,
            is_discrete: false,
        }
    }

    /// Runs `work` inside error scopes: its error, or wgpu's, or its result.
    pub fn scoped<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.check()?;
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let result = work(self);
        let validation = pollster::block_on(validation.pop());
        let internal = pollster::block_on(internal.pop());
        let memory = pollster::block_on(memory.pop());
        let uncaptured = lock(&self.shared.uncaptured).take();
        // A lost device, and memory that ran out, cause errors of the other kinds after them.
        self.check()?;
        if let Some(error) = memory {
            return Err(Error::new(ErrorKind::Exhausted, format!("gpu: {error}")));
        }
        if let Some(error) = internal {
            return Err(Error::new(ErrorKind::Closed, format!("gpu: {error}")));
        }
        match (validation.map(|e| e.to_string()).or(uncaptured), result) {
            (Some(error), _) => Err(Error::bug(format!("gpu: {error}"))),
            (None, result) => result,
        }
    }

    /// Objects of the driver that are alive.
    pub fn objects(&self) -> DeviceObjects {
        let Some(report) = self.instance.generate_report() else { return DeviceObjects::default() };
        let hub = report.hub_report();
        DeviceObjects {
            buffers: hub.buffers.num_kept_from_user,
            compiled: hub.compute_pipelines.num_kept_from_user + hub.shader_modules.num_kept_from_user,
            passing: hub.bind_groups.num_kept_from_user
                + hub.command_encoders.num_kept_from_user
                + hub.command_buffers.num_kept_from_user
                + hub.compute_passes.num_kept_from_user,
        }
    }

    /// An error if the device is gone.
    pub fn check(&self) -> Result<()> {
        if self.shared.lost().is_some() { Err(self.shared.closed()) } else { Ok(()) }
    }

    /// A buffer from the pool. Columns that stay between runs make room for it.
    pub fn lease(&mut self, role: Role, bytes: u64) -> Result<Lease> {
        if self.shared.fault(|f| f == Fault::OutOfMemory).is_some() {
            return Err(Error::new(ErrorKind::Exhausted, "gpu: out of memory, injected"));
        }
        loop {
            match self.pool.take(&self.device, role, bytes) {
                Err(error) if error.kind() != ErrorKind::Exhausted || !self.make_room() => return Err(error),
                Err(_) => {}
                Ok(lease) => return Ok(lease),
            }
        }
    }

    /// Submits `commands` after all writes that were queued before.
    pub fn submit(&self, commands: Option<wgpu::CommandBuffer>) -> Result<wgpu::SubmissionIndex> {
        match self.shared.fault(|f| f != Fault::OutOfMemory) {
            Some(Fault::Submit) => return Err(Error::new(ErrorKind::Closed, "gpu: submission failed, injected")),
            Some(Fault::Lost) => self.device.destroy(),
            // Unwinds without the panic hook: nothing is printed.
            Some(Fault::Panic) => std::panic::resume_unwind(Box::new("injected")),
            Some(Fault::OutOfMemory) | None => {}
        }
        Ok(self.queue.submit(commands))
    }

    /// Waits until `submission` is done.
    ///
    /// # Errors
    /// `Closed` when cancelled, when the device is gone, and when it hangs.
    pub fn wait(&self, submission: &wgpu::SubmissionIndex, cancel: &AtomicBool) -> Result<()> {
        for _ in 0..SLICES_MAX {
            let slice = wgpu::PollType::Wait { submission_index: Some(submission.clone()), timeout: Some(SLICE) };
            match self.device.poll(slice) {
                Ok(_) => return self.check(),
                Err(wgpu::PollError::Timeout) => {}
                Err(error) => {
                    self.shared.lose(error.to_string());
                    return Err(self.shared.closed());
                }
            }
            self.check()?;
            cancelled(cancel)?;
        }
        self.shared.lose("a submission did not end");
        Err(self.shared.closed())
    }
}

/// An error if the query was cancelled.
pub(super) fn cancelled(cancel: &AtomicBool) -> Result<()> {
    if cancel.load(Ordering::Relaxed) {
        return Err(Error::new(ErrorKind::Closed, "gpu: cancelled"));
    }
    Ok(())
}

/// The life of the device thread: jobs until every sender is gone.
pub(super) fn serve(worker: Worker, jobs: &Receiver<Job>) {
    let shared = Arc::clone(&worker.shared);
    let mut worker = Some(worker);
    for job in jobs {
        let Some(alive) = worker.as_mut() else {
            continue;
        };
        if catch_unwind(AssertUnwindSafe(|| job(alive))).is_err() {
            shared.lose("its thread panicked");
            let dead = worker.take();
            // What a panic left behind may panic again when dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(dead)));
        }
    }
}
