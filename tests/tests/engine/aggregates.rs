//! Every aggregate that a group stage computes, over every type that it takes, with the rows of stock DataFusion
//! and of the reference.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::util::display::array_value_to_string;
use datafusion::physical_plan::displayable;
use millstream::{Options, Preference, Session};
use std::sync::Arc;

const ROWS: i64 = 6_000;

/// `k` few groups, one of them null; `g` a group for two rows; `o` another number in each row; `f`, `h` floats that go together, `c` a constant
/// one; an `i` for every integer type, `d` for decimals, all with nulls.
fn rows_of(from: i64, to: i64) -> RecordBatch {
    let mixed = |i: i64| (i * 7_919 + 13) % 1_000 - 400;
    let k = Int64Array::from_iter((from..to).map(|i| (i % 17 != 3).then_some(i % 17)));
    let g = Int64Array::from_iter_values((from..to).map(|i| i / 2));
    let b = BooleanArray::from_iter((from..to).map(|i| (i % 5 != 2).then_some(i % 17 > 8 || mixed(i) > 500)));
    let f = Float64Array::from_iter((from..to).map(|i| (i % 7 != 1).then_some(mixed(i) as f64 / 8.0)));
    let h = Float64Array::from_iter((from..to).map(|i| (i % 11 != 1).then_some(mixed(i) as f64 / 3.0 + (i % 29) as f64)));
    let c = Float64Array::from_iter_values((from..to).map(|_| 2.5));
    let s = StringArray::from_iter_values((from..to).map(|i| format!("s{}", i % 19)));
    let n: ArrayRef = Arc::new(Int64Array::from_iter((from..to).map(|i| (i % 13 != 4).then_some(mixed(i).rem_euclid(97)))));
    let of = |t: &DataType| cast(&n, t).unwrap();
    use DataType::*;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("k", Arc::new(k)),
        ("g", Arc::new(g)),
        ("o", Arc::new(Int64Array::from_iter_values((from..to).map(|i| i * 7_919 % ROWS)))),
        ("b", Arc::new(b)),
        ("f", Arc::new(f)),
        ("h", Arc::new(h)),
        ("c", Arc::new(c)),
        ("s", Arc::new(s)),
        ("i8", of(&Int8)),
        ("i16", of(&Int16)),
        ("i32", of(&Int32)),
        ("i64", of(&Int64)),
        ("u8", of(&UInt8)),
        ("u16", of(&UInt16)),
        ("u32", of(&UInt32)),
        ("u64", of(&UInt64)),
        ("f32", of(&Float32)),
        ("d32", of(&Decimal32(9, 2))),
        ("d64", of(&Decimal64(18, 3))),
        ("d", of(&Decimal128(38, 4))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, c)| (name, c, true))).unwrap()
}

fn session(stages: bool, device: Preference) -> Session {
    let session = Session::with_options(Options { threads: 2, stages, device, ..Options::default() }).unwrap();
    let batches = (0..ROWS).step_by(1_000).map(|i| rows_of(i, i + 1_000)).collect();
    session.register_batches("x", batches).unwrap();
    session
}

/// The reference has no values of unsigned 64 bits or of 32-bit floats.
const BOTH: [Preference; 2] = [Preference::Cpu, Preference::Reference];

