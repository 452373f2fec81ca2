//! `date_bin` and `date_trunc`: kernels where bins have one width, calls where not, with the rows of stock DataFusion.

use crate::world::{plan_text, sorted_rows};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampNanosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use millstream::{Options, Preference, Session};
use std::sync::Arc;

const ROWS: i64 = 6_000;
const HOUR: i64 = 3_600_000_000_000;

/// `ns`, `us`, `ms`, `s` and, in Vienna, `v`: times around 1970 and around two changes of its clocks, some null;
/// `e`: seconds from one end of 64 bits to the other.
fn rows_of(from: i64, to: i64) -> RecordBatch {
    // 2024-03-31T01:00Z and 2024-10-27T01:00Z are the changes.
    let start = |i: i64| [-500 * HOUR, 1_711_846_800_000_000_000 - 300 * HOUR, 1_729_990_800_000_000_000 - 300 * HOUR][(i % 3) as usize];
    let time = |i: i64| start(i) + i * 7_919 * 61_000_003_001 % (1_000 * HOUR);
    let ns: ArrayRef = Arc::new(TimestampNanosecondArray::from_iter((from..to).map(|i| (i % 13 != 5).then(|| time(i)))));
    let of = |unit| cast(&ns, &DataType::Timestamp(unit, None)).unwrap();
    let vienna = cast(&ns, &DataType::Timestamp(TimeUnit::Millisecond, Some("Europe/Vienna".into()))).unwrap();
    let edges =
        |i: i64| [i64::MIN / 1_000_000_000, -90, 0, 90, i64::MAX / 1_000_000_000, i64::MAX][(i % 6) as usize].saturating_add(i % 11 - 5);
    let e: ArrayRef = Arc::new(Int64Array::from_iter_values((from..to).map(edges)));
    let e = cast(&e, &DataType::Timestamp(TimeUnit::Second, None)).unwrap();
    let columns =
        [("ns", Arc::clone(&ns)), ("us", of(TimeUnit::Microsecond)), ("ms", of(TimeUnit::Millisecond)), ("s", of(TimeUnit::Second))];
    let more = [("v", vienna), ("e", e), ("i", Arc::new(Int64Array::from_iter_values(from..to)) as ArrayRef)];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().chain(more).map(|(name, c)| (name, c, true))).unwrap()
}

fn session(stages: bool, device: Preference) -> Session {
    let session = Session::with_options(Options { threads: 2, stages, device, ..Options::default() }).unwrap();
    session.register_batches("x", (0..ROWS).step_by(1_000).map(|i| rows_of(i, i + 1_000)).collect()).unwrap();
    session
}

/// Each expression as a group key and behind a filter.
async fn check(expressions: &[String], by_kernel: bool) {
    let off = session(false, Preference::Cpu);
    let on = [session(true, Preference::Cpu), session(true, Preference::Reference)];
    for e in expressions {
        for sql in
            [format!("select {e} b, count(*), sum(i) from x group by 1"), format!("select i, {e} b from x where i % 3 = 1 or {e} is null")]
        {
            let plan = plan_text(&on[0], &sql).await;
            assert!(plan.contains("StageExec") && plan.contains("call date_") != by_kernel, "{sql}\n{plan}");
            let want = sorted_rows(&off, &sql).await;
            assert!(want.len() > 5, "{sql}");
            for session in &on {
                assert_eq!(sorted_rows(session, &sql).await, want, "{sql}");
            }
        }
    }
    // Negative control: bins of another width are told apart.
    let wider = "select date_bin(interval '2 hours', ns) b, count(*), sum(i) from x group by 1";
    assert_ne!(sorted_rows(&on[0], wider).await, sorted_rows(&off, &wider.replace('2', "3")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn bins_of_one_width_are_those_of_stock() {
    let mut all = vec![];
    for column in ["ns", "us", "ms", "s", "v"] {
        for width in ["1 second", "7 minutes", "1 hour", "36 hours", "1 day", "10 days 5 hours"] {
            all.push(format!("date_bin(interval '{width}', {column})"));
        }
        all.push(format!("date_bin(interval '1 hour', {column}, timestamp '2024-03-31T00:17:03')"));
        all.push(format!("date_bin(interval '3 days', {column}, timestamp '1969-07-20T20:17:00')"));
        for precision in ["microsecond", "millisecond", "second", "minute", "HOUR", "day", "week"] {
            // Hours and days of a time zone have no one width.
            if column != "v" || !["HOUR", "day", "week"].contains(&precision) {
                all.push(format!("date_trunc('{precision}', {column})"));
            }
        }
    }
    // What does not fit nanoseconds is null, as in DataFusion.
    all.push("date_bin(interval '1 hour', e)".into());
    all.push("date_bin(interval '7 seconds', e, timestamp '2200-01-01')".into());
    check(&all, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bins_of_several_widths_are_calls() {
    let of = [
        "date_bin(interval '1 month', ns)",
        "date_bin(interval '1 millisecond', s)",
        "date_bin(interval '1 second', s, timestamp '2024-01-01T00:00:00.5')",
    ];
    let trunc =
        ["date_trunc('month', ns)", "date_trunc('quarter', s)", "date_trunc('year', us)", "date_trunc('hour', v)", "date_trunc('day', v)"];
    check(&of.into_iter().chain(trunc).map(String::from).collect::<Vec<_>>(), false).await;
}
