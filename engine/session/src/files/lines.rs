//! Where in a file of text an error lies: its line, and the column and value there.
//!
//! Readers count records of the part that they were given, and some do not count at all. So after an error,
//! and only then, the file is read again from its beginning: lines are counted, and records are given to the
//! same reader in ever smaller portions until one alone fails.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::csv::ReaderBuilder;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use datafusion::common::config::CsvOptions;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::error::{DataFusionError, Result};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use std::sync::Arc;

/// How a file of text is read.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    Csv {
        options: Box<CsvOptions>,
        /// The columns and which of them are read; none while they are found out.
        columns: Option<(SchemaRef, Vec<usize>)>,
    },
    /// An object a line, with the columns that are read.
    Json { columns: SchemaRef },
}

/// Bytes that are read again, at most: beyond, the file's name must do.
const LOCAL_BYTES: usize = 4 << 30;
const REMOTE_BYTES: usize = 256 << 20;
/// Bytes of records that are checked together.
const BLOCK_BYTES: usize = 1 << 20;
/// Bytes of one record while columns are found out.
const RECORD_BYTES: usize = 256 << 20;
/// Characters of a value that a message shows.
const VALUE_CHARS: usize = 60;

/// The first place in the file that cannot be read; none when there is none, or it is too far away.
pub(crate) async fn locate(
    store: &Arc<dyn ObjectStore>,
    file: &ObjectMeta,
    compression: FileCompressionType,
    text: &Text,
    is_local: bool,
) -> Option<String> {
    let bytes = store.get(&file.location).await.ok()?.into_stream().map_err(DataFusionError::from).boxed();
    let mut bytes = compression.convert_stream(bytes).ok()?;
    let mut scanner: Box<dyn Scan> = match text {
        Text::Csv { options, columns } => Box::new(CsvScan::new(options.as_ref().clone(), columns.clone())),
        Text::Json { columns } => Box::new(JsonScan::new(columns).ok()?),
    };
    let (mut read, limit) = (0, if is_local { LOCAL_BYTES } else { REMOTE_BYTES });
    while let Some(chunk) = bytes.next().await {
        // A file that ends too early has no bad line: what is wrong is its end.
        let chunk = chunk.ok()?;
        if read == 0 && (chunk.starts_with(&[0xff, 0xfe]) || chunk.starts_with(&[0xfe, 0xff])) {
            return Some("UTF-16, not UTF-8: convert it first, iconv -f utf-16 -t utf-8 for instance".into());
        }
        if read == 0 && chunk[..chunk.len().min(1000)].contains(&0) {
            return Some("NUL bytes: UTF-16 or binary, not UTF-8 text".into());
        }
        read += chunk.len();
        if let Some(place) = scanner.push(&chunk) {
            return Some(place);
        }
        if read > limit {
            return None;
        }
    }
    scanner.finish()
}

/// The bytes of a CSV file in pieces that end where a record ends; DataFusion's own splitting loses count of
/// quotes that span its pieces.
pub(crate) fn whole_records(options: CsvOptions, bytes: BoxStream<'static, Result<Bytes>>) -> BoxStream<'static, Result<Bytes>> {
    let start = (CsvScan::new(options, None), bytes, false);
    let pieces = futures::stream::try_unfold(start, |(mut scan, mut bytes, ended)| async move {
        if ended {
            return Ok(None);
        }
        while let Some(chunk) = bytes.try_next().await? {
            scan.block.extend_from_slice(&chunk);
            scan.scan();
            scan.records.clear();
            let complete = scan.complete();
            if complete > 0 {
                let piece = Bytes::copy_from_slice(&scan.block[..complete]);
                scan.drop_records();
                return Ok(Some((piece, (scan, bytes, false))));
            }
            if scan.block.len() > RECORD_BYTES {
                return Err(super::invalid(format!(
                    "the row that begins in line {} does not end, perhaps a quote is missing",
                    scan.open.line
                )));
            }
        }
        let rest = Bytes::from(std::mem::take(&mut scan.block));
        Ok::<_, DataFusionError>((!rest.is_empty()).then_some((rest, (scan, bytes, true))))
    });
    pieces.boxed()
}

trait Scan: Send {
    /// Takes more bytes; the place of an error among what came so far.
    fn push(&mut self, bytes: &[u8]) -> Option<String>;
    fn finish(&mut self) -> Option<String>;
}

/// One record within the block.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Record {
    start: usize,
    line: usize,
    columns: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Before a record; blank lines are none.
    Between,
    FieldStart,
    Field,
    Quoted,
    Escaped,
    /// After a quote in a quoted field: its end, or the first of two.
    Quote,
    Comment,
}

struct CsvScan {
    options: CsvOptions,
    columns: Option<(SchemaRef, Vec<usize>)>,
    state: State,
    line: usize,
    /// Complete records and the beginning of the next one.
    block: Vec<u8>,
    records: Vec<Record>,
    /// The record that is not complete.
    open: Record,
    scanned: usize,
    /// Number of columns that each record must have.
    expected: Option<usize>,
    /// Names of the columns, where the file has them and nobody else.
    header: Vec<String>,
    is_first: bool,
}

