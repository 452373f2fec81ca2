//! What is computed of each group, one column of accumulators an aggregate.

mod collected;
mod dense;
mod extreme;
mod lists;
mod moments;
mod pick;
mod rank;
mod sum;

use super::{Groups, KeyType};
use crate::boolean;
use crate::program::{AggregateOp, Type};
use crate::value::Value;
use crate::vector::{Strings, Values, Vector};
use crate::{Error, Result, simd};
use arrow::array::StringViewArray;
use collected::Collected;
pub use dense::add_present;
use extreme::widen_extreme;
use lists::{Lists, Selection};
use moments::{Joint, Spread};
use pick::Picks;
pub(super) use rank::ranks;
use sum::Sums;

/// Accumulators of one aggregate over all groups.
pub struct State {
    op: AggregateOp,
    ty: Type,
    values: Accumulators,
    /// Per group whether a value came; absent while every group is known to have one.
    seen: Option<Vec<u8>>,
}

/// What a state holds of some groups, to be merged into another one.
#[derive(Clone, Debug)]
pub enum Raw {
    /// Columns with a row for each group.
    Rows(Vec<Vector>),
    /// Rows of values, and the group of each: its place among those asked for, ascending.
    Lists {
        /// The place of each row's group.
        groups: Vec<u32>,
        /// The values; of lists in an order the keys behind them.
        columns: Vec<Vector>,
    },
}

enum Accumulators {
    Count(Vec<i64>),
    Sum(Sums),
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
    Spread(Vec<Spread>),
    Joint(Vec<Joint>),
    /// All values, and how many groups there are.
    Lists(Lists, usize),
    /// As `Lists`, of any type.
    Collected(Collected, usize),
    Picks(Picks),
}

simd! {
    fn count_where(ids: &[u32], group: u32) -> u32 {
        let mut n = 0u32;
        for id in ids { n += (*id == group) as u32; }
        n
    }
}

/// Up to this many groups a pass over the chunk for each group beats a scattered addition.
const FEW_GROUPS: usize = 8;

impl State {
    /// No groups yet of an aggregate whose arguments are of type `arg`.
    ///
    /// # Errors
    /// `Unsupported` for an aggregate without kernel.
    pub fn new(op: AggregateOp, arg: KeyType) -> Result<Self> {
        use AggregateOp::*;
        let ty = arg.ty;
        let values = match (op, ty) {
            (Count, _) => Accumulators::Count(vec![]),
            (_, Type::Any) => return Err(Error::unsupported(format!("{op:?} of a type without kernels"))),
            (CountDistinct, _) => Accumulators::Distinct { pairs: Groups::new(&[KeyType::new(Type::I32, 0), arg]), counts: vec![] },
            (Sum, Type::F64) => Accumulators::SumF64(vec![]),
            (Sum, Type::I32 | Type::I64 | Type::Decimal) => Accumulators::Sum(Sums::new()),
            (Min | Max, Type::F64) => Accumulators::Float(vec![]),
            (Min | Max, Type::Str) => Accumulators::Text(vec![]),
            (Min | Max, _) | (BitAnd | BitOr | BitXor, Type::I32 | Type::I64) => Accumulators::Int(vec![]),
            (Moment(m), Type::F64) if m.arguments() == 1 => Accumulators::Spread(vec![]),
            (Moment(_), Type::F64) => Accumulators::Joint(vec![]),
            (Median, Type::F64 | Type::Decimal) | (Quantile(_), Type::F64) => Accumulators::Lists(Lists::new(ty == Type::F64), 0),
            (Pick(p), ty) => Accumulators::Picks(Picks::new(p, ty)),
            (List(l), ty) => Accumulators::Collected(Collected::new(l, ty), 0),
            (op, ty) => return Err(Error::unsupported(format!("{op:?} of {ty:?}"))),
        };
        Ok(Self { op, ty, values, seen: None })
    }

