//! Vectorised decoding.

use super::{Span, corrupt, packed};
use crate::vector::written;
use crate::{Error, Result, simd};
use arrow::array::builder::make_view;
use arrow::array::{StringArray, StringViewArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::ArrowNativeType;
use std::mem::MaybeUninit;

/// The first `n` codes of a run-length / bit-packed hybrid of codes `width` bits wide.
///
/// # Errors
/// `Invalid` when the bytes end early, the width is above 32 or a code needs more than 31 bits.
pub fn codes(bytes: &[u8], width: u32, n: usize) -> Result<Vec<i32>> {
    if width > 32 {
        return Err(corrupt(format!("codes of {width} bits")));
    }
    let mut out: Vec<i32> = Vec::with_capacity(n + 64);
    let mut rest = bytes;
    while out.len() < n {
        let (header, after) = varint(rest)?;
        rest = after;
        let left = n - out.len();
        if header & 1 == 0 {
            let len = (width as usize).div_ceil(8);
            let value = rest.get(..len).ok_or_else(|| corrupt("it ends within a run"))?;
            rest = &rest[len..];
            let value = value.iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b)) & mask(width);
            let value = i32::try_from(value).map_err(|_| corrupt("a code above 31 bits"))?;
            out.resize(out.len() + left.min((header >> 1) as usize), value);
        } else {
            let groups = ((header >> 1) as usize).min(left.div_ceil(8));
            let count = left.min(groups * 8);
            // The last group may be cut short where its tail holds no values.
            let needed = (count * width as usize).div_ceil(8);
            let packed = rest.get(..needed).ok_or_else(|| corrupt("it ends within a run"))?;
            out.reserve(groups * 8);
            unpack(packed, width, &mut out.spare_capacity_mut()[..groups * 8]);
            // SAFETY: `unpack` wrote all values of the groups, `count` of which are wanted.
            unsafe { out.set_len(out.len() + count) };
            rest = rest.get((header >> 1) as usize * width as usize..).unwrap_or(&[]);
        }
    }
    if width == 32 && out.iter().any(|c| *c < 0) {
        return Err(corrupt("a code above 31 bits"));
    }
    Ok(out)
}

fn mask(width: u32) -> u64 {
    (1u64 << width) - 1
}

fn varint(bytes: &[u8]) -> Result<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, b) in bytes.iter().enumerate() {
        if i > 4 {
            return Err(corrupt("a run's header is too long"));
        }
        value |= u64::from(b & 0x7F) << (7 * i);
        if *b < 0x80 {
            return Ok((value, &bytes[i + 1..]));
        }
    }
    Err(corrupt("it ends within a run's header"))
}

/// Writes all of `out`, which is whole groups of 8 values; bytes missing at the end count as zero.
pub(super) fn unpack(packed: &[u8], width: u32, out: &mut [MaybeUninit<i32>]) {
    let (packed, out) = match packed::by_words(packed, width, out) {
        Some(done) => (packed.get(done * width as usize..).unwrap_or(&[]), &mut out[done * 8..]),
        None => (packed, out),
    };
    macro_rules! widths {
        ($($w:literal),*) => {
            match width {
                0 => out.iter_mut().for_each(|o| _ = o.write(0)),
                $($w => unpack_width::<$w>(packed, out),)*
                _ => {}
            }
        };
    }
    widths!(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32)
}

fn unpack_width<const W: usize>(packed: &[u8], out: &mut [MaybeUninit<i32>]) {
    // The 8-byte load of a group's last value ends here, past the group's own W bytes.
    let reach = 7 * W / 8 + 8;
    let mut groups = out.chunks_exact_mut(8);
    let mut at = 0;
    for group in &mut groups {
        match packed.get(at..at + reach) {
            Some(bytes) => unpack_group::<W>(bytes, group),
            None => {
                let mut padded = [0u8; 40];
                let tail = packed.get(at..).unwrap_or(&[]);
                let len = tail.len().min(40);
                padded[..len].copy_from_slice(&tail[..len]);
                unpack_group::<W>(&padded[..reach], group);
            }
        }
        at += W;
    }
}

#[inline(always)]
fn unpack_group<const W: usize>(bytes: &[u8], out: &mut [MaybeUninit<i32>]) {
    for (j, o) in out.iter_mut().enumerate() {
        let (byte, shift) = (j * W / 8, j * W % 8);
        let mut word = [0u8; 8];
        word.copy_from_slice(&bytes[byte..byte + 8]);
        o.write((u64::from_le_bytes(word) >> shift & mask(W as u32)) as i32);
    }
}

