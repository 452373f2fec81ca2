//! The first rows of each group, by a filter over row numbers: one stage, with the rows of stock DataFusion.

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::displayable;
use millstream::{Options, Preference, Session};
use std::sync::Arc;

const ROWS: i64 = 400_000;

/// `k` many groups, `s` few; `o` another number in each row, ever greater with `i`; `f` a float for each, some null.
fn rows_of(from: i64, to: i64) -> RecordBatch {
    let k = Int64Array::from_iter((from..to).map(|i| (i % 101 != 7).then_some(i * 7_919 % 3_001)));
    let s = StringArray::from_iter_values((from..to).map(|i| format!("group {}", i % 7)));
    let o = Int64Array::from_iter_values((from..to).map(|i| i * 6_007 % ROWS));
    let f = Float64Array::from_iter((from..to).map(|i| (i % 50 != 3).then_some((i * 6_007 % ROWS) as f64 / 8.0)));
    RecordBatch::try_from_iter_with_nullable([
        ("k", Arc::new(k) as _, true),
        ("s", Arc::new(s) as _, true),
        ("o", Arc::new(o) as _, true),
        ("f", Arc::new(f) as _, true),
        ("i", Arc::new(Int64Array::from_iter_values(from..to)) as _, true),
    ])
    .unwrap()
}

fn session(stages: bool, device: Preference, rows: i64) -> Session {
    let session = Session::with_options(Options { threads: 2, stages, device, ..Options::default() }).unwrap();
    session.register_batches("x", (0..rows).step_by(10_000).map(|i| rows_of(i, i + 10_000)).collect()).unwrap();
    session
}

async fn rows(session: &Session, sql: &str) -> String {
    let rows = session.sql(sql).await.unwrap().collect().await.unwrap_or_else(|e| panic!("{e}: {sql}"));
    pretty_format_batches(&rows).unwrap().to_string()
}

async fn plan(session: &Session, sql: &str) -> String {
    let plan = session.sql(sql).await.unwrap().plan().await.unwrap();
    displayable(plan.as_ref()).indent(false).to_string()
}

/// The first rows, in an order that leaves nothing open.
fn first(columns: &str, over: &str, which: &str) -> String {
    format!(
        "select {columns} from (select *, row_number() over ({over}) n from x where f is not null or i % 3 = 0) where {which} order by 1, 2, 3"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn are_those_of_stock() {
    let (on, off) = (session(true, Preference::Cpu, ROWS), session(false, Preference::Cpu, ROWS));
    for sql in [
        first("k, o, s", "partition by k order by o", "n <= 3"),
        first("k, f, o", "partition by k order by o desc", "n < 3"),
        first("s, o, k", "partition by s order by o desc", "n = 1"),
        first("o, k, s", "partition by k, s order by -o", "n <= 2"),
        // Every row is better than those before it: what has lost its place is dropped.
        first("i, o, s", "partition by k order by i desc", "n <= 2"),
        first("count(*), sum(o), count(distinct k)", "partition by k order by o", "n <= 5").replace("order by 1, 2, 3", ""),
    ] {
        let text = plan(&on, &sql).await;
        assert!(text.contains("StageExec: top-n") && text.contains("of each group") && !text.contains("WindowAgg"), "{sql}\n{text}");
        assert!(rows(&on, &sql).await == rows(&off, &sql).await, "{sql}");
    }
    // Without an order any rows are first: as many as there are.
    let any = "select count(*), count(distinct k) from (select *, row_number() over (partition by k) n from x) where n <= 4";
    assert_eq!(rows(&on, any).await, rows(&off, any).await);
    // Negative control.
    let (two, three) = (first("k, o, s", "partition by k order by o", "n <= 2"), first("k, o, s", "partition by k order by o", "n <= 3"));
    assert_ne!(rows(&on, &two).await, rows(&off, &three).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn are_those_of_the_reference() {
    let (oracle, cpu) = (session(true, Preference::Reference, 10_000), session(true, Preference::Cpu, 10_000));
    for sql in [
        first("k, o, s", "partition by k order by o", "n <= 3"),
        first("o, f, s", "partition by s order by f nulls first", "n <= 1").replace("i % 3 = 0", "false"),
    ] {
        assert!(plan(&oracle, &sql).await.contains("of each group"));
        assert_eq!(rows(&cpu, &sql).await, rows(&oracle, &sql).await, "{sql}");
    }
}

/// Numbers that leave, other functions, orders of several keys or of strings, and limited memory stay stock.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_first_row_stays_a_window() {
    let (on, off) = (session(true, Preference::Cpu, 20_000), session(false, Preference::Cpu, 20_000));
    for sql in [
        first("k, o, n", "partition by k order by o", "n <= 3"),
        first("k, o, s", "partition by k order by o", "n > 2"),
        first("k, o, s", "partition by k order by o", "n <= 3 and o > 100"),
        first("k, o, s", "partition by k order by s, o", "n <= 3"),
        first("k, o, s", "order by o", "n <= 3"),
        first("k, o, s", "partition by k order by o", "n <= 3").replace("row_number", "rank"),
    ] {
        assert!(!plan(&on, &sql).await.contains("of each group"), "{sql}");
        assert_eq!(rows(&on, &sql).await, rows(&off, &sql).await, "{sql}");
    }
    let limited = Session::with_options(Options { threads: 2, memory_limit_bytes: Some(64 << 20), ..Options::default() }).unwrap();
    limited.register_batches("x", vec![rows_of(0, 10_000)]).unwrap();
    assert!(plan(&limited, &first("k, o, s", "partition by k order by o", "n <= 3")).await.contains("WindowAgg"));
}
