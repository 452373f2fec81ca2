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
