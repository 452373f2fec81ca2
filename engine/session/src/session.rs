//! A session: catalog, settings, one pool.

use crate::accelerate::{with_checked, with_named_files, with_stages};
use crate::cache::CacheStatement;
use crate::error::guarded;
use crate::machine::machine_of;
use crate::stores::{StoreOptions, Stores};
use crate::{Error, ErrorKind, MachineProfile, Result, Table, files, once};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::cache::cache_manager::CacheManagerConfig;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool, UnboundedMemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::{FutureExt, Stream};
use millstream_kernels::gpu::CapabilityClass;
use millstream_plan::{Preference, Rules};
use millstream_stage::{Pool, Settings};
use std::sync::Arc;

/// How a session runs its queries.
///
/// ```
/// let options = millstream::Options { threads: 2, ..Default::default() };
/// let session = millstream::Session::with_options(options)?;
/// # Ok::<(), millstream::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// CPU threads of the pool that all stages share, and partitions of stock operators.
    pub threads: usize,
    /// Off: stock DataFusion answers, for comparison.
    pub stages: bool,
    /// Which devices may be chosen.
    pub device: Preference,
    /// Bytes that queries may hold; none: no limit.
    pub memory_limit_bytes: Option<usize>,
    /// Bytes of a GPU's memory that may be used; columns of tables in memory stay there as far as it goes. None: stages take
    /// what there is, and 1 GiB of columns stays, 4 GiB on a card of its own. The sessions of a process share the device: the
    /// stage that begins last sets it.
    pub gpu_memory_bytes: Option<u64>,
    /// How object stores are reached.
    pub stores: StoreOptions,
    /// What the stages are priced by; none: `auto` is the CPU, and EXPLAIN has no estimates.
    pub profile: Option<Arc<MachineProfile>>,
    /// The profile is another machine's: EXPLAIN says where stages would run there, and they run on the CPU here.
    pub recorded: bool,
}

impl Default for Options {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let stores = StoreOptions::default();
        Self {
            threads,
            stages: true,
            device: Preference::Auto,
            memory_limit_bytes: None,
            gpu_memory_bytes: None,
            stores,
            profile: None,
            recorded: false,
        }
    }
}

/// Answers SQL and [`Table`] expressions over registered tables. Clones share the catalog and the pool;
/// queries may run at the same time.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let session = millstream::Session::new()?;
/// let rows = session.sql("select 6 * 7").await?.collect().await?;
/// assert_eq!(rows[0].num_rows(), 1);
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Session {
    ctx: SessionContext,
    options: Options,
}

impl Session {
    /// A session with the default options.
    ///
    /// ```
    /// let session = millstream::Session::new()?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Exhausted` when the system has no threads for the pool.
    pub fn new() -> Result<Self> {
        Self::with_options(Options::default())
    }

