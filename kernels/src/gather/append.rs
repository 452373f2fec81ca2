//! A register that grows chunk by chunk: what sinks that keep rows are made of.

use super::concat::entries;
use super::{as_views, concat};
use crate::group::Interner;
use crate::program::Type;
use crate::vector::{Dictionary, Strings, Values, Vector};
use crate::{Error, Result};
use arrow::array::{Array, StringViewArray};
use arrow::buffer::{Buffer, ScalarBuffer};
use std::ops::Range;
use std::sync::Arc;

/// Rows of one column, appended. Integers widen to 128 bits when a chunk needs it. Of strings over several
/// dictionaries one is made if they have few entries, else views of their bytes, as when a chunk comes as views.
///
/// Law: what [`Growing::finish`] gives equals [`concat`] of the chunks.
pub struct Growing {
    ty: Type,
    values: Parts,
    valid: Option<Vec<u8>>,
    rows: usize,
    /// How many rows there is room for from the start.
    room: usize,
}

enum Parts {
    Empty,
    Bool(Vec<u8>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    I128(Vec<i128>),
    F64(Vec<f64>),
    /// All chunks so far are over one dictionary, which keeps its identity.
    Codes {
        dict: Arc<Dictionary>,
        codes: Vec<i32>,
    },
    /// Codes of several dictionaries.
    Many(Many),
    Views {
        views: Vec<u128>,
        buffers: Vec<Buffer>,
    },
    Any(Vec<Vector>),
}

/// Codes of several dictionaries, one after the other.
struct Many {
    codes: Vec<i32>,
    /// The dictionary of the codes up to a row.
    runs: Vec<(Arc<Dictionary>, usize)>,
}

/// Dictionaries are merged where there are so many rows for each of their entries: looking those up costs less than what
/// codes save.
const ROWS_AN_ENTRY: usize = 8;

impl Growing {
    /// No rows yet of a column of type `ty`.
    pub fn new(ty: Type) -> Self {
        Self { ty, values: Parts::Empty, valid: None, rows: 0, room: 0 }
    }

    /// With room for so many rows, so that it need not be moved while it grows.
    pub fn with_room(self, room: usize) -> Self {
        Self { room, ..self }
    }

    /// The type of the column.
    pub fn ty(&self) -> Type {
        self.ty
    }

    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of memory held; shared string buffers count in full.
    pub fn size(&self) -> usize {
        let values = match &self.values {
            Parts::Empty => 0,
            Parts::Bool(v) => v.capacity(),
            Parts::I32(v) => v.capacity() * 4,
            Parts::I64(v) => v.capacity() * 8,
            Parts::I128(v) => v.capacity() * 16,
            Parts::F64(v) => v.capacity() * 8,
            Parts::Codes { codes, .. } => codes.capacity() * 4,
            Parts::Many(many) => many.size(),
            Parts::Views { views, buffers } => views.capacity() * 16 + buffers.iter().map(Buffer::len).sum::<usize>(),
            Parts::Any(parts) => parts.iter().map(|p| if let Values::Any(a) = &p.values { a.get_array_memory_size() } else { 0 }).sum(),
        };
        values + self.valid.as_ref().map_or(0, Vec::capacity)
    }

    /// Appends the first `n` rows of a register.
    ///
    /// # Errors
    /// `Bug` when it is of another type.
    pub fn push(&mut self, v: &Vector, n: usize) -> Result<()> {
        if v.constant {
            return self.push(&super::expand(v, n)?, n);
        }
        if n == 0 {
            return Ok(());
        }
        self.push_valid(v, n);
        self.push_values(v, n)?;
        self.rows += n;
        Ok(())
    }

    fn push_valid(&mut self, v: &Vector, n: usize) {
        match (&mut self.valid, &v.valid) {
            (None, None) => {}
            (Some(all), None) => all.resize(self.rows + n, 1),
            (all, Some(valid)) => all.get_or_insert_with(|| vec![1; self.rows]).extend_from_slice(&valid[..n]),
        }
    }

    fn push_values(&mut self, v: &Vector, n: usize) -> Result<()> {
        self.prepare(&v.values)?;
        match (&mut self.values, &v.values) {
            (Parts::Bool(out), Values::Bool(v)) => out.extend_from_slice(&v[..n]),
            (Parts::I32(out), Values::I32(v)) => out.extend_from_slice(&v[..n]),
            (Parts::I64(out), Values::I64(v)) => out.extend_from_slice(&v[..n]),
            (Parts::F64(out), Values::F64(v)) => out.extend_from_slice(&v[..n]),
            (Parts::I128(out), values) => out.extend(crate::compare::widened(values, n)?),
            (Parts::Codes { codes, .. }, Values::Str(Strings::Dict { codes: more, .. })) => codes.extend_from_slice(&more[..n]),
            (Parts::Many(many), Values::Str(Strings::Dict { codes, dict })) => many.push(dict, &codes[..n]),
            (Parts::Views { views, buffers }, Values::Str(s)) => append_views(views, buffers, &as_views(s), n),
            (Parts::Any(parts), Values::Any(_)) => parts.push(v.slice(0, n)),
            _ => return Err(Error::bug("registers of different types in one column")),
        }
        Ok(())
    }

