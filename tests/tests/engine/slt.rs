//! DataFusion's published SQL logic tests: stages on and off must agree on every query.
//!
//! Their files are not part of this repository. `MILLSTREAM_SLT` names their folder, `test_files` of the crate
//! `datafusion-sqllogictest` of the version that is used here, for instance. What the files expect is not compared: a
//! session of ours differs in settings, in functions and in the data at hand. Both sessions here run every
//! statement of a file, and say the same, or both refuse.

mod records;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::logical_expr::{Expr, LogicalPlan, SortExpr};
use millstream::{Options, Session};
use records::records;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A statement that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// Relative difference that the order of additions may make.
const TOLERANCE: f64 = 1e-9;

/// Queries whose answer is free: the clock, chance, what shows settings or plans.
const FREE: &[&str] = &["random(", "uuid(", "now(", "current_", "information_schema", "input_file_name", "metrics", "array_shuffle"];

/// What a statement said: types and rows, or that it failed.
type Said = Result<(Vec<(String, DataType)>, Vec<Vec<String>>), String>;

async fn say(session: &Session, sql: &str) -> Said {
    let run = async {
        let table = session.sql(sql).await?;
        table.collect().await
    };
    let batches = match tokio::time::timeout(PATIENCE, run).await {
        Ok(batches) => batches.map_err(|e| e.to_string())?,
        Err(_) => return Err("it hangs".into()),
    };
    let columns =
        batches.first().map_or(vec![], |b| b.schema().fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect());
    let mut rows = vec![];
    for batch in &batches {
        rows.extend(cells(batch)?);
    }
    Ok((columns, rows))
}

fn cells(batch: &RecordBatch) -> Result<Vec<Vec<String>>, String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Result<Vec<_>, _> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options)).collect();
    let columns = columns.map_err(|e| e.to_string())?;
    let cell = |c: &ArrayFormatter, row| c.value(row).try_to_string().map_err(|e| e.to_string());
    (0..batch.num_rows()).map(|row| columns.iter().map(|c| cell(c, row)).collect()).collect()
}

/// What a query says of the order of its rows.
enum Order {
    Free,
    /// By these columns of the result first; what comes after them, or is no column, is not looked at.
    By(Vec<usize>),
}

async fn order(session: &Session, sql: &str) -> Order {
    let Ok(plan) = session.context().state().create_logical_plan(sql).await else { return Order::Free };
    let (mut at, mut projected) = (&plan, false);
    loop {
        match at {
            // By what is no column of the result, perhaps.
            LogicalPlan::Sort(_) if projected => return Order::By(vec![]),
            LogicalPlan::Sort(sort) => {
                let place = |key: &SortExpr| match &key.expr {
                    Expr::Column(c) => plan.schema().maybe_index_of_column(c),
                    _ => None,
                };
                return Order::By(sort.expr.iter().map_while(place).collect());
            }
            LogicalPlan::Limit(limit) => at = limit.input.as_ref(),
            LogicalPlan::Projection(projection) => (at, projected) = (projection.input.as_ref(), true),
            _ => return Order::Free,
        }
    }
}

/// How two answers differ; none when they are the same.
fn difference(sql: &str, order: &Order, on: &Said, off: &Said) -> Option<String> {
    let (on, off) = match (on, off) {
        (Err(_), Err(_)) => return None,
        (Err(e), Ok(_)) => return Some(format!("only stages fail: {e}")),
        (Ok(_), Err(e)) => return Some(format!("only stock fails: {e}")),
        (Ok(on), Ok(off)) => (on, off),
    };
    if on.1.len() != off.1.len() {
        return Some(format!("{} rows, stock has {}", on.1.len(), off.1.len()));
    }
    // No batch says nothing of types.
    if !on.0.is_empty() && !off.0.is_empty() && on.0 != off.0 {
        return Some(format!("types {:?}, stock has {:?}", on.0, off.0));
    }
    let differs = |on: &[Vec<String>], off: &[Vec<String>]| {
        let pair = on.iter().zip(off).find(|(a, b)| !a.iter().zip(b.iter()).all(|(a, b)| same(a, b)));
        pair.map(|(a, b)| format!("row {a:?}, stock has {b:?}"))
    };
    let keys = |rows: &[Vec<String>], columns: &[usize]| -> Vec<Vec<String>> {
        rows.iter().map(|row| columns.iter().map(|c| row[*c].clone()).collect()).collect()
    };
    let in_order = match order {
        Order::Free => None,
        Order::By(columns) => differs(&keys(&on.1, columns), &keys(&off.1, columns)).map(|d| format!("order: {d}")),
    };
    let is_cut = ["limit", "fetch first", "fetch next"].iter().any(|word| sql.to_lowercase().contains(word));
    let is_any = is_cut && !matches!(order, Order::By(columns) if columns.is_empty());
    if in_order.is_some() || is_any {
        // Which of equal rows come first, and which are cut off, is free.
        return in_order;
    }
    let sorted = |rows: &[Vec<String>]| {
        let mut rows = rows.to_vec();
        rows.sort();
        rows
    };
    differs(&sorted(&on.1), &sorted(&off.1))
}

