//! Groups that have one number in all panes, and what is kept of them in each.
//!
//! Keys come again in pane after pane. A table knows them all once; a pane is accumulators by number, so that a key is
//! looked up once a row and never when panes are merged: that is one pass over both.

use super::super::chunk::{Registers, RowSink};
use super::super::flush::add_stored;
use super::super::sink::GroupSink;
use super::Shape;
use super::live::key_group;
use super::stored::{Known, Stored, pieces};
use crate::convert::Block;
use crate::program::Reg;
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef};
use millstream_kernels::group::{State, add_present};
use std::ops::Range;
use std::sync::Arc;

/// What is kept of the groups of one span of time.
#[derive(Default)]
pub(super) struct Pane {
    states: Vec<State>,
    /// 1 for each group that has rows here.
    present: Vec<u8>,
}

impl Pane {
    /// Bytes of memory held.
    pub(super) fn size(&self) -> usize {
        self.states.iter().map(State::size).sum::<usize>() + self.present.capacity()
    }

    /// Of groups here, and what they are in another table, those that have rows.
    pub(super) fn pairs(&self, from: &[u32], to: &[u32]) -> (Vec<u32>, Vec<u32>) {
        from.iter().zip(to).filter(|(f, _)| self.has(**f)).map(|(f, t)| (*f, *t)).unzip()
    }

    /// The groups that have rows here.
    pub(super) fn ids(&self) -> Vec<u32> {
        (0..self.present.len() as u32).filter(|g| self.has(*g)).collect()
    }

    /// Whether any group has rows here.
    pub(super) fn has_rows(&self) -> bool {
        self.present.iter().any(|p| *p != 0)
    }

    /// Whether a group has rows here.
    pub(super) fn has(&self, group: u32) -> bool {
        self.present.get(group as usize).is_some_and(|p| *p != 0)
    }

    /// Adds a mark for each group that has rows here.
    pub(super) fn mark(&self, live: &mut [u8]) {
        add_present(live, &self.present);
    }

    /// Its accumulators, by group.
    pub(super) fn states(&self) -> &[State] {
        &self.states
    }

    /// Adds a pane of the same groups.
    ///
    /// # Errors
    /// What the kernels raise.
    pub(super) fn add(&mut self, more: &Pane) -> Result<()> {
        for (s, m) in self.states.iter_mut().zip(&more.states) {
            s.add(&self.present, m, &more.present)?;
        }
        self.present.resize(self.present.len().max(more.present.len()), 0);
        add_present(&mut self.present, &more.present);
        Ok(())
    }

    fn set(&mut self, ids: &[u32], groups: usize) {
        self.present.resize(groups, 0);
        ids.iter().for_each(|g| self.present[*g as usize] = 1);
    }
}

/// The groups that panes are over.
pub(super) struct PaneGroups {
    sink: GroupSink,
    /// The registers that aggregates read.
    args: Vec<Reg>,
    has_filters: bool,
    /// How many groups there were when dead ones were last looked for.
    looked_at: usize,
    /// Of as many groups as there were when a checkpoint last asked.
    key_groups: Vec<u16>,
}

/// Below so many groups dead ones are left where they are.
const FEW: usize = 256;

impl PaneGroups {
    pub(super) fn new(shape: &Shape) -> Result<Self> {
        let (_, aggregates) = shape.keys_and_aggregates()?;
        let args = aggregates.iter().flat_map(|c| c.args.iter().copied().chain(c.filter)).collect();
        let has_filters = aggregates.iter().any(|c| c.filter.is_some());
        Ok(Self { sink: shape.groups()?.resident(), args, has_filters, looked_at: FEW, key_groups: vec![] })
    }

    /// Number of groups that have a number.
    pub(super) fn len(&self) -> usize {
        self.sink.len()
    }

    /// Bytes of memory held, panes left out.
    pub(super) fn size(&self) -> usize {
        self.sink.groups().size() + self.key_groups.capacity() * size_of::<u16>()
    }

    /// A pane without rows.
    pub(super) fn pane(&self) -> Result<Pane> {
        Ok(Pane { states: self.sink.fresh()?, present: vec![] })
    }

    /// Works on the sink as that of `pane`.
    fn within<T>(&mut self, pane: &mut Pane, work: impl FnOnce(&mut GroupSink, &mut Pane) -> Result<T>) -> Result<T> {
        std::mem::swap(self.sink.states_mut(), &mut pane.states);
        let out = work(&mut self.sink, pane);
        std::mem::swap(self.sink.states_mut(), &mut pane.states);
        out
    }

    /// Adds rows to `pane`.
    pub(super) fn rows(&mut self, pane: &mut Pane, regs: &mut Registers) -> Result<()> {
        let mut choosy = self.has_filters;
        for r in &self.args {
            regs.sync(*r)?;
            choosy |= regs.get(*r)?.valid.is_some();
        }
        self.within(pane, |sink, pane| {
            if choosy {
                sink.states_mut().iter_mut().for_each(|s| s.see_only(&pane.present));
            }
            sink.consume(regs)?;
            pane.set(sink.last_ids(), sink.len());
            Ok(())
        })
    }

    /// The numbers here of groups of another table, made where they are new.
    pub(super) fn numbered(&mut self, other: &PaneGroups, ids: &[u32]) -> Result<Vec<u32>> {
        self.sink.numbered(&other.sink, ids)
    }

    /// Adds to `pane` one over another table, whose group `pairs.0[i]` is group `pairs.1[i]` here.
    pub(super) fn merge(&mut self, pane: &mut Pane, other: &Pane, (from, to): &(Vec<u32>, Vec<u32>)) -> Result<()> {
        let groups = self.len();
        for (s, o) in pane.states.iter_mut().zip(&other.states) {
            if o.is_choosy() {
                s.see_only(&pane.present);
            }
            s.merge(o, from, to, groups)?;
        }
        pane.set(to, groups);
        Ok(())
    }

