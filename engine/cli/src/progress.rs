//! Progress on stderr, of what takes longer than a second, on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Below this nothing is shown.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar over a known amount of work.
pub struct Bar {
    bar: ProgressBar,
    started: Instant,
}

impl Bar {
    /// A bar of `len` steps, drawn by an indicatif template.
    pub fn new(len: u64, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, started: Instant::now() }
    }

    /// Moves to step `at`, doing `what`.
    pub fn set(&self, at: u64, what: &str) {
        if self.bar.is_hidden() && self.started.elapsed() > PATIENCE {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(Duration::from_millis(200));
        }
        self.bar.set_message(what.to_string());
        self.bar.set_position(at);
    }

    /// Prints while the bar is out of the way.
    pub fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A spinner over a query: time, and the rows that entered its stages.
pub struct Spinner {
    bar: ProgressBar,
    task: tokio::task::JoinHandle<()>,
}

impl Spinner {
    /// Shows `rows()` while it lives.
    pub fn new(rows: impl Fn() -> usize + Send + 'static) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg} (Ctrl-C cancels)") {
            bar.set_style(style);
        }
        let shown = bar.clone();
        let task = tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            shown.set_draw_target(ProgressDrawTarget::stderr());
            loop {
                let rows = rows();
                if rows > 0 {
                    shown.set_message(format!("{} rows read", indicatif::HumanCount(rows as u64)));
                }
                shown.tick();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self { bar, task }
    }

    /// A spinner over the stages of a plan.
    pub fn over(plan: &Arc<dyn datafusion::physical_plan::ExecutionPlan>) -> Self {
        let plan = Arc::clone(plan);
        Self::new(move || millstream::profile_of(&plan).stages.iter().map(|s| s.input_rows).sum())
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}
