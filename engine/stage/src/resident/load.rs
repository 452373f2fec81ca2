//! Loading a table into memory: row groups or partitions side by side, then column by column.

use super::ResidentTable;
use super::column::{Column, Stored};
use crate::context::{Pool, Settings};
use crate::convert::{Block, Reader};
use crate::run::see_through;
use crate::scan::ParquetScan;
use crate::{Error, ErrorKind, Result};
use arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::{StreamExt, TryStreamExt};
use std::sync::Arc;

impl ResidentTable {
    /// Runs `plan`, whose rows are those of a table of `schema`, and keeps them.
    ///
    /// # Errors
    /// `Exhausted`, with the numbers, when the session's memory limit does not allow it; what the plan
    /// raises.
    pub async fn load(name: &str, schema: SchemaRef, plan: Arc<dyn ExecutionPlan>, ctx: Arc<TaskContext>) -> Result<Self> {
        for (have, want) in plan.schema().fields().iter().zip(schema.fields()) {
            if have.data_type() != want.data_type() {
                let (c, have, want) = (want.name(), have.data_type(), want.data_type());
                return Err(Error::bug(format!("column {c} of {name} is {have}, not {want} as its table declares")));
            }
        }
        let settings = Settings::of(&ctx)?;
        let memory = Arc::new(Memory::of(name, &ctx));
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let parts = match row_groups(&plan, &all, &ctx, &settings.pool, &memory).await? {
            Some(parts) => parts,
            None => partitions(&plan, &all, &ctx, &settings.pool, &memory).await?,
        };
        let rows = parts.iter().map(|p| p.rows).sum();
        // One list of parts a column, so that its parts are dropped as soon as the column is there.
        let mut columns: Vec<Vec<Stored>> = all.iter().map(|_| Vec::with_capacity(parts.len())).collect();
        for part in parts {
            columns.iter_mut().zip(part.columns).for_each(|(c, v)| c.push(v));
        }
        let types: Vec<_> = schema.fields().iter().map(|f| f.data_type().clone()).collect();
        let work = columns.into_iter().zip(types).map(|(parts, t)| settings.pool.run(move || Column::new(parts, &t)));
        let columns: Vec<Column> = futures::stream::iter(work).buffered(settings.pool.threads()).try_collect().await?;
        memory.resize(columns.iter().map(|c| c.bytes).sum())?;
        let reservation = memory.reservation.split(memory.reservation.size());
        Ok(Self::new(name.to_string(), schema, rows, columns, reservation))
    }
}

/// Some rows of a table that is being loaded.
struct Part {
    columns: Vec<Stored>,
    rows: usize,
}

/// The bytes of a table that is being loaded.
struct Memory {
    name: String,
    limit: MemoryLimit,
    reservation: MemoryReservation,
}

impl Memory {
    fn of(name: &str, ctx: &TaskContext) -> Self {
        let pool = ctx.memory_pool();
        let reservation = MemoryConsumer::new(format!("cached table {name}")).register(pool);
        Self { name: name.to_string(), limit: pool.memory_limit(), reservation }
    }

    /// The rows of `block` in as few bytes as they need, which are counted.
    fn part(&self, block: Block) -> Result<Part> {
        let columns: Vec<Stored> = block.columns.into_iter().map(Stored::measured).collect();
        let more = columns.iter().map(Stored::bytes).sum();
        self.reservation.try_grow(more).map_err(|e| self.refused(self.reservation.size() + more, &e))?;
        Ok(Part { columns, rows: block.rows })
    }

    fn resize(&self, bytes: usize) -> Result<()> {
        self.reservation.try_resize(bytes).map_err(|e| self.refused(bytes, &e))
    }

    fn refused(&self, bytes: usize, e: &DataFusionError) -> Error {
        let limit = match self.limit {
            MemoryLimit::Finite(limit) => format!("and the memory limit is {limit}"),
            _ => "which the memory pool refuses".to_string(),
        };
        let (name, why) = (&self.name, e.strip_backtrace());
        let text =
            format!("cannot cache table {name}: it needs {bytes} bytes or more, {limit}; raise the limit or uncache another table ({why})");
        Error::new(ErrorKind::Exhausted, text)
    }
}

/// The row groups of a Parquet scan, straight into narrow types; none when `plan` is something else.
async fn row_groups(
    plan: &Arc<dyn ExecutionPlan>,
    columns: &[usize],
    ctx: &Arc<TaskContext>,
    pool: &Pool,
    memory: &Arc<Memory>,
) -> Result<Option<Vec<Part>>> {
    let leaf = see_through(plan).downcast_ref::<DataSourceExec>();
    let Some(scan) = leaf.and_then(|leaf| ParquetScan::of(leaf, columns, ctx)) else { return Ok(None) };
    let Some(groups) = scan.row_groups().await? else { return Ok(None) };
    let work = groups.into_iter().map(|group| async {
        let fetched = scan.fetch(group).await?;
        let memory = Arc::clone(memory);
        pool.run(move || {
            let mut parts = vec![];
            fetched.decode(|b| {
                parts.push(memory.part(b)?);
                Ok(())
            })?;
            Ok(parts)
        })
        .await
    });
    let parts: Vec<Vec<Part>> = futures::stream::iter(work).buffered(pool.threads()).try_collect().await?;
    Ok(Some(parts.into_iter().flatten().collect()))
}

/// All partitions of any other plan, polled at once; rows stay in the order of the partitions.
async fn partitions(
    plan: &Arc<dyn ExecutionPlan>,
    columns: &[usize],
    ctx: &Arc<TaskContext>,
    pool: &Pool,
    memory: &Arc<Memory>,
) -> Result<Vec<Part>> {
    let mut tasks = vec![];
    for p in 0..plan.output_partitioning().partition_count() {
        let mut stream = plan.execute(p, Arc::clone(ctx))?;
        let (columns, pool, memory) = (columns.to_vec(), pool.clone(), Arc::clone(memory));
        tasks.push(SpawnedTask::spawn(async move {
            let (mut parts, mut reader) = (vec![], Reader::default());
            while let Some(batch) = stream.next().await {
                let (batch, columns, memory) = (batch?, columns.clone(), Arc::clone(&memory));
                let part;
                (part, reader) = pool.run(move || Ok((memory.part(reader.block(&batch, &columns)?)?, reader))).await?;
                parts.push(part);
            }
            Ok::<_, Error>(parts)
        }));
    }
    let joined = tasks.into_iter().map(|t| async { t.join().await.map_err(|e| Error::bug(format!("a loading task ended: {e}")))? });
    Ok(futures::future::try_join_all(joined).await?.into_iter().flatten().collect())
}
