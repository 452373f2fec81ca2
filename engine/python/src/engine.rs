//! A session and the threads that its queries run on, and waiting for them.
//!
//! Whoever waits has let go of the interpreter's lock: other Python threads go on. Twenty times a second it asks the
//! interpreter for signals. A Ctrl-C drops the query, which ends its work, and becomes `KeyboardInterrupt`.

use crate::errors::{Halt, caught, exception};
use millstream::{Error, ErrorKind, Options, Result, Session};
use pyo3::{PyResult, Python};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// How often a waiting thread asks for signals.
const SIGNALS: Duration = Duration::from_millis(50);

/// A session, its runtime, and the process that they live in.
pub struct Engine {
    pub session: Session,
    /// None while it is dropped.
    runtime: Option<Runtime>,
    process: u32,
}

impl Engine {
    pub fn new(options: Options) -> PyResult<Self> {
        let threads = options.threads;
        let session = caught(|| Session::with_options(options))?;
        let built = Builder::new_multi_thread().worker_threads(threads).thread_name("millstream").enable_all().build();
        let runtime = built.map_err(|e| exception(Error::new(ErrorKind::Exhausted, format!("no threads: {e}"))))?;
        Ok(Self { session, runtime: Some(runtime), process: std::process::id() })
    }

    /// The result of `work`, or what a signal raised meanwhile; `work` is dropped then.
    pub fn wait<T: Send>(&self, py: Python<'_>, work: impl Future<Output = Result<T>> + Send) -> PyResult<T> {
        Ok(py.detach(|| self.listen(work))?)
    }

    /// As [`Engine::wait`], for a thread that has let go of the interpreter's lock.
    pub fn listen<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T, Halt> {
        self.block(work, || Python::try_attach(|py| py.check_signals()).unwrap_or(Ok(())))
    }

    /// The result of `work`; `signals` is asked now and then.
    pub fn block<T>(&self, work: impl Future<Output = Result<T>>, signals: impl Fn() -> PyResult<()>) -> Result<T, Halt> {
        let runtime = self.runtime()?;
        let waited = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                let mut work = pin!(work);
                loop {
                    tokio::select! {
                        biased;
                        done = &mut work => return Ok(done?),
                        () = tokio::time::sleep(SIGNALS) => signals().map_err(Halt::Raised)?,
                    }
                }
            })
        }));
        waited.unwrap_or_else(|panic| Err(Halt::panicked(panic.as_ref())))
    }

    /// Threads do not follow a process into its fork: a query there would wait forever.
    fn runtime(&self) -> Result<&Runtime> {
        let forked = || {
            let text = "this session was made before the process forked, and its threads stayed behind: make a new Session in the \
                        child, or let multiprocessing spawn it";
            Error::new(ErrorKind::Unsupported, text)
        };
        self.runtime.as_ref().filter(|_| self.process == std::process::id()).ok_or_else(forked)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        if self.process == std::process::id() {
            // Not waiting for its threads: the last reference may go in any thread, with the interpreter's lock held.
            runtime.shutdown_background();
        } else {
            std::mem::forget(runtime);
        }
    }
}
