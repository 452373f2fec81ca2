//! What is computed of each group, one column of accumulators an aggregate.

use super::{Groups, KeyType};
use crate::boolean;
use crate::program::{AggregateOp, Type};
use crate::value::{Value, compare_f64};
use crate::vector::{Strings, Values, Vector};
use crate::{Error, Result, arith, simd};
use arrow::array::StringViewArray;

/// Accumulators of one aggregate over all groups.
pub struct State {
    op: AggregateOp,
    ty: Type,
    values: Accumulators,
    /// Per group whether a value came; absent while every group is known to have one.
    seen: Option<Vec<u8>>,
}

enum Accumulators {
    Count(Vec<i64>),
    /// Exact sum: `narrow` holds what was added since the last spill into `wide`, and `room` bounds
    /// how much more fits before 64 bits could overflow.
    Sum {
        narrow: Vec<i64>,
        wide: Option<Vec<i128>>,
        room: u64,
    },
    SumF64(Vec<f64>),
    Int(Vec<i64>),
    Wide(Vec<i128>),
    Float(Vec<f64>),
    Text(Vec<String>),
    /// The distinct (group, value) pairs, and how many each group has.
    Distinct {
        pairs: Groups,
        counts: Vec<i64>,
    },
}

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
    fn count_where(ids: &[u32], group: u32) -> u32 {
        let mut n = 0u32;
        for id in ids { n += (*id == group) as u32; }
        n
    }
}
simd! {
    fn widen(v: &[i32], out: &mut [i64]) {
        for (o, v) in out.iter_mut().zip(v) { *o = i64::from(*v); }
    }
}

/// Up to this many groups a pass over the chunk for each group beats a scattered addition.
const FEW_GROUPS: usize = 8;

impl State {
    /// No groups yet.
    ///
    /// # Errors
    /// `Unsupported` for an aggregate without kernel.
    pub fn new(op: AggregateOp, arg: KeyType) -> Result<Self> {
        let ty = arg.ty;
        let values = match (op, ty) {
            (_, Type::Any) if op != AggregateOp::Count => {
                return Err(Error::unsupported(format!("{op:?} of a type without kernels")));
            }
            (AggregateOp::Count, _) => Accumulators::Count(vec![]),
            (AggregateOp::CountDistinct, _) => {
                Accumulators::Distinct { pairs: Groups::new(&[KeyType::new(Type::I32, 0), arg]), counts: vec![] }
            }
            (AggregateOp::Sum, Type::F64) => Accumulators::SumF64(vec![]),
            (AggregateOp::Sum, Type::I32 | Type::I64 | Type::Decimal) => {
                Accumulators::Sum { narrow: vec![], wide: None, room: i64::MAX as u64 }
            }
            (AggregateOp::Min | AggregateOp::Max, Type::F64) => Accumulators::Float(vec![]),
            (AggregateOp::Min | AggregateOp::Max, Type::Str) => Accumulators::Text(vec![]),
            (AggregateOp::Min | AggregateOp::Max, _) => Accumulators::Int(vec![]),
            (op, ty) => return Err(Error::unsupported(format!("{op:?} of {ty:?}"))),
        };
        Ok(Self { op, ty, values, seen: None })
    }

    /// Bytes of memory held.
    pub fn size(&self) -> usize {
        self.seen.as_ref().map_or(0, Vec::capacity)
            + match &self.values {
                Accumulators::Count(v) | Accumulators::Int(v) => v.capacity() * 8,
                Accumulators::Sum { narrow, wide, .. } => narrow.capacity() * 8 + wide.as_ref().map_or(0, |w| w.capacity() * 16),
                Accumulators::SumF64(v) | Accumulators::Float(v) => v.capacity() * 8,
                Accumulators::Wide(v) => v.capacity() * 16,
                Accumulators::Text(v) => v.iter().map(|s| s.capacity() + 24).sum(),
                Accumulators::Distinct { pairs, counts } => pairs.size() + counts.capacity() * 8,
            }
    }

    fn len(&self) -> usize {
        match &self.values {
            Accumulators::Count(v) | Accumulators::Int(v) => v.len(),
            Accumulators::Sum { narrow, .. } => narrow.len(),
            Accumulators::SumF64(v) | Accumulators::Float(v) => v.len(),
            Accumulators::Wide(v) => v.len(),
            Accumulators::Text(v) => v.len(),
            Accumulators::Distinct { counts, .. } => counts.len(),
        }
    }

