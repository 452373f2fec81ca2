//! What happens when it does not work: refusals, faults, limits, cancellation, leaks.

use super::*;
use crate::value::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn simple(rows: usize) -> Case {
    let values: Vec<i64> = (0..rows as i64).collect();
    let aggregates = vec![aggregate(AggregateOp::Sum, Some(0), None, Type::I64), aggregate(AggregateOp::Min, Some(0), None, Type::I64)];
    Case { program: program(&[Type::I64], aggregates), rows, columns: vec![Column::i64s(&values)], tables: vec![] }
}

#[test]
fn what_the_device_does_not_do_is_refused_by_name() {
    let refused = |change: &dyn Fn(&mut Case), name: &str| {
        let mut case = simple(10);
        change(&mut case);
        for device in devices() {
            let error = run(&device, &case, 1, RunOptions::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains(name), "{error} should name {name}");
        }
    };
    refused(&|case| case.program.inputs[0] = Type::F64, "F64");
    refused(&|case| case.program.inputs[0] = Type::Str, "Str");
    refused(&|case| case.program.instrs.push(Instr::Cast { a: 0, to: Type::F64, scale: 0, out: 1 }), "Cast");
    refused(&|case| case.program.instrs.push(Instr::Call { call: 0, inputs: vec![0], out: 1 }), "Call");
    refused(&|case| case.program.aggregates[0].op = AggregateOp::CountDistinct, "CountDistinct");
    refused(&|case| case.program.aggregates[0].ty = Type::F64, "F64");
    refused(&|case| case.program.keys = vec![(0, 1 << 31), (0, 2)], "groups");
    let literals = [Value::F64(1.5), Value::Int(1 << 70), Value::Str("x".into())];
    for (literal, name) in literals.into_iter().zip(["float", "range", "string"]) {
        let change = |case: &mut Case| {
            case.program.constants = vec![literal.clone()];
            case.program.instrs = vec![Instr::Const { constant: 0, out: 1 }];
        };
        refused(&change, name);
    }
}

#[test]
fn broken_programs_and_data_are_errors() {
    let broken = |change: &dyn Fn(&mut Case)| {
        let mut case = simple(10);
        change(&mut case);
        for device in devices() {
            let error = run(&device, &case, 1, RunOptions::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Bug, "{error}");
        }
    };
    broken(&|case| case.program.instrs.push(Instr::Not { a: 7, out: 8 }));
    broken(&|case| case.program.instrs.push(Instr::Not { a: 0, out: 1 }));
    broken(&|case| case.program.instrs.push(Instr::Const { constant: 3, out: 1 }));
    broken(&|case| case.program.instrs.push(probe(0, 0, JoinKind::Inner, 1, None)));
    broken(&|case| case.program.keys = vec![(0, 9)]);
    broken(&|case| case.program.keys = vec![(0, 0)]);
    broken(&|case| case.program.inputs[0] = Type::Bool);
    broken(&|case| case.columns.clear());
    broken(&|case| case.columns[0].valid = Some(vec![1; 3]));
    broken(&|case| {
        let columns = vec![Column::i32s(&[1, 2])];
        case.tables = vec![oracle::Table { min_key: 0, slots: vec![3], hash: None, columns }];
    });
    broken(&|case| case.tables = vec![oracle::Table { min_key: i64::MAX, slots: vec![0, 0], hash: None, columns: vec![] }]);
}

#[test]
fn a_run_that_failed_answers_nothing_more() {
    for device in devices() {
        let case = simple(10);
        let run = device.prepare(case.program.clone(), &[], RunOptions::default()).unwrap();
        run.push(&[case.columns[0].slice(0, 5)], 5).unwrap();
        assert_eq!(run.push(&[], 5).unwrap_err().kind(), ErrorKind::Bug);
        assert!(run.push(&[case.columns[0].slice(5, 10)], 5).is_err());
        assert!(run.finish().is_err());
    }
}

#[test]
fn faults_become_errors_and_free_everything() {
    let Some(device) = private_device() else { return };
    let case = simple(5000);
    let expected = answer(&case);
    for (fault, kind) in [(Fault::Submit, ErrorKind::Closed), (Fault::OutOfMemory, ErrorKind::Exhausted)] {
        // Without tables the first opportunities lie in prepare, in a chunk, and in the readback.
        for skipped in 0..2 {
            let outcome = (|| {
                if skipped == 0 {
                    device.inject(fault);
                }
                let run = device.prepare(case.program.clone(), &[], small_chunks(512))?;
                run.push(&[case.columns[0].slice(0, 2500)], 2500)?;
                if skipped == 1 {
                    device.inject(fault);
                }
                run.push(&[case.columns[0].slice(2500, 5000)], 2500)?;
                run.finish()
            })();
            assert_eq!(kind_of(outcome), kind, "{fault:?}");
            assert_eq!(device.memory().unwrap().live_bytes, 0);
            let partials = run(&device, &case, 1, RunOptions::default()).unwrap();
            assert_same(&answer_of(&partials), &expected, device.class());
        }
    }
}

