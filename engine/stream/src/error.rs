//! The error of this crate, graded by what the caller does next.

/// What the caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Something outside failed: restore and go on.
    Retry,
    /// Wrong data or request: tell the user.
    Invalid,
    /// Not covered here.
    Unsupported,
    /// Memory or disk is used up.
    Exhausted,
    /// Stored state cannot be read.
    Corrupt,
    /// Cancelled, or fenced by a newer driver.
    Closed,
    /// A broken invariant of Millstream itself.
    Bug,
}

/// An error of a stream.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with a message for the user.
    pub fn new(kind: ErrorKind, message: impl std::fmt::Display) -> Self {
        Self { kind, message: message.to_string(), source: None }
    }

    /// Something outside failed while `doing`.
    pub fn outside(doing: impl std::fmt::Display, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source = source.into();
        Self { kind: ErrorKind::Retry, message: format!("{doing}: {source}"), source: Some(source) }
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<millstream_stage::Error> for Error {
    fn from(e: millstream_stage::Error) -> Self {
        use millstream_stage::ErrorKind as K;
        let kind = match e.kind() {
            K::Invalid => ErrorKind::Invalid,
            K::Unsupported => ErrorKind::Unsupported,
            K::Exhausted => ErrorKind::Exhausted,
            K::Corrupt => ErrorKind::Corrupt,
            K::Closed => ErrorKind::Closed,
            K::Bug => ErrorKind::Bug,
        };
        Self { kind, message: e.to_string(), source: Some(Box::new(e)) }
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(e: arrow::error::ArrowError) -> Self {
        Self { kind: ErrorKind::Invalid, message: e.to_string(), source: Some(Box::new(e)) }
    }
}
