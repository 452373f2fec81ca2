//! Exact sums of integers and decimals, in 64 bits as long as they are sure to fit.

use crate::vector::{Values, Vector};
use crate::{Error, Result, arith, simd};

/// A sum a group. `narrow` holds what was added since the last spill into `wide`, and `room` bounds how
/// much more fits before 64 bits could overflow.
pub struct Sums {
    narrow: Vec<i64>,
    wide: Option<Vec<i128>>,
    room: u64,
}

/// Values between known bounds of this size are not measured: a billion of them fit 64 bits.
const NARROW_BOUND: u64 = 1 << 33;

simd! {
    fn sum_all(v: &[i64]) -> i64 {
        let mut s = 0i64;
        for v in v { s = s.wrapping_add(*v); }
        s
    }
}
simd! {
    fn sum_where(v: &[i64], ids: &[u32], group: u32) -> i64 {
        let mut s = 0i64;
        for (v, id) in v.iter().zip(ids) { s = s.wrapping_add(if *id == group { *v } else { 0 }); }
        s
    }
}
simd! {
    fn masked(v: &[i64], live: &[u8], out: &mut [i64]) {
        for ((o, v), l) in out.iter_mut().zip(v).zip(live) { *o = *v & -i64::from(*l); }
    }
}
simd! {
    fn widen(v: &[i32], out: &mut [i64]) {
        for (o, v) in out.iter_mut().zip(v) { *o = i64::from(*v); }
    }
}

impl Sums {
    pub(super) fn new() -> Self {
        Self { narrow: vec![], wide: None, room: i64::MAX as u64 }
    }

    pub(super) fn len(&self) -> usize {
        self.narrow.len()
    }

    pub(super) fn size(&self) -> usize {
        self.narrow.capacity() * 8 + self.wide.as_ref().map_or(0, |w| w.capacity() * 16)
    }

    pub(super) fn grow(&mut self, groups: usize) {
        self.narrow.resize(groups, 0);
        if let Some(wide) = &mut self.wide {
            wide.resize(groups, 0);
        }
    }

    /// Whether all of `more` can be added in 64 bits.
    pub(super) fn takes(&self, more: &Sums) -> bool {
        self.wide.is_none() && more.wide.is_none() && self.room >= i64::MAX as u64 - more.room
    }

    /// Adds what [`Sums::takes`] takes, group by group.
    pub(super) fn add_all(&mut self, more: &Sums, add: impl Fn(&mut [i64], &[i64])) {
        self.room -= i64::MAX as u64 - more.room;
        add(&mut self.narrow, &more.narrow);
    }

    pub(super) fn values(&self, ids: &[u32]) -> Values {
        let at = |g: &u32| *g as usize;
        match &self.wide {
            None => Values::I64(ids.iter().map(|g| self.narrow[at(g)]).collect::<Vec<_>>().into()),
            Some(wide) => Values::I128(ids.iter().map(|g| wide[at(g)] + i128::from(self.narrow[at(g)])).collect::<Vec<_>>().into()),
        }
    }

    /// `others`: some ids may be of no group; then there are few groups.
    pub(super) fn add(&mut self, ids: &[u32], groups: usize, arg: &Vector, live: Option<&[u8]>, others: bool) -> Result<()> {
        let n = ids.len();
        let mut owned = vec![];
        let v: &[i64] = match &arg.values {
            Values::I128(v) => return self.add_wide(ids, groups, v, live),
            Values::I64(v) => &v[..n],
            Values::I32(v) => {
                owned.resize(n, 0);
                widen(&v[..n], &mut owned);
                &owned
            }
            _ => return Err(Error::bug("sum of a register that is no number")),
        };
        let mut live_only = vec![];
        let v = match live {
            Some(live) => {
                live_only.resize(n, 0);
                masked(v, live, &mut live_only);
                &live_only
            }
            None => v,
        };
        let worst = |(lo, hi): (i64, i64)| if lo > hi { 0 } else { lo.unsigned_abs().max(hi.unsigned_abs()) };
        // Wide bounds may be those of other rows: they would have the sums leave 64 bits long before they must.
        let worst = match arg.bounds.map(worst) {
            Some(known) if known <= NARROW_BOUND => known,
            _ => worst(arith::range_i64(v)),
        };
        match worst.checked_mul(n as u64) {
            Some(most) if most <= i64::MAX as u64 => {
                if most > self.room {
                    self.spill(groups);
                }
                self.room -= most;
                add_narrow(&mut self.narrow, ids, groups, v, others);
            }
            _ => {
                let wide = self.wide.get_or_insert_with(|| vec![0; groups]);
                ids.iter().zip(v).filter(|(g, _)| **g != u32::MAX).for_each(|(g, v)| wide[*g as usize] += i128::from(*v));
            }
        }
        Ok(())
    }

    fn add_wide(&mut self, ids: &[u32], groups: usize, v: &[i128], live: Option<&[u8]>) -> Result<()> {
        let wide = self.spill(groups);
        for (i, g) in ids.iter().enumerate().filter(|(i, g)| **g != u32::MAX && live.is_none_or(|l| l[*i] != 0)) {
            let slot = &mut wide[*g as usize];
            *slot = slot.checked_add(v[i]).ok_or_else(|| overflow("Decimal128"))?;
        }
        Ok(())
    }

    /// Moves all into 128 bits.
    fn spill(&mut self, groups: usize) -> &mut Vec<i128> {
        let wide = self.wide.get_or_insert_with(|| vec![0; groups]);
        wide.resize(self.narrow.len(), 0);
        wide.iter_mut().zip(&mut self.narrow).for_each(|(w, n)| *w += i128::from(std::mem::take(n)));
        self.room = i64::MAX as u64;
        wide
    }
}

fn add_narrow(sums: &mut [i64], ids: &[u32], groups: usize, v: &[i64], others: bool) {
    if groups == 1 && !others {
        sums[0] += sum_all(v);
    } else if groups <= super::FEW_GROUPS {
        (0..groups).for_each(|g| sums[g] += sum_where(v, ids, g as u32));
    } else {
        ids.iter().zip(v).for_each(|(g, v)| sums[*g as usize] += v);
    }
}

/// The error of a sum that leaves its type.
pub(super) fn overflow(ty: &str) -> Error {
    Error::invalid(format!("arithmetic overflow: a sum does not fit {ty}"))
}
