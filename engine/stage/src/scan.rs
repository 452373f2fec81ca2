//! The stage's own Parquet scan: it takes over the file scan of its `DataSourceExec` child, fetches row
//! groups on tokio and decodes them on the pool, straight into narrow types.
//!
//! Not taken over (the child then runs as it is): partition columns, computed projections, limits,
//! files whose types differ from the table's, row selections by an access plan.

use crate::context::panic_text;
use crate::convert::{Block, Reader};
use crate::program::physical;
use crate::run::best::Ends;
use crate::run::chunk::Columns;
use crate::{Error, Result};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use datafusion::datasource::physical_plan::parquet::{DefaultParquetFileReaderFactory, ParquetFileReaderFactory};
use datafusion::datasource::physical_plan::{FileScanConfig, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr};
use datafusion::physical_expr::utils::split_conjunction;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use millstream_kernels::program::Type;
use millstream_kernels::{Vector, gather};
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};
use parquet::basic::Encoding;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

mod column;
pub(crate) mod prune;

use column::PagedColumn;

/// Rows decoded at a time: a few chunks, so that they are still in cache when the program reads them.
const DECODE_ROWS: usize = 16 * 1024;

/// A scan of Parquet files, row group by row group.
pub struct ParquetScan {
    factory: Arc<dyn ParquetFileReaderFactory>,
    metrics: ExecutionPlanMetricsSet,
    /// Output columns of the leaf that are read, in the order of the program's inputs.
    inputs: Vec<usize>,
    /// The column of the table behind each of them.
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

impl RowGroup {
    /// Rows in it.
    pub fn rows(&self) -> usize {
        self.file.metadata.row_group(self.index).num_rows() as usize
    }
}

/// A file whose footer has been read.
pub struct OpenFile {
    name: String,
    file: datafusion::datasource::listing::PartitionedFile,
    metadata: Arc<ParquetMetaData>,
    /// Column of the file behind each column read.
    columns: Vec<usize>,
    /// The file's own types.
    schema: SchemaRef,
    /// Readers by which columns come as dictionaries.
    readers: Mutex<HashMap<Vec<bool>, ArrowReaderMetadata>>,
}

/// A row group's bytes.
pub struct Fetched {
    group: RowGroup,
    ranges: Vec<Range<u64>>,
    bytes: Vec<Bytes>,
}

/// Filters pushed down to a scan.
pub struct Pushed {
    /// All of them, over the columns of the table.
    pub predicate: Arc<dyn PhysicalExpr>,
    /// The column of the table behind each column that leaves the scan, if it is one.
    pub columns: Vec<Option<usize>>,
}

impl ParquetScan {
    /// The scan behind `source` if a stage can take it over, reading output columns `inputs`.
    pub fn of(source: &DataSourceExec, inputs: &[usize], ctx: &TaskContext) -> Option<Self> {
        let config = source.data_source().downcast_ref::<FileScanConfig>()?;
        let parquet = config.file_source().downcast_ref::<ParquetSource>()?;
        let table = Arc::clone(config.file_schema());
        // A filter that the scan has taken over for good is its own to evaluate; one that another node
        // completes at run time only hints.
        let lasting = |f: Arc<dyn PhysicalExpr>| split_conjunction(&f).into_iter().any(|e| !e.is::<DynamicFilterPhysicalExpr>());
        if config.limit.is_some()
            || parquet.table_parquet_options().global.pushdown_filters && config.file_source().filter().is_some_and(lasting)
        {
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
        let (metrics, predicate) = (ExecutionPlanMetricsSet::new(), config.file_source().filter());
        Some(Self { factory, metrics, inputs: inputs.to_vec(), columns, table, predicate, files })
    }

    /// The filters pushed down to a Parquet scan.
    pub fn pushed(source: &DataSourceExec) -> Option<Pushed> {
        let config = source.data_source().downcast_ref::<FileScanConfig>()?;
        config.file_source().downcast_ref::<ParquetSource>()?;
        let columns = match config.file_source().projection() {
            None => (0..config.file_schema().fields().len()).map(Some).collect(),
            Some(p) => p.iter().map(|e| e.expr.downcast_ref::<Column>().map(Column::index)).collect(),
        };
        Some(Pushed { predicate: config.file_source().filter()?, columns })
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
        let schema = Arc::clone(schema.schema());
        let mut columns = vec![];
        for c in &self.columns {
            let wanted = self.table.field(*c);
            let Ok(at) = schema.index_of(wanted.name()) else { return Ok(None) };
            if !same(schema.field(at).data_type(), wanted.data_type()) {
                return Ok(None);
            }
            columns.push(at);
        }
        Ok(Some(OpenFile { name: name.to_string(), file: f.clone(), metadata, columns, schema, readers: Mutex::default() }))
    }

    /// Least and greatest value of the column of input `c` of the leaf in a row group.
    pub(crate) fn ends(&self, c: usize, group: &RowGroup) -> Ends {
        match self.inputs.iter().position(|i| *i == c) {
            Some(at) => prune::ends(self.table.field(self.columns[at]).name(), &self.table, &group.file.metadata, group.index),
            None => Ends { least: None, greatest: None, nulls: None },
        }
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

/// What the format's library reads. Damage that it does not expect is a panic there, and an error here.
fn reading<T>(read: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T> {
    let damaged = |what: &dyn std::fmt::Display| Error::new(crate::ErrorKind::Corrupt, what);
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|e| damaged(&e)),
        Err(panic) => Err(damaged(&format!("damaged, its reader panicked: {}", panic_text(panic.as_ref())))),
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
        self.group.rows()
    }

    /// Decodes the row group and hands it on in blocks.
    ///
    /// # Errors
    /// `Corrupt` for a damaged page, naming file, row group and column; what `take` raises.
    pub fn decode(self, mut take: impl FnMut(Block) -> Result<()>) -> Result<()> {
        let mut group = self.open()?;
        let mut at = 0;
        while at < group.rows {
            let len = DECODE_ROWS.min(group.rows - at);
            let columns = (0..group.columns.len()).map(|c| group.column(c, at, len, None)).collect::<Result<_>>()?;
            take(Block { columns, rows: len })?;
            at += len;
        }
        Ok(())
    }

    /// The row group, to be decoded column by column as its rows are asked for.
    ///
    /// # Errors
    /// As [`Fetched::decode`].
    pub fn open(self) -> Result<GroupReader> {
        let (file, index, rows) = (Arc::clone(&self.group.file), self.group.index, self.rows());
        let meta = file.metadata.row_group(index);
        let descr = file.metadata.file_metadata().schema_descr();
        let mut columns = vec![];
        let mut rest = vec![];
        for c in &file.columns {
            let leaf = (0..descr.num_columns()).find(|l| descr.get_column_root_idx(*l) == *c).unwrap_or(*c);
            let chunk = meta.column(leaf);
            let start = chunk.byte_range().0;
            let bytes = self.ranges.iter().position(|r| r.start == start).map(|at| self.bytes[at].clone());
            let bytes = bytes.ok_or_else(|| Error::bug("a column chunk that was not fetched"))?;
            let paged = PagedColumn::open(file.schema.field(*c).data_type(), chunk, rows, start, bytes);
            columns.push(match paged.map_err(|e| file.failed(index, *c, e))? {
                Some(paged) => GroupColumn::Paged(Box::new(paged)),
                None => {
                    rest.push(*c);
                    GroupColumn::Arrow(rest.len() - 1)
                }
            });
        }
        let rest = if rest.is_empty() { None } else { Some(self.arrow(rest)?) };
        Ok(GroupReader { file, index, columns, rest, rows })
    }

    /// The columns that pages are not decoded here for, by Arrow's reader.
    fn arrow(self, columns: Vec<usize>) -> Result<ArrowColumns> {
        let Fetched { group: RowGroup { file, index }, ranges, bytes } = self;
        let failed = |e| file.failed(index, columns[0], Error::new(crate::ErrorKind::Invalid, e));
        // A projected batch has its columns in the order of the file.
        let mut order = columns.clone();
        order.sort_unstable();
        order.dedup();
        let projection = columns.iter().filter_map(|c| order.binary_search(c).ok()).collect();
        let mut decoder = ParquetPushDecoderBuilder::new_with_metadata(file.reader(index).map_err(failed)?)
            .with_row_groups(vec![index])
            .with_projection(leaves(&file.metadata, &columns))
            .with_batch_size(DECODE_ROWS)
            .build()
            .map_err(failed)?;
        decoder.push_ranges(ranges, bytes).map_err(failed)?;
        Ok(ArrowColumns { decoder, reader: Reader::default(), projection, columns, block: Block::default(), start: 0 })
    }
}

/// A row group being decoded: columns are read chunk by chunk, rows in ascending order.
pub struct GroupReader {
    file: Arc<OpenFile>,
    index: usize,
    columns: Vec<GroupColumn>,
    rest: Option<ArrowColumns>,
    rows: usize,
}

enum GroupColumn {
    Paged(Box<PagedColumn>),
    /// Position among the columns that Arrow's reader decodes.
    Arrow(usize),
}

/// Columns that Arrow's reader decodes, a block at a time.
struct ArrowColumns {
    decoder: ParquetPushDecoder,
    reader: Reader,
    projection: Vec<usize>,
    columns: Vec<usize>,
    block: Block,
    /// First row of `block`.
    start: usize,
}

impl GroupReader {
    /// Rows of the row group.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

impl Columns for GroupReader {
    fn column(&mut self, c: usize, start: usize, len: usize, picked: Option<&[u32]>) -> Result<Vector> {
        let (file, index) = (&self.file, self.index);
        let out = match (&mut self.columns[c], &mut self.rest) {
            (GroupColumn::Paged(p), _) => p.read(start, len, picked),
            (GroupColumn::Arrow(at), Some(rest)) => rest.read(*at, start, len, picked),
            (GroupColumn::Arrow(_), None) => Err(Error::bug("a column without a reader")),
        };
        out.map_err(|e| file.failed(index, file.columns[c], e))
    }
}

impl ArrowColumns {
    fn read(&mut self, at: usize, start: usize, len: usize, picked: Option<&[u32]>) -> Result<Vector> {
        while start >= self.start + self.block.rows {
            self.start += self.block.rows;
            self.block = match reading(|| self.decoder.try_decode())? {
                DecodeResult::Data(batch) => self.reader.block(&batch, &self.projection)?,
                DecodeResult::Finished => {
                    return Err(Error::new(crate::ErrorKind::Corrupt, format!("columns {:?} end early", self.columns)));
                }
                DecodeResult::NeedsData(r) => return Err(Error::bug(format!("the decoder wants {r:?} beyond its row group"))),
            };
        }
        let from = start - self.start;
        // Blocks are as long as what is read at a time, but for the last one.
        if from + len > self.block.rows {
            let text = format!("columns {:?} end early, after {} rows", self.columns, self.start + self.block.rows);
            return Err(Error::new(crate::ErrorKind::Corrupt, text));
        }
        let column = self.block.columns[at].slice(from, len);
        Ok(match picked {
            Some(rows) => gather::gather(&column, rows)?,
            None => column,
        })
    }
}

impl OpenFile {
    /// An error of the data in `column` of row group `index`, with its place.
    fn failed(&self, index: usize, column: usize, e: Error) -> Error {
        let column = self.schema.field(column).name();
        let place = format!("cannot decode Parquet file {}, row group {index}, column {column}", self.name);
        match e.kind() {
            crate::ErrorKind::Invalid | crate::ErrorKind::Corrupt => Error::new(e.kind(), format!("{place}: {e}")),
            _ => e,
        }
    }

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
