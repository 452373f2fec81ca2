//! Writes files into a folder: staged first, published when their checkpoint is true.
//!
//! Invariants: a name is used once (generation, checkpoint, number); a published file is never changed; what an item of a
//! manifest says is the path of the published file below the folder, as it is stored.

use super::FileFormat;
use super::layout::Layout;
use crate::folder::{self, outside};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use millstream_stream::{Attempt, Committer, Error, ErrorKind, Result, Sink};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How the names of files begin; their generation follows.
const PREFIX: &str = "part-";

/// The empty file that says that a folder is whole.
const SUCCESS: &str = "_SUCCESS";

/// Files that are sent to the store, or published, at a time.
const REQUESTS: usize = 8;

/// Files in a folder, or in folders `column=value` of it ([`FilesSink::partition_by`]). They wait in `_staged` and are
/// copied to their place when their checkpoint is true.
///
/// A file is encoded as soon as it is full, and [`Sink::write`] waits for that: of the rows that a checkpoint brings, at
/// most those of one file a folder are held as they came, the others as the bytes of full files, which are compressed. They
/// are not staged earlier because their names need the number of the checkpoint.
pub struct FilesSink {
    place: Place,
    rows_max: usize,
    partition_by: Vec<String>,
    /// By the folder below that of the sink.
    open: BTreeMap<String, Open>,
}

/// What will be files of one folder.
#[derive(Default)]
struct Open {
    full: Vec<Vec<u8>>,
    rows: Vec<RecordBatch>,
    /// The number of `rows`.
    held: usize,
}

impl FilesSink {
    /// Files of `format` in `folder`.
    pub fn new(name: impl Into<String>, store: Arc<dyn ObjectStore>, folder: Path, format: FileFormat) -> Self {
        let place = Place { name: name.into(), store, folder, format, success: false };
        Self { place, rows_max: 1 << 20, partition_by: vec![], open: BTreeMap::new() }
    }

    /// A new file after so many rows of a folder, besides the one that every checkpoint begins.
    pub fn rolling(self, rows_max: usize) -> Self {
        Self { rows_max: rows_max.max(1), ..self }
    }

    /// A folder `column=value` for each value of the first column, in it one for each of the second, and so on, as Hive, Spark
    /// and DataFusion have it; the files have the other columns.
    ///
    /// Columns of integers, strings, dates and booleans can be folders; with others, with columns that are not there, and
    /// where no column is left for the files, writing is `Invalid`. Characters that a path cannot have are
    /// percent-encoded. A null is `__HIVE_DEFAULT_PARTITION__`, as is that text; an empty string is `column=`. Every folder
    /// that gets rows gets a file at every checkpoint: columns of few values at a time make better folders than those of many.
    pub fn partition_by(self, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { partition_by: columns.into_iter().map(Into::into).collect(), ..self }
    }

    /// An empty file `_SUCCESS` in every folder that gets files, the innermost where there are partitions. It is put anew
    /// behind every checkpoint that brings files to the folder, when all of these are in their place.
    ///
    /// It says: all files that were in this folder when the marker was put are of checkpoints that are true, and of these
    /// checkpoints no file is missing here. It does not say that no more will come: files newer than the marker may be some
    /// of the next checkpoint's. Readers leave out names that begin with `_`.
    pub fn success_markers(self) -> Self {
        Self { place: Place { success: true, ..self.place }, ..self }
    }

    fn layout(&self, schema: &SchemaRef) -> Result<Layout> {
        let refused = |why: String| Error::new(ErrorKind::Invalid, format!("`{}` cannot partition by {why}", self.place.name));
        Layout::new(&self.partition_by, schema).map_err(refused)
    }

