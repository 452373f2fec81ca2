//! A group stage over windows of event time: what it keeps from one epoch to the next.
//!
//! Program and sink are those of a bounded stage whose first key is the event time. In place of that key, rows
//! are divided by *pane*, the longest span of time that every window has whole or not at all. Each worker has a
//! group sink for every open pane; when the watermark reaches the end of a window, its panes are merged and
//! leave as rows. Between checkpoints the workers hold only what came since the last one, so that a checkpoint
//! is what they hold: groups add up.
//!
//! Lateness is Flink's: a row is late when the last window that has it is closed.

mod bounds;
mod panes;
mod sliding;
mod state;

pub use bounds::Windows;
pub use state::KEY_GROUPS;

use super::chunk::Chunks;
use super::merge::finish_groups;
use super::sink::GroupSink;
use super::{Bound, MORSEL_ROWS};
use crate::context::{Cancel, Pool, Settings};
use crate::convert::{Block, Reader, to_batch};
use crate::exec::StageExec;
use crate::program::{Program, Sink};
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::Time;
use millstream_kernels::{Values, Vector, arith};
use panes::PaneSink;
use sliding::Sliding;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Names of the columns that say which window a row is of.
pub const WINDOW_COLUMNS: [&str; 2] = ["window_start", "window_end"];

/// Groups by window and key, fed epoch by epoch.
pub struct WindowStage {
    id: String,
    windows: Windows,
    shape: Arc<Shape>,
    /// The columns of the rows that the program reads.
    inputs: Vec<usize>,
    /// The event time among the columns of the rows.
    time_column: usize,
    input: SchemaRef,
    schema: SchemaRef,
    pool: Pool,
    checked: bool,
    workers: Vec<Worker>,
    /// What of the open panes is in a checkpoint, or was merged for a window.
    settled: BTreeMap<i64, GroupSink>,
    /// What of it no checkpoint has: merged for a window since the last one.
    unsaved: BTreeMap<i64, GroupSink>,
    sliding: Sliding,
    /// The first window that is not closed; none before the first watermark.
    next: Option<i64>,
    partly_late: u64,
}

/// What a pane's groups are of.
pub(super) struct Shape {
    pub(super) program: Arc<Program>,
    /// The group sink, without the event time.
    pub(super) sink: Sink,
}

impl Shape {
    /// Groups of nothing.
    pub(super) fn groups(&self) -> Result<GroupSink> {
        let Sink::Group { keys, aggregates, .. } = &self.sink else { return Err(Error::bug("group sink expected")) };
        GroupSink::new(&self.program, keys, aggregates)
    }
}

struct Worker {
    chunks: Chunks,
    reader: Reader,
    panes: PaneSink,
}

impl std::fmt::Debug for WindowStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WindowStage({} {:?})", self.id, self.windows)
    }
}

