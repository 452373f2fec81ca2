//! Shapes of input: sizes, groupings, pushes that differ from one another, many queries at once.

use super::*;
use oracle::{Data, Table};

fn sums_by_key(rows: usize, cardinality: u32, key: impl Fn(usize) -> i32) -> Case {
    let mut rng = random::Gen(rows as u64 + u64::from(cardinality));
    let keys: Vec<i32> = (0..rows).map(key).collect();
    let values: Vec<i64> = (0..rows).map(|_| rng.next() as i64 >> 20).collect();
    let mut program = program(&[Type::I32, Type::I64], vec![]);
    program.keys = vec![(0, cardinality)];
    for op in [AggregateOp::Sum, AggregateOp::Min, AggregateOp::Max] {
        program.aggregates.push(aggregate(op, Some(1), None, Type::I64));
    }
    Case { program, rows, columns: vec![Column::i32s(&keys), Column::i64s(&values)], tables: vec![] }
}

#[test]
fn sizes_around_the_boundaries() {
    for rows in [0, 1, 2, 31, 32, 33, 63, 64, 65, 255, 256, 257, 4095, 4096, 4097, 70_000] {
        check(&sums_by_key(rows, 3, |i| (i % 3) as i32));
    }
}

#[test]
fn groups_few_and_many_equal_and_skewed() {
    for cardinality in [1, 2, 150, 410, 5000, 100_000] {
        let n = cardinality as usize;
        check(&sums_by_key(20_000, cardinality, |_| (n - 1) as i32));
        check(&sums_by_key(20_000, cardinality, |i| (i * 7919 % n) as i32));
        check(&sums_by_key(20_000, cardinality, |i| if i % 100 == 0 { (i * 31 % n) as i32 } else { 0 }));
    }
}

#[test]
fn more_rows_than_invocations() {
    // No columns at all: the rows of count(*) cost nothing to push, twenty million of them.
    for device in devices() {
        let program = program(&[], vec![aggregate(AggregateOp::Count, None, None, Type::I64)]);
        let run = device.prepare(program, &[], RunOptions::default()).unwrap();
        run.push(&[], 20_000_001).unwrap();
        run.push(&[], 5).unwrap();
        let partials = run.finish().unwrap();
        assert_eq!((partials.rows[0], partials.aggregates[0].value(0)), (20_000_006, Some(20_000_006)));
    }
}

/// Pushes of one run that change everything a kernel may depend on: nulls appear, values grow wide.
#[test]
fn pushes_that_differ() {
    let mut rng = random::Gen(3);
    let rows = 9000;
    let part = |i: usize| i * 9 / rows;
    let values: Vec<i64> = (0..rows)
        .map(|i| match part(i) {
            0..=2 => rng.below(1000) as i64,
            3 | 4 => rng.next() as i64 >> 8,
            _ => -(rng.below(90) as i64),
        })
        .collect();
    let valid = (0..rows).map(|i| u8::from(part(i) < 6 || !rng.one_in(3))).collect();
    let keys = Data::I32((0..rows).map(|_| rng.below(9) as i32).collect());
    let key_valid = (0..rows).map(|i| u8::from(part(i) != 7 || rng.one_in(2))).collect();
    let mut program = program(&[Type::Decimal, Type::I32], vec![]);
    program.keys = vec![(1, 10)];
    for op in [AggregateOp::Sum, AggregateOp::Min, AggregateOp::Max, AggregateOp::Count] {
        program.aggregates.push(aggregate(op, Some(0), None, Type::Decimal));
    }
    let columns = vec![Column::i64s(&values).with_nulls(valid), Column::new(keys).with_nulls(key_valid)];
    let case = Case { program, rows, columns, tables: vec![] };
    let expected = answer(&case);
    for device in devices() {
        for pushes in [1, 9, 50] {
            for options in [RunOptions::default(), small_chunks(32), small_chunks(1000)] {
                let partials = run(&device, &case, pushes, options).unwrap();
                assert_same(&answer_of(&partials), &expected, device.class());
            }
        }
    }
}

/// Counts are 32-bit words on the device: the groups come home before those are full.
#[test]
fn groups_are_drained_before_their_counts_overflow() {
    let case = sums_by_key(5000, 4, |i| (i % 4) as i32);
    for device in devices() {
        let mut run = device.prepare(case.program.clone(), &[], small_chunks(320)).unwrap();
        run.device_rows_max = 1000;
        run.push(&[case.columns[0].slice(0, 5000), case.columns[1].slice(0, 5000)], 5000).unwrap();
        let partials = run.finish().unwrap();
        assert!(partials.timings.readback_bytes > 5 * 4 * 4, "it was drained several times");
        assert_same(&answer_of(&partials), &answer(&case), device.class());
    }
}

