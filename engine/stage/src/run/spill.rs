//! Rows on disk: what a limited memory does not hold.
//!
//! A file is written once, piece by piece, and read piece by piece; it goes when the last reader drops it.
//! Each piece is an Arrow IPC stream of its own: the physical type of a column may differ from one to the next.

use crate::convert::{Block, Reader, to_array};
use crate::{Error, ErrorKind, Result};
use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::execution::{DiskManager, SpillFile, SpillWriter, TaskContext};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use millstream_kernels::{Strings, Values, Vector};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// How often a part that is too large for the memory is divided again.
pub(super) const LEVELS: u32 = 4;

/// Makes the files of one stage's run.
#[derive(Clone)]
pub(super) struct Spiller {
    disk: Arc<DiskManager>,
    metrics: SpillMetrics,
    stage: String,
}

impl Spiller {
    /// For a run of stage `stage`, whose metrics are `set`.
    pub(super) fn new(ctx: &TaskContext, stage: &str, set: &ExecutionPlanMetricsSet) -> Self {
        Self { disk: Arc::clone(&ctx.runtime_env().disk_manager), metrics: SpillMetrics::new(set, 0), stage: stage.to_string() }
    }

    /// A new file.
    ///
    /// # Errors
    /// What the disk says; `Exhausted` where the session has none.
    pub(super) fn file(&self) -> Result<Writer> {
        let file = self.disk.create_tmp_file(&format!("spilling stage {}", self.stage))?;
        let Some(path) = file.path().map(PathBuf::from) else {
            return Err(Error::unsupported("stages spill to local files only: the session's disk manager has none"));
        };
        let out = Counted { out: BufWriter::with_capacity(1 << 18, file.open_writer()?), bytes: 0 };
        self.metrics.spill_file_count.add(1);
        Ok(Writer { spilled: Spilled { file, path }, out, metrics: self.metrics.clone() })
    }
}

/// A file that is being written.
pub(super) struct Writer {
    // Before the file: what is dropped half written is still counted as the file's.
    out: Counted<BufWriter<Box<dyn SpillWriter>>>,
    spilled: Spilled,
    metrics: SpillMetrics,
}

/// Where a piece lies in its file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Piece {
    start: u64,
    /// Its length in the file.
    pub(super) bytes: u64,
    /// Its rows.
    pub(super) rows: usize,
}

struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let n = self.out.write(buf)?;
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Writer {
    /// Appends columns of `rows` rows.
    ///
    /// # Errors
    /// A full disk, with the file's name.
    pub(super) fn write(&mut self, columns: Vec<ArrayRef>, rows: usize) -> Result<Piece> {
        let start = self.out.bytes;
        let fields: Vec<Field> =
            columns.iter().enumerate().map(|(i, c)| Field::new(format!("c{i}"), c.data_type().clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &RecordBatchOptions::new().with_row_count(Some(rows)))?;
        let written = StreamWriter::try_new(&mut self.out, &schema).and_then(|mut w| {
            w.write(&batch)?;
            w.finish()
        });
        written.map_err(|e| self.spilled.failed("write", e))?;
        self.metrics.spilled_rows.add(rows);
        Ok(Piece { start, bytes: self.out.bytes - start, rows })
    }

    /// The file, to be read.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub(super) fn finish(mut self) -> Result<Spilled> {
        self.out.out.flush().map_err(|e| self.spilled.failed("write", e))?;
        self.out.out.get_mut().finish()?;
        self.metrics.spilled_bytes.add(usize::try_from(self.out.bytes).map_err(Error::bug)?);
        Ok(self.spilled)
    }
}

/// A file that was written.
pub(super) struct Spilled {
    /// Keeps the file on disk.
    file: Arc<dyn SpillFile>,
    path: PathBuf,
}

impl Spilled {
    /// The columns of a piece.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn read(&self, piece: Piece) -> Result<Vec<ArrayRef>> {
        let mut file = std::fs::File::open(&self.path).map_err(|e| self.failed("read", e))?;
        file.seek(SeekFrom::Start(piece.start)).map_err(|e| self.failed("read", e))?;
        let bytes = BufReader::with_capacity(1 << 18, file.take(piece.bytes));
        let batch = StreamReader::try_new(bytes, None).and_then(|r| r.last().transpose()).map_err(|e| self.failed("read", e))?;
        let batch = batch.ok_or_else(|| self.failed("read", "it has no rows"))?;
        if batch.num_rows() != piece.rows {
            return Err(self.failed("read", format!("{} rows where {} were written", batch.num_rows(), piece.rows)));
        }
        Ok(batch.columns().to_vec())
    }

    fn failed(&self, what: &str, e: impl std::fmt::Display) -> Error {
        let held = self.file.size().map_or_else(String::new, |b| format!(" of {b} bytes"));
        Error::new(ErrorKind::Exhausted, format!("cannot {what} the spill file {}{held}: {e}", self.path.display()))
    }
}

/// A register as an array that says its physical type, with its own strings only.
///
/// # Errors
/// As [`to_array`].
pub(super) fn stored(v: &Vector, rows: usize) -> Result<ArrayRef> {
    let physical = match &v.values {
        Values::Bool(_) => DataType::Boolean,
        Values::I32(_) => DataType::Int32,
        Values::I64(_) => DataType::Int64,
        Values::I128(_) => DataType::Decimal128(38, 0),
        Values::F64(_) => DataType::Float64,
        Values::Str(Strings::View(_) | Strings::Dict { .. }) => DataType::Utf8View,
        Values::Any(a) => a.data_type().clone(),
    };
    let array = to_array(v, &physical, rows)?;
    Ok(match (array.as_string_view_opt(), array.as_binary_view_opt()) {
        (Some(views), _) => Arc::new(views.gc()),
        (_, Some(views)) => Arc::new(views.gc()),
        _ => array,
    })
}

/// The registers of arrays that [`stored`] made.
///
/// # Errors
/// As [`Reader::vector`].
pub(super) fn block(columns: &[ArrayRef], rows: usize) -> Result<Block> {
    let mut reader = Reader::default();
    Ok(Block { columns: columns.iter().map(|c| reader.vector(c)).collect::<Result<_>>()?, rows })
}
