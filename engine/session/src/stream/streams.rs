//! Drivers, logs, sources and sinks.

pub use millstream_connect::{
    BlackholeSink, CONNECTORS, FileFormat, FilesSink, FilesSource, GeneratedSource, MemorySink, MemorySource, MemoryTable, PrintSink,
    UpsertSink, UpsertTable,
};
pub use millstream_datasets::generated::{Rows as GeneratedRows, Values};
pub use millstream_stream::{
    Attempt, Clock, Committer, Delivery, Driver, DriverOptions, EventTime, Fetched, Input, Job, Log, Manifest, MapOperator, MarkOf, Marks,
    Metrics, Operator, OperatorMetrics, OperatorState, Progress, Restart, Restarts, Rows, Side, Sink, Source, SplitMetrics, SplitOperator,
    SplitOrder, SplitPosition, StateRows, Step, SystemClock, VirtualClock, run_restarting,
};
pub use millstream_stream::{Error, ErrorKind};
pub use object_store;
use object_store::ObjectStore;
use std::sync::Arc;

/// A store whose root is a local folder, made if it is not there. What is written is forced to disk.
///
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// let store = millstream::streams::local(&folder.path().join("checkpoints"))?;
/// # Ok::<(), millstream::Error>(())
/// ```
///
/// # Errors
/// `Retry` when the folder cannot be made.
pub fn local(folder: &std::path::Path) -> crate::Result<Arc<dyn ObjectStore>> {
    Ok(Arc::new(millstream_stream::LocalStore::new(folder)?))
}

/// A store in this process, for tests.
///
/// ```
/// let log = millstream::streams::Log::new(millstream::streams::in_memory(), "job".into());
/// ```
pub fn in_memory() -> Arc<dyn ObjectStore> {
    Arc::new(object_store::memory::InMemory::new())
}
