//! The oracle of the device: one row at a time, every value an `Option<i128>`, nothing shared with
//! the code under test but the program itself. Booleans are 0 and 1.

use super::super::{DeviceProgram, GroupPartials, HostColumn, HostIndex, HostTable, HostValues, SelectedRows, SelectedValues};
use crate::program::{AggregateOp, ArithOp, BoolOp, CompareOp, Instr, JoinKind, Reg};
use crate::value::Value;
use std::collections::{BTreeMap, HashMap};

/// Values of a column that owns them.
#[derive(Clone, Debug)]
pub enum Data {
    Bool(Vec<u8>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

/// A column that owns its values.
#[derive(Clone, Debug)]
pub struct Column {
    pub data: Data,
    pub valid: Option<Vec<u8>>,
}

impl Column {
    pub fn new(data: Data) -> Self {
        Self { data, valid: None }
    }

    pub fn i32s(values: &[i32]) -> Self {
        Self::new(Data::I32(values.to_vec()))
    }

    pub fn i64s(values: &[i64]) -> Self {
        Self::new(Data::I64(values.to_vec()))
    }

    pub fn with_nulls(mut self, valid: Vec<u8>) -> Self {
        self.valid = Some(valid);
        self
    }

    pub fn len(&self) -> usize {
        self.slice(0, usize::MAX).values.len()
    }

    /// Rows `from..to`, or as far as they go.
    pub fn slice(&self, from: usize, to: usize) -> HostColumn<'_> {
        fn part<T>(v: &[T], from: usize, to: usize) -> &[T] {
            &v[from.min(v.len())..to.min(v.len())]
        }
        HostColumn {
            values: match &self.data {
                Data::Bool(v) => HostValues::Bool(part(v, from, to)),
                Data::I32(v) => HostValues::I32(part(v, from, to)),
                Data::I64(v) => HostValues::I64(part(v, from, to)),
            },
            valid: self.valid.as_ref().map(|v| part(v, from, to)),
            piece: None,
        }
    }

    fn value(&self, row: usize) -> Option<i128> {
        if self.valid.as_ref().is_some_and(|v| v[row] == 0) {
            return None;
        }
        Some(match &self.data {
            Data::Bool(v) => v[row].into(),
            Data::I32(v) => v[row].into(),
            Data::I64(v) => v[row].into(),
        })
    }
}

/// A join table that owns its parts.
#[derive(Clone, Debug)]
pub struct Table {
    pub min_key: i64,
    pub slots: Vec<u32>,
    /// By hash: the distance of each row's key from `min_key`, and the first row of each key; no slots then.
    pub hash: Option<(Vec<u64>, Vec<u32>)>,
    pub columns: Vec<Column>,
}

impl Table {
    pub fn host(&self) -> HostTable<'_> {
        let columns = self.columns.iter().map(|c| c.slice(0, usize::MAX)).collect();
        let index = match &self.hash {
            Some((codes, heads)) => HostIndex::Hash { codes, heads: heads.clone() },
            None => HostIndex::Array(&self.slots),
        };
        HostTable { min_key: self.min_key, index, columns }
    }

    fn row(&self, key: Option<i128>) -> Option<usize> {
        if let Some((codes, heads)) = &self.hash {
            let code = (key? - i128::from(self.min_key)) as u64;
            return heads.iter().map(|head| *head as usize - 1).find(|row| codes[*row] == code);
        }
        let slot = usize::try_from(key? - i128::from(self.min_key)).ok()?;
        self.slots.get(slot).copied().filter(|s| *s != 0).map(|s| s as usize - 1)
    }
}

/// A program with its data.
#[derive(Clone, Debug)]
pub struct Case {
    pub program: DeviceProgram,
    pub rows: usize,
    pub columns: Vec<Column>,
    pub tables: Vec<Table>,
}

/// Rows of a group, and per aggregate how many values counted and the result.
pub type Group = (u64, Vec<(u64, Option<i128>)>);

/// What every group must hold; groups without rows are absent.
pub type Answer = BTreeMap<Vec<u32>, Group>;

/// The right answer; a register that leaves 64 bits is no concern of the oracle.
pub fn answer(case: &Case) -> Answer {
    let mut groups = Answer::new();
    for row in 0..case.rows {
        let mut registers: HashMap<Reg, Option<i128>> = case.columns.iter().enumerate().map(|(i, c)| (i as Reg, c.value(row))).collect();
        if case.program.instrs.iter().all(|instr| step(instr, case, &mut registers)) {
            count(case, &registers, &mut groups);
        }
    }
    groups
}

/// A row that survives, and the outputs of the program for it.
pub type Survivor = (u32, Vec<Option<i128>>);

/// The rows that survive.
pub fn survivors(case: &Case) -> Vec<Survivor> {
    let mut all = vec![];
    for row in 0..case.rows {
        let mut registers: HashMap<Reg, Option<i128>> = case.columns.iter().enumerate().map(|(i, c)| (i as Reg, c.value(row))).collect();
        if case.program.instrs.iter().all(|instr| step(instr, case, &mut registers)) {
            all.push((row as u32, case.program.outputs.iter().map(|r| registers[r]).collect()));
        }
    }
    all
}

