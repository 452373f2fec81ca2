//! Seeded registers, as a stage would hold them.

use arrow::array::StringViewArray;
use millstream_kernels::{CHUNK_ROWS, Strings, Values, Vector, hash};

/// A generator of numbers.
pub struct Seeded(pub u64);

impl Seeded {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1 << 32);
        hash::word(self.0)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

/// What sparse keys are multiplied by: odd, so that distinct keys stay distinct.
const SPREAD: u64 = 0x0001_0000_0000_1003;

/// A key, over all of 64 bits when `sparse`.
pub fn spread(key: u64, sparse: bool) -> i64 {
    key.wrapping_mul(if sparse { SPREAD } else { 1 }) as i64
}

/// Chunks of 64-bit integers.
pub fn chunks(n: usize, mut value: impl FnMut() -> u64, sparse: bool) -> Vec<Vector> {
    let mut chunk = || (0..CHUNK_ROWS).map(|_| spread(value(), sparse)).collect::<Vec<_>>();
    (0..n).map(|_| Vector::new(Values::I64(chunk().into()))).collect()
}

/// Chunks of integers below `bound`.
pub fn below(n: usize, seed: u64, bound: usize, sparse: bool) -> Vec<Vector> {
    let mut g = Seeded(seed);
    chunks(n, || g.below(bound as u64), sparse)
}

/// Every integer below `bound` once, at least, in random order.
pub fn each(seed: u64, bound: usize, sparse: bool) -> Vec<Vector> {
    let mut g = Seeded(seed);
    let n = bound.div_ceil(CHUNK_ROWS);
    let mut all: Vec<u64> = (0..n * CHUNK_ROWS).map(|i| (i % bound.max(1)) as u64).collect();
    (1..all.len()).rev().for_each(|i| all.swap(i, g.below(i as u64 + 1) as usize));
    let mut next = all.into_iter();
    chunks(n, || next.next().unwrap_or(0), sparse)
}

/// Chunks of strings, `distinct` different ones of some 20 bytes.
pub fn texts(n: usize, seed: u64, distinct: usize) -> Vec<Vector> {
    let mut g = Seeded(seed);
    let mut chunk = || StringViewArray::from_iter_values((0..CHUNK_ROWS).map(|_| text(g.below(distinct as u64))));
    (0..n).map(|_| Vector::new(Values::Str(Strings::View(chunk())))).collect()
}

/// The strings that [`texts`] draws from.
pub fn text(i: u64) -> String {
    format!("a text of number {i:07}")
}
