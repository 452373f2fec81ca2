//! The oracle of joining: nested loops over values.

use crate::value::Value;

/// Build rows whose key equals `key`.
pub fn matches(build: &[Vec<Value>], key: &[Value], null_equals_null: bool) -> Vec<usize> {
    let equal = |b: &[Value]| b.iter().zip(key).all(|(b, k)| b == k && (null_equals_null || !b.is_null()));
    (0..build.len()).filter(|i| equal(&build[*i])).collect()
}