/// 32-bit values in a column declared 64 bits wide, beside 64-bit ones of the same column.
#[test]
fn narrow_pushes_of_a_wide_column() {
    for device in devices() {
        let aggregates =
            vec![aggregate(AggregateOp::Sum, Some(0), None, Type::Decimal), aggregate(AggregateOp::Min, Some(0), None, Type::Decimal)];
        let run = device.prepare(program(&[Type::Decimal], aggregates), &[], RunOptions::default()).unwrap();
        run.push(&[HostColumn::new(HostValues::I64(&[1 << 40, -5]))], 2).unwrap();
        run.push(&[HostColumn::new(HostValues::I32(&[-7, 3, i32::MIN]))], 3).unwrap();
        let partials = run.finish().unwrap();
        assert_eq!(partials.aggregates[0].value(0), Some((1 << 40) - 9 + i128::from(i32::MIN)));
        assert_eq!(partials.aggregates[1].value(0), Some(i32::MIN.into()));
    }
}

#[test]
fn joins_of_every_kind() {
    let mut rng = random::Gen(17);
    let rows = 3000;
    let build = 50;
    let slots: Vec<u32> = (0..80).map(|i| if i % 8 < 5 { (i / 8 * 5 + i % 8) as u32 + 1 } else { 0 }).collect();
    let table = Table {
        min_key: -20,
        slots,
        hash: None,
        columns: vec![
            Column::i64s(&(0..build).map(|i| (i as i64 - 20) << 35).collect::<Vec<_>>()),
            Column::i32s(&(0..build).map(|i| i % 4).collect::<Vec<_>>()).with_nulls((0..build).map(|i| (i % 5 > 0) as u8).collect()),
            Column::new(Data::Bool((0..build).map(|i| (i % 3 == 0) as u8).collect())),
        ],
    };
    for kind in [JoinKind::Inner, JoinKind::ProbeOuter, JoinKind::ProbeSemi, JoinKind::ProbeAnti, JoinKind::ProbeMark] {
        let keys: Vec<i64> = (0..rows).map(|_| if rng.one_in(20) { rng.next() as i64 } else { rng.below(120) as i64 - 40 }).collect();
        let valid = (0..rows).map(|_| u8::from(!rng.one_in(9))).collect();
        let mut program = program(&[Type::I64], vec![]);
        let mark = (kind == JoinKind::ProbeMark).then_some(2);
        program.instrs = vec![
            probe(0, 0, kind, 1, mark),
            Instr::Gather { table: 0, column: 0, rows: 1, out: 3 },
            Instr::Gather { table: 0, column: 1, rows: 1, out: 4 },
            Instr::Gather { table: 0, column: 2, rows: 1, out: 5 },
            Instr::IsNull { a: 1, negated: false, out: 6 },
        ];
        program.keys = vec![(4, 5)];
        program.aggregates = vec![
            aggregate(AggregateOp::Sum, Some(3), None, Type::I64),
            aggregate(AggregateOp::Sum, Some(0), Some(5), Type::I64),
            aggregate(AggregateOp::Count, None, Some(6), Type::I64),
        ];
        program.aggregates.extend(mark.map(|m| aggregate(AggregateOp::Count, None, Some(m), Type::I64)));
        let columns = vec![Column::i64s(&keys).with_nulls(valid)];
        check(&Case { program, rows, columns, tables: vec![table.clone()] });
    }
}

#[test]
fn many_columns_and_several_table_buffers() {
    let mut rng = random::Gen(23);
    let (inputs, rows) = (40, 700);
    let columns: Vec<Column> = (0..inputs).map(|i| rng.column([Type::I32, Type::Bool][i % 2], rows)).collect();
    let types: Vec<Type> = (0..inputs).map(|i| [Type::I32, Type::Bool][i % 2]).collect();
    let mut program = program(&types, vec![]);
    let columns_of = |n: i64| vec![Column::i64s(&(0..90).map(|i| i * n).collect::<Vec<_>>())];
    let slots: Vec<u32> = (1..=90).collect();
    let tables: Vec<Table> =
        (0..4).map(|n| Table { min_key: n * 10, slots: slots.clone(), hash: None, columns: columns_of(n + 1) }).collect();
    for table in 0..4u16 {
        let rows = inputs as Reg + 2 * table;
        program.instrs.push(probe(table, 4 * table, JoinKind::ProbeOuter, rows, None));
        program.instrs.push(Instr::Gather { table, column: 0, rows, out: rows + 1 });
        program.aggregates.push(aggregate(AggregateOp::Sum, Some(rows + 1), None, Type::I64));
    }
    for i in (0..inputs as Reg).step_by(4) {
        program.aggregates.push(aggregate(AggregateOp::Sum, Some(i), Some(i + 1), Type::I32));
        program.aggregates.push(aggregate(AggregateOp::Max, Some(i), None, Type::I32));
    }
    let case = Case { program, rows, columns, tables };
    check(&case);
    for device in devices() {
        // 90 slots and 90 values take 720 bytes: each table a buffer of its own.
        let options = RunOptions { table_bytes_max: 1000, ..RunOptions::default() };
        let partials = run(&device, &case, 1, options).unwrap();
        assert_same(&answer_of(&partials), &answer(&case), device.class());
        let options = RunOptions { table_bytes_max: 400, ..RunOptions::default() };
        assert_eq!(kind_of(run(&device, &case, 1, options)), ErrorKind::Exhausted);
    }
}

