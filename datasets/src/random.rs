//! Random numbers and random orders by position: each is a function of its place, so rows can be made in any order
//! and on any number of threads, and nothing is kept.

/// What SplitMix64 adds from one number to the next.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Rounds of the Feistel network; four make it pseudo-random (Luby and Rackoff), two more cost little.
const ROUNDS: u64 = 6;

/// SplitMix64's output function (Steele, Lea and Flood, 2014): a bijection that scatters all bits.
fn scattered(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// A sequence of random numbers with access by position: SplitMix64 from a start of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequence {
    start: u64,
}

impl Sequence {
    /// The sequence that `seed` gives to the values called `name`; others have other names.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let named = name.bytes().fold(scattered(seed.wrapping_add(STEP)), |start, byte| scattered(start ^ u64::from(byte)));
        Self { start: named }
    }

    fn bits(self, at: u64) -> u64 {
        scattered(self.start.wrapping_add(at.wrapping_add(1).wrapping_mul(STEP)))
    }

    /// A whole number below `bound`.
    pub(crate) fn below(self, at: u64, bound: u64) -> u64 {
        ((u128::from(self.bits(at)) * u128::from(bound)) >> 64) as u64
    }

    /// R's `round(runif(1, max = 100), 6)`: a number from 0 to 100 with six decimals, as near as a double can be.
    pub(crate) fn up_to_100(self, at: u64) -> f64 {
        const UNIT: f64 = 1.0 / (1u64 << 53) as f64;
        let unit = (self.bits(at) >> 11) as f64 * UNIT;
        (unit * 1e8).round() / 1e6
    }
}

/// A random order of the numbers below `len`: a Feistel network over the next even power of two, walked until it
/// falls below `len` (Black and Rogaway, Ciphers with Arbitrary Finite Domains, 2002).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permutation {
    keys: Sequence,
    len: u64,
    /// Bits of one half.
    half: u32,
}

impl Permutation {
    pub(crate) fn new(seed: u64, name: &str, len: u64) -> Self {
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        Self { keys: Sequence::new(seed, name), len, half: bits.div_ceil(2).max(1) }
    }

    /// The number at a place below `len`.
    pub(crate) fn at(&self, place: u64) -> u64 {
        debug_assert!(place < self.len);
        let mut number = self.encrypted(place);
        // The network is a bijection, so the walk comes back below `len`, after fewer than four steps on average.
        while number >= self.len {
            number = self.encrypted(number);
        }
        number
    }

    fn encrypted(&self, number: u64) -> u64 {
        let mask = (1 << self.half) - 1;
        let (mut left, mut right) = (number >> self.half, number & mask);
        for round in 0..ROUNDS {
            let scrambled = scattered(self.keys.bits(round) ^ right) & mask;
            (left, right) = (right, left ^ scrambled);
        }
        (left << self.half) | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_has_every_number_once_and_another_order_for_another_seed() {
        for len in [1, 2, 3, 10, 11, 16, 17, 1000, 65_536, 70_001] {
            let order = Permutation::new(108, "a", len);
            let mut numbers: Vec<u64> = (0..len).map(|place| order.at(place)).collect();
            let other = Permutation::new(109, "a", len);
            assert!(len < 10 || numbers.iter().zip(0..).any(|(number, place)| *number != other.at(place)), "{len}");
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(0..len), "{len}");
        }
    }

    #[test]
    fn a_permutation_is_no_pattern() {
        let len = 100_000;
        let order = Permutation::new(108, "a", len);
        // Neighbours are as far apart as in a random order: len / 3 on average, standard deviation of the mean 0.07 %.
        let apart: u64 = (1..len).map(|place| order.at(place).abs_diff(order.at(place - 1))).sum();
        let mean = apart as f64 / (len - 1) as f64;
        assert!((mean / (len as f64 / 3.0) - 1.0).abs() < 0.01, "{mean}");
        let fixed = (0..len).filter(|place| order.at(*place) == *place).count();
        assert!(fixed < 10, "{fixed}");
    }

    #[test]
    fn numbers_are_spread_evenly_and_sequences_differ() {
        let (one, two) = (Sequence::new(108, "one"), Sequence::new(108, "two"));
        let draws = 100_000;
        let mut counts = [0u32; 10];
        (0..draws).for_each(|at| counts[one.below(at, 10) as usize] += 1);
        // Chi squared with nine degrees of freedom: above 27.9 once in a thousand seeds.
        let chi: f64 = counts.iter().map(|c| (f64::from(*c) - 1e4).powi(2) / 1e4).sum();
        assert!(chi < 27.9, "{counts:?}");
        let same = (0..draws).filter(|at| one.below(*at, 10) == two.below(*at, 10)).count();
        assert!((9_500..10_500).contains(&same), "{same}");
        let sum: f64 = (0..draws).map(|at| one.up_to_100(at)).sum();
        assert!((sum / draws as f64 - 50.0).abs() < 0.5, "{sum}");
    }
}
