//! What a stage would do, in the kernels that a profile has a cost of.
//!
//! Rows come from statistics ([`rows`]); where the sources do not know how many they have, there is no work to price.
//! What a GPU would do of it is [`device`]'s. A constant costs nothing; a register that is read after rows were dropped
//! is gathered, once for each time that happens, as the CPU does.

mod device;
pub mod rows;

use crate::estimate::Values;
use crate::machine::Residency;
use arrow::datatypes::DataType;
use datafusion::datasource::physical_plan::{FileScanConfig, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use millstream_cost::{Cpu, Kernel, Step, Work, group_table};
use millstream_stage::program::{AggregateOp, Instr, Reg, Type, physical};
use millstream_stage::run::gpu::resident_shares;
use millstream_stage::{ResidentSource, Sink, StageExec, array_entries, direct_slots};
use rows::{Flow, groups_of};
use std::sync::Arc;

/// Bytes of a group's state, of one aggregate.
const STATE_BYTES: f64 = 16.0;
/// Bytes of a group of strings: the key of 16 bytes, its slot, its text.
const TEXT_GROUP_BYTES: f64 = 64.0;
/// Bytes of a row in a hash join table.
const HASH_ROW_BYTES: f64 = 24.0;
/// A page of a column: where none of its rows is wanted it is not even decompressed.
const PAGE_ROWS: f64 = 20_000.0;
/// A dictionary has no more entries than these.
const ENTRIES_MAX: f64 = 65_536.0;

/// The work of a stage; none where nobody knows how many rows come in.
pub fn work(stage: &StageExec, cpu: &Cpu, residency: Residency) -> Option<Work> {
    let flow = rows::flow(stage)?;
    let source = Source::of(stage.input());
    let mut walk = Walk::new(stage, &flow, source);
    for (i, rows) in stage.program().instrs.iter().zip(&flow.before) {
        walk.instr(i, *rows);
    }
    walk.read(&stage.sink().reads(), flow.after);
    let mut steps = walk.steps;
    let (sunk, merge, rows_out) = sink(stage, &flow, cpu);
    let in_sink = sunk.clone();
    steps.extend(sunk);
    let width = |r: &Reg| width(stage.program().data_type(*r));
    let inputs = 0..stage.program().inputs.len() as Reg;
    let read_bytes = flow.rows * inputs.map(|r| width(&r)).sum::<f64>();
    let out_bytes = rows_out * stage.schema().fields().iter().map(|f| self::width(f.data_type())).sum::<f64>();
    let resident = if residency.columns && !stage.input().is::<StageExec>() {
        vec![1.0; stage.program().inputs.len()]
    } else {
        resident_shares(stage)
    };
    let device = device::work(stage, &flow, source, cpu, &resident, &in_sink);
    let groups = if merge.is_empty() { 0.0 } else { rows_out };
    Some(Work { rows: flow.rows, rows_out, sunk_rows: flow.after, groups, read_bytes, out_bytes, steps, merge, device })
}

/// Where a stage's rows come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Parquet that the stage decodes itself.
    File,
    /// Registers, of a table in memory or another stage.
    Registers,
    /// Batches of a stock operator.
    Batches,
}

impl Source {
    fn of(plan: &Arc<dyn ExecutionPlan>) -> Self {
        if let Some(c) = plan.downcast_ref::<CoalescePartitionsExec>() {
            return Self::of(c.input());
        }
        if let Some(c) = plan.downcast_ref::<CooperativeExec>() {
            return Self::of(c.input());
        }
        let leaf = plan.downcast_ref::<DataSourceExec>();
        let file = leaf.and_then(|s| s.data_source().downcast_ref::<FileScanConfig>());
        if file.is_some_and(|s| s.file_source().downcast_ref::<ParquetSource>().is_some()) {
            return Self::File;
        }
        if plan.is::<StageExec>() || leaf.is_some_and(|s| ResidentSource::of(s).is_some()) { Self::Registers } else { Self::Batches }
    }
}

/// Bytes of a value in a register.
fn width(t: &DataType) -> f64 {
    match physical(t) {
        Type::Bool => 1.0,
        Type::I32 | Type::Str => 4.0,
        Type::I64 | Type::Decimal | Type::F64 => 8.0,
        Type::Any => 16.0,
    }
}

/// Whether strings are likely codes of a dictionary.
fn is_coded(v: &Values) -> bool {
    let entries = if v.counted { Some(v.distinct) } else { v.likely };
    entries.is_some_and(|n| n <= ENTRIES_MAX && n <= v.of / 4.0)
}

/// Follows a program and notes what it costs.
struct Walk<'a> {
    stage: &'a StageExec,
    flow: &'a Flow,
    source: Source,
    steps: Vec<Step>,
    /// How often rows were dropped or multiplied so far.
    generation: usize,
    /// By register: the generation that its values are of; none before it is decoded, or of a constant.
    of: Vec<Option<usize>>,
    constant: Vec<bool>,
}

