use super::*;
use crate::convert::call_schema;
use crate::program::{AggregateCall, Call, Constant, ConstantSource};
use arrow::datatypes::DataType;
use datafusion::physical_expr::expressions::lit;
use millstream_kernels::Value;
use millstream_kernels::program::CompareOp;

/// A program over these registers, the first `inputs` of them columns; one constant, one call.
fn program(inputs: usize, types: &[DataType], instrs: Vec<Instr>) -> Program {
    let call = Call { expr: lit(true), inputs: call_schema(&[DataType::Utf8]), per_entry: true };
    let constant = Constant { source: ConstantSource::Literal(Value::Int(0)), data_type: DataType::Int64 };
    Program { inputs: (0..inputs).collect(), instrs, constants: vec![constant], calls: vec![call], types: types.to_vec() }
}

fn group(keys: Vec<Reg>, function: AggregateFunction, arg: Option<Reg>) -> Sink {
    Sink::Group {
        keys,
        sets: vec![],
        aggregates: vec![AggregateCall { function, args: arg.into_iter().collect(), filter: None, returns: DataType::Int64 }],
    }
}

fn probe(kind: JoinKind, key: Reg, rows: Reg) -> Instr {
    let (null_equals_null, null_aware) = (false, false);
    Instr::Probe(Box::new(Probe { table: 0, keys: vec![key], kind, null_equals_null, null_aware, residual: None, rows, mark: None }))
}

fn compare(a: Reg, b: Reg, out: Reg) -> Instr {
    Instr::Compare { op: CompareOp::Lt, a, b, out }
}

/// `sum(CASE WHEN name LIKE .. THEN v ELSE 0 END)` over `t JOIN names ON key`.
fn joined(kind: JoinKind) -> Program {
    use DataType::{Boolean, Int32, Int64, Utf8};
    let instrs = vec![
        probe(kind, 0, 2),
        Instr::Gather { table: 0, column: 3, rows: 2, out: 3 },
        Instr::Call { call: 0, inputs: vec![3], out: 4 },
        Instr::Const { constant: 0, out: 5 },
        Instr::Select { cond: 4, a: 1, b: 5, out: 6 },
    ];
    program(2, &[Int64, Int64, Int32, Utf8, Boolean, Int64, Int64], instrs)
}

#[test]
fn a_predicate_on_a_tables_strings_is_computed_once_a_table_row() {
    let p = joined(JoinKind::Inner);
    let s = split(&p, &group(vec![], AggregateFunction::Sum, Some(6)), &[true], true).unwrap();
    assert_eq!((s.host.len(), s.inputs.as_slice()), (0, [0, 1].as_slice()));
    assert_eq!(s.tables[0].instrs, p.instrs[1..3]);
    assert_eq!(s.tables[0].columns, [4]);
    let [Instr::Probe(_), Instr::Gather { table: 0, column: 0, rows, out }, Instr::Const { .. }, Instr::Select { cond, .. }] =
        s.device.instrs.as_slice()
    else {
        panic!("{:?}", s.device.instrs);
    };
    assert_eq!(out, cond);
    assert!(matches!(&s.device.instrs[0], Instr::Probe(p) if p.rows == *rows && p.keys == [0]));
}

#[test]
fn a_table_that_the_device_cannot_probe_is_probed_by_the_host() {
    for (kind, can_probe) in [(JoinKind::Inner, false), (JoinKind::ProbeOuter, true)] {
        // Of an outer probe the string of a row without a match is null: no table row says so.
        let p = joined(kind);
        let s = split(&p, &group(vec![], AggregateFunction::Sum, Some(6)), &[can_probe], true).unwrap();
        assert_eq!(s.host, p.instrs[..3], "{kind:?}");
        assert!(s.tables.is_empty());
        assert_eq!(s.inputs, [1, 4]);
        assert!(matches!(s.device.instrs.as_slice(), [Instr::Const { .. }, Instr::Select { cond: 1, a: 0, .. }]), "{:?}", s.device.instrs);
    }
}

#[test]
fn a_key_from_a_table_is_numbered_there() {
    let p = joined(JoinKind::Inner);
    let s = split(&p, &group(vec![3], AggregateFunction::Sum, Some(6)), &[true], true).unwrap();
    assert_eq!((s.host.len(), s.keys.len(), s.inputs.as_slice()), (0, 0, [0, 1].as_slice()));
    assert_eq!((s.tables[0].columns.as_slice(), s.tables[0].codes.as_slice()), ([4].as_slice(), [3].as_slice()));
    assert_eq!((s.tables[0].instrs.as_slice(), s.table_keys.as_slice()), (&p.instrs[1..3], [TableKey { table: 0, code: 0 }].as_slice()));
    // The codes are the table's column after those that the program reads.
    let [Instr::Probe(probe), Instr::Gather { column: 0, .. }, .., Instr::Gather { table: 0, column: 1, rows, out }] =
        s.device.instrs.as_slice()
    else {
        panic!("{:?}", s.device.instrs);
    };
    assert_eq!((probe.rows, s.device.keys.as_slice()), (*rows, [(*out, 1)].as_slice()));
}

