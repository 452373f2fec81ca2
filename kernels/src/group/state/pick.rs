//! The value of one row of each group: of the first that came, of the last, or by the order of a key.

use super::lists::ordered;
use crate::program::{KeyOrder, Pick};
use crate::value::canonical_f64;
use crate::vector::{Strings, Values, Vector};
use crate::{Error, Result};
use arrow::array::StringViewArray;

/// A row's value a group.
pub struct Picks {
    pick: Pick,
    values: Cells,
    /// Whether the value is not null.
    valid: Vec<u8>,
    /// What the row is picked by: least first. All alike without a key.
    keys: Vec<i128>,
    /// Whether there is a row.
    set: Vec<u8>,
}

enum Cells {
    Int(Vec<i64>),
    Wide(Vec<i128>),
    Float(Vec<f64>),
    Text(Vec<String>),
}

impl Picks {
    /// Of floats, of texts, or of integers and booleans.
    pub(super) fn new(pick: Pick, ty: crate::program::Type) -> Self {
        let values = match ty {
            crate::program::Type::F64 => Cells::Float(vec![]),
            crate::program::Type::Str => Cells::Text(vec![]),
            _ => Cells::Int(vec![]),
        };
        Self { pick, values, valid: vec![], keys: vec![], set: vec![] }
    }

    pub(super) fn len(&self) -> usize {
        self.set.len()
    }

    pub(super) fn size(&self) -> usize {
        let values = match &self.values {
            Cells::Int(v) => v.capacity() * 8,
            Cells::Wide(v) => v.capacity() * 16,
            Cells::Float(v) => v.capacity() * 8,
            Cells::Text(v) => v.iter().map(|s| s.capacity() + 24).sum(),
        };
        values + self.keys.capacity() * 16 + self.valid.capacity() + self.set.capacity()
    }

    pub(super) fn grow(&mut self, groups: usize) {
        match &mut self.values {
            Cells::Int(v) => v.resize(groups, 0),
            Cells::Wide(v) => v.resize(groups, 0),
            Cells::Float(v) => v.resize(groups, 0.0),
            Cells::Text(v) => v.resize(groups, String::new()),
        }
        self.valid.resize(groups, 0);
        self.keys.resize(groups, 0);
        self.set.resize(groups, 0);
    }

    /// The arguments that a row counts without only if they are not null.
    pub(super) fn required<'a, 'b>(&self, args: &'a [&'b Vector]) -> &'a [&'b Vector] {
        &args[..usize::from(self.pick.skip_nulls)]
    }

    /// Rows of a chunk: their values, and their keys where there are any.
    pub(super) fn add(&mut self, ids: &[u32], args: &[&Vector], live: Option<&[u8]>) -> Result<()> {
        let keys = match (args, self.pick.by) {
            ([_, key], Some(by)) => {
                let last = self.pick.last;
                ranks(key, ids.len(), KeyOrder { descending: by.descending != last, nulls_first: by.nulls_first != last })?
            }
            ([_], None) => vec![0; ids.len()],
            _ => return Err(Error::bug(format!("{:?} of {} arguments", self.pick, args.len()))),
        };
        self.put(ids, args[0], &keys, live)
    }

    /// What [`Picks::columns`] gave of other groups.
    pub(super) fn merge(&mut self, to: &[u32], columns: &[Vector]) -> Result<()> {
        let [values, keys, set] = columns else { return Err(Error::bug("picked values, keys and marks expected")) };
        let set = crate::boolean::is_true(set, to.len())?;
        self.put(to, values, &crate::compare::widened(&keys.values, to.len())?, Some(&set))
    }

    fn put(&mut self, ids: &[u32], arg: &Vector, keys: &[i128], live: Option<&[u8]>) -> Result<()> {
        if let (Cells::Int(v), Values::I128(_)) = (&self.values, &arg.values) {
            self.values = Cells::Wide(v.iter().map(|v| i128::from(*v)).collect());
        }
        // Of equal keys the first row stays, unless the last one is asked for.
        let latest = self.pick.last && self.pick.by.is_none();
        for (i, g) in ids.iter().enumerate().filter(|(i, _)| live.is_none_or(|l| l[*i] != 0)) {
            let g = *g as usize;
            if self.set[g] != 0 && keys[i] >= self.keys[g] && !latest {
                continue;
            }
            (self.set[g], self.keys[g]) = (1, keys[i]);
            self.valid[g] = u8::from(!arg.is_null(i));
            match (&mut self.values, &arg.values) {
                (Cells::Int(out), Values::Bool(v)) => out[g] = v[i].into(),
                (Cells::Int(out), Values::I32(v)) => out[g] = v[i].into(),
                (Cells::Int(out), Values::I64(v)) => out[g] = v[i],
                (Cells::Wide(out), Values::I64(v)) => out[g] = v[i].into(),
                (Cells::Wide(out), Values::I128(v)) => out[g] = v[i],
                (Cells::Float(out), Values::F64(v)) => out[g] = v[i],
                (Cells::Text(out), Values::Str(v)) if self.valid[g] != 0 => v.value(i).clone_into(&mut out[g]),
                (Cells::Text(out), Values::Str(_)) => out[g].clear(),
                _ => return Err(Error::bug("a value of another type is picked")),
            }
        }
        Ok(())
    }

    /// The values, keys and marks of these groups.
    pub(super) fn columns(&self, ids: &[u32]) -> Vec<Vector> {
        let at = |g: &u32| *g as usize;
        let keys = Values::I128(ids.iter().map(|g| self.keys[at(g)]).collect::<Vec<_>>().into());
        let set = Values::Bool(ids.iter().map(|g| self.set[at(g)]).collect::<Vec<_>>().into());
        vec![self.values(ids), Vector::new(keys), Vector::new(set)]
    }

    /// The values of these groups; null where there is no row.
    pub(super) fn values(&self, ids: &[u32]) -> Vector {
        let at = |g: &u32| *g as usize;
        let values = match &self.values {
            Cells::Int(v) => Values::I64(ids.iter().map(|g| v[at(g)]).collect::<Vec<_>>().into()),
            Cells::Wide(v) => Values::I128(ids.iter().map(|g| v[at(g)]).collect::<Vec<_>>().into()),
            Cells::Float(v) => Values::F64(ids.iter().map(|g| v[at(g)]).collect::<Vec<_>>().into()),
            Cells::Text(v) => Values::Str(Strings::View(StringViewArray::from_iter_values(ids.iter().map(|g| v[at(g)].as_str())))),
        };
        let valid: Vec<u8> = ids.iter().map(|g| self.valid[at(g)]).collect();
        Vector::with_valid(values, valid.contains(&0).then(|| valid.into()))
    }
}

/// Integers whose order is that of the keys.
///
/// # Errors
/// `Bug` for strings.
pub(crate) fn ranks(key: &Vector, n: usize, order: KeyOrder) -> Result<Vec<i128>> {
    let expanded;
    let key = if key.constant {
        expanded = crate::gather::expand(key, n)?;
        &expanded
    } else {
        key
    };
    let null = if order.nulls_first { i128::MIN } else { i128::MAX };
    let mut out: Vec<i128> = match &key.values {
        Values::Bool(v) => v[..n].iter().map(|v| i128::from(*v)).collect(),
        Values::F64(v) => v[..n].iter().map(|v| i128::from(ordered(canonical_f64(*v)))).collect(),
        values => crate::compare::widened(values, n)?,
    };
    for (i, rank) in out.iter_mut().enumerate() {
        *rank = match key.is_null(i) {
            true => null,
            false if order.descending => -*rank,
            false => *rank,
        };
    }
    Ok(out)
}
