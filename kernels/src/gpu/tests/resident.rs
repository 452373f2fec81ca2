//! Columns that stay on the device: the same answers, less to bring, no more memory than allowed.

use super::random::Gen;
use super::*;
use crate::gpu::worker::Worker;

/// The columns of `case` as `push` is given them: `pieces` says of rows from one on what they are.
struct Pushed<'a> {
    case: &'a Case,
    table: &'a TableId,
    moment: u64,
}

impl Pushed<'_> {
    fn piece(&self, column: usize, first: usize) -> Piece {
        let all = self.case.columns[column].slice(0, self.case.rows);
        let wide = matches!(all.values, HostValues::I64(v) if v.iter().any(|v| i32::try_from(*v).is_err()));
        let nullable = all.valid.is_some_and(|v| v.contains(&0));
        self.table.piece(column as u32, first as u64, wide, nullable)
    }

    /// Rows `from..to`: what is on the device from there, the rest from the host, to stay if `keep` says so.
    fn columns<'a>(&'a self, kept: &'a [Option<Arc<KeptColumn>>], from: usize, to: usize, keep: bool) -> Vec<HostColumn<'a>> {
        let column = |(i, c): (usize, &'a Column)| match &kept[i] {
            Some(kept) => HostColumn::new(HostValues::Kept(kept)),
            None => HostColumn { piece: keep.then(|| self.piece(i, from)), ..c.slice(from, to) },
        };
        self.case.columns.iter().enumerate().map(column).collect()
    }

    fn kept(&self, device: &Device, from: usize, to: usize) -> Vec<Option<Arc<KeptColumn>>> {
        (0..self.case.columns.len()).map(|i| device.kept(&self.piece(i, from), to - from, self.moment)).collect()
    }
}

/// Groups of `case` in pushes of `step` rows, and how many pieces were found on the device.
fn groups(device: &Arc<Device>, pushed: &Pushed, step: usize, options: &RunOptions) -> Result<(GroupPartials, usize)> {
    let options = RunOptions { moment: pushed.moment, ..options.clone() };
    let tables: Vec<HostTable> = pushed.case.tables.iter().map(oracle::Table::host).collect();
    let run = device.prepare(pushed.case.program.clone(), &tables, options)?;
    let mut found = 0;
    for from in (0..pushed.case.rows).step_by(step) {
        let to = pushed.case.rows.min(from + step);
        let kept = pushed.kept(device, from, to);
        found += kept.iter().flatten().count();
        run.push(&pushed.columns(&kept, from, to, true), to - from)?;
    }
    Ok((run.finish()?, found))
}

#[test]
fn random_programs_over_kept_columns_agree_with_the_oracle() {
    let (mut found, mut compared) = (0, 0);
    for seed in 0..60 {
        let case = random::case(seed);
        let expected = answer(&case);
        for device in devices() {
            let table = TableId::unique();
            let mut g = Gen(seed);
            // Last pieces end anywhere, also within a word of bits; chunks hold several pieces, one, or less than one.
            let step = g.pick(&[32, 64, 96, 1000, 1 << 20]);
            let options = [RunOptions::default(), small_chunks(64)][usize::from(g.one_in(2))].clone();
            for round in 0..3 {
                let pushed = Pushed { case: &case, table: &table, moment: device.moment() };
                let Ok((partials, pieces)) = groups(&device, &pushed, step, &options) else { break };
                assert_same(&answer_of(&partials), &expected, device.class());
                assert!(round > 0 || pieces == 0, "a table that is new has pieces");
                found += usize::from(round > 0) * pieces;
                compared += 1;
            }
        }
    }
    if !devices().is_empty() {
        assert!(compared > 100 && found > 500, "{compared} answers, {found} pieces");
    }
}

/// Two columns, one narrow with nulls, one wide.
fn two_columns(rows: usize) -> Case {
    let narrow = Column::i32s(&(0..rows as i32).map(|i| i % 1000).collect::<Vec<_>>());
    let narrow = narrow.with_nulls((0..rows).map(|i| u8::from(i % 7 != 0)).collect());
    let wide = Column::i64s(&(0..rows as i64).map(|i| i << 20).collect::<Vec<_>>());
    let aggregates = vec![aggregate(AggregateOp::Sum, Some(0), None, Type::I64), aggregate(AggregateOp::Max, Some(1), None, Type::I64)];
    Case { program: program(&[Type::I32, Type::I64], aggregates), rows, columns: vec![narrow, wide], tables: vec![] }
}

