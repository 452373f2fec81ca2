//! `millstream bench`: runs a suite, verifies its answers, prints a line a query.

use crate::Outcome;
use crate::args::{BenchArgs, Common, Storage};
use crate::generate::tpch_parquet;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::physical_plan::ExecutionPlan;
use millstream::Session;
use millstream_benches::{Query, Suite, answer, suite, verify};
use millstream_datasets::tpch;
use serde_json::{Value, json};
use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// What was measured of one query.
struct Measured {
    runs_ms: Vec<f64>,
    rows: usize,
    /// None where no answer is at hand.
    verified: Option<bool>,
    error: Option<String>,
    /// Sink and device of each stage.
    stages: Vec<(String, String)>,
}

pub async fn run(a: &BenchArgs, common: &Common) -> Outcome {
    let suite = suite(&a.suite).ok_or_else(|| format!("no suite {}: there is tpch", a.suite))?;
    let session = Session::with_options(common.options())?;
    let dir = folder(suite, a, common)?;
    for t in suite.tables {
        session.register(t, &dir.join(format!("{t}.parquet")).to_string_lossy()).await?;
    }
    if a.storage == Storage::Memory {
        load(suite, &session).await?;
    }
    if a.serve {
        return serve(suite, &session).await;
    }
    let mut results = vec![];
    println!("{:>5} {:>10} {:>8}  {:<8} stages", "query", "median ms", "rows", "verified");
    let mut failed = vec![];
    for q in suite.queries.iter().filter(|q| a.queries.is_empty() || a.queries.iter().any(|id| id == q.id)) {
        let m = measure(suite, q, &session, a).await;
        print_line(q, &m);
        if m.error.is_some() || m.verified == Some(false) || (a.verify && m.verified.is_none()) {
            failed.push(q.id);
        }
        results.push(to_json(q, &m));
    }
    if results.is_empty() {
        return Err(format!("no such query in {}: {}", a.suite, a.queries.join(", ")).into());
    }
    if let Some(file) = &a.json {
        let json =
            json!({ "suite": a.suite, "scale": a.scale, "storage": a.storage.name(), "threads": common.threads(), "queries": results });
        std::fs::write(file, serde_json::to_string_pretty(&json)?).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("not verified: {}", failed.join(", ")).into()) }
}

/// The folder of the tables; they are generated where they are not there yet.
fn folder(suite: &Suite, a: &BenchArgs, common: &Common) -> Result<PathBuf, Box<dyn std::error::Error>> {
    // Who serves names the folder itself, whoever wrote it.
    let is_there = |t: &&str| common.data.join(format!("{t}.parquet")).exists();
    if a.serve && suite.tables.iter().all(is_there) || tpch::is_complete(&common.data, a.scale) {
        return Ok(common.data.clone());
    }
    let dir = common.data.join(format!("tpch-sf{}", a.scale));
    if !tpch::is_complete(&dir, a.scale) {
        tpch_parquet(&dir, a.scale)?;
    }
    Ok(dir)
}

