//! Sinks on the CPU: what each worker keeps, and how the workers' parts become one.

use super::chunk::{Registers, RowSink};
use super::flush::{self, Flushed, OnDisk};
use super::listed::listed;
use super::spill::Spiller;
use super::top::FirstRows;
use super::{Bound, Built};
use crate::convert::{Block, to_array};
use crate::program::{AggregateCall, AggregateFunction, GroupingSet, Instr, Program, Sink, SortKey, Type, physical};
use crate::{Cancel, Error, Result};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices};
use arrow::datatypes::{DataType, Decimal128Type, DecimalType};
use millstream_kernels::gather::Growing;
use millstream_kernels::gpu::GroupPartials;
use millstream_kernels::group::{self, Groups, KeyType, State};
use millstream_kernels::program::{AggregateOp, Reg};
use millstream_kernels::{Values, Vector, gather};
use std::sync::Arc;

/// Groups of one worker, or of all.
pub struct GroupSink {
    keys: Vec<Reg>,
    /// Grouping sets: each row is in a group of each of these.
    sets: Vec<Vec<Reg>>,
    calls: Vec<AggregateCall>,
    groups: Groups,
    states: Vec<State>,
    ids: Vec<u32>,
    /// Decimal scale of each call's argument.
    scales: Vec<i8>,
    /// No keys: one group, there even without rows.
    global: bool,
    /// What each state is of, to begin anew.
    fresh: Vec<(AggregateOp, KeyType)>,
    /// Rows since the table was last emptied.
    rows: usize,
    flushed: Vec<Flushed>,
    spilled: Vec<OnDisk>,
    /// How often the groups were divided into parts before they came here.
    level: u32,
    /// The table is never emptied: others rely on its numbers.
    resident: bool,
}

impl GroupSink {
    /// Empty groups for a group sink of `program`.
    ///
    /// # Errors
    /// `Unsupported` for an aggregate without kernel.
    pub fn new(program: &Program, keys: &[Reg], calls: &[AggregateCall]) -> Result<Self> {
        let types: Vec<KeyType> = keys.iter().map(|k| program.key_type(*k)).collect();
        let scales = calls.iter().map(|c| argument_scale(program, c)).collect();
        let mut fresh = vec![];
        for c in calls {
            let arg = c.args.first().map_or(KeyType::new(millstream_kernels::program::Type::I64, 0), |a| program.key_type(*a));
            fresh.extend(c.function.states().into_iter().map(|op| (op, arg)));
        }
        Ok(Self {
            keys: keys.to_vec(),
            sets: vec![keys.to_vec()],
            calls: calls.to_vec(),
            groups: Groups::new(&types),
            states: states(&fresh)?,
            ids: vec![],
            scales,
            global: keys.is_empty(),
            fresh,
            rows: 0,
            flushed: vec![],
            spilled: vec![],
            level: 0,
            resident: false,
        })
    }

    /// Groups whose numbers stay, for states that are kept elsewhere.
    pub(super) fn resident(self) -> Self {
        Self { resident: true, ..self }
    }

    /// The states, to be exchanged for others over the same groups.
    pub(super) fn states_mut(&mut self) -> &mut Vec<State> {
        &mut self.states
    }

    /// States that no row has come to.
    ///
    /// # Errors
    /// `Unsupported` for an aggregate without kernel.
    pub(super) fn fresh(&self) -> Result<Vec<State>> {
        states(&self.fresh)
    }

    /// The group of each row that came last.
    pub(super) fn last_ids(&self) -> &[u32] {
        &self.ids
    }

    /// The numbers here of groups of another sink, made where they are new.
    ///
    /// # Errors
    /// As [`Groups::merge`].
    pub(super) fn numbered(&mut self, other: &GroupSink, ids: &[u32]) -> Result<Vec<u32>> {
        Ok(if self.global { vec![0; ids.len()] } else { self.groups.merge(&other.groups, ids)? })
    }

