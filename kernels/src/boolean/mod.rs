//! AND, OR, NOT, IS NULL, and CASE's choice between two registers.
//!
//! Contract: SQL's three-valued logic (false AND null = false, true OR null = true). Bits.

mod cpu;
pub mod reference;

pub use cpu::{is_null, logic, not, select};
pub(crate) use cpu::{is_true, validity};

#[cfg(test)]
mod tests;
