//! A program in two parts: what the device runs of each row to say which survive, and what the host then runs of those.
//!
//! ```text
//! block ──> device: filters, probes, arithmetic ──> rows that survive, registers of them
//!       └──────────── columns as they are, gathered late ──────────┴──> host: the rest ──> sink
//! ```
//!
//! Floats and calls are the rest's, strings too but for predicates on codes, and so are filters and probes that read
//! them: they come after the
//! device's, which are moved before them, past nothing that tells the difference. A filter and a probe that is done
//! read one row alone. Only a probe that remembers which build rows were found (or whether a key was null) sees
//! more than rows: nothing that follows one is moved before it.
//!
//! A probe whose key the device has, but whose pairs are the host's (several build rows a key, a condition on
//! pairs, build rows that are emitted in the end), is *looked up* on the device: the first build row of each
//! probe row comes back, and the host goes on from there. Keys of several columns or of strings become codes on the
//! host first, as long as they are columns of the block.

use super::split::{TablePart, has_shader, is_device, writes};
use crate::program::Program;
use millstream_kernels::gpu::{CodeSet, DeviceProgram};
use millstream_kernels::program::{Instr, JoinKind, Probe, Reg, Type};
use std::collections::HashMap;

#[cfg(test)]
mod tests;

/// What the device can find in a join table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Nothing.
    No,
    /// The first row of a key.
    First,
    /// The only row of a key.
    Only,
}

/// Keys of a join table that are no single integer of the device's: the host makes a code of them, the device probes
/// by that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Coded {
    pub table: u16,
    /// Columns of the block.
    pub keys: Vec<Reg>,
    /// Its number among registers, past those of the program.
    register: Reg,
}

/// A predicate on one column of strings. The host evaluates it once an entry of the column's dictionary, the device
/// looks up what came of it by the code of each row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Predicate {
    pub instr: Instr,
    /// The column of the block.
    pub column: Reg,
    pub out: Reg,
    /// The number of the codes among registers, past those of the program.
    register: Reg,
}

/// The parts of a program.
pub(super) struct RowSplit {
    /// Columns of the block that are the device's inputs, in their order.
    pub inputs: Vec<Reg>,
    /// Codes that are the device's inputs after those.
    pub coded: Vec<Coded>,
    /// Predicates on strings, whose codes are the device's inputs after those.
    pub predicates: Vec<Predicate>,
    /// The device does nothing but look predicates up: without a dictionary it has nothing to do.
    pub needs_codes: bool,
    /// Registers of the whole program that come back, in the order of the device's outputs.
    pub outputs: Vec<Reg>,
    /// What the device runs; constants are known when it starts.
    pub device: DeviceProgram,
    /// What the host runs of the rows that survive; its registers are those of the whole program.
    pub rest: Vec<Instr>,
    /// The tables that the device probes, in its numbers.
    pub tables: Vec<TablePart>,
}

