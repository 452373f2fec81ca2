//! `millstream generate`: the tables of a suite as Parquet.

use crate::args::GenerateArgs;
use crate::progress::Bar;
use crate::{Outcome, Usage};
use millstream_datasets::tpch;
use std::collections::HashMap;
use std::path::Path;

pub fn run(a: &GenerateArgs) -> Outcome {
    if a.suite != "tpch" {
        return Err(Usage::new(format!("no generator for {}: there is tpch", a.suite)).into());
    }
    tpch_parquet(&a.out, a.scale)
}

/// Writes TPC-H as Parquet with a progress bar on stderr.
pub fn tpch_parquet(out: &Path, scale: f64) -> Outcome {
    let total = tpch::TABLES.iter().map(|t| tpch::rows(t, scale)).sum::<Result<u64, _>>()?;
    let bar = Bar::new(total, "generating tpch {bar:40} {human_pos}/{human_len} rows {msg} {eta}");
    let mut rows: HashMap<&str, u64> = HashMap::new();
    tpch::write_parquet(out, scale, &mut |p| {
        rows.insert(p.table, p.rows);
        bar.set(rows.values().sum(), p.table);
    })?;
    drop(bar);
    eprintln!("wrote tpch at scale {scale} to {}", out.display());
    Ok(())
}
