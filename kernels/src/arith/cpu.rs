//! Vectorised arithmetic: 64 bits where a measured range proves it, 128 where it does not.

use crate::program::{ArithOp, Type};
use crate::vector::{Buf, Values, Vector, combine_valid, written};
use crate::{Error, Result, simd};
use std::mem::MaybeUninit;

simd! {
    fn add64(a: &[i64], b: &[i64], out: &mut [MaybeUninit<i64>]) {
        for ((o, a), b) in out.iter_mut().zip(a).zip(b) { o.write(a.wrapping_add(*b)); }
    }
}
simd! {
    fn sub64(a: &[i64], b: &[i64], out: &mut [MaybeUninit<i64>]) {
        for ((o, a), b) in out.iter_mut().zip(a).zip(b) { o.write(a.wrapping_sub(*b)); }
    }
}
simd! {
    fn mul64(a: &[i64], b: &[i64], out: &mut [MaybeUninit<i64>]) {
        for ((o, a), b) in out.iter_mut().zip(a).zip(b) { o.write(a.wrapping_mul(*b)); }
    }
}
simd! {
    fn add64_scalar(a: &[i64], b: i64, out: &mut [MaybeUninit<i64>]) {
        for (o, a) in out.iter_mut().zip(a) { o.write(a.wrapping_add(b)); }
    }
}
simd! {
    fn rsub64_scalar(a: &[i64], b: i64, out: &mut [MaybeUninit<i64>]) {
        for (o, a) in out.iter_mut().zip(a) { o.write(b.wrapping_sub(*a)); }
    }
}
simd! {
    fn mul64_scalar(a: &[i64], b: i64, out: &mut [MaybeUninit<i64>]) {
        for (o, a) in out.iter_mut().zip(a) { o.write(a.wrapping_mul(b)); }
    }
}
simd! {
    /// Least and greatest value; `(i64::MAX, i64::MIN)` of none.
    pub fn range_i64(v: &[i64]) -> (i64, i64) {
        let (mut lo, mut hi) = (i64::MAX, i64::MIN);
        for v in v { lo = lo.min(*v); hi = hi.max(*v); }
        (lo, hi)
    }
}
simd! {
    fn float(op: ArithOp, a: &[f64], b: &[f64], out: &mut [f64]) {
        match op {
            ArithOp::Add => for ((o, a), b) in out.iter_mut().zip(a).zip(b) { *o = a + b; },
            ArithOp::Sub => for ((o, a), b) in out.iter_mut().zip(a).zip(b) { *o = a - b; },
            ArithOp::Mul => for ((o, a), b) in out.iter_mut().zip(a).zip(b) { *o = a * b; },
        }
    }
}

/// Between what the results of `op` over these ranges lie, if that is within 64 bits.
fn bounded(op: ArithOp, a: (i64, i64), b: (i64, i64)) -> Option<(i64, i64)> {
    if a.0 > a.1 || b.0 > b.1 {
        return Some((0, 0));
    }
    let wide = |v: (i64, i64)| (i128::from(v.0), i128::from(v.1));
    let (a, b) = (wide(a), wide(b));
    let corners = match op {
        ArithOp::Add => [a.0 + b.0, a.1 + b.1, a.0 + b.0, a.1 + b.1],
        ArithOp::Sub => [a.0 - b.1, a.1 - b.0, a.0 - b.1, a.1 - b.0],
        ArithOp::Mul => [a.0 * b.0, a.0 * b.1, a.1 * b.0, a.1 * b.1],
    };
    let (least, most) = corners.iter().fold((corners[0], corners[0]), |(lo, hi), c| (lo.min(*c), hi.max(*c)));
    i64::try_from(least).ok().zip(i64::try_from(most).ok())
}

/// `a op b` over `n` rows at type `ty`.
///
/// # Errors
/// `Invalid` on overflow (see the contract), `Bug` on mixed types.
pub fn arith(op: ArithOp, a: &Vector, b: &Vector, ty: Type, checked: bool, n: usize) -> Result<Vector> {
    if a.constant && b.constant && n > 0 {
        let one = rows(op, a, b, ty, checked, 1)?;
        return Ok(Vector { constant: true, ..one });
    }
    rows(op, a, b, ty, checked, n)
}

