//! The oracle of grouping: one row at a time, values compared by value.

use crate::program::{AggregateOp, KeyOrders, Listing, Moment, Pick};
use crate::value::{Value, compare_f64};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// One group: for each aggregate the arguments of each row that its filter let through, in order.
pub type Bag = Vec<Vec<Vec<Value>>>;

/// Rows by key.
#[derive(Default)]
pub struct Reference {
    groups: BTreeMap<Vec<Value>, Bag>,
}

impl Reference {
    /// Adds a row: its key, and for each aggregate its arguments (`None`: the filter dropped it).
    pub fn add(&mut self, key: Vec<Value>, args: Vec<Option<Vec<Value>>>) {
        let bag = self.groups.entry(key).or_insert_with(|| vec![vec![]; args.len()]);
        for (rows, arg) in bag.iter_mut().zip(args) {
            rows.extend(arg);
        }
    }

    /// The groups, by key.
    pub fn groups(&self) -> &BTreeMap<Vec<Value>, Bag> {
        &self.groups
    }
}

/// The aggregate of rows of arguments.
pub fn aggregate(op: AggregateOp, rows: &[Vec<Value>]) -> Value {
    if let AggregateOp::Pick(p) = op {
        return pick(p, rows).unwrap_or(Value::Null);
    }
    let rows: Vec<&[Value]> = rows.iter().map(Vec::as_slice).filter(|r| !r.iter().any(Value::is_null)).collect();
    let values = || rows.iter().filter_map(|r| r.first());
    let integers = || values().map(|v| if let Value::Int(v) = v { *v } else { 0 });
    let ints = |f: fn(i128, i128) -> i128| integers().reduce(f).map_or(Value::Null, Value::Int);
    match op {
        AggregateOp::Count => Value::Int(rows.len() as i128),
        AggregateOp::CountDistinct => {
            let mut sorted: Vec<_> = values().collect();
            sorted.sort();
            sorted.dedup();
            Value::Int(sorted.len() as i128)
        }
        AggregateOp::Min => values().min().cloned().unwrap_or(Value::Null),
        AggregateOp::Max => values().max().cloned().unwrap_or(Value::Null),
        AggregateOp::Sum => values()
            .cloned()
            .reduce(|a, b| match (a, b) {
                (Value::Int(a), Value::Int(b)) => Value::Int(a + b),
                (Value::F64(a), Value::F64(b)) => Value::F64(a + b),
                (a, _) => a,
            })
            .unwrap_or(Value::Null),
        AggregateOp::BitAnd => ints(|a, b| a & b),
        AggregateOp::BitOr => ints(|a, b| a | b),
        AggregateOp::BitXor => ints(|a, b| a ^ b),
        AggregateOp::Moment(m) => moment(m, &rows).map_or(Value::Null, Value::F64),
        AggregateOp::Median => {
            let sorted = sorted(values());
            match (sorted.get(sorted.len().wrapping_sub(1) / 2), sorted.get(sorted.len() / 2)) {
                (Some(Value::Int(a)), Some(Value::Int(b))) => Value::Int((a + b) / 2),
                (Some(Value::F64(a)), Some(Value::F64(b))) => Value::F64((a + b) / 2.0),
                _ => Value::Null,
            }
        }
        // A row's value, and no one value.
        AggregateOp::Pick(_) | AggregateOp::List(_) => Value::Null,
        AggregateOp::Quantile(fraction) => {
            let sorted = sorted(values());
            let at = fraction.get() * sorted.len().saturating_sub(1) as f64;
            let weight = (at.fract() * 1e6).floor() / 1e6;
            match (sorted.get(at.floor() as usize), sorted.get(at.ceil() as usize)) {
                (Some(Value::F64(a)), Some(Value::F64(_))) if at.fract() == 0.0 => Value::F64(*a),
                (Some(Value::F64(a)), Some(Value::F64(b))) => Value::F64(a + (b - a) * weight),
                _ => Value::Null,
            }
        }
    }
}

/// Nulls are values here.
fn pick(p: Pick, rows: &[Vec<Value>]) -> Option<Value> {
    let values = listed(p.by, p.skip_nulls, rows);
    if p.last { values.last() } else { values.first() }.cloned()
}

/// The values of a group's rows, in the order of the arguments behind them.
pub fn list(l: Listing, rows: &[Vec<Value>]) -> Vec<Value> {
    listed(l.by, l.skip_nulls, rows)
}

fn listed(by: KeyOrders, skip_nulls: bool, rows: &[Vec<Value>]) -> Vec<Value> {
    let mut rows: Vec<&Vec<Value>> = rows.iter().filter(|r| !(skip_nulls && r[0].is_null())).collect();
    rows.sort_by(|a, b| {
        let orders = by.iter().zip(a[1..].iter().zip(&b[1..])).map(|(by, (a, b))| match (a.is_null(), b.is_null()) {
            (false, false) if by.descending => b.cmp(a),
            (false, false) => a.cmp(b),
            (a, b) if by.nulls_first => b.cmp(&a),
            (a, b) => a.cmp(&b),
        });
        orders.fold(Ordering::Equal, Ordering::then)
    });
    rows.into_iter().map(|r| r[0].clone()).collect()
}

fn sorted<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<&'a Value> {
    let mut sorted: Vec<_> = values.collect();
    sorted.sort_by(|a, b| match (a, b) {
        (Value::F64(a), Value::F64(b)) => a.total_cmp(b),
        _ => a.cmp(b),
    });
    sorted
}

/// By the definitions, in two passes. Of two arguments the first is y.
fn moment(moment: Moment, rows: &[&[Value]]) -> Option<f64> {
    let column = |c: usize| rows.iter().map(move |r| if let Some(Value::F64(v)) = r.get(c) { *v } else { 0.0 });
    let n = rows.len() as f64;
    let mean = |c: usize| column(c).sum::<f64>() / n;
    let (mean_y, mean_x) = (mean(0), mean(1));
    let products = |a: usize, b: usize| -> f64 {
        let mean = [mean_y, mean_x];
        column(a).zip(column(b)).map(|(v, w)| (v - mean[a]) * (w - mean[b])).sum()
    };
    let constant = |c: usize| column(c).zip(column(c).skip(1)).all(|(a, b)| compare_f64(a, b).is_eq());
    let (yy, xx, xy) = (products(0, 0), products(1, 1), products(0, 1));
    let line = |v: f64| (n > 1.0 && !constant(1)).then_some(v);
    let both = |v: f64| (n > 1.0 && !constant(0) && !constant(1)).then_some(v);
    let some = |v: f64| (n > 0.0).then_some(v);
    let more = |v: f64| (n > 1.0).then_some(v);
    match moment {
        Moment::VarSamp => more(yy / (n - 1.0)),
        Moment::VarPop => some(yy / n),
        Moment::StddevSamp => more((yy / (n - 1.0)).sqrt()),
        Moment::StddevPop => some((yy / n).sqrt()),
        Moment::CovarSamp => more(xy / (n - 1.0)),
        Moment::CovarPop => some(xy / n),
        Moment::Corr => both(xy / (yy * xx).sqrt()),
        Moment::RegrSlope => line(xy / xx),
        Moment::RegrIntercept => line(mean_y - xy / xx * mean_x),
        Moment::RegrR2 => both(xy * xy / (xx * yy)),
        Moment::RegrAvgX => some(mean_x),
        Moment::RegrAvgY => some(mean_y),
        Moment::RegrSxx => some(xx),
        Moment::RegrSyy => some(yy),
        Moment::RegrSxy => some(xy),
    }
}
