//! The values of one result column, whatever Arrow encoding an engine chose for them.
//!
//! Integers and decimals of every width are one kind (an exact number), so are the text encodings and the floats.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringViewArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimeUnit, i256};
use arrow::error::ArrowError;

/// Two floats are equal when they differ by no more than this, relative to the larger.
pub(super) const FLOAT_TOLERANCE: f64 = 1e-9;

/// What a statistic between 0 and 1 may differ by however near it is to 0, where large terms cancel.
const STATISTIC_NOISE: f64 = 1e-15;

/// A column, read as one of the kinds that results are compared in.
pub(super) enum Column {
    Null,
    Bool(BooleanArray),
    /// Integers (scale 0) and decimals.
    Exact(Decimal128Array, u32),
    /// And what two of them may differ by on top of the tolerance.
    Float(Float64Array, f64),
    Text(StringViewArray),
    Days(Date32Array),
    /// Timestamps, times and durations, by nanoseconds in one unit of the column.
    Ticks(Kind, Int64Array, i64),
}

/// What a count of nanoseconds means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Timestamp,
    Time,
    Duration,
}

/// One value of a column.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    /// The digits and how many of them follow the point, without zeros at the end.
    Exact(i128, u32),
    Float(f64),
    Text(&'a str),
    Days(i32),
    Ticks(Kind, i128),
}

impl Column {
    /// Reads an array. Fails for a type that results are not compared in (binary, lists, intervals).
    pub(super) fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        let cast = |to: &DataType| cast_with_options(array, to, &CastOptions { safe: false, ..Default::default() });
        Ok(match array.data_type() {
            DataType::Null => Column::Null,
            DataType::Boolean => Column::Bool(array.as_boolean().clone()),
            integer if integer.is_integer() => {
                Column::Exact(cast(&DataType::Decimal128(38, 0))?.as_primitive::<Decimal128Type>().clone(), 0)
            }
            DataType::Decimal32(_, scale)
            | DataType::Decimal64(_, scale)
            | DataType::Decimal128(_, scale)
            | DataType::Decimal256(_, scale) => {
                let scale = (*scale).max(0);
                let exact = cast(&DataType::Decimal128(38, scale))?;
                Column::Exact(exact.as_primitive::<Decimal128Type>().clone(), scale.unsigned_abs().into())
            }
            float if float.is_floating() => Column::Float(cast(&DataType::Float64)?.as_primitive::<Float64Type>().clone(), 0.0),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Column::Text(cast(&DataType::Utf8View)?.as_string_view().clone()),
            DataType::Date32 | DataType::Date64 => Column::Days(cast(&DataType::Date32)?.as_primitive::<Date32Type>().clone()),
            DataType::Timestamp(unit, _) => ticks(Kind::Timestamp, &cast(&DataType::Int64)?, *unit),
            DataType::Duration(unit) => ticks(Kind::Duration, &cast(&DataType::Int64)?, *unit),
            DataType::Time64(unit) => ticks(Kind::Time, &cast(&DataType::Int64)?, *unit),
            DataType::Time32(unit) => {
                let narrow = cast(&DataType::Int32)?;
                ticks(Kind::Time, &cast_with_options(&narrow, &DataType::Int64, &CastOptions::default())?, *unit)
            }
            DataType::Dictionary(_, values) => Column::new(&cast(values)?)?,
            DataType::RunEndEncoded(_, values) => Column::new(&cast(values.data_type())?)?,
            other => return Err(ArrowError::NotYetImplemented(format!("columns of type {other} are not compared"))),
        })
    }

    /// Reads an array of a statistic, see [`crate::Query::statistics`]: what is undefined is null.
    pub(super) fn statistic(array: &ArrayRef) -> Result<Self, ArrowError> {
        Ok(match Column::new(array)? {
            Column::Float(values, _) => Column::Float(values.iter().map(|v| v.filter(|v| !v.is_nan())).collect(), STATISTIC_NOISE),
            other => other,
        })
    }

    /// The value in a row.
    pub(super) fn value(&self, row: usize) -> Value<'_> {
        let null = match self {
            Column::Null => true,
            Column::Bool(array) => array.is_null(row),
            Column::Exact(array, _) => array.is_null(row),
            Column::Float(array, _) => array.is_null(row),
            Column::Text(array) => array.is_null(row),
            Column::Days(array) => array.is_null(row),
            Column::Ticks(_, array, _) => array.is_null(row),
        };
        if null {
            return Value::Null;
        }
        match self {
            Column::Null => Value::Null,
            Column::Bool(array) => Value::Bool(array.value(row)),
            Column::Exact(array, scale) => exact(array.value(row), *scale),
            Column::Float(array, _) => Value::Float(array.value(row)),
            Column::Text(array) => Value::Text(array.value(row)),
            Column::Days(array) => Value::Days(array.value(row)),
            Column::Ticks(kind, array, nanos) => Value::Ticks(*kind, i128::from(array.value(row)) * i128::from(*nanos)),
        }
    }

    pub(super) fn is_float(&self) -> bool {
        matches!(self, Column::Float(..))
    }

    /// What a value of a result may differ by from a float of the answer on top of the tolerance: one unit in the last
    /// place of a decimal column, and the noise of a statistic.
    pub(super) fn slack(&self) -> f64 {
        match self {
            Column::Exact(_, scale) if *scale > 0 => 10f64.powi(-(*scale as i32)),
            Column::Float(_, noise) => *noise,
            _ => 0.0,
        }
    }
}

