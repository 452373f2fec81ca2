//! Keys to dense ids.

mod keys;
mod known;

use super::{Interner, stable_hash};
use crate::program::Type;
use crate::value::canonical_f64;
use crate::vector::{Values, Vector};
use crate::{Error, Result, arith, hash, simd};

/// The type of one key column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyType {
    /// Its physical type; `Any` cannot be a key.
    pub ty: Type,
    /// Only for decimals: may need more than 64 bits (precision above 18).
    wide: bool,
}

impl KeyType {
    /// A key of type `ty`; `precision` is a decimal's number of digits (0 for other types).
    pub fn new(ty: Type, precision: u8) -> Self {
        Self { ty, wide: ty == Type::Decimal && precision > 18 }
    }

    /// Whether values may need more than 64 bits.
    pub fn is_wide(self) -> bool {
        self.wide
    }

    /// Words that a key of this type takes in the table.
    fn words(self) -> usize {
        if self.wide { 2 } else { 1 }
    }
}

/// Where the group of a key is found.
enum Index {
    /// Slots: upper half of the hash above, id + 1 below; 0 = empty. Length is a power of two; the upper
    /// half says where a slot belongs too, so that the table grows without its keys.
    Hash(Vec<u64>),
    /// Id + 1 at the mixed-radix code of the key words; 0 = none.
    Direct { base: Vec<i64>, bits: Vec<u32>, ids: Vec<u32> },
    /// Before the first row.
    Empty,
}

/// Distinct keys, numbered in order of first appearance.
pub struct Groups {
    types: Vec<KeyType>,
    interners: Vec<Interner>,
    /// Whether the last word of each key says which columns are null.
    has_null_word: bool,
    stride: usize,
    /// The key words of every group, `stride` each.
    words: Vec<u64>,
    len: usize,
    index: Index,
    /// Keys have got another word: their hashes are others than the index knows.
    rekeyed: bool,
    /// Least and greatest value of each key word so far.
    ranges: Vec<(i64, i64)>,
    /// The keys lie scattered over their range: never directly addressed.
    scattered: bool,
    scratch: Vec<Vec<u64>>,
}

/// A directly addressed table may always have this many slots.
const DIRECT_SLOTS_FREE: usize = 1 << 16;

/// Slots up to which a table of so many groups is directly addressed.
pub fn direct_slots(groups: usize) -> usize {
    groups.saturating_mul(16).max(DIRECT_SLOTS_FREE)
}

/// Groups merged at a time: their words stay in cache.
const MERGE_ROWS: usize = 4096;

simd! {
    fn direct_code(code: &mut [u32], words: &[u64], base: i64, shift: u32) {
        for (c, w) in code.iter_mut().zip(words) { *c |= (((*w as i64).wrapping_sub(base)) as u32) << shift; }
    }
}
simd! {
    fn hash_words(h: &mut [u64], words: &[u64]) {
        for (h, w) in h.iter_mut().zip(words) { *h = hash::combine(*h, hash::word(*w)); }
    }
}

impl Groups {
    /// An empty table over keys of these types.
    pub fn new(types: &[KeyType]) -> Self {
        Self {
            types: types.to_vec(),
            interners: types.iter().map(|_| Interner::default()).collect(),
            has_null_word: false,
            stride: types.iter().map(|t| t.words()).sum(),
            words: vec![],
            len: 0,
            index: Index::Empty,
            rekeyed: false,
            ranges: vec![],
            scattered: false,
            scratch: vec![],
        }
    }

    /// For keys that were divided by their hash: a direct table would be as large as that of all of them.
    pub fn scattered(self) -> Self {
        Self { scattered: true, ..self }
    }

    /// An empty table of the same kind.
    pub fn emptied(&self) -> Self {
        Self { scattered: self.scattered, ..Self::new(&self.types) }
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory held.
    pub fn size(&self) -> usize {
        let index = match &self.index {
            Index::Hash(s) => s.capacity() * 8,
            Index::Direct { ids, .. } => ids.capacity() * 4,
            Index::Empty => 0,
        };
        self.words.capacity() * 8 + index + self.interners.iter().map(Interner::size).sum::<usize>()
    }

    /// The name of the table's kind, for EXPLAIN ANALYZE.
    pub fn kind(&self) -> &'static str {
        match &self.index {
            Index::Hash(_) => "hash",
            Index::Direct { .. } => "direct",
            Index::Empty => "empty",
        }
    }

