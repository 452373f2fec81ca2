//! How many rows a node is expected to give, from statistics of its sources.
//!
//! Uniform values, independent columns; a join meets each key of the smaller domain once. What the sources
//! do not say is not guessed: then there is no estimate.

use arrow::datatypes::DataType;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, JoinType, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion::physical_expr::utils::split_conjunction;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, StatisticsArgs, StatisticsContext};
use millstream_stage::StageExec;
use std::collections::HashMap;
use std::sync::Arc;

/// What is expected of a node's output.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// Rows.
    pub rows: f64,
    /// Its columns.
    pub columns: Vec<Values>,
}

/// What is known of a column before rows were filtered.
#[derive(Clone, Copy, Debug)]
pub struct Values {
    /// Distinct values.
    pub distinct: f64,
    /// Rows of the table that it is from.
    pub of: f64,
    /// Whether `distinct` was counted or follows from the range; else it is only the number of rows.
    pub counted: bool,
    /// Least and greatest value, of numbers and dates.
    pub range: Option<(f64, f64)>,
    /// Whether it is computed of a group.
    aggregate: bool,
    /// Distinct values at the most as far as the size of the column tells, of strings that nobody counted.
    pub likely: Option<f64>,
}

/// The part of the rows that have one value of a column whose values nobody counted.
const ONE_VALUE: f64 = 0.1;

impl Values {
    /// The part of the rows that have one of `n` values.
    pub fn equal(&self, n: usize) -> f64 {
        let one = if self.counted { 1.0 / self.distinct } else { ONE_VALUE.max(1.0 / self.distinct) };
        (n as f64 * one).min(1.0)
    }
}

/// Selectivity of a condition of which nothing is known, as DataFusion's.
pub const UNKNOWN: f64 = 0.2;

/// The part of the groups that stay where what is computed of them is compared: queries look for the few that stand out.
const HAVING: f64 = 0.1;

/// The part of its pairs that a join condition beyond the keys is expected to keep.
pub const RESIDUAL: f64 = 0.7;

/// The estimate of a node, if its sources know how many rows they have.
pub fn estimate(plan: &Arc<dyn ExecutionPlan>) -> Option<Estimate> {
    if let Some(stage) = plan.downcast_ref::<StageExec>() {
        return crate::work::rows::estimate(stage);
    }
    if let Some(node) = plan.downcast_ref::<FilterExec>() {
        let mut below = estimate(node.input())?;
        below.rows = (below.rows * selectivity(node.predicate(), &below.columns)).max(1.0);
        if let Some(p) = node.projection() {
            below.columns = p.iter().map(|i| below.columns.get(*i).copied()).collect::<Option<_>>()?;
        }
        return Some(below);
    }
    if let Some(node) = plan.downcast_ref::<ProjectionExec>() {
        let below = estimate(node.input())?;
        let columns = node.expr().iter().map(|e| column(&e.expr, &below.columns).unwrap_or(unknown(below.rows))).collect();
        return Some(Estimate { rows: below.rows, columns });
    }
    if let Some(node) = plan.downcast_ref::<AggregateExec>() {
        let below = estimate(node.input())?;
        let keys: Vec<Values> =
            node.group_expr().expr().iter().map(|(e, _)| column(e, &below.columns).unwrap_or(unknown(below.rows))).collect();
        let rows = keys.iter().map(|k| k.distinct).product::<f64>().min(below.rows);
        let columns = keys
            .into_iter()
            .chain(std::iter::repeat(Values { aggregate: true, ..unknown(rows) }))
            .take(plan.schema().fields().len())
            .collect();
        return Some(Estimate { rows, columns });
    }
    if let Some(node) = plan.downcast_ref::<HashJoinExec>() {
        return join(node, estimate(node.left())?, estimate(node.right())?);
    }
    match plan.children()[..] {
        [] => source(plan),
        [one] if one.schema().fields().len() == plan.schema().fields().len() => estimate(one),
        _ => None,
    }
}

fn source(plan: &Arc<dyn ExecutionPlan>) -> Option<Estimate> {
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new()).ok()?;
    let rows = *statistics.num_rows.get_value()? as f64;
    let columns = statistics.column_statistics.iter().map(|c| values(c, rows)).collect();
    Some(Estimate { rows, columns })
}

/// A column of which nothing is known.
pub fn unknown(rows: f64) -> Values {
    Values { distinct: rows.max(1.0), of: rows, counted: false, range: None, aggregate: false, likely: None }
}

