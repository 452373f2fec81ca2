//! Arguments.

use clap::{Parser, Subcommand, ValueEnum};
use millstream::{Options, Preference};
use std::path::PathBuf;

/// Columnar analytics over bounded datasets, on SIMD kernels and compute shaders.
#[derive(Parser)]
#[command(name = "millstream", version, about)]
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
    #[arg(long, global = true)]
    pub threads: Option<usize>,
    /// Memory that queries may hold, for instance 4GB.
    #[arg(long, global = true, value_parser = bytes)]
    pub memory_limit: Option<usize>,
    /// Folder of benchmark data.
    #[arg(long, global = true, default_value = "data")]
    pub data: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
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
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
    }

    pub fn options(&self) -> Options {
        let device = match self.device {
            DeviceArg::Auto => Preference::Auto,
            DeviceArg::Cpu => Preference::Cpu,
            DeviceArg::Gpu => Preference::Gpu,
        };
        Options { threads: self.threads(), stages: self.stages == Switch::On, device, memory_limit_bytes: self.memory_limit }
    }
}

#[derive(clap::Args)]
pub struct SqlArgs {
    /// The query.
    #[arg(short = 'c', value_name = "SQL", conflicts_with = "file", required_unless_present = "file")]
    pub command: Option<String>,
    /// A file with one query.
    #[arg(short = 'f', value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// A table over a file or folder; may be given many times.
    #[arg(long = "table", value_name = "NAME=PATH")]
    pub tables: Vec<String>,
    /// How rows are printed.
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Format {
    Table,
    Csv,
    Json,
}

#[derive(clap::Args)]
pub struct BenchArgs {
    /// The suite: tpch.
    pub suite: String,
    /// Scale factor.
    #[arg(long, default_value_t = 0.1)]
    pub scale: f64,
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
    /// The suite: tpch.
    pub suite: String,
    /// Scale factor.
    #[arg(long, default_value_t = 0.1)]
    pub scale: f64,
    /// Folder to write to.
    #[arg(long)]
    pub out: PathBuf,
}

#[derive(clap::Args)]
pub struct DevicesArgs {
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// `4GB`, `512MB`, `1048576`.
fn bytes(text: &str) -> Result<usize, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: f64 = match &lower[digits.len()..] {
        "" | "b" => 1.0,
        "kb" | "k" => 1e3,
        "mb" | "m" => 1e6,
        "gb" | "g" => 1e9,
        other => return Err(format!("unknown unit {other}: use KB, MB or GB")),
    };
    let number: f64 = digits.trim().parse().map_err(|_| format!("{text} is no size, for instance 4GB"))?;
    if number > 0.0 { Ok((number * unit) as usize) } else { Err("a size is above zero".into()) }
}
