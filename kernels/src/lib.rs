//! Pure compute on columns: the kernels of Millstream.
//!
//! A kernel knows no plan, no time, no I/O and no schema names. Each folder is one kernel:
//! `mod.rs` states the contract, `reference.rs` is the oracle (a loop over `Option<T>`), `cpu.rs` the
//! vectorised twin, and [`gpu`] runs the same [`program`] on a wgpu device.
//!
//! ```text
//! program::Instr   what to do, per row, over registers       (plain data)
//! vector::Vector   one register: at most CHUNK rows           (cpu)
//! group, join      tables that outlive a chunk                (cpu)
//! gpu              the same instructions as one WGSL kernel   (device)
//! ```

pub mod arith;
pub mod bins;
pub mod boolean;
pub mod cast;
pub mod compare;
pub mod cpu;
pub mod decode;
mod error;
pub mod filter;
pub mod gather;
pub mod gpu;
pub mod group;
pub mod hash;
pub mod join;
pub mod narrow;
pub mod program;
pub mod sort;
#[cfg(test)]
pub(crate) mod testing;
pub mod text;
pub mod value;
pub mod vector;

pub use error::{Error, ErrorKind, Result};
pub use narrow::Narrow;
pub use value::Value;
pub use vector::{Buf, Dictionary, Strings, Values, Vector};

/// Rows of one chunk: the unit a program runs over, small enough that its registers stay in cache.
pub const CHUNK_ROWS: usize = 2048;
