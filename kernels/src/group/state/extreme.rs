//! Least and greatest values.

use super::{Accumulators, State};
use crate::program::AggregateOp;
use crate::vector::{Values, Vector};
use crate::{Error, Result};

impl State {
    /// Adds the values of rows to the least or greatest of their groups.
    ///
    /// # Errors
    /// `Bug` for a register of another type.
    pub(super) fn extreme(&mut self, ids: &[u32], arg: &Vector, live: Option<&[u8]>) -> Result<()> {
        let min = self.op == AggregateOp::Min;
        let is_live = |i: usize| live.is_none_or(|l| l[i] != 0);
        if let (Accumulators::Int(v), Values::I128(_)) = (&self.values, &arg.values) {
            self.values = Accumulators::Wide(v.iter().map(|v| widen_extreme(*v, min)).collect());
        }
        match (&mut self.values, &arg.values) {
            (Accumulators::Int(best), values @ (Values::I32(_) | Values::I64(_) | Values::Bool(_))) => {
                let get = |i: usize| match values {
                    Values::I32(v) => i64::from(v[i]),
                    Values::I64(v) => v[i],
                    Values::Bool(v) => v[i].into(),
                    _ => 0,
                };
                for (i, g) in ids.iter().enumerate().filter(|(i, _)| is_live(*i)) {
                    let slot = &mut best[*g as usize];
                    *slot = if min { (*slot).min(get(i)) } else { (*slot).max(get(i)) };
                }
            }
            (Accumulators::Wide(best), values) => {
                let v = crate::compare::widened(values, ids.len())?;
                for (i, g) in ids.iter().enumerate().filter(|(i, _)| is_live(*i)) {
                    let slot = &mut best[*g as usize];
                    *slot = if min { (*slot).min(v[i]) } else { (*slot).max(v[i]) };
                }
            }
            (Accumulators::Float(best), Values::F64(v)) => {
                let rows = ids.iter().zip(v.iter());
                match live {
                    None if min => rows.for_each(|(g, v)| least(&mut best[*g as usize], *v)),
                    None => rows.for_each(|(g, v)| greatest(&mut best[*g as usize], *v)),
                    Some(live) => {
                        let keep = if min { least } else { greatest };
                        rows.zip(live).filter(|(_, l)| **l != 0).for_each(|((g, v), _)| keep(&mut best[*g as usize], *v));
                    }
                }
            }
            (Accumulators::Text(best), Values::Str(s)) => {
                let seen = self.seen.get_or_insert_with(|| vec![0; best.len()]);
                for (i, g) in ids.iter().enumerate().filter(|(i, _)| is_live(*i)) {
                    let (g, v) = (*g as usize, s.value(i));
                    if seen[g] == 0 || (v < best[g].as_str()) == min && v != best[g] {
                        best[g] = v.to_string();
                        seen[g] = 1;
                    }
                }
            }
            _ => return Err(Error::bug("min or max of a register of another type")),
        }
        Ok(())
    }
}

/// Keeps the lesser one; NaN is the greatest of all.
#[inline(always)]
fn least(best: &mut f64, v: f64) {
    *best = if (v < *best) | (best.is_nan() & !v.is_nan()) { v } else { *best };
}

/// Keeps the greater one; NaN is the greatest of all.
#[inline(always)]
fn greatest(best: &mut f64, v: f64) {
    *best = if (v > *best) | (v.is_nan() & !best.is_nan()) { v } else { *best };
}

/// The worst value of 64 bits becomes the worst of 128.
pub(super) fn widen_extreme(v: i64, min: bool) -> i128 {
    match (v, min) {
        (i64::MAX, true) => i128::MAX,
        (i64::MIN, false) => i128::MIN,
        (v, _) => v.into(),
    }
}
