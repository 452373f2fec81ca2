//! Random programs over random data.

use super::oracle::{Case, Column, Data, Table};
use super::{DeviceProgram, aggregate, probe};
use crate::program::{AggregateOp, ArithOp, BoolOp, CompareOp, Instr, JoinKind, Reg, Type};
use crate::value::Value;

/// A small generator (SplitMix64): one seed replays a case.
pub struct Gen(pub u64);

impl Gen {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A value of one of several magnitudes, extremes included.
    fn int(&mut self, magnitude: u64) -> i64 {
        match magnitude {
            0 => self.below(10) as i64,
            1 => self.below(2000) as i64 - 1000,
            2 => self.next() as i32 as i64,
            3 => self.next() as i64 >> 16,
            4 => self.pick(&[i64::MIN, i64::MAX, 0, -1, i64::MIN + 1]),
            _ => self.next() as i64,
        }
    }

    pub fn valid(&mut self, rows: usize) -> Option<Vec<u8>> {
        match self.below(4) {
            0 => Some((0..rows).map(|_| u8::from(!self.one_in(3))).collect()),
            1 => Some(vec![if self.one_in(8) { 0 } else { 1 }; rows]),
            _ => None,
        }
    }

    pub fn column(&mut self, ty: Type, rows: usize) -> Column {
        // Small magnitudes more often: large ones mostly prove that a program must be refused.
        let magnitude = self.pick(&[0, 0, 1, 1, 2, 2, 3, 3, 4, 5]);
        let data = match ty {
            Type::Bool => Data::Bool((0..rows).map(|_| self.below(2) as u8).collect()),
            Type::I32 => Data::I32((0..rows).map(|_| self.int(magnitude.min(2)) as i32).collect()),
            _ => Data::I64((0..rows).map(|_| self.int(magnitude)).collect()),
        };
        Column { data, valid: self.valid(rows) }
    }

    fn table(&mut self) -> Table {
        let rows = self.below(40) as usize;
        let len = rows + self.below(20) as usize;
        // A random placement of the rows among the slots.
        let mut slots: Vec<u32> = (0..len as u32).map(|i| if (i as usize) < rows { i + 1 } else { 0 }).collect();
        for i in (1..len).rev() {
            slots.swap(i, self.below(i as u64 + 1) as usize);
        }
        let types = [Type::Bool, Type::I32, Type::I64];
        let columns = (0..1 + self.below(3)).map(|_| {
            let ty = self.pick(&types);
            self.column(ty, rows)
        });
        let columns = columns.collect();
        let min_key = self.pick(&[0, -5, 3, i64::MIN, 1 << 40, i64::MAX - 100]);
        // Every other table by hash: keys far apart or close together, some rows with the key of another.
        let hash = self.one_in(2).then(|| {
            let apart = self.pick(&[1, 1, 7, 1 << 33]);
            let mut codes: Vec<u64> = (0..rows as u64).map(|i| (i + self.below(2)).wrapping_mul(apart)).collect();
            if self.one_in(3) {
                codes.reverse();
            }
            let heads = (0..rows).filter(|i| codes.iter().position(|c| *c == codes[*i]) == Some(*i));
            let heads: Vec<u32> = heads.filter(|i| i % 11 != 5).map(|i| i as u32 + 1).collect();
            (codes, heads)
        });
        Table { min_key, slots, hash, columns }
    }
}

/// A program in the making: which registers hold what.
struct Builder<'a> {
    rng: &'a mut Gen,
    case: Case,
    bools: Vec<Reg>,
    ints: Vec<(Reg, Type)>,
    next: Reg,
}

