//! One column: the parts that were read as one buffer, and what is known of its values.

use super::zones::{self, Zones};
use crate::Error;
use crate::Result;
use crate::convert::to_array;
use crate::program::physical;
use arrow::array::{Array, StringViewBuilder};
use arrow::datatypes::{ArrowNativeType, DataType};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue};
use millstream_kernels::gather::{self, Growing};
use millstream_kernels::group::Interner;
use millstream_kernels::program::Type;
use millstream_kernels::{Buf, Narrow, Strings, Values, Vector};
use std::ops::Range;

/// A column of so many distinct strings or fewer becomes a dictionary, however few its rows are.
const DICTIONARY_ALWAYS: usize = 1024;

/// Above, a column is a dictionary only if its rows are this many times its distinct strings.
const ROWS_PER_ENTRY: usize = 4;

/// No dictionary has more entries than this.
const DICTIONARY_MOST: usize = 64 * 1024;

/// Integers in a range of so many values or fewer are counted exactly, with one bit a value.
const COUNTED_RANGE: i128 = 1 << 28;

/// Strings as long as this stand in the view itself.
const INLINE_BYTES: usize = 12;

/// Bytes of long strings in one buffer.
const STRING_BLOCK_BYTES: usize = 1 << 30;

/// Values of a column, or of a part of one: every buffer is shared, so that a slice of wide ones is no copy.
#[derive(Debug)]
pub(super) enum Stored {
    /// Integers and codes in fewer bytes than a register has.
    Narrow(Narrow),
    /// As in a register.
    Wide(Vector),
}

impl Stored {
    /// `v` in as few bytes as its own range needs.
    pub fn measured(v: Vector) -> Self {
        let bounds = zones::bounds(&v);
        Self::new(v.within(bounds))
    }

    /// `v` in as few bytes as the bounds that it has with it need.
    fn new(v: Vector) -> Self {
        Narrow::of(&v).map_or_else(|| Self::Wide(shared(v)), Self::Narrow)
    }

    fn len(&self) -> usize {
        match self {
            Self::Narrow(n) => n.len(),
            Self::Wide(v) => v.values.len(),
        }
    }

    /// Bytes of memory held, entries of a dictionary and long strings included.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Narrow(n) => n.bytes(),
            Self::Wide(v) => bytes(v),
        }
    }

    /// These rows as a register.
    pub fn rows(&self, rows: Range<usize>) -> Vector {
        match self {
            Self::Narrow(n) => n.rows(rows.start, rows.len()),
            Self::Wide(v) => v.slice(rows.start, rows.len()),
        }
    }

    /// Those of these rows that `picked` names, relative to the first, in its order.
    ///
    /// # Errors
    /// `Bug` for a row that is not among them.
    pub fn picked(&self, rows: Range<usize>, picked: &[u32]) -> Result<Vector> {
        Ok(match self {
            Self::Narrow(n) => n.picked(rows.start, rows.len(), picked)?,
            Self::Wide(v) => gather::gather(&v.slice(rows.start, rows.len()), picked)?,
        })
    }

    fn all(&self) -> Vector {
        self.rows(0..self.len())
    }
}

/// A column of a table in memory.
#[derive(Debug)]
pub(super) struct Column {
    /// The values of all rows.
    pub values: Stored,
    pub zones: Zones,
    pub statistics: ColumnStatistics,
    /// Bytes of memory held, a dictionary's entries included.
    pub bytes: usize,
    /// Whether there are values past 32 bits; none where not all are integers of 64 bits, booleans or codes.
    pub wide: Option<bool>,
}