impl RowSplit {
    /// The columns of a block that the device needs, each once.
    pub(super) fn reads(&self) -> Vec<Reg> {
        let coded = self.coded.iter().flat_map(|c| c.keys.iter().copied());
        let mut all: Vec<Reg> = self.inputs.iter().copied().chain(coded).chain(self.predicates.iter().map(|p| p.column)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether the host reads column `r` of a block too, to make codes or sets of it.
    pub(super) fn is_read_here(&self, r: Reg) -> bool {
        self.coded.iter().any(|c| c.keys.contains(&r)) || self.predicates.iter().any(|p| p.column == r)
    }
}

/// Who runs an instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Host,
    Device,
    /// A probe: the device finds the row, the host does what follows from it.
    LookUp,
    /// One value a row: whoever wants it, the device where it can.
    Value,
    /// A predicate on a column of strings: each side in its own way.
    Predicate(Reg),
}

/// Splits `program`, whose sink reads `reads`. `tables`: what the device finds in them, as far as is known. None
/// where the device would have nothing to do but to copy.
pub(super) fn split(program: &Program, reads: &[Reg], tables: &[Lookup]) -> Option<RowSplit> {
    let (roles, known) = roles(program, tables);
    // Every probe may need a code.
    let none = vec![false; program.types.len() + program.instrs.len()];
    let (host, device) = (none.clone(), none);
    let mut parts =
        Parts { program, known, host, device, coded: vec![], predicates: vec![], instrs: vec![], rest: vec![], outputs: vec![] };
    reads.iter().for_each(|r| parts.host[usize::from(*r)] = true);
    for (i, role) in program.instrs.iter().zip(&roles).rev() {
        parts.place(i, *role);
    }
    let works = |i: &Instr| !matches!(i, Instr::Const { .. } | Instr::Gather { .. } | Instr::Cast { .. } | Instr::IsNull { .. });
    let useful = parts.instrs.iter().any(works);
    if useful { parts.finish() } else { None }
}

/// Who runs each instruction, and which registers the device can have.
fn roles(program: &Program, tables: &[Lookup]) -> (Vec<Role>, Vec<bool>) {
    let mut known = vec![false; program.types.len()];
    (0..program.inputs.len()).for_each(|r| known[r] = is_device(program.ty(r as Reg)));
    let mut fixed = false;
    let mut role = |i: &Instr| match i {
        Instr::Filter { cond } if !fixed && known[usize::from(*cond)] => Role::Device,
        Instr::Filter { .. } => Role::Host,
        Instr::Probe(p) => {
            let found = tables.get(usize::from(p.table)).copied().unwrap_or(Lookup::No);
            let role = if fixed { Role::Host } else { probe_role(program, p, found, &known) };
            fixed |= p.kind.has_tail() || p.null_aware;
            for r in [Some(p.rows), p.mark].into_iter().flatten() {
                known[usize::from(r)] = role == Role::Device;
            }
            role
        }
        i => {
            let reads = i.reads().into_iter().all(|r| known[usize::from(r)]);
            let column = string_column(program, i);
            if let Some(out) = i.out() {
                known[usize::from(out)] = column.is_some() || reads && has_shader(program, i);
            }
            column.map_or(Role::Value, Role::Predicate)
        }
    };
    let roles = program.instrs.iter().map(&mut role).collect();
    (roles, known)
}

/// The column of strings that decides alone whether `i` is true.
fn string_column(program: &Program, i: &Instr) -> Option<Reg> {
    let is_column = |r: &Reg| usize::from(*r) < program.inputs.len() && program.ty(*r) == Type::Str;
    let is_constant = |r: &Reg| program.instrs.iter().any(|i| matches!(i, Instr::Const { out, .. } if out == r));
    match i {
        Instr::Compare { a, b, .. } => match (is_column(a), is_column(b)) {
            (true, false) if is_constant(b) => Some(*a),
            (false, true) if is_constant(a) => Some(*b),
            _ => None,
        },
        Instr::Like { a, .. } => is_column(a).then_some(*a),
        Instr::Call { call, inputs, out } if program.calls[usize::from(*call)].per_entry && program.ty(*out) == Type::Bool => {
            inputs.as_slice().iter().copied().next().filter(|r| inputs.len() == 1 && is_column(r))
        }
        _ => None,
    }
}

fn probe_role(program: &Program, p: &Probe, found: Lookup, known: &[bool]) -> Role {
    use JoinKind::*;
    let columns = p.keys.iter().all(|k| usize::from(*k) < program.inputs.len());
    if !(columns || is_integer(program, p, known)) || found == Lookup::No || p.null_equals_null {
        return Role::Host;
    }
    let plain = p.residual.is_none() && !p.null_aware;
    let done = match p.kind {
        ProbeSemi | ProbeAnti | ProbeMark => plain,
        Inner | ProbeOuter => plain && found == Lookup::Only,
        BuildOuter | BuildSemi | BuildAnti | BuildMark | Full => false,
    };
    if done { Role::Device } else { Role::LookUp }
}

/// Whether the device has the key of a probe as one integer.
fn is_integer(program: &Program, p: &Probe, known: &[bool]) -> bool {
    matches!(p.keys.as_slice(), [k] if known[usize::from(*k)] && program.ty(*k) != Type::Bool)
}

/// The probe that looks up what `p` needs. A row that finds nothing is dropped where it makes no difference.
fn look_up(p: &Probe) -> Probe {
    use JoinKind::*;
    let drops = !p.null_aware && matches!(p.kind, Inner | ProbeSemi | BuildOuter | BuildSemi | BuildAnti | BuildMark);
    let kind = if drops { Inner } else { ProbeOuter };
    Probe { kind, residual: None, null_aware: false, mark: None, ..p.clone() }
}

/// The parts as they grow, from the last instruction to the first.
struct Parts<'a> {
    program: &'a Program,
    known: Vec<bool>,
    /// Registers that the host reads, and those that the device does.
    host: Vec<bool>,
    device: Vec<bool>,
    coded: Vec<Coded>,
    predicates: Vec<Predicate>,
    instrs: Vec<Instr>,
    rest: Vec<Instr>,
    outputs: Vec<Reg>,
}

