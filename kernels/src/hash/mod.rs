//! The stable hash of a logical value: the same on every machine, version and encoding.
//!
//! Contract: equal values hash equally whatever their register type (`I32` 7 = `I64` 7 = `Decimal` 7
//! at the same scale, dictionary = view, -0 = +0, every NaN alike); null has its own hash. The
//! function is part of the state format (key groups) and must not change. Folded multiplication as in
//! wyhash (Wang Yi, public domain), constants are digits of pi.

use crate::value::canonical_f64;

const K0: u64 = 0x243F_6A88_85A3_08D3;
const K1: u64 = 0x1319_8A2E_0370_7344;
const K2: u64 = 0xA409_3822_299F_31D0;

/// The hash of null.
pub const NULL: u64 = K2;

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
}

/// Hash of one 64-bit word.
#[inline(always)]
pub fn word(v: u64) -> u64 {
    fold(v ^ K0, K1)
}

/// Adds the hash of one more column.
#[inline(always)]
pub fn combine(seed: u64, hash: u64) -> u64 {
    fold(seed ^ hash, K2 | 1)
}

/// Hash of an integer: of 64 bits where it fits.
#[inline]
pub fn int(v: i128) -> u64 {
    match i64::try_from(v) {
        Ok(v) => word(v as u64),
        Err(_) => combine(word(v as u64), word((v >> 64) as u64)),
    }
}

/// Hash of a float by its canonical form.
#[inline]
pub fn float(v: f64) -> u64 {
    word(canonical_f64(v).to_bits())
}

/// Hash of bytes.
#[inline]
pub fn bytes(v: &[u8]) -> u64 {
    let mut h = K0 ^ (v.len() as u64).wrapping_mul(K2);
    let mut chunks = v.chunks_exact(8);
    for c in &mut chunks {
        let mut b = [0; 8];
        b.copy_from_slice(c);
        h = fold(h ^ u64::from_le_bytes(b), K1);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let mut b = [0; 8];
        b[..rest.len()].copy_from_slice(rest);
        h = fold(h ^ u64::from_le_bytes(b), K2);
    }
    fold(h, K1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_stable() {
        // Part of the state format: a change of these numbers breaks every stored checkpoint.
        assert_eq!([word(0), word(1), bytes(b""), bytes(b"millstream")], GOLDEN);
        assert_eq!(int(-1), word(u64::MAX));
        assert_eq!(float(-0.0), float(0.0));
        assert_eq!(float(f64::NAN), float(-f64::NAN));
    }

    const GOLDEN: [u64; 4] = [13552182361643986041, 12193945537592631485, 13552182361643986041, 1004153409611061404];

    #[test]
    fn spreads_small_keys() {
        let mut buckets = [0u32; 256];
        (0..256_000u64).for_each(|k| buckets[(word(k) >> 56) as usize] += 1);
        assert!(buckets.iter().all(|n| (700..1300).contains(n)), "{buckets:?}");
    }
}
