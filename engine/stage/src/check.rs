//! Whether a stage that came from outside holds together.
//!
//! Every column, register, table, constant and call that it names is there, a register is written once and
//! before it is read, row ids are those of the table they are used on. Values are not looked at: what the
//! kernels raise on data of the wrong type, they raise when the stage runs.

use crate::exec::StageExec;
use crate::program::{GroupingSet, Instr, JoinKind, Probe, Program, Reg, Sink, Type, physical};
use crate::{Error, ErrorKind, Result};
use datafusion::physical_plan::ExecutionPlan;

/// The physical types of a build table.
struct Table {
    keys: Vec<Type>,
    columns: Vec<Type>,
}

struct Check<'a> {
    program: &'a Program,
    tables: Vec<Table>,
    /// By register: whether it is written by now.
    written: Vec<bool>,
    /// By register: the table whose row ids it holds.
    rows_of: Vec<Option<u16>>,
}

/// Checks a stage and its build sides.
///
/// # Errors
/// `Corrupt` with the stage, the place in it and what is wrong.
pub fn check(stage: &StageExec) -> Result<()> {
    checked(stage).map_err(|what| Error::new(ErrorKind::Corrupt, format!("stage {}: {what}", stage.id())))
}

fn checked(stage: &StageExec) -> Result<(), String> {
    let program: &Program = stage.program();
    let tables = stage.builds().iter().enumerate().map(|(t, b)| table(t, b.downcast_ref())).collect::<Result<_, _>>()?;
    let registers = program.types.len();
    let mut c = Check { program, tables, written: vec![false; registers], rows_of: vec![None; registers] };
    c.inputs(stage)?;
    for (at, i) in program.instrs.iter().enumerate() {
        c.instr(i).map_err(|what| format!("instruction {at}: {what}"))?;
    }
    c.sink(stage).map_err(|what| format!("{} sink: {what}", stage.sink().name()))?;
    for f in stage.filters() {
        bounded("table", f.table, stage.builds().len()).map_err(|what| format!("runtime filter: {what}"))?;
    }
    Ok(())
}

fn table(at: usize, build: Option<&StageExec>) -> Result<Table, String> {
    let stage = build.ok_or_else(|| format!("build side {at} is no stage"))?;
    let Sink::Build { keys, columns, .. } = stage.sink() else {
        return Err(format!("build side {at} ends in a {} sink", stage.sink().name()));
    };
    let types = stage.program().types.as_slice();
    let of = |regs: &[Reg]| regs.iter().map(|r| register(types, *r)).collect::<Result<_, _>>();
    Ok(Table { keys: of(keys)?, columns: of(columns)? })
}

fn register(types: &[arrow::datatypes::DataType], r: Reg) -> Result<Type, String> {
    bounded("register", r.into(), types.len())?;
    Ok(physical(&types[r as usize]))
}

fn bounded(what: &str, at: usize, of: usize) -> Result<(), String> {
    if at < of { Ok(()) } else { Err(format!("there is no {what} {at}, only {of}")) }
}

