//! The tables of `docs/reference/sql.md`: what Millstream answers, with stages and without, and what stock DataFusion does.
//! Its column of DuckDB is checked where DuckDB is, by the tests of the Python package.

use arrow::array::{Array, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::SessionContext;
use millstream::{Options, Preference, Session};

/// Query, then the answers of Millstream, DataFusion and DuckDB.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let cells = |line| str::trim_matches(line, '|').split('|').map(str::trim).collect::<Vec<_>>();
    let rows = page.lines().filter(|l| l.starts_with("| `")).map(cells);
    rows.map(|r| r.into_iter().map(|cell| cell.trim_matches('`')).collect()).collect()
}

/// The one value of an answer, as the page writes it.
fn value<E>(answer: Result<Vec<RecordBatch>, E>) -> String {
    let Ok(batches) = answer else { return "error".into() };
    let batches: Vec<&RecordBatch> = batches.iter().filter(|b| b.num_rows() > 0).collect();
    let [one] = batches[..] else { return format!("{} batches", batches.len()) };
    let column = one.column(0);
    assert_eq!(column.len(), 1, "a query of the page has one row");
    let options = FormatOptions::new().with_null("null");
    let text = ArrayFormatter::try_new(column.as_ref(), &options).unwrap().value(0).to_string();
    if text == "-0.0" { "0.0".into() } else { text }
}

async fn ours(sql: &str, stages: bool) -> String {
    let options = Options { threads: 2, stages, device: Preference::Cpu, ..Options::default() };
    let session = Session::with_options(options).unwrap();
    let answer = async { session.sql(sql).await?.collect().await };
    value(answer.await)
}

async fn stock(sql: &str) -> String {
    let answer = async { SessionContext::new().sql(sql).await?.collect().await };
    value(answer.await)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_differences_is_true() {
    let rows = rows(include_str!("../../../docs/reference/sql.md"));
    assert!(rows.len() > 50, "{} queries", rows.len());
    let mut wrong = vec![];
    for row in rows {
        let [sql, millstream, datafusion, _] = row[..] else { panic!("four cells: {row:?}") };
        for (who, said, is) in [
            ("millstream", millstream, ours(sql, true).await),
            ("stages off", millstream, ours(sql, false).await),
            ("datafusion", datafusion, stock(sql).await),
        ] {
            // Stock operators may raise where a stage answers, as DataFusion does.
            let lazy = who == "stages off" && (is.as_str(), datafusion) == ("error", "error");
            if said != is && !lazy {
                wrong.push(format!("{sql}: {who} says {is}, the page {said}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Negative control: other values and errors are told apart.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_cell_is_noticed() {
    assert_eq!(rows("| query |\n| `select 1` | 1 | 2 | a |"), [["select 1", "1", "2", "a"]]);
    assert_eq!((ours("select 7 / 2", true).await.as_str(), stock("select 1 / 0").await.as_str()), ("3", "error"));
    assert_eq!(ours("select null", true).await, "null");
}
