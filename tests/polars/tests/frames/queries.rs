//! Queries in SQL, and the same in Polars' expressions.

use crate::oracle::Tables;
use millstream::polars::prelude::*;

/// One query, twice.
pub struct Pair {
    /// For Millstream.
    pub sql: &'static str,
    /// For Polars.
    pub polars: fn(Tables) -> LazyFrame,
    /// Whether the query says in which order its rows come.
    pub ordered: bool,
}

const fn pair(sql: &'static str, polars: fn(Tables) -> LazyFrame) -> Pair {
    Pair { sql, polars, ordered: false }
}

const fn ordered(sql: &'static str, polars: fn(Tables) -> LazyFrame) -> Pair {
    Pair { sql, polars, ordered: true }
}

/// SQL's sum, which is null where there is nothing to add.
fn total(column: &str) -> Expr {
    when(col(column).count().gt(lit(0))).then(col(column).sum()).otherwise(lit(NULL)).alias("total")
}

fn how(kind: JoinType) -> JoinArgs {
    JoinArgs::new(kind)
}

fn by_k(tables: Tables, kind: JoinType) -> LazyFrame {
    tables.t.join(tables.u, [col("k")], [col("k")], how(kind))
}

/// Smallest first or largest first, nulls last.
fn order(descending: &[bool]) -> SortMultipleOptions {
    SortMultipleOptions::default().with_order_descending_multi(descending.to_vec()).with_nulls_last(true)
}

