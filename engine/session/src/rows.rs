//! The result of a running query.

use crate::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::{FutureExt, Stream, StreamExt};
use millstream_plan::Machine;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The batches of a running query, in order. Dropping it cancels the query.
///
/// It is a [`Stream`]; [`Rows::next`] serves those who do not use `futures`.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let mut rows = millstream::Session::new()?.sql("select 1 as a").await?.stream().await?;
/// assert_eq!(rows.schema().field(0).name(), "a");
/// assert_eq!(rows.next().await.unwrap()?.num_rows(), 1);
/// assert!(rows.next().await.is_none());
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
pub struct Rows {
    /// None after the end or an error.
    stream: Option<SendableRecordBatchStream>,
    schema: SchemaRef,
    /// What learns from the plan once all its rows are there.
    learns: Option<(Arc<Machine>, Arc<dyn ExecutionPlan>)>,
}

impl Rows {
    pub(crate) fn new(stream: SendableRecordBatchStream) -> Self {
        Self { schema: stream.schema(), stream: Some(stream), learns: None }
    }

    /// Once all rows are there, the session's machine learns from what the plan's stages took.
    pub(crate) fn teaching(self, plan: &Arc<dyn ExecutionPlan>, ctx: &TaskContext) -> Self {
        let learns = ctx.session_config().get_extension::<Machine>().map(|m| (m, Arc::clone(plan)));
        Self { learns, ..self }
    }

    /// Names and types of the columns.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let rows = millstream::Session::new()?.sql("select 1 as a").await?.stream().await?;
    /// assert_eq!(rows.schema().fields().len(), 1);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// The next batch; none after the last one and after an error.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let mut rows = millstream::Session::new()?.sql("select 1 / (a - a) from (values (1)) t(a)").await?.stream().await?;
    /// assert!(rows.next().await.unwrap().is_err());
    /// assert!(rows.next().await.is_none());
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// What the data raises; `Bug` when the engine or a user's function panicked.
    pub async fn next(&mut self) -> Option<Result<RecordBatch>> {
        StreamExt::next(self).await
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        let polled = AssertUnwindSafe(stream.next()).catch_unwind().poll_unpin(cx);
        let item = match polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(item)) => item.map(|batch| batch.map_err(Error::from)),
            Poll::Ready(Err(panic)) => Some(Err(Error::panicked(panic.as_ref()))),
        };
        if !matches!(item, Some(Ok(_))) {
            self.stream = None;
            if let (None, Some((machine, plan))) = (&item, self.learns.take()) {
                machine.learn(&plan);
            }
        }
        Poll::Ready(item)
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("schema", &self.schema).finish_non_exhaustive()
    }
}
