//! Sources that make their rows up, always the same ones, as fast as asked or at a rate.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use millstream_datasets::generated::Rows;
use millstream_datasets::nexmark;
use millstream_stream::{Clock, Error, ErrorKind, Fetched, Result, Source, SplitOrder};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

type Make = Arc<dyn Fn(Range<u64>) -> millstream_datasets::Result<RecordBatch> + Send + Sync>;

/// Rows dealt out to partitions by this many.
const BLOCK: u64 = 1024;

/// Rows that a function of their number makes, in partitions that are read at once.
pub struct GeneratedSource {
    name: String,
    schema: SchemaRef,
    make: Make,
    partitions: u64,
    rows: Option<u64>,
    rate: Option<Rate>,
}

/// So many rows a second, from when a split was first asked for.
struct Rate {
    per_second: u64,
    clock: Arc<dyn Clock>,
    /// When that was, and for which offset.
    began: Mutex<HashMap<String, (u64, u64)>>,
}

impl GeneratedSource {
    /// The rows `rows`, without end.
    pub fn new(name: impl Into<String>, rows: Rows) -> Self {
        let schema = rows.schema();
        Self::of(name.into(), schema, Arc::new(move |range| rows.batch(range)))
    }

    /// A table of Nexmark, `person`, `auction` or `bid`, without end.
    ///
    /// # Errors
    /// `Invalid` when there is no such table.
    pub fn nexmark(table: &str) -> Result<Self> {
        let schema = nexmark::schema(table).map_err(outside)?;
        let table = table.to_string();
        Ok(Self::of(table.clone(), schema, Arc::new(move |range| nexmark::batch(&table, range))))
    }

    fn of(name: String, schema: SchemaRef, make: Make) -> Self {
        Self { name, schema, make, partitions: 1, rows: None, rate: None }
    }

    /// Dealt out to so many partitions.
    pub fn partitions(self, partitions: usize) -> Self {
        Self { partitions: partitions.max(1) as u64, ..self }
    }

    /// Only the first `rows` rows.
    pub fn limit(self, rows: u64) -> Self {
        Self { rows: Some(rows), ..self }
    }

    /// At most so many rows a second, by `clock`. A driver that is restored goes on at that rate: what it missed is not
    /// made up for.
    pub fn per_second(self, rows: u64, clock: Arc<dyn Clock>) -> Self {
        Self { rate: Some(Rate { per_second: rows, clock, began: Mutex::default() }), ..self }
    }

    /// Rows of partition `partition`.
    fn rows_of(&self, partition: u64) -> u64 {
        let Some(rows) = self.rows else { return u64::MAX };
        let (round, rest) = (rows / (BLOCK * self.partitions), rows % (BLOCK * self.partitions));
        round * BLOCK + rest.saturating_sub(partition * BLOCK).min(BLOCK)
    }

    /// The offset that `split` may be read to by now.
    fn due(&self, split: &str, offset: u64) -> Result<u64> {
        let Some(rate) = &self.rate else { return Ok(u64::MAX) };
        let now = rate.clock.now_ms();
        let mut began = rate.began.lock().map_err(|_| Error::new(ErrorKind::Bug, "a thread panicked that held a rate"))?;
        let (since, from) = *began.entry(split.to_string()).or_insert((now, offset));
        let rows = u128::from(now.saturating_sub(since)) * u128::from(rate.per_second) / 1000 / u128::from(self.partitions);
        Ok(from.saturating_add(u64::try_from(rows).unwrap_or(u64::MAX)))
    }
}

#[async_trait]
impl Source for GeneratedSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn order(&self) -> SplitOrder {
        SplitOrder::Concurrent
    }

    fn is_bounded(&self) -> bool {
        true
    }

    async fn splits(&self) -> Result<Vec<String>> {
        Ok((0..self.partitions).map(|p| p.to_string()).collect())
    }

    async fn fetch(&self, split: &str, offset: u64, rows: usize) -> Result<Fetched> {
        let partition = split.parse().ok().filter(|p| *p < self.partitions);
        let partition = partition.ok_or_else(|| Error::new(ErrorKind::Invalid, format!("`{}` has no partition {split}", self.name)))?;
        let all = self.rows_of(partition);
        let end = all.min(offset.saturating_add(rows as u64)).min(self.due(split, offset)?).max(offset);
        let (make, partitions) = (Arc::clone(&self.make), self.partitions);
        let made = tokio::task::spawn_blocking(move || {
            let mut batches = vec![];
            let mut at = offset;
            while at < end {
                // A partition alone has all blocks one after the other.
                let next = if partitions == 1 { end } else { end.min((at / BLOCK + 1) * BLOCK) };
                let first = if partitions == 1 { at } else { (at / BLOCK * partitions + partition) * BLOCK + at % BLOCK };
                batches.push(make(first..first + (next - at))?);
                at = next;
            }
            Ok(batches)
        });
        let batches = made.await.map_err(|e| Error::new(ErrorKind::Bug, e))?.map_err(outside)?;
        Ok(Fetched { batches, next: end, ended: end == all })
    }
}

fn outside(e: millstream_datasets::Error) -> Error {
    Error::new(ErrorKind::Invalid, e)
}
