//! The groups of hopping windows, each pane merged a fixed number of times whatever the width is.
//!
//! Two stacks: for the panes before a border the groups of each and of all behind it, up to the border; for those from
//! the border on, one running sum. A window is one of the former and the latter. When the windows have passed
//! the border, it moves to the end of the current one.

use super::super::sink::GroupSink;
use super::Shape;
use crate::Result;
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Sliding {
    /// By a pane's begin: its groups and those of all panes behind it, before the border.
    front: BTreeMap<i64, GroupSink>,
    border: i64,
    /// The groups of the panes from the border to `end`.
    back: Option<GroupSink>,
    end: i64,
}

impl Sliding {
    /// Bytes of memory held.
    pub(super) fn size(&self) -> usize {
        self.front.values().chain(&self.back).map(GroupSink::size).sum()
    }

    /// The groups of a pane are others: what was computed of it is worth nothing.
    pub(super) fn changed(&mut self, pane: i64) {
        if self.back.is_some() && pane < self.end {
            *self = Self::default();
        }
    }

    /// The groups of the window `[start, end)`; windows are asked for in order.
    pub(super) fn window(&mut self, panes: &BTreeMap<i64, GroupSink>, shape: &Shape, start: i64, end: i64) -> Result<GroupSink> {
        let back = match self.back.take().filter(|_| start < self.border) {
            Some(mut back) => {
                for (_, groups) in panes.range(self.end.max(self.border)..end) {
                    back.merge(groups, 0, 1)?;
                }
                self.front = self.front.split_off(&start);
                back
            }
            None => {
                self.front.clear();
                for (pane, groups) in panes.range(start..end).rev() {
                    let mut all = shape.groups()?;
                    if let Some((_, behind)) = self.front.first_key_value() {
                        all.merge(behind, 0, 1)?;
                    }
                    all.merge(groups, 0, 1)?;
                    self.front.insert(*pane, all);
                }
                self.border = end;
                shape.groups()?
            }
        };
        self.end = end;
        let mut window = shape.groups()?;
        if let Some((_, front)) = self.front.first_key_value() {
            window.merge(front, 0, 1)?;
        }
        window.merge(&back, 0, 1)?;
        self.back = Some(back);
        Ok(window)
    }
}
