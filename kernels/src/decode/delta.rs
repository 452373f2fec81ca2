//! Differences, and strings that are stored as differences: DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY.

use super::cpu::unpack;
use super::{Span, corrupt};
use crate::Result;
use crate::vector::written;
use arrow::datatypes::ArrowNativeType;

/// Blocks of more values than this are nobody's.
const BLOCK_MOST: u64 = 1 << 20;

/// Integers that differences add up to, modulo their range.
pub trait Difference: ArrowNativeType + bytemuck::Pod {
    /// The low bits of `v`.
    fn wrapped(v: i64) -> Self;
}

impl Difference for i32 {
    fn wrapped(v: i64) -> Self {
        v as i32
    }
}

impl Difference for i64 {
    fn wrapped(v: i64) -> Self {
        v
    }
}

/// A number of 7 bits a byte, low ones first, of up to 64 bits.
fn number(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for i in 0..10 {
        let Some((b, rest)) = bytes.split_first() else { return Err(corrupt("it ends within a header")) };
        *bytes = rest;
        value |= u64::from(b & 0x7F) << (7 * i);
        if *b < 0x80 {
            return Ok(value);
        }
    }
    Err(corrupt("a number of more than 64 bits"))
}

fn signed(bytes: &mut &[u8]) -> Result<i64> {
    let v = number(bytes)?;
    Ok((v >> 1) as i64 ^ -((v & 1) as i64))
}

/// `n` integers that are stored as a first one and differences, and how many bytes they take.
///
/// # Errors
/// `Invalid` when the bytes end early, announce another number of values, or have blocks that the format does not allow.
pub fn deltas<T: Difference>(bytes: &[u8], n: usize) -> Result<(Vec<T>, usize)> {
    let mut rest = bytes;
    let (block, parts, total) = (number(&mut rest)?, number(&mut rest)?, number(&mut rest)?);
    if total != n as u64 {
        return Err(corrupt(format!("{total} differences for {n} values")));
    }
    let each = block.checked_div(parts).unwrap_or(0);
    if block > BLOCK_MOST || each == 0 || each * parts != block || !each.is_multiple_of(8) {
        return Err(corrupt(format!("blocks of {block} values in {parts} parts")));
    }
    let mut last = signed(&mut rest)?;
    let mut out = Vec::with_capacity(n.min(bytes.len().saturating_mul(each as usize)));
    if n > 0 {
        out.push(T::wrapped(last));
    }
    while out.len() < n {
        let least = signed(&mut rest)?;
        let widths = rest.split_off(..parts as usize).ok_or_else(|| corrupt("it ends within a block's header"))?;
        for width in widths {
            let count = (n - out.len()).min(each as usize);
            if count == 0 {
                break;
            }
            if *width > 64 {
                return Err(corrupt(format!("differences of {width} bits")));
            }
            let width = usize::from(*width);
            // The last part may be cut short where its tail holds no values.
            let packed = rest.get(..(count * width).div_ceil(8)).ok_or_else(|| corrupt("it ends within a block"))?;
            add_up::<T>(packed, width, count, least, &mut last, &mut out);
            rest = rest.get(each as usize * width / 8..).unwrap_or(&[]);
        }
    }
    Ok((out, bytes.len() - rest.len()))
}

/// Appends `count` values: each is the one before, `least`, and `width` bits of `packed` more.
fn add_up<T: Difference>(packed: &[u8], width: usize, count: usize, least: i64, last: &mut i64, out: &mut Vec<T>) {
    let mut next = |more: u64| {
        *last = last.wrapping_add(least).wrapping_add(more as i64);
        T::wrapped(*last)
    };
    if width == 0 {
        out.extend((0..count).map(|_| next(0)));
    } else if width <= 32 {
        // SAFETY: `unpack` writes all of whole groups.
        let codes = unsafe { written(count.next_multiple_of(8), |codes| unpack(packed, width as u32, codes)) };
        out.extend(codes[..count].iter().map(|c| next(u64::from(*c as u32))));
    } else {
        let mask = u64::MAX >> (64 - width);
        out.extend((0..count).map(|i| {
            let (byte, shift) = (i * width / 8, i * width % 8);
            let mut word = [0u8; 16];
            let tail = &packed[byte..packed.len().min(byte + 9)];
            word[..tail.len()].copy_from_slice(tail);
            next((u128::from_le_bytes(word) >> shift) as u64 & mask)
        }));
    }
}

/// Where each of `n` strings lies whose lengths come first, as differences.
///
/// # Errors
/// As [`deltas`]; `Invalid` for a negative length, and when the bytes end early or exceed 4 GiB.
pub fn spans_by_length(bytes: &[u8], n: usize) -> Result<Vec<Span>> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(corrupt("strings of more than 4 GiB"));
    }
    let (lengths, mut at) = deltas::<i32>(bytes, n)?;
    let span = |len: i32| {
        let len = u32::try_from(len).map_err(|_| corrupt(format!("a string of {len} bytes")))?;
        let start = at as u32;
        at += len as usize;
        if at > bytes.len() { Err(corrupt("it ends within a string")) } else { Ok(Span { start, len }) }
    };
    lengths.into_iter().map(span).collect()
}

/// `n` strings of which each begins as the one before does: their bytes, and where each lies in them.
///
/// # Errors
/// As [`spans_by_length`]; `Invalid` for a string that begins with more than the one before has.
pub fn prefixed(bytes: &[u8], n: usize) -> Result<(Vec<u8>, Vec<Span>)> {
    let (shared, used) = deltas::<i32>(bytes, n)?;
    let rest = &bytes[used..];
    let ends = spans_by_length(rest, n)?;
    let mut text: Vec<u8> = Vec::with_capacity(rest.len());
    let mut out: Vec<Span> = Vec::with_capacity(n);
    let mut before = Span::default();
    for (shared, end) in shared.into_iter().zip(ends) {
        let shared = u32::try_from(shared).ok().filter(|s| *s <= before.len);
        let shared = shared.ok_or_else(|| corrupt("a string that begins with more than the one before has"))?;
        let start =
            u32::try_from(text.len()).ok().filter(|s| u64::from(*s) + u64::from(shared) + u64::from(end.len) <= u64::from(u32::MAX));
        let start = start.ok_or_else(|| corrupt("strings of more than 4 GiB"))?;
        let from = before.start as usize;
        text.extend_from_within(from..from + shared as usize);
        text.extend_from_slice(&rest[end.start as usize..][..end.len as usize]);
        before = Span { start, len: shared + end.len };
        out.push(before);
    }
    Ok((text, out))
}
