//! Tables in memory: the same rows as from Parquet, by stages and by stock operators.

use crate::world::{SCALE, data, session, suite_tpch};
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int8Array, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use millstream::{ErrorKind, Options, Preference, Session};
use millstream_benches::{answer, verify};
use millstream_stage::EpochContext;
use parquet::arrow::ArrowWriter;
use std::path::Path;
use std::sync::Arc;

async fn cached(stages: bool, device: Preference) -> Session {
    let session = session(stages, device).await;
    for t in suite_tpch().tables {
        session.cache(t).await.unwrap();
    }
    session
}

fn names(plan: &Arc<dyn ExecutionPlan>, out: &mut Vec<String>) {
    out.push(plan.name().to_string());
    plan.children().into_iter().for_each(|c| names(c, out));
}

async fn check(session: &Session, id: &str) {
    let q = suite_tpch().query(id).unwrap();
    let rows = session.sql(q.sql).await.unwrap().collect().await.unwrap_or_else(|e| panic!("{id}: {e}"));
    let expected = answer(suite_tpch(), SCALE, q).unwrap().unwrap();
    verify(q, &expected, &rows).unwrap_or_else(|m| panic!("{id}: {m}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_queries_equal_duckdb_without_stock_operators() {
    let session = cached(true, Preference::Cpu).await;
    for q in suite_tpch().queries {
        check(&session, q.id).await;
        let plan = session.sql(q.sql).await.unwrap().plan().await.unwrap();
        assert!(displayable(plan.as_ref()).indent(false).to_string().contains("DataSourceExec: resident"), "{}", q.id);
        let mut all = vec![];
        names(&plan, &mut all);
        let stock: Vec<_> =
            all.iter().filter(|n| ["FilterExec", "AggregateExec", "HashJoinExec", "SortMergeJoinExec"].contains(&n.as_str())).collect();
        assert!(stock.is_empty(), "{}: {stock:?}", q.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_operators_and_the_reference_read_the_same_rows() {
    let stock = cached(false, Preference::Cpu).await;
    for id in ["q1", "q3", "q6", "q9", "q12", "q13", "q16", "q22"] {
        check(&stock, id).await;
    }
    let reference = cached(true, Preference::Reference).await;
    for id in ["q6", "q14"] {
        check(&reference, id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_and_uncache_in_sql() {
    let session = session(true, Preference::Cpu).await;
    let explain = "explain select n_name from nation where n_nationkey > 3";
    let plan = |s: Session| async move { text(&s, explain).await };
    assert!(!plan(session.clone()).await.contains("resident"));
    let rows = text(&session, "cache table nation;").await;
    assert!(rows.contains("nation") && rows.contains("25"), "{rows}");
    assert!(plan(session.clone()).await.contains("resident"));
    // Again: it stays as it is.
    assert_eq!(session.cache("NATION").await.unwrap().rows, 25);
    let held = session.context().runtime_env().memory_pool.reserved();
    assert!(held > 0);
    text(&session, "uncache table nation").await;
    assert!(!plan(session.clone()).await.contains("resident"));
    assert_eq!(session.context().runtime_env().memory_pool.reserved(), 0);
    assert!(text(&session, "select count(*) from nation").await.contains("25"));
    text(&session, "UNCACHE TABLE IF EXISTS no_such_table").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_table_names_the_nearest() {
    let session = session(true, Preference::Cpu).await;
    for sql in ["cache table linitem", "uncache table linitem"] {
        let error = session.sql(sql).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("lineitem"), "{error}");
    }
    let error = session.sql("cache table x as select 1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_run_once() {
    let session = session(true, Preference::Cpu).await;
    session.sql("create view big as select o_orderkey, o_totalprice * 2 twice from orders where o_totalprice > 300000").await.unwrap();
    let sql = "select count(*), sum(twice), min(o_orderkey), max(o_orderkey) from big where o_orderkey > 100";
    let want = text(&session, sql).await;
    session.cache("big").await.unwrap();
    assert!(text(&session, &format!("explain {sql}")).await.contains("resident"));
    assert_eq!(text(&session, sql).await, want);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_limit_refuses_with_the_numbers() {
    let session = Session::with_options(Options { threads: 2, memory_limit_bytes: Some(1_000_000), ..Options::default() }).unwrap();
    for t in ["lineitem", "nation"] {
        session.register(t, &data().join(format!("{t}.parquet")).to_string_lossy()).await.unwrap();
    }
    let error = session.cache("lineitem").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.to_string().contains("lineitem") && error.to_string().contains("1000000"), "{error}");
    // What was reserved on the way is given back, the table still reads its file, a small one fits.
    assert_eq!(session.context().runtime_env().memory_pool.reserved(), 0);
    assert!(text(&session, "select count(*) from lineitem").await.contains("60175"));
    assert_eq!(session.cache("nation").await.unwrap().rows, 25);
}

fn pruned(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let mine = plan.metrics().and_then(|m| m.sum_by_name("morsels_pruned")).map_or(0, |v| v.as_usize());
    mine + plan.children().into_iter().map(pruned).sum::<usize>()
}

/// Rows of a query and how many morsels were skipped.
async fn skipped(session: &Session, sql: &str) -> (String, usize) {
    let plan = session.sql(sql).await.unwrap().plan().await.unwrap();
    let rows = collect(Arc::clone(&plan), session.context().task_ctx()).await.unwrap();
    (pretty_format_batches(&rows).unwrap().to_string(), pruned(&plan))
}

#[tokio::test(flavor = "multi_thread")]
async fn zone_maps_skip_morsels() {
    let rows = 300_000i64;
    let columns: [(&str, ArrayRef); 4] = [
        ("a", Arc::new(Int64Array::from_iter_values(0..rows))),
        ("f", Arc::new(Float64Array::from_iter_values((0..rows).map(|i| if i == 0 { f64::NAN } else { -(i as f64) })))),
        ("z", Arc::new(Float64Array::from_iter_values((0..rows).map(|i| if i < 70_000 { -0.0 } else { 1.0 })))),
        ("d", Arc::new(Decimal128Array::from_iter_values((0..rows).map(i128::from)).with_precision_and_scale(30, 2).unwrap())),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap();
    let session = Session::with_options(Options { threads: 2, ..Options::default() }).unwrap();
    session.context().register_batch("t", batch).unwrap();
    session
        .context()
        .register_batch("u", RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(vec![7, 9])) as ArrayRef)]).unwrap())
        .unwrap();
    session.cache("t").await.unwrap();
    let cases = [
        ("select count(*) from t where a < 1000", 1000, 4),
        ("select count(*) from t where a >= 299999 and a * 2 > 0", 1, 4),
        ("select count(*) from t where a + 0 >= 0", 300_000, 0),
        ("select count(*) from t where d = 1299.99", 1, 4),
        // The morsel with the NaN is read, NaN being the greatest.
        ("select count(*) from t where f > -10", 10, 4),
        ("select count(*) from t where z = 0.0", 70_000, 3),
        ("select count(*) from t where a is null", 0, 5),
        // Found while the query runs: the range of the join's build keys.
        ("select count(*) from u join t on a = k", 2, 4),
    ];
    for (sql, count, skip) in cases {
        let (rows, skipped) = skipped(&session, sql).await;
        assert!(rows.contains(&format!("| {count} ")), "{sql}: {rows}");
        assert_eq!(skipped, skip, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_take_every_morsel_once() {
    let session = Session::with_options(Options { threads: 2, ..Options::default() }).unwrap();
    let batch = RecordBatch::try_from_iter([("a", Arc::new(Int64Array::from_iter_values(0..300_000)) as ArrayRef)]).unwrap();
    session.context().register_batch("t", batch).unwrap();
    session.cache("t").await.unwrap();
    let sql = "select a % 3 k, count(*) n, sum(a) s from t where a >= 70000 group by 1";
    let want = text(&session, &format!("select * from ({sql}) order by k")).await;
    let plan = session.sql(sql).await.unwrap().plan().await.unwrap();
    let mut epoch = Arc::new(EpochContext::first(3));
    loop {
        let fresh = reset_plan_states(Arc::clone(&plan)).unwrap();
        let config = session.context().copied_config().with_extension(Arc::clone(&epoch));
        let task = TaskContext::default().with_session_config(config).with_runtime(session.context().runtime_env());
        let rows = collect(fresh, Arc::new(task)).await.unwrap();
        if epoch.is_final() {
            let (mut got, mut want): (Vec<_>, Vec<_>) = (lines(&pretty_format_batches(&rows).unwrap().to_string()), lines(&want));
            got.sort();
            want.sort();
            assert_eq!(got, want);
            return;
        }
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
        epoch = Arc::new(epoch.next());
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().filter(|l| l.starts_with('|')).map(str::to_string).collect()
}

async fn text(session: &Session, sql: &str) -> String {
    let rows = session.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")).collect().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    pretty_format_batches(&rows).unwrap().to_string()
}

/// Every kind of column, with nulls; `rows` of them.
fn all_kinds(rows: i64) -> RecordBatch {
    let some = |i: i64, every: i64| i % every != 0;
    let word = |i: i64| ["", "alpha", "a string too long to stand in a view", "é"][(i % 4) as usize];
    let wide = |i: i64| if i % 5 == 0 { 10i128.pow(37) + i128::from(i) } else { i128::from(i) };
    let decimal = |v: Vec<Option<i128>>, p, s| Arc::new(Decimal128Array::from(v).with_precision_and_scale(p, s).unwrap()) as ArrayRef;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..rows))),
        ("tiny", Arc::new((0..rows).map(|i| some(i, 3).then_some(i as i8)).collect::<Int8Array>())),
        ("day", Arc::new((0..rows).map(|i| some(i, 5).then_some(i as i32 - 500)).collect::<Date32Array>())),
        ("at", Arc::new((0..rows).map(|i| some(i, 7).then_some(i * 1_000_003)).collect::<TimestampMicrosecondArray>())),
        ("flag", Arc::new((0..rows).map(|i| some(i, 4).then_some(i % 2 == 0)).collect::<BooleanArray>())),
        (
            "real",
            Arc::new((0..rows).map(|i| some(i, 6).then_some(if i == 7 { f64::NAN } else { i as f64 / 3.0 })).collect::<Float64Array>()),
        ),
        ("few", Arc::new((0..rows).map(|i| some(i, 9).then(|| word(i))).collect::<StringArray>())),
        ("many", Arc::new((0..rows).map(|i| some(i, 11).then(|| format!("row number {i}"))).collect::<StringArray>())),
        ("none", Arc::new((0..rows).map(|_| None::<&str>).collect::<StringArray>())),
        ("narrow", decimal((0..rows).map(|i| some(i, 13).then(|| i128::from(i))).collect(), 12, 2)),
        ("small38", decimal((0..rows).map(|i| some(i, 4).then(|| i128::from(i))).collect(), 38, 4)),
        ("wide38", decimal((0..rows).map(|i| some(i, 4).then(|| wide(i))).collect(), 38, 0)),
        (
            "list",
            Arc::new(ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>(
                (0..rows).map(|i| some(i, 3).then(|| vec![Some(i as i32), None])),
            )),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap()
}

fn write(path: &Path, batch: &RecordBatch) {
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_column_comes_back_as_it_was() {
    let queries = [
        "select * from t order by id",
        "select wide38, few, id from t where id >= 3 order by id",
        "select few, count(*), count(tiny), sum(narrow), min(day), max(at), sum(small38), count(distinct many) from t where id >= 0 group by few order by few",
        "select count(*), count(few), min(few), max(few), min(many), max(many), min(none), min(day), max(tiny), min(narrow), max(wide38) from t",
        "select count(distinct day), count(distinct few), count(distinct id), count(distinct none), count(distinct narrow) from t",
        "select id from t where few = 'alpha' and many > 'row number 3' order by id",
        "select a.id, b.many from t a join t b on a.few = b.few and a.id = b.id where a.few like 'a%' order by 1",
        "select id from t where real > 100 or flag order by id",
        "select * from t where id >= 4 order by id limit 3",
        "select count(*) from (select * from t limit 5)",
    ];
    let dir = tempfile::tempdir().unwrap();
    for rows in [0, 5, 5000, 70_000] {
        let path = dir.path().join(format!("t{rows}.parquet"));
        write(&path, &all_kinds(rows));
        for stages in [true, false] {
            let session = Session::with_options(Options { threads: 2, stages, ..Options::default() }).unwrap();
            session.register("t", &path.to_string_lossy()).await.unwrap();
            let mut want = vec![];
            for sql in queries {
                want.push(text(&session, sql).await);
            }
            session.cache("t").await.unwrap();
            for (sql, want) in queries.iter().zip(want) {
                let plan = text(&session, &format!("explain {sql}")).await;
                assert!(plan.contains("resident") || !sql.contains("order by id"), "{sql}");
                let got = text(&session, sql).await;
                assert!(got == want, "stages {stages}, {rows} rows: {sql}\n{}", first_difference(&got, &want));
            }
        }
    }
}

fn first_difference(got: &str, want: &str) -> String {
    let differs = got.lines().zip(want.lines()).find(|(g, w)| g != w);
    differs.map_or_else(|| format!("{} and {} lines", got.lines().count(), want.lines().count()), |(g, w)| format!("{g}\n{w}"))
}
