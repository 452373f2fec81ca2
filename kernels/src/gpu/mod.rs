//! The device twin of a whole program: the same instructions as one generated WGSL kernel, ending in
//! a sink that groups by direct address, or in one that selects the rows that survive. This folder alone
//! copies between host and device.
//!
//! Contract. Exactness: `Bits`. Either the answer is the CPU's, or there is an error and no answer:
//! `Unsupported` for what the device does not do (floats, strings, or a register that the measured
//! ranges do not prove to fit 64 bits), `Exhausted` when its memory is used up, `Closed` when it went
//! away or the query was cancelled. The caller then runs the same program on the CPU.
//! Nulls as in SQL: three-valued logic, a null argument counts for nothing, a null key is a group of
//! its own. Order: groups come by their index, selected rows in the order of the input.
//!
//! ```text
//! Device::open ─ prepare(program, tables) ─> GroupRun ─ push(columns)* ─ finish ─> GroupPartials
//!              ├ prepare_rows(..) ─────────> RowRun ─ select(columns) ─> SelectedRows
//!              └ sort(keys, fetch) ────────> rows in order
//!    adapter.rs   which device                 run.rs       chunks: fill, send, land, drain
//!    device.rs    the handle: jobs in,         pack.rs      columns into a chunk, and their ranges
//!                 replies out                  tables.rs    join tables into a few buffers
//!    worker.rs    the thread that owns wgpu    range.rs     intervals through arithmetic
//!    dispatch.rs  what it does for a run       lower.rs     instructions into WGSL, by interval
//!    pool.rs      buffers, used again          clock.rs     times by the device's own clock
//!                                              sink.rs      cells of a group, and how rows reach them
//!                                              select.rs    rows that survive, and what comes back of them
//!                                              rows.rs      the run of a program that selects rows
//!    resident.rs  columns that stay there      index.rs     join tables by hash
//!                                              kernel.rs    the pieces composed into one module
//!                                              partials.rs  groups as they come home
//!                                              sort.rs      rows in order, or the first of them
//! ```
//!
//! Every wgpu call is made by one thread per device (`worker.rs`); a panic there closes the device and
//! nothing else. Nothing is created before [`Device::open`] or [`adapters`] is called.

mod adapter;
mod clock;
mod device;
mod dispatch;
mod index;
mod kernel;
mod lower;
mod pack;
mod partials;
mod pool;
mod range;
mod resident;
mod rows;
mod run;
mod select;
mod sink;
mod sort;
mod tables;
mod worker;

#[cfg(test)]
mod tests;

pub use adapter::{AdapterInfo, CapabilityClass, adapters};
pub use device::{Device, DeviceMemory, DeviceObjects, Fault};
pub use partials::{AggregatePartials, GroupPartials, Timings};
pub use resident::{KeptColumn, Piece, TableId};
pub use rows::RowRun;
pub use run::{GroupRun, RunOptions, Turn};
pub use select::{Selected, SelectedRows, SelectedValues};
pub use sort::SortOptions;

use crate::program::{Aggregate, Instr, Reg, Type};
use crate::value::Value;
use std::sync::Arc;

/// A program and its sink, as the device runs it: groups, or the rows that survive. Plain data.
#[derive(Clone, Debug)]
pub struct DeviceProgram {
    /// Types of the input columns, which are registers `0..inputs.len()`.
    pub inputs: Vec<Type>,
    /// What happens to each row.
    pub instrs: Vec<Instr>,
    /// The literals of `Instr::Const`.
    pub constants: Vec<Value>,
    /// Group keys: a register whose values are codes in `0..cardinality`, most significant first.
    /// Where the register can be null, code `cardinality - 1` means null and no value may have it.
    /// No keys: one group.
    pub keys: Vec<(Reg, u32)>,
    /// What to compute of each group.
    pub aggregates: Vec<Aggregate>,
    /// Of a program that selects rows: the registers whose values come back, row ids of a probe as numbers.
    pub outputs: Vec<Reg>,
    /// Of a program that selects rows: booleans that say whether a code is in a set that comes with each push.
    pub sets: Vec<CodeSet>,
}

/// A boolean register: whether a code, of a dictionary for instance, is in a set. Null where the code is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeSet {
    /// The register of the code, an `I32` that is not negative.
    pub code: Reg,
    /// The boolean.
    pub out: Reg,
}

/// The values of a column: on the host, or already on the device.
#[derive(Clone, Copy, Debug)]
pub enum HostValues<'a> {
    /// 0 or 1 a row.
    Bool(&'a [u8]),
    /// 32-bit integers, dates, dictionary codes.
    I32(&'a [i32]),
    /// 64-bit integers, decimals whose values fit.
    I64(&'a [i64]),
    /// Values, and which are null, that stayed on the device ([`Device::kept`]).
    Kept(&'a Arc<KeptColumn>),
}

impl HostValues<'_> {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            HostValues::Bool(v) => v.len(),
            HostValues::I32(v) => v.len(),
            HostValues::I64(v) => v.len(),
            HostValues::Kept(column) => column.rows,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A column on the host. Where a row is null its value is arbitrary.
#[derive(Clone, Copy, Debug)]
pub struct HostColumn<'a> {
    /// One value a row.
    pub values: HostValues<'a>,
    /// 1 = valid, 0 = null, one byte a row; absent when nothing is null.
    pub valid: Option<&'a [u8]>,
    /// What these rows are: given, and if there is room, they stay on the device.
    pub piece: Option<Piece>,
}

impl<'a> HostColumn<'a> {
    /// A column without nulls.
    pub fn new(values: HostValues<'a>) -> Self {
        Self { values, valid: None, piece: None }
    }
}

/// How a join table finds the first row of a key, as row id + 1.
#[derive(Clone, Debug)]
pub enum HostIndex<'a> {
    /// At the key's distance; 0 where no row has it.
    Array(&'a [u32]),
    /// By hash: the device makes a table of it.
    Hash {
        /// The distance of each row's key; arbitrary where the row is not found.
        codes: &'a [u64],
        /// The first row of each key.
        heads: Vec<u32>,
    },
}

/// A join table on the host. A key is told by its distance from `min_key`, modulo 2^64.
#[derive(Clone, Debug)]
pub struct HostTable<'a> {
    /// What keys are counted from.
    pub min_key: i64,
    /// How the rows of a key are found. Rows with a null key are not.
    pub index: HostIndex<'a>,
    /// The columns that `Instr::Gather` reads, by row id.
    pub columns: Vec<HostColumn<'a>>,
}