/// Queries with the same answer.
pub const QUERIES: &[Pair] = &[
    // Filters.
    pair("select id, v from t where v > 100", |q| q.t.filter(col("v").gt(lit(100))).select([col("id"), col("v")])),
    pair("select id from t where v > 100 and x < 0.5 or s = 'ash'", |q| {
        q.t.filter(col("v").gt(lit(100)).and(col("x").lt(lit(0.5))).or(col("s").eq(lit("ash")))).select([col("id")])
    }),
    pair("select id, k from t where s is null", |q| q.t.filter(col("s").is_null()).select([col("id"), col("k")])),
    pair("select id from t where v between -50 and 50 and d is not null", |q| {
        q.t.filter(col("v").gt_eq(lit(-50)).and(col("v").lt_eq(lit(50))).and(col("d").is_not_null())).select([col("id")])
    }),
    pair("select id from t where not b", |q| q.t.filter(col("b").not()).select([col("id")])),
    pair("select id, s from t where s in ('oak', 'birch')", |q| {
        q.t.filter(col("s").is_in(lit(Series::new("".into(), ["oak", "birch"])).implode(false), false)).select([col("id"), col("s")])
    }),
    pair("select id from t where s not in ('oak', '')", |q| {
        q.t.filter(col("s").neq(lit("oak")).and(col("s").neq(lit("")))).select([col("id")])
    }),
    pair("select id from t where s like 'b%'", |q| q.t.filter(col("s").str().starts_with(lit("b"))).select([col("id")])),
    pair("select id from t where s like '%a%'", |q| q.t.filter(col("s").str().contains_literal(lit("a"))).select([col("id")])),
    pair("select id from t where s > 'b' and s <= 'oak'", |q| {
        q.t.filter(col("s").gt(lit("b")).and(col("s").lt_eq(lit("oak")))).select([col("id")])
    }),
    pair("select id from t where d >= date '2023-01-01'", |q| {
        q.t.filter(col("d").gt_eq(lit(19_358).cast(DataType::Int32).cast(DataType::Date))).select([col("id")])
    }),
    pair("select id from t where k is distinct from 3", |q| q.t.filter(col("k").neq_missing(lit(3))).select([col("id")])),
    // Expressions.
    pair("select id, v * 2 + id as a, x / 2 as h, -v as m from t", |q| {
        let h = (col("x") / lit(2.0)).alias("h");
        q.t.select([col("id"), (col("v") * lit(2) + col("id")).alias("a"), h, (lit(0) - col("v")).alias("m")])
    }),
    pair("select id, abs(v) as a, abs(x) as y from t", |q| q.t.select([col("id"), col("v").abs(), col("x").abs()])),
    pair("select id, upper(s) as s, char_length(s) as n from t", |q| {
        q.t.select([col("id"), col("s").str().to_uppercase(), col("s").str().len_chars().alias("n")])
    }),
    pair("select id, case when v > 0 then 'plus' when v < 0 then 'minus' else 'none' end as sign from t", |q| {
        let sign = when(col("v").gt(lit(0))).then(lit("plus")).when(col("v").lt(lit(0))).then(lit("minus")).otherwise(lit("none"));
        q.t.select([col("id"), sign.alias("sign")])
    }),
    pair("select id, coalesce(v, k, 0) as c from t", |q| {
        q.t.select([col("id"), col("v").fill_null(col("k").cast(DataType::Int64)).fill_null(lit(0)).alias("c")])
    }),
    pair("select id, extract(year from d) as y, extract(month from d) as m from t", |q| {
        q.t.select([col("id"), col("d").dt().year().alias("y"), col("d").dt().month().alias("m")])
    }),
    pair("select id, cast(v as double) / 8 as x, id % 7 as r from t", |q| {
        q.t.select([col("id"), (col("v").cast(DataType::Float64) / lit(8.0)).alias("x"), (col("id") % lit(7)).alias("r")])
    }),
    pair("select id, v > k as more, b and v > 0 as both, b or v > 0 as either from t", |q| {
        let positive = || col("v").gt(lit(0));
        q.t.select([col("id"), col("v").gt(col("k")).alias("more"), col("b").and(positive()).alias("both"), col("b").or(positive())])
    }),
    // Groups.
    pair("select k, count(*), count(v), min(v), max(v) from t group by k", |q| {
        q.t.group_by([col("k")]).agg([len(), col("v").count().alias("c"), col("v").min().alias("a"), col("v").max().alias("z")])
    }),
    pair("select s, sum(v) as total from t group by s", |q| q.t.group_by([col("s")]).agg([total("v")])),
    pair("select k, avg(x), stddev(x), var_pop(v) from t group by k", |q| {
        q.t.group_by([col("k")]).agg([col("x").mean(), col("x").std(1).alias("s"), col("v").var(0)])
    }),
    pair("select k, b, count(*), sum(x) from t group by k, b", |q| q.t.group_by([col("k"), col("b")]).agg([len(), total("x")])),
    pair("select k, count(distinct s), count(distinct v) from t group by k", |q| {
        q.t.group_by([col("k")]).agg([col("s").drop_nulls().n_unique(), col("v").drop_nulls().n_unique()])
    }),
    pair("select k, median(x) from t group by k", |q| q.t.group_by([col("k")]).agg([col("x").median()])),
    pair("select b, min(s), max(s), min(d), max(d) from t group by b", |q| {
        let ends = |c: &str| [col(c).min().alias(format!("{c} a")), col(c).max().alias(format!("{c} z"))];
        q.t.group_by([col("b")]).agg([ends("s"), ends("d")].concat())
    }),
    pair("select id % 10 as g, sum(v) from t where v > 0 group by id % 10", |q| {
        q.t.filter(col("v").gt(lit(0))).group_by([(col("id") % lit(10)).alias("g")]).agg([total("v")])
    }),
    pair("select k, count(*) from t group by k having count(*) > 2 and max(v) > 0", |q| {
        let groups = q.t.group_by([col("k")]).agg([len(), col("v").max().alias("z")]);
        groups.filter(col("len").gt(lit(2)).and(col("z").gt(lit(0)))).select([col("k"), col("len")])
    }),
    pair("select k, count(*) filter (where v > 0), count(*) filter (where b) from t group by k", |q| {
        q.t.group_by([col("k")]).agg([col("v").gt(lit(0)).sum().alias("plus"), col("b").sum()])
    }),
    pair("select count(*), count(v), min(x), max(x), count(distinct s) from t", |q| {
        q.t.select([len(), col("v").count(), col("x").min().alias("a"), col("x").max().alias("z"), col("s").drop_nulls().n_unique()])
    }),
    pair("select s, d, sum(v), count(*) from t group by s, d", |q| q.t.group_by([col("s"), col("d")]).agg([total("v"), len()])),
    pair("select distinct s, b from t", |q| q.t.select([col("s"), col("b")]).unique(None, UniqueKeepStrategy::Any)),
    // Joins: null is no key.
    pair("select t.id, u.w from t join u on t.k = u.k", |q| by_k(q, JoinType::Inner).select([col("id"), col("w")])),
    pair("select t.id, t.k, u.w, u.name from t left join u on t.k = u.k", |q| {
        by_k(q, JoinType::Left).select([col("id"), col("k"), col("w"), col("name")])
    }),
    pair("select t.id, t.k, u.k as j, u.w from t full join u on t.k = u.k", |q| {
        by_k(q, JoinType::Full).select([col("id"), col("k"), col("k_right"), col("w")])
    }),
    pair("select id, s from t where k in (select k from u)", |q| by_k(q, JoinType::Semi).select([col("id"), col("s")])),
    pair("select id, s from t where not exists (select 1 from u where u.k = t.k)", |q| {
        by_k(q, JoinType::Anti).select([col("id"), col("s")])
    }),
    pair("select t.id, u.w from t join u on t.k = u.k and t.s = u.name", |q| {
        q.t.join(q.u, [col("k"), col("s")], [col("k"), col("name")], how(JoinType::Inner)).select([col("id"), col("w")])
    }),
    pair("select t.id, u.name from t join u on t.k = u.k where t.v > u.w * 100", |q| {
        by_k(q, JoinType::Inner).filter(col("v").gt(col("w") * lit(100))).select([col("id"), col("name")])
    }),
    pair("select u.name, sum(t.v), count(*) from t join u on t.k = u.k group by u.name", |q| {
        by_k(q, JoinType::Inner).group_by([col("name")]).agg([total("v"), len()])
    }),
    pair("select t.id, g.n from t join (select k, count(*) as n from t group by k) g on t.k = g.k where t.b", |q| {
        let groups = q.t.clone().group_by([col("k")]).agg([len().alias("n")]);
        q.t.filter(col("b")).join(groups, [col("k")], [col("k")], how(JoinType::Inner)).select([col("id"), col("n")])
    }),
    pair("select a.id, b.name from (select id from t where id < 20) a cross join (select name from u where w = 1) b", |q| {
        let (a, b) = (q.t.filter(col("id").lt(lit(20))).select([col("id")]), q.u.filter(col("w").eq(lit(1))).select([col("name")]));
        a.cross_join(b, None)
    }),
    pair("select a.id, b.id as other from t a join t b on a.v = b.v where a.id < b.id", |q| {
        let pairs = q.t.clone().join(q.t, [col("v")], [col("v")], how(JoinType::Inner));
        pairs.filter(col("id").lt(col("id_right"))).select([col("id"), col("id_right")])
    }),
    // Sorts, first rows, windows, unions.
    ordered("select id, v from t order by v desc nulls last, id limit 10", |q| {
        q.t.sort(["v", "id"], order(&[true, false])).limit(10).select([col("id"), col("v")])
    }),
    ordered("select s, d, id from t order by s, d desc nulls last, id", |q| {
        q.t.sort(["s", "d", "id"], order(&[false, true, false])).select([col("s"), col("d"), col("id")])
    }),
    ordered("select x, id from t order by x nulls first, id offset 3 limit 30", |q| {
        q.t.sort(["x", "id"], order(&[false, false]).with_nulls_last(false)).slice(3, 30).select([col("x"), col("id")])
    }),
    ordered("select k, sum(v) as total from t group by k order by total desc nulls last, k nulls last limit 5", |q| {
        q.t.group_by([col("k")]).agg([total("v")]).sort(["total", "k"], order(&[true, false])).limit(5)
    }),
    pair(
        "select k, id from (select k, id, row_number() over (partition by k order by v desc nulls last, id) as r from t) where r <= 3",
        |q| {
            let sorted = q.t.sort(["v", "id"], order(&[true, false])).select([col("k"), col("id")]);
            sorted.group_by_stable([col("k")]).head(Some(3))
        },
    ),
    pair("select id, sum(v) over (partition by k) as total, count(*) over (partition by s) as n from t", |q| {
        let n = col("id").count().over([col("s")]).unwrap();
        q.t.select([col("id"), total("v").over([col("k")]).unwrap(), n.alias("n")])
    }),
    pair("select id, rank() over (partition by k order by v) as place from t where v is not null", |q| {
        let place = col("v").rank(RankOptions { method: RankMethod::Min, descending: false }, None).over([col("k")]).unwrap();
        q.t.filter(col("v").is_not_null()).select([col("id"), place.alias("place")])
    }),
    pair("select k from t where v > 500 union all select k from u", |q| {
        let upper = q.t.filter(col("v").gt(lit(500))).select([col("k")]);
        concat([upper, q.u.select([col("k")])], UnionArgs::default()).unwrap()
    }),
    pair("select s from t union select name from u", |q| {
        let both = concat([q.t.select([col("s")]), q.u.select([col("name").alias("s")])], UnionArgs::default()).unwrap();
        both.unique(None, UniqueKeepStrategy::Any)
    }),
];

