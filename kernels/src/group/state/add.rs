//! The rows of a chunk, added to the accumulators that are one plain column.

use super::moments::{Joint, Spread};
use super::{FEW_GROUPS, Groups};
use crate::program::AggregateOp;
use crate::vector::{Values, Vector};
use crate::{Error, Result, simd};

simd! {
    fn count_where(ids: &[u32], group: u32) -> u32 {
        let mut n = 0u32;
        for id in ids { n += (*id == group) as u32; }
        n
    }
}

simd! {
    fn count_live(ids: &[u32], live: &[u8], group: u32) -> u32 {
        let mut n = 0u32;
        for (id, l) in ids.iter().zip(live) { n += (*id == group) as u32 & u32::from(*l); }
        n
    }
}

/// `others`: some ids may be of no group.
pub(super) fn count(counts: &mut [i64], ids: &[u32], groups: usize, live: Option<&[u8]>, others: bool) {
    match live {
        Some(live) if groups <= FEW_GROUPS => (0..groups).for_each(|g| counts[g] += i64::from(count_live(ids, live, g as u32))),
        Some(live) => ids.iter().zip(live).for_each(|(g, l)| counts[*g as usize] += i64::from(*l)),
        None if groups == 1 && !others => counts[0] += ids.len() as i64,
        None if groups <= FEW_GROUPS => (0..groups).for_each(|g| counts[g] += i64::from(count_where(ids, g as u32))),
        None => ids.iter().for_each(|g| counts[*g as usize] += 1),
    }
}

pub(super) fn sum_floats(sums: &mut [f64], ids: &[u32], arg: &Vector, live: Option<&[u8]>) -> Result<()> {
    each_float(ids, arg, live, |g, v| sums[g] += v)
}

pub(super) fn spread(all: &mut [Spread], ids: &[u32], arg: &Vector, live: Option<&[u8]>) -> Result<()> {
    each_float(ids, arg, live, |g, v| all[g].add(v))
}

/// Calls `f` with the group and the value of each row that counts.
#[inline]
fn each_float(ids: &[u32], arg: &Vector, live: Option<&[u8]>, mut f: impl FnMut(usize, f64)) -> Result<()> {
    let Values::F64(v) = &arg.values else { return Err(Error::bug("floats expected")) };
    let rows = ids.iter().zip(v.iter());
    match live {
        None => rows.for_each(|(g, v)| f(*g as usize, *v)),
        Some(live) => rows.zip(live).filter(|(_, l)| **l != 0).for_each(|((g, v), _)| f(*g as usize, *v)),
    }
    Ok(())
}

pub(super) fn joint(all: &mut [Joint], ids: &[u32], y: &Vector, x: &Vector, live: Option<&[u8]>) -> Result<()> {
    let (Values::F64(y), Values::F64(x)) = (&y.values, &x.values) else { return Err(Error::bug("floats expected")) };
    let rows = ids.iter().zip(y.iter().zip(x.iter()));
    match live {
        None => rows.for_each(|(g, (y, x))| all[*g as usize].add(*y, *x)),
        Some(live) => rows.zip(live).filter(|(_, l)| **l != 0).for_each(|((g, (y, x)), _)| all[*g as usize].add(*y, *x)),
    }
    Ok(())
}

pub(super) fn bits(op: AggregateOp, all: &mut [i64], ids: &[u32], arg: &Vector, live: Option<&[u8]>) -> Result<()> {
    let narrow;
    let v: &[i64] = match &arg.values {
        Values::I64(v) => v,
        Values::I32(v) => {
            narrow = v.iter().map(|v| i64::from(*v)).collect::<Vec<_>>();
            &narrow
        }
        _ => return Err(Error::bug("bits of what is no integer")),
    };
    for (i, g) in ids.iter().enumerate().filter(|(i, _)| live.is_none_or(|l| l[*i] != 0)) {
        let slot = &mut all[*g as usize];
        match op {
            AggregateOp::BitAnd => *slot &= v[i],
            AggregateOp::BitOr => *slot |= v[i],
            _ => *slot ^= v[i],
        }
    }
    Ok(())
}

pub(super) fn distinct(pairs: &mut Groups, counts: &mut [i64], ids: &[u32], arg: &Vector, live: Option<&[u8]>) -> Result<()> {
    let rows: Vec<u32> = (0..ids.len() as u32).filter(|i| live.is_none_or(|l| l[*i as usize] != 0)).collect();
    let groups: Vec<i32> = rows.iter().map(|r| ids[*r as usize] as i32).collect();
    let values = crate::gather::gather(arg, &rows)?;
    let before = pairs.len();
    let mut out = vec![];
    pairs.ids(&[&Vector::new(Values::I32(groups.clone().into())), &values], rows.len(), &mut out)?;
    let mut next = before as u32;
    for (id, group) in out.iter().zip(groups) {
        if *id == next {
            counts[group as usize] += 1;
            next += 1;
        }
    }
    Ok(())
}