    /// Keys and results of all groups of `pane`.
    pub(super) fn finish(&mut self, pane: &mut Pane, checked: bool) -> Result<Block> {
        let ids = pane.ids();
        self.within(pane, |sink, _| sink.finish_some(&ids, checked))
    }

    /// The stable hash of each group's key, from group `first` on.
    pub(super) fn hashes(&self, first: usize) -> Result<Vec<u64>> {
        let ids: Vec<u32> = (first as u32..self.len() as u32).collect();
        let mut hashes = vec![0u64; ids.len()];
        self.sink.keys_of(&ids)?.iter().try_for_each(|k| millstream_kernels::group::stable_hash(k, &mut hashes))?;
        Ok(hashes)
    }

    /// The key group of each group.
    pub(super) fn key_groups(&mut self) -> Result<&[u16]> {
        let known = self.key_groups.len();
        let new = self.hashes(known)?;
        self.key_groups.extend(new.into_iter().map(key_group));
        Ok(&self.key_groups)
    }

    /// All groups as they are now: what is stored of panes over them.
    pub(super) fn known(&mut self) -> Result<Known> {
        let key_groups = self.key_groups()?.to_vec();
        let all: Vec<u32> = (0..self.len() as u32).collect();
        Ok(Known::new(self.sink.keys_of(&all)?, key_groups))
    }

    /// What is stored of `pane`: pieces of its groups `order`, which are in the order of their key group.
    pub(super) fn pieces<'a>(&'a self, pane: &'a Pane, order: &[u32]) -> impl Iterator<Item = Result<Stored>> + 'a {
        let pieces = pieces(pane, order, &self.key_groups);
        pieces.into_iter().map(|ids| Stored::of(pane, &ids, &self.key_groups, self.sink.keys_of(&ids)?))
    }

    /// Adds to `pane` the groups of `key_groups` of a pane over another table.
    pub(super) fn add_some(&mut self, pane: &mut Pane, other: &mut PaneGroups, theirs: &Pane, key_groups: &Range<u16>) -> Result<()> {
        let of = other.key_groups()?;
        let from: Vec<u32> = theirs.ids().into_iter().filter(|g| key_groups.contains(&of[*g as usize])).collect();
        let to = self.numbered(other, &from)?;
        self.merge(pane, theirs, &(from, to))
    }

    /// `pane` as one that nobody else reads: a copy where somebody does.
    pub(super) fn own<'a>(&self, pane: &'a mut Arc<Pane>) -> Result<&'a mut Pane> {
        if Arc::get_mut(pane).is_none() {
            let mut copy = self.pane()?;
            copy.add(pane)?;
            *pane = Arc::new(copy);
        }
        Arc::get_mut(pane).ok_or_else(|| Error::bug("a copy of a pane that somebody else has"))
    }

    /// Adds to `pane` keys and accumulators that [`Known::piece`] made of a pane.
    pub(super) fn add_stored(&mut self, pane: &mut Pane, columns: &[ArrayRef], rows: usize) -> Result<()> {
        let choosy = columns.iter().any(|c| c.null_count() > 0);
        self.within(pane, |sink, pane| {
            if choosy {
                sink.states_mut().iter_mut().for_each(|s| s.see_only(&pane.present));
            }
            add_stored(sink, columns, rows)?;
            pane.set(sink.last_ids(), sink.len());
            Ok(())
        })
    }

    /// Whether so many groups have come since dead ones were last looked for that it is time again.
    pub(super) fn is_due(&self) -> bool {
        self.len() >= 2 * self.looked_at
    }

    /// Forgets the groups without rows in any of `panes`, if those are the most. Then all groups have other numbers: what
    /// each was and is.
    pub(super) fn compact<'a>(&mut self, shape: &Shape, panes: impl Iterator<Item = &'a Pane>) -> Result<Option<Renumbered>> {
        let mut live = vec![0u8; self.len()];
        panes.for_each(|p| p.mark(&mut live));
        let from: Vec<u32> = (0..live.len() as u32).filter(|g| live[*g as usize] != 0).collect();
        self.looked_at = self.len().max(FEW);
        if from.len() * 2 > live.len() {
            return Ok(None);
        }
        let mut fresh = Self::new(shape)?;
        let to = fresh.numbered(self, &from)?;
        fresh.looked_at = fresh.len().max(FEW);
        *self = fresh;
        Ok(Some(Renumbered { from, to }))
    }

    /// `pane` over the groups as they are numbered by now.
    pub(super) fn renumbered(&mut self, pane: &Pane, groups: &Renumbered) -> Result<Pane> {
        let mut moved = self.pane()?;
        self.merge(&mut moved, pane, &pane.pairs(&groups.from, &groups.to))?;
        Ok(moved)
    }
}

/// The groups that are left, by the numbers that they had and those that they have.
pub(super) struct Renumbered {
    from: Vec<u32>,
    to: Vec<u32>,
}

impl Shape {
    fn keys_and_aggregates(&self) -> Result<(&[Reg], &[crate::program::AggregateCall])> {
        let crate::program::Sink::Group { keys, aggregates, .. } = &self.sink else { return Err(Error::bug("group sink expected")) };
        Ok((keys, aggregates))
    }

    /// Groups of nothing.
    fn groups(self: &Shape) -> Result<GroupSink> {
        let (keys, aggregates) = self.keys_and_aggregates()?;
        GroupSink::new(&self.program, keys, aggregates)
    }
}

/// A shape that workers and parts share.
pub(super) type Shared = Arc<Shape>;