    /// The group of each of `n` rows, groups made for new keys; ids are appended to `out`.
    ///
    /// # Errors
    /// `Bug` when a register's type is not the key's.
    pub fn ids(&mut self, keys: &[&Vector], n: usize, out: &mut Vec<u32>) -> Result<()> {
        if n == 0 || self.find_known(keys, n, None, out) {
            return Ok(());
        }
        if !self.has_null_word && keys.iter().any(|k| k.valid.as_ref().is_some_and(|v| v.contains(&0))) {
            self.add_null_word();
        }
        let mut columns = std::mem::take(&mut self.scratch);
        columns.iter_mut().for_each(Vec::clear);
        columns.resize_with(self.stride, Vec::new);
        self.encode(keys, n, &mut columns)?;
        self.find_or_insert(&columns, n, out);
        self.scratch = columns;
        Ok(())
    }

    /// Key registers as word columns, new strings interned.
    fn encode(&mut self, keys: &[&Vector], n: usize, columns: &mut [Vec<u64>]) -> Result<()> {
        let mut at = 0;
        for (k, key) in keys.iter().enumerate() {
            if let Values::Str(s) = &key.values {
                self.interners[k].intern_all(s, key.constant, key.valid.as_deref(), n, &mut columns[at]);
            }
            at += self.types[k].words();
        }
        self.encode_words(keys, n, columns)
    }

    /// Like [`Groups::encode`], but a string or null that no group has makes the row unknown.
    fn encode_known(&self, keys: &[&Vector], n: usize, columns: &mut [Vec<u64>], unknown: &mut [bool]) -> Result<()> {
        let mut at = 0;
        for (k, key) in keys.iter().enumerate() {
            if let Values::Str(s) = &key.values {
                for (i, unknown) in unknown.iter_mut().enumerate() {
                    let id = if key.is_null(i) { Some(0) } else { self.interners[k].find(s.value(key.at(i)).as_bytes()) };
                    *unknown |= id.is_none();
                    columns[at].push(id.unwrap_or(0).into());
                }
            }
            if !self.has_null_word {
                unknown.iter_mut().enumerate().for_each(|(i, u)| *u |= key.is_null(i));
            }
            at += self.types[k].words();
        }
        self.encode_words(keys, n, columns)
    }

    /// The words of all but string columns.
    fn encode_words(&self, keys: &[&Vector], n: usize, columns: &mut [Vec<u64>]) -> Result<()> {
        let mut at = 0;
        for (k, key) in keys.iter().enumerate() {
            let (low, high) = columns.split_at_mut(at + 1);
            let out = &mut low[at];
            match &key.values {
                Values::Str(_) => {}
                Values::Bool(v) => extend(out, n, key, |i| u64::from(v[i])),
                Values::I32(v) => extend(out, n, key, |i| i64::from(v[i]) as u64),
                Values::I64(v) => extend(out, n, key, |i| v[i] as u64),
                Values::I128(v) if self.types[k].wide => extend(out, n, key, |i| v[i] as u64),
                Values::I128(v) => {
                    if let Some(bad) = v.iter().find(|v| i64::try_from(**v).is_err()) {
                        return Err(Error::bug(format!("group key {bad} does not fit its declared precision")));
                    }
                    extend(out, n, key, |i| v[i] as u64);
                }
                Values::F64(v) => extend(out, n, key, |i| canonical_f64(v[i]).to_bits()),
                Values::Any(_) => return Err(Error::unsupported("group key of a type without kernels")),
            }
            if self.types[k].wide {
                match &key.values {
                    Values::I128(v) => extend(&mut high[0], n, key, |i| (v[i] >> 64) as u64),
                    // Sign extension of a value that came at 64 bits.
                    _ => high[0].extend(low[at].iter().map(|w| ((*w as i64) >> 63) as u64)),
                }
            }
            at += self.types[k].words();
        }
        if self.has_null_word {
            let out = &mut columns[at];
            out.resize(n, 0);
            for (k, key) in keys.iter().enumerate() {
                for (i, o) in out.iter_mut().enumerate() {
                    *o |= u64::from(key.is_null(i)) << k;
                }
            }
        }
        Ok(())
    }