/// The survivors that came back. Outputs of `case` that are row ids are null below 0.
pub fn survivors_of(case: &Case, found: &SelectedRows) -> Vec<Survivor> {
    let is_row = |r: &Reg| case.program.instrs.iter().any(|i| matches!(i, Instr::Probe(p) if p.rows == *r));
    let value = |(column, reg): (&super::super::Selected, &Reg), i: usize| {
        let value = match &column.values {
            SelectedValues::Bool(v) => v[i].into(),
            SelectedValues::I32(v) => v[i].into(),
            SelectedValues::I64(v) => v[i].into(),
        };
        let null = column.valid.as_ref().is_some_and(|v| v[i] == 0) || is_row(reg) && value < 0;
        if null { None } else { Some(value) }
    };
    let row = |(i, row): (usize, &u32)| (*row, found.columns.iter().zip(&case.program.outputs).map(|c| value(c, i)).collect());
    found.rows.iter().enumerate().map(row).collect()
}

/// Runs one instruction; false drops the row.
fn step(instr: &Instr, case: &Case, r: &mut HashMap<Reg, Option<i128>>) -> bool {
    let (out, value) = match instr {
        Instr::Const { constant, out } => (*out, literal(&case.program.constants[*constant as usize])),
        Instr::Compare { op, a, b, out } => (*out, r[a].zip(r[b]).map(|(a, b)| i128::from(compare(*op, a, b)))),
        Instr::Arith { op, a, b, out, .. } => (*out, r[a].zip(r[b]).map(|(a, b)| arith(*op, a, b))),
        Instr::Bool { op, a, b, out } => (*out, logic(*op, r[a], r[b])),
        Instr::Not { a, out } => (*out, r[a].map(|v| 1 - v)),
        Instr::IsNull { a, negated, out } => (*out, Some(i128::from(r[a].is_none() != *negated))),
        Instr::Select { cond, a, b, out } => (*out, if r[cond] == Some(1) { r[a] } else { r[b] }),
        Instr::Cast { a, out, .. } => (*out, r[a]),
        Instr::Filter { cond } => return r[cond] == Some(1),
        Instr::Gather { table, column, rows, out } => {
            let row = r[rows].map(|row| case.tables[*table as usize].columns[*column as usize].value(row as usize));
            (*out, row.flatten())
        }
        Instr::Probe(probe) => {
            let row = case.tables[probe.table as usize].row(r[&probe.keys[0]]);
            if let (JoinKind::ProbeMark, Some(mark)) = (probe.kind, probe.mark) {
                r.insert(mark, Some(i128::from(row.is_some())));
            }
            r.insert(probe.rows, row.map(|row| row as i128));
            return match probe.kind {
                JoinKind::Inner | JoinKind::ProbeSemi => row.is_some(),
                JoinKind::ProbeAnti => row.is_none(),
                _ => true,
            };
        }
        other => panic!("the oracle does not know {other:?}"),
    };
    r.insert(out, value);
    true
}

fn literal(value: &Value) -> Option<i128> {
    match value {
        Value::Null => None,
        Value::Bool(v) => Some(i128::from(*v)),
        Value::Int(v) => Some(*v),
        other => panic!("the oracle does not know {other:?}"),
    }
}

fn compare(op: CompareOp, a: i128, b: i128) -> bool {
    match op {
        CompareOp::Eq => a == b,
        CompareOp::Ne => a != b,
        CompareOp::Lt => a < b,
        CompareOp::Le => a <= b,
        CompareOp::Gt => a > b,
        CompareOp::Ge => a >= b,
    }
}

fn arith(op: ArithOp, a: i128, b: i128) -> i128 {
    // Wrapping: a run whose values leave 64 bits must be refused, not right.
    match op {
        ArithOp::Add => a.wrapping_add(b),
        ArithOp::Sub => a.wrapping_sub(b),
        ArithOp::Mul => a.wrapping_mul(b),
    }
}

fn logic(op: BoolOp, a: Option<i128>, b: Option<i128>) -> Option<i128> {
    let wins = i128::from(op == BoolOp::Or);
    match (a, b) {
        (Some(v), _) | (_, Some(v)) if v == wins => Some(wins),
        (Some(_), Some(_)) => Some(1 - wins),
        _ if a == Some(wins) || b == Some(wins) => Some(wins),
        _ => None,
    }
}

fn count(case: &Case, r: &HashMap<Reg, Option<i128>>, groups: &mut Answer) {
    let keys = case.program.keys.iter();
    let codes = keys.map(|(reg, cardinality)| r[reg].map_or(cardinality - 1, |v| v as u32)).collect();
    let none = || (0, vec![(0, None); case.program.aggregates.len()]);
    let (rows, results) = groups.entry(codes).or_insert_with(none);
    *rows += 1;
    for (aggregate, (count, result)) in case.program.aggregates.iter().zip(results) {
        let counts = aggregate.op == AggregateOp::Count;
        if counts {
            result.get_or_insert(0);
        }
        if aggregate.filter.is_some_and(|f| r[&f] != Some(1)) {
            continue;
        }
        let Some(v) = aggregate.arg.map_or(Some(0), |arg| r[&arg]) else {
            continue;
        };
        *count += 1;
        *result = Some(match (aggregate.op, *result) {
            (AggregateOp::Count, _) => i128::from(*count),
            (_, None) => v,
            // Past 128 bits the device has refused the rows.
            (AggregateOp::Sum, Some(sum)) => sum.wrapping_add(v),
            (AggregateOp::Min, Some(least)) => v.min(least),
            (AggregateOp::Max, Some(greatest)) => v.max(greatest),
            (other, _) => panic!("the oracle does not know {other:?}"),
        });
    }
}

/// The answer that `partials` hold.
pub fn answer_of(partials: &GroupPartials) -> Answer {
    let live = (0..partials.rows.len()).filter(|group| partials.rows[*group] > 0);
    live.map(|group| {
        let results = partials.aggregates.iter().map(|a| (a.counts[group], a.value(group))).collect();
        (partials.codes(group), (partials.rows[group], results))
    })
    .collect()
}
