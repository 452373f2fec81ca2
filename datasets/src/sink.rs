//! One output file of one table: rows go into a temporary name, which is renamed when all are on disk.
//!
//! Invariant: a file under its final name is whole. A run that dies leaves only `.<name>.partial`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::SchemaRef;
use arrow::json::LineDelimitedWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::error::{Error, Result};

/// Rows in each Parquet row group but the last (DuckDB's default, which every engine reads well).
pub(crate) const ROW_GROUP_ROWS: usize = 122_880;

/// The file formats that a data set can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// Parquet: snappy, dictionaries, row groups of 122,880 rows, page statistics.
    #[default]
    Parquet,
    /// Comma separated values with a header line; null is an empty field.
    Csv,
    /// One JSON object a line, decimals as written (`0.04`), dates as `"1996-03-13"`.
    Json,
}

impl Format {
    /// Every format, in the order of the command line's help.
    pub const ALL: [Format; 3] = [Format::Parquet, Format::Csv, Format::Json];

    /// The name on the command line, which is also the file extension.
    pub fn name(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::Csv => "csv",
            Format::Json => "json",
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Format::ALL
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| Error::Invalid(format!("unknown format `{text}`: use parquet, csv or json")))
    }
}

/// A table's file while it is being written.
pub(crate) struct Sink {
    path: PathBuf,
    partial: PathBuf,
    encoder: Encoder,
    failure: Failure,
}

/// The writer of each format.
enum Encoder {
    Parquet(Box<ArrowWriter<Watched>>),
    Csv(Box<csv::Writer<BufWriter<Watched>>>),
    Json(LineDelimitedWriter<BufWriter<Watched>>),
}

/// The first I/O error of a file.
type Failure = Arc<OnceLock<io::Error>>;

/// A file that remembers its first error: the encoders above it report some as text only.
#[derive(Debug)]
struct Watched {
    file: File,
    failure: Failure,
}

impl Sink {
    /// Opens the temporary file of `path`, replacing what a run that died left there.
    pub(crate) fn create(path: PathBuf, format: Format, schema: SchemaRef) -> Result<Self> {
        let partial = partial_name(&path);
        let file = File::create(&partial).map_err(|e| Error::io("create", &partial, &e))?;
        let failure = Failure::default();
        let file = Watched { file, failure: failure.clone() };
        let encoder = match format {
            Format::Parquet => {
                let writer =
                    ArrowWriter::try_new(file, schema, Some(parquet_properties())).map_err(|e| encoding_failed(&partial, &failure, &e))?;
                Encoder::Parquet(Box::new(writer))
            }
            Format::Csv => Encoder::Csv(Box::new(csv::Writer::new(BufWriter::new(file)))),
            Format::Json => Encoder::Json(LineDelimitedWriter::new(BufWriter::new(file))),
        };
        Ok(Self { path, partial, encoder, failure })
    }

    /// Appends the rows of one batch.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let written: std::result::Result<(), Box<dyn std::error::Error>> = match &mut self.encoder {
            Encoder::Parquet(writer) => writer.write(batch).map_err(Into::into),
            Encoder::Csv(writer) => writer.write(batch).map_err(Into::into),
            Encoder::Json(writer) => writer.write(batch).map_err(Into::into),
        };
        written.map_err(|e| encoding_failed(&self.partial, &self.failure, &*e))
    }

    /// Completes the file, makes it durable and gives it its name. Returns its length in bytes.
    pub(crate) fn finish(self) -> Result<u64> {
        let Sink { path, partial, encoder, failure } = self;
        let file = encoder.into_file().map_err(|e| encoding_failed(&partial, &failure, &*e))?;
        file.sync_all().map_err(|e| Error::io("write", &partial, &e))?;
        let bytes = file.metadata().map_err(|e| Error::io("read", &partial, &e))?.len();
        fs::rename(&partial, &path).map_err(|e| Error::io("rename to", &path, &e))?;
        Ok(bytes)
    }
}

impl Encoder {
    /// Writes what is buffered, the footer included, and gives the file back.
    fn into_file(self) -> std::result::Result<File, Box<dyn std::error::Error>> {
        let mut buffered = match self {
            Encoder::Parquet(writer) => return Ok(writer.into_inner()?.file),
            Encoder::Csv(writer) => writer.into_inner(),
            Encoder::Json(mut writer) => {
                writer.finish()?;
                writer.into_inner()
            }
        };
        buffered.flush()?;
        Ok(buffered.into_inner()?.file)
    }
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).inspect_err(|e| self.remember(e))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().inspect_err(|e| self.remember(e))
    }
}

impl Watched {
    fn remember(&self, error: &io::Error) {
        // An interrupted write is tried again by the caller.
        if error.kind() != io::ErrorKind::Interrupted {
            self.failure.get_or_init(|| io::Error::new(error.kind(), error.to_string()));
        }
    }
}

/// The error of encoding: that of the file if it had one, else a defect.
fn encoding_failed(partial: &Path, failure: &Failure, source: &dyn std::error::Error) -> Error {
    match failure.get() {
        Some(io) => Error::io("write", partial, io),
        None => Error::Bug(format!("cannot encode {}: {source}", partial.display())),
    }
}

/// The name under which the rows of `path` are written until they are all there: hidden, and
/// without the extension that readers of a folder look for.
pub(crate) fn partial_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.partial"))
}

/// How every Parquet file is written.
fn parquet_properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(true)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build()
}
