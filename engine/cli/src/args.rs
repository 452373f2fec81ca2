//! Arguments.

use crate::{Outcome, profiles};
use clap::{Parser, Subcommand, ValueEnum};
use millstream::{Options, Preference};
use std::path::PathBuf;
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  millstream sql -c \"select count(*) from t\" --table t=events.parquet
  millstream sql -f report.sql --table t=folder/ -o report.parquet
  millstream sql -c \"explain analyze select a, sum(b) from t group by a\" --table t=events.parquet
  millstream bench tpch --scale 1 --queries q1,q6 --json results.json
  millstream generate h2o --scale 1 --out data/h2o-sf1
  millstream devices

Results go to stdout, all else to stderr. Exit codes: 0 ok, 1 a query failed or a result was wrong, 2 bad usage.";

const SQL_EXAMPLES: &str = "\
Examples:
  millstream sql --table t=events.parquet                       a shell; .help lists its commands
  millstream sql < report.sql                                   statements from a pipe or a file
  millstream sql -c \"select * from t limit 5\" --table t=a.csv    a file's ending says what it is
  millstream sql -c \"select * from t\" --table t=a.parquet --format csv | head
  millstream sql -c \"select a, sum(b) s from t group by a\" --table t=a.parquet -o sums.parquet
  millstream sql -c \"explain select ...\"                        stages, devices, and why the rest is stock
  millstream sql -c \"explain analyze select ...\"                the same after a run, with rows and times

A table on the terminal fits its width and shows the first rows; csv, json and parquet never leave
anything out. CSV writes null as an empty field, JSON is one object a line.

The shell, where there is neither -c nor -f and standard input is a terminal: statements end with a semicolon,
Tab completes, Ctrl-C cancels a query, Ctrl-D leaves. Results taller than the terminal go through PAGER, or
less -SRFX. History is kept in XDG_STATE_HOME/millstream/history (~/.local/state by default);
MILLSTREAM_HISTORY names another file, or none where it is empty.";

const BENCH_EXAMPLES: &str = "\
Examples:
  millstream bench tpch                                         scale 0.1, verified, written on first use
  millstream bench tpch --scale 1 --queries q1,q6 --iterations 5 --threads 2
  millstream bench h2o --queries g3,j1 --storage memory         db-benchmark: group-bys g1 to g10, joins j1 to j5
  millstream bench ssb --scale 1                                Star Schema Benchmark: q1.1 to q4.3
  millstream bench tpch --stages off --json stock.json          stock DataFusion, for comparison
  millstream bench windows --events 200000000                   streams: windows over readings of 100,000 sensors
  millstream bench latency                                      streams: from an event to a reader of the result
  millstream bench machine --iterations 5                       how much of the memory bandwidth queries get

The exit code is 1 when an answer is wrong, or, with --verify, when there is none to compare with.";

const DEVICES_EXAMPLES: &str = "\
Examples:
  millstream devices                            the CPU, and the adapters that wgpu finds
  millstream devices --calibrate                measures them; auto goes by the profile from then on
  millstream devices --calibrate --check        and how far its predictions are off

Profiles are kept in XDG_CACHE_HOME/millstream/profiles (~/.cache by default), one for each adapter, driver and version;
MILLSTREAM_PROFILES names another folder, or none where it is empty.";

/// Columnar analytics over bounded datasets, on SIMD kernels and compute shaders.
#[derive(Parser)]
#[command(name = "millstream", version, after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Subcommand)]
pub enum Command {
    /// Answer SQL over files.
    Sql(SqlArgs),
    /// Run a benchmark suite and verify its answers.
    Bench(BenchArgs),
    /// Write the tables of a benchmark suite.
    Generate(GenerateArgs),
    /// List what this machine computes on.
    Devices(DevicesArgs),
}

