//! Columns into chunks: one array of words a chunk, each column at its own offset, as narrow as its
//! values allow. What is measured on the way, least and greatest value and whether anything is null,
//! is what the lowering builds its proof on.

use super::lower::{Placed, Storage};
use super::range::Interval;
use super::resident::{Copied, ToKeep};
use super::{HostColumn, HostValues};
use crate::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// What a column holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub range: Interval,
    pub nulls: bool,
}

/// Measures `column`, which must have `rows` rows.
///
/// # Errors
/// `Bug` when values or validity have another length.
pub(super) fn measure(column: &HostColumn, rows: usize) -> Result<Measured> {
    if let HostValues::Kept(kept) = column.values
        && kept.rows == rows
    {
        return Ok(kept.measured);
    }
    if column.values.len() != rows || column.valid.is_some_and(|v| v.len() != rows) {
        return Err(Error::bug("a column and its rows differ in number"));
    }
    let valid = column.valid.filter(|v| v.contains(&0));
    let range = match column.values {
        HostValues::Bool(_) => Interval::BOOL,
        HostValues::I32(v) => bounds(v, valid),
        HostValues::I64(v) => bounds(v, valid),
        HostValues::Kept(_) => return Err(Error::bug("a kept column of other rows")),
    };
    Ok(Measured { range, nulls: valid.is_some() })
}

/// Least and greatest valid value.
fn bounds<T: Copy + Ord + Into<i64>>(values: &[T], valid: Option<&[u8]>) -> Interval {
    let range = match valid {
        // Two plain reductions: the shape the compiler turns into vector instructions.
        None => values.iter().copied().min().zip(values.iter().copied().max()),
        Some(valid) => {
            let live = || values.iter().zip(valid).filter(|(_, valid)| **valid != 0).map(|(v, _)| *v);
            live().min().zip(live().max())
        }
    };
    range.map_or(Interval::ZERO, |(low, high)| Interval::of_i64(low.into(), high.into()))
}

