//! The row sink: which rows survive a program, and the registers that come back of them.
//!
//! Three passes (`select.wgsl`): the program over every row for a bitmap, a scan of its counts, the program
//! over the rows that survive for their values. The output is one array of words: what the passes tell one
//! another, then row numbers, then a word of flags a row (booleans and validity, a bit each; as many words as
//! it takes), then the values of each register. Each of these parts has room for all rows of the chunk and
//! comes home as far as rows survive.

use super::DeviceProgram;
use super::kernel::{Capabilities, Kernel, SELECT_PASSES, head};
use super::lower::{Kind, Lowering, Placed, PlacedTable, Register};
use crate::{Error, ErrorKind, Result};
use millstream_shaders as shaders;
use millstream_shaders::layout::{Output, PARAM_WORDS_MAX, SELECTED_BITS, TILE_WORDS, WORKGROUP_SIZE};
use std::fmt::Write;

/// The rows of a push that survived, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectedRows {
    /// Which rows of the push.
    pub rows: Vec<u32>,
    /// Each output of the program, one value a surviving row.
    pub columns: Vec<Selected>,
}

/// The values of a register. Where a row is null its value is arbitrary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// One value a row.
    pub values: SelectedValues,
    /// 1 = valid, 0 = null, one byte a row; absent when the register cannot be null.
    pub valid: Option<Vec<u8>>,
}

/// Values, as narrow as the measured ranges allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectedValues {
    /// 0 or 1 a row.
    Bool(Vec<u8>),
    /// Integers that all fit 32 bits, also of registers of 64; row ids of a probe, -1 where there is none.
    I32(Vec<i32>),
    /// 64-bit integers.
    I64(Vec<i64>),
}

/// Bits of a word of flags.
const FLAGS: usize = 32;

/// A register in the output.
#[derive(Clone, Copy, Debug)]
struct Column {
    /// Words of a value; none of a boolean, which is a flag.
    words: u32,
    /// The flag of a boolean's value.
    value: Option<usize>,
    /// The flag of the validity.
    valid: Option<usize>,
}

/// How the words that come home are to be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Returned {
    /// First word, and words a row: row numbers, flags, values.
    pub parts: Vec<(u32, u32)>,
    flag_words: usize,
    columns: Vec<Column>,
}

/// Words of a row of `outputs` registers, at most: its number, flags, values, and its share of bitmap and counts.
pub(super) fn row_words(outputs: usize) -> usize {
    2 + (2 * outputs).div_ceil(FLAGS) + 2 * outputs
}

/// The text of a kernel's stores, and the flags seen so far.
#[derive(Default)]
struct Stores {
    text: String,
    flags: Vec<String>,
}

impl Stores {
    fn flag(&mut self, condition: &str) -> usize {
        let bit = self.flags.len() % FLAGS;
        self.flags.push(format!("select(0u, {}u, {condition})", 1u32 << bit));
        self.flags.len() - 1
    }

    /// Stores the value of `register` in the part that begins at `at`.
    fn value(&mut self, register: &Register, at: &str) -> Result<()> {
        let value = &register.value;
        let _ = match register.kind {
            Kind::Int64 => writeln!(
                self.text,
                "    selected[{at} + 2u * to] = int64_low({value});\n    selected[{at} + 2u * to + 1u] = int64_high({value});"
            ),
            Kind::Row => {
                let valid = register.valid.as_deref().unwrap_or("true");
                writeln!(self.text, "    selected[{at} + to] = select(0xffffffffu, {value}, {valid});")
            }
            _ => writeln!(self.text, "    selected[{at} + to] = bitcast<u32>({});", register.as_i32()?),
        };
        Ok(())
    }
}

/// The words of the sets that are read, behind all other parameters.
fn append_sets(lowering: &mut Lowering, sets: &[&[u32]]) -> Result<()> {
    for (set, word) in std::mem::take(&mut lowering.sets) {
        let bits = sets.get(set).ok_or_else(|| Error::bug("a set of codes that was not given"))?;
        lowering.params[word] = lowering.params.len() as u32;
        if lowering.params.len() + bits.len() > PARAM_WORDS_MAX {
            return Err(Error::unsupported("gpu: a set of codes with too many of them"));
        }
        lowering.params.extend_from_slice(bits);
    }
    Ok(())
}

