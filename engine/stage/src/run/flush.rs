//! Groups that have left a worker's table.
//!
//! A table of many keys of which few come again only misses the cache. It is emptied instead when it is
//! full: its groups go, in order of the part that their keys' hash falls into, to a list. At the end each
//! part is merged on its own, in a table that fits the cache. Where memory is short the list goes to disk.

use super::sink::GroupSink;
use super::spill::{self, Piece, Spilled, Spiller};
use crate::{Cancel, Error, ErrorKind, Result};
use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::Field;
use millstream_kernels::group::{Raw, State};
use millstream_kernels::{Strings, Values, Vector, gather};
use std::sync::Arc;

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

impl Flushed {
    /// All groups of `sink`.
    ///
    /// # Errors
    /// What the kernels raise.
    pub(super) fn of(sink: &GroupSink) -> Result<Self> {
        let parts = sink.groups().parts(PARTS, sink.level())?;
        let mut bounds = vec![0usize; PARTS + 1];
        parts.iter().for_each(|p| bounds[*p as usize + 1] += 1);
        (0..PARTS).for_each(|p| bounds[p + 1] += bounds[p]);
        let mut next = bounds.clone();
        let mut order = vec![0u32; parts.len()];
        for (g, p) in parts.iter().enumerate() {
            order[next[*p as usize]] = g as u32;
            next[*p as usize] += 1;
        }
        let (keys, states) = raw_groups(sink.keys_of(&order)?, sink.states(), &order)?;
        let of_state = |r: &Raw| match r {
            Raw::Rows(columns) => columns.iter().map(super::vector_size).sum(),
            Raw::Lists { groups, columns } => groups.len() * 4 + columns.iter().map(super::vector_size).sum::<usize>(),
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
        match self.part(part) {
            Some((keys, states)) => add(all, &keys, &states, self.bounds[part + 1] - self.bounds[part]),
            None => Ok(()),
        }
    }

    /// The keys and states of part `part`, none where it is empty.
    fn part(&self, part: usize) -> Option<(Vec<Vector>, Vec<Raw>)> {
        let (start, end) = (self.bounds[part], self.bounds[part + 1]);
        let n = end - start;
        let states = self.states.iter().map(|raw| match raw {
            Raw::Rows(columns) => Raw::Rows(columns.iter().map(|c| c.slice(start, n)).collect()),
            Raw::Lists { groups: of, columns } => {
                let (from, until) = (of.partition_point(|g| (*g as usize) < start), of.partition_point(|g| (*g as usize) < end));
                let groups = of[from..until].iter().map(|g| g - start as u32).collect();
                Raw::Lists { groups, columns: columns.iter().map(|c| c.slice(from, until - from)).collect() }
            }
        });
        (n > 0).then(|| (self.keys.iter().map(|k| k.slice(start, n)).collect(), states.collect()))
    }
}

/// Keys and accumulators of the groups `order`, in that order, of which `keys` are the keys.
fn raw_groups(keys: Vec<Vector>, states: &[State], order: &[u32]) -> Result<(Vec<Vector>, Vec<Raw>)> {
    // Slices of what is shared are no copies. Codes would tie each part to the whole dictionary: they stay where that is short
    // beside a part, which then need not look its strings up row by row.
    let plain = |v: Vector| match &v.values {
        Values::Str(s @ Strings::Dict { codes, dict }) if dict.values().len() * PARTS > codes.len() => {
            Ok::<_, crate::Error>(Vector::with_valid(Values::Str(Strings::View(gather::as_views(s))), v.valid))
        }
        _ => Ok(v),
    };
    let keys = keys.into_iter().map(|k| Ok(plain(k)?.shared())).collect::<Result<Vec<_>>>()?;
    let raw = |s: &State| match s.raw(order)? {
        Raw::Lists { groups, columns } => {
            Ok(Raw::Lists { groups, columns: columns.into_iter().map(|c| Ok(plain(c)?.shared())).collect::<Result<_>>()? })
        }
        Raw::Rows(columns) => Ok::<_, Error>(Raw::Rows(columns.into_iter().map(Vector::shared).collect())),
    };
    Ok((keys, states.iter().map(raw).collect::<Result<Vec<_>>>()?))
}

/// The groups `order`, of which `keys` are the keys, as arrays: keys, then accumulators, one column or several each; many
/// values of a group are lists.
///
/// # Errors
/// What the kernels raise.
pub(super) fn stored_groups(keys: Vec<Vector>, states: &[State], order: &[u32]) -> Result<Vec<ArrayRef>> {
    let (keys, states) = raw_groups(keys, states, order)?;
    stored_columns(&keys, &states, order.len())
}

fn stored_columns(keys: &[Vector], states: &[Raw], n: usize) -> Result<Vec<ArrayRef>> {
    let mut columns = keys.iter().map(|k| spill::stored(k, n)).collect::<Result<Vec<_>>>()?;
    for s in states {
        match s {
            Raw::Rows(rows) => rows.iter().try_for_each(|c| spill::stored(c, n).map(|c| columns.push(c)))?,
            Raw::Lists { groups, columns: rows } => rows.iter().try_for_each(|c| lists(groups, c, n).map(|c| columns.push(c)))?,
        }
    }
    Ok(columns)
}

/// Adds the groups that [`stored_groups`] made of a sink of the same kind.
///
/// # Errors
/// `Bug` for other columns.
pub(super) fn add_stored(all: &mut GroupSink, columns: &[ArrayRef], rows: usize) -> Result<()> {
    // A state without groups has the shape of any other of its kind.
    let shapes = all.states().iter().map(|s| s.raw(&[])).collect::<std::result::Result<Vec<_>, _>>()?;
    let wide = |s: &Raw| match s {
        Raw::Rows(columns) | Raw::Lists { columns, .. } => columns.len(),
    };
    let mut at = all.key_count();
    if columns.len() != at + shapes.iter().map(wide).sum::<usize>() {
        return Err(Error::bug("columns of another group sink"));
    }
    let keys = spill::block(&columns[..at], rows)?.columns;
    let states = shapes.iter().map(|shape| {
        let mine = &columns[at..at + wide(shape)];
        at += mine.len();
        match shape {
            Raw::Rows(_) => Ok(Raw::Rows(spill::block(mine, rows)?.columns)),
            Raw::Lists { .. } => listed(mine),
        }
    });
    let states = states.collect::<Result<Vec<_>>>()?;
    add(all, &keys, &states, rows)
}

/// Adds groups of these keys.
fn add(all: &mut GroupSink, keys: &[Vector], raw: &[Raw], n: usize) -> Result<()> {
    let (to, states, groups) = all.adopted(keys, n)?;
    states.iter_mut().zip(raw).try_for_each(|(s, raw)| Ok(s.merge_raw(raw, to, groups)?))
}

/// Groups on disk, divided by part.
pub(super) struct OnDisk {
    file: Spilled,
    /// The pieces of each part.
    parts: Vec<Vec<Piece>>,
}

impl OnDisk {
    /// Writes the groups of full tables; none where there are none.
    ///
    /// # Errors
    /// A full disk, with the file's name; `Closed` when cancelled.
    pub(super) fn write(flushed: Vec<Flushed>, to: &Spiller, cancel: &Cancel) -> Result<Option<Self>> {
        if flushed.is_empty() {
            return Ok(None);
        }
        let mut file = to.file()?;
        let mut parts = vec![vec![]; PARTS];
        for (p, pieces) in parts.iter_mut().enumerate() {
            cancel.check()?;
            for (keys, states) in flushed.iter().filter_map(|f| f.part(p)) {
                let n = keys[0].values.len();
                pieces.push(file.write(stored_columns(&keys, &states, n)?, n)?);
            }
        }
        Ok(Some(Self { file: file.finish()?, parts }))
    }

