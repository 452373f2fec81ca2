//! SQL with stages on and off: the same rows, or an error from both.

use crate::world::session;
use arrow::util::pretty::pretty_format_batches;
use millstream::{Preference, Session};

const QUERIES: &[&str] = &[
    "select n_name, r_name from nation full join region on n_regionkey = r_regionkey and n_nationkey > 10",
    "select c_custkey, o_orderkey from customer left join orders on c_custkey = o_custkey and o_totalprice > 200000",
    "select c_custkey, coalesce(o_orderkey, -1) k from orders right join customer on c_custkey = o_custkey and o_totalprice > 300000",
    "select a.x, b.y from (values (1),(null),(3)) a(x) full join (values (1),(null),(4)) b(y) on a.x = b.y",
    "select a.x from (values (1),(null),(3)) a(x) where a.x not in (select y from (values (1),(null)) b(y))",
    "select a.x from (values (1),(null),(3)) a(x) where a.x not in (select y from (values (1)) b(y))",
    "select a.x from (values (1),(2),(3)) a(x) where exists (select 1 from (values (1),(3)) b(y) where b.y = a.x) or a.x = 2",
    "select x, count(*), sum(v), min(v), max(s) from (values (1, 2.5, 'a'), (null, 1.0, null), (1, null, 'b')) t(x,v,s) group by x",
    "select count(distinct o_custkey), count(*) filter (where o_totalprice > 100000), avg(o_totalprice) from orders where o_orderkey < 0",
    "select o_orderpriority, count(distinct o_custkey) from orders group by 1",
    "select x, count(*) from (values (cast('NaN' as double)), (-0.0), (0.0), (cast('NaN' as double)), (null)) t(x) group by x",
    "select l_shipmode, o_orderpriority, sum(l_quantity*o_totalprice) from lineitem join orders on l_orderkey = o_orderkey group by 1, 2",
    "select count(*) from (values (1),(null)) a(x) join (values (1),(null)) b(y) on a.x is not distinct from b.y",
    "select n_nationkey, rank() over (order by n_nationkey % 3), sum(n_nationkey) over (partition by n_regionkey order by n_nationkey * 2) from nation",
    "select o_orderstatus, o_orderpriority, count(*), sum(l_quantity) from lineitem join orders on l_orderkey = o_orderkey group by 1, 2",
    "select o_orderkey, o_orderdate, o_clerk, max(l_shipdate) from lineitem join orders on l_orderkey = o_orderkey group by 1, 2, 3",
    "select b.s, b.t, count(*), sum(a.v) from (values (1, 10), (2, 20), (1, 30), (3, 40)) a(k, v) \
     join (values (1, 'x', null), (1, 'x', null), (2, null, 'z'), (3, 'x', null)) b(k, s, t) on a.k = b.k group by b.s, b.t",
    "select b.s, b.t, a.k % 2, count(*) from (values (1), (2), (1), (3)) a(k) \
     left join (values (1, 'x', 'y'), (2, null, 'z')) b(k, s, t) on a.k = b.k group by b.s, b.t, a.k % 2",
    "select p_type, p_container like 'JUMBO%', count(*) from part where p_name like '%green%' and p_type not like '%TIN%' group by 1, 2",
    "select n_name from nation where n_nationkey = (select max(r_regionkey) from region)",
    // What is constant, or computed to something, on the side that an outer join fills with nulls.
    "select a.x, b.k, b.y from (values (1),(2)) a(x) left join (select x, 123 k, coalesce(x, 7) y from (values (1)) c(x)) b on a.x = b.x",
    "select a.x, b.k, 123 m, coalesce(b.y, 0) z from (values (1),(2)) a(x) left join (select x, 123 k, x + 0 y from (values (1)) c(x)) b on a.x = b.x",
    "select a.x, a.k, b.k from (select x, 5 k from (values (1),(2)) v(x)) a full join (select x, 6 k from (values (2),(3)) w(x)) b on a.x = b.x",
    "select r_name, n from region left join (select n_regionkey, 1 n from nation where n_nationkey < 3) x on n_regionkey = r_regionkey",
    "select r_name, (select count(*) from nation where n_regionkey = r_regionkey and n_nationkey < 3) n from region",
    "select r_name from region where (select count(*) from nation where n_regionkey = r_regionkey and n_nationkey < 3) = 0",
    "select r_name, s.n from region left join lateral (select count(*) n from nation where n_regionkey = r_regionkey and n_nationkey < 3) s on true",
    // Orders that hold because a column is constant.
    "select 1 a, b from (values (1),(2)) v(b) union all select 2, b from (values (1),(2)) w(b) order by a, b",
    "select row_number() over (partition by a) r from (select * from (values (1),(1)) v(a) where a = 1) x",
    "select avg(arrow_cast(x, 'Decimal32(5, 2)')), avg(arrow_cast(x, 'Decimal64(12, 3)')) from (values (1.5),(2.5)) t(x)",
    "select avg(arrow_cast('9999999999999999999999999999999999', 'Decimal128(34, 0)')) from generate_series(1, 21476)",
    // Columns that no kernel reads: lists and structs through filters, joins, sorts and the first rows of groups.
    "select l, s, x from (select x, make_array(x, null, 7) l, named_struct('a', x, 'b', 'text') s from generate_series(1, 5000) g(x)) t \
     where x % 3 = 1 and x < 4000",
    "select a.x, b.l, b.s from generate_series(1, 3000) a(x) full join \
     (select x * 2 k, make_array(x, 7) l, named_struct('a', x, 'b', make_array('text', null)) s from generate_series(1, 3000) g(x)) b on a.x = b.k",
    "select x, l from (select x, case when x % 5 > 0 then make_array(x) end l from generate_series(1, 5000) g(x)) t where x > 9 order by x desc limit 9",
    "select k, l from (select x % 7 k, make_array(x) l, row_number() over (partition by x % 7 order by x) n from generate_series(1, 5000) g(x)) t where n < 3",
    "select c1, sum(c2) from (select 1 c1, 1 c2 union select 2, 2 union select 3, coalesce(3, 0)) a group by c1",
];

async fn rows(session: &Session, sql: &str) -> Result<Vec<String>, ()> {
    let batches = session.sql(sql).await.map_err(|_| ())?.collect().await.map_err(|_| ())?;
    let text = pretty_format_batches(&batches).map_err(|_| ())?.to_string();
    // Row order is free; lines of the frame fall away with the empty result's missing header.
    let mut lines: Vec<String> = text.lines().filter(|l| l.starts_with('|')).map(str::to_string).collect();
    lines.sort();
    Ok(lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_on_and_off_agree() {
    let (on, off) = (session(true, Preference::Cpu).await, session(false, Preference::Cpu).await);
    for sql in QUERIES {
        let want = rows(&off, sql).await;
        assert!(want.is_ok(), "stock must answer: {sql}");
        assert_eq!(rows(&on, sql).await, want, "{sql}");
    }
    // A scan that evaluates its filters itself.
    for session in [&on, &off] {
        session.sql("set datafusion.execution.parquet.pushdown_filters = true").await.unwrap();
    }
    let sql = "select n_name from nation where n_nationkey > 20 order by n_name";
    assert_eq!(rows(&on, sql).await, rows(&off, sql).await);
    assert_eq!(rows(&on, sql).await.map(|r| r.len()), Ok(5));
    // Negative control: another query's rows are told apart.
    assert_ne!(rows(&on, QUERIES[0]).await, rows(&off, QUERIES[1]).await);
}
