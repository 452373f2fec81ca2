//! What a run is given from outside: settings, the pool, the cancel token, the epoch.

use crate::run::Carried;
use crate::{Error, Result};
use datafusion::execution::TaskContext;
use millstream_kernels::gpu::CapabilityClass;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// One CPU pool for all stages of a session.
#[derive(Clone, Debug)]
pub struct Pool {
    pool: Arc<rayon::ThreadPool>,
    /// Pieces of work that a thread is at.
    running: Arc<AtomicUsize>,
}

impl Pool {
    /// A pool of `threads` threads.
    ///
    /// # Errors
    /// `Exhausted` when the system has no threads.
    pub fn new(threads: usize) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("millstream-{i}"))
            .build()
            .map_err(|e| Error::new(crate::ErrorKind::Exhausted, e))?;
        Ok(Self { pool: Arc::new(pool), running: Arc::default() })
    }

    /// Threads of the pool: how many workers a stage has.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// How many pieces of work are being done now.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Runs `work` on the pool. A panic inside becomes an error; the process lives.
    ///
    /// # Errors
    /// What `work` returns, or `Bug` with the panic's message.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let running = Arc::clone(&self.running);
        self.pool.spawn(move || {
            running.fetch_add(1, Ordering::Relaxed);
            let out = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
                .unwrap_or_else(|panic| Err(Error::bug(format!("panic in a stage: {}", panic_text(panic.as_ref())))));
            running.fetch_sub(1, Ordering::Relaxed);
            // The receiver is gone when the query was cancelled.
            let _ = tx.send(out);
        });
        rx.await.unwrap_or_else(|_| Err(Error::cancelled()))
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Settings of stages, an extension of DataFusion's `SessionConfig`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The pool that all stages share.
    pub pool: Pool,
    /// Integer overflow is an error (Millstream) or wraps (a host's DataFusion).
    pub checked: bool,
    /// How much of a GPU's abilities stages may use.
    pub gpu: CapabilityClass,
    /// Bytes of its memory that they and the columns that stay there may take; all there is where none is said.
    pub gpu_memory_bytes: Option<u64>,
}

impl Settings {
    /// The settings of this task; a process-wide pool where no session set any.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn of(ctx: &TaskContext) -> Result<Arc<Self>> {
        if let Some(settings) = ctx.session_config().get_extension::<Settings>() {
            return Ok(settings);
        }
        static DEFAULT: OnceLock<Arc<Settings>> = OnceLock::new();
        if let Some(settings) = DEFAULT.get() {
            return Ok(Arc::clone(settings));
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let settings = Arc::new(Settings { pool: Pool::new(threads)?, checked: false, gpu: CapabilityClass::All, gpu_memory_bytes: None });
        Ok(Arc::clone(DEFAULT.get_or_init(|| settings)))
    }
}

/// Tells a stage's workers to stop at the next chunk.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Stops the work.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// An error once the work should stop.
    ///
    /// # Errors
    /// `Closed` after [`Cancel::cancel`].
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// What is true after [`Cancel::cancel`], for kernels that wait for a device.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Cancels when dropped.
    pub fn guard(&self) -> CancelGuard {
        CancelGuard(Some(self.clone()))
    }
}

/// Cancels when dropped, unless disarmed.
#[derive(Debug)]
pub struct CancelGuard(Option<Cancel>);

impl CancelGuard {
    /// The work is done: nothing to cancel.
    pub fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        if let Some(cancel) = &self.0 {
            cancel.cancel();
        }
    }
}

/// What stays alive between the epochs of one query, keyed by stage: group tables, join tables.
/// An extension of the epoch's `SessionConfig`; absent for a bounded run in one epoch.
#[derive(Debug, Default)]
pub struct EpochContext {
    /// This epoch takes the morsels whose number is `epoch` modulo `epochs`.
    pub epoch: usize,
    /// How many epochs there are; the last one is final: its watermark is the end.
    pub epochs: usize,
    carried: Mutex<HashMap<String, Carried>>,
}

impl EpochContext {
    /// The context of the first of `epochs` epochs.
    pub fn first(epochs: usize) -> Self {
        Self { epoch: 0, epochs, carried: Mutex::default() }
    }

    /// The context of the next epoch, with what this one carries.
    pub fn next(&self) -> Self {
        let carried = self.carried.lock().map(|mut c| std::mem::take(&mut *c)).unwrap_or_default();
        Self { epoch: self.epoch + 1, epochs: self.epochs, carried: Mutex::new(carried) }
    }

    /// Whether nothing follows: sinks emit.
    pub fn is_final(&self) -> bool {
        self.epoch + 1 >= self.epochs
    }

    /// Takes what operator `id` carries.
    pub(crate) fn take(&self, id: &str) -> Option<Carried> {
        self.carried.lock().ok()?.remove(id)
    }

    /// Stores what operator `id` carries on.
    pub(crate) fn put(&self, id: &str, carried: Carried) {
        if let Ok(mut map) = self.carried.lock() {
            map.insert(id.to_string(), carried);
        }
    }
}