    /// How many pieces part `part` has.
    pub(super) fn pieces(&self, part: usize) -> usize {
        self.parts[part].len()
    }

    /// Adds the groups of piece `piece` of part `part` to `all`.
    ///
    /// # Errors
    /// What the disk says, and the kernels.
    pub(super) fn add_to(&self, all: &mut GroupSink, part: usize, piece: usize) -> Result<()> {
        let piece = self.parts[part][piece];
        let columns = self.file.read(piece)?;
        add_stored(all, &columns, piece.rows)
    }
}

/// A list of the values of each of `n` groups; `groups` is ascending.
fn lists(groups: &[u32], values: &Vector, n: usize) -> Result<ArrayRef> {
    if i32::try_from(groups.len()).is_err() {
        let text = format!("{} values of groups leave memory at once: lists of them end at 2^31", groups.len());
        return Err(Error::new(ErrorKind::Exhausted, text));
    }
    let mut lens = vec![0usize; n];
    groups.iter().for_each(|g| lens[*g as usize] += 1);
    let offsets = OffsetBuffer::<i32>::from_lengths(lens);
    let values = spill::stored(values, groups.len())?;
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(field, offsets, values, None)?))
}

/// The rows of lists, the same of each column.
fn listed(columns: &[ArrayRef]) -> Result<Raw> {
    let (mut groups, mut rows) = (vec![], vec![]);
    for c in columns {
        let lists = c.as_list_opt::<i32>().ok_or_else(|| Error::bug("lists of values expected"))?;
        let of = lists.offsets().windows(2).enumerate();
        groups = of.flat_map(|(g, w)| std::iter::repeat_n(g as u32, (w[1] - w[0]) as usize)).collect();
        let first = lists.offsets()[0] as usize;
        rows.push(lists.values().slice(first, groups.len()));
    }
    let columns = spill::block(&rows, groups.len())?.columns;
    if columns.iter().any(|c| c.values.len() != groups.len()) {
        return Err(Error::bug("lists of different lengths"));
    }
    Ok(Raw::Lists { groups, columns })
}
