//! The oracle of the decoders: one value, one bit at a time.

use super::{Span, corrupt};
use crate::Result;

/// As [`super::codes`].
///
/// # Errors
/// As [`super::codes`].
pub fn codes(bytes: &[u8], width: u32, n: usize) -> Result<Vec<i32>> {
    let mut out = vec![];
    let mut at = 0;
    while out.len() < n {
        let mut header = 0u64;
        let mut shift = 0;
        loop {
            let b = *bytes.get(at).ok_or_else(|| corrupt("it ends within a run's header"))?;
            at += 1;
            if shift > 28 {
                return Err(corrupt("a run's header is too long"));
            }
            header |= u64::from(b & 0x7F) << shift;
            shift += 7;
            if b < 0x80 {
                break;
            }
        }
        let bit = |at: usize| bytes.get(at / 8).map(|b| u64::from(b >> (at % 8) & 1));
        let value = |from: usize| (0..width as usize).try_fold(0u64, |v, i| Some(v | bit(from + i)? << i));
        if header & 1 == 0 {
            let v = value(at * 8).ok_or_else(|| corrupt("it ends within a run"))?;
            at += (width as usize).div_ceil(8);
            let v = i32::try_from(v).map_err(|_| corrupt("a code above 31 bits"))?;
            let count = usize::try_from(header >> 1).unwrap_or(usize::MAX);
            out.extend(std::iter::repeat_n(v, count.min(n - out.len())));
        } else {
            let count = (header >> 1) * 8;
            for i in 0..(count as usize).min(n - out.len()) {
                let v = value(at * 8 + i * width as usize).ok_or_else(|| corrupt("it ends within a run"))?;
                out.push(i32::try_from(v).map_err(|_| corrupt("a code above 31 bits"))?);
            }
            at = at.saturating_add((header >> 1) as usize * width as usize);
        }
    }
    Ok(out)
}

/// As [`super::spans`].
///
/// # Errors
/// As [`super::spans`].
pub fn spans(bytes: &[u8], n: usize) -> Result<Vec<Span>> {
    let mut at = 0usize;
    (0..n)
        .map(|_| {
            let len = bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
            let len = len.ok_or_else(|| corrupt("it ends within a string's length"))?;
            let start = at + 4;
            at = start + len as usize;
            if at > bytes.len() {
                return Err(corrupt("it ends within a string"));
            }
            Ok(Span { start: start as u32, len })
        })
        .collect()
}

/// As [`super::deltas`], in 128 bits and bit by bit, of integers of `bits` bits.
///
/// # Errors
/// As [`super::deltas`].
pub fn deltas(bytes: &[u8], n: usize, bits: u32) -> Result<(Vec<i64>, usize)> {
    let mut at = 0;
    let number = |at: &mut usize| {
        let mut value = 0u128;
        for i in 0..10 {
            let b = *bytes.get(*at).ok_or_else(|| corrupt("it ends within a header"))?;
            *at += 1;
            value |= u128::from(b & 0x7F) << (7 * i);
            if b < 0x80 {
                return Ok(value & u128::from(u64::MAX));
            }
        }
        Err(corrupt("a number of more than 64 bits"))
    };
    let zigzag = |v: u128| if v.is_multiple_of(2) { (v / 2) as i128 } else { -((v / 2) as i128) - 1 };
    let wrapped = |v: i128| {
        let range = 1i128 << bits;
        let v = v.rem_euclid(range);
        (if v >= range / 2 { v - range } else { v }) as i64
    };
    let (block, parts, total) = (number(&mut at)?, number(&mut at)?, number(&mut at)?);
    let sound = parts > 0 && block <= 1 << 20 && block > 0 && block.is_multiple_of(parts) && (block / parts).is_multiple_of(8);
    if total != n as u128 || !sound {
        return Err(corrupt("another number of values, or blocks that are not allowed"));
    }
    let each = (block / parts) as usize;
    let mut value = zigzag(number(&mut at)?);
    let mut out = vec![];
    if n > 0 {
        out.push(wrapped(value));
    }
    while out.len() < n {
        let least = zigzag(number(&mut at)?);
        let widths = bytes.get(at..at + parts as usize).ok_or_else(|| corrupt("it ends within a block's header"))?;
        at += parts as usize;
        for width in widths.iter().map(|w| usize::from(*w)) {
            if out.len() == n {
                break;
            }
            if width > 64 {
                return Err(corrupt("differences of more than 64 bits"));
            }
            for i in 0..each.min(n - out.len()) {
                let bit = |b: usize| {
                    let bit = 8 * at + i * width + b;
                    bytes.get(bit / 8).map(|byte| i128::from(byte >> (bit % 8) & 1) << b)
                };
                let more = (0..width).map(bit).sum::<Option<i128>>().ok_or_else(|| corrupt("it ends within a block"))?;
                // Kept small: what counts is the value modulo 2^64.
                value = (value + least + more).rem_euclid(1 << 64);
                out.push(wrapped(value));
            }
            at = (at + each * width / 8).min(bytes.len());
        }
    }
    Ok((out, at))
}
