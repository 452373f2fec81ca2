//! All values of each group, as they come: what medians and quantiles are read off.
//!
//! A value and the number of its group are appended; only the end sorts them by group (by counting) and
//! selects in each. Floats are kept as integers that sort in their total order. Lists that meet share what
//! they hold: each remembers what the other's groups are called here.

use super::places::by_place;
use crate::program::Fraction;
use crate::vector::{Values, Vector};
use crate::{Error, Result};
use std::borrow::Cow;
use std::sync::Arc;

/// Values and the group of each.
pub struct Lists {
    /// What is complete, with the group here of each group there; none where it is the same.
    full: Vec<(Arc<Segment>, Option<Map>)>,
    last: Segment,
    is_float: bool,
}

/// What another's groups are called here.
type Map = Arc<Vec<u32>>;

#[derive(Default)]
struct Segment {
    owners: Vec<u32>,
    values: Numbers,
}

enum Numbers {
    Narrow(Vec<i64>),
    Wide(Vec<i128>),
}

impl Default for Numbers {
    fn default() -> Self {
        Self::Narrow(vec![])
    }
}

/// Values of a complete segment: what grows is copied no more often than that.
const SEGMENT: usize = 1 << 16;

/// What is read off the values of a group.
#[derive(Clone, Copy)]
pub enum Selection {
    Median,
    Quantile(Fraction),
}

impl Segment {
    fn size(&self) -> usize {
        let values = match &self.values {
            Numbers::Narrow(v) => v.capacity() * 8,
            Numbers::Wide(v) => v.capacity() * 16,
        };
        self.owners.capacity() * 4 + values
    }

    fn narrow(&self) -> Option<&[i64]> {
        if let Numbers::Narrow(v) = &self.values { Some(v) } else { None }
    }

    fn wide(&self) -> Cow<'_, [i128]> {
        match &self.values {
            Numbers::Narrow(v) => v.iter().map(|v| i128::from(*v)).collect(),
            Numbers::Wide(v) => v.into(),
        }
    }
}

impl Lists {
    pub(super) fn new(is_float: bool) -> Self {
        Self { full: vec![], last: Segment::default(), is_float }
    }

    fn segments(&self) -> impl Iterator<Item = (&Segment, Option<&Map>)> {
        self.full.iter().map(|(s, map)| (s.as_ref(), map.as_ref())).chain([(&self.last, None)])
    }

    /// Values, those of groups that are nobody's here included.
    pub(super) fn len(&self) -> usize {
        self.segments().map(|(s, _)| s.owners.len()).sum()
    }

    pub(super) fn size(&self) -> usize {
        self.segments().map(|(s, _)| s.size()).sum()
    }

    /// Appends the rows of a chunk that count.
    pub(super) fn add(&mut self, ids: &[u32], arg: &Vector, live: Option<&[u8]>) -> Result<()> {
        let is_wide = matches!(arg.values, Values::I128(_));
        if self.last.owners.len() + ids.len() > SEGMENT || is_wide && self.last.narrow().is_some() {
            self.seal();
            if is_wide {
                self.last.values = Numbers::Wide(vec![]);
            }
        }
        let Segment { owners, values } = &mut self.last;
        match (values, &arg.values) {
            (Numbers::Narrow(out), Values::F64(v)) if self.is_float => append(owners, out, ids, v, live, ordered),
            (Numbers::Narrow(out), Values::I64(v)) if !self.is_float => append(owners, out, ids, v, live, |v| v),
            (Numbers::Wide(out), Values::I64(v)) => append(owners, out, ids, v, live, i128::from),
            (Numbers::Wide(out), Values::I128(v)) => append(owners, out, ids, v, live, |v| v),
            _ => return Err(Error::bug("a list of numbers is given another type")),
        }
        Ok(())
    }

