//! What a part has on disk, where the memory does not hold it.
//!
//! A run is what all panes of a part held at some moment. What a group has in a pane is what it has in all runs and in
//! memory: groups add up. So nothing on disk is ever changed; runs of one level become one of the next when they are many.

use super::super::spill::{Piece, Spilled, Spiller, Writer};
use super::Shape;
use super::pane::{Pane, PaneGroups};
use super::part::{Kept, Unsaved};
use super::stored::{Stored, by_key_group, rows_of};
use crate::Result;
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::UInt16Type;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// Runs of one level that become one.
const FAN_IN: usize = 8;

/// Groups in the order of their key group.
#[derive(Clone, Copy)]
struct Slice {
    piece: Piece,
    key_groups: (u16, u16),
}

struct Run {
    file: Arc<Spilled>,
    level: u32,
    panes: BTreeMap<i64, Vec<Slice>>,
    /// What no checkpoint has.
    unsaved: BTreeMap<i64, Vec<Slice>>,
}

/// The runs of a part, the oldest first.
#[derive(Default)]
pub(super) struct Cold {
    runs: Vec<Run>,
}

/// A run that is being written.
pub(super) struct NewRun {
    file: Writer,
    panes: BTreeMap<i64, Vec<Slice>>,
    unsaved: BTreeMap<i64, Vec<Slice>>,
}

impl NewRun {
    pub(super) fn new(to: &Spiller) -> Result<Self> {
        Ok(Self { file: to.file()?, panes: BTreeMap::new(), unsaved: BTreeMap::new() })
    }

    fn written(&mut self, groups: &PaneGroups, pane: &Pane, order: &[u32]) -> Result<Vec<Slice>> {
        groups.pieces(pane, order).map(|stored| self.write(stored?)).collect()
    }

    fn write(&mut self, stored: Stored) -> Result<Slice> {
        let Stored { columns, rows, key_groups } = stored;
        Ok(Slice { piece: self.file.write(columns, rows)?, key_groups })
    }

    /// Writes the pane that begins at `start`, of groups in the order `order`.
    pub(super) fn pane(&mut self, start: i64, groups: &PaneGroups, order: &[u32], pane: &Kept) -> Result<()> {
        let all = self.written(groups, &pane.all, order)?;
        let unsaved = match &pane.unsaved {
            Unsaved::All => Some(all.clone()),
            Unsaved::Nothing => None,
            Unsaved::Some(unsaved) => Some(self.written(groups, unsaved, order)?),
        };
        self.unsaved.extend(unsaved.map(|slices| (start, slices)));
        self.panes.insert(start, all);
        Ok(())
    }

    fn finish(self, level: u32) -> Result<Run> {
        Ok(Run { file: Arc::new(self.file.finish()?), level, panes: self.panes, unsaved: self.unsaved })
    }
}

