//! The groups of rows whose keys are codes of small dictionaries, where all of them are there already.

use super::{Groups, Index};
use crate::simd;
use crate::vector::{Strings, Values, Vector};
use arrow::array::Array;

/// Larger dictionaries are not spelled out for each chunk.
const ENTRIES_MOST: usize = 256;

/// Beyond every code of a directly addressed table, which has fewer than 31 bits.
const UNKNOWN: u32 = 1 << 31;

/// What each entry of a dictionary adds to the place of a group.
struct Parts {
    of: [u32; ENTRIES_MOST],
    entries: usize,
}

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
        let mut columns = Vec::with_capacity(keys.len());
        let mut shift = 0;
        for (k, key) in keys.iter().enumerate() {
            let parts = self.entries(k, key, base[k], bits[k], shift);
            let (Some(parts), Values::Str(Strings::Dict { codes, .. })) = (parts, &key.values) else { return false };
            columns.push((&codes[..n], parts));
            shift += bits[k];
        }
        let start = out.len();
        out.resize(start + n, 0);
        let found = &mut out[start..];
        if !few::find(&columns, ids, found) {
            columns.iter().for_each(|(codes, parts)| add_parts(found, codes, &parts.of));
            look_up(found, ids);
        }
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
    fn entries(&self, k: usize, key: &Vector, base: i64, bits: u32, shift: u32) -> Option<Parts> {
        let Values::Str(Strings::Dict { dict, .. }) = &key.values else { return None };
        if key.constant || key.valid.is_some() || dict.values().len() > ENTRIES_MOST {
            return None;
        }
        let known = self.interners[k].known_of(dict)?;
        let mut parts = Parts { of: [UNKNOWN; ENTRIES_MOST], entries: dict.values().len() };
        for (part, id) in parts.of.iter_mut().zip(known) {
            let word = i64::from(*id) - 1 - base;
            if *id > 0 && (0..1i64 << bits).contains(&word) {
                *part = (word as u32) << shift;
            }
        }
        Some(parts)
    }
}

/// Tables of up to 16 entries, looked up within a register (AVX-512), all keys in one pass.
/// `cargo bench --bench kernels -- known` shows what it gains over a load for each row and table.
mod few {
    use super::Parts;

    /// Entries of a register of 32-bit lanes.
    pub(super) const LANES: usize = 16;

    /// Writes the id of the group of each row, as [`super::look_up`] does of the places; says whether it did.
    pub(super) fn find(columns: &[(&[i32], Parts)], ids: &[u32], out: &mut [u32]) -> bool {
        let fits = ids.len() <= LANES && columns.iter().all(|(codes, p)| p.entries <= LANES && codes.len() == out.len());
        #[cfg(target_arch = "x86_64")]
        if fits && crate::cpu::isa() == crate::cpu::Isa::Avx512 {
            // SAFETY: the machine has AVX-512 F; every column has a code for each of `out`, and `ids` fits a register.
            unsafe { x86::find(columns, ids, out) };
            return true;
        }
        _ = (fits, out);
        false
    }

    #[cfg(target_arch = "x86_64")]
    mod x86 {
        use super::{LANES, Parts};
        use std::arch::x86_64::*;

        /// As [`super::find`].
        ///
        /// # Safety
        /// Columns are as long as `out`, which has a code below 16 in each row; there are up to 16 ids.
        // SAFETY: that of the caller; loads and stores are masked to the rows that there are.
        #[target_feature(enable = "avx512f")]
        pub(super) unsafe fn find(columns: &[(&[i32], Parts)], ids: &[u32], out: &mut [u32]) {
            let mut table = [0u32; LANES];
            table[..ids.len()].copy_from_slice(ids);
            let last = _mm512_set1_epi32(ids.len() as i32 - 1);
            // SAFETY: 16 lanes of 32 bits.
            let table = unsafe { _mm512_loadu_si512(table.as_ptr().cast()) };
            for at in (0..out.len()).step_by(LANES) {
                let rows: __mmask16 = if out.len() - at < LANES { (1 << (out.len() - at)) - 1 } else { u16::MAX };
                let mut place = _mm512_setzero_si512();
                for (codes, parts) in columns {
                    // SAFETY: 16 lanes of 32 bits; of the codes those from `at` on that there are.
                    let (parts, codes) =
                        unsafe { (_mm512_loadu_si512(parts.of.as_ptr().cast()), _mm512_maskz_loadu_epi32(rows, codes.as_ptr().add(at))) };
                    place = _mm512_or_si512(place, _mm512_permutexvar_epi32(codes, parts));
                }
                let id = _mm512_sub_epi32(_mm512_permutexvar_epi32(place, table), _mm512_set1_epi32(1));
                let beyond = _mm512_cmpgt_epu32_mask(place, last);
                let id = _mm512_mask_mov_epi32(id, beyond, _mm512_set1_epi32(-1));
                // SAFETY: only the rows that there are.
                unsafe { _mm512_mask_storeu_epi32(out.as_mut_ptr().add(at).cast(), rows, id) };
            }
        }
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
    fn small_tables_in_a_register_find_what_loads_find() {
        let mut g = crate::testing::Gen::new(81);
        for round in 0..300 {
            let n = [1, 15, 16, 17, 200][round % 5];
            let entries = [1 + g.below(16) as usize, 1 + g.below(16) as usize];
            let mut column = |entries: usize, shift: u32| {
                let mut of = [UNKNOWN; ENTRIES_MOST];
                for part in &mut of[..entries] {
                    *part = if g.below(5) == 0 { UNKNOWN } else { (g.below(4) as u32) << shift };
                }
                let codes: Vec<i32> = (0..n).map(|_| g.below(entries as u64) as i32).collect();
                (codes, of)
            };
            let (a, b) = (column(entries[0], 0), column(entries[1], 2));
            let ids: Vec<u32> = (0..1 + g.below(16)).map(|_| g.below(5) as u32).collect();
            let mut want = vec![0; n];
            add_parts(&mut want, &a.0, &a.1);
            add_parts(&mut want, &b.0, &b.1);
            look_up(&mut want, &ids);
            let columns = [(&a.0[..], Parts { of: a.1, entries: entries[0] }), (&b.0[..], Parts { of: b.1, entries: entries[1] })];
            let mut found = vec![7; n];
            match few::find(&columns, &ids, &mut found) {
                true => assert_eq!(found, want, "round {round}"),
                false => assert_ne!(crate::cpu::isa(), crate::cpu::Isa::Avx512),
            }
        }
        let far = [(&[0i32][..], Parts { of: [0; ENTRIES_MOST], entries: few::LANES + 1 })];
        assert!(!few::find(&far, &[1], &mut [0]));
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
