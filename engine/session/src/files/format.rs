//! DataFusion's formats, with errors that name files.
//!
//! Columns are found out by DataFusion. When it fails, the files are looked at one by one to say which it was, or
//! which two do not fit together. CSV and Arrow are read by position, so there all files must have the columns
//! of the first, which DataFusion does not look at.

use super::kind::{Kind, compression_suffix};
use super::lines::{Text, locate, whole_records};
use super::named::{in_file, is_about_text, panicked};
use super::{arrow_columns, invalid, json_keys, name_in};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{GetExt, Statistics};
use datafusion::datasource::file_format::arrow::ArrowFormatFactory;
use datafusion::datasource::file_format::avro::AvroFormatFactory;
use datafusion::datasource::file_format::csv::{CsvFormat, CsvFormatFactory};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::{JsonFormat, JsonFormatFactory};
use datafusion::datasource::file_format::parquet::ParquetFormatFactory;
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory, FileMeta};
use datafusion::datasource::physical_plan::{FileScanConfig, FileSinkConfig, FileSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::{LexOrdering, LexRequirement};
use datafusion::physical_plan::ExecutionPlan;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// Rows of text from which types are found out, where nobody says another number.
const ROWS_LOOKED_AT: &str = "10000";
/// Files opened at once.
const FILES_AT_ONCE: usize = 32;

/// Compressions of Parquet with the level that is meant where none is said.
const LEVELS: &[(&str, &str)] = &[("zstd", "zstd(3)"), ("gzip", "gzip(6)"), ("brotli", "brotli(4)")];

const ROWS: &str = "format.schema_infer_max_rec";
const DELIMITER: &str = "format.delimiter";

/// A factory for each name of each kind.
pub(crate) fn formats() -> Vec<Arc<dyn FileFormatFactory>> {
    Kind::names().map(|(name, kind)| Arc::new(NamedFormats { name, kind }) as Arc<dyn FileFormatFactory>).collect()
}

#[derive(Debug)]
struct NamedFormats {
    name: &'static str,
    kind: Kind,
}

impl NamedFormats {
    fn theirs(&self) -> Arc<dyn FileFormatFactory> {
        match self.kind {
            Kind::Parquet => Arc::new(ParquetFormatFactory::new()),
            Kind::Csv | Kind::Tsv => Arc::new(CsvFormatFactory::new()),
            Kind::Json => Arc::new(JsonFormatFactory::new()),
            Kind::Arrow => Arc::new(ArrowFormatFactory::new()),
            Kind::Avro => Arc::new(AvroFormatFactory::new()),
        }
    }
}

impl GetExt for NamedFormats {
    fn get_ext(&self) -> String {
        self.name.to_string()
    }
}

impl FileFormatFactory for NamedFormats {
    fn create(&self, state: &dyn Session, options: &HashMap<String, String>) -> Result<Arc<dyn FileFormat>> {
        let mut options = options.clone();
        if self.kind == Kind::Tsv {
            options.entry(DELIMITER.into()).or_insert_with(|| "\t".into());
        }
        if self.kind.is_text() {
            options.entry(ROWS.into()).or_insert_with(|| ROWS_LOOKED_AT.into());
        }
        if matches!(self.kind, Kind::Arrow | Kind::Avro)
            && let Some(option) = options.keys().find_map(|k| k.strip_prefix("format."))
        {
            return Err(super::unsupported(format!("{} takes no options, not {option}", self.name)));
        }
        if options.contains_key("format.null_regex") {
            return Err(super::unsupported("null_regex: DataFusion's reader does not look at it: read text, and use nullif"));
        }
        // DataFusion wants a level with these.
        if self.kind == Kind::Parquet
            && let Some(compression) = options.get_mut("format.compression")
            && let Some((_, leveled)) = LEVELS.iter().find(|(name, _)| compression.eq_ignore_ascii_case(name))
        {
            *compression = leveled.to_string();
        }
        let theirs = self.theirs();
        let inner = theirs.create(state, &options)?;
        let is_text = matches!(self.kind, Kind::Csv | Kind::Tsv);
        let ragged = options.get("format.truncated_rows").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let heads = (is_text && !ragged).then(|| {
            options.insert(ROWS.into(), "0".into());
            theirs.create(state, &options)
        });
        Ok(Arc::new(NamedFormat { name: self.name, kind: self.kind, inner, heads: heads.transpose()? }))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(NamedFormat { name: self.name, kind: self.kind, inner: FileFormatFactory::default(self.theirs().as_ref()), heads: None })
    }
}

#[derive(Debug)]
struct NamedFormat {
    /// What files are called that are written.
    name: &'static str,
    kind: Kind,
    inner: Arc<dyn FileFormat>,
    /// For CSV: the same, looking at no rows, which gives the names of the columns.
    heads: Option<Arc<dyn FileFormat>>,
}

impl NamedFormat {
    /// What each of the files has for columns, in order; the first error names its file.
    async fn each(
        &self,
        format: &Arc<dyn FileFormat>,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        files: &[ObjectMeta],
    ) -> Result<Vec<SchemaRef>> {
        let looked_at = files.iter().map(|file| async move {
            match AssertUnwindSafe(self.columns(format, state, store, std::slice::from_ref(file))).catch_unwind().await {
                Ok(Ok(schema)) => Ok(schema),
                Ok(Err(e)) => Err(self.explain(store, file, e).await),
                Err(panic) => Err(panicked(&name_in(store, file), panic.as_ref())),
            }
        });
        stream::iter(looked_at.collect::<Vec<_>>()).buffered(FILES_AT_ONCE).try_collect().await
    }

    fn in_file(&self, store: &Arc<dyn ObjectStore>, file: &ObjectMeta, e: DataFusionError) -> DataFusionError {
        in_file(&name_in(store, file), self.kind, e)
    }

    /// With the line, in text.
    async fn explain(&self, store: &Arc<dyn ObjectStore>, file: &ObjectMeta, e: DataFusionError) -> DataFusionError {
        let csv = self.inner.downcast_ref::<CsvFormat>().map(|f| Text::Csv { options: Box::new(f.options().clone()), columns: None });
        let json = self.inner.downcast_ref::<JsonFormat>().filter(|f| f.is_newline_delimited());
        let text = csv.or(json.map(|_| Text::Json { columns: Arc::new(Schema::empty()) }));
        if let Some(text) = text.filter(|_| is_about_text(&e)) {
            let compression = self.inner.compression_type().unwrap_or(FileCompressionType::UNCOMPRESSED);
            let name = name_in(store, file);
            if let Some(place) = locate(store, file, compression, &text, name.starts_with('/')).await {
                return invalid(format!("{name}, {place}"));
            }
        }
        self.in_file(store, file, e)
    }

    /// The columns of all of the files together.
    async fn columns(
        &self,
        format: &Arc<dyn FileFormat>,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        files: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        let mut schemas = vec![];
        if self.kind == Kind::Arrow {
            for file in files {
                schemas.push(arrow_columns::columns(store, file).await?);
            }
            return Ok(unified(&schemas, true).unwrap_or_else(|| Arc::new(Schema::empty())));
        }
        let Some(csv) = format.downcast_ref::<CsvFormat>() else { return format.infer_schema(state, store, files).await };
        let mut rows = csv.options().schema_infer_max_rec.unwrap_or_default();
        let compression = FileCompressionType::from(csv.options().compression);
        for file in files {
            let bytes = store.get(&file.location).await?.into_stream().map_err(DataFusionError::from).boxed();
            let records = whole_records(csv.options().clone(), compression.convert_stream(bytes)?);
            let (schema, read) = csv.infer_schema_from_stream(state, rows, records).await?;
            schemas.push(Arc::new(schema));
            rows = rows.saturating_sub(read);
            if rows == 0 {
                break;
            }
        }
        Ok(unified(&schemas, true).unwrap_or_else(|| Arc::new(Schema::empty())))
    }

    /// Says which file it was, unless the columns fit together after all.
    async fn blame(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        files: &[ObjectMeta],
        e: DataFusionError,
    ) -> Result<SchemaRef> {
        let schemas = match self.each(&self.inner, state, store, files).await {
            Ok(schemas) => schemas,
            Err(named) => return Err(named),
        };
        // DataFusion does not put integers of one file and numbers with a point of another together.
        if self.kind == Kind::Json
            && let Some(schema) = unified(&schemas, false)
        {
            return Ok(schema);
        }
        let mut known: HashMap<&str, (&Field, &ObjectMeta)> = HashMap::new();
        for (schema, file) in schemas.iter().zip(files) {
            for field in schema.fields() {
                let (first, its) = *known.entry(field.name()).or_insert((field, file));
                if Schema::try_merge([Schema::new(vec![first.clone()]), Schema::new(vec![field.as_ref().clone()])]).is_err() {
                    let (name, a, b) = (field.name(), first.data_type(), field.data_type());
                    return Err(invalid(format!("column {name} is {a} in {} and {b} in {}", name_in(store, its), name_in(store, file))));
                }
            }
        }
        Err(e)
    }

    /// All files have the columns of the first.
    async fn same(&self, state: &dyn Session, store: &Arc<dyn ObjectStore>, files: &[ObjectMeta]) -> Result<()> {
        let format = self.heads.as_ref().unwrap_or(&self.inner);
        let schemas = self.each(format, state, store, files).await?;
        let (Some(first), Some(its)) = (schemas.first(), files.first()) else { return Ok(()) };
        for (schema, file) in schemas.iter().zip(files) {
            let differs =
                |(a, b): (&Arc<Field>, &Arc<Field>)| a.name() != b.name() || (self.kind == Kind::Arrow && a.data_type() != b.data_type());
            let count = first.fields().len().max(schema.fields().len());
            let fields = first.fields().iter().zip(schema.fields());
            let at = fields.clone().position(differs).or_else(|| (first.fields().len() != schema.fields().len()).then(|| fields.len()));
            let Some(at) = at.filter(|at| *at < count) else { continue };
            let say = |s: &SchemaRef| {
                s.fields().get(at).map_or("nothing".into(), |f| match self.kind {
                    Kind::Arrow => format!("{} {}", f.name(), f.data_type()),
                    _ => f.name().clone(),
                })
            };
            let text = format!(
                "files of different columns: column {} is {} in {} and {} in {}: read them apart",
                at + 1,
                say(first),
                name_in(store, its),
                say(schema),
                name_in(store, file)
            );
            return Err(invalid(text));
        }
        Ok(())
    }

    /// A column that some files lack can be null.
    async fn nullable(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        files: &[ObjectMeta],
        schema: SchemaRef,
    ) -> Result<SchemaRef> {
        if files.len() < 2 || schema.fields().iter().all(|f| f.is_nullable()) {
            return Ok(schema);
        }
        let each = self.each(&self.inner, state, store, files).await?;
        let everywhere = |name: &str| each.iter().all(|s| s.field_with_name(name).is_ok());
        let fields = schema.fields().iter().map(|f| match everywhere(f.name()) {
            true => Arc::clone(f),
            false => Arc::new(f.as_ref().clone().with_nullable(true)),
        });
        Ok(Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone())))
    }

    /// No NUL in a name, and a type that rows can have.
    fn settle(&self, schema: SchemaRef, file: &str) -> Result<SchemaRef> {
        if schema.fields().iter().any(|f| f.name().contains('\0')) {
            return Err(invalid(format!("{file}: NUL bytes in the names of columns: UTF-16 or binary, not UTF-8 text")));
        }
        if schema.fields().is_empty() && self.kind != Kind::Json {
            return Err(invalid(format!("{file} has no columns")));
        }
        let mut seen = HashSet::new();
        let twice = schema.fields().iter().enumerate().find(|(_, f)| !seen.insert(f.name()));
        if let Some((at, field)) = twice {
            let text = format!(
                "{file}: column {} is called {}, as one before it: read it with has_header 'false', or declare its columns",
                at + 1,
                field.name()
            );
            return Err(invalid(text));
        }
        // Of a column without a value nothing is known: text can hold whatever comes later.
        let typed = |f: &Arc<Field>| match f.data_type() {
            DataType::Null => Arc::new(f.as_ref().clone().with_data_type(DataType::Utf8)),
            _ => Arc::clone(f),
        };
        let fields: Vec<Arc<Field>> = schema.fields().iter().map(typed).collect();
        Ok(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())))
    }
}