fn rows(op: ArithOp, a: &Vector, b: &Vector, ty: Type, checked: bool, n: usize) -> Result<Vector> {
    let valid = combine_valid(a, b, n);
    let values = match (&a.values, &b.values) {
        (Values::F64(x), Values::F64(y)) => {
            let full = |v: &[f64], c: bool| if c { vec![v[0]; n] } else { v[..n].to_vec() };
            let mut out = vec![0.0; n];
            float(op, &full(x, a.constant), &full(y, b.constant), &mut out);
            Values::F64(out.into())
        }
        (Values::I64(x), Values::I64(y)) if ty != Type::I32 => {
            let (x, y) = (&x[..if a.constant { 1 } else { n }], &y[..if b.constant { 1 } else { n }]);
            // What is known of the columns may be less than what is true of this chunk.
            let known = |v: &Vector, rows: &[i64]| if v.constant { Some(range_i64(rows)) } else { v.bounds };
            let bounds = known(a, x).zip(known(b, y)).and_then(|(x, y)| bounded(op, x, y));
            let fits = || bounds.is_some() || bounded(op, range_i64(x), range_i64(y)).is_some();
            if (ty == Type::I64 && !checked) || fits() {
                let values = Values::I64(narrow(op, (x, a.constant), (y, b.constant), n).into());
                return Ok(Vector::with_valid(values, valid).within(bounds));
            }
            wide(op, a, b, ty, checked, &valid, n)?
        }
        _ => wide(op, a, b, ty, checked, &valid, n)?,
    };
    Ok(Vector::with_valid(values, valid))
}

fn narrow(op: ArithOp, a: (&[i64], bool), b: (&[i64], bool), n: usize) -> Vec<i64> {
    let write = |out: &mut [MaybeUninit<i64>]| match (op, a.1, b.1) {
        (ArithOp::Add, _, true) => add64_scalar(a.0, b.0[0], out),
        (ArithOp::Add, true, _) => add64_scalar(b.0, a.0[0], out),
        (ArithOp::Add, ..) => add64(a.0, b.0, out),
        (ArithOp::Sub, _, true) => add64_scalar(a.0, b.0[0].wrapping_neg(), out),
        (ArithOp::Sub, true, _) => rsub64_scalar(b.0, a.0[0], out),
        (ArithOp::Sub, ..) => sub64(a.0, b.0, out),
        (ArithOp::Mul, _, true) => mul64_scalar(a.0, b.0[0], out),
        (ArithOp::Mul, true, _) => mul64_scalar(b.0, a.0[0], out),
        (ArithOp::Mul, ..) => mul64(a.0, b.0, out),
    };
    let whole = |side: (&[i64], bool)| if side.1 { n <= 1 } else { side.0.len() == n };
    assert!(whole(a) || whole(b), "sides shorter than their rows");
    assert!((a.1 || whole(a)) && (b.1 || whole(b)), "sides shorter than their rows");
    // SAFETY: each of these writes a value for each of a side that is no constant, which are `n`; two constants make one at most.
    unsafe { written(n, write) }
}

/// Row by row at 128 bits, checked on the rows that are not null.
fn wide(op: ArithOp, a: &Vector, b: &Vector, ty: Type, checked: bool, valid: &Option<Buf<u8>>, n: usize) -> Result<Values> {
    let widened = |v: &Vector| crate::compare::widened(&v.values, if v.constant { 1 } else { n });
    let (x, y) = (widened(a)?, widened(b)?);
    let mut out = vec![0i128; n];
    for (i, o) in out.iter_mut().enumerate() {
        let (x, y) = (x[a.at(i)], y[b.at(i)]);
        let (v, mut over) = match op {
            ArithOp::Add => x.overflowing_add(y),
            ArithOp::Sub => x.overflowing_sub(y),
            ArithOp::Mul => x.overflowing_mul(y),
        };
        *o = match ty {
            Type::I32 => {
                over = checked && i32::try_from(v).is_err();
                (v as i32).into()
            }
            Type::I64 => {
                over = checked && i64::try_from(v).is_err();
                (v as i64).into()
            }
            _ => v,
        };
        if over && valid.as_ref().is_none_or(|v| v[i] != 0) {
            return Err(overflow(op, ty, x, y));
        }
    }
    Ok(match ty {
        Type::I32 => Values::I32(out.iter().map(|v| *v as i32).collect::<Vec<_>>().into()),
        Type::I64 => Values::I64(out.iter().map(|v| *v as i64).collect::<Vec<_>>().into()),
        _ => Values::I128(out.into()),
    })
}

fn overflow(op: ArithOp, ty: Type, a: i128, b: i128) -> Error {
    let sign = match op {
        ArithOp::Add => '+',
        ArithOp::Sub => '-',
        ArithOp::Mul => '*',
    };
    let what = match ty {
        Type::I32 => "Int32",
        Type::I64 => "Int64",
        _ => "Decimal128",
    };
    Error::invalid(format!("arithmetic overflow: {a} {sign} {b} does not fit {what}"))
}
