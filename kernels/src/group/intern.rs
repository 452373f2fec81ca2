//! Distinct byte strings to dense ids.

use super::prefetch;
use crate::hash;
use crate::vector::{Dictionary, Strings};
use arrow::array::builder::make_view;
use arrow::array::{Array, StringArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::error::ArrowError;
use std::sync::{Arc, OnceLock};

/// Strings that are looked up together: the memory that each needs is asked for before it is waited for.
const TOGETHER: usize = 32;

/// The part of a slot that tells most other strings without a look at their bytes: the upper half of the hash.
const SALT: u64 = 0xFFFF_FFFF_0000_0000;

/// Strings of no more bytes are their own keys.
const SHORT: usize = 12;

/// What a string is found by: its length and its bytes, or the length and the hash of a longer one. So one cache line
/// tells a short string from all others, and a long one from nearly all.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key(u128);

impl Key {
    #[inline(always)]
    fn new(s: &[u8]) -> Self {
        match s.len() {
            0..=SHORT => Self(make_view(s, 0, 0)),
            len => Self(u128::from(hash::bytes(s)) << 64 | len.min(u32::MAX as usize) as u128),
        }
    }

    #[inline(always)]
    fn is_short(self) -> bool {
        self.0 as u32 as usize <= SHORT
    }

    #[inline(always)]
    fn hash(self) -> u64 {
        hash::combine(hash::word(self.0 as u64), (self.0 >> 64) as u64)
    }
}

/// What is known of a dictionary.
struct Remembered {
    dict: u64,
    /// Ids of its entries, +1; 0 = not looked up yet.
    known: Vec<u32>,
    /// Entries that were not looked up yet.
    unknown: usize,
}

/// Distinct byte strings, numbered in order of first appearance.
#[derive(Default)]
pub struct Interner {
    keys: Vec<Key>,
    bytes: Vec<u8>,
    /// Ends of the strings in `bytes`; string `i` starts where `i - 1` ends.
    ends: Vec<usize>,
    /// Open addressing over a power of two: zero where free, else the salt and the id + 1. At most half of them taken.
    slots: Vec<u64>,
    /// The dictionary seen last.
    remembered: Option<Remembered>,
    /// All strings, until there is another one.
    whole: OnceLock<Arc<Dictionary>>,
}

impl Interner {
    /// Number of distinct strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of memory held.
    pub fn size(&self) -> usize {
        let remembered = self.remembered.as_ref().map_or(0, |r| r.known.capacity() * 4);
        let whole = self.whole.get().map_or(0, |_| self.bytes.len() + self.ends.len() * 4);
        self.keys.capacity() * 16 + self.bytes.capacity() + self.ends.capacity() * 8 + self.slots.capacity() * 8 + remembered + whole
    }

    /// String `id`.
    pub fn get(&self, id: u32) -> &[u8] {
        &self.bytes[start(&self.ends, id)..self.ends[id as usize]]
    }

    /// The id of `s`, new if it was not there.
    pub fn intern(&mut self, s: &[u8]) -> u32 {
        self.reserve(1);
        let key = Key::new(s);
        self.intern_hashed(s, key, key.hash())
    }

    /// The id of `s`, if it is there.
    pub fn find(&self, s: &[u8]) -> Option<u32> {
        let key = Key::new(s);
        if self.slots.is_empty() { None } else { self.seek(s, key, key.hash()).ok() }
    }

    /// As [`Interner::intern`], with room for one more.
    fn intern_hashed(&mut self, s: &[u8], key: Key, h: u64) -> u32 {
        self.seek(s, key, h).unwrap_or_else(|free| {
            let id = self.ends.len() as u32;
            self.bytes.extend_from_slice(s);
            self.ends.push(self.bytes.len());
            self.keys.push(key);
            self.whole.take();
            self.slots[free] = h & SALT | u64::from(id + 1);
            id
        })
    }

    /// Whether string `id` is `s`.
    #[inline(always)]
    fn is(&self, id: u32, s: &[u8], key: Key) -> bool {
        self.keys[id as usize] == key && (key.is_short() || self.get(id) == s)
    }

    /// The id of `s`, or the free slot where it belongs.
    fn seek(&self, s: &[u8], key: Key, h: u64) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut at = h as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return Err(at);
            }
            let id = (slot & !SALT) as u32 - 1;
            if (slot ^ h) & SALT == 0 && self.is(id, s, key) {
                return Ok(id);
            }
            at = (at + 1) & mask;
        }
    }

    /// The first string with the salt of `h`, which is most often the one that is looked for.
    fn candidate(&self, h: u64) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = h as usize & mask;
        while self.slots[at] != 0 {
            if (self.slots[at] ^ h) & SALT == 0 {
                return Some((self.slots[at] & !SALT) as u32 - 1);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Makes room for so many more.
    fn reserve(&mut self, more: usize) {
        let needed = (self.ends.len() + more) * 2;
        if needed <= self.slots.len() {
            return;
        }
        let mut slots = vec![0u64; needed.next_power_of_two().max(64)];
        let mask = slots.len() - 1;
        for (id, key) in self.keys.iter().enumerate() {
            let h = key.hash();
            let mut at = h as usize & mask;
            while slots[at] != 0 {
                at = (at + 1) & mask;
            }
            slots[at] = h & SALT | (id as u64 + 1);
        }
        self.slots = slots;
    }

    /// Tells `found` the id of each of `n` strings.
    fn intern_many<'a>(&mut self, n: usize, string: impl Fn(usize) -> &'a [u8], mut found: impl FnMut(usize, u32)) {
        let mut strings = [(&[][..], Key(0), 0u64); TOGETHER];
        let mut candidates = [None; TOGETHER];
        for first in (0..n).step_by(TOGETHER) {
            let len = TOGETHER.min(n - first);
            self.reserve(len);
            let mask = self.slots.len() - 1;
            for (i, looked_for) in strings[..len].iter_mut().enumerate() {
                let s = string(first + i);
                let key = Key::new(s);
                let h = key.hash();
                prefetch(&self.slots[h as usize & mask]);
                *looked_for = (s, key, h);
            }
            for (candidate, (_, key, h)) in candidates.iter_mut().zip(&strings[..len]) {
                *candidate = self.candidate(*h);
                for id in candidate.iter() {
                    prefetch(&self.keys[*id as usize]);
                    if !key.is_short() {
                        prefetch(&self.ends[*id as usize]);
                    }
                }
            }
            for (id, (_, key, _)) in candidates.iter().zip(&strings[..len]) {
                for id in id.iter().filter(|_| !key.is_short()) {
                    self.bytes.get(start(&self.ends, *id)).iter().for_each(|b| prefetch(*b));
                }
            }
            for (i, (s, key, h)) in strings[..len].iter().enumerate() {
                let id = match candidates[i] {
                    Some(id) if self.is(id, s, *key) => id,
                    _ => self.intern_hashed(s, *key, *h),
                };
                found(first + i, id);
            }
        }
    }

    /// Ids of the first `n` strings; null rows (validity 0) are not interned and get 0.
    pub fn intern_all(&mut self, s: &Strings, constant: bool, valid: Option<&[u8]>, n: usize, out: &mut Vec<u64>) {
        let is_valid = |i: usize| valid.is_none_or(|v| v[i] != 0);
        match s {
            Strings::Dict { codes, dict } if !constant => {
                let entries = dict.values().len();
                let Remembered { mut known, mut unknown, .. } = match self.remembered.take() {
                    Some(seen) if seen.dict == dict.id() => seen,
                    _ => Remembered { dict: dict.id(), known: vec![0; entries], unknown: entries },
                };
                if unknown > 0 {
                    let mut new: Vec<usize> = vec![];
                    for code in (0..n).filter(|i| is_valid(*i)).map(|i| codes[i] as usize) {
                        if known[code] == 0 {
                            // Looked up below, once.
                            known[code] = u32::MAX;
                            new.push(code);
                        }
                    }
                    unknown -= new.len();
                    self.intern_many(new.len(), |k| dict.values().value(new[k]).as_bytes(), |k, id| known[new[k]] = id + 1);
                }
                let id = |code: &i32| u64::from(known[*code as usize] - 1);
                match valid {
                    None => out.extend(codes[..n].iter().map(id)),
                    Some(valid) => out.extend(codes[..n].iter().zip(valid).map(|(code, v)| if *v != 0 { id(code) } else { 0 })),
                }
                self.remembered = Some(Remembered { dict: dict.id(), known, unknown });
            }
            s if constant => {
                let id = if is_valid(0) { self.intern(s.value(0).as_bytes()).into() } else { 0 };
                out.extend(std::iter::repeat_n(id, n));
            }
            s => {
                let rows: Vec<usize> = (0..n).filter(|i| is_valid(*i)).collect();
                let first = out.len();
                out.resize(first + n, 0);
                self.intern_many(rows.len(), |k| s.value(rows[k]).as_bytes(), |k, id| out[first + rows[k]] = id.into());
            }
        }
    }

    /// Of each entry of `dict` the id + 1, or 0 where it was not met; none for another dictionary than the one seen last.
    pub(super) fn known_of(&self, dict: &Dictionary) -> Option<&[u32]> {
        self.remembered.as_ref().filter(|r| r.dict == dict.id()).map(|r| r.known.as_slice())
    }

    /// All strings as a dictionary whose codes are the ids (of no string: one that holds the empty one).
    ///
    /// # Errors
    /// When the strings are longer than 2 GiB together.
    pub fn dictionary(&self) -> Result<Arc<Dictionary>, ArrowError> {
        if let Some(whole) = self.whole.get() {
            return Ok(Arc::clone(whole));
        }
        let total = i32::try_from(self.bytes.len()).map_err(|_| ArrowError::ComputeError("group key strings exceed 2 GiB".into()))?;
        let offsets: Vec<i32> = std::iter::once(0).chain(self.ends.iter().map(|e| (*e).min(total as usize) as i32)).collect();
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let whole = Dictionary::new(StringArray::try_new(offsets, self.bytes.clone().into(), None)?);
        Ok(Arc::clone(self.whole.get_or_init(|| whole)))
    }
}

