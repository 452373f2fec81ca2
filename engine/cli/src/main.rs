//! The `millstream` command line: a thin shell over the library.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 ok, 1 a query failed or a result was
//! wrong, 2 bad usage.

#![allow(clippy::disallowed_methods, reason = "a shell reads the clock and the environment")]

mod args;
mod bench;
mod devices;
mod generate;
mod grid;
mod lines;
mod memory;
mod output;
mod profiles;
mod progress;
mod query;
mod runtime;
mod screen;
mod shell;
mod sql;
mod statements;
mod terminal;

use args::{Args, Command};
use clap::Parser;
use std::process::ExitCode;

/// What a command, or a statement, says when it fails.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The command line asks for what is not there: exit code 2.
#[derive(Debug)]
pub struct Usage(String);

impl Usage {
    /// With a message that says what is there instead.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; see --help", self.0)
    }
}

impl std::error::Error for Usage {}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.common.memory_limit.is_none() {
        memory::keep_freed();
    }
    let outcome = match &args.command {
        Command::Generate(a) => generate::run(a),
        Command::Devices(a) => devices::run(a, &args.common),
        Command::Sql(a) => sql::run(a, &args.common),
        Command::Bench(a) => runtime::cancellable(&args.common, bench::run(a, &args.common)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(if e.is::<Usage>() { 2 } else { 1 })
        }
    }
}
