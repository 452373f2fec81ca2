//! Writes the tables of a data set into a folder: largest first, on two threads, each fed by a generator thread.
//!
//! ```text
//! generator --(bounded channel)--> encoder --> .table.parquet.partial --rename--> table.parquet
//!                                                   all tables done --> marker
//! ```
//! A failure in one table stops the others at their next batch; the first failure is reported.

use std::fs::{self, File, TryLockError};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};
use crate::marker::Marker;
use crate::sink::{ROW_GROUP_ROWS, Sink};

/// Rows in each batch that flows from a generator to its encoder; a row group is a whole number of them.
pub(crate) const BATCH_ROWS: usize = 8_192;

/// Tables that are encoded at the same time.
const ENCODERS: usize = 2;

/// Batches that a generator may run ahead of its encoder.
const BATCHES_AHEAD_MAX: usize = 4;

/// How far one table is. Reported about once a row group, and once more when its file is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The table that moved.
    pub table: &'static str,
    /// Rows of it that are written so far.
    pub rows: u64,
    /// Rows it will have; an estimate (within 1 %) for tables of random length.
    pub rows_expected: u64,
    /// True when its file is complete and carries its final name.
    pub complete: bool,
}

/// One table to write.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) rows_expected: u64,
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Box<dyn Iterator<Item = RecordBatch> + Send>,
}

/// The name of a table's file.
pub(crate) fn file_name(table: &str, marker: &Marker) -> String {
    format!("{table}.{}", marker.format)
}

/// Writes every table and then the marker. What the folder claimed before is withdrawn first.
pub(crate) fn write(out: &Path, marker: &Marker, mut tables: Vec<Table>, progress: &mut dyn FnMut(Progress)) -> Result<()> {
    fs::create_dir_all(out).map_err(|e| Error::io("create", out, &e))?;
    let _lock = lock(out)?;
    marker.remove(out)?;

    let names: Vec<&'static str> = tables.iter().map(|table| table.name).collect();
    // Popped from the end: the largest table first, it decides how long all of it takes.
    tables.sort_by_key(|table| table.rows_expected);
    let queue = Mutex::new(tables);
    let run = Run { out, marker, stop: AtomicBool::new(false), queue: &queue };
    let written = thread::scope(|scope| {
        let (reports, received) = mpsc::channel();
        let run = &run;
        let encoders: Vec<_> = (0..ENCODERS)
            .map(|_| {
                let reports = reports.clone();
                scope.spawn(move || run.encode_tables(&reports))
            })
            .collect();
        drop(reports);
        received.iter().for_each(&mut *progress);
        encoders.into_iter().map(|encoder| encoder.join().unwrap_or_else(|panic| Err(bug(&*panic)))).collect::<Vec<_>>()
    });

    let mut lengths = Vec::with_capacity(names.len());
    for of_encoder in written {
        lengths.extend(of_encoder?);
    }
    // In the order of the suite, whichever was complete first: the marker is the same each time.
    lengths.sort_by_key(|(table, _)| names.iter().position(|name| name == table));
    let files: Vec<_> = lengths.into_iter().map(|(table, bytes)| (file_name(table, marker), bytes)).collect();
    marker.write(out, &files)
}

/// What the threads of one call share.
struct Run<'a> {
    out: &'a Path,
    marker: &'a Marker,
    stop: AtomicBool,
    queue: &'a Mutex<Vec<Table>>,
}

impl Run<'_> {
    /// Takes tables until none is left. Returns the length in bytes of each file written.
    fn encode_tables(&self, reports: &Sender<Progress>) -> Result<Vec<(&'static str, u64)>> {
        let mut lengths = Vec::new();
        while let Some(table) = self.next_table() {
            let name = table.name;
            // A generator or an encoder that panics must stop the other table too.
            let encoded =
                std::panic::catch_unwind(AssertUnwindSafe(|| self.encode_table(table, reports))).unwrap_or_else(|panic| Err(bug(&*panic)));
            match encoded {
                Ok(bytes) => lengths.push((name, bytes)),
                Err(error) => {
                    self.stop.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(lengths)
    }

    fn next_table(&self) -> Option<Table> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop()
    }

    /// Writes one table while a second thread generates its rows. Returns the file's length in bytes.
    fn encode_table(&self, table: Table, reports: &Sender<Progress>) -> Result<u64> {
        let Table { name, rows_expected, schema, batches } = table;
        let mut sink = Sink::create(self.out.join(file_name(name, self.marker)), self.marker.format, schema)?;
        let rows = thread::scope(|scope| {
            let (sender, receiver) = mpsc::sync_channel(BATCHES_AHEAD_MAX);
            let generator = scope.spawn(move || {
                for batch in batches {
                    // The receiver is gone when encoding failed or was stopped.
                    if sender.send(batch).is_err() {
                        return;
                    }
                }
            });
            let encoded = self.encode_batches(receiver.iter(), &mut sink, name, rows_expected, reports);
            drop(receiver);
            let generated = generator.join().map_err(|panic| bug(&*panic));
            generated.and(encoded)
        })?;
        let bytes = sink.finish()?;
        report(reports, Progress { table: name, rows, rows_expected: rows, complete: true });
        Ok(bytes)
    }

    fn encode_batches(
        &self,
        batches: impl Iterator<Item = RecordBatch>,
        sink: &mut Sink,
        table: &'static str,
        rows_expected: u64,
        reports: &Sender<Progress>,
    ) -> Result<u64> {
        let mut rows = 0;
        let mut reported = 0;
        for batch in batches {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Retry(format!("writing {table} was stopped because another table failed")));
            }
            sink.write(&batch)?;
            rows += batch.num_rows() as u64;
            if rows - reported >= ROW_GROUP_ROWS as u64 {
                reported = rows;
                report(reports, Progress { table, rows, rows_expected, complete: false });
            }
        }
        Ok(rows)
    }
}

/// Sends a report; nobody listening is no reason to stop.
fn report(reports: &Sender<Progress>, progress: Progress) {
    let _ = reports.send(progress);
}

/// Keeps a second process from writing into the same folder; released when dropped, or when the process dies.
fn lock(out: &Path) -> Result<File> {
    let path = out.join(".lock");
    let file = File::create(&path).map_err(|e| Error::io("create", &path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::Retry(format!("another process is generating into {}; wait for it, or choose another folder", out.display())))
        }
        Err(TryLockError::Error(e)) => Err(Error::io("lock", &path, &e)),
    }
}

/// The error for a panic on one of the threads.
fn bug(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_string());
    Error::Bug(format!("generating the data set failed: {text}"))
}
