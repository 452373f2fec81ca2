//! The instructions of a program: per row, over typed registers, in a straight line. Plain data.
//!
//! Contract. An instruction reads registers written before it and writes its `out` once. `Filter` and
//! `Probe` change which rows are live; every later instruction sees the live rows only, so a fallible
//! instruction (checked arithmetic) never runs on a row that was filtered before it.
//! Decimals are integers here (their scale is known to whoever wrote the program); dates are `I32`.
//! Arithmetic on integers is exact: a `Decimal` register may hold 128-bit values for a chunk whose
//! values do not fit 64 bits (type `Decimal`); what does not fit 128 bits is an error.

use crate::value::Value;
use serde::{Deserialize, Serialize};

mod aggregate;
pub mod reference;

pub use aggregate::{Aggregate, AggregateOp, Fraction, KeyOrder, KeyOrders, Listing, Moment, Pick};

/// A register: the index of a column inside a program.
pub type Reg = u16;

/// The physical type of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Type {
    /// True or false.
    Bool,
    /// 32-bit signed integers, dates as days since 1970-01-01.
    I32,
    /// 64-bit signed integers, timestamps.
    I64,
    /// Decimals: exact integers at a scale fixed by the program, up to 128 bits, stored in 64 where
    /// the values fit.
    Decimal,
    /// 64-bit floats.
    F64,
    /// UTF-8 strings, dictionary encoded or as views.
    Str,
    /// Any other Arrow type: passed through, gathered, never computed on.
    Any,
}

/// The order of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CompareOp {
    /// `a = b`
    Eq,
    /// `a <> b`
    Ne,
    /// `a < b`
    Lt,
    /// `a <= b`
    Le,
    /// `a > b`
    Gt,
    /// `a >= b`
    Ge,
}

/// Element-wise arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ArithOp {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
}

/// Three-valued logic of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BoolOp {
    /// SQL `AND`: false wins over null.
    And,
    /// SQL `OR`: true wins over null.
    Or,
}

/// How a probe treats rows with and without a match. "Build" is the side in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JoinKind {
    /// Matching pairs.
    Inner,
    /// Matching pairs, and probe rows without a match (build columns null).
    ProbeOuter,
    /// Probe rows with a match, once.
    ProbeSemi,
    /// Probe rows without a match.
    ProbeAnti,
    /// Every probe row, with a boolean that tells whether it matched.
    ProbeMark,
    /// Matching pairs, and at the end build rows without a match (probe columns null).
    BuildOuter,
    /// At the end build rows with a match, once.
    BuildSemi,
    /// At the end build rows without a match.
    BuildAnti,
    /// At the end every build row, with a boolean that tells whether it matched.
    BuildMark,
    /// `ProbeOuter` and `BuildOuter` together.
    Full,
}

impl JoinKind {
    /// Whether build rows are emitted after the last probe row (a tail pass).
    pub fn has_tail(self) -> bool {
        use JoinKind::*;
        matches!(self, BuildOuter | BuildSemi | BuildAnti | BuildMark | Full)
    }

    /// Whether the main pass emits nothing (only the tail does).
    pub fn is_tail_only(self) -> bool {
        use JoinKind::*;
        matches!(self, BuildSemi | BuildAnti | BuildMark)
    }

    /// Whether a matching pair becomes a row (so that one probe row can become many).
    pub fn emits_pairs(self) -> bool {
        use JoinKind::*;
        matches!(self, Inner | ProbeOuter | BuildOuter | Full)
    }
}

/// A condition on matching pairs beyond key equality: instructions run over the pairs, and the
/// boolean register that says which of them count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Residual {
    /// Instructions over the pairs; may `Gather` from the probed table.
    pub instrs: Vec<Instr>,
    /// Boolean register: only true keeps the pair.
    pub cond: Reg,
}

/// The parameters of [`Instr::Probe`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Which of the stage's build tables.
    pub table: u16,
    /// Key registers, in the order of the table's keys.
    pub keys: Vec<Reg>,
    /// What becomes of rows with and without a match.
    pub kind: JoinKind,
    /// Null keys match null keys (`IS NOT DISTINCT FROM`); SQL's `=` never does.
    pub null_equals_null: bool,
    /// `NOT IN` semantics: a null among the keys of either side makes the anti join's answer unknown.
    pub null_aware: bool,
    /// Condition on pairs beyond the keys.
    pub residual: Option<Residual>,
    /// `I32` register of build row ids (null where there is none), read by `Gather`.
    pub rows: Reg,
    /// Boolean register of `ProbeMark` and `BuildMark`.
    pub mark: Option<Reg>,
}

