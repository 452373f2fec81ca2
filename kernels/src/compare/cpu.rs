//! Vectorised comparison.

use crate::program::CompareOp;
use crate::vector::{Buf, Dictionary, Strings, Values, Vector, combine_valid};
use crate::{Error, Result, simd};
use arrow::array::Array;

/// A primitive with the engine's order.
trait Ordered: Copy {
    fn eq(self, o: Self) -> bool;
    fn lt(self, o: Self) -> bool;
}

macro_rules! ordered_integer {
    ($($t:ty),*) => {$(
        impl Ordered for $t {
            #[inline(always)]
            fn eq(self, o: Self) -> bool { self == o }
            #[inline(always)]
            fn lt(self, o: Self) -> bool { self < o }
        }
    )*};
}
ordered_integer!(u8, i32, i64, i128);

impl Ordered for f64 {
    #[inline(always)]
    fn eq(self, o: Self) -> bool {
        (self == o) | (self.is_nan() & o.is_nan())
    }
    #[inline(always)]
    fn lt(self, o: Self) -> bool {
        (self < o) | (!self.is_nan() & o.is_nan())
    }
}

simd! {
    fn eq_scalar<T: Ordered>(a: &[T], b: T, out: &mut [u8]) {
        for (o, a) in out.iter_mut().zip(a) { *o = a.eq(b) as u8; }
    }
}
simd! {
    fn lt_scalar<T: Ordered>(a: &[T], b: T, out: &mut [u8]) {
        for (o, a) in out.iter_mut().zip(a) { *o = a.lt(b) as u8; }
    }
}
simd! {
    fn gt_scalar<T: Ordered>(a: &[T], b: T, out: &mut [u8]) {
        for (o, a) in out.iter_mut().zip(a) { *o = b.lt(*a) as u8; }
    }
}
simd! {
    fn eq_vector<T: Ordered>(a: &[T], b: &[T], out: &mut [u8]) {
        for ((o, a), b) in out.iter_mut().zip(a).zip(b) { *o = a.eq(*b) as u8; }
    }
}
simd! {
    fn lt_vector<T: Ordered>(a: &[T], b: &[T], out: &mut [u8]) {
        for ((o, a), b) in out.iter_mut().zip(a).zip(b) { *o = a.lt(*b) as u8; }
    }
}
simd! {
    fn invert(out: &mut [u8]) {
        for o in out { *o ^= 1; }
    }
}

/// Every comparison is `eq` or `lt` with its sides chosen and its result perhaps inverted.
fn typed<T: Ordered>(op: CompareOp, a: (&[T], bool), b: (&[T], bool), out: &mut [u8]) {
    use CompareOp::*;
    match (op, a.1, b.1) {
        (Eq | Ne, _, true) => eq_scalar(a.0, b.0[0], out),
        (Eq | Ne, true, _) => eq_scalar(b.0, a.0[0], out),
        (Eq | Ne, ..) => eq_vector(a.0, b.0, out),
        (Lt | Ge, _, true) => lt_scalar(a.0, b.0[0], out),
        (Lt | Ge, true, _) => gt_scalar(b.0, a.0[0], out),
        (Lt | Ge, ..) => lt_vector(a.0, b.0, out),
        (Gt | Le, _, true) => gt_scalar(a.0, b.0[0], out),
        (Gt | Le, true, _) => lt_scalar(b.0, a.0[0], out),
        (Gt | Le, ..) => lt_vector(b.0, a.0, out),
    }
    if matches!(op, Ne | Ge | Le) {
        invert(out);
    }
}

/// Compares the first `n` rows of `a` and `b`.
///
/// # Errors
/// `Bug` when the types cannot be compared: the program is wrong.
pub fn compare(op: CompareOp, a: &Vector, b: &Vector, n: usize) -> Result<Vector> {
    compare_remembered(op, a, b, n, &mut EntryMemo::default())
}

