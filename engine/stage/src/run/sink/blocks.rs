//! What becomes of the workers' rows: one block, the table of a join, rows in order.

use super::super::Built;
use super::super::gpu::DeviceOrder;
use crate::convert::{Block, to_array};
use crate::program::{Program, Sink, SortKey};
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices};
use arrow::datatypes::DataType;
use millstream_kernels::group::KeyType;
use millstream_kernels::program::Reg;
use millstream_kernels::sort::{self, Key};
use millstream_kernels::{Values, Vector, gather};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use std::sync::Arc;

/// Chunks as one block. Each column of the parts is given back as soon as it is there as one.
///
/// # Errors
/// `Bug` when they differ in type.
pub fn join_blocks(mut parts: Vec<Block>, program: &Program, columns: &[Reg]) -> Result<Block> {
    if parts.len() == 1
        && let Some(one) = parts.pop()
    {
        return Ok(one);
    }
    let rows = parts.iter().map(|p| p.rows).sum();
    let mut parts: Vec<_> = parts.into_iter().map(|p| p.columns.into_iter()).collect();
    let columns = columns
        .iter()
        .map(|r| {
            let column: Vec<Vector> = parts.iter_mut().filter_map(Iterator::next).collect();
            if column.is_empty() && program.ty(*r) == millstream_kernels::program::Type::Any {
                return Ok(Vector::new(Values::Any(arrow::array::new_empty_array(program.data_type(*r)))));
            }
            Ok(gather::concat(&column, program.ty(*r))?)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Block { columns, rows })
}

/// The join table of a build sink.
///
/// # Errors
/// As [`Built::new`].
pub fn build(parts: Vec<Block>, program: &Program, sink: &Sink) -> Result<Built> {
    let Sink::Build { keys, columns, null_equals_null } = sink else { return Err(Error::bug("build sink expected")) };
    let all: Vec<Reg> = keys.iter().chain(columns).copied().collect();
    let mut block = join_blocks(parts, program, &all)?;
    let payload = block.columns.split_off(keys.len());
    let key_types: Vec<KeyType> = keys.iter().map(|k| program.key_type(*k)).collect();
    let types = columns.iter().map(|c| program.data_type(*c).clone()).collect();
    let mut built = Built::new(block.columns, &key_types, payload, types, block.rows, *null_equals_null)?;
    built.key_columns = keys.iter().map(|k| columns.iter().position(|c| c == k)).collect();
    Ok(built)
}

/// The rows of a sort sink in order, or the first `fetch` of them; ordered by `device` where there is one.
///
/// # Errors
/// As [`rows_in_order`].
pub(in crate::run) fn sorted(
    block: &Block,
    types: &[DataType],
    order: &[SortKey],
    fetch: Option<usize>,
    device: Option<&DeviceOrder>,
) -> Result<Block> {
    let rows = rows_in_order(block, types, order, fetch, device)?;
    let columns = block.columns.par_iter().map(|c| Ok(gather::gather(c, &rows)?)).collect::<Result<_>>()?;
    Ok(Block { columns, rows: rows.len() })
}

/// The numbers of a block's rows in order, or of the first `fetch`; by `device` where there is one.
///
/// # Errors
/// What Arrow's sort raises.
pub(in crate::run) fn rows_in_order(
    block: &Block,
    types: &[DataType],
    order: &[SortKey],
    fetch: Option<usize>,
    device: Option<&DeviceOrder>,
) -> Result<Vec<u32>> {
    if order.iter().all(|k| !matches!(block.columns[k.column].values, Values::Any(_))) {
        let key = |k: &SortKey| Key { values: &block.columns[k.column], order: k.order() };
        let keys: Vec<Key> = order.iter().map(key).collect();
        let on_device = device.map(|d| d.rows(&keys, block.rows, fetch)).transpose()?.flatten();
        return on_device.map_or_else(|| Ok(sort::order(&keys, block.rows, fetch)?), Ok);
    }
    let columns = order.iter().map(|k| {
        let values = sortable(&to_array(&block.columns[k.column], &types[k.column], block.rows)?);
        Ok(SortColumn { values, options: Some(SortOptions { descending: k.descending, nulls_first: k.nulls_first }) })
    });
    Ok(lexsort_to_indices(&columns.collect::<Result<Vec<_>>>()?, fetch)?.values().to_vec())
}

/// Floats sort by the engine's order: -0 equals +0, every NaN alike and last.
fn sortable(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float64 => {
            let canonical = array
                .as_primitive::<arrow::datatypes::Float64Type>()
                .unary::<_, arrow::datatypes::Float64Type>(millstream_kernels::value::canonical_f64);
            Arc::new(canonical)
        }
        _ => Arc::clone(array),
    }
}