impl Parts<'_> {
    fn place(&mut self, i: &Instr, role: Role) {
        match (role, i) {
            (Role::Host, i) => self.on_host(i),
            (Role::LookUp, Instr::Probe(p)) => {
                self.probe(look_up(p));
                self.outputs.push(p.rows);
                let keys = if p.null_aware { p.keys.as_slice() } else { &[] };
                let pairs = p.residual.iter().flat_map(|r| r.instrs.iter().flat_map(Instr::reads).chain([r.cond]));
                keys.iter().copied().chain(pairs).for_each(|r| self.host[usize::from(r)] = true);
                self.rest.push(i.clone());
            }
            (Role::Device | Role::LookUp, i) => {
                if let Instr::Probe(p) = i {
                    let wanted = [Some(p.rows), p.mark].into_iter().flatten().filter(|r| self.host[usize::from(*r)]);
                    self.outputs.extend(wanted);
                    return self.probe(p.as_ref().clone());
                }
                self.on_device(i);
            }
            (Role::Value, i) => self.value(i),
            (Role::Predicate(column), i) => self.predicate(i, column),
        }
    }

    fn value(&mut self, i: &Instr) {
        let Some(out) = i.out() else { return };
        let r = usize::from(out);
        // Constants are both sides' own; what a probe finds is gathered by who reads it.
        let own = matches!(i, Instr::Const { .. } | Instr::Gather { .. });
        if self.host[r] && (own || !self.known[r]) {
            self.on_host(i);
        } else if self.host[r] {
            self.outputs.push(out);
            self.device[r] = true;
        }
        if self.device[r] {
            self.on_device(i);
        }
    }

    /// A register past those of the program.
    fn another(&self) -> Reg {
        (self.program.types.len() + self.coded.len() + self.predicates.len()) as Reg
    }

    fn predicate(&mut self, i: &Instr, column: Reg) {
        let Some(out) = i.out() else { return };
        if self.host[usize::from(out)] {
            self.on_host(i);
        }
        if self.device[usize::from(out)] {
            self.predicates.push(Predicate { instr: i.clone(), column, out, register: self.another() });
        }
    }

    fn probe(&mut self, mut p: Probe) {
        if !is_integer(self.program, &p, &self.known) {
            let register = self.another();
            self.coded.push(Coded { table: p.table, keys: std::mem::replace(&mut p.keys, vec![register]), register });
        }
        self.on_device(&Instr::Probe(Box::new(p)));
    }

    fn on_host(&mut self, i: &Instr) {
        i.reads().into_iter().for_each(|r| self.host[usize::from(r)] = true);
        self.rest.push(i.clone());
    }

    fn on_device(&mut self, i: &Instr) {
        i.reads().into_iter().for_each(|r| self.device[usize::from(r)] = true);
        self.instrs.push(i.clone());
    }

    /// The parts in the order of the program, the device's in registers of its own.
    fn finish(mut self) -> Option<RowSplit> {
        self.instrs.reverse();
        self.rest.reverse();
        let inputs: Vec<Reg> = (0..self.program.inputs.len() as Reg).filter(|r| self.device[usize::from(*r)]).collect();
        let mut tables: Vec<TablePart> = vec![];
        for i in &mut self.instrs {
            match i {
                Instr::Probe(p) => {
                    tables.push(TablePart { table: p.table, instrs: vec![], columns: vec![], codes: vec![] });
                    p.table = tables.len() as u16 - 1;
                }
                Instr::Gather { table, column, out, .. } => {
                    let (number, part) = tables.iter_mut().enumerate().find(|(_, t)| t.table == *table)?;
                    part.instrs.push(Instr::Gather { table: *table, column: *column, rows: 0, out: *out });
                    part.columns.push(*out);
                    (*table, *column) = (number as u16, part.columns.len() as u16 - 1);
                }
                _ => {}
            }
        }
        let codes = self.coded.iter().map(|c| c.register).chain(self.predicates.iter().map(|p| p.register));
        let given = inputs.iter().copied().chain(codes);
        let mut numbers: HashMap<Reg, Reg> = given.enumerate().map(|(n, r)| (r, n as Reg)).collect();
        for r in self.predicates.iter().map(|p| p.out).chain(self.instrs.iter().flat_map(writes)) {
            let next = numbers.len() as Reg;
            numbers.entry(r).or_insert(next);
        }
        let mut complete = true;
        let mut number = |r: &mut Reg| match numbers.get(r) {
            Some(n) => *r = *n,
            None => complete = false,
        };
        self.instrs.iter_mut().for_each(|i| i.each_register(&mut number));
        let mut outputs = self.outputs.clone();
        outputs.iter_mut().for_each(&mut number);
        let mut sets: Vec<CodeSet> = self.predicates.iter().map(|p| CodeSet { code: p.register, out: p.out }).collect();
        sets.iter_mut().for_each(|s| [&mut s.code, &mut s.out].into_iter().for_each(&mut number));
        let mut types: Vec<Type> = inputs.iter().map(|r| self.program.ty(*r)).collect();
        types.extend(self.coded.iter().map(|_| Type::I64));
        types.extend(self.predicates.iter().map(|_| Type::I32));
        let combines = |i: &Instr| matches!(i, Instr::Filter { .. } | Instr::Bool { .. } | Instr::Not { .. } | Instr::Const { .. });
        let needs_codes = self.instrs.iter().all(combines);
        let device =
            DeviceProgram { inputs: types, instrs: self.instrs, constants: vec![], keys: vec![], aggregates: vec![], outputs, sets };
        complete.then_some(RowSplit {
            inputs,
            coded: self.coded,
            predicates: self.predicates,
            needs_codes,
            outputs: self.outputs,
            device,
            rest: self.rest,
            tables,
        })
    }
}
