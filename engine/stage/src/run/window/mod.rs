//! A group stage over windows of event time: what it keeps from one epoch to the next.
//!
//! Program and sink are those of a bounded stage whose first key is the event time. In place of that key, rows
//! are divided by *pane*, the longest span of time that every window has whole or not at all.
//!
//! ```text
//! live     a worker: groups of its own, and what came to each in each pane
//! part     a run of key groups: what the open panes hold, merged from the workers where a window or a checkpoint asks
//! sliding  the panes of a hopping window as one
//! pane     groups that have one number in all panes; a pane is accumulators by number
//! stored   panes as columns, for checkpoints and for the disk
//! memory   what is reserved of the session's
//! cold     what a part has on disk, where the memory does not hold it
//! arrival  which rows are late
//! reduce   rows of one key and window that a function makes one of, in place of aggregates
//! ```
//!
//! Workers take rows in parallel, parts close windows and write checkpoints in parallel. Between checkpoints a part
//! remembers what no checkpoint has, so that one is what came since the last: groups add up. For the same reason a part
//! whose memory is short writes all that it has to a file and begins anew: windows of panes that are on disk are added up a
//! few key groups at a time.
//!
//! Lateness is Flink's: a row is late when the last window that has it is closed.

mod arrival;
mod bounds;
mod cold;
mod live;
mod memory;
mod pane;
mod part;
mod reduce;
mod sliding;
mod stored;

pub use arrival::greatest_time;
pub use bounds::Windows;
pub use reduce::{Combine, ReduceStage};

use super::chunk::Chunks;
use super::deal::deal;
use super::{Bound, MORSEL_ROWS};
use crate::context::{Cancel, Pool, Settings};
use crate::convert::{Block, Reader, to_batch};
use crate::exec::StageExec;
use crate::program::{Program, Sink};
use crate::{Error, Result};
use arrival::{Arrival, arrived};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use live::Live;
use memory::Memory;
use millstream_kernels::{Values, Vector};
use part::{Part, Unwritten};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Parts that keyed state is divided into by the stable hash of its key: fixed for the life of a query.
pub const KEY_GROUPS: usize = 256;

/// Names of the columns that say which window a row is of.
pub const WINDOW_COLUMNS: [&str; 2] = ["window_start", "window_end"];

/// About as many rows of closed windows are held at a time, or those of one window.
const ROWS_AT_ONCE: usize = 1 << 20;

/// Under a memory limit so many rows are taken before it is asked whether they fit.
const ROWS_UNASKED: usize = 1 << 17;

/// The rows of a checkpoint, made as they are asked for.
pub type StateRows = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// Groups by window and key, fed epoch by epoch.
pub struct WindowStage {
    id: String,
    windows: Windows,
    /// The columns of the rows that the program reads.
    inputs: Arc<Vec<usize>>,
    /// The event time among the columns of the rows.
    time_column: usize,
    input: SchemaRef,
    schema: SchemaRef,
    /// How many columns are keys.
    keys: usize,
    pool: Pool,
    checked: bool,
    workers: Vec<Worker>,
    parts: Vec<Part>,
    /// The first window that is not closed; none before the first watermark.
    next: Option<i64>,
    partly_late: u64,
    memory: Memory,
    closing: Option<Closing>,
}

/// A window of which some key groups have left their rows.
struct Closing {
    /// Its key groups, by part.
    slices: Arc<Vec<Vec<Range<u16>>>>,
    /// Those of each that are next.
    next: usize,
}

/// What a pane's groups are of.
struct Shape {
    program: Arc<Program>,
    /// The group sink, without the event time.
    sink: Sink,
}

struct Worker {
    chunks: Chunks,
    reader: Reader,
    live: Live,
}

impl std::fmt::Debug for WindowStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WindowStage({} {:?})", self.id, self.windows)
    }
}

impl WindowStage {
    /// The windows `windows` over a stage that groups by event time first: a column of its input, whose unit the
    /// windows have. Rows will come with the columns `input`, in which the stage's are found by name. `ctx` has the memory that
    /// they may take, and the disk for what is more.
    ///
    /// # Errors
    /// `Unsupported` for a stage that joins, or that does not group by such a column.
    pub fn new(stage: &StageExec, input: SchemaRef, windows: Windows, ctx: &TaskContext) -> Result<Self> {
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
        let (settings, memory) = (Settings::of(ctx)?, Memory::new(ctx, stage.id(), true));
        let threads = settings.pool.threads();
        let worker = |_| {
            let live = Live::new(Arc::clone(&shape), time, windows, threads)?;
            Ok(Worker { chunks: Chunks::new(Arc::clone(&bound), Cancel::default()), reader: Reader::default(), live })
        };
        let workers = (0..threads).map(worker).collect::<Result<_>>()?;
        let parts = (0..threads).map(|i| Part::new(Arc::clone(&shape), i, threads)).collect::<Result<_>>()?;
        let (pool, checked, id, inputs) = (settings.pool.clone(), settings.checked, stage.id().to_string(), Arc::new(inputs));
        Ok(Self {
            id,
            windows,
            inputs,
            time_column,
            input,
            schema,
            keys: keys.len() - 1,
            pool,
            checked,
            workers,
            parts,
            next: None,
            partly_late: 0,
            memory,
            closing: None,
        })
    }

