//! Streams: the same plan, run once an epoch, between durable checkpoints.
//!
//! ```text
//! source    replayable splits of rows                     (trait)
//! sink      rows that readers see once, when their checkpoint is true or their epoch ends (traits)
//! operator  what stands between: windows, functions of batches
//! watermark which event times are complete, and who holds them back
//! log       manifests and state in an object store: one line of history, fenced by generation
//! local     a folder as a store that forces what it writes to disk
//! driver    epochs, one step at a time or on and on
//! clock     time by argument
//! ```
//!
//! Invariants: a manifest is put once and never changed; it is the only thing that makes a checkpoint true; a
//! driver that finds a newer generation in the log stops; an operator never asks whether its input ends.

mod clock;
mod driver;
mod error;
mod local;
mod log;
mod metrics;
mod operator;
mod sink;
mod source;
mod watermark;

pub use clock::{Clock, SystemClock, VirtualClock};
pub use driver::{Driver, DriverOptions, Input, Job, Progress, Restart, Restarts, Side, Step, run_restarting};
pub use error::{Error, ErrorKind, Result};
pub use local::LocalStore;
pub use log::{Log, Manifest, SplitPosition};
pub use metrics::{Metrics, OperatorMetrics, SplitMetrics};
pub use operator::{MapOperator, Operator, OperatorState, Rows, SplitOperator, StateRows, WindowOperator};
pub use sink::{Attempt, Committer, Delivery, Sink};
pub use source::{Fetched, Source, SplitOrder};
pub use watermark::{EventTime, MarkOf, Marks};
