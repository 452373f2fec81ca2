//! Threads for queries, and what Ctrl-C does to them.

use crate::Outcome;
use crate::args::Common;
use crate::terminal::Foreground;
use std::future::Future;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::ctrl_c;
use tokio::task::{JoinError, JoinHandle};

/// After this long a cancelled query that still runs is talked about.
const PATIENCE: Duration = Duration::from_secs(1);

const CANCELLED: &str = "cancelled by Ctrl-C";
const LEFT: &str = "the query has not stopped yet: it ends by itself after its current step, and holds its memory until then";

/// Runs a command to its end, or to Ctrl-C: dropping it cancels its query.
pub fn cancellable(common: &Common, command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = workers(common)?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = command => outcome,
            signal = ctrl_c() => {
                signal?;
                Err(CANCELLED.into())
            }
        }
    });
    // A thread that waits for input would hold the process back.
    runtime.shutdown_background();
    outcome
}

fn workers(common: &Common) -> Outcome<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(common.threads()).enable_all().build().map_err(no_runtime)?)
}

fn no_runtime(e: std::io::Error) -> String {
    format!("no runtime: {e}")
}

/// Runs one query after the other beside a terminal; Ctrl-C ends a query and never the process.
///
/// Queries have threads of their own, so that the one that waits hears Ctrl-C whatever a query does.
pub struct Console {
    queries: Runtime,
    waiting: Runtime,
}

impl Console {
    pub fn new(common: &Common) -> Outcome<Self> {
        let waiting = Builder::new_current_thread().enable_all().build().map_err(no_runtime)?;
        // The first wait for Ctrl-C takes the signal from the system, for good.
        if let Ok(signal) = waiting.block_on(async { tokio::time::timeout(Duration::ZERO, ctrl_c()).await }) {
            signal?;
        }
        Ok(Self { queries: workers(common)?, waiting })
    }

    /// Waits for work that is short.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.queries.block_on(work)
    }

    /// Runs a query to its end or to Ctrl-C; none where nobody reads its rows any more.
    pub fn run<T: Send + 'static>(
        &self,
        foreground: &Foreground,
        query: impl Future<Output = Outcome<T>> + Send + 'static,
    ) -> Outcome<Option<T>> {
        foreground.begin();
        // A Ctrl-C that came too late for the last query is none of this one's: let it be heard by nobody.
        self.waiting.block_on(tokio::task::yield_now());
        let mut task = self.queries.spawn(query);
        self.waiting.block_on(async {
            loop {
                tokio::select! {
                    done = &mut task => return ended(done).map(Some),
                    () = foreground.closed() => return stop(foreground, task).await.map(Some).or(Ok(None)),
                    signal = ctrl_c() => {
                        signal?;
                        // To a pager the key means something else.
                        if !foreground.is_paging() {
                            return stop(foreground, task).await.map(Some);
                        }
                    }
                }
            }
        })
    }

    /// Ends without waiting for a query that was left to itself.
    pub fn close(self) {
        self.queries.shutdown_background();
    }
}

/// Cancels a query and waits until its memory is free, or until Ctrl-C says that nobody waits any more.
async fn stop<T>(foreground: &Foreground, mut task: JoinHandle<Outcome<T>>) -> Outcome<T> {
    task.abort();
    foreground.clear();
    let mut said = false;
    loop {
        tokio::select! {
            done = &mut task => return ended(done),
            signal = ctrl_c() => {
                signal?;
                return Err(LEFT.into());
            }
            () = tokio::time::sleep(PATIENCE), if !said => {
                eprintln!("stopping the query: it ends after its current step; Ctrl-C again does not wait for that");
                said = true;
            }
        }
    }
}

fn ended<T>(done: Result<Outcome<T>, JoinError>) -> Outcome<T> {
    match done.map_err(JoinError::try_into_panic) {
        Ok(outcome) => outcome,
        Err(Err(_cancelled)) => Err(CANCELLED.into()),
        Err(Ok(panic)) => {
            let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            Err(format!("panic in a query: {}", text.unwrap_or("no message")).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    fn console() -> Console {
        Console::new(&crate::args::Args::parse_from(["millstream", "--threads", "1", "devices"]).common).unwrap()
    }

    /// Presses Ctrl-C every 100 ms until what it returns is dropped.
    fn interrupts() -> impl Drop {
        struct Pressed(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);
        impl Drop for Pressed {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
                self.1.take().unwrap().join().unwrap();
            }
        }
        let done = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&done);
        let press = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(100));
                std::process::Command::new("kill").args(["-INT", &std::process::id().to_string()]).status().unwrap();
            }
        });
        Pressed(done, Some(press))
    }

    /// One test: a signal is heard by every console of the process.
    #[cfg(unix)]
    #[test]
    fn a_query_ends_fails_panics_stops_or_is_left() {
        let (console, foreground) = (console(), Foreground::default());
        assert_eq!(console.run(&foreground, async { Ok(7) }).unwrap(), Some(7));
        let said = |outcome: Outcome<Option<()>>| outcome.unwrap_err().to_string();
        assert_eq!(said(console.run(&foreground, async { Err("no table".into()) })), "no table");
        assert_eq!(said(console.run(&foreground, async { panic!("broken") })), "panic in a query: broken");

        let held = Arc::new(());
        let part = Arc::clone(&held);
        let pressed = interrupts();
        let waits = async move {
            std::future::pending::<()>().await;
            drop(part);
            Ok(())
        };
        assert_eq!(said(console.run(&foreground, waits)), CANCELLED);
        assert_eq!(Arc::strong_count(&held), 1, "what the query held is free");
        drop(pressed);

        let reader = Arc::new(Foreground::default());
        let leaves = Arc::clone(&reader);
        let unread = async move {
            leaves.close();
            std::future::pending::<Outcome>().await
        };
        assert_eq!(console.run(&reader, unread).unwrap(), None, "that is no error");
        assert_eq!(console.run(&reader, async { Ok(8) }).unwrap(), Some(8), "nor is it one of the next query");

        // The only thread for queries is taken by a step that does not end soon.
        let (release, stuck) = std::sync::mpsc::channel::<()>();
        let pressed = interrupts();
        let started = Instant::now();
        let busy = async move {
            let _ = stuck.recv();
            Ok(())
        };
        assert_eq!(said(console.run(&foreground, busy)), LEFT);
        assert!(started.elapsed() < Duration::from_secs(5));
        drop(pressed);
        release.send(()).unwrap();
        console.run(&foreground, async { Ok(()) }).unwrap();
        console.close();
    }
}
