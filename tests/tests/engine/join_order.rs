//! Reordered joins, semi joins that come first, filters learnt while running, stages that run once: the
//! answers are those of stock DataFusion, and the plans show that something was gained.

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::pretty::pretty_format_batches;
use millstream::{Options, Profile, Session};
use std::fmt::Write;
use std::sync::Arc;

/// Numbers below a bound, by a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

/// A table of `rows` rows: `a` counts, `b` and `c` are of few values, one in eight null.
fn table(rows: usize, random: &mut Random) -> RecordBatch {
    let mut few = |n: u64| (0..rows).map(|_| (random.below(8) != 0).then(|| random.below(n) as i64)).collect::<Int64Array>();
    let (b, c) = (few(5), few(30));
    let a = Int64Array::from_iter_values(0..rows as i64);
    let s = StringArray::from_iter_values((0..rows).map(|i| format!("s{}", i % 7)));
    let field = |name: &str, t: DataType| Field::new(name, t, true);
    let schema = Schema::new(vec![
        field("a", DataType::Int64),
        field("b", DataType::Int64),
        field("c", DataType::Int64),
        field("s", DataType::Utf8),
    ]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(a), Arc::new(b), Arc::new(c), Arc::new(s)]).unwrap()
}

const ROWS: [usize; 6] = [40, 3, 200, 25, 7, 90];

fn sessions() -> (Session, Session) {
    let make = |stages: bool| {
        let session = Session::with_options(Options { threads: 2, stages, ..Options::default() }).unwrap();
        let mut random = Random(11);
        for (i, rows) in ROWS.iter().enumerate() {
            session.register_batches(&format!("t{i}"), vec![table(*rows, &mut random)]).unwrap();
        }
        session
    };
    (make(true), make(false))
}

/// Rows as text, in an order of their own; no header, which an empty answer need not have.
fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let text = pretty_format_batches(batches).unwrap().to_string();
    let mut lines: Vec<String> = text.lines().filter(|l| l.starts_with('|')).skip(1).map(str::to_string).collect();
    lines.sort();
    lines
}

async fn rows(session: &Session, sql: &str) -> Vec<String> {
    lines(&session.sql(sql).await.unwrap().collect().await.unwrap_or_else(|e| panic!("{e}: {sql}")))
}

/// A query over `n` of the tables: a tree of equalities, at times one more, conditions of one and of two
/// tables, at times a semi or anti join on top.
fn query(random: &mut Random) -> String {
    let n = 2 + random.below(5) as usize;
    let mut from: Vec<usize> = (0..ROWS.len()).collect();
    (0..ROWS.len()).for_each(|i| from.swap(i, random.below(ROWS.len() as u64) as usize));
    from.truncate(n);
    let column = |random: &mut Random| ["a", "b", "c"][random.below(3) as usize];
    let mut conditions = vec![];
    for i in 1..n {
        let with = from[random.below(i as u64) as usize];
        conditions.push(format!("t{}.{} = t{with}.{}", from[i], column(random), column(random)));
    }
    if random.below(2) == 0 {
        let (x, y) = (from[random.below(n as u64) as usize], from[0]);
        let op = ["=", "<", "<>", ">="][random.below(4) as usize];
        conditions.push(format!("t{x}.{} {op} t{y}.{}", column(random), column(random)));
    }
    if random.below(2) == 0 {
        let x = from[random.below(n as u64) as usize];
        conditions.push([format!("t{x}.s = 's3'"), format!("t{x}.c < 9"), format!("t{x}.b in (1, 2)")][random.below(3) as usize].clone());
    }
    if random.below(3) == 0 {
        let x = from[random.below(n as u64) as usize];
        let not = if random.below(2) == 0 { "" } else { "not " };
        conditions.push(format!("{not}exists (select 1 from t5 u where u.c = t{x}.c and u.s = 's1')"));
    }
    let (mut outputs, mut tables) = (String::new(), vec![]);
    for (i, t) in from.iter().enumerate() {
        write!(outputs, "{}t{t}.{} x{i}", if i == 0 { "" } else { ", " }, ["a", "b", "c", "s"][random.below(4) as usize]).unwrap();
        tables.push(format!("t{t}"));
    }
    // Few columns, so that most are dropped on the way; the count tells repeated rows.
    format!("select {outputs}, count(*) n from {} where {} group by all", tables.join(", "), conditions.join(" and "))
}

