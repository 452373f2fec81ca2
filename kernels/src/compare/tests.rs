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

#[test]
fn a_memo_is_of_one_dictionary_comparison_and_constant() {
    use crate::{Dictionary, Strings, Value, Values, Vector};
    let dict = |words: Vec<&str>| Dictionary::new(words.into());
    let (first, second) = (dict(vec!["a", "b", "c"]), dict(vec!["c", "a"]));
    let rows = |codes: Vec<i32>, dict| Vector::new(Values::Str(Strings::Dict { codes: codes.into(), dict: std::sync::Arc::clone(dict) }));
    let constant = |s: &str| Vector::constant(&Value::Str(s.into()), crate::program::Type::Str).unwrap();
    let mut memo = EntryMemo::default();
    for (op, a, c) in [
        (Eq, rows(vec![0, 1, 0], &first), "a"),
        (Eq, rows(vec![2, 2, 1], &first), "a"),
        (Eq, rows(vec![0, 1, 1], &second), "a"),
        (Eq, rows(vec![0, 1, 1], &second), "c"),
        (Lt, rows(vec![0, 1, 1], &second), "c"),
    ] {
        let n = a.values.len();
        let c = constant(c);
        for (op, x, y) in [(op, &a, &c), (op.flip(), &c, &a)] {
            let out = compare_remembered(op, x, y, n, &mut memo).unwrap();
            let want = |i| reference::compare(op, &x.value(i).unwrap(), &y.value(i).unwrap()).map_or(Value::Null, Value::Bool);
            check_rows(&out, n, want);
        }
    }
}