#[test]
fn a_key_that_no_table_numbers_brings_its_probe_to_the_host() {
    // Too many groups; a row without a match; a key of the rows beside one of a table.
    for (kind, keys, keys_of_tables) in
        [(JoinKind::Inner, vec![3], false), (JoinKind::ProbeOuter, vec![3], true), (JoinKind::Inner, vec![3, 1], true)]
    {
        let p = joined(kind);
        let s = split(&p, &group(keys.clone(), AggregateFunction::Sum, Some(6)), &[true], keys_of_tables).unwrap();
        assert_eq!((s.keys.as_slice(), s.host.as_slice()), (keys.as_slice(), &p.instrs[..3]));
        assert!(s.table_keys.is_empty() && s.tables.iter().all(|t| t.codes.is_empty()));
        // The code of the keys is the last input.
        assert_eq!((s.device.keys.as_slice(), s.device.inputs.len()), ([(2, 1)].as_slice(), 3));
    }
}

#[test]
fn filters_before_a_call_of_the_host_are_the_hosts() {
    use DataType::{Boolean, Int64, Utf8};
    let instrs = vec![
        Instr::Const { constant: 0, out: 2 },
        compare(0, 2, 3),
        Instr::Filter { cond: 3 },
        Instr::Call { call: 0, inputs: vec![1], out: 4 },
        Instr::Filter { cond: 4 },
        compare(2, 0, 5),
        Instr::Filter { cond: 5 },
    ];
    let p = program(2, &[Int64, Utf8, Int64, Boolean, Boolean, Boolean], instrs);
    let s = split(&p, &group(vec![], AggregateFunction::Count, None), &[], true).unwrap();
    assert_eq!(s.host, p.instrs[..5]);
    assert_eq!(s.inputs, [0]);
    assert!(matches!(s.device.instrs.as_slice(), [Instr::Const { .. }, Instr::Compare { b: 0, .. }, Instr::Filter { .. }]));
}

#[test]
fn what_is_counted_may_be_of_any_type() {
    let p = program(1, &[DataType::Utf8], vec![]);
    let s = split(&p, &group(vec![], AggregateFunction::Count, Some(0)), &[], true).unwrap();
    assert_eq!((s.inputs.as_slice(), s.device.inputs.as_slice()), ([0].as_slice(), [Type::Bool].as_slice()));
}

#[test]
fn a_refusal_names_what_is_not_covered() {
    let check = |p: &Program, sink: &Sink, part: &str| {
        let why = refusal(p, sink).unwrap_or_default();
        assert!(why.contains(part), "{why}");
    };
    let floats = program(1, &[DataType::Float64], vec![]);
    check(&floats, &Sink::Collect { columns: vec![0] }, "a collect sink");
    check(&floats, &group(vec![], AggregateFunction::Median, Some(0)), "median of Float64");
    check(&floats, &group(vec![], AggregateFunction::CountDistinct, Some(0)), "count distinct of Float64");
    check(&joined(JoinKind::BuildAnti), &group(vec![], AggregateFunction::Count, None), "probe #0 BuildAnti");
    assert_eq!(refusal(&joined(JoinKind::Inner), &group(vec![], AggregateFunction::Avg, Some(6))), None);
}

#[test]
fn floats_are_added_up_as_two_integers_and_compared_as_one() {
    let p = program(2, &[DataType::Float64, DataType::Int64], vec![]);
    let call = |function, arg| AggregateCall { function, args: vec![arg], filter: None, returns: DataType::Float64 };
    let functions = [(AggregateFunction::Avg, 0), (AggregateFunction::Sum, 1), (AggregateFunction::Max, 0), (AggregateFunction::Sum, 0)];
    let aggregates = functions.into_iter().map(|(f, arg)| call(f, arg)).collect();
    let s = split(&p, &Sink::Group { keys: vec![1], sets: vec![], aggregates }, &[], true).unwrap();
    assert_eq!(s.floats, [(0, Form::Halves), (0, Form::Ordered)]);
    // Validity of the float, the integer, the code, the halves, the order.
    assert_eq!(s.device.inputs, [Type::Bool, Type::I64, Type::I32, Type::I64, Type::I64, Type::I64]);
    let args: Vec<_> = s.device.aggregates.iter().map(|a| a.arg).collect();
    assert_eq!(args, [Some(3), Some(4), Some(0), Some(1), Some(5), Some(3), Some(4)]);
    let sum = |high| Made::Sum { high, float: 0 };
    assert_eq!(s.made, [sum(0), Made::Exact(2), Made::Exact(3), Made::Ordered(4), sum(5)]);
}