impl CsvScan {
    fn new(options: CsvOptions, columns: Option<(SchemaRef, Vec<usize>)>) -> Self {
        let expected = columns.as_ref().map(|(schema, _)| schema.fields().len());
        let open = Record { start: 0, line: 1, columns: 1 };
        let (block, records) = (vec![], vec![]);
        Self {
            options,
            columns,
            state: State::Between,
            line: 1,
            block,
            records,
            open,
            scanned: 0,
            expected,
            header: vec![],
            is_first: true,
        }
    }

    /// Splits what was not yet looked at into records, as `csv-core` does.
    fn scan(&mut self) {
        let o = &self.options;
        let ends = |b: u8| o.terminator.map_or(b == b'\n' || b == b'\r', |t| b == t);
        for at in self.scanned..self.block.len() {
            let byte = self.block[at];
            let mut ended = false;
            self.state = match self.state {
                State::Between if ends(byte) => State::Between,
                State::Between if Some(byte) == o.comment => State::Comment,
                State::Comment => {
                    if byte == b'\n' {
                        State::Between
                    } else {
                        State::Comment
                    }
                }
                State::Quoted if byte == o.quote => State::Quote,
                State::Quoted if Some(byte) == o.escape => State::Escaped,
                State::Quoted | State::Escaped => State::Quoted,
                State::Quote if byte == o.quote => State::Quoted,
                before => {
                    if before == State::Between {
                        self.open = Record { start: at, line: self.line, columns: 1 };
                    }
                    if byte == o.delimiter {
                        self.open.columns += 1;
                        State::FieldStart
                    } else if ends(byte) {
                        ended = true;
                        State::Between
                    } else if byte == o.quote && matches!(before, State::Between | State::FieldStart) {
                        State::Quoted
                    } else {
                        State::Field
                    }
                }
            };
            self.line += usize::from(byte == b'\n');
            if ended {
                self.records.push(self.open);
            }
        }
        self.scanned = self.block.len();
    }

    fn bytes(&self, i: usize) -> &[u8] {
        let end = self.records.get(i + 1).map_or(self.complete(), |next| next.start);
        &self.block[self.records[i].start..end]
    }

    /// Where the record begins that is not complete.
    fn complete(&self) -> usize {
        if matches!(self.state, State::Between | State::Comment) { self.block.len() } else { self.open.start }
    }

    fn check(&mut self) -> Option<String> {
        if self.records.is_empty() {
            return None;
        }
        let mut first = 0;
        if std::mem::take(&mut self.is_first) && self.options.has_header.unwrap_or(true) {
            first = 1;
            if self.columns.is_none() {
                self.header = self.values(0);
            }
        }
        let expected = *self.expected.get_or_insert(self.records[0].columns);
        let place = (0..self.records.len()).find_map(|i| self.wrong_shape(i, expected));
        let place = place.or_else(|| self.wrong_value(first));
        self.drop_records();
        place
    }

    fn drop_records(&mut self) {
        let complete = self.complete();
        self.block.drain(..complete);
        self.scanned = self.block.len();
        self.open.start = 0;
        self.records.clear();
    }

    fn wrong_shape(&self, i: usize, expected: usize) -> Option<String> {
        let Record { line, columns, .. } = self.records[i];
        let may_lack = self.options.truncated_rows.unwrap_or(false);
        if columns > expected || (columns < expected && !may_lack) {
            let s = if columns == 1 { "" } else { "s" };
            return Some(format!("line {line} has {columns} column{s}, not {expected}"));
        }
        let error = std::str::from_utf8(self.bytes(i)).err()?;
        let (good, bad) = self.bytes(i).split_at(error.valid_up_to());
        let at = columns_before(good, &self.options);
        let (byte, column) = (bad.first().copied().unwrap_or(0), self.name(at));
        Some(format!(
            "line {line}, column {column}: byte 0x{byte:02X} is not UTF-8: convert the file first, iconv -f latin1 -t utf-8 for instance"
        ))
    }

    fn name(&self, at: usize) -> String {
        let declared = self.columns.as_ref().and_then(|(schema, _)| schema.fields().get(at)).map(|f| f.name().clone());
        declared.or_else(|| self.header.get(at).cloned()).unwrap_or_else(|| (at + 1).to_string())
    }

    fn wrong_value(&self, first: usize) -> Option<String> {
        let (schema, projection) = self.columns.as_ref()?;
        let rows = self.records.len();
        if first >= rows {
            return None;
        }
        let all = &self.block[self.records[first].start..self.complete()];
        if self.decode(schema, projection, all, rows).is_ok() {
            return None;
        }
        let fails = |i: &usize| self.decode(schema, projection, self.bytes(*i), 1).is_err();
        let i = (first..rows).find(fails)?;
        let line = self.records[i].line;
        let column = projection.iter().find(|c| self.decode(schema, &[**c], self.bytes(i), 1).is_err());
        let Some(column) = column else { return Some(format!("line {line} cannot be read")) };
        let field = schema.field(*column);
        let value = shortened(self.values(i).get(*column).map_or("", String::as_str));
        let advice = "a type that was found out comes from the first rows: declare it, or raise schema_infer_max_rec";
        Some(format!("line {line}, column {}: '{value}' is no {} ({advice})", field.name(), field.data_type()))
    }

