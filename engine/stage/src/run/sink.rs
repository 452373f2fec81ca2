//! Sinks on the CPU: what each worker keeps, and how the workers' parts become one.

mod blocks;
mod results;
mod rows;

use super::Bound;
use super::chunk::{Registers, RowSink};
use super::flush::{self, Flushed, OnDisk};
use super::spill::Spiller;
use crate::program::{AggregateCall, GroupingSet, Instr, Program};
use crate::{Cancel, Error, Result};
pub use blocks::{build, join_blocks};
pub(super) use blocks::{rows_in_order, sorted};
use millstream_kernels::filter::{Selection, select_mask};
use millstream_kernels::group::{self, Groups, KeyType, State};
use millstream_kernels::program::{AggregateOp, Reg, Type};
use millstream_kernels::{Values, Vector, gather};
pub(super) use results::argument_scale;
pub use results::average;
pub use rows::RowsSink;

/// A sink with more groups is given live rows only.
const MASKED_GROUPS: usize = 8;

/// What a device computed for a state, one value a group; none where no value counted.
pub enum Computed {
    /// Counts, sums, least and greatest of integers and decimals.
    Integers(Vec<Option<i128>>),
    /// Sums, least and greatest of floats.
    Floats(Vec<Option<f64>>),
}

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
        let groups = self.number(&keys.iter().collect::<Vec<_>>(), n)?;
        Ok((&self.ids, &mut self.states, groups))
    }

    /// Finds the groups of `n` keys, made where they are new; how many there are by now.
    fn number(&mut self, keys: &[&Vector], n: usize) -> Result<usize> {
        self.ids.clear();
        if self.global {
            self.ids.resize(n, 0);
        } else {
            self.groups.ids(keys, n, &mut self.ids)?;
        }
        Ok(self.len())
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
        self.merge_states(other, from, &to)
    }

    /// Adds what is computed of groups `from` of another's to groups `to`.
    fn merge_states(&mut self, other: &GroupSink, from: &[u32], to: &[u32]) -> Result<()> {
        let groups = self.len();
        self.states.iter_mut().zip(&other.states).try_for_each(|(s, o)| Ok(s.merge(o, from, to, groups)?))
    }

    /// For each worker's groups those that no other worker has, and the rest; none where they are mixed.
    pub(super) fn apart(all: &[GroupSink]) -> Option<Vec<(Vec<u32>, Vec<u32>)>> {
        group::apart(&all.iter().map(|g| &g.groups).collect::<Vec<_>>())
    }

    /// Adds `n` groups that a device computed, with these keys; `computed` is of each state.
    ///
    /// # Errors
    /// As [`GroupSink::merge`].
    pub fn absorb(&mut self, keys: &[Vector], n: usize, computed: &[Computed]) -> Result<()> {
        if n == 0 {
            return Ok(());
        }
        let (ids, states, len) = self.adopted(keys, n)?;
        for (s, results) in states.iter_mut().zip(computed) {
            match results {
                Computed::Integers(results) => s.absorb(ids, len, results)?,
                Computed::Floats(results) => {
                    let valid: Vec<u8> = results.iter().map(|v| u8::from(v.is_some())).collect();
                    let values = results.iter().map(|v| v.unwrap_or(0.0)).collect::<Vec<_>>();
                    let valid = valid.contains(&0).then(|| valid.into());
                    s.update(ids, len, &[&Vector::with_valid(Values::F64(values.into()), valid)], None)?;
                }
            }
        }
        Ok(())
    }

    /// The key columns of every group.
    ///
    /// # Errors
    /// As [`Groups::keys`].
    pub(super) fn keys(&self) -> Result<Vec<Vector>> {
        self.keys_of(&(0..self.len() as u32).collect::<Vec<_>>())
    }

    /// The key columns of these groups.
    ///
    /// # Errors
    /// As [`Groups::keys`].
    pub(super) fn keys_of(&self, ids: &[u32]) -> Result<Vec<Vector>> {
        Ok(self.groups.keys(ids)?)
    }

    /// Adds all groups of `other`, which has the same aggregates, under these keys.
    ///
    /// # Errors
    /// What the kernels raise.
    pub(super) fn adopt(&mut self, other: &GroupSink, keys: &[Vector]) -> Result<()> {
        let from: Vec<u32> = (0..other.len() as u32).collect();
        let mut to = Vec::with_capacity(from.len());
        self.groups.ids(&keys.iter().collect::<Vec<_>>(), from.len(), &mut to)?;
        self.merge_states(other, &from, &to)
    }
}

impl RowSink for GroupSink {
    /// Counts and exact sums of few groups are added up in passes over the chunk, which a mask costs little. With more groups,
    /// and other aggregates, rows that are not live would be in the way.
    fn takes_masked(&self) -> bool {
        let by_pass = |(op, arg): &(AggregateOp, KeyType)| match op {
            AggregateOp::Count => true,
            AggregateOp::Sum => arg.ty != Type::F64,
            _ => false,
        };
        self.sets.len() == 1 && self.len() <= MASKED_GROUPS && self.fresh.iter().all(by_pass)
    }

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
        let keys = self.sets[set].iter().map(|k| regs.get(*k)).collect::<Result<Vec<_>>>()?;
        let groups = match regs.mask() {
            Some(mask) => self.number_masked(&keys, mask)?,
            _ => self.number(&keys, regs.rows)?,
        };
        let mut at = 0;
        for c in &self.calls {
            let args = c.args.iter().map(|a| regs.get(*a)).collect::<Result<Vec<_>>>()?;
            let filter = c.filter.map(|f| regs.get(f)).transpose()?;
            for s in &mut self.states[at..at + c.function.width()] {
                s.update_masked(&self.ids, groups, &args, filter, regs.mask())?;
            }
            at += c.function.width();
        }
        self.rows += regs.rows;
        Ok(())
    }

    /// As [`GroupSink::number`] for the rows that `mask` has as live; the others have id `u32::MAX`.
    fn number_masked(&mut self, keys: &[&Vector], mask: &[u8]) -> Result<usize> {
        self.ids.clear();
        if self.global {
            self.ids.extend(mask.iter().map(|m| u32::from(*m).wrapping_sub(1)));
            return Ok(1);
        }
        if self.groups.find_known(keys, mask.len(), Some(mask), &mut self.ids) {
            return Ok(self.len());
        }
        let Selection::Rows(rows) = select_mask(mask) else { return self.number(keys, mask.len()) };
        let live = keys.iter().map(|k| gather::gather(k, &rows)).collect::<std::result::Result<Vec<_>, _>>()?;
        let groups = self.number(&live.iter().collect::<Vec<_>>(), rows.len())?;
        let mut ids = vec![u32::MAX; mask.len()];
        rows.iter().zip(&self.ids).for_each(|(r, id)| ids[*r as usize] = *id);
        self.ids = ids;
        Ok(groups)
    }
}

fn states(of: &[(AggregateOp, KeyType)]) -> Result<Vec<State>> {
    Ok(of.iter().map(|(op, arg)| State::new(*op, *arg)).collect::<std::result::Result<_, _>>()?)
}
