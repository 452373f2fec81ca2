//! The marker of a complete data set: a small text file, written last, that names what was generated and
//! the length of each file. A folder without it, or with a file of another length, is not complete.
//!
//! ```text
//! millstream-dataset 1
//! suite tpch
//! scale 0.01
//! format parquet
//! generator tpchgen-3 layout-1
//! file customer.parquet 123456
//! ...
//! ```

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::sink::{Format, partial_name};

const HEADER: &str = "millstream-dataset 1";

/// What a folder holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Marker {
    pub(crate) suite: &'static str,
    pub(crate) scale: f64,
    /// None where the rows depend on none.
    pub(crate) seed: Option<u64>,
    pub(crate) format: Format,
    /// Name and version of the generator: another one may give other rows.
    pub(crate) generator: &'static str,
}

impl Marker {
    /// Where the marker lies: one for each suite and format, so that a folder may hold several.
    pub(crate) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("_SUCCESS-{}-{}", self.suite, self.format))
    }

    /// Withdraws the claim that the folder is complete, before any of its files changes.
    pub(crate) fn remove(&self, dir: &Path) -> Result<()> {
        let path = self.path(dir);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &path, &e)),
            _ => Ok(()),
        }
    }

    /// Declares the folder complete, given each file's name and length. Durable when it returns.
    pub(crate) fn write(&self, dir: &Path, files: &[(String, u64)]) -> Result<()> {
        let path = self.path(dir);
        let partial = partial_name(&path);
        let store = || -> std::io::Result<()> {
            let mut file = File::create(&partial)?;
            file.write_all(self.text(files).as_bytes())?;
            file.sync_all()?;
            fs::rename(&partial, &path)?;
            sync_folder(dir)
        };
        store().map_err(|e| Error::io("write", &path, &e))
    }

    /// True when the folder holds exactly this data set, with every one of `files` at its recorded length.
    pub(crate) fn holds(&self, dir: &Path, files: &[String]) -> bool {
        let Ok(text) = fs::read_to_string(self.path(dir)) else { return false };
        let mut lengths = Vec::with_capacity(files.len());
        for name in files {
            let Ok(metadata) = fs::metadata(dir.join(name)) else { return false };
            lengths.push((name.clone(), metadata.len()));
        }
        text == self.text(&lengths)
    }

    fn text(&self, files: &[(String, u64)]) -> String {
        let Marker { suite, scale, seed, format, generator } = self;
        let seed = seed.map_or(String::new(), |seed| format!("seed {seed}\n"));
        let mut text = format!("{HEADER}\nsuite {suite}\nscale {scale}\n{seed}format {format}\ngenerator {generator}\n");
        for (name, bytes) in files {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "file {name} {bytes}");
        }
        text
    }
}

/// Makes the renames in a folder durable; only Unix can (and needs to).
fn sync_folder(dir: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}
