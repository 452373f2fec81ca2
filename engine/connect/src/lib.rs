//! Sources and sinks, one file or folder each: leaves that know the traits of `millstream-stream` and nothing else
//! of the engine.

mod blackhole;
mod files;
mod folder;
mod generated;
mod memory;
mod print;
mod upsert;

pub use blackhole::BlackholeSink;
pub use files::{FileFormat, FilesSink, FilesSource};
pub use generated::GeneratedSource;
pub use memory::{MemorySink, MemorySource, MemoryTable};
pub use print::PrintSink;
pub use upsert::{UpsertSink, UpsertTable};

/// What there is, for help texts and error messages.
pub const CONNECTORS: &[&str] = &["blackhole", "files", "generated", "memory", "nexmark", "print", "upsert"];
