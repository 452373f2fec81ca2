//! Generated queries over generated tables: the device's rows are the CPU's.
//!
//! `MILLSTREAM_PAIRS` pairs from `MILLSTREAM_SEED` on; a pair that fails names its seed, which makes it again.

use super::{CLASSES, alone, measure};
use crate::world::{SPREAD, has_gpu, mixed};
use arrow::array::{ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::collect;
use millstream::{Options, Preference, Session};
use millstream_kernels::gpu::CapabilityClass;
use millstream_stage::Settings;
use std::sync::Arc;

/// Pairs of one run where nobody says how many.
const PAIRS: u64 = 120;
/// Queries over one pair of tables.
const QUERIES: u64 = 10;

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        let next = mixed(self.0);
        self.0 = self.0.wrapping_add(SPREAD);
        next
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u64) as usize]
    }

    fn number(&mut self, most: i64) -> i64 {
        self.below(2 * most as u64 + 1) as i64 - most
    }
}

/// Facts `t` and their dimension `u`. Floats are eighths of small numbers: their sums are exact in any order.
fn tables(seed: u64) -> (RecordBatch, RecordBatch) {
    let mut g = Chance(seed);
    let n = [0, 1, 37, 700, 5000][g.below(5) as usize];
    let keys = [3, 40, 2000][g.below(3) as usize];
    let nulls = g.below(3);
    let wide = if g.below(4) == 0 { i64::MAX / 4 } else { 1 << 40 };
    let mut some = |value: &mut dyn FnMut(&mut Chance) -> i64| -> Vec<Option<i64>> {
        (0..n).map(|_| (nulls == 0 || g.below(6) > 0).then(|| value(&mut g))).collect()
    };
    let k = some(&mut |g| g.number(keys));
    let w = some(&mut |g| g.number(90));
    let v = some(&mut |g| g.number(wide));
    let p = some(&mut |g| g.number(99_999));
    let d = some(&mut |g| g.below(60) as i64);
    let f = some(&mut |g| g.number(800));
    let s = some(&mut |g| g.below(23) as i64);
    let b = some(&mut |g| g.below(2) as i64);
    let decimals: Decimal128Array = p.into_iter().map(|v| v.map(i128::from)).collect();
    let t: Vec<(&str, ArrayRef)> = vec![
        ("k", Arc::new(Int64Array::from(k))),
        ("w", Arc::new(w.into_iter().map(|v| v.map(|v| v as i32)).collect::<Int32Array>())),
        ("v", Arc::new(Int64Array::from(v))),
        ("p", Arc::new(decimals.with_precision_and_scale(12, 2).unwrap())),
        ("d", Arc::new(d.into_iter().map(|v| v.map(|v| v as i32)).collect::<Date32Array>())),
        ("f", Arc::new(f.into_iter().map(|v| v.map(|v| v as f64 / 8.0)).collect::<Float64Array>())),
        ("s", Arc::new(s.into_iter().map(|v| v.map(|v| format!("s{v}"))).collect::<StringArray>())),
        ("b", Arc::new(b.into_iter().map(|v| v.map(|v| v == 1)).collect::<BooleanArray>())),
    ];
    let spread = if g.below(2) == 0 { 1 } else { 1_000_003 };
    let m = g.below(80) as i64;
    let dk: Vec<i64> = (0..m).map(|i| if g.below(9) == 0 { i / 2 * spread } else { i * spread }).collect();
    let u: Vec<(&str, ArrayRef)> = vec![
        ("dk", Arc::new(Int64Array::from(dk))),
        ("name", Arc::new((0..m).map(|i| (i % 7 != 3).then(|| format!("n{}", i % 11))).collect::<StringArray>())),
        ("weight", Arc::new((0..m).map(|_| g.number(200)).collect::<Int64Array>())),
    ];
    let batch =
        |columns: Vec<(&str, ArrayRef)>| RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
    (batch(t), batch(u))
}

/// An expression of numbers; some multiply what may not fit.
fn number(g: &mut Chance, depth: u64) -> String {
    match g.below(if depth == 0 { 4 } else { 9 }) {
        0 => "k".into(),
        1 => "w".into(),
        2 => "v".into(),
        3 => "p".into(),
        4 => format!("({} + {})", g.of(&["k", "w"]), g.number(9)),
        5 => format!("({} * {} - w)", g.of(&["k", "p"]), 1 + g.below(9)),
        6 => format!("coalesce({}, {})", g.of(&["k", "w", "v"]), g.number(5)),
        7 => format!("case when {} then {} else {} end", predicate(g, depth - 1), g.of(&["k", "w"]), g.number(7)),
        _ if g.below(8) == 0 => "v * v".into(),
        _ => "-k".into(),
    }
}

