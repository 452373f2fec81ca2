//! A collect stage without state: what it makes of the rows of an epoch.

use super::Bound;
use super::chunk::Chunks;
use super::deal::deal;
use super::sink::RowsSink;
use crate::context::{Cancel, Pool, Settings};
use crate::convert::{Reader, to_batch};
use crate::exec::StageExec;
use crate::program::Sink;
use crate::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;

/// Rows that a worker takes at a time: what it makes of them stays in its cache.
const ROWS_AT_ONCE: usize = 16 * 1024;

/// Filters and projections of rows that come epoch by epoch, all of them in one pass.
pub struct RowStage {
    /// The columns of the rows that the program reads.
    inputs: Arc<Vec<usize>>,
    schema: SchemaRef,
    pool: Pool,
    workers: Vec<Worker>,
}

struct Worker {
    chunks: Chunks,
    reader: Reader,
    sink: RowsSink,
}

impl RowStage {
    /// The program of `stage`, which collects rows. They will come with the columns `input`, in which the stage's are found
    /// by name.
    ///
    /// # Errors
    /// `Unsupported` for a stage that does more.
    pub fn new(stage: &StageExec, input: &SchemaRef, settings: &Settings) -> Result<Self> {
        if !matches!(stage.sink(), Sink::Collect { .. }) || !stage.builds().is_empty() || stage.subqueries().is_some() {
            return Err(Error::unsupported("rows of an epoch are filtered and projected here, and no more"));
        }
        let program = Arc::clone(stage.program());
        let stage_input = stage.input().schema();
        let inputs = program.inputs.iter().map(|i| Ok(input.index_of(stage_input.field(*i).name())?)).collect::<Result<Vec<_>>>()?;
        let bound = Arc::new(Bound::new(Arc::clone(&program), vec![])?);
        let worker = |_| Worker {
            chunks: Chunks::new(Arc::clone(&bound), Cancel::default()),
            reader: Reader::default(),
            sink: RowsSink::new(&program, stage.sink().reads()),
        };
        let workers = (0..settings.pool.threads()).map(worker).collect();
        Ok(Self { inputs: Arc::new(inputs), schema: stage.schema(), pool: settings.pool.clone(), workers })
    }

    /// The columns of its rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What becomes of `batches`, in their order.
    ///
    /// # Errors
    /// What the program raises.
    pub async fn rows(&mut self, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let (inputs, schema) = (Arc::clone(&self.inputs), Arc::clone(&self.schema));
        let made = deal(&self.pool, &mut self.workers, &batches, ROWS_AT_ONCE, move |Worker { chunks, reader, sink }, morsel| {
            chunks.block(&reader.block(morsel, &inputs)?, sink)?;
            sink.take(&chunks.bound.program)?.map(|block| to_batch(&block, &schema)).transpose()
        });
        Ok(made.await?.into_iter().flatten().collect())
    }
}
