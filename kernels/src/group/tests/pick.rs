use super::*;
use crate::program::{KeyOrder, KeyOrders, Pick};
use crate::vector::Buf;

const GROUPS: usize = 5;

/// Keys of which no two are equal within a group, and at most one is null.
fn keys(g: &mut Gen, ty: Type, n: usize) -> Vector {
    let mut order: Vec<i64> = (0..n as i64).map(|i| i - 20).collect();
    (1..n).rev().for_each(|i| order.swap(i, g.below(i as u64 + 1) as usize));
    let values = match ty {
        Type::I32 => Values::I32(order.iter().map(|v| *v as i32).collect::<Vec<_>>().into()),
        Type::F64 => Values::F64(order.iter().map(|v| *v as f64 / 3.0).collect::<Vec<_>>().into()),
        Type::Decimal => Values::I128(order.iter().map(|v| i128::from(*v) << 70).collect::<Vec<_>>().into()),
        Type::Str => {
            let text = order.iter().map(|v| format!("{:03} and more of it", v + 500));
            Values::Str(crate::Strings::View(arrow::array::StringViewArray::from_iter_values(text)))
        }
        _ => Values::I64(order.into()),
    };
    let valid: Option<Buf<u8>> = (n > 0 && g.below(2) == 0).then(|| (0..n).map(|i| u8::from(i != n / 2)).collect::<Vec<_>>().into());
    Vector::with_valid(values, valid)
}

#[test]
fn agrees_with_the_reference_whole_and_in_parts() {
    let mut g = Gen::new(41);
    for round in 0..480 {
        let (ty, key_ty) = (TYPES[round % 6], [Type::I32, Type::I64, Type::F64, Type::Decimal, Type::Str][round / 6 % 5]);
        let flag = |bit: usize| round >> bit & 1 == 1;
        let n = g.below(200) as usize;
        // No key, one, or several, the last of which decides.
        let mut args = vec![g.vector(ty, n, false)];
        let mut orders = vec![];
        for key in 0..round % 4 {
            let (last, tied) = (key + 1 == round % 4, TYPES[g.below(6) as usize]);
            args.push(if last { keys(&mut g, key_ty, n) } else { g.vector(tied, n, false) });
            orders.push(KeyOrder { descending: flag(key), nulls_first: flag(key + 1) });
        }
        let op = Pick(Pick { by: KeyOrders::new(&orders).unwrap(), last: flag(2), skip_nulls: flag(3) });
        let ids: Vec<u32> = (0..n).map(|_| g.below(GROUPS as u64 - 1) as u32).collect();
        let filter = (g.below(2) == 0).then(|| g.vector(Type::Bool, n, false));
        let rows = Rows { groups: GROUPS, ids, args, filter };
        let new = || State::new(op, KeyType::new(ty, 38)).unwrap();
        let (mut whole, mut merged) = (new(), new());
        rows.add_to(&mut whole);
        // The parts meet in the order of the rows, so that without a key the first is the first.
        rows.add_parts_to(&mut merged, new, &[n / 3, n]);
        for (group, rows) in rows.by_group().iter().enumerate() {
            let want = aggregate(op, rows);
            for got in [&mut whole, &mut merged] {
                assert_eq!(got.value(group as u32, GROUPS).unwrap(), want, "round {round}: {op:?} of {ty:?} by {key_ty:?}, group {group}");
            }
        }
    }
}
