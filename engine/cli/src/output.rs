//! Where rows go, the screen or a file, and in which format.

use crate::args::Format;
use crate::grid::{Grid, Limits};
use crate::lines::Lines;
use crate::screen::{Pager, Screen};
use crate::terminal::Foreground;
use crate::{Outcome, Usage};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::parquet::arrow::ArrowWriter;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where rows go.
#[derive(Clone)]
pub enum Target {
    /// Standard output, or the pager where there is more than fits the terminal.
    Screen(Option<Pager>),
    /// A file of its own, which appears once it is complete.
    File(PathBuf),
    /// The end of an open file.
    Open(Arc<File>),
}

/// Takes the batches of one result.
pub struct Output {
    encoder: Encoder,
    /// Rows so far.
    pub rows: usize,
}

enum Encoder {
    Table(Grid, Sink),
    Line(Lines, Sink),
    Csv(Box<arrow::csv::Writer<Sink>>),
    Json(Box<arrow::json::LineDelimitedWriter<Sink>>),
    Parquet(Box<ArrowWriter<Sink>>),
}

/// The format that was asked for, else the one that a file's ending says, else a table.
pub fn format_of(format: Option<Format>, file: Option<&Path>) -> Format {
    let ending = file.and_then(|f| f.extension()).and_then(|e| e.to_str()).unwrap_or("");
    format.unwrap_or(match ending.to_ascii_lowercase().as_str() {
        "csv" => Format::Csv,
        "json" | "ndjson" | "jsonl" => Format::Json,
        "parquet" => Format::Parquet,
        _ => Format::Table,
    })
}

impl Output {
    /// An output for rows of `schema`.
    pub fn new(format: Format, target: &Target, foreground: &Arc<Foreground>, schema: &SchemaRef) -> Outcome<Self> {
        if matches!(target, Target::Screen(_)) && format == Format::Parquet && io::stdout().is_terminal() {
            return Err(Usage::new("--format parquet to a terminal: give a file with -o").into());
        }
        let sink = Sink::new(target, foreground)?;
        let encoder = match format {
            Format::Table => Encoder::Table(Grid::new(schema, Limits::of(target)), sink),
            Format::Line => Encoder::Line(Lines::new(schema), sink),
            Format::Csv => {
                let mut writer = arrow::csv::Writer::new(sink);
                // The names of the columns are there even when no row is.
                writer.write(&RecordBatch::new_empty(SchemaRef::clone(schema)))?;
                Encoder::Csv(Box::new(writer))
            }
            Format::Json => {
                let writer = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
                Encoder::Json(Box::new(writer.build::<_, arrow::json::writer::LineDelimited>(sink)))
            }
            Format::Parquet => Encoder::Parquet(Box::new(ArrowWriter::try_new(sink, SchemaRef::clone(schema), None)?)),
        };
        Ok(Self { encoder, rows: 0 })
    }

    /// Writes a batch. It takes as long as the user of a pager takes to read.
    pub fn write(&mut self, batch: &RecordBatch) -> Outcome {
        self.rows += batch.num_rows();
        match &mut self.encoder {
            Encoder::Table(grid, sink) => grid.add(batch, sink)?,
            Encoder::Line(lines, sink) => lines.add(batch, sink)?,
            Encoder::Csv(w) => w.write(batch)?,
            Encoder::Json(w) => w.write(batch)?,
            Encoder::Parquet(w) => w.write(batch)?,
        }
        Ok(())
    }

    /// Writes what is held back, gives a file its name, waits until the pager has ended.
    pub fn finish(self) -> Outcome {
        let sink = match self.encoder {
            Encoder::Table(grid, mut sink) => {
                grid.finish(&mut sink)?;
                sink
            }
            Encoder::Line(_, sink) => sink,
            // It has flushed each batch.
            Encoder::Csv(w) => w.into_inner(),
            Encoder::Json(mut w) => {
                w.finish()?;
                w.into_inner()
            }
            Encoder::Parquet(w) => w.into_inner()?,
        };
        Ok(sink.finish()?)
    }
}

/// Text where rows would go: a plan, for instance.
pub fn print(text: &str, target: &Target, foreground: &Arc<Foreground>) -> Outcome {
    let mut sink = Sink::new(target, foreground)?;
    sink.write_all(text.as_bytes())?;
    Ok(sink.finish()?)
}

/// Takes the bytes of one result.
enum Sink {
    Screen(BufWriter<Screen>),
    File(WholeFile),
    Open(BufWriter<Arc<File>>),
}

impl Sink {
    fn new(target: &Target, foreground: &Arc<Foreground>) -> Outcome<Self> {
        Ok(match target {
            Target::Screen(pager) => Self::Screen(BufWriter::new(Screen::new(foreground, pager.as_ref()))),
            Target::File(path) => Self::File(WholeFile::create(path)?),
            Target::Open(file) => Self::Open(BufWriter::new(Arc::clone(file))),
        })
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Screen(w) => w.into_inner()?.finish(),
            Self::File(w) => w.finish(),
            Self::Open(mut w) => w.flush(),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Screen(w) => w.write(bytes),
            Self::File(w) => w.bytes.write(bytes),
            Self::Open(w) => w.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Screen(w) => w.flush(),
            Self::File(w) => w.bytes.flush(),
            Self::Open(w) => w.flush(),
        }
    }
}

/// A file that has its name only once it is complete.
struct WholeFile {
    bytes: BufWriter<File>,
    path: PathBuf,
}

impl WholeFile {
    fn create(path: &Path) -> Result<Self, String> {
        let file = File::create(partial(path)).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        Ok(Self { bytes: BufWriter::new(file), path: path.to_path_buf() })
    }

    fn finish(mut self) -> io::Result<()> {
        self.bytes.flush()?;
        let named = |e: io::Error| io::Error::new(e.kind(), format!("cannot write {}: {e}", self.path.display()));
        std::fs::rename(partial(&self.path), &self.path).map_err(named)
    }
}

impl Drop for WholeFile {
    /// What was not finished leaves no file behind.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(partial(&self.path));
    }
}

/// Hidden, beside the file, so that the rename stays within one file system.
fn partial(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.partial"))
}
