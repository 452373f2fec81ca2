//! The groups of rows whose keys are codes of small dictionaries, where all of them are there already.

use super::{Groups, Index};
use crate::simd;
use crate::vector::{Strings, Values, Vector};
use arrow::array::Array;

/// Larger dictionaries are not spelled out for each chunk.
const ENTRIES_MOST: usize = 256;

/// Beyond every code of a directly addressed table, which has fewer than 31 bits.
const UNKNOWN: u32 = 1 << 31;

simd! {
    fn add_parts(place: &mut [u32], codes: &[i32], parts: &[u32; ENTRIES_MOST]) {
        for (p, c) in place.iter_mut().zip(codes) { *p |= parts[*c as usize & (ENTRIES_MOST - 1)]; }
    }
}
simd! {
    /// Places to ids; `u32::MAX` where there is no group.
    fn look_up(place: &mut [u32], ids: &[u32]) {
        let last = ids.len() - 1;
        for p in place.iter_mut() {
            let id = ids[(*p as usize).min(last)].wrapping_sub(1);
            *p = if *p as usize > last { u32::MAX } else { id };
        }
    }
}
simd! {
    fn all_known(ids: &[u32]) -> bool {
        let mut most = 0u32;
        for id in ids { most = most.max(*id); }
        most != u32::MAX
    }
}

simd! {
    fn leave_out(ids: &mut [u32], mask: &[u8]) -> bool {
        let mut missing = 0u32;
        for (id, m) in ids.iter_mut().zip(mask) {
            missing |= (*id == u32::MAX) as u32 & u32::from(*m);
            *id |= u32::from(*m).wrapping_sub(1);
        }
        missing == 0
    }
}

impl Groups {
    /// Appends the group of each of `n` rows to `out` if no row needs a new one; says whether it did. `mask` (0 or 1 a
    /// row) tells which rows count; others get `u32::MAX`. Only for a directly addressed table whose keys are codes of
    /// small dictionaries without nulls: others have no group here.
    pub fn find_known(&self, keys: &[&Vector], n: usize, mask: Option<&[u8]>, out: &mut Vec<u32>) -> bool {
        let Index::Direct { base, bits, ids } = &self.index else { return false };
        if self.has_null_word || keys.is_empty() || ids.is_empty() {
            return false;
        }
        let start = out.len();
        let mut shift = 0;
        for (k, key) in keys.iter().enumerate() {
            let parts = self.entries(k, key, base[k], bits[k], shift);
            let (Some(parts), Values::Str(Strings::Dict { codes, .. })) = (parts, &key.values) else {
                out.truncate(start);
                return false;
            };
            out.resize(start + n, 0);
            add_parts(&mut out[start..], &codes[..n], &parts);
            shift += bits[k];
        }
        let found = &mut out[start..];
        look_up(found, ids);
        let all = match mask {
            Some(mask) => leave_out(found, mask),
            None => all_known(found),
        };
        if !all {
            out.truncate(start);
        }
        all
    }

    /// What each entry of a key's dictionary adds to the place of a group.
    fn entries(&self, k: usize, key: &Vector, base: i64, bits: u32, shift: u32) -> Option<[u32; ENTRIES_MOST]> {
        let Values::Str(Strings::Dict { dict, .. }) = &key.values else { return None };
        if key.constant || key.valid.is_some() || dict.values().len() > ENTRIES_MOST {
            return None;
        }
        let known = self.interners[k].known_of(dict)?;
        let mut parts = [UNKNOWN; ENTRIES_MOST];
        for (part, id) in parts.iter_mut().zip(known) {
            let word = i64::from(*id) - 1 - base;
            if *id > 0 && (0..1i64 << bits).contains(&word) {
                *part = (word as u32) << shift;
            }
        }
        Some(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::KeyType;
    use crate::program::Type;
    use crate::vector::Dictionary;
    use std::sync::Arc;

    fn column(dict: &Arc<Dictionary>, codes: &[i32]) -> Vector {
        Vector::new(Values::Str(Strings::Dict { codes: codes.to_vec().into(), dict: Arc::clone(dict) }))
    }

    #[test]
    fn only_groups_that_are_there_are_found() {
        let (x, y) = (Dictionary::new(vec!["a", "b", "c"].into()), Dictionary::new(vec!["p", "q", "r"].into()));
        let mut groups = Groups::new(&[KeyType::new(Type::Str, 0); 2]);
        let (a, b) = (column(&x, &[2, 0, 2, 1]), column(&y, &[0, 1, 1, 0]));
        let mut first = vec![];
        assert!(!groups.find_known(&[&a, &b], 4, None, &mut first), "nothing is there yet");
        groups.ids(&[&a, &b], 4, &mut first).unwrap();
        assert_eq!(first, [0, 1, 2, 3]);
        let mut again = vec![7];
        assert!(groups.find_known(&[&a, &b], 4, None, &mut again));
        assert_eq!(again, [7, 0, 1, 2, 3]);
        let mut behind = vec![];
        assert!(groups.find_known(&[&a, &b], 4, Some(&[1, 0, 1, 0]), &mut behind));
        assert_eq!(behind, [0, u32::MAX, 2, u32::MAX], "a row that does not count is in no group, though it is there");
        // (b, q) and (a, r) are no groups, the second's entry is not even known.
        let (a, b) = (column(&x, &[2, 1, 0]), column(&y, &[1, 1, 2]));
        let mut out = vec![];
        assert!(!groups.find_known(&[&a, &b], 3, None, &mut out) && out.is_empty());
        assert!(!groups.find_known(&[&a, &b], 3, Some(&[1, 0, 1]), &mut out) && out.is_empty());
        assert!(groups.find_known(&[&a, &b], 3, Some(&[1, 0, 0]), &mut out));
        assert_eq!((out, groups.len()), (vec![2, u32::MAX, u32::MAX], 4), "rows that do not count have no group, and make none");
        // Another dictionary, nulls, one value for all: not here.
        let other = Dictionary::new(vec!["a", "b", "c"].into());
        assert!(!groups.find_known(&[&column(&other, &[0, 0, 0]), &b], 3, None, &mut vec![]));
        let nulls = Vector::with_valid(a.values.clone(), Some(vec![1, 0, 1].into()));
        assert!(!groups.find_known(&[&nulls, &b], 3, None, &mut vec![]));
        let constant = Vector { constant: true, ..column(&x, &[2]) };
        assert!(!groups.find_known(&[&constant, &b], 3, None, &mut vec![]));
    }
}
