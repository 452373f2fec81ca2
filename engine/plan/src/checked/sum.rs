//! `sum` that raises where DataFusion's wraps. Sums are kept in 128 bits, so that only the result counts:
//! a window that slides over a large value and back raises nothing.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal32Type, Decimal64Type, Decimal128Type, DecimalType, FieldRef, Int64Type, UInt64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_err};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, Expr, GroupsAccumulator, Operator, ReversedUDAF, SetMonotonicity,
    Signature, StatisticsArgs,
};
use std::sync::{Arc, LazyLock};

/// `sum` over integers and decimals with an error instead of a wrapped result; DataFusion's for all else.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct CheckedSum {
    stock: Sum,
}

/// The one instance of [`CheckedSum`].
pub fn checked_sum() -> Arc<AggregateUDF> {
    static SUM: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| Arc::new(AggregateUDF::from(CheckedSum::default())));
    Arc::clone(&SUM)
}

/// Whether the sum of this type is kept in 128 bits here; distinct sums and 256-bit decimals are DataFusion's.
fn is_covered(args: &AccumulatorArgs) -> bool {
    use DataType::{Decimal32, Decimal64, Decimal128, Int64, UInt64};
    !args.is_distinct && matches!(args.return_field.data_type(), Int64 | UInt64 | Decimal32(..) | Decimal64(..) | Decimal128(..))
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.stock.name()
    }

    fn signature(&self) -> &Signature {
        self.stock.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.stock.return_type(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if is_covered(&args) { Ok(Box::new(Running::new(args.return_field.data_type()))) } else { self.stock.accumulator(args) }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if is_covered(&args) {
            Ok(Box::new(Running::new(args.return_field.data_type())))
        } else {
            self.stock.create_sliding_accumulator(args)
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.stock.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        if is_covered(&args) {
            Ok(Box::new(PerGroup { sums: vec![], seen: vec![], returns: args.return_field.data_type().clone() }))
        } else {
            self.stock.create_groups_accumulator(args)
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.stock.state_fields(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.stock.reverse_expr()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.stock.order_sensitivity()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.stock.documentation()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.stock.set_monotonicity(data_type)
    }

    fn simplify_expr_op_literal(&self, f: &AggregateFunction, arg: &Expr, op: Operator, lit: &Expr, left: bool) -> Result<Option<Expr>> {
        self.stock.simplify_expr_op_literal(f, arg, op, lit, left)
    }

    fn value_from_stats(&self, args: &StatisticsArgs) -> Option<ScalarValue> {
        self.stock.value_from_stats(args)
    }
}

/// One sum; also of a window's frame, rows leaving again.
#[derive(Debug)]
struct Running {
    sum: i128,
    rows: u64,
    returns: DataType,
}

impl Running {
    fn new(returns: &DataType) -> Self {
        Self { sum: 0, rows: 0, returns: returns.clone() }
    }
}

impl Accumulator for Running {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let returns = &self.returns;
        let (sum, rows) = (&mut self.sum, &mut self.rows);
        each(&values[0], |_, v| {
            *sum = sum.checked_add(v).ok_or_else(|| overflow(returns))?;
            *rows += 1;
            Ok(())
        })
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let returns = &self.returns;
        let (sum, rows) = (&mut self.sum, &mut self.rows);
        each(&values[0], |_, v| {
            *sum = sum.checked_sub(v).ok_or_else(|| overflow(returns))?;
            *rows -= 1;
            Ok(())
        })
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sums = array(&[self.sum], &[self.rows > 0], &self.returns)?;
        ScalarValue::try_from_array(&sums, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// A sum for each group.
struct PerGroup {
    sums: Vec<i128>,
    seen: Vec<bool>,
    returns: DataType,
}

impl GroupsAccumulator for PerGroup {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], kept: Option<&BooleanArray>, total: usize) -> Result<()> {
        self.sums.resize(total, 0);
        self.seen.resize(total, false);
        let returns = &self.returns;
        let (sums, seen) = (&mut self.sums, &mut self.seen);
        each(&values[0], |row, v| {
            if kept.is_some_and(|k| k.is_null(row) || !k.value(row)) {
                return Ok(());
            }
            let group = groups[row];
            sums[group] = sums[group].checked_add(v).ok_or_else(|| overflow(returns))?;
            seen[group] = true;
            Ok(())
        })
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.update_batch(states, groups, None, total)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        array(&emit.take_needed(&mut self.sums), &emit.take_needed(&mut self.seen), &self.returns)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], kept: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let (mut sums, mut seen) = (vec![0; rows], vec![false; rows]);
        each(&values[0], |row, v| {
            (sums[row], seen[row]) = (v, kept.is_none_or(|k| k.is_valid(row) && k.value(row)));
            Ok(())
        })?;
        Ok(vec![array(&sums, &seen, &self.returns)?])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i128>() + self.seen.capacity()
    }
}

fn overflow(returns: &DataType) -> datafusion::error::DataFusionError {
    exec_datafusion_err!("arithmetic overflow: a sum does not fit {returns}")
}

/// Every value that is not null, with its row.
fn each(values: &ArrayRef, take: impl FnMut(usize, i128) -> Result<()>) -> Result<()> {
    match values.data_type() {
        DataType::Int64 => each_of::<Int64Type>(values, take),
        DataType::UInt64 => each_of::<UInt64Type>(values, take),
        DataType::Decimal32(..) => each_of::<Decimal32Type>(values, take),
        DataType::Decimal64(..) => each_of::<Decimal64Type>(values, take),
        DataType::Decimal128(..) => each_of::<Decimal128Type>(values, take),
        t => internal_err!("a checked sum over {t}"),
    }
}

fn each_of<T: ArrowPrimitiveType>(values: &ArrayRef, mut take: impl FnMut(usize, i128) -> Result<()>) -> Result<()>
where
    T::Native: Into<i128>,
{
    let values = values.as_primitive::<T>();
    match values.nulls() {
        None => values.values().iter().enumerate().try_for_each(|(row, v)| take(row, (*v).into())),
        Some(nulls) => nulls.valid_indices().try_for_each(|row| take(row, values.value(row).into())),
    }
}

/// Sums as the declared type; null where no value was seen.
fn array(sums: &[i128], seen: &[bool], returns: &DataType) -> Result<ArrayRef> {
    match returns {
        DataType::Int64 => narrow::<Int64Type>(sums, seen, returns),
        DataType::UInt64 => narrow::<UInt64Type>(sums, seen, returns),
        DataType::Decimal32(p, s) => decimal::<Decimal32Type>(sums, seen, returns, *p, *s),
        DataType::Decimal64(p, s) => decimal::<Decimal64Type>(sums, seen, returns, *p, *s),
        DataType::Decimal128(p, s) => decimal::<Decimal128Type>(sums, seen, returns, *p, *s),
        t => internal_err!("a checked sum to {t}"),
    }
}

fn decimal<T: DecimalType>(sums: &[i128], seen: &[bool], returns: &DataType, precision: u8, scale: i8) -> Result<ArrayRef>
where
    T::Native: TryFrom<i128>,
{
    for (sum, seen) in sums.iter().zip(seen) {
        if *seen && Decimal128Type::validate_decimal_precision(*sum, precision, scale).is_err() {
            return Err(overflow(returns));
        }
    }
    narrow::<T>(sums, seen, returns)
}

fn narrow<T: ArrowPrimitiveType>(sums: &[i128], seen: &[bool], returns: &DataType) -> Result<ArrayRef>
where
    T::Native: TryFrom<i128>,
{
    let one = |(sum, seen): (&i128, &bool)| seen.then(|| T::Native::try_from(*sum).map_err(|_| overflow(returns))).transpose();
    let sums: PrimitiveArray<T> = sums.iter().zip(seen).map(one).collect::<Result<_>>()?;
    Ok(Arc::new(sums.with_data_type(returns.clone())))
}
