//! All values of each group, as they come or in the order of keys: lists and joined texts.
//!
//! A chunk's values that count are kept as one part, with the number of each one's group; only the end brings
//! them together by group and sorts within. Texts are copied, so that a part holds no more than its own.

use super::places::by_place;
use super::rank::encoded;
use crate::program::{Listing, Type};
use crate::vector::{Dictionary, Strings, Values, Vector};
use crate::{Result, gather};
use arrow::array::{Array, AsArray, BinaryViewArray};
use std::collections::HashSet;
use std::sync::Arc;

/// Values and the group of each.
pub struct Collected {
    listing: Listing,
    ty: Type,
    parts: Vec<Part>,
    rows: usize,
    bytes: usize,
    /// The dictionaries whose entries were counted.
    dictionaries: HashSet<u64>,
}

struct Part {
    owners: Vec<u32>,
    /// The values, and behind them the keys as bytes where there is an order.
    columns: Vec<Vector>,
}

impl Collected {
    pub(super) fn new(listing: Listing, ty: Type) -> Self {
        Self { listing, ty, parts: vec![], rows: 0, bytes: 0, dictionaries: HashSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    pub(super) fn size(&self) -> usize {
        self.bytes
    }

    /// The arguments that a row counts without only if they are not null.
    pub(super) fn required<'a, 'b>(&self, args: &'a [&'b Vector]) -> &'a [&'b Vector] {
        &args[..usize::from(self.listing.skip_nulls)]
    }

    /// Appends the rows of a chunk that count: their values, then their keys.
    pub(super) fn add(&mut self, ids: &[u32], args: &[&Vector], live: Option<&[u8]>) -> Result<()> {
        let (mut columns, keys) = (vec![args[0].clone()], &args[1..]);
        if !self.listing.by.is_empty() {
            columns.push(Vector::new(Values::Any(Arc::new(encoded(keys, ids.len(), self.listing.by)?))));
        }
        self.push(ids, columns, live)
    }

    fn push(&mut self, ids: &[u32], columns: Vec<Vector>, live: Option<&[u8]>) -> Result<()> {
        let rows: Vec<u32> = (0..ids.len() as u32).filter(|i| live.is_none_or(|l| l[*i as usize] != 0)).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let owners: Vec<u32> = rows.iter().map(|i| ids[*i as usize]).collect();
        let columns = columns.iter().map(|c| Ok(owned(gather::gather(c, &rows)?).shared())).collect::<Result<Vec<_>>>()?;
        self.rows += owners.len();
        self.bytes += owners.len() * 4;
        for c in &columns {
            self.bytes += size(c);
            if let Values::Str(Strings::Dict { dict, .. }) = &c.values
                && self.dictionaries.insert(dict.id())
            {
                self.bytes += entries_size(dict);
            }
        }
        self.parts.push(Part { owners, columns });
        Ok(())
    }

    /// Adds what [`Collected::columns`] gave of other groups, the value of row `i` as one of group `ids[i]`.
    pub(super) fn merge_columns(&mut self, ids: &[u32], columns: &[Vector]) -> Result<()> {
        self.push(ids, columns.to_vec(), None)
    }

    /// Adds the values of another's groups `g` as those of group `map[g]`, or not where that is none.
    pub(super) fn merge(&mut self, other: &Self, map: &[u32]) -> Result<()> {
        for p in &other.parts {
            let ids: Vec<u32> = p.owners.iter().map(|g| map[*g as usize]).collect();
            let kept: Vec<u8> = ids.iter().map(|g| u8::from(*g != u32::MAX)).collect();
            self.push(&ids, p.columns.clone(), Some(&kept))?;
        }
        Ok(())
    }

    /// The columns of the groups with a place among `n`, by place, unsorted; where each place begins.
    pub(super) fn columns(&self, place: &[u32], n: usize) -> Result<(Vec<usize>, Vec<Vector>)> {
        let width = 1 + usize::from(!self.listing.by.is_empty());
        let types = [self.ty, Type::Any];
        if n == 0 {
            let none = gather::Growing::new(self.ty).finish()?;
            return Ok((vec![0], vec![none; width]));
        }
        let mut first = 0u32;
        let rows: Vec<Vec<u32>> = self
            .parts
            .iter()
            .map(|p| {
                let from = first;
                first += p.owners.len() as u32;
                (from..first).collect()
            })
            .collect();
        let parts: Vec<_> = self.parts.iter().zip(&rows).map(|(p, rows)| (&p.owners[..], &rows[..], place)).collect();
        let (bounds, rows) = by_place(&parts, n);
        let column = |c: usize| {
            let mut all = gather::Growing::new(types[c]);
            self.parts.iter().try_for_each(|p| all.push(&p.columns[c], p.owners.len()))?;
            gather::gather(&all.finish()?, &rows)
        };
        Ok((bounds, (0..width).map(column).collect::<Result<_>>()?))
    }

    /// The values of the groups with a place among `n`, by place and in their order; where each place begins.
    pub(super) fn lists(&self, place: &[u32], n: usize) -> Result<(Vec<usize>, Vector)> {
        let (bounds, mut columns) = self.columns(place, n)?;
        let keys = if columns.len() > 1 { columns.pop() } else { None };
        let values = columns.remove(0);
        let keys: Option<BinaryViewArray> =
            keys.and_then(|k| if let Values::Any(k) = &k.values { k.as_byte_view_opt().cloned() } else { None });
        let Some(keys) = keys else { return Ok((bounds, values)) };
        let mut rows: Vec<u32> = (0..keys.len() as u32).collect();
        for w in bounds.windows(2) {
            rows[w[0]..w[1]].sort_by(|a, b| keys.value(*a as usize).cmp(keys.value(*b as usize)));
        }
        Ok((bounds, gather::gather(&values, &rows)?))
    }
}

/// The register with no more text than its own.
fn owned(v: Vector) -> Vector {
    let values = match v.values {
        Values::Str(Strings::View(s)) => Values::Str(Strings::View(s.gc())),
        Values::Any(a) => match a.as_byte_view_opt::<arrow::datatypes::BinaryViewType>() {
            Some(keys) => Values::Any(Arc::new(keys.gc())),
            None => Values::Any(a),
        },
        values => values,
    };
    Vector { values, bounds: None, ..v }
}

/// Bytes of an owned register, the entries of a dictionary aside.
fn size(v: &Vector) -> usize {
    let values = match &v.values {
        Values::Bool(v) => v.len(),
        Values::I32(v) => v.len() * 4,
        Values::I64(v) => v.len() * 8,
        Values::F64(v) => v.len() * 8,
        Values::I128(v) => v.len() * 16,
        Values::Str(Strings::Dict { codes, .. }) => codes.len() * 4,
        Values::Str(Strings::View(s)) => s.get_array_memory_size(),
        Values::Any(a) => a.get_array_memory_size(),
    };
    values + v.valid.as_ref().map_or(0, |v| v.len())
}

fn entries_size(dict: &Dictionary) -> usize {
    dict.values().get_array_memory_size()
}
