//! A sink that keeps nothing: what a job costs without its output.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_stream::{Attempt, Committer, Result, Sink};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the rows that come and lets them go.
#[derive(Clone, Default)]
pub struct BlackholeSink {
    rows: Arc<AtomicU64>,
}

impl BlackholeSink {
    /// Rows so far; those that are read again after a failure count again.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Sink for BlackholeSink {
    fn name(&self) -> &str {
        "blackhole"
    }

    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn seal(&mut self, _attempt: Attempt, _schema: &SchemaRef) -> Result<BoxFuture<'static, Result<Vec<String>>>> {
        Ok(async { Ok(vec![]) }.boxed())
    }

    fn committer(&self) -> Arc<dyn Committer> {
        Arc::new(Nothing)
    }
}

/// Of sinks whose readers see rows when they are written: there is nothing to publish.
pub(crate) struct Nothing;

#[async_trait]
impl Committer for Nothing {
    async fn publish(&self, _items: &[String]) -> Result<()> {
        Ok(())
    }

    async fn sweep(&self, _generation: u64, _named: &[String]) -> Result<()> {
        Ok(())
    }
}
