//! Floats as integers, so that the device sums and compares them exactly, in any order, without floats of its own.
//!
//! A sum: `x = hi * 2^E + lo * 2^(E - 62)` with two integers of at most 62 bits and one exponent `E` for all rows of a
//! run. The device adds up both, exactly; the sum is rounded once, in the end. So it is the same whatever the order
//! of the rows, and at most half a unit in the last place from the true sum. What has bits outside of this window of
//! 124 (values of too different magnitudes, infinities, NaN) is not for the device.
//!
//! A least or greatest value: bits in an order that integers have, NaN last.

use millstream_kernels::{Values, Vector};

/// Bits of each of the two integers.
const HALF_BITS: i32 = 62;
/// Bits between the greatest value that a run began with and the top of its window.
const ROOM_BITS: i32 = 20;
/// Exponents beyond these are left to the CPU: scaling by one power of two stays exact.
const EXPONENT_MAX: i32 = 400;
/// Bits of a float behind its leading one.
const MANTISSA_BITS: i32 = 52;

/// Exponents of the leading and of the last bit of a float that is not 0; none where it is not finite or too large or too small.
fn exponents(x: f64) -> Option<(i32, i32)> {
    let bits = x.to_bits();
    let exponent = (bits >> MANTISSA_BITS & 0x7ff) as i32 - 1023;
    if exponent.abs() > EXPONENT_MAX {
        return None;
    }
    let mantissa = bits & ((1 << MANTISSA_BITS) - 1) | 1 << MANTISSA_BITS;
    Some((exponent, exponent - MANTISSA_BITS + mantissa.trailing_zeros() as i32))
}

/// The window for sums of `v` that has room above: its exponent `E`. None where a value has bits outside of it.
pub(super) fn window(v: &Vector, rows: usize) -> Option<i32> {
    let Values::F64(values) = &v.values else { return None };
    let (mut top, mut bottom) = (None::<i32>, i32::MAX);
    for (i, x) in values[..rows].iter().enumerate() {
        if *x == 0.0 || v.is_null(i) {
            continue;
        }
        let (high, low) = exponents(*x)?;
        top = Some(top.map_or(high, |t| t.max(high)));
        bottom = bottom.min(low);
    }
    let exponent = top.unwrap_or(0) + 1 + ROOM_BITS - HALF_BITS;
    (bottom >= exponent - HALF_BITS).then_some(exponent)
}

/// The two integers of each value in the window of `exponent`; 0 where it is null. None where a value is outside.
pub(super) fn halves(v: &Vector, rows: usize, exponent: i32) -> Option<(Vec<i64>, Vec<i64>)> {
    let Values::F64(values) = &v.values else { return None };
    let (down, up, top) = (power(-exponent), power(HALF_BITS), power(HALF_BITS));
    let (mut high, mut low) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    for (i, x) in values[..rows].iter().enumerate() {
        let x = if v.is_null(i) { 0.0 } else { *x };
        if x != 0.0 {
            exponents(x)?;
        }
        // Both steps are exact: a power of two, and a part of the bits.
        let scaled = x * down;
        let whole = scaled.trunc();
        let rest = (scaled - whole) * up;
        if scaled.abs() >= top || rest.trunc() != rest {
            return None;
        }
        high.push(whole as i64);
        low.push(rest as i64);
    }
    Some((high, low))
}

/// The float nearest to `high * 2^exponent + low * 2^(exponent - 62)`.
pub(super) fn sum(high: i128, low: i128, exponent: i32) -> f64 {
    let high = high + (low >> HALF_BITS);
    let low = low & ((1 << HALF_BITS) - 1);
    // Both halves in one integer, unless more rows were added up than a run counts.
    if high.unsigned_abs() < 1 << 64 {
        ((high << HALF_BITS) + low) as f64 * power(exponent - HALF_BITS)
    } else {
        high as f64 * power(exponent)
    }
}

/// `2^exponent`, of an exponent that floats have.
fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << MANTISSA_BITS)
}

/// Integers in the order of floats: -0 comes before 0, NaN is the greatest.
pub(super) fn ordered(v: &Vector, rows: usize) -> Option<Vec<i64>> {
    let Values::F64(values) = &v.values else { return None };
    let key = |x: &f64| {
        let bits = if x.is_nan() { f64::NAN } else { *x }.to_bits() as i64;
        bits ^ ((bits >> 63) as u64 >> 1) as i64
    };
    Some(values[..rows].iter().map(key).collect())
}

/// The float behind an integer of [`ordered`].
pub(super) fn of_order(key: i64) -> f64 {
    f64::from_bits((key ^ ((key >> 63) as u64 >> 1) as i64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(values: &[f64]) -> Vector {
        Vector::new(Values::F64(values.to_vec().into()))
    }

    fn summed(values: &[f64]) -> Option<f64> {
        let v = vector(values);
        let exponent = window(&v, values.len())?;
        let (high, low) = halves(&v, values.len(), exponent)?;
        let add = |all: Vec<i64>| all.into_iter().map(i128::from).sum();
        Some(sum(add(high), add(low), exponent))
    }

    #[test]
    fn sums_are_rounded_once() {
        assert_eq!(summed(&[]), Some(0.0));
        assert_eq!(summed(&[0.1; 10]), Some(1.0));
        assert_eq!(summed(&[1e16, 1.0, -1e16]), Some(1.0));
        assert_eq!(summed(&[-0.0, 0.0]), Some(0.0));
        assert_eq!(summed(&[100.0, 1e-6, -3.5, 99.999_999]), Some(196.5));
        assert_eq!(summed(&[1e100, -3e99]), Some(1e100 - 3e99));
        // 1 + 2^-53 + 2^-53: float by float this stays 1.
        assert_eq!(summed(&[1.0, (-53f64).exp2(), (-53f64).exp2()]), Some(1.0 + f64::EPSILON));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        for values in [[f64::NAN, 1.0], [f64::INFINITY, 1.0], [1e30, 1e-30], [1e-320, 1.0], [f64::MAX, 1.0]] {
            assert_eq!(summed(&values), None, "{values:?}");
        }
        // A later block outside of the window of an earlier one.
        let exponent = window(&vector(&[1.0]), 1).unwrap();
        assert!(halves(&vector(&[1e5]), 1, exponent).is_some());
        assert!(halves(&vector(&[1e8]), 1, exponent).is_none());
        assert!(halves(&vector(&[1e-25]), 1, exponent).is_none());
    }

    #[test]
    fn the_order_of_integers_is_that_of_floats() {
        let all = [f64::NEG_INFINITY, -1e300, -1.5, -1e-310, 0.0, 1e-310, 2.5, 1e300, f64::INFINITY, f64::NAN];
        let keys = ordered(&vector(&all), all.len()).unwrap();
        assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
        assert!(keys.iter().zip(all).all(|(k, x)| of_order(*k).to_bits() == x.to_bits()));
        assert!(ordered(&vector(&[-0.0]), 1) < ordered(&vector(&[0.0]), 1));
    }
}
