//! Seeded registers, as a stage would hold them: chunks of `CHUNK_ROWS` rows.

use arrow::array::{StringArray, StringViewArray};
use millstream_kernels::{CHUNK_ROWS, Dictionary, Strings, Value, Values, Vector};

/// A seeded generator (SplitMix64).
pub struct Seeded(pub u64);

impl Seeded {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A column as chunks.
pub type Column = Vec<Vector>;

/// A column of `rows` rows (a multiple of the chunk), each chunk made by `make` of its values.
fn column<T>(rows: usize, mut value: impl FnMut() -> T, make: impl Fn(Vec<T>) -> Values) -> Column {
    assert_eq!(rows % CHUNK_ROWS, 0);
    (0..rows / CHUNK_ROWS).map(|_| Vector::new(make((0..CHUNK_ROWS).map(|_| value()).collect()))).collect()
}

/// What sparse keys are multiplied by: odd, so that distinct keys stay distinct.
pub const SPREAD: u64 = 0x0001_0000_0000_1003;

/// 64-bit integers below `bound`, spread over all of 64 bits when `sparse`.
pub fn integers(rows: usize, seed: u64, bound: u64, sparse: bool) -> Column {
    let mut g = Seeded(seed);
    let spread = if sparse { SPREAD } else { 1 };
    column(rows, || g.below(bound).wrapping_mul(spread) as i64, |v| Values::I64(v.into()))
}

/// Microseconds in order, some thousands a minute.
pub fn times(rows: usize) -> Column {
    let mut next = 0;
    let step = || {
        next += 11_003;
        next
    };
    column(rows, step, |v| Values::I64(v.into()))
}

/// Integers of 128 bits, a few of which do not fit 64.
pub fn wide_integers(rows: usize, seed: u64) -> Column {
    let mut g = Seeded(seed);
    column(rows, || i128::from(g.next() as i64) << g.below(8), |v| Values::I128(v.into()))
}

/// 32-bit integers.
pub fn narrow_integers(rows: usize, seed: u64) -> Column {
    let mut g = Seeded(seed);
    column(rows, || g.next() as i32, |v| Values::I32(v.into()))
}

/// Floats between 0 and 1000.
pub fn floats(rows: usize, seed: u64) -> Column {
    let mut g = Seeded(seed);
    column(rows, || g.below(1_000_000) as f64 / 1000.0, |v| Values::F64(v.into()))
}

/// Booleans of which `percent` are true.
pub fn booleans(rows: usize, seed: u64, percent: u64) -> Column {
    let mut g = Seeded(seed);
    column(rows, || u8::from(g.below(100) < percent), |v| Values::Bool(v.into()))
}

/// The strings that the two columns below draw from.
pub fn word(i: u64) -> String {
    format!("word {i:03}")
}

/// Dictionary strings, `entries` distinct ones.
pub fn dictionary(rows: usize, seed: u64, entries: u64) -> Column {
    let mut g = Seeded(seed);
    let dict = Dictionary::new(StringArray::from_iter_values((0..entries).map(word)));
    column(rows, || g.below(entries) as i32, |v| Values::Str(Strings::Dict { codes: v.into(), dict: dict.clone() }))
}

/// The same as views.
pub fn views(rows: usize, seed: u64, entries: u64) -> Column {
    let mut g = Seeded(seed);
    column(rows, || word(g.below(entries)), |v| Values::Str(Strings::View(StringViewArray::from_iter_values(v))))
}

/// Every value of a column.
pub fn values(column: &[Vector]) -> Vec<Value> {
    column.iter().flat_map(|v| (0..v.values.len()).map(|i| v.value(i).expect("a value"))).collect()
}