/// Distinct values that codes of so many bytes can tell apart: a dictionary's codes take the bits that they need. Sizes
/// that are exact are those of values, which say nothing.
fn coded(size: &Precision<usize>, rows: f64) -> Option<f64> {
    let Precision::Inexact(bytes) = size else { return None };
    let bits = *bytes as f64 * 8.0 / rows.max(1.0);
    (bits < 20.0).then(|| bits.exp2().ceil().min(rows))
}

fn values(c: &ColumnStatistics, rows: f64) -> Values {
    let range = match (bound(&c.min_value), bound(&c.max_value)) {
        (Some(lo), Some(hi)) => Some((lo, hi)),
        _ => None,
    };
    let whole = |v: &Precision<ScalarValue>| v.get_value().is_some_and(|v| v.data_type().is_integer() || v.data_type() == DataType::Date32);
    let distinct = match (c.distinct_count.get_value(), range) {
        (Some(n), _) => Some(*n as f64),
        (None, Some((lo, hi))) if whole(&c.min_value) => Some((hi - lo + 1.0).min(rows)),
        _ => None,
    };
    let likely = if distinct.is_none() { coded(&c.byte_size, rows) } else { None };
    Values { distinct: distinct.unwrap_or(rows).max(1.0), of: rows, counted: distinct.is_some(), range, aggregate: false, likely }
}

fn bound(v: &Precision<ScalarValue>) -> Option<f64> {
    number(v.get_value()?)
}

/// A number or date as a float.
fn number(v: &ScalarValue) -> Option<f64> {
    let v = match v {
        ScalarValue::Date32(days) => return days.map(f64::from),
        ScalarValue::Dictionary(_, v) => v.as_ref(),
        v => v,
    };
    if !(v.data_type().is_numeric()) {
        return None;
    }
    match v.cast_to(&DataType::Float64).ok()? {
        ScalarValue::Float64(v) => v,
        _ => None,
    }
}

/// The column that an expression is, casts aside.
fn column(e: &Arc<dyn PhysicalExpr>, columns: &[Values]) -> Option<Values> {
    if let Some(c) = e.downcast_ref::<Column>() {
        return columns.get(c.index()).copied();
    }
    column(e.downcast_ref::<CastExpr>()?.expr(), columns)
}

fn literal(e: &Arc<dyn PhysicalExpr>) -> Option<&ScalarValue> {
    match e.downcast_ref::<Literal>() {
        Some(l) => Some(l.value()),
        None => literal(e.downcast_ref::<CastExpr>()?.expr()),
    }
}

/// The part of the rows for which a condition is expected to hold.
pub fn selectivity(e: &Arc<dyn PhysicalExpr>, columns: &[Values]) -> f64 {
    let mut ranges: HashMap<usize, (f64, f64)> = HashMap::new();
    let mut rest = 1.0;
    for e in split_conjunction(e) {
        match limit(e, columns) {
            Some((c, lo, hi)) => {
                let range = ranges.entry(c).or_insert((f64::NEG_INFINITY, f64::INFINITY));
                *range = (range.0.max(lo), range.1.min(hi));
            }
            None => rest *= single(e, columns),
        }
    }
    let part = |(c, (lo, hi)): (&usize, &(f64, f64))| match columns[*c].range {
        Some((least, most)) if most > least => ((hi.min(most) - lo.max(least)) / (most - least)).clamp(1.0 / columns[*c].distinct, 1.0),
        _ => 1.0,
    };
    rest * ranges.iter().map(part).product::<f64>()
}

/// A comparison of a column of known range with a number, as bounds.
fn limit(e: &Arc<dyn PhysicalExpr>, columns: &[Values]) -> Option<(usize, f64, f64)> {
    let e = e.downcast_ref::<BinaryExpr>()?;
    let (c, value, op) = match (bare(e.left()), bare(e.right())) {
        (Some(c), None) => (c, literal(e.right())?, *e.op()),
        (None, Some(c)) => (c, literal(e.left())?, e.op().swap()?),
        _ => return None,
    };
    columns.get(c)?.range?;
    let v = number(value)?;
    match op {
        Operator::Lt | Operator::LtEq => Some((c, f64::NEG_INFINITY, v)),
        Operator::Gt | Operator::GtEq => Some((c, v, f64::INFINITY)),
        _ => None,
    }
}

fn bare(e: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    match e.downcast_ref::<Column>() {
        Some(c) => Some(c.index()),
        None => bare(e.downcast_ref::<CastExpr>()?.expr()),
    }
}

