//! Panes as columns: for checkpoints and for the disk.

use super::super::flush::stored_groups;
use super::super::vector_size;
use super::KEY_GROUPS;
use super::pane::Pane;
use crate::Result;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt16Array};
use arrow::datatypes::{Field, Schema};
use millstream_kernels::{Vector, gather};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Groups of a pane that are stored together, at least where there are as many: reading a few costs as much as so many.
const PIECE_ROWS: usize = 1 << 14;

/// Groups that are stored together at most, about.
const PIECE_MOST: usize = 1 << 18;

/// The groups of a part at some moment.
pub(super) struct Known {
    keys: Vec<Vector>,
    key_groups: Vec<u16>,
    /// All groups in the order of their key group.
    order: OnceLock<Vec<u32>>,
}

impl Known {
    /// Groups with these keys and key groups.
    pub(super) fn new(keys: Vec<Vector>, key_groups: Vec<u16>) -> Self {
        Self { keys, key_groups, order: OnceLock::new() }
    }

    /// Bytes of memory held.
    pub(super) fn size(&self) -> usize {
        self.keys.iter().map(vector_size).sum::<usize>() + self.key_groups.len() * size_of::<u16>()
    }

    /// The groups of `pane`, in pieces that are stored together.
    pub(super) fn pieces(&self, pane: &Pane) -> Vec<Vec<u32>> {
        pieces(pane, self.order.get_or_init(|| by_key_group(&self.key_groups)), &self.key_groups)
    }

    /// What is stored of the groups `ids` of `pane`.
    ///
    /// # Errors
    /// What the kernels raise.
    pub(super) fn stored(&self, pane: &Pane, ids: &[u32]) -> Result<Stored> {
        let keys = self.keys.iter().map(|k| Ok(gather::gather(k, ids)?)).collect::<Result<Vec<_>>>()?;
        Stored::of(pane, ids, &self.key_groups, keys)
    }
}

/// All groups in the order of their key group.
pub(super) fn by_key_group(key_groups: &[u16]) -> Vec<u32> {
    let mut next = [0usize; KEY_GROUPS + 1];
    key_groups.iter().for_each(|k| next[usize::from(*k) + 1] += 1);
    (0..KEY_GROUPS).for_each(|k| next[k + 1] += next[k]);
    let mut order = vec![0; key_groups.len()];
    for (g, k) in key_groups.iter().enumerate() {
        order[next[usize::from(*k)]] = g as u32;
        next[usize::from(*k)] += 1;
    }
    order
}

/// Where in `stored`, the key groups of rows in their order, those of `key_groups` are.
pub(super) fn rows_of(stored: &[u16], key_groups: &Range<u16>) -> Range<usize> {
    let from = stored.partition_point(|k| *k < key_groups.start);
    from..from + stored[from..].partition_point(|k| *k < key_groups.end)
}

/// The groups of `order` that have rows in `pane`, cut where a key group ends, if there are enough by then.
pub(super) fn pieces(pane: &Pane, order: &[u32], key_groups: &[u16]) -> Vec<Vec<u32>> {
    let order: Vec<u32> = order.iter().copied().filter(|g| pane.has(*g)).collect();
    let mut pieces: Vec<Vec<u32>> = vec![];
    for of_one in order.chunk_by(|a, b| key_groups[*a as usize] == key_groups[*b as usize]) {
        for some in of_one.chunks(PIECE_MOST) {
            match pieces.last_mut().filter(|last| last.len() < PIECE_ROWS) {
                Some(last) => last.extend(some),
                None => pieces.push(some.to_vec()),
            }
        }
    }
    pieces
}

/// Groups of a pane as they are stored, in the order of their key group: it, the keys and the accumulators in physical types.
pub(super) struct Stored {
    pub(super) columns: Vec<ArrayRef>,
    pub(super) rows: usize,
    /// The first and the last.
    pub(super) key_groups: (u16, u16),
}

impl Stored {
    /// The groups `ids` of `pane`, of which `keys` are the keys.
    pub(super) fn of(pane: &Pane, ids: &[u32], key_groups: &[u16], keys: Vec<Vector>) -> Result<Self> {
        let of = |g: &u32| key_groups[*g as usize];
        let column: ArrayRef = Arc::new(UInt16Array::from_iter_values(ids.iter().map(of)));
        let columns = std::iter::once(column).chain(stored_groups(keys, pane.states(), ids)?).collect();
        Ok(Self { columns, rows: ids.len(), key_groups: (ids.first().map_or(0, of), ids.last().map_or(0, of)) })
    }

    /// Rows of a checkpoint: before the columns the begin of the pane.
    ///
    /// # Errors
    /// `Bug` for columns of different lengths.
    pub(super) fn at(self, start: i64) -> Result<RecordBatch> {
        let starts: ArrayRef = Arc::new(Int64Array::from_value(start, self.rows));
        let columns: Vec<ArrayRef> = std::iter::once(starts).chain(self.columns).collect();
        let fields = columns.iter().enumerate().map(|(i, c)| Field::new(format!("c{i}"), c.data_type().clone(), true));
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)?)
    }
}
