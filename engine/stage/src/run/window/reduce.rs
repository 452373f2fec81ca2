//! Windows of rows that a function makes one of, two and two.
//!
//! A pane holds rows, in the order in which they came. When those that came since are as many as those that are one of
//! their key already, all are made one of each key: every row is looked at a few times, however many epochs there are.

use super::arrival::{Arrival, arrived};
use super::memory::Memory;
use super::{WINDOW_COLUMNS, Windows};
use crate::context::{Pool, Settings};
use crate::{Error, ErrorKind, Result};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat_batches, interleave_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::execution::TaskContext;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Makes one row of two of the same key: row `i` of what comes out is of row `i` of the first, which came earlier, and of
/// row `i` of the second. Associative, for rows are combined in any grouping, in the order in which they came.
pub type Combine = Arc<dyn Fn(&RecordBatch, &RecordBatch) -> Result<RecordBatch> + Send + Sync>;

/// A row for each window and key.
pub struct ReduceStage {
    windows: Windows,
    time: usize,
    shape: Arc<Shape>,
    schema: SchemaRef,
    pool: Pool,
    panes: BTreeMap<i64, Pane>,
    /// The first window that is not closed; none before the first watermark.
    next: Option<i64>,
    partly_late: u64,
    memory: Memory,
}

/// What rows of a key are made one by.
struct Shape {
    input: SchemaRef,
    keys: Vec<usize>,
    combine: Combine,
}

#[derive(Clone, Default)]
struct Pane {
    /// One row of each key.
    one: Option<RecordBatch>,
    /// What came since.
    more: Vec<RecordBatch>,
    /// What no checkpoint has.
    unsaved: Vec<RecordBatch>,
}

impl std::fmt::Debug for ReduceStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReduceStage({:?} by {})", self.windows, self.key().join(", "))
    }
}

impl ReduceStage {
    /// Windows of rows `input` by their columns `keys`, of the event time `time`, made one by `combine`.
    ///
    /// # Errors
    /// `Invalid` for columns that are not there, `Unsupported` for keys that have no order.
    pub fn new(input: SchemaRef, time: &str, keys: &[String], windows: Windows, combine: Combine, ctx: &TaskContext) -> Result<Self> {
        if let Some(taken) = WINDOW_COLUMNS.iter().find(|name| input.field_with_name(name).is_ok()) {
            return Err(Error::new(ErrorKind::Invalid, format!("rows of windows have a column `{taken}` already")));
        }
        let time = input.index_of(time)?;
        let keys = keys.iter().map(|k| Ok(input.index_of(k)?)).collect::<Result<Vec<_>>>()?;
        let shape = Shape { input: Arc::clone(&input), keys, combine };
        shape.converter()?;
        let edges = WINDOW_COLUMNS.map(|name| Arc::new(Field::new(name, input.field(time).data_type().clone(), false)));
        let schema = Arc::new(Schema::new(edges.into_iter().chain(input.fields().iter().cloned()).collect::<Vec<_>>()));
        let (pool, memory) = (Settings::of(ctx)?.pool.clone(), Memory::new(ctx, "of reduce()", false));
        Ok(Self { windows, time, shape: Arc::new(shape), schema, pool, panes: BTreeMap::new(), next: None, partly_late: 0, memory })
    }

    /// The columns of its rows: `window_start`, `window_end`, those that came.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns of the rows that it takes.
    pub fn input(&self) -> &SchemaRef {
        &self.shape.input
    }

    /// The columns that its rows have each value of once: the window's begin and the keys.
    pub fn key(&self) -> Vec<String> {
        let keys = self.shape.keys.iter().map(|k| self.shape.input.field(*k).name().clone());
        std::iter::once(WINDOW_COLUMNS[0].to_string()).chain(keys).collect()
    }

    /// Bytes of memory held.
    pub fn size(&self) -> usize {
        let batches = |p: &Pane| p.one.iter().chain(&p.more).chain(&p.unsaved).map(RecordBatch::get_array_memory_size).sum::<usize>();
        self.panes.values().map(batches).sum()
    }

    /// Rows that came when some of their windows were closed and others not: they count in those.
    pub fn partly_late(&self) -> u64 {
        self.partly_late
    }

    /// The begin of the first window that is not closed.
    pub fn first_open(&self) -> Option<i64> {
        self.next
    }

    /// Reserves the memory that it takes.
    fn fit(&self) -> Result<()> {
        if self.memory.is_limited() { self.memory.hold(self.size()) } else { Ok(()) }
    }

