//! The device against a row-at-a-time oracle, on every class of device this machine can act.

mod exact;
mod faults;
mod oracle;
mod programs;
mod random;
mod resident;
mod rows;
mod shapes;
mod sort;
mod validation;

use super::*;
use crate::program::{AggregateOp, ArithOp, BoolOp, CompareOp, JoinKind, Probe};
use crate::{Error, ErrorKind, Result};
use oracle::{Answer, Case, Column, answer, answer_of, survivors, survivors_of};
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex, Weak};

/// The devices to test on, opened once and kept; empty, and said so, where there is no adapter.
pub(super) fn devices() -> Vec<Arc<Device>> {
    static OPENED: Mutex<Option<Vec<Arc<Device>>>> = Mutex::new(None);
    let mut opened = OPENED.lock().unwrap();
    let devices = opened.get_or_insert_with(|| {
        let classes = [CapabilityClass::All, CapabilityClass::Floor];
        classes.iter().filter_map(|class| Device::open(*class).unwrap()).collect()
    });
    if devices.is_empty() {
        skip();
    }
    devices.clone()
}

/// A device of its own, for tests that break it.
fn private_device() -> Option<Arc<Device>> {
    let device = Device::open_in(&mut Weak::new(), CapabilityClass::Floor).unwrap();
    if device.is_none() {
        skip();
    }
    device
}

/// Notes that the calling test cannot run. Written past the harness, which hides what passing tests print.
#[expect(clippy::disallowed_methods, reason = "tests are told by the environment that a GPU is required")]
fn skip() {
    static SKIPPED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let required = std::env::var("MILLSTREAM_REQUIRE_GPU").is_ok_and(|v| v == "1");
    assert!(!required, "MILLSTREAM_REQUIRE_GPU=1 and there is no adapter");
    let test = std::thread::current().name().unwrap_or("a test").to_string();
    let mut skipped = SKIPPED.lock().unwrap();
    if skipped.insert(test.clone()) {
        let count = skipped.len();
        writeln!(std::io::stderr(), "skipped for want of a GPU adapter: {test} ({count} so far)").unwrap();
    }
}

fn aggregate(op: AggregateOp, arg: Option<Reg>, filter: Option<Reg>, ty: Type) -> Aggregate {
    Aggregate { op, arg, filter, ty }
}

fn probe(table: u16, key: Reg, kind: JoinKind, rows: Reg, mark: Option<Reg>) -> Instr {
    Instr::Probe(Box::new(Probe { table, keys: vec![key], kind, null_equals_null: false, null_aware: false, residual: None, rows, mark }))
}

fn compare(op: CompareOp, a: Reg, b: Reg, out: Reg) -> Instr {
    Instr::Compare { op, a, b, out }
}

fn arith(op: ArithOp, a: Reg, b: Reg, out: Reg) -> Instr {
    Instr::Arith { op, a, b, ty: Type::Decimal, checked: true, out }
}

fn logic(op: BoolOp, a: Reg, b: Reg, out: Reg) -> Instr {
    Instr::Bool { op, a, b, out }
}

/// Runs `case` in `pushes` about equal parts.
fn run(device: &Arc<Device>, case: &Case, pushes: usize, options: RunOptions) -> Result<GroupPartials> {
    let tables: Vec<HostTable> = case.tables.iter().map(oracle::Table::host).collect();
    let run = device.prepare(case.program.clone(), &tables, options)?;
    for i in 0..pushes {
        let (from, to) = (case.rows * i / pushes, case.rows * (i + 1) / pushes);
        let columns: Vec<HostColumn> = case.columns.iter().map(|c| c.slice(from, to)).collect();
        run.push(&columns, to - from)?;
    }
    run.finish()
}

fn small_chunks(rows: usize) -> RunOptions {
    RunOptions { chunk_rows_max: rows, ..RunOptions::default() }
}

/// The device's answer equals the oracle's, in one push and in several, whole and in small chunks.
fn check(case: &Case) {
    let expected = answer(case);
    for device in devices() {
        for (pushes, options) in [(1, RunOptions::default()), (3, small_chunks(64))] {
            let partials = run(&device, case, pushes, options).unwrap();
            assert_same(&answer_of(&partials), &expected, device.class());
        }
    }
}

fn assert_same(found: &Answer, expected: &Answer, class: CapabilityClass) {
    if let Some(difference) = difference(found, expected) {
        panic!("{class:?}: {difference}");
    }
}

/// The comparator: the first group in which two answers differ.
fn difference(found: &Answer, expected: &Answer) -> Option<String> {
    let mut codes: Vec<_> = found.keys().chain(expected.keys()).collect();
    codes.sort();
    codes.dedup();
    codes.into_iter().find_map(|codes| {
        let (found, expected) = (found.get(codes), expected.get(codes));
        (found != expected).then(|| format!("group {codes:?}: found {found:?}, expected {expected:?}"))
    })
}