    /// Makes room for `groups` groups. A new Min or Max has no value: it is not seen.
    fn grow(&mut self, groups: usize) {
        let worst = if self.op == AggregateOp::Min { i64::MAX } else { i64::MIN };
        match &mut self.values {
            Accumulators::Count(v) => v.resize(groups, 0),
            Accumulators::Int(v) => v.resize(groups, worst),
            Accumulators::Wide(v) => v.resize(groups, if worst > 0 { i128::MAX } else { i128::MIN }),
            Accumulators::Sum { narrow, wide, .. } => {
                narrow.resize(groups, 0);
                if let Some(wide) = wide {
                    wide.resize(groups, 0);
                }
            }
            // The greatest float of the order is NaN, the least minus infinity.
            Accumulators::Float(v) => v.resize(groups, if worst > 0 { f64::NAN } else { f64::NEG_INFINITY }),
            Accumulators::SumF64(v) => v.resize(groups, 0.0),
            Accumulators::Text(v) => v.resize(groups, String::new()),
            Accumulators::Distinct { counts, .. } => counts.resize(groups, 0),
        }
    }

    /// Adds a chunk: row `i` belongs to group `ids[i]` of `groups`; `filter` keeps rows where it is true.
    ///
    /// # Errors
    /// `Invalid` when a sum leaves its type, `Bug` on a type the state was not made for.
    pub fn update(&mut self, ids: &[u32], groups: usize, arg: Option<&Vector>, filter: Option<&Vector>) -> Result<()> {
        let n = ids.len();
        let before = self.len();
        self.grow(groups);
        let live = live_rows(arg, filter, n)?;
        self.track_seen(ids, live.as_deref(), before, groups);
        let (Some(arg), false) = (arg, self.op == AggregateOp::Count) else {
            self.count(ids, groups, live.as_deref());
            return Ok(());
        };
        let expanded;
        let arg = if arg.constant {
            expanded = crate::gather::expand(arg, n)?;
            &expanded
        } else {
            arg
        };
        match self.op {
            AggregateOp::Sum => self.sum(ids, groups, arg, live.as_deref()),
            AggregateOp::CountDistinct => self.distinct(ids, arg, live.as_deref()),
            _ => self.extreme(ids, arg, live.as_deref()),
        }
    }

    /// Marks the groups that got a value. Groups born in a chunk without nulls or filter have one.
    fn track_seen(&mut self, ids: &[u32], live: Option<&[u8]>, before: usize, groups: usize) {
        let texts = matches!(self.values, Accumulators::Text(_));
        if live.is_some() || texts || self.seen.is_some() {
            let seen = self.seen.get_or_insert_with(|| vec![u8::from(!texts); before]);
            // Text marks its groups itself, when it stores the first value.
            seen.resize(groups, 0);
            if !texts {
                match live {
                    Some(live) => ids.iter().zip(live).for_each(|(g, l)| seen[*g as usize] |= l),
                    None => ids.iter().for_each(|g| seen[*g as usize] = 1),
                }
            }
        }
    }

    fn count(&mut self, ids: &[u32], groups: usize, live: Option<&[u8]>) {
        let Accumulators::Count(counts) = &mut self.values else { return };
        match live {
            Some(live) => ids.iter().zip(live).for_each(|(g, l)| counts[*g as usize] += i64::from(*l)),
            None if groups == 1 => counts[0] += ids.len() as i64,
            None if groups <= FEW_GROUPS => {
                (0..groups).for_each(|g| counts[g] += i64::from(count_where(ids, g as u32)));
            }
            None => ids.iter().for_each(|g| counts[*g as usize] += 1),
        }
    }

