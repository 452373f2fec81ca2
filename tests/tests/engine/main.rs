//! The engine as a whole: every suite here links DataFusion once.

mod bad_input;
mod corpus;
mod decode;
mod foreign;
mod gpu;
mod matrix;
mod resident;
mod tpch;
mod wire;
mod world;
