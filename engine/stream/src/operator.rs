//! What stands between source and sink.

use crate::{Error, ErrorKind, Result};
use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_stage::{Pool, ReduceStage, RowStage, WindowStage, deal};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What an operator makes of the rows of an epoch.
#[derive(Debug, Default)]
pub struct Rows {
    /// For the next operator.
    pub out: Vec<RecordBatch>,
    /// Those that are put aside: of windows the rows that came too late, as they came.
    pub aside: Vec<RecordBatch>,
}

/// What an operator is restored from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorState {
    /// The begin of the first window that is not closed.
    pub first_open: Option<i64>,
}

/// Rows of state, made as they are asked for, on a thread of its own.
pub type StateRows = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// A step of a pipeline. It lives as long as the driver and keeps its state in memory; checkpoints hold what is
/// needed to make it again. What is not said here is said of an operator without state.
#[async_trait]
pub trait Operator: Send {
    /// Stable within a job: its state is found by it.
    fn id(&self) -> &str;

    /// The columns of its rows.
    fn schema(&self) -> SchemaRef;

    /// The columns of the rows that it puts aside.
    fn side_schema(&self) -> SchemaRef {
        self.schema()
    }

    /// Takes the rows of an epoch.
    ///
    /// # Errors
    /// What the data raises.
    async fn rows(&mut self, batches: Vec<RecordBatch>) -> Result<Rows>;

    /// No row earlier than `watermark` will count as on time: some of the rows that are due. Called again until none come.
    ///
    /// # Errors
    /// What the data raises.
    async fn advance(&mut self, watermark: i64) -> Result<Vec<RecordBatch>> {
        let _ = watermark;
        Ok(vec![])
    }

    /// What changed since the last checkpoint, or everything: rows of state, which are made while the operator goes on, and what
    /// is beside them.
    ///
    /// # Errors
    /// What the data raises.
    async fn checkpoint(&mut self, whole: bool) -> Result<(OperatorState, StateRows)> {
        let _ = whole;
        Ok((OperatorState::default(), Box::new(std::iter::empty())))
    }

    /// Takes some of what checkpoints hold, before anything else is asked of it: called again with more, in their order.
    ///
    /// # Errors
    /// `Corrupt` for state of another operator.
    async fn restore(&mut self, state: &OperatorState, rows: Vec<RecordBatch>) -> Result<()> {
        let _ = (state, rows);
        Ok(())
    }

    /// Bytes of state in memory.
    fn size(&self) -> usize {
        0
    }

    /// Bytes of state on disk, for which there is no memory.
    fn on_disk(&self) -> u64 {
        0
    }

    /// Whether the rows that it puts aside are late ones.
    fn is_timed(&self) -> bool {
        false
    }

    /// Rows so far that some of their windows missed.
    fn partly_late(&self) -> u64 {
        0
    }

    /// What its rows last ran on: a device of stages, or `host` for what is no stage.
    fn device(&self) -> &'static str {
        "host"
    }

    /// Columns of which its rows have each value once, and a replay the same row again, where those that come have the key
    /// `of_rows`.
    fn key(&self, of_rows: Option<Vec<String>>) -> Option<Vec<String>> {
        let _ = of_rows;
        None
    }

    /// What its state depends on: a job is restored only where it is the same.
    fn fingerprint(&self) -> String;
}

/// Rows by window and key.
pub struct WindowOperator {
    id: String,
    stage: Windowed,
    text: String,
}

enum Windowed {
    Groups(Box<WindowStage>),
    Reduced(Box<ReduceStage>),
}

/// The same of either stage.
macro_rules! of {
    ($self:expr, $stage:ident => $does:expr) => {
        match $self {
            Windowed::Groups($stage) => $does,
            Windowed::Reduced($stage) => $does,
        }
    };
}

impl WindowOperator {
    /// The operator `id` of the windows `stage`; `text` says what they compute, of which rows: a checkpoint of other
    /// text is not taken.
    pub fn new(id: impl Into<String>, stage: WindowStage, text: impl Into<String>) -> Self {
        Self { id: id.into(), stage: Windowed::Groups(Box::new(stage)), text: text.into() }
    }

