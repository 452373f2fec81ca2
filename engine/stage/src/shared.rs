//! One run of a stage that stands in a plan more than once: its rows are computed by whoever asks first.

use crate::Result;
use crate::convert::Block;
use crate::run::Output;
use datafusion::execution::TaskContext;
use millstream_kernels::Vector;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::OnceCell;

/// What the nodes of equal stages have in common.
pub struct Shared {
    readers: usize,
    current: Mutex<Option<Current>>,
}

/// The rows of one query's run.
struct Current {
    ctx: Weak<TaskContext>,
    rows: Arc<OnceCell<Output>>,
    /// Readers that have not had the rows yet: the last one leaves nothing behind.
    left: usize,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({} readers)", self.readers)
    }
}

impl Shared {
    /// For so many nodes.
    pub fn new(readers: usize) -> Self {
        Self { readers, current: Mutex::default() }
    }

    /// The rows of the query that `ctx` is of: those of another node's run, or of `run`. When the node that
    /// runs is cancelled, another one that waits runs in its place.
    ///
    /// # Errors
    /// What `run` raises.
    pub async fn rows(&self, ctx: &Arc<TaskContext>, run: impl Future<Output = Result<Output>>) -> Result<Output> {
        let cell = self.enter(ctx);
        let rows = cell.get_or_try_init(|| async { Ok::<_, crate::Error>(shared(run.await?)) }).await?.clone();
        self.leave(&cell);
        Ok(rows)
    }

    fn enter(&self, ctx: &Arc<TaskContext>) -> Arc<OnceCell<Output>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match current.as_ref() {
            Some(c) if std::ptr::eq(c.ctx.as_ptr(), Arc::as_ptr(ctx)) => Arc::clone(&c.rows),
            _ => {
                let rows = Arc::default();
                *current = Some(Current { ctx: Arc::downgrade(ctx), rows: Arc::clone(&rows), left: self.readers });
                rows
            }
        }
    }

    fn leave(&self, cell: &Arc<OnceCell<Output>>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(c) = current.as_mut().filter(|c| Arc::ptr_eq(&c.rows, cell)) {
            c.left = c.left.saturating_sub(1);
            if c.left == 0 {
                *current = None;
            }
        }
    }
}

/// Rows that are no copies when they are cloned.
fn shared(output: Output) -> Output {
    let shared = |b: Block| Block { columns: b.columns.into_iter().map(Vector::shared).collect(), rows: b.rows };
    match output {
        Output::Blocks(blocks, held) => Output::Blocks(blocks.into_iter().map(shared).collect(), held),
        output => output,
    }
}
