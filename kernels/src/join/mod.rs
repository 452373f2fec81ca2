//! Join tables: rows of a build side found by key.
//!
//! Contract: a probe yields, for each probe row in order, the build rows with an equal key in build
//! order. Null keys match nothing (SQL's `=`), or one another if the table says so. Keys become one
//! integer by their measured ranges: a small range is a directly addressed array, any other a salted
//! open addressing table; keys that do not fit 64 bits go through a group table. Same pairs from all.

pub mod reference;
mod table;

pub use table::{ByCode, JoinTable, ProbeScratch, array_entries};

#[cfg(test)]
mod tests;