impl Kernel {
    /// Generates the kernel that selects rows of `program`, for a chunk of `rows`. `sets`: a bit a code.
    ///
    /// # Errors
    /// As [`Kernel::generate`], `Unsupported` also for sets that are too large; `Exhausted` where the output does not
    /// fit a buffer.
    pub fn select(
        program: &DeviceProgram,
        sets: &[&[u32]],
        columns: &[Placed],
        tables: &[PlacedTable],
        table_buffers: usize,
        rows: u32,
        capabilities: &Capabilities,
    ) -> Result<(Self, Returned)> {
        let mut lowering = Lowering::new(program, columns, tables, "return false;")?;
        let survives = lowering.body.clone();
        let tiles = rows.div_ceil(WORKGROUP_SIZE);
        let counts = SELECTED_BITS + tiles * TILE_WORDS;
        let mut output = Parts { end: u64::from(counts + tiles), rows: rows.into(), returned: Returned::default() };
        let counts_at = lowering.param(counts)?;
        let rows_at = lowering.param(output.add(1))?;
        let mut stores = Stores::default();
        let _ = writeln!(stores.text, "    selected[{rows_at} + to] = row;");
        let registers = program.outputs.iter().map(|r| lowering.read(*r)).collect::<Result<Vec<_>>>()?;
        for register in &registers {
            let value = (register.kind == Kind::Bool).then(|| stores.flag(&register.value));
            // A row id says itself that it is none.
            let valid = register.valid.as_ref().filter(|_| register.kind != Kind::Row).map(|valid| stores.flag(valid));
            let words = match register.kind {
                Kind::Bool => 0,
                Kind::Int64 => 2,
                Kind::Null | Kind::I32 | Kind::Row => 1,
            };
            output.returned.columns.push(Column { words, value, valid });
        }
        for flags in stores.flags.chunks(FLAGS) {
            let at = lowering.param(output.add(1))?;
            let _ = writeln!(stores.text, "    selected[{at} + to] = {};", flags.join(" | "));
            output.returned.flag_words += 1;
        }
        for register in registers.iter().filter(|r| r.kind != Kind::Bool) {
            let at = lowering.param(output.add(if register.kind == Kind::Int64 { 2 } else { 1 }))?;
            stores.value(register, &at)?;
        }
        let (output_words, returned) = output.finish(capabilities)?;
        append_sets(&mut lowering, sets)?;
        let mut source = head(table_buffers, Output::Rows, capabilities);
        let _ = writeln!(source, "fn counts_at() -> u32 {{ return {counts_at}; }}");
        let _ = writeln!(source, "fn survives(row: u32) -> bool {{\n{survives}    return true;\n}}");
        let (body, stores) = (&lowering.body, &stores.text);
        let _ = writeln!(source, "fn fill_row(row: u32, to: u32) -> bool {{\n{body}{stores}    return true;\n}}");
        source += shaders::SELECT.source;
        let kernel = Self {
            source,
            tables: table_buffers,
            has_columns: true,
            params: lowering.params,
            passes: SELECT_PASSES,
            output_words,
            groups: 0,
            rows_per_workgroup: WORKGROUP_SIZE,
        };
        Ok((kernel, returned))
    }
}

/// The output as its parts are laid out.
struct Parts {
    end: u64,
    rows: u64,
    returned: Returned,
}

impl Parts {
    /// The first word of a new part. Past the end of all words it is wrong, and [`Parts::finish`] says so.
    fn add(&mut self, words: u32) -> u32 {
        let at = self.end as u32;
        self.end += u64::from(words) * self.rows;
        self.returned.parts.push((at, words));
        at
    }

    fn finish(self, capabilities: &Capabilities) -> Result<(u32, Returned)> {
        let words = u32::try_from(self.end).ok().filter(|_| self.end * 4 <= capabilities.binding_bytes_max);
        let words = words.ok_or_else(|| Error::new(ErrorKind::Exhausted, "gpu: the rows of a chunk do not fit a buffer"))?;
        Ok((words, self.returned))
    }
}

impl Returned {
    /// Adds the `rows` rows in `words` to `all`; the chunk began at row `first` of the push.
    ///
    /// # Errors
    /// `Bug` when there are too few words.
    pub fn read(&self, words: &[u32], rows: usize, first: u32, all: &mut SelectedRows) -> Result<()> {
        let mut rest = words;
        let mut part = |words: u32| {
            let (part, after) = rest.split_at_checked(words as usize * rows).ok_or_else(|| Error::bug("too few words came back"))?;
            rest = after;
            Ok::<_, Error>(part)
        };
        all.rows.extend(part(1)?.iter().map(|row| row + first));
        let flags = (0..self.flag_words).map(|_| part(1)).collect::<Result<Vec<_>>>()?;
        let bits = |flag: usize| flags[flag / FLAGS].iter().map(move |word| (word >> (flag % FLAGS)) as u8 & 1);
        let fresh = all.columns.is_empty();
        for (i, column) in self.columns.iter().enumerate() {
            let values = match (column.value, column.words) {
                (Some(flag), _) => SelectedValues::Bool(bits(flag).collect()),
                (None, 2) => {
                    let pairs = part(2)?.chunks_exact(2);
                    SelectedValues::I64(pairs.map(|p| (u64::from(p[1]) << 32 | u64::from(p[0])) as i64).collect())
                }
                (None, words) => SelectedValues::I32(part(words)?.iter().map(|word| *word as i32).collect()),
            };
            let column = Selected { values, valid: column.valid.map(|flag| bits(flag).collect()) };
            if fresh { all.columns.push(column) } else { all.columns[i].append(column) }
        }
        Ok(())
    }
}

impl Selected {
    /// Number of values.
    pub fn len(&self) -> usize {
        match &self.values {
            SelectedValues::Bool(v) => v.len(),
            SelectedValues::I32(v) => v.len(),
            SelectedValues::I64(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the values of a later chunk, which may be wider or narrower.
    fn append(&mut self, other: Selected) {
        if self.valid.is_some() || other.valid.is_some() {
            let before = self.len();
            let valid = self.valid.get_or_insert_with(|| vec![1; before]);
            match &other.valid {
                Some(more) => valid.extend(more),
                None => valid.resize(before + other.len(), 1),
            }
        }
        if let (SelectedValues::I32(narrow), SelectedValues::I64(_)) = (&self.values, &other.values) {
            self.values = SelectedValues::I64(narrow.iter().map(|v| i64::from(*v)).collect());
        }
        match (&mut self.values, other.values) {
            (SelectedValues::Bool(all), SelectedValues::Bool(more)) => all.extend(more),
            (SelectedValues::I32(all), SelectedValues::I32(more)) => all.extend(more),
            (SelectedValues::I64(all), SelectedValues::I64(more)) => all.extend(more),
            (SelectedValues::I64(all), SelectedValues::I32(more)) => all.extend(more.iter().map(|v| i64::from(*v))),
            // A register is a boolean in every chunk or in none; the literal null is 0 either way.
            _ => {}
        }
    }
}
