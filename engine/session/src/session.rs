//! A session: catalog, settings, one pool.

use crate::accelerate::with_stages;
use crate::cache::CacheStatement;
use crate::{Error, ErrorKind, Result, Table};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool, UnboundedMemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{CsvReadOptions, JsonReadOptions, ParquetReadOptions, SessionConfig, SessionContext};
use millstream_kernels::gpu::CapabilityClass;
use millstream_plan::{Preference, Rules};
use millstream_stage::{Pool, Settings};
use std::path::Path;
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
}

impl Default for Options {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, stages: true, device: Preference::Auto, memory_limit_bytes: None }
    }
}

/// Answers SQL over registered tables.
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
    /// # Errors
    /// As [`Session::new`].
    pub fn with_options(options: Options) -> Result<Self> {
        let pool = Pool::new(options.threads)?;
        let settings = Settings { pool, checked: true, gpu: CapabilityClass::All };
        let mut config =
            SessionConfig::new().with_target_partitions(options.threads).with_information_schema(true).with_extension(Arc::new(settings));
        config.options_mut().execution.parquet.pushdown_filters = !options.stages;
        let memory: Arc<dyn MemoryPool> = match options.memory_limit_bytes {
            Some(limit) => Arc::new(FairSpillPool::new(limit)),
            None => Arc::new(UnboundedMemoryPool::default()),
        };
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(memory).build_arc()?;
        let mut builder = SessionStateBuilder::new().with_default_features().with_config(config).with_runtime_env(runtime);
        if options.stages {
            builder = with_stages(builder, Rules { checked: true, prefer: options.device });
        }
        Ok(Self { ctx: SessionContext::new_with_state(builder.build()), options })
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The DataFusion session underneath.
    pub fn context(&self) -> &SessionContext {
        &self.ctx
    }

    /// Registers a file or folder (Parquet, CSV, NDJSON by its ending) as table `name`.
    ///
    /// # Errors
    /// `Invalid` when it is not there or cannot be read; the message names it.
    pub async fn register(&self, name: &str, path: &str) -> Result<()> {
        let local = Path::new(path);
        if !path.contains("://") && !local.exists() {
            return Err(Error::new(ErrorKind::Invalid, format!("table {name}: no file or folder {path}")));
        }
        let named = |e| Error::new(ErrorKind::Invalid, format!("table {name}: cannot read {path}: {}", Error::from(e)));
        let ending = local.extension().and_then(|e| e.to_str()).unwrap_or("parquet").to_ascii_lowercase();
        match ending.as_str() {
            "csv" => self.ctx.register_csv(name, path, CsvReadOptions::new()).await.map_err(named),
            "json" | "ndjson" | "jsonl" => {
                let ending = format!(".{ending}");
                self.ctx.register_json(name, path, JsonReadOptions::default().file_extension(&ending)).await.map_err(named)
            }
            _ => self.ctx.register_parquet(name, path, ParquetReadOptions::default()).await.map_err(named),
        }
    }

    /// Plans a SQL query. Statements that define something take effect at once, and so do `CACHE TABLE t`
    /// and `UNCACHE TABLE t`.
    ///
    /// # Errors
    /// `Invalid` with the position of a syntax error, or the nearest name of an unknown column.
    pub async fn sql(&self, sql: &str) -> Result<Table> {
        if let Some(statement) = CacheStatement::parse(&self.ctx, sql)? {
            return self.run_cache(statement).await;
        }
        Ok(Table::new(self.ctx.sql(sql).await?))
    }
}
