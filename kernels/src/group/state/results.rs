//! What comes of the accumulators in the end: a value of each group, or a list.

use super::lists::Selection;
use super::places::places;
use super::sum::overflow;
use super::{Accumulators, State};
use crate::program::{AggregateOp, Type};
use crate::value::Value;
use crate::vector::{Strings, Values, Vector};
use crate::{Error, Result};
use arrow::array::StringViewArray;

impl State {
    /// The result of each group of `ids`, sums at full width.
    pub(super) fn results(&self, ids: &[u32]) -> Result<Vector> {
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