    /// The operator `id` of windows whose rows a function makes one of; `text` stands for the function.
    pub fn reduced(id: impl Into<String>, stage: ReduceStage, text: impl Into<String>) -> Self {
        Self { id: id.into(), stage: Windowed::Reduced(Box::new(stage)), text: text.into() }
    }
}

#[async_trait]
impl Operator for WindowOperator {
    fn id(&self) -> &str {
        &self.id
    }

    fn schema(&self) -> SchemaRef {
        of!(&self.stage, stage => stage.schema().clone())
    }

    fn side_schema(&self) -> SchemaRef {
        of!(&self.stage, stage => stage.input().clone())
    }

    async fn rows(&mut self, batches: Vec<RecordBatch>) -> Result<Rows> {
        Ok(Rows { out: vec![], aside: of!(&mut self.stage, stage => stage.rows(batches).await?) })
    }

    async fn advance(&mut self, watermark: i64) -> Result<Vec<RecordBatch>> {
        Ok(of!(&mut self.stage, stage => stage.advance(watermark).await?))
    }

    async fn checkpoint(&mut self, whole: bool) -> Result<(OperatorState, StateRows)> {
        let rows: StateRows = match &mut self.stage {
            Windowed::Groups(stage) => Box::new(stage.checkpoint(whole).await?.map(|rows| Ok(rows?))),
            Windowed::Reduced(stage) => Box::new(stage.checkpoint(whole).await?.into_iter().map(Ok)),
        };
        Ok((OperatorState { first_open: of!(&self.stage, stage => stage.first_open()) }, rows))
    }

    async fn restore(&mut self, state: &OperatorState, rows: Vec<RecordBatch>) -> Result<()> {
        match &mut self.stage {
            Windowed::Groups(stage) => Ok(stage.restore(state.first_open, rows).await?),
            Windowed::Reduced(stage) => Ok(stage.restore(state.first_open, rows)?),
        }
    }

    fn size(&self) -> usize {
        of!(&self.stage, stage => stage.size())
    }

    fn on_disk(&self) -> u64 {
        if let Windowed::Groups(stage) = &self.stage { stage.on_disk() } else { 0 }
    }

    fn is_timed(&self) -> bool {
        true
    }

    fn partly_late(&self) -> u64 {
        of!(&self.stage, stage => stage.partly_late())
    }

    fn device(&self) -> &'static str {
        if let Windowed::Groups(_) = self.stage { "cpu" } else { "host" }
    }

    /// A window leaves its rows once.
    fn key(&self, _of_rows: Option<Vec<String>>) -> Option<Vec<String>> {
        Some(of!(&self.stage, stage => stage.key()))
    }

    fn fingerprint(&self) -> String {
        of!(&self.stage, stage => format!("{stage:?} {} {}", self.text, stage.schema()))
    }
}

enum Function {
    /// A stage.
    Stage(RowStage),
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
    /// Columns that are handed on, and what they are called then.
    kept: Vec<(String, String)>,
    function: Function,
}

impl MapOperator {
    /// The operator `id` that makes batches of `schema`. A panic of `function` becomes an error.
    pub fn new(
        id: impl Into<String>,
        schema: SchemaRef,
        function: impl FnMut(RecordBatch) -> Result<Vec<RecordBatch>> + Send + 'static,
    ) -> Self {
        Self { id: id.into(), schema, text: String::new(), kept: vec![], function: Function::InOrder(Box::new(function)) }
    }

    /// The operator `id` that makes of each batch one of `schema`, many at the same time on `pool`.
    pub fn at_once(
        id: impl Into<String>,
        schema: SchemaRef,
        pool: Pool,
        function: impl Fn(RecordBatch) -> Result<RecordBatch> + Send + Sync + 'static,
    ) -> Self {
        Self { id: id.into(), schema, text: String::new(), kept: vec![], function: Function::AtOnce(Arc::new(function), pool) }
    }

