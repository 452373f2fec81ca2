//! A stage made by hand through the codec: whole, broken in its numbers, and as garbage.

use super::frame::{VERSION, open, seal};
use super::*;
use crate::program::{
    AggregateCall, AggregateFunction, Call, Constant, ConstantSource, Fraction, GroupingSet, KeyOrder, KeyOrders, Listing, Moment, Reg,
};
use crate::program::{Instr, JoinKind, Probe, Program, Residual, Scope};
use crate::{Placement, Sink, SortKey};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{Column, is_null, like, lit};
use datafusion::physical_plan::displayable;
use datafusion_proto::physical_plan::DefaultPhysicalProtoConverter;
use millstream_kernels::Value;
use millstream_kernels::program::CompareOp;
use std::fmt;

fn leaf(types: &[DataType]) -> Arc<dyn ExecutionPlan> {
    let fields: Vec<Field> = types.iter().enumerate().map(|(i, t)| Field::new(format!("f{i}"), t.clone(), true)).collect();
    Arc::new(EmptyExec::new(Arc::new(Schema::new(fields))))
}

/// A program with everything a message has, and its sink.
fn sample() -> (Program, Sink) {
    use DataType::*;
    let pattern = Schema::new(vec![Field::new("c0", Utf8, true)]);
    let expr = like(false, false, Arc::new(Column::new("c0", 0)), lit("%a%"), &pattern).unwrap();
    let compare = Instr::Compare { op: CompareOp::Lt, a: 4, b: 5, out: 6 };
    let residual = Residual {
        instrs: vec![Instr::Gather { table: 0, column: 0, rows: 3, out: 4 }, Instr::Const { constant: 0, out: 5 }, compare],
        cond: 6,
    };
    let probe = Probe {
        table: 0,
        keys: vec![0],
        kind: JoinKind::ProbeOuter,
        null_equals_null: false,
        null_aware: false,
        residual: Some(residual),
        rows: 3,
        mark: None,
    };
    let program = Program {
        inputs: vec![0, 1, 2],
        instrs: vec![
            Instr::Call { call: 0, inputs: vec![2], out: 7 },
            Instr::Filter { cond: 7 },
            Instr::Probe(Box::new(probe)),
            Instr::Gather { table: 0, column: 0, rows: 3, out: 8 },
            Instr::Const { constant: 1, out: 9 },
            Instr::Const { constant: 2, out: 10 },
            Instr::Const { constant: 3, out: 11 },
            Instr::Bin { a: 0, width: 60, origin: -3, unit: 1_000, out: 12 },
        ],
        constants: vec![
            Constant { source: ConstantSource::Literal(Value::Int(i128::MIN)), data_type: Int32 },
            Constant { source: ConstantSource::Literal(Value::F64(f64::NAN)), data_type: Float64 },
            Constant { source: ConstantSource::Late(lit(ScalarValue::Float32(Some(0.5)))), data_type: Float32 },
            Constant { source: ConstantSource::Literal(Value::Null), data_type: Int32 },
        ],
        calls: vec![Call { expr, inputs: Arc::new(pattern), per_entry: true }],
        types: vec![Int64, Decimal128(12, 2), Utf8, Int32, Int32, Int32, Boolean, Boolean, Int32, Float64, Float32, Int32, Int64],
    };
    let call = |function, args: &[Reg], returns| AggregateCall { function, args: args.to_vec(), filter: Some(7), returns };
    let quarter = Fraction::new(0.25).unwrap();
    let by = KeyOrders::new(&[KeyOrder { descending: true, nulls_first: false }]).unwrap();
    let ordered = Listing { by, skip_nulls: true };
    let aggregates = vec![
        call(AggregateFunction::Count, &[], Int64),
        call(AggregateFunction::Avg, &[1], Decimal128(16, 6)),
        call(AggregateFunction::Max, &[9], Float64),
        call(AggregateFunction::Moment(Moment::Corr), &[9, 9], Float64),
        call(AggregateFunction::Quantile(quarter), &[9], Float64),
        call(AggregateFunction::ArrayAgg(ordered), &[0, 1], DataType::new_list(Int64, true)),
        call(AggregateFunction::StringAgg(ordered, ", ".into()), &[2, 12], LargeUtf8),
    ];
    let sets = vec![GroupingSet { keys: vec![8], total: false }, GroupingSet { keys: vec![11], total: true }];
    (program, Sink::Group { keys: vec![8], sets, aggregates })
}