    /// The sink of grouping sets, if there are any. Those of no key have their group from the start.
    ///
    /// # Errors
    /// What the kernels raise.
    pub(super) fn over(mut self, sets: &[GroupingSet], bound: &Bound) -> Result<Self> {
        if sets.is_empty() {
            return Ok(self);
        }
        let instrs = &bound.program.instrs;
        let constant = |r: &Reg| {
            let written = instrs.iter().find_map(|i| match i {
                Instr::Const { constant, out } if out == r => bound.constants.get(usize::from(*constant)),
                _ => None,
            });
            written.ok_or_else(|| Error::bug("a total over keys that are no constants"))
        };
        for set in sets.iter().filter(|s| s.total) {
            let keys = set.keys.iter().map(constant).collect::<Result<Vec<_>>>()?;
            self.groups.ids(&keys, 1, &mut vec![])?;
        }
        self.sets = sets.iter().map(|s| s.keys.clone()).collect();
        Ok(self)
    }

    /// Groups that are one part of those that were divided `level` times.
    pub(super) fn at_level(self, level: u32) -> Self {
        Self { level, groups: self.groups.scattered(), ..self }
    }

    /// How often the groups were divided into parts before they came here.
    pub(super) fn level(&self) -> u32 {
        self.level
    }

    /// Moves all groups to disk.
    ///
    /// # Errors
    /// A full disk; `Closed` when cancelled; what the kernels raise.
    pub(super) fn spill(&mut self, to: &Spiller, cancel: &Cancel) -> Result<()> {
        self.flush()?;
        self.spilled.extend(OnDisk::write(std::mem::take(&mut self.flushed), to, cancel)?);
        Ok(())
    }

    /// Whether groups have gone to disk.
    pub(super) fn has_spilled(&self) -> bool {
        !self.spilled.is_empty()
    }

    /// The groups on disk.
    pub(super) fn take_spilled(&mut self) -> Vec<OnDisk> {
        std::mem::take(&mut self.spilled)
    }

    /// Empties the table: its groups are divided by part, to be merged at the end.
    ///
    /// # Errors
    /// What the kernels raise.
    pub(super) fn flush(&mut self) -> Result<()> {
        if !self.groups.is_empty() {
            self.flushed.push(Flushed::of(self)?);
            self.groups = self.groups.emptied();
            self.states = states(&self.fresh)?;
        }
        self.rows = 0;
        Ok(())
    }

    /// Whether the table is larger than the cache and its groups seldom come again. Strings are found by a
    /// hash table before the table of groups.
    fn is_full(&self) -> bool {
        !self.resident
            && self.groups.len() >= flush::FULL
            && self.rows < self.groups.len() * flush::ROWS_A_GROUP
            && (self.groups.kind() == "hash" || !self.groups.is_plain())
    }

    /// The groups that have left the table.
    pub(super) fn flushed(&self) -> &[Flushed] {
        &self.flushed
    }

    /// The table.
    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// What is computed of each group.
    pub(super) fn states(&self) -> &[State] {
        &self.states
    }

    /// The groups of `n` keys, made where they are new; the states; how many groups there are by now.
    ///
    /// # Errors
    /// As [`Groups::ids`].
    pub(super) fn adopted(&mut self, keys: &[Vector], n: usize) -> Result<(&[u32], &mut [State], usize)> {
        self.ids.clear();
        if self.global {
            self.ids.resize(n, 0);
        } else {
            self.groups.ids(&keys.iter().collect::<Vec<_>>(), n, &mut self.ids)?;
        }
        let groups = self.len();
        Ok((&self.ids, &mut self.states, groups))
    }

    /// How many keys a group has.
    pub(super) fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Number of groups.
    pub(super) fn len(&self) -> usize {
        if self.global { 1 } else { self.groups.len() }
    }

    /// What there is to merge: groups, or the values that are kept of them.
    pub(super) fn entries(&self) -> usize {
        self.states.iter().map(State::listed).max().unwrap_or(0).max(self.len())
    }

    /// Bytes of memory held.
    pub fn size(&self) -> usize {
        let flushed: usize = self.flushed.iter().map(Flushed::size).sum();
        self.groups.size() + self.states.iter().map(State::size).sum::<usize>() + flushed
    }

