//! A query that is dropped stops at once: no work on the pool, no memory held.

use crate::world::session;
use millstream::{Preference, Session};
use millstream_stage::Settings;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn settings(session: &Session) -> Arc<Settings> {
    session.context().copied_config().get_extension::<Settings>().unwrap()
}

fn reserved(session: &Session) -> usize {
    session.context().runtime_env().memory_pool.reserved()
}

/// Starts `sql`, drops it in the middle, and checks what is left after 100 ms.
async fn check(sql: &str) {
    let session = session(true, Preference::Cpu).await;
    let pool = settings(&session).pool.clone();
    let query = tokio::spawn(session.sql(sql).await.unwrap().collect());
    let started = Instant::now();
    // Negative control: the query is at work before it is dropped.
    while pool.running() == 0 {
        assert!(started.elapsed() < Duration::from_secs(10) && !query.is_finished(), "never at work: {sql}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(!query.is_finished() && pool.running() > 0, "too short to be cancelled: {sql}");
    query.abort();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((pool.running(), reserved(&session)), (0, 0), "{sql}");
    // The session goes on.
    assert_eq!(session.sql("select count(*) from nation").await.unwrap().collect().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_with_many_pairs() {
    check("select count(*) from lineitem a join lineitem b on a.l_linenumber = b.l_linenumber").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_nobody_reads() {
    check("select a.l_comment, b.l_comment from lineitem a join lineitem b on a.l_linenumber = b.l_linenumber where a.l_tax < b.l_tax")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_above_a_join() {
    check("select a.l_partkey % 1000, b.l_suppkey, sum(a.l_quantity) from lineitem a join lineitem b on a.l_linenumber = b.l_linenumber group by 1, 2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_dropped_after_a_batch() {
    let session = session(true, Preference::Cpu).await;
    let sql = "select a.l_orderkey from lineitem a join lineitem b on a.l_linenumber = b.l_linenumber where a.l_tax < b.l_tax";
    let mut rows = session.sql(sql).await.unwrap().stream().await.unwrap();
    assert!(rows.next().await.unwrap().unwrap().num_rows() > 0);
    drop(rows);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((settings(&session).pool.running(), reserved(&session)), (0, 0));
}
