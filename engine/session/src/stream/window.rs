//! Streams by key and by window.

use super::DataStream;
use super::steps::{Pending, text, whole_stage};
use crate::{Error, ErrorKind, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::col;
use millstream_stage::{Combine, ReduceStage, StageExec, WindowStage, Windows};
use millstream_stream::WindowOperator;
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
pub(super) fn units(d: Duration, time: &DataType) -> Result<i64> {
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

/// A stream by key.
pub struct KeyedStream {
    pub(super) stream: DataStream,
    pub(super) keys: Vec<Expr>,
}

impl KeyedStream {
    /// Windows over event time, of each key: [`WindowedStream::aggregate`] says of what.
    ///
    /// ```
    /// # use millstream::{Session, Window, avg, col, count, lit, streams::GeneratedSource};
    /// # use std::time::Duration;
    /// # let bids = || Session::new()?.stream(GeneratedSource::nexmark("bid")?);
    /// let windows = bids()?.event_time("date_time", Duration::ZERO)?.key_by([col("bidder")]).window(Window::tumble(Duration::from_secs(60)));
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn window(self, window: Window) -> WindowedStream {
        WindowedStream { stream: self.stream, keys: self.keys, window }
    }
}

/// A stream divided into windows.
pub struct WindowedStream {
    stream: DataStream,
    keys: Vec<Expr>,
    window: Window,
}

impl WindowedStream {
    /// A row for each window and key, when the watermark passes the window: `window_start`, `window_end`, the keys, the
    /// aggregates.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # use millstream::{Session, Window, avg, col, count, lit, streams::GeneratedSource};
    /// # use std::time::Duration;
    /// # let bids = || Session::new()?.stream(GeneratedSource::nexmark("bid")?);
    /// let bids = bids()?.event_time("date_time", Duration::ZERO)?.key_by([(col("price") % lit(10)).alias("rest")]);
    /// let means = bids.window(Window::tumble(Duration::from_secs(60))).aggregate([avg(col("price")).alias("mean")]).await?;
    /// let names: Vec<String> = means.schema()?.fields().iter().map(|f| f.name().clone()).collect();
    /// assert_eq!(names, ["window_start", "window_end", "rest", "mean"]);
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` without an event time or when a column is not there; `Unsupported` for aggregates without a kernel.
    pub async fn aggregate(self, aggregates: impl IntoIterator<Item = Expr>) -> Result<DataStream> {
        let Self { mut stream, keys, window } = self;
        stream.takes_windows()?;
        let time = stream.time()?;
        let frame = stream.frame()?;
        let windows = window.of(frame.schema().field_with_unqualified_name(&time)?.data_type())?;
        let keys: Vec<Expr> = std::iter::once(col(datafusion::common::Column::new_unqualified(&time))).chain(keys).collect();
        let aggregates: Vec<Expr> = aggregates.into_iter().collect();
        let before = stream.pending.iter().map(Pending::text).collect::<Vec<_>>().join(", ");
        let text = format!("{} by {} where {before}", text(&aggregates), text(&keys));
        let plan = frame.aggregate(keys, aggregates)?.create_physical_plan().await?;
        let stage = group_stage(&plan)?;
        let windows = WindowStage::new(stage, Arc::clone(&stream.schema), windows, &stream.task())?;
        if windows.time().name() != &time {
            let text = format!(
                "event time `{time}` is `{}` of the source by now: the watermark is that of the source's own",
                windows.time().name()
            );
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        stream.schema = Arc::clone(windows.schema());
        stream.pending.clear();
        let id = stream.next_id("window");
        stream.operators.push(Box::new(WindowOperator::new(id, windows, text)));
        Ok(stream)
    }

    /// A row for each window and key, when the watermark passes the window: `window_start`, `window_end`, and the columns of the
    /// rows, of which `combine` makes one, two and two. Row `i` of what it returns is of row `i` of both batches, whose keys
    /// are equal; the first is of rows that came earlier, in windows that hop those of earlier panes. It has to be associative. `name` stands for the function: checkpoints of a job
    /// with another one are refused. Aggregates are faster.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # use millstream::{Session, Window, avg, col, count, lit, streams::GeneratedSource};
    /// # use std::time::Duration;
    /// # let bids = || Session::new()?.stream(GeneratedSource::nexmark("bid")?);
    /// use arrow::compute::{interleave_record_batch, kernels::cmp::gt};
    /// // The highest bid of each auction, all of it.
    /// let bids = bids()?.event_time("date_time", Duration::ZERO)?.key_by([col("auction")]);
    /// let highest = bids.window(Window::tumble(Duration::from_secs(1))).reduce("highest", |a, b| {
    ///     let take = gt(&b["price"], &a["price"]).map_err(datafusion::error::DataFusionError::from)?;
    ///     let places: Vec<_> = take.values().iter().enumerate().map(|(row, b)| (usize::from(b), row)).collect();
    ///     Ok(interleave_record_batch(&[a, b], &places).map_err(datafusion::error::DataFusionError::from)?)
    /// })?;
    /// assert_eq!(highest.schema()?.field(2).name(), "auction");
    /// # Ok::<(), millstream::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// `Invalid` without an event time or when a column is not there; `Unsupported` for keys that are no columns.
    pub fn reduce(
        self,
        name: &str,
        combine: impl Fn(&RecordBatch, &RecordBatch) -> Result<RecordBatch> + Send + Sync + 'static,
    ) -> Result<DataStream> {
        let Self { mut stream, keys, window } = self;
        stream.takes_windows()?;
        let time = stream.time()?;
        stream.settle()?;
        let column = |e: &Expr| match e {
            Expr::Column(c) => Ok(c.name.clone()),
            other => Err(Error::new(ErrorKind::Unsupported, format!("reduce() is by columns: select() `{other}` as one first"))),
        };
        let keys = keys.iter().map(column).collect::<Result<Vec<_>>>()?;
        let input = Arc::clone(&stream.schema);
        let kind = input.field_with_name(&time).map_err(DataFusionError::from)?.data_type();
        let combine: Combine = Arc::new(move |a, b| combine(a, b).map_err(|e| DataFusionError::External(Box::new(e)).into()));
        let stage = ReduceStage::new(Arc::clone(&input), &time, &keys, window.of(kind)?, combine, &stream.task())?;
        stream.schema = Arc::clone(stage.schema());
        let id = stream.next_id("window");
        stream.operators.push(Box::new(WindowOperator::reduced(id, stage, name)));
        Ok(stream)
    }
}

impl DataStream {
    fn takes_windows(&self) -> Result<()> {
        match self.operators.iter().any(|o| o.is_timed()) {
            true => Err(Error::new(ErrorKind::Unsupported, "windows of the rows of windows are not there yet")),
            false => Ok(()),
        }
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
}

/// The stage that does it all: over a stream nothing else may group.
fn group_stage(plan: &Arc<dyn ExecutionPlan>) -> Result<&StageExec> {
    whole_stage(plan).ok_or_else(|| {
        let plan = displayable(plan.as_ref()).indent(false);
        Error::new(ErrorKind::Unsupported, format!("over a stream all of this has to be one stage, and it is not:\n{plan}"))
    })
}