    /// The kind of table, for EXPLAIN ANALYZE.
    pub fn kind(&self) -> &'static str {
        match self {
            _ if self.global => "one",
            _ if self.has_spilled() => "spilled",
            _ if !self.flushed.is_empty() => "radix",
            _ => self.groups.kind(),
        }
    }

    /// Adds the groups of part `part` of `parts` of another worker's.
    ///
    /// # Errors
    /// What the kernels raise.
    pub fn merge(&mut self, other: &GroupSink, part: usize, parts: usize) -> Result<()> {
        let from = match (self.global, part) {
            (true, 0) => vec![0],
            (true, _) => return Ok(()),
            _ => other.groups.part(part, parts)?,
        };
        self.merge_some(other, &from)
    }

    /// Adds these groups of another worker's.
    ///
    /// # Errors
    /// What the kernels raise.
    pub(super) fn merge_some(&mut self, other: &GroupSink, from: &[u32]) -> Result<()> {
        let to = self.numbered(other, from)?;
        let groups = self.len();
        for (s, o) in self.states.iter_mut().zip(&other.states) {
            s.merge(o, from, &to, groups)?;
        }
        Ok(())
    }

    /// For each worker's groups those that no other worker has, and the rest; none where they are mixed.
    pub(super) fn apart(all: &[GroupSink]) -> Option<Vec<(Vec<u32>, Vec<u32>)>> {
        group::apart(&all.iter().map(|g| &g.groups).collect::<Vec<_>>())
    }

    /// Adds groups that a device computed: group `groups[i]` of `partials` has row `i` of `keys` as its key.
    ///
    /// # Errors
    /// As [`GroupSink::merge`].
    pub fn absorb(&mut self, keys: &[Vector], groups: &[usize], partials: &GroupPartials) -> Result<()> {
        if groups.is_empty() {
            return Ok(());
        }
        let mut ids = vec![];
        if self.global {
            ids.resize(groups.len(), 0);
        } else {
            self.groups.ids(&keys.iter().collect::<Vec<_>>(), groups.len(), &mut ids)?;
        }
        let len = self.len();
        for (s, a) in self.states.iter_mut().zip(&partials.aggregates) {
            let results: Vec<Option<i128>> = groups.iter().map(|g| a.value(*g)).collect();
            s.absorb(&ids, len, &results)?;
        }
        Ok(())
    }

    /// The key columns of every group.
    ///
    /// # Errors
    /// As [`Groups::key`].
    pub(super) fn keys(&self) -> Result<Vec<Vector>> {
        self.keys_of(&(0..self.len() as u32).collect::<Vec<_>>())
    }

    /// The key columns of these groups.
    ///
    /// # Errors
    /// As [`Groups::key`].
    pub(super) fn keys_of(&self, ids: &[u32]) -> Result<Vec<Vector>> {
        (0..self.keys.len()).map(|k| Ok(self.groups.key(k, ids)?)).collect()
    }

    /// Adds all groups of `other`, which has the same aggregates, under these keys.
    ///
    /// # Errors
    /// What the kernels raise.
    pub(super) fn adopt(&mut self, other: &GroupSink, keys: &[Vector]) -> Result<()> {
        let from: Vec<u32> = (0..other.len() as u32).collect();
        let mut to = Vec::with_capacity(from.len());
        self.groups.ids(&keys.iter().collect::<Vec<_>>(), from.len(), &mut to)?;
        let groups = self.len();
        for (s, o) in self.states.iter_mut().zip(&other.states) {
            s.merge(o, &from, &to, groups)?;
        }
        Ok(())
    }

    /// Keys, then results of the aggregates, of every group.
    ///
    /// # Errors
    /// `Invalid` when a result does not fit its type.
    pub fn finish(&mut self, checked: bool) -> Result<Block> {
        self.finish_some(&(0..self.len() as u32).collect::<Vec<_>>(), checked)
    }

    /// As [`GroupSink::finish`], of these groups only.
    ///
    /// # Errors
    /// As [`GroupSink::finish`].
    pub(super) fn finish_some(&mut self, ids: &[u32], checked: bool) -> Result<Block> {
        let n = self.len();
        let mut columns = self.keys_of(ids)?;
        let mut at = 0;
        for (c, scale) in self.calls.iter().zip(self.scales.iter().copied()) {
            let states = &mut self.states[at..at + c.function.width()];
            at += states.len();
            if let AggregateFunction::ArrayAgg(_) | AggregateFunction::StringAgg(..) = c.function {
                columns.push(listed(c, states[0].lists(ids)?)?);
                continue;
            }
            let first = states[0].finish(ids, n, checked)?;
            columns.push(match c.function {
                AggregateFunction::Avg => average(&first, &states[1].finish(ids, n, checked)?, &c.returns, scale)?,
                AggregateFunction::Sum if checked => fitting(first, &c.returns)?,
                // Floats of 32 bits and unsigned integers of 64 have no register of their own.
                _ if physical(&c.returns) == Type::Any => Vector::new(Values::Any(to_array(&first, &c.returns, ids.len())?)),
                _ => first,
            });
        }
        Ok(Block { columns, rows: ids.len() })
    }
}

