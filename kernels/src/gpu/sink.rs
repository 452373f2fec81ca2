//! The group sink: which words a group has, and how a row, a workgroup and a result reach them.
//!
//! A group is a run of u32 words, all zero when empty. Word 0 counts its rows. Sums are 96-bit two's
//! complement: exact for 2^32 rows of any 64-bit value. Least and greatest values are stored so that
//! the larger word wins: biased to unsigned order, complemented for the least. Those of 64 bits take
//! two passes over the chunk, the high words first; `settle` between them forgets stale low words.
//! Counts are u32 words: whoever pushes rows drains the groups before 2^32 of them.

use super::DeviceProgram;
use super::lower::{Kind, Lowering, Register, and};
use crate::program::{Aggregate, AggregateOp, Reg, Type};
use crate::{Error, Result};
use millstream_shaders::layout::{CELL_COUNT, CELL_GREATEST, CELL_KINDS, CELL_SUM, SUM_WORDS, WIDE_HIGH, WIDE_LOW, WIDE_WORDS};
use std::fmt::Write;

/// What a run of words holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CellKind {
    /// One word.
    Count,
    /// Three words.
    Sum,
    /// One word: a 32-bit value; the least if `least`, else the greatest.
    Narrow { least: bool },
    /// Three words: a 64-bit value.
    Wide { least: bool },
}

impl CellKind {
    fn words(self) -> u32 {
        match self {
            CellKind::Count | CellKind::Narrow { .. } => 1,
            CellKind::Sum => SUM_WORDS,
            CellKind::Wide { .. } => WIDE_WORDS,
        }
    }
}

/// A cell of every group: its kind and first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub kind: CellKind,
    pub at: u32,
}

/// The words of a group. Equal cells mean that partial results of two kernels may be mixed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cells {
    /// Words of a group.
    pub words: u32,
    /// All cells, without overlap.
    pub cells: Vec<Cell>,
    /// Of each aggregate: the word that counts its values, and the cell of its value.
    pub aggregates: Vec<(u32, Option<Cell>)>,
}

impl Cells {
    /// Whether a second pass is needed.
    pub fn has_wide(&self) -> bool {
        self.cells.iter().any(|c| matches!(c.kind, CellKind::Wide { .. }))
    }
}

/// What identifies a cell among those of a program, so that `sum(x)` and `avg(x)` share theirs.
type Source = (CellKind, Option<Reg>, Option<Reg>);

/// The text of a row's way into its group, as the cells come to be known.
pub(super) struct Sink {
    pub cells: Cells,
    sources: Vec<Source>,
    high: String,
    low: String,
}

impl Sink {
    /// Lays out the cells of `program` and writes the statements that update them in array `table`.
    ///
    /// # Errors
    /// `Unsupported` for aggregates that the device does not do.
    pub fn new(program: &DeviceProgram, lowering: &mut Lowering, table: &str) -> Result<Self> {
        let mut sink = Self { cells: Cells::default(), sources: Vec::new(), high: String::new(), low: String::new() };
        sink.count(None, None, None, table);
        for aggregate in &program.aggregates {
            let entry = sink.aggregate(aggregate, lowering, table)?;
            sink.cells.aggregates.push(entry);
        }
        Ok(sink)
    }

    fn aggregate(&mut self, a: &Aggregate, lowering: &mut Lowering, table: &str) -> Result<(u32, Option<Cell>)> {
        let filter = a.filter.map(|reg| lowering.read(reg)?.is_true()).transpose()?;
        let arg = a.arg.map(|reg| lowering.read(reg)).transpose()?;
        let valid = arg.as_ref().and_then(|arg| arg.valid.clone());
        let when = and(&filter, &valid);
        let nullable = a.arg.filter(|_| valid.is_some());
        let count = self.count(nullable, a.filter, when.clone(), table);
        let kind = match (a.op, a.ty) {
            (AggregateOp::Count, _) => return Ok((count, None)),
            (AggregateOp::Sum, Type::I32 | Type::I64 | Type::Decimal) => CellKind::Sum,
            (AggregateOp::Min, Type::I32) => CellKind::Narrow { least: true },
            (AggregateOp::Max, Type::I32) => CellKind::Narrow { least: false },
            (AggregateOp::Min, Type::I64 | Type::Decimal) => CellKind::Wide { least: true },
            (AggregateOp::Max, Type::I64 | Type::Decimal) => CellKind::Wide { least: false },
            (op, ty) => return Err(Error::unsupported(format!("gpu: aggregate {op:?} of {ty:?}"))),
        };
        let arg = arg.ok_or_else(|| Error::bug(format!("aggregate {:?} without an argument", a.op)))?;
        let (cell, new) = self.cell((kind, a.arg, a.filter));
        if new {
            self.update(cell, &arg, when, table)?;
        }
        Ok((count, Some(cell)))
    }

    /// The cell of `source`, and whether it is a new one.
    fn cell(&mut self, source: Source) -> (Cell, bool) {
        if let Some(i) = self.sources.iter().position(|s| *s == source) {
            return (self.cells.cells[i], false);
        }
        let cell = Cell { kind: source.0, at: self.cells.words };
        self.cells.words += source.0.words();
        self.cells.cells.push(cell);
        self.sources.push(source);
        (cell, true)
    }