impl Builder<'_> {
    fn new_reg(&mut self) -> Reg {
        self.next += 1;
        self.next - 1
    }

    fn bool_reg(&mut self) -> Reg {
        let regs = self.bools.clone();
        self.rng.pick(&regs)
    }

    fn int_reg(&mut self) -> (Reg, Type) {
        let regs = self.ints.clone();
        self.rng.pick(&regs)
    }

    fn constant(&mut self, value: Value) -> Reg {
        let is_bool = matches!(value, Value::Bool(_));
        self.case.program.constants.push(value);
        let out = self.new_reg();
        let constant = self.case.program.constants.len() as u16 - 1;
        self.case.program.instrs.push(Instr::Const { constant, out });
        if is_bool {
            self.bools.push(out)
        } else {
            self.ints.push((out, Type::I64))
        }
        out
    }

    fn instr(&mut self) {
        let out = self.new_reg();
        let kind = self.rng.below(13);
        let instr = match kind {
            0..=2 => {
                let op = self.rng.pick(&[CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Le, CompareOp::Gt, CompareOp::Ge]);
                let (a, b) = (self.int_reg().0, self.int_reg().0);
                self.bools.push(out);
                Instr::Compare { op, a, b, out }
            }
            3..=5 => {
                let op = self.rng.pick(&[ArithOp::Add, ArithOp::Sub, ArithOp::Mul]);
                let ((a, x), (b, y)) = (self.int_reg(), self.int_reg());
                let both = x == Type::I32 && y == Type::I32 && self.rng.one_in(2);
                let ty = if both { Type::I32 } else { self.rng.pick(&[Type::I64, Type::Decimal]) };
                self.ints.push((out, ty));
                Instr::Arith { op, a, b, ty, checked: true, out }
            }
            6 | 7 => {
                let op = self.rng.pick(&[BoolOp::And, BoolOp::Or]);
                let (a, b) = (self.bool_reg(), self.bool_reg());
                self.bools.push(out);
                Instr::Bool { op, a, b, out }
            }
            8 => {
                let a = self.bool_reg();
                self.bools.push(out);
                Instr::Not { a, out }
            }
            9 => {
                let a = if self.rng.one_in(2) { self.bool_reg() } else { self.int_reg().0 };
                self.bools.push(out);
                Instr::IsNull { a, negated: self.rng.one_in(2), out }
            }
            10 => {
                let (cond, (a, x), (b, y)) = (self.bool_reg(), self.int_reg(), self.int_reg());
                self.ints.push((out, if x == y { x } else { Type::I64 }));
                Instr::Select { cond, a, b, out }
            }
            11 => {
                let a = self.int_reg().0;
                let to = self.rng.pick(&[Type::I64, Type::Decimal]);
                self.ints.push((out, to));
                Instr::Cast { a, to, scale: 0, out }
            }
            _ => Instr::Filter { cond: self.bool_reg() },
        };
        self.case.program.instrs.push(instr);
    }

    fn join(&mut self, table: u16) {
        let kind = self.rng.pick(&[JoinKind::Inner, JoinKind::ProbeOuter, JoinKind::ProbeSemi, JoinKind::ProbeAnti, JoinKind::ProbeMark]);
        let (key, rows) = (self.int_reg().0, self.new_reg());
        let mark = (kind == JoinKind::ProbeMark).then(|| self.new_reg());
        self.bools.extend(mark);
        self.case.program.instrs.push(probe(table, key, kind, rows, mark));
        for column in 0..self.case.tables[usize::from(table)].columns.len() as u16 {
            let out = self.new_reg();
            match self.case.tables[usize::from(table)].columns[usize::from(column)].data {
                Data::Bool(_) => self.bools.push(out),
                Data::I32(_) => self.ints.push((out, Type::I32)),
                Data::I64(_) => self.ints.push((out, Type::I64)),
            }
            self.case.program.instrs.push(Instr::Gather { table, column, rows, out });
        }
    }

    fn aggregates(&mut self) {
        for _ in 0..1 + self.rng.below(5) {
            let op = self.rng.pick(&[AggregateOp::Count, AggregateOp::Sum, AggregateOp::Min, AggregateOp::Max]);
            let filter = self.rng.one_in(3).then(|| self.bool_reg());
            let (arg, ty) = self.int_reg();
            let star = op == AggregateOp::Count && self.rng.one_in(2);
            let arg = if star { None } else { Some(arg) };
            self.case.program.aggregates.push(aggregate(op, arg, filter, ty));
        }
    }
}

/// The case of `seed`. Its registers may leave 64 bits: then a device must refuse it.
pub fn case(seed: u64) -> Case {
    let mut rng = Gen(seed);
    let rows = rng.pick(&[0, 1, 31, 32, 33, 257, 1000, 5000]);
    let mut columns = vec![rng.column(Type::Bool, rows), rng.column(Type::I32, rows)];
    let mut inputs = vec![Type::Bool, Type::I32];
    for _ in 0..rng.below(4) {
        let ty = rng.pick(&[Type::Bool, Type::I32, Type::I64, Type::Decimal]);
        columns.push(rng.column(ty, rows));
        inputs.push(ty);
    }
    let mut keys = Vec::new();
    for _ in 0..rng.below(3) {
        let cardinality = rng.pick(&[1, 2, 5, 300]);
        let valid = rng.valid(rows);
        let codes = (0..rows).map(|_| rng.below(cardinality) as i32).collect();
        keys.push((columns.len() as Reg, cardinality as u32 + u32::from(valid.is_some())));
        columns.push(Column { data: Data::I32(codes), valid });
        inputs.push(Type::I32);
    }
    let tables = (0..rng.below(3)).map(|_| rng.table()).collect::<Vec<_>>();
    let of = |wanted: fn(Type) -> bool| inputs.iter().enumerate().filter(move |(_, ty)| wanted(**ty)).map(|(i, ty)| (i as Reg, *ty));
    let bools = of(|ty| ty == Type::Bool).map(|(reg, _)| reg).collect();
    let ints = of(|ty| ty != Type::Bool).collect();
    let next = inputs.len() as Reg;
    let program = DeviceProgram { inputs, instrs: vec![], constants: vec![], keys, aggregates: vec![], outputs: vec![], sets: vec![] };
    let mut builder = Builder { rng: &mut rng, case: Case { program, rows, columns, tables }, bools, ints, next };
    let small = builder.rng.int(1);
    builder.constant(Value::Int(small.into()));
    if builder.rng.one_in(4) {
        let large = builder.rng.int(5);
        builder.constant(Value::Int(large.into()));
    }
    if builder.rng.one_in(4) {
        builder.constant(Value::Null);
    }
    for table in 0..builder.case.tables.len() {
        builder.join(table as u16);
    }
    for _ in 0..2 + builder.rng.below(10) {
        builder.instr();
    }
    builder.aggregates();
    let rows = builder.case.program.instrs.iter().filter_map(|i| if let Instr::Probe(p) = i { Some(p.rows) } else { None });
    let mut all: Vec<Reg> = rows.chain(builder.bools.iter().copied()).chain(builder.ints.iter().map(|(r, _)| *r)).collect();
    all.retain(|_| builder.rng.one_in(3));
    builder.case.program.outputs = all;
    builder.case
}