#[test]
fn what_is_kept_is_not_brought_again() {
    let case = two_columns(10_000);
    for device in devices() {
        let table = TableId::unique();
        let pushed = |device: &Device| Pushed { case: &case, table: &table, moment: device.moment() };
        let (first, none) = groups(&device, &pushed(&device), 4096, &RunOptions::default()).unwrap();
        let (second, all) = groups(&device, &pushed(&device), 4096, &RunOptions::default()).unwrap();
        assert_eq!((none, all), (0, 6));
        // A word and a bit, and two words, a row; bits come in whole words.
        let bytes = 4 * (3 * 10_000 + 10_000_u64.div_ceil(32));
        assert_eq!((first.timings.upload_bytes, first.timings.kept_bytes), (bytes, 0));
        assert_eq!((second.timings.upload_bytes, second.timings.kept_bytes), (0, bytes));
        assert_eq!([0, 1, 2].map(|c| device.kept_rows(&table, c)), [10_000, 10_000, 0]);
        assert_same(&answer_of(&second), &answer(&case), device.class());
        // Other rows of the same column are not these.
        assert!(device.kept(&pushed(&device).piece(0, 0), 4095, 1).is_none());
        assert!(device.kept(&pushed(&device).piece(0, 1), 4096, 1).is_none());
        assert!(device.kept(&TableId::unique().piece(0, 0, false, true), 4096, 1).is_none());
    }
}

#[test]
fn rows_that_survive_are_selected_from_kept_columns() {
    for seed in 0..40 {
        let case = random::case(seed);
        let expected = survivors(&case);
        for device in devices() {
            let table = TableId::unique();
            let pushed = Pushed { case: &case, table: &table, moment: device.moment() };
            let tables: Vec<HostTable> = case.tables.iter().map(oracle::Table::host).collect();
            // Whole, and in parts that are no multiple of a word of bits.
            let options = RunOptions { chunk_rows_max: [1 << 20, 100, 700][seed as usize % 3], ..RunOptions::default() };
            let Ok(run) = device.prepare_rows(case.program.clone(), &tables, options) else { continue };
            for round in 0..2 {
                let kept = pushed.kept(&device, 0, case.rows);
                assert!(round == 1 || kept.iter().all(Option::is_none));
                let mut timings = Timings::default();
                let Ok(found) = run.select(&pushed.columns(&kept, 0, case.rows, true), &[], case.rows, &mut timings) else { break };
                assert_eq!(survivors_of(&case, &found), expected, "seed {seed}");
            }
        }
    }
}

#[test]
fn memory_is_bounded_and_a_run_comes_first() {
    let Some(device) = private_device() else { return };
    let case = two_columns(100_000);
    let expected = answer(&case);
    let tables = [TableId::unique(), TableId::unique()];
    let kept = |t: &TableId| device.kept_rows(t, 0) + device.kept_rows(t, 1);
    let turn = |table: &TableId| {
        let pushed = Pushed { case: &case, table, moment: device.moment() };
        let (partials, found) = groups(&device, &pushed, 4096, &small_chunks(16_384)).unwrap();
        assert_same(&answer_of(&partials), &expected, device.class());
        found
    };
    // A chunk of 16,384 rows is 200 KB, all rows 1.2 MB.
    device.limit_memory(1_000_000);
    turn(&tables[0]);
    let memory = device.memory().unwrap();
    assert!(memory.live_bytes == 0 && memory.kept_bytes <= 500_000 && kept(&tables[0]) > 40_000, "{memory:?}");
    // More than fits: its first part stays, the same in every turn.
    let there = || {
        let pushed = Pushed { case: &case, table: &tables[0], moment: 0 };
        let is_there = |first: &usize| device.kept(&pushed.piece(0, *first), 4096.min(case.rows - first), 0).is_some();
        (0..case.rows).step_by(4096).filter(is_there).collect::<Vec<_>>()
    };
    let stayed = there();
    assert!(stayed.len() > 5 && stayed.len() < 25, "{stayed:?}");
    for _ in 0..2 {
        assert!(turn(&tables[0]) >= stayed.len());
        assert_eq!(there(), stayed, "a table chases its own tail");
    }
    // Another table takes the room of what was used before it.
    turn(&tables[1]);
    let memory = device.memory().unwrap();
    let each = tables.each_ref().map(kept);
    assert!(each[1] > 40_000 && memory.kept_bytes <= 500_000, "{memory:?}, {each:?}");
    // A smaller limit lets go of what is over it; a run that needs memory has it.
    device.limit_memory(600_000);
    assert!(device.memory().unwrap().kept_bytes <= 600_000);
    turn(&tables[1]);
    // Memory that the driver does not have: the run fails, and what stayed is let go.
    device.limit_memory(u64::MAX);
    turn(&tables[1]);
    assert!(device.memory().unwrap().kept_bytes > 1_000_000);
    device.inject(Fault::OutOfMemory);
    assert_eq!(kind_of(run(&device, &case, 1, RunOptions::default())), ErrorKind::Exhausted);
    assert_eq!(
        device.memory().unwrap(),
        DeviceMemory { live_bytes: 0, kept_bytes: 0, pooled_bytes: device.memory().unwrap().pooled_bytes }
    );
    assert_eq!(kept(&tables[0]) + kept(&tables[1]), 0);
    turn(&tables[1]);
}

