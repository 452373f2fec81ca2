//! The shapes of TPC-H Q1, Q6 and Q12, over generated rows; and their kernels as other devices see them.

use super::kernel::{Capabilities, Kernel};
use super::lower::{Placed, PlacedTable};
use super::pack::{Slab, measure, storage};
use super::sink::Cells;
use super::tables::Tables;
use super::*;
use crate::value::Value;
use millstream_shaders::Needs;
use millstream_shaders::portable::validate;
use oracle::{Data, Table};

const SHIP_DATE: Reg = 0;
const DISCOUNT: Reg = 1;
const QUANTITY: Reg = 2;
const PRICE: Reg = 3;

fn lineitem(rows: usize) -> Vec<Column> {
    let mut rng = random::Gen(42);
    let mut column = |f: &dyn Fn(u64) -> i64| (0..rows).map(|_| f(rng.next() >> 8)).collect::<Vec<i64>>();
    let dates: Vec<i32> = column(&|v| 8035 + (v % 2526) as i64).into_iter().map(|v| v as i32).collect();
    vec![
        Column::i32s(&dates),
        Column::i64s(&column(&|v| (v % 11) as i64)),
        Column::i64s(&column(&|v| 100 * (1 + (v % 50) as i64))),
        Column::i64s(&column(&|v| 90_000 + (v % 10_000_000) as i64)),
    ]
}

fn constants(values: &[i128]) -> (Vec<Value>, Vec<Instr>) {
    let instrs = (0..values.len() as u16).map(|i| Instr::Const { constant: i, out: 100 + i });
    (values.iter().map(|v| Value::Int(*v)).collect(), instrs.collect())
}

fn q6(rows: usize) -> Case {
    let mut program = program(&[Type::I32, Type::Decimal, Type::Decimal, Type::Decimal], vec![]);
    (program.constants, program.instrs) = constants(&[8766, 9131, 5, 7, 2400]);
    program.instrs.extend([
        compare(CompareOp::Ge, SHIP_DATE, 100, 10),
        compare(CompareOp::Lt, SHIP_DATE, 101, 11),
        logic(BoolOp::And, 10, 11, 12),
        Instr::Filter { cond: 12 },
        compare(CompareOp::Ge, DISCOUNT, 102, 13),
        compare(CompareOp::Le, DISCOUNT, 103, 14),
        logic(BoolOp::And, 13, 14, 15),
        compare(CompareOp::Lt, QUANTITY, 104, 16),
        logic(BoolOp::And, 15, 16, 17),
        Instr::Filter { cond: 17 },
        arith(ArithOp::Mul, PRICE, DISCOUNT, 18),
    ]);
    program.aggregates = vec![aggregate(AggregateOp::Sum, Some(18), None, Type::Decimal)];
    Case { program, rows, columns: lineitem(rows), tables: vec![] }
}

fn q1(rows: usize) -> Case {
    let mut rng = random::Gen(1);
    let mut columns = lineitem(rows);
    columns.push(Column::i64s(&(0..rows).map(|_| rng.below(9) as i64).collect::<Vec<_>>()));
    columns.push(Column::i32s(&(0..rows).map(|_| rng.below(3) as i32).collect::<Vec<_>>()));
    columns.push(Column::i32s(&(0..rows).map(|_| rng.below(2) as i32).collect::<Vec<_>>()));
    let decimal = Type::Decimal;
    let mut program = program(&[Type::I32, decimal, decimal, decimal, decimal, Type::I32, Type::I32], vec![]);
    (program.constants, program.instrs) = constants(&[10_471, 100]);
    program.instrs.extend([
        compare(CompareOp::Le, SHIP_DATE, 100, 10),
        Instr::Filter { cond: 10 },
        arith(ArithOp::Sub, 101, DISCOUNT, 11),
        arith(ArithOp::Mul, PRICE, 11, 12),
        arith(ArithOp::Add, 101, 4, 13),
        arith(ArithOp::Mul, 12, 13, 14),
    ]);
    program.keys = vec![(5, 3), (6, 2)];
    // Sums, the sums that averages need, and the count.
    let sum = |reg| aggregate(AggregateOp::Sum, Some(reg), None, decimal);
    program.aggregates = [QUANTITY, PRICE, 12, 14, QUANTITY, PRICE, DISCOUNT].map(sum).to_vec();
    program.aggregates.push(aggregate(AggregateOp::Count, None, None, Type::I64));
    Case { program, rows, columns, tables: vec![] }
}