fn stage((program, sink): (Program, Sink)) -> StageExec {
    use DataType::*;
    let rows = Program { inputs: vec![0, 1], types: vec![Int64, Int32], ..Program::default() };
    let table = Sink::Build { keys: vec![0], columns: vec![1], null_equals_null: true };
    let build = StageExec::new("b", Arc::new(rows), table, Placement::cpu("test"), leaf(&[Int64, Int32]), vec![], leaf(&[Int32]).schema());
    let input = leaf(&[Int64, Decimal128(12, 2), Utf8]);
    let schema = leaf(&[Int32, Int64, Decimal128(16, 6), Float64, Float64, Float64, DataType::new_list(Int64, true), LargeUtf8]).schema();
    StageExec::new("s7", Arc::new(program), sink, Placement::cpu("test"), input, vec![Arc::new(build)], schema).with_scope(Scope::Partial)
}

fn encode(stage: &StageExec) -> Result<Vec<u8>> {
    StageCodec::default().encode(stage, &DefaultPhysicalProtoConverter {})
}

fn decode(bytes: &[u8], like: &StageExec) -> Result<StageExec> {
    let children: Vec<_> = like.children().into_iter().cloned().collect();
    StageCodec::default().decode(bytes, &children, &TaskContext::default(), &DefaultPhysicalProtoConverter {})
}

fn text(source: &ConstantSource) -> String {
    match source {
        ConstantSource::Literal(v) => format!("{v:?}"),
        ConstantSource::Late(e) => format!("late {e}"),
    }
}

#[test]
fn everything_comes_back() {
    let sent = stage(sample());
    let got = decode(&encode(&sent).unwrap(), &sent).unwrap();
    let (a, b) = (got.program(), sent.program());
    assert_eq!((&a.inputs, &a.instrs, &a.types), (&b.inputs, &b.instrs, &b.types));
    let constants = |p: &Program| p.constants.iter().map(|c| format!("{:?}", (text(&c.source), &c.data_type))).collect::<Vec<_>>();
    let calls = |p: &Program| p.calls.iter().map(|c| format!("{} {:?} {}", c.expr, c.inputs, c.per_entry)).collect::<Vec<_>>();
    assert_eq!((constants(a), calls(a)), (constants(b), calls(b)));
    assert_eq!(displayable(&got).indent(true).to_string(), displayable(&sent).indent(true).to_string());
    assert_eq!((got.sink(), got.scope(), got.placement()), (sent.sink(), sent.scope(), sent.placement()));
    assert_eq!((got.id(), got.schema(), got.builds().len()), (sent.id(), sent.schema(), 1));
}

#[test]
fn what_is_not_there_is_named() {
    type Break = fn(&mut Program, &mut Sink);
    let breaks: [(&str, Break); 19] = [
        ("there is no register 99", |p, _| p.instrs[1] = Instr::Filter { cond: 99 }),
        ("register 9 is read before it is written", |p, _| p.instrs[1] = Instr::Filter { cond: 9 }),
        ("register 7 is written twice", |p, _| p.instrs.insert(0, p.instrs[0].clone())),
        ("there is no constant 4", |p, _| p.instrs[4] = Instr::Const { constant: 4, out: 9 }),
        ("there is no call 1", |p, _| p.instrs[0] = Instr::Call { call: 1, inputs: vec![2], out: 7 }),
        ("is given 2", |p, _| p.instrs[0] = Instr::Call { call: 0, inputs: vec![2, 2], out: 7 }),
        ("there is no table 1", |p, _| p.instrs[3] = Instr::Gather { table: 1, column: 0, rows: 3, out: 8 }),
        ("there is no build column 1", |p, _| p.instrs[3] = Instr::Gather { table: 0, column: 1, rows: 3, out: 8 }),
        ("does not hold row ids", |p, _| p.instrs[3] = Instr::Gather { table: 0, column: 0, rows: 0, out: 8 }),
        ("is gathered as F64", |p, _| p.types[8] = DataType::Float64),
        ("the keys [Decimal]", |p, _| each_probe(p, |p| p.keys = vec![1])),
        ("there is no table 7", |p, _| each_probe(p, |p| p.table = 7)),
        ("a mark join without a mark", |p, _| each_probe(p, |p| p.kind = JoinKind::ProbeMark)),
        ("register 5 is not boolean", |p, _| each_probe(p, |p| p.residual.as_mut().unwrap().cond = 5)),
        ("there is no input column 3", |p, _| p.inputs[0] = 3),
        ("input column 2 is Utf8", |p, _| p.inputs[0] = 2),
        ("columns leave where 8 are declared", |_, s| *s = Sink::Collect { columns: vec![0] }),
        ("grouping set have other types", |_, s| each_set(s, |s| s.keys = vec![1])),
        ("keys that are no constants", |_, s| each_set(s, |s| s.total = true)),
    ];
    for (what, change) in breaks {
        let (mut program, mut sink) = sample();
        change(&mut program, &mut sink);
        let broken = stage((program, sink));
        let error = decode(&encode(&broken).unwrap(), &broken).unwrap_err();
        assert!(error.to_string().contains(what) && error.to_string().contains("s7"), "{what}: {error}");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}");
    }
}

