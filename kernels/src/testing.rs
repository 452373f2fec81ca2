//! Random registers and a comparator, for the twins' tests.

use crate::program::Type;
use crate::value::Value;
use crate::vector::{Dictionary, Strings, Values, Vector};
use arrow::array::{StringArray, StringViewArray};

/// Every type that kernels compute on; `Decimal` twice, narrow and wide.
pub const TYPES: [Type; 6] = [Type::Bool, Type::I32, Type::I64, Type::Decimal, Type::F64, Type::Str];

/// A seeded generator (SplitMix64).
pub struct Gen(u64);

impl Gen {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

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

    /// An integer: mostly small, sometimes at the edges of `bits`.
    pub fn int(&mut self, bits: u32) -> i128 {
        let max = (1i128 << (bits - 1)) - 1;
        match self.below(20) {
            0 => max,
            1 => -max - 1,
            2 => 0,
            3 => -1,
            4..=6 => (self.next() as i128).wrapping_mul(self.next() as i128).rem_euclid(max) * [1, -1][self.below(2) as usize],
            _ => self.below(20) as i128 - 10,
        }
    }

    pub fn float(&mut self) -> f64 {
        match self.below(12) {
            0 => f64::NAN,
            1 => -f64::NAN,
            2 => -0.0,
            3 => 0.0,
            4 => f64::INFINITY,
            5 => f64::NEG_INFINITY,
            6 => f64::MIN_POSITIVE / 2.0,
            _ => self.below(16) as f64 / 4.0 - 2.0,
        }
    }

    pub fn text(&mut self) -> String {
        let words = ["", "a", "ab", "b", "PROMO BRUSHED", "special requests", "é", "zz", "a longer string than inline"];
        words[self.below(words.len() as u64) as usize].to_string()
    }

    /// A register of `n` rows (one if constant), perhaps with nulls.
    pub fn vector(&mut self, ty: Type, n: usize, constant: bool) -> Vector {
        let len = if constant { 1 } else { n };
        let valid = (self.below(2) == 0).then(|| (0..len).map(|_| u8::from(self.below(4) != 0)).collect::<Vec<_>>().into());
        let values = match ty {
            Type::Bool => Values::Bool((0..len).map(|_| self.below(2) as u8).collect::<Vec<_>>().into()),
            Type::I32 => Values::I32((0..len).map(|_| self.int(32) as i32).collect::<Vec<_>>().into()),
            Type::I64 => Values::I64((0..len).map(|_| self.int(64) as i64).collect::<Vec<_>>().into()),
            Type::Decimal if self.below(2) == 0 => Values::I64((0..len).map(|_| self.int(50) as i64).collect::<Vec<_>>().into()),
            Type::Decimal => Values::I128((0..len).map(|_| self.int(100)).collect::<Vec<_>>().into()),
            Type::F64 => Values::F64((0..len).map(|_| self.float()).collect::<Vec<_>>().into()),
            Type::Str => self.strings(len),
            Type::Any => unreachable!("no kernel computes on it"),
        };
        Vector { values, valid, constant, bounds: None }
    }

    fn strings(&mut self, len: usize) -> Values {
        if self.below(2) == 0 {
            let v: Vec<String> = (0..len).map(|_| self.text()).collect();
            return Values::Str(Strings::View(StringViewArray::from_iter_values(v)));
        }
        let entries: Vec<String> = (0..5).map(|_| self.text()).collect();
        let codes = (0..len).map(|_| self.below(5) as i32).collect::<Vec<_>>();
        Values::Str(Strings::Dict { codes: codes.into(), dict: Dictionary::new(StringArray::from_iter_values(entries)) })
    }
}

/// Panics at the first row that differs from the oracle.
pub fn check_rows(v: &Vector, n: usize, oracle: impl Fn(usize) -> Value) {
    if let Some((i, want, got)) = first_difference(v, n, oracle) {
        panic!("row {i}: reference {want:?}, cpu {got:?}");
    }
}

/// The first row that differs from the oracle.
pub fn first_difference(v: &Vector, n: usize, oracle: impl Fn(usize) -> Value) -> Option<(usize, Value, Value)> {
    (0..n).map(|i| (i, oracle(i), v.value(i).unwrap())).find(|(_, want, got)| want != got)
}

#[test]
fn the_comparator_catches_a_corrupted_value() {
    let mut g = Gen::new(1);
    for ty in TYPES {
        let v = g.vector(ty, 40, false);
        assert!(first_difference(&v, 40, |i| v.value(i).unwrap()).is_none());
        for bad in 0..40 {
            let oracle = |i| if i == bad { Value::Int(77_777) } else { v.value(i).unwrap() };
            assert_eq!(first_difference(&v, 40, oracle).map(|d| d.0), Some(bad));
        }
    }
}
