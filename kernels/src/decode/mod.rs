//! Encoded values of a column page to registers: bit-packed codes, plain values, differences, strings.
//!
//! Contract: `n` values or an error. Every length and every code is checked against the bytes given, so
//! a page that lies is an `Invalid` error and never a panic. Bits. Source: the Parquet format,
//! "Encodings" (RLE / bit-packing hybrid, PLAIN, DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY,
//! BYTE_STREAM_SPLIT).

mod cpu;
mod delta;
mod packed;
pub mod reference;

pub use cpu::{big_endian, bits, check_codes, codes, lookup, plain, spans, split, spread, strings, views};
pub use delta::{Difference, deltas, prefixed, spans_by_length};

use crate::Error;

/// Where a string lies in its page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

fn corrupt(what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("corrupt page: {what}"))
}

#[cfg(test)]
mod tests;
