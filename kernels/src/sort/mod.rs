//! The order of rows by several keys.
//!
//! Contract: a permutation of the rows, or the first of it; rows whose keys are equal stay in their order. Nulls are where
//! their key says, -0 equals +0, NaN equals itself and is greatest, strings are ordered by their bytes. Bits.
//!
//! Each key becomes an unsigned number of as few bits as its range needs. Those of the first keys and, lowest, the number
//! of the row are one machine word, so that words are sorted and no row is looked at again; what has no room in them
//! (long strings, many wide keys) is compared where words are equal. Source: normalised keys (Graefe, "Implementing
//! sorting in database systems", ACM Computing Surveys 2006).

mod codes;
mod numbers;
pub mod reference;

pub use numbers::Numbers;

use crate::boolean::is_true;
use crate::compare::compare;
use crate::program::{CompareOp, KeyOrder};
use crate::value::compare_f64;
use crate::vector::{Values, Vector};
use crate::{Error, Result};
use rayon::slice::ParallelSliceMut;
use std::cmp::Ordering;

/// What rows are ordered by.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// A value a row.
    pub values: &'a Vector,
    /// How they are ordered.
    pub order: KeyOrder,
}

/// Fewer rows are sorted by one thread.
const PARALLEL_ROWS: usize = 64 * 1024;