#[test]
fn a_lost_device_is_an_error_and_not_handed_out_again() {
    for fault in [Fault::Lost, Fault::Panic] {
        let Some(device) = private_device() else { return };
        let case = simple(5000);
        device.inject(fault);
        assert_eq!(kind_of(run(&device, &case, 1, RunOptions::default())), ErrorKind::Closed, "{fault:?}");
        assert!(device.lost().is_some());
        assert_eq!(kind_of(run(&device, &case, 1, RunOptions::default())), ErrorKind::Closed, "{fault:?}");
        drop(device);
        let Some(device) = private_device() else { return };
        assert!(run(&device, &case, 1, RunOptions::default()).is_ok());
    }
}

#[test]
fn memory_is_pooled_limited_and_freed() {
    let Some(device) = private_device() else { return };
    let case = simple(50_000);
    assert_eq!(device.memory().unwrap(), DeviceMemory { live_bytes: 0, kept_bytes: 0, pooled_bytes: 0 });
    run(&device, &case, 2, RunOptions::default()).unwrap();
    let first = device.memory().unwrap();
    assert!(first.live_bytes == 0 && first.pooled_bytes > 0);
    for _ in 0..5 {
        run(&device, &case, 2, RunOptions::default()).unwrap();
        assert_eq!(device.memory().unwrap(), first, "the pool grows from run to run");
    }
    // Dropped in the middle.
    let unfinished = device.prepare(case.program.clone(), &[], small_chunks(1024)).unwrap();
    unfinished.push(&[case.columns[0].slice(0, 50_000)], 50_000).unwrap();
    assert!(device.memory().unwrap().live_bytes > 0);
    drop(unfinished);
    assert_eq!(device.memory().unwrap().live_bytes, 0);
    device.limit_memory(64 << 10);
    assert_eq!(kind_of(run(&device, &case, 1, RunOptions::default())), ErrorKind::Exhausted);
    assert_eq!(device.memory().unwrap().live_bytes, 0);
    device.limit_memory(u64::MAX);
    assert!(run(&device, &case, 1, RunOptions::default()).is_ok());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how soon is a measurement")]
fn cancellation_ends_a_run_soon() {
    let Some(device) = private_device() else { return };
    // Few groups, much contention, two passes: enough work to be cancelled in the middle of.
    let case = simple(4_000_000);
    let cancel = Arc::new(AtomicBool::new(false));
    let options = RunOptions { cancel: Arc::clone(&cancel), ..RunOptions::default() };
    let run = device.prepare(case.program.clone(), &[], options).unwrap();
    run.push(&[case.columns[0].slice(0, 4_000_000)], 4_000_000).unwrap();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        cancel.store(true, Ordering::Relaxed);
        Instant::now()
    });
    let outcome = run.finish();
    drop(run);
    let cancelled_at = stopper.join().unwrap();
    if let Err(error) = outcome {
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(cancelled_at.elapsed() < Duration::from_millis(1000), "{:?}", cancelled_at.elapsed());
    }
    assert_eq!(device.memory().unwrap().live_bytes, 0);
    let options = RunOptions { cancel: Arc::new(AtomicBool::new(true)), ..RunOptions::default() };
    assert_eq!(kind_of(super::run(&device, &case, 1, options)), ErrorKind::Closed);
}

#[test]
fn open_shares_a_device_until_it_is_lost() {
    let mut slot = Weak::new();
    let Some(one) = Device::open_in(&mut slot, CapabilityClass::Floor).unwrap() else { return skip() };
    let two = Device::open_in(&mut slot, CapabilityClass::Floor).unwrap().unwrap();
    assert!(Arc::ptr_eq(&one, &two));
    one.inject(Fault::Lost);
    assert!(run(&one, &simple(10), 1, RunOptions::default()).is_err());
    let three = Device::open_in(&mut slot, CapabilityClass::Floor).unwrap().unwrap();
    assert!(!Arc::ptr_eq(&one, &three));
    assert!(run(&three, &simple(10), 1, RunOptions::default()).is_ok());
}