    /// The operator `id` of a stage that filters and projects.
    pub fn stage(id: impl Into<String>, stage: RowStage) -> Self {
        Self { id: id.into(), schema: stage.schema().clone(), text: String::new(), kept: vec![], function: Function::Stage(stage) }
    }

    /// With a text that says what the function does: a checkpoint of other text is not taken.
    pub fn named(self, text: impl Into<String>) -> Self {
        Self { text: text.into(), ..self }
    }

    /// A function that hands these columns on as they are, under another name perhaps, and makes of one row at most one.
    pub fn keeping(self, kept: Vec<(String, String)>) -> Self {
        Self { kept, ..self }
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
            Function::Stage(stage) => out = stage.rows(batches).await?,
            Function::InOrder(function) => {
                for batch in batches {
                    let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| function(batch)));
                    let panicked = |_| Error::new(ErrorKind::Bug, format!("the function of operator `{}` panicked", self.id));
                    out.extend(made.map_err(panicked)??);
                }
            }
            Function::AtOnce(function, pool) => {
                let (function, mut hands) = (Arc::clone(function), vec![(); pool.threads()]);
                // What the function says is no matter of the stage.
                let made = deal(pool, &mut hands, &batches, ROWS_AT_ONCE, move |(), batch| Ok(function(batch.clone())));
                out = made.await?.into_iter().collect::<Result<_>>()?;
            }
        }
        if let Some(other) = out.iter().find(|b| b.schema().fields() != self.schema.fields()) {
            let text = format!("operator `{}` returned {} where {} was declared", self.id, other.schema(), self.schema);
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        Ok(Rows { out, aside: vec![] })
    }

    fn device(&self) -> &'static str {
        if let Function::Stage(_) = self.function { "cpu" } else { "host" }
    }

    fn key(&self, of_rows: Option<Vec<String>>) -> Option<Vec<String>> {
        let now = |column: &String| self.kept.iter().find(|(before, _)| before == column).map(|(_, now)| now.clone());
        of_rows?.iter().map(now).collect()
    }

    fn fingerprint(&self) -> String {
        format!("map {} {}", self.text, self.schema)
    }
}

/// A condition for each row of a batch.
type Condition = Box<dyn Fn(&RecordBatch) -> Result<BooleanArray> + Send + Sync>;

/// Puts rows aside.
pub struct SplitOperator {
    id: String,
    schema: SchemaRef,
    text: String,
    aside: Condition,
}

impl SplitOperator {
    /// The operator `id` that puts the rows aside for which `aside` is true; `text` says what that is: a checkpoint of other
    /// text is not taken.
    pub fn new(
        id: impl Into<String>,
        schema: SchemaRef,
        text: impl Into<String>,
        aside: impl Fn(&RecordBatch) -> Result<BooleanArray> + Send + Sync + 'static,
    ) -> Self {
        Self { id: id.into(), schema, text: text.into(), aside: Box::new(aside) }
    }
}

#[async_trait]
impl Operator for SplitOperator {
    fn id(&self) -> &str {
        &self.id
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    async fn rows(&mut self, batches: Vec<RecordBatch>) -> Result<Rows> {
        let mut rows = Rows::default();
        for batch in batches {
            let aside = (self.aside)(&batch)?;
            // Neither true nor false is not true.
            let aside = if aside.null_count() > 0 { arrow::compute::prep_null_mask_filter(&aside) } else { aside };
            rows.out.push(arrow::compute::filter_record_batch(&batch, &arrow::compute::not(&aside)?)?);
            rows.aside.push(arrow::compute::filter_record_batch(&batch, &aside)?);
        }
        rows.aside.retain(|b| b.num_rows() > 0);
        Ok(rows)
    }

    fn key(&self, of_rows: Option<Vec<String>>) -> Option<Vec<String>> {
        of_rows
    }

    fn fingerprint(&self) -> String {
        format!("split {}", self.text)
    }
}
