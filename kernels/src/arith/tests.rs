use super::*;
use crate::program::{ArithOp::*, Type};
use crate::testing::{Gen, check_rows};
use crate::value::Value;

#[test]
fn agrees_with_the_reference_in_values_and_in_errors() {
    let mut g = Gen::new(5);
    let mut errors = 0;
    for ty in [Type::I32, Type::I64, Type::Decimal, Type::F64] {
        for round in 0..200 {
            let n = [0, 1, 3, 100][round % 4];
            let (a, b) = (g.vector(ty, n, round % 3 == 0), g.vector(ty, n, round % 5 == 0));
            for op in [Add, Sub, Mul] {
                for checked in [true, false] {
                    let want: Result<Vec<Value>, _> =
                        (0..n).map(|i| reference::arith(op, ty, checked, &a.value(i).unwrap(), &b.value(i).unwrap())).collect();
                    match (arith(op, &a, &b, ty, checked, n), want) {
                        (Ok(out), Ok(want)) => check_rows(&out, n, |i| want[i].clone()),
                        (Err(_), Err(_)) => errors += 1,
                        (got, want) => panic!("{op:?} {ty:?}: cpu {got:?}, reference {want:?}"),
                    }
                }
            }
        }
    }
    assert!(errors > 50, "overflow must have been met: {errors}");
}
