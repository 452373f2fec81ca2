//! What is known of the integers in a register: least and greatest, carried through arithmetic.
//! The device computes without checks, so only what these intervals prove to fit may run there.

use crate::program::ArithOp;

/// All values lie in `low..=high`. A register without values has `ZERO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    pub low: i128,
    pub high: i128,
}

impl Interval {
    pub const ZERO: Self = Self { low: 0, high: 0 };
    pub const BOOL: Self = Self { low: 0, high: 1 };

    pub fn point(v: i128) -> Self {
        Self { low: v, high: v }
    }

    pub fn of_i64(low: i64, high: i64) -> Self {
        Self { low: low.into(), high: high.into() }
    }

    pub fn union(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    pub fn fits_i32(self) -> bool {
        i32::try_from(self.low).is_ok() && i32::try_from(self.high).is_ok()
    }

    pub fn fits_i64(self) -> bool {
        i64::try_from(self.low).is_ok() && i64::try_from(self.high).is_ok()
    }

    /// `self op other`, for operands that fit 64 bits (so that nothing here leaves 128).
    pub fn arith(self, op: ArithOp, other: Self) -> Self {
        match op {
            ArithOp::Add => Self { low: self.low + other.low, high: self.high + other.high },
            ArithOp::Sub => Self { low: self.low - other.high, high: self.high - other.low },
            ArithOp::Mul => {
                let corners = [self.low * other.low, self.low * other.high, self.high * other.low, self.high * other.high];
                corners.into_iter().skip(1).fold(Self::point(corners[0]), |all, v| all.union(Self::point(v)))
            }
        }
    }
}