    fn find_or_insert(&mut self, columns: &[Vec<u64>], n: usize, out: &mut Vec<u32>) {
        if self.prepare_direct(columns, n) {
            self.find_direct(columns, n, out);
        } else {
            self.find_hashed(columns, n, out);
        }
    }

    /// Whether the table is directly addressed with room for these keys. A table whose key range turns
    /// out small for its groups becomes one when it would have to grow anyway.
    fn prepare_direct(&mut self, columns: &[Vec<u64>], n: usize) -> bool {
        if self.scattered || self.types.iter().any(|t| t.ty == Type::F64) {
            return false;
        }
        self.ranges.resize(self.stride, (i64::MAX, i64::MIN));
        for (range, c) in self.ranges.iter_mut().zip(columns) {
            let (lo, hi) = arith::range_i64(bytemuck::cast_slice(c));
            *range = (range.0.min(lo), range.1.max(hi));
        }
        let below = match &self.index {
            Index::Hash(slots) if (self.len + n) * 2 <= slots.len() => return false,
            Index::Direct { base, bits, .. } => {
                let inside = |((b, bits), r): ((&i64, &u32), &(i64, i64))| r.0 >= *b && r.1 <= b.saturating_add((1i64 << bits) - 1);
                if base.iter().zip(bits).zip(&self.ranges).all(inside) {
                    return true;
                }
                base.clone()
            }
            _ => vec![],
        };
        let bits: Vec<u32> = self.ranges.iter().map(|r| 128 - ((i128::from(r.1) - i128::from(r.0)) as u128).leading_zeros()).collect();
        let total: u32 = bits.iter().sum();
        if total >= 31 || (1usize << total) > direct_slots(self.len + n) {
            if matches!(self.index, Index::Direct { .. }) {
                self.rehash((self.len + n) * 4);
            }
            return false;
        }
        // Room to grow lies on the side on which the keys grew.
        let base = self.ranges.iter().zip(&bits).enumerate().map(|(k, (r, bits))| match below.get(k) {
            Some(old) if r.0 < *old => r.1.saturating_sub((1i64 << bits) - 1),
            _ => r.0,
        });
        self.direct(base.collect(), bits, total);
        true
    }

    fn direct(&mut self, base: Vec<i64>, bits: Vec<u32>, total: u32) {
        let mut ids = vec![0u32; 1 << total];
        for g in 0..self.len {
            let key = &self.words[g * self.stride..(g + 1) * self.stride];
            ids[code_of(key, &base, &bits)] = g as u32 + 1;
        }
        self.index = Index::Direct { base, bits, ids };
    }

    fn find_direct(&mut self, columns: &[Vec<u64>], n: usize, out: &mut Vec<u32>) {
        let Index::Direct { base, bits, ids } = &mut self.index else { return };
        let start = out.len();
        out.resize(start + n, 0);
        let codes = &mut out[start..];
        let mut shift = 0;
        for ((c, base), bits) in columns.iter().zip(base.iter()).zip(bits.iter()) {
            direct_code(codes, c, *base, shift);
            shift += bits;
        }
        for (i, code) in codes.iter_mut().enumerate() {
            let slot = &mut ids[*code as usize];
            if *slot == 0 {
                self.words.extend(columns.iter().map(|c| c[i]));
                self.len += 1;
                *slot = self.len as u32;
            }
            *code = *slot - 1;
        }
    }

    fn find_hashed(&mut self, columns: &[Vec<u64>], n: usize, out: &mut Vec<u32>) {
        let slots = if let Index::Hash(s) = &self.index { s.len() } else { 0 };
        if (self.len + n) * 2 > slots {
            self.rehash((self.len + n) * 4);
        }
        match self.stride {
            1 => self.hashed::<1>(columns, n, out),
            2 => self.hashed::<2>(columns, n, out),
            3 => self.hashed::<3>(columns, n, out),
            // All words of longer keys are compared one by one.
            _ => self.hashed::<0>(columns, n, out),
        }
    }

