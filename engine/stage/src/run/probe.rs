//! Probing a join table in the middle of a program, and the tail pass over its build rows.

use super::Built;
use super::chunk::{Chunks, Registers, RowSink};
use crate::{Error, Result};
use millstream_kernels::filter::{Selection, select, select_mask};
use millstream_kernels::program::{Instr, JoinKind, Probe, Reg, Type};
use millstream_kernels::{Value, Values, Vector};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Pairs that are expanded at once: bounds the memory of a skewed key.
const PAIRS: usize = 16 * millstream_kernels::CHUNK_ROWS;

impl Chunks {
    /// Probes for all live rows. Returns the registers to go on with, or none when the rest of the
    /// program has been run (or nothing is left).
    pub(super) fn probe(&mut self, p: &Probe, mut regs: Registers, at: usize, sink: &mut dyn RowSink) -> Result<Option<Registers>> {
        let built = Arc::clone(&self.bound.tables[p.table as usize]);
        for k in p.keys.iter().filter(|_| p.null_aware || !regs.is_written(p.rows)).copied().collect::<Vec<_>>() {
            regs.sync(k)?;
        }
        if p.null_aware {
            note_nulls(&built, p, &regs)?;
        }
        let mut heads = vec![];
        if regs.is_written(p.rows) {
            // Looked up before: the first build row of each live row.
            regs.sync(p.rows)?;
            let Values::I32(rows) = &regs.get(p.rows)?.values else { return Err(Error::bug("row ids expected")) };
            heads.extend(rows[..regs.rows].iter().map(|row| (row + 1) as u32));
        } else {
            let keys = p.keys.iter().map(|k| regs.get(*k)).collect::<Result<Vec<_>>>()?;
            built.table.heads(&keys, regs.rows, &mut self.probes[p.table as usize], &mut heads)?;
        }
        if p.residual.is_none() && !p.kind.emits_pairs() {
            return self.probe_flags(p, &built, regs, &heads);
        }
        if p.residual.is_some() && !p.kind.emits_pairs() {
            let flags = self.residual_flags(p, &built, &regs, &heads)?;
            return self.probe_flags(p, &built, regs, &flags);
        }
        if built.table.is_unique() && p.residual.is_none() {
            return Ok(unique_pairs(p, &built, regs, &heads));
        }
        self.expand(p, &built, regs, &heads, at, sink)
    }

    /// Semi, anti, mark: one flag a row, taken from whether a row has a head.
    fn probe_flags(&mut self, p: &Probe, built: &Built, mut regs: Registers, heads: &[u32]) -> Result<Option<Registers>> {
        let hit: Vec<u8> = heads.iter().map(|h| u8::from(*h != 0)).collect();
        match p.kind {
            JoinKind::ProbeSemi => keep(&mut regs, &hit),
            JoinKind::ProbeAnti => keep(&mut regs, &hit.iter().map(|h| h ^ 1).collect::<Vec<_>>()),
            JoinKind::ProbeMark => {
                let mark = p.mark.ok_or_else(|| Error::bug("a mark join without its register"))?;
                regs.set(mark, Vector::new(Values::Bool(hit.into())));
            }
            _ => {
                // Without a residual the whole chain matched; with one, `residual_flags` has marked.
                if p.residual.is_none() {
                    heads.iter().for_each(|head| mark_chain(built, *head));
                }
                return Ok(None);
            }
        }
        Ok((regs.rows > 0).then_some(regs))
    }

    /// For each row a non-zero number if a pair passes the residual; marks the build rows that do.
    fn residual_flags(&mut self, p: &Probe, built: &Built, regs: &Registers, heads: &[u32]) -> Result<Vec<u32>> {
        let mut flags = vec![0u32; heads.len()];
        let mut from = 0;
        while from < heads.len() {
            let (probe, build, next) = pairs(built, heads, from, false);
            from = next;
            let mask = self.residual(p, regs, &probe, &build)?;
            for ((row, b), m) in probe.iter().zip(&build).zip(&mask) {
                if *m != 0 {
                    flags[*row as usize] = 1;
                    if p.kind.has_tail() {
                        built.mark(*b as usize);
                    }
                }
            }
        }
        Ok(flags)
    }