/// Schemas and rows alike: floats within 1e-9, all else exactly, in the order of the first column.
fn difference(got: &[RecordBatch], want: &[RecordBatch]) -> Option<String> {
    let one = |rows: &[RecordBatch]| arrow::compute::concat_batches(&rows[0].schema(), rows).unwrap();
    let (got, want) = (one(got), one(want));
    let types = |r: &RecordBatch| r.schema().fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
    if types(&got) != types(&want) || got.num_rows() != want.num_rows() {
        return Some(format!("{} rows of {:?}, not {} of {:?}", got.num_rows(), types(&got), want.num_rows(), types(&want)));
    }
    let order = |r: &RecordBatch| arrow::compute::sort_to_indices(r.column(0), None, None).unwrap();
    for (c, field) in want.schema().fields().iter().enumerate() {
        let column = |r: &RecordBatch| arrow::compute::take(r.column(c), &order(r), None).unwrap();
        let (a, b) = (column(&got), column(&want));
        for i in 0..a.len() {
            let same = a.is_null(i) == b.is_null(i)
                && (a.is_null(i)
                    || match (a.as_primitive_opt::<Float64Type>(), b.as_primitive_opt::<Float64Type>()) {
                        (Some(a), Some(b)) => close(a.value(i), b.value(i)),
                        _ => array_value_to_string(&a, i).unwrap() == array_value_to_string(&b, i).unwrap(),
                    });
            if !same {
                let text = |v: &ArrayRef| if v.is_null(i) { "null".into() } else { array_value_to_string(v, i).unwrap() };
                return Some(format!("{} of group {i}: {}, not {}", field.name(), text(&a), text(&b)));
            }
        }
    }
    None
}

fn close(a: f64, b: f64) -> bool {
    a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) + 1e-12
}

