//! WGSL compute shaders as data: sources, the layouts they share with the host, and their validation.
//!
//! Invariants. No shader writes a constant, binding or uniform that `layout.rs` does not generate.
//! Every file in `wgsl/` is in [`SHADERS`], and the build fails if one of them does not validate.
//!
//! ```text
//! layout::declarations()    constants, uniform, bindings      generated from Rust
//! INT64_PAIR | INT64_NATIVE 64-bit arithmetic, one API        by what the device has
//! CELLS, MERGE, SETTLE      exact accumulators of groups      u32 atomics only
//! GROUP_LOCAL | GROUP_GLOBAL  the loop over the rows          calls code generated per program
//! HASH, INSERT              join tables by hash           slots claimed by compare and exchange
//! COUNTS                    counts to places                  reduce, then scan
//! RADIX                     rows in order, by one digit       stable, ranks from bitmaps
//! NARROW, KEEP              the first rows only               radix select, compaction
//! SELECT                    rows that survive, in order       bitmap, scan, compaction; calls generated code
//! ```

pub mod layout;
pub mod portable;
mod table;

pub use table::{
    CELLS, COUNTS, GROUP_GLOBAL, GROUP_LOCAL, HASH, INSERT, INT64_NATIVE, INT64_PAIR, KEEP, MERGE, NARROW, Needs, RADIX, SELECT, SETTLE,
    SHADERS, Shader,
};

#[cfg(test)]
mod tests;