    fn sum(&mut self, ids: &[u32], groups: usize, arg: &Vector, live: Option<&[u8]>) -> Result<()> {
        let n = ids.len();
        match (&mut self.values, &arg.values) {
            (Accumulators::SumF64(sums), Values::F64(v)) => {
                for i in 0..n {
                    if live.is_none_or(|l| l[i] != 0) {
                        sums[ids[i] as usize] += v[i];
                    }
                }
                Ok(())
            }
            (Accumulators::Sum { narrow, wide, room }, Values::I128(v)) => {
                let wide = wide.get_or_insert_with(|| vec![0; groups]);
                spill(narrow, wide, room);
                for i in 0..n {
                    if live.is_none_or(|l| l[i] != 0) {
                        let slot = &mut wide[ids[i] as usize];
                        *slot = slot.checked_add(v[i]).ok_or_else(|| overflow("Decimal128"))?;
                    }
                }
                Ok(())
            }
            (Accumulators::Sum { narrow, wide, room }, values) => {
                let mut owned = vec![];
                let v: &[i64] = match values {
                    Values::I64(v) => &v[..n],
                    Values::I32(v) => {
                        owned.resize(n, 0);
                        widen(&v[..n], &mut owned);
                        &owned
                    }
                    _ => return Err(Error::bug("sum of a register that is no number")),
                };
                let masked;
                let v = match live {
                    Some(live) => {
                        masked = v.iter().zip(live).map(|(v, l)| if *l != 0 { *v } else { 0 }).collect::<Vec<_>>();
                        &masked
                    }
                    None => v,
                };
                let (lo, hi) = arith::range_i64(v);
                let worst = if n == 0 { 0 } else { lo.unsigned_abs().max(hi.unsigned_abs()) };
                match worst.checked_mul(n as u64) {
                    Some(most) if most <= i64::MAX as u64 => {
                        if most > *room {
                            spill(narrow, wide.get_or_insert_with(|| vec![0; groups]), room);
                        }
                        *room -= most;
                        add(narrow, ids, groups, v);
                    }
                    _ => {
                        let wide = wide.get_or_insert_with(|| vec![0; groups]);
                        ids.iter().zip(v).for_each(|(g, v)| wide[*g as usize] += i128::from(*v));
                    }
                }
                Ok(())
            }
            _ => Err(Error::bug("sum of a register that is no number")),
        }
    }

    fn distinct(&mut self, ids: &[u32], arg: &Vector, live: Option<&[u8]>) -> Result<()> {
        let Accumulators::Distinct { pairs, counts } = &mut self.values else { return Ok(()) };
        let rows: Vec<u32> = (0..ids.len() as u32).filter(|i| live.is_none_or(|l| l[*i as usize] != 0)).collect();
        let groups = Vector::new(Values::I32(rows.iter().map(|r| ids[*r as usize] as i32).collect::<Vec<_>>().into()));
        let values = crate::gather::gather(arg, &rows)?;
        let before = pairs.len();
        let mut out = vec![];
        pairs.ids(&[&groups, &values], rows.len(), &mut out)?;
        let Values::I32(group) = &groups.values else { return Ok(()) };
        let mut next = before as u32;
        for (i, id) in out.iter().enumerate() {
            if *id == next {
                counts[group[i] as usize] += 1;
                next += 1;
            }
        }
        Ok(())
    }

