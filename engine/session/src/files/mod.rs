//! Files as tables: what a path names, which kind of file it is, what its columns are, and errors that name
//! file, line and column.
//!
//! DataFusion lists, reads and writes; here is what it leaves open. A path travels so:
//!
//! ```text
//! text -> location.rs (file, folder, pattern) -> kind.rs (endings) -> listing.rs (columns, partitions) -> ListingTable
//! ```
//!
//! `format.rs` stands around each of DataFusion's formats and names files when columns are found out,
//! `named.rs` around each reader and names file, line and column when rows are read.

mod arrow_columns;
mod catalog;
mod copy;
mod format;
mod json_keys;
mod kind;
mod lines;
mod listing;
mod location;
mod named;
mod partitions;
mod quotes;

pub(crate) use catalog::{Paths, external_tables};
pub(crate) use copy::prepare;
pub(crate) use format::formats;
pub(crate) use named::NameFiles;

use crate::{Error, ErrorKind, Result, Session, Table};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::error::DataFusionError;
use object_store::{ObjectMeta, ObjectStore};
use std::sync::Arc;

/// How files are read. What is not said is found out from the files.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use millstream::ReadOptions;
/// let dir = tempfile::tempdir().unwrap();
/// let path = dir.path().join("sales.txt");
/// std::fs::write(&path, "shop;sold\nnorth;3\n").unwrap();
/// let session = millstream::Session::new()?;
/// let options = ReadOptions { format: Some("csv".into()), ..ReadOptions::default() }.option("delimiter", ";");
/// let table = session.read_with(&path.to_string_lossy(), &options).await?;
/// assert_eq!(table.schema().field(1).name(), "sold");
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// The kind of file, by one of the names that STORED AS takes; none: as the ending says.
    pub format: Option<String>,
    /// Options of the format, by the names that OPTIONS takes in SQL: `delimiter`, `has_header`, `compression`, ...
    pub options: Vec<(String, String)>,
    /// The columns in the files, without those of folders; none: found out.
    pub schema: Option<SchemaRef>,
    /// The columns that folders `name=value` are; none: found out, an empty list: there are none.
    pub partition_by: Option<Vec<(String, DataType)>>,
}

impl ReadOptions {
    /// With one more option of the format.
    ///
    /// ```
    /// let options = millstream::ReadOptions::default().option("has_header", "false");
    /// assert_eq!(options.options.len(), 1);
    /// ```
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.push((name.into(), value.into()));
        self
    }
}

/// How files are written.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use millstream::WriteOptions;
/// let dir = tempfile::tempdir().unwrap();
/// let session = millstream::Session::new()?;
/// let table = session.sql("select * from (values (1, 'a'), (2, 'b')) t(n, s)").await?;
/// let options = WriteOptions { format: Some("parquet".into()), partition_by: vec!["s".into()], ..WriteOptions::default() };
/// let folder = format!("{}/", dir.path().display());
/// assert_eq!(table.write_with(&folder, &options).await?, 2);
/// assert_eq!(session.read(&folder).await?.collect().await?.iter().map(|b| b.num_rows()).sum::<usize>(), 2);
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// The kind of file; none: as the ending says.
    pub format: Option<String>,
    /// Options of the format, by the names that OPTIONS takes in SQL: `compression`, `delimiter`, ...
    pub options: Vec<(String, String)>,
    /// Columns that become folders `name=value`.
    pub partition_by: Vec<String>,
}

impl Session {
    /// The rows of a file, of the files of a folder, or of those that a pattern matches; a path or a URL.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let dir = tempfile::tempdir().unwrap();
    /// std::fs::write(dir.path().join("a.csv"), "n\n1\n").unwrap();
    /// std::fs::write(dir.path().join("b.csv"), "n\n2\n").unwrap();
    /// let session = millstream::Session::new()?;
    /// let table = session.read(&format!("{}/*.csv", dir.path().display())).await?;
    /// assert_eq!(table.collect().await?.iter().map(|b| b.num_rows()).sum::<usize>(), 2);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` when it is not there, cannot be read, or the files do not fit together; the message names them.
    /// `Retry` when a server did not answer.
    pub async fn read(&self, path: &str) -> Result<Table> {
        self.read_with(path, &ReadOptions::default()).await
    }