impl WindowStage {
    /// The windows `windows` over a stage that groups by event time first: a column of its input, whose unit the
    /// windows have. Rows will come with the columns `input`, in which the stage's are found by name.
    ///
    /// # Errors
    /// `Unsupported` for a stage that joins, or that does not group by such a column.
    pub fn new(stage: &StageExec, input: SchemaRef, windows: Windows, settings: &Settings) -> Result<Self> {
        let Sink::Group { keys, sets, aggregates } = stage.sink() else {
            return Err(Error::unsupported("windows are of a stage that groups"));
        };
        if !sets.is_empty() {
            return Err(Error::unsupported("a stage over windows cannot have grouping sets yet"));
        }
        if !stage.builds().is_empty() || stage.subqueries().is_some() {
            return Err(Error::unsupported("a stage over windows cannot join nor ask subqueries yet"));
        }
        let program = Arc::clone(stage.program());
        let time = *keys.first().ok_or_else(|| Error::unsupported("windows are of a stage that groups by event time"))?;
        let stage_input = stage.input().schema();
        let inputs = program.inputs.iter().map(|i| Ok(input.index_of(stage_input.field(*i).name())?)).collect::<Result<Vec<_>>>()?;
        let Some(time_column) = inputs.get(time as usize).copied() else {
            return Err(Error::unsupported("the event time has to be a column of the input"));
        };
        let field = input.field(time_column);
        if !matches!(field.data_type(), DataType::Timestamp(..) | DataType::Date64 | DataType::Int64) {
            let text = format!("event time `{}` is {}: a timestamp or a 64-bit integer is needed", field.name(), field.data_type());
            return Err(Error::unsupported(text));
        }
        let edges = WINDOW_COLUMNS.map(|name| Arc::new(Field::new(name, field.data_type().clone(), false)));
        let schema = Arc::new(Schema::new(edges.into_iter().chain(stage.schema().fields()[1..].iter().cloned()).collect::<Vec<_>>()));
        let shape =
            Arc::new(Shape { program, sink: Sink::Group { keys: keys[1..].to_vec(), sets: vec![], aggregates: aggregates.clone() } });
        let bound = Arc::new(Bound::new(Arc::clone(&shape.program), vec![])?);
        let worker = |_| Worker {
            chunks: Chunks::new(Arc::clone(&bound), Cancel::default()),
            reader: Reader::default(),
            panes: PaneSink::new(Arc::clone(&shape), time, windows),
        };
        let workers = (0..settings.pool.threads()).map(worker).collect();
        let (pool, checked, id) = (settings.pool.clone(), settings.checked, stage.id().to_string());
        let (settled, unsaved, sliding) = (BTreeMap::new(), BTreeMap::new(), Sliding::default());
        Ok(Self {
            id,
            windows,
            shape,
            inputs,
            time_column,
            input,
            schema,
            pool,
            checked,
            workers,
            settled,
            unsaved,
            sliding,
            next: None,
            partly_late: 0,
        })
    }

    /// The columns of its rows: `window_start`, `window_end`, keys, aggregates.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The event time among the columns of the input.
    pub fn time(&self) -> &Field {
        self.input.field(self.time_column)
    }

    /// Bytes of memory held.
    pub fn size(&self) -> usize {
        let live = self.workers.iter().flat_map(|w| w.panes.groups());
        live.chain(self.settled.values()).chain(self.unsaved.values()).map(GroupSink::size).sum::<usize>() + self.sliding.size()
    }

    /// Rows that came when some of their windows were closed and others not: they count in those.
    pub fn partly_late(&self) -> u64 {
        self.partly_late
    }

    /// Takes rows; the late ones come back, as they are.
    ///
    /// # Errors
    /// `Invalid` for an event time that is null or at the end of its range; what the program raises.
    pub async fn rows(&mut self, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let (mut late, mut morsels) = (vec![], vec![]);
        for batch in batches {
            let (on_time, behind) = self.on_time(batch)?;
            late.extend(behind);
            let rows = on_time.num_rows();
            morsels.extend((0..rows).step_by(MORSEL_ROWS).map(|at| on_time.slice(at, MORSEL_ROWS.min(rows - at))));
        }
        let mut shares: Vec<Vec<RecordBatch>> = self.workers.iter().map(|_| vec![]).collect();
        let threads = shares.len();
        morsels.into_iter().enumerate().for_each(|(i, m)| shares[i % threads].push(m));
        let tasks = std::mem::take(&mut self.workers).into_iter().zip(shares).map(|(mut worker, share)| {
            let inputs = self.inputs.clone();
            self.pool.run(move || {
                for morsel in share {
                    let block = worker.reader.block(&morsel, &inputs)?;
                    worker.chunks.block(&block, &mut worker.panes)?;
                }
                Ok(worker)
            })
        });
        self.workers = futures::future::try_join_all(tasks).await?;
        Ok(late)
    }

    /// Divides rows into those on time and those that are late, if there are any.
    fn on_time(&mut self, batch: RecordBatch) -> Result<(RecordBatch, Option<RecordBatch>)> {
        let column = batch.column(self.time_column);
        if column.null_count() > 0 {
            let row = (0..column.len()).find(|r| column.is_null(*r)).unwrap_or(0);
            let name = self.time().name();
            return Err(Error::new(crate::ErrorKind::Invalid, format!("event time `{name}` is null in row {row} of a batch")));
        }
        let times = times(column)?;
        let (least, greatest) = arith::range_i64(&times);
        if !times.is_empty() {
            self.windows.check(least)?;
            self.windows.check(greatest)?;
        }
        if let Some(next) = self.next
            && !self.windows.is_tumbling()
            && least < self.windows.whole_from(next)
        {
            let misses = |t: &&i64| (next..self.windows.whole_from(next)).contains(*t);
            self.partly_late += times.iter().filter(misses).count() as u64;
        }
        match self.next {
            Some(next) if least < next && !times.is_empty() => {
                let keep: BooleanArray = times.iter().map(|t| Some(*t >= next)).collect();
                let late = filter_record_batch(&batch, &not(&keep)?)?;
                Ok((filter_record_batch(&batch, &keep)?, Some(late)))
            }
            _ => Ok((batch, None)),
        }
    }

