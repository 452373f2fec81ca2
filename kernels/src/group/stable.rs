//! The hash of a logical value: the same in every encoding and width, in every process.

use crate::vector::{Strings, Values, Vector};
use crate::{Error, Result, hash};

/// Adds the stable hash of a register's rows to `hashes`.
///
/// # Errors
/// `Unsupported` for types without kernels.
pub fn stable_hash(v: &Vector, hashes: &mut [u64]) -> Result<()> {
    let mut per_entry = vec![];
    if let Values::Str(Strings::Dict { dict, .. }) = &v.values {
        per_entry.extend(dict.values().iter().map(|s| hash::bytes(s.unwrap_or("").as_bytes())));
    }
    for (i, h) in hashes.iter_mut().enumerate() {
        let at = v.at(i);
        let value = match &v.values {
            _ if v.is_null(i) => hash::NULL,
            Values::Bool(x) => hash::word(x[at].into()),
            Values::I32(x) => hash::int(x[at].into()),
            Values::I64(x) => hash::int(x[at].into()),
            Values::I128(x) => hash::int(x[at]),
            Values::F64(x) => hash::float(x[at]),
            Values::Str(Strings::Dict { codes, .. }) => per_entry[codes[at] as usize],
            Values::Str(s) => hash::bytes(s.value(at).as_bytes()),
            Values::Any(_) => return Err(Error::unsupported("hash of a type without kernels")),
        };
        *h = hash::combine(*h, value);
    }
    Ok(())
}
