//! The oracle of whole stages: one row at a time over values. Never optimised.
//!
//! It shares the programs, the calls to DataFusion and the scan with the twins, and no kernel: rows are
//! filtered, joined by nested loops, grouped in an ordered map and sorted by value.

use super::chunk::evaluate;
use super::driver::{Held, Output};
use super::{Bound, Built};
use crate::convert::Block;
use crate::program::{AggregateCall, AggregateFunction, ConstantSource, GroupingSet, Program, Sink, SortKey, physical};
use crate::{Error, Result};
use arrow::datatypes::DataType;
use millstream_kernels::group::KeyType;
use millstream_kernels::group::reference::{Reference, aggregate, list};
use millstream_kernels::join::reference::matches;
use millstream_kernels::program::{Instr, JoinKind, Probe, Reg, Type};
use millstream_kernels::{Value, Vector, arith, bins, boolean, cast, compare, gather, text};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A program run row by row.
pub struct RowProgram {
    bound: Arc<Bound>,
    /// Keys of each build row, by table.
    keys: Vec<Vec<Vec<Value>>>,
}

/// What arrives, by the sink's registers.
pub struct ReferenceSink {
    sink: Sink,
    rows: Vec<Vec<Value>>,
}

type Row = Vec<Value>;

impl RowProgram {
    /// For the rows of `bound`.
    pub fn new(bound: Arc<Bound>) -> Self {
        let keys = bound.tables.iter().map(|t| build_keys(t)).collect();
        Self { bound, keys }
    }

    /// Runs the rows of a block.
    ///
    /// # Errors
    /// What an instruction raises on a live row.
    pub fn block(&mut self, block: &Block, sink: &mut ReferenceSink) -> Result<()> {
        for i in 0..block.rows {
            let mut row = vec![Value::Null; self.bound.program.types.len()];
            for (r, c) in block.columns.iter().enumerate() {
                row[r] = c.value(i)?;
            }
            self.run(row, 0, sink)?;
        }
        Ok(())
    }

    /// What build rows `range` of the probe at `at` owe at the end.
    ///
    /// # Errors
    /// As [`RowProgram::block`].
    pub fn tail(&mut self, at: usize, range: Range<usize>, sink: &mut ReferenceSink) -> Result<()> {
        let bound = Arc::clone(&self.bound);
        let Instr::Probe(p) = &bound.program.instrs[at] else { return Err(Error::bug("no probe")) };
        let built = &bound.tables[p.table as usize];
        use std::sync::atomic::Ordering::Relaxed;
        if p.null_aware && built.probe_null.load(Relaxed) != 0 {
            return Ok(());
        }
        for b in range {
            let matched = built.is_matched(b);
            let null_key = self.keys[p.table as usize][b].iter().any(Value::is_null);
            let emit = match p.kind {
                JoinKind::BuildSemi => matched,
                JoinKind::BuildMark => true,
                _ if p.null_aware && built.probed.load(Relaxed) != 0 => !matched && !null_key,
                _ => !matched,
            };
            if !emit {
                continue;
            }
            // Of the other side nothing is there, constants included.
            let mut row = vec![Value::Null; bound.program.types.len()];
            row[p.rows as usize] = Value::Int(b as i128);
            if let Some(mark) = p.mark {
                row[mark as usize] = Value::Bool(matched);
            }
            self.run(row, at + 1, sink)?;
        }
        Ok(())
    }

    fn run(&self, mut row: Row, from: usize, sink: &mut ReferenceSink) -> Result<()> {
        let bound = Arc::clone(&self.bound);
        for (at, i) in bound.program.instrs.iter().enumerate().skip(from) {
            match i {
                Instr::Filter { cond } => {
                    if row[*cond as usize] != Value::Bool(true) {
                        return Ok(());
                    }
                }
                Instr::Probe(p) => return self.probe(p, &row, at, sink),
                i => self.step(i, &mut row)?,
            }
        }
        sink.rows.push(sink.sink.reads().iter().map(|r| row[*r as usize].clone()).collect());
        Ok(())
    }

