//! The sink of a worker: a group sink for every open pane.

use super::super::chunk::{Registers, RowSink};
use super::super::sink::GroupSink;
use super::{Shape, Windows};
use crate::program::Reg;
use crate::{Error, Result};
use millstream_kernels::{Values, arith, gather};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) struct PaneSink {
    shape: Arc<Shape>,
    time: Reg,
    windows: Windows,
    /// By begin.
    panes: BTreeMap<i64, GroupSink>,
}

impl PaneSink {
    pub(super) fn new(shape: Arc<Shape>, time: Reg, windows: Windows) -> Self {
        Self { shape, time, windows, panes: BTreeMap::new() }
    }

    /// The begins of the panes that have rows.
    pub(super) fn starts(&self) -> impl Iterator<Item = i64> + '_ {
        self.panes.keys().copied()
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &GroupSink> {
        self.panes.values()
    }

    /// Takes the groups of the pane that begins at `start`.
    pub(super) fn take(&mut self, start: i64) -> Option<GroupSink> {
        self.panes.remove(&start)
    }

    /// Forgets the panes that begin before `start`.
    pub(super) fn drop_before(&mut self, start: i64) {
        self.panes = self.panes.split_off(&start);
    }

    fn pane(&mut self, start: i64) -> Result<&mut GroupSink> {
        Ok(match self.panes.entry(start) {
            std::collections::btree_map::Entry::Occupied(e) => e.into_mut(),
            std::collections::btree_map::Entry::Vacant(e) => e.insert(self.shape.groups()?),
        })
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

impl RowSink for PaneSink {
    fn consume(&mut self, regs: &mut Registers) -> Result<()> {
        regs.sync(self.time)?;
        let Values::I64(times) = &regs.get(self.time)?.values else { return Err(Error::bug("an event time that is no 64-bit number")) };
        let (least, greatest) = arith::range_i64(times);
        let first = self.windows.pane_of(least);
        if greatest < first + self.windows.pane() {
            return self.pane(first)?.consume(regs);
        }
        let parts = self.divided(times);
        let mut read: Vec<Reg> = self.shape.sink.reads();
        read.sort_unstable();
        read.dedup();
        for r in &read {
            regs.sync(*r)?;
        }
        for (start, rows) in parts {
            let mut part = Registers::new(self.shape.program.types.len(), rows.len());
            for r in &read {
                let v = regs.get(*r)?;
                part.set(*r, if v.constant { v.clone() } else { gather::gather(v, &rows)? });
            }
            self.pane(start)?.consume(&mut part)?;
        }
        Ok(())
    }
}
