//! Vectorised boolean logic over byte masks.

use crate::program::BoolOp;
use crate::vector::{Buf, Strings, Values, Vector};
use crate::{Error, Result, simd};
use arrow::array::{Array, ArrayRef, StringViewArray};

simd! {
    fn and_into(a: &mut [u8], b: &[u8]) {
        for (a, b) in a.iter_mut().zip(b) { *a &= *b; }
    }
}
simd! {
    fn or_into(a: &mut [u8], b: &[u8]) {
        for (a, b) in a.iter_mut().zip(b) { *a |= *b; }
    }
}
simd! {
    fn not_into(a: &mut [u8]) {
        for a in a { *a ^= 1; }
    }
}

/// The mask of a boolean register, `n` bytes.
pub(crate) fn mask(v: &Vector, n: usize) -> Result<Vec<u8>> {
    match &v.values {
        Values::Bool(b) if v.constant => Ok(vec![b[0]; n]),
        Values::Bool(b) => Ok(b[..n].to_vec()),
        _ => Err(Error::bug("boolean register expected")),
    }
}

/// The validity of a register, `n` bytes, if it has nulls.
pub(crate) fn validity(v: &Vector, n: usize) -> Option<Vec<u8>> {
    v.valid.as_ref().map(|x| if v.constant { vec![x[0]; n] } else { x[..n].to_vec() })
}

/// True where the register is true, neither false nor null.
pub fn is_true(v: &Vector, n: usize) -> Result<Vec<u8>> {
    let mut m = mask(v, n)?;
    if let Some(valid) = validity(v, n) {
        and_into(&mut m, &valid);
    }
    Ok(m)
}

/// Three-valued AND, OR over `n` rows.
///
/// # Errors
/// `Bug` unless both registers are boolean.
pub fn logic(op: BoolOp, a: &Vector, b: &Vector, n: usize) -> Result<Vector> {
    let (mut x, y) = (mask(a, n)?, mask(b, n)?);
    if a.valid.is_none() && b.valid.is_none() {
        match op {
            BoolOp::And => and_into(&mut x, &y),
            BoolOp::Or => or_into(&mut x, &y),
        }
        return Ok(Vector::new(Values::Bool(x.into())));
    }
    let all = || vec![1u8; n];
    let (vx, vy) = (validity(a, n).unwrap_or_else(all), validity(b, n).unwrap_or_else(all));
    // The value that decides alone: false for AND, true for OR.
    let decides = u8::from(op == BoolOp::Or);
    let mut valid = vec![0u8; n];
    for i in 0..n {
        let (dx, dy) = (vx[i] & u8::from(x[i] == decides), vy[i] & u8::from(y[i] == decides));
        valid[i] = (vx[i] & vy[i]) | dx | dy;
        let decided = dx | dy;
        x[i] = if decided != 0 { decides } else { decides ^ 1 };
    }
    Ok(Vector::with_valid(Values::Bool(x.into()), Some(valid.into())))
}

/// NOT; null stays null.
///
/// # Errors
/// `Bug` unless the register is boolean.
pub fn not(a: &Vector, n: usize) -> Result<Vector> {
    let mut m = mask(a, n)?;
    not_into(&mut m);
    Ok(Vector::with_valid(Values::Bool(m.into()), validity(a, n).map(Buf::from)))
}

/// IS NULL, or IS NOT NULL if `negated`.
pub fn is_null(a: &Vector, negated: bool, n: usize) -> Vector {
    let mut valid = match (&a.values, validity(a, n)) {
        (Values::Any(array), _) => (0..n).map(|i| u8::from(array.is_valid(a.at(i)))).collect(),
        (_, Some(v)) => v,
        (_, None) => vec![1; n],
    };
    if !negated {
        not_into(&mut valid);
    }
    Vector::new(Values::Bool(valid.into()))
}

simd! {
    fn blend<T: Copy>(cond: &[u8], a: &[T], b: &[T], out: &mut [T]) {
        for (((o, c), a), b) in out.iter_mut().zip(cond).zip(a).zip(b) { *o = if *c != 0 { *a } else { *b }; }
    }
}

fn blended<T: Copy>(cond: &[u8], a: (&[T], bool), b: (&[T], bool)) -> Vec<T> {
    let n = cond.len();
    let full = |v: (&[T], bool)| if v.1 { vec![v.0[0]; n] } else { v.0[..n].to_vec() };
    let (x, y) = (full(a), full(b));
    let mut out = y.clone();
    blend(cond, &x, &y, &mut out);
    out
}

/// `CASE WHEN cond THEN a ELSE b` over `n` rows, both computed already.
///
/// # Errors
/// `Bug` when `a` and `b` differ in type.
pub fn select(cond: &Vector, a: &Vector, b: &Vector, n: usize) -> Result<Vector> {
    let c = is_true(cond, n)?;
    let (ca, cb) = (a.constant, b.constant);
    let values = match (&a.values, &b.values) {
        (Values::Bool(x), Values::Bool(y)) => Values::Bool(blended(&c, (x, ca), (y, cb)).into()),
        (Values::I32(x), Values::I32(y)) => Values::I32(blended(&c, (x, ca), (y, cb)).into()),
        (Values::I64(x), Values::I64(y)) => Values::I64(blended(&c, (x, ca), (y, cb)).into()),
        (Values::F64(x), Values::F64(y)) => Values::F64(blended(&c, (x, ca), (y, cb)).into()),
        (Values::Str(x), Values::Str(y)) => Values::Str(strings(&c, (x, ca), (y, cb))),
        (Values::Any(x), Values::Any(y)) => Values::Any(any(&c, (x, ca), (y, cb))?),
        (x, y) => {
            let wide = |v: &Values, constant: bool| crate::compare::widened(v, if constant { 1 } else { n });
            let (x, y) = (wide(x, ca)?, wide(y, cb)?);
            Values::I128(blended(&c, (&x, ca), (&y, cb)).into())
        }
    };
    let valid = match (&a.valid, &b.valid) {
        (None, None) => None,
        _ => {
            let all = || vec![1u8; n];
            let (x, y) = (validity(a, n).unwrap_or_else(all), validity(b, n).unwrap_or_else(all));
            Some(blended(&c, (&x, false), (&y, false)).into())
        }
    };
    Ok(Vector::with_valid(values, valid))
}

fn strings(c: &[u8], a: (&Strings, bool), b: (&Strings, bool)) -> Strings {
    let at = |s: (&Strings, bool), i: usize| if s.1 { 0 } else { i };
    let pick = c.iter().enumerate().map(|(i, &c)| if c != 0 { a.0.value(at(a, i)) } else { b.0.value(at(b, i)) });
    Strings::View(StringViewArray::from_iter_values(pick))
}

fn any(c: &[u8], a: (&ArrayRef, bool), b: (&ArrayRef, bool)) -> Result<ArrayRef> {
    let index: Vec<(usize, usize)> =
        c.iter().enumerate().map(|(i, &c)| if c != 0 { (0, if a.1 { 0 } else { i }) } else { (1, if b.1 { 0 } else { i }) }).collect();
    let arrays: [&dyn Array; 2] = [a.0.as_ref(), b.0.as_ref()];
    arrow::compute::interleave(&arrays, &index).map_err(Error::bug)
}
