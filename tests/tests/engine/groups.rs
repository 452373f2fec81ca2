//! Groups that outgrow the cache: tables emptied by part while rows come, and tables merged only where
//! they meet, with the rows of stock DataFusion.

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use millstream::{Options, Session};
use std::sync::Arc;

const ROWS: i64 = 500_000;

/// Sparse keys of which few come twice, as numbers and as strings; `c` is clustered, four rows a key.
fn rows_of(from: i64, to: i64) -> RecordBatch {
    let sparse = |i: i64| (i * 6_364_136_223_846_793) % 380_000 * 1_000_003;
    let k = Int64Array::from_iter((from..to).map(|i| (i % 1_000 != 3).then(|| sparse(i))));
    let s = StringArray::from_iter((from..to).map(|i| (i % 1_000 != 7).then(|| format!("key number {}", sparse(i) % 400_009))));
    let c = Int64Array::from_iter_values((from..to).map(|i| i / 4 * 977));
    let v = Int64Array::from_iter((from..to).map(|i| (i % 11 != 5).then_some(i % 97)));
    let f = Float64Array::from_iter_values((from..to).map(|i| (i % 8) as f64));
    let t = StringArray::from_iter_values((from..to).map(|i| format!("t{}", i % 13)));
    RecordBatch::try_from_iter_with_nullable([
        ("k", Arc::new(k) as _, true),
        ("s", Arc::new(s) as _, true),
        ("c", Arc::new(c) as _, true),
        ("v", Arc::new(v) as _, true),
        ("f", Arc::new(f) as _, true),
        ("t", Arc::new(t) as _, true),
    ])
    .unwrap()
}

fn session(stages: bool) -> Session {
    let session = Session::with_options(Options { threads: 2, stages, ..Options::default() }).unwrap();
    let batches = (0..ROWS).step_by(50_000).map(|i| rows_of(i, i + 50_000)).collect();
    session.register_batches("x", batches).unwrap();
    session
}

/// The rows in short: how many, and sums that any wrong row would change.
async fn digest(session: &Session, inner: &str, columns: &[&str]) -> (String, Vec<String>) {
    let sums = columns.iter().map(|c| format!("sum(coalesce({c}, 17)), sum(coalesce({c}, 3) * (coalesce(key, 1) % 1009)), count({c})"));
    let sql = format!("select count(*), {} from ({inner}) g", sums.collect::<Vec<_>>().join(", "));
    let (batches, profile) = session.sql(&sql).await.unwrap().profile().await.unwrap_or_else(|e| panic!("{e}: {sql}"));
    let kinds = profile.stages.into_iter().flat_map(|s| s.tables).collect();
    (pretty_format_batches(&batches).unwrap().to_string(), kinds)
}

#[tokio::test(flavor = "multi_thread")]
async fn large_groups_agree_with_stock() {
    let (on, off) = (session(true), session(false));
    let numbers = "select k as key, count(*) n, sum(v) s, min(v) lo, max(v) hi, count(distinct t) d, cast(sum(f) as bigint) sf, \
                   count(v) filter (where f > 3) some from x group by k";
    let strings = "select length(s) + min(v) as key, count(*) n, sum(v) s, count(distinct v) d, length(min(t)) lo from x group by s";
    let lists = "select coalesce(k, 5) as key, length(string_agg(t, ', ')) n, array_length(array_agg(v)) w, \
                 try_cast(substr(array_to_string(array_agg(v order by f, t, c), ''), 1, 9) as bigint) o from x group by k";
    let sets = "select coalesce(k, 5) as key, length(t) w, count(*) n, sum(v) s, grouping(t) g from x group by rollup(k, t)";
    let pairs = "select coalesce(k, 5) as key, count(*) n, length(t) w from x group by k, t";
    let clustered = "select c as key, count(*) n, sum(v) s, max(v) hi from x group by c";
    for (sql, columns, kind) in [
        (numbers, &["n", "s", "lo", "hi", "d", "sf", "some"][..], "radix"),
        (strings, &["n", "s", "d", "lo"][..], "radix"),
        (lists, &["n", "w", "o"][..], "radix"),
        (sets, &["w", "n", "s", "g"][..], "radix"),
        (pairs, &["n", "w"][..], "radix"),
        (clustered, &["n", "s", "hi"][..], ""),
    ] {
        let (want, _) = digest(&off, sql, columns).await;
        let (got, kinds) = digest(&on, sql, columns).await;
        assert_eq!(got, want, "{sql}");
        assert!(kind.is_empty() || kinds.iter().any(|k| k == kind), "{kinds:?}: {sql}");
    }
    // Negative control: another table's digest differs.
    let (one, _) = digest(&on, clustered, &["n"]).await;
    assert_ne!(one, digest(&on, &clustered.replace("from x", "from x where c <> 977"), &["n"]).await.0);
}