/// Whether two cells hold the same, floats within the tolerance.
fn same(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) if a.contains(['.', 'e']) || b.contains(['.', 'e']) => (x - y).abs() <= TOLERANCE * x.abs().max(y.abs()),
        _ => false,
    }
}

/// The files below a folder, in order.
fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).expect("the folder of MILLSTREAM_SLT").map(|e| e.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|e| e == "slt") {
            out.push(path);
        }
    }
}

#[derive(Default)]
struct Report {
    agree: usize,
    /// In both, with an error.
    refused: usize,
    skipped: usize,
    differ: Vec<String>,
}

/// Runs a file in two sessions, each with a folder of its own to write to.
async fn compare(root: &Path, file: &Path, report: &mut Report) {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let session = |stages: bool| Session::with_options(Options { threads: 4, stages, ..Options::default() }).expect("a session");
    let (on, off) = (session(true), session(false));
    let outside = root.parent().expect("a folder around it").to_string_lossy().into_owned();
    let local = |sql: &str, side: &str| {
        let own = scratch.path().join(side).to_string_lossy().into_owned();
        let sql = sql.replace("test_files/scratch", &own).replace("'test_files/", &format!("'{}/", root.display()));
        sql.replace("'../", &format!("'{outside}/../"))
    };
    for record in records(file) {
        let lower = record.sql.trim_start().to_lowercase();
        let free = FREE.iter().any(|word| lower.contains(word)) || ["explain", "show"].iter().any(|word| lower.starts_with(word));
        if free || record.skipped {
            report.skipped += 1;
            continue;
        }
        let sql = local(&record.sql, "off");
        let order = order(&off, &sql).await;
        let (on, off) = (say(&on, &local(&record.sql, "on")).await, say(&off, &sql).await);
        // Stages may do with less memory, never with more.
        if on.is_ok() && off.as_ref().is_err_and(|e| e.contains("Resources exhausted")) {
            report.skipped += 1;
            continue;
        }
        match difference(&record.sql, &order, &on, &off) {
            Some(difference) => {
                let name = file.strip_prefix(root).unwrap_or(file).display();
                report.differ.push(format!("{name}:{}: {difference}\n{}\n", record.line, record.sql));
            }
            None if on.is_err() => report.refused += 1,
            None => report.agree += 1,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_agree_with_stock_on_published_tests() {
    let Some(root) = std::env::var_os("MILLSTREAM_SLT").map(PathBuf::from) else {
        eprintln!("skipped: set MILLSTREAM_SLT");
        return;
    };
    let root = root.canonicalize().expect("the folder of MILLSTREAM_SLT");
    let only = std::env::var("MILLSTREAM_SLT_FILES").unwrap_or_default();
    let mut all = vec![];
    files(&root, &mut all);
    all.retain(|f| f.to_string_lossy().contains(&only));
    assert!(!all.is_empty(), "no .slt file in {}", root.display());
    let mut report = Report::default();
    let mut by_file = BTreeMap::new();
    for file in &all {
        let before = report.differ.len();
        compare(&root, file, &mut report).await;
        if report.differ.len() > before {
            by_file.insert(file.clone(), report.differ.len() - before);
        }
    }
    let mut text = report.differ.join("\n");
    for (file, count) in by_file {
        writeln!(text, "{count:4} {}", file.display()).expect("a string");
    }
    let Report { agree, refused, skipped, differ } = report;
    eprintln!("{text}\n{} files: {agree} agree, {refused} refused by both, {skipped} skipped, {} differ", all.len(), differ.len());
    assert!(differ.is_empty(), "{} statements differ", differ.len());
}

#[test]
fn one_wrong_value_is_seen() {
    let said = |rows: &[&[&str]]| -> Said {
        let columns = vec![("a".to_string(), DataType::Float64)];
        Ok((columns, rows.iter().map(|r| r.iter().map(|c| c.to_string()).collect()).collect()))
    };
    let (one, two) = (said(&[&["1.5"], &["NULL"]]), said(&[&["NULL"], &["1.5"]]));
    let by = Order::By(vec![0]);
    assert_eq!(difference("select a from t", &Order::Free, &one, &two), None);
    assert!(difference("select a from t order by a", &by, &one, &two).expect("another order").starts_with("order"));
    let other = said(&[&["1.6"], &["NULL"]]);
    assert!(difference("select a from t", &Order::Free, &one, &other).expect("another value").contains("1.6"));
    assert!(difference("select a from t order by b limit 2", &Order::By(vec![]), &one, &other).is_some());
    assert_eq!(difference("select a from t limit 2", &Order::Free, &one, &other), None);
    assert!(difference("", &Order::Free, &one, &said(&[&["1.5"]])).is_some() && difference("", &by, &one, &Err("e".into())).is_some());
    assert!(same("1.00000000001", "1.00000000002") && !same("1", "2") && !same("1.5", "x") && !same("10000000001", "10000000002"));
}
