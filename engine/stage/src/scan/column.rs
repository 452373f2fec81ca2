//! One column of a row group, decoded page by page and only where rows are asked for.
//!
//! Covered: flat columns of booleans, integers, dates, timestamps, decimals up to 18 digits, doubles and strings in all
//! encodings that the format has for them. Pages that hold no asked row are not even decompressed; values of
//! rows that were filtered away are never made.

use super::reading;
use crate::{Error, ErrorKind, Result};
use arrow::array::Array;
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::DataType;
use bytes::{Buf as _, Bytes};
use millstream_kernels::decode::{self, Difference, Span};
use millstream_kernels::program::Type;
use millstream_kernels::{Buf, Dictionary, Strings, Values, Vector, gather};
use parquet::basic::{Encoding, Type as Physical};
use parquet::column::page::{Page as RawPage, PageReader};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescriptor;
use std::collections::VecDeque;
use std::sync::Arc;

/// Decimals of so many digits fit 64 bits.
const NARROW_DIGITS: u8 = 18;

/// How the values of a column lie in its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    I32,
    I64,
    /// Decimals stored at 32 bits.
    Widened,
    /// Decimals stored in so many bytes, the greatest first.
    Bytes(usize),
    F64,
    Text,
}

/// The bytes of a column chunk, at their place in the file.
struct ChunkBytes {
    start: u64,
    bytes: Bytes,
}

impl Length for ChunkBytes {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for ChunkBytes {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        let len = self.bytes.len() - self.at(start, 0)?;
        Ok(self.get_bytes(start, len)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let at = self.at(start, length)?;
        Ok(self.bytes.slice(at..at + length))
    }
}

impl ChunkBytes {
    fn at(&self, start: u64, length: usize) -> parquet::errors::Result<usize> {
        let at = start.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        let inside = |at: &usize| at.checked_add(length).is_some_and(|end| end <= self.bytes.len());
        at.filter(inside).ok_or_else(|| parquet::errors::ParquetError::EOF("a page outside its column chunk".into()))
    }
}

/// The entries of a column's dictionary page.
enum Entries {
    I32(ScalarBuffer<i32>),
    I64(ScalarBuffer<i64>),
    F64(ScalarBuffer<f64>),
    Text(Arc<Dictionary>),
}

/// A data page, one value a row.
struct Page {
    start: usize,
    rows: usize,
    values: PageValues,
    valid: Option<ScalarBuffer<u8>>,
}

enum PageValues {
    Codes(ScalarBuffer<i32>),
    Bool(ScalarBuffer<u8>),
    I32(ScalarBuffer<i32>),
    I64(ScalarBuffer<i64>),
    F64(ScalarBuffer<f64>),
    Text { bytes: Buffer, ascii: bool, spans: Vec<Span> },
}

/// A column of a row group. Rows are asked for in ascending ranges.
pub(super) struct PagedColumn {
    pages: SerializedPageReader<ChunkBytes>,
    kind: Kind,
    optional: bool,
    entries: Option<Entries>,
    held: VecDeque<Page>,
    /// First row of the next page of `pages`.
    next: usize,
    rows: usize,
}

impl PagedColumn {
    /// The column behind `chunk` if it is covered; `start` is the place of `bytes` in the file.
    ///
    /// # Errors
    /// `Unsupported` for a codec that is not built in.
    pub(super) fn open(t: &DataType, chunk: &ColumnChunkMetaData, rows: usize, start: u64, bytes: Bytes) -> Result<Option<Self>> {
        let descr = chunk.column_descr();
        let optional = descr.max_def_level() > 0;
        let flat = descr.max_rep_level() == 0 && descr.max_def_level() <= 1;
        let Some(kind) = kind(t, descr).filter(|k| flat && chunk.encodings().all(|e| covers(*k, e) || is_of_codes(e, optional))) else {
            return Ok(None);
        };
        let pages = SerializedPageReader::new(Arc::new(ChunkBytes { start, bytes }), chunk, rows, None)
            .map_err(|e| Error::new(ErrorKind::Invalid, e))?;
        Ok(Some(Self { pages, kind, optional, entries: None, held: VecDeque::new(), next: 0, rows }))
    }

