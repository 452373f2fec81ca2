//! Reads the files of a folder, as they come.

use super::FileFormat;
use crate::folder::outside;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use millstream_stream::{Error, ErrorKind, Fetched, Result, Source, SplitOrder};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Rows of a batch that is read.
const BATCH_ROWS: usize = 8192;

/// The files of a folder, in the order of their names. A file is read when it is there, so it has to appear
/// whole (written elsewhere, then renamed), and never to change.
pub struct FilesSource {
    name: String,
    store: Arc<dyn ObjectStore>,
    folder: Path,
    format: FileFormat,
    schema: SchemaRef,
    order: SplitOrder,
    bounded: bool,
    /// Files that are read on where they were left.
    open: Mutex<HashMap<String, OpenFile>>,
}

struct OpenFile {
    offset: u64,
    rows: BoxStream<'static, Result<RecordBatch>>,
    /// What is left of a batch.
    rest: Option<RecordBatch>,
}

impl FilesSource {
    /// The files below `folder` whose names end as `format` does, and those that will come.
    pub fn new(name: impl Into<String>, store: Arc<dyn ObjectStore>, folder: Path, format: FileFormat, schema: SchemaRef) -> Self {
        let (order, bounded, open) = (SplitOrder::Sequential, false, Mutex::default());
        Self { name: name.into(), store, folder, format, schema, order, bounded, open }
    }

    /// Only the files that are there when the job begins.
    pub fn bounded(self) -> Self {
        Self { bounded: true, ..self }
    }

    /// All files at once instead of one after the other: each holds the watermark back until it has been read.
    pub fn concurrent(self) -> Self {
        Self { order: SplitOrder::Concurrent, ..self }
    }

    async fn rows_from(&self, split: &str, offset: u64) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let path = Path::parse(split).map_err(|e| Error::new(ErrorKind::Corrupt, format!("`{split}` is no path: {e}")))?;
        if self.format == FileFormat::Parquet {
            return self.parquet(path, offset).await;
        }
        let bytes = self.store.get(&path).await.map_err(|e| outside("read", &path, e))?.into_stream();
        let named = path.clone();
        let bytes = bytes.map_err(move |e| outside("read", &named, e));
        let all = match self.format {
            FileFormat::Csv => {
                let builder = arrow::csv::ReaderBuilder::new(Arc::clone(&self.schema)).with_header(true).with_batch_size(BATCH_ROWS);
                // Columns are found by position: a file of others must not be read as if it had these.
                let builder = builder.with_header_validation(true);
                decoded(bytes, Text::Csv(Box::new(builder.build_decoder())), path).boxed()
            }
            _ => {
                let builder = arrow::json::ReaderBuilder::new(Arc::clone(&self.schema)).with_batch_size(BATCH_ROWS);
                decoded(bytes, Text::Json(builder.build_decoder().map_err(|e| invalid(&path, e))?), path).boxed()
            }
        };
        Ok(skipped(all, offset).boxed())
    }

    async fn parquet(&self, path: Path, offset: u64) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let reader = StoredFile { store: Arc::clone(&self.store), path: path.clone() };
        let failed = |e: ParquetError| Error::new(ErrorKind::Invalid, format!("cannot read {path}: {e}"));
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(failed)?;
        let builder = builder.with_batch_size(BATCH_ROWS).with_offset(usize::try_from(offset).unwrap_or(usize::MAX));
        let rows = builder.build().map_err(failed)?;
        let schema = Arc::clone(&self.schema);
        Ok(rows
            .map(move |batch| {
                let batch = batch.map_err(|e| Error::new(ErrorKind::Invalid, format!("cannot read {path}: {e}")))?;
                as_declared(&batch, &schema).map_err(|e| invalid(&path, e))
            })
            .boxed())
    }
}

/// A file that a Parquet reader reads ranges of.
struct StoredFile {
    store: Arc<dyn ObjectStore>,
    path: Path,
}

impl AsyncFileReader for StoredFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move { self.store.get_range(&self.path, range).await.map_err(|e| ParquetError::External(Box::new(e))) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let size = self.store.head(&self.path).await.map_err(|e| ParquetError::External(Box::new(e)))?.size;
            Ok(Arc::new(ParquetMetaDataReader::new().load_and_finish(&mut *self, size).await?))
        }
        .boxed()
    }
}

