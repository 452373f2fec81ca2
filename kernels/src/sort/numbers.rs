//! All keys of a row as one number, the first key highest.

use super::{Key, codes, compare_rows};
use crate::Result;
use rayon::slice::ParallelSliceMut;

/// The numbers of rows. Where they are equal, what has no room in them is still to be compared.
pub struct Numbers<'a> {
    /// Codes of the first keys, and how many of their low bits have no room.
    packed: Vec<(codes::Codes, u32)>,
    /// Bits of a number.
    pub(super) bits: u32,
    /// Bits that the number of a row needs; they have room below.
    pub(super) row_bits: u32,
    /// The keys that equal numbers leave open.
    pub(super) ties: Vec<Key<'a>>,
    rows: usize,
}

/// Equal rows beyond which they are settled by all threads.
const MANY_EQUAL: usize = 64 * 1024;

impl<'a> Numbers<'a> {
    /// The numbers of the rows `0..n` by `keys`.
    ///
    /// # Errors
    /// `Unsupported` for a key that kernels do not compute on.
    pub fn of(keys: &[Key<'a>], n: usize) -> Result<Self> {
        let row_bits = usize::BITS - n.saturating_sub(1).leading_zeros();
        let (mut bits, mut packed, mut ties) = (0, vec![], vec![]);
        for (k, key) in keys.iter().enumerate().filter(|(_, k)| !k.values.constant) {
            let codes = codes::of(key, n)?;
            let lost = codes.bits.saturating_sub(u128::BITS - row_bits - bits);
            bits += codes.bits - lost;
            let is_exact = codes.is_exact && lost == 0;
            packed.push((codes, lost));
            if !is_exact {
                ties = keys[k..].iter().filter(|k| !k.values.constant).copied().collect();
                break;
            }
        }
        Ok(Self { packed, bits, row_bits, ties, rows: n })
    }

    /// Whether rows of equal numbers are equal.
    pub fn is_exact(&self) -> bool {
        self.ties.is_empty()
    }

    /// The codes of each key, how many of their low bits to leave out, and the bit of the number that they begin at; the
    /// lowest first.
    pub(super) fn placed(&self) -> impl Iterator<Item = (&[u64], u32, u32)> {
        let mut below = 0;
        self.packed.iter().rev().filter(|(c, lost)| c.bits > *lost).map(move |(codes, lost)| {
            let at = below;
            below += codes.bits - lost;
            (&codes.values[..], *lost, at)
        })
    }

    /// The numbers as words of 32 bits: the least significant word of all rows, then the next of all rows, and so on.
    pub fn words(&self) -> Vec<u32> {
        let mut words = vec![0; self.bits.div_ceil(u32::BITS) as usize * self.rows];
        for (codes, lost, at) in self.placed() {
            let (first, shift) = ((at / u32::BITS) as usize, at % u32::BITS);
            // What a code has no bits in stays 0.
            for (p, plane) in words.chunks_exact_mut(self.rows.max(1)).skip(first).take(3).enumerate() {
                let part = |code: u64| ((u128::from(code >> lost) << shift) >> (u32::BITS * p as u32)) as u32;
                plane.iter_mut().zip(codes).for_each(|(w, c)| *w |= part(*c));
            }
        }
        words
    }

    /// Rows that lie in the order of their numbers, by number where these are equal, in that of their keys; the first `fetch`
    /// of them. `rows` are all rows, or all up to the last of those whose number the row `fetch` has. `words` are the numbers'.
    pub fn settle(&self, mut rows: Vec<u32>, words: &[u32], fetch: usize) -> Vec<u32> {
        if !self.is_exact() {
            let n = self.rows.max(1);
            let same = |a: &u32, b: &u32| words.chunks_exact(n).all(|plane| plane[*a as usize] == plane[*b as usize]);
            let order = |a: &u32, b: &u32| compare_rows(&self.ties, *a as usize, *b as usize).then(a.cmp(b));
            for equal in rows.chunk_by_mut(same) {
                if equal.len() > MANY_EQUAL { equal.par_sort_unstable_by(order) } else { equal.sort_unstable_by(order) }
            }
        }
        rows.truncate(fetch);
        rows
    }
}