fn each_set(s: &mut Sink, f: impl Fn(&mut GroupingSet)) {
    if let Sink::Group { sets, .. } = s {
        sets.iter_mut().for_each(f);
    }
}

fn each_probe(p: &mut Program, f: impl Fn(&mut Probe)) {
    for i in &mut p.instrs {
        if let Instr::Probe(p) = i {
            f(p);
        }
    }
}

#[test]
fn a_cut_or_changed_frame_is_told_from_a_whole_one() {
    let bytes = seal(&[b"one".to_vec(), vec![], b"three".to_vec()]);
    assert_eq!(open(&bytes).unwrap(), [&b"one"[..], b"", b"three"]);
    for len in 0..bytes.len() {
        assert_eq!(open(&bytes[..len]).unwrap_err().kind(), ErrorKind::Corrupt, "{len}");
    }
    for at in (0..bytes.len()).filter(|at| !(4..6).contains(at)) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert_eq!(open(&changed).unwrap_err().kind(), ErrorKind::Corrupt, "{at}");
    }
    let mut later = bytes;
    later[4..6].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let error = open(&later).unwrap_err();
    assert!(error.to_string().contains("version 2") && error.kind() == ErrorKind::Unsupported, "{error}");
}

#[test]
fn garbage_under_a_right_checksum_does_not_panic() {
    let (program, group) = sample();
    let order =
        vec![SortKey { column: 4, descending: true, nulls_first: false }, SortKey { column: 0, descending: false, nulls_first: true }];
    let sinks = [
        group,
        Sink::Sort { columns: vec![8, 0, 1, 9, 10, 7, 11, 12, 2], visible: 8, order, fetch: Some(3), groups: vec![1] },
        Sink::Build { keys: vec![0, 8], columns: vec![8, 0, 1, 9, 10, 7, 11, 12], null_equals_null: false },
        Sink::Collect { columns: vec![8, 0, 1, 9, 10, 7, 11, 12] },
    ];
    let mut seed = 7u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for sink in sinks {
        let sent = stage((program.clone(), sink));
        let bytes = encode(&sent).unwrap();
        assert!(decode(&bytes, &sent).is_ok() && decode(&seal(&[]), &sent).is_err());
        let mut failed = 0;
        for _ in 0..1500 {
            let mut sections: Vec<Vec<u8>> = open(&bytes).unwrap().iter().map(|s| s.to_vec()).collect();
            let section = random(sections.len());
            for _ in 0..1 + random(3) {
                let (at, digit) = (random(sections[section].len()), b'0' + random(10) as u8);
                match random(5) {
                    // Digits stay digits, so that much of it is read and has to be checked.
                    0 | 1 => {
                        if let Some(b) = sections[section].iter_mut().skip(at).find(|b| b.is_ascii_digit()) {
                            *b = digit;
                        }
                    }
                    2 => sections[section][at] = random(256) as u8,
                    3 => sections[section][at] ^= 1 << random(8),
                    _ => sections[section].truncate(at.max(1)),
                }
            }
            failed += usize::from(decode(&seal(&sections), &sent).is_err());
        }
        assert!(failed > 150, "much of the garbage must be refused, {failed} of 1500 were");
    }
}

