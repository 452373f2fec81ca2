//! Groups that have left a worker's table.
//!
//! A table of many keys of which few come again only misses the cache. It is emptied instead when it is
//! full: its groups go, in order of the part that their keys' hash falls into, to a list. At the end each
//! part is merged on its own, in a table that fits the cache.

use super::sink::GroupSink;
use crate::Result;
use millstream_kernels::group::State;
use millstream_kernels::{Strings, Values, Vector, gather};

/// Parts that groups are divided into.
pub(super) const PARTS: usize = 64;

/// Groups of a hash table that no longer fit the cache of a core.
pub(super) const FULL: usize = 1 << 17;

/// A full table is kept if so many rows a group have come: they will go on meeting their groups.
pub(super) const ROWS_A_GROUP: usize = 4;

/// The groups of one full table.
pub(super) struct Flushed {
    /// Where each part begins, and the end.
    bounds: Vec<usize>,
    keys: Vec<Vector>,
    states: Vec<Raw>,
    bytes: usize,
}

/// What one state holds of the groups.
enum Raw {
    /// A number or text a group.
    Values(Vector),
    /// Distinct values and the group of each, by group.
    Distinct { groups: Vec<u32>, values: Vector },
}

impl Flushed {
    /// All groups of `sink`.
    ///
    /// # Errors
    /// What the kernels raise.
    pub(super) fn of(sink: &GroupSink) -> Result<Self> {
        let parts = sink.groups().parts(PARTS)?;
        let mut bounds = vec![0usize; PARTS + 1];
        parts.iter().for_each(|p| bounds[*p as usize + 1] += 1);
        (0..PARTS).for_each(|p| bounds[p + 1] += bounds[p]);
        let mut next = bounds.clone();
        let mut order = vec![0u32; parts.len()];
        for (g, p) in parts.iter().enumerate() {
            order[next[*p as usize]] = g as u32;
            next[*p as usize] += 1;
        }
        // Slices of what is shared are no copies. Codes would tie each part to the whole dictionary.
        let plain = |v: Vector| match &v.values {
            Values::Str(s @ Strings::Dict { .. }) => {
                Ok::<_, crate::Error>(Vector::with_valid(Values::Str(Strings::View(gather::as_views(s)?)), v.valid))
            }
            _ => Ok(v),
        };
        let keys = sink.keys_of(&order)?.into_iter().map(|k| Ok(plain(k)?.shared())).collect::<Result<Vec<_>>>()?;
        let raw = |s: &State| match s.distinct_values(&order)? {
            Some((groups, values)) => Ok(Raw::Distinct { groups, values: plain(values)?.shared() }),
            None => Ok(Raw::Values(s.raw(&order)?.shared())),
        };
        let states = sink.states().iter().map(raw).collect::<Result<Vec<_>>>()?;
        let of_state = |r: &Raw| match r {
            Raw::Values(v) => super::vector_size(v),
            Raw::Distinct { groups, values } => groups.len() * 4 + super::vector_size(values),
        };
        let bytes = keys.iter().map(super::vector_size).sum::<usize>() + states.iter().map(of_state).sum::<usize>();
        Ok(Self { bounds, keys, states, bytes })
    }

    /// Bytes of memory held.
    pub(super) fn size(&self) -> usize {
        self.bytes
    }

    /// Adds the groups of part `part` to `all`.
    ///
    /// # Errors
    /// What the kernels raise.
    pub(super) fn add_to(&self, all: &mut GroupSink, part: usize) -> Result<()> {
        let (start, end) = (self.bounds[part], self.bounds[part + 1]);
        let n = end - start;
        if n == 0 {
            return Ok(());
        }
        let keys: Vec<Vector> = self.keys.iter().map(|k| k.slice(start, n)).collect();
        let (to, states, groups) = all.adopted(&keys, n)?;
        for (s, raw) in states.iter_mut().zip(&self.states) {
            match raw {
                Raw::Values(v) => s.merge_raw(&v.slice(start, n), to, groups)?,
                Raw::Distinct { groups: of, values } => {
                    let (from, until) = (of.partition_point(|g| (*g as usize) < start), of.partition_point(|g| (*g as usize) < end));
                    let ids: Vec<u32> = of[from..until].iter().map(|g| to[*g as usize - start]).collect();
                    s.update(&ids, groups, Some(&values.slice(from, until - from)), None)?;
                }
            }
        }
        Ok(())
    }
}