    /// Takes rows; the late ones come back, as they are.
    ///
    /// # Errors
    /// `Invalid` for an event time that is null or at the end of its range; what the function raises; `Exhausted` where more
    /// rows are kept than the memory limit allows: they do not go to disk.
    pub async fn rows(&mut self, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let mut late = vec![];
        for batch in batches {
            let Arrival { on_time, behind, partly } = arrived(&batch, self.time, &self.windows, self.next)?;
            late.extend(behind);
            self.partly_late += partly;
            for (start, rows) in self.divided(&on_time)? {
                let pane = self.panes.entry(start).or_default();
                pane.unsaved.push(rows.clone());
                pane.more.push(rows);
            }
        }
        let (shape, mut panes) = (Arc::clone(&self.shape), std::mem::take(&mut self.panes));
        let settled = self.pool.run(move || {
            panes.values_mut().try_for_each(|pane| pane.settle(&shape, false))?;
            Ok(panes)
        });
        self.panes = settled.await?;
        self.fit()?;
        Ok(late)
    }

    /// The rows of each pane.
    fn divided(&self, batch: &RecordBatch) -> Result<Vec<(i64, RecordBatch)>> {
        let times = cast(batch.column(self.time), &DataType::Int64)?;
        let mut parts: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, t) in times.as_primitive::<Int64Type>().values().iter().enumerate() {
            parts.entry(self.windows.pane_of(*t)).or_default().push(row as u32);
        }
        let take = |(start, rows): (i64, Vec<u32>)| Ok((start, take_record_batch(batch, &UInt32Array::from(rows))?));
        parts.into_iter().map(take).collect()
    }

    /// No row earlier than `watermark` will count as on time: the rows of the first window that ends by then, of which there
    /// are any. To be called again until none come.
    ///
    /// # Errors
    /// What the function raises.
    pub async fn advance(&mut self, watermark: i64) -> Result<Vec<RecordBatch>> {
        let Some(start) = self.windows.due(self.panes.keys().copied().collect(), self.next, watermark).first().copied() else {
            self.next = self.next.max(Some(self.windows.first_open(watermark)));
            return Ok(vec![]);
        };
        let end = start.saturating_add(self.windows.width());
        let panes: Vec<Pane> = self.panes.range(start..end).map(|(_, p)| p.clone()).collect();
        let (shape, schema) = (Arc::clone(&self.shape), Arc::clone(&self.schema));
        let closed = self.pool.run(move || {
            let rows: Vec<RecordBatch> = panes.into_iter().flat_map(|p| p.one.into_iter().chain(p.more)).collect();
            let rows = shape.reduced(&rows)?;
            let edge = |at: i64, column: usize| -> Result<ArrayRef> {
                Ok(cast(&Int64Array::from_value(at, rows.num_rows()), schema.field(column).data_type())?)
            };
            let columns = [edge(start, 0)?, edge(end, 1)?].into_iter().chain(rows.columns().iter().cloned()).collect();
            Ok(RecordBatch::try_new(schema, columns)?)
        });
        let closed = closed.await?;
        let next = start + self.windows.slide();
        self.next = Some(next);
        self.panes = self.panes.split_off(&next);
        Ok(vec![closed])
    }

    /// What came since the last call, pane by pane, one row of each key; with `whole` all that the open panes hold. The first
    /// column is the pane's begin.
    ///
    /// # Errors
    /// What the function raises.
    pub async fn checkpoint(&mut self, whole: bool) -> Result<Vec<RecordBatch>> {
        let (shape, mut panes) = (Arc::clone(&self.shape), std::mem::take(&mut self.panes));
        let saved = self.pool.run(move || {
            let mut pieces = vec![];
            for (start, pane) in &mut panes {
                let unsaved = std::mem::take(&mut pane.unsaved);
                let rows = if whole {
                    pane.settle(&shape, true)?;
                    pane.one.clone()
                } else {
                    (!unsaved.is_empty()).then(|| shape.reduced(&unsaved)).transpose()?
                };
                pieces.extend(rows.map(|rows| piece(*start, &rows)).transpose()?);
            }
            Ok((panes, pieces))
        });
        let (panes, pieces) = saved.await?;
        self.panes = panes;
        Ok(pieces)
    }

    /// Takes some of what checkpoints hold, in their order, where the first window that is not closed was `first_open`.
    ///
    /// # Errors
    /// `Corrupt` for batches that are not of this stage.
    pub fn restore(&mut self, first_open: Option<i64>, pieces: Vec<RecordBatch>) -> Result<()> {
        self.next = first_open;
        for piece in pieces {
            let wrong = || Error::new(ErrorKind::Corrupt, format!("state that is not of this stage: {}", piece.schema()));
            let starts = piece.columns().first().and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(wrong)?;
            let rows = RecordBatch::try_new(Arc::clone(&self.shape.input), piece.columns()[1..].to_vec()).map_err(|_| wrong())?;
            if let Some(start) = starts.values().first().filter(|s| first_open.is_none_or(|first| **s >= first)) {
                self.panes.entry(*start).or_default().more.push(rows);
            }
        }
        self.fit()
    }
}

