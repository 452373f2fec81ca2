//! Open panes as batches, for checkpoints.
//!
//! The rows of a batch are the groups of one pane in the order of their key group: column 0 is the pane's
//! begin, column 1 the key group, then the keys and the accumulators in physical types.

use super::super::flush::{add_stored, stored_groups};
use super::super::sink::GroupSink;
use super::{Shape, WindowStage};
use crate::{Error, ErrorKind, Result};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt16Array};
use arrow::datatypes::{Field, Int64Type, Schema};
use millstream_kernels::group::stable_hash;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Parts that keyed state is divided into by the stable hash of its key: fixed for the life of a query.
pub const KEY_GROUPS: usize = 256;

/// Adds groups to a settled pane.
pub(super) fn settle(settled: &mut BTreeMap<i64, GroupSink>, shape: &Shape, pane: i64, groups: &[GroupSink]) -> Result<()> {
    let all = match settled.entry(pane) {
        std::collections::btree_map::Entry::Occupied(e) => e.into_mut(),
        std::collections::btree_map::Entry::Vacant(e) => e.insert(shape.groups()?),
    };
    super::super::merge::add_all(all, groups, 0, 1)
}

impl WindowStage {
    /// The begin of the first window that is not closed.
    pub fn first_open(&self) -> Option<i64> {
        self.next
    }

    /// What came since the last call, pane by pane; with `whole` all that the open panes hold.
    ///
    /// # Errors
    /// What the kernels raise.
    pub async fn checkpoint(&mut self, whole: bool) -> Result<Vec<RecordBatch>> {
        let live: BTreeSet<i64> = self.workers.iter().flat_map(|w| w.panes.starts()).collect();
        let live: Vec<(i64, Vec<GroupSink>)> =
            live.into_iter().map(|p| (p, self.workers.iter_mut().filter_map(|w| w.panes.take(p)).collect())).collect();
        live.iter().for_each(|(p, _)| self.sliding.changed(*p));
        let (mut settled, mut unsaved) = (std::mem::take(&mut self.settled), std::mem::take(&mut self.unsaved));
        let shape = Arc::clone(&self.shape);
        let work = move || {
            for (pane, groups) in live {
                settle(&mut settled, &shape, pane, &groups)?;
                settle(&mut unsaved, &shape, pane, &groups)?;
            }
            let saved = if whole { &settled } else { &unsaved };
            let out = saved.iter().map(|(pane, groups)| piece(*pane, groups)).collect::<Result<Vec<_>>>()?;
            Ok((settled, out))
        };
        let (settled, out) = self.pool.run(work).await?;
        self.settled = settled;
        Ok(out)
    }

    /// Goes on from what checkpoints hold, where the first window that is not closed was `first_open`. Panes
    /// that no open window has are left out.
    ///
    /// # Errors
    /// `Corrupt` for batches that are not of this stage.
    pub fn restore(&mut self, first_open: Option<i64>, pieces: &[RecordBatch]) -> Result<()> {
        self.next = first_open;
        for batch in pieces {
            let wrong = || Error::new(ErrorKind::Corrupt, format!("state that is not of {}: {}", self.id, batch.schema()));
            let pane = batch.columns().first().and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(wrong)?;
            if batch.num_rows() == 0 || first_open.is_some_and(|first| pane.value(0) < first) {
                continue;
            }
            let mut groups = match self.settled.remove(&pane.value(0)) {
                Some(groups) => groups,
                None => self.shape.groups()?,
            };
            add_stored(&mut groups, &batch.columns()[2..], batch.num_rows()).map_err(|_| wrong())?;
            self.settled.insert(pane.value(0), groups);
        }
        Ok(())
    }
}

/// The groups of a pane in the order of their key group.
fn piece(pane: i64, groups: &GroupSink) -> Result<RecordBatch> {
    let mut hashes = vec![0u64; groups.len()];
    groups.keys()?.iter().try_for_each(|k| stable_hash(k, &mut hashes))?;
    let key_group = |g: &u32| (hashes[*g as usize] % KEY_GROUPS as u64) as u16;
    let mut order: Vec<u32> = (0..groups.len() as u32).collect();
    order.sort_by_key(key_group);
    let key_groups: ArrayRef = Arc::new(UInt16Array::from_iter_values(order.iter().map(key_group)));
    let panes: ArrayRef = Arc::new(Int64Array::from_value(pane, order.len()));
    let columns: Vec<ArrayRef> = [panes, key_groups].into_iter().chain(stored_groups(groups, &order)?).collect();
    let fields = columns.iter().enumerate().map(|(i, c)| Field::new(format!("c{i}"), c.data_type().clone(), true));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)?)
}
