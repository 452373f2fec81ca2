//! One value, for literals and for the reference twins.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// A non-null value of a register's type; null is `None` around it, or [`Value::Null`] in literals.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Value {
    /// The null of any type.
    Null,
    /// Boolean.
    Bool(bool),
    /// Every integer, date, timestamp and decimal.
    Int(i128),
    /// 64-bit float; written as its bits, so that NaN, infinity and every digit come back.
    F64(#[serde(with = "bits")] f64),
    /// String.
    Str(String),
}

mod bits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(v: &f64, to: S) -> Result<S::Ok, S::Error> {
        v.to_bits().serialize(to)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<f64, D::Error> {
        u64::deserialize(from).map(f64::from_bits)
    }
}

/// The canonical form of a float for equality and hashing: -0 becomes +0, every NaN the same NaN.
pub fn canonical_f64(v: f64) -> f64 {
    if v.is_nan() { f64::NAN } else { v + 0.0 }
}

/// Total order of floats: -0 equals +0, NaN equals itself and sorts last.
pub fn compare_f64(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
    }
}

impl Value {
    /// Whether this is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }
}

impl Ord for Value {
    /// Null first, then by value; values of different types by their type's order.
    fn cmp(&self, other: &Self) -> Ordering {
        use Value::*;
        let rank = |v: &Value| match v {
            Null => 0,
            Bool(_) => 1,
            Int(_) => 2,
            F64(_) => 3,
            Str(_) => 4,
        };
        match (self, other) {
            (Bool(a), Bool(b)) => a.cmp(b),
            (Int(a), Int(b)) => a.cmp(b),
            (F64(a), F64(b)) => compare_f64(*a, *b),
            (Str(a), Str(b)) => a.cmp(b),
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}
