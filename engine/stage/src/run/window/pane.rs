//! Groups that have one number in all panes, and what is kept of them in each.
//!
//! Keys come again in pane after pane. A table knows them all once; a pane is accumulators by number, so that a key is
//! looked up once a row and never when panes are merged: that is one pass over both.

use super::super::chunk::{Registers, RowSink};
use super::super::flush::{add_stored, stored_groups};
use super::super::sink::GroupSink;
use super::Shape;
use crate::convert::Block;
use crate::program::Reg;
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef};
use millstream_kernels::group::{State, add_present};
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

    /// The groups that have rows here.
    pub(super) fn ids(&self) -> Vec<u32> {
        (0..self.present.len() as u32).filter(|g| self.has(*g)).collect()
    }

    fn has(&self, group: u32) -> bool {
        self.present.get(group as usize).is_some_and(|p| *p != 0)
    }

    /// Adds a mark for each group that has rows here.
    pub(super) fn mark(&self, live: &mut [u8]) {
        add_present(live, &self.present);
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
}

/// Below so many groups dead ones are left where they are.
const FEW: usize = 256;

impl PaneGroups {
    pub(super) fn new(shape: &Shape) -> Result<Self> {
        let (_, aggregates) = shape.keys_and_aggregates()?;
        let args = aggregates.iter().flat_map(|c| c.args.iter().copied().chain(c.filter)).collect();
        let has_filters = aggregates.iter().any(|c| c.filter.is_some());
        Ok(Self { sink: shape.groups()?.resident(), args, has_filters, looked_at: FEW })
    }

    /// Number of groups that have a number.
    pub(super) fn len(&self) -> usize {
        self.sink.len()
    }

    /// Bytes of memory held, panes left out.
    pub(super) fn size(&self) -> usize {
        self.sink.groups().size()
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

    /// Adds to `pane` one over another table, whose group `from[i]` is group `to[i]` here.
    pub(super) fn merge(&mut self, pane: &mut Pane, other: &Pane, from: &[u32], to: &[u32]) -> Result<()> {
        let both = || from.iter().zip(to).filter(|(f, _)| other.has(**f));
        let (from, to): (Vec<u32>, Vec<u32>) = both().map(|(f, t)| (*f, *t)).unzip();
        let groups = self.len();
        for (s, o) in pane.states.iter_mut().zip(&other.states) {
            if o.is_choosy() {
                s.see_only(&pane.present);
            }
            s.merge(o, &from, &to, groups)?;
        }
        pane.set(&to, groups);
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
        self.hashes_of(&ids)
    }

    /// The stable hash of the keys of these groups.
    pub(super) fn hashes_of(&self, ids: &[u32]) -> Result<Vec<u64>> {
        let mut hashes = vec![0u64; ids.len()];
        self.sink.keys_of(ids)?.iter().try_for_each(|k| millstream_kernels::group::stable_hash(k, &mut hashes))?;
        Ok(hashes)
    }

    /// Keys and accumulators of these groups of `pane`, as arrays.
    pub(super) fn stored(&mut self, pane: &mut Pane, order: &[u32]) -> Result<Vec<ArrayRef>> {
        self.within(pane, |sink, _| stored_groups(sink, order))
    }

    /// Adds to `pane` what [`PaneGroups::stored`] made.
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

    /// Forgets the groups without rows in any of `panes`, if those are the most; whether it did: all groups have other
    /// numbers then.
    pub(super) fn compact<'a>(&mut self, shape: &Shape, panes: impl Iterator<Item = &'a mut Pane>) -> Result<bool> {
        let mut panes: Vec<&mut Pane> = panes.collect();
        let mut live = vec![0u8; self.len()];
        panes.iter().for_each(|p| p.mark(&mut live));
        let kept: Vec<u32> = (0..live.len() as u32).filter(|g| live[*g as usize] != 0).collect();
        self.looked_at = self.len().max(FEW);
        if kept.len() * 2 > live.len() {
            return Ok(false);
        }
        let mut fresh = Self::new(shape)?;
        let to = fresh.numbered(self, &kept)?;
        for pane in &mut panes {
            let mut moved = fresh.pane()?;
            fresh.merge(&mut moved, pane, &kept, &to)?;
            **pane = moved;
        }
        fresh.looked_at = fresh.len().max(FEW);
        *self = fresh;
        Ok(true)
    }
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