/// Like [`compare`]; `memo` is of one comparison and is kept between its chunks.
///
/// # Errors
/// As [`compare`].
pub fn compare_remembered(op: CompareOp, a: &Vector, b: &Vector, n: usize, memo: &mut EntryMemo) -> Result<Vector> {
    if a.constant && b.constant && n > 0 {
        let one = compare_rows(op, a, b, 1, memo)?;
        return Ok(Vector { constant: true, ..one });
    }
    compare_rows(op, a, b, n, memo)
}

/// Which entries of the dictionary seen last satisfy a comparison with a constant: an entry is
/// compared when a row first has it, however many chunks share the dictionary.
#[derive(Clone, Debug, Default)]
pub struct EntryMemo {
    /// Dictionary, comparison and constant.
    of: Option<(u64, CompareOp, String)>,
    /// 0 or 1 an entry, [`UNKNOWN`] before it was compared.
    held: Vec<u8>,
}

const UNKNOWN: u8 = 2;

impl EntryMemo {
    fn rows(&mut self, op: CompareOp, codes: &Buf<i32>, dict: &Dictionary, c: &str, out: &mut [u8]) {
        if !self.of.as_ref().is_some_and(|(id, o, text)| *id == dict.id() && *o == op && text == c) {
            self.of = Some((dict.id(), op, c.to_string()));
            self.held.clear();
            self.held.resize(dict.values().len(), UNKNOWN);
        }
        for (o, code) in out.iter_mut().zip(codes.iter()) {
            let held = &mut self.held[*code as usize];
            if *held == UNKNOWN {
                *held = op.holds(dict.values().value(*code as usize).cmp(c)) as u8;
            }
            *o = *held;
        }
    }
}

fn compare_rows(op: CompareOp, a: &Vector, b: &Vector, n: usize, memo: &mut EntryMemo) -> Result<Vector> {
    let mut out = vec![0u8; n];
    let cut = |v: &Vector| if v.constant { 1 } else { n };
    let (na, nb) = (cut(a), cut(b));
    match (&a.values, &b.values) {
        (Values::I32(x), Values::I32(y)) => typed(op, (&x[..na], a.constant), (&y[..nb], b.constant), &mut out),
        (Values::I64(x), Values::I64(y)) => typed(op, (&x[..na], a.constant), (&y[..nb], b.constant), &mut out),
        (Values::F64(x), Values::F64(y)) => typed(op, (&x[..na], a.constant), (&y[..nb], b.constant), &mut out),
        (Values::Bool(x), Values::Bool(y)) => typed(op, (&x[..na], a.constant), (&y[..nb], b.constant), &mut out),
        (Values::Str(x), Values::Str(y)) => strings(op, (x, a.constant), (y, b.constant), &mut out, memo),
        (x, y) => {
            let (x, y) = (widened(x, na)?, widened(y, nb)?);
            typed(op, (&x, a.constant), (&y, b.constant), &mut out);
        }
    }
    Ok(Vector::with_valid(Values::Bool(out.into()), combine_valid(a, b, n)))
}

/// The first `n` integers at 128 bits, for sides of different width.
pub(crate) fn widened(v: &Values, n: usize) -> Result<Vec<i128>> {
    Ok(match v {
        Values::I32(v) => v[..n].iter().map(|&v| v.into()).collect(),
        Values::I64(v) => v[..n].iter().map(|&v| v.into()).collect(),
        Values::I128(v) => v[..n].to_vec(),
        _ => return Err(Error::bug("integers expected in a comparison or arithmetic of mixed types")),
    })
}

fn strings(op: CompareOp, a: (&Strings, bool), b: (&Strings, bool), out: &mut [u8], memo: &mut EntryMemo) {
    match (a, b) {
        // A dictionary against a constant: once per entry, then one look-up a row.
        ((Strings::Dict { codes, dict }, false), (c, true)) => memo.rows(op, codes, dict, c.value(0), out),
        ((c, true), (Strings::Dict { codes, dict }, false)) => memo.rows(op.flip(), codes, dict, c.value(0), out),
        ((x, xc), (y, yc)) => {
            for (i, o) in out.iter_mut().enumerate() {
                let (i, j) = (if xc { 0 } else { i }, if yc { 0 } else { i });
                *o = op.holds(x.value(i).cmp(y.value(j))) as u8;
            }
        }
    }
}
