//! A table over a stream of batches that is read once.

use crate::{Error, ErrorKind, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{Stream, StreamExt, stream};
use std::fmt;
use std::sync::{Arc, Mutex};

/// A stream that the first query over it takes.
struct Once {
    table: String,
    schema: SchemaRef,
    stream: Mutex<Option<SendableRecordBatchStream>>,
}

/// A table over `stream`, whose batches have the columns of `schema`.
pub(crate) fn table<E>(
    name: &str,
    schema: SchemaRef,
    batches: impl Stream<Item = std::result::Result<RecordBatch, E>> + Send + 'static,
) -> Result<StreamingTable>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (table, expected) = (name.to_string(), Arc::clone(&schema));
    let checked = batches.map(move |batch| {
        let batch = batch.map_err(|e| DataFusionError::External(e.into()))?;
        // Nullability and metadata may differ from batch to batch; the columns may not.
        batch
            .with_schema(Arc::clone(&expected))
            .map_err(|e| DataFusionError::Execution(format!("table {table}: a batch of other columns: {e}")))
    });
    let stream: SendableRecordBatchStream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), checked));
    let once = Once { table: name.to_string(), schema: Arc::clone(&schema), stream: Mutex::new(Some(stream)) };
    StreamingTable::try_new(schema, vec![Arc::new(once)]).map_err(Error::from)
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let taken = self.stream.lock().ok().and_then(|mut s| s.take());
        taken.unwrap_or_else(|| {
            let message =
                format!("table {} is a stream and was read already: register it again, or collect it and use register_batches", self.table);
            let error = DataFusionError::from(millstream_stage::Error::new(millstream_stage::ErrorKind::Invalid, message));
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream::iter([Err(error)])))
        })
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("table", &self.table).finish_non_exhaustive()
    }
}

/// The schema that all batches share.
///
/// # Errors
/// `Invalid` without a batch, or when one has other columns.
pub(crate) fn shared_schema(name: &str, batches: &[RecordBatch]) -> Result<SchemaRef> {
    let Some(first) = batches.first() else {
        return Err(Error::new(ErrorKind::Invalid, format!("table {name}: no batch, so no columns: give at least an empty batch")));
    };
    let schema = first.schema();
    match batches.iter().position(|b| b.schema().fields() != schema.fields()) {
        Some(at) => Err(Error::new(ErrorKind::Invalid, format!("table {name}: batch {at} has other columns than the first"))),
        None => Ok(schema),
    }
}
