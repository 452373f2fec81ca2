//! A key as unsigned numbers whose order is that of its values.

use super::Key;
use crate::group::ordered;
use crate::value::canonical_f64;
use crate::vector::{Dictionary, Strings, Values, Vector};
use crate::{Error, Result};
use arrow::array::Array;

/// Numbers of a key's values.
pub(super) struct Codes {
    /// One a row.
    pub values: Vec<u64>,
    /// How many of the low bits they need.
    pub bits: u32,
    /// Whether equal numbers mean equal values.
    pub is_exact: bool,
}

/// Bytes of a string that are part of its number; its length is the rest.
const PREFIX_BYTES: usize = 7;

/// The numbers of `n` rows of a key that is not constant.
///
/// # Errors
/// `Unsupported` for a type that kernels do not compute on.
pub(super) fn of(key: &Key<'_>, n: usize) -> Result<Codes> {
    let v = key.values;
    let (mut values, most, mut is_exact) = match &v.values {
        Values::Bool(all) => (all[..n].iter().map(|v| u64::from(*v)).collect(), 1, true),
        Values::I32(all) => offsets(v, n, |i| i64::from(all[i])),
        Values::I64(all) => offsets(v, n, |i| all[i]),
        Values::F64(all) => offsets(v, n, |i| ordered(canonical_f64(all[i]))),
        Values::I128(all) => wide(v, &all[..n]),
        Values::Str(Strings::Dict { codes, dict }) if dict.values().len() <= n => ranked(dict, &codes[..n]),
        Values::Str(text) => prefixes(n, |i| if v.is_null(i) { b"" } else { text.value(i).as_bytes() }),
        Values::Any(_) => return Err(Error::unsupported("an order of what has no kernel")),
    };
    let mut most: u64 = most;
    let valid = v.valid.as_ref().map(|v| &v[..n]).filter(|v| v.contains(&0));
    if valid.is_some() && most == u64::MAX {
        // Room for the nulls.
        values.iter_mut().for_each(|v| *v >>= 1);
        (most, is_exact) = (most >> 1, false);
    }
    if key.order.descending {
        // What stands at a null may lie anywhere.
        values.iter_mut().for_each(|v| *v = most.wrapping_sub(*v));
    }
    if let Some(valid) = valid {
        let (null, step) = if key.order.nulls_first { (0, 1) } else { (most + 1, 0) };
        values.iter_mut().zip(valid).for_each(|(v, valid)| *v = if *valid == 0 { null } else { *v + step });
        most += 1;
    }
    Ok(Codes { values, bits: u64::BITS - most.leading_zeros(), is_exact })
}

/// Distances from the least valid value, and the greatest of them.
fn offsets(v: &Vector, n: usize, value: impl Fn(usize) -> i64) -> (Vec<u64>, u64, bool) {
    let live = || (0..n).filter(|i| !v.is_null(*i)).map(&value);
    let (least, most) = live().fold((i64::MAX, i64::MIN), |(lo, hi), v| (lo.min(v), hi.max(v)));
    if least > most {
        return (vec![0; n], 0, true);
    }
    ((0..n).map(|i| value(i).wrapping_sub(least) as u64).collect(), most.wrapping_sub(least) as u64, true)
}

/// As [`offsets`], without the lowest bits where they do not fit.
fn wide(v: &Vector, all: &[i128]) -> (Vec<u64>, u64, bool) {
    let live = || all.iter().enumerate().filter(|(i, _)| !v.is_null(*i)).map(|(_, v)| *v);
    let (least, most) = live().fold((i128::MAX, i128::MIN), |(lo, hi), v| (lo.min(v), hi.max(v)));
    if least > most {
        return (vec![0; all.len()], 0, true);
    }
    let span = most.wrapping_sub(least) as u128;
    let lost = (u128::BITS - span.leading_zeros()).saturating_sub(u64::BITS);
    let code = |v: i128| (v.wrapping_sub(least) as u128 >> lost) as u64;
    (all.iter().map(|v| code(*v)).collect(), (span >> lost) as u64, lost == 0)
}

/// The places of the entries among those of their dictionary, in order.
fn ranked(dict: &Dictionary, codes: &[i32]) -> (Vec<u64>, u64, bool) {
    let entry = |e: u32| dict.values().value(e as usize).as_bytes();
    let mut entries: Vec<u32> = (0..dict.values().len() as u32).collect();
    entries.sort_unstable_by(|a, b| entry(*a).cmp(entry(*b)));
    let mut ranks = vec![0u64; entries.len()];
    let mut rank = 0;
    for pair in entries.windows(2) {
        rank += u64::from(entry(pair[0]) != entry(pair[1]));
        ranks[pair[1] as usize] = rank;
    }
    (codes.iter().map(|c| ranks[*c as usize]).collect(), rank, true)
}

/// The first bytes of strings, then their lengths as far as they tell short ones apart.
fn prefixes<'a>(n: usize, text: impl Fn(usize) -> &'a [u8]) -> (Vec<u64>, u64, bool) {
    let mut is_exact = true;
    let code = |i: usize| {
        let text = text(i);
        let mut word = [0u8; 8];
        let len = text.len().min(PREFIX_BYTES);
        word[..len].copy_from_slice(&text[..len]);
        word[PREFIX_BYTES] = text.len().min(PREFIX_BYTES + 1) as u8;
        is_exact &= text.len() <= PREFIX_BYTES;
        u64::from_be_bytes(word)
    };
    let codes: Vec<u64> = (0..n).map(code).collect();
    let most = codes.iter().copied().max().unwrap_or(0);
    (codes, most, is_exact)
}
