//! Comparison of two registers to a mask.
//!
//! Contract: `n` rows; either side may be constant; the result is `Bool`, null where either side is
//! null. Integers and decimals compare by value whatever their width; floats with -0 = +0 and
//! NaN = NaN, last; strings by bytes. Exactness: bits.

mod cpu;
pub mod reference;

pub(crate) use cpu::widened;
pub use cpu::{EntryMemo, compare, compare_remembered};

use crate::program::CompareOp;
use std::cmp::Ordering;

impl CompareOp {
    /// Whether an ordering satisfies this comparison.
    #[inline]
    pub fn holds(self, o: Ordering) -> bool {
        match self {
            CompareOp::Eq => o.is_eq(),
            CompareOp::Ne => o.is_ne(),
            CompareOp::Lt => o.is_lt(),
            CompareOp::Le => o.is_le(),
            CompareOp::Gt => o.is_gt(),
            CompareOp::Ge => o.is_ge(),
        }
    }

    /// The same comparison with its sides exchanged.
    pub fn flip(self) -> Self {
        match self {
            CompareOp::Lt => CompareOp::Gt,
            CompareOp::Le => CompareOp::Ge,
            CompareOp::Gt => CompareOp::Lt,
            CompareOp::Ge => CompareOp::Le,
            same => same,
        }
    }
}

#[cfg(test)]
mod tests;
