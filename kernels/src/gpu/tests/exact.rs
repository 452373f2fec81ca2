//! Values at the edges: arithmetic, sums, least and greatest, nulls.

use super::*;
use crate::value::Value;
use oracle::Data;

const EDGES: [i64; 15] = [
    i64::MIN,
    i64::MIN + 1,
    -(1 << 32) - 1,
    -(1 << 32),
    i32::MIN as i64 - 1,
    i32::MIN as i64,
    -1,
    0,
    1,
    i32::MAX as i64,
    i32::MAX as i64 + 1,
    u32::MAX as i64,
    1 << 32,
    i64::MAX - 1,
    i64::MAX,
];

/// One group a row, so that every single result is seen.
fn row_by_row(columns: Vec<Column>, inputs: &[Type], instrs: Vec<Instr>, aggregates: Vec<Aggregate>) -> Case {
    let rows = columns[0].len();
    let ids: Vec<i32> = (0..rows as i32).collect();
    let mut program = program(inputs, aggregates);
    program.inputs.push(Type::I32);
    program.keys = vec![(inputs.len() as Reg, rows as u32)];
    program.instrs = instrs;
    let mut columns = columns;
    columns.push(Column::i32s(&ids));
    Case { program, rows, columns, tables: vec![] }
}

fn pairs(values: &[i64]) -> (Vec<i64>, Vec<i64>) {
    values.iter().flat_map(|a| values.iter().map(move |b| (*a, *b))).unzip()
}

#[test]
fn comparisons_at_the_edges() {
    let (a, b) = pairs(&EDGES);
    let ops = [CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Le, CompareOp::Gt, CompareOp::Ge];
    let instrs = (3..).zip(ops).map(|(out, op)| compare(op, 0, 1, out)).collect();
    let counts = (3..9).map(|reg| aggregate(AggregateOp::Count, None, Some(reg), Type::I64)).collect();
    check(&row_by_row(vec![Column::i64s(&a), Column::i64s(&b)], &[Type::I64, Type::I64], instrs, counts));
}

/// Each pair on its own, so that the range of one does not refuse another.
#[test]
fn arithmetic_at_the_edges_is_exact_or_refused() {
    let operands = [EDGES.as_slice(), &[3, -7, 46_340, 65_535, 65_536, 3_037_000_499, -3_037_000_500]].concat();
    let sum = |reg| aggregate(AggregateOp::Sum, Some(reg), None, Type::Decimal);
    for device in devices() {
        for op in [ArithOp::Add, ArithOp::Sub, ArithOp::Mul] {
            // A column against a literal, row by row within one run: the operands that fit together.
            for b in &operands {
                let fits = |a: &&i64| {
                    let (a, b) = (i128::from(**a), i128::from(*b));
                    i64::try_from(match op {
                        ArithOp::Add => a + b,
                        ArithOp::Sub => a - b,
                        ArithOp::Mul => a * b,
                    })
                    .is_ok()
                };
                let a: Vec<i64> = operands.iter().filter(fits).copied().collect();
                let literal = Instr::Const { constant: 0, out: 2 };
                let instrs = vec![literal, arith(op, 0, 2, 3), arith(op, 2, 0, 4)];
                let mut case = row_by_row(vec![Column::i64s(&a)], &[Type::I64], instrs, vec![sum(3)]);
                case.program.constants = vec![Value::Int((*b).into())];
                if op == ArithOp::Sub {
                    // b - a may not fit where a - b does.
                    case.program.instrs.pop();
                } else {
                    case.program.aggregates.push(sum(4));
                }
                let partials = run(&device, &case, 1, RunOptions::default()).unwrap();
                assert_same(&answer_of(&partials), &answer(&case), device.class());
                // One value more, that does not fit: nothing is answered.
                if let Some(over) = operands.iter().find(|a| !fits(a)) {
                    let over = [a, vec![*over]].concat();
                    let mut case = row_by_row(vec![Column::i64s(&over)], &[Type::I64], case.program.instrs, vec![]);
                    case.program.constants = vec![Value::Int((*b).into())];
                    assert_eq!(kind_of(run(&device, &case, 1, RunOptions::default())), ErrorKind::Unsupported);
                }
            }
        }
    }
}

#[test]
fn products_of_columns() {
    let values: Vec<i64> = EDGES.iter().copied().filter(|v| v.unsigned_abs() <= 1 << 31).collect();
    let (a, b) = pairs(&[values.as_slice(), &[46_341, -65_537, 99_991]].concat());
    let instrs = vec![arith(ArithOp::Mul, 0, 1, 3), arith(ArithOp::Sub, 3, 0, 4), arith(ArithOp::Add, 4, 1, 5)];
    let sums = (3..6).map(|reg| aggregate(AggregateOp::Sum, Some(reg), None, Type::Decimal)).collect();
    check(&row_by_row(vec![Column::i64s(&a), Column::i64s(&b)], &[Type::Decimal, Type::Decimal], instrs, sums));
}

