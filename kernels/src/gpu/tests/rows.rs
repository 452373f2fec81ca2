//! Runs that select rows: which survive, in what order, and what comes back of them.

use super::*;
use crate::value::Value;
use oracle::{Data, Survivor};

fn select(device: &Arc<Device>, case: &Case, options: RunOptions) -> Result<SelectedRows> {
    let tables: Vec<HostTable> = case.tables.iter().map(oracle::Table::host).collect();
    let run = device.prepare_rows(case.program.clone(), &tables, options)?;
    let columns: Vec<HostColumn> = case.columns.iter().map(|c| c.slice(0, case.rows)).collect();
    run.select(&columns, &[], case.rows, &mut Timings::default())
}

/// The first row in which two lists of survivors differ.
fn differs(found: &[Survivor], expected: &[Survivor]) -> Option<String> {
    if found.len() != expected.len() {
        return Some(format!("{} rows survive, expected {}", found.len(), expected.len()));
    }
    found.iter().zip(expected).find(|(f, e)| f != e).map(|(f, e)| format!("found {f:?}, expected {e:?}"))
}

fn check_rows(case: &Case) {
    let expected = survivors(case);
    for device in devices() {
        for options in [RunOptions::default(), small_chunks(64)] {
            let found = select(&device, case, options).unwrap();
            if let Some(difference) = differs(&survivors_of(case, &found), &expected) {
                panic!("{:?}: {difference}", device.class());
            }
        }
    }
}

/// Keeps rows whose value is below a literal; the value, its double and whether it is odd come back.
fn below(rows: usize, limit: i64, value: impl Fn(usize) -> i64) -> Case {
    let values: Vec<i64> = (0..rows).map(value).collect();
    let mut program = program(&[Type::I64], vec![]);
    program.constants = vec![Value::Int(limit.into())];
    program.instrs = vec![
        Instr::Const { constant: 0, out: 1 },
        compare(CompareOp::Lt, 0, 1, 2),
        Instr::Filter { cond: 2 },
        arith(ArithOp::Add, 0, 0, 3),
        compare(CompareOp::Gt, 3, 1, 4),
    ];
    program.outputs = vec![3, 4, 0];
    Case { program, rows, columns: vec![Column::i64s(&values)], tables: vec![] }
}

#[test]
fn sizes_around_the_boundaries() {
    for rows in [0, 1, 31, 32, 33, 255, 256, 257, 511, 4096, 70_001] {
        check_rows(&below(rows, 500, |i| (i * 7919 % 1000) as i64));
    }
}

#[test]
fn all_none_and_one_of_the_rows() {
    for limit in [i64::MIN, 0, 1, 1 << 40] {
        check_rows(&below(3000, limit, |i| i as i64));
    }
}

#[test]
fn wide_values_beside_narrow_ones() {
    // The second chunk's results need 64 bits, the others' do not.
    check_rows(&below(200, 1 << 50, |i| if (64..128).contains(&i) { 1 << 40 } else { i as i64 }));
}

/// More outputs than a word has flags, all of them nullable booleans.
#[test]
fn many_flags() {
    let mut rng = random::Gen(9);
    let rows = 1000;
    let mut program = program(&[Type::Bool, Type::Bool], vec![]);
    for out in 2..40 {
        let (a, b) = (rng.below(u64::from(out)) as Reg, rng.below(u64::from(out)) as Reg);
        program.instrs.push(logic(rng.pick(&[BoolOp::And, BoolOp::Or]), a, b, out));
        program.instrs.push(Instr::Not { a: out, out: out + 100 });
        program.outputs.extend([out, out + 100]);
    }
    program.instrs.push(Instr::Filter { cond: 1 });
    let mut column = || {
        let valid = (0..rows).map(|_| u8::from(!rng.one_in(3))).collect();
        Column::new(Data::Bool((0..rows).map(|_| rng.below(2) as u8).collect())).with_nulls(valid)
    };
    let columns = vec![column(), column()];
    check_rows(&Case { program, rows, columns, tables: vec![] });
}

#[test]
fn random_programs_agree_with_the_oracle() {
    check_random(0..60);
}

/// The same at length: minutes, most of them in the driver's compiler.
#[test]
#[ignore = "takes minutes; run it after changes to lower.rs, select.rs or the shaders"]
fn random_programs_agree_with_the_oracle_at_length() {
    check_random(5000..6000);
}

fn check_random(seeds: std::ops::Range<u64>) {
    let (mut refused, mut runs) = (0, 0);
    for seed in seeds {
        let case = random::case(seed);
        let expected = survivors(&case);
        let mut rng = random::Gen(seed);
        for device in devices() {
            runs += 1;
            let options = RunOptions { chunk_rows_max: rng.pick(&[32, 96, 4096, 1 << 20]), ..RunOptions::default() };
            match select(&device, &case, options) {
                Ok(found) => {
                    if let Some(difference) = differs(&survivors_of(&case, &found), &expected) {
                        panic!("seed {seed}, {:?}: {difference}\n{:?}", device.class(), case.program);
                    }
                }
                Err(e) if e.kind() == ErrorKind::Unsupported => refused += 1,
                Err(e) => panic!("seed {seed}, {:?}: {e}\n{:?}", device.class(), case.program),
            }
        }
    }
    println!("{refused} of {runs} runs refused");
    assert!(refused * 2 <= runs, "too few random programs run at all");
}

