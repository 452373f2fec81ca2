//! The oracle of comparison: one row.

use crate::program::CompareOp;
use crate::value::Value;

/// `a op b`; null if either is.
pub fn compare(op: CompareOp, a: &Value, b: &Value) -> Option<bool> {
    if a.is_null() || b.is_null() {
        return None;
    }
    Some(op.holds(a.cmp(b)))
}
