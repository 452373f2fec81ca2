//! A table that a job keeps up to date and that programs read while it runs.
//!
//! ```text
//! rows      the last row of each key, in memory
//! folder    what checkpoints brought, a file each; now and then one with all rows, which those before it give way to
//! ```

mod rows;

use crate::folder::{outside, publish, remove, staged, sweep};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use async_trait::async_trait;
use futures::FutureExt;
use futures::TryStreamExt;
use futures::future::BoxFuture;
use millstream_stream::{Attempt, Committer, Delivery, Error, ErrorKind, Result, Sink};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use rows::KeyedRows;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// How the names of its files begin.
const PREFIX: &str = "upsert-";

/// How the names of files end that have all rows.
const ALL: &str = "-all.arrow";

/// How those of others do.
const NEW: &str = "-new.arrow";

/// Files are followed by one with all rows when they have so many more rows than the table, or are so many.
const ROWS_BEHIND: usize = 1 << 16;
const FILES_BEHIND: usize = 128;

struct Held {
    rows: KeyedRows,
    /// The sink that may write: the last one that was made.
    writer: u64,
    /// The number of the change that the next checkpoint brings.
    change: u64,
    /// Sealed for readers that see rows when a checkpoint is true.
    staged: BTreeMap<String, Vec<RecordBatch>>,
    /// Sealed, visible already: the number of the change, and how many rows it has.
    visible: BTreeMap<String, (u64, usize)>,
    /// The last file that is in the rows.
    last: String,
    /// Rows and files since the last one with all rows.
    behind: (usize, usize),
}

/// The last row of each key, of what jobs wrote. Clones are the same table.
///
/// In memory, and in a folder of a store: each checkpoint leaves a file of Arrow's IPC format with the rows that it
/// brought, and when these have become more than the table, one with all rows, whereupon older ones are removed.
#[derive(Clone)]
pub struct UpsertTable {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    schema: SchemaRef,
    key: Vec<String>,
    held: Arc<Mutex<Held>>,
    version: Arc<watch::Sender<u64>>,
}

