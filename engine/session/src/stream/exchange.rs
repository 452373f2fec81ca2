//! Between streams and tables.

use super::DataStream;
use super::streams::{Log, in_memory};
use crate::{Error, ErrorKind, Result, Session, Table};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session as Catalog, TableProvider};
use datafusion::datasource::{MemTable, TableType};
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use millstream_connect::{MemorySource, MemoryTable, UpsertTable};
use millstream_stream::{Driver, DriverOptions, SystemClock};
use std::sync::Arc;

impl Session {
    /// The rows of a table as a bounded stream: the table is run once, now, and its rows are held in memory.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let session = millstream::Session::new()?;
    /// let table = session.sql("select value as id from generate_series(1, 100) t(value)").await?;
    /// let stream = session.stream_of("numbers", table).await?;
    /// assert_eq!(stream.to_table().await?.collect().await?.iter().map(|b| b.num_rows()).sum::<usize>(), 100);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// What running the table raises; as [`Session::stream`].
    pub async fn stream_of(&self, name: &str, table: Table) -> Result<DataStream> {
        let source = MemorySource::new(name, table.schema(), 1);
        for batch in table.collect().await? {
            source.push(0, batch)?;
        }
        source.end()?;
        self.stream(source)
    }

    /// Registers a table that a job keeps up to date: a query sees the rows that are visible when it begins. A table of this
    /// name is replaced.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use millstream::streams::{Driver, DriverOptions, GeneratedSource, Log, SystemClock, UpsertTable, in_memory};
    /// use millstream::{Session, Window, col, count, lit};
    /// use std::{sync::Arc, time::Duration};
    /// let session = Session::new()?;
    /// let bids = session.stream(GeneratedSource::nexmark("bid")?.limit(10_000))?.event_time("date_time", Duration::ZERO)?;
    /// let counts = bids.key_by([col("auction")]).window(Window::tumble(Duration::from_secs(1))).aggregate([count(lit(1)).alias("bids")]).await?;
    /// let store = in_memory();
    /// let table = UpsertTable::open(store.clone(), "counts".into(), counts.schema()?, &["window_start", "auction"]).await?;
    /// session.register_upserts("counts", &table)?;
    /// let log = Log::new(store, "job".into());
    /// let job = counts.to(table.sink_per_epoch("counts")?)?;
    /// let mut driver = Driver::open(job, log, DriverOptions::default(), Arc::new(SystemClock::new())).await?;
    /// // A program would run it beside its queries.
    /// driver.run(10, || false).await?;
    /// let busiest = session.sql("select auction from counts order by bids desc limit 3").await?.collect().await?;
    /// assert_eq!(busiest[0].num_rows(), 3);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` when the name cannot be a table's.
    pub fn register_upserts(&self, name: &str, table: &UpsertTable) -> Result<()> {
        self.replace(name, Arc::new(Upserts(table.clone())))
    }
}

impl DataStream {
    /// The rows of a stream whose sources end, as a table: the job is run now, without checkpoints.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use millstream::{Session, Window, col, count, lit, streams::GeneratedSource};
    /// use std::time::Duration;
    /// let bids = Session::new()?.stream(GeneratedSource::nexmark("bid")?.limit(1_000))?;
    /// let counts = bids.event_time("date_time", Duration::ZERO)?.window(Window::tumble(Duration::from_millis(10)));
    /// let counts = counts.aggregate([count(lit(1)).alias("bids")]).await?.to_table().await?;
    /// assert!(counts.filter(col("bids").gt(lit(10)))?.collect().await?[0].num_rows() > 0);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` for a source to which files may come at any time; what source and operators raise.
    pub async fn to_table(self) -> Result<Table> {
        if let Some(input) = self.inputs.iter().find(|i| !i.source.is_bounded()) {
            let text = format!("`{}` does not end: a table is of a stream that does", input.source.name());
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let (session, schema, rows) = (self.session.clone(), self.schema()?, MemoryTable::default());
        let job = self.to(rows.sink("table"))?;
        let options = DriverOptions { checkpoint_ms: u64::MAX, ..DriverOptions::default() };
        let mut driver = Driver::open(job, Log::new(in_memory(), "table".into()), options, Arc::new(SystemClock::new())).await?;
        driver.run(1, || false).await?;
        let mut batches = rows.rows()?;
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(schema));
        }
        session.read_batches(batches)
    }
}

/// A table that changes between queries.
#[derive(Clone)]
struct Upserts(UpsertTable);

impl std::fmt::Debug for Upserts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upserts({})", self.0.schema())
    }
}

#[async_trait]
impl TableProvider for Upserts {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        catalog: &dyn Catalog,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let rows = self.0.rows().map_err(|e| DataFusionError::External(Box::new(Error::from(e))))?;
        MemTable::try_new(self.0.schema(), vec![vec![rows]])?.scan(catalog, projection, filters, limit).await
    }
}