#[async_trait]
impl FileFormat for NamedFormat {
    /// With the compression, which DataFusion forgets when it inserts into a table of compressed files.
    fn get_ext(&self) -> String {
        let compression = self.inner.compression_type().map_or(String::new(), |c| compression_suffix(*c.get_variant()));
        format!("{}{compression}", self.name)
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> Result<String> {
        self.inner.get_ext_with_compression(compression)?;
        Ok(format!("{}{}", self.name, compression_suffix(*compression.get_variant())))
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        self.inner.compression_type()
    }

    async fn infer_schema(&self, state: &dyn Session, store: &Arc<dyn ObjectStore>, objects: &[ObjectMeta]) -> Result<SchemaRef> {
        let schema = match AssertUnwindSafe(self.columns(&self.inner, state, store, objects)).catch_unwind().await {
            Ok(Ok(schema)) => schema,
            Ok(Err(e)) => self.blame(state, store, objects, e).await?,
            Err(panic) => self.blame(state, store, objects, panicked("a file", panic.as_ref())).await?,
        };
        if objects.len() > 1 && (self.heads.is_some() || self.kind == Kind::Arrow) {
            self.same(state, store, objects).await?;
        }
        let Some(first) = objects.first().filter(|_| self.kind.is_text()) else {
            return self.nullable(state, store, objects, schema).await;
        };
        let mut schema = self.settle(schema, &name_in(store, first))?;
        if self.kind == Kind::Json {
            let compression = self.inner.compression_type().unwrap_or(FileCompressionType::UNCOMPRESSED);
            schema = json_keys::in_order(store, first, compression, schema).await;
        }
        Ok(schema)
    }

    async fn infer_stats(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<Statistics> {
        self.inner.infer_stats(state, store, table_schema, object).await.map_err(|e| self.in_file(store, object, e))
    }

    async fn infer_ordering(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<Option<LexOrdering>> {
        self.inner.infer_ordering(state, store, table_schema, object).await.map_err(|e| self.in_file(store, object, e))
    }

    async fn infer_stats_and_ordering(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<FileMeta> {
        self.inner.infer_stats_and_ordering(state, store, table_schema, object).await.map_err(|e| self.in_file(store, object, e))
    }

    async fn create_physical_plan(&self, state: &dyn Session, conf: FileScanConfig) -> Result<Arc<dyn ExecutionPlan>> {
        self.inner.create_physical_plan(state, conf).await
    }

    async fn create_writer_physical_plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        state: &dyn Session,
        conf: FileSinkConfig,
        order: Option<LexRequirement>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if self.kind == Kind::Avro {
            return Err(super::unsupported("Avro is only read: write parquet, csv, tsv, json or arrow"));
        }
        let input = super::partitions::without_nulls(input, state, &conf.table_partition_cols)?;
        self.inner.create_writer_physical_plan(input, state, conf, order).await
    }

    fn file_source(&self, table_schema: TableSchema) -> Arc<dyn FileSource> {
        self.inner.file_source(table_schema)
    }
}

/// The columns of all `schemas`, with types that hold the values of each; none where there is no such type. Text
/// holds everything, where columns `may_be_text`.
fn unified(schemas: &[SchemaRef], may_be_text: bool) -> Option<SchemaRef> {
    if let [one] = schemas {
        return Some(Arc::clone(one));
    }
    let mut fields: Vec<Field> = vec![];
    for field in schemas.iter().flat_map(|s| s.fields()) {
        match fields.iter_mut().find(|known| known.name() == field.name()) {
            None => fields.push(field.as_ref().clone()),
            Some(known) => {
                let kind = unified_type(known.data_type(), field.data_type()).or_else(|| may_be_text.then_some(DataType::Utf8))?;
                known.set_data_type(kind);
                known.set_nullable(known.is_nullable() || field.is_nullable());
            }
        }
    }
    Some(Arc::new(Schema::new(fields)))
}

fn unified_type(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as T;
    let lists = |a: &Arc<Field>, b: &Arc<Field>| {
        let inner = unified_type(a.data_type(), b.data_type())?;
        Some(T::List(Arc::new(a.as_ref().clone().with_data_type(inner))))
    };
    match (a, b) {
        (a, b) if a == b => Some(a.clone()),
        (T::Null, other) | (other, T::Null) => Some(other.clone()),
        (T::Int64, T::Float64) | (T::Float64, T::Int64) => Some(T::Float64),
        (T::Date32, time @ T::Timestamp(_, None)) | (time @ T::Timestamp(_, None), T::Date32) => Some(time.clone()),
        (T::Timestamp(a, None), T::Timestamp(b, None)) => Some(T::Timestamp(*a.max(b), None)),
        (T::List(a), T::List(b)) => lists(a, b),
        (T::Struct(a), T::Struct(b)) => {
            let both = [a, b].map(|fields| Arc::new(Schema::new(fields.clone())));
            unified(&both, false).map(|s| T::Struct(s.fields().clone()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;

    #[test]
    fn types_of_several_files() {
        let of = |kind: &DataType| Arc::new(Schema::new(vec![Field::new("a", kind.clone(), true)]));
        let both = |a: &DataType, b: &DataType, text| unified(&[of(a), of(b)], text).map(|s| s.field(0).data_type().clone());
        let list = |kind| DataType::List(Arc::new(Field::new("item", kind, true)));
        let seconds = DataType::Timestamp(TimeUnit::Second, None);
        for (a, b, c) in [
            (DataType::Int64, DataType::Float64, Some(DataType::Float64)),
            (DataType::Null, seconds.clone(), Some(seconds.clone())),
            (DataType::Date32, seconds.clone(), Some(seconds.clone())),
            (seconds.clone(), DataType::Timestamp(TimeUnit::Nanosecond, None), Some(DataType::Timestamp(TimeUnit::Nanosecond, None))),
            (list(DataType::Int64), list(DataType::Float64), Some(list(DataType::Float64))),
            (DataType::Int64, DataType::Utf8, None),
            (list(DataType::Int64), DataType::Int64, None),
        ] {
            assert_eq!((both(&a, &b, false), both(&b, &a, false)), (c.clone(), c.clone()), "{a} {b}");
            assert_eq!(both(&a, &b, true), c.or(Some(DataType::Utf8)), "{a} {b}");
        }
    }
}
