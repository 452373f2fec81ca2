//! Predicates on columns of strings as sets of codes.
//!
//! Where a block has its strings as codes of a dictionary, the predicate is evaluated once an entry and the device
//! tests a bit a row. Any other block's rows are evaluated here, and their codes are 0 and 1; not where that would be
//! all of the work.

use super::super::chunk::{Chunks, Registers};
use super::rows::{DeviceRows, Read};
use super::select::Predicate;
use crate::{Error, Result};
use arrow::array::Array;
use millstream_kernels::gpu::{HostColumn, HostValues, KeptColumn, Piece};
use millstream_kernels::program::Instr;
use millstream_kernels::{Buf, Strings, Values, Vector, gather};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Entries of the dictionaries that become sets, at most, all predicates together: sets travel with the parameters of a
/// dispatch.
const ENTRIES_MAX: usize = 24 * 1024;

/// A predicate over the rows of a block.
pub(super) struct Codes {
    column: CodeColumn,
    /// A bit a code: whether the predicate holds.
    pub set: Arc<Vec<u32>>,
}

enum CodeColumn {
    /// Here; what they are, if they may stay on the device.
    Host(Vec<i32>, Option<Vec<u8>>, Option<Piece>),
    Kept(Arc<KeptColumn>),
}

impl Codes {
    /// As the device is given them.
    pub(super) fn column(&self) -> HostColumn<'_> {
        match &self.column {
            CodeColumn::Host(codes, valid, piece) => HostColumn { values: HostValues::I32(codes), valid: valid.as_deref(), piece: *piece },
            CodeColumn::Kept(kept) => HostColumn::new(HostValues::Kept(kept)),
        }
    }
}

/// A dictionary's identity and the set that a predicate makes of it; none where it raised or some entry gave null.
type Known = (u64, Option<Arc<Vec<u32>>>);

/// What is known of the last dictionary of each predicate.
#[derive(Default)]
pub(super) struct Remembered(Mutex<HashMap<usize, Known>>);

impl Remembered {
    /// Predicate `n` of a run over the rows that were `read`.
    ///
    /// # Errors
    /// `Unsupported` where the device has nothing to do without codes; what the predicate raises.
    pub(super) fn of(&self, n: usize, p: &Predicate, read: &Read, run: &DeviceRows) -> millstream_kernels::Result<Codes> {
        let (c, rows) = (usize::from(p.column), read.block.rows);
        let column = &read.block.columns[c];
        // What a call makes of null is its own affair.
        let is_null_null = column.valid.is_none() || !matches!(p.instr, Instr::Call { .. });
        if let (Values::Str(Strings::Dict { codes, dict }), false, true) = (&column.values, column.constant, is_null_null)
            && let Some(set) = self.set(n, p, dict, run)
        {
            let column = match read.pieces[c].and_then(|p| run.kept(&p, rows)) {
                Some(kept) => CodeColumn::Kept(kept),
                None => {
                    let valid = column.valid.as_ref().map(|v| v[..rows].to_vec());
                    CodeColumn::Host(codes[..rows].to_vec(), valid, read.pieces[c])
                }
            };
            return Ok(Codes { column, set });
        }
        if run.split.needs_codes {
            return Err(millstream_kernels::Error::unsupported("strings without a dictionary"));
        }
        let result = evaluated(p, column, rows, run).map_err(|e| millstream_kernels::Error::unsupported(e.to_string()))?;
        let Values::Bool(holds) = &result.values else { return Err(millstream_kernels::Error::bug("a predicate that is no boolean")) };
        let codes = holds[..rows].iter().map(|v| i32::from(*v)).collect();
        let column = CodeColumn::Host(codes, result.valid.map(|v| v[..rows].to_vec()), None);
        Ok(Codes { column, set: Arc::new(vec![0b10]) })
    }

    fn set(&self, n: usize, p: &Predicate, dict: &Arc<millstream_kernels::Dictionary>, run: &DeviceRows) -> Option<Arc<Vec<u32>>> {
        let entries = dict.values().len();
        if entries > ENTRIES_MAX / run.split.predicates.len().max(1) {
            return None;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((id, set)) = known.get(&n)
            && *id == dict.id()
        {
            return set.clone();
        }
        let codes = Buf::from((0..entries as i32).collect::<Vec<_>>());
        let all = Vector::new(Values::Str(Strings::Dict { codes, dict: Arc::clone(dict) }));
        let result = evaluated(p, &all, entries, run).ok();
        let set = result.and_then(|v| match &v.values {
            Values::Bool(holds) if v.valid.as_ref().is_none_or(|valid| !valid[..entries].contains(&0)) => {
                let mut words = vec![0u32; entries.div_ceil(32).max(1)];
                holds[..entries].iter().enumerate().for_each(|(i, v)| words[i / 32] |= u32::from(*v) << (i % 32));
                Some(Arc::new(words))
            }
            _ => None,
        });
        known.insert(n, (dict.id(), set.clone()));
        set
    }
}

/// The predicate over `n` values of its column.
fn evaluated(p: &Predicate, column: &Vector, n: usize, run: &DeviceRows) -> Result<Vector> {
    let program = &run.whole.program;
    let mut chunks = Chunks::new(Arc::clone(&run.whole), run.cancel.clone());
    let mut regs = Registers::new(program.types.len(), n);
    let column_is_read = |r: &u16| *r == p.column;
    regs.set(p.column, column.clone());
    for r in p.instr.reads().iter().filter(|r| !column_is_read(r)) {
        let constant = program.instrs.iter().find(|i| matches!(i, Instr::Const { out, .. } if out == r));
        chunks.step(constant.ok_or_else(|| Error::bug("a predicate on more than a column"))?, &mut regs)?;
    }
    chunks.step(&p.instr, &mut regs)?;
    Ok(gather::expand(regs.get(p.out)?, n)?)
}
