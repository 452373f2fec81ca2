//! Which aggregates a group stage computes, and what of DataFusion's call it needs.

use arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, PhysicalGroupBy};
use millstream_stage::program::{AggregateFunction, Fraction, KeyOrder, Moment, Pick, Type, physical};
use std::sync::Arc;

/// Whether kernels cover the keys and calls of an aggregate.
///
/// # Errors
/// The reason why not, for EXPLAIN.
pub fn covers_group(node: &AggregateExec) -> Result<(), String> {
    if !node.group_expr().is_single() {
        return Err("grouping sets".into());
    }
    let keys = node.input().schema();
    let uncovered = |e: &Arc<dyn PhysicalExpr>| e.data_type(&keys).map_or(true, |t| physical(&t) == Type::Any);
    if let Some((_, name)) = node.group_expr().expr().iter().find(|(e, _)| uncovered(e)) {
        return Err(format!("key {name} has a type without kernel"));
    }
    node.aggr_expr().iter().try_for_each(|a| covers(a, node.group_expr(), &node.input_schema()))
}

fn covers(a: &AggregateFunctionExpr, keys: &PhysicalGroupBy, schema: &Schema) -> Result<(), String> {
    let Some(f) = function(a, keys) else { return Err(format!("{} has no kernel", a.name())) };
    let types: Vec<DataType> = arguments(f, a, keys).iter().map(|e| e.data_type(schema).unwrap_or(DataType::Null)).collect();
    let types: Vec<(&DataType, Type)> = types.iter().map(|t| (t, physical(t))).collect();
    use AggregateFunction as F;
    let covered = match (f, &types[..]) {
        (F::Count, _) => a.expressions().len() == 1,
        (F::Pick(_), types) => !types.is_empty() && types.iter().all(|t| t.1 != Type::Any) && types.get(1).is_none_or(|t| t.1 != Type::Str),
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
    if !a.order_bys().is_empty() && !matches!(f, F::Quantile(_) | F::Pick(_)) {
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
        (name, false) => F::Moment(moment(name)?),
        _ => return None,
    })
}

/// All of DataFusion's but `regr_count`, which is of an unsigned type that stages have no register for.
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

/// By no key or one: there is no kernel for more.
fn pick(a: &AggregateFunctionExpr, keys: &PhysicalGroupBy, last: bool) -> Option<Pick> {
    let by = match order(a, keys)[..] {
        [] => None,
        [o] => Some(KeyOrder { descending: o.options.descending, nulls_first: o.options.nulls_first }),
        _ => return None,
    };
    Some(Pick { by, last, skip_nulls: a.ignore_nulls() })
}

/// The order within a group, without what is the same in all of its rows.
fn order<'a>(a: &'a AggregateFunctionExpr, keys: &PhysicalGroupBy) -> Vec<&'a PhysicalSortExpr> {
    a.order_bys().iter().filter(|o| !keys.expr().iter().any(|(k, _)| k.eq(&o.expr))).collect()
}

/// What the sink reads of each row.
pub fn arguments(f: AggregateFunction, a: &AggregateFunctionExpr, keys: &PhysicalGroupBy) -> Vec<Arc<dyn PhysicalExpr>> {
    let mut args = a.expressions();
    match f {
        // `count(*)` and `count(1)` count rows.
        AggregateFunction::Count => args.retain(|e| e.downcast_ref::<Literal>().is_none_or(|l| l.value().is_null())),
        AggregateFunction::Quantile(_) => args.truncate(1),
        AggregateFunction::Pick(_) => args.extend(order(a, keys).iter().map(|o| Arc::clone(&o.expr))),
        _ => {}
    }
    args
}
