//! How many rows each instruction of a stage meets, and what its sink leaves: the estimates of [`crate::estimate`] carried
//! through a program. Uniform values, independent columns, as there.

use crate::estimate::{Estimate, RESIDUAL, UNKNOWN, Values, estimate as of_plan, pairs_per_match, selectivity, unknown};
use arrow::datatypes::DataType;
use millstream_stage::program::{BoolOp, CompareOp, Instr, JoinKind, Probe, Reg, Value};
use millstream_stage::{ConstantSource, Program, Sink, StageExec};

/// A stage's rows.
pub struct Flow {
    /// Rows that enter.
    pub rows: f64,
    /// By instruction: rows that it meets.
    pub before: Vec<f64>,
    /// Rows that reach the sink.
    pub after: f64,
    /// What is known of each register, by the whole of its table.
    pub values: Vec<Values>,
    /// The build sides.
    pub tables: Vec<Table>,
}

/// A build side.
pub struct Table {
    /// Its rows.
    pub rows: f64,
    /// Its keys.
    pub keys: Vec<Values>,
    /// The columns that a probe gathers, and their types.
    pub columns: Vec<(Values, DataType)>,
}

/// The rows of a stage, if its sources know how many they have.
pub fn flow(stage: &StageExec) -> Option<Flow> {
    let input = of_plan(stage.input())?;
    let tables: Vec<Table> = stage.builds().iter().map(|b| table(b.downcast_ref::<StageExec>()?)).collect::<Option<_>>()?;
    let program = stage.program();
    let mut walk = Walk { program, values: vec![unknown(input.rows); program.types.len()], facts: vec![Fact::None; program.types.len()] };
    for (r, column) in program.inputs.iter().enumerate() {
        if let Some(v) = input.columns.get(*column) {
            walk.values[r] = *v;
        }
    }
    let (mut live, mut before) = (input.rows, vec![]);
    for i in &program.instrs {
        before.push(live);
        live = walk.step(i, live, &tables)?;
    }
    Some(Flow { rows: input.rows, before, after: live, values: walk.values, tables })
}

fn table(build: &StageExec) -> Option<Table> {
    let Sink::Build { keys, columns, .. } = build.sink() else { return None };
    let flow = flow(build)?;
    let types = |r: &Reg| (flow.values[usize::from(*r)], build.program().data_type(*r).clone());
    Some(Table {
        rows: flow.after,
        keys: keys.iter().map(|r| flow.values[usize::from(*r)]).collect(),
        columns: columns.iter().map(types).collect(),
    })
}

/// What a stage's sink leaves.
pub fn estimate(stage: &StageExec) -> Option<Estimate> {
    let flow = flow(stage)?;
    let value = |r: &Reg| flow.values[usize::from(*r)];
    Some(match stage.sink() {
        Sink::Collect { columns } | Sink::Build { columns, .. } => {
            Estimate { rows: flow.after, columns: columns.iter().map(value).collect() }
        }
        Sink::Sort { columns, visible, fetch, groups, .. } => {
            let of: Vec<Values> = groups.iter().filter_map(|c| columns.get(*c)).map(value).collect();
            let most = fetch.map_or(f64::INFINITY, |n| n as f64 * groups_of(&of, flow.after));
            Estimate { rows: flow.after.min(most), columns: columns.iter().take(*visible).map(value).collect() }
        }
        Sink::Group { keys, sets, aggregates } => {
            let by: Vec<Values> = keys.iter().map(value).collect();
            let rows = groups_of(&by, flow.after) * sets.len().max(1) as f64;
            let rest = std::iter::repeat_n(unknown(rows), aggregates.len());
            Estimate { rows, columns: by.into_iter().chain(rest).collect() }
        }
    })
}

/// Distinct combinations of keys in so many rows. Of keys that nobody counted there are likely fewer than rows: all of them
/// together are taken for the square root.
pub fn groups_of(keys: &[Values], rows: f64) -> f64 {
    let known = |v: &Values| if v.counted { Some(v.distinct) } else { v.likely };
    let counted: f64 = keys.iter().filter_map(known).product();
    let of = keys.iter().filter(|k| known(k).is_none()).map(|k| k.of).fold(0.0, f64::max);
    (counted * of.max(1.0).sqrt()).min(rows).max(1.0)
}