/// One instruction. Fields: `a`, `b`, `cond`, `inputs`, `rows` are registers read, `out` is written.
#[expect(missing_docs, reason = "the fields are said above, once")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Instr {
    /// A constant for every row: entry `constant` of the program's table of constants.
    Const { constant: u16, out: Reg },
    /// Comparison; null if either side is null. Floats: -0 = +0, NaN = NaN and sorts last.
    Compare { op: CompareOp, a: Reg, b: Reg, out: Reg },
    /// Exact arithmetic; null if either side is null. `I32` and `I64` results that do not fit are an
    /// error where `checked`, else they wrap; decimals and floats do not look at it.
    Arith { op: ArithOp, a: Reg, b: Reg, ty: Type, checked: bool, out: Reg },
    /// AND, OR in three-valued logic.
    Bool { op: BoolOp, a: Reg, b: Reg, out: Reg },
    /// NOT; null stays null.
    Not { a: Reg, out: Reg },
    /// Whether the value is null (or is not, if `negated`). Never null.
    IsNull { a: Reg, negated: bool, out: Reg },
    /// `CASE WHEN cond THEN a ELSE b`; both sides were computed, so both must be infallible.
    Select { cond: Reg, a: Reg, b: Reg, out: Reg },
    /// Change of physical type. `Decimal` to `F64` divides by `10^scale`.
    Cast { a: Reg, to: Type, scale: i8, out: Reg },
    /// `a LIKE pattern` (or NOT LIKE), a pattern of literal parts and `%`; null of a null.
    Like { a: Reg, pattern: String, negated: bool, out: Reg },
    /// The start of the bin of `width` that the value lies in, counted from `origin`. Null of a null, and where the
    /// value, its distance from the origin or the bin's start, times `unit`, does not fit 64 bits. `width` and `unit` are positive.
    Bin { a: Reg, width: i64, origin: i64, unit: i64, out: Reg },
    /// A host function over the live rows (entry `call` of the program's calls): what no kernel covers.
    Call { call: u16, inputs: Vec<Reg>, out: Reg },
    /// Keep the rows whose condition is true.
    Filter { cond: Reg },
    /// Look keys up in a table built by another stage.
    Probe(Box<Probe>),
    /// Column `column` of build table `table` at the row ids of register `rows`.
    Gather { table: u16, column: u16, rows: Reg, out: Reg },
}

impl Instr {
    /// The registers this instruction reads.
    pub fn reads(&self) -> Vec<Reg> {
        match self {
            Instr::Const { .. } => vec![],
            Instr::Compare { a, b, .. } | Instr::Arith { a, b, .. } | Instr::Bool { a, b, .. } => vec![*a, *b],
            Instr::Not { a, .. } | Instr::IsNull { a, .. } | Instr::Cast { a, .. } | Instr::Like { a, .. } | Instr::Bin { a, .. } => {
                vec![*a]
            }
            Instr::Select { cond, a, b, .. } => vec![*cond, *a, *b],
            Instr::Call { inputs, .. } => inputs.clone(),
            Instr::Filter { cond } => vec![*cond],
            Instr::Gather { rows, .. } => vec![*rows],
            Instr::Probe(p) => {
                let mut reads = p.keys.clone();
                if let Some(residual) = &p.residual {
                    reads.extend(residual.instrs.iter().flat_map(Instr::reads));
                    reads.push(residual.cond);
                }
                reads
            }
        }
    }

    /// Calls `f` on every register that this instruction names.
    pub fn each_register(&mut self, f: &mut dyn FnMut(&mut Reg)) {
        match self {
            Instr::Const { out, .. } => f(out),
            Instr::Compare { a, b, out, .. } | Instr::Arith { a, b, out, .. } | Instr::Bool { a, b, out, .. } => {
                [a, b, out].into_iter().for_each(f);
            }
            Instr::Not { a, out }
            | Instr::IsNull { a, out, .. }
            | Instr::Cast { a, out, .. }
            | Instr::Like { a, out, .. }
            | Instr::Bin { a, out, .. } => [a, out].into_iter().for_each(f),
            Instr::Select { cond, a, b, out } => [cond, a, b, out].into_iter().for_each(f),
            Instr::Call { inputs, out, .. } => inputs.iter_mut().chain([out]).for_each(f),
            Instr::Filter { cond } => f(cond),
            Instr::Gather { rows, out, .. } => [rows, out].into_iter().for_each(f),
            Instr::Probe(p) => {
                p.keys.iter_mut().chain([&mut p.rows]).chain(p.mark.as_mut()).for_each(&mut *f);
                if let Some(residual) = &mut p.residual {
                    residual.instrs.iter_mut().for_each(|i| i.each_register(f));
                    f(&mut residual.cond);
                }
            }
        }
    }

    /// The register this instruction writes, if any.
    pub fn out(&self) -> Option<Reg> {
        match self {
            Instr::Const { out, .. }
            | Instr::Compare { out, .. }
            | Instr::Arith { out, .. }
            | Instr::Bool { out, .. }
            | Instr::Not { out, .. }
            | Instr::IsNull { out, .. }
            | Instr::Select { out, .. }
            | Instr::Cast { out, .. }
            | Instr::Like { out, .. }
            | Instr::Bin { out, .. }
            | Instr::Call { out, .. }
            | Instr::Gather { out, .. } => Some(*out),
            Instr::Probe(p) => Some(p.rows),
            Instr::Filter { .. } => None,
        }
    }
}

/// A literal of a program.
pub type Constant = Value;
