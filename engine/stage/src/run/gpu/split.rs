//! A group program in three parts: what the host runs of each block, what it runs once over the rows of
//! each join table, and what the device runs of each row.
//!
//! ```text
//! block ── host ──> inputs, group codes ──┐
//! join table ── over its rows ──> columns ┴─> device ──> groups
//! ```
//!
//! Group keys that each come from one table that the device probes are numbered there, and the device groups by the numbers.
//! Strings, floats, calls and other group keys are the host's; floats that are added up or compared become integers there
//! ([`super::floats`]). What is computed from one table alone
//! (`p_type LIKE 'PROMO%'`) is computed once a table row and gathered by the device, as long as the
//! device probes that table. A filter runs on the host where its condition is there anyway, or where a
//! call or a probe of the host comes after it: that then sees no more rows than on the CPU.

use crate::program::{AggregateCall, AggregateFunction, Program, Sink};
use crate::{Error, Result};
use millstream_kernels::gpu::DeviceProgram;
use millstream_kernels::program::{Aggregate, AggregateOp, Instr, JoinKind, Probe, Reg, Type};
use std::collections::HashMap;

#[cfg(test)]
mod tests;

/// The parts of a program.
pub(super) struct Split {
    /// What the host runs of each block; its registers are those of the whole program.
    pub host: Vec<Instr>,
    /// Registers of the whole program that are the device's inputs, in their order.
    pub inputs: Vec<Reg>,
    /// Registers of the group keys where the host makes codes of them, the device's input after `inputs`.
    pub keys: Vec<Reg>,
    /// Else what each key is a code of.
    pub table_keys: Vec<TableKey>,
    /// What the device runs; constants and the number of codes are known when it starts.
    pub device: DeviceProgram,
    /// Floats to aggregate, and the integers that they become: the device's inputs after the codes.
    pub floats: Vec<(Reg, Form)>,
    /// What each state of the sink is made of.
    pub made: Vec<Made>,
    /// The tables that the device probes, in its numbers.
    pub tables: Vec<TablePart>,
}

impl Split {
    /// Registers of the whole program that are read of each row: inputs, group keys, floats.
    pub(super) fn reads(&self) -> impl Iterator<Item = Reg> {
        let floats = self.floats.iter().map(|(r, _)| *r);
        self.inputs.iter().chain(&self.keys).copied().chain(floats)
    }
}

/// The integers that floats become on their way to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Two columns, to be added up.
    Halves,
    /// One column, to be compared.
    Ordered,
}

impl Form {
    fn columns(self) -> usize {
        match self {
            Form::Halves => 2,
            Form::Ordered => 1,
        }
    }
}

/// The aggregates of the device behind a state of the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// This one.
    Exact(usize),
    /// The sum of entry `float` of the floats; the aggregate of its low half comes next to that of the high one.
    Sum { high: usize, float: usize },
    /// The least or greatest of floats.
    Ordered(usize),
}

/// A group key that the rows of one table decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableKey {
    /// The table, in the device's numbers.
    pub table: usize,
    /// Its place in the table's codes.
    pub code: usize,
}

/// A join table on the device.
pub(super) struct TablePart {
    /// Its number in the stage.
    pub table: u16,
    /// What the host runs over its rows; a `Gather` is the table's column as it is.
    pub instrs: Vec<Instr>,
    /// The registers that become the columns of the device's table.
    pub columns: Vec<Reg>,
    /// The group keys whose codes are its columns after those.
    pub codes: Vec<Reg>,
}

/// Why no split makes the stage's program one for the device, if so.
pub(super) fn refusal(program: &Program, sink: &Sink) -> Option<String> {
    let Sink::Group { sets, aggregates, .. } = sink else {
        return Some(format!("a {} sink makes no groups", sink.name()));
    };
    if !sets.is_empty() {
        return Some("no compute shader covers grouping sets".into());
    }
    for i in &program.instrs {
        if let Instr::Probe(p) = i
            && p.kind.has_tail()
        {
            return Some(format!("probe #{} {:?} emits build rows after the last probe row", p.table, p.kind));
        }
    }
    aggregates.iter().find_map(|a| {
        let ty = a.args.first().map_or(Type::I64, |r| program.ty(*r));
        let covered = match a.function {
            AggregateFunction::Count => ty != Type::Any && a.args.len() < 2,
            AggregateFunction::Sum | AggregateFunction::Avg | AggregateFunction::Min | AggregateFunction::Max => {
                matches!(ty, Type::I32 | Type::I64 | Type::Decimal | Type::F64)
            }
            _ => false,
        };
        let of = a.args.first().map_or_else(String::new, |r| format!(" of {}", program.data_type(*r)));
        (!covered).then(|| format!("no compute shader covers {}{of}", a.function.name()))
    })
}