/// Where string `id` begins.
fn start(ends: &[usize], id: u32) -> usize {
    if id == 0 { 0 } else { ends[id as usize - 1] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringViewArray;
    use std::collections::HashMap;

    /// Strings of many lengths, most of them more than once, some equal in their first bytes.
    fn strings(n: u64, distinct: u64) -> Vec<String> {
        let one = |i: u64| {
            let k = hash::word(i) % distinct;
            format!("{}{k}", "abcdefghij".repeat((k % 4) as usize))
        };
        (0..n).map(one).collect()
    }

    #[test]
    fn the_dictionary_has_what_came_since_it_was_last_asked_for() {
        let mut interner = Interner::default();
        assert_eq!(interner.dictionary().unwrap().values().len(), 1, "never empty");
        for (n, s) in ["b", "", "a", "b", "c"].into_iter().enumerate() {
            let id = interner.intern(s.as_bytes());
            let whole = interner.dictionary().unwrap();
            assert_eq!((whole.values().value(id as usize), whole.values().len()), (s, [1, 2, 3, 3, 4][n]));
            assert!(Arc::ptr_eq(&whole, &interner.dictionary().unwrap()));
        }
    }

    #[test]
    fn ids_are_those_of_a_map_whatever_the_encoding() {
        for (n, distinct) in [(0, 1), (1, 1), (31, 7), (5_000, 3), (20_000, 9_000)] {
            let strings = strings(n, distinct);
            let mut map = HashMap::new();
            let valid: Vec<u8> = (0..n).map(|i| u8::from(i % 11 != 3)).collect();
            let mut expected = vec![];
            for (s, valid) in strings.iter().zip(&valid) {
                let next = map.len() as u64;
                expected.push(if *valid == 0 { 0 } else { *map.entry(s).or_insert(next) });
            }
            let views: StringViewArray = strings.iter().map(|s| Some(s.as_str())).collect();
            let codes: Vec<i32> = (0..n as i32).rev().collect();
            let dict = Dictionary::new(strings.iter().rev().map(|s| Some(s.as_str())).collect::<StringArray>());
            for s in [Strings::View(views), Strings::Dict { codes: codes.into(), dict }] {
                let (mut interner, mut ids) = (Interner::default(), vec![]);
                // Twice, in pieces: what is known stays.
                for _ in 0..2 {
                    ids.clear();
                    interner.intern_all(&s, false, Some(&valid), n as usize, &mut ids);
                    assert_eq!(ids, expected);
                    assert_eq!(interner.len(), map.len());
                }
                for (s, id) in &map {
                    assert_eq!((interner.find(s.as_bytes()), interner.get(*id as u32)), (Some(*id as u32), s.as_bytes()));
                }
                assert_eq!(interner.find(b"not there"), None);
                assert_eq!(interner.intern(b"not there") as usize, map.len());
            }
        }
    }
}
