//! Millstream: one columnar engine for bounded datasets and unbounded streams, on SIMD CPU kernels and
//! wgpu compute shaders.
//!
//! [`Session`] answers SQL over files and Arrow batches; [`accelerate`] adds the same stages to any
//! program on DataFusion. A query is SQL or an expression over [`Table`]s:
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use millstream::{JoinKind, asc, col, lit, sum};
//! let session = millstream::Session::new()?;
//! session.sql("create table orders as select * from (values (1, 10), (1, 5), (2, 7)) t(customer, price)").await?;
//! session.sql("create table names as select * from (values (1, 'Ada'), (2, 'Bob')) t(customer, name)").await?;
//! let spent = session.table("orders")?.filter(col("price").gt(lit(5)))?.group_by([col("customer")], [sum(col("price")).alias("spent")])?;
//! let rows = spent.join(session.table("names")?, ["customer"], JoinKind::Inner)?.sort([asc(col("name"))])?.collect().await?;
//! assert_eq!(rows.iter().map(|b| b.num_rows()).sum::<usize>(), 2);
//! # Ok::<(), millstream::Error>(()) }).unwrap();
//! ```
//!
//! or, in SQL:
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
mod calibrate;
mod devices;
mod error;
mod expressions;
mod files;
#[cfg(feature = "polars")]
mod frames;
pub mod interop;
mod machine;
mod once;
mod profile;
mod rows;
mod session;
mod stores;
mod stream;
mod table;

pub use accelerate::accelerate;
pub use cache::Cached;
pub use calibrate::{Calibration, Check, Checked, Regret, calibrate, check, memory_read_rate};
pub use datafusion::functions_aggregate::expr_fn::{avg, count, count_distinct, max, median, min, stddev, sum};
pub use datafusion::logical_expr::conditional_expressions::CaseBuilder;
pub use datafusion::logical_expr::{Expr, SortExpr, cast, ident, lit, when};
pub use datafusion::prelude::col;
pub use devices::{AdapterInfo, Devices, devices};
pub use error::{Error, ErrorKind, Result};
pub use expressions::{call, data_type};
pub use files::{ReadOptions, WriteOptions};
pub use machine::{load_profile, newest_profile, store_profile};
/// The measured facts of a machine, as JSON on disk.
///
/// ```
/// assert!(millstream::MachineProfile::parse("{}").is_err());
/// ```
pub use millstream_cost::Profile as MachineProfile;
pub use millstream_plan::Preference;
/// Polars, of the version whose frames [`Table::to_polars`] gives and [`Session::read_polars`] takes.
///
/// ```
/// use millstream::polars::prelude::{DataFrame, df};
/// let frame: DataFrame = df!["a" => [1, 2]].unwrap();
/// assert_eq!(frame.height(), 2);
/// ```
#[cfg(feature = "polars")]
pub use polars;
pub use profile::{GpuReport, Profile, StageReport, StockReport, profile_of, stage_of};
pub use rows::Rows;
pub use session::{Options, Session};
pub use stores::StoreOptions;
pub use stream::{DataStream, KeyedStream, Window, WindowedStream, streams};
pub use table::{JoinKind, Table, run};

/// Smallest first, nulls last: a key of [`Table::sort`].
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use millstream::{asc, col};
/// let table = millstream::Session::new()?.sql("select * from (values (2), (1)) t(a)").await?;
/// assert_eq!(table.sort([asc(col("a"))])?.limit(1)?.collect().await?[0].num_rows(), 1);
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
pub fn asc(key: Expr) -> SortExpr {
    key.sort(true, false)
}

/// Largest first, nulls first: a key of [`Table::sort`].
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use millstream::{col, desc};
/// let table = millstream::Session::new()?.sql("select * from (values (2), (1)) t(a)").await?;
/// assert_eq!(table.sort([desc(col("a"))])?.limit(1)?.collect().await?[0].num_rows(), 1);
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
pub fn desc(key: Expr) -> SortExpr {
    key.sort(false, true)
}

/// The Rust of the guides, run with the other examples.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../docs/guide/files.md")]
    struct GuideToFiles;
    #[doc = include_str!("../../../docs/guide/library.md")]
    struct GuideToTheLibrary;
    #[doc = include_str!("../../../docs/guide/streams.md")]
    struct GuideToStreams;
    #[doc = include_str!("../../../docs/reference/errors.md")]
    struct Errors;
}
