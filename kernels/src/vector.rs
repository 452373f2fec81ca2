//! One register of a chunk: typed values, optional validity, possibly one constant for all rows.

use crate::value::Value;
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringViewArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::ArrowNativeType;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Views of all entries of a dictionary are made for no fewer rows than a part of its entries.
const ENTRIES_A_ROW: usize = 8;

/// Values either shared with an Arrow buffer (a slice costs a reference count) or owned.
#[derive(Clone, Debug)]
pub enum Buf<T: ArrowNativeType> {
    /// A slice of an Arrow buffer.
    Shared(ScalarBuffer<T>),
    /// Values computed here.
    Owned(Vec<T>),
}

impl<T: ArrowNativeType> Deref for Buf<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match self {
            Buf::Shared(b) => b,
            Buf::Owned(v) => v,
        }
    }
}

impl<T: ArrowNativeType> From<Vec<T>> for Buf<T> {
    fn from(v: Vec<T>) -> Self {
        Buf::Owned(v)
    }
}

impl<T: ArrowNativeType> Buf<T> {
    /// As an Arrow buffer, without a copy.
    pub fn into_scalar_buffer(self) -> ScalarBuffer<T> {
        match self {
            Buf::Shared(b) => b,
            Buf::Owned(v) => v.into(),
        }
    }
}

/// `n` values, each of which `write` writes.
///
/// # Safety
/// `write` writes every one of them.
// SAFETY: what is not written is never read, as the caller sees to.
pub(crate) unsafe fn written<T>(n: usize, write: impl FnOnce(&mut [MaybeUninit<T>])) -> Vec<T> {
    let mut out = Vec::with_capacity(n);
    write(&mut out.spare_capacity_mut()[..n]);
    // SAFETY: the caller's.
    unsafe { out.set_len(n) };
    out
}

/// Distinct strings with an identity, so that what is computed per entry can be remembered.
/// Codes of different dictionaries are never compared.
#[derive(Debug)]
pub struct Dictionary {
    id: u64,
    values: StringArray,
    /// The entries as views, once they have been asked for.
    views: OnceLock<StringViewArray>,
}

impl Dictionary {
    /// A dictionary over `values` (which may hold nulls and, after a concatenation, repeats). It is never empty: a
    /// null row has code 0, which must exist.
    pub fn new(values: StringArray) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let values = if values.is_empty() { vec![""].into() } else { values };
        Arc::new(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), values, views: OnceLock::new() })
    }

    /// Identity: equal ids mean the same entries in the same order.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The entries.
    pub fn values(&self) -> &StringArray {
        &self.values
    }

    /// The entries as views of the same bytes. They are made once, and not for a few rows of many entries.
    pub(crate) fn views_for(&self, rows: usize) -> Option<&StringViewArray> {
        if self.views.get().is_none() && rows < self.values.len() / ENTRIES_A_ROW {
            return None;
        }
        Some(self.views.get_or_init(|| StringViewArray::from(&self.values)))
    }

    /// Bytes of memory held.
    pub fn size(&self) -> usize {
        self.values.get_array_memory_size() + self.views.get().map_or(0, |v| v.len() * 16)
    }
}

/// Strings of a chunk.
#[derive(Clone, Debug)]
pub enum Strings {
    /// Codes into a dictionary.
    Dict {
        /// One code a row; arbitrary but in bounds where the row is null.
        codes: Buf<i32>,
        /// What the codes mean.
        dict: Arc<Dictionary>,
    },
    /// Views (16 bytes a row, short strings inline).
    View(StringViewArray),
}