/// The rows `0..n` in the order of `keys`, or the first `fetch` of them; on the current rayon pool.
///
/// # Errors
/// `Unsupported` for a key that kernels do not compute on; `Bug` for more rows than have 32 bits.
pub fn order(keys: &[Key<'_>], n: usize, fetch: Option<usize>) -> Result<Vec<u32>> {
    if u32::try_from(n).is_err() {
        return Err(Error::bug(format!("{n} rows in one sort")));
    }
    let fetch = fetch.unwrap_or(n).min(n);
    let numbers = Numbers::of(keys, n)?;
    let row_bits = numbers.row_bits;
    if numbers.bits + row_bits <= u64::BITS && numbers.is_exact() {
        let mut words: Vec<u64> = (0..n as u64).collect();
        for (codes, _, at) in numbers.placed() {
            words.iter_mut().zip(codes).for_each(|(w, c)| *w |= c << (row_bits + at));
        }
        return Ok(sorted(words, fetch, |w| w.sort_unstable(), |w| w.par_sort_unstable(), |w, at| _ = w.select_nth_unstable(at))
            .into_iter()
            .map(|w| (w & low(row_bits) as u64) as u32)
            .collect());
    }
    let mut words: Vec<u128> = (0..n as u128).collect();
    for (codes, lost, at) in numbers.placed() {
        words.iter_mut().zip(codes).for_each(|(w, c)| *w |= u128::from(c >> lost) << (row_bits + at));
    }
    let ties = &numbers.ties;
    let rows = low(row_bits);
    let compare = |a: &u128, b: &u128| {
        let tie = || compare_rows(ties, (a & rows) as usize, (b & rows) as usize);
        (a >> row_bits).cmp(&(b >> row_bits)).then_with(tie).then(a.cmp(b))
    };
    let words = match ties.is_empty() {
        true => sorted(words, fetch, |w| w.sort_unstable(), |w| w.par_sort_unstable(), |w, at| _ = w.select_nth_unstable(at)),
        false => sorted(
            words,
            fetch,
            |w| w.sort_unstable_by(compare),
            |w| w.par_sort_unstable_by(compare),
            |w, at| _ = w.select_nth_unstable_by(at, compare),
        ),
    };
    Ok(words.into_iter().map(|w| (w & rows) as u32).collect())
}

/// 1 for each of `n` rows that does not come behind the one row of `last`, by one key; where `strictly`, none that is equal
/// either. All rows of a key that kernels do not compute on.
///
/// # Errors
/// `Bug` for a key of another type than `last`.
pub fn behind(key: &Vector, n: usize, last: &Vector, order: KeyOrder, strictly: bool) -> Result<Vec<u8>> {
    if matches!(key.values, Values::Any(_)) {
        return Ok(vec![1; n]);
    }
    let ends_null = last.is_null(0);
    let mut out = match (&key.values, &last.values) {
        _ if ends_null => vec![u8::from(!order.nulls_first); n],
        (Values::Str(texts), Values::Str(end)) => {
            let end = end.value(0);
            let stays = |text: &str| {
                let found = if order.descending { end.cmp(text) } else { text.cmp(end) };
                u8::from(found.is_lt() || !strictly && found.is_eq())
            };
            (0..n).map(|i| if key.is_null(i) { 0 } else { stays(texts.value(key.at(i))) }).collect()
        }
        _ => {
            let op = match (order.descending, strictly) {
                (false, true) => CompareOp::Lt,
                (false, false) => CompareOp::Le,
                (true, true) => CompareOp::Gt,
                (true, false) => CompareOp::Ge,
            };
            let last = Vector { constant: true, ..last.clone() };
            is_true(&compare(op, key, &last, n)?, n)?
        }
    };
    if key.valid.is_some() {
        let null = u8::from(if ends_null { !strictly } else { order.nulls_first });
        out.iter_mut().enumerate().filter(|(i, _)| key.is_null(*i)).for_each(|(_, stays)| *stays = null);
    }
    Ok(out)
}

fn low(bits: u32) -> u128 {
    (1 << bits) - 1
}

/// The first `fetch` words in order.
fn sorted<W>(
    mut words: Vec<W>,
    fetch: usize,
    alone: impl Fn(&mut [W]),
    together: impl Fn(&mut [W]),
    select: impl Fn(&mut [W], usize),
) -> Vec<W> {
    if fetch < words.len() {
        select(&mut words, fetch);
        words.truncate(fetch);
    }
    if words.len() < PARALLEL_ROWS {
        alone(&mut words)
    } else {
        together(&mut words)
    }
    words
}

/// The order of two rows by `keys`.
fn compare_rows(keys: &[Key<'_>], a: usize, b: usize) -> Ordering {
    let each = keys.iter().map(|key| match (key.values.is_null(a), key.values.is_null(b)) {
        (true, true) => Ordering::Equal,
        (false, false) => {
            let order = compare_values(&key.values.values, a, b);
            if key.order.descending { order.reverse() } else { order }
        }
        (a_null, _) => {
            if a_null == key.order.nulls_first {
                Ordering::Less
            } else {
                Ordering::Greater
            }
        }
    });
    each.fold(Ordering::Equal, Ordering::then)
}

fn compare_values(values: &Values, a: usize, b: usize) -> Ordering {
    match values {
        Values::Bool(v) => v[a].cmp(&v[b]),
        Values::I32(v) => v[a].cmp(&v[b]),
        Values::I64(v) => v[a].cmp(&v[b]),
        Values::I128(v) => v[a].cmp(&v[b]),
        Values::F64(v) => compare_f64(v[a], v[b]),
        Values::Str(text) => text.value(a).cmp(text.value(b)),
        // `order` has refused them.
        Values::Any(_) => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Strings;
    use crate::program::Type;
    use crate::testing::{Gen, TYPES};

    fn check(g: &mut Gen, keys: &[Vector], n: usize) {
        let orders: Vec<KeyOrder> = keys.iter().map(|_| KeyOrder { descending: g.below(2) == 0, nulls_first: g.below(2) == 0 }).collect();
        let keys: Vec<Key> = keys.iter().zip(&orders).map(|(values, order)| Key { values, order: *order }).collect();
        let want = reference::order(&keys, n).unwrap();
        assert_eq!(order(&keys, n, None).unwrap(), want, "{keys:?}");
        let fetch = g.below(n as u64 + 3) as usize;
        assert_eq!(order(&keys, n, Some(fetch)).unwrap(), want[..fetch.min(n)], "{fetch} of {keys:?}");
    }

    #[test]
    fn agrees_with_the_reference() {
        let mut g = Gen::new(91);
        for round in 0..1200 {
            let n = [0usize, 1, 2, 40, 300][round % 5];
            let keys: Vec<Vector> = (0..round / 5 % 5)
                .map(|_| {
                    let ty = TYPES[g.below(6) as usize];
                    let constant = g.below(8) == 0;
                    g.vector(ty, n, constant)
                })
                .collect();
            check(&mut g, &keys, n);
        }
    }

    #[test]
    fn keys_of_all_bits_and_strings_that_begin_alike() {
        let mut g = Gen::new(92);
        let ends = |g: &mut Gen| [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX][g.below(7) as usize];
        let texts =
            ["", "\0", "a", "a\0", "a\0\0", "aaaaaaa", "aaaaaaa\0", "aaaaaaaa", "aaaaaaab", "aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaab", "é"];
        for round in 0..200 {
            let n = 200;
            let valid = |g: &mut Gen| (g.below(2) == 0).then(|| (0..n).map(|_| g.below(5).min(1) as u8).collect::<Vec<_>>().into());
            let wide = |g: &mut Gen| {
                let values = (0..n).map(|_| ends(g)).collect::<Vec<_>>();
                Vector::with_valid(Values::I64(values.into()), valid(g))
            };
            let most = 2 + round % 11;
            let words: Vec<&str> = (0..n).map(|_| texts[g.below(most as u64) as usize]).collect();
            let text = Vector::with_valid(Values::Str(Strings::View(words.into())), valid(&mut g));
            let keys = match round % 3 {
                0 => vec![wide(&mut g), wide(&mut g), wide(&mut g)],
                1 => vec![text, wide(&mut g)],
                _ => vec![wide(&mut g), text.clone(), g.vector(Type::F64, n, false), text],
            };
            check(&mut g, &keys, n);
        }
    }

    #[test]
    fn many_rows_are_sorted_together() {
        let n = PARALLEL_ROWS + 1234;
        let mut g = Gen::new(93);
        let few = Vector::new(Values::I64((0..n).map(|_| g.below(50) as i64).collect::<Vec<_>>().into()));
        let text = Vector::new(Values::Str(Strings::View((0..n).map(|_| Some(g.text())).collect())));
        for keys in [vec![&few], vec![&few, &text], vec![&text, &few]] {
            let keys: Vec<Key> = keys.into_iter().map(|values| Key { values, order: KeyOrder::default() }).collect();
            assert!(order(&keys, n, None).unwrap() == reference::order(&keys, n).unwrap());
        }
    }

    #[test]
    fn rows_behind_the_last_are_those_of_the_reference() {
        let mut g = Gen::new(94);
        for round in 0..400 {
            let ty = TYPES[round % 6];
            let n = 1 + g.below(60) as usize;
            let constant = g.below(8) == 0;
            let (key, all) = (g.vector(ty, n, constant), g.vector(ty, n, false));
            let last = crate::gather::gather(&all, &[g.below(n as u64) as u32]).unwrap();
            let (order, strictly) = (KeyOrder { descending: g.below(2) == 0, nulls_first: g.below(2) == 0 }, g.below(2) == 0);
            let want: Vec<u8> = (0..n)
                .map(|i| {
                    let (a, b) = (key.value(i).unwrap(), last.value(0).unwrap());
                    u8::from(match (a.is_null(), b.is_null()) {
                        (true, true) => !strictly,
                        (true, false) => order.nulls_first,
                        (false, true) => !order.nulls_first,
                        (false, false) if a == b => !strictly,
                        (false, false) => (a < b) != order.descending,
                    })
                })
                .collect();
            assert_eq!(behind(&key, n, &last, order, strictly).unwrap(), want, "{key:?} {last:?} {order:?}");
        }
    }

    #[test]
    fn what_has_no_kernel_is_refused() {
        let lists = Vector::new(Values::Any(arrow::array::new_null_array(&arrow::datatypes::DataType::Binary, 3)));
        let key = Key { values: &lists, order: KeyOrder::default() };
        assert_eq!(order(&[key], 3, None).unwrap_err().kind(), crate::ErrorKind::Unsupported);
    }
}