    /// The values of a record, as text.
    fn values(&self, i: usize) -> Vec<String> {
        let count = self.records[i].columns;
        let fields: Vec<Field> = (0..count).map(|c| Field::new(c.to_string(), DataType::Utf8, true)).collect();
        let every: Vec<usize> = (0..count).collect();
        let Ok(rows) = self.decode(&Arc::new(Schema::new(fields)), &every, self.bytes(i), 1) else { return vec![] };
        let Some(row) = rows.first().filter(|r| r.num_rows() > 0) else { return vec![] };
        row.columns().iter().map(|c| if c.is_null(0) { String::new() } else { c.as_string::<i32>().value(0).to_string() }).collect()
    }

    fn decode(&self, schema: &SchemaRef, projection: &[usize], bytes: &[u8], rows: usize) -> Result<Vec<RecordBatch>, ArrowError> {
        let o = &self.options;
        let mut builder = ReaderBuilder::new(Arc::clone(schema))
            .with_header(false)
            .with_batch_size(rows.max(1))
            .with_delimiter(o.delimiter)
            .with_quote(o.quote)
            .with_projection(projection.to_vec())
            .with_truncated_rows(o.truncated_rows.unwrap_or(false));
        if let Some(terminator) = o.terminator {
            builder = builder.with_terminator(terminator);
        }
        if let Some(escape) = o.escape {
            builder = builder.with_escape(escape);
        }
        if let Some(comment) = o.comment {
            builder = builder.with_comment(comment);
        }
        builder.build(bytes)?.collect()
    }
}

impl Scan for CsvScan {
    fn push(&mut self, bytes: &[u8]) -> Option<String> {
        let bytes = match self.is_first && self.block.is_empty() {
            true => bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes),
            false => bytes,
        };
        self.block.extend_from_slice(bytes);
        self.scan();
        if self.block.len() < BLOCK_BYTES { None } else { self.check() }
    }

    fn finish(&mut self) -> Option<String> {
        let place = self.check();
        if place.is_some() || matches!(self.state, State::Between | State::Comment) {
            return place;
        }
        let line = self.open.line;
        if matches!(self.state, State::Quoted | State::Escaped) {
            return Some(format!("the quote in line {line} does not end"));
        }
        self.records.push(self.open);
        self.state = State::Between;
        self.check()
    }
}

/// Delimiters before the end of `bytes` that are not within quotes.
fn columns_before(bytes: &[u8], options: &CsvOptions) -> usize {
    let mut quoted = false;
    let outside = |b: &&u8| {
        quoted ^= **b == options.quote;
        **b == options.delimiter && !quoted
    };
    bytes.iter().filter(outside).count()
}

fn shortened(value: &str) -> String {
    let mut chars = value.chars();
    let head: String = chars.by_ref().take(VALUE_CHARS).collect();
    if chars.next().is_some() { format!("{head}…") } else { head }
}

struct JsonScan {
    decoder: arrow::json::reader::Decoder,
    /// The line that is not complete.
    rest: Vec<u8>,
    line: usize,
    /// Where the object began that is being read.
    began: usize,
}

impl JsonScan {
    fn new(columns: &SchemaRef) -> Result<Self, ArrowError> {
        let decoder = arrow::json::ReaderBuilder::new(Arc::clone(columns)).with_batch_size(1).build_decoder()?;
        Ok(Self { decoder, rest: vec![], line: 0, began: 1 })
    }

    fn one(&mut self, line: &[u8]) -> Option<String> {
        self.line += 1;
        if !self.decoder.has_partial_record() {
            self.began = self.line;
        }
        let mut at = 0;
        loop {
            match self.decoder.decode(&line[at..]) {
                Err(e) => return Some(format!("line {}: {}", self.line, said(&e))),
                Ok(read) => at += read,
            }
            let is_whole = !self.decoder.has_partial_record() && !self.decoder.is_empty();
            if is_whole && let Err(e) = self.decoder.flush() {
                return Some(format!("line {}: {}", self.began, said(&e)));
            }
            if at >= line.len() || !is_whole {
                return None;
            }
        }
    }
}

fn said(e: &ArrowError) -> String {
    match e {
        ArrowError::JsonError(text) => text.clone(),
        e => e.to_string(),
    }
}

impl Scan for JsonScan {
    fn push(&mut self, bytes: &[u8]) -> Option<String> {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            self.rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.rest);
                let place = self.one(&line);
                if place.is_some() {
                    return place;
                }
            }
        }
        None
    }

    fn finish(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.rest);
        let place = if line.is_empty() { None } else { self.one(&line) };
        place.or_else(|| self.decoder.has_partial_record().then(|| format!("the object that begins in line {} does not end", self.began)))
    }
}

#[cfg(test)]
mod tests;
