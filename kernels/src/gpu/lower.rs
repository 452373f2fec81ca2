//! Instructions into WGSL: one `let` a register, in a function that runs once a row.
//!
//! Invariant: an integer register is an `i32` if and only if its interval fits 32 bits, whatever its
//! declared type; otherwise it is an `Int64`. So narrow data computes narrow, and every kernel is a
//! plain function of the program and of which intervals fit. Literals and offsets are parameters in
//! the uniform: another date in the query, or another chunk size, is not another kernel.

use super::DeviceProgram;
use super::index::Index;
use super::range::Interval;
use crate::program::{ArithOp, BoolOp, CompareOp, Instr, Reg, Type};
use crate::value::Value;
use crate::{Error, Result};
use millstream_shaders::layout::{PARAM_WORDS_MAX, Params};
use std::collections::HashMap;
use std::fmt::Write;

mod joins;

/// How the values of a column lie in their array of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// One bit a row.
    Bits,
    /// One word a row.
    Word,
    /// Two words a row, the low one first.
    Pair,
}

/// A column on the device, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    /// Index of the buffer among its kind: 0 for input columns.
    pub buffer: usize,
    pub storage: Storage,
    /// Word offset of the values.
    pub values_at: u32,
    /// Word offset of the validity bits, if anything may be null.
    pub valid_at: Option<u32>,
    pub range: Interval,
}

/// A join table on the device.
#[derive(Clone, Debug)]
pub(super) struct PlacedTable {
    pub min_key: i64,
    pub found: Found,
    pub columns: Vec<Placed>,
}

/// How a join table on the device finds a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    /// One slot a key.
    Array { buffer: usize, at: u32, len: u32 },
    /// At the hash of the key.
    Hash(Index),
}

/// What the expression of a register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The literal null, of any type.
    Null,
    Bool,
    I32,
    Int64,
    /// Row ids of a join table, for `Gather`.
    Row,
}

/// A register: WGSL expressions, each a name or a literal.
#[derive(Clone, Debug)]
pub(super) struct Register {
    pub kind: Kind,
    pub value: String,
    /// Whether the value is there; `None` = always.
    pub valid: Option<String>,
    pub range: Interval,
}

impl Register {
    pub fn as_bool(&self) -> Result<String> {
        match self.kind {
            Kind::Bool => Ok(self.value.clone()),
            Kind::Null => Ok("false".into()),
            _ => Err(Error::bug("a boolean register holds something else")),
        }
    }

    /// For integers, and for booleans as 0 and 1.
    pub fn as_i32(&self) -> Result<String> {
        match self.kind {
            Kind::I32 => Ok(self.value.clone()),
            Kind::Bool => Ok(format!("select(0i, 1i, {})", self.value)),
            Kind::Null => Ok("0i".into()),
            Kind::Int64 | Kind::Row => Err(Error::bug("a 32-bit register holds something else")),
        }
    }

    pub fn as_int64(&self) -> Result<String> {
        match self.kind {
            Kind::Int64 => Ok(self.value.clone()),
            _ => Ok(format!("int64_from_i32({})", self.as_i32()?)),
        }
    }

    /// Whether the register is true: not false and not null.
    pub fn is_true(&self) -> Result<String> {
        Ok(and(&self.valid, &Some(self.as_bool()?)).unwrap_or_default())
    }

    fn is_integer(&self) -> bool {
        matches!(self.kind, Kind::I32 | Kind::Int64 | Kind::Null)
    }
}

/// The conjunction of two optional conditions.
pub(super) fn and(a: &Option<String>, b: &Option<String>) -> Option<String> {
    match (a, b) {
        (Some(a), Some(b)) if a == b => Some(a.clone()),
        (Some(a), Some(b)) => Some(format!("({a} && {b})")),
        (a, b) => a.clone().or_else(|| b.clone()),
    }
}

/// A program on its way into WGSL.
pub(super) struct Lowering<'a> {
    program: &'a DeviceProgram,
    columns: &'a [Placed],
    tables: &'a [PlacedTable],
    registers: HashMap<Reg, Register>,
    /// The statement that drops a row.
    drop: &'static str,
    /// Statements over `row`, each a line.
    pub body: String,
    /// Parameter words, in the order of their use.
    pub params: Vec<u32>,
    /// Sets of codes that are read: which, and the parameter word that has to say where its words begin.
    pub sets: Vec<(usize, usize)>,
}

