//! The results of a suite as JSON: the shape that scripts and `benches/compare` rely on.

use super::Measured;
use super::usage::cpu_model;
use crate::Outcome;
use crate::args::{BenchArgs, Common, DeviceArg};
use millstream::{Profile, StageReport, StockReport};
use millstream_benches::Query;
use serde_json::{Value, json};
use std::path::Path;

/// The whole file.
pub fn suite(a: &BenchArgs, scale: f64, common: &Common, queries: &[Value]) -> Value {
    let device = match common.device {
        DeviceArg::Auto => "auto",
        DeviceArg::Cpu => "cpu",
        DeviceArg::Gpu => "gpu",
    };
    json!({
        "suite": a.suite, "scale": scale, "storage": a.storage.name(), "threads": common.threads(), "device": device,
        "machine": machine(), "queries": queries,
    })
}

/// Writes the results.
pub fn write(file: &Path, json: &Value) -> Outcome {
    std::fs::write(file, serde_json::to_string_pretty(json)?).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    Ok(())
}

fn machine() -> Value {
    let devices = millstream::devices().ok();
    json!({
        "os": std::env::consts::OS, "arch": std::env::consts::ARCH, "cpu": cpu_model(),
        "isa": devices.as_ref().map(|d| d.isa), "threads": devices.as_ref().map(|d| d.threads),
        "adapters": devices.map(|d| d.adapters),
    })
}

/// One query. Measures that do not exist yet are null.
pub fn query(q: &Query, m: &Measured) -> Value {
    json!({
        "id": q.id, "median_ms": median(&m.runs_ms), "runs_ms": m.runs_ms, "rows": m.rows, "verified": m.verified, "error": m.error,
        "peak_rss_mb": m.peak_rss_mb, "cpu_s": m.cpu_s, "events_per_s": null, "latency_ms": { "p50": null, "p99": null },
        "stages": m.profile.stages.iter().map(stage).collect::<Vec<_>>(),
        "stock": m.profile.stock.iter().map(stock).collect::<Vec<_>>(),
    })
}

fn stage(s: &StageReport) -> Value {
    let on_gpu = (s.device == "gpu").then_some(s.gpu);
    json!({
        "name": s.sink, "device": s.device, "reason": s.reason, "cpu_est_ms": s.cpu_est_ms, "gpu_est_ms": s.gpu_est_ms,
        "est_rows": s.est_rows, "own_ms": s.own_ms, "there": s.there,
        "ms": s.elapsed_ms, "fetch_ms": s.fetch_ms, "compute_ms": s.compute_ms, "rows": s.input_rows, "bytes": on_gpu.map(|g| g.bytes),
        "upload_ms": on_gpu.map(|g| g.upload_ms), "kernel_ms": on_gpu.map(|g| g.kernel_ms),
        "device_ms": on_gpu.map(|g| g.device_ms), "readback_ms": on_gpu.map(|g| g.readback_ms),
        "gpu_rows": s.gpu.rows, "is_work": s.is_work, "tables": s.tables, "spills": s.spills, "fallbacks": s.fallbacks,
        "fallback_reasons": s.fallback_reasons.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(), "kept_bytes": on_gpu.map(|g| g.kept_bytes),
    })
}

fn stock(s: &StockReport) -> Value {
    json!({ "operator": s.operator, "reason": s.reason, "rows": s.output_rows, "ms": s.compute_ms })
}

/// The middle run, or the mean of the two in the middle; NaN, in JSON null, of none.
pub fn median(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
    (at(sorted.len().saturating_sub(1) / 2) + at(sorted.len() / 2)) / 2.0
}

/// Sink and device of each stage, for a line of text.
pub fn stages(profile: &Profile) -> String {
    let names: Vec<String> = profile.stages.iter().map(|s| format!("{}:{}", s.sink, s.device)).collect();
    let stock = profile.stock.len();
    if stock > 0 { format!("{} +{stock} stock", names.join(" ")) } else { names.join(" ") }
}