    /// The columns of its rows: `window_start`, `window_end`, keys, aggregates.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns of the rows that it takes.
    pub fn input(&self) -> &SchemaRef {
        &self.input
    }

    /// The event time among the columns of the input.
    pub fn time(&self) -> &Field {
        self.input.field(self.time_column)
    }

    /// The columns that its rows have each value of once: the window's begin and the keys.
    pub fn key(&self) -> Vec<String> {
        let keys = self.schema.fields()[WINDOW_COLUMNS.len()..].iter().take(self.keys);
        std::iter::once(WINDOW_COLUMNS[0].to_string()).chain(keys.map(|f| f.name().clone())).collect()
    }

    /// Bytes of memory held.
    pub fn size(&self) -> usize {
        self.workers.iter().map(|w| w.live.size()).sum::<usize>() + self.parts.iter().map(Part::size).sum::<usize>()
    }

    /// Bytes of open panes on disk, where the memory does not hold them.
    pub fn on_disk(&self) -> u64 {
        self.parts.iter().map(|p| p.on_disk(i64::MIN..i64::MAX)).sum()
    }

    /// Rows that came when some of their windows were closed and others not: they count in those.
    pub fn partly_late(&self) -> u64 {
        self.partly_late
    }

    /// The begin of the first window that is not closed.
    pub fn first_open(&self) -> Option<i64> {
        self.next
    }

    /// Takes rows; the late ones come back, as they are.
    ///
    /// # Errors
    /// `Invalid` for an event time that is null or at the end of its range; what the program raises, and the disk.
    pub async fn rows(&mut self, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        self.whole()?;
        let (mut late, mut batches) = (vec![], &batches[..]);
        while !batches.is_empty() {
            let mut rows = 0;
            let before = batches.iter().map(|b| {
                rows += b.num_rows();
                rows - b.num_rows()
            });
            let fit = before.take_while(|rows| *rows < ROWS_UNASKED).count();
            let (some, rest) = batches.split_at(if self.memory.is_limited() { fit } else { batches.len() });
            late.extend(self.take(some).await?);
            self.fit().await?;
            batches = rest;
        }
        Ok(late)
    }

    async fn take(&mut self, batches: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        let (windows, next, time, inputs) = (self.windows, self.next, self.time_column, Arc::clone(&self.inputs));
        let arrivals = deal(&self.pool, &mut self.workers, batches, MORSEL_ROWS, move |worker, morsel| {
            let Arrival { on_time, behind, partly } = arrived(morsel, time, &windows, next)?;
            let block = worker.reader.block(&on_time, &inputs)?;
            worker.chunks.block(&block, &mut worker.live)?;
            Ok((behind, partly))
        });
        let (late, partly): (Vec<_>, Vec<u64>) = arrivals.await?.into_iter().unzip();
        self.partly_late += partly.iter().sum::<u64>();
        Ok(late.into_iter().flatten().collect())
    }

    /// Reserves the memory that it takes. Where there is not as much, what it has goes to disk.
    async fn fit(&mut self) -> Result<()> {
        if !self.memory.is_limited() {
            return Ok(());
        }
        // What workers have stands in the parts too before they let it go.
        let held = self.size() + self.workers.iter().map(|w| w.live.size()).sum::<usize>();
        if self.memory.holds(held) {
            return Ok(());
        }
        if self.memory.is_worth(held) {
            let (spiller, most) = (self.memory.spiller.clone(), self.memory.slice(self.pool.threads()));
            self.each_part(i64::MAX, move |part| part.spill(&spiller, most)).await?;
            self.workers.iter_mut().try_for_each(|w| w.live.reset())?;
        }
        // What a checkpoint on its way still has is counted, and not waited for.
        self.memory.take(self.size());
        Ok(())
    }

    /// An error where a window has left some of its rows and not others.
    fn whole(&self) -> Result<()> {
        if self.closing.is_none() { Ok(()) } else { Err(Error::bug("a window is not closed yet: advance() until no rows come")) }
    }

