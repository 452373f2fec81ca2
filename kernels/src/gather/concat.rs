//! Registers of several chunks as one.

use crate::group::Interner;
use crate::program::Type;
use crate::value::Value;
use crate::vector::{Dictionary, Strings, Values, Vector};
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, StringViewArray, make_view};
use std::sync::Arc;

/// The rows of `parts` (all of type `ty`, none constant), one after the other.
///
/// # Errors
/// `Bug` when the parts differ in type.
pub fn concat(parts: &[Vector], ty: Type) -> Result<Vector> {
    let rows: usize = parts.iter().map(|p| p.values.len()).sum();
    let Some(first) = parts.first() else {
        let empty = Vector::constant(&Value::Null, ty)?;
        return super::gather(&Vector { constant: false, ..empty }, &[]);
    };
    let mixed = || Error::bug("registers of different types in one column");
    macro_rules! joined {
        ($kind:ident) => {{
            let mut out = Vec::with_capacity(rows);
            for p in parts {
                match &p.values {
                    Values::$kind(v) => out.extend_from_slice(v),
                    _ => return Err(mixed()),
                }
            }
            Values::$kind(out.into())
        }};
    }
    let values = match &first.values {
        Values::Bool(_) => joined!(Bool),
        Values::I32(_) => joined!(I32),
        Values::F64(_) => joined!(F64),
        Values::I64(_) | Values::I128(_) if parts.iter().any(|p| matches!(p.values, Values::I128(_))) => {
            let mut out = Vec::with_capacity(rows);
            for p in parts {
                out.extend(crate::compare::widened(&p.values, p.values.len())?);
            }
            Values::I128(out.into())
        }
        Values::I64(_) | Values::I128(_) => joined!(I64),
        Values::Str(_) => Values::Str(strings(parts, rows)?),
        Values::Any(_) => {
            let arrays: Vec<&ArrayRef> = parts.iter().filter_map(|p| if let Values::Any(a) = &p.values { Some(a) } else { None }).collect();
            let refs: Vec<&dyn Array> = arrays.iter().map(|a| a.as_ref()).collect();
            Values::Any(arrow::compute::concat(&refs).map_err(Error::bug)?)
        }
    };
    let valid = parts.iter().any(|p| p.valid.is_some()).then(|| {
        let mut out = Vec::with_capacity(rows);
        for p in parts {
            match &p.valid {
                Some(v) => out.extend_from_slice(v),
                None => out.resize(out.len() + p.values.len(), 1),
            }
        }
        out.into()
    });
    Ok(Vector::with_valid(values, valid))
}

/// Dictionaries are merged into one as long as they are dictionaries; views stay views.
fn strings(parts: &[Vector], rows: usize) -> Result<Strings> {
    let all: Vec<&Strings> = parts.iter().filter_map(|p| if let Values::Str(s) = &p.values { Some(s) } else { None }).collect();
    if all.len() != parts.len() {
        return Err(Error::bug("registers of different types in one column"));
    }
    if let Some(shared) = one_dictionary(&all, rows) {
        return Ok(shared);
    }
    if all.iter().all(|s| matches!(s, Strings::Dict { .. })) {
        let mut interner = Interner::default();
        let mut ids = Vec::with_capacity(rows);
        for (p, s) in parts.iter().zip(&all) {
            interner.intern_all(s, false, p.valid.as_deref(), s.len(), &mut ids);
        }
        let codes = ids.iter().map(|i| *i as i32).collect::<Vec<_>>();
        return Ok(Strings::Dict { codes: codes.into(), dict: interner.dictionary().map_err(Error::bug)? });
    }
    let views: Vec<StringViewArray> = all.iter().map(|s| as_views(s)).collect();
    let refs: Vec<&dyn Array> = views.iter().map(|v| v as &dyn Array).collect();
    Ok(Strings::View(arrow::compute::concat(&refs).map_err(Error::bug)?.as_string_view().clone()))
}

/// Codes one after the other where every part is over the same dictionary, which keeps its identity.
fn one_dictionary(parts: &[&Strings], rows: usize) -> Option<Strings> {
    let Strings::Dict { dict: first, .. } = parts.first()? else { return None };
    let mut joined = Vec::with_capacity(rows);
    for p in parts {
        match p {
            Strings::Dict { codes, dict } if dict.id() == first.id() => joined.extend_from_slice(codes),
            _ => return None,
        }
    }
    Some(Strings::Dict { codes: joined.into(), dict: Arc::clone(first) })
}

/// Strings as views, without nulls.
pub fn as_views(s: &Strings) -> StringViewArray {
    match s {
        Strings::View(v) => v.clone(),
        Strings::Dict { codes, dict } => entries(dict, codes),
    }
}

/// The same rows, of whose strings nothing else is held: neither the pages that few of them are of, nor a dictionary with
/// more entries than there are rows.
pub fn compacted(v: &Vector) -> Vector {
    let text = match &v.values {
        Values::Str(Strings::View(text)) => text.gc(),
        Values::Str(s @ Strings::Dict { dict, .. }) if !v.constant && dict.values().len() > s.len() => as_views(s).gc(),
        _ => return v.clone(),
    };
    Vector { values: Values::Str(Strings::View(text)), valid: v.valid.clone(), ..*v }
}

/// The entries of `dict` that `codes` name, as views of its bytes.
pub(super) fn entries(dict: &Dictionary, codes: &[i32]) -> StringViewArray {
    if let Some(all) = dict.views_for(codes.len()) {
        return super::take_views(all, codes.iter().map(|c| *c as usize));
    }
    let values = dict.values();
    let ends = values.value_offsets();
    let views: Vec<u128> = codes.iter().map(|c| make_view(values.value(*c as usize).as_bytes(), 0, ends[*c as usize] as u32)).collect();
    // SAFETY: each view is of an entry, in the bytes of all entries.
    unsafe { StringViewArray::new_unchecked(views.into(), vec![values.values().clone()], None) }
}
