//! What a stage costs on a machine: [`Work`] x [`Profile`] -> nanoseconds. Plain data and arithmetic, nothing else.
//!
//! ```text
//! kernel    the kinds of work whose cost a row is measured
//! curve     nanoseconds a row by the bytes of the table that is read at random
//! profile   a machine, measured or (for tests and EXPLAIN) put together from data sheets; JSON
//! work      what a stage would do: steps over rows, bytes that are moved
//! price     the model: the same work on the CPU, on the device, and in the CPU's own variants
//! ```
//!
//! Invariants: a price follows from its arguments alone, grows with every row and byte, and is finite for a
//! [`Profile::parse`]d profile. Who chooses is the planner.
//!
//! ```
//! use millstream_cost::{Kernel, Profile, Step, Work, cpu};
//! # let text = include_str!("../profiles/h100.json");
//! let machine = Profile::parse(text)?;
//! let work = Work { rows: 1e6, read_bytes: 8e6, steps: vec![Step::new(Kernel::Map, 1e6)], ..Work::default() };
//! assert!(cpu(&work, &machine.cpu, 2).total_ns() > 0.0);
//! # Ok::<(), millstream_cost::Error>(())
//! ```

mod curve;
mod kernel;
mod price;
mod profile;
mod work;

pub use curve::Curve;
pub use kernel::Kernel;
pub use price::{CpuPrice, DevicePrice, cheapest_threads, cpu, device, group_table};
pub use profile::{Cpu, Error, Gpu, Profile, VERSION};
pub use work::{DeviceWork, Step, Work};

#[cfg(test)]
mod tests;