#[tokio::test(flavor = "multi_thread")]
async fn random_joins_agree_with_stock_order() {
    let (on, off) = sessions();
    let mut random = Random(5);
    let mut filled = 0;
    for _ in 0..150 {
        let sql = query(&mut random);
        let want = rows(&off, &sql).await;
        filled += usize::from(!want.is_empty());
        assert_eq!(rows(&on, &sql).await, want, "{sql}");
    }
    assert!(filled > 50, "only {filled} queries have rows");
}

async fn profile(session: &Session, sql: &str) -> (Vec<String>, Profile) {
    let (batches, profile) = session.sql(sql).await.unwrap().profile().await.unwrap();
    (lines(&batches), profile)
}

/// A fact table of 60,000 rows and 6,000 keys, and a dimension.
fn star(stages: bool) -> Session {
    let session = Session::with_options(Options { threads: 2, stages, ..Options::default() }).unwrap();
    let keys = Int64Array::from_iter_values((0..60_000).map(|i| (i * 7919) % 6_000));
    let values = Int64Array::from_iter_values((0..60_000).map(|i| i % 101));
    let fact = RecordBatch::try_from_iter([("k", Arc::new(keys) as _), ("v", Arc::new(values) as _)]).unwrap();
    let ids = Int64Array::from_iter_values(0..6_000);
    let names = StringArray::from_iter_values((0..6_000).map(|i| format!("name {}", i % 600)));
    let dimension = RecordBatch::try_from_iter([("id", Arc::new(ids) as _), ("name", Arc::new(names) as _)]).unwrap();
    session.register_batches("fact", vec![fact]).unwrap();
    session.register_batches("dimension", vec![dimension]).unwrap();
    session
}

/// Tables in memory know how many values their columns have.
async fn cached(stages: bool) -> Session {
    let session = star(stages);
    if stages {
        for t in ["fact", "dimension"] {
            session.sql(&format!("cache table {t}")).await.unwrap().collect().await.unwrap();
        }
    }
    session
}

/// The join above keeps ten keys: no other is grouped below it.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_below_a_join_takes_only_its_keys() {
    let sql = "select d.id, s.total from (select k, sum(v) total from fact group by k) s, dimension d \
               where s.k = d.id and d.name = 'name 17'";
    let (on, off) = (cached(true).await, cached(false).await);
    let (lines, profile) = profile(&on, sql).await;
    assert_eq!(lines, rows(&off, sql).await);
    let group = profile.stages.iter().find(|s| s.sink == "group").expect("a group stage");
    assert_eq!(group.output_rows, 10, "{profile:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_common_table_runs_once() {
    let sql = "with s as (select k, sum(v) total from fact group by k) \
               select k from s where total = (select max(total) from s)";
    let (on, off) = (cached(true).await, cached(false).await);
    let (lines, twice) = profile(&on, sql).await;
    assert_eq!(lines, rows(&off, sql).await);
    let read = |p: &Profile| p.stages.iter().filter(|s| s.input_rows == 60_000).count();
    assert_eq!(read(&twice), 1, "{twice:?}");
    assert!(twice.stages.iter().any(|s| s.reason.contains("runs once for 2 readers")), "{twice:?}");
    // Again, with the plan of before out of the way, and with what may not be shared.
    assert_eq!(profile(&on, sql).await.0, lines);
    let (_, differing) = profile(&on, &sql.replace("select max(total) from s", "select max(v) * 0 from fact")).await;
    assert!(!differing.stages.iter().any(|s| s.reason.contains("runs once")), "{differing:?}");
}

/// Semi join first: the table built for the join has only the rows that it keeps.
#[tokio::test(flavor = "multi_thread")]
async fn a_selective_semi_join_comes_first() {
    let sql = "select count(*), sum(f.v) from fact f, dimension d where f.k = d.id \
               and d.id in (select k from fact where v = 100 and k < 300)";
    let (on, off) = (cached(true).await, cached(false).await);
    let (lines, profile) = profile(&on, sql).await;
    assert_eq!(lines, rows(&off, sql).await);
    assert!(profile.stages.iter().filter(|s| s.sink == "build").all(|s| s.output_rows < 1_000), "{profile:?}");
}