    /// The values of rows `start .. start + len`, or of those among them that `picked` names (relative
    /// to `start`, in any order and number).
    ///
    /// # Errors
    /// `Corrupt` for a damaged page.
    pub(super) fn read(&mut self, start: usize, len: usize, picked: Option<&[u32]>) -> Result<Vector> {
        while self.held.front().is_some_and(|p| p.start + p.rows <= start) {
            self.held.pop_front();
        }
        while self.next < start + len {
            self.load(start)?;
        }
        let ascending = picked.is_none_or(<[u32]>::is_sorted);
        let mut parts = vec![];
        for page in self.held.iter().take_while(|p| p.start < start + len) {
            let (from, to) = (page.start.max(start), (page.start + page.rows).min(start + len));
            let whole = from == start && to == start + len;
            parts.push(match picked {
                None => self.slice(page, from - page.start, to - from)?,
                Some(rows) if whole => self.gather(page, rows.iter().map(|r| *r as usize + start - page.start))?,
                Some(_) if !ascending => self.slice(page, from - page.start, to - from)?,
                Some(rows) => {
                    let cut = |at: usize| rows.partition_point(|r| (*r as usize + start) < at);
                    self.gather(page, rows[cut(from)..cut(to)].iter().map(|r| *r as usize + start - page.start))?
                }
            });
        }
        let joined = match parts.len() {
            1 => parts.remove(0),
            _ => gather::concat(&parts, self.ty())?,
        };
        match picked {
            Some(rows) if !ascending && parts.len() > 1 => Ok(gather::gather(&joined, rows)?),
            _ => Ok(joined),
        }
    }

    fn ty(&self) -> Type {
        match self.kind {
            Kind::Bool => Type::Bool,
            Kind::I32 => Type::I32,
            Kind::I64 | Kind::Widened | Kind::Bytes(_) => Type::I64,
            Kind::F64 => Type::F64,
            Kind::Text => Type::Str,
        }
    }

    /// Takes the next page in, or steps over it when it ends before row `wanted`.
    fn load(&mut self, wanted: usize) -> Result<()> {
        let ends = || corrupt(format!("the column has fewer values than its {} rows", self.rows));
        let next = reading(|| self.pages.peek_next_page())?.ok_or_else(ends)?;
        let rows = next.num_rows.or(next.num_levels).filter(|_| !next.is_dict);
        if let Some(rows) = rows.filter(|r| wanted.checked_sub(self.next).is_some_and(|before| *r <= before)) {
            reading(|| self.pages.skip_next_page())?;
            self.next += rows;
            return Ok(());
        }
        let page = reading(|| self.pages.get_next_page())?;
        // Before anything is made for them: a damaged header may say any number.
        let room = |rows: usize| match rows <= self.rows - self.next {
            true => Ok(rows),
            false => Err(corrupt(format!("the column has more values than its {} rows", self.rows))),
        };
        let (bytes, encoding, rows, valid) = match page.ok_or_else(|| corrupt("a page is missing"))? {
            RawPage::DictionaryPage { buf, num_values, encoding, .. } => {
                if !matches!(encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY) {
                    return Err(corrupt(format!("a dictionary in encoding {encoding}")));
                }
                self.entries = Some(entries(self.kind, &buf.into(), num_values as usize)?);
                return Ok(());
            }
            RawPage::DataPage { buf, num_values, encoding, .. } => {
                let rows = room(num_values as usize)?;
                let (valid, used) = if self.optional { levels_v1(&buf, rows)? } else { (None, 0) };
                (buf.slice(used..), encoding, rows, valid)
            }
            RawPage::DataPageV2 { buf, num_rows, encoding, def_levels_byte_len, rep_levels_byte_len, .. } => {
                let rows = room(num_rows as usize)?;
                let (rep, def) = (rep_levels_byte_len as usize, def_levels_byte_len as usize);
                let levels = buf.get(rep..).and_then(|b| b.get(..def)).ok_or_else(|| corrupt("levels longer than their page"))?;
                let valid = if self.optional { validity(levels, rows)? } else { None };
                (buf.slice(rep + def..), encoding, rows, valid)
            }
        };
        let values = self.decode(bytes, encoding, rows, valid.as_deref())?;
        self.held.push_back(Page { start: self.next, rows, values, valid: valid.map(Into::into) });
        self.next += rows;
        Ok(())
    }