/// The columns of `schema`, found by name.
fn as_declared(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let column = |f: &arrow::datatypes::FieldRef| {
        let column = batch.column_by_name(f.name());
        let column = column.ok_or_else(|| ArrowError::SchemaError(format!("it has no column `{}`", f.name())))?;
        arrow::compute::cast(column, f.data_type())
    };
    let columns = schema.fields().iter().map(column).collect::<Result<_, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}

enum Text {
    Csv(Box<arrow::csv::reader::Decoder>),
    Json(arrow::json::reader::Decoder),
}

impl Text {
    fn decode(&mut self, bytes: &[u8]) -> Result<usize, ArrowError> {
        match self {
            Text::Csv(d) => d.decode(bytes),
            Text::Json(d) => d.decode(bytes),
        }
    }

    fn flush(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        match self {
            Text::Csv(d) => d.flush(),
            Text::Json(d) => d.flush(),
        }
    }
}

/// The rows of a text as it comes.
fn decoded(
    bytes: impl Stream<Item = Result<Bytes>> + Send + 'static,
    text: Text,
    path: Path,
) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let start = (bytes.boxed(), text, Bytes::new(), false);
    futures::stream::try_unfold(start, move |(mut bytes, mut text, mut left, mut ended)| {
        let path = path.clone();
        async move {
            loop {
                if left.is_empty() && !ended {
                    match bytes.next().await {
                        Some(more) => left = more?,
                        None => ended = true,
                    }
                }
                let taken = text.decode(&left).map_err(|e| invalid(&path, e))?;
                let full = taken < left.len() || left.is_empty() && ended;
                left = left.slice(taken..);
                if !full {
                    continue;
                }
                match text.flush().map_err(|e| invalid(&path, e))? {
                    Some(batch) => return Ok(Some((batch, (bytes, text, left, ended)))),
                    None if ended && left.is_empty() => return Ok(None),
                    None => {}
                }
            }
        }
    })
}

/// The rows behind the first `offset`.
fn skipped(rows: BoxStream<'static, Result<RecordBatch>>, offset: u64) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let mut skip = offset;
    rows.try_filter_map(move |batch| {
        let rows = batch.num_rows() as u64;
        let from = skip.min(rows);
        skip -= from;
        let kept = (from < rows).then(|| batch.slice(from as usize, (rows - from) as usize));
        futures::future::ready(Ok(kept))
    })
}

#[async_trait]
impl Source for FilesSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn order(&self) -> SplitOrder {
        self.order
    }

    fn is_bounded(&self) -> bool {
        self.bounded
    }

    async fn splits(&self) -> Result<Vec<String>> {
        let listed: Vec<_> = self.store.list(Some(&self.folder)).try_collect().await.map_err(|e| outside("list", &self.folder, e))?;
        // A folder `_column=value` is a partition, as for other readers.
        let hides = |part: &str| part.starts_with(['_', '.']) && !part.contains('=');
        let hidden = |p: &Path| p.prefix_match(&self.folder).into_iter().flatten().any(|part| hides(part.as_ref()));
        let mine = |p: &Path| p.extension() == Some(self.format.extension()) && !hidden(p);
        Ok(listed.into_iter().map(|o| o.location).filter(mine).map(String::from).collect())
    }

    async fn fetch(&self, split: &str, offset: u64, rows: usize) -> Result<Fetched> {
        let found = self.open.lock().await.remove(split);
        let mut file = match found.filter(|f| f.offset == offset) {
            Some(file) => file,
            None => OpenFile { offset, rows: self.rows_from(split, offset).await?, rest: None },
        };
        let (mut batches, mut wanted) = (vec![], rows.max(1));
        let mut ended = false;
        while wanted > 0 && !ended {
            let next = match file.rest.take() {
                Some(rest) => Some(rest),
                None => file.rows.next().await.transpose()?,
            };
            match next {
                Some(batch) => {
                    let taken = wanted.min(batch.num_rows());
                    file.rest = (taken < batch.num_rows()).then(|| batch.slice(taken, batch.num_rows() - taken));
                    batches.push(batch.slice(0, taken));
                    wanted -= taken;
                    file.offset += taken as u64;
                }
                None => ended = true,
            }
        }
        let next = file.offset;
        if !ended {
            self.open.lock().await.insert(split.to_string(), file);
        }
        Ok(Fetched { batches, next, ended })
    }
}

fn invalid(path: &Path, e: ArrowError) -> Error {
    Error::new(ErrorKind::Invalid, format!("cannot read {path}: {e}"))
}
