//! Rows of a register by number.
//!
//! Contract: `out[i] = a[rows[i]]`; a negative row number (only in [`gather_outer`]) gives null.
//! Law: filtering by a mask equals gathering its selection. Bits.

mod append;
mod concat;

pub use append::{Growing, finish_all};
pub use concat::{as_views, compacted, concat};

use crate::vector::{Buf, Strings, Values, Vector, written};
use crate::{Error, Result, simd};
use arrow::array::{Array, StringViewArray, UInt32Array};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::ArrowNativeType;
use std::mem::MaybeUninit;
use std::sync::Arc;

simd! {
    fn greatest(rows: &[u32]) -> u32 {
        let mut most = 0u32;
        for r in rows { most = most.max(*r); }
        most
    }
}
simd! {
    fn take<T: Copy>(a: &[T], rows: &[u32], out: &mut [MaybeUninit<T>]) {
        for (o, r) in out.iter_mut().zip(rows) {
            // SAFETY: `taken` checked that every row number is below `a.len()`.
            o.write(unsafe { *a.get_unchecked(*r as usize) });
        }
    }
}

fn taken<T: ArrowNativeType>(a: &[T], rows: &[u32]) -> Buf<T> {
    if rows.is_empty() {
        return vec![].into();
    }
    assert!((greatest(rows) as usize) < a.len(), "a row number outside its register");
    // SAFETY: `take` writes one value for each row.
    unsafe { written(rows.len(), |out| take(a, rows, out)) }.into()
}

/// The rows of `a`, in the order of `rows`.
///
/// # Errors
/// `Bug` when Arrow refuses a type. Panics, as an index does, when a row number lies outside.
pub fn gather(a: &Vector, rows: &[u32]) -> Result<Vector> {
    if a.constant {
        return Ok(a.clone());
    }
    let values = match &a.values {
        Values::Bool(v) => Values::Bool(taken(v, rows)),
        Values::I32(v) => Values::I32(taken(v, rows)),
        Values::I64(v) => Values::I64(taken(v, rows)),
        Values::I128(v) => Values::I128(taken(v, rows)),
        Values::F64(v) => Values::F64(taken(v, rows)),
        Values::Str(Strings::Dict { codes, dict }) => Values::Str(Strings::Dict { codes: taken(codes, rows), dict: Arc::clone(dict) }),
        Values::Str(Strings::View(v)) => Values::Str(Strings::View(take_views(v, rows.iter().map(|r| *r as usize)))),
        Values::Any(v) => {
            let rows = UInt32Array::from(rows.to_vec());
            Values::Any(arrow::compute::take(v.as_ref(), &rows, None).map_err(Error::bug)?)
        }
    };
    Ok(Vector::with_valid(values, a.valid.as_ref().map(|v| taken(v, rows))).within(a.bounds))
}

fn take_views(v: &StringViewArray, rows: impl Iterator<Item = usize>) -> StringViewArray {
    let views: Vec<u128> = rows.map(|r| v.views()[r]).collect();
    // The list of buffers is shared: there may be thousands of them.
    let (_, buffers, _) = v.clone().into_parts();
    // SAFETY: the views were taken from `v`, whose buffers they refer to.
    unsafe { StringViewArray::new_unchecked(ScalarBuffer::from(views), buffers, None) }
}

/// The strings of `v` with these nulls, which replace its own.
pub fn with_nulls(v: &StringViewArray, nulls: Option<NullBuffer>) -> StringViewArray {
    assert!(nulls.as_ref().is_none_or(|n| n.len() == v.len()), "as many validities as strings");
    let (views, buffers, _) = v.clone().into_parts();
    // SAFETY: views and buffers are those of a valid array; the validity has its length.
    unsafe { StringViewArray::new_unchecked(views, buffers, nulls) }
}

/// Like [`gather`], where a negative row number is null (the outer side of a join).
///
/// # Errors
/// As [`gather`].
pub fn gather_outer(a: &Vector, rows: &[i32]) -> Result<Vector> {
    if rows.iter().all(|r| *r >= 0) {
        let rows: Vec<u32> = rows.iter().map(|r| *r as u32).collect();
        return gather(a, &rows);
    }
    if a.values.is_empty() {
        return Ok(nulls_like(a, rows.len()));
    }
    let clamped: Vec<u32> = rows.iter().map(|r| (*r).max(0) as u32).collect();
    let mut out = gather(a, &clamped)?;
    if out.constant {
        out = expand(&out, rows.len())?;
    }
    let mut valid = match out.valid {
        Some(v) => v.to_vec(),
        None => vec![1; rows.len()],
    };
    valid.iter_mut().zip(rows).for_each(|(v, r)| *v &= u8::from(*r >= 0));
    if let Values::Any(v) = &out.values {
        let nulls = arrow::array::BooleanArray::from(valid.iter().map(|v| *v == 0).collect::<Vec<_>>());
        out.values = Values::Any(arrow::compute::nullif(v.as_ref(), &nulls).map_err(Error::bug)?);
    }
    out.valid = Some(valid.into());
    Ok(out)
}