    /// Bytes of memory held.
    pub fn size(&self) -> usize {
        self.seen.as_ref().map_or(0, Vec::capacity)
            + match &self.values {
                Accumulators::Count(v) | Accumulators::Int(v) => v.capacity() * 8,
                Accumulators::Sum(sums) => sums.size(),
                Accumulators::SumF64(v) | Accumulators::Float(v) => v.capacity() * 8,
                Accumulators::Wide(v) => v.capacity() * 16,
                Accumulators::Text(v) => v.iter().map(|s| s.capacity() + 24).sum(),
                Accumulators::Distinct { pairs, counts } => pairs.size() + counts.capacity() * 8,
                Accumulators::Spread(v) => v.capacity() * size_of::<Spread>(),
                Accumulators::Joint(v) => v.capacity() * size_of::<Joint>(),
                Accumulators::Lists(lists, _) => lists.size(),
                Accumulators::Collected(values, _) => values.size(),
                Accumulators::Picks(picks) => picks.size(),
            }
    }

    /// How many values it keeps beside one accumulator a group.
    pub fn listed(&self) -> usize {
        match &self.values {
            Accumulators::Lists(lists, _) => lists.len(),
            Accumulators::Collected(values, _) => values.len(),
            _ => 0,
        }
    }

    fn len(&self) -> usize {
        match &self.values {
            Accumulators::Count(v) | Accumulators::Int(v) => v.len(),
            Accumulators::Sum(sums) => sums.len(),
            Accumulators::SumF64(v) | Accumulators::Float(v) => v.len(),
            Accumulators::Wide(v) => v.len(),
            Accumulators::Text(v) => v.len(),
            Accumulators::Distinct { counts, .. } => counts.len(),
            Accumulators::Spread(v) => v.len(),
            Accumulators::Joint(v) => v.len(),
            Accumulators::Lists(_, groups) | Accumulators::Collected(_, groups) => *groups,
            Accumulators::Picks(picks) => picks.len(),
        }
    }

    /// Makes room for `groups` groups. A new one has what changes no value that comes: it is not seen.
    fn grow(&mut self, groups: usize) {
        let least = self.op == AggregateOp::Min;
        let neutral = match self.op {
            AggregateOp::Min => i64::MAX,
            AggregateOp::Max => i64::MIN,
            AggregateOp::BitAnd => -1,
            _ => 0,
        };
        match &mut self.values {
            Accumulators::Count(v) => v.resize(groups, 0),
            Accumulators::Int(v) => v.resize(groups, neutral),
            Accumulators::Wide(v) => v.resize(groups, widen_extreme(neutral, least)),
            Accumulators::Sum(sums) => sums.grow(groups),
            // The greatest float of the order is NaN, the least minus infinity.
            Accumulators::Float(v) => v.resize(groups, if least { f64::NAN } else { f64::NEG_INFINITY }),
            Accumulators::SumF64(v) => v.resize(groups, 0.0),
            Accumulators::Text(v) => v.resize(groups, String::new()),
            Accumulators::Distinct { counts, .. } => counts.resize(groups, 0),
            Accumulators::Spread(v) => v.resize(groups, Spread::default()),
            Accumulators::Joint(v) => v.resize(groups, Joint::default()),
            Accumulators::Lists(_, n) | Accumulators::Collected(_, n) => *n = groups,
            Accumulators::Picks(picks) => picks.grow(groups),
        }
    }

