//! `millstream generate`: the tables of a suite as Parquet.

use crate::Outcome;
use crate::args::GenerateArgs;
use indicatif::{ProgressBar, ProgressStyle};
use millstream_datasets::tpch;
use std::collections::HashMap;
use std::path::Path;

pub fn run(a: &GenerateArgs) -> Outcome {
    if a.suite != "tpch" {
        return Err(format!("no generator for {}: there is tpch", a.suite).into());
    }
    tpch_parquet(&a.out, a.scale)
}

/// Writes TPC-H as Parquet with a progress bar on stderr.
pub fn tpch_parquet(out: &Path, scale: f64) -> Outcome {
    let total = tpch::TABLES.iter().map(|t| tpch::rows(t, scale)).sum::<Result<u64, _>>()?;
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("generating tpch {bar:40} {human_pos}/{human_len} rows {eta}") {
        bar.set_style(style);
    }
    let mut rows: HashMap<&str, u64> = HashMap::new();
    tpch::write_parquet(out, scale, &mut |p| {
        rows.insert(p.table, p.rows);
        bar.set_position(rows.values().sum());
    })?;
    bar.finish_and_clear();
    eprintln!("wrote tpch at scale {scale} to {}", out.display());
    Ok(())
}
