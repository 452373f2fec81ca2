//! Stages: straight-line programs between two pipeline breakers, run on one device.
//!
//! ```text
//! program   what a stage does: instructions, sink, scope      (plain data)
//! lower     DataFusion expressions to instructions
//! convert   Arrow arrays <-> registers, narrow types
//! scan      the stage's own Parquet scan: fetch on tokio, decode on the pool
//! resident  tables held in memory in narrow types
//! run       one chunk: cpu, reference, gpu; sinks; the driver that feeds them
//! exec      StageExec, the node in DataFusion's plan
//! subquery  the scalar subqueries a program waits for, as a child of its stage
//! check     whether a stage from outside holds together
//! codec     one message a stage
//! ```
//!
//! Invariants: a stage node holds no state between runs; narrow types never reach a stock operator;
//! this crate never chooses a device, it is told.

pub mod check;
pub mod codec;
pub mod context;
pub mod convert;
mod error;
pub mod exec;
pub mod lower;
pub mod program;
pub mod resident;
pub mod run;
pub mod scan;
pub mod shared;
mod subquery;

pub use codec::StageCodec;
pub use context::{Cancel, EpochContext, Pool, Settings};
pub use error::{Error, ErrorKind, Result};
pub use exec::StageExec;
pub use millstream_kernels::{group::direct_slots, join::array_entries};
pub use program::{AggregateCall, Call, ConstantSource, Device, Placement, Prices, Program, Scope, Sink, SortKey};
pub use resident::{ResidentProvider, ResidentSource, ResidentTable};
pub use run::{Combine, KEY_GROUPS, ReduceStage, RowStage, StateRows, WINDOW_COLUMNS, WindowStage, Windows, deal, greatest_time};