    /// As [`Session::read`], with options.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use millstream::ReadOptions;
    /// let dir = tempfile::tempdir().unwrap();
    /// let path = dir.path().join("a.csv");
    /// std::fs::write(&path, "1,x\n").unwrap();
    /// let options = ReadOptions::default().option("has_header", "false");
    /// let table = millstream::Session::new()?.read_with(&path.to_string_lossy(), &options).await?;
    /// assert_eq!(table.schema().field(0).name(), "column_1");
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Session::read`]; `Invalid` for an option that the format does not have.
    pub async fn read_with(&self, path: &str, options: &ReadOptions) -> Result<Table> {
        let table = listing::table(&self.context().state(), path, options).await?;
        Ok(Table::new(self.context().read_table(table)?))
    }

    /// Registers a file, a folder or a pattern as table `name`; a table of this name is replaced. Queries see
    /// files that come to a folder later.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let session = millstream::Session::new()?;
    /// let error = session.register("t", "no/such/file.parquet").await.unwrap_err();
    /// assert!(error.to_string().contains("no/such/file.parquet"));
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Session::read`].
    pub async fn register(&self, name: &str, path: &str) -> Result<()> {
        self.register_with(name, path, &ReadOptions::default()).await
    }

    /// As [`Session::register`], with options.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use millstream::ReadOptions;
    /// let dir = tempfile::tempdir().unwrap();
    /// let path = dir.path().join("a.csv");
    /// std::fs::write(&path, "a|b\n1|x\n").unwrap();
    /// let session = millstream::Session::new()?;
    /// session.register_with("t", &path.to_string_lossy(), &ReadOptions::default().option("delimiter", "|")).await?;
    /// assert_eq!(session.sql("select a from t where b = 'x'").await?.collect().await?[0].num_rows(), 1);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Session::read_with`].
    pub async fn register_with(&self, name: &str, path: &str, options: &ReadOptions) -> Result<()> {
        let table = listing::table(&self.context().state(), path, options).await;
        let named = |e: Error| Error::new(e.kind(), format!("table {name}: {e}"));
        self.replace(name, table.map_err(|e| named(e.into()))?)
    }
}

impl Table {
    /// Writes the rows to a file, or to files in a folder where `path` ends in `/`; gives their number. A file
    /// that is there is replaced, files in a folder stay beside the new ones.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let dir = tempfile::tempdir().unwrap();
    /// let path = dir.path().join("out.csv.gz").to_string_lossy().into_owned();
    /// let session = millstream::Session::new()?;
    /// assert_eq!(session.sql("select 1 as a").await?.write(&path).await?, 1);
    /// assert_eq!(session.read(&path).await?.schema().field(0).name(), "a");
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// What the query raises; `Invalid` when the place cannot be written; `Unsupported` for a kind that is only read.
    pub async fn write(self, path: &str) -> Result<u64> {
        self.write_with(path, &WriteOptions::default()).await
    }

    /// As [`Table::write`], with options.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use millstream::WriteOptions;
    /// let dir = tempfile::tempdir().unwrap();
    /// let path = dir.path().join("out.txt").to_string_lossy().into_owned();
    /// let options = WriteOptions { format: Some("csv".into()), options: vec![("delimiter".into(), ";".into())], ..Default::default() };
    /// millstream::Session::new()?.sql("select 1 as a, 2 as b").await?.write_with(&path, &options).await?;
    /// assert_eq!(std::fs::read_to_string(&path).unwrap(), "a;b\n1;2\n");
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Table::write`]; `Invalid` for an option that the format does not have.
    pub async fn write_with(self, path: &str, options: &WriteOptions) -> Result<u64> {
        copy::write(self, path, options).await
    }
}

/// What users call a file of this store.
pub(crate) fn name_in(store: &Arc<dyn ObjectStore>, file: &ObjectMeta) -> String {
    let place = store.to_string();
    if place.starts_with("LocalFileSystem") { format!("/{}", file.location) } else { format!("{} in {place}", file.location) }
}

/// Wrong data or a wrong request: tell the user.
pub(crate) fn invalid(message: impl std::fmt::Display) -> DataFusionError {
    Error::new(ErrorKind::Invalid, message).into()
}

/// Nothing that is done here.
pub(crate) fn unsupported(message: impl std::fmt::Display) -> DataFusionError {
    Error::new(ErrorKind::Unsupported, message).into()
}