    /// Which pairs pass the residual condition.
    fn residual(&mut self, p: &Probe, regs: &Registers, probe: &[u32], build: &[i32]) -> Result<Vec<u8>> {
        let Some(residual) = &p.residual else { return Ok(vec![1; probe.len()]) };
        if probe.is_empty() {
            return Ok(vec![]);
        }
        let mut inner = regs.clone();
        inner.advance(probe.to_vec());
        inner.set(p.rows, Vector::new(Values::I32(build.to_vec().into())));
        for i in &residual.instrs {
            self.step(i, &mut inner)?;
        }
        inner.sync(residual.cond)?;
        let rows = inner.rows;
        let mut mask = vec![0u8; rows];
        match select(inner.get(residual.cond)?, rows)? {
            Selection::All => mask.fill(1),
            Selection::Rows(r) => r.iter().for_each(|i| mask[*i as usize] = 1),
        }
        Ok(mask)
    }

    /// Inner and outer pairs, a bounded piece at a time; the rest of the program runs for each piece.
    fn expand(
        &mut self,
        p: &Probe,
        built: &Built,
        regs: Registers,
        heads: &[u32],
        at: usize,
        sink: &mut dyn RowSink,
    ) -> Result<Option<Registers>> {
        let outer = matches!(p.kind, JoinKind::ProbeOuter | JoinKind::Full);
        let mut regs = Some(regs);
        let mut from = 0;
        while let Some(whole) = &regs {
            let start = from;
            let (mut probe, mut build, next) = pairs(built, heads, from, outer && p.residual.is_none());
            from = next;
            if p.residual.is_some() {
                let mask = self.residual(p, whole, &probe, &build)?;
                (probe, build) = passing(&probe, &build, &mask, if outer { start..next } else { 0..0 });
            }
            if p.kind.has_tail() {
                build.iter().filter(|b| **b >= 0).for_each(|b| built.mark(*b as usize));
            }
            let last = from >= heads.len();
            let mut piece = if last { regs.take().unwrap_or_default() } else { whole.clone() };
            piece.advance(probe);
            piece.set(p.rows, Vector::new(Values::I32(build.into())));
            if last {
                return Ok((piece.rows > 0).then_some(piece));
            }
            self.cancel.check()?;
            self.run(piece, at + 1, sink)?;
        }
        Ok(None)
    }

    /// Emits what build rows `range` of the probe at instruction `at` still owe, after every probe row
    /// of every worker has been seen.
    ///
    /// # Errors
    /// As [`Chunks::block`].
    pub fn tail(&mut self, at: usize, range: Range<usize>, sink: &mut dyn RowSink) -> Result<()> {
        let bound = Arc::clone(&self.bound);
        let Some(Instr::Probe(p)) = bound.program.instrs.get(at) else {
            return Err(Error::bug("a tail pass of an instruction that is no probe"));
        };
        let built = &bound.tables[p.table as usize];
        if p.null_aware && built.probe_null.load(Ordering::Relaxed) != 0 {
            return Ok(());
        }
        let probed = built.probed.load(Ordering::Relaxed) != 0;
        let keep = |row: usize| match p.kind {
            JoinKind::BuildSemi => built.is_matched(row),
            JoinKind::BuildMark => true,
            // NOT IN: a null key is neither in nor not in a set that is not empty.
            _ if p.null_aware && probed => !built.is_matched(row) && !built.keys.iter().any(|k| k.is_null(row)),
            _ => !built.is_matched(row),
        };
        let mut start = range.start;
        while start < range.end {
            self.cancel.check()?;
            let end = range.end.min(start + bound.program.chunk_rows());
            let rows: Vec<i32> = (start..end).filter(|r| keep(*r)).map(|r| r as i32).collect();
            start = end;
            if rows.is_empty() {
                continue;
            }
            let mut regs = self.nothing_probed(at, rows.len())?;
            if let Some(mark) = p.mark {
                let flags: Vec<u8> = rows.iter().map(|r| u8::from(built.is_matched(*r as usize))).collect();
                regs.set(mark, Vector::new(Values::Bool(flags.into())));
            }
            regs.set(p.rows, Vector::new(Values::I32(rows.into())));
            self.run(regs, at + 1, sink)?;
        }
        Ok(())
    }

