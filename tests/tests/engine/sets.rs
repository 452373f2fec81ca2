//! Set operations and grouping sets: in stages, with the rows of stock DataFusion and of the reference.

use crate::world::{plan_text, sorted_rows};
use arrow::array::{BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, RecordBatch, StringArray};
use millstream::{Options, Preference, Session};
use std::sync::Arc;

const ROWS: i32 = 5_000;

/// Few values and many nulls in each column, so that rows are often equal; `v` and `f` are values.
fn rows_of(from: i32, to: i32, seed: i32) -> RecordBatch {
    let mixed = |i: i32, below: i32| (i.wrapping_mul(7_919).wrapping_add(seed) >> 3).rem_euclid(below);
    let a = Int32Array::from_iter((from..to).map(|i| (mixed(i, 5) > 0).then(|| mixed(i, 4))));
    let b = StringArray::from_iter((from..to).map(|i| (mixed(i, 7) > 1).then(|| format!("text {}", mixed(i, 3)))));
    let d = Date32Array::from_iter((from..to).map(|i| (mixed(i, 11) > 2).then(|| mixed(i, 2) + 9_000)));
    let n = Decimal128Array::from_iter((from..to).map(|i| (mixed(i, 13) > 3).then(|| i128::from(mixed(i, 2)) << 70)));
    let t = BooleanArray::from_iter((from..to).map(|i| (mixed(i, 3) > 0).then(|| mixed(i, 2) == 0)));
    let v = Int32Array::from_iter((from..to).map(|i| (i % 9 != 4).then_some(i % 101)));
    let f = Float64Array::from_iter((from..to).map(|i| (i % 8 != 3).then_some(f64::from(i % 16) / 4.0)));
    RecordBatch::try_from_iter_with_nullable([
        ("a", Arc::new(a) as _, true),
        ("b", Arc::new(b) as _, true),
        ("d", Arc::new(d) as _, true),
        ("n", Arc::new(n.with_precision_and_scale(30, 2).unwrap()) as _, true),
        ("t", Arc::new(t) as _, true),
        ("v", Arc::new(v) as _, true),
        ("f", Arc::new(f) as _, true),
    ])
    .unwrap()
}

fn session(stages: bool, device: Preference) -> Session {
    let session = Session::with_options(Options { threads: 2, stages, device, ..Options::default() }).unwrap();
    for (name, seed) in [("x", 1), ("y", 77)] {
        session.register_batches(name, (0..ROWS).step_by(500).map(|i| rows_of(i, i + 500, seed)).collect()).unwrap();
    }
    session
}

/// The same rows on the CPU and by the reference as without stages; nothing stock but the sources and what joins their rows.
async fn check(queries: &[String]) {
    let off = session(false, Preference::Cpu);
    let on = [session(true, Preference::Cpu), session(true, Preference::Reference)];
    for sql in queries {
        let plan = plan_text(&on[0], sql).await;
        assert!(plan.contains("StageExec") && !plan.contains("AggregateExec") && !plan.contains("JoinExec"), "{sql}\n{plan}");
        let want = sorted_rows(&off, sql).await;
        assert!(want.len() > 4, "no rows: {sql}");
        for session in &on {
            assert_eq!(sorted_rows(session, sql).await, want, "{sql}");
        }
    }
    // Negative control: the rows of another query are told apart.
    assert_ne!(sorted_rows(&on[0], &queries[0]).await, sorted_rows(&off, &queries[1]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn set_operations_are_those_of_stock() {
    let of = |op: &str, columns: &str| format!("select {columns} from x where v > 30 {op} select {columns} from y where v < 70");
    let mut all: Vec<String> = vec![];
    for op in ["union", "intersect", "except", "intersect all", "except all"] {
        for columns in ["a, b", "a, b, d", "b, n, t", "a, b, d, n, t", "t, v"] {
            // All rows of x are in y for the fewest columns: take some away.
            all.push(of(op, columns).replace("v < 70", "v < 70 and coalesce(a, 0) <> 2 and b is distinct from 'text 1'"));
        }
    }
    all.push("select a from x union select a from y intersect select v from x where v < 3".into());
    all.push("select count(*) c, 1 from (select a, b from x intersect select a, b from y) z union all select 2, 2".into());
    check(&all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floats_in_set_operations_are_equal_by_value() {
    let values = |list: &str| format!("select f, g from (values {list}) t(f, g)");
    let left = values(
        "(cast('NaN' as double), 1), (cast('-0' as double), null), (null, null), (null, null), (1.5, 2), (cast('inf' as double), 3)",
    );
    let right = values("(-cast('NaN' as double), 1), (cast('0' as double), null), (null, null), (2.5, 2), (cast('-inf' as double), 3)");
    for device in [Preference::Cpu, Preference::Reference] {
        let session = session(true, device);
        for (op, count) in [("union", 7), ("intersect", 3), ("except", 2), ("union all", 11)] {
            let sql = format!("select count(*) from ({left} {op} {right}) s");
            assert!(sorted_rows(&session, &sql).await.iter().any(|l| l.replace(' ', "") == format!("|{count}|")), "{sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grouping_sets_are_those_of_stock() {
    let list = "count(*) c, sum(v) s, avg(v) m, min(b) lo, max(d) hi, count(distinct v) u, median(f) h, count(v) filter (where f > 2) k";
    let mut all: Vec<String> = vec![];
    for sets in [
        "rollup(a, b)",
        "cube(a, b, d)",
        "rollup(t, n, d)",
        "cube(n, t)",
        "grouping sets((a), (b), (a, d), ())",
        "grouping sets((a), (a), ())",
        "a, rollup(b, t)",
        "grouping sets(())",
        "grouping sets((), ())",
        "grouping sets((a + 1), (b || 'x', t))",
    ] {
        all.push(format!("select {list} from x group by {sets}"));
    }
    // Nulls of a key and of a set are told apart by `grouping`.
    all.push(format!("select a, b, grouping(a) ga, grouping(b) gb, grouping(a, b) g, {list} from x group by cube(a, b)"));
    all.push("select a, b, d, n, t, count(*), grouping(a, b, d, n, t) from x group by cube(a, b, d, n, t)".into());
    // Without rows there is a group of the set of no key.
    all.push(format!("select a, b, grouping(a), {list} from x where v < 0 group by rollup(a, b)"));
    all.push("select count(*), max(v) from x where v < 0 group by grouping sets((), ())".into());
    all.push(format!("select x.a, y.b, {} from x join y on x.v = y.v and x.f = y.f group by rollup(x.a, y.b)", "count(*), sum(x.v)"));
    all.push("select b, k, count(*) from (select x.b, z.k from x left join (select 1 k, 5 j) z on x.v = z.j) q group by cube(b, k)".into());
    all.push("select a, t, sum(v) from x group by rollup(a, t) having sum(v) > 1000 or a is null".into());
    // An order by a key that not every set has is an order within a group.
    all.push("select b, first_value(a order by a, t, v, f) fa, last_value(a order by b, a) la from x group by rollup(b, a)".into());
    check(&all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_how_many_grouping_sets_there_are() {
    let session = session(true, Preference::Cpu);
    let plan = plan_text(&session, "select a, b, count(*) from x group by cube(a, b)").await;
    assert!(plan.contains("keys=3, sets=4, aggregates=[count]"), "{plan}");
}
