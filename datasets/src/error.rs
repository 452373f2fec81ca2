//! The error of this crate: each variant says what the caller does about it.

use std::io;
use std::path::Path;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a data set could not be generated or written. The variant is the caller's next step,
/// the message names the file or the argument at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Try again later, nothing is wrong with the request.
    #[error("{0}")]
    Retry(String),
    /// The request is wrong (an argument, or a path that cannot be written): change it.
    #[error("{0}")]
    Invalid(String),
    /// A resource ran out (disk, quota, memory): free some, then try again.
    #[error("{0}")]
    Exhausted(String),
    /// A defect of this crate or of a generator below it: report it.
    #[error("{0}; this is a defect of millstream-datasets, please report it")]
    Bug(String),
}

impl Error {
    /// The error of an operation (`doing`, as in "cannot create") on one file or folder.
    pub(crate) fn io(doing: &str, path: &Path, source: &io::Error) -> Self {
        let message = format!("cannot {doing} {}: {source}", path.display());
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory => {
                Error::Exhausted(format!("{message}; free some space and run again"))
            }
            io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::InvalidFilename => Error::Invalid(format!("{message}; choose an output folder that can be written")),
            _ => Error::Retry(message),
        }
    }
}