    /// No row earlier than `watermark` will count as on time: rows of the windows that end by then, window by window.
    /// Not more than fit the memory of an epoch come at once: to be called again until none come.
    ///
    /// # Errors
    /// What the aggregates raise, and the disk.
    pub async fn advance(&mut self, watermark: i64) -> Result<Vec<RecordBatch>> {
        loop {
            let mut due = self.due(watermark);
            let Some(first) = due.first().copied() else {
                self.next = self.next.max(Some(self.windows.first_open(watermark)));
                return Ok(vec![]);
            };
            let rows = if self.is_sliced(first) {
                self.close_slice(first).await?
            } else {
                let known = self.parts.iter().map(Part::groups).chain(self.workers.iter().map(|w| w.live.groups.len()));
                due.truncate((ROWS_AT_ONCE / known.sum::<usize>().max(1)).max(1));
                due.truncate(due.iter().position(|start| self.is_sliced(*start)).unwrap_or(due.len()));
                let next = due.last().map(|last| last + self.windows.slide());
                let rows = self.close(due).await?;
                self.next = next;
                rows
            };
            if self.closing.is_none() {
                self.compact().await?;
            }
            self.fit().await?;
            if !rows.is_empty() {
                return Ok(rows);
            }
        }
    }

    /// The panes of the window that begins at `start`.
    fn panes_of(&self, start: i64) -> Range<i64> {
        start..start.saturating_add(self.windows.width())
    }

    /// Whether the window that begins at `start` is closed a few key groups at a time: panes of it are on disk, or would
    /// take more memory as one than there is.
    fn is_sliced(&self, start: i64) -> bool {
        if self.closing.is_some() || !self.memory.is_limited() {
            return self.closing.is_some();
        }
        let panes = || self.panes_of(start);
        let room = || self.parts.iter().map(|p| p.room_to_slide(panes())).sum::<usize>();
        self.parts.iter().any(|p| p.on_disk(panes()) > 0) || (!self.windows.is_tumbling() && !self.memory.holds(self.size() + room()))
    }

    /// Rows of the window that begins at `start`, of the next of its key groups. Behind the last it is closed.
    async fn close_slice(&mut self, start: i64) -> Result<Vec<RecordBatch>> {
        let (checked, schema, panes) = (self.checked, Arc::clone(&self.schema), self.panes_of(start));
        let (slices, next) = match self.closing.take() {
            Some(Closing { slices, next }) => (slices, next),
            None => {
                let (most, panes) = (self.memory.slice(self.pool.threads()), panes.clone());
                let slices = self.each_part(panes.end, move |part| Ok(part.slices_of(panes.clone(), most))).await?;
                (Arc::new(slices), 0)
            }
        };
        let of_parts = Arc::clone(&slices);
        let closed = self.each_part(i64::MIN, move |part| {
            let Some(key_groups) = of_parts[part.index].get(next) else { return Ok(None) };
            let block = part.close_slice(panes.clone(), key_groups, checked)?;
            (block.rows > 0).then(|| batch(panes.start, panes.end, block, &schema)).transpose()
        });
        let rows = closed.await?.into_iter().flatten().collect();
        if slices.iter().any(|s| s.len() > next + 1) {
            self.closing = Some(Closing { slices, next: next + 1 });
        } else {
            let next = start + self.windows.slide();
            self.parts.iter_mut().for_each(|part| part.drop_before(next));
            self.next = Some(next);
        }
        Ok(rows)
    }

    /// The rows of these windows, which are closed in this order.
    async fn close(&mut self, due: Vec<i64>) -> Result<Vec<RecordBatch>> {
        let (windows, checked, schema) = (self.windows, self.checked, Arc::clone(&self.schema));
        let end = move |start: i64| start.saturating_add(windows.width());
        let Some(last) = due.last().copied() else { return Ok(vec![]) };
        let closed = self.each_part(end(last), move |part| {
            let mut rows = vec![];
            for (i, start) in due.iter().enumerate() {
                let block = part.close(&windows, *start, checked)?;
                if block.rows > 0 {
                    rows.push((i, batch(*start, end(*start), block, &schema)?));
                }
            }
            part.drop_before(last + windows.slide());
            Ok(rows)
        });
        let mut rows: Vec<(usize, RecordBatch)> = closed.await?.into_iter().flatten().collect();
        rows.sort_by_key(|(i, _)| *i);
        Ok(rows.into_iter().map(|(_, b)| b).collect())
    }

