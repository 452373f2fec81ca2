//! What stands between source and sink.

use crate::{Error, ErrorKind, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_stage::{Pool, WindowStage};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What an operator makes of the rows of an epoch.
#[derive(Debug, Default)]
pub struct Rows {
    /// For the next operator.
    pub out: Vec<RecordBatch>,
    /// Those that came too late, as they came.
    pub late: Vec<RecordBatch>,
}

/// What an operator is restored from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorState {
    /// The begin of the first window that is not closed.
    pub first_open: Option<i64>,
}

/// A step of a pipeline. It lives as long as the driver and keeps its state in memory; checkpoints hold what is
/// needed to make it again.
#[async_trait]
pub trait Operator: Send {
    /// Stable within a job: its state is found by it.
    fn id(&self) -> &str;

    /// The columns of its rows.
    fn schema(&self) -> SchemaRef;

    /// Takes the rows of an epoch.
    ///
    /// # Errors
    /// What the data raises.
    async fn rows(&mut self, batches: Vec<RecordBatch>) -> Result<Rows>;

    /// No row earlier than `watermark` will count as on time: some of the rows that are due. Called again until none come.
    ///
    /// # Errors
    /// What the data raises.
    async fn advance(&mut self, watermark: i64) -> Result<Vec<RecordBatch>>;

    /// What changed since the last checkpoint, or everything: rows of state, and what is beside them.
    ///
    /// # Errors
    /// What the data raises.
    async fn checkpoint(&mut self, whole: bool) -> Result<(OperatorState, Vec<RecordBatch>)>;

    /// Begins with what checkpoints hold, in their order.
    ///
    /// # Errors
    /// `Corrupt` for state of another operator.
    fn restore(&mut self, state: &OperatorState, rows: &[RecordBatch]) -> Result<()>;

    /// Bytes of state in memory.
    fn size(&self) -> usize;

    /// Whether it tells late rows.
    fn is_timed(&self) -> bool {
        false
    }

    /// Rows so far that some of their windows missed.
    fn partly_late(&self) -> u64 {
        0
    }

    /// What its state depends on: a job is restored only where it is the same.
    fn fingerprint(&self) -> String;
}

/// Groups by window and key.
pub struct WindowOperator {
    id: String,
    stage: WindowStage,
    text: String,
}

impl WindowOperator {
    /// The operator `id` of the windows `stage`; `text` says what they compute, of which rows: a checkpoint of other
    /// text is not taken.
    pub fn new(id: impl Into<String>, stage: WindowStage, text: impl Into<String>) -> Self {
        Self { id: id.into(), stage, text: text.into() }
    }
}

#[async_trait]
impl Operator for WindowOperator {
    fn id(&self) -> &str {
        &self.id
    }

    fn schema(&self) -> SchemaRef {
        self.stage.schema().clone()
    }

    async fn rows(&mut self, batches: Vec<RecordBatch>) -> Result<Rows> {
        Ok(Rows { out: vec![], late: self.stage.rows(batches).await? })
    }

    async fn advance(&mut self, watermark: i64) -> Result<Vec<RecordBatch>> {
        Ok(self.stage.advance(watermark).await?)
    }

    async fn checkpoint(&mut self, whole: bool) -> Result<(OperatorState, Vec<RecordBatch>)> {
        let rows = self.stage.checkpoint(whole).await?;
        Ok((OperatorState { first_open: self.stage.first_open() }, rows))
    }

    fn restore(&mut self, state: &OperatorState, rows: &[RecordBatch]) -> Result<()> {
        Ok(self.stage.restore(state.first_open, rows)?)
    }

    fn size(&self) -> usize {
        self.stage.size()
    }

    fn is_timed(&self) -> bool {
        true
    }

    fn partly_late(&self) -> u64 {
        self.stage.partly_late()
    }

    fn fingerprint(&self) -> String {
        format!("{:?} {} {}", self.stage, self.text, self.stage.schema())
    }
}

enum Function {
    /// One batch after the other.
    InOrder(Box<dyn FnMut(RecordBatch) -> Result<Vec<RecordBatch>> + Send>),
    /// Batches at the same time, on a pool.
    AtOnce(Arc<dyn Fn(RecordBatch) -> Result<RecordBatch> + Send + Sync>, Pool),
}

/// Rows that a thread takes at a time: what becomes of them stays in its cache.
const ROWS_AT_ONCE: usize = 16_384;

/// A function of batches, without state.
pub struct MapOperator {
    id: String,
    schema: SchemaRef,
    text: String,
    function: Function,
}

impl MapOperator {
    /// The operator `id` that makes batches of `schema`. A panic of `function` becomes an error.
    pub fn new(
        id: impl Into<String>,
        schema: SchemaRef,
        function: impl FnMut(RecordBatch) -> Result<Vec<RecordBatch>> + Send + 'static,
    ) -> Self {
        Self { id: id.into(), schema, text: String::new(), function: Function::InOrder(Box::new(function)) }
    }

    /// The operator `id` that makes of each batch one of `schema`, many at the same time on `pool`.
    pub fn at_once(
        id: impl Into<String>,
        schema: SchemaRef,
        pool: Pool,
        function: impl Fn(RecordBatch) -> Result<RecordBatch> + Send + Sync + 'static,
    ) -> Self {
        Self { id: id.into(), schema, text: String::new(), function: Function::AtOnce(Arc::new(function), pool) }
    }

    /// With a text that says what the function does: a checkpoint of other text is not taken.
    pub fn named(self, text: impl Into<String>) -> Self {
        Self { text: text.into(), ..self }
    }
}

#[async_trait]
impl Operator for MapOperator {
    fn id(&self) -> &str {
        &self.id
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    async fn rows(&mut self, batches: Vec<RecordBatch>) -> Result<Rows> {
        let mut out = vec![];
        match &mut self.function {
            Function::InOrder(function) => {
                for batch in batches {
                    let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| function(batch)));
                    let panicked = |_| Error::new(ErrorKind::Bug, format!("the function of operator `{}` panicked", self.id));
                    out.extend(made.map_err(panicked)??);
                }
            }
            Function::AtOnce(function, pool) => {
                let some = batches.iter().flat_map(|b| {
                    let rows = b.num_rows();
                    (0..rows).step_by(ROWS_AT_ONCE).map(move |at| b.slice(at, ROWS_AT_ONCE.min(rows - at)))
                });
                let tasks = some.map(|batch| {
                    let function = Arc::clone(function);
                    // What the function says is no matter of the pool.
                    pool.run(move || Ok(function(batch)))
                });
                for made in futures::future::try_join_all(tasks).await? {
                    out.push(made?);
                }
            }
        }
        if let Some(other) = out.iter().find(|b| b.schema().fields() != self.schema.fields()) {
            let text = format!("operator `{}` returned {} where {} was declared", self.id, other.schema(), self.schema);
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        Ok(Rows { out, late: vec![] })
    }

    async fn advance(&mut self, _watermark: i64) -> Result<Vec<RecordBatch>> {
        Ok(vec![])
    }

    async fn checkpoint(&mut self, _whole: bool) -> Result<(OperatorState, Vec<RecordBatch>)> {
        Ok((OperatorState::default(), vec![]))
    }

    fn restore(&mut self, _state: &OperatorState, _rows: &[RecordBatch]) -> Result<()> {
        Ok(())
    }

    fn size(&self) -> usize {
        0
    }

    fn fingerprint(&self) -> String {
        format!("map {} {}", self.text, self.schema)
    }
}