fn ticks(kind: Kind, array: &ArrayRef, unit: TimeUnit) -> Column {
    let nanos = match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    };
    Column::Ticks(kind, array.as_primitive::<Int64Type>().clone(), nanos)
}

/// An exact number in the one form that equal numbers share: 1.50 and 1.5 are both (15, 1).
fn exact(mut digits: i128, mut scale: u32) -> Value<'static> {
    while scale > 0 && digits % 10 == 0 {
        digits /= 10;
        scale -= 1;
    }
    Value::Exact(digits, scale)
}

impl Value<'_> {
    /// Equal as results are: exactly, and floats within the tolerance. Where the answer has a float (the average of
    /// a decimal) and the engine a decimal, the decimal may be rounded or cut off in its last place, the `slack`.
    pub(super) fn matches(&self, actual: &Value<'_>, slack: f64) -> bool {
        match (self, actual) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Exact(a, a_scale), Value::Exact(b, b_scale)) => (a, a_scale) == (b, b_scale),
            (Value::Float(a), Value::Float(b)) => near(*a, *b, slack),
            (Value::Float(a), Value::Exact(b, scale)) => near(*a, float(*b, *scale), slack),
            (Value::Exact(a, scale), Value::Float(b)) => near(float(*a, *scale), *b, 0.0),
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Days(a), Value::Days(b)) => a == b,
            (Value::Ticks(a_kind, a), Value::Ticks(b_kind, b)) => (a_kind, a) == (b_kind, b),
            _ => false,
        }
    }

    /// The order in which a result is sorted: ascending, -0 equal to 0, NaN last. `None` where a null or another
    /// kind of value is involved.
    pub(super) fn order(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::Exact(a, a_scale), Value::Exact(b, b_scale)) => {
                let scale = *a_scale.max(b_scale);
                Some(widened(*a, scale - a_scale).cmp(&widened(*b, scale - b_scale)))
            }
            (Value::Float(a), Value::Float(b)) => Some(a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))),
            (Value::Text(a), Value::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
            (Value::Days(a), Value::Days(b)) => Some(a.cmp(b)),
            (Value::Ticks(a_kind, a), Value::Ticks(b_kind, b)) if a_kind == b_kind => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// The same number, exact where it is a float without a fraction: engines sum integers in either.
    pub(super) fn whole(self) -> Self {
        const EXACT_MAX: f64 = (1u64 << 53) as f64;
        match self {
            Value::Float(number) if number.fract() == 0.0 && number.abs() < EXACT_MAX => Value::Exact(number as i128, 0),
            other => other,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Appends bytes that are equal exactly for equal values. Not for floats, which are equal within a tolerance.
    pub(super) fn write_key(&self, key: &mut Vec<u8>) {
        match self {
            Value::Null => key.push(0),
            Value::Bool(value) => key.extend([1, u8::from(*value)]),
            Value::Exact(digits, scale) => {
                key.push(2);
                key.extend(digits.to_le_bytes());
                key.extend(scale.to_le_bytes());
            }
            Value::Float(_) => key.push(3),
            Value::Text(text) => {
                key.push(4);
                key.extend(text.len().to_le_bytes());
                key.extend(text.as_bytes());
            }
            Value::Days(days) => {
                key.push(5);
                key.extend(days.to_le_bytes());
            }
            Value::Ticks(kind, nanos) => {
                key.extend([6, *kind as u8]);
                key.extend(nanos.to_le_bytes());
            }
        }
    }

    /// A position on a line on which values that match are neighbours; nulls first, NaN and what is no number last.
    pub(super) fn position(&self) -> f64 {
        match self {
            Value::Null => f64::NEG_INFINITY,
            Value::Exact(digits, scale) => float(*digits, *scale),
            Value::Float(value) if !value.is_nan() => *value,
            _ => f64::INFINITY,
        }
    }
}

/// How far from `position` a matching value may lie.
pub(super) fn margin(position: f64, slack: f64) -> f64 {
    // Twice the tolerance, as the larger of both values may be the other one.
    if position.is_finite() { slack + 2.0 * FLOAT_TOLERANCE * position.abs() } else { 0.0 }
}

fn near(a: f64, b: f64, slack: f64) -> bool {
    // Equality first: infinities differ from themselves by NaN.
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= slack + FLOAT_TOLERANCE * a.abs().max(b.abs())
}

fn float(digits: i128, scale: u32) -> f64 {
    digits as f64 / 10f64.powi(scale as i32)
}

/// `digits * 10^places`: at most 38 + 38 digits, which 256 bits hold.
fn widened(digits: i128, places: u32) -> i256 {
    (0..places).fold(i256::from_i128(digits), |wide, _| wide.wrapping_mul(i256::from_i128(10)))
}