    fn seal(&mut self) {
        if self.last.owners.is_empty() {
            return;
        }
        // Where there is one segment there will be another.
        let next = Segment { owners: Vec::with_capacity(SEGMENT), values: Numbers::Narrow(Vec::with_capacity(SEGMENT)) };
        self.full.push((Arc::new(std::mem::replace(&mut self.last, next)), None));
    }

    /// Adds the values of another's groups `g` as those of group `map[g]`, or not where that is none.
    pub(super) fn merge(&mut self, other: &Self, map: Vec<u32>) {
        let map = Arc::new(map);
        let to = |g: u32| if g == u32::MAX { g } else { map[g as usize] };
        let mut composed: Option<(&Map, Map)> = None;
        for (segment, before) in &other.full {
            let map = match (before, &composed) {
                (None, _) => &map,
                (Some(before), Some((last, map))) if Arc::ptr_eq(last, before) => map,
                (Some(before), _) => &composed.insert((before, Arc::new(before.iter().map(|g| to(*g)).collect()))).1,
            };
            self.full.push((Arc::clone(segment), Some(Arc::clone(map))));
        }
        let Segment { owners, values } = &other.last;
        let kept = || (0..owners.len()).filter(|i| to(owners[*i]) != u32::MAX);
        let values = match values {
            Numbers::Narrow(v) => Numbers::Narrow(kept().map(|i| v[i]).collect()),
            Numbers::Wide(v) => Numbers::Wide(kept().map(|i| v[i]).collect()),
        };
        let rest = Segment { owners: kept().map(|i| to(owners[i])).collect(), values };
        self.full.push((Arc::new(rest), None));
    }

    /// The narrow values of the groups with a place among `n`, by place; where each place begins. None where some are wide.
    fn narrow(&self, place: &[u32], n: usize) -> Option<(Vec<usize>, Vec<i64>)> {
        let values: Option<Vec<&[i64]>> = self.segments().map(|(s, _)| s.narrow()).collect();
        Some(self.arranged(values?.into_iter().map(Cow::Borrowed), place, n))
    }

    /// As [`Lists::narrow`], of 128 bits.
    fn wide(&self, place: &[u32], n: usize) -> (Vec<usize>, Vec<i128>) {
        self.arranged(self.segments().map(|(s, _)| s.wide()), place, n)
    }

    fn arranged<'a, T>(&self, values: impl Iterator<Item = Cow<'a, [T]>>, place: &[u32], n: usize) -> (Vec<usize>, Vec<T>)
    where
        T: Copy + Default + 'a,
    {
        let values: Vec<Cow<'a, [T]>> = values.collect();
        // Segments of one origin come one after the other, with one map.
        let mut places: Vec<(&Map, Vec<u32>)> = vec![];
        for (_, map) in self.segments() {
            if let Some(map) = map.filter(|m| places.last().is_none_or(|(last, _)| !Arc::ptr_eq(last, m))) {
                let through = |g: &u32| place.get(*g as usize).copied().unwrap_or(u32::MAX);
                places.push((map, map.iter().map(through).collect()));
            }
        }
        let of = |map: Option<&Map>| {
            let mapped = map.and_then(|m| places.iter().find(|(of, _)| Arc::ptr_eq(of, m)));
            mapped.map_or(place, |(_, p)| p)
        };
        let parts: Vec<_> = self.segments().zip(&values).map(|((s, map), v)| (&s.owners[..], &v[..], of(map))).collect();
        by_place(&parts, n)
    }

    /// The values of the groups with a place among `n`, by place, and where each place begins.
    pub(super) fn values(&self, place: &[u32], n: usize) -> (Vec<usize>, Vector) {
        let (bounds, values) = match self.narrow(place, n) {
            Some((bounds, v)) if self.is_float => (bounds, Values::F64(v.into_iter().map(float).collect::<Vec<_>>().into())),
            Some((bounds, v)) => (bounds, Values::I64(v.into())),
            None => {
                let (bounds, v) = self.wide(place, n);
                (bounds, Values::I128(v.into()))
            }
        };
        (bounds, Vector::new(values))
    }

    /// What is selected of each place; null where it has no values.
    pub(super) fn select(&self, selection: Selection, place: &[u32], n: usize) -> Result<Vector> {
        let (values, valid) = match (self.narrow(place, n), selection) {
            (Some(all), Selection::Quantile(f)) if self.is_float => {
                let (out, valid) = each(all, |g| quantile(g, f.get()));
                (Values::F64(out.into()), valid)
            }
            (_, Selection::Quantile(_)) => return Err(Error::bug("a quantile of what is no float")),
            (Some(all), Selection::Median) if self.is_float => {
                let (out, valid) = each(all, |g| {
                    let (low, high) = middle(g);
                    if low == high { float(low) } else { (float(low) + float(high)) / 2.0 }
                });
                (Values::F64(out.into()), valid)
            }
            (Some(all), Selection::Median) => {
                let (out, valid) = each(all, |g| {
                    let (low, high) = middle(g);
                    // Between two of 64 bits.
                    midpoint(low.into(), high.into()) as i64
                });
                (Values::I64(out.into()), valid)
            }
            (None, Selection::Median) => {
                let (out, valid) = each(self.wide(place, n), |g| {
                    let (low, high) = middle(g);
                    midpoint(low, high)
                });
                (Values::I128(out.into()), valid)
            }
        };
        let valid = valid.contains(&0).then(|| valid.into());
        Ok(Vector::with_valid(values, valid))
    }
}

