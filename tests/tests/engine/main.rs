//! The engine as a whole: every suite here links DataFusion once.

#![expect(clippy::disallowed_methods, reason = "tests bound how long things take and read what CI asks for")]

mod aggregates;
mod bad_files;
mod bad_input;
mod bins;
mod cancel;
mod corpus;
mod decode;
mod files;
mod foreign;
mod gpu;
mod groups;
mod h2o;
mod join_order;
mod library;
mod matrix;
mod overflow;
mod panics;
mod placement;
mod plans;
mod reference;
mod relay;
mod resident;
mod service;
mod sets;
mod slt;
mod sort;
mod spill;
mod ssb;
mod stores;
mod streams;
mod top;
mod tpch;
mod wire;
mod world;