    /// The begins of the windows that have rows and end by `watermark`, in order.
    fn due(&self, watermark: i64) -> Vec<i64> {
        let live = self.workers.iter().flat_map(|w| w.live.starts());
        let panes = live.chain(self.parts.iter().flat_map(Part::starts)).collect();
        self.windows.due(panes, self.next, watermark)
    }

    /// Brings what workers have of the panes that begin before `end` to the parts, and works on each of those.
    async fn each_part<T: Send + 'static>(
        &mut self,
        end: i64,
        work: impl Fn(&mut Part) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Vec<T>> {
        let tasks = std::mem::take(&mut self.workers).into_iter().map(|mut w| {
            self.pool.run(move || {
                w.live.assign()?;
                Ok(w)
            })
        });
        let (mut hands, mut lives) = (vec![], vec![]);
        for Worker { chunks, reader, live } in futures::future::try_join_all(tasks).await? {
            hands.push((chunks, reader));
            lives.push(live);
        }
        let (lives, work) = (Arc::new(lives), Arc::new(work));
        let tasks = std::mem::take(&mut self.parts).into_iter().map(|mut part| {
            let (lives, work) = (Arc::clone(&lives), Arc::clone(&work));
            self.pool.run(move || {
                part.settle(&lives, end)?;
                let out = work(&mut part)?;
                Ok((part, out))
            })
        });
        let (parts, out) = futures::future::try_join_all(tasks).await?.into_iter().unzip();
        self.parts = parts;
        let lives = Arc::into_inner(lives).ok_or_else(|| Error::bug("a part that is done holds the workers' groups"))?;
        self.workers = hands.into_iter().zip(lives).map(|((chunks, reader), live)| Worker { chunks, reader, live }).collect();
        self.workers.iter_mut().for_each(|w| w.live.let_go(end));
        Ok(out)
    }

    /// Forgets groups that no pane has any longer, where they have become many.
    async fn compact(&mut self) -> Result<()> {
        let due = self.parts.iter().any(Part::is_due) || self.workers.iter().any(|w| w.live.groups.is_due());
        if !due {
            return Ok(());
        }
        let workers = std::mem::take(&mut self.workers).into_iter().map(|mut w| {
            self.pool.run(move || {
                let compacted = w.live.compact()?;
                Ok((w, compacted))
            })
        });
        let (workers, compacted): (_, Vec<bool>) = futures::future::try_join_all(workers).await?.into_iter().unzip();
        self.workers = workers;
        let parts = std::mem::take(&mut self.parts).into_iter().map(|mut part| {
            let compacted = compacted.clone();
            self.pool.run(move || {
                part.compact(&compacted)?;
                Ok(part)
            })
        });
        self.parts = futures::future::try_join_all(parts).await?;
        Ok(())
    }

    /// What came since the last call, pane by pane; with `whole` all that the open panes hold: rows that are made when they are
    /// asked for, on any thread, while more are taken here.
    ///
    /// # Errors
    /// What the kernels raise.
    pub async fn checkpoint(&mut self, whole: bool) -> Result<StateRows> {
        self.whole()?;
        let parts = self.each_part(i64::MAX, move |part| part.checkpoint(whole)).await?;
        let mut parts: VecDeque<_> = parts.into_iter().map(Unwritten::rows).collect();
        // In turn: all parts have something to do when a file is read again.
        Ok(Box::new(std::iter::from_fn(move || {
            loop {
                let mut part = parts.pop_front()?;
                if let Some(rows) = part.next() {
                    parts.push_back(part);
                    return Some(rows);
                }
            }
        })))
    }

    /// Takes some of what checkpoints hold, where the first window that is not closed was `first_open`. Panes
    /// that no open window has are left out.
    ///
    /// # Errors
    /// `Corrupt` for batches that are not of this stage; what the disk says.
    pub async fn restore(&mut self, first_open: Option<i64>, pieces: Vec<RecordBatch>) -> Result<()> {
        self.next = first_open;
        let pieces = Arc::new(pieces);
        let tasks = std::mem::take(&mut self.parts).into_iter().map(|mut part| {
            let pieces = Arc::clone(&pieces);
            self.pool.run(move || {
                part.restore(first_open, &pieces)?;
                Ok(part)
            })
        });
        self.parts = futures::future::try_join_all(tasks).await?;
        self.fit().await
    }
}

/// The rows of a window.
fn batch(start: i64, end: i64, block: Block, schema: &SchemaRef) -> Result<RecordBatch> {
    let edge = |t: i64| Vector { constant: true, ..Vector::new(Values::I64(vec![t].into())) };
    let columns = [edge(start), edge(end)].into_iter().chain(block.columns).collect();
    to_batch(&Block { columns, rows: block.rows }, schema)
}