fn append<S: Copy, T>(owners: &mut Vec<u32>, out: &mut Vec<T>, ids: &[u32], v: &[S], live: Option<&[u8]>, to: impl Fn(S) -> T) {
    let rows = ids.iter().zip(v);
    match live {
        None => {
            owners.extend_from_slice(ids);
            out.extend(rows.map(|(_, v)| to(*v)));
        }
        Some(live) => {
            for ((id, v), _) in rows.zip(live).filter(|(_, l)| **l != 0) {
                owners.push(*id);
                out.push(to(*v));
            }
        }
    }
}

/// `f` of each group's values; 0 and invalid of none.
fn each<T, R: Default>((bounds, mut values): (Vec<usize>, Vec<T>), f: impl Fn(&mut [T]) -> R) -> (Vec<R>, Vec<u8>) {
    let of = |w: &[usize]| match w {
        [from, until] if from < until => (f(&mut values[*from..*until]), 1),
        _ => (R::default(), 0),
    };
    bounds.windows(2).map(of).unzip()
}

/// The two values in the middle, of an odd number the same one twice.
fn middle<T: Copy + Ord>(values: &mut [T]) -> (T, T) {
    let n = values.len();
    let (below, high, _) = values.select_nth_unstable(n / 2);
    let high = *high;
    let low = if n.is_multiple_of(2) { below.iter().copied().max().unwrap_or(high) } else { high };
    (low, high)
}

/// Half of the sum, towards zero.
fn midpoint(a: i128, b: i128) -> i128 {
    match a.checked_add(b) {
        Some(sum) => sum / 2,
        // Both have one sign.
        None => a / 2 + b / 2 + (a % 2 + b % 2) / 2,
    }
}

/// As DataFusion interpolates: the weight of the upper value has six digits.
fn quantile(values: &mut [i64], fraction: f64) -> f64 {
    const DIGITS: f64 = 1_000_000.0;
    let at = fraction * (values.len() - 1) as f64;
    let (_, low, above) = values.select_nth_unstable(at as usize);
    let low = float(*low);
    let weight = (at.fract() * DIGITS).trunc() / DIGITS;
    match above.iter().min() {
        Some(high) if at.fract() > 0.0 => low + (float(*high) - low) * weight,
        _ => low,
    }
}

/// The integer whose order is the total order of floats.
pub(crate) fn ordered(v: f64) -> i64 {
    let bits = v.to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// The float that [`ordered`] made it of.
fn float(v: i64) -> f64 {
    f64::from_bits((v ^ (((v >> 63) as u64) >> 1) as i64) as u64)
}
