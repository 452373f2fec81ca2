use super::*;
use crate::group::KeyType;
use crate::program::Type;
use crate::testing::{Gen, TYPES};
use crate::value::Value;
use crate::vector::{Values, Vector};

fn rows(keys: &[Vector], n: usize) -> Vec<Vec<Value>> {
    (0..n).map(|i| keys.iter().map(|k| k.value(i).unwrap()).collect()).collect()
}

fn pairs(t: &JoinTable, keys: &[Vector], n: usize) -> Vec<Vec<usize>> {
    let mut heads = vec![];
    t.heads(&keys.iter().collect::<Vec<_>>(), n, &mut ProbeScratch::default(), &mut heads).unwrap();
    let chain = |head: u32| {
        let mut out = vec![];
        let mut at = head;
        while at != 0 {
            out.push(at as usize - 1);
            at = t.next(at);
        }
        out
    };
    heads.into_iter().map(chain).collect()
}

#[test]
fn agrees_with_the_reference() {
    let mut g = Gen::new(31);
    let mut kinds = std::collections::BTreeSet::new();
    let mut sets: Vec<Vec<Type>> = TYPES.iter().map(|t| vec![*t]).collect();
    (2..=5).for_each(|w| sets.push((0..w).map(|_| TYPES[g.below(6) as usize]).collect()));
    sets.push(vec![Type::I64, Type::Str]);
    sets.push(vec![Type::I32, Type::Bool]);
    for types in sets {
        for (build, probe) in [(0, 5), (5, 0), (1, 1), (300, 200)] {
            for null_equals_null in [false, true] {
                let b: Vec<Vector> = types.iter().map(|t| g.vector(*t, build, false)).collect();
                let p: Vec<Vector> = types.iter().map(|t| g.vector(*t, probe, false)).collect();
                let kt: Vec<KeyType> = types.iter().map(|t| KeyType::new(*t, 38)).collect();
                let t = JoinTable::build(&b, &kt, build, null_equals_null).unwrap();
                kinds.insert(t.kind());
                let (br, pr) = (rows(&b, build), rows(&p, probe));
                let want: Vec<Vec<usize>> = pr.iter().map(|k| reference::matches(&br, k, null_equals_null)).collect();
                assert!(pairs(&t, &p, probe) == want, "{types:?} {} {null_equals_null}", t.kind());
            }
        }
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["array", "group", "hash"]);
}

#[test]
fn narrow_and_wide_probe_keys_meet() {
    let key = |v: Values| [Vector::new(v)];
    let kt = [KeyType::new(Type::I64, 0)];
    let t = JoinTable::build(&key(Values::I64(vec![5, 7, 5].into())), &kt, 3, false).unwrap();
    assert_eq!(pairs(&t, &key(Values::I32(vec![5, 6].into())), 2), [vec![0, 2], vec![]]);
    assert_eq!(pairs(&t, &key(Values::I128(vec![7, 1 << 90].into())), 2), [vec![1], vec![]]);
    assert_eq!((t.is_unique(), t.kind(), t.key_range(0)), (false, "array", Some((5, 7))));
}

/// Few keys far apart: a bit for each possible one says which exist.
#[test]
fn few_keys_in_a_wide_range_are_found() {
    let mut g = Gen::new(32);
    for range in [300_000, 4_000_000, 400_000_000] {
        let build: Vec<i64> = (0..60).map(|_| g.below(range) as i64 - 1000).collect();
        let probe: Vec<i64> =
            (0..400).map(|i| if i % 2 == 0 { build[g.below(60) as usize] } else { g.below(range + 4000) as i64 - 3000 }).collect();
        let (b, p) = ([Vector::new(Values::I64(build.into()))], [Vector::new(Values::I64(probe.into()))]);
        let t = JoinTable::build(&b, &[KeyType::new(Type::I64, 0)], 60, false).unwrap();
        assert_eq!(t.kind(), "hash");
        let (br, pr) = (rows(&b, 60), rows(&p, 400));
        let want: Vec<Vec<usize>> = pr.iter().map(|k| reference::matches(&br, k, false)).collect();
        assert_eq!(pairs(&t, &p, 400), want, "range {range}");
    }
}
