//! The kinds of work that a profile has a cost of.

use serde::{Deserialize, Serialize};

/// A kind of work. Its unit is a row, or a value where that is said; costs are of one thread on the CPU, of the whole device
/// on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// Decompressing and decoding one number of a Parquet page.
    DecodeNumber,
    /// The same of one string.
    DecodeText,
    /// One element-wise instruction: comparison, arithmetic, logic, change of type, at most 64 bits wide.
    Map,
    /// Comparing or matching one string that is not a dictionary's code.
    MapText,
    /// An expression that DataFusion evaluates, conversions included.
    Call,
    /// Turning a mask into row numbers.
    Filter,
    /// Fetching one value by its row number; the table is the column.
    Gather,
    /// The number of a row's group in a directly addressed table.
    GroupDirect,
    /// The same in a hash table.
    GroupHash,
    /// The same by a string.
    GroupText,
    /// A group that is new: its key and its place, the table growing.
    GroupInsert,
    /// One value into one state of its group: count, sum, least; the table is the states.
    Accumulate,
    /// Looking a key up in an array join table.
    ProbeArray,
    /// The same in a hash table.
    ProbeHash,
    /// One row of an array join table that is built.
    BuildArray,
    /// One row of a hash join table that is built.
    BuildHash,
    /// Appending one value to the rows that a sink keeps.
    Copy,
    /// One comparison's part of a sort: rows x log2(rows) of them.
    Sort,
    /// Packing one value for the device.
    Pack,
}

impl Kernel {
    /// What a CPU's profile has.
    pub const CPU: [Kernel; 19] = [
        Kernel::DecodeNumber,
        Kernel::DecodeText,
        Kernel::Map,
        Kernel::MapText,
        Kernel::Call,
        Kernel::Filter,
        Kernel::Gather,
        Kernel::GroupDirect,
        Kernel::GroupHash,
        Kernel::GroupText,
        Kernel::GroupInsert,
        Kernel::Accumulate,
        Kernel::ProbeArray,
        Kernel::ProbeHash,
        Kernel::BuildArray,
        Kernel::BuildHash,
        Kernel::Copy,
        Kernel::Sort,
        Kernel::Pack,
    ];
    /// What a device's profile has.
    pub const DEVICE: [Kernel; 4] = [Kernel::Map, Kernel::Gather, Kernel::Accumulate, Kernel::ProbeArray];

    /// Whether its cost is that of stages already; else a stage takes longer with it than it takes alone.
    pub fn is_of_stages(self) -> bool {
        matches!(self, Kernel::DecodeNumber | Kernel::DecodeText | Kernel::Call | Kernel::Sort)
    }

    /// Its name in profiles.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::DecodeNumber => "decode_number",
            Kernel::DecodeText => "decode_text",
            Kernel::Map => "map",
            Kernel::MapText => "map_text",
            Kernel::Call => "call",
            Kernel::Filter => "filter",
            Kernel::Gather => "gather",
            Kernel::GroupDirect => "group_direct",
            Kernel::GroupHash => "group_hash",
            Kernel::GroupText => "group_text",
            Kernel::GroupInsert => "group_insert",
            Kernel::Accumulate => "accumulate",
            Kernel::ProbeArray => "probe_array",
            Kernel::ProbeHash => "probe_hash",
            Kernel::BuildArray => "build_array",
            Kernel::BuildHash => "build_hash",
            Kernel::Copy => "copy",
            Kernel::Sort => "sort",
            Kernel::Pack => "pack",
        }
    }
}
