//! Rows in order, all or the first of them: those of stock DataFusion, from Parquet and from memory, and no more read than
//! is needed.

use crate::world::mixed;
use arrow::array::{ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use millstream::{Options, Preference, Session};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const ROWS: i64 = 300_000;
const GROUP_ROWS: usize = 20_000;

/// `i` counts rows; `day` grows with them; the others are in no order, and null here and there.
fn write(path: &Path) {
    let all = || (0..ROWS).map(|i| (i, mixed(i as u64)));
    let some = |m: u64| !m.is_multiple_of(11);
    let texts = ["", "b", "a longer string than inline", "a longer string than inlinf", "é", "\0"];
    let decimals: Decimal128Array = all().map(|(_, m)| some(m >> 3).then_some(i128::from(m % 100_000) - 50_000)).collect();
    let floats = all().map(|(_, m)| {
        some(m >> 5).then_some(match m % 50 {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => f64::NEG_INFINITY,
            _ => (m % 1_000) as f64 - 500.5,
        })
    });
    let lists = all().map(|(_, m)| some(m).then(|| vec![Some((m % 3) as i64), Some((m % 5) as i64)]));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("i", Arc::new(Int64Array::from_iter_values(0..ROWS))),
        ("day", Arc::new(Date32Array::from_iter(all().map(|(i, m)| (m % 1_000 != 5).then_some((i / 1_000) as i32))))),
        ("wide", Arc::new(Int64Array::from_iter(all().map(|(_, m)| some(m >> 7).then_some(m as i64))))),
        ("few", Arc::new(StringArray::from_iter(all().map(|(_, m)| some(m >> 9).then(|| texts[(m % 6) as usize]))))),
        ("many", Arc::new(StringArray::from_iter_values(all().map(|(_, m)| format!("{}{}", texts[(m % 6) as usize], m % 70_000))))),
        ("d", Arc::new(decimals.with_precision_and_scale(12, 2).unwrap())),
        ("f", Arc::new(floats.collect::<Float64Array>())),
        ("b", Arc::new(all().map(|(_, m)| some(m >> 1).then_some(m.is_multiple_of(2))).collect::<BooleanArray>())),
        ("l", Arc::new(ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>(lists))),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
    let p = WriterProperties::builder().set_max_row_group_row_count(Some(GROUP_ROWS)).build();
    let mut w = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(p)).unwrap();
    w.write(&batch).unwrap();
    w.close().unwrap();
}

/// The table in a folder of its own.
pub fn table() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    write(&path);
    (dir, path)
}

pub async fn session(path: &Path, stages: bool, device: Preference, in_memory: bool) -> Session {
    let session = Session::with_options(Options { threads: 2, stages, device, ..Options::default() }).unwrap();
    session.register("t", &path.to_string_lossy()).await.unwrap();
    if in_memory {
        session.cache("t").await.unwrap();
    }
    session
}

fn input_rows(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let mine = plan.metrics().and_then(|m| m.sum_by_name("input_rows")).map_or(0, |v| v.as_usize());
    mine + plan.children().into_iter().map(input_rows).sum::<usize>()
}

/// The rows of a query, and how many its stages read.
async fn run(session: &Session, sql: &str) -> (String, usize) {
    let plan = session.sql(sql).await.unwrap().plan().await.unwrap();
    let rows = collect(Arc::clone(&plan), session.context().task_ctx()).await.unwrap_or_else(|e| panic!("{e}: {sql}"));
    (pretty_format_batches(&rows).unwrap().to_string(), input_rows(&plan))
}

/// Orders that leave nothing open: `i` is another number in each row.
pub const ORDERS: &[&str] = &[
    "i desc",
    "day desc nulls last, i",
    "day, i desc",
    "wide, i",
    "wide desc nulls first, i",
    "few, i",
    "few desc nulls last, d, i",
    "many, few desc, i",
    "many desc, i",
    "d desc, f, i",
    "f, i",
    "f desc nulls last, i desc",
    "b desc, few nulls first, wide, i",
    "b, d, many, f, wide, i",
    "l, i",
    "d * 2 - i % 7, i",
    "i % 3, day nulls first, wide desc, i",
];

