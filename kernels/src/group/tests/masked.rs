use super::{Chunk, KeyType, OPS, State, Type, chunk};
use crate::filter::{Selection, select_mask};
use crate::testing::Gen;
use crate::vector::{Values, Vector};
use crate::{arith, gather};

/// Rows behind a mask count for nothing, whatever they hold: as if only the live ones had come.
#[test]
fn a_mask_leaves_rows_out() {
    let mut g = Gen::new(91);
    for round in 0..60 {
        let groups = [1, 3, 8, 9, 40][round % 5];
        let new = || OPS.iter().map(|(op, t)| State::new(*op, KeyType::new(*t, 38)).unwrap()).collect::<Vec<_>>();
        let (mut masked, mut live_only) = (new(), new());
        for chunk_number in 0..3 {
            let n = 200;
            let Chunk { args, filters, .. } = chunk(&mut g, &[Type::I32], n);
            let mask: Vec<u8> = (0..n).map(|i| u8::from(i < groups || g.below(4) > 0)).collect();
            let Selection::Rows(rows) = select_mask(&mask) else { continue };
            // Each group has a row.
            let ids: Vec<u32> = (0..n).map(|i| if i < groups { i } else { g.below(groups as u64) as usize } as u32).collect();
            let behind: Vec<u32> = ids.iter().zip(&mask).map(|(id, m)| if *m == 1 { *id } else { u32::MAX }).collect();
            let live_ids: Vec<u32> = rows.iter().map(|r| ids[*r as usize]).collect();
            for (i, (s, l)) in masked.iter_mut().zip(&mut live_only).enumerate() {
                // Some chunks have no nulls and no filter.
                let plain = chunk_number != 1;
                let arg = if plain { Vector { valid: None, ..args[i].clone() } } else { args[i].clone() };
                let filter = filters[i].as_ref().filter(|_| !plain);
                s.update_masked(&behind, groups, &[&arg], filter, Some(&mask)).unwrap();
                let picked = filter.map(|f| gather::gather(f, &rows).unwrap());
                l.update(&live_ids, groups, &[&gather::gather(&arg, &rows).unwrap()], picked.as_ref()).unwrap();
            }
        }
        for ((op, s), l) in OPS.iter().zip(&mut masked).zip(&mut live_only) {
            for group in 0..groups as u32 {
                let of = |s: &mut State| s.finish(&[group], groups, false).unwrap().value(0).unwrap();
                assert_eq!(of(s), of(l), "{op:?}, group {group} of {groups}");
            }
        }
    }
}

/// Bounds that are known change no sum, and no product, also where they are those of other rows.
#[test]
fn known_bounds_change_nothing() {
    use crate::program::ArithOp::{Add, Mul, Sub};
    let mut g = Gen::new(92);
    for most in [100u64, 1 << 31, 1 << 61] {
        let values = |g: &mut Gen| (0..50).map(|_| g.below(2 * most) as i64 - most as i64).collect::<Vec<_>>();
        let (a, b) = (Vector::new(Values::I64(values(&mut g).into())), Vector::new(Values::I64(values(&mut g).into())));
        let bounds = Some((-(most as i64), most as i64));
        let (x, y) = (a.clone().within(bounds), b.clone().within(bounds));
        for op in [Add, Sub, Mul] {
            let (measured, known) =
                (arith::arith(op, &a, &b, Type::Decimal, true, 50).unwrap(), arith::arith(op, &x, &y, Type::Decimal, true, 50).unwrap());
            for i in 0..50 {
                assert_eq!(measured.value(i).unwrap(), known.value(i).unwrap());
                if let (Some((lo, hi)), Values::I64(v)) = (known.bounds, &known.values) {
                    assert!((lo..=hi).contains(&v[i]));
                }
            }
            let sum = |v: &Vector| {
                let mut s = State::new(super::Sum, KeyType::new(Type::Decimal, 38)).unwrap();
                (0..40).for_each(|_| s.update(&[0; 50], 1, &[v], None).unwrap());
                s.value(0, 1).unwrap()
            };
            assert_eq!(sum(&measured), sum(&known));
        }
    }
}