impl Column {
    /// The rows of `parts`, one after the other, as a column of logical type `t`.
    ///
    /// # Errors
    /// `Bug` when the parts differ in type.
    pub fn new(parts: Vec<Stored>, t: &DataType) -> Result<Self> {
        let rows = parts.iter().map(Stored::len).sum();
        let values = join(parts, t, rows)?;
        let zones = Zones::of(&values, t, rows)?;
        let statistics = statistics(&values, &zones, t, rows, bytes(&values))?;
        let bounds = zones.bounds().as_ref().and_then(zones::bounds);
        let wide = match &values.values {
            Values::Bool(_) | Values::Str(Strings::Dict { .. }) => Some(false),
            _ => bounds.map(|(low, high)| i32::try_from(low).and(i32::try_from(high)).is_err()),
        };
        let values = Stored::new(values.within(bounds));
        let bytes = values.bytes();
        Ok(Self { values, zones, statistics, bytes, wide })
    }
}

/// The parts as one register; each is given up as soon as it is copied.
fn join(parts: Vec<Stored>, t: &DataType, rows: usize) -> Result<Vector> {
    match physical(t) {
        Type::Any if parts.is_empty() => Ok(Vector::new(Values::Any(arrow::array::new_empty_array(t)))),
        Type::Str => {
            let strings = match dictionary(&parts, rows)? {
                Some(codes) => codes,
                None => views(&parts, rows)?,
            };
            Ok(Vector::with_valid(Values::Str(strings), valid(&parts, rows)))
        }
        ty => {
            let mut all = Growing::new(ty).with_room(rows);
            parts.into_iter().try_for_each(|p| all.push(&p.all(), p.len()))?;
            Ok(all.finish()?)
        }
    }
}

fn strings_of(part: &Vector) -> Result<&Strings> {
    match &part.values {
        Values::Str(s) => Ok(s),
        _ => Err(Error::bug("a string column with a part that is none")),
    }
}

/// All strings as codes, or none as soon as there are too many distinct ones.
fn dictionary(parts: &[Stored], rows: usize) -> Result<Option<Strings>> {
    let most = (rows / ROWS_PER_ENTRY).clamp(DICTIONARY_ALWAYS, DICTIONARY_MOST);
    let mut interner = Interner::default();
    let mut codes: Vec<i32> = Vec::with_capacity(rows);
    let mut ids = vec![];
    for p in parts.iter().map(Stored::all) {
        ids.clear();
        interner.intern_all(strings_of(&p)?, false, p.valid.as_deref(), p.values.len(), &mut ids);
        if interner.len() > most {
            return Ok(None);
        }
        codes.extend(ids.iter().map(|id| *id as i32));
    }
    Ok(Some(Strings::Dict { codes: codes.into(), dict: interner.dictionary()? }))
}

/// All strings as views over few large buffers.
fn views(parts: &[Stored], rows: usize) -> Result<Strings> {
    let mut long_bytes = 0;
    each_string(parts, |s| long_bytes += if s.len() > INLINE_BYTES { s.len() } else { 0 })?;
    let block = long_bytes.clamp(1, STRING_BLOCK_BYTES) as u32;
    let mut views = StringViewBuilder::with_capacity(rows).with_fixed_block_size(block);
    each_string(parts, |s| views.append_value(s))?;
    Ok(Strings::View(views.finish()))
}

fn each_string(parts: &[Stored], mut take: impl FnMut(&str)) -> Result<()> {
    for p in parts.iter().map(Stored::all) {
        let s = strings_of(&p)?;
        (0..s.len()).for_each(|i| take(if p.is_null(i) { "" } else { s.value(i) }));
    }
    Ok(())
}

fn valid(parts: &[Stored], rows: usize) -> Option<Buf<u8>> {
    let mut out: Option<Vec<u8>> = None;
    let mut at = 0;
    for p in parts.iter().map(Stored::all) {
        match &p.valid {
            Some(v) => out.get_or_insert_with(|| vec![1; at]).extend_from_slice(v),
            None => out.iter_mut().for_each(|all| all.resize(at + p.values.len(), 1)),
        }
        at += p.values.len();
    }
    debug_assert_eq!(at, rows, "as many validities as rows");
    out.map(Buf::Owned)
}

