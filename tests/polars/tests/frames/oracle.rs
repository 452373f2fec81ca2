//! Polars as an oracle: the queries of `queries.rs`, in SQL here and written for Polars beside it, over random tables.

use crate::queries::{DIFFERENCES, Pair, QUERIES};
use crate::random::Random;
use crate::wait;
use millstream::Session;
use millstream::polars::prelude::*;

/// The two tables of the queries.
#[derive(Clone)]
pub struct Tables {
    /// Trees: `id` counts rows, the rest is random and sometimes null.
    pub t: LazyFrame,
    /// What joins to them by `k`, which is not unique.
    pub u: LazyFrame,
}

const WORDS: [&str; 6] = ["ash", "beech", "birch", "Übel", "oak", ""];

fn trees(random: &mut Random, rows: usize) -> DataFrame {
    let column = |name: &str, values: Series| values.with_name(name.into()).into_column();
    let ints = |random: &mut Random, low, high| (0..rows).map(|_| random.nullable(|r| r.between(low, high))).collect::<Int64Chunked>();
    let cast = |ints: Int64Chunked, kind: DataType| ints.into_series().cast(&kind).unwrap();
    let words: StringChunked = (0..rows).map(|_| random.nullable(|r| WORDS[r.below(WORDS.len())])).collect();
    // Eighths, so that sums are exact in any order, and a zero of either sign.
    let eighths = |r: &mut Random| if r.below(10) == 0 { -0.0 } else { r.between(-8_000, 8_000) as f64 / 8.0 };
    let numbers: Float64Chunked = (0..rows).map(|_| random.nullable(eighths)).collect();
    let flags: BooleanChunked = (0..rows).map(|_| random.nullable(|r| r.below(2) == 0)).collect();
    let columns = vec![
        column("id", Series::new("".into(), (0..rows as i64).collect::<Vec<_>>())),
        column("k", cast(ints(random, 0, 20), DataType::Int32)),
        column("s", words.into_series()),
        column("x", numbers.into_series()),
        column("v", ints(random, -1_000, 1_000).into_series()),
        column("d", cast(ints(random, 19_000, 19_800), DataType::Int32).cast(&DataType::Date).unwrap()),
        column("b", flags.into_series()),
    ];
    DataFrame::new(rows, columns).unwrap()
}

fn marks(random: &mut Random, rows: usize) -> DataFrame {
    let k: Int32Chunked = (0..rows).map(|_| random.nullable(|r| r.between(0, 25) as i32)).collect();
    let w: Int64Chunked = (0..rows).map(|_| random.nullable(|r| r.between(-5, 5))).collect();
    let name: StringChunked = (0..rows).map(|_| random.nullable(|r| WORDS[r.below(WORDS.len())])).collect();
    let columns = [("k", k.into_series()), ("w", w.into_series()), ("name", name.into_series())];
    DataFrame::new(rows, columns.map(|(n, s)| s.with_name(n.into()).into_column()).into()).unwrap()
}

/// What is compared of a value: floats within a billionth, all else as it is written, integers of any width alike.
#[derive(Clone, Debug)]
enum Cell {
    Text(String),
    Float(f64),
}

fn cell(value: AnyValue<'_>) -> Cell {
    match value {
        AnyValue::Float64(x) => Cell::Float(x),
        AnyValue::Float32(x) => Cell::Float(x.into()),
        AnyValue::Null => Cell::Text("null".into()),
        AnyValue::String(text) => Cell::Text(format!("'{text}'")),
        other => Cell::Text(other.to_string()),
    }
}

fn rows(frame: &DataFrame) -> Vec<Vec<Cell>> {
    let columns: Vec<&Series> = frame.columns().iter().map(Column::as_materialized_series).collect();
    (0..frame.height()).map(|i| columns.iter().map(|c| cell(c.get(i).unwrap())).collect()).collect()
}

/// An order of rows in which neighbours of equal text are sorted by their floats.
fn sorted(mut rows: Vec<Vec<Cell>>) -> Vec<Vec<Cell>> {
    let texts = |row: &[Cell]| row.iter().map(|c| if let Cell::Text(text) = c { text.clone() } else { String::new() }).collect::<Vec<_>>();
    let floats = |row: &[Cell]| row.iter().map(|c| if let Cell::Float(x) = c { *x } else { 0.0 }).collect::<Vec<_>>();
    rows.sort_by(|a, b| texts(a).cmp(&texts(b)).then_with(|| floats(a).partial_cmp(&floats(b)).unwrap_or(std::cmp::Ordering::Equal)));
    rows
}

