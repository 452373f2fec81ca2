//! The error of this crate, graded by what the caller does next.

use std::fmt;

/// What the caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The data or the request is wrong: tell the user (overflow, division by zero).
    Invalid,
    /// This kernel or device cannot do it: choose another.
    Unsupported,
    /// Memory, slots or device buffers are used up: spill, or re-run on the CPU.
    Exhausted,
    /// The device went away: re-run on the CPU.
    Closed,
    /// A broken invariant of Millstream itself.
    Bug,
}

/// An error of a kernel.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// The result of a kernel.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with a message for the user.
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string() }
    }

    /// Wrong data or request.
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Not covered here.
    pub fn unsupported(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// A broken invariant.
    pub fn bug(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Bug, message)
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}
