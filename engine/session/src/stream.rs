//! Streams of batches: what a program says of a pipeline, and the job that it becomes.

use crate::{Error, ErrorKind, Result, Session};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::col;
use millstream_stage::{Settings, StageExec, WindowStage, Windows};
use millstream_stream::{EventTime, Input, Job, MapOperator, Operator, Sink, Source, WindowOperator};
use std::sync::Arc;
use std::time::Duration;

/// Windows of event time.
///
/// ```
/// use millstream::Window;
/// use std::time::Duration;
/// let hourly = Window::tumble(Duration::from_secs(3600));
/// let last_hour_each_minute = Window::hop(Duration::from_secs(3600), Duration::from_secs(60));
/// assert_ne!(hourly, last_hour_each_minute);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    width: Duration,
    slide: Duration,
    offset: Duration,
}

impl Window {
    /// Windows of `width`, one behind the other, counted from the epoch.
    ///
    /// ```
    /// let daily = millstream::Window::tumble(std::time::Duration::from_secs(86_400));
    /// ```
    pub fn tumble(width: Duration) -> Self {
        Self::hop(width, width)
    }

    /// Windows of `width`, one every `slide`.
    ///
    /// ```
    /// use std::time::Duration;
    /// let window = millstream::Window::hop(Duration::from_secs(10), Duration::from_secs(2));
    /// ```
    pub fn hop(width: Duration, slide: Duration) -> Self {
        Self { width, slide, offset: Duration::ZERO }
    }

    /// Counted from `offset` past the epoch: days of another time zone.
    ///
    /// ```
    /// use std::time::Duration;
    /// let days = millstream::Window::tumble(Duration::from_secs(86_400)).offset(Duration::from_secs(3600));
    /// ```
    pub fn offset(self, offset: Duration) -> Self {
        Self { offset, ..self }
    }

    fn of(&self, time: &DataType) -> Result<Windows> {
        let units = |d: Duration| units(d, time);
        Ok(Windows::new(units(self.width)?, units(self.slide)?, units(self.offset)?)?)
    }
}