/// The same values in buffers that a slice shares.
fn shared(v: Vector) -> Vector {
    fn share<T: ArrowNativeType>(b: Buf<T>) -> Buf<T> {
        Buf::Shared(b.into_scalar_buffer())
    }
    let values = match v.values {
        Values::Bool(b) => Values::Bool(share(b)),
        Values::I32(b) => Values::I32(share(b)),
        Values::I64(b) => Values::I64(share(b)),
        Values::I128(b) => Values::I128(share(b)),
        Values::F64(b) => Values::F64(share(b)),
        Values::Str(Strings::Dict { codes, dict }) => Values::Str(Strings::Dict { codes: share(codes), dict }),
        other => other,
    };
    Vector::with_valid(values, v.valid.filter(|v| v.contains(&0)).map(share))
}

/// Bytes of a register, entries of a dictionary and long strings included.
fn bytes(v: &Vector) -> usize {
    let valid = v.valid.as_ref().map_or(0, |v| v.len());
    match &v.values {
        Values::Str(Strings::Dict { codes, dict }) => codes.len() * 4 + dict.values().get_buffer_memory_size() + valid,
        // Buffers may be shared with other parts, so the strings themselves count.
        Values::Str(Strings::View(s)) => {
            s.len() * 16 + s.lengths().map(|l| l as usize).filter(|l| *l > INLINE_BYTES).sum::<usize>() + valid
        }
        _ => crate::run::vector_size(v),
    }
}

fn statistics(v: &Vector, zones: &Zones, t: &DataType, rows: usize, bytes: usize) -> Result<ColumnStatistics> {
    let nulls = zones.null_count();
    let mut out = ColumnStatistics::new_unknown();
    out.null_count = Precision::Exact(nulls);
    out.byte_size = Precision::Exact(bytes);
    if nulls == rows {
        return Ok(out);
    }
    let bounds = match &v.values {
        Values::Str(Strings::Dict { dict, .. }) => {
            out.distinct_count = Precision::Exact(dict.values().len());
            let order = |a: &i32, b: &i32| dict.values().value(*a as usize).cmp(dict.values().value(*b as usize));
            let entries = 0..dict.values().len() as i32;
            let ends: Vec<i32> = entries.clone().min_by(order).into_iter().chain(entries.max_by(order)).collect();
            Some(Vector::new(Values::Str(Strings::Dict { codes: ends.into(), dict: dict.clone() })))
        }
        _ => zones.bounds(),
    };
    if let Some(bounds) = bounds {
        if let Some(n) = distinct(v, &bounds) {
            out.distinct_count = Precision::Exact(n);
        }
        let ends = to_array(&bounds, t, 2)?;
        // The ends of a float column may be zeros of another sign than its values.
        let known = |s: ScalarValue| if *t == DataType::Float64 { Precision::Inexact(s) } else { Precision::Exact(s) };
        out.min_value = known(ScalarValue::try_from_array(&ends, 0)?);
        out.max_value = known(ScalarValue::try_from_array(&ends, 1)?);
    }
    Ok(out)
}

/// Number of distinct integers where they lie in a small range.
fn distinct(v: &Vector, bounds: &Vector) -> Option<usize> {
    fn count<T: ArrowNativeType + Into<i128>>(all: &[T], valid: Option<&[u8]>, ends: &[T]) -> Option<usize> {
        let (low, high): (i128, i128) = (ends[0].into(), ends[1].into());
        if high - low >= COUNTED_RANGE.min(64 * all.len() as i128) {
            return None;
        }
        let mut seen = vec![0u64; ((high - low) / 64 + 1) as usize];
        for (i, v) in all.iter().enumerate() {
            if valid.is_none_or(|valid| valid[i] != 0) {
                let at = ((*v).into() - low) as usize;
                seen[at / 64] |= 1 << (at % 64);
            }
        }
        Some(seen.iter().map(|w| w.count_ones() as usize).sum())
    }
    match (&v.values, &bounds.values) {
        (Values::I32(all), Values::I32(ends)) => count(all, v.valid.as_deref(), ends),
        (Values::I64(all), Values::I64(ends)) => count(all, v.valid.as_deref(), ends),
        _ => None,
    }
}