#[test]
fn other_children_are_refused() {
    let sent = stage(sample());
    let bytes = encode(&sent).unwrap();
    let codec = StageCodec::default();
    for n in [0, 1, 4] {
        let children: Vec<_> = std::iter::repeat_n(sent.input(), n).cloned().collect();
        let error = codec.decode(&bytes, &children, &TaskContext::default(), &DefaultPhysicalProtoConverter {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}

/// An expression that only this process knows.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Local;

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("local_clock")
    }
}

impl PhysicalExpr for Local {
    fn data_type(&self, _: &Schema) -> DfResult<DataType> {
        Ok(DataType::Float32)
    }

    fn nullable(&self, _: &Schema) -> DfResult<bool> {
        Ok(false)
    }

    fn evaluate(&self, _: &RecordBatch) -> DfResult<ColumnarValue> {
        Ok(ColumnarValue::Scalar(ScalarValue::Float32(Some(1.0))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![]
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn PhysicalExpr>>) -> DfResult<Arc<dyn PhysicalExpr>> {
        Ok(self)
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[test]
fn a_late_constant_that_cannot_be_sent_is_named() {
    let (mut program, sink) = sample();
    program.constants[2].source = ConstantSource::Late(Arc::new(Local));
    let error = encode(&stage((program, sink))).unwrap_err();
    assert!(error.to_string().contains("s7 cannot be sent, because of local_clock"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn an_unregistered_closure_is_named() {
    let closure = |name: &str| {
        Arc::new(create_udf(name, vec![], DataType::Float32, Volatility::Stable, Arc::new(|v: &[ColumnarValue]| Ok(v[0].clone()))))
    };
    let secret = closure("secret");
    let field = Arc::new(Field::new("r", DataType::Float32, true));
    let call = ScalarFunctionExpr::new("secret", Arc::clone(&secret), vec![], field, Arc::default());
    let (mut program, sink) = sample();
    program.constants[2].source = ConstantSource::Late(Arc::new(call));
    let sent = stage((program, sink));
    let through = |codec: StageCodec| codec.encode(&sent, &DefaultPhysicalProtoConverter {});

    let error = through(StageCodec::default()).unwrap_err();
    assert!(error.to_string().contains("function secret is not registered"), "{error}");
    let error = through(StageCodec::default().with_functions([closure("secret")])).unwrap_err();
    assert!(error.to_string().contains("function secret is not the one registered"), "{error}");
    let bytes = through(StageCodec::default().with_functions([secret])).unwrap();
    let error = decode(&bytes, &sent).unwrap_err();
    assert!(error.to_string().contains("function secret is not registered"), "{error}");
}

/// Found by fuzzing (tests/fuzz): DataFusion panics where a column in an expression is not in the schema that came with it.
#[test]
fn an_expression_over_a_column_that_is_not_there_is_refused() {
    let (codec, converter, ctx) = (StageCodec::default(), DefaultPhysicalProtoConverter {}, TaskContext::default());
    let wire = Wire { codec: &codec, converter: &converter };
    let column = || Arc::new(Column::new("f1", 1)) as Arc<dyn PhysicalExpr>;
    for expr in [column(), is_null(column()).unwrap()] {
        let bytes = wire.expression(Arc::clone(&expr), leaf(&[DataType::Int64, DataType::Int32]).schema()).unwrap();
        for there in 0..3 {
            let mut node = PhysicalPlanNode::try_decode(&bytes).unwrap();
            let Some(PhysicalPlanType::Projection(p)) = &mut node.physical_plan_type else { panic!("{node:?}") };
            let over = wire.schema(&leaf(&vec![DataType::Int64; there]).schema()).unwrap();
            p.input = Some(Box::new(PhysicalPlanNode::try_decode(&over).unwrap()));
            let mut changed = vec![];
            node.try_encode(&mut changed).unwrap();
            match wire.read_expression(&changed, &ctx) {
                Ok((read, _)) => assert!(there == 2 && read.to_string() == expr.to_string(), "{read} over {there}"),
                Err(e) => assert!(there < 2 && e.kind() == ErrorKind::Corrupt, "{e} over {there}"),
            }
        }
    }
}