/// Negative control: one changed input value is another list of survivors.
#[test]
fn the_comparator_sees_one_wrong_row() {
    let case = below(1000, 500, |i| i as i64);
    let corrupt = below(1000, 500, |i| if i == 637 { 1 } else { i as i64 });
    let right = survivors(&case);
    for device in devices() {
        let found = select(&device, &corrupt, RunOptions::default()).unwrap();
        assert!(differs(&survivors_of(&corrupt, &found), &right).is_some());
    }
    let mut wrong = right.clone();
    wrong[3].1[0] = wrong[3].1[0].map(|v| v ^ 1);
    assert!(differs(&wrong, &right).is_some(), "a value");
    wrong.clone_from(&right);
    wrong.swap(3, 4);
    assert!(differs(&wrong, &right).is_some(), "the order");
}

#[test]
fn a_refused_push_leaves_the_run_usable() {
    for device in devices() {
        let case = below(10, 500, |i| i as i64);
        let run = device.prepare_rows(case.program.clone(), &[], RunOptions::default()).unwrap();
        let mut timings = Timings::default();
        // Twice the value leaves 64 bits.
        let wide = run.select(&[HostColumn::new(HostValues::I64(&[i64::MAX]))], &[], 1, &mut timings);
        assert_eq!(wide.unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(run.select(&[HostColumn::new(HostValues::I64(&[3]))], &[], 1, &mut timings).unwrap().rows, [0]);
        assert_eq!(run.select(&[], &[], 1, &mut timings).unwrap_err().kind(), ErrorKind::Bug);
        assert!(timings.chunks == 1 && timings.readback_bytes > 0);
    }
}

#[test]
fn faults_become_errors_and_free_everything() {
    for (fault, kind) in [
        (Fault::Submit, ErrorKind::Closed),
        (Fault::OutOfMemory, ErrorKind::Exhausted),
        (Fault::Lost, ErrorKind::Closed),
        (Fault::Panic, ErrorKind::Closed),
    ] {
        let Some(device) = private_device() else { return };
        let case = below(5000, 500, |i| i as i64);
        let run = device.prepare_rows(case.program.clone(), &[], small_chunks(512)).unwrap();
        let columns = [case.columns[0].slice(0, 5000)];
        let mut timings = Timings::default();
        run.select(&columns, &[], 5000, &mut timings).unwrap();
        device.inject(fault);
        assert_eq!(run.select(&columns, &[], 5000, &mut timings).unwrap_err().kind(), kind, "{fault:?}");
        assert_eq!(run.select(&columns, &[], 5000, &mut timings).unwrap_err().kind(), ErrorKind::Closed, "{fault:?}");
        drop(run);
        if matches!(fault, Fault::Submit | Fault::OutOfMemory) {
            assert_eq!(device.memory().unwrap().live_bytes, 0);
            let found = select(&device, &case, RunOptions::default()).unwrap();
            assert!(differs(&survivors_of(&case, &found), &survivors(&case)).is_none());
        }
    }
}

#[test]
fn pushes_from_many_threads() {
    let case = below(20_000, 500, |i| (i * 31 % 1000) as i64);
    let expected = survivors(&case);
    for device in devices() {
        let run = device.prepare_rows(case.program.clone(), &[], small_chunks(4096)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let found = run.select(&[case.columns[0].slice(0, 20_000)], &[], 20_000, &mut Timings::default()).unwrap();
                    assert!(differs(&survivors_of(&case, &found), &expected).is_none());
                });
            }
        });
    }
}

/// Sets that change from push to push, one of them with nulls among the codes.
#[test]
fn codes_in_sets() {
    let codes: Vec<i32> = (0..500).map(|i| i * 7 % 100).collect();
    let valid: Vec<u8> = (0..500).map(|i| u8::from(i % 9 != 0)).collect();
    let mut program = program(&[Type::I32, Type::I32], vec![]);
    program.sets = vec![CodeSet { code: 0, out: 2 }, CodeSet { code: 1, out: 3 }];
    program.instrs = vec![logic(BoolOp::Or, 2, 3, 4), Instr::Filter { cond: 4 }];
    program.outputs = vec![2, 3];
    for device in devices() {
        let run = device.prepare_rows(program.clone(), &[], small_chunks(128)).unwrap();
        for step in 2..5 {
            let is_in = |code: i32, other: i32| (code + other) % step == 0;
            let bits = |other: i32| {
                let mut words = [0u32; 4];
                (0..100).filter(|c| is_in(*c, other)).for_each(|c| words[c as usize / 32] |= 1 << (c % 32));
                words
            };
            let (one, two) = (bits(0), bits(1));
            let columns = [
                HostColumn { values: HostValues::I32(&codes), valid: Some(&valid), piece: None },
                HostColumn::new(HostValues::I32(&codes)),
            ];
            let found = run.select(&columns, &[&one, &two], 500, &mut Timings::default()).unwrap();
            let expected = (0..500u32).filter(|i| {
                let (i, code) = (*i as usize, codes[*i as usize]);
                valid[i] == 1 && is_in(code, 0) || is_in(code, 1)
            });
            assert_eq!(found.rows, expected.collect::<Vec<_>>(), "{:?}", device.class());
            assert!(found.columns[0].valid.is_some() && found.columns[1].valid.is_none());
        }
        let large = vec![0u32; 2000];
        let columns = [HostColumn::new(HostValues::I32(&[1])), HostColumn::new(HostValues::I32(&[1]))];
        let refused = run.select(&columns, &[&large, &large], 1, &mut Timings::default());
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
        let missing = run.select(&columns, &[&large[..1]], 1, &mut Timings::default());
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::Bug);
    }
}
