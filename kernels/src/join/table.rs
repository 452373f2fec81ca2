//! The table of a build side.

use crate::group::{Groups, Interner, KeyType};
use crate::program::Type;
use crate::value::canonical_f64;
use crate::vector::{Strings, Values, Vector};
use crate::{Error, Result, arith, hash, simd};
use std::borrow::Cow;

/// How one key column becomes part of an integer.
enum Coder {
    /// `value - min`, below `span`.
    Int { min: i64, span: u64 },
    /// The id of the string.
    Text(Interner),
}

/// Where a key's first row is found; rows are numbered from 1, 0 = none.
enum Index {
    /// At the key's code.
    Array(Vec<u32>),
    /// In slots of (upper half of the hash, row), at the hash of the code; `codes` are of the rows.
    /// `present`: a bit for every possible code, where there are not too many; most misses end there.
    Hash { slots: Vec<u64>, codes: Vec<u64>, present: Vec<u64> },
    /// At the id of the key in a group table.
    Groups { table: Box<Groups>, heads: Vec<u32> },
}

/// Build rows by key.
pub struct JoinTable {
    types: Vec<KeyType>,
    coders: Vec<Coder>,
    null_equals_null: bool,
    index: Index,
    /// The next row with the same key; empty when every key is unique.
    next: Vec<u32>,
    rows: usize,
    /// Whether a build key was null.
    has_null_key: bool,
}

/// How a join table finds the first row of a key by its code; rows are numbered from 1, 0 = none.
pub enum ByCode<'a> {
    /// At the code.
    Array(&'a [u32]),
    /// By hash.
    Hash {
        /// The code of each row.
        codes: &'a [u64],
        /// The first row of each code.
        heads: Vec<u32>,
    },
}

/// What a prober remembers between chunks: codes of the dictionary entries it met.
#[derive(Default)]
pub struct ProbeScratch {
    codes: Vec<u64>,
    miss: Vec<u8>,
    entries: Vec<Option<(u64, Vec<u64>)>>,
}

const NO_ENTRY: u64 = u64::MAX;

/// An array may always have this many entries (1 MiB).
const ARRAY_FREE: u64 = 1 << 18;

/// Possible codes of keys up to which a build side of so many rows is an array.
pub fn array_entries(rows: u64) -> u64 {
    rows.saturating_mul(4).max(ARRAY_FREE)
}

/// Up to this many possible codes a row, a bit each (as much memory as the hash table) says which exist.
const PRESENT_BITS: u64 = 256;

/// However few rows there are: 512 KiB stay in a core's cache, and most probes of a table of few keys find nothing.
const PRESENT_BITS_FREE: u64 = 1 << 22;

simd! {
    fn code_ints(v: &[i64], min: i64, span: u64, times: u64, codes: &mut [u64], miss: &mut [u8]) {
        for ((v, c), m) in v.iter().zip(codes).zip(miss) {
            let d = v.wrapping_sub(min) as u64;
            *m |= (d >= span) as u8;
            *c = c.wrapping_add(d.wrapping_mul(times));
        }
    }
}
simd! {
    fn code_ints32(v: &[i32], min: i64, span: u64, times: u64, codes: &mut [u64], miss: &mut [u8]) {
        for ((v, c), m) in v.iter().zip(codes).zip(miss) {
            let d = (i64::from(*v)).wrapping_sub(min) as u64;
            *m |= (d >= span) as u8;
            *c = c.wrapping_add(d.wrapping_mul(times));
        }
    }
}

impl JoinTable {
    /// A table over `rows` build rows with these key columns (none constant).
    ///
    /// # Errors
    /// `Unsupported` for key types without kernels.
    pub fn build(keys: &[Vector], types: &[KeyType], rows: usize, null_equals_null: bool) -> Result<Self> {
        let has_null_key = keys.iter().any(|k| k.valid.as_ref().is_some_and(|v| v[..rows].contains(&0)));
        let mut table =
            Self { types: types.to_vec(), coders: vec![], null_equals_null, index: Index::Array(vec![]), next: vec![], rows, has_null_key };
        let live = table.live(keys, rows);
        // Null keys that match one another, floats and wide decimals take the general way.
        let general = null_equals_null && has_null_key || types.iter().any(|t| t.is_wide() || matches!(t.ty, Type::F64 | Type::Any));
        if !general && table.measure(keys, rows, live.as_deref())? {
            table.index_codes(keys, rows, live.as_deref())?;
        } else {
            table.coders.clear();
            table.index_groups(keys, rows, live.as_deref())?;
        }
        Ok(table)
    }