/// Splits the program of a group stage that [`refusal`] lets through. `can_probe`, by table: whether the
/// device may probe it, as far as is known. `keys_of_tables`: keys that come from tables may be numbered there.
///
/// # Errors
/// `Bug` for a program that reads what it does not write.
pub(super) fn split(program: &Program, sink: &Sink, can_probe: &[bool], keys_of_tables: bool) -> Result<Split> {
    let mut on_device = can_probe.to_vec();
    loop {
        let mut places = Places::new(program, sink, on_device, keys_of_tables)?;
        match places.settle() {
            None => return places.parts(sink),
            Some(table) => {
                on_device = places.on_device;
                on_device[usize::from(table)] = false;
            }
        }
    }
}

/// Whether a register of this type can be on the device.
pub(super) fn is_device(ty: Type) -> bool {
    matches!(ty, Type::Bool | Type::I32 | Type::I64 | Type::Decimal)
}

pub(super) fn has_shader(program: &Program, i: &Instr) -> bool {
    !matches!(i, Instr::Call { .. } | Instr::Bin { .. }) && i.reads().into_iter().chain(i.out()).all(|r| is_device(program.ty(r)))
}

fn can_be_probed(program: &Program, p: &Probe) -> bool {
    use JoinKind::*;
    let kind = matches!(p.kind, Inner | ProbeOuter | ProbeSemi | ProbeAnti | ProbeMark);
    let key = matches!(p.keys.as_slice(), [k] if matches!(program.ty(*k), Type::I32 | Type::I64 | Type::Decimal));
    kind && key && p.residual.is_none() && !p.null_aware && !p.null_equals_null
}

/// Where each register and each filter is computed.
struct Places<'a> {
    program: &'a Program,
    /// By table: whether the device probes it.
    on_device: Vec<bool>,
    /// Each group key comes from a table and is numbered there.
    keys_of_tables: bool,
    /// The table whose rows alone decide a register.
    table_of: Vec<Option<u16>>,
    constant: Vec<bool>,
    /// Registers that the host computes of each block.
    host: Vec<bool>,
    /// By instruction: a filter that the host runs.
    host_filter: Vec<bool>,
}

impl<'a> Places<'a> {
    fn new(program: &'a Program, sink: &Sink, mut on_device: Vec<bool>, keys_of_tables: bool) -> Result<Self> {
        let registers = program.types.len();
        let (mut table_of, mut constant, mut host) = (vec![None; registers], vec![false; registers], vec![false; registers]);
        let mut hoists = vec![false; on_device.len()];
        for i in &program.instrs {
            let Some(out) = i.out().map(usize::from) else { continue };
            match i {
                Instr::Const { .. } => constant[out] = true,
                Instr::Probe(p) => {
                    let table = usize::from(p.table);
                    let known = on_device.get_mut(table).ok_or_else(|| Error::bug(format!("there is no table {table}")))?;
                    *known &= can_be_probed(program, p);
                    // A row without a match has null here, whatever a table row would compute to.
                    hoists[table] = *known && p.kind == JoinKind::Inner;
                }
                Instr::Gather { table, .. } if on_device[usize::from(*table)] => {
                    table_of[out] = hoists[usize::from(*table)].then_some(*table);
                    host[out] = !hoists[usize::from(*table)] && !has_shader(program, i);
                }
                Instr::Gather { .. } => host[out] = true,
                i => {
                    table_of[out] = only_table(program, i, &table_of, &constant);
                    host[out] = table_of[out].is_none() && !has_shader(program, i);
                }
            }
        }
        let Sink::Group { keys, aggregates, .. } = sink else { return Err(Error::bug("group sink expected")) };
        let counted = aggregates.iter().flat_map(|a| a.args.iter().copied()).filter(|r| !is_device(program.ty(*r)));
        let keys_of_tables = keys_of_tables && !keys.is_empty() && keys.iter().all(|k| table_of[usize::from(*k)].is_some());
        let keys = if keys_of_tables { &[] } else { keys.as_slice() };
        keys.iter().copied().chain(counted).for_each(|r| host[usize::from(r)] = true);
        Ok(Self { program, on_device, keys_of_tables, table_of, constant, host, host_filter: vec![false; program.instrs.len()] })
    }

