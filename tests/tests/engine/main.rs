//! The engine as a whole: every suite here links DataFusion once.

mod bad_input;
mod cancel;
mod corpus;
mod foreign;
mod library;
mod matrix;
mod overflow;
mod panics;
mod service;
mod tpch;
mod world;