/// The sums, if all have the digits that their type allows.
fn fitting(sums: Vector, returns: &DataType) -> Result<Vector> {
    if let (Values::I128(v), DataType::Decimal128(p, s)) = (&sums.values, returns) {
        let fits = |i: usize| sums.is_null(i) || Decimal128Type::validate_decimal_precision(v[i], *p, *s).is_ok();
        if !(0..v.len()).all(fits) {
            return Err(Error::new(crate::ErrorKind::Invalid, format!("arithmetic overflow: a sum does not fit Decimal128({p}, {s})")));
        }
    }
    Ok(sums)
}

/// Decimal scale of an aggregate's argument.
pub(super) fn argument_scale(program: &Program, c: &AggregateCall) -> i8 {
    match c.args.first().map(|a| program.data_type(*a)) {
        Some(DataType::Decimal128(_, s)) => *s,
        _ => 0,
    }
}

/// Sum divided by count, with DataFusion's rounding.
pub fn average(sum: &Vector, count: &Vector, returns: &DataType, sum_scale: i8) -> Result<Vector> {
    let Values::I64(counts) = &count.values else { return Err(Error::bug("counts expected")) };
    let valid: Vec<u8> = counts.iter().map(|c| u8::from(*c != 0)).collect();
    let rows = counts.iter().enumerate();
    let values = match (returns, &sum.values) {
        (DataType::Decimal128(p, s), Values::I64(_) | Values::I128(_)) => {
            // As DataFusion: to the result's scale first, then divided towards zero.
            let more = s.checked_sub(sum_scale).and_then(|digits| u32::try_from(digits).ok());
            let times = more.and_then(|digits| 10i128.checked_pow(digits));
            let times = times.ok_or_else(|| Error::bug(format!("an average of scale {s} of sums of scale {sum_scale}")))?;
            let divide = |sum: i128, n: i128| -> Result<i128> {
                let overflow =
                    || Error::new(crate::ErrorKind::Invalid, format!("arithmetic overflow: an average does not fit Decimal128({p}, {s})"));
                let mean = sum.checked_mul(times).ok_or_else(overflow)? / n;
                Decimal128Type::validate_decimal_precision(mean, *p, *s).map_err(|_| overflow())?;
                Ok(mean)
            };
            let at = |i: usize| match &sum.values {
                Values::I64(v) => i128::from(v[i]),
                Values::I128(v) => v[i],
                _ => 0,
            };
            let out = rows.map(|(i, c)| if *c == 0 { Ok(0) } else { divide(at(i), (*c).into()) });
            Values::I128(out.collect::<Result<Vec<_>>>()?.into())
        }
        (DataType::Float64, Values::F64(v)) => Values::F64(rows.map(|(i, c)| v[i] / *c as f64).collect::<Vec<_>>().into()),
        (DataType::Float64, Values::I64(v)) => Values::F64(rows.map(|(i, c)| v[i] as f64 / *c as f64).collect::<Vec<_>>().into()),
        (t, _) => return Err(Error::bug(format!("avg to {t}"))),
    };
    Ok(Vector::with_valid(values, Some(valid.into())))
}

