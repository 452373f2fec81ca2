//! The single source of what the host and the shaders must agree on: constants, bindings, uniforms.
//! The WGSL declarations are generated from the Rust ones; no shader writes a number of its own.

use bytemuck::{Pod, Zeroable};
use std::fmt::Write;

/// Declares constants once, for Rust and for WGSL.
macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => {
        $($(#[$doc])* pub const $name: u32 = $value;)*

        /// The constants as WGSL.
        fn constants_wgsl() -> String {
            let mut out = String::new();
            $(let _ = writeln!(out, "const {}: u32 = {}u;", stringify!($name), $name);)*
            out
        }
    };
}

constants! {
    /// Invocations of a workgroup: the floor every device offers.
    WORKGROUP_SIZE = 256;
    /// Words of an exact sum: 96 bits of two's complement hold 2^32 values of 64 bits.
    SUM_WORDS = 3;
    /// Words of a 64-bit least or greatest value.
    WIDE_WORDS = 3;
    /// Within those: the high word, ordered as unsigned.
    WIDE_HIGH = 0;
    /// The high word that the low word belongs to.
    WIDE_SETTLED = 1;
    /// The low word.
    WIDE_LOW = 2;
    /// A cell's descriptor is its first word times this, plus its kind.
    CELL_KINDS = 4;
    /// A cell of one word that adds.
    CELL_COUNT = 0;
    /// A cell of [`SUM_WORDS`] words that adds.
    CELL_SUM = 1;
    /// A cell of one word that keeps the greatest.
    CELL_GREATEST = 2;
    /// Words of the bitmap of a tile: of the rows that one workgroup looks at together.
    TILE_WORDS = WORKGROUP_SIZE / 32;
    /// Where the number of rows that survive lies, in the words of a kernel that selects rows.
    SELECTED_TOTAL = 0;
    /// Where the bitmap of the rows begins there.
    SELECTED_BITS = 1;
    /// Bits of a digit that rows are sorted by.
    DIGIT_BITS = 8;
    /// Values of a digit: each invocation of a workgroup has one.
    DIGITS = WORKGROUP_SIZE;
    /// Tiles of [`WORKGROUP_SIZE`] rows, or counts, that one workgroup takes one after the other.
    BLOCK_TILES = 16;
    /// A sort reads words of keys in the order of their rows,
    ORIGIN_KEYS = 0;
    /// those of the rows that lie in order by what was sorted before,
    ORIGIN_ROWS = 1;
    /// or those that lie in order beside their rows.
    ORIGIN_PAIRS = 2;
    /// Words of a key, at most.
    KEY_WORDS_MAX = 4;
    /// Among the counts of an order: how many rows with the digits that were found are wanted.
    ORDER_WANTED = 0;
    /// Not 0 once no more digits need be found.
    ORDER_DONE = 1;
    /// What the last scan added up to.
    ORDER_TOTAL = 2;
    /// The words of the last key that is wanted, as far as they were found.
    ORDER_LAST = 4;
    /// How often each value of a digit comes.
    ORDER_TALLY = ORDER_LAST + KEY_WORDS_MAX;
    /// Counts that are scanned; the sums of their blocks follow.
    ORDER_COUNTS = ORDER_TALLY + DIGITS;
    /// A row before the last key that is wanted.
    KEPT_BEFORE = 0;
    /// A row with that key.
    KEPT_LAST = 1;
    /// How many kinds of rows are kept.
    KEPT_KINDS = 2;
}

/// Words of workgroup memory that a group table may take: the floor's 16 KiB.
pub const LOCAL_WORDS_MAX: u32 = 4096;
/// Copies of a small group table in one workgroup's memory, at most.
pub const REPLICAS_MAX: u32 = 32;
/// Binding of [`Params`].
pub const BINDING_PARAMS: u32 = 0;
/// Binding of what a kernel makes, read and written: group accumulators or selected rows.
pub const BINDING_OUTPUT: u32 = 1;
/// Binding of the chunk of input columns.
pub const BINDING_COLUMNS: u32 = 2;
/// Binding of the first buffer of join tables; the others follow.
pub const BINDING_TABLES: u32 = 3;
/// Binding of the counts of an order.
pub const BINDING_COUNTS: u32 = 3;
/// Binding of the rows that a sort reads.
pub const BINDING_ORIGIN: u32 = 4;
/// Buffers of join tables, at most: with groups and columns, six of the floor's eight.
pub const TABLES_MAX: usize = 4;
/// Words of program parameters in [`Params`]: constants, offsets, table keys.
pub const PARAM_WORDS_MAX: usize = 4 * PARAM_VECTORS;
const PARAM_VECTORS: usize = 256;

/// Four words: what WGSL demands as the element of an array in a uniform.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Words4(pub [u32; 4]);

/// A Rust type with a WGSL spelling of the same layout.
trait Spelled {
    fn wgsl() -> String;
}

impl Spelled for u32 {
    fn wgsl() -> String {
        "u32".into()
    }
}

impl Spelled for Words4 {
    fn wgsl() -> String {
        "vec4<u32>".into()
    }
}

impl<T: Spelled, const N: usize> Spelled for [T; N] {
    fn wgsl() -> String {
        format!("array<{}, {N}>", T::wgsl())
    }
}

/// Declares a uniform once: the Rust struct, its WGSL text, and its offsets for the test.
macro_rules! uniform {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
        pub struct $name { $($(#[$field_doc])* pub $field: $ty,)* }

        impl $name {
            /// The struct as WGSL.
            pub fn wgsl() -> String {
                let mut out = format!("struct {} {{\n", stringify!($name));
                $(let _ = writeln!(out, "    {}: {},", stringify!($field), <$ty as Spelled>::wgsl());)*
                out + "}\n"
            }

            /// Name and byte offset of every field, in order.
            pub fn offsets() -> Vec<(&'static str, usize)> {
                vec![$((stringify!($field), std::mem::offset_of!($name, $field)),)*]
            }
        }
    };
}

uniform! {
    /// What one dispatch is told.
    Params {
        /// Rows of the chunk.
        rows: u32,
        /// Invocations of the dispatch: how far apart the rows of one invocation lie.
        stride: u32,
        /// Groups of the sink.
        groups: u32,
        /// Tiles of [`WORKGROUP_SIZE`] rows.
        tiles: u32,
        /// Parameters of the program, in the order in which its kernel was generated.
        words: [Words4; PARAM_VECTORS],
    }
}

impl Params {
    /// Parameters of a dispatch. `words` beyond [`PARAM_WORDS_MAX`] are the caller's bug and cut off.
    pub fn new(rows: u32, stride: u32, groups: u32, words: &[u32]) -> Self {
        let tiles = rows.div_ceil(WORKGROUP_SIZE);
        let mut params = Self { rows, stride, groups, tiles, words: [Words4::default(); PARAM_VECTORS] };
        for (vector, chunk) in params.words.iter_mut().zip(words.chunks(4)) {
            vector.0[..chunk.len()].copy_from_slice(chunk);
        }
        params
    }

    /// The WGSL expression of parameter word `index`.
    pub fn word(index: usize) -> String {
        format!("params.words[{}].{}", index / 4, ["x", "y", "z", "w"][index % 4])
    }
}

uniform! {
    /// What the dispatches of one digit of a sort are told.
    OrderParams {
        /// Rows that are sorted.
        rows: u32,
        /// Workgroups of the dispatch.
        workgroups: u32,
        /// Blocks of [`BLOCK_TILES`] tiles of rows.
        blocks: u32,
        /// Rows that have keys: how far apart the words of a key lie.
        key_rows: u32,
        /// Words of a key.
        planes: u32,
        /// The word that is sorted by, 0 the least significant.
        plane: u32,
        /// The least significant bit of the digit in it.
        shift: u32,
        /// Where rows come from: [`ORIGIN_KEYS`], [`ORIGIN_ROWS`] or [`ORIGIN_PAIRS`].
        origin: u32,
        /// Not 0: rows leave without their words.
        only_rows: u32,
        /// Counts that are scanned.
        counts: u32,
        /// Blocks of [`BLOCK_TILES`] tiles of counts.
        sums: u32,
        /// Rows beyond those that are wanted that are few enough.
        spare: u32,
    }
}

/// What a kernel makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Accumulators of groups: the array `groups` of atomic words.
    Groups,
    /// Rows that survive a program: the array `selected` of words.
    Rows,
    /// The slots of join tables, beside what they are made from: the array `index` of atomic words.
    Index,
    /// Rows in order: the array `order` of words, made with the atomic words `counts` from `columns` and `origin`.
    Order,
}

/// The head of every kernel: constants, uniform and bindings, with `tables` buffers of join tables
/// named `tables0`, `tables1` and so on. A kernel that makes an index reads nothing else, one that makes an order no tables.
pub fn declarations(tables: usize, output: Output) -> String {
    let mut out = constants_wgsl();
    let is_order = output == Output::Order;
    out += &if is_order { OrderParams::wgsl() } else { Params::wgsl() };
    let params = if is_order { "OrderParams" } else { "Params" };
    let _ = writeln!(out, "@group(0) @binding({BINDING_PARAMS}) var<uniform> params: {params};");
    let array = match output {
        Output::Groups => "groups: array<atomic<u32>>",
        Output::Rows => "selected: array<u32>",
        Output::Index => "index: array<atomic<u32>>",
        Output::Order => "order: array<u32>",
    };
    let _ = writeln!(out, "@group(0) @binding({BINDING_OUTPUT}) var<storage, read_write> {array};");
    if output == Output::Index {
        return out;
    }
    let _ = writeln!(out, "@group(0) @binding({BINDING_COLUMNS}) var<storage, read> columns: array<u32>;");
    if is_order {
        let _ = writeln!(out, "@group(0) @binding({BINDING_COUNTS}) var<storage, read_write> counts: array<atomic<u32>>;");
        let _ = writeln!(out, "@group(0) @binding({BINDING_ORIGIN}) var<storage, read> origin: array<u32>;");
        return out;
    }
    for i in 0..tables {
        let binding = BINDING_TABLES as usize + i;
        let _ = writeln!(out, "@group(0) @binding({binding}) var<storage, read> tables{i}: array<u32>;");
    }
    out
}