    /// Takes rows of one folder.
    async fn hold(&mut self, folder: String, batch: RecordBatch) -> Result<()> {
        let (rows_max, schema) = (self.rows_max, batch.schema());
        let open = self.open.entry(folder).or_default();
        let mut at = 0;
        while at < batch.num_rows() {
            let taken = (rows_max - open.held).min(batch.num_rows() - at);
            open.rows.push(batch.slice(at, taken));
            (open.held, at) = (open.held + taken, at + taken);
            if open.held == rows_max {
                let (place, schema, rows) = (self.place.clone(), Arc::clone(&schema), std::mem::take(&mut open.rows));
                open.held = 0;
                open.full.push(beside(move || place.encode(&schema, rows)).await?);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for FilesSink {
    fn name(&self) -> &str {
        &self.place.name
    }

    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let layout = self.layout(&batch.schema())?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        for (folder, rows) in layout.split(batch)? {
            self.hold(folder, rows).await?;
        }
        Ok(())
    }

    fn seal(&mut self, attempt: Attempt, schema: &SchemaRef) -> Result<BoxFuture<'static, Result<Vec<String>>>> {
        let schema = self.layout(schema)?.of_files(schema)?;
        let (place, open) = (self.place.clone(), std::mem::take(&mut self.open));
        Ok(async move {
            if open.is_empty() {
                return Ok(vec![]);
            }
            let encoder = place.clone();
            let files = beside(move || encoder.encode_all(&schema, open)).await?;
            place.stage(attempt, files).await
        }
        .boxed())
    }

    fn committer(&self) -> Arc<dyn Committer> {
        Arc::new(self.place.clone())
    }
}

/// Where the files go: what stages and publishes them while the sink takes more rows.
#[derive(Clone)]
struct Place {
    name: String,
    store: Arc<dyn ObjectStore>,
    folder: Path,
    format: FileFormat,
    success: bool,
}

impl Place {
    /// Where the file of an item waits: all of them beside each other, since names are unique without the folders they go to.
    fn staged(&self, item: &str) -> Path {
        folder::staged(&self.folder, divided(item).1)
    }

    /// Where an item goes. It is part of a path already: nothing of it may be encoded once more.
    fn published(&self, item: &str) -> Result<Path> {
        let no_path =
            |e: object_store::path::Error| Error::new(ErrorKind::Corrupt, format!("`{}` has an item that is no path: {e}", self.name));
        Path::parse(format!("{}/{item}", self.folder)).map_err(no_path)
    }

    /// The files of each folder, those that were full first.
    fn encode_all(&self, schema: &SchemaRef, open: BTreeMap<String, Open>) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = vec![];
        for (folder, Open { mut full, rows, held }) in open {
            if held > 0 {
                full.push(self.encode(schema, rows)?);
            }
            files.extend(full.into_iter().map(|bytes| (folder.clone(), bytes)));
        }
        Ok(files)
    }

    fn encode(&self, schema: &SchemaRef, rows: Vec<RecordBatch>) -> Result<Vec<u8>> {
        let mut out: Vec<u8> = vec![];
        match self.format {
            FileFormat::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                let failed = |e: ParquetError| Error::new(ErrorKind::Invalid, format!("`{}` cannot write: {e}", self.name));
                let mut writer = ArrowWriter::try_new(&mut out, Arc::clone(schema), Some(properties)).map_err(failed)?;
                rows.iter().try_for_each(|b| writer.write(b)).map_err(failed)?;
                writer.close().map_err(failed)?;
            }
            FileFormat::Csv => {
                let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(&mut out);
                rows.iter().try_for_each(|b| writer.write(b))?;
            }
            FileFormat::NdJson => {
                let mut writer = arrow::json::LineDelimitedWriter::new(&mut out);
                rows.iter().try_for_each(|b| writer.write(b))?;
                writer.finish()?;
            }
        }
        Ok(out)
    }

    /// Puts files, each with the folder that it will go to, where they wait; gives their items.
    async fn stage(&self, attempt: Attempt, files: Vec<(String, Vec<u8>)>) -> Result<Vec<String>> {
        let mut puts = vec![];
        for (n, (folder, bytes)) in files.into_iter().enumerate() {
            let file = format!("{PREFIX}{:08}-{:020}-{n:04}.{}", attempt.generation, attempt.checkpoint, self.format.extension());
            puts.push(self.put(self.staged(&file), bytes, below(&folder, &file)).boxed());
        }
        several(puts).await
    }

    async fn put(&self, path: Path, bytes: Vec<u8>, item: String) -> Result<String> {
        self.store.put(&path, PutPayload::from(bytes)).await.map_err(|e| outside("write", &path, e))?;
        Ok(item)
    }

    async fn publish_file(&self, item: &str) -> Result<()> {
        folder::publish(&self.store, &self.staged(item), &self.published(item)?).await
    }

    async fn mark(&self, folder: &str) -> Result<()> {
        let path = self.published(&below(folder, SUCCESS))?;
        self.store.put(&path, PutPayload::new()).await.map_err(|e| outside("write", &path, e))?;
        Ok(())
    }
}

#[async_trait]
impl Committer for Place {
    async fn publish(&self, items: &[String]) -> Result<()> {
        several(items.iter().map(|item| self.publish_file(item).boxed()).collect()).await?;
        if self.success {
            let folders: BTreeSet<&str> = items.iter().map(|item| divided(item).0).collect();
            several(folders.into_iter().map(|folder| self.mark(folder).boxed()).collect()).await?;
        }
        Ok(())
    }

    async fn sweep(&self, generation: u64, named: &[String]) -> Result<()> {
        let named: Vec<&str> = named.iter().map(|item| divided(item).1).collect();
        folder::sweep(&self.store, &self.folder, PREFIX, generation, &named).await
    }
}

/// The folder and the name of a file.
fn divided(item: &str) -> (&str, &str) {
    item.rsplit_once('/').unwrap_or(("", item))
}

/// The item of a file in a folder: [`divided`] backwards.
fn below(folder: &str, file: &str) -> String {
    if folder.is_empty() { file.to_string() } else { format!("{folder}/{file}") }
}

/// What some requests give, in their order; some are under way at a time, and behind one that fails none begins.
async fn several<T>(requests: Vec<BoxFuture<'_, Result<T>>>) -> Result<Vec<T>> {
    futures::stream::iter(requests).buffered(REQUESTS).try_collect().await
}

/// Encoding takes long: on a thread of its own it holds up no other task.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let ended = |e: tokio::task::JoinError| {
        let kind = if e.is_panic() { ErrorKind::Bug } else { ErrorKind::Closed };
        Error::new(kind, format!("the thread ended that encoded files: {e}"))
    };
    tokio::task::spawn_blocking(work).await.map_err(ended)?
}
