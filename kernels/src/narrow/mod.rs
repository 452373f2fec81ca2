//! Integers and codes of a long column in the fewest bytes that their range needs: offsets of 8, 16 or 32 bits from
//! the least value.
//!
//! Contract: [`Narrow::rows`] and [`Narrow::picked`] give rows of the register that was narrowed, with its type, its
//! dictionary and its bounds; nulls stay null. Bits. Source: frame of reference (Zukowski et al., "Super-scalar RAM-CPU
//! cache compression", ICDE 2006).

use crate::vector::{Buf, Dictionary, Strings, Values, Vector, written};
use crate::{Error, Result, simd};
use arrow::array::Array;
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::ArrowNativeType;
use std::mem::MaybeUninit;
use std::sync::Arc;

/// A column of integers or codes. Buffers are shared: a clone copies nothing.
#[derive(Clone, Debug)]
pub struct Narrow {
    offsets: Offsets,
    wide: Wide,
    valid: Option<Buf<u8>>,
    bounds: Option<(i64, i64)>,
}

#[derive(Clone, Debug)]
enum Offsets {
    U8(ScalarBuffer<u8>),
    U16(ScalarBuffer<u16>),
    U32(ScalarBuffer<u32>),
}

/// What the offsets are added to.
#[derive(Clone, Debug)]
enum Wide {
    I32(i32),
    I64(i64),
    Codes(Arc<Dictionary>),
}

/// An offset as a value.
trait Lift<T>: Copy {
    fn lift(self, base: T) -> T;
}

macro_rules! lifts {
    ($($offset:ty => $value:ty),*) => {
        $(impl Lift<$value> for $offset {
            #[inline(always)]
            fn lift(self, base: $value) -> $value {
                // What stands at a null may lie anywhere.
                base.wrapping_add(self as $value)
            }
        })*
    };
}
lifts!(u8 => i32, u16 => i32, u32 => i32, u8 => i64, u16 => i64, u32 => i64);

simd! {
    fn lift_all<T: Copy, O: Lift<T>>(offsets: &[O], base: T, out: &mut [MaybeUninit<T>]) {
        for (o, v) in out.iter_mut().zip(offsets) { o.write(v.lift(base)); }
    }
}
simd! {
    fn lift_some<T: Copy, O: Lift<T>>(offsets: &[O], base: T, rows: &[u32], out: &mut [MaybeUninit<T>]) {
        for (o, r) in out.iter_mut().zip(rows) {
            // SAFETY: `Narrow::picked` checked that every row number is below `offsets.len()`.
            o.write(unsafe { offsets.get_unchecked(*r as usize) }.lift(base));
        }
    }
}

impl Offsets {
    fn len(&self) -> usize {
        match self {
            Offsets::U8(v) => v.len(),
            Offsets::U16(v) => v.len(),
            Offsets::U32(v) => v.len(),
        }
    }

    /// The offsets `start .. start + len` above `base`, or those of them that `picked` names.
    ///
    /// # Safety
    /// Every row of `picked` is below `len`.
    // SAFETY: `lift_some` reads below `len` only, as the caller sees to.
    unsafe fn lifted<T: ArrowNativeType>(&self, base: T, start: usize, len: usize, picked: Option<&[u32]>) -> Buf<T>
    where
        u8: Lift<T>,
        u16: Lift<T>,
        u32: Lift<T>,
    {
        macro_rules! each {
            ($v:expr) => {{
                let v = &$v[start..start + len];
                match picked {
                    // SAFETY: one value is written for each offset.
                    None => unsafe { written(len, |out| lift_all(v, base, out)) },
                    // SAFETY: one value is written for each row.
                    Some(rows) => unsafe { written(rows.len(), |out| lift_some(v, base, rows, out)) },
                }
            }};
        }
        match self {
            Offsets::U8(v) => each!(v),
            Offsets::U16(v) => each!(v),
            Offsets::U32(v) => each!(v),
        }
        .into()
    }
}