impl<'a> Walk<'a> {
    fn new(stage: &'a StageExec, flow: &'a Flow, source: Source) -> Self {
        let registers = stage.program().types.len();
        Self { stage, flow, source, steps: vec![], generation: 0, of: vec![None; registers], constant: vec![false; registers] }
    }

    fn value(&self, r: Reg) -> &Values {
        &self.flow.values[usize::from(r)]
    }

    fn ty(&self, r: Reg) -> Type {
        self.stage.program().ty(r)
    }

    fn push(&mut self, kernel: Kernel, rows: f64) {
        self.steps.push(Step::new(kernel, rows));
    }

    /// Registers that are read by `rows` rows: decoded the first time, gathered where rows were dropped since.
    fn read(&mut self, registers: &[Reg], rows: f64) {
        for r in registers {
            let at = usize::from(*r);
            if self.constant[at] {
                continue;
            }
            let is_input = at < self.stage.program().inputs.len();
            match self.of[at] {
                None if is_input && self.source != Source::Registers => self.fetch(*r, rows),
                Some(g) if g == self.generation => {}
                None if self.generation == 0 => {}
                _ => self.push(Kernel::Gather, rows),
            }
            self.of[at] = Some(self.generation);
        }
    }

    /// An input out of pages or batches. Half of a page's cost is to open it, half is its values.
    fn fetch(&mut self, r: Reg, rows: f64) {
        let all = self.flow.rows;
        if self.source == Source::Batches {
            return self.push(Kernel::Copy, all);
        }
        let part = (rows / all.max(1.0)).min(1.0);
        let opened = all * (1.0 - (1.0 - part).powf(PAGE_ROWS.min(all)));
        let kernel = if self.ty(r) == Type::Str && !is_coded(self.value(r)) { Kernel::DecodeText } else { Kernel::DecodeNumber };
        self.push(kernel, (opened + rows.min(all)) / 2.0);
    }

    /// An instruction over `rows` rows.
    fn instr(&mut self, i: &Instr, rows: f64) {
        if let Instr::Const { out, .. } = i {
            self.constant[usize::from(*out)] = true;
            return;
        }
        self.read(&i.reads(), rows);
        match i {
            Instr::Const { .. } => {}
            Instr::Compare { a, b, .. } if self.ty(*a) == Type::Str && self.is_text(*a, *b) => self.push(Kernel::MapText, rows),
            Instr::Like { a, .. } if !is_coded(self.value(*a)) => self.push(Kernel::MapText, rows),
            Instr::Call { call, inputs, .. } => {
                let once = self.stage.program().calls.get(usize::from(*call)).is_some_and(|c| c.per_entry);
                let coded = once && inputs.iter().all(|r| is_coded(self.value(*r)));
                self.push(if coded { Kernel::Map } else { Kernel::Call }, rows);
            }
            Instr::Filter { .. } => {
                self.push(Kernel::Filter, rows);
                self.generation += 1;
            }
            Instr::Probe(p) => {
                for r in p.keys.iter().filter(|r| self.ty(**r) == Type::Str).copied().collect::<Vec<_>>() {
                    let kernel = if is_coded(self.value(r)) { Kernel::Map } else { Kernel::GroupText };
                    self.push(kernel, rows);
                }
                let table = Table::of(self.flow, p.table);
                self.steps.push(Step::over(table.probe, rows, table.bytes));
                self.generation += 1;
            }
            Instr::Gather { table, out, .. } => {
                let bytes = Table::of(self.flow, *table).rows * width(self.stage.program().data_type(*out));
                self.steps.push(Step::over(Kernel::Gather, rows, bytes));
            }
            _ => self.push(Kernel::Map, rows),
        }
        if let Some(out) = i.out() {
            self.of[usize::from(out)] = Some(self.generation);
        }
    }

    fn is_text(&self, a: Reg, b: Reg) -> bool {
        [a, b].iter().any(|r| !self.constant[usize::from(*r)] && !is_coded(self.value(*r)))
    }
}

/// A join table as its kernel will lay it out.
struct Table {
    rows: f64,
    build: Kernel,
    probe: Kernel,
    bytes: f64,
}

impl Table {
    fn of(flow: &Flow, table: u16) -> Self {
        let known = flow.tables.get(usize::from(table));
        known.map_or(Self::with(0.0, &[]), |t| Self::with(t.rows, &t.keys))
    }

    fn with(rows: f64, keys: &[Values]) -> Self {
        let codes = codes(keys).filter(|codes| *codes <= array_entries(rows as u64) as f64);
        match codes {
            Some(codes) => Self { rows, build: Kernel::BuildArray, probe: Kernel::ProbeArray, bytes: codes * 4.0 },
            None => Self { rows, build: Kernel::BuildHash, probe: Kernel::ProbeHash, bytes: rows * HASH_ROW_BYTES },
        }
    }
}