impl<'a> Lowering<'a> {
    /// Lowers all instructions of `program`. `drop`: the statement that ends the row function for a row that is filtered.
    ///
    /// # Errors
    /// `Unsupported` for what the device does not do and for what may leave 64 bits.
    pub fn new(program: &'a DeviceProgram, columns: &'a [Placed], tables: &'a [PlacedTable], drop: &'static str) -> Result<Self> {
        let mut lowering =
            Self { program, columns, tables, registers: HashMap::new(), drop, body: String::new(), params: Vec::new(), sets: Vec::new() };
        for instr in &program.instrs {
            lowering.instr(instr)?;
        }
        Ok(lowering)
    }

    /// Appends a statement.
    pub fn line(&mut self, text: &str) {
        let _ = writeln!(self.body, "    {text}");
    }

    /// A new parameter word, as an expression.
    pub fn param(&mut self, word: u32) -> Result<String> {
        if self.params.len() == PARAM_WORDS_MAX {
            return Err(Error::unsupported("gpu: the program has too many literals and columns"));
        }
        self.params.push(word);
        Ok(Params::word(self.params.len() - 1))
    }

    fn param64(&mut self, value: i64) -> Result<String> {
        let (low, high) = (self.param(value as u32)?, self.param((value >> 32) as u32)?);
        Ok(format!("int64_words({low}, {high})"))
    }

    /// Register `reg`; an input column is loaded where it is first read.
    pub fn read(&mut self, reg: Reg) -> Result<Register> {
        if let Some(register) = self.registers.get(&reg) {
            return Ok(register.clone());
        }
        if let Some(set) = self.program.sets.iter().position(|set| set.out == reg) {
            return self.member(set);
        }
        let column = self.columns.get(usize::from(reg)).cloned();
        let column = column.ok_or_else(|| Error::bug(format!("register {reg} is read before it is written")))?;
        let (kind, value, valid) = self.load(&column, "columns", "row")?;
        self.define(reg, kind, value, valid, column.range)
    }

    /// Names `value` and `valid`, once each.
    fn define(&mut self, reg: Reg, kind: Kind, value: String, valid: Option<String>, range: Interval) -> Result<Register> {
        self.line(&format!("let r{reg} = {value};"));
        if let Some(valid) = &valid {
            self.line(&format!("let v{reg} = {valid};"));
        }
        let register = Register { kind, value: format!("r{reg}"), valid: valid.map(|_| format!("v{reg}")), range };
        match self.registers.insert(reg, register.clone()) {
            None => Ok(register),
            Some(_) => Err(Error::bug(format!("register {reg} is written twice"))),
        }
    }

    fn bit(&mut self, array: &str, at: u32, index: &str) -> Result<String> {
        let at = self.param(at)?;
        Ok(format!("(({array}[{at} + ({index} >> 5u)] >> ({index} & 31u)) & 1u) != 0u"))
    }

    /// The value and validity of `column` at row `index`.
    fn load(&mut self, column: &Placed, array: &str, index: &str) -> Result<(Kind, String, Option<String>)> {
        let valid = match column.valid_at {
            Some(at) => Some(self.bit(array, at, index)?),
            None => None,
        };
        if column.storage == Storage::Bits {
            return Ok((Kind::Bool, self.bit(array, column.values_at, index)?, valid));
        }
        let at = self.param(column.values_at)?;
        Ok(match (column.storage, column.range.fits_i32()) {
            (Storage::Pair, false) => {
                let low = format!("{array}[{at} + 2u * {index}]");
                let high = format!("{array}[{at} + 2u * {index} + 1u]");
                (Kind::Int64, format!("int64_words({low}, {high})"), valid)
            }
            (Storage::Pair, true) => (Kind::I32, format!("bitcast<i32>({array}[{at} + 2u * {index}])"), valid),
            _ => (Kind::I32, format!("bitcast<i32>({array}[{at} + {index}])"), valid),
        })
    }

    /// Whether a code is in set `set`: a bit of the parameters. A null code gives null.
    fn member(&mut self, set: usize) -> Result<Register> {
        let of = self.program.sets[set];
        let code = self.read(of.code)?;
        self.sets.push((set, self.params.len()));
        let base = self.param(0)?;
        let out = of.out;
        self.line(&format!("let q{out} = bitcast<u32>({});", code.as_i32()?));
        self.line(&format!("let w{out} = {base} + (q{out} >> 5u);"));
        let bit = format!("((params.words[w{out} / 4u][w{out} % 4u] >> (q{out} & 31u)) & 1u) != 0u");
        self.define(out, Kind::Bool, bit, code.valid, Interval::BOOL)
    }

