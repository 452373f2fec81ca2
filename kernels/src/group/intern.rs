//! Distinct byte strings to dense ids.

use crate::hash;
use crate::vector::{Dictionary, Strings};
use arrow::array::{Array, StringArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::error::ArrowError;
use hashbrown::HashTable;
use std::sync::Arc;

/// Distinct byte strings, numbered in order of first appearance.
#[derive(Default)]
pub struct Interner {
    bytes: Vec<u8>,
    /// Ends of the strings in `bytes`; string `i` starts where `i - 1` ends.
    ends: Vec<usize>,
    index: HashTable<(u64, u32)>,
    /// Ids of the entries of the dictionary seen last, +1; 0 = not looked up yet.
    remembered: Option<(u64, Vec<u32>)>,
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
        self.bytes.capacity() + self.ends.capacity() * 8 + self.index.capacity() * 17
    }

    /// String `id`.
    pub fn get(&self, id: u32) -> &[u8] {
        get(&self.bytes, &self.ends, id)
    }

    /// The id of `s`, new if it was not there.
    pub fn intern(&mut self, s: &[u8]) -> u32 {
        let h = hash::bytes(s);
        let (bytes, ends) = (&self.bytes, &self.ends);
        if let Some(found) = self.index.find(h, |e| e.0 == h && get(bytes, ends, e.1) == s) {
            return found.1;
        }
        let id = self.ends.len() as u32;
        self.bytes.extend_from_slice(s);
        self.ends.push(self.bytes.len());
        self.index.insert_unique(h, (h, id), |e| e.0);
        id
    }

    /// The id of `s`, if it is there.
    pub fn find(&self, s: &[u8]) -> Option<u32> {
        let h = hash::bytes(s);
        self.index.find(h, |e| e.0 == h && self.get(e.1) == s).map(|e| e.1)
    }

    /// Ids of the first `n` strings; null rows (validity 0) are not interned and get 0.
    pub fn intern_all(&mut self, s: &Strings, constant: bool, valid: Option<&[u8]>, n: usize, out: &mut Vec<u64>) {
        let is_valid = |i: usize| valid.is_none_or(|v| v[i] != 0);
        match s {
            Strings::Dict { codes, dict } if !constant => {
                let mut known = match self.remembered.take() {
                    Some((id, known)) if id == dict.id() => known,
                    _ => vec![0; dict.values().len()],
                };
                for i in 0..n {
                    if !is_valid(i) {
                        out.push(0);
                        continue;
                    }
                    let code = codes[i] as usize;
                    if known[code] == 0 {
                        known[code] = self.intern(dict.values().value(code).as_bytes()) + 1;
                    }
                    out.push(u64::from(known[code] - 1));
                }
                self.remembered = Some((dict.id(), known));
            }
            s => {
                for i in 0..n {
                    let at = if constant { 0 } else { i };
                    out.push(if is_valid(at) { self.intern(s.value(at).as_bytes()).into() } else { 0 });
                }
            }
        }
    }

    /// All strings as a dictionary whose codes are the ids.
    ///
    /// # Errors
    /// When the strings are longer than 2 GiB together.
    pub fn dictionary(&self) -> Result<Arc<Dictionary>, ArrowError> {
        let total = i32::try_from(self.bytes.len()).map_err(|_| ArrowError::ComputeError("group key strings exceed 2 GiB".into()))?;
        let offsets: Vec<i32> = std::iter::once(0).chain(self.ends.iter().map(|e| (*e).min(total as usize) as i32)).collect();
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Ok(Dictionary::new(StringArray::try_new(offsets, self.bytes.clone().into(), None)?))
    }
}

fn get<'a>(bytes: &'a [u8], ends: &[usize], id: u32) -> &'a [u8] {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] };
    &bytes[start..ends[id]]
}
