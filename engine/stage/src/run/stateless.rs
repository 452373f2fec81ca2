//! A collect stage without state: what it makes of the rows of an epoch.

use super::Bound;
use super::chunk::Chunks;
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
use std::sync::atomic::{AtomicUsize, Ordering};

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
        let morsels = batches.iter().flat_map(|b| {
            let rows = b.num_rows();
            (0..rows).step_by(ROWS_AT_ONCE).map(move |at| b.slice(at, ROWS_AT_ONCE.min(rows - at)))
        });
        let morsels: Arc<Vec<RecordBatch>> = Arc::new(morsels.collect());
        let taken = Arc::new(AtomicUsize::new(0));
        // More hands than morsels would only wait.
        let idle = self.workers.split_off(self.workers.len().min(morsels.len()));
        let tasks = std::mem::take(&mut self.workers).into_iter().map(|mut worker| {
            let (morsels, taken) = (Arc::clone(&morsels), Arc::clone(&taken));
            let (inputs, schema) = (Arc::clone(&self.inputs), Arc::clone(&self.schema));
            self.pool.run(move || {
                let mut made = vec![];
                loop {
                    let at = taken.fetch_add(1, Ordering::Relaxed);
                    let Some(morsel) = morsels.get(at) else { return Ok((worker, made)) };
                    let Worker { chunks, reader, sink } = &mut worker;
                    chunks.block(&reader.block(morsel, &inputs)?, sink)?;
                    if let Some(block) = sink.take(&chunks.bound.program)? {
                        made.push((at, to_batch(&block, &schema)?));
                    }
                }
            })
        });
        let mut made = vec![];
        for (worker, batches) in futures::future::try_join_all(tasks).await? {
            self.workers.push(worker);
            made.extend(batches);
        }
        self.workers.extend(idle);
        made.sort_by_key(|(at, _)| *at);
        Ok(made.into_iter().map(|(_, batch)| batch).collect())
    }
}
