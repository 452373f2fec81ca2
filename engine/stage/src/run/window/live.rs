//! What a worker has taken since the panes were last merged.

use super::super::chunk::{Registers, RowSink};
use super::pane::{Pane, PaneGroups, Shared};
use super::{KEY_GROUPS, Windows};
use crate::program::Reg;
use crate::{Error, Result};
use millstream_kernels::{Values, arith, gather};
use std::collections::BTreeMap;

/// The sink of a worker: groups of its own, and what came to each in each pane.
pub(super) struct Live {
    shape: Shared,
    time: Reg,
    /// What groups are made of.
    reads: Vec<Reg>,
    windows: Windows,
    pub(super) groups: PaneGroups,
    /// By begin.
    panes: BTreeMap<i64, Pane>,
    /// The groups of each part, in the order in which they came.
    members: Vec<Vec<u32>>,
    /// How many groups are among the members.
    assigned: usize,
}

impl Live {
    pub(super) fn new(shape: Shared, time: Reg, windows: Windows, parts: usize) -> Result<Self> {
        let groups = PaneGroups::new(&shape)?;
        let mut reads = shape.sink.reads();
        reads.sort_unstable();
        reads.dedup();
        Ok(Self { shape, time, reads, windows, groups, panes: BTreeMap::new(), members: vec![vec![]; parts], assigned: 0 })
    }

    /// The begins of the panes that have rows.
    pub(super) fn starts(&self) -> impl Iterator<Item = i64> + '_ {
        self.panes.keys().copied()
    }

    /// The pane that begins at `start`.
    pub(super) fn pane(&self, start: i64) -> Option<&Pane> {
        self.panes.get(&start)
    }

    /// The groups of part `part`.
    pub(super) fn members(&self, part: usize) -> &[u32] {
        &self.members[part]
    }

    /// Bytes of memory held.
    pub(super) fn size(&self) -> usize {
        self.groups.size() + self.panes.values().map(Pane::size).sum::<usize>()
    }

    /// Finds the part of each new group, by its key group.
    pub(super) fn assign(&mut self) -> Result<()> {
        let parts = self.members.len();
        if parts == 1 {
            self.members[0].extend(self.assigned as u32..self.groups.len() as u32);
        } else {
            for (g, hash) in (self.assigned as u32..).zip(self.groups.hashes(self.assigned)?) {
                self.members[part_of(hash, parts)].push(g);
            }
        }
        self.assigned = self.groups.len();
        Ok(())
    }

    /// Forgets the panes that begin before `end`: others have them by now.
    pub(super) fn let_go(&mut self, end: i64) {
        self.panes = self.panes.split_off(&end);
    }

    /// Forgets all groups, of which no pane has any.
    pub(super) fn reset(&mut self) -> Result<()> {
        self.groups = PaneGroups::new(&self.shape)?;
        self.members.iter_mut().for_each(Vec::clear);
        self.assigned = 0;
        Ok(())
    }

    /// Forgets groups that no pane has, if they are the most; whether it did.
    pub(super) fn compact(&mut self) -> Result<bool> {
        let Some(groups) = self.groups.compact(&self.shape, self.panes.values())? else { return Ok(false) };
        for pane in self.panes.values_mut() {
            *pane = self.groups.renumbered(pane, &groups)?;
        }
        self.members.iter_mut().for_each(Vec::clear);
        self.assigned = 0;
        Ok(true)
    }

    fn consume_pane(&mut self, start: i64, regs: &mut Registers) -> Result<()> {
        let pane = match self.panes.entry(start) {
            std::collections::btree_map::Entry::Occupied(e) => e.into_mut(),
            std::collections::btree_map::Entry::Vacant(e) => e.insert(self.groups.pane()?),
        };
        self.groups.rows(pane, regs)
    }

    /// The rows of each pane.
    fn divided(&self, times: &[i64]) -> Vec<(i64, Vec<u32>)> {
        let mut parts: Vec<(i64, Vec<u32>)> = vec![];
        let mut last = 0;
        for (row, t) in times.iter().enumerate() {
            let inside = |p: &(i64, Vec<u32>)| p.0 <= *t && *t < p.0 + self.windows.pane();
            if !parts.get(last).is_some_and(inside) {
                last = parts.iter().position(inside).unwrap_or_else(|| {
                    parts.push((self.windows.pane_of(*t), vec![]));
                    parts.len() - 1
                });
            }
            parts[last].1.push(row as u32);
        }
        parts
    }
}

/// The part of a key: a run of key groups.
pub(super) fn part_of(hash: u64, parts: usize) -> usize {
    key_group(hash) as usize * parts / KEY_GROUPS
}

/// The key group of a key.
pub(super) fn key_group(hash: u64) -> u16 {
    (hash % KEY_GROUPS as u64) as u16
}

impl RowSink for Live {
    fn consume(&mut self, regs: &mut Registers) -> Result<()> {
        regs.sync(self.time)?;
        let Values::I64(times) = &regs.get(self.time)?.values else { return Err(Error::bug("an event time that is no 64-bit number")) };
        let (least, greatest) = arith::range_i64(times);
        let first = self.windows.pane_of(least);
        if greatest < first + self.windows.pane() {
            return self.consume_pane(first, regs);
        }
        let parts = self.divided(times);
        for r in &self.reads {
            regs.sync(*r)?;
        }
        for (start, rows) in parts {
            let mut part = Registers::new(self.shape.program.types.len(), rows.len());
            for r in &self.reads {
                let v = regs.get(*r)?;
                part.set(*r, if v.constant { v.clone() } else { gather::gather(v, &rows)? });
            }
            self.consume_pane(start, &mut part)?;
        }
        Ok(())
    }
}
