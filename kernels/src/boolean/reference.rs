//! The oracle of boolean logic: one row.

use crate::program::BoolOp;
use crate::value::Value;

/// Three-valued AND, OR.
pub fn logic(op: BoolOp, a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (op, a, b) {
        (BoolOp::And, Some(false), _) | (BoolOp::And, _, Some(false)) => Some(false),
        (BoolOp::Or, Some(true), _) | (BoolOp::Or, _, Some(true)) => Some(true),
        (_, None, _) | (_, _, None) => None,
        (BoolOp::And, Some(a), Some(b)) => Some(a && b),
        (BoolOp::Or, Some(a), Some(b)) => Some(a || b),
    }
}

/// `CASE WHEN cond THEN a ELSE b`.
pub fn select(cond: Option<bool>, a: &Value, b: &Value) -> Value {
    if cond == Some(true) { a.clone() } else { b.clone() }
}
