//! What the fuzz targets share: two engines, text files, and what counts as a find.
//!
//! A find ends the process, and libFuzzer keeps the input: a panic in our code, caught or not; a panic of another crate
//! that nobody caught; an error that does not say what it must; rows that differ. libFuzzer ends it for time and memory.

pub mod mutate;
pub mod stages;
pub mod tables;
pub mod text;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches_with_schema;
use millstream::{Error, ErrorKind, Options, Preference, Session, Table};
use std::panic;
use std::path::Path;
use std::sync::{LazyLock, Once};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Rows of a query that are looked at; the rest is not computed.
const MAX_ROWS: usize = 10_000;

/// What a query may take: one that takes longer is dropped.
const MAX_TIME: Duration = Duration::from_secs(5);

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime"));

/// An engine with two threads and 512 MiB, with stages or without.
pub fn session(stages: bool) -> Session {
    let options = Options { threads: 2, stages, device: Preference::Cpu, memory_limit_bytes: Some(512 << 20), ..Options::default() };
    Session::with_options(options).expect("a session")
}

/// Runs `work` to its end, or drops it after [`MAX_TIME`].
pub fn bounded<T>(work: impl Future<Output = T>) -> Option<T> {
    RUNTIME.block_on(async { tokio::time::timeout(MAX_TIME, work).await.ok() })
}

/// The first rows of a table, as sorted lines of text with their types.
pub async fn lines(table: Table) -> Result<Vec<String>, Error> {
    let mut rows = table.stream().await?;
    let (schema, mut batches, mut count) = (rows.schema(), Vec::<RecordBatch>::new(), 0);
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        count += batch.num_rows();
        batches.push(batch);
        if count > MAX_ROWS {
            break;
        }
    }
    let text = pretty_format_batches_with_schema(schema, &batches).map_err(|e| Error::new(ErrorKind::Bug, e))?.to_string();
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    lines.sort_unstable();
    Ok(lines)
}

/// From here on a panic in our own code aborts, even one that would be caught and become an error. One of another crate
/// goes on: caught, it fails its query only, which is what we promise.
pub fn own_panics_abort() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let abort = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let foreign = info.location().is_some_and(|at| Path::new(at.file()).components().any(|c| c.as_os_str() == "registry"));
            if foreign {
                eprintln!("caught: {info}\n{}", std::backtrace::Backtrace::capture());
            } else {
                abort(info);
            }
        }));
    });
}