fn predicate(g: &mut Chance, depth: u64) -> String {
    if depth > 0 && g.below(2) == 0 {
        let (a, b) = (predicate(g, depth - 1), predicate(g, depth - 1));
        return match g.below(5) {
            0 => format!("not ({a})"),
            1 | 2 => format!("({a} or {b})"),
            _ => format!("({a} and {b})"),
        };
    }
    let compared = g.of(&["<", "<=", ">", ">=", "=", "<>"]);
    match g.below(12) {
        0 => format!("k {compared} {}", g.number(30)),
        1 => format!("v {compared} {}", g.number(1 << 39)),
        2 => format!("d {compared} date '1970-0{}-{}'", 1 + g.below(2), 10 + g.below(18)),
        3 => format!("s {compared} 's{}'", g.below(25)),
        4 => format!("s like '{}'", g.of(&["s1%", "%2", "s_", "%1%"])),
        5 => format!("s in ('s{}', 's{}', 'none')", g.below(23), g.below(23)),
        6 => g.of(&["b", "not b", "b is null", "b is not true"]).into(),
        7 => format!("f {compared} {}", g.number(90)),
        8 => format!("{} is {}null", g.of(&["k", "w", "s", "d", "p"]), g.of(&["", "not "])),
        9 => format!("p {compared} {}.5", g.number(700)),
        10 => format!("k in ({}, {}, {})", g.number(40), g.number(40), g.number(3)),
        _ => format!("{} {compared} {}", number(g, depth.min(1)), g.number(50)),
    }
}

fn aggregate(g: &mut Chance) -> String {
    let filter = if g.below(6) == 0 { format!(" filter (where {})", predicate(g, 1)) } else { String::new() };
    let call = match g.below(8) {
        0 => "count(*)".into(),
        1 => format!("count({})", g.of(&["k", "s", "w", "d"])),
        2 => format!("min({})", g.of(&["k", "w", "v", "d", "p"])),
        3 => format!("max({})", g.of(&["k", "w", "v", "d", "p", "f"])),
        4 => format!("avg({})", g.of(&["p", "w"])),
        5 => "sum(f)".into(),
        _ => format!("sum({})", number(g, 2)),
    };
    call + &filter
}

/// Where the rows come from: the facts, perhaps joined or filtered by the dimension.
fn source(g: &mut Chance) -> (&'static str, String) {
    let filter = if g.below(4) == 0 { String::new() } else { format!(" where {}", predicate(g, 2)) };
    let and = if filter.is_empty() { " where" } else { " and" };
    match g.below(8) {
        0 => ("u", format!("t join u on k = dk{filter}")),
        1 => ("u", format!("t left join u on k = dk{filter}")),
        2 => ("u", format!("t join (select dk, name, weight from u where weight > {}) on k = dk{filter}", g.number(150))),
        3 => ("", format!("t{filter}{and} k in (select dk from u where weight > {})", g.number(150))),
        4 => ("", format!("t{filter}{and} not exists (select 1 from u where dk = k and weight > {})", g.number(150))),
        _ => ("", format!("t{filter}")),
    }
}

/// A query, and how many columns its rows have.
fn query(g: &mut Chance) -> (String, usize) {
    let (joined, from) = source(g);
    if g.below(3) == 0 {
        let columns = (0..1 + g.below(4)).map(|c| format!("{} c{c}", number(g, 2)));
        let columns: Vec<String> = columns.chain(["s, d, f".into()]).collect();
        let name = if joined.is_empty() { "" } else { ", name, weight" };
        let all = columns.len() + if joined.is_empty() { 2 } else { 4 };
        return (format!("select {}{name} from {from}", columns.join(", ")), all);
    }
    let keys: &[&str] = if joined.is_empty() { &["k", "s", "d", "b", "w"] } else { &["k", "s", "name", "b", "weight"] };
    let mut by: Vec<&str> = (0..g.below(4)).map(|_| g.of(keys)).collect();
    by.sort_unstable();
    by.dedup();
    let results = (0..1 + g.below(4)).map(|c| format!("{} c{c}", aggregate(g)));
    let columns: Vec<String> = by.iter().map(ToString::to_string).chain(results).collect();
    let group = if by.is_empty() { String::new() } else { format!(" group by {}", by.join(", ")) };
    (format!("select {} from {from}{group}", columns.join(", ")), columns.len())
}

/// In two of three queries the rows have an order, and perhaps only the first are wanted. All columns are its keys, so that
/// rows which change places are the same.
fn order(g: &mut Chance, columns: usize) -> String {
    if g.below(3) == 0 {
        return String::new();
    }
    let first = g.below(columns as u64) as usize;
    let key = |c: usize, g: &mut Chance| {
        format!("{}{}{}", (first + c) % columns + 1, g.of(&["", " desc"]), g.of(&["", " nulls first", " nulls last"]))
    };
    let keys: Vec<String> = (0..columns).map(|c| key(c, g)).collect();
    let limit = if g.below(2) == 0 { format!(" limit {}", g.of(&["1", "10", "200", "3000"])) } else { String::new() };
    format!(" order by {}{limit}", keys.join(", "))
}