impl Strings {
    /// Number of strings.
    pub fn len(&self) -> usize {
        match self {
            Strings::Dict { codes, .. } => codes.len(),
            Strings::View(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The string of row `i`; unspecified where the row is null.
    pub fn value(&self, i: usize) -> &str {
        match self {
            Strings::Dict { codes, dict } => dict.values.value(codes[i] as usize),
            Strings::View(v) => v.value(i),
        }
    }
}

/// The values of a register.
#[derive(Clone, Debug)]
pub enum Values {
    /// 0 or 1 a row.
    Bool(Buf<u8>),
    /// 32-bit integers and dates.
    I32(Buf<i32>),
    /// 64-bit integers, and decimals whose values fit.
    I64(Buf<i64>),
    /// Decimals whose values do not fit 64 bits.
    I128(Buf<i128>),
    /// Floats.
    F64(Buf<f64>),
    /// Strings.
    Str(Strings),
    /// Anything else, passed through.
    Any(ArrayRef),
}

impl Values {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Values::Bool(v) => v.len(),
            Values::I32(v) => v.len(),
            Values::I64(v) => v.len(),
            Values::I128(v) => v.len(),
            Values::F64(v) => v.len(),
            Values::Str(v) => v.len(),
            Values::Any(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A register: `rows` values, or one value for every row when `constant`.
/// Validity is one byte a row (1 = valid), absent when nothing is null.
#[derive(Clone, Debug)]
pub struct Vector {
    /// The values; what stands at a null row is arbitrary.
    pub values: Values,
    /// 1 = valid; absent = all valid.
    pub valid: Option<Buf<u8>>,
    /// One value stands for every row.
    pub constant: bool,
    /// Integers between which all that are not null lie, where that is known: what is proved by it need not be measured.
    pub bounds: Option<(i64, i64)>,
}

impl Vector {
    /// A register without nulls.
    pub fn new(values: Values) -> Self {
        Self { values, valid: None, constant: false, bounds: None }
    }

    /// A register with validity.
    pub fn with_valid(values: Values, valid: Option<Buf<u8>>) -> Self {
        Self { values, valid, constant: false, bounds: None }
    }

    /// With known bounds.
    pub fn within(self, bounds: Option<(i64, i64)>) -> Self {
        Self { bounds, ..self }
    }

    /// One value for every row. `like` gives the physical type of a null.
    pub fn constant(value: &Value, like: crate::program::Type) -> Result<Self> {
        use crate::program::Type;
        let values = match (value, like) {
            (Value::Bool(b), _) => Values::Bool(vec![u8::from(*b)].into()),
            (Value::Int(v), Type::I32) => Values::I32(vec![i32::try_from(*v).map_err(Error::bug)?].into()),
            (Value::Int(v), _) => match i64::try_from(*v) {
                Ok(v) => Values::I64(vec![v].into()),
                Err(_) => Values::I128(vec![*v].into()),
            },
            (Value::F64(v), _) => Values::F64(vec![*v].into()),
            (Value::Str(s), _) => Values::Str(Strings::View(StringViewArray::from(vec![s.as_str()]))),
            (Value::Null, Type::Bool) => Values::Bool(vec![0].into()),
            (Value::Null, Type::I32) => Values::I32(vec![0].into()),
            (Value::Null, Type::F64) => Values::F64(vec![0.0].into()),
            (Value::Null, Type::Str) => Values::Str(Strings::View(StringViewArray::from(vec![""]))),
            (Value::Null, _) => Values::I64(vec![0].into()),
        };
        let valid = value.is_null().then(|| Buf::Owned(vec![0u8]));
        Ok(Self { values, valid, constant: true, bounds: None })
    }

    /// The index of row `i` in the buffers.
    #[inline]
    pub fn at(&self, i: usize) -> usize {
        if self.constant { 0 } else { i }
    }

    /// Whether row `i` is null.
    #[inline]
    pub fn is_null(&self, i: usize) -> bool {
        match &self.valid {
            Some(v) => v[self.at(i)] == 0,
            None => false,
        }
    }

    /// Row `i` as a value: slow, for references, tests and single rows.
    pub fn value(&self, i: usize) -> Result<Value> {
        if self.is_null(i) {
            return Ok(Value::Null);
        }
        let i = self.at(i);
        Ok(match &self.values {
            Values::Bool(v) => Value::Bool(v[i] != 0),
            Values::I32(v) => Value::Int(v[i].into()),
            Values::I64(v) => Value::Int(v[i].into()),
            Values::I128(v) => Value::Int(v[i]),
            Values::F64(v) => Value::F64(v[i]),
            Values::Str(s) => Value::Str(s.value(i).to_string()),
            Values::Any(a) => any_value(a, i)?,
        })
    }

    /// The same register with shared buffers: its clones and slices copy nothing.
    pub fn shared(self) -> Self {
        fn share<T: ArrowNativeType>(b: Buf<T>) -> Buf<T> {
            Buf::Shared(b.into_scalar_buffer())
        }
        let values = match self.values {
            Values::Bool(v) => Values::Bool(share(v)),
            Values::I32(v) => Values::I32(share(v)),
            Values::I64(v) => Values::I64(share(v)),
            Values::I128(v) => Values::I128(share(v)),
            Values::F64(v) => Values::F64(share(v)),
            Values::Str(Strings::Dict { codes, dict }) => Values::Str(Strings::Dict { codes: share(codes), dict }),
            values => values,
        };
        Self { values, valid: self.valid.map(share), constant: self.constant, bounds: self.bounds }
    }

    /// The rows `offset .. offset + len`.
    pub fn slice(&self, offset: usize, len: usize) -> Self {
        if self.constant {
            return self.clone();
        }
        fn cut<T: ArrowNativeType>(b: &Buf<T>, offset: usize, len: usize) -> Buf<T> {
            match b {
                Buf::Shared(b) => Buf::Shared(b.slice(offset, len)),
                Buf::Owned(v) => Buf::Owned(v[offset..offset + len].to_vec()),
            }
        }
        let values = match &self.values {
            Values::Bool(v) => Values::Bool(cut(v, offset, len)),
            Values::I32(v) => Values::I32(cut(v, offset, len)),
            Values::I64(v) => Values::I64(cut(v, offset, len)),
            Values::I128(v) => Values::I128(cut(v, offset, len)),
            Values::F64(v) => Values::F64(cut(v, offset, len)),
            Values::Str(Strings::Dict { codes, dict }) => {
                Values::Str(Strings::Dict { codes: cut(codes, offset, len), dict: Arc::clone(dict) })
            }
            Values::Str(Strings::View(v)) => Values::Str(Strings::View(v.slice(offset, len))),
            Values::Any(a) => Values::Any(a.slice(offset, len)),
        };
        let valid = self.valid.as_ref().map(|v| cut(v, offset, len));
        Self { values, valid, constant: false, bounds: self.bounds }
    }
}

/// Validity of a binary operation on `n` rows: null if either side is.
pub fn combine_valid(a: &Vector, b: &Vector, n: usize) -> Option<Buf<u8>> {
    let expand = |v: &Vector| -> Option<Vec<u8>> { v.valid.as_ref().map(|x| if v.constant { vec![x[0]; n] } else { x.to_vec() }) };
    match (expand(a), expand(b)) {
        (None, None) => None,
        (Some(x), None) | (None, Some(x)) => Some(x.into()),
        (Some(mut x), Some(y)) => {
            x.iter_mut().zip(&y).for_each(|(x, y)| *x &= *y);
            Some(x.into())
        }
    }
}

fn any_value(array: &ArrayRef, i: usize) -> Result<Value> {
    if array.is_null(i) {
        return Ok(Value::Null);
    }
    if let Some(b) = array.as_boolean_opt() {
        return Ok(Value::Bool(b.value(i)));
    }
    let text = arrow::util::display::array_value_to_string(array, i).map_err(Error::bug)?;
    Ok(Value::Str(text))
}
