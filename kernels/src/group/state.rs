//! What is computed of each group, one column of accumulators an aggregate: how they grow and take rows. How they meet
//! those of another part is in `merge`, what comes of them in `results`.

mod add;
mod collected;
mod dense;
mod extreme;
mod lists;
mod merge;
mod moments;
mod pick;
mod places;
mod rank;
mod results;
mod sum;

use super::{Groups, KeyType};
use crate::boolean;
use crate::program::{AggregateOp, Type};
use crate::vector::{Values, Vector};
use crate::{Error, Result};
use add::{bits, count, distinct, joint, spread, sum_floats};
use collected::Collected;
pub use dense::add_present;
use extreme::widen_extreme;
use lists::Lists;
pub(crate) use lists::ordered;
pub use merge::Raw;
use moments::{Joint, Spread};
use pick::Picks;
pub(super) use rank::ranks;
use std::borrow::Cow;
use sum::Sums;

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
        self.update_masked(ids, groups, args, filter, None)
    }

    /// As [`State::update`], for the rows alone whose byte of `mask` is 1. Every new group has one of them; the id of
    /// others is `u32::MAX`.
    ///
    /// # Errors
    /// As [`State::update`].
    pub fn update_masked(
        &mut self,
        ids: &[u32],
        groups: usize,
        args: &[&Vector],
        filter: Option<&Vector>,
        mask: Option<&[u8]>,
    ) -> Result<()> {
        let n = ids.len();
        let before = self.len();
        self.grow(groups);
        let required = match &self.values {
            Accumulators::Picks(picks) => picks.required(args),
            Accumulators::Collected(values, _) => values.required(args),
            _ => args,
        };
        let live = live_rows(required, filter, n)?;
        let unmasked = live.is_none();
        // A pass for each of few groups meets no other id.
        let by_pass = unmasked && groups <= FEW_GROUPS && matches!(self.values, Accumulators::Count(_) | Accumulators::Sum(_));
        let others = by_pass && mask.is_some();
        let mask = mask.filter(|_| !by_pass);
        let any_group: Vec<u32>;
        let ids = match mask {
            Some(_) => {
                any_group = ids.iter().map(|id| if *id == u32::MAX { 0 } else { *id }).collect();
                &any_group
            }
            None => ids,
        };
        let live = match (live, mask) {
            (Some(mut live), Some(mask)) => {
                live.iter_mut().zip(mask).for_each(|(l, m)| *l &= m);
                Some(Cow::Owned(live))
            }
            (Some(live), None) => Some(Cow::Owned(live)),
            (None, mask) => mask.map(Cow::Borrowed),
        };
        let live = live.as_deref();
        // Where each row that is not masked has a value, so has each new group.
        self.track_seen(ids, live, before, groups, unmasked);
        if let Accumulators::Count(counts) = &mut self.values {
            count(counts, ids, groups, live, others);
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
            (Accumulators::Sum(sums), [arg]) => sums.add(ids, groups, arg, live, others),
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

    /// Marks the groups that got a value. Groups born in a chunk of which every row has one (`all`) have one.
    fn track_seen(&mut self, ids: &[u32], live: Option<&[u8]>, before: usize, groups: usize, all: bool) {
        let texts = matches!(self.values, Accumulators::Text(_));
        if self.is_tracked() && (!all || texts || self.seen.is_some()) {
            let seen = self.seen.get_or_insert_with(|| vec![u8::from(!texts); before]);
            // Text marks its groups itself, when it stores the first value.
            seen.resize(groups, 0);
            if !texts {
                match live {
                    Some(live) => ids.iter().zip(live).for_each(|(g, l)| seen[*g as usize] |= l),
                    None => ids.iter().filter(|g| **g != u32::MAX).for_each(|g| seen[*g as usize] = 1),
                }
            }
        }
    }
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