/// lineitem probes orders by its key and counts the high priorities by ship mode.
fn q12(rows: usize) -> Case {
    let mut rng = random::Gen(12);
    let orders = rows / 4 + 1;
    let mut dates = || Column::i32s(&(0..rows).map(|_| 8035 + rng.below(2526) as i32).collect::<Vec<_>>());
    let (ship, commit, receipt) = (dates(), dates(), dates());
    let modes: Vec<i32> = (0..rows).map(|_| rng.below(7) as i32).collect();
    let keys: Vec<i64> = (0..rows).map(|_| 1 + rng.below(4 * orders as u64) as i64).collect();
    // As in TPC-H, one key in four is in use.
    let slots = (0..4 * orders as u32).map(|i| if i % 4 == 0 { i / 4 + 1 } else { 0 }).collect();
    let priorities: Vec<i32> = (0..orders).map(|_| rng.below(5) as i32).collect();
    let table = Table { min_key: 1, slots, hash: None, columns: vec![Column::i32s(&priorities)] };
    let wanted = Data::Bool(modes.iter().map(|mode| u8::from(*mode < 2)).collect());
    let date = Type::I32;
    let mut program = program(&[date, date, date, Type::I32, Type::I64, Type::Bool], vec![]);
    (program.constants, program.instrs) = constants(&[8766, 9131, 1]);
    program.instrs.extend([
        Instr::Filter { cond: 5 },
        compare(CompareOp::Lt, 1, 2, 10),
        compare(CompareOp::Lt, 0, 1, 11),
        logic(BoolOp::And, 10, 11, 12),
        compare(CompareOp::Ge, 2, 100, 13),
        compare(CompareOp::Lt, 2, 101, 14),
        logic(BoolOp::And, 13, 14, 15),
        logic(BoolOp::And, 12, 15, 16),
        Instr::Filter { cond: 16 },
        probe(0, 4, JoinKind::Inner, 20, None),
        Instr::Gather { table: 0, column: 0, rows: 20, out: 21 },
        compare(CompareOp::Le, 21, 102, 22),
        Instr::Not { a: 22, out: 23 },
    ]);
    program.keys = vec![(3, 7)];
    let count = |filter| aggregate(AggregateOp::Count, None, Some(filter), Type::I64);
    program.aggregates = vec![count(22), count(23)];
    let columns = vec![ship, commit, receipt, Column::i32s(&modes), Column::i64s(&keys), Column::new(wanted)];
    Case { program, rows, columns, tables: vec![table] }
}

#[test]
fn the_first_three_queries() {
    for case in [q6(30_000), q1(30_000), q12(30_000)] {
        let expected = answer(&case);
        assert!(!expected.is_empty());
        check(&case);
    }
}

/// The kernels of `case` without a device: that of its groups with their cells, and that of its rows.
fn kernels(case: &Case, int64: bool) -> crate::Result<(Kernel, Cells, Kernel)> {
    let columns: Vec<Placed> = case
        .columns
        .iter()
        .flat_map(|column| {
            let column = column.slice(0, case.rows);
            let measured = measure(&column, case.rows).unwrap();
            let plan = [(storage(&column.values, &measured), measured.nulls)];
            let mut slab = Slab::new(vec![], &plan, case.rows.next_multiple_of(32));
            slab.append(&[column], &[measured], 0..case.rows, case.rows);
            slab.placed
        })
        .collect();
    let hosts: Vec<HostTable> = case.tables.iter().map(Table::host).collect();
    let tables = Tables::pack(&hosts, 1 << 25)?;
    let placed: &[PlacedTable] = &tables.placed;
    let capabilities = Capabilities { int64, binding_bytes_max: 128 << 20, workgroups_max: 65_535 };
    let (groups, cells) = Kernel::generate(&case.program, &columns, placed, tables.buffers.len(), &capabilities)?;
    let rows = Kernel::select(&case.program, &[], &columns, placed, tables.buffers.len(), case.rows as u32, &capabilities)?.0;
    Ok((groups, cells, rows))
}

#[test]
fn kernels_are_valid_on_metal_and_direct3d() {
    let mut cases = vec![q6(1000), q1(1000), q12(1000)];
    cases.extend((0..100).map(random::case));
    let mut written = 0;
    for case in &cases {
        for (int64, needs) in [(false, Needs::Floor), (true, Needs::Int64)] {
            match kernels(case, int64) {
                Ok((groups, _, rows)) => {
                    for (kernel, entry) in [(groups, "high_rows"), (rows, "fill_row")] {
                        let module = validate(&kernel.source, needs).unwrap_or_else(|e| panic!("{e}\n{}", kernel.source));
                        let (msl, hlsl) = (module.msl().unwrap(), module.hlsl().unwrap());
                        assert!(msl.contains(entry) && hlsl.contains(entry));
                    }
                    written += 1;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
            }
        }
    }
    assert!(written > cases.len(), "only {written} kernels");
}

#[test]
fn literals_and_data_do_not_change_the_kernel() {
    let (one, _, one_rows) = kernels(&q6(1000), false).unwrap();
    let mut other = q6(7777);
    other.program.constants[0] = Value::Int(9000);
    let (other, _, other_rows) = kernels(&other, false).unwrap();
    assert_eq!((&one.source, &one_rows.source), (&other.source, &other_rows.source));
    assert_ne!(one.params, other.params);
    assert_ne!(one_rows.params, other_rows.params);
    // Q1 shares the sums of its averages: seven sums asked for, five kept.
    let (q1, cells, _) = kernels(&q1(1000), false).unwrap();
    assert_eq!(cells.words, 1 + 5 * millstream_shaders::layout::SUM_WORDS);
    let narrow = "int64_mul_i32(r12, r13)";
    assert!(q1.source.contains(narrow), "narrow operands multiply narrow");
}
