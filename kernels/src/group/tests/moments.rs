use super::*;
use crate::program::Moment::{self, *};

const MOMENTS: [Moment; 15] = [
    VarSamp,
    VarPop,
    StddevSamp,
    StddevPop,
    CovarSamp,
    CovarPop,
    Corr,
    RegrSlope,
    RegrIntercept,
    RegrR2,
    RegrAvgX,
    RegrAvgY,
    RegrSxx,
    RegrSyy,
    RegrSxy,
];

const GROUPS: usize = 7;

/// Floats around `offset`; of one value alone where `constant`.
fn floats(g: &mut Gen, n: usize, offset: f64, constant: bool) -> Vector {
    let values: Vec<f64> = (0..n).map(|_| offset + if constant { 0.0 } else { g.below(1000) as f64 / 7.0 }).collect();
    let valid: Vec<u8> = (0..n).map(|_| u8::from(g.below(5) != 0)).collect();
    Vector::with_valid(Values::F64(values.into()), (g.below(2) == 0).then(|| valid.into()))
}

fn state(m: Moment) -> State {
    State::new(Moment(m), KeyType::new(Type::F64, 0)).unwrap()
}

/// Whether two statistics agree, as far as the size of their column lets them.
fn close(a: &Value, b: &Value, size: f64) -> bool {
    match (a, b) {
        (Value::F64(a), Value::F64(b)) => (a - b).abs() <= 1e-9 * (a.abs().max(b.abs()) + size * 1e-3),
        (a, b) => a == b,
    }
}

#[test]
fn agree_with_the_reference_whole_and_in_parts() {
    let mut g = Gen::new(31);
    for round in 0..60 {
        let m = MOMENTS[round % MOMENTS.len()];
        let offset = [0.0, 0.1, -1000.0][round % 3];
        let constant = round / 15 == 3;
        let part = |g: &mut Gen| {
            let n = g.below(300) as usize;
            let ids = (0..n).map(|_| g.below(GROUPS as u64 - 1) as u32).collect();
            let args = (0..m.arguments()).map(|_| floats(g, n, offset, constant)).collect();
            Rows { groups: GROUPS, ids, args, filter: (g.below(2) == 0).then(|| g.vector(Type::Bool, n, false)) }
        };
        let mut rows = vec![vec![]; GROUPS];
        let (mut whole, mut merged) = (state(m), state(m));
        for _ in 0..3 {
            let part = part(&mut g);
            rows.iter_mut().zip(part.by_group()).for_each(|(all, more)| all.extend(more));
            part.add_to(&mut whole);
            part.add_parts_to(&mut merged, || state(m), &[part.ids.len()]);
        }
        for (group, rows) in rows.iter().enumerate() {
            let want = aggregate(Moment(m), rows);
            for got in [&mut whole, &mut merged] {
                let got = got.value(group as u32, GROUPS).unwrap();
                assert!(close(&got, &want, 1000.0), "round {round}: {m:?} of group {group}: {got:?}, not {want:?}");
            }
        }
    }
    // Negative control.
    assert!(!close(&Value::F64(1.0), &Value::F64(1.0 + 1e-4), 1.0) && !close(&Value::Null, &Value::F64(0.0), 1.0));
}

/// Whatever the value and the parts it comes in.
#[test]
fn a_constant_column_varies_by_nothing() {
    let mut g = Gen::new(32);
    for v in [0.1, -1e300, 1.0 / 3.0, 5.0] {
        for m in [VarPop, StddevSamp, Corr, RegrSlope, CovarPop] {
            let mut all = state(m);
            for _ in 0..20 {
                let mut part = state(m);
                let n = 1 + g.below(50) as usize;
                let x = Vector::new(Values::F64(vec![v; n].into()));
                let y = floats(&mut g, n, 0.0, false);
                let args: Vec<&Vector> = if m.arguments() == 1 { vec![&x] } else { vec![&y, &x] };
                part.update(&vec![0; n], 1, &args, None).unwrap();
                all.merge(&part, &[0], &[0], 1).unwrap();
            }
            let want = if matches!(m, Corr | RegrSlope) { Value::Null } else { Value::F64(0.0) };
            assert_eq!(all.value(0, 1).unwrap(), want, "{m:?} of {v}");
        }
    }
}

#[test]
fn two_columns_of_nan_correlate_as_nan_and_one_does_not() {
    let nan = Vector::new(Values::F64(vec![f64::NAN; 3].into()));
    let some = Vector::new(Values::F64(vec![1.0, 2.0, 3.0].into()));
    for (args, want) in [([&nan, &nan], Value::F64(f64::NAN)), ([&nan, &some], Value::Null), ([&some, &nan], Value::Null)] {
        let mut s = state(Corr);
        s.update(&[0; 3], 1, &args, None).unwrap();
        assert_eq!(s.value(0, 1).unwrap(), want);
    }
    let mut s = state(VarSamp);
    s.update(&[0; 3], 1, &[&nan], None).unwrap();
    assert_eq!(s.value(0, 1).unwrap(), Value::F64(f64::NAN));
}
