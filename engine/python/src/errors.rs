//! Errors of the engine as exceptions: one class for each kind, named after what the caller can do.

use millstream::{Error, ErrorKind};
use pyo3::exceptions::PyException;
use pyo3::{PyErr, PyResult, create_exception};
use std::panic::{AssertUnwindSafe, catch_unwind};

create_exception!(millstream, MillstreamError, PyException, "Whatever Millstream raises.");
create_exception!(millstream, InvalidError, MillstreamError, "The query, the data or an option is wrong.");
create_exception!(millstream, UnsupportedError, MillstreamError, "Millstream does not do this.");
create_exception!(millstream, ExhaustedError, MillstreamError, "Memory is used up: raise the limit or ask for less.");
create_exception!(millstream, RetryError, MillstreamError, "A server did not answer: the same may succeed later.");
create_exception!(millstream, CorruptError, MillstreamError, "A file is damaged or cut off.");
create_exception!(millstream, BugError, MillstreamError, "A defect of Millstream: please report it.");

/// The exception of an error.
pub fn exception(e: Error) -> PyErr {
    let message = e.to_string();
    match e.kind() {
        ErrorKind::Invalid => InvalidError::new_err(message),
        ErrorKind::Unsupported => UnsupportedError::new_err(message),
        ErrorKind::Exhausted => ExhaustedError::new_err(message),
        ErrorKind::Retry => RetryError::new_err(message),
        ErrorKind::Corrupt => CorruptError::new_err(message),
        ErrorKind::Bug => BugError::new_err(message),
        _ => MillstreamError::new_err(message),
    }
}

/// Wrong use of the package, as an exception.
pub fn invalid(message: impl std::fmt::Display) -> PyErr {
    exception(Error::new(ErrorKind::Invalid, message))
}

/// Why waiting for the engine ended without a result. Made and read without the interpreter's lock.
pub enum Halt {
    /// The engine says no.
    Failed(Error),
    /// What a signal's handler raised.
    Raised(PyErr),
}

impl Halt {
    /// What became of a panic.
    pub fn panicked(panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::Failed(Error::new(ErrorKind::Bug, format!("panic: {}", text.unwrap_or("no message"))))
    }
}

impl From<Error> for Halt {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

impl From<Halt> for PyErr {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Failed(e) => exception(e),
            Halt::Raised(e) => e,
        }
    }
}

/// Does a piece of work that waits for nothing; a panic in it becomes an exception.
pub fn caught<T>(work: impl FnOnce() -> millstream::Result<T>) -> PyResult<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(exception),
        Err(panic) => Err(Halt::panicked(panic.as_ref()).into()),
    }
}
