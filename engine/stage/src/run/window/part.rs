//! A part of the keys, by key group: what the open panes hold of them, apart from what workers still have.

use super::super::spill::Spiller;
use super::cold::{Cold, NewRun, OnDisk};
use super::live::Live;
use super::pane::{Pane, PaneGroups, Shared};
use super::sliding::Sliding;
use super::stored::{Known, by_key_group, rows_of};
use super::{KEY_GROUPS, Windows};
use crate::convert::Block;
use crate::{Error, ErrorKind, Result};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, UInt16Type};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Weak};

/// What no checkpoint has of a pane.
pub(super) enum Unsaved {
    All,
    Nothing,
    Some(Pane),
}

/// A pane, and what of it is new.
pub(super) struct Kept {
    /// A checkpoint that is on its way may have it too.
    pub(super) all: Arc<Pane>,
    pub(super) unsaved: Unsaved,
}

/// A worker's groups here: its numbers, and ours.
#[derive(Default)]
struct Theirs {
    from: Vec<u32>,
    to: Vec<u32>,
}

/// What checkpoints on their way have of memory that is counted nowhere else.
#[derive(Default)]
struct Lent {
    known: Vec<(Weak<Known>, usize)>,
    panes: Vec<(Weak<Pane>, usize)>,
}

/// A part of the keys.
pub(super) struct Part {
    shape: Shared,
    pub(super) index: usize,
    /// Those of its keys.
    key_groups: Range<u16>,
    groups: PaneGroups,
    /// By begin.
    panes: BTreeMap<i64, Kept>,
    /// What the memory does not hold.
    cold: Cold,
    sliding: Sliding,
    /// By worker.
    known: Vec<Theirs>,
    lent: Lent,
}

impl Part {
    pub(super) fn new(shape: Shared, index: usize, workers: usize) -> Result<Self> {
        let groups = PaneGroups::new(&shape)?;
        let known = (0..workers).map(|_| Theirs::default()).collect();
        let from = |index: usize| (index * KEY_GROUPS).div_ceil(workers) as u16;
        let (cold, sliding, lent) = (Cold::default(), Sliding::default(), Lent::default());
        Ok(Self { shape, index, key_groups: from(index)..from(index + 1), groups, panes: BTreeMap::new(), cold, sliding, known, lent })
    }

