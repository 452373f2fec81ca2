//! Group tables: distinct keys to dense group ids, and what is computed of each group.
//!
//! Contract: ids are dense, in order of first appearance, and never change; null keys are equal to
//! one another; floats by their canonical form. A table over small key ranges is a directly addressed
//! array, any other one salted open addressing; both give the same ids.
//! Law: merging the tables of parts equals the table of the whole (as a set of groups).

mod apart;
mod intern;
pub mod reference;
mod stable;
mod state;
mod table;
mod top;

pub use apart::apart;
pub use intern::Interner;
pub use stable::stable_hash;
pub(crate) use state::ordered;
pub use state::{Raw, State, add_present};
pub(crate) use table::prefetch;
pub use table::{Groups, KeyType, direct_slots};
pub use top::Top;

#[cfg(test)]
mod tests;
