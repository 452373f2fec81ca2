//! Text files: read with columns that are found out and with columns that are given, with stages and without.

use crate::{bounded, lines, own_panics_abort, session};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use millstream::{Error, ErrorKind, ReadOptions, Session, count, ident, lit};
use std::sync::{Arc, LazyLock};
use tempfile::TempDir;

/// Both engines and the folder of the one file that they read.
static ENGINES: LazyLock<(Session, Session, TempDir)> =
    LazyLock::new(|| (session(true), session(false), tempfile::tempdir().expect("a folder")));

/// Reads `bytes` as a file with this ending.
pub fn read(ending: &str, bytes: &[u8]) {
    own_panics_abort();
    let (with, without, folder) = &*ENGINES;
    let name = format!("t.{ending}");
    let path = folder.path().join(&name);
    std::fs::write(&path, bytes).expect("a file");
    let path = path.to_string_lossy();
    for options in [ReadOptions::default(), given()] {
        let answers = bounded(async { (rows(with, &path, &options).await, rows(without, &path, &options).await) });
        let Some((ours, stock)) = answers else { continue };
        match (&ours, &stock) {
            (Ok(ours), Ok(stock)) => assert_eq!(ours, stock, "rows with stages and without, columns given: {}", options.schema.is_some()),
            (Err(e), Err(_)) => names(e, &name),
            _ => panic!("an error with stages or without them only: {ours:?} {stock:?}"),
        }
    }
}

/// Five columns, one of each kind of type that text is read into.
fn given() -> ReadOptions {
    let kinds = [DataType::Int64, DataType::Utf8View, DataType::Float64, DataType::Date32, DataType::Timestamp(TimeUnit::Nanosecond, None)];
    let fields: Vec<Field> = ["a", "b", "c", "d", "e"].into_iter().zip(kinds).map(|(name, kind)| Field::new(name, kind, true)).collect();
    ReadOptions { schema: Some(Arc::new(Schema::new(fields))), ..ReadOptions::default() }
}

/// All rows, and the groups of the first column.
async fn rows(session: &Session, path: &str, options: &ReadOptions) -> Result<Vec<String>, Error> {
    let table = session.read_with(path, options).await?;
    let mut out = lines(table.clone()).await?;
    if let Some(first) = table.schema().fields().first() {
        out.extend(lines(table.group_by([ident(first.name())], [count(lit(1)).alias("rows of the group")])?).await?);
    }
    Ok(out)
}

/// What the guide to files promises of an error.
fn names(e: &Error, file: &str) {
    assert!(matches!(e.kind(), ErrorKind::Invalid | ErrorKind::Corrupt | ErrorKind::Unsupported), "{:?}: {e}", e.kind());
    assert!(e.to_string().contains(file), "no file: {e}");
}