    /// The begins of the panes that have rows.
    pub(super) fn starts(&self) -> impl Iterator<Item = i64> + '_ {
        self.panes.keys().copied().chain(self.cold.starts())
    }

    /// Bytes of memory held.
    pub(super) fn size(&self) -> usize {
        self.groups.size() + self.panes.values().map(Kept::size).sum::<usize>() + self.sliding.size() + self.lent.size()
    }

    /// Bytes on disk of the panes that begin in `panes`.
    pub(super) fn on_disk(&self, panes: Range<i64>) -> u64 {
        self.cold.bytes(panes)
    }

    /// Bytes of memory that the panes which begin in `panes` take as one, apart from themselves.
    pub(super) fn room_to_slide(&self, panes: Range<i64>) -> usize {
        if self.sliding.is_empty() { 2 * self.panes.range(panes).map(|(_, k)| k.all.size()).sum::<usize>() } else { 0 }
    }

    /// The key groups, as many at a time as take about `most` bytes of `bytes`.
    fn slices(key_groups: &Range<u16>, bytes: u64, most: u64) -> Vec<Range<u16>> {
        let (from, all) = (u64::from(key_groups.start), key_groups.len() as u64);
        let n = bytes.div_ceil(most.max(1)).clamp(1, all.max(1));
        (0..n).map(|i| (from + i * all / n) as u16..(from + (i + 1) * all / n) as u16).collect()
    }

    /// The key groups, as many at a time as take about `most` bytes on disk of the panes that begin in `panes`.
    pub(super) fn slices_of(&self, panes: Range<i64>, most: u64) -> Vec<Range<u16>> {
        Self::slices(&self.key_groups, self.cold.bytes(panes), most)
    }

    /// Brings all panes to disk, and forgets the numbers of the workers' groups. Where runs of that become one, it is in slices
    /// of `most` bytes.
    ///
    /// # Errors
    /// What the disk says, and the kernels.
    pub(super) fn spill(&mut self, to: &Spiller, most: u64) -> Result<()> {
        let panes = std::mem::take(&mut self.panes);
        let order = by_key_group(self.groups.key_groups()?);
        if panes.values().any(|k| k.all.has_rows()) {
            let mut run = NewRun::new(to)?;
            for (start, kept) in &panes {
                run.pane(*start, &self.groups, &order, kept)?;
                if Arc::strong_count(&kept.all) > 1 {
                    self.lent.panes.push((Arc::downgrade(&kept.all), kept.all.size()));
                }
            }
            drop(panes);
            self.groups = PaneGroups::new(&self.shape)?;
            let key_groups = self.key_groups.clone();
            self.cold.push(run, &self.shape, to, |bytes| Self::slices(&key_groups, bytes, most))?;
        } else {
            self.groups = PaneGroups::new(&self.shape)?;
        }
        self.sliding = Sliding::default();
        self.known.iter_mut().for_each(|known| *known = Theirs::default());
        Ok(())
    }

    /// Keys and results of the window of the panes that begin in `panes`, of the key groups `key_groups` only.
    ///
    /// # Errors
    /// What the disk says, and the kernels.
    pub(super) fn close_slice(&mut self, panes: Range<i64>, key_groups: &Range<u16>, checked: bool) -> Result<Block> {
        let mut groups = PaneGroups::new(&self.shape)?;
        let mut window = groups.pane()?;
        self.cold.add_to(&mut groups, &mut window, panes.clone(), key_groups)?;
        for (_, kept) in self.panes.range(panes) {
            groups.add_some(&mut window, &mut self.groups, &kept.all, key_groups)?;
        }
        groups.finish(&mut window, checked)
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
        self.cold.drop_before(start);
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
        let groups = Arc::new(self.groups.known()?);
        self.lent.known.push((Arc::downgrade(&groups), groups.size()));
        self.lent.forget();
        Ok(Unwritten { groups, panes, on_disk: self.cold.unwritten(whole) })
    }

    /// Takes what checkpoints hold of this part. Panes that begin before `first_open` are left out.
    ///
    /// # Errors
    /// `Corrupt` for batches that are not of this stage.
    pub(super) fn restore(&mut self, first_open: Option<i64>, pieces: &[RecordBatch]) -> Result<()> {
        for batch in pieces {
            let wrong = || Error::new(ErrorKind::Corrupt, format!("state that is not of this stage: {}", batch.schema()));
            let pane = batch.columns().first().and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(wrong)?;
            let key_groups = batch.columns().get(1).and_then(|c| c.as_primitive_opt::<UInt16Type>()).ok_or_else(wrong)?.values();
            if batch.num_rows() == 0 || first_open.is_some_and(|first| pane.value(0) < first) {
                continue;
            }
            let mine = rows_of(key_groups, &self.key_groups);
            if mine.is_empty() {
                continue;
            }
            let mine = batch.slice(mine.start, mine.len());
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
    groups: Arc<Known>,
    panes: Vec<(i64, Arc<Pane>)>,
    on_disk: Vec<OnDisk>,
}

impl Unwritten {
    /// Batches, each of one pane.
    pub(super) fn rows(self) -> impl Iterator<Item = Result<RecordBatch>> + Send {
        let Self { groups, panes, on_disk } = self;
        let in_memory = panes.into_iter().flat_map(move |(start, pane)| {
            let groups = Arc::clone(&groups);
            groups.pieces(&pane).into_iter().map(move |ids| groups.stored(&pane, &ids)?.at(start))
        });
        on_disk.into_iter().map(|piece| piece.rows()).chain(in_memory)
    }
}

impl Kept {
    fn size(&self) -> usize {
        self.all.size() + if let Unsaved::Some(p) = &self.unsaved { p.size() } else { 0 }
    }
}

impl Lent {
    fn size(&self) -> usize {
        let known = self.known.iter().filter(|(k, _)| k.strong_count() > 0).map(|(_, bytes)| bytes);
        let panes = self.panes.iter().filter(|(p, _)| p.strong_count() > 0).map(|(_, bytes)| bytes);
        known.chain(panes).sum()
    }

    fn forget(&mut self) {
        self.known.retain(|(k, _)| k.strong_count() > 0);
        self.panes.retain(|(p, _)| p.strong_count() > 0);
    }
}
