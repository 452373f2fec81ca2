//! Registers of the host as columns of the device, and join tables as tables of the device.

use super::super::chunk::{Chunks, Columns, Registers};
use super::super::{Bound, Built};
use super::split::TablePart;
use crate::context::Cancel;
use crate::{Error, Result};
use millstream_kernels::gpu::{Device, HostColumn, HostIndex, HostTable, HostValues, KeptColumn, Piece, RunOptions};
use millstream_kernels::group::Groups;
use millstream_kernels::join::ByCode;
use millstream_kernels::program::{Instr, Reg, Type};
use millstream_kernels::{Values, Vector, gather};
use std::sync::Arc;

/// A join table that the device probes.
pub(super) struct DeviceTable {
    built: Arc<Built>,
    columns: Vec<Vector>,
    /// What the codes of its group keys stand for.
    codes: Vec<Groups>,
}

impl DeviceTable {
    /// The table of `part`; none where its keys have no codes, where a value does not fit 64 bits, or where a row
    /// that may never be found makes the host's part fail.
    pub(super) fn new(part: &TablePart, bound: &Arc<Bound>, cancel: &Cancel) -> Option<Self> {
        let built = Arc::clone(bound.tables.get(usize::from(part.table))?);
        built.table.by_code()?;
        let mut columns = columns(part, bound, &built, cancel).ok()?;
        let mut codes = vec![];
        for (key, values) in part.codes.iter().zip(columns.split_off(part.columns.len())) {
            let mut groups = Groups::new(&[bound.program.key_type(*key)]);
            let mut ids = vec![];
            groups.ids(&[&values], built.table.rows(), &mut ids).ok()?;
            columns.push(Vector::new(Values::I32(ids.into_iter().map(|id| id as i32).collect::<Vec<_>>().into())));
            codes.push(groups);
        }
        let columns = columns.into_iter().map(narrowed).collect::<Option<Vec<_>>>()?;
        Some(Self { built, columns, codes })
    }

    /// What the codes of its group keys stand for, key by key.
    pub(super) fn codes(&self) -> &[Groups] {
        &self.codes
    }

    /// As the device takes it.
    pub(super) fn host(&self) -> Option<HostTable<'_>> {
        let index = match self.built.table.by_code()? {
            ByCode::Array(slots) => HostIndex::Array(slots),
            ByCode::Hash { codes, heads } => HostIndex::Hash { codes, heads },
        };
        let rows = self.built.table.rows();
        // Keys that the host makes codes of are counted from 0.
        let min_key = self.built.table.origin().unwrap_or(0);
        Some(HostTable { min_key, index, columns: self.columns.iter().map(|v| host_column(v, rows)).collect::<Option<_>>()? })
    }
}

/// Runs the host's part over all rows of a table.
fn columns(part: &TablePart, bound: &Arc<Bound>, built: &Built, cancel: &Cancel) -> Result<Vec<Vector>> {
    let rows = built.table.rows();
    let mut regs = Registers::new(bound.program.types.len(), rows);
    let mut chunks = Chunks::new(Arc::clone(bound), cancel.clone());
    for i in &part.instrs {
        match i {
            Instr::Gather { column, out, .. } => {
                let column = built.columns.get(usize::from(*column)).ok_or_else(|| Error::bug("a table has no such column"))?;
                regs.set(*out, column.clone());
            }
            i => chunks.step(i, &mut regs)?,
        }
    }
    part.columns.iter().chain(&part.codes).map(|r| Ok(gather::expand(regs.get(*r)?, rows)?)).collect()
}

/// A register as the device takes it: integers of at most 64 bits and booleans as they are, of anything
/// else only the validity. None where a value does not fit 64 bits.
pub(super) fn narrowed(v: Vector) -> Option<Vector> {
    let values = match &v.values {
        Values::Bool(_) | Values::I32(_) | Values::I64(_) => return Some(v),
        Values::I128(wide) => {
            let narrow = |(i, w): (usize, &i128)| if v.is_null(i) { Some(0) } else { i64::try_from(*w).ok() };
            Values::I64(wide.iter().enumerate().map(narrow).collect::<Option<Vec<i64>>>()?.into())
        }
        other => Values::Bool(vec![0; other.len()].into()),
    };
    Some(Vector::with_valid(values, v.valid))
}

/// The first `rows` rows of a register that went through [`narrowed`].
pub(super) fn host_column(v: &Vector, rows: usize) -> Option<HostColumn<'_>> {
    let values = match &v.values {
        Values::Bool(b) => HostValues::Bool(b.get(..rows)?),
        Values::I32(b) => HostValues::I32(b.get(..rows)?),
        Values::I64(b) => HostValues::I64(b.get(..rows)?),
        _ => return None,
    };
    let valid = match &v.valid {
        Some(valid) => Some(valid.get(..rows)?),
        None => None,
    };
    Some(HostColumn { values, valid, piece: None })
}

/// A column of a block as the device is given it.
pub(super) enum Input {
    /// From here; what it is, if it may stay there.
    Host(Vector, Option<Piece>),
    /// It is there.
    Kept(Arc<KeptColumn>),
}

impl Input {
    /// Column `c`, of type `ty`, of the `len` rows of `columns` from `start` on: what is on the device is not read. None where
    /// a value does not fit 64 bits.
    ///
    /// # Errors
    /// What reading the column raises.
    pub(super) fn read(
        columns: &mut dyn Columns,
        (c, ty): (Reg, Type),
        (start, len): (usize, usize),
        place: &Place,
    ) -> Result<Option<Self>> {
        let piece = columns.piece(usize::from(c), start).filter(|_| stays(ty));
        if let Some(kept) = piece.and_then(|p| place.device.kept(&p, len, place.moment)) {
            return Ok(Some(Self::Kept(kept)));
        }
        let column = narrowed(columns.column(usize::from(c), start, len, None)?);
        Ok(column.map(|v| Self::Host(v, piece)))
    }

    /// Its first `rows` rows.
    pub(super) fn column(&self, rows: usize) -> Option<HostColumn<'_>> {
        match self {
            Self::Host(v, piece) => Some(HostColumn { piece: *piece, ..host_column(v, rows)? }),
            Self::Kept(kept) => Some(HostColumn::new(HostValues::Kept(kept))),
        }
    }
}

/// Whether a column of type `ty` stays on the device as its values: of anything but integers and booleans it is given codes, or
/// which values are null.
pub(super) fn stays(ty: Type) -> bool {
    matches!(ty, Type::Bool | Type::I32 | Type::I64 | Type::Decimal)
}

/// The device of a stage, and when the stage began.
pub(super) struct Place {
    pub device: Arc<Device>,
    pub moment: u64,
}

impl Place {
    pub(super) fn new(device: Arc<Device>) -> Self {
        let moment = device.moment();
        Self { device, moment }
    }

    pub(super) fn options(&self, cancel: &Cancel) -> RunOptions {
        RunOptions { cancel: cancel.flag(), moment: self.moment, ..RunOptions::default() }
    }
}
