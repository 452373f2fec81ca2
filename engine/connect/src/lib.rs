//! Sources and sinks, one file or folder each: leaves that know the traits of `millstream-stream` and nothing else
//! of the engine.

mod blackhole;
mod files;
mod generated;
mod memory;

pub use blackhole::BlackholeSink;
pub use files::{FileFormat, FilesSink, FilesSource};
pub use generated::GeneratedSource;
pub use memory::{MemorySink, MemorySource, MemoryTable};

/// What there is, for help texts and error messages.
pub const CONNECTORS: &[&str] = &["blackhole", "files", "generated", "memory"];
