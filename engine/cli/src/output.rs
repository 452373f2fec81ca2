//! Where rows go: standard output or a file, in one of four formats.

use crate::Usage;
use crate::args::Format;
use crate::grid::{Grid, Limits};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::parquet::arrow::ArrowWriter;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Bytes = Box<dyn Write + Send>;

/// Takes the batches of one result.
pub struct Output {
    encoder: Encoder,
    /// The file and the name it is written under until it is complete.
    file: Option<(PathBuf, PathBuf)>,
    /// Rows so far.
    pub rows: usize,
}

enum Encoder {
    Table(Grid, Bytes),
    Csv(Box<arrow::csv::Writer<Bytes>>),
    Json(Box<arrow::json::LineDelimitedWriter<Bytes>>),
    Parquet(Box<ArrowWriter<Bytes>>),
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
    /// An output for rows of `schema`; a file appears under its name once it is complete.
    pub fn new(format: Format, file: Option<&Path>, schema: &SchemaRef) -> Result<Self> {
        let (bytes, limits): (Bytes, _) = match file {
            Some(path) => (Box::new(BufWriter::new(create(path)?)), Limits::FILE),
            None if format == Format::Parquet && io::stdout().is_terminal() => {
                return Err(Usage::new("--format parquet to a terminal: give a file with -o").into());
            }
            None => (Box::new(BufWriter::new(Stdout)), Limits::of_stdout()),
        };
        let encoder = match format {
            Format::Table => Encoder::Table(Grid::new(schema, limits), bytes),
            Format::Csv => {
                let mut writer = arrow::csv::Writer::new(bytes);
                // The names of the columns are there even when no row is.
                writer.write(&RecordBatch::new_empty(SchemaRef::clone(schema)))?;
                Encoder::Csv(Box::new(writer))
            }
            Format::Json => {
                let writer = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
                Encoder::Json(Box::new(writer.build::<_, arrow::json::writer::LineDelimited>(bytes)))
            }
            Format::Parquet => Encoder::Parquet(Box::new(ArrowWriter::try_new(bytes, SchemaRef::clone(schema), None)?)),
        };
        Ok(Self { encoder, file: file.map(|f| (f.to_path_buf(), partial(f))), rows: 0 })
    }

    /// Writes a batch.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows();
        match &mut self.encoder {
            Encoder::Table(grid, _) => grid.add(batch)?,
            Encoder::Csv(w) => w.write(batch)?,
            Encoder::Json(w) => w.write(batch)?,
            Encoder::Parquet(w) => w.write(batch)?,
        }
        Ok(())
    }

    /// Writes what is held back, and gives a file its name.
    pub fn finish(mut self) -> Result<()> {
        match &mut self.encoder {
            Encoder::Table(grid, out) => {
                grid.print(out)?;
                out.flush()?;
            }
            // The writer of CSV flushes each batch.
            Encoder::Csv(_) => {}
            Encoder::Json(w) => {
                w.finish()?;
                w.get_mut().flush()?;
            }
            Encoder::Parquet(w) => {
                w.finish()?;
                w.inner_mut().flush()?;
            }
        }
        if let Some((path, partial)) = self.file.take() {
            std::fs::rename(&partial, &path).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        }
        Ok(())
    }
}

impl Drop for Output {
    /// What was not finished leaves no file behind.
    fn drop(&mut self) {
        if let Some((_, partial)) = &self.file {
            let _ = std::fs::remove_file(partial);
        }
    }
}

fn create(path: &Path) -> Result<File> {
    File::create(partial(path)).map_err(|e| format!("cannot write {}: {e}", path.display()).into())
}

/// Hidden, beside the file, so that the rename stays within one file system.
fn partial(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.partial"))
}

/// Standard output. Who reads it may stop reading, as `head` does: then there is nothing left to do, and
/// nothing to complain about (the writers above would make an error of another kind of it).
struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes).map_err(end_if_closed)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().map_err(end_if_closed)
    }
}

fn end_if_closed(e: io::Error) -> io::Error {
    if e.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    e
}

/// Prints text to standard output.
pub fn print(text: &str) -> io::Result<()> {
    Stdout.write_all(text.as_bytes())?;
    Stdout.flush()
}
