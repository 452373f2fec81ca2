//! Tables to and from Polars, and Polars as an oracle of queries.

mod memory;
mod oracle;
mod queries;
mod random;
mod types;

/// What `future` gives, in a runtime of its own.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}
