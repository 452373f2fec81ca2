//! Which aggregates a group stage computes, and what of DataFusion's call it needs.

use arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Aggregate;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{CastExpr, Literal};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, PhysicalGroupBy};
use millstream_stage::program::{AggregateFunction, Fraction, KeyOrder, KeyOrders, Listing, Moment, Pick, Type, physical};
use std::sync::Arc;

/// Whether kernels cover the keys and calls of an aggregate.
///
/// # Errors
/// The reason why not, for EXPLAIN.
pub fn covers_group(node: &AggregateExec) -> Result<(), String> {
    let keys = node.input().schema();
    if sets(node.group_expr()).is_some_and(|s| physical(&s.id) == Type::Any) {
        return Err("grouping sets of more than 32 keys".into());
    }
    let uncovered = |e: &Arc<dyn PhysicalExpr>| e.data_type(&keys).map_or(true, |t| physical(&t) == Type::Any);
    if let Some((_, name)) = node.group_expr().expr().iter().find(|(e, _)| uncovered(e)) {
        return Err(format!("key {name} has a type without kernel"));
    }
    node.aggr_expr().iter().try_for_each(|a| covers(a, node.group_expr(), &keys))
}

/// The grouping sets of an aggregate.
pub struct Sets {
    /// For each set which keys are not of it, and the number that DataFusion's plan knows it by.
    pub sets: Vec<(Vec<bool>, u64)>,
    /// The type of that number.
    pub id: DataType,
}

/// The grouping sets, if there are any. The number of a set has a bit for each key that is not of it, the last key's
/// lowest, and above them how often the same set came before.
pub fn sets(keys: &PhysicalGroupBy) -> Option<Sets> {
    if keys.is_single() {
        return None;
    }
    let before = |at: usize| keys.groups()[..at].iter().filter(|s| **s == keys.groups()[at]).count();
    let absent = |set: &[bool]| set.iter().fold(0u64, |bits, absent| bits << 1 | u64::from(*absent));
    let numbered =
        |(at, set): (usize, &Vec<bool>)| (set.clone(), absent(set) | (before(at) as u64).checked_shl(set.len() as u32).unwrap_or(0));
    let most = (0..keys.groups().len()).map(before).max().unwrap_or(0);
    Some(Sets { sets: keys.groups().iter().enumerate().map(numbered).collect(), id: Aggregate::grouping_id_type(keys.expr().len(), most) })
}

fn covers(a: &AggregateFunctionExpr, keys: &PhysicalGroupBy, schema: &Schema) -> Result<(), String> {
    let Some(f) = function(a, keys) else { return Err(format!("{} has no kernel", a.name())) };
    let types: Vec<DataType> = arguments(&f, a, keys, schema).iter().map(|e| e.data_type(schema).unwrap_or(DataType::Null)).collect();
    let types: Vec<(&DataType, Type)> = types.iter().map(|t| (t, physical(t))).collect();
    use AggregateFunction as F;
    let covered = match (&f, &types[..]) {
        (F::Count, _) => a.expressions().len() == 1 || a.fun().name() == REGR_COUNT,
        (F::StringAgg(..), [(_, ty), ..]) if *ty != Type::Str => false,
        (F::Pick(_) | F::ArrayAgg(_) | F::StringAgg(..), types) => !types.is_empty() && types.iter().all(|t| t.1 != Type::Any),
        (F::Moment(m), types) => types.len() == m.arguments() && types.iter().all(|t| t.1 == Type::F64),
        (F::Median, [(_, ty)]) => matches!(ty, Type::F64 | Type::Decimal),
        (F::Quantile(_), [(_, ty)]) => *ty == Type::F64,
        (F::BoolAnd | F::BoolOr, [(_, ty)]) => *ty == Type::Bool,
        (F::BitAnd | F::BitOr | F::BitXor, [(_, ty)]) => matches!(ty, Type::I32 | Type::I64),
        (F::Avg, [(t, ty)]) if *ty != Type::Any => {
            if !averages(t) {
                return Err(format!("{}: a sum beyond 128 bits, or a type without kernel", a.name()));
            }
            true
        }
        (_, [(_, ty)]) => *ty != Type::Any,
        _ => false,
    };
    if !covered {
        return Err(format!("{}: arguments without kernel", a.name()));
    }
    // The order of a quantile says only from which end it is counted.
    if !a.order_bys().is_empty() && !matches!(f, F::Quantile(_) | F::Pick(_) | F::ArrayAgg(_) | F::StringAgg(..)) {
        return Err(format!("{} has an order", a.name()));
    }
    Ok(())
}

/// Whether the average of a type is computed here: DataFusion sums long decimals in 256 bits, and short ones in their own types.
fn averages(t: &DataType) -> bool {
    match t {
        DataType::Decimal128(precision, _) => *precision <= AVERAGED_DIGITS,
        DataType::Decimal32(..) | DataType::Decimal64(..) => false,
        _ => true,
    }
}

/// Digits of a decimal of which 10^10 rows certainly have a sum of 128 bits.
const AVERAGED_DIGITS: u8 = 28;

