//! The error of this crate, graded by what the caller does next.

use datafusion::error::DataFusionError;

/// What the caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Wrong data or request: tell the user.
    Invalid,
    /// Not covered here: another operator or device must do it.
    Unsupported,
    /// Memory or slots are used up.
    Exhausted,
    /// A message or a file is damaged.
    Corrupt,
    /// The query was cancelled or the device went away.
    Closed,
    /// A broken invariant of Millstream itself.
    Bug,
}

/// An error of a stage.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    /// What DataFusion said, where it was DataFusion.
    #[source]
    source: Option<DataFusionError>,
}

/// The result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with a message for the user.
    pub fn new(kind: ErrorKind, message: impl std::fmt::Display) -> Self {
        Self { kind, message: message.to_string(), source: None }
    }

    /// Not covered here.
    pub fn unsupported(message: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A broken invariant.
    pub fn bug(message: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::Bug, message)
    }

    /// The query was cancelled.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Closed, "query cancelled")
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<millstream_kernels::Error> for Error {
    fn from(e: millstream_kernels::Error) -> Self {
        use millstream_kernels::ErrorKind as K;
        let kind = match e.kind() {
            K::Invalid => ErrorKind::Invalid,
            K::Unsupported => ErrorKind::Unsupported,
            K::Exhausted => ErrorKind::Exhausted,
            K::Closed => ErrorKind::Closed,
            K::Bug => ErrorKind::Bug,
        };
        Self::new(kind, e)
    }
}

impl From<DataFusionError> for Error {
    fn from(e: DataFusionError) -> Self {
        let kind = match &e {
            DataFusionError::ResourcesExhausted(_) => ErrorKind::Exhausted,
            DataFusionError::NotImplemented(_) => ErrorKind::Unsupported,
            DataFusionError::Internal(_) => ErrorKind::Bug,
            _ => ErrorKind::Invalid,
        };
        Self { kind, message: e.to_string(), source: Some(e) }
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(e: arrow::error::ArrowError) -> Self {
        DataFusionError::from(e).into()
    }
}

impl From<Error> for DataFusionError {
    fn from(e: Error) -> Self {
        match (e.source, e.kind) {
            (Some(source), _) => source,
            (None, ErrorKind::Exhausted) => DataFusionError::ResourcesExhausted(e.message),
            (None, ErrorKind::Unsupported) => DataFusionError::NotImplemented(e.message),
            (None, ErrorKind::Bug) => DataFusionError::Internal(e.message),
            // DataFusion has no such kind.
            (None, ErrorKind::Corrupt) => DataFusionError::External(Box::new(Error { source: None, ..e })),
            (None, _) => DataFusionError::Execution(e.message),
        }
    }
}