    /// The word that counts rows where `when` holds.
    fn count(&mut self, arg: Option<Reg>, filter: Option<Reg>, when: Option<String>, table: &str) -> u32 {
        let (cell, new) = self.cell((CellKind::Count, arg, filter));
        if new {
            let _ = writeln!(self.high, "    {table}_count(at + {}u, {});", cell.at, counted(&when, "1u"));
        }
        cell.at
    }

    fn update(&mut self, cell: Cell, arg: &Register, when: Option<String>, table: &str) -> Result<()> {
        let at = cell.at;
        let flip = |least: bool| if least { "~" } else { "" };
        match cell.kind {
            CellKind::Count => {}
            CellKind::Sum => {
                let [low, middle, high] = match arg.kind {
                    Kind::Int64 => {
                        let v = &arg.value;
                        let sign = format!("bitcast<u32>(bitcast<i32>(int64_high({v})) >> 31u)");
                        [format!("int64_low({v})"), format!("int64_high({v})"), sign]
                    }
                    _ => {
                        let v = arg.as_i32()?;
                        let sign = format!("bitcast<u32>({v} >> 31u)");
                        [format!("bitcast<u32>({v})"), sign.clone(), sign]
                    }
                }
                .map(|word| counted(&when, &word));
                let _ = writeln!(self.high, "    {table}_sum(at + {at}u, {low}, {middle}, {high});");
            }
            CellKind::Narrow { least } => {
                let key = format!("{}(bitcast<u32>({}) ^ 0x80000000u)", flip(least), arg.as_i32()?);
                let key = counted(&when, &key);
                let _ = writeln!(self.high, "    {table}_greatest(at + {at}u, {key});");
            }
            CellKind::Wide { least } => {
                let (v, flip) = (arg.as_int64()?, flip(least));
                let high = format!("{flip}(int64_high({v}) ^ 0x80000000u)");
                let leads = format!("atomicLoad(&groups[group * GROUP_WORDS + {at}u + WIDE_HIGH]) == {high}");
                let high = counted(&when, &high);
                let low = counted(&and(&when, &Some(leads)), &format!("{flip}int64_low({v})"));
                let _ = writeln!(self.high, "    {table}_greatest(at + {at}u + WIDE_HIGH, {high});");
                let _ = writeln!(self.low, "    {table}_greatest(at + {at}u + WIDE_LOW, {low});");
            }
        }
        Ok(())
    }

    /// The function of one row in pass `pass`: the program, the group's index, the updates.
    pub fn row_function(&self, pass: &str, body: &str, group: &str) -> String {
        let updates = if pass == "high" { &self.high } else { &self.low };
        let at = "    let at = base + group * GROUP_WORDS;\n";
        format!("fn {pass}_row(row: u32, base: u32) {{\n{body}{group}{at}{updates}}}\n")
    }

    /// The descriptors of the cells that pass `pass` changes.
    pub fn descriptors(&self, pass: &str) -> Vec<u32> {
        let cells = self.cells.cells.iter().filter_map(|cell| match (cell.kind, pass) {
            (CellKind::Count, "high") => Some((cell.at, CELL_COUNT)),
            (CellKind::Sum, "high") => Some((cell.at, CELL_SUM)),
            (CellKind::Narrow { .. }, "high") => Some((cell.at, CELL_GREATEST)),
            (CellKind::Wide { .. }, "high") => Some((cell.at + WIDE_HIGH, CELL_GREATEST)),
            (CellKind::Wide { .. }, _) => Some((cell.at + WIDE_LOW, CELL_GREATEST)),
            _ => None,
        });
        cells.map(|(at, kind)| at * CELL_KINDS + kind).collect()
    }
}

/// `word` where the row counts, and zero, which changes no cell, where it does not.
fn counted(when: &Option<String>, word: &str) -> String {
    match when {
        Some(when) => format!("select(0u, {word}, {when})"),
        None => word.to_string(),
    }
}

/// Statements that leave the row's group index in `group`, and the number of groups.
///
/// # Errors
/// `Bug` for a key that may lie outside its cardinality, `Unsupported` for more groups than u32.
pub(super) fn group_index(keys: &[(Reg, u32)], lowering: &mut Lowering) -> Result<(String, u32)> {
    let mut text = String::new();
    let mut groups = 1u32;
    let mut group = "0u".to_string();
    for (i, (reg, cardinality)) in keys.iter().enumerate() {
        let key = lowering.read(*reg)?;
        let codes = i128::from(*cardinality) - i128::from(key.valid.is_some());
        let null_only = key.kind == Kind::Null || codes == 0 && key.range.low == 0 && key.range.high == 0;
        if !null_only && (key.range.low < 0 || key.range.high >= codes) {
            return Err(Error::bug(format!("group key in register {reg} exceeds its {cardinality} codes")));
        }
        groups = groups.checked_mul(*cardinality).ok_or_else(|| Error::unsupported("gpu: more groups than fit an array of them"))?;
        let cardinality = lowering.param(*cardinality)?;
        let code = format!("bitcast<u32>({})", key.as_i32()?);
        let code = match &key.valid {
            Some(valid) => format!("select({cardinality} - 1u, {code}, {valid})"),
            None => code,
        };
        let _ = writeln!(text, "    let k{i} = {code};");
        group = if i == 0 { "k0".into() } else { format!("({group} * {cardinality} + k{i})") };
    }
    let _ = writeln!(text, "    let group = {group};");
    Ok((text, groups))
}