impl Pane {
    /// Makes all rows one of each key, if they are enough for it or it is time in any case.
    fn settle(&mut self, shape: &Shape, now: bool) -> Result<()> {
        let more: usize = self.more.iter().map(RecordBatch::num_rows).sum();
        if more > 0 && (now || more >= self.one.as_ref().map_or(0, RecordBatch::num_rows)) {
            let all: Vec<RecordBatch> = self.one.take().into_iter().chain(self.more.drain(..)).collect();
            self.one = Some(shape.reduced(&all)?);
        }
        // What a checkpoint will write need not be more than that.
        let unsaved: usize = self.unsaved.iter().map(RecordBatch::num_rows).sum();
        if self.unsaved.len() > 1 && unsaved >= 2 * self.unsaved[0].num_rows() {
            self.unsaved = vec![shape.reduced(&self.unsaved)?];
        }
        Ok(())
    }
}

impl Shape {
    fn converter(&self) -> Result<RowConverter> {
        let fields = self.keys.iter().map(|k| SortField::new(self.input.field(*k).data_type().clone())).collect();
        RowConverter::new(fields).map_err(|e| Error::unsupported(format!("rows cannot be told apart by such keys: {e}")))
    }

    /// One row of each key, of rows in the order in which they came.
    fn reduced(&self, batches: &[RecordBatch]) -> Result<RecordBatch> {
        let rows = concat_batches(&self.input, batches)?;
        let keys: Vec<ArrayRef> = self.keys.iter().map(|k| Arc::clone(rows.column(*k))).collect();
        let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
        // How many rows each key has, in order.
        let mut runs: Vec<usize> = vec![];
        if keys.is_empty() {
            runs.extend(Some(order.len()).filter(|n| *n > 0));
        } else {
            let keys = self.converter()?.convert_columns(&keys)?;
            let key = |row: u32| keys.row(row as usize);
            order.sort_by(|a, b| key(*a).cmp(&key(*b)));
            runs.extend(order.chunk_by(|a, b| key(*a) == key(*b)).map(<[u32]>::len));
        }
        let mut rows = take_record_batch(&rows, &UInt32Array::from(order))?;
        while runs.iter().any(|n| *n > 1) {
            (rows, runs) = self.round(&rows, &runs)?;
        }
        Ok(rows)
    }

    /// Combines neighbours of a key, two and two.
    fn round(&self, rows: &RecordBatch, runs: &[usize]) -> Result<(RecordBatch, Vec<usize>)> {
        let (mut left, mut right, mut places, mut at) = (vec![], vec![], vec![], 0u32);
        for n in runs {
            let pairs = n / 2;
            for pair in 0..pairs as u32 {
                places.push((1, left.len()));
                left.push(at + 2 * pair);
                right.push(at + 2 * pair + 1);
            }
            if n % 2 == 1 {
                places.push((0, at as usize + n - 1));
            }
            at += *n as u32;
        }
        let pairs = left.len();
        let side = |rows_of: Vec<u32>| take_record_batch(rows, &UInt32Array::from(rows_of));
        let (left, right) = (side(left)?, side(right)?);
        let made = (self.combine)(&left, &right)?;
        if made.num_rows() != pairs || made.schema().fields() != self.input.fields() {
            let text = format!("reduce made {} rows of {} of {pairs} pairs of {}", made.num_rows(), made.schema(), self.input);
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        if let Some(k) = self.keys.iter().find(|k| made.column(**k) != left.column(**k)) {
            return Err(Error::new(ErrorKind::Invalid, format!("reduce changed the key `{}` of a row", self.input.field(*k).name())));
        }
        Ok((interleave_record_batch(&[rows, &made], &places)?, runs.iter().map(|n| n.div_ceil(2)).collect()))
    }
}

/// A checkpoint's rows of a pane.
fn piece(start: i64, rows: &RecordBatch) -> Result<RecordBatch> {
    let starts: ArrayRef = Arc::new(Int64Array::from_value(start, rows.num_rows()));
    let schema = rows.schema();
    let fields = std::iter::once(Arc::new(Field::new("pane", DataType::Int64, false))).chain(schema.fields().iter().cloned());
    let columns = std::iter::once(starts).chain(rows.columns().iter().cloned()).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)?)
}