impl UpsertTable {
    /// The table in `folder` of `store`, with the columns `schema` of which `key` tell its rows apart. One that is not there
    /// yet has no rows.
    ///
    /// # Errors
    /// `Invalid` for a key that is no column or of a type without order, `Corrupt` for files of another table, `Retry` when
    /// the store cannot be reached.
    pub async fn open(store: Arc<dyn ObjectStore>, folder: Path, schema: SchemaRef, key: &[&str]) -> Result<Self> {
        let columns = key.iter().map(|k| schema.index_of(k)).collect::<Result<Vec<_>, _>>()?;
        if columns.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "a table of upserts has a key"));
        }
        let rows = KeyedRows::new(schema.clone(), columns)?;
        let held =
            Held { rows, writer: 0, change: 0, staged: BTreeMap::new(), visible: BTreeMap::new(), last: String::new(), behind: (0, 0) };
        let key = key.iter().map(ToString::to_string).collect();
        let table = Self { store, folder, schema, key, held: Arc::new(Mutex::new(held)), version: Arc::new(watch::Sender::new(0)) };
        table.refresh().await?;
        Ok(table)
    }

    /// Takes in what a job in another process has published since the table was opened; whether there was anything. A
    /// table that a job in this process writes is up to date.
    ///
    /// # Errors
    /// `Corrupt` for files of another table, `Retry` when the store cannot be reached.
    pub async fn refresh(&self) -> Result<bool> {
        let listed: Vec<_> = self.store.list(Some(&self.folder)).try_collect().await.map_err(|e| outside("list", &self.folder, e))?;
        let mine = |p: &Path| p.parts_count() == self.folder.parts_count() + 1;
        let names = listed.iter().filter(|o| mine(&o.location)).filter_map(|o| o.location.filename());
        let names: BTreeSet<&str> = names.filter(|n| n.starts_with(PREFIX) && (n.ends_with(ALL) || n.ends_with(NEW))).collect();
        // A file with all rows makes those before it needless, read or not.
        let from = names.iter().rfind(|n| n.ends_with(ALL)).map_or("", |n| *n);
        let last = self.lock()?.last.clone();
        let mut changed = false;
        for name in names.into_iter().filter(|n| *n >= from && *n > last.as_str()) {
            let batches = self.read(name).await?;
            let mut held = self.lock()?;
            if held.last.as_str() < name {
                held.take_in(name, batches)?;
                changed = true;
            }
        }
        if changed {
            self.version.send_modify(|v| *v += 1);
        }
        Ok(changed)
    }

    /// Its columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// All rows, as of the last epoch or checkpoint, in no order.
    ///
    /// # Errors
    /// `Bug` when a thread panicked that held the rows.
    pub fn rows(&self) -> Result<RecordBatch> {
        let snapshot = self.lock()?.rows.snapshot();
        Ok(snapshot.into_batch()?)
    }

    /// How many there are.
    ///
    /// # Errors
    /// As [`UpsertTable::rows`].
    pub fn len(&self) -> Result<usize> {
        Ok(self.lock()?.rows.len())
    }

    /// Whether there are none.
    ///
    /// # Errors
    /// As [`UpsertTable::rows`].
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The rows with these keys, an array for each column of the key, in their order; those that are not there are left out.
    ///
    /// # Errors
    /// `Invalid` for keys of other types.
    pub fn get(&self, keys: &[ArrayRef]) -> Result<RecordBatch> {
        Ok(self.lock()?.rows.get(keys)?)
    }

    /// The number of what is visible: it grows with every change.
    pub fn version(&self) -> u64 {
        *self.version.borrow()
    }

    /// Waits until more is visible than at `version`; its number.
    pub async fn changed(&self, version: u64) -> u64 {
        let mut changes = self.version.subscribe();
        // The sender is here: it cannot go.
        changes.wait_for(|v| *v > version).await.map_or(version, |v| *v)
    }

    /// A sink whose rows are visible when their checkpoint is true. A sink that was made before may write no more.
    ///
    /// # Errors
    /// As [`UpsertTable::rows`].
    pub fn sink(&self, name: impl Into<String>) -> Result<UpsertSink> {
        self.sink_of(name.into(), false)
    }

    /// A sink whose rows are visible when their epoch ends. Those that no checkpoint has are taken back when another sink is
    /// made, after a failure: the job brings them again.
    ///
    /// # Errors
    /// As [`UpsertTable::rows`].
    pub fn sink_per_epoch(&self, name: impl Into<String>) -> Result<UpsertSink> {
        self.sink_of(name.into(), true)
    }

    fn sink_of(&self, name: String, per_epoch: bool) -> Result<UpsertSink> {
        let mut held = self.lock()?;
        held.writer += 1;
        held.staged.clear();
        held.visible.clear();
        if held.rows.take_back() {
            self.version.send_modify(|v| *v += 1);
        }
        Ok(UpsertSink { name, table: self.clone(), writer: held.writer, per_epoch, epoch: vec![], checkpoint: vec![] })
    }

    fn lock(&self) -> Result<MutexGuard<'_, Held>> {
        self.held.lock().map_err(|_| Error::new(ErrorKind::Bug, "a thread panicked that held the rows of a table"))
    }

    fn path(&self, name: &str) -> Path {
        self.folder.clone().join(name)
    }

    async fn read(&self, name: &str) -> Result<Vec<RecordBatch>> {
        let path = self.path(name);
        let got = self.store.get(&path).await.map_err(|e| outside("read", &path, e))?;
        let bytes = got.bytes().await.map_err(|e| outside("read", &path, e))?;
        let corrupt = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Corrupt, format!("{path} is no file of this table: {e}"));
        let reader = StreamReader::try_new(&bytes[..], None).map_err(|e| corrupt(&e))?;
        if reader.schema().fields() != self.schema.fields() {
            return Err(corrupt(&format!("it has {}, the table {}", reader.schema(), self.schema)));
        }
        reader.collect::<Result<_, _>>().map_err(|e| corrupt(&e))
    }

    /// Lets what is held of a file be seen for good; whether it is held.
    fn publish_held(&self, item: &str) -> Result<bool> {
        let mut held = self.lock()?;
        if let Some((change, rows)) = held.visible.remove(item) {
            held.rows.settle(change);
            held.has(item, rows);
            return Ok(true);
        }
        let staged = held.staged.remove(item);
        let found = staged.is_some();
        staged.map_or(Ok(()), |rows| held.take_in(item, rows))?;
        Ok(found)
    }

    /// Removes what a file with all rows has made needless.
    async fn give_way(&self, all: &str) -> Result<()> {
        let listed: Vec<_> = self.store.list(Some(&self.folder)).try_collect().await.map_err(|e| outside("list", &self.folder, e))?;
        for path in listed.into_iter().map(|o| o.location) {
            let old = path.filename().is_some_and(|n| n.starts_with(PREFIX) && n < all);
            if old && path.parts_count() == self.folder.parts_count() + 1 {
                remove(&self.store, &path).await?;
            }
        }
        Ok(())
    }
}

impl Held {
    /// Takes in the rows of a file.
    fn take_in(&mut self, name: &str, batches: Vec<RecordBatch>) -> Result<(), ArrowError> {
        let rows = batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        batches.into_iter().try_for_each(|b| self.rows.upsert(b, None))?;
        self.has(name, rows);
        Ok(())
    }

