//! The groups of hopping windows, each pane merged a fixed number of times whatever the width is.
//!
//! Two stacks: for the panes before a border what is kept of each and of all behind it, up to the border; for those from
//! the border on, one running sum. A window is one of the former and the latter. When the windows have passed
//! the border, it moves to the end of the current one.

use super::pane::{Pane, PaneGroups};
use super::part::Kept;
use crate::Result;
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Sliding {
    /// By a pane's begin: what is kept of it and of all panes behind it, before the border.
    front: BTreeMap<i64, Pane>,
    border: i64,
    /// What is kept of the panes from the border to `end`.
    back: Option<Pane>,
    end: i64,
}

impl Sliding {
    /// Bytes of memory held.
    pub(super) fn size(&self) -> usize {
        self.front.values().chain(&self.back).map(Pane::size).sum()
    }

    /// Whether nothing was computed yet.
    pub(super) fn is_empty(&self) -> bool {
        self.back.is_none()
    }

    /// A pane is another one: what was computed of it is worth nothing.
    pub(super) fn changed(&mut self, pane: i64) {
        if self.back.is_some() && pane < self.end {
            *self = Self::default();
        }
    }

    /// The window `[start, end)`; windows are asked for in order.
    pub(super) fn window(&mut self, panes: &BTreeMap<i64, Kept>, groups: &PaneGroups, start: i64, end: i64) -> Result<Pane> {
        let back = match self.back.take().filter(|_| start < self.border) {
            Some(mut back) => {
                for (_, kept) in panes.range(self.end.max(self.border)..end) {
                    back.add(&kept.all)?;
                }
                self.front = self.front.split_off(&start);
                back
            }
            None => {
                self.front.clear();
                for (pane, kept) in panes.range(start..end).rev() {
                    let mut all = groups.pane()?;
                    if let Some((_, behind)) = self.front.first_key_value() {
                        all.add(behind)?;
                    }
                    all.add(&kept.all)?;
                    self.front.insert(*pane, all);
                }
                self.border = end;
                groups.pane()?
            }
        };
        self.end = end;
        let mut window = groups.pane()?;
        if let Some((_, front)) = self.front.first_key_value() {
            window.add(front)?;
        }
        window.add(&back)?;
        self.back = Some(back);
        Ok(window)
    }
}
