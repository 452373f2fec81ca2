//! The data sets by name, as a shell asks for them.

use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::write::Progress;
use crate::{h2o, nexmark, ssb, tpch};

/// A data set.
///
/// ```
/// use millstream_datasets::Dataset;
///
/// let nation_and_more: u64 = "tpch".parse::<Dataset>()?.rows(0.01)?;
/// assert!(nation_and_more > 80_000);
/// # Ok::<(), millstream_datasets::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dataset {
    /// The tables of db-benchmark, see [`h2o`].
    H2o,
    /// The tables of Nexmark, see [`nexmark`].
    Nexmark,
    /// The tables of the Star Schema Benchmark, see [`ssb`].
    Ssb,
    /// The tables of TPC-H, see [`tpch`].
    Tpch,
}

impl Dataset {
    /// Every data set, by name.
    pub const ALL: [Dataset; 4] = [Dataset::H2o, Dataset::Nexmark, Dataset::Ssb, Dataset::Tpch];

    /// The name on the command line, which is also that of its suite.
    pub fn name(self) -> &'static str {
        match self {
            Dataset::H2o => "h2o",
            Dataset::Nexmark => "nexmark",
            Dataset::Ssb => "ssb",
            Dataset::Tpch => "tpch",
        }
    }

    /// The seed whose answers are known; none where the rows do not depend on one.
    pub fn seed(self) -> Option<u64> {
        match self {
            Dataset::H2o => Some(h2o::SEED),
            Dataset::Ssb => Some(ssb::SEED),
            Dataset::Nexmark | Dataset::Tpch => None,
        }
    }

    /// Rows of all tables at a scale; an estimate (within 1 %) where tables are of random length.
    ///
    /// # Errors
    /// `Invalid` when the scale is out of range.
    pub fn rows(self, scale: f64) -> Result<u64> {
        match self {
            Dataset::H2o => h2o::TABLES.iter().map(|table| h2o::rows(table, scale)).sum(),
            Dataset::Nexmark => nexmark::TABLES.iter().map(|table| nexmark::rows(table, scale)).sum(),
            Dataset::Ssb => ssb::TABLES.iter().map(|table| ssb::rows(table, scale)).sum(),
            Dataset::Tpch => tpch::TABLES.iter().map(|table| tpch::rows(table, scale)).sum(),
        }
    }

    /// Writes every table into a folder as Parquet. Without a seed it is the one whose answers are known.
    ///
    /// # Errors
    /// As [`h2o::write_parquet`], [`ssb::write_parquet`] and [`tpch::write_parquet`]; `Invalid` too for a seed where the rows do not depend on one.
    pub fn write_parquet(self, out: &Path, scale: f64, seed: Option<u64>, progress: &mut dyn FnMut(Progress)) -> Result<()> {
        match (self, seed) {
            (Dataset::H2o, seed) => h2o::write_parquet(out, scale, seed.unwrap_or(h2o::SEED), progress),
            (Dataset::Ssb, seed) => ssb::write_parquet(out, scale, seed.unwrap_or(ssb::SEED), progress),
            (Dataset::Nexmark, None) => nexmark::write_parquet(out, scale, progress),
            (Dataset::Tpch, None) => tpch::write_parquet(out, scale, progress),
            (_, Some(_)) => Err(Error::Invalid(format!("{self} takes no seed: its specification fixes the rows of every scale"))),
        }
    }

    /// True when a folder holds the whole data set of a scale as Parquet, from the seed whose answers are known.
    pub fn is_complete(self, dir: &Path, scale: f64) -> bool {
        match self {
            Dataset::H2o => h2o::is_complete(dir, scale, h2o::SEED),
            Dataset::Nexmark => nexmark::is_complete(dir, scale),
            Dataset::Ssb => ssb::is_complete(dir, scale, ssb::SEED),
            Dataset::Tpch => tpch::is_complete(dir, scale),
        }
    }
}

impl std::fmt::Display for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dataset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = Dataset::ALL.map(Dataset::name).join(", ");
        Dataset::ALL
            .into_iter()
            .find(|dataset| dataset.name() == text)
            .ok_or_else(|| Error::Invalid(format!("no data set `{text}`: there are {names}")))
    }
}
