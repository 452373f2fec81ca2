//! A limited memory: groups, joins, sorts and windows go to disk, leave the rows of stock DataFusion without
//! a limit, and nothing behind.

use arrow::array::{Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::{ExecutionPlan, collect};
use millstream::{ErrorKind, Options, Session};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROWS: i64 = 300_000;

/// `k`: sparse, some twice, some null; `s`: a text for each; `d`, `f`, `v`: values.
fn rows_of(from: i64, to: i64, seed: i64) -> RecordBatch {
    let sparse = |i: i64| (i * 6_364_136_223_846_793 + seed) % 250_000 * 1_000_003;
    let k = Int64Array::from_iter((from..to).map(|i| (i % 1_000 != 3).then(|| sparse(i))));
    let s = StringArray::from_iter((from..to).map(|i| (i % 1_000 != 7).then(|| format!("this is key number {}", sparse(i) % 200_009))));
    let d = Decimal128Array::from_iter((from..to).map(|i| (i % 11 != 4).then_some(i128::from(i) * 1_000_000_000_007)));
    let v = Int64Array::from_iter((from..to).map(|i| (i % 11 != 5).then_some(i % 97)));
    let f = Float64Array::from_iter_values((from..to).map(|i| (i % 8) as f64));
    RecordBatch::try_from_iter_with_nullable([
        ("k", Arc::new(k) as _, true),
        ("s", Arc::new(s) as _, true),
        ("d", Arc::new(d.with_precision_and_scale(30, 2).unwrap()) as _, true),
        ("v", Arc::new(v) as _, true),
        ("f", Arc::new(f) as _, true),
    ])
    .unwrap()
}

fn session(memory_limit_bytes: Option<usize>) -> Session {
    let options = Options { threads: 2, stages: memory_limit_bytes.is_some(), memory_limit_bytes, ..Options::default() };
    let session = Session::with_options(options).unwrap();
    let batches = |seed, rows: i64| (0..rows).step_by(10_000).map(|i| rows_of(i, i + 10_000, seed)).collect();
    session.register_batches("l", batches(0, ROWS)).unwrap();
    session.register_batches("r", batches(77, ROWS / 2)).unwrap();
    session.register_batches("m", batches(5, ROWS / 3)).unwrap();
    session
}

fn spilled(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let mine = plan.metrics().and_then(|m| m.spilled_bytes()).unwrap_or(0);
    mine + plan.children().into_iter().map(spilled).sum::<usize>()
}

/// Bytes reserved, bytes on disk and files: what has stopped is gone within 100 ms.
async fn left(session: &Session) -> (usize, u64, usize) {
    let env = session.context().runtime_env();
    let stopped = Instant::now();
    loop {
        let files = env.disk_manager.temp_dir_paths().iter().flat_map(|d| std::fs::read_dir(d).into_iter().flatten()).count();
        let left = (env.memory_pool.reserved(), env.disk_manager.used_disk_space(), files);
        if left == NOTHING || stopped.elapsed() > Duration::from_millis(LEFT_MS) {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

const NOTHING: (usize, u64, usize) = (0, 0, 0);

/// The machine may be busy with other tests.
const LEFT_MS: u64 = 1_000;

/// The answer, and the bytes that went to disk.
async fn run(session: &Session, sql: &str) -> (String, usize) {
    let plan = session.sql(sql).await.unwrap().plan().await.unwrap();
    let rows = collect(Arc::clone(&plan), session.context().task_ctx()).await.unwrap_or_else(|e| panic!("{e}: {sql}"));
    (pretty_format_batches(&rows).unwrap().to_string(), spilled(&plan))
}

/// A query's rows in short: how many, and sums that any wrong row would change.
fn digest(inner: &str, columns: &[&str]) -> String {
    let sums = columns.iter().map(|c| format!("sum(coalesce({c}, 17)), sum(coalesce({c}, 3) * (coalesce(key, 1) % 1009)), count({c})"));
    format!("select count(*), {} from ({inner}) g", sums.collect::<Vec<_>>().join(", "))
}

async fn same(limited: &Session, stock: &Session, inner: &str, columns: &[&str]) {
    let sql = digest(inner, columns);
    let (want, _) = run(stock, &sql).await;
    let (got, bytes) = run(limited, &sql).await;
    assert_eq!(got, want, "{inner}");
    assert!(bytes > 0, "nothing went to disk: {inner}");
    assert_eq!(left(limited).await, NOTHING, "{inner}");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_go_to_disk() {
    let (limited, stock) = (session(Some(16 << 20)), session(None));
    let numbers = "select k as key, count(*) n, sum(v) s, min(v) lo, max(v) hi, cast(sum(d) % 1009 as bigint) sd, count(distinct f) df, \
                   cast(sum(f) as bigint) sf, count(v) filter (where f > 3) some from l group by k";
    same(&limited, &stock, numbers, &["n", "s", "lo", "hi", "sd", "df", "sf", "some"]).await;
    let strings = "select length(s) + min(v) as key, count(*) n, sum(v) s, count(distinct v) d, length(min(s)) lo from l group by s";
    same(&limited, &stock, strings, &["n", "s", "d", "lo"]).await;
    let wide = "select cast(d / 1000000000 as bigint) as key, count(*) n, max(k) hi from l group by d";
    same(&limited, &stock, wide, &["n", "hi"]).await;
    let statistics = "select k as key, cast(median(f) * 2 as bigint) m, cast(median(d) % 1009 as bigint) md, bit_xor(v) x, bit_and(v) a, \
                      cast(bool_or(v > 50) as int) o, cast(round(var_pop(f) * 144) as bigint) vf, cast(round(covar_pop(v, f) * 144) as bigint) c from l group by k";
    same(&limited, &stock, statistics, &["m", "md", "x", "a", "o", "vf", "c"]).await;
    let picks = "select k as key, first_value(v order by d) a, length(last_value(s order by d)) t, cast(last_value(d order by d) % 1009 as bigint) b, \
                 last_value(v ignore nulls order by d desc) c from l where d is not null group by k";
    same(&limited, &stock, picks, &["a", "t", "b", "c"]).await;
    let lists = "select k as key, length(string_agg(s, ', ')) t, array_length(array_agg(v)) n, first_value(v order by s, d) a, \
                 try_cast(substr(array_to_string(array_agg(v order by d desc, f), ''), 1, 9) as bigint) o from l where d is not null group by k";
    same(&limited, &stock, lists, &["t", "n", "a", "o"]).await;
    let sets = "select k as key, grouping(k, f, v) g, count(*) n, sum(v) s from l group by grouping sets((k), (k, f), (v), ())";
    same(&limited, &stock, sets, &["g", "n", "s"]).await;
    // Stock DataFusion fails on a percentile of so many groups.
    let quantile = "select k as key, cast(round(percentile_cont(v, 0.25) * 4) as bigint) q from l group by k";
    same(&limited, &session(Some(4 << 30)), quantile, &["q"]).await;
    // Groups of groups, and their rows to the user.
    let twice = "select n as key, count(*) m, sum(k) s from (select k, count(*) n from l group by k, s) g group by n order by n";
    let (want, _) = run(&stock, twice).await;
    let (got, bytes) = run(&limited, twice).await;
    assert_eq!(got, want);
    assert!(bytes > 0);
    assert_eq!(left(&limited).await, NOTHING);
    // Negative control.
    let one = run(&limited, &digest(wide, &["n"])).await.0;
    assert_ne!(one, run(&limited, &digest(&wide.replace("from l", "from l where v <> 3"), &["n"])).await.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_go_to_disk() {
    let (limited, stock) = (session(Some(5 << 20)), session(None));
    for (join, columns) in [
        ("select l.k as key, l.v a, r.v b, length(r.s) c from l join r on l.k = r.k", &["a", "b", "c"][..]),
        ("select l.k as key, l.v a, r.v b, length(r.s) c from l left join r on l.k = r.k", &["a", "b", "c"]),
        ("select r.k as key, l.v a, r.v b, length(r.s) c from l right join r on l.k = r.k", &["a", "b", "c"]),
        ("select coalesce(l.k, r.k) as key, l.v a, r.v b from l full join r on l.k = r.k", &["a", "b"]),
        ("select coalesce(l.k, r.k) as key, l.v a, r.v b from l full join r on l.k = r.k and l.v < r.v", &["a", "b"]),
        ("select l.k as key, l.v a, length(r.s) b from l join r on l.s = r.s and l.v < r.v", &["a", "b"]),
        ("select l.k as key, l.v a from l where exists (select 1 from r where r.k = l.k)", &["a"]),
        ("select l.k as key, l.v a from l where not exists (select 1 from r where r.k = l.k and r.v > l.v)", &["a"]),
        ("select l.k as key, l.v a from l where v = 3 or exists (select 1 from r where r.k = l.k)", &["a"]),
        ("select l.k as key, l.v a from l join r on l.v = r.v and l.k is not distinct from r.k", &["a"]),
        // Two tables on disk: rows wait twice.
        ("select l.k as key, l.v a, r.v b, length(m.s) c from l join r on l.k = r.k join m on m.s = l.s and m.v = r.v", &["a", "b", "c"]),
        ("select l.k as key, l.v a, r.v b, m.v c from l left join r on l.k = r.k left join m on m.k = r.k", &["a", "b", "c"]),
        // Groups over a join, both on disk.
        ("select l.k as key, count(*) a, max(r.v) b from l join r on l.k = r.k group by l.k, r.s", &["a", "b"]),
    ] {
        same(&limited, &stock, join, columns).await;
    }
}

/// Parts that are too large are divided by other bits of the hash. Keys of a small range must not cost a
/// table over all of it for each part.
#[tokio::test(flavor = "multi_thread")]
async fn parts_are_divided_again() {
    let (limited, stock) = (session(Some(1 << 20)), session(None));
    let dense = "(select *, (v * 3109 + cast(d / 1000000000007 as bigint) * 7) % 100000 dense from l)";
    for (inner, columns) in [
        (
            format!("select dense as key, count(*) n, sum(v) s, count(distinct f) c, min(length(s)) lo from {dense} group by dense"),
            &["n", "s", "c", "lo"][..],
        ),
        ("select k as key, count(*) n, count(distinct s) c, max(d) hi from l group by k".into(), &["n", "c", "hi"]),
        ("select l.k as key, l.v a, r.v b, length(r.s) c from l left join r on l.k = r.k and l.v < r.v".into(), &["a", "b", "c"]),
    ] {
        for _ in 0..3 {
            same(&limited, &stock, &inner, columns).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_joins_on_disk_stream() {
    let (limited, stock) = (session(Some(10 << 20)), session(None));
    let sql = "select l.k, l.s, r.d from l join r on l.k = r.k";
    let count = |s: Session| async move {
        let mut rows = s.sql(sql).await.unwrap().stream().await.unwrap();
        let mut n = 0;
        while let Some(b) = rows.next().await {
            n += b.unwrap().num_rows();
        }
        n
    };
    assert_eq!(count(limited.clone()).await, count(stock).await);
    assert_eq!(left(&limited).await, NOTHING);
}

#[tokio::test(flavor = "multi_thread")]
async fn sorts_and_windows_go_to_disk() {
    let (limited, stock) = (session(Some(24 << 20)), session(None));
    for sql in [
        "select count(*), sum(n * (k % 1009)) from (select k, row_number() over (order by s, k, v, f) n from l) x",
        "select sum(k % 7 * n) from (select k, row_number() over (order by k, v, f, d) n from (select * from l order by s) y) x",
    ] {
        let (want, _) = run(&stock, sql).await;
        let (got, bytes) = run(&limited, sql).await;
        assert_eq!(got, want, "{sql}");
        assert!(bytes > 0, "{sql}");
        assert_eq!(left(&limited).await, NOTHING, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_memory_holds_is_refused_with_the_numbers() {
    let session = session(Some(8 << 20));
    // One key for all rows cannot be divided.
    let skewed = "select count(*) from (select k - k one, s from l) a join (select k - k one, s from l where v >= 0) b \
                  on a.one = b.one and a.s < b.s";
    for sql in [skewed, "select count(distinct s), count(distinct k) from l"] {
        let error = session.sql(sql).await.unwrap().collect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}: {sql}");
        assert!(error.to_string().contains("MB") || error.to_string().contains("KB"), "{error}");
        assert_eq!(left(&session).await, NOTHING);
    }
    // The session lives on.
    assert!(run(&session, "select count(*) from l").await.0.contains("300000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_an_error_and_leaves_nothing() {
    let session = session(Some(10 << 20));
    session.sql("set datafusion.runtime.max_temp_directory_size = '2M'").await.unwrap();
    for sql in [
        "select count(*) from (select k, s, count(*) from l group by k, s) g",
        "select count(*), sum(l.v) from l join r on l.k = r.k and l.s <> r.s",
    ] {
        let error = session.sql(sql).await.unwrap().collect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
        assert!(error.to_string().contains("spill file") && error.to_string().contains("2.0 MB"), "{error}");
        assert_eq!(left(&session).await, NOTHING, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_spill_leaves_nothing() {
    let session = session(Some(10 << 20));
    for sql in ["select k, s, count(*) from l group by k, s", "select l.k, r.s from l join r on l.k = r.k join m on m.s = l.s"] {
        for wait in [0, 20, 60, 150] {
            let query = session.sql(sql).await.unwrap();
            let mut rows = query.stream().await.unwrap();
            let _ = tokio::time::timeout(Duration::from_millis(wait), rows.next()).await;
            drop(rows);
            assert_eq!(left(&session).await, NOTHING, "after {wait} ms: {sql}");
        }
    }
}