    fn probe(&self, p: &Probe, row: &Row, at: usize, sink: &mut ReferenceSink) -> Result<()> {
        let built = &self.bound.tables[p.table as usize];
        let key: Vec<Value> = p.keys.iter().map(|k| row[*k as usize].clone()).collect();
        if p.null_aware {
            use std::sync::atomic::Ordering::Relaxed;
            built.probed.store(1, Relaxed);
            if key.iter().any(Value::is_null) {
                built.probe_null.store(1, Relaxed);
            }
        }
        let mut found = vec![];
        for b in matches(&self.keys[p.table as usize], &key, p.null_equals_null) {
            let mut pair = row.clone();
            pair[p.rows as usize] = Value::Int(b as i128);
            if let Some(residual) = &p.residual {
                for i in &residual.instrs {
                    self.step(i, &mut pair)?;
                }
                if pair[residual.cond as usize] != Value::Bool(true) {
                    continue;
                }
            }
            if p.kind.has_tail() {
                built.mark(b);
            }
            found.push(b);
        }
        let mut go = |rows: Value, mark: Option<bool>| {
            let mut row = row.clone();
            row[p.rows as usize] = rows;
            if let (Some(r), Some(m)) = (p.mark, mark) {
                row[r as usize] = Value::Bool(m);
            }
            self.run(row, at + 1, sink)
        };
        match p.kind {
            k if k.is_tail_only() => Ok(()),
            JoinKind::ProbeMark => go(Value::Null, Some(!found.is_empty())),
            JoinKind::ProbeSemi if found.is_empty() => Ok(()),
            JoinKind::ProbeSemi => go(Value::Null, None),
            JoinKind::ProbeAnti if found.is_empty() => go(Value::Null, None),
            JoinKind::ProbeAnti => Ok(()),
            JoinKind::ProbeOuter | JoinKind::Full if found.is_empty() => go(Value::Null, None),
            _ => found.into_iter().try_for_each(|b| go(Value::Int(b as i128), None)),
        }
    }

    fn step(&self, i: &Instr, row: &mut Row) -> Result<()> {
        let get = |r: &Reg| &row[*r as usize];
        let truth = |v: &Value| if let Value::Bool(b) = v { Some(*b) } else { None };
        let of = |b: Option<bool>| b.map_or(Value::Null, Value::Bool);
        let value = match i {
            Instr::Const { constant, .. } => self.bound.values[*constant as usize].clone(),
            Instr::Compare { op, a, b, .. } => of(compare::reference::compare(*op, get(a), get(b))),
            Instr::Arith { op, a, b, ty, checked, .. } => arith::reference::arith(*op, *ty, *checked, get(a), get(b))?,
            Instr::Bool { op, a, b, .. } => of(boolean::reference::logic(*op, truth(get(a)), truth(get(b)))),
            Instr::Not { a, .. } => of(truth(get(a)).map(|b| !b)),
            Instr::IsNull { a, negated, .. } => Value::Bool(get(a).is_null() != *negated),
            Instr::Select { cond, a, b, .. } => boolean::reference::select(truth(get(cond)), get(a), get(b)),
            Instr::Like { a, pattern, negated, .. } => match get(a) {
                Value::Str(s) => Value::Bool(text::reference::like(s, pattern) != *negated),
                _ => Value::Null,
            },
            Instr::Bin { a, width, origin, unit, .. } => bins::reference(get(a), *width, *origin, *unit),
            Instr::Cast { a, to, scale, .. } => cast::reference(get(a), *to, *scale),
            Instr::Gather { table, column, rows, .. } => match get(rows) {
                Value::Int(b) => self.bound.tables[*table as usize].columns[*column as usize].value(*b as usize)?,
                _ => Value::Null,
            },
            Instr::Call { call, inputs, .. } => {
                let c = &self.bound.program.calls[*call as usize];
                let one =
                    inputs.iter().zip(c.inputs.fields()).map(|(r, f)| column(&[get(r)], f.data_type())).collect::<Result<Vec<_>>>()?;
                evaluate(c, &one.iter().collect::<Vec<_>>(), 1)?.value(0)?
            }
            Instr::Filter { .. } | Instr::Probe(_) => return Err(Error::bug("not a row-keeping instruction")),
        };
        if let Some(out) = i.out() {
            row[out as usize] = value;
        }
        Ok(())
    }
}

