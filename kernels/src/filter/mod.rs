//! A condition to a selection: the indices of the rows that stay.
//!
//! Contract: ascending row numbers where the mask is true (neither false nor null). Bits.

use crate::vector::Vector;
use crate::{Result, simd};

/// Rows that are live, relative to some earlier set of rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection {
    /// Every row.
    All,
    /// These, in this order.
    Rows(Vec<u32>),
}

/// For each byte the numbers of its set bits, in order; the rest is slack.
const SET_BITS: [[u8; 8]; 256] = {
    let mut all = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut n) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                all[byte][n] = bit as u8;
                n += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    all
};

simd! {
    fn compress(mask: &[u8], out: &mut [u32]) -> usize {
        let mut n = 0;
        let (words, rest) = mask.as_chunks::<8>();
        for (w, word) in words.iter().enumerate() {
            // Eight bytes of 0 or 1 to eight bits: byte `i` times 2^(56 - 7 i) lands on bit 56 + i.
            let bits = (u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
            let (set, first) = (&SET_BITS[bits as usize], 8 * w as u32);
            for (o, s) in out[n..n + 8].iter_mut().zip(set) { *o = first + u32::from(*s); }
            n += bits.count_ones() as usize;
        }
        for (i, m) in rest.iter().enumerate() {
            out[n] = (8 * words.len() + i) as u32;
            n += *m as usize;
        }
        n
    }
}

simd! {
    /// How many bytes of a mask (0 or 1 a row) are 1.
    pub fn count(mask: &[u8]) -> usize {
        let mut n = 0usize;
        for chunk in mask.chunks(255) {
            let mut sum = 0u8;
            for m in chunk { sum += *m; }
            n += sum as usize;
        }
        n
    }
}

/// The rows of `0..n` where `cond` is true.
///
/// # Errors
/// `Bug` unless `cond` is boolean.
pub fn select(cond: &Vector, n: usize) -> Result<Selection> {
    let mask = crate::boolean::is_true(cond, n)?;
    Ok(select_mask(&mask))
}

/// The rows where the mask (0 or 1 a row) is 1.
pub fn select_mask(mask: &[u8]) -> Selection {
    let live = count(mask);
    if live == mask.len() {
        return Selection::All;
    }
    // Slack: the loop writes eight rows before it knows which of them stay.
    let mut out = vec![0u32; live + 8];
    let n = compress(mask, &mut out);
    out.truncate(n);
    Selection::Rows(out)
}

/// The oracle of [`select_mask`].
pub fn reference(mask: &[Option<bool>]) -> Vec<u32> {
    (0..mask.len()).filter(|&i| mask[i] == Some(true)).map(|i| i as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Type;
    use crate::testing::Gen;
    use crate::value::Value;

    #[test]
    fn agrees_with_the_reference() {
        let mut g = Gen::new(9);
        for round in 0..60 {
            let n = [0, 1, 63, 64, 700][round % 5];
            let cond = g.vector(Type::Bool, n, round % 9 == 8);
            let mask: Vec<_> = (0..n).map(|i| (cond.value(i).unwrap() == Value::Bool(true)).into()).collect();
            let rows = match select(&cond, n).unwrap() {
                Selection::All => (0..n as u32).collect(),
                Selection::Rows(r) => r,
            };
            assert_eq!(rows, reference(&mask));
        }
    }
}
