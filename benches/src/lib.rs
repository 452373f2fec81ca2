//! Benchmark suites as definitions: queries, how their results are ordered, and their right answers.
//!
//! The answers come from another engine (DuckDB) and are embedded for small scales, long ones as a [`Digest`];
//! [`verify()`] compares a result with one. It is the only comparator of results here and carries its negative
//! controls as tests.
//!
//! ```
//! let suite = millstream_benches::suite("tpch").expect("it exists");
//! let query = suite.query("q6").expect("it exists");
//! let answer = millstream_benches::answer(suite, 0.01, query)?.expect("answers of scale 0.01 are embedded");
//! let millstream_benches::Expected::Rows(rows) = &answer else { panic!("q6 has one row, stored as it is") };
//! // Any engine's result in place of the answer's own rows:
//! millstream_benches::verify(query, &answer, rows.batches()).expect("equal to itself");
//! # Ok::<(), millstream_benches::Error>(())
//! ```
//!
//! A new suite is a folder: `suites/<name>/` with `suite.json` and one `.sql` a query, and `answers/<name>/sf<scale>/`
//! written by `answers/make`. `build.rs` finds them.

mod answer;
mod error;
mod suite;
mod verify;
mod windows;

pub use answer::{Answer, Expected, answer};
pub use error::{Error, Result};
pub use suite::{Query, SortKey, Suite, suite, suites};
pub use verify::{Digest, Mismatch, Verifier, digest_of_file, read_result, verify, verify_file};
pub use windows::{WINDOW_QUERIES, WindowCheck, WindowQuery, Windowed, Work};
