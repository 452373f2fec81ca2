//! Change of physical type: integers widen, integers and decimals become floats.
//!
//! Contract: nulls stay; `Decimal` to `F64` is `value / 10^scale`, rounded once. Bits.

use crate::program::Type;
use crate::value::Value;
use crate::vector::{Buf, Values, Vector};
use crate::{Error, Result};

/// The register at type `to`. `scale` is the decimal scale of the source (0 for integers).
///
/// # Errors
/// `Bug` for a cast that is not defined.
pub fn cast(a: &Vector, to: Type, scale: i8) -> Result<Vector> {
    let values = match (&a.values, to) {
        (Values::I32(v), Type::I64 | Type::Decimal) => Values::I64(v.iter().map(|&v| i64::from(v)).collect::<Vec<_>>().into()),
        (Values::I64(v), Type::I64 | Type::Decimal) => Values::I64(v.clone()),
        (Values::I128(v), Type::Decimal) => Values::I128(v.clone()),
        (Values::F64(v), Type::F64) => Values::F64(v.clone()),
        (Values::I32(v), Type::F64) => floats(v.iter().map(|&v| v as f64), scale),
        (Values::I64(v), Type::F64) => floats(v.iter().map(|&v| v as f64), scale),
        (Values::I128(v), Type::F64) => floats(v.iter().map(|&v| v as f64), scale),
        (from, to) => return Err(Error::bug(format!("no cast from {from:?} to {to:?}"))),
    };
    Ok(Vector { values, valid: a.valid.clone(), constant: a.constant, bounds: None })
}

fn floats(v: impl Iterator<Item = f64>, scale: i8) -> Values {
    let by = 10f64.powi(scale.into());
    let out: Vec<f64> = if scale == 0 { v.collect() } else { v.map(|v| v / by).collect() };
    Values::F64(Buf::from(out))
}

/// The oracle of [`cast`]: one row.
pub fn reference(a: &Value, to: Type, scale: i8) -> Value {
    match (a, to) {
        (Value::Int(v), Type::F64) if scale == 0 => Value::F64(*v as f64),
        (Value::Int(v), Type::F64) => Value::F64(*v as f64 / 10f64.powi(scale.into())),
        (v, _) => v.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Gen, check_rows};

    #[test]
    fn agrees_with_the_reference() {
        let mut g = Gen::new(8);
        for from in [Type::I32, Type::I64, Type::Decimal] {
            for to in [Type::Decimal, Type::F64] {
                for n in [0, 1, 77] {
                    let a = g.vector(from, n, false);
                    let out = cast(&a, to, 2).unwrap();
                    check_rows(&out, n, |i| reference(&a.value(i).unwrap(), to, 2));
                }
            }
        }
    }
}
