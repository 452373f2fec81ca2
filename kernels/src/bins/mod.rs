//! Bins of one width: the start of the one that a value lies in.
//!
//! Contract: bins go on below the origin as above it (`date_bin`, `date_trunc` of fixed lengths). Null stays
//! null; null is also what `date_bin` cannot hold in nanoseconds: a value, its distance from the origin, or the
//! start of its bin from there or from zero, that times `unit` leaves 64 bits. Bits.

use crate::value::Value;
use crate::vector::{Values, Vector};
use crate::{Error, Result};

/// Where bins begin, and which values have one.
#[derive(Clone, Copy)]
struct Bins {
    width: i64,
    origin: i64,
    least: i64,
    most: i64,
}

impl Bins {
    fn start(&self, value: i64) -> Option<i64> {
        let fits = |v: &i64| (self.least..=self.most).contains(v);
        let distance = value.checked_sub(self.origin).filter(|d| fits(d) && fits(&value))?;
        let start = distance.checked_sub(distance.rem_euclid(self.width)).filter(fits)?;
        self.origin.checked_add(start).filter(fits)
    }
}

/// The start of each value's bin.
///
/// # Errors
/// `Bug` for what is no 64-bit integer, and for a width or unit that is not positive.
pub fn bin(a: &Vector, width: i64, origin: i64, unit: i64) -> Result<Vector> {
    let Values::I64(values) = &a.values else { return Err(Error::bug("a bin of what is no 64-bit integer")) };
    if width <= 0 || unit <= 0 {
        return Err(Error::bug(format!("bins of width {width} in units of {unit}")));
    }
    let bins = Bins { width, origin, least: i64::MIN / unit, most: i64::MAX / unit };
    let mut out = Vec::with_capacity(values.len());
    let mut missing: Vec<usize> = vec![];
    // Neighbours mostly share a bin: then there is nothing to divide.
    let mut last: Option<i64> = None;
    let top = bins.most.min(origin.saturating_add(bins.most));
    for (i, v) in values.iter().enumerate() {
        let start = match last {
            Some(start) if v.checked_sub(start).is_some_and(|d| (0..width).contains(&d)) && *v <= top => start,
            _ => {
                last = bins.start(*v);
                last.unwrap_or_else(|| {
                    missing.push(i);
                    0
                })
            }
        };
        out.push(start);
    }
    let mut valid = a.valid.clone();
    if !missing.is_empty() {
        let mut all = valid.map_or_else(|| vec![1; values.len()], |v| v.to_vec());
        missing.into_iter().for_each(|i| all[i] = 0);
        valid = Some(all.into());
    }
    Ok(Vector { values: Values::I64(out.into()), valid, constant: a.constant, bounds: None })
}

/// The oracle of [`bin`]: one row.
pub fn reference(a: &Value, width: i64, origin: i64, unit: i64) -> Value {
    let Value::Int(v) = a else { return Value::Null };
    let (width, origin, unit) = (i128::from(width), i128::from(origin), i128::from(unit));
    let start = (v - origin).div_euclid(width) * width;
    let fits = |v: i128| i64::try_from(v * unit).is_ok();
    match fits(*v) && fits(v - origin) && fits(start) && fits(origin + start) {
        true => Value::Int(origin + start),
        false => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Type;
    use crate::testing::{Gen, check_rows};

    #[test]
    fn agrees_with_the_reference() {
        let mut g = Gen::new(61);
        for unit in [1, 1_000, 1_000_000, 1_000_000_000] {
            for width in [1, 7, 60, 86_400, i64::MAX / unit] {
                for origin in [0, -3, 5, 1_000_003, i64::MAX / unit, i64::MIN / unit] {
                    for constant in [false, true] {
                        let n = g.below(200) as usize;
                        let a = g.vector(Type::I64, n, constant);
                        let out = bin(&a, width, origin, unit).unwrap();
                        check_rows(&out, n, |i| reference(&a.value(i).unwrap(), width, origin, unit));
                    }
                }
            }
        }
    }

    #[test]
    fn values_at_the_edges_of_units_have_the_bins_of_the_reference() {
        for unit in [1, 1_000_000_000] {
            let (least, most) = (i64::MIN / unit, i64::MAX / unit);
            let edges = [least, least + 1, least + 59, -61, -60, -59, -1, 0, 1, 59, 60, most - 1, most];
            let values: Vec<i64> = edges.iter().flat_map(|v| [v.saturating_sub(1), *v, v.saturating_add(1)]).collect();
            let n = values.len();
            let a = Vector::new(Values::I64(values.into()));
            for (width, origin) in [(60, 0), (60, 1), (60, most), (most, -1), (1, least)] {
                check_rows(&bin(&a, width, origin, unit).unwrap(), n, |i| reference(&a.value(i).unwrap(), width, origin, unit));
            }
        }
        let a = Vector::new(Values::I64(vec![1].into()));
        assert!(bin(&a, 0, 0, 1).is_err() && bin(&a, 1, 0, 0).is_err());
        assert!(bin(&Vector::new(Values::F64(vec![1.0].into())), 1, 0, 1).is_err());
    }
}