    fn instr(&mut self, instr: &Instr) -> Result<()> {
        match instr {
            Instr::Const { constant, out } => self.constant(*constant, *out),
            Instr::Compare { op, a, b, out } => self.compare(*op, *a, *b, *out),
            Instr::Arith { op, a, b, ty, out, .. } => self.arith(*op, *a, *b, *ty, *out),
            Instr::Bool { op, a, b, out } => self.logic(*op, *a, *b, *out),
            Instr::Not { a, out } => {
                let a = self.read(*a)?;
                self.boolean(*out, format!("!{}", a.as_bool()?), a.valid)
            }
            Instr::IsNull { a, negated, out } => {
                let valid = self.read(*a)?.valid.unwrap_or_else(|| "true".into());
                self.boolean(*out, if *negated { valid } else { format!("!{valid}") }, None)
            }
            Instr::Select { cond, a, b, out } => self.select(*cond, *a, *b, *out),
            Instr::Cast { a, to, out, .. } => self.cast(*a, *to, *out),
            Instr::Like { .. } => Err(Error::unsupported("gpu: LIKE runs on the host only")),
            Instr::Bin { .. } => Err(Error::unsupported("gpu: bins of time run on the host only")),
            Instr::Call { .. } => Err(Error::unsupported("gpu: Call runs on the host only")),
            Instr::Filter { cond } => {
                let keep = self.read(*cond)?.is_true()?;
                self.line(&format!("if (!{keep}) {{ {} }}", self.drop));
                Ok(())
            }
            Instr::Probe(probe) => self.probe(probe),
            Instr::Gather { table, column, rows, out } => self.gather(*table, *column, *rows, *out),
        }
    }

    fn boolean(&mut self, out: Reg, value: String, valid: Option<String>) -> Result<()> {
        self.define(out, Kind::Bool, value, valid, Interval::BOOL).map(|_| ())
    }

    /// Defines an integer, given as 64 bits if `wide`; brings it to the form its interval demands.
    fn integer(&mut self, out: Reg, value: String, wide: bool, valid: Option<String>, range: Interval) -> Result<()> {
        let (kind, value) = match (wide, range.fits_i32()) {
            (true, true) => (Kind::I32, format!("bitcast<i32>(int64_low({value}))")),
            (true, false) => (Kind::Int64, value),
            (false, true) => (Kind::I32, value),
            (false, false) => (Kind::Int64, format!("int64_from_i32({value})")),
        };
        self.define(out, kind, value, valid, range).map(|_| ())
    }

    fn constant(&mut self, constant: u16, out: Reg) -> Result<()> {
        let value = self.program.constants.get(usize::from(constant));
        match value.ok_or_else(|| Error::bug(format!("there is no constant {constant}")))? {
            Value::Null => {
                let none = Register { kind: Kind::Null, value: "false".into(), valid: Some("false".into()), range: Interval::ZERO };
                match self.registers.insert(out, none) {
                    None => Ok(()),
                    Some(_) => Err(Error::bug(format!("register {out} is written twice"))),
                }
            }
            Value::Bool(v) => self.boolean(out, v.to_string(), None),
            Value::Int(v) => {
                let small = i64::try_from(*v).map_err(|_| Error::unsupported("gpu: range: a literal needs more than 64 bits"))?;
                let range = Interval::point(*v);
                if range.fits_i32() {
                    let word = self.param(small as u32)?;
                    self.integer(out, format!("bitcast<i32>({word})"), false, None, range)
                } else {
                    let words = self.param64(small)?;
                    self.integer(out, words, true, None, range)
                }
            }
            Value::F64(_) => Err(Error::unsupported("gpu: Const of a float")),
            Value::Str(_) => Err(Error::unsupported("gpu: Const of a string")),
        }
    }

    fn compare(&mut self, op: CompareOp, a: Reg, b: Reg, out: Reg) -> Result<()> {
        let (a, b) = (self.read(a)?, self.read(b)?);
        let valid = and(&a.valid, &b.valid);
        let value = if a.kind == Kind::Int64 || b.kind == Kind::Int64 {
            let (x, y) = (a.as_int64()?, b.as_int64()?);
            match op {
                CompareOp::Eq => format!("int64_eq({x}, {y})"),
                CompareOp::Ne => format!("!int64_eq({x}, {y})"),
                CompareOp::Lt => format!("int64_lt({x}, {y})"),
                CompareOp::Le => format!("!int64_lt({y}, {x})"),
                CompareOp::Gt => format!("int64_lt({y}, {x})"),
                CompareOp::Ge => format!("!int64_lt({x}, {y})"),
            }
        } else {
            let sign = match op {
                CompareOp::Eq => "==",
                CompareOp::Ne => "!=",
                CompareOp::Lt => "<",
                CompareOp::Le => "<=",
                CompareOp::Gt => ">",
                CompareOp::Ge => ">=",
            };
            format!("({} {sign} {})", a.as_i32()?, b.as_i32()?)
        };
        self.boolean(out, value, valid)
    }