/// Queries that look the same and are not: docs/guide/polars.md says how.
pub const DIFFERENCES: &[Pair] = &[
    pair("select sum(v) as v from t where id < 0", |q| q.t.filter(col("id").lt(lit(0))).select([col("v").sum()])),
    pair("select id, v / 2 as h from t", |q| q.t.select([col("id"), (col("v") / lit(2)).alias("h")])),
    pair("select id, v % 7 as r from t", |q| q.t.select([col("id"), (col("v") % lit(7)).alias("r")])),
    pair("select count(distinct s) as n from t", |q| q.t.select([col("s").n_unique().alias("n")])),
    pair("select max(case when id = 5 then cast('nan' as double) else x end) as z from t", |q| {
        let x = when(col("id").eq(lit(5))).then(lit(f64::NAN)).otherwise(col("x"));
        q.t.select([x.max().alias("z")])
    }),
    ordered("select v, id from t order by v, id", |q| q.t.sort(["v", "id"], SortMultipleOptions::default()).select([col("v"), col("id")])),
    pair("select sum(k * 100000000) as k from t", |q| q.t.select([(col("k") * lit(100_000_000)).sum()])),
    pair("select id from t where k not in (1, null)", |q| q.t.filter(col("k").neq(lit(1))).select([col("id")])),
];
