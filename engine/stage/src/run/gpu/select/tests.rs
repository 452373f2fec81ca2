use super::*;
use crate::convert::call_schema;
use crate::program::{Call, Constant, ConstantSource};
use arrow::datatypes::DataType::{self, Boolean, Float64, Int32, Int64, Utf8};
use datafusion::physical_expr::expressions::lit;
use millstream_kernels::Value;
use millstream_kernels::program::{ArithOp, BoolOp, CompareOp, Residual};

/// A program over these registers, the first `inputs` of them columns; one constant, one call.
fn program(inputs: usize, types: &[DataType], instrs: Vec<Instr>) -> Program {
    let call = Call { expr: lit(true), inputs: call_schema(&[Utf8]), per_entry: true };
    let constant = Constant { source: ConstantSource::Literal(Value::Int(0)), data_type: Int64 };
    Program { inputs: (0..inputs).collect(), instrs, constants: vec![constant], calls: vec![call], types: types.to_vec() }
}

fn probe(kind: JoinKind, key: Reg, rows: Reg) -> Probe {
    Probe { table: 0, keys: vec![key], kind, null_equals_null: false, null_aware: false, residual: None, rows, mark: None }
}

fn less(a: Reg, b: Reg, out: Reg) -> Instr {
    Instr::Compare { op: CompareOp::Lt, a, b, out }
}

fn call(input: Reg, out: Reg) -> Instr {
    Instr::Call { call: 0, inputs: vec![input], out }
}

/// The registers that the device filters and what it probes, in its own numbers.
fn steps(s: &RowSplit) -> Vec<&Instr> {
    s.device.instrs.iter().filter(|i| matches!(i, Instr::Filter { .. } | Instr::Probe(_))).collect()
}

#[test]
fn the_devices_filters_come_before_those_of_the_host() {
    // where call(f) and a < 0: columns a, s, f
    let instrs = vec![
        call(2, 3),
        Instr::Filter { cond: 3 },
        Instr::Const { constant: 0, out: 4 },
        less(0, 4, 5),
        Instr::Filter { cond: 5 },
        Instr::Arith { op: ArithOp::Add, a: 0, b: 4, ty: Type::I64, checked: true, out: 6 },
    ];
    let p = program(3, &[Int64, Utf8, Float64, Boolean, Int64, Boolean, Int64], instrs);
    let s = split(&p, &[1, 2, 6], &[]).unwrap();
    assert_eq!((s.inputs.as_slice(), s.outputs.as_slice()), ([0].as_slice(), [6].as_slice()));
    assert_eq!(s.rest, p.instrs[..2]);
    assert_eq!(steps(&s).len(), 1);
    assert_eq!(s.device.outputs.len(), 1);
}

#[test]
fn nothing_to_do_is_no_split() {
    let cast = Instr::Cast { a: 0, to: Type::Decimal, scale: 0, out: 1 };
    assert!(split(&program(1, &[Int64, Int64], vec![cast]), &[1], &[]).is_none());
    assert!(split(&program(1, &[Float64, Boolean], vec![call(0, 1), Instr::Filter { cond: 1 }]), &[0], &[]).is_none());
    let p = program(1, &[Int64, Int32], vec![Instr::Probe(Box::new(probe(JoinKind::Inner, 0, 1)))]);
    assert!(split(&p, &[0], &[Lookup::No]).is_none());
    assert!(split(&p, &[0], &[Lookup::Only]).is_some());
}

#[test]
fn columns_of_a_table_are_gathered_by_who_reads_them() {
    let instrs = vec![
        Instr::Probe(Box::new(probe(JoinKind::Inner, 0, 1))),
        Instr::Gather { table: 0, column: 0, rows: 1, out: 2 },
        Instr::Gather { table: 0, column: 1, rows: 1, out: 3 },
        less(0, 2, 4),
        Instr::Filter { cond: 4 },
    ];
    let p = program(1, &[Int64, Int32, Int64, Utf8, Boolean], instrs);
    let s = split(&p, &[0, 3], &[Lookup::Only]).unwrap();
    assert_eq!((s.outputs.as_slice(), &s.rest), ([1].as_slice(), &p.instrs[2..3].to_vec()));
    assert_eq!(s.tables[0].columns, [2]);
    assert_eq!(steps(&s).len(), 2);
}

