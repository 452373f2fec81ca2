//! A table over files: DataFusion's `ListingTable`, with the columns of files and folders found out.

use super::kind::{Ending, Kind, compression_name};
use super::location::{Found, Location, VISIBLE};
use super::{ReadOptions, invalid, unsupported};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::view::ViewTable;
use datafusion::common::ScalarValue;
use datafusion::common::parsers::CompressionTypeVariant as Compression;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlanBuilder, SortExpr, ident, lit};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The table over `path`.
///
/// # Errors
/// Nothing is there; it cannot be told what it is; files that do not fit together.
pub(crate) async fn table(state: &SessionState, path: &str, options: &ReadOptions) -> Result<Arc<dyn TableProvider>> {
    let location = Location::parse(path)?;
    let found = location.look(state, options.schema.is_some()).await?;
    let restricted = found.restricted.clone();
    let (table, columns) = listing(state, &location, found, options, vec![]).await?;
    if restricted.is_empty() {
        return Ok(Arc::new(table));
    }
    let mut plan = LogicalPlanBuilder::scan("files", provider_as_source(Arc::new(table)), None)?;
    for (name, values) in restricted {
        let kind = columns.iter().find(|(n, _)| *n == name).map_or(&DataType::Utf8, |(_, kind)| kind);
        let values = values.into_iter().map(|v| ScalarValue::try_from_string(v, kind).map(lit)).collect::<Result<_>>()?;
        plan = plan.filter(ident(&name).in_list(values, false))?;
    }
    Ok(Arc::new(ViewTable::new(plan.build()?, None)))
}

type Columns = Vec<(String, DataType)>;

/// The table over what was found at `location`, and its columns that are folders.
pub(crate) async fn listing(
    state: &SessionState,
    location: &Location,
    found: Found,
    options: &ReadOptions,
    order: Vec<Vec<SortExpr>>,
) -> Result<(ListingTable, Columns)> {
    let ending = ending(location, &found, options)?;
    let files: Vec<ObjectMeta> = found.files.iter().filter(|f| is_data(f, &ending.suffix)).cloned().collect();
    let store = state.runtime_env().object_store(&found.urls[0])?;
    let format = format(state, &store, &files, &ending, options).await?;
    let columns = match &options.partition_by {
        Some(columns) => {
            check_declared(columns, &found.urls, &files)?;
            columns.clone()
        }
        None if found.is_folder => columns_of_folders(&found.urls, &files)?,
        None => vec![],
    };
    let schema = match &options.schema {
        Some(schema) => Arc::clone(schema),
        None => infer(state, location, &store, &format, &files).await?,
    };
    let schema = without_folders(schema, &columns, ending.kind, location)?;
    let listing = ListingOptions::new(format)
        .with_file_extension(if found.is_folder { ending.suffix } else { String::new() })
        .with_table_partition_cols(columns.clone())
        .with_file_sort_order(order);
    // Hidden files are none of the table's, as they were none when its columns were found out.
    let visible = |url: ListingTableUrl| match url.get_glob().is_none() && url.is_collection() && !listing.file_extension.is_empty() {
        true => url.with_glob(&format!("{VISIBLE}{}", listing.file_extension)),
        false => Ok(url),
    };
    let urls = found.urls.into_iter().map(visible).collect::<Result<Vec<_>>>()?;
    let config = ListingTableConfig::new_with_multi_paths(urls).with_listing_options(listing).with_schema(schema);
    let cache = state.runtime_env().cache_manager.get_file_statistic_cache();
    Ok((ListingTable::try_new(config)?.with_cache(cache), columns))
}

/// Whether a file of a folder is data: not hidden, not one of those that other programs leave there.
fn is_data(file: &ObjectMeta, suffix: &str) -> bool {
    let name = file.location.filename().unwrap_or("");
    file.location.as_ref().ends_with(suffix) && !name.starts_with(['.', '_'])
}

