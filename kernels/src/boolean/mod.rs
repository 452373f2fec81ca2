//! AND, OR, NOT, IS NULL, and CASE's choice between two registers.
//!
//! Contract: SQL's three-valued logic (false AND null = false, true OR null = true). Bits.

mod cpu;
pub mod reference;

pub(crate) use cpu::validity;
pub use cpu::{is_null, is_true, logic, not, select};

#[cfg(test)]
mod tests;
