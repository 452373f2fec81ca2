//! Readers whose errors name the file, and line and column where it is text.
//!
//! The last rule puts a thin source around each of DataFusion's that reads rows; plans look as before, and
//! are sent to another process without it. Parquet is left alone: stages and DataFusion look for its source.
//!
//! Parts of a CSV file begin after a line break, which may stand in quotes. So quotes are counted first; where a
//! part would begin within quotes the file is read whole, by its first part. A reader takes an open quote at the
//! end of a file for a value that ends there: where the number of quotes is odd, it is looked for.

use super::kind::Kind;
use super::lines::{Text, locate};
use super::quotes::{Quotes, Said};
use crate::{Error, ErrorKind};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    ArrowSource, AvroSource, CsvSource, FileOpenFuture, FileOpener, FileScanConfig, FileSource, JsonSource,
};
use datafusion::datasource::source::{DataSource, DataSourceExec};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::proto::ExecutionPlanEncodeCtx;
use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan};
use datafusion_proto::protobuf::PhysicalPlanNode;
use futures::{FutureExt, StreamExt, stream};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use tokio::sync::OnceCell;

/// Makes readers name their files.
#[derive(Debug)]
pub(crate) struct NameFiles;

impl PhysicalOptimizerRule for NameFiles {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some(scan) = node.downcast_ref::<DataSourceExec>() else { return Ok(Transformed::no(node)) };
            let Some(config) = scan.data_source().downcast_ref::<FileScanConfig>() else { return Ok(Transformed::no(node)) };
            let Some(source) = NamedSource::around(config) else { return Ok(Transformed::no(node)) };
            let mut config = config.clone();
            config.file_source = Arc::new(source);
            Ok(Transformed::yes(Arc::new(scan.clone().with_data_source(Arc::new(config) as Arc<dyn DataSource>))))
        })
        .data()
    }

    fn name(&self) -> &str {
        "NameFiles"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// What the quotes of each file say, found out once.
type AllQuotes = Arc<Mutex<HashMap<ObjectPath, Arc<OnceCell<Said>>>>>;

#[derive(Clone)]
struct NamedSource {
    inner: Arc<dyn FileSource>,
    kind: Kind,
    text: Option<Text>,
    quotes: AllQuotes,
}

impl NamedSource {
    fn around(config: &FileScanConfig) -> Option<Self> {
        let inner = Arc::clone(config.file_source());
        let (kind, text) = if let Some(csv) = inner.downcast_ref::<CsvSource>() {
            (Kind::Csv, Some(csv_text(csv)))
        } else if inner.is::<JsonSource>() {
            (Kind::Json, Some(Text::Json { columns: read_columns(&inner) }))
        } else if inner.is::<ArrowSource>() {
            (Kind::Arrow, None)
        } else if inner.is::<AvroSource>() {
            (Kind::Avro, None)
        } else {
            return None;
        };
        Some(Self { inner, kind, text, quotes: AllQuotes::default() })
    }

    fn with(&self, inner: Arc<dyn FileSource>) -> Self {
        Self { inner, ..self.clone() }
    }
}

fn csv_text(csv: &CsvSource) -> Text {
    let options = datafusion::common::config::CsvOptions {
        has_header: Some(csv.has_header()),
        delimiter: csv.delimiter(),
        quote: csv.quote(),
        terminator: csv.terminator(),
        escape: csv.escape(),
        comment: csv.comment(),
        truncated_rows: Some(csv.truncate_rows()),
        newlines_in_values: Some(csv.newlines_in_values()),
        ..Default::default()
    };
    Text::Csv { options: Box::new(options), columns: Some((Arc::clone(csv.table_schema().file_schema()), read_positions(csv))) }
}

/// Positions in the file of the columns that are read.
fn read_positions(source: &dyn FileSource) -> Vec<usize> {
    let count = source.table_schema().file_schema().fields().len();
    let mut read: Vec<usize> = match source.projection() {
        Some(projection) => projection.column_indices().into_iter().filter(|i| *i < count).collect(),
        None => (0..count).collect(),
    };
    read.sort_unstable();
    read.dedup();
    read
}

fn read_columns(source: &Arc<dyn FileSource>) -> arrow::datatypes::SchemaRef {
    let schema = source.table_schema().file_schema();
    schema.project(&read_positions(source.as_ref())).map_or_else(|_| Arc::clone(schema), Arc::new)
}

impl FileSource for NamedSource {
    fn create_file_opener(
        &self,
        object_store: Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let inner = self.inner.create_file_opener(Arc::clone(&object_store), base_config, partition)?;
        let mut starts: HashMap<ObjectPath, Vec<u64>> = HashMap::new();
        for file in base_config.file_groups.iter().flat_map(|g| g.files()) {
            if let Some(range) = file.range.as_ref().filter(|_| self.kind == Kind::Csv) {
                starts.entry(file.object_meta.location.clone()).or_default().push(range.start.max(0) as u64);
            }
        }
        let place = Place {
            store: object_store,
            url: base_config.object_store_url.clone(),
            compression: base_config.file_compression_type,
            kind: self.kind,
            text: self.text.clone(),
        };
        Ok(Arc::new(NamedOpener { inner, place: Arc::new(place), quotes: Arc::clone(&self.quotes), starts: Arc::new(starts) }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(self.with(self.inner.with_batch_size(batch_size)))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        self.inner.fmt_extra(t, f)
    }

    fn supports_repartitioning(&self) -> bool {
        self.inner.supports_repartitioning()
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        let pushed = self.inner.try_pushdown_projection(projection)?;
        Ok(pushed.map(|inner| Arc::new(self.with(inner)) as Arc<dyn FileSource>))
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }

    /// As if the name were not there: where it is decoded, the reader is DataFusion's.
    fn try_to_proto(&self, base: &FileScanConfig, ctx: &ExecutionPlanEncodeCtx<'_>) -> Result<Option<PhysicalPlanNode>> {
        // What DataFusion's messages leave out: another file would be read there.
        let terminator = self.inner.downcast_ref::<CsvSource>().is_some_and(|csv| csv.terminator().is_some());
        let compressed = base.file_compression_type.is_compressed();
        if terminator || compressed || self.inner.file_type() == "arrow_stream" {
            let text = "a scan of compressed text, of CSV with a terminator or of an Arrow stream cannot be sent to another process";
            return Err(super::unsupported(text));
        }
        let mut base = base.clone();
        base.file_source = Arc::clone(&self.inner);
        self.inner.try_to_proto(&base, ctx)
    }
}

/// What is known of the files of a scan, to say where an error is.
struct Place {
    store: Arc<dyn ObjectStore>,
    url: ObjectStoreUrl,
    compression: FileCompressionType,
    kind: Kind,
    text: Option<Text>,
}

impl Place {
    fn is_local(&self) -> bool {
        self.url.as_str().starts_with("file://")
    }

    fn name(&self, file: &ObjectMeta) -> String {
        let url = self.url.as_str();
        if self.is_local() { format!("/{}", file.location) } else { format!("{}/{}", url.trim_end_matches('/'), file.location) }
    }

    async fn explain(&self, file: &ObjectMeta, e: DataFusionError) -> DataFusionError {
        if let (Some(text), true) = (&self.text, is_about_text(&e)) {
            let place = locate(&self.store, file, self.compression, text, self.is_local()).await;
            if let Some(place) = place {
                return super::invalid(format!("{}, {place}", self.name(file)));
            }
        }
        in_file(&self.name(file), self.kind, e)
    }

    /// What the quotes of a CSV file here say, which is read in parts from `starts`.
    async fn count_quotes(&self, file: &ObjectMeta, starts: Vec<u64>) -> Result<Said> {
        let Some(Text::Csv { options, .. }) = self.text.as_ref().filter(|_| self.is_countable()) else {
            // A file that is far away would be fetched twice: it is read whole.
            return Ok(Said { parts: starts.is_empty(), is_odd: false });
        };
        let hidden = options.escape.is_some() || options.comment.is_some();
        let mut quotes = Quotes::new(options.quote, options.terminator.unwrap_or(b'\n'), hidden, starts);
        let mut at = 0;
        while at < file.size {
            let end = file.size.min(at + COUNTED_BYTES);
            quotes.push(&self.store.get_range(&file.location, at..end).await?);
            at = end;
        }
        Ok(quotes.finish())
    }

    fn is_countable(&self) -> bool {
        self.is_local() && !self.compression.is_compressed()
    }

    /// An error when the last quote of the file is open.
    async fn check_end(&self, file: &ObjectMeta, said: Said) -> Result<()> {
        let Some(text) = self.text.as_ref().filter(|_| said.is_odd) else { return Ok(()) };
        match locate(&self.store, file, self.compression, text, self.is_local()).await {
            Some(place) => Err(super::invalid(format!("{}, {place}", self.name(file)))),
            None => Ok(()),
        }
    }
}

/// Bytes of a file in which quotes are counted at once.
const COUNTED_BYTES: u64 = 4 << 20;

struct NamedOpener {
    inner: Arc<dyn FileOpener>,
    place: Arc<Place>,
    quotes: AllQuotes,
    /// Where the parts of each CSV file begin that is read in parts.
    starts: Arc<HashMap<ObjectPath, Vec<u64>>>,
}

impl FileOpener for NamedOpener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let (inner, place) = (Arc::clone(&self.inner), Arc::clone(&self.place));
        let quotes = self.quotes_of(&file);
        Ok(Box::pin(async move {
            let mut file = file;
            let meta = file.object_meta.clone();
            if let (Some((cell, starts)), Some(range)) = (&quotes, file.range.clone()) {
                let said = cell.get_or_try_init(|| place.count_quotes(&meta, starts.clone())).await?;
                if !said.parts {
                    if range.start > 0 {
                        return Ok(stream::empty().boxed());
                    }
                    file.range = None;
                }
            }
            let opened = AssertUnwindSafe(async { inner.open(file)?.await }).catch_unwind().await;
            let rows = match opened {
                Ok(Ok(rows)) => rows,
                Ok(Err(e)) => return Err(place.explain(&meta, e).await),
                Err(panic) => return Err(panicked(&place.name(&meta), panic.as_ref())),
            };
            let (of_rows, meta_of_rows) = (Arc::clone(&place), meta.clone());
            let named = AssertUnwindSafe(rows).catch_unwind().then(move |item| {
                let (place, meta) = (Arc::clone(&of_rows), meta_of_rows.clone());
                async move {
                    match item {
                        Ok(Ok(batch)) => Ok(batch),
                        Ok(Err(e)) => Err(place.explain(&meta, e).await),
                        Err(panic) => Err(panicked(&place.name(&meta), panic.as_ref())),
                    }
                }
            });
            let Some((cell, starts)) = quotes else { return Ok(named.boxed()) };
            let end = stream::once(async move {
                let said = *cell.get_or_try_init(|| place.count_quotes(&meta, starts)).await?;
                place.check_end(&meta, said).await
            });
            Ok(named.chain(end.filter_map(|checked| async { checked.err().map(Err) })).boxed())
        }))
    }
}

impl NamedOpener {
    /// Where it is kept what the quotes of a CSV file say, and where its parts begin.
    fn quotes_of(&self, file: &PartitionedFile) -> Option<(Arc<OnceCell<Said>>, Vec<u64>)> {
        if self.place.kind != Kind::Csv {
            return None;
        }
        let location = &file.object_meta.location;
        let starts = self.starts.get(location).cloned().unwrap_or_default();
        let mut quotes = self.quotes.lock().ok()?;
        Some((Arc::clone(quotes.entry(location.clone()).or_default()), starts))
    }
}

/// What became of a reader that met damage that it did not expect.
pub(crate) fn panicked(name: &str, panic: &(dyn Any + Send)) -> DataFusionError {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::new(ErrorKind::Corrupt, format!("{name}: damaged, its reader panicked: {}", text.unwrap_or("no message"))).into()
}

/// Whether reading the file again could say where the error is.
pub(crate) fn is_about_text(e: &DataFusionError) -> bool {
    use arrow::error::ArrowError as A;
    match e.find_root() {
        DataFusionError::ArrowError(e, _) => !matches!(e.as_ref(), A::IoError(_, _) | A::MemoryError(_)),
        DataFusionError::Execution(_) | DataFusionError::Plan(_) => true,
        _ => false,
    }
}

/// The error with the name of its file; what has a name, or is not about the file, stays as it is.
pub(crate) fn in_file(name: &str, kind: Kind, e: DataFusionError) -> DataFusionError {
    let root = e.find_root();
    match root {
        DataFusionError::External(e) if e.is::<Error>() => {}
        DataFusionError::ResourcesExhausted(_) | DataFusionError::ObjectStore(_) | DataFusionError::ExecutionJoin(_) => {}
        root => {
            let is_text = kind.is_text() && is_about_text(root);
            let (grade, damaged) = if is_text { (ErrorKind::Invalid, "") } else { (ErrorKind::Corrupt, "damaged or cut off: ") };
            let said = match root {
                DataFusionError::ArrowError(e, _) => e.to_string(),
                root => root.strip_backtrace(),
            };
            return Error::new(grade, format!("{name}: {damaged}{said}")).into();
        }
    }
    e
}
