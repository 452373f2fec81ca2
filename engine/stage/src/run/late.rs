//! Group keys that a join's build row determines: grouped by the row's number, made into values at the end.
//!
//! `group by c_custkey, c_name, c_address, ...` over columns gathered from one build side would hash
//! every string of every row. The row's number stands for all of them while the stage runs. Where two
//! build rows may hold equal values, the groups are grouped once more by value at the end; that pays for
//! strings that are no dictionary codes, and only for them.

use super::sink::GroupSink;
use super::{Bound, Built};
use crate::convert::Block;
use crate::program::{Instr, JoinKind, Probe, Program, Reg, Sink, Type};
use crate::{Error, Result};
use millstream_kernels::{Strings, Values, Vector, gather};
use std::sync::Arc;

/// How a key of the stage's sink is had from the keys that are grouped by.
#[derive(Clone, Copy)]
enum Source {
    /// It is one of them.
    Key(usize),
    /// Column `column` of build table `table` at the row that key `key` numbers.
    Column { key: usize, table: usize, column: usize },
    /// Key column `column` of that table's keys.
    BuildKey { key: usize, table: usize, column: usize },
}

/// The plan of a group sink with late keys.
pub(super) struct LateKeys {
    /// What runs: the stage's program without the gathers of late keys.
    pub(super) program: Arc<Program>,
    /// The sink over row numbers.
    pub(super) sink: Sink,
    sources: Vec<Source>,
    tables: Vec<Arc<Built>>,
    /// The stage's own sink, where groups by row may be equal by value.
    regroup: Option<(Arc<Program>, Sink)>,
}

impl LateKeys {
    /// The late keys of a stage, if it has any.
    pub(super) fn of(bound: &Bound, sink: &Sink) -> Option<Self> {
        let Sink::Group { keys, sets, aggregates } = sink else { return None };
        if !sets.is_empty() {
            return None;
        }
        let program = &bound.program;
        let mut reduced: Vec<Reg> = vec![];
        let mut sources: Vec<Option<Source>> = vec![None; keys.len()];
        let mut unique = true;
        for p in probes(program) {
            let table = usize::from(p.table);
            let built = &bound.tables[table];
            let gathered = |r: &Reg| program.instrs.iter().find_map(|i| column_of(i, p, *r));
            let columns: Vec<(usize, usize)> = keys.iter().enumerate().filter_map(|(i, k)| Some((i, gathered(k)?))).collect();
            let text = columns.iter().any(|(i, _)| program.ty(keys[*i]) == Type::Str);
            if p.kind != JoinKind::Inner || columns.is_empty() || (columns.len() < 2 && !text) {
                continue;
            }
            // Whether equal keys mean the same row.
            let determined =
                |(column, probe): (usize, &Reg)| keys.contains(probe) || columns.iter().any(|c| built.key_columns[column] == Some(c.1));
            // A null key that matches would be told apart from the rows that a later tail has no build row for.
            let exact = !p.null_equals_null && built.table.is_unique() && p.keys.iter().enumerate().all(determined);
            let long = |c: &(usize, usize)| matches!(built.columns[c.1].values, Values::Str(Strings::View(_)));
            if !exact && !columns.iter().any(long) {
                // Codes of a dictionary are cheap keys, and there may be far fewer of them than rows.
                continue;
            }
            unique &= exact;
            let key = reduced.len();
            reduced.push(p.rows);
            columns.iter().for_each(|(i, column)| sources[*i] = Some(Source::Column { key, table, column: *column }));
            for (column, probe) in p.keys.iter().enumerate() {
                let at = keys.iter().position(|k| k == probe).filter(|i| sources[*i].is_none() && program.ty(*probe) != Type::F64);
                if let Some(i) = at {
                    sources[i] = Some(Source::BuildKey { key, table, column });
                }
            }
        }
        if reduced.is_empty() {
            return None;
        }
        let sources = sources.into_iter().enumerate().map(|(i, s)| {
            s.unwrap_or_else(|| {
                reduced.push(keys[i]);
                Source::Key(reduced.len() - 1)
            })
        });
        let sources = sources.collect();
        let late = Sink::Group { keys: reduced, sets: vec![], aggregates: aggregates.clone() };
        let mut trimmed = program.as_ref().clone();
        trimmed.instrs = needed(&trimmed.instrs, &late.reads());
        let regroup = (!unique).then(|| (Arc::clone(program), sink.clone()));
        Some(Self { program: Arc::new(trimmed), sink: late, sources, tables: bound.tables.clone(), regroup })
    }

    /// Groups by row number as rows of the stage's sink.
    ///
    /// # Errors
    /// What the kernels raise.
    pub(super) fn finish(&self, groups: &mut GroupSink, checked: bool) -> Result<Block> {
        let Some((program, Sink::Group { keys, aggregates, .. })) = &self.regroup else {
            let mut block = groups.finish(checked)?;
            let Sink::Group { keys, .. } = &self.sink else { return Err(Error::bug("group sink expected")) };
            let results = block.columns.split_off(keys.len());
            let keys = self.values(&block.columns, block.rows)?;
            return Ok(Block { columns: keys.into_iter().chain(results).collect(), rows: block.rows });
        };
        let rows = groups.keys()?;
        let values = self.values(&rows, groups.len())?;
        let mut all = GroupSink::new(program, keys, aggregates)?;
        all.adopt(groups, &values)?;
        all.finish(checked)
    }

    /// Whether groups by row are groups by value.
    pub(super) fn is_exact(&self) -> bool {
        self.regroup.is_none()
    }

    fn values(&self, keys: &[Vector], rows: usize) -> Result<Vec<Vector>> {
        let at = |key: usize, v: &Vector| match &keys[key].values {
            Values::I32(numbers) => Ok(gather::gather_outer(v, &numbers[..rows])?),
            _ => Err(Error::bug("row numbers expected")),
        };
        let value = |s: &Source| match s {
            Source::Key(k) => Ok(keys[*k].clone()),
            Source::Column { key, table, column } => at(*key, &self.tables[*table].columns[*column]),
            Source::BuildKey { key, table, column } => at(*key, &self.tables[*table].keys[*column]),
        };
        self.sources.iter().map(value).collect()
    }
}

fn probes(program: &Program) -> impl Iterator<Item = &Probe> {
    program.instrs.iter().filter_map(|i| if let Instr::Probe(p) = i { Some(p.as_ref()) } else { None })
}

/// The build column that instruction `i` gathers into `r` at the rows of `p`.
fn column_of(i: &Instr, p: &Probe, r: Reg) -> Option<usize> {
    match i {
        Instr::Gather { table, column, rows, out } if *out == r && *table == p.table && *rows == p.rows => Some(usize::from(*column)),
        _ => None,
    }
}

/// The instructions without gathers that nobody reads.
fn needed(instrs: &[Instr], sink: &[Reg]) -> Vec<Instr> {
    let read = |r: Reg| sink.contains(&r) || instrs.iter().any(|i| i.reads().contains(&r));
    instrs.iter().filter(|i| !matches!(i, Instr::Gather { out, .. } if !read(*out))).cloned().collect()
}