    /// The registers before instruction `at` for rows that have no probe side: null, constants and what is
    /// computed from them included. No instruction behind a tail reads another side's register.
    fn nothing_probed(&mut self, at: usize, rows: usize) -> Result<Registers> {
        let program = &self.bound.program;
        let mut regs = Registers::new(program.types.len(), rows);
        for r in 0..program.inputs.len() as Reg {
            regs.set(r, null(program, r)?);
        }
        for i in &program.instrs[..at] {
            if let Instr::Probe(p) = i {
                regs.set(p.rows, Vector::new(Values::I32(vec![-1; rows].into())));
                if let Some(mark) = p.mark {
                    regs.set(mark, null(program, mark)?);
                }
            } else if let Some(r) = i.out() {
                regs.set(r, null(program, r)?);
            }
        }
        Ok(regs)
    }
}

fn null(program: &crate::Program, r: Reg) -> Result<Vector> {
    if program.ty(r) == Type::Any {
        let array = arrow::array::new_null_array(program.data_type(r), 1);
        return Ok(Vector { values: Values::Any(array), valid: None, constant: true, bounds: None });
    }
    Ok(Vector::constant(&Value::Null, program.ty(r))?)
}

/// Remembers for `NOT IN` whether there was a probe row, and one with a null key.
fn note_nulls(built: &Built, p: &Probe, regs: &Registers) -> Result<()> {
    built.probed.store(1, Ordering::Relaxed);
    for k in &p.keys {
        let v = regs.get(*k)?;
        if (0..regs.rows).any(|i| v.is_null(i)) {
            built.probe_null.store(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn keep(regs: &mut Registers, mask: &[u8]) {
    if let Selection::Rows(rows) = select_mask(mask) {
        regs.advance(rows);
    }
}

fn mark_chain(built: &Built, head: u32) {
    let mut at = head;
    while at != 0 {
        built.mark(at as usize - 1);
        at = built.table.next(at);
    }
}

/// At most one pair a row: the first build row is the only one.
fn unique_pairs(p: &Probe, built: &Built, mut regs: Registers, heads: &[u32]) -> Option<Registers> {
    let rows: Vec<i32> = heads.iter().map(|h| *h as i32 - 1).collect();
    if p.kind.has_tail() {
        rows.iter().filter(|r| **r >= 0).for_each(|r| built.mark(*r as usize));
    }
    regs.set(p.rows, Vector::new(Values::I32(rows.into())));
    if !matches!(p.kind, JoinKind::ProbeOuter | JoinKind::Full) {
        keep(&mut regs, &heads.iter().map(|h| u8::from(*h != 0)).collect::<Vec<_>>());
    }
    (regs.rows > 0).then_some(regs)
}

/// Pairs of the probe rows from `from` on, until there are enough; the row to go on with.
fn pairs(built: &Built, heads: &[u32], from: usize, outer: bool) -> (Vec<u32>, Vec<i32>, usize) {
    let (mut probe, mut build) = (Vec::with_capacity(heads.len()), Vec::with_capacity(heads.len()));
    let mut row = from;
    while row < heads.len() && probe.len() < PAIRS {
        let mut head = heads[row];
        if head == 0 && outer {
            probe.push(row as u32);
            build.push(-1);
        }
        while head != 0 {
            probe.push(row as u32);
            build.push(head as i32 - 1);
            head = built.table.next(head);
        }
        row += 1;
    }
    (probe, build, row)
}

/// The pairs that pass, and a null build row for each row of `outer` that has none.
fn passing(probe: &[u32], build: &[i32], mask: &[u8], outer: Range<usize>) -> (Vec<u32>, Vec<i32>) {
    let (mut p, mut b) = (vec![], vec![]);
    let mut at = 0;
    let mut row = outer.start;
    while at < probe.len() || row < outer.end {
        let this = if at < probe.len() { (probe[at] as usize).min(if outer.is_empty() { usize::MAX } else { row }) } else { row };
        let before = p.len();
        while at < probe.len() && probe[at] as usize == this {
            if mask[at] != 0 {
                p.push(probe[at]);
                b.push(build[at]);
            }
            at += 1;
        }
        if !outer.is_empty() {
            if p.len() == before {
                p.push(this as u32);
                b.push(-1);
            }
            row = this + 1;
        }
    }
    (p, b)
}
