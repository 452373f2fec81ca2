//! Writing: what COPY leaves to the ending of its target, and `Table::write`.

use super::kind::{Ending, Kind, compression_name};
use super::{WriteOptions, invalid, unsupported};
use crate::error::guarded;
use crate::{Error, Table};
use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use datafusion::common::parsers::CompressionTypeVariant as Compression;
use datafusion::datasource::file_format::format_as_file_type;
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::DataFrame;
use datafusion::sql::parser::{CopyToStatement, Statement};
use datafusion::sql::sqlparser::ast::Value;
use std::collections::HashMap;

/// Fills in what a statement about files leaves open, and refuses kinds that there are not.
///
/// # Errors
/// `Unsupported` for an unknown kind, `Invalid` where none is said.
pub(crate) fn prepare(statement: &mut Statement) -> Result<()> {
    match statement {
        Statement::Explain(explain) => prepare(&mut explain.statement),
        Statement::CopyTo(copy) => prepare_copy(copy),
        Statement::CreateExternalTable(create) => {
            // DataFusion takes this option of Parquet for the compression of whole files, and refuses it.
            if named(&create.file_type)? == Kind::Parquet {
                let names = create.options.iter_mut().map(|(name, _)| name);
                names.filter(|name| is_compression(name)).for_each(|name| *name = WITHIN.into());
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn is_compression(option: &str) -> bool {
    ["compression", "format.compression"].contains(&option.to_lowercase().as_str())
}

/// The compression within Parquet files, in the options of an external table.
pub(super) const WITHIN: &str = "within.compression";

fn prepare_copy(copy: &mut CopyToStatement) -> Result<()> {
    let (name, compression) = target(&copy.target, copy.stored_as.as_deref())?;
    copy.stored_as = Some(name);
    if let Some(compression) = compression.filter(|_| !copy.options.iter().any(|(name, _)| is_compression(name))) {
        copy.options.push(("compression".into(), Value::SingleQuotedString(compression.into())));
    }
    Ok(())
}

fn named(name: &str) -> Result<Kind> {
    Kind::named(name).ok_or_else(|| unsupported(format!("{name} is no kind of file: there are {}", Kind::list())))
}

/// The format of what is written to `path`, and how it is compressed where its ending says so.
fn target(path: &str, format: Option<&str>) -> Result<(String, Option<&'static str>)> {
    if path.starts_with("http") && path.contains("://") {
        return Err(unsupported(format!("{path}: http is only read")));
    }
    if path.contains(['*', '?']) {
        return Err(invalid(format!("{path} is a pattern: write to a file, or to a folder with / at its end")));
    }
    let ending = Ending::of(path);
    let name = match (format, &ending) {
        (Some(format), _) => {
            named(format)?;
            format.to_lowercase()
        }
        (None, Some(ending)) => ending.name.to_string(),
        (None, None) => {
            let text = format!("{path}: the ending does not say what to write: name a format (STORED AS), one of {}", Kind::list());
            return Err(invalid(text));
        }
    };
    let compressed = ending.filter(|e| e.compression != Compression::UNCOMPRESSED);
    match compressed {
        Some(e) if !named(&name)?.is_text() => {
            Err(unsupported(format!("{path}: {name} is compressed within, not as a whole ({})", e.suffix)))
        }
        compressed => Ok((name, compressed.map(|e| compression_name(e.compression)))),
    }
}

/// Writes the rows of a table; gives their number.
pub(crate) async fn write(table: Table, path: &str, options: &WriteOptions) -> crate::Result<u64> {
    let (state, plan) = table.into_frame().into_parts();
    let (name, compression) = target(path, options.format.as_deref())?;
    let mut settings: HashMap<String, String> = compression.map(|c| ("format.compression".into(), c.into())).into_iter().collect();
    for (option, value) in &options.options {
        let option = option.to_lowercase();
        settings.insert(if option.contains('.') { option } else { format!("format.{option}") }, value.clone());
    }
    let factory = state.get_file_format_factory(&name).ok_or_else(|| unsupported(format!("{name} is not written here")))?;
    let known = plan.schema().columns();
    if let Some(missing) = options.partition_by.iter().find(|c| !known.iter().any(|k| k.name == **c)) {
        return Err(invalid(format!("{path}: there is no column {missing} to partition by")).into());
    }
    let plan = LogicalPlanBuilder::copy_to(plan, path.into(), format_as_file_type(factory), settings, options.partition_by.clone())?;
    let frame = DataFrame::new(state, plan.build()?);
    let rows = guarded(async { frame.collect().await.map_err(Error::from) }).await?;
    Ok(rows.iter().filter(|b| b.num_rows() > 0).map(|b| b.column(0).as_primitive::<UInt64Type>().value(0)).sum())
}