simd! {
    fn greatest(codes: &[i32]) -> u32 {
        let mut most = 0u32;
        for c in codes { most = most.max(*c as u32); }
        most
    }
}
simd! {
    fn take_unchecked<T: Copy>(entries: &[T], codes: &[i32], out: &mut [MaybeUninit<T>]) {
        for (o, c) in out.iter_mut().zip(codes) {
            // SAFETY: the caller checked that every code is below `entries.len()`.
            o.write(unsafe { *entries.get_unchecked(*c as usize) });
        }
    }
}

/// The dictionary entry of every code.
///
/// # Errors
/// `Invalid` for a code without entry.
pub fn lookup<T: ArrowNativeType>(entries: &[T], codes: &[i32]) -> Result<Vec<T>> {
    check_codes(entries.len(), codes)?;
    // SAFETY: `take_unchecked` writes one value for each code.
    Ok(unsafe { written(codes.len(), |out| take_unchecked(entries, codes, out)) })
}

/// Checks that a dictionary of `entries` entries has one for every code.
///
/// # Errors
/// `Invalid` naming the greatest code when it has not.
pub fn check_codes(entries: usize, codes: &[i32]) -> Result<()> {
    let most = greatest(codes) as usize;
    if !codes.is_empty() && most >= entries { Err(corrupt(format!("code {most} of a dictionary of {entries} entries"))) } else { Ok(()) }
}

/// `n` little-endian values, without a copy where the bytes are aligned.
///
/// # Errors
/// `Invalid` when the bytes end early.
pub fn plain<T: ArrowNativeType + bytemuck::Pod>(bytes: &Buffer, n: usize) -> Result<ScalarBuffer<T>> {
    let size = std::mem::size_of::<T>();
    let len = n.checked_mul(size).filter(|len| *len <= bytes.len());
    let len = len.ok_or_else(|| corrupt(format!("{} bytes for {n} values of {size}", bytes.len())))?;
    let aligned = (bytes.as_ptr() as usize).is_multiple_of(std::mem::align_of::<T>());
    if aligned && cfg!(target_endian = "little") {
        return Ok(ScalarBuffer::new(bytes.slice_with_length(0, len), 0, n));
    }
    let mut out: Vec<T> = vec![T::default(); n];
    let raw: &mut [u8] = bytemuck::cast_slice_mut(&mut out);
    raw.copy_from_slice(&bytes[..len]);
    if cfg!(target_endian = "big") {
        raw.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
    Ok(out.into())
}

/// `n` bits, low ones of a byte first, as bytes of 0 or 1.
///
/// # Errors
/// `Invalid` when the bytes end early.
pub fn bits(bytes: &[u8], n: usize) -> Result<Vec<u8>> {
    let bytes = bytes.get(..n.div_ceil(8)).ok_or_else(|| corrupt(format!("{} bytes for {n} bits", bytes.len())))?;
    let mut out: Vec<u8> = bytes.iter().flat_map(|b| std::array::from_fn::<u8, 8, _>(|i| b >> i & 1)).collect();
    out.truncate(n);
    Ok(out)
}

/// `n` integers of `len` bytes, the greatest first, as decimals of up to 18 digits are stored.
///
/// # Errors
/// `Invalid` when the bytes end early, or for one that does not fit 64 bits.
pub fn big_endian(bytes: &[u8], len: usize, n: usize) -> Result<Vec<i64>> {
    let all = len.checked_mul(n).and_then(|all| bytes.get(..all)).filter(|_| len > 0 || n == 0);
    let all = all.ok_or_else(|| corrupt(format!("{} bytes for {n} values of {len}", bytes.len())))?;
    let value = |bytes: &[u8]| {
        let (sign, low) = bytes.split_at(len.saturating_sub(8));
        let fill = if bytes[0] & 0x80 == 0 { 0 } else { 0xFF };
        let mut word = [fill; 8];
        word[8 - low.len()..].copy_from_slice(low);
        let fits = sign.iter().all(|b| *b == fill) && (sign.is_empty() || word[0] & 0x80 == fill & 0x80);
        if fits { Ok(i64::from_be_bytes(word)) } else { Err(corrupt("a decimal of more than 18 digits")) }
    };
    all.chunks_exact(len.max(1)).map(value).collect()
}

/// `n` little-endian values whose first bytes come first, then all their second ones, and so on.
///
/// # Errors
/// `Invalid` when the bytes end early.
pub fn split<T: ArrowNativeType + bytemuck::Pod>(bytes: &[u8], n: usize) -> Result<Vec<T>> {
    let size = std::mem::size_of::<T>();
    let all = size.checked_mul(n).and_then(|all| bytes.get(..all));
    let all = all.ok_or_else(|| corrupt(format!("{} bytes for {n} values of {size}", bytes.len())))?;
    let mut out: Vec<T> = vec![T::default(); n];
    let raw: &mut [u8] = bytemuck::cast_slice_mut(&mut out);
    for (k, stream) in all.chunks_exact(n.max(1)).enumerate() {
        let at = if cfg!(target_endian = "big") { size - 1 - k } else { k };
        raw[at..].iter_mut().step_by(size).zip(stream).for_each(|(o, b)| *o = *b);
    }
    Ok(out)
}

/// Where each of `n` length-prefixed strings lies.
///
/// # Errors
/// `Invalid` when the bytes end early or exceed 4 GiB.
pub fn spans(bytes: &[u8], n: usize) -> Result<Vec<Span>> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(corrupt("strings of more than 4 GiB"));
    }
    let mut out = Vec::with_capacity(n.min(bytes.len() / 4));
    let mut at = 0usize;
    for _ in 0..n {
        let Some(prefix) = bytes.get(at..at + 4) else { return Err(corrupt("it ends within a string's length")) };
        let len = u32::from_le_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]);
        let start = at + 4;
        at = start + len as usize;
        if at > bytes.len() {
            return Err(corrupt("it ends within a string"));
        }
        out.push(Span { start: start as u32, len });
    }
    Ok(out)
}

