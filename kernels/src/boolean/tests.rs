use super::*;
use crate::program::{BoolOp, Type};
use crate::testing::{Gen, TYPES, check_rows};
use crate::value::Value;

fn truth(v: Value) -> Option<bool> {
    match v {
        Value::Bool(b) => Some(b),
        _ => None,
    }
}

fn value(b: Option<bool>) -> Value {
    b.map_or(Value::Null, Value::Bool)
}

#[test]
fn logic_agrees_with_the_reference() {
    let mut g = Gen::new(3);
    for round in 0..40 {
        let n = [0, 1, 9, 200][round % 4];
        let (a, b) = (g.vector(Type::Bool, n, round % 3 == 0), g.vector(Type::Bool, n, round % 5 == 0));
        for op in [BoolOp::And, BoolOp::Or] {
            let out = logic(op, &a, &b, n).unwrap();
            check_rows(&out, n, |i| value(reference::logic(op, truth(a.value(i).unwrap()), truth(b.value(i).unwrap()))));
        }
        check_rows(&not(&a, n).unwrap(), n, |i| value(truth(a.value(i).unwrap()).map(|b| !b)));
        check_rows(&is_null(&a, false, n), n, |i| Value::Bool(a.is_null(i)));
    }
}

#[test]
fn select_agrees_with_the_reference() {
    let mut g = Gen::new(4);
    for ty in TYPES {
        for round in 0..20 {
            let n = [0, 1, 9, 200][round % 4];
            let c = g.vector(Type::Bool, n, round % 7 == 6);
            let (a, b) = (g.vector(ty, n, round % 3 == 0), g.vector(ty, n, round % 5 == 0));
            let out = select(&c, &a, &b, n).unwrap();
            check_rows(&out, n, |i| reference::select(truth(c.value(i).unwrap()), &a.value(i).unwrap(), &b.value(i).unwrap()));
        }
    }
}