/// The offsets of `values` from `least`, of which the greatest is `span`; none where they are no narrower.
fn offsets<T: ArrowNativeType>(values: &[T], span: u64, offset: impl Fn(T) -> u64) -> Option<Offsets> {
    let wide = size_of::<T>();
    let all = || values.iter().map(|v| offset(*v));
    Some(match span {
        ..=0xFF if wide > 1 => Offsets::U8(all().map(|o| o as u8).collect()),
        ..=0xFFFF if wide > 2 => Offsets::U16(all().map(|o| o as u16).collect()),
        ..=0xFFFF_FFFF if wide > 4 => Offsets::U32(all().map(|o| o as u32).collect()),
        _ => return None,
    })
}

impl Narrow {
    /// `v` in fewer bytes: codes, and integers whose bounds say that it can be; none for anything else.
    pub fn of(v: &Vector) -> Option<Self> {
        if v.constant {
            return None;
        }
        let span = |(least, most): (i64, i64)| most.wrapping_sub(least) as u64;
        let (offsets, wide) = match &v.values {
            Values::I32(all) => {
                let least = v.bounds?.0;
                (offsets(all, span(v.bounds?), |v| i64::from(v).wrapping_sub(least) as u64)?, Wide::I32(i32::try_from(least).ok()?))
            }
            Values::I64(all) => {
                let least = v.bounds?.0;
                (offsets(all, span(v.bounds?), |v| v.wrapping_sub(least) as u64)?, Wide::I64(least))
            }
            Values::Str(Strings::Dict { codes, dict }) => {
                (offsets(codes, dict.values().len() as u64 - 1, |c| c as u64)?, Wide::Codes(Arc::clone(dict)))
            }
            _ => return None,
        };
        let share = |b: &Buf<u8>| Buf::Shared(b.clone().into_scalar_buffer());
        Some(Self { offsets, wide, valid: v.valid.as_ref().map(share), bounds: v.bounds })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory held, the entries of a dictionary included.
    pub fn bytes(&self) -> usize {
        let each = match &self.offsets {
            Offsets::U8(_) => 1,
            Offsets::U16(_) => 2,
            Offsets::U32(_) => 4,
        };
        let entries = if let Wide::Codes(dict) = &self.wide { dict.values().get_buffer_memory_size() } else { 0 };
        self.len() * each + self.valid.as_ref().map_or(0, |v| v.len()) + entries
    }

    /// The rows `start .. start + len`. Panics, as a slice does, when they lie outside.
    pub fn rows(&self, start: usize, len: usize) -> Vector {
        // SAFETY: no row is picked.
        let values = unsafe { self.values(start, len, None) };
        let valid = self.valid.as_ref().map(|v| Buf::Owned(v[start..start + len].to_vec()));
        Vector::with_valid(values, valid).within(self.bounds)
    }

    /// Those of the rows `start .. start + len` that `picked` names, relative to `start`, in its order.
    ///
    /// # Errors
    /// `Bug` for a row that is not among them. Panics, as a slice does, when they lie outside.
    pub fn picked(&self, start: usize, len: usize, picked: &[u32]) -> Result<Vector> {
        if picked.iter().any(|r| *r as usize >= len) {
            return Err(Error::bug("a row number outside its chunk"));
        }
        // SAFETY: every row is below `len`.
        let values = unsafe { self.values(start, len, Some(picked)) };
        let valid = self.valid.as_ref().map(|v| picked.iter().map(|r| v[start + *r as usize]).collect::<Vec<_>>().into());
        Ok(Vector::with_valid(values, valid).within(self.bounds))
    }

    /// # Safety
    /// Every row of `picked` is below `len`.
    // SAFETY: that of `Offsets::lifted`, as the caller sees to.
    unsafe fn values(&self, start: usize, len: usize, picked: Option<&[u32]>) -> Values {
        // SAFETY: the caller's.
        unsafe {
            match &self.wide {
                Wide::I32(base) => Values::I32(self.offsets.lifted(*base, start, len, picked)),
                Wide::I64(base) => Values::I64(self.offsets.lifted(*base, start, len, picked)),
                Wide::Codes(dict) => {
                    let codes = self.offsets.lifted(0i32, start, len, picked);
                    Values::Str(Strings::Dict { codes, dict: Arc::clone(dict) })
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Type;
    use crate::testing::{Gen, check_rows};

    /// Bounds of `v`, as a table that has measured its column knows them.
    fn measured(v: Vector) -> Vector {
        let valid: Vec<i64> = (0..v.values.len())
            .filter(|i| !v.is_null(*i))
            .filter_map(|i| match &v.values {
                Values::I32(all) => Some(all[i].into()),
                Values::I64(all) => Some(all[i]),
                _ => None,
            })
            .collect();
        let ends = valid.iter().min().copied().zip(valid.iter().max().copied());
        v.within(ends)
    }

    fn check(v: &Vector, g: &mut Gen) -> bool {
        let Some(narrow) = Narrow::of(v) else { return false };
        let n = v.values.len();
        assert_eq!(narrow.len(), n);
        let start = g.below(n as u64 + 1) as usize;
        let len = g.below((n - start) as u64 + 1) as usize;
        let rows = narrow.rows(start, len);
        assert_eq!(rows.bounds, v.bounds);
        check_rows(&rows, len, |i| v.value(start + i).unwrap());
        let picked: Vec<u32> = (0..if len == 0 { 0 } else { 40 }).map(|_| g.below(len as u64) as u32).collect();
        check_rows(&narrow.picked(start, len, &picked).unwrap(), picked.len(), |i| v.value(start + picked[i] as usize).unwrap());
        assert!(narrow.picked(start, len, &[len as u32]).is_err());
        true
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let mut g = Gen::new(71);
        let mut narrowed = 0;
        for round in 0..400 {
            let ty = [Type::I32, Type::I64, Type::Decimal, Type::Str, Type::F64, Type::Bool][round % 6];
            let n = [0, 1, 2, 65, 700][round % 5];
            let v = g.vector(ty, n, false);
            narrowed += usize::from(check(&measured(v), &mut g));
        }
        assert!(narrowed > 60, "{narrowed} of 400 registers were narrowed");
    }

    #[test]
    fn a_range_takes_the_bytes_that_it_needs() {
        let mut g = Gen::new(72);
        for (span, bytes) in [(0, 1), (255, 1), (256, 2), (65_535, 2), (65_536, 4), (u32::MAX.into(), 4), (1 << 32, 8), (u64::MAX, 8)] {
            for least in [i64::MIN, -7, 0, i64::MAX.wrapping_sub(span as i64)] {
                let Some(most) = least.checked_add_unsigned(span) else { continue };
                let v = measured(Vector::new(Values::I64(vec![least, most, least].into())));
                assert_eq!(check(&v, &mut g), bytes < 8);
                assert_eq!(Narrow::of(&v).map_or(24, |n| n.bytes()), 3 * bytes, "{least} to {most}");
            }
        }
        let days = measured(Vector::new(Values::I32(vec![i32::MIN, i32::MIN + 2_500].into())));
        assert_eq!(Narrow::of(&days).map(|n| n.bytes()), Some(4));
        let far = measured(Vector::new(Values::I32(vec![i32::MIN, i32::MAX].into())));
        assert!(Narrow::of(&far).is_none());
    }

    #[test]
    fn what_stands_at_a_null_does_not_count() {
        let mut g = Gen::new(73);
        let v = Vector::with_valid(Values::I64(vec![5, i64::MAX, 7].into()), Some(vec![1, 0, 1].into()));
        assert!(check(&measured(v), &mut g));
        assert!(Narrow::of(&Vector::with_valid(Values::I64(vec![5].into()), Some(vec![0].into()))).is_none());
    }
}
