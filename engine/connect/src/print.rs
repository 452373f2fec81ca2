//! Rows as text, to be looked at or piped.

use crate::blackhole::Nothing;
use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_stream::{Attempt, Committer, Error, ErrorKind, Result, Sink};
use std::io::Write;
use std::sync::Arc;

/// Writes rows as they come, a line each: comma separated, the names of the columns before the first.
///
/// They are written before their checkpoint is true and cannot be taken back: rows that are read again after a failure are
/// written again. It waits for its writer, and the job with it.
pub struct PrintSink {
    out: Box<dyn Write + Send>,
    has_header: bool,
}

impl PrintSink {
    /// Lines to `out`: `std::io::stdout()`, a file, a pipe. It is flushed behind every batch.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self { out: Box::new(out), has_header: false }
    }
}

#[async_trait]
impl Sink for PrintSink {
    fn name(&self) -> &str {
        "print"
    }

    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut lines = vec![];
        WriterBuilder::new().with_header(!self.has_header).build(&mut lines).write(&batch)?;
        self.out.write_all(&lines).and_then(|()| self.out.flush()).map_err(failed)?;
        self.has_header = true;
        Ok(())
    }

    fn seal(&mut self, _attempt: Attempt, _schema: &SchemaRef) -> Result<BoxFuture<'static, Result<Vec<String>>>> {
        Ok(async { Ok(vec![]) }.boxed())
    }

    fn committer(&self) -> Arc<dyn Committer> {
        Arc::new(Nothing)
    }
}

/// Nobody reads a broken pipe again: trying once more is of no use there.
fn failed(e: std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::BrokenPipe => Error::new(ErrorKind::Closed, "nobody reads any more what `print` writes"),
        _ => Error::outside("`print` cannot write", e),
    }
}
