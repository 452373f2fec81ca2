use super::*;
use crate::program::KeyOrder;

/// Rows of group and key; a key may come often.
fn chunks(g: &mut Gen, ty: Type) -> Vec<(Vector, Vector, usize)> {
    let mut one = || {
        let n = g.below(200) as usize;
        let keys = Vector::new(Values::I32((0..n).map(|_| g.below(9) as i32).collect::<Vec<_>>().into()));
        (keys, g.vector(ty, n, false), n)
    };
    (0..4).map(|_| one()).collect()
}

#[test]
fn the_first_rows_of_each_group_are_those_of_its_sorted_rows() {
    let mut g = Gen::new(51);
    for round in 0..160 {
        let ty = [Type::I32, Type::I64, Type::F64, Type::Decimal, Type::Bool][round % 5];
        let order = KeyOrder { descending: round & 1 == 1, nulls_first: round & 2 == 2 };
        let wanted = 1 + round % 4;
        let chunks = chunks(&mut g, ty);
        let mut top = Top::new(&[KeyType::new(Type::I32, 0)], order, wanted);
        let (mut kept, mut groups) = (vec![], std::collections::BTreeMap::<Value, Vec<Value>>::new());
        for (keys, by, n) in &chunks {
            for row in top.offer(&[keys], Some(by), *n, kept.len() as u32).unwrap() {
                kept.push((keys.value(row as usize).unwrap(), by.value(row as usize).unwrap()));
            }
            (0..*n).for_each(|i| groups.entry(keys.value(i).unwrap()).or_default().push(by.value(i).unwrap()));
            if round % 3 == 0 {
                kept = top.renumber().into_iter().map(|r| kept[r as usize].clone()).collect();
                assert_eq!(kept.len(), top.len());
            }
        }
        let mut got: Vec<_> = top.renumber().into_iter().map(|r| kept[r as usize].clone()).collect();
        let mut want = vec![];
        for (key, mut rows) in groups {
            let rank = |v: &Value| (v.is_null() != order.nulls_first, v.clone());
            rows.sort_by(|a, b| match (a.is_null(), b.is_null()) {
                (false, false) if order.descending => b.cmp(a),
                _ => rank(a).cmp(&rank(b)),
            });
            want.extend(rows.into_iter().take(wanted).map(|v| (key.clone(), v)));
        }
        got.sort();
        want.sort();
        assert_eq!(got, want, "round {round}: {wanted} rows of {ty:?} by {order:?}");
    }
}

#[test]
fn without_a_key_any_rows_are_first() {
    let mut top = Top::new(&[KeyType::new(Type::I32, 0)], KeyOrder::default(), 2);
    let keys = Vector::new(Values::I32(vec![1, 2, 1, 1, 1].into()));
    assert_eq!(top.offer(&[&keys], None, 5, 0).unwrap(), [0, 1, 2]);
    assert_eq!((top.len(), top.renumber()), (3, vec![0, 2, 1]));
}