    /// Number of build rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether a build key was null.
    pub fn has_null_key(&self) -> bool {
        self.has_null_key
    }

    /// Whether no two build rows share a key.
    pub fn is_unique(&self) -> bool {
        self.next.is_empty()
    }

    /// The name of the table's kind, for EXPLAIN ANALYZE.
    pub fn kind(&self) -> &'static str {
        match &self.index {
            Index::Array(_) => "array",
            Index::Hash { .. } => "hash",
            Index::Groups { .. } => "group",
        }
    }

    /// Bytes of memory held.
    pub fn size(&self) -> usize {
        self.next.capacity() * 4
            + match &self.index {
                Index::Array(heads) => heads.capacity() * 4,
                Index::Hash { slots, codes, present } => (slots.capacity() + codes.capacity() + present.capacity()) * 8,
                Index::Groups { table, heads } => table.size() + heads.capacity() * 4,
            }
    }

    /// How the code of a key finds its first row: for the device. None where keys go through a group table.
    pub fn by_code(&self) -> Option<ByCode<'_>> {
        match &self.index {
            Index::Array(heads) => Some(ByCode::Array(heads)),
            Index::Hash { slots, codes, .. } => {
                let heads = slots.iter().map(|slot| *slot as u32).filter(|head| *head != 0).collect();
                Some(ByCode::Hash { codes, heads })
            }
            Index::Groups { .. } => None,
        }
    }

    /// What a single integer key is counted from: its code is its distance from here. None of any other keys.
    pub fn origin(&self) -> Option<i64> {
        match self.coders.as_slice() {
            [Coder::Int { min, .. }] => Some(*min),
            _ => None,
        }
    }

    /// The codes of `n` keys, and 1 for those that may be in the table. Not for keys that go through a group table.
    ///
    /// # Errors
    /// As [`JoinTable::heads`].
    pub fn codes(&self, keys: &[&Vector], n: usize) -> Result<(Vec<u64>, Vec<u8>)> {
        let mut scratch = ProbeScratch::default();
        self.encode(keys, n, &mut scratch)?;
        scratch.miss.iter_mut().for_each(|m| *m ^= 1);
        Ok((scratch.codes, scratch.miss))
    }

    /// Least and greatest value of integer key column `k`: what the probe side's scan can prune by.
    pub fn key_range(&self, k: usize) -> Option<(i64, i64)> {
        match self.coders.get(k) {
            Some(Coder::Int { min, span }) if *span > 0 => Some((*min, min.wrapping_add((*span - 1) as i64))),
            _ => None,
        }
    }

    /// 1 for each row that can match; none when all can.
    fn live(&self, keys: &[Vector], rows: usize) -> Option<Vec<u8>> {
        if self.null_equals_null || !self.has_null_key {
            return None;
        }
        let mut live = vec![1u8; rows];
        for valid in keys.iter().filter_map(|k| k.valid.as_ref()) {
            live.iter_mut().zip(valid.iter()).for_each(|(l, v)| *l &= v);
        }
        Some(live)
    }

    /// Measures the key ranges; false when their product does not fit 64 bits.
    fn measure(&mut self, keys: &[Vector], rows: usize, live: Option<&[u8]>) -> Result<bool> {
        let mut product = 1u128;
        for key in keys {
            let coder = match &key.values {
                Values::Str(s) => {
                    let mut interner = Interner::default();
                    interner.intern_all(s, false, live, rows, &mut vec![]);
                    product = product.saturating_mul(interner.len().max(1) as u128);
                    Coder::Text(interner)
                }
                values => {
                    let v = integers(values, rows)?;
                    let (lo, hi) = match live {
                        None => arith::range_i64(&v),
                        Some(live) => arith::range_i64(&v.iter().zip(live).filter(|(_, l)| **l != 0).map(|(v, _)| *v).collect::<Vec<_>>()),
                    };
                    let span = if lo > hi { 0 } else { (i128::from(hi) - i128::from(lo)) as u128 + 1 };
                    product = product.saturating_mul(span.max(1));
                    if span > u128::from(u64::MAX) {
                        return Ok(false);
                    }
                    Coder::Int { min: lo, span: span as u64 }
                }
            };
            self.coders.push(coder);
        }
        Ok(product < u128::from(u64::MAX))
    }

    fn product(&self) -> u64 {
        self.coders
            .iter()
            .map(|c| match c {
                Coder::Int { span, .. } => *span,
                Coder::Text(i) => i.len() as u64,
            })
            .product()
    }

    fn index_codes(&mut self, keys: &[Vector], rows: usize, live: Option<&[u8]>) -> Result<()> {
        let mut scratch = ProbeScratch::default();
        self.encode(&keys.iter().collect::<Vec<_>>(), rows, &mut scratch)?;
        let codes = scratch.codes;
        let product = self.product();
        let mut chains = Chains::new(rows);
        if product <= array_entries(rows as u64) {
            let mut heads = vec![0u32; product as usize];
            for i in (0..rows).rev().filter(|i| live.is_none_or(|l| l[*i] != 0)) {
                chains.push(&mut heads[codes[i] as usize], i);
            }
            self.index = Index::Array(heads);
        } else {
            let mut slots = vec![0u64; (rows * 2).next_power_of_two().max(16)];
            let mask = slots.len() - 1;
            let hashes: Vec<u64> = codes.iter().map(|c| hash::word(*c)).collect();
            for i in (0..rows).rev().filter(|i| live.is_none_or(|l| l[*i] != 0)) {
                if let Some(ahead) = i.checked_sub(16) {
                    crate::group::prefetch(&slots[hashes[ahead] as usize & mask]);
                }
                let h = hashes[i];
                let salt = h & !0xFFFF_FFFF;
                let mut at = h as usize & mask;
                loop {
                    let slot = slots[at];
                    let head = slot as u32;
                    if head == 0 || (slot & !0xFFFF_FFFF == salt && codes[head as usize - 1] == codes[i]) {
                        let mut head = head;
                        chains.push(&mut head, i);
                        slots[at] = salt | u64::from(head);
                        break;
                    }
                    at = (at + 1) & mask;
                }
            }
            let mut present = vec![];
            if product <= (rows as u64).saturating_mul(PRESENT_BITS).max(PRESENT_BITS_FREE) {
                present.resize((product as usize).div_ceil(64), 0u64);
                let live = codes.iter().enumerate().filter(|(i, _)| live.is_none_or(|l| l[*i] != 0));
                live.for_each(|(_, c)| present[*c as usize / 64] |= 1 << (c % 64));
            }
            self.index = Index::Hash { slots, codes, present };
        }
        self.next = chains.finish();
        Ok(())
    }

    fn index_groups(&mut self, keys: &[Vector], rows: usize, live: Option<&[u8]>) -> Result<()> {
        let mut table = Groups::new(&self.types);
        let mut ids = vec![];
        table.ids(&keys.iter().collect::<Vec<_>>(), rows, &mut ids)?;
        let mut heads = vec![0u32; table.len()];
        let mut chains = Chains::new(rows);
        for i in (0..rows).rev().filter(|i| live.is_none_or(|l| l[*i] != 0)) {
            chains.push(&mut heads[ids[i] as usize], i);
        }
        self.next = chains.finish();
        self.index = Index::Groups { table: Box::new(table), heads };
        Ok(())
    }

    /// Codes of the first `n` keys into the scratch; `miss` where a key cannot be in the table.
    fn encode(&self, keys: &[&Vector], n: usize, scratch: &mut ProbeScratch) -> Result<()> {
        let ProbeScratch { codes, miss, entries } = scratch;
        codes.clear();
        codes.resize(n, 0);
        miss.clear();
        miss.resize(n, 0);
        entries.resize_with(keys.len(), || None);
        let mut times = 1u64;
        for (k, (key, coder)) in keys.iter().zip(&self.coders).enumerate() {
            let expanded;
            let key = if key.constant {
                expanded = crate::gather::expand(key, n)?;
                &expanded
            } else {
                *key
            };
            match (coder, &key.values) {
                (Coder::Int { min, span }, Values::I64(v)) => {
                    code_ints(&v[..n], *min, *span, times, codes, miss);
                    times = times.wrapping_mul(*span);
                }
                (Coder::Int { min, span }, Values::I32(v)) => {
                    code_ints32(&v[..n], *min, *span, times, codes, miss);
                    times = times.wrapping_mul(*span);
                }
                (Coder::Int { min, span }, values) => {
                    for (i, v) in wide_integers(values, n)?.into_iter().enumerate() {
                        match v {
                            Some(v) => {
                                let d = v.wrapping_sub(*min) as u64;
                                miss[i] |= u8::from(d >= *span);
                                codes[i] = codes[i].wrapping_add(d.wrapping_mul(times));
                            }
                            None => miss[i] = 1,
                        }
                    }
                    times = times.wrapping_mul(*span);
                }
                (Coder::Text(interner), Values::Str(s)) => {
                    code_strings(interner, s, n, times, codes, miss, &mut entries[k]);
                    times = times.wrapping_mul(interner.len() as u64);
                }
                (Coder::Text(_), _) => return Err(Error::bug("string join key expected")),
            }
            if let Some(valid) = &key.valid {
                miss.iter_mut().zip(valid.iter()).for_each(|(m, v)| *m |= 1 - v);
            }
        }
        Ok(())
    }

    /// Finds the first build row (+1, 0 = none) of each of `n` probe rows, into `heads`.
    ///
    /// # Errors
    /// `Bug` when a register's type is not the key's.
    pub fn heads(&self, keys: &[&Vector], n: usize, scratch: &mut ProbeScratch, heads: &mut Vec<u32>) -> Result<()> {
        heads.clear();
        if let Index::Groups { table, heads: by_id } = &self.index {
            let found = table.find(keys, n)?;
            heads.extend(found.iter().map(|id| id.map_or(0, |id| by_id[id as usize])));
            if !self.null_equals_null {
                (0..n).filter(|i| keys.iter().any(|k| k.is_null(*i))).for_each(|i| heads[i] = 0);
            }
            return Ok(());
        }
        if self.array_heads(keys, n, heads) {
            return Ok(());
        }
        self.encode(keys, n, scratch)?;
        let (codes, miss) = (&scratch.codes, &mut scratch.miss);
        match &self.index {
            Index::Array(by_code) if by_code.is_empty() => heads.resize(n, 0),
            Index::Array(by_code) => {
                // A miss reads slot 0 and forgets it: no branch to predict.
                heads.extend(codes.iter().zip(miss).map(|(c, m)| {
                    let hit = u32::from(*m == 0);
                    by_code[*c as usize * hit as usize] * hit
                }));
            }
            Index::Hash { slots, codes: build, present } => {
                if !present.is_empty() {
                    for (c, m) in codes.iter().zip(miss.iter_mut()) {
                        let at = if *m == 0 { *c } else { 0 };
                        *m |= 1 - (present[at as usize / 64] >> (at % 64) & 1) as u8;
                    }
                }
                probe_hash(slots, build, codes, miss, heads);
            }
            Index::Groups { .. } => {}
        }
        Ok(())
    }

    /// The heads by one look-up a row, for one integer key in an array; false where that is not so.
    fn array_heads(&self, keys: &[&Vector], n: usize, heads: &mut Vec<u32>) -> bool {
        let (Index::Array(by_code), [Coder::Int { min, span }], [key]) = (&self.index, self.coders.as_slice(), keys) else { return false };
        if *span != by_code.len() as u64 || *span == 0 || key.constant {
            return false;
        }
        match &key.values {
            Values::I64(v) => {
                heads.resize(n, 0);
                array_i64(&v[..n], *min, by_code, heads);
            }
            Values::I32(v) => {
                heads.resize(n, 0);
                array_i32(&v[..n], *min, by_code, heads);
            }
            _ => return false,
        }
        if let Some(valid) = &key.valid {
            heads.iter_mut().zip(valid.iter()).for_each(|(h, v)| *h *= u32::from(*v));
        }
        true
    }

    /// The build row after `head` with the same key (+1, 0 = none).
    #[inline]
    pub fn next(&self, head: u32) -> u32 {
        if self.next.is_empty() { 0 } else { self.next[head as usize - 1] }
    }
}

