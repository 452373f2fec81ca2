//! The error of this crate: each variant says what the caller does about it.

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an answer could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is wrong, a file that does not exist for instance: change it.
    #[error("{0}")]
    Invalid(String),
    /// A stored answer is damaged: make it again (`benches/answers/make`).
    #[error("{0}; make it again with benches/answers/make")]
    Corrupt(String),
}
