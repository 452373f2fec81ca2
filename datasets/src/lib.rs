//! Seeded generators of benchmark data: the same arguments give the same rows, and the same bytes, on every machine.
//!
//! Each suite is one module with the same few functions: the list of its tables, the batches of one
//! table, and `write`, which fills a folder with one file a table. A folder counts as complete only
//! when its marker says so, so a caller never reads half a data set:
//!
//! ```no_run
//! use millstream_datasets::{Format, tpch};
//!
//! let dir = std::path::Path::new("data/tpch/sf0.1");
//! if !tpch::is_complete(dir, 0.1) {
//!     tpch::write_parquet(dir, 0.1, &mut |_progress| {})?;
//! }
//! let lineitem = tpch::file(dir, "lineitem", Format::Parquet);
//! # Ok::<(), millstream_datasets::Error>(())
//! ```

mod dataset;
mod error;
pub mod generated;
pub mod h2o;
mod marker;
pub mod nexmark;
mod random;
mod ranges;
pub mod sensors;
mod sink;
pub mod ssb;
pub mod tpch;
mod write;

pub use dataset::Dataset;
pub use error::{Error, Result};
pub use sink::Format;
pub use write::Progress;

#[cfg(test)]
mod tests;