    /// Adds a chunk: row `i` belongs to group `ids[i]` of `groups`; `filter` keeps rows where it is true.
    /// Of several arguments none may be null, but for a value that is picked or listed and its keys.
    ///
    /// # Errors
    /// `Invalid` when a sum leaves its type, `Bug` on a type the state was not made for.
    pub fn update(&mut self, ids: &[u32], groups: usize, args: &[&Vector], filter: Option<&Vector>) -> Result<()> {
        let n = ids.len();
        let before = self.len();
        self.grow(groups);
        let required = match &self.values {
            Accumulators::Picks(picks) => picks.required(args),
            Accumulators::Collected(values, _) => values.required(args),
            _ => args,
        };
        let live = live_rows(required, filter, n)?;
        let live = live.as_deref();
        self.track_seen(ids, live, before, groups);
        if let Accumulators::Count(counts) = &mut self.values {
            count(counts, ids, groups, live);
            return Ok(());
        }
        let expanded = args.iter().filter(|a| a.constant).map(|a| crate::gather::expand(a, n)).collect::<Result<Vec<_>>>()?;
        let mut next = expanded.iter();
        let args: Vec<&Vector> = args.iter().map(|a| if a.constant { next.next().unwrap_or(a) } else { a }).collect();
        match (&mut self.values, &args[..]) {
            (Accumulators::Picks(picks), args) => picks.add(ids, args, live),
            (Accumulators::Collected(values, _), args) => values.add(ids, args, live),
            (Accumulators::Joint(v), [y, x]) => joint(v, ids, y, x, live),
            (Accumulators::Spread(v), [arg]) => spread(v, ids, arg, live),
            (Accumulators::Lists(lists, _), [arg]) => lists.add(ids, arg, live),
            (Accumulators::Sum(sums), [arg]) => sums.add(ids, groups, arg, live),
            (Accumulators::SumF64(sums), [arg]) => sum_floats(sums, ids, arg, live),
            (Accumulators::Distinct { pairs, counts }, [arg]) => distinct(pairs, counts, ids, arg, live),
            (Accumulators::Int(v), [arg]) if !matches!(self.op, AggregateOp::Min | AggregateOp::Max) => bits(self.op, v, ids, arg, live),
            (_, [arg]) => self.extreme(ids, arg, live),
            _ => Err(Error::bug(format!("{:?} of {} arguments", self.op, args.len()))),
        }
    }

    /// Whether a group without values is null, and nothing but `seen` tells it from others.
    fn is_tracked(&self) -> bool {
        use Accumulators::*;
        !matches!(self.values, Count(_) | Distinct { .. } | Spread(_) | Joint(_) | Lists(..) | Collected(..) | Picks(_))
    }