#[test]
fn a_table_that_is_gone_is_forgotten() {
    let case = two_columns(5_000);
    for device in devices() {
        let table = TableId::unique();
        let pushed = Pushed { case: &case, table: &table, moment: device.moment() };
        groups(&device, &pushed, 5_000, &RunOptions::default()).unwrap();
        let (piece, held) = (pushed.piece(0, 0), pushed.kept(&device, 0, 5_000));
        assert!(held.iter().all(Option::is_some));
        drop(table);
        // After what was asked for before.
        device.memory().unwrap();
        assert!(device.kept(&piece, 5_000, 0).is_none());
        // Whoever holds a piece may still use it.
        let run = device.prepare(case.program.clone(), &[], RunOptions::default()).unwrap();
        let columns: Vec<_> = held.iter().flatten().map(|k| HostColumn::new(HostValues::Kept(k))).collect();
        run.push(&columns, 5_000).unwrap();
        assert_same(&answer_of(&run.finish().unwrap()), &answer(&case), device.class());
    }
}

#[test]
fn a_kept_column_of_another_form_is_a_bug_and_no_answer() {
    let case = two_columns(3_000);
    for device in devices() {
        let table = TableId::unique();
        let pushed = Pushed { case: &case, table: &table, moment: device.moment() };
        groups(&device, &pushed, 3_000, &RunOptions::default()).unwrap();
        let kept = pushed.kept(&device, 0, 3_000);
        let kept = |i: usize| HostColumn::new(HostValues::Kept(kept[i].as_ref().unwrap()));
        let push = |columns: &[HostColumn], rows: usize| {
            let run = device.prepare(case.program.clone(), &[], RunOptions::default()).unwrap();
            // Nullable and wide from here on.
            run.push(&[Column::i32s(&[1]).with_nulls(vec![0]).slice(0, 1), Column::i64s(&[1 << 40]).slice(0, 1)], 1).unwrap();
            run.push(columns, rows)
        };
        assert!(push(&[kept(0), kept(1)], 3_000).is_ok());
        assert_eq!(kind_of(push(&[kept(1), kept(1)], 3_000)), ErrorKind::Bug);
        assert_eq!(kind_of(push(&[kept(0), kept(0)], 3_000)), ErrorKind::Bug);
        assert_eq!(kind_of(push(&[kept(0), kept(1)], 2_999)), ErrorKind::Bug);
    }
}

#[test]
fn what_a_fault_keeps_from_staying_holds_no_memory() {
    let Some(device) = private_device() else { return };
    let case = two_columns(10_000);
    let table = TableId::unique();
    for fault in [Fault::Submit, Fault::OutOfMemory] {
        let run = device.prepare(case.program.clone(), &[], small_chunks(4096)).unwrap();
        let pushed = Pushed { case: &case, table: &table, moment: device.moment() };
        let none = vec![None; 2];
        device.inject(fault);
        // The second push sends the first chunk, or waits for it.
        let first = run.push(&pushed.columns(&none, 0, 4096, true), 4096);
        let second = run.push(&pushed.columns(&none, 4096, 8192, true), 4096);
        assert!(first.is_err() || second.is_err() || run.finish().is_err(), "{fault:?}");
        drop(run);
        let memory = device.memory().unwrap();
        assert_eq!((memory.live_bytes, memory.kept_bytes), (0, 0), "{fault:?}");
        assert_eq!([0, 1].map(|c| device.kept_rows(&table, c)), [0, 0]);
        let (partials, _) = groups(&device, &pushed, 4096, &RunOptions::default()).unwrap();
        assert_same(&answer_of(&partials), &answer(&case), device.class());
        drop(partials);
        let let_go = |worker: &mut Worker| {
            while worker.make_room() {}
            Ok(())
        };
        device.call(let_go).unwrap();
        assert_eq!(device.memory().unwrap().kept_bytes, 0);
    }
}