    /// Makes `self.values` able to take `next`.
    fn prepare(&mut self, next: &Values) -> Result<()> {
        if let (Parts::Codes { dict, codes }, Values::Str(s)) = (&mut self.values, next)
            && !matches!(s, Strings::Dict { dict: other, .. } if other.id() == dict.id())
        {
            let codes = std::mem::take(codes);
            self.values = Parts::Many(Many { runs: vec![(Arc::clone(dict), codes.len())], codes });
        }
        match (&mut self.values, next) {
            (Parts::Empty, next) => {
                let room = self.room;
                self.values = match next {
                    Values::Bool(_) => Parts::Bool(Vec::with_capacity(room)),
                    Values::I32(_) => Parts::I32(Vec::with_capacity(room)),
                    Values::I64(_) => Parts::I64(Vec::with_capacity(room)),
                    Values::I128(_) => Parts::I128(Vec::with_capacity(room)),
                    Values::F64(_) => Parts::F64(Vec::with_capacity(room)),
                    Values::Str(Strings::Dict { dict, .. }) => Parts::Codes { dict: Arc::clone(dict), codes: Vec::with_capacity(room) },
                    Values::Str(Strings::View(_)) => Parts::Views { views: Vec::with_capacity(room), buffers: vec![] },
                    Values::Any(_) => Parts::Any(vec![]),
                };
            }
            (Parts::I64(v), Values::I128(_)) => self.values = Parts::I128(v.iter().map(|v| i128::from(*v)).collect()),
            (Parts::Many(many), Values::Str(Strings::View(_))) => {
                let (views, buffers) = many.views();
                self.values = Parts::Views { views, buffers };
            }
            _ => {}
        }
        Ok(())
    }

    /// The rows as one register.
    ///
    /// # Errors
    /// `Bug` when Arrow refuses what it should not; `Exhausted` past 2 GiB of distinct strings.
    pub fn finish(self) -> Result<Vector> {
        let values = match self.values {
            Parts::Empty => return concat(&[], self.ty),
            Parts::Bool(v) => Values::Bool(v.into()),
            Parts::I32(v) => Values::I32(v.into()),
            Parts::I64(v) => Values::I64(v.into()),
            Parts::I128(v) => Values::I128(v.into()),
            Parts::F64(v) => Values::F64(v.into()),
            Parts::Codes { dict, codes } => Values::Str(Strings::Dict { codes: codes.into(), dict }),
            Parts::Many(many) if many.is_merged() => Values::Str(many.merged(self.valid.as_deref())?),
            Parts::Many(many) => Values::Str(joined(many.views())),
            Parts::Views { views, buffers } => Values::Str(joined((views, buffers))),
            Parts::Any(parts) => return concat(&parts, self.ty),
        };
        Ok(Vector::with_valid(values, self.valid.map(Into::into)))
    }
}

impl Many {
    fn push(&mut self, dict: &Arc<Dictionary>, codes: &[i32]) {
        self.codes.extend_from_slice(codes);
        match self.runs.last_mut() {
            Some((last, end)) if last.id() == dict.id() => *end = self.codes.len(),
            _ => self.runs.push((Arc::clone(dict), self.codes.len())),
        }
    }

    /// Each dictionary with its rows.
    fn runs(&self) -> impl Iterator<Item = (&Arc<Dictionary>, Range<usize>)> {
        let starts = std::iter::once(0).chain(self.runs.iter().map(|(_, end)| *end));
        self.runs.iter().zip(starts).map(|((dict, end), start)| (dict, start..*end))
    }

    fn is_merged(&self) -> bool {
        self.runs.iter().map(|(dict, _)| dict.values().len()).sum::<usize>() * ROWS_AN_ENTRY <= self.codes.len()
    }

    /// Bytes of memory held, and what the rows become.
    fn size(&self) -> usize {
        let becomes = if self.is_merged() { size_of::<i32>() } else { size_of::<u128>() };
        let dictionaries = self.runs.iter().map(|(dict, _)| dict.size()).sum::<usize>();
        self.codes.capacity() * size_of::<i32>() + self.codes.len() * becomes + dictionaries
    }