fn close(a: &Cell, b: &Cell) -> bool {
    match (a, b) {
        (Cell::Float(a), Cell::Float(b)) => a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()),
        (Cell::Text(a), Cell::Text(b)) => a == b,
        _ => false,
    }
}

/// Whether the frames have the same rows, in the same order if that is asked for.
fn alike(ours: &DataFrame, theirs: &DataFrame, ordered: bool) -> bool {
    let in_order = |frame: &DataFrame| if ordered { rows(frame) } else { sorted(rows(frame)) };
    let (ours, theirs) = (in_order(ours), in_order(theirs));
    ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(a, b)))
}

fn answers(session: &Session, tables: &Tables, pair: &Pair) -> (DataFrame, DataFrame) {
    let ours = wait(async { session.sql(pair.sql).await?.to_polars().await });
    let ours = ours.unwrap_or_else(|e| panic!("{}: {e}", pair.sql));
    let theirs = (pair.polars)(tables.clone()).collect();
    (ours, theirs.unwrap_or_else(|e| panic!("{} in Polars: {e}", pair.sql)))
}

/// A session with both tables, in chunks of any length.
fn setting(seed: u64, rows: usize) -> (Session, Tables) {
    let mut random = Random(seed);
    let (t, u) = (trees(&mut random, rows), marks(&mut random, rows / 20 + 1));
    let session = Session::new().unwrap();
    session.register_polars("t", &random.cut(&t)).unwrap();
    session.register_polars("u", &random.cut(&u)).unwrap();
    (session, Tables { t: t.lazy(), u: u.lazy() })
}

#[test]
fn polars_gives_the_same_answers() {
    assert!(QUERIES.len() > 40);
    for (seed, rows) in [(1, 0), (2, 1), (3, 40), (4, 1_000), (5, 1_000), (6, 10_000)] {
        let (session, tables) = setting(seed, rows);
        for pair in QUERIES {
            let (ours, theirs) = answers(&session, &tables, pair);
            assert!(alike(&ours, &theirs, pair.ordered), "seed {seed}, {}\nours: {ours:?}\ntheirs: {theirs:?}", pair.sql);
        }
    }
}

/// What the guide says about answers that differ is so.
#[test]
fn differences_are_as_written() {
    let (session, tables) = setting(7, 100);
    for pair in DIFFERENCES {
        let (ours, theirs) = answers(&session, &tables, pair);
        assert!(!alike(&ours, &theirs, pair.ordered), "{} is no difference any more", pair.sql);
    }
}

/// The one difference without an answer.
#[test]
fn overflow_is_an_error_here_and_wraps_there() {
    let (session, tables) = setting(8, 100);
    let ours = wait(async { session.sql("select id * 9223372036854775807 as n from t").await?.to_polars().await });
    assert!(ours.unwrap_err().to_string().contains("verflow"));
    assert_eq!(tables.t.select([(col("id") * lit(i64::MAX)).alias("n")]).collect().unwrap().height(), 100);
}

/// The negative control: one other value, one row less, another order.
#[test]
fn a_wrong_answer_is_noticed() {
    let right = df!["a" => [1, 2, 3], "x" => [0.5, 1.5, 2.5]].unwrap();
    assert!(alike(&right, &right.reverse(), false) && !alike(&right, &right.reverse(), true));
    assert!(!alike(&right, &right.head(Some(2)), false));
    assert!(!alike(&right, &df!["a" => [1, 2, 4], "x" => [0.5, 1.5, 2.5]].unwrap(), false));
    assert!(!alike(&right, &df!["a" => [1, 2, 3], "x" => [0.5, 1.5, 2.500_001]].unwrap(), false));
    assert!(alike(&right, &df!["a" => [1_i8, 2, 3], "x" => [0.5, 1.5, 2.500_000_000_1]].unwrap(), false));
    let (session, tables) = setting(4, 1_000);
    let different = |i: usize, j: usize| {
        let wrong = Pair { sql: QUERIES[i].sql, polars: QUERIES[j].polars, ordered: false };
        let (ours, theirs) = answers(&session, &tables, &wrong);
        !alike(&ours, &theirs, false)
    };
    let noticed = (1..QUERIES.len()).filter(|i| different(*i, i - 1)).count();
    assert_eq!(noticed, QUERIES.len() - 1);
}
