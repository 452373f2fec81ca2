//! Every query of db-benchmark against DuckDB's answer, and what is left of stock operators.

use crate::world::{SCALE, session_h2o, suite_h2o};
use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use datafusion::physical_plan::ExecutionPlan;
use millstream::{Preference, Session};
use millstream_benches::{Expected, Query, answer, verify};
use std::sync::Arc;

async fn rows(session: &Session, q: &Query) -> Vec<RecordBatch> {
    session.sql(q.sql).await.unwrap().collect().await.unwrap_or_else(|e| panic!("{}: {e}", q.id))
}

fn expected(q: &Query) -> Expected {
    answer(suite_h2o(), SCALE, q).unwrap().unwrap()
}

async fn all_are_right(session: &Session, how: &str) {
    for q in suite_h2o().queries {
        verify(q, &expected(q), &rows(session, q).await).unwrap_or_else(|m| panic!("{how}, {}: {m}", q.id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_queries_equal_duckdb() {
    all_are_right(&session_h2o(true, Preference::Cpu).await, "stages on").await;
    all_are_right(&session_h2o(false, Preference::Cpu).await, "stages off").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_queries_equal_duckdb_on_cached_tables() {
    let session = session_h2o(true, Preference::Cpu).await;
    for t in suite_h2o().tables {
        session.cache(t).await.unwrap();
    }
    all_are_right(&session, "cached").await;
}

/// The rows with one column moved down a row, the last value to the top.
fn moved(rows: &RecordBatch, column: usize) -> RecordBatch {
    let count = rows.num_rows() as u32;
    let order = UInt32Array::from_iter_values((0..count).map(|row| (row + count - 1) % count));
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    columns[column] = take(&columns[column], &order, None).unwrap();
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_row_and_values_of_other_rows_are_caught() {
    let session = session_h2o(true, Preference::Cpu).await;
    let mut constant = vec![];
    for q in suite_h2o().queries {
        let (expected, rows) = (expected(q), rows(&session, q).await);
        let rows = concat_batches(&rows[0].schema(), &rows).unwrap();
        assert!(verify(q, &expected, &[rows.slice(1, rows.num_rows() - 1)]).is_err(), "{}", q.id);
        for column in 0..rows.num_columns() {
            let moved = moved(&rows, column);
            if moved == rows {
                constant.push(format!("{} {}", q.id, rows.schema().field(column).name()));
            } else {
                assert!(verify(q, &expected, &[moved]).is_err(), "{} column {column}", q.id);
            }
        }
    }
    assert_eq!(constant, ["g10 count"], "six keys are unique");
}

fn names(plan: &Arc<dyn ExecutionPlan>, out: &mut Vec<String>) {
    out.push(plan.name().to_string());
    plan.children().into_iter().for_each(|c| names(c, out));
}

/// Nothing but scans and projections is left to stock operators.
#[tokio::test(flavor = "multi_thread")]
async fn aggregates_and_joins_are_stages() {
    let session = session_h2o(true, Preference::Auto).await;
    for q in suite_h2o().queries {
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