    /// No row earlier than `watermark` will count as on time: the rows of the windows that end by then, window
    /// by window.
    ///
    /// # Errors
    /// What the aggregates raise.
    pub async fn advance(&mut self, watermark: i64) -> Result<Vec<RecordBatch>> {
        let mut out = vec![];
        let mut panes: BTreeSet<i64> = self.workers.iter().flat_map(|w| w.panes.starts()).chain(self.settled.keys().copied()).collect();
        while let Some(pane) = panes.first() {
            let first = self.windows.first_with(*pane);
            let start = self.next.map_or(first, |next| next.max(first));
            let end = start.saturating_add(self.windows.width());
            if end > watermark {
                break;
            }
            for block in self.close(start, end).await? {
                out.push(self.batch(start, end, block)?);
            }
            let next = start + self.windows.slide();
            self.next = Some(next);
            panes = panes.split_off(&next);
            self.settled = self.settled.split_off(&next);
            self.unsaved = self.unsaved.split_off(&next);
            self.workers.iter_mut().for_each(|w| w.panes.drop_before(next));
        }
        let open = self.windows.first_open(watermark);
        self.next = self.next.max(Some(open));
        Ok(out)
    }

    /// The groups of one window.
    async fn close(&mut self, start: i64, end: i64) -> Result<Vec<Block>> {
        if self.windows.is_tumbling() {
            let live = self.workers.iter_mut().filter_map(|w| w.panes.take(start));
            let groups: Vec<GroupSink> = live.chain(self.settled.remove(&start)).collect();
            return finish_groups(groups, &self.pool, &self.shape.program, &self.shape.sink, self.checked, &Time::new(), None).await;
        }
        let live: BTreeSet<i64> = self.workers.iter().flat_map(|w| w.panes.starts()).filter(|p| *p < end).collect();
        let (mut settled, mut unsaved) = (std::mem::take(&mut self.settled), std::mem::take(&mut self.unsaved));
        let mut sliding = std::mem::take(&mut self.sliding);
        let live: Vec<(i64, Vec<GroupSink>)> =
            live.into_iter().map(|p| (p, self.workers.iter_mut().filter_map(|w| w.panes.take(p)).collect())).collect();
        let (shape, checked) = (Arc::clone(&self.shape), self.checked);
        let work = move || {
            for (pane, groups) in live {
                state::settle(&mut settled, &shape, pane, &groups)?;
                state::settle(&mut unsaved, &shape, pane, &groups)?;
                sliding.changed(pane);
            }
            let block = sliding.window(&settled, &shape, start, end)?.finish(checked)?;
            Ok((settled, unsaved, sliding, block))
        };
        let (settled, unsaved, sliding, block) = self.pool.run(work).await?;
        (self.settled, self.unsaved, self.sliding) = (settled, unsaved, sliding);
        Ok(vec![block])
    }

    fn batch(&self, start: i64, end: i64, block: Block) -> Result<RecordBatch> {
        let edge = |t: i64| Vector { constant: true, ..Vector::new(Values::I64(vec![t].into())) };
        let columns = [edge(start), edge(end)].into_iter().chain(block.columns).collect();
        to_batch(&Block { columns, rows: block.rows }, &self.schema)
    }
}

/// Event times as numbers in their unit.
fn times(column: &ArrayRef) -> Result<ScalarBuffer<i64>> {
    let data = column.to_data().into_builder().data_type(DataType::Int64).build()?;
    Ok(arrow::array::make_array(data).as_primitive::<Int64Type>().values().clone())
}