/// A program without keys or instructions over columns of `inputs`.
fn program(inputs: &[Type], aggregates: Vec<Aggregate>) -> DeviceProgram {
    DeviceProgram { inputs: inputs.to_vec(), instrs: vec![], constants: vec![], keys: vec![], aggregates, outputs: vec![], sets: vec![] }
}

fn kind_of<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.map(|_| ()).unwrap_err().kind()
}

#[test]
fn random_programs_agree_with_the_oracle() {
    check_random(0..40);
}

/// The same at length: minutes, most of them in the driver's compiler.
#[test]
#[ignore = "takes minutes; run it after changes to lower.rs, sink.rs or the shaders"]
fn random_programs_agree_with_the_oracle_at_length() {
    check_random(1000..2000);
}

fn check_random(seeds: std::ops::Range<u64>) {
    let mut refused = 0;
    let devices = devices();
    let runs = (seeds.end - seeds.start) as usize * devices.len();
    for seed in seeds {
        let case = random::case(seed);
        let expected = answer(&case);
        let mut rng = random::Gen(seed);
        for device in &devices {
            let options = RunOptions {
                chunk_rows_max: rng.pick(&[32, 96, 4096, 1 << 20]),
                table_bytes_max: rng.pick(&[400, 1 << 20]),
                ..RunOptions::default()
            };
            match run(device, &case, rng.pick(&[1, 1, 2, 4]), options) {
                Ok(partials) => {
                    if let Some(difference) = difference(&answer_of(&partials), &expected) {
                        panic!("seed {seed}, {:?}: {difference}\n{:?}", device.class(), case.program);
                    }
                }
                // A range that was not proved, or tables too large for the buffers drawn above.
                Err(e) => match e.kind() {
                    ErrorKind::Unsupported | ErrorKind::Exhausted => refused += 1,
                    _ => panic!("seed {seed}, {:?}: {e}\n{:?}", device.class(), case.program),
                },
            }
        }
    }
    println!("{refused} of {runs} runs refused");
    assert!(refused * 2 <= runs, "too few random programs run at all");
}

#[test]
fn the_comparator_sees_one_wrong_value() {
    let case = random::case(7);
    let right = answer(&case);
    assert!(!right.is_empty() && difference(&right, &right).is_none());
    let codes = right.keys().next().unwrap().clone();
    let mut wrong = right.clone();
    wrong.get_mut(&codes).unwrap().1[0].0 += 1;
    assert!(difference(&wrong, &right).is_some(), "a count");
    let mut wrong = right.clone();
    let result = &mut wrong.get_mut(&codes).unwrap().1[0].1;
    *result = Some(result.map_or(0, |v| v + 1));
    assert!(difference(&wrong, &right).is_some(), "a value");
    let mut wrong = right.clone();
    wrong.remove(&codes);
    assert!(difference(&wrong, &right).is_some() && difference(&right, &wrong).is_some(), "a group");
}

#[test]
fn one_corrupt_input_value_is_seen_end_to_end() {
    let values: Vec<i64> = (0..1000).map(|i| i * i - 400_000).collect();
    let aggregates = vec![aggregate(AggregateOp::Sum, Some(0), None, Type::I64)];
    let case = |values: &[i64]| Case {
        program: program(&[Type::I64], aggregates.clone()),
        rows: values.len(),
        columns: vec![Column::i64s(values)],
        tables: vec![],
    };
    let mut corrupt = values.clone();
    corrupt[637] ^= 1;
    for device in devices() {
        let partials = run(&device, &case(&corrupt), 1, RunOptions::default()).unwrap();
        assert!(difference(&answer_of(&partials), &answer(&case(&values))).is_some());
    }
}

#[test]
fn adapters_are_described() {
    let found = adapters().unwrap();
    if found.is_empty() {
        return skip();
    }
    for adapter in &found {
        assert!(!adapter.name.is_empty() && !adapter.backend.is_empty());
        assert!(adapter.invocations_max >= 256 && adapter.binding_bytes_max > 0);
    }
    let best = Device::open(CapabilityClass::All).unwrap().unwrap();
    assert_eq!(best.info().name, found[0].name);
    assert_eq!(best.info().is_software, found[0].is_software);
    let floor = Device::open(CapabilityClass::Floor).unwrap().unwrap();
    let info = floor.info();
    assert!(!info.int64 && !info.f64 && !info.subgroups && !info.timestamps);
    assert_eq!((info.workgroup_memory_bytes, info.invocations_max, info.workgroups_max), (16 << 10, 256, 65_535));
    assert_eq!((info.buffer_bytes_max, info.binding_bytes_max, info.storage_buffers_max), (256 << 20, 128 << 20, 8));
}
