//! The value of one row of each group: of the first that came, of the last, or by the order of keys.

use super::rank::{encoded, ranks};
use crate::program::{KeyOrder, Pick};
use crate::vector::{Strings, Values, Vector};
use crate::{Error, Result};
use arrow::array::{AsArray, BinaryViewArray, StringViewArray};
use std::sync::Arc;

/// A row's value a group.
pub struct Picks {
    pick: Pick,
    values: Cells,
    /// Whether the value is not null.
    valid: Vec<u8>,
    /// What the row is picked by: least first. All alike without a key.
    keys: Keys,
    /// Whether there is a row.
    set: Vec<u8>,
}

/// The key of each group's row: a number, or bytes for a string and for several keys.
enum Keys {
    Ranks(Vec<i128>),
    Bytes(Vec<Box<[u8]>>),
}

/// The keys of rows that come.
enum Offered {
    Ranks(Vec<i128>),
    Bytes(BinaryViewArray),
}

impl Keys {
    /// Whether row `i` comes before the row that group `g` has.
    fn is_before(&self, offered: &Offered, i: usize, g: usize) -> bool {
        match (self, offered) {
            (Self::Ranks(mine), Offered::Ranks(keys)) => keys[i] < mine[g],
            (Self::Bytes(mine), Offered::Bytes(keys)) => keys.value(i) < &mine[g][..],
            // Only a part that no row came to has keys of the other kind.
            _ => false,
        }
    }

    fn set(&mut self, g: usize, offered: &Offered, i: usize) {
        match (self, offered) {
            (Self::Ranks(mine), Offered::Ranks(keys)) => mine[g] = keys[i],
            (Self::Bytes(mine), Offered::Bytes(keys)) => mine[g] = keys.value(i).into(),
            _ => {}
        }
    }

    fn resize(&mut self, groups: usize) {
        match self {
            Self::Ranks(v) => v.resize(groups, 0),
            Self::Bytes(v) => v.resize(groups, Box::default()),
        }
    }
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
        Self { pick, values, valid: vec![], keys: Keys::Ranks(vec![]), set: vec![] }
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
        let keys = match &self.keys {
            Keys::Ranks(v) => v.capacity() * 16,
            Keys::Bytes(v) => v.capacity() * 16 + v.iter().map(|k| k.len()).sum::<usize>(),
        };
        values + keys + self.valid.capacity() + self.set.capacity()
    }

    pub(super) fn grow(&mut self, groups: usize) {
        match &mut self.values {
            Cells::Int(v) => v.resize(groups, 0),
            Cells::Wide(v) => v.resize(groups, 0),
            Cells::Float(v) => v.resize(groups, 0.0),
            Cells::Text(v) => v.resize(groups, String::new()),
        }
        self.valid.resize(groups, 0);
        self.keys.resize(groups);
        self.set.resize(groups, 0);
    }

    /// The arguments that a row counts without only if they are not null.
    pub(super) fn required<'a, 'b>(&self, args: &'a [&'b Vector]) -> &'a [&'b Vector] {
        &args[..usize::from(self.pick.skip_nulls)]
    }

    /// Rows of a chunk: their values, and their keys where there are any.
    pub(super) fn add(&mut self, ids: &[u32], args: &[&Vector], live: Option<&[u8]>) -> Result<()> {
        let [value, keys @ ..] = args else { return Err(Error::bug(format!("{:?} of no argument", self.pick))) };
        let by = if self.pick.last { self.pick.by.reversed() } else { self.pick.by };
        let orders: Vec<KeyOrder> = by.iter().collect();
        let keys = match (keys, &orders[..]) {
            ([], []) => Offered::Ranks(vec![0; ids.len()]),
            ([key], [order]) if !matches!(key.values, Values::Str(_)) => Offered::Ranks(ranks(key, ids.len(), *order)?),
            _ => Offered::Bytes(encoded(keys, ids.len(), by)?),
        };
        self.put(ids, value, &keys, live)
    }

    /// What [`Picks::columns`] gave of other groups.
    pub(super) fn merge(&mut self, to: &[u32], columns: &[Vector]) -> Result<()> {
        let [values, keys, set] = columns else { return Err(Error::bug("picked values, keys and marks expected")) };
        let set = crate::boolean::is_true(set, to.len())?;
        let keys = match &keys.values {
            Values::Any(bytes) => Offered::Bytes(bytes.as_byte_view_opt().cloned().ok_or_else(|| Error::bug("keys as bytes expected"))?),
            ranks => Offered::Ranks(crate::compare::widened(ranks, to.len())?),
        };
        self.put(to, values, &keys, Some(&set))
    }

    fn put(&mut self, ids: &[u32], arg: &Vector, keys: &Offered, live: Option<&[u8]>) -> Result<()> {
        if let (Keys::Ranks(_), Offered::Bytes(_)) = (&self.keys, keys)
            && !self.set.contains(&1)
        {
            self.keys = Keys::Bytes(vec![Box::default(); self.set.len()]);
        }
        if let (Cells::Int(v), Values::I128(_)) = (&self.values, &arg.values) {
            self.values = Cells::Wide(v.iter().map(|v| i128::from(*v)).collect());
        }
        // Of equal keys the first row stays, unless the last one is asked for.
        let latest = self.pick.last && self.pick.by.is_empty();
        for (i, g) in ids.iter().enumerate().filter(|(i, _)| live.is_none_or(|l| l[*i] != 0)) {
            let g = *g as usize;
            if self.set[g] != 0 && !latest && !self.keys.is_before(keys, i, g) {
                continue;
            }
            self.set[g] = 1;
            self.keys.set(g, keys, i);
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
        let keys = match &self.keys {
            Keys::Ranks(v) => Values::I128(ids.iter().map(|g| v[at(g)]).collect::<Vec<_>>().into()),
            Keys::Bytes(v) => Values::Any(Arc::new(BinaryViewArray::from_iter_values(ids.iter().map(|g| &v[at(g)])))),
        };
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