/// How many combinations keys could have by their ranges or dictionaries; none where one has neither.
fn codes(keys: &[Values]) -> Option<f64> {
    let of = |v: &Values| match v.range {
        Some((lo, hi)) if v.counted => Some(hi - lo + 1.0),
        _ if is_coded(v) => v.likely.or(Some(v.distinct)),
        _ => None,
    };
    keys.iter().map(of).try_fold(1.0, |n, c| Some(n * c?))
}

/// How the keys of groups are looked up: the kernel, its table's bytes, and how many groups there are.
struct Grouping {
    kernel: Kernel,
    bytes: f64,
    groups: f64,
}

impl Grouping {
    fn of(stage: &StageExec, flow: &Flow, keys: &[Reg], cpu: &Cpu) -> Self {
        let values: Vec<Values> = keys.iter().map(|r| flow.values[usize::from(*r)]).collect();
        let groups = groups_of(&values, flow.after);
        let text = |r: &&Reg| stage.program().ty(**r) == Type::Str && !is_coded(&flow.values[usize::from(**r)]);
        if keys.iter().any(|r| text(&r)) {
            return Self { kernel: Kernel::GroupText, bytes: groups * TEXT_GROUP_BYTES, groups };
        }
        let codes = codes(&values).filter(|codes| *codes <= direct_slots(groups as usize) as f64);
        let (kernel, bytes) = group_table(cpu, groups, codes);
        Self { kernel, bytes, groups }
    }

    /// Looking up so many rows.
    fn lookup(&self, keys: usize, rows: f64) -> Vec<Step> {
        match keys {
            0 => vec![],
            1 => vec![Step::over(self.kernel, rows, self.bytes)],
            // Every further key is one more word to bring into the code or the hash.
            more => vec![Step::over(self.kernel, rows, self.bytes), Step::new(Kernel::Map, rows * (more - 1) as f64)],
        }
    }
}

impl Grouping {
    /// Making room for all groups once.
    fn insert(&self, keys: usize) -> Option<Step> {
        (keys > 0).then(|| Step::over(Kernel::GroupInsert, self.groups, self.groups * HASH_ROW_BYTES))
    }
}

/// What a sink does on the CPU: with its rows, to merge its groups once; and the rows that leave.
fn sink(stage: &StageExec, flow: &Flow, cpu: &Cpu) -> (Vec<Step>, Vec<Step>, f64) {
    let rows = flow.after;
    let values = |n: usize| rows * n as f64;
    match stage.sink() {
        Sink::Collect { columns } => (vec![Step::new(Kernel::Copy, values(columns.len()))], vec![], rows),
        Sink::Build { keys, columns, .. } => {
            let of: Vec<Values> = keys.iter().map(|r| flow.values[usize::from(*r)]).collect();
            let table = Table::with(rows, &of);
            let copied = Step::new(Kernel::Copy, values(keys.len() + columns.len()));
            (vec![copied, Step::over(table.build, rows, table.bytes)], vec![], rows)
        }
        Sink::Sort { columns, fetch: None, .. } => {
            let bytes = rows * 8.0;
            let sorted = Step::new(Kernel::Sort, rows * rows.max(2.0).log2());
            let out = Step::over(Kernel::Gather, values(columns.len()), bytes);
            (vec![Step::new(Kernel::Copy, values(columns.len())), sorted, out], vec![], rows)
        }
        Sink::Sort { columns, fetch: Some(n), groups, .. } => {
            let kept = rows.min(*n as f64);
            let mut steps = vec![Step::new(Kernel::Map, rows), Step::new(Kernel::Copy, kept * columns.len() as f64)];
            if !groups.is_empty() {
                let keys: Vec<Reg> = groups.iter().filter_map(|c| columns.get(*c)).copied().collect();
                steps.extend(Grouping::of(stage, flow, &keys, cpu).lookup(keys.len(), rows));
            }
            (steps, vec![], kept)
        }
        Sink::Group { keys, sets, aggregates } => {
            let by = Grouping::of(stage, flow, keys, cpu);
            let of = |n: f64| {
                let mut steps = by.lookup(keys.len(), n);
                steps.extend(by.insert(keys.len()));
                let states = aggregates.iter().flat_map(|a| a.function.states());
                steps.extend(states.map(|op| state(&op, n, &by)));
                steps
            };
            let (sets, columns) = (sets.len().max(1) as f64, keys.len() + aggregates.len());
            let mut steps = of(rows * sets);
            steps.push(Step::new(Kernel::Copy, by.groups * sets * columns as f64));
            (steps, of(by.groups * sets), by.groups * sets)
        }
    }
}

/// `rows` rows into one state of their groups.
fn state(op: &AggregateOp, rows: f64, by: &Grouping) -> Step {
    use AggregateOp::*;
    match op {
        CountDistinct => Step::over(Kernel::GroupHash, rows, by.bytes + rows * HASH_ROW_BYTES / 2.0),
        Median | Quantile(_) | List(_) => Step::new(Kernel::Sort, rows * 4.0),
        _ => Step::over(Kernel::Accumulate, rows, by.groups * STATE_BYTES),
    }
}