simd! {
    fn array_i64(v: &[i64], min: i64, by_code: &[u32], heads: &mut [u32]) {
        let span = by_code.len() as u64;
        for (h, v) in heads.iter_mut().zip(v) {
            let d = v.wrapping_sub(min) as u64;
            let hit = d < span;
            // SAFETY: the index is below `span`, which is the length, or 0 of an array that is not empty.
            let head = unsafe { *by_code.get_unchecked(if hit { d as usize } else { 0 }) };
            *h = if hit { head } else { 0 };
        }
    }
}
simd! {
    fn array_i32(v: &[i32], min: i64, by_code: &[u32], heads: &mut [u32]) {
        let span = by_code.len() as u64;
        for (h, v) in heads.iter_mut().zip(v) {
            let d = i64::from(*v).wrapping_sub(min) as u64;
            let hit = d < span;
            // SAFETY: as in `array_i64`.
            let head = unsafe { *by_code.get_unchecked(if hit { d as usize } else { 0 }) };
            *h = if hit { head } else { 0 };
        }
    }
}

fn probe_hash(slots: &[u64], build: &[u64], codes: &[u64], miss: &[u8], heads: &mut Vec<u32>) {
    let mask = slots.len() - 1;
    heads.resize(codes.len(), 0);
    // Only rows that may hit are hashed; the selection has no branch to predict.
    let mut rows = vec![0u32; codes.len() + 1];
    let mut hits = 0;
    for (i, m) in miss.iter().enumerate() {
        rows[hits] = i as u32;
        hits += usize::from(*m == 0);
    }
    let rows = &rows[..hits];
    let hashes: Vec<u64> = rows.iter().map(|r| hash::word(codes[*r as usize])).collect();
    for (k, row) in rows.iter().enumerate() {
        if let Some(ahead) = hashes.get(k + 16) {
            crate::group::prefetch(&slots[*ahead as usize & mask]);
        }
        if let Some(ahead) = hashes.get(k + 8) {
            let head = slots[*ahead as usize & mask] as u32 as usize;
            if let Some(code) = build.get(head.wrapping_sub(1)) {
                crate::group::prefetch(code);
            }
        }
        let (h, code) = (hashes[k], codes[*row as usize]);
        let mut at = h as usize & mask;
        loop {
            let slot = slots[at];
            if slot as u32 == 0 {
                break;
            }
            if (slot ^ h) >> 32 == 0 && build[slot as u32 as usize - 1] == code {
                heads[*row as usize] = slot as u32;
                break;
            }
            at = (at + 1) & mask;
        }
    }
}

