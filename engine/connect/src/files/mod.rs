//! Folders of an object store: files that appear are read, files that are committed appear.
//!
//! ```text
//! source  the files of a folder, in the order of their names, are rows
//! layout  which rows go to which folder column=value
//! sink    rows are files that are staged, then published
//! ```

mod layout;
mod sink;
mod source;

pub use sink::FilesSink;
pub use source::FilesSource;

/// What the files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// Parquet; written with Snappy.
    Parquet,
    /// Comma separated, with a header.
    Csv,
    /// One JSON object a line.
    NdJson,
}

impl FileFormat {
    /// How the names of such files end.
    pub fn extension(self) -> &'static str {
        match self {
            FileFormat::Parquet => "parquet",
            FileFormat::Csv => "csv",
            FileFormat::NdJson => "json",
        }
    }
}