/// The aggregate as a group sink knows it.
pub fn function(a: &AggregateFunctionExpr, keys: &PhysicalGroupBy) -> Option<AggregateFunction> {
    use AggregateFunction as F;
    Some(match (a.fun().name(), a.is_distinct()) {
        ("count", false) => F::Count,
        ("count", true) => F::CountDistinct,
        ("sum", false) => F::Sum,
        ("avg", false) => F::Avg,
        // The same of distinct values.
        ("min", _) => F::Min,
        ("max", _) => F::Max,
        ("bool_and", _) => F::BoolAnd,
        ("bool_or", _) => F::BoolOr,
        ("bit_and", _) => F::BitAnd,
        ("bit_or", _) => F::BitOr,
        ("bit_xor", false) => F::BitXor,
        ("median", false) => F::Median,
        ("percentile_cont", false) => F::Quantile(fraction(a)?),
        ("first_value", _) => F::Pick(pick(a, keys, false)?),
        ("last_value", _) => F::Pick(pick(a, keys, true)?),
        (REGR_COUNT, false) => F::Count,
        ("array_agg", false) => F::ArrayAgg(listing(a, keys, a.ignore_nulls())?),
        ("string_agg", false) => F::StringAgg(listing(a, keys, true)?, separator(a)?),
        (name, false) => F::Moment(moment(name)?),
        _ => return None,
    })
}

/// Counts the pairs of which neither is null.
const REGR_COUNT: &str = "regr_count";

/// All of DataFusion's but `regr_count`, which is a count.
fn moment(name: &str) -> Option<Moment> {
    Some(match name {
        "var" => Moment::VarSamp,
        "var_pop" => Moment::VarPop,
        "stddev" => Moment::StddevSamp,
        "stddev_pop" => Moment::StddevPop,
        "covar_samp" => Moment::CovarSamp,
        "covar_pop" => Moment::CovarPop,
        "corr" => Moment::Corr,
        "regr_slope" => Moment::RegrSlope,
        "regr_intercept" => Moment::RegrIntercept,
        "regr_r2" => Moment::RegrR2,
        "regr_avgx" => Moment::RegrAvgX,
        "regr_avgy" => Moment::RegrAvgY,
        "regr_sxx" => Moment::RegrSxx,
        "regr_syy" => Moment::RegrSyy,
        "regr_sxy" => Moment::RegrSxy,
        _ => return None,
    })
}

/// The constant fraction of a quantile, from the least value on.
fn fraction(a: &AggregateFunctionExpr) -> Option<Fraction> {
    let [_, of] = &a.expressions()[..] else { return None };
    let ScalarValue::Float64(Some(of)) = of.downcast_ref::<Literal>()?.value() else { return None };
    let descending = a.order_bys().first().is_some_and(|o| o.options.descending);
    Fraction::new(if descending { 1.0 - of } else { *of })
}

fn pick(a: &AggregateFunctionExpr, keys: &PhysicalGroupBy, last: bool) -> Option<Pick> {
    Some(Pick { by: orders(a, keys)?, last, skip_nulls: a.ignore_nulls() })
}

/// DataFusion may have turned the order around, to fit that of its input, and the list with it.
fn listing(a: &AggregateFunctionExpr, keys: &PhysicalGroupBy, skip_nulls: bool) -> Option<Listing> {
    let by = orders(a, keys)?;
    Some(Listing { by: if a.is_reversed() { by.reversed() } else { by }, skip_nulls })
}

/// What stands between two values: a constant, and nothing where that is null.
fn separator(a: &AggregateFunctionExpr) -> Option<String> {
    let value = a.expressions().get(1)?.downcast_ref::<Literal>()?.value().clone();
    if value.is_null() { Some(String::new()) } else { value.try_as_str().flatten().map(str::to_string) }
}

fn orders(a: &AggregateFunctionExpr, keys: &PhysicalGroupBy) -> Option<KeyOrders> {
    let of = |o: &&PhysicalSortExpr| KeyOrder { descending: o.options.descending, nulls_first: o.options.nulls_first };
    KeyOrders::new(&order(a, keys).iter().map(of).collect::<Vec<_>>())
}

/// The order within a group, without what is the same in all of its rows: a key of every set.
fn order<'a>(a: &'a AggregateFunctionExpr, keys: &PhysicalGroupBy) -> Vec<&'a PhysicalSortExpr> {
    let shared = |key: usize| keys.groups().iter().all(|set| !set[key]);
    let is_key = |o: &PhysicalSortExpr| keys.expr().iter().enumerate().any(|(i, (k, _))| k.eq(&o.expr) && shared(i));
    a.order_bys().iter().filter(|o| !is_key(o)).collect()
}

/// What the sink reads of each row.
pub fn arguments(f: &AggregateFunction, a: &AggregateFunctionExpr, keys: &PhysicalGroupBy, schema: &Schema) -> Vec<Arc<dyn PhysicalExpr>> {
    let mut args = a.expressions();
    match f {
        // `count(*)` and `count(1)` count rows.
        AggregateFunction::Count => args.retain(|e| e.downcast_ref::<Literal>().is_none_or(|l| l.value().is_null())),
        AggregateFunction::Quantile(_) => args.truncate(1),
        // Of 64-bit floats: the middle is the same, and a mean of two is rounded once.
        AggregateFunction::Median if args[0].data_type(schema).is_ok_and(|t| t == DataType::Float32) => {
            args = vec![Arc::new(CastExpr::new(args.remove(0), DataType::Float64, None))];
        }
        AggregateFunction::Pick(_) | AggregateFunction::ArrayAgg(_) | AggregateFunction::StringAgg(..) => {
            args.truncate(1);
            args.extend(order(a, keys).iter().map(|o| Arc::clone(&o.expr)));
        }
        _ => {}
    }
    args
}