impl RowSink for GroupSink {
    fn consume(&mut self, regs: &mut Registers) -> Result<()> {
        for r in self.sets.iter().flatten().copied().chain(self.calls.iter().flat_map(|c| c.args.iter().copied().chain(c.filter))) {
            regs.sync(r)?;
        }
        for set in 0..self.sets.len() {
            self.group(set, regs)?;
        }
        if self.is_full() { self.flush() } else { Ok(()) }
    }
}

impl GroupSink {
    /// Adds the live rows to their groups of set `set`.
    fn group(&mut self, set: usize, regs: &Registers) -> Result<()> {
        self.ids.clear();
        if self.global {
            self.ids.resize(regs.rows, 0);
        } else {
            let keys = self.sets[set].iter().map(|k| regs.get(*k)).collect::<Result<Vec<_>>>()?;
            self.groups.ids(&keys, regs.rows, &mut self.ids)?;
        }
        let groups = self.len();
        let mut at = 0;
        for c in &self.calls {
            let args = c.args.iter().map(|a| regs.get(*a)).collect::<Result<Vec<_>>>()?;
            let filter = c.filter.map(|f| regs.get(f)).transpose()?;
            for s in &mut self.states[at..at + c.function.width()] {
                s.update(&self.ids, groups, &args, filter)?;
            }
            at += c.function.width();
        }
        self.rows += regs.rows;
        Ok(())
    }
}

fn states(of: &[(AggregateOp, KeyType)]) -> Result<Vec<State>> {
    Ok(of.iter().map(|(op, arg)| State::new(*op, *arg)).collect::<std::result::Result<_, _>>()?)
}

/// Rows as they come: collect, build and sort start from it.
pub struct RowsSink {
    registers: Vec<Reg>,
    /// How many of the first are a join's keys.
    keys: usize,
    columns: Vec<Growing>,
    rows: usize,
    /// The rows that are kept, if not all are.
    first: Option<Box<FirstRows>>,
}

impl RowsSink {
    /// A sink of these registers of `program`.
    pub fn new(program: &Program, registers: Vec<Reg>) -> Self {
        let columns = registers.iter().map(|r| Growing::new(program.ty(*r))).collect();
        Self { registers, keys: 0, columns, rows: 0, first: None }
    }

    /// The sink of a join's build side, whose first `keys` registers are the keys.
    pub fn keyed(self, keys: usize) -> Self {
        Self { keys, ..self }
    }