    /// A session with these options.
    ///
    /// ```
    /// let options = millstream::Options { memory_limit_bytes: Some(1 << 30), ..Default::default() };
    /// let session = millstream::Session::with_options(options)?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn with_options(options: Options) -> Result<Self> {
        let pool = Pool::new(options.threads)?;
        let settings = Settings { pool, checked: true, gpu: CapabilityClass::All, gpu_memory_bytes: options.gpu_memory_bytes };
        let mut config =
            SessionConfig::new().with_target_partitions(options.threads).with_information_schema(true).with_extension(Arc::new(settings));
        let machine = machine_of(&options);
        if let Some(machine) = &machine {
            config = config.with_extension(Arc::clone(machine));
        }
        config.options_mut().execution.parquet.pushdown_filters = !options.stages;
        // It drops row groups by statistics that leave NaN out, which is greatest.
        config.options_mut().optimizer.enable_topk_dynamic_filter_pushdown = false;
        let memory: Arc<dyn MemoryPool> = match options.memory_limit_bytes {
            Some(limit) => Arc::new(FairSpillPool::new(limit)),
            None => Arc::new(UnboundedMemoryPool::default()),
        };
        // A query sees the files that are there now: no list of them is kept.
        let cache = CacheManagerConfig::default().with_list_files_cache_limit(0);
        let stores = Arc::new(Stores::new(options.stores.clone()));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(memory).with_cache_manager(cache).with_object_store_registry(stores);
        let mut builder = SessionStateBuilder::new().with_default_features().with_config(config).with_runtime_env(runtime.build_arc()?);
        builder = builder.with_file_formats(files::formats()).with_table_factories(files::external_tables());
        builder = with_checked(builder);
        if options.stages {
            let limited = options.memory_limit_bytes.is_some();
            builder = with_stages(builder, Rules { checked: true, limited, prefer: options.device, machine });
        }
        let ctx = SessionContext::new_with_state(with_named_files(builder).build());
        files::Paths::install(&ctx)?;
        Ok(Self { ctx, options })
    }

    /// The options it was made with.
    ///
    /// ```
    /// assert!(millstream::Session::new()?.options().stages);
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The DataFusion session underneath: for functions of your own, object stores, catalogs.
    ///
    /// ```
    /// let session = millstream::Session::new()?;
    /// assert!(session.context().state().aggregate_functions().contains_key("median"));
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn context(&self) -> &SessionContext {
        &self.ctx
    }

    /// Registers Arrow batches as table `name`; a table of this name is replaced.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    /// use std::sync::Arc;
    /// let a: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    /// let session = millstream::Session::new()?;
    /// session.register_batches("t", vec![RecordBatch::try_from_iter([("a", a)]).unwrap()])?;
    /// assert_eq!(session.sql("select a from t where a > 1").await?.collect().await?[0].num_rows(), 2);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` without a batch, or when batches differ in their columns.
    pub fn register_batches(&self, name: &str, batches: Vec<RecordBatch>) -> Result<()> {
        let schema = once::shared_schema(name, &batches)?;
        self.replace(name, self.in_memory(schema, batches)?)
    }

    /// Arrow batches as a table without a name.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    /// use std::sync::Arc;
    /// let a: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    /// let table = millstream::Session::new()?.read_batches(vec![RecordBatch::try_from_iter([("a", a)]).unwrap()])?;
    /// assert_eq!(table.limit(2)?.collect().await?[0].num_rows(), 2);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Session::register_batches`].
    pub fn read_batches(&self, batches: Vec<RecordBatch>) -> Result<Table> {
        let schema = once::shared_schema("of batches", &batches)?;
        Ok(Table::new(self.ctx.read_table(self.in_memory(schema, batches)?)?))
    }

    /// Neighbours stay together, so that rows that are only read keep their order.
    fn in_memory(&self, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<Arc<dyn TableProvider>> {
        let share = batches.len().div_ceil(self.options.threads.max(1)).max(1);
        let partitions = batches.chunks(share).map(<[RecordBatch]>::to_vec).collect();
        Ok(Arc::new(MemTable::try_new(schema, partitions)?))
    }

    /// Registers a table expression as view `name`: it runs whenever the view is queried. A table of this name is
    /// replaced.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use millstream::{col, lit};
    /// let session = millstream::Session::new()?;
    /// let large = session.sql("select * from (values (1), (5)) t(a)").await?.filter(col("a").gt(lit(2)))?;
    /// session.register_view("large", large)?;
    /// assert_eq!(session.sql("select a from large").await?.collect().await?[0].num_rows(), 1);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` when the name cannot be a table's.
    pub fn register_view(&self, name: &str, table: Table) -> Result<()> {
        self.replace(name, table.into_frame().into_view())
    }

    /// Lets go of table or view `name`; says whether there was one. Queries that are running keep it until they end.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let session = millstream::Session::new()?;
    /// session.sql("create table t as select 1 as a").await?;
    /// assert!(session.deregister("t")? && !session.deregister("t")?);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` when the name cannot be a table's.
    pub fn deregister(&self, name: &str) -> Result<bool> {
        Ok(self.ctx.deregister_table(name)?.is_some())
    }

    /// Registers a bounded stream of batches as table `name`. It is read once: a second query over it, or
    /// a query that names it twice, fails and says so.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    /// use std::sync::Arc;
    /// let a: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    /// let batch = RecordBatch::try_from_iter([("a", a)]).unwrap();
    /// let session = millstream::Session::new()?;
    /// let stream = futures::stream::iter([Ok::<_, std::io::Error>(batch.clone())]);
    /// session.register_stream("s", batch.schema(), stream)?;
    /// assert_eq!(session.sql("select * from s").await?.collect().await?[0].num_rows(), 3);
    /// assert!(session.sql("select * from s").await?.collect().await.is_err());
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` when the name cannot be a table's. A batch of other columns, and what the stream raises,
    /// fail the query that reads it.
    pub fn register_stream<E>(
        &self,
        name: &str,
        schema: SchemaRef,
        stream: impl Stream<Item = std::result::Result<RecordBatch, E>> + Send + 'static,
    ) -> Result<()>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.replace(name, Arc::new(once::table(name, schema, stream)?))
    }

    pub(crate) fn replace(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        self.ctx.deregister_table(name)?;
        self.ctx.register_table(name, table)?;
        Ok(())
    }

    /// The registered table `name`.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let session = millstream::Session::new()?;
    /// session.sql("create table t as select 1 as a").await?;
    /// assert_eq!(session.table("t")?.schema().field(0).name(), "a");
    /// assert!(session.table("u").is_err());
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` when there is no such table; `Unsupported` for a catalog that answers only later: use SQL there.
    pub fn table(&self, name: &str) -> Result<Table> {
        let later = || Error::new(ErrorKind::Unsupported, format!("table {name} is in a catalog that answers later: query it with sql"));
        Ok(Table::new(self.ctx.table(name).now_or_never().ok_or_else(later)??))
    }

    /// Plans a SQL query. Statements that define something take effect at once, and so do `CACHE TABLE t`
    /// and `UNCACHE TABLE t`.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let session = millstream::Session::new()?;
    /// let error = session.sql("select 1 frm t").await.unwrap_err();
    /// assert!(error.to_string().contains("Line: 1"));
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` with the position of a syntax error, or the nearest name of an unknown column.
    pub async fn sql(&self, sql: &str) -> Result<Table> {
        guarded(async {
            if let Some(statement) = CacheStatement::parse(&self.ctx, sql)? {
                return self.run_cache(statement).await;
            }
            let state = self.ctx.state();
            let mut statement = state.sql_to_statement(sql, &state.config_options().sql_parser.dialect)?;
            files::prepare(&mut statement)?;
            let plan = state.statement_to_plan(statement).await?;
            Ok(Table::new(self.ctx.execute_logical_plan(plan).await?))
        })
        .await
    }
}
