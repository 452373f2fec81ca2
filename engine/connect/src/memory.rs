//! Rows in this process: for tests of pipelines, and for tables that a program reads while the job runs.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_stream::{Attempt, Committer, Error, ErrorKind, Fetched, Result, Sink, Source, SplitOrder};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

struct Partition {
    /// Each with the offset of its first row.
    batches: Vec<(u64, RecordBatch)>,
    rows: u64,
    ended: bool,
}

/// Partitions that a program appends to: a topic without a broker.
#[derive(Clone)]
pub struct MemorySource {
    name: String,
    schema: SchemaRef,
    partitions: Arc<Mutex<Vec<Partition>>>,
}

impl MemorySource {
    /// `partitions` partitions without rows.
    pub fn new(name: impl Into<String>, schema: SchemaRef, partitions: usize) -> Self {
        let empty = || Partition { batches: vec![], rows: 0, ended: false };
        Self { name: name.into(), schema, partitions: Arc::new(Mutex::new((0..partitions).map(|_| empty()).collect())) }
    }

    /// Appends rows to partition `partition`.
    ///
    /// # Errors
    /// `Invalid` for a partition that is not there or has ended, and for rows of another schema.
    pub fn push(&self, partition: usize, batch: RecordBatch) -> Result<()> {
        if batch.schema().fields() != self.schema.fields() {
            return Err(Error::new(ErrorKind::Invalid, format!("rows of {} in a source of {}", batch.schema(), self.schema)));
        }
        let mut all = lock(&self.partitions)?;
        let p = all.get_mut(partition).filter(|p| !p.ended);
        let p = p.ok_or_else(|| Error::new(ErrorKind::Invalid, format!("there is no open partition {partition}")))?;
        let rows = batch.num_rows() as u64;
        p.batches.push((p.rows, batch));
        p.rows += rows;
        Ok(())
    }

    /// Says that no rows will follow, in any partition.
    ///
    /// # Errors
    /// `Bug` when a thread panicked that held the rows.
    pub fn end(&self) -> Result<()> {
        lock(&self.partitions)?.iter_mut().for_each(|p| p.ended = true);
        Ok(())
    }
}

#[async_trait]
impl Source for MemorySource {
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
        Ok((0..lock(&self.partitions)?.len()).map(|p| p.to_string()).collect())
    }

    async fn fetch(&self, split: &str, offset: u64, rows: usize) -> Result<Fetched> {
        let all = lock(&self.partitions)?;
        let p = split.parse().ok().and_then(|i: usize| all.get(i));
        let p = p.ok_or_else(|| Error::new(ErrorKind::Invalid, format!("`{}` has no partition {split}", self.name)))?;
        let end = p.rows.min(offset + rows as u64);
        let mut batches = vec![];
        let first = p.batches.partition_point(|(at, b)| at + b.num_rows() as u64 <= offset);
        for (at, batch) in p.batches[first..].iter().take_while(|(at, _)| *at < end) {
            let from = offset.saturating_sub(*at);
            let until = (end - at).min(batch.num_rows() as u64);
            batches.push(batch.slice(from as usize, (until - from) as usize));
        }
        Ok(Fetched { batches, next: end.max(offset), ended: p.ended && end == p.rows })
    }
}

#[derive(Default)]
struct Held {
    staged: BTreeMap<String, Vec<RecordBatch>>,
    published: BTreeSet<String>,
    rows: Vec<RecordBatch>,
}

/// Rows that outlive the job that writes them.
#[derive(Clone, Default)]
pub struct MemoryTable(Arc<Mutex<Held>>);

impl MemoryTable {
    /// What is visible, in the order in which it was published.
    ///
    /// # Errors
    /// `Bug` when a thread panicked that held the rows.
    pub fn rows(&self) -> Result<Vec<RecordBatch>> {
        Ok(lock(&self.0)?.rows.clone())
    }

    /// A sink into this table.
    pub fn sink(&self, name: impl Into<String>) -> MemorySink {
        MemorySink { name: name.into(), table: self.clone(), written: vec![] }
    }
}

/// A sink into a [`MemoryTable`].
pub struct MemorySink {
    name: String,
    table: MemoryTable,
    written: Vec<RecordBatch>,
}

#[async_trait]
impl Sink for MemorySink {
    fn name(&self) -> &str {
        &self.name
    }

    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.written.push(batch);
        Ok(())
    }

    fn seal(&mut self, attempt: Attempt, _schema: &SchemaRef) -> Result<BoxFuture<'static, Result<Vec<String>>>> {
        let (table, rows) = (self.table.clone(), std::mem::take(&mut self.written));
        Ok(async move {
            if rows.is_empty() {
                return Ok(vec![]);
            }
            let item = format!("{}-{}", attempt.generation, attempt.checkpoint);
            lock(&table.0)?.staged.insert(item.clone(), rows);
            Ok(vec![item])
        }
        .boxed())
    }

    fn committer(&self) -> Arc<dyn Committer> {
        Arc::new(self.table.clone())
    }
}

#[async_trait]
impl Committer for MemoryTable {
    async fn publish(&self, items: &[String]) -> Result<()> {
        let mut held = lock(&self.0)?;
        for item in items {
            if held.published.contains(item) {
                continue;
            }
            let rows = held.staged.remove(item);
            let rows = rows.ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("{item} was never staged in memory")))?;
            held.rows.extend(rows);
            held.published.insert(item.clone());
        }
        Ok(())
    }

    async fn sweep(&self, _generation: u64, named: &[String]) -> Result<()> {
        lock(&self.0)?.staged.retain(|item, _| named.contains(item));
        Ok(())
    }
}

fn lock<T>(held: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
    held.lock().map_err(|_| Error::new(ErrorKind::Bug, "a thread panicked that held rows in memory"))
}