    /// As one dictionary.
    fn merged(&self, valid: Option<&[u8]>) -> Result<Strings> {
        let (mut interner, mut ids) = (Interner::default(), Vec::with_capacity(self.codes.len()));
        for (dict, rows) in self.runs() {
            let codes = self.codes[rows.clone()].to_vec().into();
            let strings = Strings::Dict { codes, dict: Arc::clone(dict) };
            interner.intern_all(&strings, false, valid.map(|v| &v[rows.clone()]), rows.len(), &mut ids);
        }
        let codes = ids.iter().map(|i| *i as i32).collect::<Vec<_>>();
        let dict = interner.dictionary().map_err(|e| Error::new(crate::ErrorKind::Exhausted, e))?;
        Ok(Strings::Dict { codes: codes.into(), dict })
    }

    fn views(&self) -> (Vec<u128>, Vec<Buffer>) {
        let (mut views, mut buffers) = (Vec::with_capacity(self.codes.len()), vec![]);
        for (dict, rows) in self.runs() {
            append_views(&mut views, &mut buffers, &entries(dict, &self.codes[rows.clone()]), rows.len());
        }
        (views, buffers)
    }
}

fn joined((views, buffers): (Vec<u128>, Vec<Buffer>)) -> Strings {
    // SAFETY: every view was taken from a valid array and points into the same buffer, whose new number
    // `append_views` wrote.
    Strings::View(unsafe { StringViewArray::new_unchecked(ScalarBuffer::from(views), buffers, None) })
}

/// Views longer than this point into a buffer.
const INLINE: u32 = 12;

/// Appends views, whose buffers get new numbers.
fn append_views(views: &mut Vec<u128>, buffers: &mut Vec<Buffer>, v: &StringViewArray, n: usize) {
    let numbers: Vec<u128> = v
        .data_buffers()
        .iter()
        .map(|b| {
            let same = |known: &Buffer| known.as_ptr() == b.as_ptr() && known.len() == b.len();
            let at = buffers.iter().rposition(same).unwrap_or_else(|| {
                buffers.push(b.clone());
                buffers.len() - 1
            });
            at as u128
        })
        .collect();
    views.extend(v.views()[..n].iter().map(|view| {
        if *view as u32 <= INLINE {
            return *view;
        }
        let number = (*view >> 64) as u32 as usize;
        (view & !(0xFFFF_FFFFu128 << 64)) | numbers[number] << 64
    }));
}

impl std::fmt::Debug for Growing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Growing({:?}, {} rows)", self.ty, self.rows)
    }
}

/// Columns that grow together, taken as registers that share their buffers.
///
/// # Errors
/// As [`Growing::finish`].
pub fn finish_all(columns: Vec<Growing>) -> Result<Vec<Vector>> {
    columns.into_iter().map(|c| Ok(c.finish()?.shared())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Gen, TYPES, check_rows};

    #[test]
    fn equals_the_concatenation_of_the_chunks() {
        let mut g = Gen::new(41);
        for round in 0..300 {
            let ty = TYPES[round % TYPES.len()];
            let parts: Vec<(Vector, usize)> = (0..g.below(6))
                .map(|_| {
                    let n = g.below(50) as usize;
                    let constant = g.below(4) == 0;
                    (g.vector(ty, n, constant), n)
                })
                .collect();
            let mut growing = Growing::new(ty);
            parts.iter().for_each(|(v, n)| growing.push(v, *n).unwrap());
            let values: Vec<_> = parts.iter().flat_map(|(v, n)| (0..*n).map(|i| v.value(i).unwrap())).collect();
            assert_eq!(growing.rows(), values.len());
            let out = growing.finish().unwrap();
            assert_eq!(out.values.len(), values.len());
            check_rows(&out, values.len(), |i| values[i].clone());
        }
    }

    #[test]
    fn nulls_over_a_dictionary_without_entries() {
        let nulls = |n: usize| {
            let codes = vec![0; n].into();
            let dict = Dictionary::new(Vec::<&str>::new().into());
            Vector::with_valid(Values::Str(Strings::Dict { codes, dict }), Some(vec![0; n].into()))
        };
        let mut growing = Growing::new(Type::Str);
        for part in [nulls(2), nulls(1)] {
            growing.push(&part, part.values.len()).unwrap();
        }
        check_rows(&growing.finish().unwrap(), 3, |_| crate::value::Value::Null);
    }

    #[test]
    fn refuses_mixed_types() {
        let mut growing = Growing::new(Type::I32);
        growing.push(&Vector::new(Values::I32(vec![1].into())), 1).unwrap();
        assert!(growing.push(&Vector::new(Values::F64(vec![1.0].into())), 1).is_err());
    }
}