/// `n` nulls of the type of `a`.
pub fn nulls_like(a: &Vector, n: usize) -> Vector {
    let values = match &a.values {
        Values::Bool(_) => Values::Bool(vec![0; n].into()),
        Values::I32(_) => Values::I32(vec![0; n].into()),
        Values::I64(_) => Values::I64(vec![0; n].into()),
        Values::I128(_) => Values::I128(vec![0; n].into()),
        Values::F64(_) => Values::F64(vec![0.0; n].into()),
        Values::Str(_) => Values::Str(Strings::View(StringViewArray::from(vec![""; n]))),
        Values::Any(v) => Values::Any(arrow::array::new_null_array(v.data_type(), n)),
    };
    Vector::with_valid(values, Some(vec![0; n].into()))
}

/// A constant register with one value for each of `n` rows; others as they are.
///
/// # Errors
/// As [`gather`].
pub fn expand(a: &Vector, n: usize) -> Result<Vector> {
    if !a.constant {
        return Ok(a.clone());
    }
    gather(&Vector { constant: false, ..a.clone() }, &vec![0; n])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{Selection, select_mask};
    use crate::testing::{Gen, TYPES, check_rows};
    use crate::value::Value;

    #[test]
    fn filter_equals_gather_of_its_selection() {
        let mut g = Gen::new(10);
        for ty in TYPES {
            for n in [0usize, 1, 65, 300] {
                let a = g.vector(ty, n, false);
                let mask: Vec<u8> = (0..n).map(|_| g.below(2) as u8).collect();
                let rows = match select_mask(&mask) {
                    Selection::All => (0..n as u32).collect(),
                    Selection::Rows(r) => r,
                };
                let kept: Vec<Value> = (0..n).filter(|i| mask[*i] == 1).map(|i| a.value(i).unwrap()).collect();
                let out = gather(&a, &rows).unwrap();
                check_rows(&out, rows.len(), |i| kept[i].clone());
            }
        }
    }

    #[test]
    fn negative_rows_are_null() {
        let mut g = Gen::new(12);
        for ty in TYPES {
            for n in [0usize, 1, 30] {
                let a = g.vector(ty, n, false);
                let rows: Vec<i32> = (0..50).map(|_| if n == 0 { -1 } else { g.below(n as u64 + 1) as i32 - 1 }).collect();
                let out = gather_outer(&a, &rows).unwrap();
                check_rows(&out, rows.len(), |i| if rows[i] < 0 { Value::Null } else { a.value(rows[i] as usize).unwrap() });
            }
        }
    }

    #[test]
    fn compacted_rows_are_the_same_and_hold_no_more() {
        let mut g = Gen::new(13);
        for ty in TYPES {
            for n in [0usize, 1, 30] {
                let a = g.vector(ty, n, false);
                check_rows(&compacted(&a), n, |i| a.value(i).unwrap());
            }
        }
        let long: Vec<String> = (0..500).map(|i| format!("a text that does not stand in its view, {i}")).collect();
        let page = Vector::new(Values::Str(Strings::View(StringViewArray::from_iter_values(&long))));
        let dict = crate::Dictionary::new(long.iter().map(|s| Some(s.as_str())).collect());
        let codes = Vector::new(Values::Str(Strings::Dict { codes: (0..500).collect::<Vec<_>>().into(), dict }));
        for a in [page, codes] {
            let few = compacted(&gather(&a, &[7, 300]).unwrap());
            check_rows(&few, 2, |i| Value::Str(long[[7, 300][i]].clone()));
            let Values::Str(Strings::View(text)) = &few.values else { panic!("views expected") };
            assert!(text.data_buffers().iter().map(|b| b.len()).sum::<usize>() < 200);
        }
    }

    #[test]
    fn parts_of_one_dictionary_keep_it() {
        let dict = crate::Dictionary::new(vec!["x", "y"].into());
        let part = |codes: Vec<i32>| Vector::new(Values::Str(Strings::Dict { codes: codes.into(), dict: Arc::clone(&dict) }));
        let out = concat(&[part(vec![1, 0]), part(vec![]), part(vec![1])], crate::program::Type::Str).unwrap();
        let Values::Str(Strings::Dict { dict: kept, .. }) = &out.values else { panic!("codes expected") };
        assert_eq!(kept.id(), dict.id());
        check_rows(&out, 3, |i| Value::Str(["y", "x", "y"][i].into()));
    }
}