    /// Spreads what the host must compute to what that reads. A table that the device cannot probe
    /// after all is returned.
    fn settle(&mut self) -> Option<u16> {
        let program = self.program;
        let mut heavy = false;
        for (at, i) in program.instrs.iter().enumerate().rev() {
            let on_host = match i {
                Instr::Const { .. } => false,
                Instr::Filter { cond } => {
                    self.host_filter[at] = heavy || self.host[usize::from(*cond)];
                    self.host_filter[at]
                }
                Instr::Probe(p) => {
                    let probed = self.on_device[usize::from(p.table)];
                    if probed && [Some(p.rows), p.mark].iter().flatten().any(|r| self.host[usize::from(*r)]) {
                        return Some(p.table);
                    }
                    heavy |= !probed;
                    !probed
                }
                i => {
                    let here = i.out().is_some_and(|r| self.host[usize::from(r)]);
                    heavy |= here && matches!(i, Instr::Call { .. });
                    here
                }
            };
            if on_host {
                for r in i.reads().into_iter().map(usize::from) {
                    self.host[r] |= !self.constant[r];
                }
            }
        }
        None
    }

    fn is_on_host(&self, at: usize, i: &Instr) -> bool {
        match i {
            Instr::Filter { .. } => self.host_filter[at],
            Instr::Probe(p) => !self.on_device[usize::from(p.table)],
            i => i.out().is_some_and(|r| self.host[usize::from(r)]),
        }
    }

    fn parts(&self, sink: &Sink) -> Result<Split> {
        let Sink::Group { keys, aggregates, .. } = sink else { return Err(Error::bug("group sink expected")) };
        let mut reads: Vec<Reg> = aggregates.iter().flat_map(|a| a.args.iter().copied().chain(a.filter)).collect();
        let floats = floats(self.program, aggregates);
        let (keys, of_tables) = if self.keys_of_tables { (vec![], keys.as_slice()) } else { (keys.clone(), &[][..]) };
        let (mut instrs, mut tables, table_keys) = self.device(&mut reads, of_tables);
        let written: Vec<Reg> = instrs.iter().flat_map(writes).collect();
        let mut inputs: Vec<Reg> = reads.into_iter().filter(|r| !written.contains(r)).collect();
        inputs.sort_unstable();
        inputs.dedup();
        tables.iter_mut().for_each(|t| t.instrs = self.over_table(t));

        let host = self.host_part(inputs.iter().chain(&keys).copied().chain(floats.iter().map(|(r, _)| *r)).collect());
        // The device's registers: inputs, the code of the group, floats, everything else.
        let code = inputs.len() as Reg;
        let first_float = code + Reg::from(!keys.is_empty());
        let width: usize = floats.iter().map(|(_, form)| form.columns()).sum();
        let column = |at: usize| first_float + floats[..at].iter().map(|(_, form)| form.columns() as Reg).sum::<Reg>();
        let mut numbers: HashMap<Reg, Reg> = inputs.iter().enumerate().map(|(n, r)| (*r, n as Reg)).collect();
        for r in written {
            let next = numbers.len() as Reg + 1 + width as Reg;
            numbers.entry(r).or_insert(next);
        }
        let mut unknown = None;
        let mut number = |r: &mut Reg| match numbers.get(r) {
            Some(n) => *r = *n,
            None => unknown = Some(*r),
        };
        instrs.iter_mut().for_each(|i| i.each_register(&mut number));
        let mut keyed: Vec<(Reg, u32)> = if keys.is_empty() { vec![] } else { vec![(code, 1)] };
        keyed.extend(table_keys.iter().enumerate().map(|(n, _)| (self.code_register(n), 1)));
        keyed.iter_mut().skip(keys.len().min(1)).for_each(|(r, _)| number(r));
        let (mut of_groups, mut made) = (vec![], vec![]);
        for call in aggregates {
            let (mut arg, mut filter) = (call.args.first().copied(), call.filter);
            let ty = arg.map_or(Type::I64, |r| self.program.ty(r));
            let float = |form| floats.iter().position(|f| ty == Type::F64 && Some(f.0) == call.args.first().copied() && f.1 == form);
            let floats = (float(Form::Halves).map(|at| (at, column(at))), float(Form::Ordered).map(column));
            arg.iter_mut().chain(filter.as_mut()).for_each(&mut number);
            for op in call.function.states() {
                made.push(aggregate(Aggregate { op, arg, filter, ty }, floats, &mut of_groups));
            }
        }
        if let Some(r) = unknown {
            return Err(Error::bug(format!("register {r} is read before it is written")));
        }
        let mut types: Vec<Type> = inputs.iter().map(|r| self.program.ty(*r)).collect();
        // Of any other type only the validity goes to the device.
        types.iter_mut().filter(|t| !is_device(**t)).for_each(|t| *t = Type::Bool);
        types.extend((!keys.is_empty()).then_some(Type::I32));
        types.extend(std::iter::repeat_n(Type::I64, width));
        let device =
            DeviceProgram { inputs: types, instrs, constants: vec![], keys: keyed, aggregates: of_groups, outputs: vec![], sets: vec![] };
        Ok(Split { host, inputs, keys, table_keys, device, floats, made, tables })
    }

