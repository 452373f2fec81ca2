//! Tables held in memory: `CACHE TABLE`, `UNCACHE TABLE` and their twins on [`Session`].

use crate::{Error, ErrorKind, Result, Session, Table};
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::Schema;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use millstream_stage::{ResidentProvider, ResidentTable};
use std::sync::Arc;

/// What a cached table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Its name.
    pub table: String,
    /// Number of rows.
    pub rows: usize,
    /// Bytes of memory, reserved in the session's pool until the table is uncached.
    pub bytes: usize,
}

/// A statement about cached tables.
pub(crate) enum CacheStatement {
    Cache { table: String },
    Uncache { table: String, if_exists: bool },
}

impl CacheStatement {
    /// The statement, or none when `sql` is another one.
    pub(crate) fn parse(ctx: &SessionContext, sql: &str) -> Result<Option<Self>> {
        let sql = sql.trim().trim_end_matches(';');
        let first = sql.split_whitespace().next().unwrap_or_default();
        if !first.eq_ignore_ascii_case("cache") && !first.eq_ignore_ascii_case("uncache") {
            return Ok(None);
        }
        let state = ctx.state();
        let Statement::Statement(parsed) = state.sql_to_statement(sql, &state.config_options().sql_parser.dialect)? else {
            return Ok(None);
        };
        match *parsed {
            ast::Statement::Cache { table_name, table_flag: None, options, query: None, .. } if options.is_empty() => {
                Ok(Some(Self::Cache { table: table_name.to_string() }))
            }
            ast::Statement::Cache { table_name, .. } => {
                let text = format!("CACHE TABLE takes a name and nothing else: create a view {table_name}, then CACHE TABLE {table_name}");
                Err(Error::new(ErrorKind::Unsupported, text))
            }
            ast::Statement::UNCache { table_name, if_exists } => Ok(Some(Self::Uncache { table: table_name.to_string(), if_exists })),
            _ => Ok(None),
        }
    }
}

impl Session {
    /// Loads table or view `name` into memory; queries then read it there. Later changes of its files are
    /// not seen. A table that is cached already stays as it is.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let session = millstream::Session::new()?;
    /// session.sql("create view t as select * from (values (1), (2)) v(a)").await?;
    /// assert_eq!(session.cache("t").await?.rows, 2);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` for an unknown table, with the nearest name; `Exhausted`, with the numbers, when the
    /// memory limit does not allow it; what reading the table raises.
    pub async fn cache(&self, name: &str) -> Result<Cached> {
        let original = self.provider(name).await?;
        let describe = |t: &ResidentTable| Cached { table: name.to_string(), rows: t.rows(), bytes: t.bytes() };
        if let Some(cached) = original.downcast_ref::<ResidentProvider>() {
            return Ok(describe(cached.table()));
        }
        let plan = self.context().read_table(Arc::clone(&original))?.create_physical_plan().await?;
        let table = ResidentTable::load(name, original.schema(), plan, self.context().task_ctx()).await?;
        let cached = describe(&table);
        self.replace(name, Arc::new(ResidentProvider::new(Arc::new(table), original)))?;
        Ok(cached)
    }

    /// Lets go of the memory of table `name`; queries read its files, or run its view, again. A table that
    /// is not cached stays as it is. A query that is running keeps the memory until it ends.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let session = millstream::Session::new()?;
    /// session.sql("create view t as select * from (values (1), (2)) v(a)").await?;
    /// session.cache("t").await?;
    /// session.uncache("t").await?;
    /// assert_eq!(session.context().runtime_env().memory_pool.reserved(), 0);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` for an unknown table, with the nearest name.
    pub async fn uncache(&self, name: &str) -> Result<()> {
        let provider = self.provider(name).await?;
        match provider.downcast_ref::<ResidentProvider>() {
            Some(cached) => self.replace(name, Arc::clone(cached.original())),
            None => Ok(()),
        }
    }

    pub(crate) async fn run_cache(&self, statement: CacheStatement) -> Result<Table> {
        let batch = match statement {
            CacheStatement::Cache { table } => {
                let cached = self.cache(&table).await?;
                let columns: [(&str, ArrayRef); 3] = [
                    ("table", Arc::new(StringArray::from(vec![cached.table]))),
                    ("rows", Arc::new(UInt64Array::from(vec![cached.rows as u64]))),
                    ("bytes", Arc::new(UInt64Array::from(vec![cached.bytes as u64]))),
                ];
                RecordBatch::try_from_iter(columns).map_err(datafusion::error::DataFusionError::from)?
            }
            CacheStatement::Uncache { table, if_exists } => {
                if !if_exists || self.context().table_exist(table.as_str())? {
                    self.uncache(&table).await?;
                }
                RecordBatch::new_empty(Arc::new(Schema::empty()))
            }
        };
        Ok(Table::new(self.context().read_batch(batch)?))
    }

    async fn provider(&self, name: &str) -> Result<Arc<dyn TableProvider>> {
        if self.context().table_exist(name)? {
            return Ok(self.context().table_provider(name).await?);
        }
        let table = TableReference::from(name);
        let nearest = self.tables().into_iter().min_by_key(|known| levenshtein(known, table.table()));
        let hint = nearest.map_or("no table is registered".to_string(), |n| format!("did you mean {n}?"));
        Err(Error::new(ErrorKind::Invalid, format!("there is no table {name}: {hint}")))
    }

    /// Names of the tables and views of the default catalog, in order.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let session = millstream::Session::new()?;
    /// session.sql("create table t as select 1 as a").await?;
    /// assert_eq!(session.tables(), ["t"]);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    pub fn tables(&self) -> Vec<String> {
        let default = self.context().state().config_options().catalog.default_catalog.clone();
        let catalog = self.context().catalog(&default);
        let schemas = catalog.iter().flat_map(|c| c.schema_names().into_iter().filter_map(move |s| c.schema(&s)));
        let mut names: Vec<String> = schemas.flat_map(|s| s.table_names()).collect();
        names.sort();
        names
    }
}
