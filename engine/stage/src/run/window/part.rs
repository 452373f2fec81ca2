//! A part of the keys, by key group: what the open panes hold of them, apart from what workers still have.

use super::Windows;
use super::live::{Live, key_group};
use super::pane::{Pane, PaneGroups, Shared};
use super::sliding::Sliding;
use crate::convert::Block;
use crate::{Error, ErrorKind, Result};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt16Array};
use arrow::datatypes::{Field, Int64Type, Schema, UInt16Type};
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
    pub(super) all: Pane,
    unsaved: Unsaved,
}

/// A worker's groups here: its numbers, and ours.
#[derive(Default)]
struct Known {
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
    known: Vec<Known>,
}

impl Part {
    pub(super) fn new(shape: Shared, index: usize, workers: usize) -> Result<Self> {
        let groups = PaneGroups::new(&shape)?;
        let known = (0..workers).map(|_| Known::default()).collect();
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
                    std::collections::btree_map::Entry::Vacant(e) => e.insert(Kept { all: self.groups.pane()?, unsaved: Unsaved::All }),
                };
                self.groups.merge(&mut kept.all, more, &known.from, &known.to)?;
                if matches!(kept.unsaved, Unsaved::Nothing) {
                    kept.unsaved = Unsaved::Some(self.groups.pane()?);
                }
                if let Unsaved::Some(unsaved) = &mut kept.unsaved {
                    self.groups.merge(unsaved, more, &known.from, &known.to)?;
                }
                self.sliding.changed(start);
            }
        }
        Ok(())
    }

    /// Keys and results of the window that begins at `start`. Windows are asked for in order.
    pub(super) fn close(&mut self, windows: &Windows, start: i64, checked: bool) -> Result<Block> {
        if windows.is_tumbling() {
            let pane = self.panes.remove(&start).map(|k| k.all);
            return self.groups.finish(&mut pane.map_or_else(|| self.groups.pane(), Ok)?, checked);
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
        let panes = self.panes.values_mut().flat_map(|k| {
            let unsaved = if let Unsaved::Some(p) = &mut k.unsaved { Some(p) } else { None };
            std::iter::once(&mut k.all).chain(unsaved)
        });
        let all = self.groups.compact(&self.shape, panes)?;
        if all {
            self.sliding = Sliding::default();
        }
        let forgotten = self.known.iter_mut().zip(compacted).filter(|(_, compacted)| all || **compacted);
        forgotten.for_each(|(known, _)| *known = Known::default());
        Ok(())
    }

    /// What came since the last call, pane by pane; with `whole` all of it.
    ///
    /// The rows of a batch are the groups of one pane in the order of their key group: column 0 is the pane's begin,
    /// column 1 the key group, then the keys and the accumulators in physical types.
    pub(super) fn checkpoint(&mut self, whole: bool) -> Result<Vec<RecordBatch>> {
        let mut out = vec![];
        for (start, kept) in &mut self.panes {
            let unsaved = std::mem::replace(&mut kept.unsaved, Unsaved::Nothing);
            match unsaved {
                _ if whole => out.push(piece(*start, &mut self.groups, &mut kept.all)?),
                Unsaved::All => out.push(piece(*start, &mut self.groups, &mut kept.all)?),
                Unsaved::Some(mut pane) => out.push(piece(*start, &mut self.groups, &mut pane)?),
                Unsaved::Nothing => {}
            }
        }
        Ok(out)
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
                std::collections::btree_map::Entry::Vacant(e) => e.insert(Kept { all: self.groups.pane()?, unsaved: Unsaved::Nothing }),
            };
            self.groups.add_stored(&mut kept.all, &mine.columns()[2..], mine.num_rows()).map_err(|_| wrong())?;
        }
        Ok(())
    }
}

/// The groups of a pane in the order of their key group.
fn piece(start: i64, groups: &mut PaneGroups, pane: &mut Pane) -> Result<RecordBatch> {
    let ids = pane.ids();
    let hashes = groups.hashes_of(&ids)?;
    let mut order: Vec<(u16, u32)> = ids.into_iter().zip(hashes).map(|(g, h)| (key_group(h), g)).collect();
    order.sort_unstable();
    let key_groups: ArrayRef = Arc::new(UInt16Array::from_iter_values(order.iter().map(|o| o.0)));
    let starts: ArrayRef = Arc::new(Int64Array::from_value(start, order.len()));
    let order: Vec<u32> = order.into_iter().map(|o| o.1).collect();
    let columns: Vec<ArrayRef> = [starts, key_groups].into_iter().chain(groups.stored(pane, &order)?).collect();
    let fields = columns.iter().enumerate().map(|(i, c)| Field::new(format!("c{i}"), c.data_type().clone(), true));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)?)
}
