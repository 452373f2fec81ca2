//! Embeds every suite: `suites/<name>/suite.json` with its SQL, and the answers under `answers/<name>/sf<scale>/`:
//! `<id>.parquet` with all rows, or `<id>.json` with a digest of them.
//!
//! A new suite is a new folder, a new scale of answers is a new folder: nothing else lists them.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// `suite.json`: what the SQL text does not tell. The same file is read by `answers/make` and `compare/run`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuiteFile {
    /// The scale where none is asked for.
    scale: f64,
    /// The tables that the queries read, each one `<table>.parquet`.
    tables: Vec<String>,
    /// In the order in which they run; the text is `<id>.sql`.
    queries: Vec<QueryFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QueryFile {
    id: String,
    order_by: Vec<SortKeyFile>,
    limit: Option<usize>,
    /// Columns of the result, from 0.
    #[serde(default)]
    statistics: Vec<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SortKeyFile {
    /// Position in the result, from 0.
    column: usize,
    #[serde(default)]
    descending: bool,
    #[serde(default)]
    nulls_first: bool,
}

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script its folders so")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=suites");
    println!("cargo::rerun-if-changed=answers");
    let mut code = String::from("static SUITES: &[Suite] = &[\n");
    for folder in sorted_entries(Path::new("suites"))? {
        suite(&mut code, &folder)?;
    }
    code.push_str("];\n");
    fs::write(PathBuf::from(std::env::var("OUT_DIR")?).join("suites.rs"), code)?;
    Ok(())
}

/// Writes the `Suite` of one folder.
fn suite(code: &mut String, folder: &Path) -> Result<(), Box<dyn Error>> {
    let name = file_name(folder);
    let definition = folder.join("suite.json");
    let text = fs::read_to_string(&definition).map_err(|e| format!("cannot read {}: {e}", definition.display()))?;
    let suite: SuiteFile = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", definition.display()))?;
    writeln!(code, "Suite {{ name: {name:?}, scale: {:?}, tables: &{:?}, queries: &[", suite.scale, suite.tables)?;
    for query in &suite.queries {
        let sql = folder.join(format!("{}.sql", query.id));
        let keys: Vec<String> = query
            .order_by
            .iter()
            .map(|SortKeyFile { column, descending, nulls_first }| {
                format!("SortKey {{ column: {column}, descending: {descending}, nulls_first: {nulls_first} }}")
            })
            .collect();
        writeln!(
            code,
            "Query {{ id: {:?}, sql: include_str!({}), order_by: &[{}], limit: {:?}, statistics: &{:?} }},",
            query.id,
            embedded(&sql),
            keys.join(", "),
            query.limit,
            query.statistics
        )?;
    }
    code.push_str("], answers: &[\n");
    let answers = Path::new("answers").join(&name);
    if answers.is_dir() {
        for scale in sorted_entries(&answers)? {
            answers_of_scale(code, &suite, &scale)?;
        }
    }
    code.push_str("] },\n");
    Ok(())
}

/// Writes the answers of one scale, those that exist.
fn answers_of_scale(code: &mut String, suite: &SuiteFile, folder: &Path) -> Result<(), Box<dyn Error>> {
    let name = file_name(folder);
    let scale: f64 = name
        .strip_prefix("sf")
        .and_then(|scale| scale.parse().ok())
        .ok_or_else(|| format!("{} is not named sf<scale>", folder.display()))?;
    writeln!(code, "(f64::from_bits({}), &[", scale.to_bits())?;
    for query in &suite.queries {
        let file = |kind: &str| folder.join(format!("{}.{kind}", query.id));
        let (rows, digest) = (file("parquet"), file("json"));
        match (rows.is_file(), digest.is_file()) {
            (true, true) => return Err(format!("{} and {} are both there: keep one", rows.display(), digest.display()).into()),
            (true, false) => writeln!(code, "({:?}, Stored::Rows(include_bytes!({}))),", query.id, embedded(&rows))?,
            (false, true) => writeln!(code, "({:?}, Stored::Digest(include_str!({}))),", query.id, embedded(&digest))?,
            (false, false) => {}
        }
    }
    code.push_str("]),\n");
    Ok(())
}

/// A file of this package, as the compiler finds it: a build folder may outlive the checkout that filled it.
fn embedded(path: &Path) -> String {
    format!("concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/\", {path:?})")
}

/// The folders in a folder, by name.
fn sorted_entries(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| format!("cannot list {}: {e}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
