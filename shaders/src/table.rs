//! The typed table of shader sources.

use crate::layout::{self, Output};

/// What a shader needs of the device beyond the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Floor,
    /// 64-bit integers (`SHADER_INT64`).
    Int64,
}

/// A WGSL source: functions and entry points that a generated kernel is composed of.
#[derive(Clone, Copy, Debug)]
pub struct Shader {
    /// File name under `wgsl/`, without the suffix.
    pub name: &'static str,
    /// The text. Words in capitals that [`Shader::with`] replaces are its parameters.
    pub source: &'static str,
    /// What it needs of the device.
    pub needs: Needs,
    /// What it makes.
    pub output: Output,
    /// Parameters with an example each, for validation on its own.
    example: &'static [(&'static str, &'static str)],
    /// What generated code supplies, as stubs, for validation on its own.
    stubs: &'static [&'static str],
    /// Shaders whose functions it calls, and theirs, in order.
    after: &'static [Shader],
}

impl Shader {
    /// The source with the parameters replaced by the given words.
    pub fn with(&self, parameters: &[(&str, &str)]) -> String {
        parameters.iter().fold(self.source.to_string(), |text, (name, word)| text.replace(name, word))
    }

    /// A complete module around this shader, with stubs for what generated code supplies.
    pub fn standalone(&self) -> String {
        let before: String = self.after.iter().map(|shader| shader.with(shader.example)).collect();
        layout::declarations(1, self.output) + &self.stubs.concat() + &before + &self.with(self.example)
    }
}

const fn shader(name: &'static str, source: &'static str) -> Shader {
    Shader { name, source, needs: Needs::Floor, output: Output::Groups, example: &[], stubs: &[], after: &[] }
}

/// 64-bit integers as pairs of words.
pub const INT64_PAIR: Shader = shader("int64_pair", include_str!("../wgsl/int64_pair.wgsl"));

/// 64-bit integers of the device.
pub const INT64_NATIVE: Shader = Shader { needs: Needs::Int64, ..shader("int64_native", include_str!("../wgsl/int64_native.wgsl")) };

/// Accumulators of groups in `TABLE`.
pub const CELLS: Shader = Shader { example: &[("TABLE", "groups")], ..shader("cells", include_str!("../wgsl/cells.wgsl")) };

const LOCAL_STUBS: &str = "const REPLICAS: u32 = 2u;\nconst REPLICA_WORDS: u32 = 8u;\n\
    var<workgroup> local_groups: array<atomic<u32>, REPLICAS * REPLICA_WORDS>;\n";
const CELL_STUBS: &str = "const GROUP_WORDS: u32 = 4u;\nconst low_CELLS_AT: u32 = 3u;\nconst low_CELLS: u32 = 1u;\n";

/// Merging the replicas of a workgroup.
pub const MERGE: Shader = Shader { stubs: &[LOCAL_STUBS], after: &[CELLS], ..shader("merge", include_str!("../wgsl/merge.wgsl")) };

/// A pass that gathers groups in workgroup memory.
pub const GROUP_LOCAL: Shader = Shader {
    example: &[("PASS", "low")],
    stubs: &[LOCAL_STUBS, CELL_STUBS, "fn low_row(row: u32, base: u32) { atomicAdd(&local_groups[base], row); }\n"],
    after: &[CELLS, MERGE],
    ..shader("group_local", include_str!("../wgsl/group_local.wgsl"))
};

/// A pass that gathers groups in the buffer.
pub const GROUP_GLOBAL: Shader = Shader {
    example: &[("PASS", "low")],
    stubs: &["fn low_row(row: u32, base: u32) { atomicAdd(&groups[base], row); }\n"],
    ..shader("group_global", include_str!("../wgsl/group_global.wgsl"))
};

/// The step between the passes of 64-bit least and greatest values.
pub const SETTLE: Shader = Shader { stubs: &[CELL_STUBS], ..shader("settle", include_str!("../wgsl/settle.wgsl")) };

/// Which rows survive a program, and each of them at its place.
pub const SELECT: Shader = Shader {
    output: Output::Rows,
    stubs: &[
        "fn counts_at() -> u32 { return params.words[0].x; }\n",
        "fn survives(row: u32) -> bool { return columns[row] != 0u; }\n",
        "fn fill_row(row: u32, to: u32) -> bool { selected[params.words[0].y + to] = row; return true; }\n",
    ],
    ..shader("select", include_str!("../wgsl/select.wgsl"))
};

/// The hash of a key.
pub const HASH: Shader = shader("hash", include_str!("../wgsl/hash.wgsl"));

/// Rows into the slots of a join table.
pub const INSERT: Shader = Shader {
    output: Output::Index,
    stubs: &[
        "fn slots_at() -> u32 { return params.words[0].x; }\n",
        "fn slot_mask() -> u32 { return params.words[0].y; }\n",
        "fn codes_at() -> u32 { return params.words[0].z; }\n",
        "fn heads_at() -> u32 { return params.words[0].w; }\n",
    ],
    after: &[HASH],
    ..shader("insert", include_str!("../wgsl/insert.wgsl"))
};

const fn order(name: &'static str, source: &'static str, after: &'static [Shader]) -> Shader {
    Shader { output: Output::Order, after, ..shader(name, source) }
}

/// The scan of counts.
pub const COUNTS: Shader = order("counts", include_str!("../wgsl/counts.wgsl"), &[]);

/// One digit of a sort.
pub const RADIX: Shader = order("radix", include_str!("../wgsl/radix.wgsl"), &[COUNTS]);

/// One digit of the last key that is wanted.
pub const NARROW: Shader = order("narrow", include_str!("../wgsl/narrow.wgsl"), &[COUNTS]);

/// The rows up to that key.
pub const KEEP: Shader = order("keep", include_str!("../wgsl/keep.wgsl"), &[COUNTS]);

/// Every shader.
pub const SHADERS: &[Shader] =
    &[INT64_PAIR, INT64_NATIVE, CELLS, MERGE, GROUP_LOCAL, GROUP_GLOBAL, SETTLE, SELECT, HASH, INSERT, COUNTS, RADIX, NARROW, KEEP];