/// Loads every table into memory, one line each on stderr.
async fn load(suite: &Suite, session: &Session) -> Outcome {
    let (all, mut bytes) = (Instant::now(), 0);
    for t in suite.tables {
        let started = Instant::now();
        let cached = session.cache(t).await?;
        bytes += cached.bytes;
        eprintln!("cached {t}: {} rows, {:.1} MB in {:.2} s", cached.rows, cached.bytes as f64 / 1e6, started.elapsed().as_secs_f64());
    }
    eprintln!(
        "cached {} tables, {:.1} MB in {:.2} s (not counted below)",
        suite.tables.len(),
        bytes as f64 / 1e6,
        all.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn measure(suite: &Suite, q: &Query, session: &Session, a: &BenchArgs) -> Measured {
    let mut m = Measured { runs_ms: vec![], rows: 0, verified: None, error: None, stages: vec![] };
    match one(q, session).await {
        Err(e) => m.error = Some(e),
        Ok((batches, plan, _)) => {
            m.rows = batches.iter().map(RecordBatch::num_rows).sum();
            stages_of(&plan, &mut m.stages);
            match answer(suite, a.scale, q) {
                Ok(Some(expected)) => {
                    let outcome = verify(q, &expected, &batches);
                    m.verified = Some(outcome.is_ok());
                    m.error = outcome.err().map(|e| e.to_string());
                }
                Ok(None) => {}
                Err(e) => m.error = Some(e.to_string()),
            }
        }
    }
    for _ in 0..a.iterations {
        match one(q, session).await {
            Ok((_, _, ms)) => m.runs_ms.push(ms),
            Err(e) => m.error = Some(e),
        }
    }
    m
}

/// From SQL text to the last row, planning included.
async fn one(q: &Query, session: &Session) -> Result<(Vec<RecordBatch>, Arc<dyn ExecutionPlan>, f64), String> {
    let started = Instant::now();
    let text = |e: millstream::Error| e.to_string();
    let plan = session.sql(q.sql).await.map_err(text)?.plan().await.map_err(text)?;
    let batches = datafusion::physical_plan::collect(Arc::clone(&plan), session.context().task_ctx()).await.map_err(|e| text(e.into()))?;
    Ok((batches, plan, started.elapsed().as_secs_f64() * 1e3))
}

fn stages_of(plan: &Arc<dyn ExecutionPlan>, out: &mut Vec<(String, String)>) {
    if let Some((sink, device)) = millstream::stage_of(plan.as_ref()) {
        out.push((sink, device));
    }
    plan.children().into_iter().for_each(|c| stages_of(c, out));
}

fn median(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print_line(q: &Query, m: &Measured) {
    let verified = m.verified.map_or("-", |v| if v { "yes" } else { "NO" });
    let stages: Vec<String> = m.stages.iter().map(|(s, d)| format!("{s}:{d}")).collect();
    println!("{:>5} {:>10.1} {:>8}  {verified:<8} {}", q.id, median(&m.runs_ms), m.rows, stages.join(" "));
    if let Some(e) = &m.error {
        eprintln!("      {}: {e}", q.id);
    }
}

fn to_json(q: &Query, m: &Measured) -> Value {
    let stages: Vec<Value> = m.stages.iter().map(|(s, d)| json!({ "name": s, "device": d })).collect();
    json!({ "id": q.id, "median_ms": median(&m.runs_ms), "runs_ms": m.runs_ms, "rows": m.rows, "verified": m.verified, "error": m.error, "stages": stages })
}

/// One line in, `ID` or `ID FILE`, one line of JSON out: for the comparison with other engines.
async fn serve(suite: &Suite, session: &Session) -> Outcome {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (id, file) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        if id.is_empty() {
            continue;
        }
        let answer = match served(suite, session, id, file.trim()).await {
            Ok((ms, rows)) => json!({ "id": id, "ms": ms, "rows": rows, "error": null }),
            Err(e) => json!({ "id": id, "ms": null, "rows": null, "error": e }),
        };
        println!("{answer}");
    }
    Ok(())
}

/// Time and number of rows of a query; the rows are written to `file` unless it is empty.
async fn served(suite: &Suite, session: &Session, id: &str, file: &str) -> Result<(f64, usize), String> {
    let q = suite.query(id).ok_or_else(|| format!("there is no query {id}"))?;
    let (batches, plan, ms) = one(q, session).await?;
    if !file.is_empty() {
        store(file, &plan.schema(), &batches).map_err(|e| format!("cannot write {file}: {e}"))?;
    }
    Ok((ms, batches.iter().map(RecordBatch::num_rows).sum()))
}

fn store(file: &str, schema: &SchemaRef, batches: &[RecordBatch]) -> Outcome {
    let schema = batches.first().map_or_else(|| Arc::clone(schema), RecordBatch::schema);
    let mut writer = ArrowWriter::try_new(std::fs::File::create(file)?, schema, None)?;
    batches.iter().try_for_each(|b| writer.write(b))?;
    writer.close()?;
    Ok(())
}
