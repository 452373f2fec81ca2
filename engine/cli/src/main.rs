//! The `millstream` command line: a thin shell over the library.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 ok, 1 a query failed or a result was
//! wrong, 2 bad usage.

#![allow(clippy::disallowed_methods, reason = "a shell reads the clock and the environment")]

mod args;
mod bench;
mod devices;
mod generate;
mod memory;
mod sql;

use args::{Args, Command};
use clap::Parser;
use std::process::ExitCode;

/// What a command says when it fails.
type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    memory::keep_freed();
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(args.common.threads()).enable_all().build() {
        Ok(r) => r,
        Err(e) => {
            eprintln!("error: no runtime: {e}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = match &args.command {
        Command::Sql(a) => runtime.block_on(sql::run(a, &args.common)),
        Command::Bench(a) => runtime.block_on(bench::run(a, &args.common)),
        Command::Generate(a) => generate::run(a),
        Command::Devices(a) => devices::run(a),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