/// `n` length-prefixed strings, their bytes one after the other.
///
/// # Errors
/// `Invalid` when the bytes end early, are not UTF-8 or exceed 2 GiB.
pub fn strings(bytes: &[u8], n: usize) -> Result<StringArray> {
    let spans = spans(bytes, n)?;
    let mut text = Vec::with_capacity(bytes.len().saturating_sub(4 * n));
    let mut offsets = Vec::with_capacity(n + 1);
    offsets.push(0i32);
    for s in spans {
        text.extend_from_slice(&bytes[s.start as usize..][..s.len as usize]);
        offsets.push(i32::try_from(text.len()).map_err(|_| corrupt("strings of more than 2 GiB"))?);
    }
    StringArray::try_new(OffsetBuffer::new(offsets.into()), text.into(), None).map_err(corrupt)
}

/// Views of the strings at these places; `ascii`: the bytes are known to be ASCII.
///
/// # Errors
/// `Invalid` for bytes that are not UTF-8, `Bug` for a place outside `bytes`.
pub fn views(bytes: &Buffer, ascii: bool, places: impl Iterator<Item = Span>) -> Result<StringViewArray> {
    let mut out: Vec<u128> = Vec::with_capacity(places.size_hint().0);
    for p in places {
        let (start, end) = (p.start as usize, p.start as usize + p.len as usize);
        let Some(text) = bytes.get(start..end) else { return Err(Error::bug("a string outside its page")) };
        if !ascii && std::str::from_utf8(text).is_err() {
            return Err(corrupt("a string that is not UTF-8"));
        }
        out.push(make_view(text, 0, p.start));
    }
    // SAFETY: every view was made from UTF-8 bytes of buffer 0 at its own place.
    Ok(unsafe { StringViewArray::new_unchecked(ScalarBuffer::from(out), vec![bytes.clone()], None) })
}

/// Values of the valid rows to their rows; others get the default.
///
/// # Errors
/// `Invalid` when there are not as many values as valid rows.
pub fn spread<T: Copy + Default>(dense: &[T], valid: &[u8]) -> Result<Vec<T>> {
    let mut out = vec![T::default(); valid.len()];
    let mut values = dense.iter();
    for (o, v) in out.iter_mut().zip(valid) {
        if *v != 0 {
            *o = *values.next().ok_or_else(|| corrupt("fewer values than rows that have one"))?;
        }
    }
    Ok(out)
}
