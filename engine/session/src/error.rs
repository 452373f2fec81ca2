//! The error of the public API, graded by what the caller does next.

use crate::stores;
use datafusion::error::DataFusionError;
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::task::JoinError;

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
    /// A server did not answer: the same may succeed later.
    Retry,
    /// A file is damaged or cut off.
    Corrupt,
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
#[derive(Clone, Debug, thiserror::Error)]
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

/// On its way through DataFusion; it comes back as it was.
impl From<Error> for DataFusionError {
    fn from(e: Error) -> Self {
        DataFusionError::External(Box::new(e))
    }
}

impl From<DataFusionError> for Error {
    fn from(e: DataFusionError) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&e);
        while let Some(one) = cause {
            if let Some(ours) = one.downcast_ref::<Error>() {
                return ours.clone();
            }
            if let Some(store) = one.downcast_ref::<object_store::Error>() {
                let (kind, text) = stores::explain(store);
                return Self::new(kind, text);
            }
            if let Some(stage) = one.downcast_ref::<millstream_stage::Error>().filter(|e| e.kind() == millstream_stage::ErrorKind::Corrupt)
            {
                return Self::new(ErrorKind::Corrupt, stage);
            }
            // An I/O error does not count what it holds among its sources.
            let held = one.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            cause = held.map(|e| e as &(dyn std::error::Error + 'static)).or_else(|| one.source());
        }
        // Which rule noticed is no news to the user.
        let e = match e {
            DataFusionError::Context(text, inner) if text.starts_with("Optimizer rule") => *inner,
            e => e,
        };
        let kind = match e.find_root() {
            DataFusionError::ResourcesExhausted(_) => ErrorKind::Exhausted,
            DataFusionError::NotImplemented(_) => ErrorKind::Unsupported,
            DataFusionError::Internal(_) => ErrorKind::Bug,
            DataFusionError::ExecutionJoin(task) if task.is_panic() => ErrorKind::Bug,
            DataFusionError::External(e) if is_panic(e.as_ref()) => ErrorKind::Bug,
            _ => ErrorKind::Invalid,
        };
        Self::new(kind, ours(&e.strip_backtrace()))
    }
}

/// Whether a task of DataFusion ended in a panic; a repartition shares one such error among its outputs.
fn is_panic(e: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let task = e.downcast_ref::<JoinError>().or_else(|| e.downcast_ref::<Arc<JoinError>>().map(Arc::as_ref));
    task.is_some_and(JoinError::is_panic)
}

/// What DataFusion adds to its internal errors, up to the address of its issue tracker.
const THEIR_PLEA: &str = "\nThis issue was likely caused by a bug in DataFusion's code.";
const THEIR_TRACKER: &str = "https://github.com/apache/datafusion/issues";
const OUR_PLEA: &str = "\nThis is a defect of Millstream: please report it with the query.";

/// A message without the request to report it to DataFusion, wherever in it: our users meet Millstream.
fn ours(message: &str) -> String {
    let Some((before, plea)) = message.split_once(THEIR_PLEA) else { return message.to_string() };
    let after = plea.split_once(THEIR_TRACKER).map_or("", |(_, after)| after);
    format!("{before}{OUR_PLEA}{}", ours(after))
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

impl From<Error> for millstream_stream::Error {
    fn from(e: Error) -> Self {
        use millstream_stream::ErrorKind as K;
        let kind = match e.kind() {
            ErrorKind::Invalid => K::Invalid,
            ErrorKind::Unsupported => K::Unsupported,
            ErrorKind::Exhausted => K::Exhausted,
            ErrorKind::Retry => K::Retry,
            ErrorKind::Corrupt => K::Corrupt,
            ErrorKind::Bug => K::Bug,
        };
        Self::new(kind, e)
    }
}

impl From<millstream_stream::Error> for Error {
    fn from(e: millstream_stream::Error) -> Self {
        use millstream_stream::ErrorKind as K;
        let kind = match e.kind() {
            K::Invalid => ErrorKind::Invalid,
            K::Unsupported => ErrorKind::Unsupported,
            K::Exhausted => ErrorKind::Exhausted,
            // Another driver runs the job, or this one has failed: opening it again goes on.
            K::Retry | K::Closed => ErrorKind::Retry,
            K::Corrupt => ErrorKind::Corrupt,
            K::Bug => ErrorKind::Bug,
        };
        Self::new(kind, e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_internal_error_asks_to_be_reported_to_millstream() {
        let internal = || DataFusionError::Internal("the plan has no root".into());
        assert!(
            internal().to_string().contains(THEIR_PLEA) && internal().to_string().ends_with(THEIR_TRACKER),
            "DataFusion's words changed"
        );
        for e in [internal(), internal().context("while planning"), DataFusionError::Shared(internal().into())] {
            let ours = Error::from(e);
            assert_eq!(ours.kind(), ErrorKind::Bug);
            let text = ours.to_string();
            assert!(text.contains("the plan has no root") && text.contains("defect of Millstream"), "{text}");
            assert!(!text.contains("DataFusion's code") && !text.contains("github.com/apache"), "{text}");
        }
    }

    #[test]
    fn every_plea_goes_and_what_stands_after_it_stays() {
        let plea = format!("{THEIR_PLEA} Please help us: {THEIR_TRACKER}");
        assert_eq!(ours(&format!("a.{plea} caused by b.{plea}")), format!("a.{OUR_PLEA} caused by b.{OUR_PLEA}"));
        assert_eq!(ours("column a: not found"), "column a: not found");
    }
}