#[tokio::test(flavor = "multi_thread")]
async fn rows_in_order_are_those_of_stock() {
    let (_dir, path) = table();
    let stock = session(&path, false, Preference::Cpu, false).await;
    for in_memory in [false, true] {
        let stages = session(&path, true, Preference::Cpu, in_memory).await;
        for order in ORDERS {
            for (wanted, which) in
                [("", "i % 29 = 3"), (" limit 1", "true"), (" limit 17", "true"), (" limit 17", "b and d > 0"), (" limit 9000", "true")]
            {
                let sql = format!("select i, day, many, f, d, wide from t where {which} order by {order}{wanted}");
                let (on, off) = (run(&stages, &sql).await.0, run(&stock, &sql).await.0);
                let shown = |rows: &str| rows.lines().take(8).map(str::to_string).collect::<Vec<_>>().join("\n");
                assert!(on == off, "in memory {in_memory}: {sql}\n{}\n{}", shown(&on), shown(&off));
            }
        }
        // Negative control.
        let (up, down) = ("select i from t order by wide limit 3", "select i from t order by wide desc limit 3");
        assert_ne!(run(&stages, up).await.0, run(&stock, down).await.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn first_rows_are_those_of_the_reference() {
    let (_dir, path) = table();
    let (oracle, cpu) = (session(&path, true, Preference::Reference, false).await, session(&path, true, Preference::Cpu, false).await);
    for order in ["wide desc, i", "few, d, i", "f, i"] {
        let sql = format!("select i, few, d from t where i < 30000 order by {order} limit 100");
        assert_eq!(run(&cpu, &sql).await.0, run(&oracle, &sql).await.0, "{sql}");
    }
}

/// Few first rows are a stage under any limit; more, and all, are sorted by what goes to disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_limited_memory_holds_the_first_rows() {
    let (_dir, path) = table();
    let stock = session(&path, false, Preference::Cpu, false).await;
    let limited = Session::with_options(Options { threads: 2, memory_limit_bytes: Some(16_000_000), ..Options::default() }).unwrap();
    limited.register("t", &path.to_string_lossy()).await.unwrap();
    for (order, wanted, is_stage) in [("wide desc, i", 100, true), ("many, i", 10_000, true), ("d, i", 10_001, false)] {
        let sql = format!("select * from t order by {order} limit {wanted}");
        let plan = limited.sql(&sql).await.unwrap().plan().await.unwrap();
        assert_eq!(displayable(plan.as_ref()).indent(false).to_string().contains("StageExec: top-n"), is_stage, "{sql}");
        assert!(run(&limited, &sql).await.0 == run(&stock, &sql).await.0, "{sql}");
    }
}

/// The first rows come from all pages, or all dictionaries, of a long text, 40 MB of it, and hold no more than themselves.
#[tokio::test(flavor = "multi_thread")]
async fn few_rows_of_many_pages_hold_none_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let text = (0..200_000u64).map(|i| format!("{}{}", mixed(i), "a long text ".repeat(15)));
    let rows = RecordBatch::try_from_iter([
        ("wide", Arc::new(Int64Array::from_iter_values((0..200_000).map(|i| mixed(i) as i64))) as ArrayRef),
        ("text", Arc::new(StringArray::from_iter_values(text)) as ArrayRef),
    ]);
    let rows = rows.unwrap();
    let pages = WriterProperties::builder().set_dictionary_enabled(false).set_data_page_row_count_limit(1_000);
    let dictionaries = WriterProperties::builder().set_max_row_group_row_count(Some(4_000));
    for p in [pages, dictionaries] {
        let mut w = ArrowWriter::try_new(File::create(&path).unwrap(), rows.schema(), Some(p.build())).unwrap();
        w.write(&rows).unwrap();
        w.close().unwrap();
        let stock = session(&path, false, Preference::Cpu, false).await;
        let limited = Session::with_options(Options { threads: 2, memory_limit_bytes: Some(12_000_000), ..Options::default() }).unwrap();
        limited.register("t", &path.to_string_lossy()).await.unwrap();
        let sql = "select * from t order by wide limit 2000";
        assert!(run(&limited, sql).await.0 == run(&stock, sql).await.0);
    }
}

/// Where rows lie in the order that is asked for, or in its reverse, a group or two are read, and all where nulls come first
/// that may be anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_among_the_first_is_not_read() {
    let (_dir, path) = table();
    for (in_memory, most) in [(false, 4 * GROUP_ROWS), (true, 4 * 64 * 1024)] {
        let stages = session(&path, true, Preference::Cpu, in_memory).await;
        for order in ["i desc", "i", "day desc nulls last, wide", "day, many"] {
            let (_, read) = run(&stages, &format!("select * from t order by {order} limit 10")).await;
            assert!((10..=most).contains(&read), "in memory {in_memory}, {order}: {read} rows were read");
        }
        let all = run(&stages, "select * from t order by day desc, wide limit 10").await.1;
        assert_eq!(all, ROWS as usize, "nulls come first");
        let all = run(&stages, "select * from t order by f desc nulls last limit 10").await.1;
        assert_eq!(all, ROWS as usize, "a NaN is greatest, and in no statistics");
    }
}