/// What is known of a register beside its values.
#[derive(Clone, Copy)]
enum Fact {
    None,
    /// A constant, and its number where it is one.
    Constant(Option<f64>),
    /// A condition: the part of the rows for which it holds; and, where it says only that, the register that it bounds.
    Holds(f64, Option<(Reg, f64, f64)>),
}

struct Walk<'a> {
    program: &'a Program,
    values: Vec<Values>,
    facts: Vec<Fact>,
}

impl Walk<'_> {
    fn value(&self, r: Reg) -> Values {
        self.values[usize::from(r)]
    }

    /// The part of the rows for which a register is true.
    fn part(&self, r: Reg) -> f64 {
        match self.facts[usize::from(r)] {
            Fact::Holds(part, _) => part,
            _ => UNKNOWN,
        }
    }

    /// Rows after an instruction that meets `live`; none where a table is missing.
    fn step(&mut self, i: &Instr, live: f64, tables: &[Table]) -> Option<f64> {
        let fact = match i {
            Instr::Const { constant, .. } => Fact::Constant(self.number(*constant)),
            Instr::Compare { op, a, b, .. } => self.compare(*op, *a, *b),
            Instr::Bool { op: BoolOp::And, a, b, .. } => self.both(*a, *b),
            Instr::Bool { op: BoolOp::Or, a, b, .. } => {
                let (a, b) = (self.part(*a), self.part(*b));
                Fact::Holds(a + b - a * b, None)
            }
            Instr::Not { a, .. } => Fact::Holds(1.0 - self.part(*a), None),
            Instr::IsNull { negated, .. } => Fact::Holds(if *negated { 0.95 } else { 0.05 }, None),
            Instr::Like { negated, .. } => Fact::Holds(if *negated { 0.9 } else { 0.1 }, None),
            Instr::Call { call, inputs, .. } => {
                let columns: Vec<Values> = inputs.iter().map(|r| self.value(*r)).collect();
                let of = self.program.calls.get(usize::from(*call));
                Fact::Holds(of.map_or(UNKNOWN, |c| selectivity(&c.expr, &columns)), None)
            }
            Instr::Cast { a, out, .. } => {
                self.values[usize::from(*out)] = self.value(*a);
                self.facts[usize::from(*a)]
            }
            Instr::Gather { table, column, out, .. } => {
                self.values[usize::from(*out)] = tables.get(usize::from(*table))?.columns.get(usize::from(*column))?.0;
                Fact::None
            }
            Instr::Filter { cond } => return Some((live * self.keep(*cond)).max(1.0)),
            Instr::Probe(p) => return self.probe(p, live, tables.get(usize::from(p.table))?),
            Instr::Arith { .. } | Instr::Select { .. } | Instr::Bin { .. } => Fact::None,
        };
        if let Some(out) = i.out() {
            self.facts[usize::from(out)] = fact;
        }
        Some(live)
    }

    fn number(&self, constant: u16) -> Option<f64> {
        let c = self.program.constants.get(usize::from(constant))?;
        let scale = match c.data_type {
            DataType::Decimal32(_, s) | DataType::Decimal64(_, s) | DataType::Decimal128(_, s) => s,
            _ => 0,
        };
        match &c.source {
            ConstantSource::Literal(Value::Int(v)) => Some(*v as f64 / 10f64.powi(scale.into())),
            ConstantSource::Literal(Value::F64(v)) => Some(*v),
            _ => None,
        }
    }

    fn compare(&self, op: CompareOp, a: Reg, b: Reg) -> Fact {
        use CompareOp::*;
        let (r, constant, op) = match (self.facts[usize::from(a)], self.facts[usize::from(b)]) {
            (Fact::Constant(_), Fact::Constant(_)) => return Fact::Holds(UNKNOWN, None),
            (_, Fact::Constant(c)) => (a, c, op),
            (Fact::Constant(c), _) => (b, c, mirrored(op)),
            _ => {
                let equal = 1.0 / self.value(a).distinct.max(self.value(b).distinct);
                return Fact::Holds(
                    match op {
                        Eq => equal,
                        Ne => 1.0 - equal,
                        Lt | Le | Gt | Ge => 0.5,
                    },
                    None,
                );
            }
        };
        let v = self.value(r);
        let equal = if v.counted { v.equal(1) } else { v.likely.map_or_else(|| v.equal(1), |n| 1.0 / n) };
        let limit = match (op, constant) {
            (Eq, _) => return Fact::Holds(equal, None),
            (Ne, _) => return Fact::Holds(1.0 - equal, None),
            (Lt | Le, Some(c)) => (f64::NEG_INFINITY, c),
            (Gt | Ge, Some(c)) => (c, f64::INFINITY),
            (_, None) => return Fact::Holds(1.0 / 3.0, None),
        };
        within(&v, limit).map_or(Fact::Holds(1.0 / 3.0, None), |part| Fact::Holds(part, Some((r, limit.0, limit.1))))
    }

    /// Two conditions on one register are a range of it, else they are independent.
    fn both(&self, a: Reg, b: Reg) -> Fact {
        if let (Fact::Holds(_, Some((r, lo, hi))), Fact::Holds(_, Some((s, low, high)))) =
            (self.facts[usize::from(a)], self.facts[usize::from(b)])
            && r == s
        {
            let range = (lo.max(low), hi.min(high));
            if let Some(part) = within(&self.value(r), range) {
                return Fact::Holds(part, Some((r, range.0, range.1)));
            }
        }
        Fact::Holds(self.part(a) * self.part(b), None)
    }

    /// The part of the rows that a filter keeps; a bounded register's range is the smaller one then.
    fn keep(&mut self, cond: Reg) -> f64 {
        let Fact::Holds(part, limit) = self.facts[usize::from(cond)] else { return self.part(cond) };
        let Some((r, lo, hi)) = limit else { return part };
        let v = &mut self.values[usize::from(r)];
        // As it is now: an earlier filter may have bounded it already.
        let part = within(v, (lo, hi)).unwrap_or(part);
        v.range = v.range.map(|(least, most)| (least.max(lo), most.min(hi)));
        v.distinct = (v.distinct * part).max(1.0);
        part
    }

    fn probe(&mut self, p: &Probe, live: f64, table: &Table) -> Option<f64> {
        use JoinKind::*;
        let keys: Vec<(Values, Values)> = p.keys.iter().zip(&table.keys).map(|(r, b)| (*b, self.value(*r))).collect();
        let per_match = pairs_per_match(&keys);
        let residual = if p.residual.is_some() { RESIDUAL } else { 1.0 };
        let inner = live * table.rows / per_match * residual;
        let matched = |others: f64| (others / per_match).min(1.0) * residual;
        if let Some(mark) = p.mark {
            self.facts[usize::from(mark)] = Fact::Holds(matched(table.rows), None);
        }
        let rows = match p.kind {
            Inner => inner,
            ProbeOuter => inner.max(live),
            BuildOuter => inner.max(table.rows),
            Full => inner.max(live).max(table.rows),
            ProbeSemi => live * matched(table.rows),
            ProbeAnti => live * (1.0 - matched(table.rows)).max(0.1),
            ProbeMark => live,
            BuildSemi => table.rows * matched(live),
            BuildAnti => table.rows * (1.0 - matched(live)).max(0.1),
            BuildMark => table.rows,
        };
        Some(rows.max(1.0))
    }
}

fn mirrored(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Lt => CompareOp::Gt,
        CompareOp::Le => CompareOp::Ge,
        CompareOp::Gt => CompareOp::Lt,
        CompareOp::Ge => CompareOp::Le,
        op => op,
    }
}

/// The part of a column's values that lie within bounds; none where its range is not known.
fn within(v: &Values, (lo, hi): (f64, f64)) -> Option<f64> {
    let (least, most) = v.range.filter(|(least, most)| most > least)?;
    Some(((hi.min(most) - lo.max(least)) / (most - least)).clamp(1.0 / v.distinct, 1.0))
}
