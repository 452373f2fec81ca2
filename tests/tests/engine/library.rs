//! Tables by expressions against the same queries in SQL, and tables over batches and streams.

use crate::world::session;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use futures::stream;
use millstream::{JoinKind, Preference, Session, Table, asc, avg, col, count, desc, lit, max, min, sum};
use std::sync::Arc;

async fn lines(table: Table) -> Vec<String> {
    let text = pretty_format_batches(&table.collect().await.unwrap()).unwrap().to_string();
    text.lines().filter(|l| l.starts_with('|')).map(str::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_and_sql_give_the_same_rows() {
    let session = session(true, Preference::Cpu).await;
    let orders = session.table("orders").unwrap().filter(col("o_totalprice").gt(lit(100_000))).unwrap();
    let per_customer = orders
        .group_by([col("o_custkey").alias("c_custkey")], [sum(col("o_totalprice")).alias("total"), count(col("o_orderkey")).alias("n")])
        .unwrap();
    let customers = session.table("customer").unwrap().select([col("c_custkey"), col("c_name")]).unwrap();
    let top =
        per_customer.join(customers, ["c_custkey"], JoinKind::Inner).unwrap().sort([desc(col("total")), asc(col("c_custkey"))]).unwrap();
    let sql = "select o_custkey c_custkey, sum(o_totalprice) total, count(o_orderkey) n, c_name from orders, customer \
               where o_custkey = c_custkey and o_totalprice > 100000 group by 1, c_name order by total desc, c_custkey limit 10";
    assert_eq!(lines(top.limit(10).unwrap()).await, lines(session.sql(sql).await.unwrap()).await);
    let one = session.table("nation").unwrap();
    let one = one.group_by([], [min(col("n_name")), max(col("n_name")), avg(col("n_nationkey"))]).unwrap();
    assert_eq!(one.collect().await.unwrap()[0].num_rows(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_join_kind_has_each_key_once() {
    let session = Session::new().unwrap();
    session.sql("create table l as select * from (values (1, 'a'), (2, 'b'), (null, 'c')) t(k, x)").await.unwrap();
    session.sql("create table r as select * from (values (2, 'B'), (3, 'D'), (null, 'E')) t(k, y)").await.unwrap();
    let joined = |kind| session.table("l").unwrap().join(session.table("r").unwrap(), ["k"], kind).unwrap();
    for (kind, sql) in [
        (JoinKind::Inner, "select l.k, x, y from l join r on l.k = r.k"),
        (JoinKind::Left, "select l.k, x, y from l left join r on l.k = r.k"),
        (JoinKind::Right, "select r.k, x, y from l right join r on l.k = r.k"),
        (JoinKind::Full, "select coalesce(l.k, r.k) k, x, y from l full join r on l.k = r.k"),
        (JoinKind::Semi, "select l.k, x from l where k in (select k from r where k is not null)"),
        (JoinKind::Anti, "select l.k, x from l where not exists (select 1 from r where r.k = l.k)"),
    ] {
        let (mut ours, mut theirs) = (lines(joined(kind)).await, lines(session.sql(sql).await.unwrap()).await);
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{kind:?}");
    }
    let error = session.table("l").unwrap().join(session.table("r").unwrap(), ["z"], JoinKind::Inner).unwrap_err();
    assert!(error.to_string().contains("join key z"), "{error}");
    let error = session.table("l").unwrap().join(session.table("l").unwrap(), ["k"], JoinKind::Inner).unwrap_err();
    assert!(error.to_string().contains("column x"), "{error}");
}

fn batch(from: i64, rows: i64) -> RecordBatch {
    let a: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + rows));
    let s: ArrayRef = Arc::new(StringArray::from_iter_values((from..from + rows).map(|i| format!("s{}", i % 3))));
    RecordBatch::try_from_iter([("a", a), ("s", s)]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_a_table() {
    let session = Session::new().unwrap();
    session.register_batches("t", vec![batch(0, 10), batch(10, 5)]).unwrap();
    let rows = session.sql("select s, count(*) n, sum(a) a from t group by s order by s").await.unwrap();
    assert_eq!(lines(rows).await[1..], ["| s0 | 5 | 30 |", "| s1 | 5 | 35 |", "| s2 | 5 | 40 |"]);
    session.register_batches("t", vec![batch(0, 1)]).unwrap();
    assert_eq!(session.table("t").unwrap().collect().await.unwrap()[0].num_rows(), 1);
    assert!(session.register_batches("e", vec![]).unwrap_err().to_string().contains("table e"));
    let other = session.register_batches("o", vec![batch(0, 1), batch(0, 1).project(&[0]).unwrap()]).unwrap_err();
    assert!(other.to_string().contains("batch 1"), "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_read_once() {
    let session = Session::new().unwrap();
    let batches = [Ok::<_, std::io::Error>(batch(0, 1000)), Ok(batch(1000, 1000))];
    session.register_stream("s", batch(0, 1).schema(), stream::iter(batches)).unwrap();
    let sql = "select count(*), sum(a) from s where a >= 10";
    assert_eq!(lines(session.sql(sql).await.unwrap()).await[1], "| 1990     | 1998955  |");
    let error = session.sql(sql).await.unwrap().collect().await.unwrap_err();
    assert!(error.to_string().contains("table s is a stream and was read already"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stream_raises_fails_the_query() {
    let session = Session::new().unwrap();
    let broken = stream::iter([Ok(batch(0, 10)), Err(std::io::Error::other("the wire was cut"))]);
    session.register_stream("s", batch(0, 1).schema(), broken).unwrap();
    let error = session.sql("select sum(a) from s").await.unwrap().collect().await.unwrap_err();
    assert!(error.to_string().contains("the wire was cut"), "{error}");
    let other = stream::iter([Ok::<_, std::io::Error>(batch(0, 1).project(&[0]).unwrap())]);
    session.register_stream("o", batch(0, 1).schema(), other).unwrap();
    let error = session.sql("select * from o").await.unwrap().collect().await.unwrap_err();
    assert!(error.to_string().contains("table o"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_counts_what_ran() {
    let session = session(true, Preference::Cpu).await;
    let sql = "select l_shipmode, count(*) n, rank() over (order by count(*)) from lineitem where l_quantity > 5 group by l_shipmode";
    let planned = session.sql(sql).await.unwrap().stages().await.unwrap();
    let (rows, profile) = session.sql(sql).await.unwrap().profile().await.unwrap();
    assert_eq!(planned.stages.len(), profile.stages.len());
    let group = profile.stages.iter().find(|s| s.sink == "group").unwrap();
    assert_eq!((group.output_rows, rows.iter().map(|b| b.num_rows()).sum::<usize>()), (7, 7));
    let all = session.sql("select count(*) from lineitem").await.unwrap().collect().await.unwrap();
    let all = all[0].column(0).as_any().downcast_ref::<Int64Array>().unwrap().value(0) as usize;
    assert_eq!(group.input_rows, all);
    assert!(!group.tables.is_empty() && group.elapsed_ms > 0.0 && group.compute_ms > 0.0 && !group.reason.is_empty(), "{group:?}");
    let window = profile.stock.iter().find(|s| s.operator.contains("Window")).unwrap();
    assert_eq!((window.output_rows, window.reason.as_str()), (Some(7), "no window sink"));
    assert!(planned.stages.iter().all(|s| s.input_rows == 0 && s.elapsed_ms == 0.0));
}