/// What the files are, by the options or by their endings, which must then agree.
fn ending(location: &Location, found: &Found, options: &ReadOptions) -> Result<Ending> {
    let mut endings: Vec<(Ending, &ObjectMeta)> = vec![];
    for file in found.files.iter().filter(|f| is_data(f, "")) {
        let Some(ending) = Ending::of(file.location.as_ref()) else { continue };
        if !endings.iter().any(|(known, _)| *known == ending) {
            endings.push((ending, file));
        }
    }
    if let Some(name) = &options.format {
        let kind = Kind::named(name).ok_or_else(|| unsupported(format!("{name} is no kind of file: there are {}", Kind::list())))?;
        endings.retain(|(ending, _)| ending.kind == kind);
        if endings.is_empty() {
            let name = Kind::names().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or(kind.name(), |(known, _)| known);
            return Ok(Ending { kind, name, compression: Compression::UNCOMPRESSED, suffix: String::new() });
        }
    }
    let text = location.text();
    match endings.as_slice() {
        [] => Err(invalid(format!("{text}: the ending does not say what it is: name a format, or use one of {}", Kind::list()))),
        [(one, _)] => Ok(one.clone()),
        [(a, x), (b, y), ..] if a.kind == b.kind && a.compression == b.compression => {
            Err(invalid(format!("{text}: {} and {} have different endings: read them apart, with a pattern", x.location, y.location)))
        }
        [(a, x), (b, y), ..] => {
            let (a, b) = (a.suffix.trim_start_matches('.'), b.suffix.trim_start_matches('.'));
            Err(invalid(format!("{text}: {} is {a} and {} is {b}: read them apart, with a pattern such as *.{a}", x.location, y.location)))
        }
    }
}

async fn format(
    state: &SessionState,
    store: &Arc<dyn ObjectStore>,
    files: &[ObjectMeta],
    ending: &Ending,
    options: &ReadOptions,
) -> Result<Arc<dyn FileFormat>> {
    let kind = ending.kind;
    let factory = state.get_file_format_factory(ending.name).ok_or_else(|| unsupported(format!("{} is not read here", ending.name)))?;
    let mut settings: HashMap<String, String> = HashMap::new();
    if ending.compression != Compression::UNCOMPRESSED {
        if !kind.is_text() {
            let text = format!("a {} file is compressed within, not as a whole: unpack {}", kind.name(), ending.suffix);
            return Err(unsupported(text));
        }
        settings.insert("format.compression".into(), compression_name(ending.compression).into());
    }
    for (name, value) in &options.options {
        let name = name.to_lowercase();
        settings.insert(if name.contains('.') { name } else { format!("format.{name}") }, value.clone());
    }
    let lines = "format.newline_delimited";
    let is_open = kind == Kind::Json && !settings.contains_key(lines) && !settings.contains_key("format.compression");
    if let Some(file) = files.iter().find(|f| is_open && f.size > 0) {
        settings.insert(lines.into(), (!is_array(store, file).await?).to_string());
    }
    factory.create(state, &settings)
}

/// Whether a JSON file is one array of objects and not an object a line.
async fn is_array(store: &Arc<dyn ObjectStore>, file: &ObjectMeta) -> Result<bool> {
    let head = store.get_range(&file.location, 0..file.size.min(1024)).await?;
    Ok(head.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'['))
}

async fn infer(
    state: &SessionState,
    location: &Location,
    store: &Arc<dyn ObjectStore>,
    format: &Arc<dyn FileFormat>,
    files: &[ObjectMeta],
) -> Result<SchemaRef> {
    let with_rows: Vec<ObjectMeta> = files.iter().filter(|f| f.size > 0).cloned().collect();
    match (files.first(), with_rows.is_empty()) {
        (Some(one), true) if files.len() == 1 => Err(invalid(format!("{} is empty: it has no columns", one.location))),
        (_, true) => Err(invalid(format!("{}: all files are empty: there are no columns", location.text()))),
        _ => format.infer_schema(state, store, &with_rows).await,
    }
}

