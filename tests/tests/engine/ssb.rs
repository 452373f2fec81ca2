//! Every query of the Star Schema Benchmark against DuckDB's answer, on the CPU, on the GPU and under a memory limit.

use crate::world::{SCALE, has_gpu, session_ssb, suite_ssb};
use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use datafusion::physical_plan::ExecutionPlan;
use millstream::{Options, Preference, Session};
use millstream_benches::{Expected, Query, answer, verify};
use std::sync::Arc;

fn on(device: Preference) -> Options {
    Options { device, ..Options::default() }
}

async fn rows(session: &Session, q: &Query) -> Vec<RecordBatch> {
    session.sql(q.sql).await.unwrap().collect().await.unwrap_or_else(|e| panic!("{}: {e}", q.id))
}

fn expected(q: &Query) -> Expected {
    answer(suite_ssb(), SCALE, q).unwrap().unwrap()
}

async fn all_are_right(session: &Session, how: &str) {
    for q in suite_ssb().queries {
        verify(q, &expected(q), &rows(session, q).await).unwrap_or_else(|m| panic!("{how}, {}: {m}", q.id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_queries_equal_duckdb() {
    all_are_right(&session_ssb(on(Preference::Cpu)).await, "stages on").await;
    all_are_right(&session_ssb(Options { stages: false, ..on(Preference::Cpu) }).await, "stages off").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_queries_equal_duckdb_on_cached_tables() {
    let session = session_ssb(on(Preference::Cpu)).await;
    for t in suite_ssb().tables {
        session.cache(t).await.unwrap();
    }
    all_are_right(&session, "cached").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_queries_equal_duckdb_under_a_memory_limit() {
    all_are_right(&session_ssb(Options { memory_limit_bytes: Some(16 << 20), ..on(Preference::Cpu) }).await, "16 MiB").await;
}

/// Of the stages that filter, join or group at least four in five are on the device, with as large a part of their rows.
#[tokio::test(flavor = "multi_thread")]
async fn all_queries_equal_duckdb_on_the_gpu() {
    if !has_gpu("ssb") {
        return;
    }
    let session = session_ssb(on(Preference::Gpu)).await;
    let (mut stages, mut there, mut rows, mut rows_there) = (0, 0, 0, 0);
    for q in suite_ssb().queries {
        let (found, profile) = session.sql(q.sql).await.unwrap().profile().await.unwrap_or_else(|e| panic!("{}: {e}", q.id));
        verify(q, &expected(q), &found).unwrap_or_else(|m| panic!("{}: {m}", q.id));
        for s in profile.stages.iter().filter(|s| s.is_work) {
            assert_eq!(s.fallbacks, 0, "{}", q.id);
            (stages, rows) = (stages + 1, rows + s.input_rows);
            there += usize::from(s.device == "gpu" && (s.gpu.rows > 0 || s.input_rows == 0));
            rows_there += s.gpu.rows;
        }
    }
    assert!(stages >= 13 && there * 5 >= stages * 4, "{there} of {stages} stages");
    assert!(rows > 0 && rows_there * 5 >= rows * 4, "{rows_there} of {rows} rows");
}

/// The rows with one column moved down a row, the last value to the top.
fn moved(rows: &RecordBatch, column: usize) -> RecordBatch {
    let count = rows.num_rows() as u32;
    let order = UInt32Array::from_iter_values((0..count).map(|row| (row + count - 1) % count));
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    columns[column] = take(&columns[column], &order, None).unwrap();
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

/// No query is without rows here, so that each comparison has something to see.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_row_and_values_of_other_rows_are_caught() {
    let session = session_ssb(on(Preference::Cpu)).await;
    let mut seen = 0;
    for q in suite_ssb().queries {
        let (expected, rows) = (expected(q), rows(&session, q).await);
        let rows = concat_batches(&rows[0].schema(), &rows).unwrap();
        assert!(rows.num_rows() > 0 && rows.columns().iter().all(|column| column.null_count() == 0), "{}", q.id);
        assert!(verify(q, &expected, &[rows.slice(1, rows.num_rows() - 1)]).is_err(), "{}", q.id);
        for column in 0..rows.num_columns() {
            let moved = moved(&rows, column);
            if moved != rows {
                assert!(verify(q, &expected, &[moved]).is_err(), "{} column {column}", q.id);
                seen += 1;
            }
        }
    }
    assert!(seen >= 20, "only {seen} columns have two values");
}

fn names(plan: &Arc<dyn ExecutionPlan>, out: &mut Vec<String>) {
    out.push(plan.name().to_string());
    plan.children().into_iter().for_each(|c| names(c, out));
}

/// Nothing but scans and projections is left to stock operators.
#[tokio::test(flavor = "multi_thread")]
async fn filters_joins_and_aggregates_are_stages() {
    let session = session_ssb(on(Preference::Auto)).await;
    for q in suite_ssb().queries {
        let plan = session.sql(q.sql).await.unwrap().plan().await.unwrap();
        let mut all = vec![];
        names(&plan, &mut all);
        let stock: Vec<_> = all
            .iter()
            .filter(|n| !["StageExec", "DataSourceExec", "CoalescePartitionsExec", "ProjectionExec"].contains(&n.as_str()))
            .collect();
        assert!(stock.is_empty(), "{}: {stock:?}", q.id);
    }
}