fn single(e: &Arc<dyn PhysicalExpr>, columns: &[Values]) -> f64 {
    if let Some(b) = e.downcast_ref::<BinaryExpr>() {
        let sides = (column(b.left(), columns), column(b.right(), columns));
        let equal = match sides {
            (Some(l), Some(r)) => 1.0 / l.distinct.max(r.distinct),
            (Some(c), None) | (None, Some(c)) => c.equal(1),
            (None, None) => UNKNOWN,
        };
        return match b.op() {
            Operator::And => selectivity(e, columns),
            Operator::Or => {
                let (l, r) = (selectivity(b.left(), columns), selectivity(b.right(), columns));
                l + r - l * r
            }
            Operator::Eq => equal,
            Operator::NotEq => 1.0 - equal,
            // Two columns: either order is as likely.
            Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq if sides.0.is_some() && sides.1.is_some() => 0.5,
            Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq if sides.0.or(sides.1).is_some_and(|c| c.aggregate) => HAVING,
            Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => 1.0 / 3.0,
            _ => UNKNOWN,
        };
    }
    let negate = |part: f64, negated: bool| if negated { 1.0 - part } else { part };
    if let Some(l) = e.downcast_ref::<InListExpr>() {
        let of = column(l.expr(), columns).map_or(UNKNOWN, |c| c.equal(l.list().len()));
        return negate(of, l.negated());
    }
    if let Some(l) = e.downcast_ref::<LikeExpr>() {
        return negate(0.1, l.negated());
    }
    if let Some(n) = e.downcast_ref::<NotExpr>() {
        return 1.0 - selectivity(n.arg(), columns);
    }
    if e.is::<IsNullExpr>() {
        return 0.05;
    }
    if e.is::<IsNotNullExpr>() {
        return 0.95;
    }
    UNKNOWN
}

/// The number of pairs of rows by which those that agree in the keys are outnumbered.
pub fn pairs_per_match(keys: &[(Values, Values)]) -> f64 {
    let distinct: f64 = keys.iter().map(|(l, r)| l.distinct.max(r.distinct)).product();
    // Columns of one key depend on one another: there are no more keys than rows of the smaller table.
    let most = keys.iter().map(|(l, r)| l.of.min(r.of)).fold(f64::INFINITY, f64::min);
    distinct.min(most).max(1.0)
}

/// The number of keys that either side may have. A semi join keeps as large a part of one side as the other has of these:
/// there may be more of them than rows of the smaller table.
fn keys_of_both(keys: &[(Values, Values)]) -> f64 {
    let distinct: f64 = keys.iter().map(|(l, r)| l.distinct.max(r.distinct)).product();
    let most = keys.iter().map(|(l, r)| l.of.max(r.of)).fold(0.0, f64::max);
    distinct.min(most).max(1.0)
}

fn join(node: &HashJoinExec, left: Estimate, right: Estimate) -> Option<Estimate> {
    let key = |e: &Arc<dyn PhysicalExpr>, of: &Estimate| column(e, &of.columns).unwrap_or(unknown(of.rows));
    let keys: Vec<_> = node.on().iter().map(|(l, r)| (key(l, &left), key(r, &right))).collect();
    let per_match = pairs_per_match(&keys);
    let residual = if node.filter().is_some() { RESIDUAL } else { 1.0 };
    let inner = (left.rows * right.rows / per_match * residual).max(1.0);
    // The part of one side's rows that have a match among the rows of the other.
    let matched = |others: f64| (others / keys_of_both(&keys)).min(1.0) * residual;
    let rows = match node.join_type() {
        JoinType::Inner => inner,
        JoinType::Left => inner.max(left.rows),
        JoinType::Right => inner.max(right.rows),
        JoinType::Full => inner.max(left.rows).max(right.rows),
        JoinType::LeftSemi => left.rows * matched(right.rows),
        JoinType::RightSemi => right.rows * matched(left.rows),
        JoinType::LeftAnti => left.rows * (1.0 - matched(right.rows)).max(0.1),
        JoinType::RightAnti => right.rows * (1.0 - matched(left.rows)).max(0.1),
        JoinType::LeftMark => left.rows,
        JoinType::RightMark => right.rows,
    };
    use JoinType::*;
    let mut columns = vec![];
    if !matches!(node.join_type(), RightSemi | RightAnti | RightMark) {
        columns.extend(left.columns);
    }
    if !matches!(node.join_type(), LeftSemi | LeftAnti | LeftMark) {
        columns.extend(right.columns);
    }
    if matches!(node.join_type(), LeftMark | RightMark) {
        columns.push(Values { distinct: 2.0, of: rows, counted: true, range: None, aggregate: false, likely: None });
    }
    if let Some(p) = &node.projection {
        columns = p.iter().map(|i| columns.get(*i).copied()).collect::<Option<_>>()?;
    }
    Some(Estimate { rows: rows.max(1.0), columns })
}