/// Names and values of the folders between a table's folder and a file.
fn folders(urls: &[ListingTableUrl], file: &ObjectMeta) -> Vec<(String, String)> {
    let parts = urls.iter().find_map(|u| u.strip_prefix(&file.location).map(|parts| parts.map(str::to_string).collect::<Vec<_>>()));
    let mut parts = parts.unwrap_or_default();
    parts.pop();
    parts.iter().filter_map(|p| p.split_once('=')).map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// The columns that folders are, with the type that all their values have.
fn columns_of_folders(urls: &[ListingTableUrl], files: &[ObjectMeta]) -> Result<Columns> {
    let mut values: Vec<(String, BTreeSet<String>)> = vec![];
    for (i, file) in files.iter().enumerate() {
        let folders = folders(urls, file);
        if i == 0 {
            values = folders.iter().map(|(name, _)| (name.clone(), BTreeSet::new())).collect();
        }
        if !folders.iter().map(|(name, _)| name).eq(values.iter().map(|(name, _)| name)) {
            let text = format!("{} and {} lie in different kinds of folders name=value", files[0].location, file.location);
            return Err(invalid(text));
        }
        folders.into_iter().zip(&mut values).for_each(|((_, value), (_, known))| {
            known.insert(value);
        });
    }
    Ok(values.into_iter().map(|(name, values)| (name, type_of(&values))).collect())
}

/// The type in which every value is written as it stands there: DataFusion finds a folder again by the text
/// of a value, so `month=01` is a string.
fn type_of(values: &BTreeSet<String>) -> DataType {
    let fits = |kind: &DataType| values.iter().all(|v| is_written_so(v, kind));
    [DataType::Int64, DataType::Date32].into_iter().find(|kind| fits(kind)).unwrap_or(DataType::Utf8)
}

fn is_written_so(value: &str, kind: &DataType) -> bool {
    ScalarValue::try_from_string(value.to_string(), kind).is_ok_and(|v| !v.is_null() && v.to_string() == value)
}

/// Declared columns are those of the folders, in this order, and their values are written as the type writes them.
fn check_declared(columns: &Columns, urls: &[ListingTableUrl], files: &[ObjectMeta]) -> Result<()> {
    for file in files {
        let folders = folders(urls, file);
        for (i, (name, kind)) in columns.iter().enumerate() {
            let Some((found, value)) = folders.get(i) else {
                return Err(invalid(format!("{} does not lie in a folder {name}=value", file.location)));
            };
            if found != name {
                return Err(invalid(format!("{} lies in a folder {found}=..., not {name}=...", file.location)));
            }
            let text = matches!(kind, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Dictionary(_, _));
            if !text && !is_written_so(value, kind) {
                let text = format!("{}: {value} is not how a value of type {kind} is written: declare {name} as VARCHAR", file.location);
                return Err(invalid(text));
            }
        }
    }
    Ok(())
}

/// Columns of folders stand before those of the same name in the files.
fn without_folders(schema: SchemaRef, columns: &Columns, kind: Kind, location: &Location) -> Result<SchemaRef> {
    let twice = |name: &str| columns.iter().any(|(column, _)| column == name);
    let Some(field) = schema.fields().iter().find(|f| twice(f.name())) else { return Ok(schema) };
    // These are read by position.
    if matches!(kind, Kind::Csv | Kind::Tsv | Kind::Arrow) {
        let text =
            format!("{}: column {} is in the files and in the names of folders: give no partition columns", location.text(), field.name());
        return Err(invalid(text));
    }
    let fields: Vec<_> = schema.fields().iter().filter(|f| !twice(f.name())).cloned().collect();
    Ok(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_the_type_that_writes_its_values_as_they_stand() {
        let of = |values: &[&str]| type_of(&values.iter().map(|v| v.to_string()).collect());
        assert_eq!(of(&["1", "2024", "-3"]), DataType::Int64);
        assert_eq!(of(&["01", "02"]), DataType::Utf8);
        assert_eq!(of(&["2024-06-01"]), DataType::Date32);
        assert_eq!(of(&["2024-6-1"]), DataType::Utf8);
        assert_eq!(of(&["1", "x"]), DataType::Utf8);
        assert_eq!(of(&["1", ""]), DataType::Utf8);
        assert_eq!(of(&["1", "__HIVE_DEFAULT_PARTITION__"]), DataType::Utf8);
    }
}
