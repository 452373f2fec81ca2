//! `millstream generate`: the tables of a suite as Parquet.

use crate::args::GenerateArgs;
use crate::progress::Bar;
use crate::{Outcome, Usage};
use millstream_benches::suite;
use millstream_datasets::{Dataset, Error};
use std::collections::HashMap;
use std::path::Path;

pub fn run(a: &GenerateArgs) -> Outcome {
    let dataset: Dataset = a.suite.parse().map_err(|e: Error| Usage::new(e.to_string()))?;
    if a.seed.is_some() && dataset.seed().is_none() {
        return Err(Usage::new(format!("{dataset} takes no seed: its specification fixes the rows")).into());
    }
    // Where there is no suite, a scale of which a first run is quick.
    let scale = a.scale.unwrap_or_else(|| suite(dataset.name()).map_or(1.0, |suite| suite.scale));
    parquet(dataset, &a.out, scale, a.seed)
}

/// Writes a data set as Parquet with a progress bar on stderr.
pub fn parquet(dataset: Dataset, out: &Path, scale: f64, seed: Option<u64>) -> Outcome {
    let total = dataset.rows(scale).map_err(|e| Usage::new(e.to_string()))?;
    let bar = Bar::new(total, &format!("generating {dataset} {{bar:40}} {{human_pos}}/{{human_len}} rows {{msg}} {{eta}}"));
    let mut rows: HashMap<&str, u64> = HashMap::new();
    dataset.write_parquet(out, scale, seed, &mut |p| {
        rows.insert(p.table, p.rows);
        bar.set(rows.values().sum(), p.table);
    })?;
    drop(bar);
    eprintln!("wrote {dataset} at scale {scale} to {}", out.display());
    Ok(())
}