    /// A sink of the first rows of each group.
    pub(super) fn only(self, first: FirstRows) -> Self {
        Self { first: Some(Box::new(first)), ..self }
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// How many of the first columns are a join's keys.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Bytes of memory held.
    pub fn size(&self) -> usize {
        self.columns.iter().map(Growing::size).sum::<usize>() + self.first.as_ref().map_or(0, |f| f.size())
    }

    /// The rows so far, none when there are none; the sink is empty again.
    ///
    /// # Errors
    /// As [`Growing::finish`].
    pub fn take(&mut self, program: &Program) -> Result<Option<Block>> {
        let full = std::mem::replace(self, Self::new(program, self.registers.clone()).keyed(self.keys));
        if full.rows == 0 {
            return Ok(None);
        }
        let block = Block { columns: gather::finish_all(full.columns)?, rows: full.rows };
        Ok(Some(match full.first {
            Some(mut first) => first.rows(&block.columns)?,
            None => block,
        }))
    }

    /// Keeps the rows of a chunk that are among the first of their group, and no longer those that were.
    fn keep(&mut self, first: &mut FirstRows, regs: &Registers) -> Result<()> {
        let kept = first.offer(regs, &self.registers, self.rows)?;
        for (r, column) in self.registers.iter().zip(&mut self.columns) {
            column.push(&gather::gather(regs.get(*r)?, &kept)?, kept.len())?;
        }
        self.rows += kept.len();
        if first.is_stale(self.rows) {
            let fresh = self.columns.iter().map(|c| Growing::new(c.ty())).collect();
            let block = first.rows(&gather::finish_all(std::mem::replace(&mut self.columns, fresh))?)?;
            self.rows = block.rows;
            self.columns.iter_mut().zip(&block.columns).try_for_each(|(c, v)| c.push(v, block.rows))?;
        }
        Ok(())
    }
}

impl RowSink for RowsSink {
    fn consume(&mut self, regs: &mut Registers) -> Result<()> {
        self.registers.iter().try_for_each(|r| regs.sync(*r))?;
        if let Some(mut first) = self.first.take() {
            self.keep(&mut first, regs)?;
            self.first = Some(first);
            return Ok(());
        }
        for (r, column) in self.registers.iter().zip(&mut self.columns) {
            column.push(regs.get(*r)?, regs.rows)?;
        }
        self.rows += regs.rows;
        Ok(())
    }
}

/// Chunks as one block.
///
/// # Errors
/// `Bug` when they differ in type.
pub fn join_blocks(parts: &[Block], program: &Program, columns: &[Reg]) -> Result<Block> {
    if let [one] = parts {
        return Ok(one.clone());
    }
    let rows = parts.iter().map(|p| p.rows).sum();
    let columns = columns
        .iter()
        .enumerate()
        .map(|(i, r)| {
            let column: Vec<Vector> = parts.iter().map(|p| p.columns[i].clone()).collect();
            if column.is_empty() && program.ty(*r) == millstream_kernels::program::Type::Any {
                return Ok(Vector::new(Values::Any(arrow::array::new_empty_array(program.data_type(*r)))));
            }
            Ok(gather::concat(&column, program.ty(*r))?)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Block { columns, rows })
}

/// The join table of a build sink.
///
/// # Errors
/// As [`Built::new`].
pub fn build(parts: &[Block], program: &Program, sink: &Sink) -> Result<Built> {
    let Sink::Build { keys, columns, null_equals_null } = sink else { return Err(Error::bug("build sink expected")) };
    let all: Vec<Reg> = keys.iter().chain(columns).copied().collect();
    let mut block = join_blocks(parts, program, &all)?;
    let payload = block.columns.split_off(keys.len());
    let key_types: Vec<KeyType> = keys.iter().map(|k| program.key_type(*k)).collect();
    let types = columns.iter().map(|c| program.data_type(*c).clone()).collect();
    let mut built = Built::new(block.columns, &key_types, payload, types, block.rows, *null_equals_null)?;
    built.key_columns = keys.iter().map(|k| columns.iter().position(|c| c == k)).collect();
    Ok(built)
}

/// The rows of a sort sink in order, or the first `fetch` of them.
///
/// # Errors
/// What Arrow's sort raises.
pub fn sort(block: &Block, types: &[DataType], order: &[SortKey], fetch: Option<usize>) -> Result<Block> {
    let columns = order
        .iter()
        .map(|k| {
            let values = sortable(&to_array(&block.columns[k.column], &types[k.column], block.rows)?);
            Ok(SortColumn { values, options: Some(SortOptions { descending: k.descending, nulls_first: k.nulls_first }) })
        })
        .collect::<Result<Vec<_>>>()?;
    let rows: Vec<u32> = if columns.is_empty() {
        (0..fetch.unwrap_or(block.rows).min(block.rows) as u32).collect()
    } else {
        lexsort_to_indices(&columns, fetch)?.values().to_vec()
    };
    let columns = block.columns.iter().map(|c| Ok(gather::gather(c, &rows)?)).collect::<Result<_>>()?;
    Ok(Block { columns, rows: rows.len() })
}

/// Floats sort by the engine's order: -0 equals +0, every NaN alike and last.
fn sortable(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float64 => {
            let canonical = array
                .as_primitive::<arrow::datatypes::Float64Type>()
                .unary::<_, arrow::datatypes::Float64Type>(millstream_kernels::value::canonical_f64);
            Arc::new(canonical)
        }
        _ => Arc::clone(array),
    }
}