    fn decode(&self, bytes: Bytes, encoding: Encoding, rows: usize, valid: Option<&[u8]>) -> Result<PageValues> {
        let n = valid.map_or(rows, |v| v.iter().map(|v| usize::from(*v)).sum());
        if matches!(encoding, Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY) {
            if self.entries.is_none() {
                return Err(corrupt("codes without a dictionary"));
            }
            let codes = match bytes.split_first() {
                Some((width, packed)) => decode::codes(packed, u32::from(*width), n)?,
                None if n == 0 => vec![],
                None => return Err(corrupt("an empty page")),
            };
            return Ok(PageValues::Codes(spread(codes.into(), valid)?));
        }
        if !covers(self.kind, encoding) {
            return Err(corrupt(format!("a page in encoding {encoding}, which its column chunk does not announce")));
        }
        let bytes = Buffer::from(bytes);
        Ok(match (self.kind, encoding) {
            (Kind::Bool, Encoding::RLE) => PageValues::Bool(spread(runs(&bytes, n)?.into(), valid)?),
            (Kind::Bool, _) => PageValues::Bool(spread(decode::bits(&bytes, n)?.into(), valid)?),
            (Kind::I32, _) => PageValues::I32(spread(integers(&bytes, encoding, n)?, valid)?),
            (Kind::I64, _) => PageValues::I64(spread(integers(&bytes, encoding, n)?, valid)?),
            (Kind::Widened, _) => PageValues::I64(spread(widened(&integers(&bytes, encoding, n)?), valid)?),
            (Kind::Bytes(len), _) => PageValues::I64(spread(decode::big_endian(&bytes, len, n)?.into(), valid)?),
            (Kind::F64, Encoding::BYTE_STREAM_SPLIT) => PageValues::F64(spread(decode::split(&bytes, n)?.into(), valid)?),
            (Kind::F64, _) => PageValues::F64(spread(decode::plain(&bytes, n)?, valid)?),
            (Kind::Text, _) => {
                let (bytes, mut spans) = match encoding {
                    Encoding::DELTA_LENGTH_BYTE_ARRAY => (bytes.clone(), decode::spans_by_length(&bytes, n)?),
                    Encoding::DELTA_BYTE_ARRAY => decode::prefixed(&bytes, n).map(|(text, spans)| (text.into(), spans))?,
                    _ => (bytes.clone(), decode::spans(&bytes, n)?),
                };
                if let Some(valid) = valid {
                    spans = decode::spread(&spans, valid)?;
                }
                PageValues::Text { ascii: bytes.is_ascii(), bytes, spans }
            }
        })
    }

    fn slice(&self, page: &Page, from: usize, len: usize) -> Result<Vector> {
        let values = match &page.values {
            PageValues::Bool(v) => Values::Bool(Buf::Shared(v.slice(from, len))),
            PageValues::I32(v) => Values::I32(Buf::Shared(v.slice(from, len))),
            PageValues::I64(v) => Values::I64(Buf::Shared(v.slice(from, len))),
            PageValues::F64(v) => Values::F64(Buf::Shared(v.slice(from, len))),
            PageValues::Text { bytes, ascii, spans } => {
                Values::Str(Strings::View(decode::views(bytes, *ascii, spans[from..from + len].iter().copied())?))
            }
            PageValues::Codes(codes) => self.entry_values(codes.slice(from, len))?,
        };
        Ok(Vector::with_valid(values, page.valid.as_ref().map(|v| Buf::Shared(v.slice(from, len)))))
    }

    fn gather(&self, page: &Page, rows: impl ExactSizeIterator<Item = usize> + Clone) -> Result<Vector> {
        fn pick<T: Copy>(v: &[T], rows: impl Iterator<Item = usize>) -> Vec<T> {
            rows.map(|r| v[r]).collect()
        }
        let values = match &page.values {
            PageValues::Bool(v) => Values::Bool(pick(v, rows.clone()).into()),
            PageValues::I32(v) => Values::I32(pick(v, rows.clone()).into()),
            PageValues::I64(v) => Values::I64(pick(v, rows.clone()).into()),
            PageValues::F64(v) => Values::F64(pick(v, rows.clone()).into()),
            PageValues::Text { bytes, ascii, spans } => {
                Values::Str(Strings::View(decode::views(bytes, *ascii, rows.clone().map(|r| spans[r]))?))
            }
            PageValues::Codes(codes) => self.entry_values(pick(codes, rows.clone()).into())?,
        };
        Ok(Vector::with_valid(values, page.valid.as_ref().map(|v| pick(v, rows).into())))
    }

    fn entry_values(&self, codes: ScalarBuffer<i32>) -> Result<Values> {
        Ok(match &self.entries {
            Some(Entries::I32(v)) => Values::I32(decode::lookup(v, &codes)?.into()),
            Some(Entries::I64(v)) => Values::I64(decode::lookup(v, &codes)?.into()),
            Some(Entries::F64(v)) => Values::F64(decode::lookup(v, &codes)?.into()),
            Some(Entries::Text(dict)) => {
                decode::check_codes(dict.values().len(), &codes)?;
                Values::Str(Strings::Dict { codes: Buf::Shared(codes), dict: Arc::clone(dict) })
            }
            None => return Err(corrupt("codes without a dictionary")),
        })
    }
}

fn kind(t: &DataType, descr: &ColumnDescriptor) -> Option<Kind> {
    Some(match (t, descr.physical_type()) {
        (DataType::Boolean, Physical::BOOLEAN) => Kind::Bool,
        (DataType::Int32 | DataType::Date32, Physical::INT32) => Kind::I32,
        (DataType::Int64 | DataType::Timestamp(..), Physical::INT64) => Kind::I64,
        (DataType::Decimal128(..), Physical::INT32) => Kind::Widened,
        (DataType::Decimal128(..), Physical::INT64) => Kind::I64,
        (DataType::Decimal128(..=NARROW_DIGITS, _), Physical::FIXED_LEN_BYTE_ARRAY) => {
            Kind::Bytes(usize::try_from(descr.type_length()).ok().filter(|len| *len > 0)?)
        }
        (DataType::Float64, Physical::DOUBLE) => Kind::F64,
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, Physical::BYTE_ARRAY) => Kind::Text,
        _ => return None,
    })
}

