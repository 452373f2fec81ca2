//! The oracle of the order: values compared row by row.

use super::Key;
use crate::Result;
use crate::value::Value;
use std::cmp::Ordering;

/// As [`super::order`], of all rows.
///
/// # Errors
/// `Bug` for what has no value.
pub fn order(keys: &[Key<'_>], n: usize) -> Result<Vec<u32>> {
    let values = |k: &Key| (0..n).map(|i| k.values.value(i)).collect::<Result<Vec<Value>>>();
    let columns = keys.iter().map(values).collect::<Result<Vec<_>>>()?;
    let mut rows: Vec<u32> = (0..n as u32).collect();
    rows.sort_by(|a, b| {
        for (key, column) in keys.iter().zip(&columns) {
            let (a, b) = (&column[*a as usize], &column[*b as usize]);
            let order = match (a.is_null(), b.is_null()) {
                (true, true) => Ordering::Equal,
                (true, false) if key.order.nulls_first => Ordering::Less,
                (true, false) => Ordering::Greater,
                (false, true) if key.order.nulls_first => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) if key.order.descending => b.cmp(a),
                (false, false) => a.cmp(b),
            };
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    });
    Ok(rows)
}
