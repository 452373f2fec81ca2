//! One WGSL module per program: declarations, libraries, generated functions, entry points.

use super::DeviceProgram;
use super::lower::{Lowering, Placed, PlacedTable};
use super::sink::{Cells, Sink, group_index};
use crate::{Error, Result};
use millstream_shaders as shaders;
use millstream_shaders::layout::{self, LOCAL_WORDS_MAX, Output, REPLICAS_MAX, WORKGROUP_SIZE};

/// What the generated code may use of its device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capabilities {
    /// 64-bit integers in shaders.
    pub int64: bool,
    /// Bytes of a binding, at most.
    pub binding_bytes_max: u64,
    /// Workgroups of a dispatch, at most.
    pub workgroups_max: u32,
}

/// One dispatch of a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    pub entry: &'static str,
    /// By one workgroup, not by all.
    pub alone: bool,
}

/// A generated kernel and the parameters of its dispatches.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// The WGSL module: the identity of a compiled kernel.
    pub source: String,
    /// Buffers of join tables.
    pub tables: usize,
    /// Whether it reads columns.
    pub has_columns: bool,
    /// Parameter words.
    pub params: Vec<u32>,
    /// In this order, each after what the ones before have written.
    pub passes: &'static [Pass],
    /// Words that they write, zero at first where groups are counted.
    pub output_words: u32,
    /// Groups of the sink, if it has any.
    pub groups: u32,
    /// Rows that one workgroup should have at least, to be worth its start and its merge.
    pub rows_per_workgroup: u32,
}

pub(super) const fn pass(entry: &'static str, alone: bool) -> Pass {
    Pass { entry, alone }
}

const GROUP_PASSES: &[Pass] = &[pass("high_rows", false)];
const WIDE_PASSES: &[Pass] = &[pass("high_rows", false), pass("settle", false), pass("low_rows", false)];
/// The passes of a kernel that selects rows.
pub(super) const SELECT_PASSES: &[Pass] = &[pass("mark", false), pass("scan", true), pass("fill", false)];

/// Rows of a workgroup, unless its table is large.
const ROWS_PER_WORKGROUP: u32 = 16 * WORKGROUP_SIZE;
/// More workgroups than any device runs at once gain nothing and merge more.
const WORKGROUPS_MAX: u32 = 4096;

impl Kernel {
    /// Generates the kernel of `program` over columns and tables as they are placed; the cells of its groups.
    ///
    /// # Errors
    /// `Unsupported` for what the device does not do and for what may leave 64 bits.
    pub fn generate(
        program: &DeviceProgram,
        columns: &[Placed],
        tables: &[PlacedTable],
        table_buffers: usize,
        capabilities: &Capabilities,
    ) -> Result<(Self, Cells)> {
        let mut lowering = Lowering::new(program, columns, tables, "return;")?;
        let (group, groups) = group_index(&program.keys, &mut lowering)?;
        // Which array the rows go to depends on the size of the groups, and that on their cells.
        let local = Sink::new(program, &mut lowering, "local_groups")?;
        let words = u64::from(groups) * u64::from(local.cells.words);
        if words * 4 > capabilities.binding_bytes_max {
            return Err(Error::unsupported(format!("gpu: {groups} groups do not fit a buffer")));
        }
        let fits = words <= u64::from(LOCAL_WORDS_MAX);
        let sink = if fits { local } else { Sink::new(program, &mut lowering, "groups")? };
        let mut source = head(table_buffers, Output::Groups, capabilities);
        source += &format!("const GROUP_WORDS: u32 = {}u;\n", sink.cells.words);
        source += &shaders::CELLS.with(&[("TABLE", "groups")]);
        let mut rows_per_workgroup = ROWS_PER_WORKGROUP;
        let skeleton = if fits {
            source += &local_table(words as u32);
            source += &shaders::CELLS.with(&[("TABLE", "local_groups")]);
            source += shaders::MERGE.source;
            rows_per_workgroup = rows_per_workgroup.max(4 * words as u32);
            shaders::GROUP_LOCAL
        } else {
            shaders::GROUP_GLOBAL
        };
        let passes: &[&str] = if sink.cells.has_wide() { &["high", "low"] } else { &["high"] };
        for pass in passes {
            let cells = sink.descriptors(pass);
            let at = lowering.params.len();
            source += &format!("const {pass}_CELLS_AT: u32 = {at}u;\nconst {pass}_CELLS: u32 = {}u;\n", cells.len());
            for descriptor in cells {
                lowering.param(descriptor)?;
            }
            source += &sink.row_function(pass, &lowering.body, &group);
            source += &skeleton.with(&[("PASS", pass)]);
        }
        if sink.cells.has_wide() {
            source += shaders::SETTLE.source;
        }
        let kernel = Self {
            source,
            tables: table_buffers,
            has_columns: true,
            params: lowering.params,
            passes: if sink.cells.has_wide() { WIDE_PASSES } else { GROUP_PASSES },
            output_words: groups * sink.cells.words,
            groups,
            rows_per_workgroup,
        };
        Ok((kernel, sink.cells))
    }

    /// Workgroups for `rows` rows; each invocation strides over what is more.
    pub fn workgroups(&self, rows: u32, capabilities: &Capabilities) -> u32 {
        rows.div_ceil(self.rows_per_workgroup).clamp(1, WORKGROUPS_MAX.min(capabilities.workgroups_max))
    }
}

/// The beginning of a kernel: what it is bound to, and 64-bit integers as the device has them.
pub(super) fn head(table_buffers: usize, output: Output, capabilities: &Capabilities) -> String {
    let int64 = if capabilities.int64 { shaders::INT64_NATIVE } else { shaders::INT64_PAIR };
    layout::declarations(table_buffers, output) + int64.source + shaders::HASH.source
}

/// The table of a workgroup: as many replicas as its memory holds, up to a bound.
fn local_table(words: u32) -> String {
    // An odd stride spreads the same cell of all replicas over the memory banks.
    let odd = words | 1;
    let (stride, replicas) = if 2 * odd <= LOCAL_WORDS_MAX { (odd, (LOCAL_WORDS_MAX / odd).min(REPLICAS_MAX)) } else { (words, 1) };
    format!(
        "const REPLICAS: u32 = {replicas}u;\nconst REPLICA_WORDS: u32 = {stride}u;\n\
         var<workgroup> local_groups: array<atomic<u32>, REPLICAS * REPLICA_WORDS>;\n"
    )
}