    fn arith(&mut self, op: ArithOp, a: Reg, b: Reg, ty: Type, out: Reg) -> Result<()> {
        let (a, b) = (self.read(a)?, self.read(b)?);
        if !a.is_integer() || !b.is_integer() || !matches!(ty, Type::I32 | Type::I64 | Type::Decimal) {
            return Err(Error::unsupported(format!("gpu: Arith {op:?} of type {ty:?}")));
        }
        let range = a.range.arith(op, b.range);
        if !(if ty == Type::I32 { range.fits_i32() } else { range.fits_i64() }) {
            return Err(Error::unsupported(format!("gpu: range: Arith {op:?} may leave {ty:?}")));
        }
        let valid = and(&a.valid, &b.valid);
        let narrow = a.kind != Kind::Int64 && b.kind != Kind::Int64;
        let (name, sign) = match op {
            ArithOp::Add => ("int64_add", '+'),
            ArithOp::Sub => ("int64_sub", '-'),
            ArithOp::Mul => ("int64_mul", '*'),
        };
        let (value, wide) = if narrow && range.fits_i32() {
            (format!("{} {sign} {}", a.as_i32()?, b.as_i32()?), false)
        } else if narrow && op == ArithOp::Mul {
            (format!("int64_mul_i32({}, {})", a.as_i32()?, b.as_i32()?), true)
        } else {
            (format!("{name}({}, {})", a.as_int64()?, b.as_int64()?), true)
        };
        self.integer(out, value, wide, valid, range)
    }

    /// Three-valued logic. Where both sides are valid the plain operator is right; otherwise the
    /// result is valid only if one side decides, and then the expressions below hold that value.
    fn logic(&mut self, op: BoolOp, a: Reg, b: Reg, out: Reg) -> Result<()> {
        let (a, b) = (self.read(a)?, self.read(b)?);
        let (x, y) = (a.as_bool()?, b.as_bool()?);
        let sign = if op == BoolOp::And { "&&" } else { "||" };
        let Some(both) = and(&a.valid, &b.valid) else {
            return self.boolean(out, format!("({x} {sign} {y})"), None);
        };
        let side = |register: &Register, value: &str| match &register.valid {
            Some(valid) => format!("({valid} && {value})"),
            None => value.to_string(),
        };
        let (value, decided) = match op {
            BoolOp::And => (format!("({x} && {y})"), format!("{} || {}", side(&a, &format!("!{x}")), side(&b, &format!("!{y}")))),
            BoolOp::Or => {
                let either = format!("({} || {})", side(&a, &x), side(&b, &y));
                (either.clone(), either)
            }
        };
        self.boolean(out, value, Some(format!("{both} || {decided}")))
    }

    fn select(&mut self, cond: Reg, a: Reg, b: Reg, out: Reg) -> Result<()> {
        let (cond, a, b) = (self.read(cond)?.is_true()?, self.read(a)?, self.read(b)?);
        let valid = match (&a.valid, &b.valid) {
            (None, None) => None,
            (x, y) => {
                let side = |v: &Option<String>| v.clone().unwrap_or_else(|| "true".into());
                Some(format!("select({}, {}, {cond})", side(y), side(x)))
            }
        };
        match (a.kind, b.kind) {
            (Kind::Row, _) | (_, Kind::Row) => Err(Error::unsupported("gpu: Select of row ids")),
            (Kind::Bool, _) | (_, Kind::Bool) => self.boolean(out, format!("select({}, {}, {cond})", b.as_bool()?, a.as_bool()?), valid),
            (x, y) => {
                let range = a.range.union(b.range);
                if x == Kind::Int64 || y == Kind::Int64 {
                    let value = format!("int64_select({}, {}, {cond})", b.as_int64()?, a.as_int64()?);
                    self.integer(out, value, true, valid, range)
                } else {
                    let value = format!("select({}, {}, {cond})", b.as_i32()?, a.as_i32()?);
                    self.integer(out, value, false, valid, range)
                }
            }
        }
    }

    fn cast(&mut self, a: Reg, to: Type, out: Reg) -> Result<()> {
        let a = self.read(a)?;
        let fits = match to {
            Type::I32 => a.range.fits_i32(),
            Type::I64 | Type::Decimal => true,
            _ => return Err(Error::unsupported(format!("gpu: Cast to {to:?}"))),
        };
        if !a.is_integer() || !fits {
            return Err(Error::unsupported(format!("gpu: Cast to {to:?}")));
        }
        if a.kind == Kind::Int64 {
            self.integer(out, a.value, true, a.valid, a.range)
        } else {
            self.integer(out, a.as_i32()?, false, a.valid, a.range)
        }
    }
}
