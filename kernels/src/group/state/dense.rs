//! Accumulators over groups that are numbered elsewhere: of many the same number in each, so that merging two is one
//! pass over both.
//!
//! A group that has a number need not have met a row here. Who numbers keeps for each state's rows a mask of
//! the groups that have, `present`: what a state holds of the others is worth nothing.

use super::{Accumulators, State};
use crate::program::AggregateOp;
use crate::{Result, simd};

simd! {
    fn add_longs(all: &mut [i64], more: &[i64]) {
        for (a, m) in all.iter_mut().zip(more) { *a += m; }
    }
}
simd! {
    fn add_floats(all: &mut [f64], more: &[f64]) {
        for (a, m) in all.iter_mut().zip(more) { *a += m; }
    }
}
simd! {
    fn least_longs(all: &mut [i64], more: &[i64]) {
        for (a, m) in all.iter_mut().zip(more) { *a = (*a).min(*m); }
    }
}
simd! {
    fn greatest_longs(all: &mut [i64], more: &[i64]) {
        for (a, m) in all.iter_mut().zip(more) { *a = (*a).max(*m); }
    }
}
// NaN is the greatest of all floats.
simd! {
    fn least_floats(all: &mut [f64], more: &[f64]) {
        for (a, m) in all.iter_mut().zip(more) { *a = if (*m < *a) | (a.is_nan() & !m.is_nan()) { *m } else { *a }; }
    }
}
simd! {
    fn greatest_floats(all: &mut [f64], more: &[f64]) {
        for (a, m) in all.iter_mut().zip(more) { *a = if (*m > *a) | (m.is_nan() & !a.is_nan()) { *m } else { *a }; }
    }
}
simd! {
    /// The groups of either.
    pub fn add_present(all: &mut [u8], more: &[u8]) {
        for (a, m) in all.iter_mut().zip(more) { *a |= m; }
    }
}

impl State {
    /// From here on tells groups without values from others by what it saw; those of `present` have had some.
    /// To be called before nulls or a filter come, and as often as one likes.
    pub fn see_only(&mut self, present: &[u8]) {
        if self.is_tracked() && self.seen.is_none() {
            let mut seen = present.to_vec();
            seen.resize(self.len(), 0);
            self.seen = Some(seen);
        }
    }

    /// Whether a group that has met rows may still be without values.
    pub fn is_choosy(&self) -> bool {
        self.is_tracked() && self.seen.is_some()
    }

    /// Adds a state whose groups have the numbers that they have here; `present` are those that have met rows here,
    /// `others` there.
    ///
    /// # Errors
    /// As [`State::merge`].
    pub fn add(&mut self, present: &[u8], other: &State, others: &[u8]) -> Result<()> {
        let groups = self.len().max(other.len());
        if other.is_choosy() {
            self.see_only(present);
        }
        let op = self.op;
        let is_sum = matches!((&self.values, &other.values), (Accumulators::Sum(a), Accumulators::Sum(b)) if a.takes(b));
        let is_plain = matches!(
            (&self.values, &other.values),
            (Accumulators::Count(_), Accumulators::Count(_))
                | (Accumulators::SumF64(_), Accumulators::SumF64(_))
                | (Accumulators::Float(_), Accumulators::Float(_))
        ) || matches!((&self.values, &other.values), (Accumulators::Int(_), Accumulators::Int(_)) if matches!(op, AggregateOp::Min | AggregateOp::Max));
        if !is_sum && !is_plain {
            let from: Vec<u32> = (0..others.len() as u32).filter(|g| others[*g as usize] != 0).collect();
            return self.merge(other, &from, &from, groups.max(others.len()));
        }
        self.grow(groups);
        if let Some(seen) = &mut self.seen {
            seen.resize(groups, 0);
            add_present(seen, other.seen.as_deref().unwrap_or(others));
        }
        match (&mut self.values, &other.values) {
            (Accumulators::Count(a), Accumulators::Count(b)) => add_longs(a, b),
            (Accumulators::SumF64(a), Accumulators::SumF64(b)) => add_floats(a, b),
            (Accumulators::Sum(a), Accumulators::Sum(b)) => a.add_all(b, add_longs),
            (Accumulators::Int(a), Accumulators::Int(b)) if op == AggregateOp::Min => least_longs(a, b),
            (Accumulators::Int(a), Accumulators::Int(b)) => greatest_longs(a, b),
            (Accumulators::Float(a), Accumulators::Float(b)) if op == AggregateOp::Min => least_floats(a, b),
            (Accumulators::Float(a), Accumulators::Float(b)) => greatest_floats(a, b),
            _ => {}
        }
        Ok(())
    }
}