#[test]
fn many_queries_at_once() {
    let cases: Vec<Case> = (0..6).map(|i| sums_by_key(10_000 + i, 20, move |row| ((row + i) % 20) as i32)).collect();
    for device in devices() {
        std::thread::scope(|scope| {
            for case in &cases {
                let device = &device;
                scope.spawn(move || {
                    for _ in 0..3 {
                        let partials = run(device, case, 4, small_chunks(1024)).unwrap();
                        assert_same(&answer_of(&partials), &answer(case), device.class());
                    }
                });
            }
        });
    }
}

#[test]
fn the_devices_clock_counts_the_kernels_alone() {
    let case = sums_by_key(200_000, 100, |i| (i % 100) as i32);
    for device in devices() {
        let timings = run(&device, &case, 1, RunOptions::default()).unwrap().timings;
        assert_eq!(timings.device_ns > 0, device.info().timestamps, "{:?}: {timings:?}", device.class());
        assert!(timings.device_ns <= timings.kernel_ns, "{:?}: {timings:?}", device.class());
    }
}

/// Each packs rows of its own: some narrow, some wide, so that cells differ and groups come home in between.
#[test]
fn many_writers_of_one_run() {
    const WRITERS: usize = 4;
    let rows = 40_000;
    let mut case = sums_by_key(rows, 50, |i| (i % 50) as i32);
    let mut rng = random::Gen(7);
    let values: Vec<i64> = (0..rows).map(|i| rng.next() as i64 >> [20, 20, 50, 60][i * WRITERS / rows]).collect();
    case.columns[1] = Column::i64s(&values);
    let expected = answer(&case);
    for device in devices() {
        let options = RunOptions { writers: WRITERS, ..small_chunks(1_024) };
        let run = device.prepare(case.program.clone(), &[], options).unwrap();
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (run, case) = (&run, &case);
                scope.spawn(move || {
                    let (first, end) = (rows * writer / WRITERS, rows * (writer + 1) / WRITERS);
                    for from in (first..end).step_by(700) {
                        let to = end.min(from + 700);
                        let columns: Vec<HostColumn> = case.columns.iter().map(|c| c.slice(from, to)).collect();
                        run.writer(writer).push(&columns, to - from).unwrap();
                    }
                });
            }
        });
        assert_same(&answer_of(&run.finish().unwrap()), &expected, device.class());
    }
}

/// Whoever ends a run waits for a writer's turn, and has no answer if the writer's rows are not in it.
#[test]
#[expect(clippy::disallowed_methods, reason = "nothing says when the other thread waits for the turn")]
fn a_writer_that_fails_while_the_run_ends() {
    let case = sums_by_key(100, 3, |i| (i % 3) as i32);
    for device in devices() {
        for fails in [false, true] {
            let options = RunOptions { writers: 2, ..RunOptions::default() };
            let run = device.prepare(case.program.clone(), &[], options).unwrap();
            let columns: Vec<HostColumn> = case.columns.iter().map(|c| c.slice(0, 100)).collect();
            std::thread::scope(|scope| {
                let mut turn = run.writer(1);
                let ended = scope.spawn(|| run.finish());
                std::thread::sleep(std::time::Duration::from_millis(50));
                if fails {
                    turn.fail()
                } else {
                    turn.push(&columns, 100).unwrap()
                }
                drop(turn);
                match ended.join().unwrap() {
                    Ok(partials) => assert!(!fails && answer_of(&partials) == answer(&case), "{fails}"),
                    Err(error) => assert!(fails && error.kind() == ErrorKind::Closed, "{error}"),
                }
            });
        }
    }
}