impl Cold {
    /// The begins of the panes that have rows here.
    pub(super) fn starts(&self) -> impl Iterator<Item = i64> + '_ {
        self.runs.iter().flat_map(|r| r.panes.keys().copied())
    }

    /// Bytes on disk of the panes that begin in `panes`.
    pub(super) fn bytes(&self, panes: Range<i64>) -> u64 {
        let slices = self.runs.iter().flat_map(|r| r.panes.range(panes.clone()));
        slices.flat_map(|(_, slices)| slices).map(|s| s.piece.bytes).sum()
    }

    /// Forgets the panes that begin before `start`.
    pub(super) fn drop_before(&mut self, start: i64) {
        for run in &mut self.runs {
            run.panes = run.panes.split_off(&start);
            run.unsaved = run.unsaved.split_off(&start);
        }
        self.forget();
    }

    fn forget(&mut self) {
        self.runs.retain(|r| !r.panes.is_empty() || !r.unsaved.is_empty());
    }

    /// Adds a run. Then runs of one level, if they are many, become one; a group sink of `shape` adds their groups up, those of
    /// `some` key groups at a time.
    ///
    /// # Errors
    /// What the disk says, and the kernels.
    pub(super) fn push(&mut self, run: NewRun, shape: &Shape, to: &Spiller, some: impl Fn(u64) -> Vec<Range<u16>>) -> Result<()> {
        self.runs.push(run.finish(0)?);
        let mut level = 0;
        loop {
            let many: Vec<usize> =
                (0..self.runs.len()).filter(|i| self.runs[*i].level == level && !self.runs[*i].panes.is_empty()).collect();
            if many.len() < FAN_IN {
                return Ok(());
            }
            let panes: BTreeSet<i64> = many.iter().flat_map(|i| self.runs[*i].panes.keys().copied()).collect();
            let mut one = NewRun::new(to)?;
            for start in panes {
                let slices = many.iter().filter_map(|i| self.runs[*i].panes.get(&start)).flatten();
                for key_groups in some(slices.map(|s| s.piece.bytes).sum()) {
                    let mut groups = PaneGroups::new(shape)?;
                    let mut pane = groups.pane()?;
                    for i in &many {
                        self.runs[*i].add_to(&mut groups, &mut pane, start..start.saturating_add(1), &key_groups)?;
                    }
                    let order = by_key_group(groups.key_groups()?);
                    let written = one.written(&groups, &pane, &order)?;
                    one.panes.entry(start).or_default().extend(written);
                }
            }
            many.iter().for_each(|i| self.runs[*i].panes.clear());
            // What no checkpoint has stays where it is.
            let at = many[many.len() - 1] + 1;
            level += 1;
            self.runs.insert(at, one.finish(level)?);
            self.forget();
        }
    }

    /// Adds to `pane` the groups of `key_groups` of the panes that begin in `panes`.
    ///
    /// # Errors
    /// What the disk says, and the kernels.
    pub(super) fn add_to(&self, groups: &mut PaneGroups, pane: &mut Pane, panes: Range<i64>, key_groups: &Range<u16>) -> Result<()> {
        self.runs.iter().try_for_each(|run| run.add_to(groups, pane, panes.clone(), key_groups))
    }

    /// What no checkpoint has, which the one that asks will have; with `whole` all.
    pub(super) fn unwritten(&mut self, whole: bool) -> Vec<OnDisk> {
        let mut all = vec![];
        for run in &mut self.runs {
            let unsaved = std::mem::take(&mut run.unsaved);
            for (start, slices) in if whole { &run.panes } else { &unsaved } {
                all.extend(slices.iter().map(|slice| OnDisk { file: Arc::clone(&run.file), start: *start, slice: *slice }));
            }
        }
        self.forget();
        all
    }
}

impl Run {
    fn add_to(&self, groups: &mut PaneGroups, pane: &mut Pane, panes: Range<i64>, key_groups: &Range<u16>) -> Result<()> {
        let slices = self.panes.range(panes).flat_map(|(_, slices)| slices);
        for slice in slices.filter(|s| s.key_groups.0 < key_groups.end && s.key_groups.1 >= key_groups.start) {
            let columns = self.file.read(slice.piece)?;
            let rows = rows_of(columns[0].as_primitive::<UInt16Type>().values(), key_groups);
            let mine: Vec<ArrayRef> = columns[1..].iter().map(|c| c.slice(rows.start, rows.len())).collect();
            groups.add_stored(pane, &mine, rows.len())?;
        }
        Ok(())
    }
}

/// Groups of a pane on disk, for a checkpoint.
pub(super) struct OnDisk {
    file: Arc<Spilled>,
    start: i64,
    slice: Slice,
}

impl OnDisk {
    /// Its rows of the checkpoint.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn rows(&self) -> Result<RecordBatch> {
        let Slice { piece, key_groups } = self.slice;
        Stored { columns: self.file.read(piece)?, rows: piece.rows, key_groups }.at(self.start)
    }
}
