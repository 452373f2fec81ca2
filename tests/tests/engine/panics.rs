//! A panic in a user's function is an error of that query; the session answers the next one.

use crate::world::data;
use arrow::datatypes::DataType;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use millstream::{ErrorKind, Options, Session};
use std::sync::Arc;

async fn session(stages: bool) -> Session {
    let session = Session::with_options(Options { threads: 2, stages, ..Options::default() }).unwrap();
    session.register("lineitem", &data().join("lineitem.parquet").to_string_lossy()).await.unwrap();
    let body = |_: &[ColumnarValue]| -> datafusion::error::Result<ColumnarValue> { panic!("injected") };
    let udf = create_udf("explode", vec![DataType::Int64], DataType::Int64, Volatility::Immutable, Arc::new(body));
    session.context().register_udf(udf);
    session
}

const QUERIES: &[&str] = &[
    "select sum(explode(l_orderkey)) from lineitem",
    "select l_orderkey from lineitem where explode(l_orderkey) > 0",
    "select l_orderkey from lineitem order by explode(l_orderkey) limit 3",
    "select count(*) from lineitem a join lineitem b on explode(a.l_orderkey) = b.l_orderkey",
    "select explode(l_orderkey), count(*) from lineitem group by 1",
    "select sum(l_orderkey) over (order by explode(l_orderkey)) from lineitem",
    "select explode(1)",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_function_fails_its_query_only() {
    for stages in [true, false] {
        let session = session(stages).await;
        for sql in QUERIES {
            let error = match session.sql(sql).await {
                Ok(table) => table.collect().await.unwrap_err(),
                Err(e) => e,
            };
            assert!(error.to_string().contains("injected"), "stages {stages}, {sql}: {error}");
            assert_eq!(error.kind(), ErrorKind::Bug, "stages {stages}, {sql}: {error}");
            let rows = session.sql("select count(*) from lineitem where l_quantity > 0").await.unwrap().collect().await.unwrap();
            assert_eq!(rows.len(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_a_stream() {
    for stages in [true, false] {
        let session = session(stages).await;
        let mut rows = session.sql(QUERIES[1]).await.unwrap().stream().await.unwrap();
        assert_eq!(rows.next().await.unwrap().unwrap_err().kind(), ErrorKind::Bug);
        assert!(rows.next().await.is_none());
    }
}
