//! Codes of group keys that nobody has to look up: the keys are columns of a table in memory, of strings with one dictionary
//! for all rows, of booleans, or of integers in a small range. Such a code is the same in every query, so codes stay on the device
//! as columns do.

use crate::exec::StageExec;
use crate::program::{Sink, physical};
use crate::resident::{Known, ResidentSource};
use arrow::array::Array;
use millstream_kernels::gpu::Device;
use millstream_kernels::program::{Reg, Type};
use millstream_kernels::{Strings, Values, Vector};
use std::sync::Arc;

/// Codes of all keys together, at most, and as many as the table has rows if those are more than a few: their groups come home
/// whether they have rows or not.
const CODES_MAX: u32 = 1 << 18;
const CODES_FEW: usize = 1 << 12;

/// Group keys with codes that follow from the table.
pub(in crate::run) struct DirectKeys {
    keys: Vec<Key>,
    /// Number of codes, those of groups without rows included.
    pub codes: u32,
}

struct Key {
    known: Known,
    ty: Type,
    /// One more than there are values, for null, where the column has any.
    codes: u32,
    nullable: bool,
}

impl DirectKeys {
    /// The keys of a group stage over a table in memory; none where some key has to be looked up.
    pub fn of(stage: &StageExec) -> Option<Self> {
        let (source, keys) = source(stage)?;
        let key = |c: &usize| {
            let (known, nullable) = source.known(*c)?;
            let values = match &known {
                Known::Dictionary(dict) => u32::try_from(dict.values().len()).ok()?,
                Known::Between(low, high) => u32::try_from(high.checked_sub(*low)?.checked_add(1)?).ok()?,
                Known::Bool => 2,
            };
            let ty = physical(stage.input().schema().field(*c).data_type());
            Some(Key { known, ty, codes: values.checked_add(nullable.into())?.max(1), nullable })
        };
        let keys = keys.iter().map(key).collect::<Option<Vec<_>>>()?;
        let most = CODES_MAX.min(u32::try_from(source.table().rows().max(CODES_FEW)).unwrap_or(CODES_MAX));
        let codes = keys.iter().try_fold(1u32, |n, k| n.checked_mul(k.codes)).filter(|n| *n <= most)?;
        Some(Self { keys, codes })
    }

    /// The share of their codes that is on `device`.
    pub fn share_on(stage: &StageExec, device: &Device) -> f64 {
        source(stage).map_or(0.0, |(source, keys)| source.codes_share_on(device, &keys))
    }

    /// The code of each of `rows` rows; none where a column is not the table's.
    pub fn codes(&self, columns: &[Vector], rows: usize) -> Option<Vector> {
        let mut all = vec![0i32; rows];
        for (key, v) in self.keys.iter().zip(columns) {
            let null = key.codes as i32 - 1;
            let valid = v.valid.as_deref().filter(|_| key.nullable);
            let mut add = |code: &mut dyn FnMut(usize) -> Option<i32>| {
                all.iter_mut().enumerate().try_for_each(|(i, sum)| {
                    let code = if valid.is_some_and(|valid| valid[i] == 0) { null } else { code(i)? };
                    *sum = *sum * key.codes as i32 + code;
                    Some(())
                })
            };
            let codes = key.codes as i64;
            let within = |value: i64, low: i64| value.checked_sub(low).filter(|code| (0..codes).contains(code)).map(|code| code as i32);
            match (&key.known, &v.values) {
                _ if v.constant || v.values.len() < rows => return None,
                (Known::Dictionary(dict), Values::Str(Strings::Dict { codes, dict: here })) if dict.id() == here.id() => {
                    add(&mut |i| Some(codes[i]))?;
                }
                (Known::Between(low, _), Values::I32(v)) => add(&mut |i| within(v[i].into(), *low))?,
                (Known::Between(low, _), Values::I64(v)) => add(&mut |i| within(v[i], *low))?,
                (Known::Bool, Values::Bool(v)) => add(&mut |i| Some(v[i].into()))?,
                _ => return None,
            }
        }
        Some(Vector::new(Values::I32(all.into())))
    }

