//! What a group sink gives in the end: keys, and results of the aggregates in the types that the plan knows.

use super::super::listed::listed;
use super::GroupSink;
use crate::convert::{Block, to_array};
use crate::program::{AggregateCall, AggregateFunction, Program, Type, physical};
use crate::{Error, ErrorKind, Result};
use arrow::datatypes::{DataType, Decimal128Type, DecimalType};
use millstream_kernels::{Values, Vector};

impl GroupSink {
    /// Keys, then results of the aggregates, of every group.
    ///
    /// # Errors
    /// `Invalid` when a result does not fit its type.
    pub fn finish(&mut self, checked: bool) -> Result<Block> {
        self.finish_some(&(0..self.len() as u32).collect::<Vec<_>>(), checked)
    }

    /// As [`GroupSink::finish`], of these groups only.
    ///
    /// # Errors
    /// As [`GroupSink::finish`].
    pub(in crate::run) fn finish_some(&mut self, ids: &[u32], checked: bool) -> Result<Block> {
        let n = self.len();
        let mut columns = self.keys_of(ids)?;
        let mut at = 0;
        for (c, scale) in self.calls.iter().zip(self.scales.iter().copied()) {
            let states = &mut self.states[at..at + c.function.width()];
            at += states.len();
            if let AggregateFunction::ArrayAgg(_) | AggregateFunction::StringAgg(..) = c.function {
                columns.push(listed(c, states[0].lists(ids)?)?);
                continue;
            }
            let first = states[0].finish(ids, n, checked)?;
            columns.push(match c.function {
                AggregateFunction::Avg => average(&first, &states[1].finish(ids, n, checked)?, &c.returns, scale)?,
                AggregateFunction::Sum if checked => fitting(first, &c.returns)?,
                // Floats of 32 bits and unsigned integers of 64 have no register of their own.
                _ if physical(&c.returns) == Type::Any => Vector::new(Values::Any(to_array(&first, &c.returns, ids.len())?)),
                _ => first,
            });
        }
        Ok(Block { columns, rows: ids.len() })
    }
}

/// The sums, if all have the digits that their type allows.
fn fitting(sums: Vector, returns: &DataType) -> Result<Vector> {
    if let (Values::I128(v), DataType::Decimal128(p, s)) = (&sums.values, returns) {
        let fits = |i: usize| sums.is_null(i) || Decimal128Type::validate_decimal_precision(v[i], *p, *s).is_ok();
        if !(0..v.len()).all(fits) {
            return Err(Error::new(ErrorKind::Invalid, format!("arithmetic overflow: a sum does not fit Decimal128({p}, {s})")));
        }
    }
    Ok(sums)
}

/// Decimal scale of an aggregate's argument.
pub(in crate::run) fn argument_scale(program: &Program, c: &AggregateCall) -> i8 {
    match c.args.first().map(|a| program.data_type(*a)) {
        Some(DataType::Decimal128(_, s)) => *s,
        _ => 0,
    }
}

/// Sum divided by count, with DataFusion's rounding.
pub fn average(sum: &Vector, count: &Vector, returns: &DataType, sum_scale: i8) -> Result<Vector> {
    let Values::I64(counts) = &count.values else { return Err(Error::bug("counts expected")) };
    let valid: Vec<u8> = counts.iter().map(|c| u8::from(*c != 0)).collect();
    let rows = counts.iter().enumerate();
    let values = match (returns, &sum.values) {
        (DataType::Decimal128(p, s), Values::I64(_) | Values::I128(_)) => {
            // As DataFusion: to the result's scale first, then divided towards zero.
            let more = s.checked_sub(sum_scale).and_then(|digits| u32::try_from(digits).ok());
            let times = more.and_then(|digits| 10i128.checked_pow(digits));
            let times = times.ok_or_else(|| Error::bug(format!("an average of scale {s} of sums of scale {sum_scale}")))?;
            let divide = |sum: i128, n: i128| -> Result<i128> {
                let overflow =
                    || Error::new(ErrorKind::Invalid, format!("arithmetic overflow: an average does not fit Decimal128({p}, {s})"));
                let mean = sum.checked_mul(times).ok_or_else(overflow)? / n;
                Decimal128Type::validate_decimal_precision(mean, *p, *s).map_err(|_| overflow())?;
                Ok(mean)
            };
            let at = |i: usize| match &sum.values {
                Values::I64(v) => i128::from(v[i]),
                Values::I128(v) => v[i],
                _ => 0,
            };
            let out = rows.map(|(i, c)| if *c == 0 { Ok(0) } else { divide(at(i), (*c).into()) });
            Values::I128(out.collect::<Result<Vec<_>>>()?.into())
        }
        (DataType::Float64, Values::F64(v)) => Values::F64(rows.map(|(i, c)| v[i] / *c as f64).collect::<Vec<_>>().into()),
        (DataType::Float64, Values::I64(v)) => Values::F64(rows.map(|(i, c)| v[i] as f64 / *c as f64).collect::<Vec<_>>().into()),
        (t, _) => return Err(Error::bug(format!("avg to {t}"))),
    };
    Ok(Vector::with_valid(values, Some(valid.into())))
}
