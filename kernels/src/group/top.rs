//! The first rows of each group, by one key.
//!
//! Every group has as many places as rows are wanted of it, in order. A row that finds none is dropped at once;
//! one that does is kept by whoever offers it, under the number that it is given, until a better one has its place.

use super::state::ranks;
use super::{Groups, KeyType};
use crate::Result;
use crate::program::KeyOrder;
use crate::vector::Vector;

/// Places of the first rows of each group.
pub struct Top {
    groups: Groups,
    order: KeyOrder,
    wanted: usize,
    /// How many places of each group are taken.
    taken: Vec<usize>,
    /// `wanted` a group, those that are taken in order.
    places: Vec<(i128, u32)>,
}

impl Top {
    /// The first `wanted` rows of each group by these keys.
    pub fn new(keys: &[KeyType], order: KeyOrder, wanted: usize) -> Self {
        Self { groups: Groups::new(keys), order, wanted, taken: vec![], places: vec![] }
    }

    /// Bytes of memory held.
    pub fn size(&self) -> usize {
        self.groups.size() + self.taken.capacity() * size_of::<usize>() + self.places.capacity() * size_of::<(i128, u32)>()
    }

    /// Rows that have a place.
    pub fn len(&self) -> usize {
        self.taken.iter().sum()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Of `n` rows those that have a place for now; the first of them is given the number `next`. Of rows with
    /// the same key any may be first; without a key all are the same.
    ///
    /// # Errors
    /// As [`Groups::ids`]; `Bug` for a key that is a string.
    pub fn offer(&mut self, keys: &[&Vector], by: Option<&Vector>, n: usize, next: u32) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(n);
        self.groups.ids(keys, n, &mut ids)?;
        self.taken.resize(self.groups.len(), 0);
        self.places.resize(self.groups.len() * self.wanted, (0, 0));
        let ranks = match by {
            Some(by) => ranks(by, n, self.order)?,
            None => vec![0; n],
        };
        let mut kept = vec![];
        for (i, (group, rank)) in ids.into_iter().zip(ranks).enumerate() {
            let group = group as usize;
            let places = &mut self.places[group * self.wanted..(group + 1) * self.wanted];
            let taken = &mut self.taken[group];
            if *taken == self.wanted && places.last().is_none_or(|last| rank >= last.0) {
                continue;
            }
            *taken = (*taken + 1).min(self.wanted);
            let at = places[..*taken - 1].partition_point(|p| p.0 <= rank);
            places[at..*taken].rotate_right(1);
            places[at] = (rank, next + kept.len() as u32);
            kept.push(i as u32);
        }
        Ok(kept)
    }

    /// The numbers of the rows that have a place; from now on the numbers are 0, 1, 2, ...
    pub fn renumber(&mut self) -> Vec<u32> {
        let mut rows = vec![];
        for (taken, places) in self.taken.iter().zip(self.places.chunks_exact_mut(self.wanted.max(1))) {
            for (_, row) in &mut places[..*taken] {
                rows.push(std::mem::replace(row, rows.len() as u32));
            }
        }
        rows
    }
}