/// Whether values of this kind in this encoding are decoded here.
fn covers(kind: Kind, encoding: Encoding) -> bool {
    match encoding {
        Encoding::PLAIN => true,
        Encoding::RLE => kind == Kind::Bool,
        Encoding::DELTA_BINARY_PACKED => matches!(kind, Kind::I32 | Kind::I64 | Kind::Widened),
        Encoding::BYTE_STREAM_SPLIT => matches!(kind, Kind::I32 | Kind::I64 | Kind::Widened | Kind::F64),
        Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY => kind == Kind::Text,
        _ => false,
    }
}

/// Whether it may be the encoding of a chunk's codes or levels.
fn is_of_codes(encoding: Encoding, optional: bool) -> bool {
    match encoding {
        Encoding::RLE | Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY => true,
        #[allow(deprecated)]
        Encoding::BIT_PACKED => !optional,
        _ => false,
    }
}

fn entries(kind: Kind, bytes: &Buffer, n: usize) -> Result<Entries> {
    Ok(match kind {
        Kind::Bool => return Err(corrupt("a dictionary of booleans")),
        Kind::I32 => Entries::I32(at_least_one(decode::plain(bytes, n)?)),
        Kind::I64 => Entries::I64(at_least_one(decode::plain(bytes, n)?)),
        Kind::Widened => Entries::I64(at_least_one(widened(&decode::plain(bytes, n)?))),
        Kind::Bytes(len) => Entries::I64(at_least_one(decode::big_endian(bytes, len, n)?.into())),
        Kind::F64 => Entries::F64(at_least_one(decode::plain(bytes, n)?)),
        Kind::Text => Entries::Text(Dictionary::new(decode::strings(bytes, n)?)),
    })
}

fn integers<T: Difference>(bytes: &Buffer, encoding: Encoding, n: usize) -> Result<ScalarBuffer<T>> {
    Ok(match encoding {
        Encoding::DELTA_BINARY_PACKED => decode::deltas(bytes, n)?.0.into(),
        Encoding::BYTE_STREAM_SPLIT => decode::split(bytes, n)?.into(),
        _ => decode::plain(bytes, n)?,
    })
}

/// Booleans as runs, behind the length of them all.
fn runs(bytes: &[u8], n: usize) -> Result<Vec<u8>> {
    let Some(runs) = bytes.get(4..) else { return Err(corrupt("it ends within a length")) };
    Ok(decode::codes(runs, 1, n)?.into_iter().map(|v| v as u8).collect())
}

/// Rows that are null have code 0, which must exist.
fn at_least_one<T: arrow::datatypes::ArrowNativeType>(v: ScalarBuffer<T>) -> ScalarBuffer<T> {
    if v.is_empty() { vec![T::default()].into() } else { v }
}

fn widened(v: &ScalarBuffer<i32>) -> ScalarBuffer<i64> {
    v.iter().map(|v| i64::from(*v)).collect::<Vec<_>>().into()
}

fn spread<T: arrow::datatypes::ArrowNativeType>(v: ScalarBuffer<T>, valid: Option<&[u8]>) -> Result<ScalarBuffer<T>> {
    Ok(match valid {
        Some(valid) => decode::spread(&v, valid)?.into(),
        None => v,
    })
}

/// Validity of a version 1 page and how many bytes its levels take.
fn levels_v1(page: &Bytes, rows: usize) -> Result<(Option<Vec<u8>>, usize)> {
    let short = || corrupt("levels longer than their page");
    let len = page.get(..4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes).ok_or_else(short)? as usize;
    let levels = page.get(4..).and_then(|b| b.get(..len)).ok_or_else(short)?;
    Ok((validity(levels, rows)?, 4 + len))
}

/// 1 for each row with a value; none when every row has one.
fn validity(levels: &[u8], rows: usize) -> Result<Option<Vec<u8>>> {
    let levels = decode::codes(levels, 1, rows)?;
    if levels.iter().all(|l| *l == 1) {
        return Ok(None);
    }
    Ok(Some(levels.into_iter().map(|l| l as u8).collect()))
}

fn corrupt(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, format!("corrupt page: {what}"))
}
