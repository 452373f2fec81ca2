//! The stage's own Parquet scan: it takes over the file scan of its `DataSourceExec` child, fetches row
//! groups on tokio and decodes them on the pool, straight into narrow types.
//!
//! Not taken over (the child then runs as it is): partition columns, computed projections, limits,
//! files whose types differ from the table's, row selections by an access plan.

use crate::convert::{Block, Reader};
use crate::program::physical;
use crate::{Error, Result};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use datafusion::datasource::physical_plan::parquet::{DefaultParquetFileReaderFactory, ParquetFileReaderFactory};
use datafusion::datasource::physical_plan::{FileScanConfig, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use millstream_kernels::program::Type;
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::push_decoder::ParquetPushDecoderBuilder;
use parquet::basic::Encoding;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

pub(crate) mod prune;

/// Rows decoded at a time: a few chunks, so that they are still in cache when the program reads them.
const DECODE_ROWS: usize = 16 * 1024;

/// A scan of Parquet files, row group by row group.
pub struct ParquetScan {
    factory: Arc<dyn ParquetFileReaderFactory>,
    metrics: ExecutionPlanMetricsSet,
    /// Columns of the table that are read, in the order of the program's inputs.
    columns: Vec<usize>,
    table: SchemaRef,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    files: Vec<datafusion::datasource::listing::PartitionedFile>,
}

/// A row group to read.
#[derive(Clone)]
pub struct RowGroup {
    file: Arc<OpenFile>,
    index: usize,
}

/// A file whose footer has been read.
pub struct OpenFile {
    name: String,
    file: datafusion::datasource::listing::PartitionedFile,
    metadata: Arc<ParquetMetaData>,
    /// Column of the file behind each column read.
    columns: Vec<usize>,
    /// Readers by which columns come as dictionaries.
    readers: Mutex<HashMap<Vec<bool>, ArrowReaderMetadata>>,
}

/// A row group's bytes.
pub struct Fetched {
    group: RowGroup,
    ranges: Vec<Range<u64>>,
    bytes: Vec<Bytes>,
}

impl ParquetScan {
    /// The scan behind `source` if a stage can take it over, reading output columns `inputs`.
    pub fn of(source: &DataSourceExec, inputs: &[usize], ctx: &TaskContext) -> Option<Self> {
        let config = source.data_source().downcast_ref::<FileScanConfig>()?;
        let parquet = config.file_source().downcast_ref::<ParquetSource>()?;
        let table = Arc::clone(config.file_schema());
        if config.limit.is_some() {
            return None;
        }
        let columns = match config.file_source().projection() {
            None => inputs.to_vec(),
            Some(p) => {
                let exprs: Vec<_> = p.iter().collect();
                inputs.iter().map(|i| exprs[*i].expr.downcast_ref::<Column>().map(Column::index)).collect::<Option<Vec<_>>>()?
            }
        };
        if columns.iter().any(|c| *c >= table.fields().len()) {
            return None;
        }
        let files: Vec<_> = config.file_groups.iter().flat_map(|g| g.files().to_vec()).collect();
        let store = ctx.runtime_env().object_store(&config.object_store_url).ok()?;
        let factory = match parquet.parquet_file_reader_factory() {
            Some(f) => Arc::clone(f),
            None => Arc::new(DefaultParquetFileReaderFactory::new(store)) as _,
        };
        Some(Self { factory, metrics: ExecutionPlanMetricsSet::new(), columns, table, predicate: config.file_source().filter(), files })
    }

    /// Reads the footers and lists the row groups that statistics do not rule out; none when a file's
    /// types are not the table's.
    ///
    /// # Errors
    /// `Invalid` when a file cannot be read; the message names it.
    pub async fn row_groups(&self) -> Result<Option<Vec<RowGroup>>> {
        let mut out = vec![];
        let mut open: HashMap<String, Arc<OpenFile>> = HashMap::new();
        for f in &self.files {
            let name = f.object_meta.location.to_string();
            let file = match open.get(&name) {
                Some(file) => Arc::clone(file),
                None => {
                    let Some(file) = self.open(f, &name).await? else { return Ok(None) };
                    let file = Arc::new(file);
                    open.insert(name, Arc::clone(&file));
                    file
                }
            };
            let in_range = |i: &usize| f.range.as_ref().is_none_or(|r| (r.start..r.end).contains(&start_of(&file.metadata, *i)));
            let groups: Vec<usize> = (0..file.metadata.num_row_groups()).filter(in_range).collect();
            let kept = prune::prune(self.predicate.as_ref(), &self.table, &file.metadata, &groups);
            out.extend(kept.into_iter().map(|index| RowGroup { file: Arc::clone(&file), index }));
        }
        Ok(Some(out))
    }

    async fn open(&self, f: &datafusion::datasource::listing::PartitionedFile, name: &str) -> Result<Option<OpenFile>> {
        let failed =
            |e: parquet::errors::ParquetError| Error::new(crate::ErrorKind::Invalid, format!("cannot read Parquet file {name}: {e}"));
        let mut reader = self.factory.create_reader(0, f.clone(), f.metadata_size_hint, &self.metrics)?;
        let metadata = reader.get_metadata(None).await.map_err(failed)?;
        let schema = ArrowReaderMetadata::try_new(Arc::clone(&metadata), ArrowReaderOptions::new()).map_err(failed)?;
        let schema = schema.schema();
        let mut columns = vec![];
        for c in &self.columns {
            let wanted = self.table.field(*c);
            let Ok(at) = schema.index_of(wanted.name()) else { return Ok(None) };
            if !same(schema.field(at).data_type(), wanted.data_type()) {
                return Ok(None);
            }
            columns.push(at);
        }
        Ok(Some(OpenFile { name: name.to_string(), file: f.clone(), metadata, columns, readers: Mutex::default() }))
    }

    /// Reads the bytes of the columns of a row group.
    ///
    /// # Errors
    /// `Invalid` when the store fails; the message names the file.
    pub async fn fetch(&self, group: RowGroup) -> Result<Fetched> {
        let file = &group.file;
        let meta = file.metadata.row_group(group.index);
        let mask = leaves(&file.metadata, &file.columns);
        let ranges: Vec<Range<u64>> = (0..meta.num_columns())
            .filter(|c| mask.leaf_included(*c))
            .map(|c| {
                let (start, len) = meta.column(c).byte_range();
                start..start + len
            })
            .collect();
        let mut reader = self.factory.create_reader(0, file.file.clone(), None, &self.metrics)?;
        let bytes = reader
            .get_byte_ranges(ranges.clone())
            .await
            .map_err(|e| Error::new(crate::ErrorKind::Invalid, format!("cannot read Parquet file {}: {e}", file.name)))?;
        Ok(Fetched { group, ranges, bytes })
    }
}

/// First byte of a row group, as DataFusion assigns row groups to byte ranges.
fn start_of(m: &ParquetMetaData, group: usize) -> i64 {
    let c = m.row_group(group).column(0);
    c.dictionary_page_offset().unwrap_or_else(|| c.data_page_offset())
}

fn leaves(m: &ParquetMetaData, columns: &[usize]) -> ProjectionMask {
    ProjectionMask::roots(m.file_metadata().schema_descr(), columns.iter().copied())
}

/// Whether values read from a file are the table's without a cast that changes them.
fn same(file: &DataType, table: &DataType) -> bool {
    file == table || (physical(file) == Type::Str && physical(table) == Type::Str)
}

impl Fetched {
    /// Rows of the row group.
    pub fn rows(&self) -> usize {
        self.group.file.metadata.row_group(self.group.index).num_rows() as usize
    }

    /// Decodes the row group and hands it on in blocks.
    ///
    /// # Errors
    /// `Invalid` for a corrupt page, naming file and row group; what `take` raises.
    pub fn decode(self, reader: &mut Reader, mut take: impl FnMut(Block) -> Result<()>) -> Result<()> {
        let file = Arc::clone(&self.group.file);
        let index = self.group.index;
        let failed = |e: parquet::errors::ParquetError| {
            Error::new(crate::ErrorKind::Invalid, format!("cannot decode Parquet file {}, row group {index}: {e}", file.name))
        };
        if file.columns.is_empty() {
            return take(Block { columns: vec![], rows: self.rows() });
        }
        let metadata = file.reader(index).map_err(failed)?;
        let mask = leaves(&file.metadata, &file.columns);
        // A projected batch has its columns in the order of the file.
        let mut order: Vec<usize> = file.columns.clone();
        order.sort_unstable();
        order.dedup();
        let projection: Vec<usize> = file.columns.iter().filter_map(|c| order.binary_search(c).ok()).collect();
        let mut decoder = ParquetPushDecoderBuilder::new_with_metadata(metadata)
            .with_row_groups(vec![index])
            .with_projection(mask)
            .with_batch_size(DECODE_ROWS)
            .build()
            .map_err(failed)?;
        decoder.push_ranges(self.ranges, self.bytes).map_err(failed)?;
        loop {
            match decoder.try_decode().map_err(failed)? {
                DecodeResult::Data(batch) => take(reader.block(&batch, &projection)?)?,
                DecodeResult::Finished => return Ok(()),
                DecodeResult::NeedsData(r) => return Err(Error::bug(format!("decoder of {} wants {r:?} beyond its row group", file.name))),
            }
        }
    }
}

impl OpenFile {
    /// A reader of row group `index`: decimals at 64 bits where their precision allows it, strings as
    /// dictionaries where every page is one.
    fn reader(&self, index: usize) -> parquet::errors::Result<ArrowReaderMetadata> {
        let schema = ArrowReaderMetadata::try_new(Arc::clone(&self.metadata), ArrowReaderOptions::new())?.schema().clone();
        let group = self.metadata.row_group(index);
        let descr = self.metadata.file_metadata().schema_descr();
        let flat = descr.num_columns() == schema.fields().len();
        let dictionary: Vec<bool> = (0..schema.fields().len())
            .map(|c| flat && physical(schema.field(c).data_type()) == Type::Str && is_dictionary(group.column(c)))
            .collect();
        let mut readers = self.readers.lock().map_err(|_| parquet::errors::ParquetError::General("a reader panicked".into()))?;
        if let Some(known) = readers.get(&dictionary) {
            return Ok(known.clone());
        }
        let fields: Vec<Field> =
            schema.fields().iter().zip(&dictionary).map(|(f, d)| f.as_ref().clone().with_data_type(hint(f.data_type(), *d))).collect();
        let hinted = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        let reader = ArrowReaderMetadata::try_new(Arc::clone(&self.metadata), ArrowReaderOptions::new().with_schema(hinted))?;
        readers.insert(dictionary, reader.clone());
        Ok(reader)
    }
}

fn hint(t: &DataType, dictionary: bool) -> DataType {
    match t {
        DataType::Decimal128(p, s) if *p <= 18 => DataType::Decimal64(*p, *s),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View if dictionary => {
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
        }
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        t => t.clone(),
    }
}

/// Whether every data page of the column is dictionary encoded.
fn is_dictionary(c: &ColumnChunkMetaData) -> bool {
    let is = |e: &Encoding| matches!(e, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY);
    if let Some(mask) = c.page_encoding_stats_mask() {
        return mask.is_only(Encoding::RLE_DICTIONARY) || mask.is_only(Encoding::PLAIN_DICTIONARY);
    }
    match c.page_encoding_stats() {
        Some(stats) => {
            use parquet::basic::PageType::{DATA_PAGE, DATA_PAGE_V2};
            let mut pages = stats.iter().filter(|s| matches!(s.page_type, DATA_PAGE | DATA_PAGE_V2)).peekable();
            pages.peek().is_some() && pages.all(|s| is(&s.encoding))
        }
        None => false,
    }
}