/// A duration in the unit of an event time: of a plain number, milliseconds.
fn units(d: Duration, time: &DataType) -> Result<i64> {
    let (units, exact) = match time {
        DataType::Timestamp(TimeUnit::Second, _) => (u128::from(d.as_secs()), d.subsec_nanos() == 0),
        DataType::Timestamp(TimeUnit::Millisecond, _) | DataType::Date64 | DataType::Int64 => {
            (d.as_millis(), d.subsec_nanos().is_multiple_of(1_000_000))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => (d.as_micros(), d.subsec_nanos().is_multiple_of(1_000)),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => (d.as_nanos(), true),
        other => return Err(Error::new(ErrorKind::Unsupported, format!("an event time is a timestamp or a 64-bit integer, not {other}"))),
    };
    match i64::try_from(units) {
        Ok(units) if exact => Ok(units),
        _ => Err(Error::new(ErrorKind::Invalid, format!("{d:?} is no whole number of the units of {time}"))),
    }
}

/// What is done to the rows before the next operator with state.
enum Pending {
    Filter(Expr),
    Select(Vec<Expr>),
}

impl Pending {
    fn text(&self) -> String {
        match self {
            Pending::Filter(e) => e.to_string(),
            Pending::Select(e) => format!("select {}", text(e)),
        }
    }
}

fn text(exprs: &[Expr]) -> String {
    exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A stream of rows, bounded or not: the same operators either way. Every method but [`DataStream::to`] only
/// describes it.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use millstream::streams::{Driver, DriverOptions, Log, MemorySource, MemoryTable, VirtualClock};
/// use millstream::{Session, Window, col, count, lit};
/// use std::{sync::Arc, time::Duration};
/// let session = Session::new()?;
/// let clicks = session.sql("select * from (values (1, 1000), (2, 2000), (1, 61000)) t(page, at)").await?;
/// let clicks = clicks.select([col("page"), millstream::cast(col("at"), millstream::data_type("bigint")?).alias("at")])?.collect().await?;
/// let source = MemorySource::new("clicks", clicks[0].schema(), 1);
/// for batch in clicks {
///     source.push(0, batch)?;
/// }
/// source.end()?;
/// let table = MemoryTable::default();
/// let job = session.stream(source)?.event_time("at", Duration::from_secs(5))?.filter(col("page").gt(lit(0)))?
///     .window(Window::tumble(Duration::from_secs(60)))
///     .aggregate([col("page")], [count(lit(1)).alias("clicks")]).await?
///     .to(table.sink("counts"))?;
/// let log = Log::new(Arc::new(millstream::streams::object_store::memory::InMemory::new()), "jobs/clicks".into());
/// let mut driver = Driver::open(job, log, DriverOptions::default(), Arc::new(VirtualClock::default())).await?;
/// driver.run(1, || false).await?;
/// assert_eq!(table.rows()?.iter().map(|b| b.num_rows()).sum::<usize>(), 3);
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
pub struct DataStream {
    session: Session,
    inputs: Vec<Input>,
    operators: Vec<Box<dyn Operator>>,
    /// Of the rows behind the operators.
    schema: SchemaRef,
    pending: Vec<Pending>,
    late: Option<Box<dyn Sink>>,
}

impl Session {
    /// The rows of `source`.
    ///
    /// ```
    /// # use millstream::streams::MemorySource;
    /// # use arrow::datatypes::Schema;
    /// let session = millstream::Session::new()?;
    /// let stream = session.stream(MemorySource::new("nothing", Schema::empty().into(), 1))?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when two columns have one name.
    pub fn stream(&self, source: impl Source + 'static) -> Result<DataStream> {
        let schema = source.schema();
        for (i, f) in schema.fields().iter().enumerate() {
            if schema.fields()[..i].iter().any(|g| g.name() == f.name()) {
                return Err(Error::new(ErrorKind::Invalid, format!("`{}` has two columns `{}`", source.name(), f.name())));
            }
        }
        let inputs = vec![Input { source: Arc::new(source), time: None }];
        Ok(DataStream { session: self.clone(), inputs, operators: vec![], schema, pending: vec![], late: None })
    }
}

impl DataStream {
    /// The columns of its rows.
    ///
    /// ```
    /// # use millstream::streams::{GeneratedRows, GeneratedSource, Values};
    /// # use millstream::{Session, Window, avg, col, lit};
    /// # use std::time::Duration;
    /// # let rows = GeneratedRows::new(1).column("id", Values::Count(0)).column("at", Values::Time { start_ms: 0, per_second: 9 });
    /// # let events = || Session::new()?.stream(GeneratedSource::new("events", rows.clone()));
    /// assert_eq!(events()?.select([col("id")])?.schema()?.fields().len(), 1);
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when a column is not there.
    pub fn schema(&self) -> Result<SchemaRef> {
        Ok(Arc::new(self.frame()?.schema().as_arrow().clone()))
    }

    /// The column that says when a row happened, and how much a row may come behind later ones.
    ///
    /// ```
    /// # use millstream::streams::{GeneratedRows, GeneratedSource, Values};
    /// # use millstream::{Session, Window, avg, col, lit};
    /// # use std::time::Duration;
    /// # let rows = GeneratedRows::new(1).column("id", Values::Count(0)).column("at", Values::Time { start_ms: 0, per_second: 9 });
    /// # let events = || Session::new()?.stream(GeneratedSource::new("events", rows.clone()));
    /// let stream = events()?.event_time("at", Duration::from_secs(5))?;
    /// assert!(events()?.event_time("when", Duration::ZERO).is_err());
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when there is no such column of the source or the disorder is no whole number of its unit.
    pub fn event_time(mut self, column: &str, disorder: Duration) -> Result<Self> {
        for input in &mut self.inputs {
            let schema = input.source.schema();
            let field =
                schema.field_with_name(column).map_err(|e| Error::new(ErrorKind::Invalid, format!("`{}`: {e}", input.source.name())))?;
            let idle_ms = input.time.as_ref().and_then(|t| t.idle_ms);
            input.time = Some(EventTime { column: column.to_string(), disorder: units(disorder, field.data_type())?, idle_ms });
        }
        Ok(self)
    }

    /// A split that brings no rows for so long no longer holds the watermark back.
    ///
    /// ```
    /// # use millstream::streams::{GeneratedRows, GeneratedSource, Values};
    /// # use millstream::{Session, Window, avg, col, lit};
    /// # use std::time::Duration;
    /// # let rows = GeneratedRows::new(1).column("id", Values::Count(0)).column("at", Values::Time { start_ms: 0, per_second: 9 });
    /// # let events = || Session::new()?.stream(GeneratedSource::new("events", rows.clone()));
    /// let stream = events()?.event_time("at", Duration::ZERO)?.idle_after(Duration::from_secs(60))?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` before [`DataStream::event_time`].
    pub fn idle_after(mut self, idle: Duration) -> Result<Self> {
        for input in &mut self.inputs {
            let time = input.time.as_mut().ok_or_else(|| Error::new(ErrorKind::Invalid, "idle_after() comes behind event_time()"))?;
            time.idle_ms = Some(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX));
        }
        Ok(self)
    }

    /// The rows of both; each keeps its own event time. Nothing may have been done to either yet.
    ///
    /// ```
    /// # use millstream::streams::{GeneratedRows, GeneratedSource, Values};
    /// # use millstream::{Session, Window, avg, col, lit};
    /// # use std::time::Duration;
    /// # let rows = GeneratedRows::new(1).column("id", Values::Count(0)).column("at", Values::Time { start_ms: 0, per_second: 9 });
    /// # let events = || Session::new()?.stream(GeneratedSource::new("events", rows.clone()));
    /// let stream = events()?.union(events()?)?.event_time("at", Duration::from_secs(5))?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for other columns, `Unsupported` behind other operators.
    pub fn union(mut self, other: Self) -> Result<Self> {
        if [&self, &other].iter().any(|s| !s.operators.is_empty() || !s.pending.is_empty()) {
            return Err(Error::new(ErrorKind::Unsupported, "union() is of sources, before other operators"));
        }
        if self.schema.fields() != other.schema.fields() {
            return Err(Error::new(ErrorKind::Invalid, format!("union() of {} and {}", self.schema, other.schema)));
        }
        self.inputs.extend(other.inputs);
        Ok(self)
    }

    /// The rows for which `predicate` is true.
    ///
    /// ```
    /// # use millstream::streams::{GeneratedRows, GeneratedSource, Values};
    /// # use millstream::{Session, Window, avg, col, lit};
    /// # use std::time::Duration;
    /// # let rows = GeneratedRows::new(1).column("id", Values::Count(0)).column("at", Values::Time { start_ms: 0, per_second: 9 });
    /// # let events = || Session::new()?.stream(GeneratedSource::new("events", rows.clone()));
    /// let stream = events()?.filter(col("id").gt(lit(100)))?;
    /// assert!(events()?.filter(col("nothing").is_null()).is_err());
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when a column is not there.
    pub fn filter(mut self, predicate: Expr) -> Result<Self> {
        self.pending.push(Pending::Filter(predicate));
        self.frame()?;
        Ok(self)
    }

    /// These columns, in this order.
    ///
    /// ```
    /// # use millstream::streams::{GeneratedRows, GeneratedSource, Values};
    /// # use millstream::{Session, Window, avg, col, lit};
    /// # use std::time::Duration;
    /// # let rows = GeneratedRows::new(1).column("id", Values::Count(0)).column("at", Values::Time { start_ms: 0, per_second: 9 });
    /// # let events = || Session::new()?.stream(GeneratedSource::new("events", rows.clone()));
    /// let stream = events()?.select([(col("id") % lit(10)).alias("digit"), col("at")])?;
    /// assert_eq!(stream.schema()?.field(0).name(), "digit");
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` when a column is not there.
    pub fn select(mut self, columns: impl IntoIterator<Item = Expr>) -> Result<Self> {
        self.pending.push(Pending::Select(columns.into_iter().collect()));
        self.frame()?;
        Ok(self)
    }

    /// What `function` makes of each batch: none, one or many of `schema`. It must not depend on where batches
    /// begin: that is different when rows are read again.
    ///
    /// ```
    /// # use millstream::streams::{GeneratedRows, GeneratedSource, Values};
    /// # use millstream::{Session, Window, avg, col, lit};
    /// # use std::time::Duration;
    /// # let rows = GeneratedRows::new(1).column("id", Values::Count(0)).column("at", Values::Time { start_ms: 0, per_second: 9 });
    /// # let events = || Session::new()?.stream(GeneratedSource::new("events", rows.clone()));
    /// let schema = events()?.schema()?;
    /// // Every other row.
    /// let stream = events()?.map_batches(schema, |batch| {
    ///     let keep: arrow::array::BooleanArray = batch.column(0).to_data().buffers()[0].typed_data::<i64>().iter().map(|id| Some(id % 2 == 0)).collect();
    ///     Ok(vec![arrow::compute::filter_record_batch(&batch, &keep).map_err(datafusion::error::DataFusionError::from)?])
    /// })?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`DataStream::filter`] of what came before.
    pub fn map_batches(
        mut self,
        schema: SchemaRef,
        mut function: impl FnMut(RecordBatch) -> Result<Vec<RecordBatch>> + Send + 'static,
    ) -> Result<Self> {
        self.settle()?;
        let id = format!("map{}", self.operators.len());
        self.operators.push(Box::new(MapOperator::new(id, Arc::clone(&schema), move |b| Ok(function(b)?))));
        self.schema = schema;
        Ok(self)
    }

    /// Windows over event time: [`WindowedStream::aggregate`] says of what.
    ///
    /// ```
    /// # use millstream::streams::{GeneratedRows, GeneratedSource, Values};
    /// # use millstream::{Session, Window, avg, col, lit};
    /// # use std::time::Duration;
    /// # let rows = GeneratedRows::new(1).column("id", Values::Count(0)).column("at", Values::Time { start_ms: 0, per_second: 9 });
    /// # let events = || Session::new()?.stream(GeneratedSource::new("events", rows.clone()));
    /// let windows = events()?.event_time("at", Duration::ZERO)?.window(Window::tumble(Duration::from_secs(60)));
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn window(self, window: Window) -> WindowedStream {
        WindowedStream { stream: self, window }
    }

    /// Where rows go whose windows are all closed when they come. Without it they are counted.
    ///
    /// ```
    /// # use millstream::streams::{GeneratedRows, GeneratedSource, Values};
    /// # use millstream::{Session, Window, avg, col, lit};
    /// # use std::time::Duration;
    /// # let rows = GeneratedRows::new(1).column("id", Values::Count(0)).column("at", Values::Time { start_ms: 0, per_second: 9 });
    /// # let events = || Session::new()?.stream(GeneratedSource::new("events", rows.clone()));
    /// use millstream::streams::MemoryTable;
    /// let late = MemoryTable::default();
    /// let stream = events()?.event_time("at", Duration::ZERO)?.late_to(late.sink("late"));
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn late_to(self, sink: impl Sink + 'static) -> Self {
        Self { late: Some(Box::new(sink)), ..self }
    }

    /// The job that brings the rows to `sink`.
    ///
    /// ```
    /// # use millstream::streams::{GeneratedRows, GeneratedSource, Values};
    /// # use millstream::{Session, Window, avg, col, lit};
    /// # use std::time::Duration;
    /// # let rows = GeneratedRows::new(1).column("id", Values::Count(0)).column("at", Values::Time { start_ms: 0, per_second: 9 });
    /// # let events = || Session::new()?.stream(GeneratedSource::new("events", rows.clone()));
    /// let job = events()?.filter(col("id").gt(lit(100)))?.to(millstream::streams::BlackholeSink::default())?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`DataStream::filter`].
    pub fn to(mut self, sink: impl Sink + 'static) -> Result<Job> {
        self.settle()?;
        Ok(Job { inputs: self.inputs, operators: self.operators, sink: Box::new(sink), late: self.late })
    }

    /// The column of event time, which every input has: rows of one without would be late at once.
    fn time(&self) -> Result<String> {
        let mut columns = self.inputs.iter().map(|i| i.time.as_ref().map(|t| &t.column));
        let first = columns.next().flatten();
        match first {
            Some(first) if columns.all(|c| c == Some(first)) => Ok(first.clone()),
            _ => Err(Error::new(ErrorKind::Invalid, "windows need event_time(), of the same column in every stream of a union")),
        }
    }

    /// What is pending, over rows that are not there yet.
    fn frame(&self) -> Result<DataFrame> {
        let mut frame = self.session.context().read_batch(RecordBatch::new_empty(Arc::clone(&self.schema)))?;
        for p in &self.pending {
            frame = match p {
                Pending::Filter(e) => frame.filter(e.clone())?,
                Pending::Select(e) => frame.select(e.clone())?,
            };
        }
        Ok(frame)
    }

    /// Makes what is pending an operator.
    fn settle(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let text = self.pending.iter().map(Pending::text).collect::<Vec<_>>().join(", ");
        let mut steps: Vec<Step> = vec![];
        for pending in std::mem::take(&mut self.pending) {
            let input = DFSchema::try_from(Arc::clone(&self.schema))?;
            let physical = |e: Expr| Ok::<_, Error>(self.session.context().create_physical_expr(e, &input)?);
            match pending {
                Pending::Filter(e) => {
                    let predicate = physical(e)?;
                    steps.push(Box::new(move |b| filtered(&predicate, &b)));
                }
                Pending::Select(exprs) => {
                    let frame = self.session.context().read_batch(RecordBatch::new_empty(Arc::clone(&self.schema)))?;
                    let fields = frame.select(exprs.clone())?.schema().fields().clone();
                    let schema: SchemaRef = Arc::new(Schema::new(fields.iter().map(|f| f.as_ref().clone()).collect::<Vec<Field>>()));
                    let exprs = exprs.into_iter().map(physical).collect::<Result<Vec<_>>>()?;
                    self.schema = Arc::clone(&schema);
                    steps.push(Box::new(move |b| projected(&exprs, &schema, &b)));
                }
            }
        }
        let all = move |batch| Ok(steps.iter().try_fold(batch, |b, step| step(b))?);
        let id = format!("map{}", self.operators.len());
        let operator = MapOperator::at_once(id, Arc::clone(&self.schema), self.settings()?.pool.clone(), all);
        self.operators.push(Box::new(operator.named(text)));
        Ok(())
    }

    fn settings(&self) -> Result<Arc<Settings>> {
        let settings = self.session.context().state().config().get_extension::<Settings>();
        settings.ok_or_else(|| Error::new(ErrorKind::Bug, "a session without settings"))
    }
}

/// A filter or a projection of a batch.
type Step = Box<dyn Fn(RecordBatch) -> Result<RecordBatch> + Send + Sync>;

fn filtered(predicate: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<RecordBatch> {
    let keep = predicate.evaluate(batch)?.into_array(batch.num_rows())?;
    let keep = keep.as_boolean_opt().ok_or_else(|| Error::new(ErrorKind::Invalid, format!("{predicate} is no condition")))?;
    Ok(filter_record_batch(batch, keep).map_err(datafusion::error::DataFusionError::from)?)
}

fn projected(exprs: &[Arc<dyn PhysicalExpr>], schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = exprs.iter().map(|e| Ok(e.evaluate(batch)?.into_array(batch.num_rows())?)).collect::<Result<Vec<_>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let made = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options);
    Ok(made.map_err(datafusion::error::DataFusionError::from)?)
}

/// A stream divided into windows.
pub struct WindowedStream {
    stream: DataStream,
    window: Window,
}

impl WindowedStream {
    /// A row for each window and group of equal `keys`, when the watermark passes the window: `window_start`,
    /// `window_end`, the keys, the aggregates.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # use millstream::streams::{GeneratedRows, GeneratedSource, Values};
    /// # use millstream::{Session, Window, avg, col, lit};
    /// # use std::time::Duration;
    /// # let rows = GeneratedRows::new(1).column("id", Values::Count(0)).column("at", Values::Time { start_ms: 0, per_second: 9 });
    /// # let events = || Session::new()?.stream(GeneratedSource::new("events", rows.clone()));
    /// let windows = events()?.event_time("at", Duration::ZERO)?.window(Window::tumble(Duration::from_secs(60)));
    /// let means = windows.aggregate([(col("id") % lit(10)).alias("digit")], [avg(col("id")).alias("mean")]).await?;
    /// let names: Vec<String> = means.schema()?.fields().iter().map(|f| f.name().clone()).collect();
    /// assert_eq!(names, ["window_start", "window_end", "digit", "mean"]);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` without an event time or when a column is not there; `Unsupported` for aggregates without a kernel.
    pub async fn aggregate(self, keys: impl IntoIterator<Item = Expr>, aggregates: impl IntoIterator<Item = Expr>) -> Result<DataStream> {
        let Self { mut stream, window } = self;
        if stream.operators.iter().any(|o| o.is_timed()) {
            return Err(Error::new(ErrorKind::Unsupported, "windows of the rows of windows are not there yet"));
        }
        let time = stream.time()?;
        let frame = stream.frame()?;
        let windows = window.of(frame.schema().field_with_unqualified_name(&time)?.data_type())?;
        let keys: Vec<Expr> = std::iter::once(col(datafusion::common::Column::new_unqualified(&time))).chain(keys).collect();
        let aggregates: Vec<Expr> = aggregates.into_iter().collect();
        let before = stream.pending.iter().map(Pending::text).collect::<Vec<_>>().join(", ");
        let text = format!("{} by {} where {before}", text(&aggregates), text(&keys));
        let plan = frame.aggregate(keys, aggregates)?.create_physical_plan().await?;
        let stage = group_stage(&plan)?;
        let windows = WindowStage::new(stage, Arc::clone(&stream.schema), windows, &*stream.settings()?)?;
        if windows.time().name() != &time {
            let text = format!(
                "event time `{time}` is `{}` of the source by now: the watermark is that of the source's own",
                windows.time().name()
            );
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        stream.schema = Arc::clone(windows.schema());
        stream.pending.clear();
        let id = format!("window{}", stream.operators.len());
        stream.operators.push(Box::new(WindowOperator::new(id, windows, text)));
        Ok(stream)
    }
}

/// The stage that does it all: over a stream nothing else may group.
fn group_stage(plan: &Arc<dyn ExecutionPlan>) -> Result<&StageExec> {
    let stage = plan.downcast_ref::<StageExec>();
    let is_leaf = |mut p: &Arc<dyn ExecutionPlan>| loop {
        match p.children().first() {
            None => break true,
            Some(_) if p.downcast_ref::<StageExec>().is_some() => break false,
            Some(_) if !["CoalescePartitionsExec", "CooperativeExec"].contains(&p.name()) => break false,
            Some(child) => p = child,
        }
    };
    stage.filter(|s| is_leaf(s.input())).ok_or_else(|| {
        let plan = displayable(plan.as_ref()).indent(false);
        Error::new(ErrorKind::Unsupported, format!("over a stream all of this has to be one stage, and it is not:\n{plan}"))
    })
}

/// Drivers, logs, sources and sinks.
pub mod streams {
    pub use millstream_connect::{
        BlackholeSink, CONNECTORS, FileFormat, FilesSink, FilesSource, GeneratedSource, MemorySink, MemorySource, MemoryTable,
    };
    pub use millstream_datasets::generated::{Rows as GeneratedRows, Values};
    pub use millstream_stream::{
        Attempt, Clock, Driver, DriverOptions, EventTime, Fetched, Input, Job, Log, Manifest, MapOperator, Metrics, Operator,
        OperatorState, Progress, Rows, Sink, Source, SplitMetrics, SplitOrder, SplitPosition, Step, SystemClock, VirtualClock,
    };
    pub use millstream_stream::{Error, ErrorKind};
    pub use object_store;
    use object_store::ObjectStore;
    use std::sync::Arc;

    /// A store whose root is a local folder, made if it is not there. What is written is forced to disk.
    ///
    /// ```
    /// let folder = tempfile::tempdir().unwrap();
    /// let store = millstream::streams::local(&folder.path().join("checkpoints"))?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Retry` when the folder cannot be made.
    pub fn local(folder: &std::path::Path) -> crate::Result<Arc<dyn ObjectStore>> {
        Ok(Arc::new(millstream_stream::LocalStore::new(folder)?))
    }

    /// A store in this process, for tests.
    ///
    /// ```
    /// let log = millstream::streams::Log::new(millstream::streams::in_memory(), "job".into());
    /// ```
    pub fn in_memory() -> Arc<dyn ObjectStore> {
        Arc::new(object_store::memory::InMemory::new())
    }
}

impl From<Error> for millstream_stream::Error {
    fn from(e: Error) -> Self {
        use millstream_stream::ErrorKind as K;
        let kind = match e.kind() {
            ErrorKind::Invalid => K::Invalid,
            ErrorKind::Unsupported => K::Unsupported,
            ErrorKind::Exhausted => K::Exhausted,
            ErrorKind::Retry => K::Retry,
            ErrorKind::Corrupt => K::Corrupt,
            ErrorKind::Bug => K::Bug,
        };
        Self::new(kind, e)
    }
}

impl From<millstream_stream::Error> for Error {
    fn from(e: millstream_stream::Error) -> Self {
        use millstream_stream::ErrorKind as K;
        let kind = match e.kind() {
            K::Invalid => ErrorKind::Invalid,
            K::Unsupported => ErrorKind::Unsupported,
            K::Exhausted => ErrorKind::Exhausted,
            // Another driver runs the job, or this one has failed: opening it again goes on.
            K::Retry | K::Closed => ErrorKind::Retry,
            K::Corrupt => ErrorKind::Corrupt,
            K::Bug => ErrorKind::Bug,
        };
        Self::new(kind, e)
    }
}