#[test]
fn sums_and_extremes_of_extremes() {
    let all = |ty| {
        vec![
            aggregate(AggregateOp::Sum, Some(0), None, ty),
            aggregate(AggregateOp::Min, Some(0), None, ty),
            aggregate(AggregateOp::Max, Some(0), None, ty),
            aggregate(AggregateOp::Count, Some(0), None, ty),
        ]
    };
    let patterns: Vec<Vec<i64>> = vec![
        vec![i64::MIN; 3000],
        vec![i64::MAX; 3000],
        vec![-1; 3000],
        (0..3001).map(|i| if i % 2 == 0 { i64::MIN } else { i64::MAX }).collect(),
        EDGES.iter().cycle().take(2999).copied().collect(),
        (0..3000).map(|i| -i).collect(),
        vec![i64::MIN],
        vec![0],
        vec![],
    ];
    for values in patterns {
        for valid in [None, Some((0..values.len()).map(|i| (i % 3 == 1) as u8).collect::<Vec<_>>())] {
            let column = Column { data: Data::I64(values.clone()), valid };
            check(&Case { program: program(&[Type::I64], all(Type::I64)), rows: values.len(), columns: vec![column], tables: vec![] });
        }
        let narrow: Vec<i32> = values.iter().map(|v| (*v >> 32) as i32).collect();
        check(&Case {
            program: program(&[Type::I32], all(Type::I32)),
            rows: narrow.len(),
            columns: vec![Column::i32s(&narrow)],
            tables: vec![],
        });
    }
}

/// The low word of an earlier chunk's best must not survive a better high word, nor be lost with it.
#[test]
fn extremes_across_chunks() {
    let mut rng = random::Gen(11);
    for step in [1i64, -1, 0] {
        let values: Vec<i64> = (0..2000).map(|i| step * (i << 32) + (rng.below(1 << 32) as i64) - (1 << 40)).collect();
        let groups: Vec<i32> = (0..2000).map(|i| i % 7).collect();
        let mut program = program(&[Type::I64, Type::I32], vec![]);
        program.keys = vec![(1, 7)];
        program.aggregates =
            vec![aggregate(AggregateOp::Min, Some(0), None, Type::I64), aggregate(AggregateOp::Max, Some(0), None, Type::Decimal)];
        let columns = vec![Column::i64s(&values), Column::i32s(&groups)];
        check(&Case { program, rows: 2000, columns, tables: vec![] });
    }
}

#[test]
fn three_valued_logic() {
    // All pairs of false, true and null, with arbitrary values under the nulls.
    let sides = [(0u8, 1u8), (1, 1), (0, 0), (1, 0)];
    let (mut a, mut b) = ((vec![], vec![]), (vec![], vec![]));
    for x in sides {
        for y in sides {
            a.0.push(x.0);
            a.1.push(x.1);
            b.0.push(y.0);
            b.1.push(y.1);
        }
    }
    let columns = vec![Column { data: Data::Bool(a.0), valid: Some(a.1) }, Column { data: Data::Bool(b.0), valid: Some(b.1) }];
    let instrs = vec![
        logic(BoolOp::And, 0, 1, 3),
        logic(BoolOp::Or, 0, 1, 4),
        Instr::Not { a: 0, out: 5 },
        Instr::IsNull { a: 3, negated: false, out: 6 },
        Instr::IsNull { a: 4, negated: true, out: 7 },
        Instr::Select { cond: 0, a: 1, b: 5, out: 8 },
        compare(CompareOp::Eq, 0, 1, 9),
        compare(CompareOp::Lt, 0, 1, 10),
        Instr::Const { constant: 0, out: 11 },
        logic(BoolOp::And, 0, 11, 12),
        logic(BoolOp::Or, 11, 1, 13),
        Instr::Const { constant: 1, out: 14 },
        logic(BoolOp::Or, 14, 11, 15),
        Instr::IsNull { a: 12, negated: false, out: 16 },
        Instr::IsNull { a: 13, negated: false, out: 17 },
        Instr::IsNull { a: 15, negated: false, out: 18 },
        Instr::IsNull { a: 8, negated: false, out: 19 },
    ];
    let count = |reg| aggregate(AggregateOp::Count, None, Some(reg), Type::I64);
    let counts = (3..20).filter(|reg| ![11, 14].contains(reg)).map(count).collect();
    let mut case = row_by_row(columns, &[Type::Bool, Type::Bool], instrs, counts);
    case.program.constants = vec![Value::Null, Value::Bool(true)];
    check(&case);
}

#[test]
fn nulls_count_for_nothing_and_are_a_group_of_their_own() {
    let mut rng = random::Gen(5);
    let rows = 5000;
    let valid = |rng: &mut random::Gen| (0..rows).map(|_| u8::from(!rng.one_in(4))).collect::<Vec<_>>();
    let keys = Data::I32((0..rows).map(|_| rng.below(6) as i32).collect());
    let flags = Data::Bool((0..rows).map(|_| rng.below(2) as u8).collect());
    // What is under a null must not matter, not even to the range.
    let values: Vec<i64> = (0..rows).map(|_| rng.next() as i64 >> 40).collect();
    let valid_values = valid(&mut rng);
    let values = values.iter().zip(&valid_values).map(|(v, valid)| if *valid == 1 { *v } else { i64::MAX }).collect();
    let columns = vec![
        Column::new(keys).with_nulls(valid(&mut rng)),
        Column::new(flags).with_nulls(valid(&mut rng)),
        Column::new(Data::I64(values)).with_nulls(valid_values),
    ];
    let mut program = program(&[Type::I32, Type::Bool, Type::Decimal], vec![]);
    program.keys = vec![(0, 7), (1, 3)];
    program.instrs = vec![arith(ArithOp::Mul, 2, 2, 3)];
    for op in [AggregateOp::Count, AggregateOp::Sum, AggregateOp::Min, AggregateOp::Max] {
        program.aggregates.push(aggregate(op, Some(2), None, Type::Decimal));
        program.aggregates.push(aggregate(op, Some(3), Some(1), Type::Decimal));
    }
    program.aggregates.push(aggregate(AggregateOp::Count, None, None, Type::I64));
    check(&Case { program, rows, columns, tables: vec![] });
}
