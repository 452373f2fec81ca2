//! The oracle of arithmetic: one row.

use crate::program::{ArithOp, Type};
use crate::value::Value;
use crate::{Error, Result};

/// `a op b` at type `ty`; null if either is.
pub fn arith(op: ArithOp, ty: Type, checked: bool, a: &Value, b: &Value) -> Result<Value> {
    let overflow = || Error::invalid(format!("arithmetic overflow in {op:?}"));
    match (a, b) {
        (Value::Null, _) | (_, Value::Null) => Ok(Value::Null),
        (Value::F64(a), Value::F64(b)) => Ok(Value::F64(match op {
            ArithOp::Add => a + b,
            ArithOp::Sub => a - b,
            ArithOp::Mul => a * b,
        })),
        (Value::Int(a), Value::Int(b)) => {
            let wide = match op {
                ArithOp::Add => a.checked_add(*b),
                ArithOp::Sub => a.checked_sub(*b),
                ArithOp::Mul => a.checked_mul(*b),
            }
            .ok_or_else(overflow)?;
            match ty {
                Type::I32 if i32::try_from(wide).is_ok() => Ok(Value::Int(wide)),
                Type::I64 if i64::try_from(wide).is_ok() => Ok(Value::Int(wide)),
                Type::I32 if !checked => Ok(Value::Int((wide as i32).into())),
                Type::I64 if !checked => Ok(Value::Int((wide as i64).into())),
                Type::I32 | Type::I64 => Err(overflow()),
                _ => Ok(Value::Int(wide)),
            }
        }
        _ => Err(Error::bug("arithmetic of mixed types")),
    }
}