    /// What the host runs so that `read` is there.
    fn host_part(&self, mut read: Vec<Reg>) -> Vec<Instr> {
        let mut host: Vec<Instr> = vec![];
        for (at, i) in self.program.instrs.iter().enumerate().rev() {
            let constant = matches!(i, Instr::Const { out, .. } if read.contains(out));
            if constant || self.is_on_host(at, i) {
                read.extend(i.reads());
                host.push(i.clone());
            }
        }
        host.reverse();
        host
    }

    /// The register of a table key's codes, past those of the program.
    fn code_register(&self, key: usize) -> Reg {
        (self.program.types.len() + key) as Reg
    }

    /// The device's instructions, still in the program's registers, the tables they gather from, and where `keys` are
    /// in those. `reads` holds what the sink reads, and then all that is read.
    fn device(&self, reads: &mut Vec<Reg>, keys: &[Reg]) -> (Vec<Instr>, Vec<TablePart>, Vec<TableKey>) {
        let program = self.program;
        let probes = program.instrs.iter().filter_map(|i| match i {
            Instr::Probe(p) if self.on_device[usize::from(p.table)] => Some(p),
            _ => None,
        });
        let mut rows_of: HashMap<u16, (u16, Reg)> = HashMap::new();
        let mut tables = vec![];
        for p in probes {
            rows_of.insert(p.table, (tables.len() as u16, p.rows));
            tables.push(TablePart { table: p.table, instrs: vec![], columns: vec![], codes: vec![] });
        }
        let mut instrs = vec![];
        for (at, i) in program.instrs.iter().enumerate().rev() {
            let wanted = match i {
                Instr::Filter { .. } | Instr::Probe(_) => true,
                i => i.out().is_some_and(|r| reads.contains(&r) && is_device(program.ty(r))),
            };
            if !wanted || self.is_on_host(at, i) {
                continue;
            }
            let from = match i {
                Instr::Gather { table, .. } => Some(*table),
                i => i.out().and_then(|r| self.table_of[usize::from(r)]),
            };
            let mut i = i.clone();
            if let (Some((n, rows)), Some(out)) = (from.and_then(|t| rows_of.get(&t)), i.out()) {
                let columns = &mut tables[usize::from(*n)].columns;
                i = Instr::Gather { table: *n, column: columns.len() as u16, rows: *rows, out };
                columns.push(out);
            }
            if let Instr::Probe(p) = &mut i {
                p.table = rows_of.get(&p.table).map_or(0, |(n, _)| *n);
            }
            reads.extend(i.reads());
            instrs.push(i);
        }
        instrs.reverse();
        let mut found = vec![];
        for (n, key) in keys.iter().enumerate() {
            let Some((table, rows)) = self.table_of[usize::from(*key)].and_then(|t| rows_of.get(&t)).copied() else { continue };
            let part: &mut TablePart = &mut tables[usize::from(table)];
            let column = (part.columns.len() + part.codes.len()) as u16;
            found.push(TableKey { table: usize::from(table), code: part.codes.len() });
            part.codes.push(*key);
            instrs.push(Instr::Gather { table, column, rows, out: self.code_register(n) });
        }
        (instrs, tables, found)
    }

