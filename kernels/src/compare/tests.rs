use super::*;
use crate::program::CompareOp::*;
use crate::testing::{Gen, check_rows};

#[test]
fn agrees_with_the_reference() {
    let mut g = Gen::new(11);
    for ty in crate::testing::TYPES {
        for n in [0usize, 1, 7, 64, 500] {
            for op in [Eq, Ne, Lt, Le, Gt, Ge] {
                for constants in 0..4 {
                    let a = g.vector(ty, n, constants & 1 != 0);
                    let b = g.vector(ty, n, constants & 2 != 0);
                    let out = compare(op, &a, &b, n).expect("compare");
                    check_rows(&out, n, |i| {
                        reference::compare(op, &a.value(i).unwrap(), &b.value(i).unwrap()).map_or(crate::Value::Null, crate::Value::Bool)
                    });
                }
            }
        }
    }
}