#[test]
fn pairs_are_the_hosts() {
    let p = |probe: Probe| program(1, &[Int64, Int32, Int64], vec![Instr::Probe(Box::new(probe)), gather()]);
    fn gather() -> Instr {
        Instr::Gather { table: 0, column: 0, rows: 1, out: 2 }
    }
    let kind = |s: &RowSplit| match &s.device.instrs[0] {
        Instr::Probe(p) => p.kind,
        other => panic!("{other:?}"),
    };
    for (asked, found, on_device) in [
        (JoinKind::Inner, Lookup::First, JoinKind::Inner),
        (JoinKind::ProbeOuter, Lookup::First, JoinKind::ProbeOuter),
        (JoinKind::BuildSemi, Lookup::Only, JoinKind::Inner),
        (JoinKind::Full, Lookup::Only, JoinKind::ProbeOuter),
    ] {
        let p = p(probe(asked, 0, 1));
        let s = split(&p, &[2], &[found]).unwrap();
        assert_eq!((kind(&s), &s.rest, s.outputs.as_slice()), (on_device, &p.instrs, [1].as_slice()), "{asked:?}");
    }
    let residual = Some(Residual { instrs: vec![gather()], cond: 0 });
    let s = split(&p(Probe { residual: residual.clone(), ..probe(JoinKind::ProbeAnti, 0, 1) }), &[2], &[Lookup::Only]).unwrap();
    assert_eq!((kind(&s), s.rest.len()), (JoinKind::ProbeOuter, 2));
    assert!(matches!(&s.device.instrs[0], Instr::Probe(p) if p.residual.is_none()));
    // NOT IN looks at every row.
    let s = split(&p(Probe { null_aware: true, ..probe(JoinKind::BuildAnti, 0, 1) }), &[2], &[Lookup::Only]).unwrap();
    assert_eq!(kind(&s), JoinKind::ProbeOuter);
}

/// A filter moved before a probe with a tail would change which build rows were found.
#[test]
fn nothing_moves_before_a_probe_with_a_tail() {
    let instrs = |kind| {
        let probe = Instr::Probe(Box::new(probe(kind, 0, 1)));
        vec![Instr::Const { constant: 0, out: 2 }, probe, less(0, 2, 3), Instr::Filter { cond: 3 }]
    };
    for (kind, filters) in [(JoinKind::Inner, 1), (JoinKind::BuildOuter, 0), (JoinKind::BuildMark, 0)] {
        let p = program(1, &[Int64, Int32, Int64, Boolean], instrs(kind));
        let s = split(&p, &[0], &[Lookup::Only]).unwrap();
        assert_eq!(steps(&s).iter().filter(|i| matches!(i, Instr::Filter { .. })).count(), filters, "{kind:?}");
        assert_eq!(s.rest.iter().any(|i| matches!(i, Instr::Filter { .. })), filters == 0, "{kind:?}");
    }
}

#[test]
fn keys_of_strings_and_of_several_columns_become_codes() {
    let instrs = |keys: Vec<Reg>| vec![Instr::Probe(Box::new(Probe { keys, ..probe(JoinKind::ProbeSemi, 0, 3) }))];
    for keys in [vec![2], vec![0, 1]] {
        let p = program(3, &[Int64, Int64, Utf8, Int32], instrs(keys.clone()));
        let s = split(&p, &[0, 2], &[Lookup::First]).unwrap();
        assert_eq!((s.coded.len(), &s.coded[0].keys, s.inputs.len()), (1, &keys, 0));
        assert!(matches!(s.device.instrs.as_slice(), [Instr::Probe(p)] if p.keys == [0]));
        assert_eq!(s.device.inputs, [Type::I64]);
    }
    // A string that is no column: the host looks it up.
    let mut instrs = instrs(vec![4]);
    instrs.insert(0, call(2, 4));
    let p = program(3, &[Int64, Int64, Utf8, Int32, Utf8], instrs);
    assert!(split(&p, &[0, 2], &[Lookup::First]).is_none());
}

#[test]
fn predicates_on_columns_of_strings_are_sets_of_codes() {
    let instrs = vec![
        call(1, 3),
        Instr::Like { a: 1, pattern: "a%".into(), negated: false, out: 4 },
        Instr::Bool { op: BoolOp::Or, a: 3, b: 4, out: 5 },
        Instr::Filter { cond: 5 },
    ];
    let p = program(2, &[Int64, Utf8, Int32, Boolean, Boolean, Boolean], instrs.clone());
    let s = split(&p, &[0], &[]).unwrap();
    assert!(s.needs_codes && s.rest.is_empty() && s.inputs.is_empty());
    let outs: Vec<_> = s.predicates.iter().map(|p| (p.column, p.out)).collect();
    assert_eq!((outs, s.device.sets.len(), s.device.inputs.as_slice()), (vec![(1, 4), (1, 3)], 2, [Type::I32; 2].as_slice()));
    // Both sides want it: the host evaluates it for the rows that survive.
    let s = split(&p, &[0, 3], &[]).unwrap();
    assert_eq!((s.rest, s.outputs.len()), (p.instrs[..1].to_vec(), 0));
    let with_number = [instrs, vec![less(0, 0, 6), Instr::Filter { cond: 6 }]].concat();
    let p = program(2, &[Int64, Utf8, Int32, Boolean, Boolean, Boolean, Boolean], with_number);
    assert!(!split(&p, &[0], &[]).unwrap().needs_codes);
}