/// Rows with equal keys, linked; built from the last row to the first so that a chain is in order.
struct Chains {
    next: Vec<u32>,
    any: bool,
}

impl Chains {
    fn new(rows: usize) -> Self {
        Self { next: vec![0; rows], any: false }
    }

    fn push(&mut self, head: &mut u32, row: usize) {
        self.any |= *head != 0;
        self.next[row] = *head;
        *head = row as u32 + 1;
    }

    fn finish(self) -> Vec<u32> {
        if self.any { self.next } else { vec![] }
    }
}

fn integers(v: &Values, n: usize) -> Result<Cow<'_, [i64]>> {
    match v {
        Values::I64(v) => return Ok(Cow::Borrowed(&v[..n])),
        Values::I32(v) => return Ok(v[..n].iter().map(|v| i64::from(*v)).collect()),
        _ => {}
    }
    wide_integers(v, n)?.into_iter().map(|v| v.ok_or_else(|| Error::bug("join key does not fit its declared precision"))).collect()
}

/// The first `n` integers; none where one does not fit 64 bits.
fn wide_integers(v: &Values, n: usize) -> Result<Vec<Option<i64>>> {
    Ok(match v {
        Values::Bool(v) => v[..n].iter().map(|v| Some((*v).into())).collect(),
        Values::I32(v) => v[..n].iter().map(|v| Some((*v).into())).collect(),
        Values::I64(v) => v[..n].iter().map(|v| Some(*v)).collect(),
        Values::I128(v) => v[..n].iter().map(|v| i64::try_from(*v).ok()).collect(),
        Values::F64(v) => v[..n].iter().map(|v| Some(canonical_f64(*v).to_bits() as i64)).collect(),
        _ => return Err(Error::bug("integer join key expected")),
    })
}

fn code_strings(
    interner: &Interner,
    s: &Strings,
    n: usize,
    times: u64,
    codes: &mut [u64],
    miss: &mut [u8],
    remembered: &mut Option<(u64, Vec<u64>)>,
) {
    let find = |s: &str| interner.find(s.as_bytes()).map_or(NO_ENTRY, u64::from);
    let mut put = |i: usize, id: u64| {
        miss[i] |= u8::from(id == NO_ENTRY);
        codes[i] = codes[i].wrapping_add(id.wrapping_mul(times));
    };
    match s {
        Strings::Dict { codes: of_row, dict } => {
            let known = match remembered.take() {
                Some((id, known)) if id == dict.id() => known,
                _ => dict.values().iter().map(|v| find(v.unwrap_or(""))).collect(),
            };
            of_row[..n].iter().enumerate().for_each(|(i, c)| put(i, known[*c as usize]));
            *remembered = Some((dict.id(), known));
        }
        s => (0..n).for_each(|i| put(i, find(s.value(i)))),
    }
}
