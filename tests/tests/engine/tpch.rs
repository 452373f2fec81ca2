//! Every TPC-H query against DuckDB's answer, stages on and off, and what is left of stock operators.

use crate::world::{SCALE, session, suite_tpch};
use arrow::array::RecordBatch;
use datafusion::physical_plan::ExecutionPlan;
use millstream::Preference;
use millstream_benches::{answer, verify};
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn all_queries_equal_duckdb() {
    for stages in [true, false] {
        let session = session(stages, Preference::Cpu).await;
        for q in suite_tpch().queries {
            let rows = session.sql(q.sql).await.unwrap().collect().await.unwrap_or_else(|e| panic!("{}: {e}", q.id));
            let expected = answer(suite_tpch(), SCALE, q).unwrap().unwrap();
            verify(q, &expected, &rows).unwrap_or_else(|m| panic!("stages {stages}, {}: {m}", q.id));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_row_is_caught() {
    let session = session(true, Preference::Cpu).await;
    let q = suite_tpch().query("q1").unwrap();
    let rows = session.sql(q.sql).await.unwrap().collect().await.unwrap();
    let expected = answer(suite_tpch(), SCALE, q).unwrap().unwrap();
    let fewer: Vec<RecordBatch> = rows.iter().map(|b| b.slice(0, b.num_rows() - 1)).collect();
    assert!(verify(q, &expected, &fewer).is_err());
}

fn names(plan: &Arc<dyn ExecutionPlan>, out: &mut Vec<String>) {
    out.push(plan.name().to_string());
    plan.children().into_iter().for_each(|c| names(c, out));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_stock_filter_aggregate_or_equi_join_is_left() {
    let session = session(true, Preference::Auto).await;
    for q in suite_tpch().queries {
        let plan = session.sql(q.sql).await.unwrap().plan().await.unwrap();
        let mut all = vec![];
        names(&plan, &mut all);
        let stock: Vec<_> =
            all.iter().filter(|n| ["FilterExec", "AggregateExec", "HashJoinExec", "SortMergeJoinExec"].contains(&n.as_str())).collect();
        assert!(stock.is_empty(), "{}: {stock:?}", q.id);
    }
}
