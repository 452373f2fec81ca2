//! The order of rows by their keys: one integer a row for one key that is a number, else bytes.

use super::lists::ordered;
use crate::program::{KeyOrder, KeyOrders};
use crate::value::canonical_f64;
use crate::vector::{Values, Vector};
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Decimal128Array, Float64Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::SortOptions;
use arrow::row::{RowConverter, SortField};
use std::sync::Arc;

/// Integers whose order is that of the keys.
///
/// # Errors
/// `Bug` for strings.
pub(crate) fn ranks(key: &Vector, n: usize, order: KeyOrder) -> Result<Vec<i128>> {
    let expanded;
    let key = if key.constant {
        expanded = crate::gather::expand(key, n)?;
        &expanded
    } else {
        key
    };
    let null = if order.nulls_first { i128::MIN } else { i128::MAX };
    let mut out: Vec<i128> = match &key.values {
        Values::Bool(v) => v[..n].iter().map(|v| i128::from(*v)).collect(),
        Values::F64(v) => v[..n].iter().map(|v| i128::from(ordered(canonical_f64(*v)))).collect(),
        values => crate::compare::widened(values, n)?,
    };
    for (i, rank) in out.iter_mut().enumerate() {
        *rank = match key.is_null(i) {
            true => null,
            false if order.descending => -*rank,
            false => *rank,
        };
    }
    Ok(out)
}

/// Bytes whose order is that of the rows of `keys`. Integers of any width give bytes of the same kind.
///
/// # Errors
/// `Bug` for keys without kernel, or of another number than the orders.
pub(super) fn encoded(keys: &[&Vector], n: usize, orders: KeyOrders) -> Result<BinaryViewArray> {
    if keys.len() != orders.len() {
        return Err(Error::bug(format!("{} keys in {} orders", keys.len(), orders.len())));
    }
    let columns = keys.iter().map(|k| array(k, n)).collect::<Result<Vec<_>>>()?;
    let options = |o: KeyOrder| SortOptions { descending: o.descending, nulls_first: o.nulls_first };
    let fields = columns.iter().zip(orders.iter()).map(|(c, o)| SortField::new_with_options(c.data_type().clone(), options(o)));
    let converter = RowConverter::new(fields.collect()).map_err(Error::bug)?;
    let rows: BinaryArray = converter.convert_columns(&columns).and_then(|r| r.try_into_binary()).map_err(Error::bug)?;
    Ok(BinaryViewArray::from(&rows))
}

/// A key as an array that sorts as the engine does: -0 equals +0, every NaN alike and last.
fn array(key: &Vector, n: usize) -> Result<ArrayRef> {
    let expanded = crate::gather::expand(key, n)?;
    let nulls = expanded.valid.as_ref().map(|v| NullBuffer::new(BooleanBuffer::collect_bool(n, |i| v[i] != 0)));
    Ok(match &expanded.values {
        Values::Bool(v) => Arc::new(BooleanArray::new(BooleanBuffer::collect_bool(n, |i| v[i] != 0), nulls)),
        Values::F64(v) => Arc::new(Float64Array::new(v[..n].iter().map(|v| canonical_f64(*v)).collect(), nulls)),
        Values::Str(s) => Arc::new(crate::gather::with_nulls(&crate::gather::as_views(s).slice(0, n), nulls)),
        Values::Any(_) => return Err(Error::bug("an order of what has no kernel")),
        integers => Arc::new(Decimal128Array::new(crate::compare::widened(integers, n)?.into(), nulls)),
    })
}
