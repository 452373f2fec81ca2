//! The error of the public API, graded by what the caller does next.

use datafusion::error::DataFusionError;
use futures::FutureExt;
use std::panic::AssertUnwindSafe;

/// What the caller can do about an [`Error`].
///
/// ```
/// use millstream::{Error, ErrorKind};
/// assert_eq!(Error::new(ErrorKind::Unsupported, "not here").kind(), ErrorKind::Unsupported);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The query, the data or an option is wrong.
    Invalid,
    /// Millstream does not do this.
    Unsupported,
    /// Memory is used up: raise the limit or ask for less.
    Exhausted,
    /// A defect of Millstream: please report it.
    Bug,
}

/// An error of Millstream.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let session = millstream::Session::new().unwrap();
/// let error = session.sql("select nothing").await.unwrap_err();
/// assert_eq!(error.kind(), millstream::ErrorKind::Invalid);
/// # });
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// The result of the public API.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with a message for the user.
    ///
    /// ```
    /// use millstream::{Error, ErrorKind};
    /// assert_eq!(Error::new(ErrorKind::Invalid, "no such shop").to_string(), "no such shop");
    /// ```
    pub fn new(kind: ErrorKind, message: impl std::fmt::Display) -> Self {
        Self { kind, message: message.to_string() }
    }

    /// What became of a panic.
    pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::new(ErrorKind::Bug, format!("panic in a query: {}", text.unwrap_or("no message")))
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<DataFusionError> for Error {
    fn from(e: DataFusionError) -> Self {
        // Which rule noticed is no news to the user.
        let e = match e {
            DataFusionError::Context(text, inner) if text.starts_with("Optimizer rule") => *inner,
            e => e,
        };
        match e.find_root() {
            DataFusionError::ResourcesExhausted(_) => Self::new(ErrorKind::Exhausted, e.strip_backtrace()),
            DataFusionError::NotImplemented(_) => Self::new(ErrorKind::Unsupported, e.strip_backtrace()),
            // DataFusion's own text would send the user to DataFusion's issue tracker.
            DataFusionError::Internal(what) => Self::new(ErrorKind::Bug, format!("{what} (a defect: please report it)")),
            _ => Self::new(ErrorKind::Invalid, e.strip_backtrace()),
        }
    }
}

impl From<millstream_stage::Error> for Error {
    fn from(e: millstream_stage::Error) -> Self {
        DataFusionError::from(e).into()
    }
}

/// A panic of the engine or of a user's function becomes an error; the process lives.
pub(crate) async fn guarded<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| Err(Error::panicked(panic.as_ref())))
}