fn build_keys(t: &Built) -> Vec<Vec<Value>> {
    (0..t.table.rows()).map(|i| t.keys.iter().map(|k| k.value(i).unwrap_or(Value::Null)).collect()).collect()
}

/// Values as a register of a logical type.
fn column(values: &[&Value], t: &DataType) -> Result<Vector> {
    let ty = physical(t);
    if ty == Type::Any {
        return Err(Error::unsupported(format!("the reference has no values of type {t}")));
    }
    let parts = values.iter().map(|v| Ok(Vector { constant: false, ..Vector::constant(v, ty)? })).collect::<Result<Vec<_>>>()?;
    Ok(gather::concat(&parts, ty)?)
}

impl ReferenceSink {
    /// An empty sink.
    pub fn new(sink: Sink) -> Self {
        Self { sink, rows: vec![] }
    }

    /// Puts what an earlier epoch carried before the rows of this one.
    pub fn prepend(&mut self, before: ReferenceSink) {
        let after = std::mem::replace(&mut self.rows, before.rows);
        self.rows.extend(after);
    }

    /// The stage's output.
    ///
    /// # Errors
    /// `Invalid` when a result does not fit its type.
    pub fn finish(self, program: &Program, checked: bool) -> Result<Output> {
        let reads = self.sink.reads();
        let types: Vec<DataType> = reads.iter().map(|r| program.data_type(*r).clone()).collect();
        match &self.sink {
            Sink::Collect { .. } => Ok(Output::Blocks(vec![block(&self.rows, &types)?], Held::default())),
            Sink::Sort { visible, order, fetch, groups, .. } => {
                let mut rows = self.rows;
                rows.sort_by(|a, b| order.iter().map(|k| by(k, a, b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal));
                let mut seen: BTreeMap<Vec<Value>, usize> = BTreeMap::new();
                rows.retain(|r| {
                    let before = seen.entry(groups.iter().map(|c| r[*c].clone()).collect()).or_default();
                    *before += 1;
                    fetch.is_none_or(|n| *before <= n)
                });
                let mut sorted = block(&rows, &types)?;
                sorted.columns.truncate(*visible);
                Ok(Output::Blocks(vec![sorted], Held::default()))
            }
            Sink::Build { keys, null_equals_null, .. } => {
                let mut all = block(&self.rows, &types)?;
                let payload = all.columns.split_off(keys.len());
                let key_types: Vec<KeyType> = keys.iter().map(|k| program.key_type(*k)).collect();
                let built = Built::new(all.columns, &key_types, payload, types[keys.len()..].to_vec(), all.rows, *null_equals_null)?;
                Ok(Output::Table(Arc::new(built)))
            }
            Sink::Group { keys, sets, aggregates } => {
                let sets = match &sets[..] {
                    [] => vec![GroupingSet { keys: keys.clone(), total: false }],
                    sets => sets.to_vec(),
                };
                Ok(Output::Blocks(vec![group(&reads, &self.rows, program, &sets, aggregates, checked)?], Held::default()))
            }
        }
    }
}

fn by(k: &SortKey, a: &Row, b: &Row) -> Ordering {
    let (a, b) = (&a[k.column], &b[k.column]);
    match (a.is_null(), b.is_null()) {
        (true, true) => Ordering::Equal,
        (true, false) if k.nulls_first => Ordering::Less,
        (true, false) => Ordering::Greater,
        (false, true) if k.nulls_first => Ordering::Greater,
        (false, true) => Ordering::Less,
        _ if k.descending => b.cmp(a),
        _ => a.cmp(b),
    }
}

fn block(rows: &[Row], types: &[DataType]) -> Result<Block> {
    let columns =
        types.iter().enumerate().map(|(c, t)| column(&rows.iter().map(|r| &r[c]).collect::<Vec<_>>(), t)).collect::<Result<Vec<_>>>()?;
    Ok(Block { columns, rows: rows.len() })
}

/// Rows of the registers `reads`, in a group of each set.
fn group(reads: &[Reg], rows: &[Row], program: &Program, sets: &[GroupingSet], calls: &[AggregateCall], checked: bool) -> Result<Block> {
    let mut groups = Reference::default();
    for (set, row) in rows.iter().flat_map(|row| sets.iter().map(move |set| (set, row))) {
        let value = |r: &Reg| reads.iter().position(|read| read == r).map_or(Value::Null, |at| row[at].clone());
        let keeps = |c: &AggregateCall| c.filter.is_none_or(|f| value(&f) == Value::Bool(true));
        let args = calls.iter().map(|c| keeps(c).then(|| c.args.iter().map(value).collect())).collect();
        groups.add(set.keys.iter().map(value).collect(), args);
    }
    let constant = |r: &Reg| {
        let written = program.instrs.iter().find_map(|i| match i {
            Instr::Const { constant, out } if out == r => Some(&program.constants[usize::from(*constant)].source),
            _ => None,
        });
        if let Some(ConstantSource::Literal(v)) = written { v.clone() } else { Value::Null }
    };
    for set in sets.iter().filter(|s| s.total) {
        groups.add(set.keys.iter().map(constant).collect(), vec![None; calls.len()]);
    }
    let keys = &sets[0].keys;
    let mut out: Vec<Row> = vec![];
    for (key, bag) in groups.groups() {
        let mut row = key.clone();
        for (c, rows) in calls.iter().zip(bag) {
            row.push(call(c, rows, program, checked)?);
        }
        out.push(row);
    }
    if keys.is_empty() && out.is_empty() {
        out.push(calls.iter().map(|c| call(c, &[], program, checked)).collect::<Result<_>>()?);
    }
    let types: Vec<DataType> = keys.iter().map(|k| program.data_type(*k).clone()).chain(calls.iter().map(|c| c.returns.clone())).collect();
    block(&out, &types)
}

fn call(c: &AggregateCall, rows: &[Vec<Value>], program: &Program, checked: bool) -> Result<Value> {
    if let AggregateFunction::StringAgg(l, between) = &c.function {
        let texts: Vec<String> = list(*l, rows).into_iter().filter_map(|v| if let Value::Str(s) = v { Some(s) } else { None }).collect();
        return Ok(if texts.is_empty() { Value::Null } else { Value::Str(texts.join(between)) });
    }
    let states: Vec<Value> = c.function.states().into_iter().map(|op| aggregate(op, rows)).collect();
    Ok(match (&c.function, &states[..]) {
        (AggregateFunction::Avg, [Value::Null, _]) => Value::Null,
        (AggregateFunction::Avg, [Value::F64(s), Value::Int(n)]) => Value::F64(s / *n as f64),
        (AggregateFunction::Avg, [Value::Int(s), Value::Int(n)]) => match &c.returns {
            DataType::Decimal128(_, scale) => {
                let by = 10i128.pow((scale - super::sink::argument_scale(program, c)) as u32);
                Value::Int(s * by / n)
            }
            _ => Value::F64(*s as f64 / *n as f64),
        },
        (AggregateFunction::Sum, [Value::Int(s)]) if c.returns == DataType::Int64 && i64::try_from(*s).is_err() => {
            if checked {
                return Err(Error::new(crate::ErrorKind::Invalid, "arithmetic overflow: a sum does not fit Int64"));
            }
            Value::Int((*s as i64).into())
        }
        (_, [v, ..]) => v.clone(),
        (_, []) => return Err(Error::bug("an aggregate without states")),
    })
}