/// The rows of a query, in an order of their own unless it has one, or that it failed; whether a device ran, and how often the CPU took over.
async fn answer(session: &Session, sql: &str, class: CapabilityClass) -> (Result<Vec<String>, String>, bool, usize) {
    let planned = match session.sql(sql).await {
        Ok(table) => table.plan().await,
        Err(e) => Err(e),
    };
    let plan = planned.unwrap_or_else(|e| panic!("{sql}: {e}"));
    let settings = Settings::of(&session.context().task_ctx()).unwrap();
    let settings = Arc::new(Settings { gpu: class, ..settings.as_ref().clone() });
    let config = session.context().copied_config().with_extension(settings);
    let task = TaskContext::default().with_session_config(config).with_runtime(session.context().runtime_env());
    let rows = collect(Arc::clone(&plan), Arc::new(task)).await;
    let mut ran = super::Ran::default();
    measure(&plan, &mut ran);
    let ordered = sql.contains(" order by ");
    let lines = |rows| {
        let all = super::Ran { rows, ..super::Ran::default() };
        if ordered { all.lines_in_order() } else { all.lines() }
    };
    let lines = rows.map(lines).map_err(|e| e.to_string());
    (lines, ran.chunks > 0, ran.fallbacks)
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_are_those_of_the_cpu() {
    if !has_gpu("gpu::pairs::the_rows_are_those_of_the_cpu") {
        return;
    }
    let _alone = alone().await;
    let (pairs, first) = (variable("MILLSTREAM_PAIRS").unwrap_or(PAIRS), variable("MILLSTREAM_SEED").unwrap_or(1));
    let (mut on_device, mut taken_over, mut failed, mut rows) = (0, 0, 0, 0);
    let mut sessions: Option<(u64, Session, Session)> = None;
    for seed in first..first + pairs {
        let of_tables = seed / QUERIES;
        if sessions.as_ref().is_none_or(|(known, ..)| *known != of_tables) {
            let (t, u) = tables(of_tables);
            let new = |device| {
                let session = Session::with_options(Options { threads: 2, device, ..Options::default() }).unwrap();
                session.register_batches("t", vec![t.clone()]).unwrap();
                session.register_batches("u", vec![u.clone()]).unwrap();
                session
            };
            sessions = Some((of_tables, new(Preference::Cpu), new(Preference::Gpu)));
        }
        let Some((_, cpu, gpu)) = &sessions else { unreachable!("they were made above") };
        let mut g = Chance(seed.wrapping_mul(0x5851_F42D_4C95_7F2D));
        let (sql, columns) = query(&mut g);
        let sql = sql + &order(&mut g, columns);
        let class = CLASSES[seed as usize % 2];
        let (want, host, _) = answer(cpu, &sql, class).await;
        let (got, device, fallbacks) = answer(gpu, &sql, class).await;
        assert!(!host, "seed {seed}: the CPU's run used a device: {sql}");
        match (&want, &got) {
            (Ok(want), Ok(got)) => assert!(want == got, "seed {seed}, {class:?}: {sql}\n{want:?}\n{got:?}"),
            (Err(_), Err(_)) => failed += 1,
            _ => panic!("seed {seed}, {class:?}: {sql}\n{want:?}\n{got:?}"),
        }
        on_device += u64::from(device);
        taken_over += u64::from(fallbacks > 0);
        rows += want.map_or(0, |w| w.len());
    }
    println!(
        "{pairs} pairs from seed {first}: {on_device} ran on the device, the CPU took over in {taken_over}, {failed} fail on both, {rows} rows, no difference"
    );
    // Tables without rows, and what no shader covers.
    assert!(on_device * 2 > pairs, "{on_device} of {pairs} ran on the device");
}

/// Negative control: a query of another seed has other rows.
#[tokio::test(flavor = "multi_thread")]
async fn other_pairs_have_other_rows() {
    let (t, u) = tables(3);
    let session = Session::with_options(Options { threads: 2, device: Preference::Cpu, ..Options::default() }).unwrap();
    session.register_batches("t", vec![t]).unwrap();
    session.register_batches("u", vec![u]).unwrap();
    let mut all = vec![];
    for seed in 30..40 {
        let (sql, _) = query(&mut Chance(seed));
        all.push(answer(&session, &sql, CapabilityClass::All).await.0);
    }
    all.sort();
    all.dedup();
    assert!(all.len() > 5, "{all:?}");
}