    /// `S`: the number of words of a key where it is known, else 0.
    fn hashed<const S: usize>(&mut self, columns: &[Vec<u64>], n: usize, out: &mut Vec<u32>) {
        let stride = if S == 0 { self.stride } else { S };
        let columns = &columns[..stride];
        let mut hashes = vec![0u64; n];
        columns.iter().for_each(|c| hash_words(&mut hashes, c));
        let Index::Hash(slots) = &mut self.index else { return };
        let mask = slots.len() - 1;
        out.reserve(n);
        for i in 0..n {
            if let Some(ahead) = hashes.get(i + 16) {
                prefetch(&slots[place(*ahead, mask)]);
            }
            // By now that slot is there, and says where its key is.
            if let Some(ahead) = hashes.get(i + 8) {
                let id = slots[place(*ahead, mask)] as u32 as usize;
                if let Some(key) = self.words.get(id.wrapping_sub(1).wrapping_mul(stride)) {
                    prefetch(key);
                }
            }
            let h = hashes[i];
            let salt = h & 0xFFFF_FFFF_0000_0000;
            let mut at = place(h, mask);
            let id = loop {
                let slot = slots[at];
                if slot == 0 {
                    self.words.extend(columns.iter().map(|c| c[i]));
                    self.len += 1;
                    slots[at] = salt | self.len as u64;
                    break self.len as u32 - 1;
                }
                if slot & 0xFFFF_FFFF_0000_0000 == salt {
                    let id = (slot as u32 - 1) as usize;
                    let key = &self.words[id * stride..][..stride];
                    if key.iter().zip(columns).all(|(k, c)| *k == c[i]) {
                        break id as u32;
                    }
                }
                at = (at + 1) & mask;
            };
            out.push(id);
        }
    }

    /// The group of each of the first `n` keys, if there is one. Makes none.
    ///
    /// # Errors
    /// As [`Groups::ids`].
    pub fn find(&self, keys: &[&Vector], n: usize) -> Result<Vec<Option<u32>>> {
        let mut columns = vec![Vec::new(); self.stride];
        let mut unknown = vec![false; n];
        self.encode_known(keys, n, &mut columns, &mut unknown)?;
        let mut key = vec![0; self.stride];
        Ok((0..n)
            .map(|i| {
                key.iter_mut().zip(&columns).for_each(|(k, c)| *k = c[i]);
                if unknown[i] { None } else { self.lookup(&key) }
            })
            .collect())
    }

    fn lookup(&self, key: &[u64]) -> Option<u32> {
        match &self.index {
            Index::Empty => None,
            Index::Direct { base, bits, ids } => {
                let fits = |((w, base), bits): ((&u64, &i64), &u32)| ((*w as i64).wrapping_sub(*base) as u64) < 1u64 << bits;
                let inside = key.iter().zip(base).zip(bits).all(fits);
                let id = if inside { ids[code_of(key, base, bits)] } else { 0 };
                id.checked_sub(1)
            }
            Index::Hash(slots) => {
                let h = key.iter().fold(0, |h, w| hash::combine(h, hash::word(*w)));
                let mut at = place(h, slots.len() - 1);
                while slots[at] != 0 {
                    let id = (slots[at] as u32 - 1) as usize;
                    if self.words[id * self.stride..(id + 1) * self.stride] == *key {
                        return Some(id as u32);
                    }
                    at = (at + 1) & (slots.len() - 1);
                }
                None
            }
        }
    }

    /// Hash of a group's key words (of this table's encoding, not the stable hash).
    fn hash_of(&self, g: usize) -> u64 {
        self.words[g * self.stride..(g + 1) * self.stride].iter().fold(0, |h, w| hash::combine(h, hash::word(*w)))
    }

    fn rehash(&mut self, at_least: usize) {
        let len = at_least.next_power_of_two();
        let mut slots = vec![0u64; len];
        let mut put = |slot: u64| {
            let mut at = place(slot, len - 1);
            while slots[at] != 0 {
                at = (at + 1) & (len - 1);
            }
            slots[at] = slot;
        };
        match &self.index {
            Index::Hash(old) if !self.rekeyed => old.iter().filter(|s| **s != 0).for_each(|s| put(*s)),
            _ => (0..self.len).for_each(|g| put((self.hash_of(g) & 0xFFFF_FFFF_0000_0000) | (g as u64 + 1))),
        }
        self.rekeyed = false;
        self.index = Index::Hash(slots);
    }

    fn add_null_word(&mut self) {
        let old = self.stride;
        let mut words = Vec::with_capacity(self.len * (old + 1));
        for g in 0..self.len {
            words.extend_from_slice(&self.words[g * old..(g + 1) * old]);
            words.push(0);
        }
        self.words = words;
        self.stride = old + 1;
        self.ranges.resize(self.stride, (0, 0));
        self.has_null_word = true;
        self.rekeyed = true;
        match self.index {
            Index::Empty => {}
            _ => self.rehash((self.len * 4).max(1024)),
        }
    }

