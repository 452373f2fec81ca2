//! Overflow is an error everywhere in a Millstream session, and wraps in a host's.

use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionContext;
use millstream::{Options, Session};

/// Each overflows; the table `t(a, d)` holds the largest values and small ones.
const OVERFLOWS: &[&str] = &[
    "select a + 1 from t",
    "select -(a + 0) - 2 from t",
    "select -m from t",
    "select a * 2 from t where a > 0",
    "select d * d from t",
    "select sum(a) from t",
    "select sum(d) from (select d from t union all select d from t)",
    // 128 bits hold it, the 38 digits of its type do not.
    "select sum(d) from (select d from t union all select cast(1 as decimal(38,0)))",
    "select a from t where a + 1 > 0",
    "select a from t order by a + 1",
    "select a + 1, count(*) from t group by a + 1",
    "select median(a + 1) from t",
    "select count(*) filter (where a + 1 > 0), median(a) from t",
    "select sum(a), median(a) from t",
    "select s, sum(a), median(a) from t group by s",
    "select sum(a) over () from t",
    "select sum(a) over (order by a) from t",
    "select sum(a) over (order by a rows between 1 preceding and current row) from t",
    "select sum(a + 1) over () from t",
    "select lag(a + 1) over (order by a) from t",
    "select rank() over (order by a + 1) from t",
    "select rank() over (partition by a + 1 order by a) from t",
    "select a from t join (values (1)) u(b) on t.a + 1 = u.b",
    "select a from t join (values (1)) u(b) on t.a + u.b > 5",
    "select a from t where exists (select 1 from (values (1)) u(b) where u.b + t.a > 5)",
    "select case when s = 'x' then a + 1 else 0 end from t",
    "select coalesce(a + 1, 0) from t",
    "select abs(a + 1) from t",
    "select 9223372036854775807 + 1",
    "select x + 1 from (select 9223372036854775807 as x)",
    "select * from (values (9223372036854775807 + 1))",
];

/// None overflows, whatever is near.
const FITS: &[&str] = &[
    "select a + 0, d + 0 from t",
    "select a + 1 from t where a < 5",
    "select case when a < 5 then a + 1 else a end from t",
    "select case when false then 9223372036854775807 + 1 else 0 end",
    "select sum(a) from (select a from t where a < 5 union all select 4)",
    "select avg(a), median(a) from t",
    "select sum(distinct a), median(a) from (select * from t where a < 5)",
    "select sum(a) over (order by a rows between current row and current row) from t",
    "select s, sum(a), median(a) from (select * from t where a < 5) group by s",
    "select date '2020-01-01' + interval '1 month', 1.5 + 2, 2.5e0 * 3",
];

const TABLE: &str = "create table t as select * from (values \
    (9223372036854775807, cast('99999999999999999999999999999999999999' as decimal(38,0)), 'x', -9223372036854775807 - 1), \
    (9223372036854775806, cast(1 as decimal(38,0)), 'x', -5), (1, cast(2 as decimal(38,0)), 'y', 0)) v(a, d, s, m)";

async fn run(session: &Session, sql: &str) -> Result<usize, String> {
    let rows = session.sql(sql).await.map_err(|e| e.to_string())?.collect().await.map_err(|e| e.to_string())?;
    Ok(rows.iter().map(|b| b.num_rows()).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn is_an_error_in_stages_and_in_stock_operators() {
    for stages in [true, false] {
        let session = Session::with_options(Options { threads: 2, stages, ..Options::default() }).unwrap();
        session.sql(TABLE).await.unwrap();
        for sql in OVERFLOWS {
            let error = run(&session, sql).await.expect_err(&format!("stages {stages}: {sql}"));
            assert!(error.to_lowercase().contains("overflow"), "stages {stages}: {sql}: {error}");
        }
        for sql in FITS {
            assert!(run(&session, sql).await.is_ok(), "stages {stages}: {sql}: {:?}", run(&session, sql).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wraps_in_a_host() {
    let host = SessionContext::new_with_state(millstream::accelerate(SessionStateBuilder::new().with_default_features()).build());
    host.sql(TABLE).await.unwrap();
    for sql in [
        "select sum(a) from t",
        "select sum(a), array_agg(a) from t",
        "select sum(a + 1) over () from t",
        "select a + 1 from t where a > 0",
    ] {
        let rows = host.sql(sql).await.unwrap().collect().await;
        assert!(rows.is_ok(), "{sql}: {rows:?}");
    }
}