/// Options of every command.
#[derive(clap::Args)]
pub struct Common {
    /// Device of the stages.
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub device: DeviceArg,
    /// Off: stock DataFusion answers, for comparison.
    #[arg(long, global = true, value_enum, default_value = "on")]
    pub stages: Switch,
    /// Threads; all of the machine by default.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Memory that queries may hold, for instance 512MB or 4GiB: what needs more goes to temporary files.
    #[arg(long, global = true, value_name = "SIZE", value_parser = bytes)]
    pub memory_limit: Option<usize>,
    /// Memory of a GPU that may be used, for instance 8GiB: columns of cached tables stay there as far as it goes.
    #[arg(long, global = true, value_name = "SIZE", value_parser = bytes)]
    pub gpu_memory: Option<usize>,
    /// A recorded machine, as devices --calibrate writes it: EXPLAIN shows where stages would run there. They run on the CPU here.
    #[arg(long, global = true, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Folder of benchmark data.
    #[arg(long, global = true, value_name = "DIR", default_value = "data")]
    pub data: PathBuf,
    /// Say more on stderr: times, and what ran where.
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceArg {
    Auto,
    Cpu,
    Gpu,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

impl Common {
    pub fn threads(&self) -> usize {
        self.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
    }

    /// What sessions are made with: the profile of `--profile`, or the one that was measured here last.
    pub fn options(&self) -> Outcome<Options> {
        let device = match self.device {
            DeviceArg::Auto => Preference::Auto,
            DeviceArg::Cpu => Preference::Cpu,
            DeviceArg::Gpu => Preference::Gpu,
        };
        let profile = match &self.profile {
            Some(file) => Some(millstream::load_profile(file)?),
            None => profiles::folder().and_then(|folder| millstream::newest_profile(&folder)),
        };
        Ok(Options {
            threads: self.threads(),
            stages: self.stages == Switch::On,
            device,
            memory_limit_bytes: self.memory_limit,
            gpu_memory_bytes: self.gpu_memory.map(|bytes| bytes as u64),
            profile: profile.map(Arc::new),
            recorded: self.profile.is_some(),
            ..Options::default()
        })
    }
}

#[derive(clap::Args)]
#[command(after_help = SQL_EXAMPLES)]
pub struct SqlArgs {
    /// Statements; without -c and -f they are typed in a shell, or read from standard input.
    #[arg(short = 'c', value_name = "SQL", conflicts_with = "file")]
    pub command: Option<String>,
    /// A file with statements.
    #[arg(short = 'f', value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// A table over a file, a folder, a pattern such as dir/*.csv, or a URL; may be given many times.
    #[arg(long = "table", value_name = "NAME=PATH", value_parser = named_table)]
    pub tables: Vec<NamedTable>,
    /// How rows are written; by default as the ending of -o says, else as a table.
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Write the rows to a file; it appears once they are all there.
    #[arg(short = 'o', value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    /// A line for each value.
    Line,
    Csv,
    Json,
    Parquet,
}

/// `NAME=PATH`
#[derive(Clone)]
pub struct NamedTable {
    pub name: String,
    pub path: String,
}

fn named_table(text: &str) -> Result<NamedTable, String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok(NamedTable { name: name.into(), path: path.into() }),
        _ => Err("expected NAME=PATH, for instance t=events.parquet".into()),
    }
}

#[derive(clap::Args)]
#[command(after_help = BENCH_EXAMPLES)]
pub struct BenchArgs {
    /// The suite: tpch, h2o, ssb, windows, latency, recovery or machine.
    pub suite: String,
    /// Scale factor: tpch and ssb 1 are SF1 (default 0.1, for machine 1), h2o 1 is 1e7 rows (default 0.01).
    #[arg(long)]
    pub scale: Option<f64>,
    /// Rows of a stream, or of the table of machine: 20 million for windows and recovery, 2 million for latency (10 s), 64
    /// million for machine where it is not said.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub events: Option<u64>,
    /// Only these queries, for instance q1,q6.
    #[arg(long, value_delimiter = ',')]
    pub queries: Vec<String>,
    /// An answer that cannot be verified is a failure too.
    #[arg(long)]
    pub verify: bool,
    /// Timed runs of each query, after one warm-up.
    #[arg(long, default_value_t = 3)]
    pub iterations: usize,
    /// Write the results as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Read query ids from stdin and answer one line of JSON for each; `ID FILE` also writes the rows as Parquet.
    #[arg(long, hide = true)]
    pub serve: bool,
    /// Where the tables are read from; `memory` loads them once, before anything is timed.
    #[arg(long, value_enum, default_value = "parquet")]
    pub storage: Storage,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Storage {
    Parquet,
    Memory,
}

impl Storage {
    pub fn name(self) -> &'static str {
        match self {
            Storage::Parquet => "parquet",
            Storage::Memory => "memory",
        }
    }
}

#[derive(clap::Args)]
pub struct GenerateArgs {
    /// The suite: tpch, h2o, ssb or nexmark.
    pub suite: String,
    /// Scale factor: tpch and ssb 1 are SF1 (default 0.1), h2o 1 is 1e7 rows (default 0.01), nexmark 1 is 1e6 events (default 1).
    #[arg(long)]
    pub scale: Option<f64>,
    /// Folder to write to.
    #[arg(long)]
    pub out: PathBuf,
    /// Other rows of the same kind, for h2o and ssb; answers are known for the default only.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

#[derive(clap::Args)]
#[command(after_help = DEVICES_EXAMPLES)]
pub struct DevicesArgs {
    /// As JSON; with --calibrate the profile that was measured.
    #[arg(long)]
    pub json: bool,
    /// Measure the CPU and the adapter that stages would run on, and keep the profile for later sessions.
    #[arg(long)]
    pub calibrate: bool,
    /// And measure how far the profile is off: a minute more.
    #[arg(long, requires = "calibrate")]
    pub check: bool,
}

/// `4GB` is decimal, `4GiB` binary, `1048576` bytes.
fn bytes(text: &str) -> Result<usize, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: f64 = match &lower[digits.len()..] {
        "" | "b" => 1.0,
        "kb" | "k" => 1e3,
        "mb" | "m" => 1e6,
        "gb" | "g" => 1e9,
        "tb" | "t" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        other => return Err(format!("unknown unit {other}: use KB, MB, GB, KiB, MiB or GiB")),
    };
    let number: f64 = digits.trim().parse().map_err(|_| format!("{text} is no size, for instance 4GB"))?;
    if number > 0.0 { Ok((number * unit) as usize) } else { Err("a size is above zero".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal_or_binary() {
        assert_eq!(bytes("512MB"), Ok(512_000_000));
        assert_eq!(bytes("2GiB"), Ok(2 << 30));
        assert_eq!(bytes("1.5k"), Ok(1500));
        assert_eq!(bytes("4096"), Ok(4096));
        assert!(bytes("0").is_err() && bytes("4XB").is_err() && bytes("GB").is_err() && bytes("-1").is_err());
    }

    #[test]
    fn the_definition_holds() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