impl Check<'_> {
    fn inputs(&mut self, stage: &StageExec) -> Result<(), String> {
        let schema = stage.input().schema();
        for (r, column) in self.program.inputs.iter().enumerate() {
            bounded("register", r, self.written.len())?;
            bounded("input column", *column, schema.fields().len())?;
            let (is, declared) = (schema.field(*column).data_type(), &self.program.types[r]);
            if is != declared {
                return Err(format!("input column {column} is {is}, not {declared}"));
            }
            self.written[r] = true;
        }
        Ok(())
    }

    fn read(&self, r: Reg) -> Result<Type, String> {
        let ty = register(&self.program.types, r)?;
        if self.written[r as usize] { Ok(ty) } else { Err(format!("register {r} is read before it is written")) }
    }

    fn write(&mut self, r: Reg) -> Result<Type, String> {
        let ty = register(&self.program.types, r)?;
        if std::mem::replace(&mut self.written[r as usize], true) {
            return Err(format!("register {r} is written twice"));
        }
        Ok(ty)
    }

    fn instr(&mut self, i: &Instr) -> Result<(), String> {
        match i {
            Instr::Probe(p) => return self.probe(p),
            Instr::Const { constant, .. } => bounded("constant", (*constant).into(), self.program.constants.len())?,
            Instr::Call { call, inputs, .. } => {
                bounded("call", (*call).into(), self.program.calls.len())?;
                let c = &self.program.calls[*call as usize];
                if inputs.len() != c.inputs.fields().len() || (c.per_entry && inputs.len() != 1) {
                    return Err(format!("call {call} of {} inputs is given {}", c.inputs.fields().len(), inputs.len()));
                }
            }
            Instr::Gather { table, column, rows, out } => {
                bounded("table", (*table).into(), self.tables.len())?;
                let columns = &self.tables[*table as usize].columns;
                bounded("build column", (*column).into(), columns.len())?;
                self.read(*rows)?;
                if self.rows_of[*rows as usize] != Some(*table) {
                    return Err(format!("register {rows} does not hold row ids of table {table}"));
                }
                let ty = register(&self.program.types, *out)?;
                if ty != columns[*column as usize] {
                    return Err(format!("column {column} of table {table} is gathered as {ty:?}"));
                }
            }
            _ => {}
        }
        for r in i.reads() {
            self.read(r)?;
        }
        i.out().map_or(Ok(()), |out| self.write(out).map(|_| ()))
    }

    fn probe(&mut self, p: &Probe) -> Result<(), String> {
        bounded("table", p.table.into(), self.tables.len())?;
        let keys = p.keys.iter().map(|k| self.read(*k)).collect::<Result<Vec<_>, _>>()?;
        if keys != self.tables[p.table as usize].keys {
            return Err(format!("the keys {keys:?} are not those of table {}", p.table));
        }
        if self.write(p.rows)? != Type::I32 {
            return Err(format!("row ids in register {} are not 32-bit integers", p.rows));
        }
        self.rows_of[p.rows as usize] = Some(p.table);
        if let Some(residual) = &p.residual {
            let outside = self.written.clone();
            for i in &residual.instrs {
                if matches!(i, Instr::Filter { .. } | Instr::Probe(_)) {
                    return Err("a residual computes, it neither filters nor probes".into());
                }
                self.instr(i)?;
            }
            self.boolean(residual.cond)?;
            self.written = outside;
        }
        match (p.mark, p.kind) {
            (Some(mark), JoinKind::ProbeMark | JoinKind::BuildMark) => {
                self.write(mark)?;
                self.boolean(mark)
            }
            (None, JoinKind::ProbeMark | JoinKind::BuildMark) => Err("a mark join without a mark".into()),
            (Some(_), kind) => Err(format!("a {kind:?} join with a mark")),
            (None, _) => Ok(()),
        }
    }

    fn set(&self, keys: &[Reg], set: &GroupingSet) -> Result<(), String> {
        let constant = |r: &Reg| self.program.instrs.iter().any(|i| matches!(i, Instr::Const { out, .. } if out == r));
        // The kernels' types, and how wide decimals are: groups of all sets share a table.
        let types = |keys: &[Reg]| keys.iter().map(|k| Ok((self.read(*k)?, self.program.key_type(*k)))).collect::<Result<Vec<_>, String>>();
        if types(&set.keys)? != types(keys)? {
            return Err("the keys of a grouping set have other types".into());
        }
        if set.total && !set.keys.iter().all(constant) {
            return Err("a total over keys that are no constants".into());
        }
        Ok(())
    }

    fn boolean(&self, r: Reg) -> Result<(), String> {
        if self.read(r)? == Type::Bool { Ok(()) } else { Err(format!("register {r} is not boolean")) }
    }

    fn sink(&self, stage: &StageExec) -> Result<(), String> {
        for r in stage.sink().reads() {
            self.read(r)?;
        }
        let columns = match stage.sink() {
            Sink::Collect { columns } | Sink::Build { columns, .. } => columns.len(),
            Sink::Group { keys, sets, aggregates } => {
                sets.iter().try_for_each(|s| self.set(keys, s))?;
                aggregates.iter().filter_map(|a| a.filter).try_for_each(|r| self.boolean(r))?;
                keys.len() + aggregates.len()
            }
            Sink::Sort { columns, visible, order, groups, .. } => {
                groups.iter().try_for_each(|c| bounded("column", *c, columns.len()))?;
                order.iter().try_for_each(|k| bounded("column", k.column, columns.len()))?;
                bounded("visible column", *visible, columns.len() + 1)?;
                *visible
            }
        };
        let declared = stage.schema().fields().len();
        if columns == declared { Ok(()) } else { Err(format!("{columns} columns leave where {declared} are declared")) }
    }
}
