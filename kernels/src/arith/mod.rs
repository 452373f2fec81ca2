//! Exact arithmetic on integers and decimals, and IEEE arithmetic on floats.
//!
//! Contract: `n` rows, either side may be constant, null if either side is null. What stands under a
//! null never raises. `Decimal`: exact; 64-bit registers whose measured range proves that the result
//! fits stay at 64 bits, all else goes through 128; overflow of 128 bits is an error. `I32`, `I64`:
//! overflow is an error if `checked`, else it wraps. Exactness: bits.

mod cpu;
pub mod reference;

pub use cpu::{arith, range_i64};

#[cfg(test)]
mod tests;