/// The aggregates in one query a shape: few groups, many, one, of filtered rows and of none.
async fn check(aggregates: &[String], devices: &[Preference]) {
    let (on, off) = (session(true, Preference::Cpu), session(false, Preference::Cpu));
    let sessions: Vec<Session> = devices.iter().map(|d| session(true, *d)).collect();
    let rows = async |s: &Session, sql: &str| s.sql(sql).await.unwrap().collect().await.unwrap_or_else(|e| panic!("{e}: {sql}"));
    let list = aggregates.iter().enumerate().map(|(i, a)| format!("{a} as c{i}")).collect::<Vec<_>>().join(", ");
    let filtered =
        aggregates.iter().enumerate().map(|(i, a)| format!("{a} filter (where i64 > 40) as c{i}")).collect::<Vec<_>>().join(", ");
    for sql in [
        format!("select k, {list} from x group by k"),
        format!("select g, {list} from x group by g"),
        format!("select s, {filtered} from x group by s"),
        format!("select 1, {list} from x"),
        format!("select 1, {list} from x where g < 0"),
        format!("select k, {list} from x where f is null or h is null or i64 is null group by k"),
    ] {
        let plan = on.sql(&sql).await.unwrap().plan().await.unwrap();
        let plan = displayable(plan.as_ref()).indent(false).to_string();
        assert!(plan.contains("StageExec: group") && !plan.contains("AggregateExec"), "{sql}\n{plan}");
        let want = rows(&off, &sql).await;
        for session in &sessions {
            if let Some(what) = difference(&rows(session, &sql).await, &want) {
                panic!("{what}\n{sql}");
            }
        }
        // Negative control: rows that one group fewer has are told apart.
        if sql.contains("group by k") {
            assert!(difference(&rows(&on, &format!("select * from ({sql}) where k is distinct from 5")).await, &want).is_some());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_bits_and_booleans() {
    let integers = ["i8", "i16", "i32", "i64", "u8", "u16", "u32"];
    let bits = integers.iter().flat_map(|i| ["bit_and", "bit_or", "bit_xor"].map(|f| format!("{f}({i})")));
    let all: Vec<String> = bits.chain(["bool_and(b)", "bool_or(b)", "bool_and(f > 0)", "bit_or(distinct i64)"].map(String::from)).collect();
    check(&all, &BOTH).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_moments() {
    let one = ["var", "var_pop", "stddev", "stddev_pop"];
    let two = [
        "covar_samp",
        "covar_pop",
        "corr",
        "regr_slope",
        "regr_intercept",
        "regr_r2",
        "regr_avgx",
        "regr_avgy",
        "regr_sxx",
        "regr_syy",
        "regr_sxy",
    ];
    let singles = one.iter().flat_map(|f| ["f", "c", "i8", "i32", "i64", "d"].map(|a| format!("{f}({a})")));
    let pairs = two.iter().flat_map(|f| ["f, h", "h, i32", "c, f", "f, c", "d, i64"].map(|a| format!("{f}({a})")));
    check(&singles.chain(pairs).collect::<Vec<_>>(), &BOTH).await;
    check(
        &["var_pop(u64)", "stddev(f32)", "corr(f32, u64)", "regr_count(f, h)", "regr_count(i32, d)", "regr_count(c, 1)"].map(String::from),
        &[Preference::Cpu],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_medians_and_quantiles() {
    let medians = ["f", "c", "i8", "i16", "i32", "i64", "u8", "u32", "d32", "d64", "d", "-d"].map(|a| format!("median({a})"));
    let quantiles = ["percentile_cont(f, 0.25)", "quantile_cont(i32, 0.9)", "percentile_cont(0.99) within group (order by h)"];
    let descending = ["percentile_cont(0.1) within group (order by d desc)", "percentile_cont(c, 0.5)", "percentile_cont(f, 0.333)"];
    let all: Vec<String> = medians.into_iter().chain(quantiles.into_iter().chain(descending).map(String::from)).collect();
    check(&all, &BOTH).await;
    check(&["median(u64)", "median(f32)", "median(-f32)", "percentile_cont(u64, 0.7)"].map(String::from), &[Preference::Cpu]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_first_and_last_rows() {
    let values = ["f", "b", "s", "i8", "i32", "i64", "u8", "u32", "d32", "d", "o", "arrow_cast(s, 'Dictionary(Int32, Utf8)')"];
    let orders = ["o desc", "o desc nulls last", "cast(o as double) / 4", "-cast(o as decimal(30, 2))"];
    let of = |f: &'static str| {
        let typed = values.iter().map(move |v| format!("{f}({v} order by o)"));
        typed.chain(orders.iter().map(move |o| format!("{f}(i64 order by {o})")))
    };
    let mut all: Vec<String> = of("first_value").chain(of("last_value")).collect();
    all.extend(["first_value(f ignore nulls order by o)", "last_value(i32 ignore nulls order by o)"].map(String::from));
    // By text and by several keys, of which the last is another one in each row.
    let keys = ["s, o", "s desc nulls last, f nulls first, o desc", "f desc, o", "b nulls first, d desc, i8, s, o"];
    all.extend(keys.iter().flat_map(|by| ["i64", "s", "f"].map(|v| format!("first_value({v} order by {by})"))));
    all.extend(keys.iter().map(|by| format!("last_value(d ignore nulls order by {by})")));
    // Of rows without an order any may be picked: here they are alike.
    all.extend(["first_value(c)", "last_value(c)", "first_value(null::bigint)"].map(String::from));
    check(&all, &BOTH).await;

    let (on, off) = (session(true, Preference::Cpu), session(false, Preference::Cpu));
    for sql in ["select distinct on (k) k, f, s, i8 from x order by k, o desc", "select k, first_value(f order by k, o) from x group by k"]
    {
        let (got, want) = (on.sql(sql).await.unwrap(), off.sql(sql).await.unwrap());
        assert!(got.clone().stages().await.unwrap().stages.iter().any(|s| s.sink == "group"), "{sql}");
        let (got, want) = (got.collect().await.unwrap(), want.collect().await.unwrap());
        assert_eq!(difference(&got, &want), None, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_lists_in_an_order() {
    let values = ["f", "b", "s", "i8", "i16", "i32", "i64", "u8", "u32", "d32", "d64", "d", "arrow_cast(s, 'Dictionary(Int32, Utf8)')"];
    let times = [
        "arrow_cast(i32, 'Date32')",
        "arrow_cast(i64, 'Timestamp(Millisecond, None)')",
        "arrow_cast(i64, 'Timestamp(Second, Some(\"+01:00\"))')",
    ];
    let mut all: Vec<String> = values.iter().chain(&times).map(|v| format!("array_agg({v} order by o)")).collect();
    all.extend(
        ["array_agg(f ignore nulls order by o)", "array_agg(null::bigint)", "array_agg(null::bigint ignore nulls)"].map(String::from),
    );
    check(&all, &[Preference::Cpu]).await;
    let texts = ["s", "cast(i64 as varchar)", "arrow_cast(s, 'LargeUtf8')", "arrow_cast(s, 'Dictionary(Int8, Utf8)')", "concat(s, f)"];
    let mut all: Vec<String> = texts.iter().map(|t| format!("string_agg({t}, ', ' order by o)")).collect();
    all.extend(["string_agg(s, null order by o)", "string_agg(null::varchar, ',')"].map(String::from));
    check(&all, &BOTH).await;
    // DataFusion refuses lists of several orders in one query, unless one is another turned around.
    for by in ["o desc", "s, o", "f desc nulls last, h nulls first, o", "b, -d, i8 desc, o"] {
        check(&[format!("string_agg(s, '' order by {by})"), format!("string_agg(concat(o, f), '/' order by {by})")], &BOTH).await;
        check(&[format!("array_agg(i64 order by {by})")], &[Preference::Cpu]).await;
    }
    check(&["array_agg(o order by o)", "array_agg(s order by o desc)", "array_agg(d order by o)"].map(String::from), &[Preference::Cpu])
        .await;
}

/// Without an order a list is one of values in any order.
#[tokio::test(flavor = "multi_thread")]
async fn of_lists_without_an_order() {
    let (on, off) = (session(true, Preference::Cpu), session(false, Preference::Cpu));
    for sql in [
        "select k, array_sort(array_agg(i64)) a, array_sort(array_agg(s)) b, array_sort(array_agg(f ignore nulls)) c from x group by k",
        "select g, array_sort(array_agg(d)) a, array_sort(string_to_array(string_agg(s, '|'), '|')) b from x group by g",
        "select 1, array_sort(array_agg(distinct i8)) a from x",
        "select k, array_sort(array_agg(distinct i8)) a from x group by k",
        "select s, array_sort(array_agg(k) filter (where i8 > 0)) a, length(string_agg(s, ', ') filter (where i8 > 0)) b from x group by s",
    ] {
        let (got, want) = (on.sql(sql).await.unwrap(), off.sql(sql).await.unwrap());
        let profile = got.clone().stages().await.unwrap();
        assert!(profile.stock.iter().all(|s| s.operator != "AggregateExec"), "{sql}: {:?}", profile.stock);
        let (got, want) = (got.collect().await.unwrap(), want.collect().await.unwrap());
        assert_eq!(difference(&got, &want), None, "{sql}");
    }
}

/// What no kernel covers is left to stock operators, by name.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_to_stock_says_why() {
    let session = session(true, Preference::Cpu);
    for (aggregate, why) in [
        // One distinct argument alone DataFusion turns into groups of groups.
        ("median(distinct f), median(distinct h)", "has no kernel"),
        ("var(distinct f), count(distinct h)", "has no kernel"),
        ("bit_and(u64)", "arguments without kernel"),
        ("array_agg(f32)", "arguments without kernel"),
        ("array_agg(f order by f32)", "arguments without kernel"),
        ("array_agg(distinct f), array_agg(distinct h)", "has no kernel"),
        ("string_agg(distinct s, ',')", "has no kernel"),
        ("first_value(f order by u64, o)", "arguments without kernel"),
        ("first_value(f32)", "arguments without kernel"),
    ] {
        let table = session.sql(&format!("select {aggregate} from x group by k")).await.unwrap();
        let stock = table.clone().stages().await.unwrap().stock;
        assert!(stock.iter().any(|s| s.reason.contains(why)), "{aggregate}: {stock:?}");
        let rows = table.collect().await.unwrap();
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 17);
    }
}