    /// What computes the columns of a table from its rows.
    fn over_table(&self, part: &TablePart) -> Vec<Instr> {
        let mut wanted = [part.columns.as_slice(), &part.codes].concat();
        let mut out = vec![];
        for i in self.program.instrs.iter().rev() {
            let Some(r) = i.out().filter(|r| wanted.contains(r)) else { continue };
            match i {
                Instr::Probe(_) => continue,
                Instr::Gather { .. } => {}
                i => wanted.extend(i.reads()),
            }
            debug_assert!(self.constant[usize::from(r)] || !self.host[usize::from(r)]);
            out.push(i.clone());
        }
        out.reverse();
        out
    }
}

/// The aggregates of the device for a state of the sink that would be `a`. `floats`, where its argument is one: entry and
/// register of the halves, register of the order.
fn aggregate(a: Aggregate, floats: (Option<(usize, Reg)>, Option<Reg>), all: &mut Vec<Aggregate>) -> Made {
    let next = all.len();
    let mut integers = |register| all.push(Aggregate { arg: Some(register), ty: Type::I64, ..a });
    match (a.op, floats) {
        (AggregateOp::Sum, (Some((float, register)), _)) => {
            integers(register);
            integers(register + 1);
            Made::Sum { high: next, float }
        }
        (AggregateOp::Min | AggregateOp::Max, (_, Some(register))) => {
            integers(register);
            Made::Ordered(next)
        }
        _ => {
            all.push(a);
            Made::Exact(next)
        }
    }
}

/// The floats that `aggregates` add up or compare, each once a form.
fn floats(program: &Program, aggregates: &[AggregateCall]) -> Vec<(Reg, Form)> {
    let mut all = vec![];
    for call in aggregates {
        let form = match call.function {
            AggregateFunction::Sum | AggregateFunction::Avg => Form::Halves,
            AggregateFunction::Min | AggregateFunction::Max => Form::Ordered,
            _ => continue,
        };
        let args = call.args.iter().filter(|r| program.ty(**r) == Type::F64).map(|r| (*r, form));
        all.extend(args.filter(|f| !all.contains(f)).collect::<Vec<_>>());
    }
    all
}

/// The registers that an instruction of the device writes.
pub(super) fn writes(i: &Instr) -> Vec<Reg> {
    match i {
        Instr::Probe(p) => [Some(p.rows), p.mark].into_iter().flatten().collect(),
        i => i.out().into_iter().collect(),
    }
}

/// The one table whose rows alone decide the result of `i`, computed over all of them: integer
/// arithmetic could fail on a row that no probe finds, and a volatile call answers once a row.
fn only_table(program: &Program, i: &Instr, table_of: &[Option<u16>], constant: &[bool]) -> Option<u16> {
    let pure = match i {
        Instr::Compare { .. } | Instr::Bool { .. } | Instr::Not { .. } | Instr::IsNull { .. } => true,
        Instr::Select { .. } | Instr::Cast { .. } => true,
        Instr::Arith { ty, .. } => *ty == Type::F64,
        Instr::Call { call, .. } => program.calls[usize::from(*call)].per_entry,
        _ => false,
    };
    let mut tables = i.reads().into_iter().map(usize::from).filter(|r| !constant[*r]).map(|r| table_of[r]);
    let first = tables.next().flatten().filter(|_| pure)?;
    tables.all(|t| t == Some(first)).then_some(first)
}
