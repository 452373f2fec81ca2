//! Millstream: one columnar engine for bounded datasets and unbounded streams, on SIMD CPU kernels and
//! wgpu compute shaders.
//!
//! [`Session`] answers SQL over files and Arrow batches; [`accelerate`] adds the same stages to any
//! program on DataFusion.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let session = millstream::Session::new()?;
//! let rows = session.sql("select 1 + 1 as two").await?.collect().await?;
//! assert_eq!(rows[0].num_rows(), 1);
//! # Ok::<(), millstream::Error>(()) }).unwrap();
//! ```

mod accelerate;
mod cache;
mod devices;
mod error;
mod session;
mod table;

pub use accelerate::accelerate;
pub use cache::Cached;
pub use devices::{AdapterInfo, Devices, devices};
pub use error::{Error, ErrorKind, Result};
pub use millstream_plan::Preference;
pub use session::{Options, Session};
pub use table::{Table, stage_of};