/// Writes `bytes` (0 or 1) as bits from bit `at` of `words` on.
pub(super) fn pack_bits(words: &mut [u32], at: usize, bytes: &[u8]) {
    if !at.is_multiple_of(32) {
        for (i, byte) in (at..).zip(bytes) {
            let word = &mut words[i / 32];
            *word = (*word & !(1 << (i % 32))) | (u32::from(byte & 1) << (i % 32));
        }
        return;
    }
    for (word, bytes) in words[at / 32..].iter_mut().zip(bytes.chunks(32)) {
        *word = 0;
        for (i, eight) in bytes.chunks(8).enumerate() {
            let mut lanes = [0u8; 8];
            lanes[..eight.len()].copy_from_slice(eight);
            // The product brings bit 0 of byte k to bit 56 + k.
            let lanes = u64::from_le_bytes(lanes) & 0x0101_0101_0101_0101;
            *word |= ((lanes.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32) << (8 * i);
        }
    }
}

/// Writes rows `from` of `values` at row `at` of a column that starts at `base`.
fn pack_values(words: &mut [u32], base: usize, storage: Storage, at: usize, values: HostValues, from: Range<usize>) {
    match (values, storage) {
        (HostValues::Bool(v), _) => pack_bits(&mut words[base..], at, &v[from]),
        (HostValues::I32(v), Storage::Pair) => {
            for (pair, v) in words[base + 2 * at..].chunks_exact_mut(2).zip(&v[from]) {
                pair.copy_from_slice(&[*v as u32, (*v >> 31) as u32]);
            }
        }
        (HostValues::I32(v), _) => {
            let v = &v[from];
            words[base + at..][..v.len()].copy_from_slice(bytemuck::cast_slice(v));
        }
        (HostValues::I64(v), Storage::Pair) => {
            for (pair, v) in words[base + 2 * at..].chunks_exact_mut(2).zip(&v[from]) {
                pair.copy_from_slice(&[*v as u32, (*v >> 32) as u32]);
            }
        }
        (HostValues::I64(v), _) => {
            for (word, v) in words[base + at..].iter_mut().zip(&v[from]) {
                *word = *v as u32;
            }
        }
        // Copied on the device.
        (HostValues::Kept(_), _) => {}
    }
}

/// Values of 64 bits as words, the low one first.
pub(super) fn word_pairs(values: &[u64]) -> impl Iterator<Item = u32> {
    values.iter().flat_map(|v| [*v as u32, (*v >> 32) as u32])
}

/// Words of `rows` values.
pub(super) fn words_of(storage: Storage, rows: usize) -> usize {
    match storage {
        Storage::Bits => rows.div_ceil(32),
        Storage::Word => rows,
        Storage::Pair => 2 * rows,
    }
}

/// The narrowest storage of what was measured.
pub(super) fn storage(values: &HostValues, measured: &Measured) -> Storage {
    match values {
        HostValues::Bool(_) => Storage::Bits,
        HostValues::Kept(column) => column.storage,
        _ if measured.range.fits_i32() => Storage::Word,
        _ => Storage::Pair,
    }
}

/// Where a column of a chunk goes: how its values are stored, and whether its nulls are.
pub(super) type Plan = (Storage, bool);

/// A chunk of rows on its way to the device.
#[derive(Debug, Default)]
pub(super) struct Slab {
    /// All columns. The words beyond the rows so far are arbitrary.
    pub words: Vec<u32>,
    pub rows: usize,
    /// Rows that it holds at most: a multiple of 32, so that columns start at words.
    pub capacity: usize,
    /// The columns, with what is known of the rows so far.
    pub placed: Vec<Placed>,
    /// Words that the host brings, of the values and of the validity of each column.
    host: Vec<[Vec<Range<usize>>; 2]>,
    /// What is already on the device.
    pub copied: Vec<Copied>,
    /// What is to stay there.
    pub to_keep: Vec<ToKeep>,
}

impl Slab {
    /// An empty slab in the memory of `words`.
    pub fn new(mut words: Vec<u32>, plan: &[Plan], capacity: usize) -> Self {
        let mut end = 0;
        let mut reserve = |count: usize| {
            let at = end;
            end += count;
            at as u32
        };
        let placed: Vec<Placed> = plan
            .iter()
            .map(|(storage, nullable)| Placed {
                buffer: 0,
                storage: *storage,
                values_at: reserve(words_of(*storage, capacity)),
                valid_at: nullable.then(|| reserve(words_of(Storage::Bits, capacity))),
                range: Interval::ZERO,
            })
            .collect();
        words.resize(end, 0);
        let host = vec![<[Vec<Range<usize>>; 2]>::default(); plan.len()];
        Self { words, rows: 0, capacity, placed, host, copied: vec![], to_keep: vec![] }
    }

    /// The largest capacity with which `plan` stays within `words_max`, and at least 32.
    pub fn capacity(plan: &[Plan], words_max: usize) -> usize {
        let row_bits: usize = plan.iter().map(|(s, nullable)| words_of(*s, 32) + usize::from(*nullable)).sum();
        // 32 rows take `row_bits` words.
        (words_max / row_bits.max(1)).max(1) * 32
    }

    /// Whether columns of `plan` can be appended.
    pub fn holds(&self, plan: &[Plan]) -> bool {
        self.placed.len() == plan.len()
            && self.placed.iter().zip(plan).all(|(p, (storage, nullable))| p.storage == *storage && p.valid_at.is_some() == *nullable)
    }

    /// Whether `columns` can follow the rows so far: copies on the device go from word to word.
    pub fn joins(&self, columns: &[HostColumn]) -> bool {
        let copies = !self.copied.is_empty() || columns.iter().any(|c| matches!(c.values, HostValues::Kept(_)));
        self.rows.is_multiple_of(32) || !copies
    }

    /// Appends rows `from` of `columns`, of `rows` altogether; they fit, by number and by plan.
    pub fn append(&mut self, columns: &[HostColumn], measured: &[Measured], from: Range<usize>, rows: usize) {
        let (at, count) = (self.rows, from.len());
        for (((placed, column), measured), host) in self.placed.iter_mut().zip(columns).zip(measured).zip(&mut self.host) {
            let base = placed.values_at as usize;
            placed.range = if at == 0 { measured.range } else { placed.range.union(measured.range) };
            let values = span(base, placed.storage, at, count);
            let valid = placed.valid_at.map(|bits| span(bits as usize, Storage::Bits, at, count));
            if let HostValues::Kept(column) = column.values {
                debug_assert!(at.is_multiple_of(32) && from.start.is_multiple_of(32), "bits are copied by the word");
                let there = |begin: usize, storage| span(begin, storage, from.start, count).start;
                let values = (there(0, placed.storage), values.start, values.len());
                let valid = column.valid_at.zip(valid).map(|(begin, here)| (there(begin, Storage::Bits), here.start, here.len()));
                self.copied.push(Copied { column: Arc::clone(column), spans: [Some(values), valid].into_iter().flatten().collect() });
                continue;
            }
            pack_values(&mut self.words, base, placed.storage, at, column.values, from.clone());
            if let Some(bits) = placed.valid_at {
                let bits = &mut self.words[bits as usize..];
                match column.valid {
                    Some(valid) => pack_bits(bits, at, &valid[from.clone()]),
                    None => pack_bits(bits, at, &vec![1; count]),
                }
            }
            if let Some(piece) = column.piece.filter(|_| count == rows && at.is_multiple_of(32)) {
                let (storage, valid_at) = (placed.storage, valid.as_ref().map(|bits| bits.start));
                self.to_keep.push(ToKeep { piece, storage, rows, values_at: values.start, valid_at, measured: *measured });
            }
            extend(&mut host[0], values);
            valid.into_iter().for_each(|bits| extend(&mut host[1], bits));
        }
        self.rows += count;
    }

    /// The words that the host brings.
    pub fn used(&self) -> Vec<Range<usize>> {
        self.host.iter().flatten().flatten().filter(|span| !span.is_empty()).cloned().collect()
    }
}

/// The words of `count` rows from row `at` on, of a column that starts at `base`.
fn span(base: usize, storage: Storage, at: usize, count: usize) -> Range<usize> {
    match storage {
        Storage::Bits => base + at / 32..base + (at + count).div_ceil(32),
        storage => base + words_of(storage, at)..base + words_of(storage, at + count),
    }
}

/// Adds a span behind all others, as one where they meet.
fn extend(spans: &mut Vec<Range<usize>>, next: Range<usize>) {
    match spans.last_mut() {
        Some(last) if last.end >= next.start => last.end = next.end,
        _ => spans.push(next),
    }
}