    fn extreme(&mut self, ids: &[u32], arg: &Vector, live: Option<&[u8]>) -> Result<()> {
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
                for (i, g) in ids.iter().enumerate().filter(|(i, _)| is_live(*i)) {
                    let slot = &mut best[*g as usize];
                    if compare_f64(v[i], *slot).is_lt() == min {
                        *slot = v[i];
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

    /// Adds the accumulators of `other`: its group `from[i]` is group `to[i]` of `groups` here.
    ///
    /// # Errors
    /// As [`State::update`].
    pub fn merge(&mut self, other: &State, from: &[u32], to: &[u32], groups: usize) -> Result<()> {
        if other.len() == 0 {
            // A worker that met no row: its groups, if it has any, have no values.
            return Ok(());
        }
        if let (Accumulators::Distinct { .. }, Accumulators::Distinct { pairs, .. }) = (&self.values, &other.values) {
            let mut map = vec![u32::MAX; other.len()];
            from.iter().zip(to).for_each(|(f, t)| map[*f as usize] = *t);
            let all: Vec<u32> = (0..pairs.len() as u32).collect();
            let owner = pairs.key(0, &all)?;
            let mapped = |p: &u32| match &owner.values {
                Values::I32(v) => map[v[*p as usize] as usize],
                _ => u32::MAX,
            };
            let kept: Vec<u32> = all.iter().copied().filter(|p| mapped(p) != u32::MAX).collect();
            let ids: Vec<u32> = kept.iter().map(mapped).collect();
            let values = pairs.key(1, &kept)?;
            return self.update(&ids, groups, Some(&values), None);
        }
        self.merge_raw(&other.raw(from)?, to, groups)
    }

    /// Adds raw accumulators: row `i` of `column` is of group `to[i]` of `groups`.
    ///
    /// # Errors
    /// As [`State::update`].
    pub fn merge_raw(&mut self, column: &Vector, to: &[u32], groups: usize) -> Result<()> {
        if let Accumulators::Count(counts) = &mut self.values {
            counts.resize(groups, 0);
            if let Values::I64(v) = &column.values {
                to.iter().zip(v.iter()).for_each(|(t, v)| counts[*t as usize] += v);
            }
            return Ok(());
        }
        self.update(to, groups, Some(column), None)
    }

    /// The distinct values of the groups `ids`: for each its place in `ids`, ascending, and the value. None
    /// for an aggregate that keeps none.
    ///
    /// # Errors
    /// As [`Groups::key`].
    pub fn distinct_values(&self, ids: &[u32]) -> Result<Option<(Vec<u32>, Vector)>> {
        let Accumulators::Distinct { pairs, .. } = &self.values else { return Ok(None) };
        let mut place = vec![u32::MAX; self.len()];
        ids.iter().enumerate().filter(|(_, g)| (**g as usize) < self.len()).for_each(|(i, g)| place[*g as usize] = i as u32);
        let all: Vec<u32> = (0..pairs.len() as u32).collect();
        let owner = pairs.key(0, &all)?;
        let Values::I32(owner) = &owner.values else { return Err(Error::bug("pairs without a group")) };
        let mut kept: Vec<(u32, u32)> = all.iter().map(|p| (place[owner[*p as usize] as usize], *p)).filter(|k| k.0 != u32::MAX).collect();
        kept.sort_unstable();
        let values = pairs.key(1, &kept.iter().map(|k| k.1).collect::<Vec<_>>())?;
        Ok(Some((kept.into_iter().map(|k| k.0).collect(), values)))
    }

    /// Adds results computed elsewhere: `results[i]` is of rows that belong to group `ids[i]` of
    /// `groups`; none where no value counted. Integers only.
    ///
    /// # Errors
    /// As [`State::update`].
    pub fn absorb(&mut self, ids: &[u32], groups: usize, results: &[Option<i128>]) -> Result<()> {
        if let Accumulators::Count(counts) = &mut self.values {
            counts.resize(groups, 0);
            for (g, n) in ids.iter().zip(results) {
                counts[*g as usize] += i64::try_from(n.unwrap_or(0)).map_err(Error::bug)?;
            }
            return Ok(());
        }
        let narrow: Option<Vec<i64>> = results.iter().map(|v| i64::try_from(v.unwrap_or(0)).ok()).collect();
        let values = match narrow {
            Some(v) => Values::I64(v.into()),
            None => Values::I128(results.iter().map(|v| v.unwrap_or(0)).collect::<Vec<_>>().into()),
        };
        let valid: Vec<u8> = results.iter().map(|v| u8::from(v.is_some())).collect();
        let valid = valid.contains(&0).then(|| valid.into());
        self.update(ids, groups, Some(&Vector::with_valid(values, valid)), None)
    }

    /// The result of each group of `ids`, sums at full width.
    ///
    /// # Errors
    /// None so far.
    pub fn raw(&self, ids: &[u32]) -> Result<Vector> {
        let at = |g: &u32| *g as usize;
        let values = match &self.values {
            Accumulators::Count(v) | Accumulators::Int(v) => Values::I64(ids.iter().map(|g| v[at(g)]).collect::<Vec<_>>().into()),
            Accumulators::Sum { narrow, wide: None, .. } => Values::I64(ids.iter().map(|g| narrow[at(g)]).collect::<Vec<_>>().into()),
            Accumulators::Sum { narrow, wide: Some(wide), .. } => {
                Values::I128(ids.iter().map(|g| wide[at(g)] + i128::from(narrow[at(g)])).collect::<Vec<_>>().into())
            }
            Accumulators::SumF64(v) | Accumulators::Float(v) => Values::F64(ids.iter().map(|g| v[at(g)]).collect::<Vec<_>>().into()),
            Accumulators::Wide(v) => Values::I128(ids.iter().map(|g| v[at(g)]).collect::<Vec<_>>().into()),
            Accumulators::Text(v) => Values::Str(Strings::View(StringViewArray::from_iter_values(ids.iter().map(|g| v[at(g)].as_str())))),
            Accumulators::Distinct { counts, .. } => Values::I64(ids.iter().map(|g| counts[at(g)]).collect::<Vec<_>>().into()),
        };
        let counts = matches!(self.values, Accumulators::Count(_) | Accumulators::Distinct { .. });
        let valid = self.seen.as_ref().filter(|_| !counts).map(|s| ids.iter().map(|g| s[at(g)]).collect::<Vec<_>>().into());
        Ok(Vector::with_valid(values, valid))
    }

    /// The result of each group of `ids`; groups that the state has not met count as without values.
    /// An integer sum that does not fit 64 bits is an error if `checked`, else it wraps.
    ///
    /// # Errors
    /// `Invalid` on overflow of the sum's type.
    pub fn finish(&mut self, ids: &[u32], groups: usize, checked: bool) -> Result<Vector> {
        if self.len() < groups {
            let before = self.len();
            self.seen.get_or_insert_with(|| vec![1; before]).resize(groups, 0);
            self.grow(groups);
        }
        let out = self.raw(ids)?;
        let values = match (&out.values, self.op, self.ty) {
            (Values::I128(v), AggregateOp::Sum, Type::I32 | Type::I64) => {
                let narrow = v.iter().map(|v| match i64::try_from(*v) {
                    Err(_) if checked => Err(overflow("Int64")),
                    _ => Ok(*v as i64),
                });
                Values::I64(narrow.collect::<Result<Vec<_>>>()?.into())
            }
            (Values::I64(v), AggregateOp::Min | AggregateOp::Max, Type::I32) => {
                Values::I32(v.iter().map(|v| *v as i32).collect::<Vec<_>>().into())
            }
            (Values::I64(v), AggregateOp::Min | AggregateOp::Max, Type::Bool) => {
                Values::Bool(v.iter().map(|v| u8::from(*v == 1)).collect::<Vec<_>>().into())
            }
            _ => return Ok(out),
        };
        Ok(Vector::with_valid(values, out.valid))
    }

    /// Result of group `g`, for tests and single groups.
    ///
    /// # Errors
    /// As [`State::finish`].
    pub fn value(&mut self, g: u32, groups: usize) -> Result<Value> {
        self.finish(&[g], groups, true)?.value(0)
    }
}

fn overflow(ty: &str) -> Error {
    Error::invalid(format!("arithmetic overflow: a sum does not fit {ty}"))
}

/// The worst value of 64 bits becomes the worst of 128.
fn widen_extreme(v: i64, min: bool) -> i128 {
    match (v, min) {
        (i64::MAX, true) => i128::MAX,
        (i64::MIN, false) => i128::MIN,
        (v, _) => v.into(),
    }
}

fn spill(narrow: &mut [i64], wide: &mut Vec<i128>, room: &mut u64) {
    wide.resize(narrow.len(), 0);
    wide.iter_mut().zip(narrow).for_each(|(w, n)| *w += i128::from(std::mem::take(n)));
    *room = i64::MAX as u64;
}

fn add(sums: &mut [i64], ids: &[u32], groups: usize, v: &[i64]) {
    if groups == 1 {
        sums[0] += sum_all(v);
    } else if groups <= FEW_GROUPS {
        (0..groups).for_each(|g| sums[g] += sum_where(v, ids, g as u32));
    } else {
        ids.iter().zip(v).for_each(|(g, v)| sums[*g as usize] += v);
    }
}

/// 1 where the row counts: its argument is valid and its filter true. Absent when all do.
fn live_rows(arg: Option<&Vector>, filter: Option<&Vector>, n: usize) -> Result<Option<Vec<u8>>> {
    let valid = arg.and_then(|a| match &a.values {
        Values::Any(x) => Some((0..n).map(|i| u8::from(!x.is_null(a.at(i)))).collect()),
        _ => boolean::validity(a, n),
    });
    let Some(filter) = filter else { return Ok(valid) };
    let mut mask = boolean::is_true(filter, n)?;
    if let Some(valid) = valid {
        mask.iter_mut().zip(&valid).for_each(|(m, v)| *m &= v);
    }
    Ok(Some(mask))
}
