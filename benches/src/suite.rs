//! What a suite is: tables, queries, and how the result of each query is ordered.

/// A benchmark: queries over a set of tables.
#[derive(Debug)]
pub struct Suite {
    /// Its name on the command line.
    pub name: &'static str,
    /// The scale where none is asked for: small, so that a first run is quick.
    pub scale: f64,
    /// The tables that the queries read.
    pub tables: &'static [&'static str],
    /// The queries, in the order in which they run.
    pub queries: &'static [Query],
    /// The answers of each scale.
    pub(crate) answers: &'static [(f64, &'static [AnswerFile])],
}

impl Suite {
    /// The query of this id.
    pub fn query(&self, id: &str) -> Option<&'static Query> {
        self.queries.iter().find(|query| query.id == id)
    }

    /// The scales for which answers are embedded.
    pub fn scales(&self) -> impl Iterator<Item = f64> {
        self.answers.iter().map(|(scale, _)| *scale)
    }
}

/// The id of a query and its answer.
pub(crate) type AnswerFile = (&'static str, Stored);

/// The file of an answer.
#[derive(Debug)]
pub(crate) enum Stored {
    /// All rows, as Parquet.
    Rows(&'static [u8]),
    /// A digest of them, as JSON.
    Digest(&'static str),
}

/// One query. The text is the same for every scale and every engine.
#[derive(Debug)]
pub struct Query {
    /// Its name on the command line: `q1`.
    pub id: &'static str,
    /// Its text, without a semicolon.
    pub sql: &'static str,
    /// How the rows of the result are sorted; empty when their order is free.
    pub order_by: &'static [SortKey],
    /// The query's LIMIT: rows that tie with the last one may be answered in its place.
    pub limit: Option<usize>,
    /// Columns that hold a statistic, a correlation for instance: for groups without variance it is undefined, null or
    /// NaN as the engine likes, and near zero it is the rounding of large terms that cancel.
    pub statistics: &'static [usize],
}

/// One key of an ORDER BY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortKey {
    /// Position of the column in the result, from 0.
    pub column: usize,
    /// Largest first.
    pub descending: bool,
    /// Nulls before all values, else after them (queries whose keys have nulls say it in their text).
    pub nulls_first: bool,
}

include!(concat!(env!("OUT_DIR"), "/suites.rs"));

/// Every suite, by name.
pub fn suites() -> &'static [Suite] {
    SUITES
}

/// The suite of this name.
pub fn suite(name: &str) -> Option<&'static Suite> {
    SUITES.iter().find(|suite| suite.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tpch_has_its_queries_and_tables() {
        let tpch = suite("tpch").unwrap();
        let ids: Vec<_> = tpch.queries.iter().map(|query| query.id.to_string()).collect();
        assert_eq!(ids, (1..=22).map(|n| format!("q{n}")).collect::<Vec<_>>());
        assert_eq!(tpch.tables.len(), 8);
        assert_eq!(tpch.query("q6").unwrap().id, "q6");
        assert!(tpch.query("q23").is_none() && suite("tpcx").is_none());
        assert_eq!(tpch.scales().collect::<Vec<_>>(), [0.01, 0.1, 1.0, 10.0]);
    }

    #[test]
    fn h2o_has_its_queries_and_tables() {
        let h2o = suite("h2o").unwrap();
        let ids: Vec<_> = h2o.queries.iter().map(|query| query.id.to_string()).collect();
        let expected = (1..=10).map(|n| format!("g{n}")).chain((1..=5).map(|n| format!("j{n}")));
        assert_eq!(ids, expected.collect::<Vec<_>>());
        assert_eq!(h2o.tables, ["big", "lhs", "medium", "small", "x"]);
        assert_eq!(h2o.scales().collect::<Vec<_>>(), [0.01, 0.1, 1.0]);
        assert_eq!(h2o.query("g9").unwrap().statistics, [2]);
    }

    #[test]
    fn ssb_has_its_queries_and_tables() {
        let ssb = suite("ssb").unwrap();
        let ids: Vec<_> = ssb.queries.iter().map(|query| query.id.to_string()).collect();
        let flights = [3, 3, 4, 3].into_iter().zip(1..);
        let expected = flights.flat_map(|(queries, flight)| (1..=queries).map(move |n| format!("q{flight}.{n}")));
        assert_eq!(ids, expected.collect::<Vec<_>>());
        assert_eq!(ssb.tables, ["customer", "date", "lineorder", "part", "supplier"]);
        assert_eq!(ssb.scales().collect::<Vec<_>>(), [0.01, 0.1, 1.0]);
    }

    #[test]
    fn a_first_run_is_verified() {
        for suite in suites() {
            assert!(suite.scales().any(|scale| scale == suite.scale), "{}", suite.name);
        }
    }

    /// The text outside parentheses: subqueries and windows have an order of their own.
    fn outermost(text: &str) -> String {
        let mut depth = 0;
        let mut out = String::new();
        for c in text.chars() {
            depth += i32::from(c == '(');
            out.extend((depth == 0).then_some(c));
            depth -= i32::from(c == ')');
        }
        out
    }

    #[test]
    fn the_definition_of_each_query_agrees_with_its_text() {
        for query in suites().iter().flat_map(|suite| suite.queries) {
            let words: Vec<_> = query.sql.split_whitespace().map(str::to_lowercase).collect();
            assert!(!query.sql.contains(';'), "{}", query.id);
            let limit = match words.as_slice() {
                [.., limit, rows] if limit == "limit" => Some(rows.parse().unwrap()),
                _ => None,
            };
            assert_eq!(limit, query.limit, "{}", query.id);
            // The last ORDER BY of the text, key by key.
            let text = outermost(&words.join(" "));
            let keys = text.rsplit_once(" order by ").map_or("", |(_, keys)| keys);
            let keys = keys.split(" limit ").next().unwrap();
            let descending: Vec<_> = keys.split(',').filter(|key| !key.is_empty()).map(|key| key.ends_with(" desc")).collect();
            assert_eq!(descending, query.order_by.iter().map(|key| key.descending).collect::<Vec<_>>(), "{}", query.id);
        }
    }
}
