//! Streams of batches: what a program says of a pipeline, and the job that it becomes.

mod exchange;
mod steps;
pub mod streams;
mod window;

pub use window::{KeyedStream, Window, WindowedStream};

use crate::{Error, ErrorKind, Result, Session};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::Expr;
use millstream_stage::Settings;
use millstream_stream::{EventTime, Input, Job, MapOperator, Marks, Operator, Side, Sink, Source, SplitOperator};
use std::sync::Arc;
use std::time::Duration;
use steps::Pending;
use window::units;

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
///     .key_by([col("page")])
///     .window(Window::tumble(Duration::from_secs(60)))
///     .aggregate([count(lit(1)).alias("clicks")]).await?
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
    sides: Vec<Side>,
    /// Where late rows go, if an operator with windows comes.
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
        Ok(DataStream { session: self.clone(), inputs, operators: vec![], schema, pending: vec![], sides: vec![], late: None })
    }
}

impl DataStream {
    /// The columns of its rows.
    ///
    /// ```
    /// # use millstream::{Session, Window, avg, col, count, lit, streams::GeneratedSource};
    /// # use std::time::Duration;
    /// # let bids = || Session::new()?.stream(GeneratedSource::nexmark("bid")?);
    /// assert_eq!(bids()?.select([col("price")])?.schema()?.fields().len(), 1);
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
    /// # use millstream::{Session, Window, avg, col, count, lit, streams::GeneratedSource};
    /// # use std::time::Duration;
    /// # let bids = || Session::new()?.stream(GeneratedSource::nexmark("bid")?);
    /// let stream = bids()?.event_time("date_time", Duration::from_secs(5))?;
    /// assert!(bids()?.event_time("when", Duration::ZERO).is_err());
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
            let marks = Marks::Disorder(units(disorder, field.data_type())?);
            input.time = Some(EventTime { column: column.to_string(), marks, idle_ms });
        }
        Ok(self)
    }

    /// A split that brings no rows for so long no longer holds the watermark back.
    ///
    /// ```
    /// # use millstream::{Session, Window, avg, col, count, lit, streams::GeneratedSource};
    /// # use std::time::Duration;
    /// # let bids = || Session::new()?.stream(GeneratedSource::nexmark("bid")?);
    /// let stream = bids()?.event_time("date_time", Duration::ZERO)?.idle_after(Duration::from_secs(60))?;
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

    /// The rows say how far their split is: no row with an event time before the greatest value so far of `column` is to be
    /// expected. In place of the disorder of [`DataStream::event_time`].
    ///
    /// ```
    /// # use millstream::{Session, Window, avg, col, count, lit, streams::GeneratedSource};
    /// # use std::time::Duration;
    /// # let bids = || Session::new()?.stream(GeneratedSource::nexmark("bid")?);
    /// // Here a column that is known to grow.
    /// let stream = bids()?.event_time("date_time", Duration::ZERO)?.watermark_from("date_time")?;
    /// assert!(bids()?.watermark_from("date_time").is_err());
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` before [`DataStream::event_time`], and for a column that is not there or of another type than the event time.
    pub fn watermark_from(self, column: &str) -> Result<Self> {
        self.marked("watermark_from()", |input, time| {
            let schema = input.schema();
            let kind = |c: &str| schema.field_with_name(c).map(|f| f.data_type().clone());
            let found = kind(column).map_err(|e| Error::new(ErrorKind::Invalid, format!("`{}`: {e}", input.name())))?;
            match kind(&time.column) {
                Ok(expected) if expected != found => {
                    let text = format!("marks in `{column}` are {found}, the event time `{}` is {expected}", time.column);
                    Err(Error::new(ErrorKind::Invalid, text))
                }
                _ => Ok(Marks::Column(column.to_string())),
            }
        })
    }

    /// A function says how far a split is: of a batch of its rows, that no row with an event time before this, in the unit of
    /// the event time, is to be expected. The greatest so far counts. In place of the disorder of [`DataStream::event_time`].
    /// `name` stands for the function: checkpoints of a job with another one are refused.
    ///
    /// ```
    /// # use millstream::{Session, Window, avg, col, count, lit, streams::GeneratedSource};
    /// # use std::time::Duration;
    /// # let bids = || Session::new()?.stream(GeneratedSource::nexmark("bid")?);
    /// use arrow::array::AsArray;
    /// use arrow::datatypes::TimestampMillisecondType;
    /// // Whole seconds only.
    /// let stream = bids()?.event_time("date_time", Duration::ZERO)?.watermark_with("seconds", |bids| {
    ///     let at = bids["date_time"].as_primitive::<TimestampMillisecondType>().values();
    ///     Ok(at.iter().max().map(|at| at / 1_000 * 1_000))
    /// })?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` before [`DataStream::event_time`].
    pub fn watermark_with(
        self,
        name: &str,
        function: impl Fn(&RecordBatch) -> Result<Option<i64>> + Send + Sync + 'static,
    ) -> Result<Self> {
        let function: millstream_stream::MarkOf = Arc::new(move |batch| Ok(function(batch)?));
        self.marked("watermark_with()", |_, _| Ok(Marks::Function(name.to_string(), Arc::clone(&function))))
    }

    fn marked(mut self, called: &str, marks: impl Fn(&dyn Source, &EventTime) -> Result<Marks>) -> Result<Self> {
        for Input { source, time } in &mut self.inputs {
            let time = time.as_mut().ok_or_else(|| Error::new(ErrorKind::Invalid, format!("{called} comes behind event_time()")))?;
            time.marks = marks(source.as_ref(), time)?;
        }
        Ok(self)
    }

    /// The rows of both; each keeps its own event time. Nothing may have been done to either yet.
    ///
    /// ```
    /// # use millstream::{Session, Window, avg, col, count, lit, streams::GeneratedSource};
    /// # use std::time::Duration;
    /// # let bids = || Session::new()?.stream(GeneratedSource::nexmark("bid")?);
    /// let stream = bids()?.union(bids()?)?.event_time("date_time", Duration::from_secs(5))?;
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
    /// # use millstream::{Session, Window, avg, col, count, lit, streams::GeneratedSource};
    /// # use std::time::Duration;
    /// # let bids = || Session::new()?.stream(GeneratedSource::nexmark("bid")?);
    /// let stream = bids()?.filter(col("price").gt(lit(100)))?;
    /// assert!(bids()?.filter(col("nothing").is_null()).is_err());
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
    /// # use millstream::{Session, Window, avg, col, count, lit, streams::GeneratedSource};
    /// # use std::time::Duration;
    /// # let bids = || Session::new()?.stream(GeneratedSource::nexmark("bid")?);
    /// let stream = bids()?.select([(col("price") % lit(10)).alias("rest"), col("date_time")])?;
    /// assert_eq!(stream.schema()?.field(0).name(), "rest");
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

    /// What `function` makes of each batch: one of `schema`, with as many rows or other ones. Batches are worked on at the same
    /// time; it must not depend on where they begin, which is different when rows are read again. A panic is an error.
    ///
    /// ```
    /// # use millstream::{Session, Window, avg, col, count, lit, streams::GeneratedSource};
    /// # use std::time::Duration;
    /// # let bids = || Session::new()?.stream(GeneratedSource::nexmark("bid")?);
    /// let schema = bids()?.select([col("price")])?.schema()?;
    /// let stream = bids()?.map(schema, |batch| {
    ///     Ok(batch.project(&[2]).map_err(datafusion::error::DataFusionError::from)?)
    /// })?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`DataStream::filter`] of what came before.
    pub fn map(mut self, schema: SchemaRef, function: impl Fn(RecordBatch) -> Result<RecordBatch> + Send + Sync + 'static) -> Result<Self> {
        self.settle()?;
        let operator =
            MapOperator::at_once(self.next_id("map"), Arc::clone(&schema), self.settings()?.pool.clone(), move |b| Ok(function(b)?));
        self.operators.push(Box::new(operator));
        self.schema = schema;
        Ok(self)
    }

    /// What `function` makes of each batch: none, one or many of `schema`. It sees one batch after the other, and must not
    /// depend on where they begin, which is different when rows are read again. A panic is an error.
    ///
    /// ```
    /// # use millstream::{Session, Window, avg, col, count, lit, streams::GeneratedSource};
    /// # use std::time::Duration;
    /// # let bids = || Session::new()?.stream(GeneratedSource::nexmark("bid")?);
    /// let schema = bids()?.schema()?;
    /// // Each row twice.
    /// let stream = bids()?.flat_map(schema, |batch| Ok(vec![batch.clone(), batch]))?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`DataStream::filter`] of what came before.
    pub fn flat_map(
        mut self,
        schema: SchemaRef,
        mut function: impl FnMut(RecordBatch) -> Result<Vec<RecordBatch>> + Send + 'static,
    ) -> Result<Self> {
        self.settle()?;
        let id = self.next_id("flat_map");
        self.operators.push(Box::new(MapOperator::new(id, Arc::clone(&schema), move |b| Ok(function(b)?))));
        self.schema = schema;
        Ok(self)
    }

    /// Puts the rows aside, into `sink`, for which `predicate` is true; the others go on.
    ///
    /// ```
    /// # use millstream::{Session, Window, avg, col, count, lit, streams::GeneratedSource};
    /// # use std::time::Duration;
    /// # let bids = || Session::new()?.stream(GeneratedSource::nexmark("bid")?);
    /// use millstream::streams::MemoryTable;
    /// let large = MemoryTable::default();
    /// let rest = bids()?.side_output(col("price").gt(lit(1_000_000)), large.sink("large"))?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`DataStream::filter`].
    pub fn side_output(mut self, predicate: Expr, sink: impl Sink + 'static) -> Result<Self> {
        self.settle()?;
        let condition = self.condition(predicate.clone())?;
        let id = self.next_id("split");
        let operator = SplitOperator::new(id.clone(), Arc::clone(&self.schema), predicate.to_string(), move |b| Ok(condition(b)?));
        self.operators.push(Box::new(operator));
        self.sides.push(Side { operator: id, sink: Box::new(sink) });
        Ok(self)
    }

    /// The rows by key: windows have a row for each.
    ///
    /// ```
    /// # use millstream::{Session, Window, avg, col, count, lit, streams::GeneratedSource};
    /// # use std::time::Duration;
    /// # let bids = || Session::new()?.stream(GeneratedSource::nexmark("bid")?);
    /// let by_auction = bids()?.event_time("date_time", Duration::ZERO)?.key_by([col("auction")]);
    /// let windows = by_auction.window(Window::tumble(Duration::from_secs(60)));
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn key_by(self, keys: impl IntoIterator<Item = Expr>) -> KeyedStream {
        KeyedStream { stream: self, keys: keys.into_iter().collect() }
    }

    /// Windows over event time, of all rows: [`WindowedStream::aggregate`] says of what.
    ///
    /// ```
    /// # use millstream::{Session, Window, avg, col, count, lit, streams::GeneratedSource};
    /// # use std::time::Duration;
    /// # let bids = || Session::new()?.stream(GeneratedSource::nexmark("bid")?);
    /// let windows = bids()?.event_time("date_time", Duration::ZERO)?.window(Window::tumble(Duration::from_secs(60)));
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn window(self, window: Window) -> WindowedStream {
        self.key_by([]).window(window)
    }

    /// Where rows go whose windows are all closed when they come. Without it they are counted.
    ///
    /// ```
    /// # use millstream::{Session, Window, avg, col, count, lit, streams::GeneratedSource};
    /// # use std::time::Duration;
    /// # let bids = || Session::new()?.stream(GeneratedSource::nexmark("bid")?);
    /// use millstream::streams::MemoryTable;
    /// let late = MemoryTable::default();
    /// let stream = bids()?.event_time("date_time", Duration::ZERO)?.late_to(late.sink("late"));
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn late_to(self, sink: impl Sink + 'static) -> Self {
        Self { late: Some(Box::new(sink)), ..self }
    }

    /// The job that brings the rows to `sink`.
    ///
    /// ```
    /// # use millstream::{Session, Window, avg, col, count, lit, streams::GeneratedSource};
    /// # use std::time::Duration;
    /// # let bids = || Session::new()?.stream(GeneratedSource::nexmark("bid")?);
    /// let job = bids()?.filter(col("price").gt(lit(100)))?.to(millstream::streams::BlackholeSink::default())?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`DataStream::filter`].
    pub fn to(mut self, sink: impl Sink + 'static) -> Result<Job> {
        self.settle()?;
        if let Some(sink) = self.late.take() {
            let windows = self.operators.iter().find(|o| o.is_timed());
            let windows = windows
                .ok_or_else(|| Error::new(ErrorKind::Invalid, "late_to() is for rows that come too late for windows: there are none"))?;
            self.sides.push(Side { operator: windows.id().to_string(), sink });
        }
        Ok(Job { inputs: self.inputs, operators: self.operators, sink: Box::new(sink), sides: self.sides })
    }

    fn next_id(&self, kind: &str) -> String {
        format!("{kind}{}", self.operators.len())
    }

    fn task(&self) -> Arc<TaskContext> {
        self.session.context().task_ctx()
    }

    fn settings(&self) -> Result<Arc<Settings>> {
        let settings = self.session.context().state().config().get_extension::<Settings>();
        settings.ok_or_else(|| Error::new(ErrorKind::Bug, "a session without settings"))
    }
}