    /// The groups whose logical key falls into part `part` of `parts`, by the stable hash: tables over
    /// parts of the input agree on it whatever their ids and encodings.
    ///
    /// # Errors
    /// As [`Groups::keys`].
    pub fn part(&self, part: usize, parts: usize) -> Result<Vec<u32>> {
        let all = 0..self.len as u32;
        if parts == 1 {
            return Ok(all.collect());
        }
        let of = self.parts(parts, 0)?;
        Ok(all.filter(|g| of[*g as usize] as usize == part).collect())
    }

    /// The part of `parts` of every group, as [`Groups::part`] has it at level 0. Groups of one part are
    /// divided anew at another level.
    ///
    /// # Errors
    /// As [`Groups::keys`].
    pub fn parts(&self, parts: usize, level: u32) -> Result<Vec<u32>> {
        let mut hashes = vec![0u64; self.len];
        if self.is_plain() {
            // Words are the same in every table; the null word only where there is one, so only if set.
            let words: usize = self.types.iter().map(|t| t.words()).sum();
            for (g, h) in hashes.iter_mut().enumerate() {
                let key = &self.words[g * self.stride..(g + 1) * self.stride];
                let nulls = key.get(words).filter(|w| **w != 0);
                // Cheaper than a hash; the upper bits are mixed well enough to share work out.
                *h = key[..words].iter().chain(nulls).fold(0, |h: u64, w| (h.rotate_left(5) ^ w).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            }
        } else {
            let all: Vec<u32> = (0..self.len as u32).collect();
            self.keys(&all)?.iter().try_for_each(|k| stable_hash(k, &mut hashes))?;
        }
        let at_level = |h: u64| if level == 0 { h } else { hash::word(h ^ u64::from(level)) };
        Ok(hashes.into_iter().map(|h| ((at_level(h) >> 32) as usize % parts) as u32).collect())
    }

    /// The key words of every group, [`Groups::stride`] each.
    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    /// Words of a key.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Whether key words mean the same in every table of these types: strings do not.
    pub fn is_plain(&self) -> bool {
        self.types.iter().all(|t| t.ty != Type::Str)
    }

    /// The groups of this table for the groups `ids` of another one, made where they are new.
    ///
    /// # Errors
    /// As [`Groups::keys`] and [`Groups::ids`].
    pub fn merge(&mut self, other: &Groups, ids: &[u32]) -> Result<Vec<u32>> {
        let mut out = Vec::with_capacity(ids.len());
        if !self.is_plain() {
            self.ids(&other.keys(ids)?.iter().collect::<Vec<_>>(), ids.len(), &mut out)?;
            return Ok(out);
        }
        if other.has_null_word && !self.has_null_word {
            self.add_null_word();
        }
        for some in ids.chunks(MERGE_ROWS) {
            let mut columns = other.transposed(some);
            columns.resize_with(self.stride, || vec![0; some.len()]);
            self.find_or_insert(&columns, some.len(), &mut out);
        }
        Ok(out)
    }
}

fn extend(out: &mut Vec<u64>, n: usize, key: &Vector, word: impl Fn(usize) -> u64) {
    match (&key.valid, key.constant) {
        (None, false) => out.extend((0..n).map(word)),
        // What stands under a null is arbitrary, so it must not reach the table.
        _ => out.extend((0..n).map(|i| if key.is_null(i) { 0 } else { word(key.at(i)) })),
    }
}

/// Where the search for a hash (or a slot, which has its upper half) begins.
#[inline(always)]
fn place(hash: u64, mask: usize) -> usize {
    (hash >> 32) as usize & mask
}

fn code_of(key: &[u64], base: &[i64], bits: &[u32]) -> usize {
    let (mut code, mut shift) = (0, 0);
    for ((w, base), bits) in key.iter().zip(base).zip(bits) {
        code |= ((*w as i64).wrapping_sub(*base) as usize) << shift;
        shift += bits;
    }
    code
}

/// Asks for the cache line of `v` before it is needed.
#[inline(always)]
pub(crate) fn prefetch<T>(v: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of a live reference has no effect but on the cache.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(v).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = v;
}
