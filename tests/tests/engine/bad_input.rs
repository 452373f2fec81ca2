//! Bad input: a clear error, never a panic.

use crate::world::{data, session};
use millstream::{Options, Preference, Session};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_is_named() {
    let error = Session::new().unwrap().register("t", "/no/such/file.parquet").await.unwrap_err();
    assert!(error.to_string().contains("/no/such/file.parquet"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(data().join("nation.parquet")).unwrap();
    let path = dir.path().join("cut.parquet");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = Session::new().unwrap().register("t", &path.to_string_lossy()).await.unwrap_err();
    assert!(error.to_string().contains("cut.parquet"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_page_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(data().join("lineitem.parquet")).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle..middle + 65_536].fill(0xA5);
    let path = dir.path().join("corrupt.parquet");
    std::fs::write(&path, &bytes).unwrap();
    let session = Session::new().unwrap();
    session.register("t", &path.to_string_lossy()).await.unwrap();
    let columns = "l_orderkey,l_partkey,l_suppkey,l_quantity,l_extendedprice,l_discount,l_tax,l_comment,l_shipdate,l_commitdate,l_receiptdate,l_returnflag,l_linestatus,l_shipmode,l_shipinstruct,l_linenumber";
    let all: Vec<String> = columns.split(',').map(|c| format!("min({c})")).collect();
    let error = session.sql(&format!("select {} from t where l_quantity > 0", all.join(", "))).await.unwrap().collect().await.unwrap_err();
    assert!(error.to_string().contains("corrupt.parquet"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_column_suggests_the_nearest() {
    let session = session(true, Preference::Cpu).await;
    let error = session.sql("select l_quantiti from lineitem").await.unwrap_err();
    assert!(error.to_string().contains("l_quantity"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_syntax_error_has_a_position() {
    let error = Session::new().unwrap().sql("select 1 frm x y").await.unwrap_err();
    assert!(error.to_string().contains("Line: 1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_row_never_divides_by_zero() {
    let session = Session::new().unwrap();
    let sql = "select 10 / a from (values (0), (5)) t(a) where a <> 0";
    assert_eq!(session.sql(sql).await.unwrap().collect().await.unwrap().iter().map(|b| b.num_rows()).sum::<usize>(), 1);
}

/// A filter that keeps most rows leaves the others where they are. They count for nothing, in no group, and their sum may
/// not fit.
#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_row_never_overflows() {
    let session = Session::new().unwrap();
    let table = "(select case when i % 9 = 0 then 9223372036854775807 else i end as v, case when i % 9 = 0 then 'x' else 'y' end as k, i % 9 as m \
                 from (select unnest(range(0, 9000)) as i))";
    let rows = |sql: String| {
        let session = &session;
        async move { session.sql(&sql).await.unwrap().collect().await }
    };
    for (sql, want) in [
        (format!("select sum(v + 1), count(*) from {table} where m <> 0"), vec!["36008000", "8000"]),
        (
            format!("select k, sum(v + 1), count(*), min(v), avg(v) from {table} where m <> 0 group by k"),
            vec!["y", "36008000", "8000", "1"],
        ),
        (format!("select sum(v + 1) from {table} where m <> 0 and m <> 1 and v + 1 > 3"), vec!["31510497"]),
    ] {
        let batches = rows(sql.clone()).await.unwrap();
        assert_eq!(batches.iter().map(|b| b.num_rows()).sum::<usize>(), 1, "{sql}");
        let batch = batches.iter().find(|b| b.num_rows() == 1).unwrap();
        for (c, want) in want.iter().enumerate() {
            let got = arrow::util::display::array_value_to_string(batch.column(c), 0).unwrap();
            assert_eq!(got, *want, "{sql}, column {c}");
        }
    }
    assert!(rows(format!("select sum(v + 1) from {table}")).await.is_err(), "a row that is not dropped does");
}

#[tokio::test(flavor = "multi_thread")]
async fn and_or_case_are_as_lazy_as_datafusion() {
    for condition in ["a = 0 or 10 / a = 2", "a <> 0 and 10 / a = 2", "a = 5 or a = 0", "case when a = 0 then true else 10 / a = 2 end"] {
        let sql = format!("select a from (values (0), (5)) t(a) where {condition}");
        let mut outcomes = vec![];
        for stages in [true, false] {
            let session = Session::with_options(Options { stages, ..Options::default() }).unwrap();
            let rows = session.sql(&sql).await.unwrap().collect().await;
            outcomes.push(rows.map(|b| b.iter().map(|b| b.num_rows()).sum::<usize>()).map_err(|e| e.to_string()));
        }
        // Stages run an AND one conjunct after the other, so they may answer where stock raises; never
        // the other way round.
        assert!(outcomes[0] == outcomes[1] || outcomes[1].is_err(), "{condition}: {outcomes:?}");
    }
}