    /// Marks the groups that got a value. Groups born in a chunk without nulls or filter have one.
    fn track_seen(&mut self, ids: &[u32], live: Option<&[u8]>, before: usize, groups: usize) {
        let texts = matches!(self.values, Accumulators::Text(_));
        if self.is_tracked() && (live.is_some() || texts || self.seen.is_some()) {
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

    /// Adds the accumulators of `other`: its group `from[i]` is group `to[i]` of `groups` here.
    ///
    /// # Errors
    /// As [`State::update`].
    pub fn merge(&mut self, other: &State, from: &[u32], to: &[u32], groups: usize) -> Result<()> {
        if other.len() == 0 {
            // A worker that met no row: its groups, if it has any, have no values.
            return Ok(());
        }
        let map = || {
            let mut map = vec![u32::MAX; other.len()];
            from.iter().zip(to).for_each(|(f, t)| map[*f as usize] = *t);
            map
        };
        match (&mut self.values, &other.values) {
            (Accumulators::Lists(lists, n), Accumulators::Lists(more, _)) => {
                *n = groups;
                lists.merge(more, map());
                Ok(())
            }
            (Accumulators::Collected(values, n), Accumulators::Collected(more, _)) => {
                *n = groups;
                values.merge(more, &map())
            }
            (Accumulators::Distinct { .. }, Accumulators::Distinct { pairs, .. }) => {
                let map = map();
                let all: Vec<u32> = (0..pairs.len() as u32).collect();
                let owner = pairs.key(0, &all)?;
                let Values::I32(owner) = &owner.values else { return Err(Error::bug("pairs without a group")) };
                let mapped = |p: &u32| map[owner[*p as usize] as usize];
                let kept: Vec<u32> = all.into_iter().filter(|p| mapped(p) != u32::MAX).collect();
                let ids: Vec<u32> = kept.iter().map(mapped).collect();
                self.update(&ids, groups, &[&pairs.key(1, &kept)?], None)
            }
            _ => self.merge_raw(&other.raw(from)?, to, groups),
        }
    }

    /// Adds what another state held: its group `i` is group `to[i]` of `groups`.
    ///
    /// # Errors
    /// As [`State::update`].
    pub fn merge_raw(&mut self, raw: &Raw, to: &[u32], groups: usize) -> Result<()> {
        let columns = match raw {
            Raw::Rows(columns) => columns,
            Raw::Lists { groups: of, columns } => {
                let ids: Vec<u32> = of.iter().map(|g| to[*g as usize]).collect();
                if let Accumulators::Collected(values, n) = &mut self.values {
                    *n = groups;
                    return values.merge_columns(&ids, columns);
                }
                return self.update(&ids, groups, &columns.iter().collect::<Vec<_>>(), None);
            }
        };
        match &mut self.values {
            Accumulators::Count(counts) => {
                counts.resize(groups, 0);
                if let [Vector { values: Values::I64(v), .. }] = &columns[..] {
                    to.iter().zip(v.iter()).for_each(|(t, v)| counts[*t as usize] += v);
                }
                Ok(())
            }
            Accumulators::Spread(all) => {
                all.resize(groups, Spread::default());
                let parts = floats::<3>(columns)?;
                to.iter().enumerate().for_each(|(i, t)| all[*t as usize].merge(&Spread::of(parts.map(|p| p[i]))));
                Ok(())
            }
            Accumulators::Joint(all) => {
                all.resize(groups, Joint::default());
                let parts = floats::<6>(columns)?;
                to.iter().enumerate().for_each(|(i, t)| all[*t as usize].merge(&Joint::of(parts.map(|p| p[i]))));
                Ok(())
            }
            Accumulators::Picks(picks) => {
                picks.grow(groups);
                picks.merge(to, columns)
            }
            _ => self.update(to, groups, &columns.iter().collect::<Vec<_>>(), None),
        }
    }

    /// What it holds of the groups `ids`.
    ///
    /// # Errors
    /// As [`Groups::key`].
    pub fn raw(&self, ids: &[u32]) -> Result<Raw> {
        let columns = |parts: Vec<Vec<f64>>| Raw::Rows(parts.into_iter().map(|p| Vector::new(Values::F64(p.into()))).collect());
        Ok(match &self.values {
            Accumulators::Spread(v) => columns(transposed(ids.iter().map(|g| v[*g as usize].parts()))),
            Accumulators::Joint(v) => columns(transposed(ids.iter().map(|g| v[*g as usize].parts()))),
            Accumulators::Lists(lists, n) => {
                let (bounds, values) = lists.values(&places(ids, *n), ids.len());
                Raw::Lists { groups: owners(&bounds), columns: vec![values] }
            }
            Accumulators::Collected(values, n) => {
                let (bounds, columns) = values.columns(&places(ids, *n), ids.len())?;
                Raw::Lists { groups: owners(&bounds), columns }
            }
            Accumulators::Distinct { pairs, counts } => {
                let all: Vec<u32> = (0..pairs.len() as u32).collect();
                let owner = pairs.key(0, &all)?;
                let Values::I32(owner) = &owner.values else { return Err(Error::bug("pairs without a group")) };
                let owner: Vec<u32> = owner.iter().map(|g| *g as u32).collect();
                let (bounds, kept) = by_place(&[(&owner, &all, &places(ids, counts.len()))], ids.len());
                Raw::Lists { groups: owners(&bounds), columns: vec![pairs.key(1, &kept)?] }
            }
            Accumulators::Picks(picks) => Raw::Rows(picks.columns(ids)),
            _ => Raw::Rows(vec![self.results(ids)?]),
        })
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
        self.update(ids, groups, &[&Vector::with_valid(values, valid)], None)
    }

    /// The result of each group of `ids`, sums at full width.
    fn results(&self, ids: &[u32]) -> Result<Vector> {
        let at = |g: &u32| *g as usize;
        let optional = |of: Vec<Option<f64>>| {
            let valid = of.contains(&None).then(|| of.iter().map(|v| u8::from(v.is_some())).collect::<Vec<_>>().into());
            Ok(Vector::with_valid(Values::F64(of.into_iter().map(|v| v.unwrap_or(0.0)).collect::<Vec<_>>().into()), valid))
        };
        let values = match (&self.values, self.op) {
            (Accumulators::Spread(v), AggregateOp::Moment(m)) => return optional(ids.iter().map(|g| v[at(g)].result(m)).collect()),
            (Accumulators::Joint(v), AggregateOp::Moment(m)) => return optional(ids.iter().map(|g| v[at(g)].result(m)).collect()),
            (Accumulators::Lists(lists, n), op) => {
                let selection = if let AggregateOp::Quantile(f) = op { Selection::Quantile(f) } else { Selection::Median };
                return lists.select(selection, &places(ids, *n), ids.len());
            }
            (Accumulators::Picks(picks), _) => return Ok(picks.values(ids)),
            (Accumulators::Collected(..), _) => return Err(Error::bug("lists are no results of one value")),
            (Accumulators::Spread(_) | Accumulators::Joint(_), op) => return Err(Error::bug(format!("{op:?} over moments"))),
            (Accumulators::Count(v) | Accumulators::Int(v), _) => Values::I64(ids.iter().map(|g| v[at(g)]).collect::<Vec<_>>().into()),
            (Accumulators::Sum(sums), _) => sums.values(ids),
            (Accumulators::SumF64(v) | Accumulators::Float(v), _) => Values::F64(ids.iter().map(|g| v[at(g)]).collect::<Vec<_>>().into()),
            (Accumulators::Wide(v), _) => Values::I128(ids.iter().map(|g| v[at(g)]).collect::<Vec<_>>().into()),
            (Accumulators::Text(v), _) => {
                Values::Str(Strings::View(StringViewArray::from_iter_values(ids.iter().map(|g| v[at(g)].as_str()))))
            }
            (Accumulators::Distinct { counts, .. }, _) => Values::I64(ids.iter().map(|g| counts[at(g)]).collect::<Vec<_>>().into()),
        };
        let valid = self.seen.as_ref().map(|s| ids.iter().map(|g| s[at(g)]).collect::<Vec<_>>().into());
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
            if self.is_tracked() {
                self.seen.get_or_insert_with(|| vec![1; before]).resize(groups, 0);
            }
            self.grow(groups);
        }
        let out = self.results(ids)?;
        let counts = matches!(self.op, AggregateOp::Count | AggregateOp::CountDistinct);
        let values = match (&out.values, self.op, self.ty) {
            (Values::I128(v), AggregateOp::Sum, Type::I32 | Type::I64) => {
                let narrow = v.iter().map(|v| match i64::try_from(*v) {
                    Err(_) if checked => Err(overflow("Int64")),
                    _ => Ok(*v as i64),
                });
                Values::I64(narrow.collect::<Result<Vec<_>>>()?.into())
            }
            // A sum of 32 bits has 64; whatever else an integer comes of has its type.
            (Values::I64(v), op, Type::I32) if op != AggregateOp::Sum && !counts => {
                Values::I32(v.iter().map(|v| *v as i32).collect::<Vec<_>>().into())
            }
            (Values::I64(v), _, Type::Bool) if !counts => Values::Bool(v.iter().map(|v| u8::from(*v == 1)).collect::<Vec<_>>().into()),
            _ => return Ok(out),
        };
        Ok(Vector::with_valid(values, out.valid))
    }

    /// The values of each group of `ids`, in their order, of a state that lists them; where each group's begin, and
    /// at the end the end.
    ///
    /// # Errors
    /// `Bug` for another state.
    pub fn lists(&self, ids: &[u32]) -> Result<(Vec<usize>, Vector)> {
        match &self.values {
            Accumulators::Collected(values, n) => values.lists(&places(ids, *n), ids.len()),
            _ => Err(Error::bug(format!("no lists of {:?}", self.op))),
        }
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

fn count(counts: &mut [i64], ids: &[u32], groups: usize, live: Option<&[u8]>) {
    match live {
        Some(live) => ids.iter().zip(live).for_each(|(g, l)| counts[*g as usize] += i64::from(*l)),
        None if groups == 1 => counts[0] += ids.len() as i64,
        None if groups <= FEW_GROUPS => (0..groups).for_each(|g| counts[g] += i64::from(count_where(ids, g as u32))),
        None => ids.iter().for_each(|g| counts[*g as usize] += 1),
    }
}

fn sum_floats(sums: &mut [f64], ids: &[u32], arg: &Vector, live: Option<&[u8]>) -> Result<()> {
    each_float(ids, arg, live, |g, v| sums[g] += v)
}

fn spread(all: &mut [Spread], ids: &[u32], arg: &Vector, live: Option<&[u8]>) -> Result<()> {
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

fn joint(all: &mut [Joint], ids: &[u32], y: &Vector, x: &Vector, live: Option<&[u8]>) -> Result<()> {
    let (Values::F64(y), Values::F64(x)) = (&y.values, &x.values) else { return Err(Error::bug("floats expected")) };
    let rows = ids.iter().zip(y.iter().zip(x.iter()));
    match live {
        None => rows.for_each(|(g, (y, x))| all[*g as usize].add(*y, *x)),
        Some(live) => rows.zip(live).filter(|(_, l)| **l != 0).for_each(|((g, (y, x)), _)| all[*g as usize].add(*y, *x)),
    }
    Ok(())
}

fn bits(op: AggregateOp, all: &mut [i64], ids: &[u32], arg: &Vector, live: Option<&[u8]>) -> Result<()> {
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

fn distinct(pairs: &mut Groups, counts: &mut [i64], ids: &[u32], arg: &Vector, live: Option<&[u8]>) -> Result<()> {
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

/// For each of `groups` groups its place in `ids`, or none.
fn places(ids: &[u32], groups: usize) -> Vec<u32> {
    let mut place = vec![u32::MAX; groups];
    ids.iter().enumerate().filter(|(_, g)| (**g as usize) < groups).for_each(|(i, g)| place[*g as usize] = i as u32);
    place
}

/// The values whose group has a place among `n`, by place and in the order they came, and where each place
/// begins; at the end the end. A part has the group of each value, the values, and the place of each group.
fn by_place<T: Copy + Default>(parts: &[(&[u32], &[T], &[u32])], n: usize) -> (Vec<usize>, Vec<T>) {
    // Those without a place are counted behind all others.
    let at = |place: &[u32], owner: u32| (place[owner as usize] as usize).min(n);
    let mut bounds = vec![0usize; n + 2];
    for (owners, _, place) in parts {
        owners.iter().for_each(|o| bounds[at(place, *o) + 1] += 1);
    }
    (0..=n).for_each(|p| bounds[p + 1] += bounds[p]);
    let mut next = bounds.clone();
    let end = bounds[n];
    let mut out = vec![T::default(); end + 1];
    for (owners, values, place) in parts {
        for (o, v) in owners.iter().zip(*values) {
            let slot = &mut next[at(place, *o)];
            // Nobody can foretell which have none: no branch.
            out[(*slot).min(end)] = *v;
            *slot += 1;
        }
    }
    bounds.truncate(n + 1);
    out.truncate(end);
    (bounds, out)
}

/// The place of each value, of places that begin here.
fn owners(bounds: &[usize]) -> Vec<u32> {
    bounds.windows(2).enumerate().flat_map(|(g, w)| std::iter::repeat_n(g as u32, w[1] - w[0])).collect()
}

/// Rows of floats as columns.
fn transposed<const N: usize>(rows: impl Iterator<Item = [f64; N]>) -> Vec<Vec<f64>> {
    let mut columns = vec![vec![]; N];
    rows.for_each(|r| columns.iter_mut().zip(r).for_each(|(c, v)| c.push(v)));
    columns
}

fn floats<const N: usize>(columns: &[Vector]) -> Result<[&[f64]; N]> {
    let all: Option<Vec<&[f64]>> = columns.iter().map(|c| if let Values::F64(v) = &c.values { Some(&v[..]) } else { None }).collect();
    all.and_then(|all| all.try_into().ok()).ok_or_else(|| Error::bug(format!("{N} columns of floats expected")))
}

/// 1 where the row counts: its arguments are valid and its filter true. Absent when all do.
fn live_rows(args: &[&Vector], filter: Option<&Vector>, n: usize) -> Result<Option<Vec<u8>>> {
    let valid = |a: &&Vector| match &a.values {
        Values::Any(x) => Some((0..n).map(|i| u8::from(!x.is_null(a.at(i)))).collect()),
        _ => boolean::validity(a, n),
    };
    let filter = filter.map(|f| boolean::is_true(f, n)).transpose()?;
    Ok(args.iter().filter_map(valid).chain(filter).reduce(|mut a: Vec<u8>, b| {
        a.iter_mut().zip(&b).for_each(|(a, b)| *a &= *b);
        a
    }))
}