    /// The `rows` rows of a file are here.
    fn has(&mut self, name: &str, rows: usize) {
        self.behind = if name.ends_with(ALL) { (0, 0) } else { (self.behind.0 + rows, self.behind.1 + 1) };
        self.last = name.to_string();
    }
}

/// Writes to an [`UpsertTable`].
pub struct UpsertSink {
    name: String,
    table: UpsertTable,
    writer: u64,
    per_epoch: bool,
    /// Of the epoch that runs.
    epoch: Vec<RecordBatch>,
    /// Of the epochs since the last checkpoint.
    checkpoint: Vec<RecordBatch>,
}

impl UpsertSink {
    /// The rows, if this is the sink that may write.
    fn lock(&self) -> Result<MutexGuard<'_, Held>> {
        let held = self.table.lock()?;
        if held.writer == self.writer {
            return Ok(held);
        }
        Err(Error::new(ErrorKind::Closed, format!("another sink than `{}` writes to the table by now", self.name)))
    }
}

#[async_trait]
impl Sink for UpsertSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn delivery(&self) -> Delivery {
        if self.per_epoch { Delivery::Epoch(self.table.key.clone()) } else { Delivery::Committed }
    }

    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.schema().fields() != self.table.schema.fields() {
            let text = format!("`{}` is a table of {}, rows of {} came", self.name, self.table.schema, batch.schema());
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        self.epoch.push(batch);
        Ok(())
    }

    fn end_epoch(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.epoch);
        if self.per_epoch && !rows.is_empty() {
            let mut held = self.lock()?;
            let change = held.change;
            for batch in &rows {
                held.rows.upsert(batch.clone(), Some(change))?;
            }
            drop(held);
            self.table.version.send_modify(|v| *v += 1);
        }
        self.checkpoint.extend(rows);
        Ok(())
    }

    fn seal(&mut self, attempt: Attempt, _schema: &SchemaRef) -> Result<BoxFuture<'static, Result<Vec<String>>>> {
        self.end_epoch()?;
        let new = std::mem::take(&mut self.checkpoint);
        if new.is_empty() {
            return Ok(async { Ok(vec![]) }.boxed());
        }
        let mut held = self.lock()?;
        let rows = new.iter().map(RecordBatch::num_rows).sum::<usize>();
        let all = held.behind.0 + rows > held.rows.len() + ROWS_BEHIND || held.behind.1 + 1 >= FILES_BEHIND;
        let item = format!("{PREFIX}{:08}-{:020}{}", attempt.generation, attempt.checkpoint, if all { ALL } else { NEW });
        // What came last counts: the new rows may be behind themselves.
        let before = all.then(|| held.rows.snapshot());
        if self.per_epoch {
            let change = held.change;
            held.visible.insert(item.clone(), (change, rows));
            held.change += 1;
        } else {
            held.staged.insert(item.clone(), new.clone());
        }
        drop(held);
        let (table, schema) = (self.table.clone(), self.table.schema());
        Ok(async move {
            let bytes = tokio::task::spawn_blocking(move || {
                let before = before.map(|b| b.into_batch()).transpose()?;
                let mut writer = StreamWriter::try_new(vec![], &schema)?;
                before.iter().chain(&new).try_for_each(|b| writer.write(b))?;
                writer.into_inner()
            });
            let bytes = bytes.await.map_err(|e| Error::new(ErrorKind::Bug, e))??;
            let path = staged(&table.folder, &item);
            table.store.put(&path, PutPayload::from(bytes)).await.map_err(|e| outside("write", &path, e))?;
            Ok(vec![item])
        }
        .boxed())
    }

    fn committer(&self) -> Arc<dyn Committer> {
        Arc::new(self.table.clone())
    }
}

#[async_trait]
impl Committer for UpsertTable {
    async fn publish(&self, items: &[String]) -> Result<()> {
        for item in items {
            let path = staged(&self.folder, item);
            // Published before; a file with all rows may have made it needless since.
            if item.as_str() <= self.lock()?.last.as_str() {
                remove(&self.store, &path).await?;
                continue;
            }
            publish(&self.store, &path, &self.path(item)).await?;
            if !self.publish_held(item)? {
                // Staged by a sink before this one.
                let rows = self.read(item).await?;
                self.lock()?.take_in(item, rows)?;
            }
            self.version.send_modify(|v| *v += 1);
            if item.ends_with(ALL) {
                self.give_way(item).await?;
            }
        }
        Ok(())
    }

    async fn sweep(&self, generation: u64, named: &[String]) -> Result<()> {
        let named: Vec<&str> = named.iter().map(String::as_str).collect();
        sweep(&self.store, &self.folder, PREFIX, generation, &named).await
    }
}
