//! A part of the keys, by key group: what the open panes hold of them, apart from what workers still have.

use super::Windows;
use super::live::Live;
use super::pane::{Known, Pane, PaneGroups, Shared};
use super::sliding::Sliding;
use crate::convert::Block;
use crate::{Error, ErrorKind, Result};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, UInt16Type};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What no checkpoint has of a pane.
enum Unsaved {
    All,
    Nothing,
    Some(Pane),
}

/// A pane, and what of it is new.
pub(super) struct Kept {
    /// A checkpoint that is on its way may have it too.
    pub(super) all: Arc<Pane>,
    unsaved: Unsaved,
}

/// A worker's groups here: its numbers, and ours.
#[derive(Default)]
struct Theirs {
    from: Vec<u32>,
    to: Vec<u32>,
}

/// A part of the keys.
pub(super) struct Part {
    shape: Shared,
    index: usize,
    groups: PaneGroups,
    /// By begin.
    panes: BTreeMap<i64, Kept>,
    sliding: Sliding,
    /// By worker.
    known: Vec<Theirs>,
}

impl Part {
    pub(super) fn new(shape: Shared, index: usize, workers: usize) -> Result<Self> {
        let groups = PaneGroups::new(&shape)?;
        let known = (0..workers).map(|_| Theirs::default()).collect();
        Ok(Self { shape, index, groups, panes: BTreeMap::new(), sliding: Sliding::default(), known })
    }