    /// The key columns of the groups of these codes.
    pub fn keys(&self, codes: &[u32]) -> Vec<Vector> {
        let mut stride = self.codes;
        let key = |key: &Key| {
            stride /= key.codes;
            let of = |code: &u32| code / stride % key.codes;
            let is_null = |code: &u32| key.nullable && *code == key.codes - 1;
            let here: Vec<u32> = codes.iter().map(of).collect();
            let valid = key.nullable.then(|| here.iter().map(|c| u8::from(!is_null(c))).collect::<Vec<u8>>().into());
            let offsets = here.iter().map(|c| if is_null(c) { 0 } else { *c });
            let values = match &key.known {
                Known::Dictionary(dict) => {
                    let codes = offsets.map(|c| c as i32).collect::<Vec<_>>().into();
                    Values::Str(Strings::Dict { codes, dict: Arc::clone(dict) })
                }
                Known::Bool => Values::Bool(offsets.map(|c| c as u8).collect::<Vec<_>>().into()),
                // Both ends are values of the column's own type.
                Known::Between(low, _) if key.ty == Type::I32 => {
                    Values::I32(offsets.map(|c| (low + i64::from(c)) as i32).collect::<Vec<_>>().into())
                }
                Known::Between(low, _) => Values::I64(offsets.map(|c| low + i64::from(c)).collect::<Vec<_>>().into()),
            };
            Vector::with_valid(values, valid)
        };
        self.keys.iter().map(key).collect()
    }
}

/// The table in memory below a group stage whose keys are columns of it, and which: output columns of the source.
fn source(stage: &StageExec) -> Option<(&ResidentSource, Vec<usize>)> {
    let Sink::Group { keys, .. } = stage.sink() else { return None };
    let column = |r: &Reg| stage.program().inputs.get(usize::from(*r)).copied();
    let columns = keys.iter().map(column).collect::<Option<Vec<_>>>().filter(|c| !c.is_empty())?;
    Some((ResidentSource::below(stage.input())?, columns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_kernels::Dictionary;

    fn keys() -> (DirectKeys, Vec<Vector>) {
        let dict = Dictionary::new(vec!["a", "b", "c"].into());
        let key = |known, ty, codes, nullable| Key { known, ty, codes, nullable };
        let all = vec![
            key(Known::Dictionary(Arc::clone(&dict)), Type::Str, 4, true),
            key(Known::Between(-2, 3), Type::I32, 6, false),
            key(Known::Bool, Type::Bool, 3, true),
            key(Known::Between(1 << 40, (1 << 40) + 1), Type::I64, 2, false),
        ];
        let rows = 4 * 6 * 3 * 2;
        let at = |i: usize, stride: usize, codes: usize| i / stride % codes;
        let strings = Strings::Dict { codes: (0..rows).map(|i| at(i, 36, 4).min(2) as i32).collect::<Vec<_>>().into(), dict };
        let valid =
            |stride: usize, codes: usize| Some((0..rows).map(|i| u8::from(at(i, stride, codes) < codes - 1)).collect::<Vec<_>>().into());
        let columns = vec![
            Vector::with_valid(Values::Str(strings), valid(36, 4)),
            Vector::new(Values::I32((0..rows).map(|i| at(i, 6, 6) as i32 - 2).collect::<Vec<_>>().into())),
            Vector::with_valid(Values::Bool((0..rows).map(|i| at(i, 2, 3).min(1) as u8).collect::<Vec<_>>().into()), valid(2, 3)),
            Vector::new(Values::I64((0..rows).map(|i| (1 << 40) + at(i, 1, 2) as i64).collect::<Vec<_>>().into())),
        ];
        (DirectKeys { keys: all, codes: rows as u32 }, columns)
    }

    #[test]
    fn codes_are_numbers_of_the_keys_and_give_them_back() {
        let (keys, columns) = keys();
        let codes = keys.codes(&columns, 144).unwrap();
        let Values::I32(codes) = &codes.values else { panic!("codes are numbers") };
        assert_eq!(codes.to_vec(), (0..144).collect::<Vec<_>>());
        let back = keys.keys(&codes.iter().map(|c| *c as u32).collect::<Vec<_>>());
        for (a, b) in columns.iter().zip(&back) {
            (0..144).for_each(|i| assert_eq!(a.value(i).unwrap(), b.value(i).unwrap(), "row {i}"));
        }
    }

    #[test]
    fn what_is_not_the_tables_has_no_codes() {
        let (keys, mut columns) = keys();
        columns[1] = Vector::new(Values::I32(vec![4; 144].into()));
        assert!(keys.codes(&columns, 144).is_none());
        let (keys, mut columns) = self::keys();
        let codes = vec![0; 144].into();
        columns[0] = Vector::new(Values::Str(Strings::Dict { codes, dict: Dictionary::new(vec!["a", "b", "c"].into()) }));
        assert!(keys.codes(&columns, 144).is_none());
    }
}