    /// The begins of the panes that have rows.
    pub(super) fn starts(&self) -> impl Iterator<Item = i64> + '_ {
        self.panes.keys().copied()
    }

    /// Bytes of memory held.
    pub(super) fn size(&self) -> usize {
        let kept = |k: &Kept| k.all.size() + if let Unsaved::Some(p) = &k.unsaved { p.size() } else { 0 };
        self.groups.size() + self.panes.values().map(kept).sum::<usize>() + self.sliding.size()
    }

    /// Adds what the workers have of the panes that begin before `end`. The workers' groups are assigned.
    pub(super) fn settle(&mut self, workers: &[Live], end: i64) -> Result<()> {
        for (worker, known) in workers.iter().zip(&mut self.known) {
            let members = worker.members(self.index);
            let new = &members[known.from.len()..];
            known.to.extend(self.groups.numbered(&worker.groups, new)?);
            known.from.extend(new);
            for start in worker.starts().take_while(|s| *s < end) {
                let Some(more) = worker.pane(start) else { continue };
                let kept = match self.panes.entry(start) {
                    std::collections::btree_map::Entry::Occupied(e) => e.into_mut(),
                    std::collections::btree_map::Entry::Vacant(e) => {
                        e.insert(Kept { all: Arc::new(self.groups.pane()?), unsaved: Unsaved::All })
                    }
                };
                let pairs = more.pairs(&known.from, &known.to);
                let all = self.groups.own(&mut kept.all)?;
                self.groups.merge(all, more, &pairs)?;
                if matches!(kept.unsaved, Unsaved::Nothing) {
                    kept.unsaved = Unsaved::Some(self.groups.pane()?);
                }
                if let Unsaved::Some(unsaved) = &mut kept.unsaved {
                    self.groups.merge(unsaved, more, &pairs)?;
                }
                self.sliding.changed(start);
            }
        }
        Ok(())
    }

    /// Keys and results of the window that begins at `start`. Windows are asked for in order.
    pub(super) fn close(&mut self, windows: &Windows, start: i64, checked: bool) -> Result<Block> {
        if windows.is_tumbling() {
            let mut pane = self.panes.remove(&start).map_or_else(|| self.groups.pane().map(Arc::new), |k| Ok(k.all))?;
            let pane = self.groups.own(&mut pane)?;
            return self.groups.finish(pane, checked);
        }
        let mut window = self.sliding.window(&self.panes, &self.groups, start, start.saturating_add(windows.width()))?;
        self.groups.finish(&mut window, checked)
    }

    /// Forgets the panes that begin before `start`.
    pub(super) fn drop_before(&mut self, start: i64) {
        self.panes = self.panes.split_off(&start);
    }

    /// How many groups it knows.
    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Whether it is time to look for groups without rows.
    pub(super) fn is_due(&self) -> bool {
        self.groups.is_due()
    }

    /// Forgets groups that no pane has, if they are the most; and the numbers of the groups of workers that have `compacted`
    /// theirs.
    pub(super) fn compact(&mut self, compacted: &[bool]) -> Result<()> {
        let panes = self.panes.values().flat_map(|k| {
            let unsaved = if let Unsaved::Some(p) = &k.unsaved { Some(p) } else { None };
            std::iter::once(k.all.as_ref()).chain(unsaved)
        });
        let renumbered = self.groups.compact(&self.shape, panes)?;
        let all = renumbered.is_some();
        if let Some(groups) = renumbered {
            for kept in self.panes.values_mut() {
                kept.all = Arc::new(self.groups.renumbered(&kept.all, &groups)?);
                if let Unsaved::Some(unsaved) = &mut kept.unsaved {
                    *unsaved = self.groups.renumbered(unsaved, &groups)?;
                }
            }
            self.sliding = Sliding::default();
        }
        let forgotten = self.known.iter_mut().zip(compacted).filter(|(_, compacted)| all || **compacted);
        forgotten.for_each(|(known, _)| *known = Theirs::default());
        Ok(())
    }

    /// What came since the last call, pane by pane; with `whole` all of it.
    pub(super) fn checkpoint(&mut self, whole: bool) -> Result<Unwritten> {
        let mut panes = vec![];
        for (start, kept) in &mut self.panes {
            match std::mem::replace(&mut kept.unsaved, Unsaved::Nothing) {
                Unsaved::Nothing if !whole => {}
                Unsaved::Some(pane) if !whole => panes.push((*start, Arc::new(pane))),
                _ => panes.push((*start, Arc::clone(&kept.all))),
            }
        }
        Ok(Unwritten { groups: self.groups.known()?, panes })
    }

    /// Takes what checkpoints hold of this one of `parts` parts. Panes that begin before `first_open` are left out.
    ///
    /// # Errors
    /// `Corrupt` for batches that are not of this stage.
    pub(super) fn restore(&mut self, parts: usize, first_open: Option<i64>, pieces: &[RecordBatch]) -> Result<()> {
        for batch in pieces {
            let wrong = || Error::new(ErrorKind::Corrupt, format!("state that is not of this stage: {}", batch.schema()));
            let pane = batch.columns().first().and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(wrong)?;
            let key_groups = batch.columns().get(1).and_then(|c| c.as_primitive_opt::<UInt16Type>()).ok_or_else(wrong)?.values();
            if batch.num_rows() == 0 || first_open.is_some_and(|first| pane.value(0) < first) {
                continue;
            }
            let part = |k: &u16| usize::from(*k) * parts / super::KEY_GROUPS;
            let (from, until) =
                (key_groups.partition_point(|k| part(k) < self.index), key_groups.partition_point(|k| part(k) <= self.index));
            if from == until {
                continue;
            }
            let mine = batch.slice(from, until - from);
            let kept = match self.panes.entry(pane.value(0)) {
                std::collections::btree_map::Entry::Occupied(e) => e.into_mut(),
                std::collections::btree_map::Entry::Vacant(e) => {
                    e.insert(Kept { all: Arc::new(self.groups.pane()?), unsaved: Unsaved::Nothing })
                }
            };
            let all = self.groups.own(&mut kept.all)?;
            self.groups.add_stored(all, &mine.columns()[2..], mine.num_rows()).map_err(|_| wrong())?;
        }
        Ok(())
    }
}

/// What a checkpoint has of a part, as it was then: the job goes on meanwhile.
pub(super) struct Unwritten {
    groups: Known,
    panes: Vec<(i64, Arc<Pane>)>,
}

impl Unwritten {
    /// A batch for each pane.
    ///
    /// # Errors
    /// What the kernels raise.
    pub(super) fn rows(&self) -> Result<Vec<RecordBatch>> {
        self.panes.iter().map(|(start, pane)| self.groups.piece(*start, pane)).collect()
    }
}
