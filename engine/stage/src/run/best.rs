//! The first rows of all by some keys: what each worker keeps, what all know of the last of them, and the pieces of input
//! that cannot have a row before it.

use super::chunk::Registers;
use super::gpu::DeviceOrder;
use super::sink::rows_in_order;
use crate::convert::{Block, Reader};
use crate::exec::StageExec;
use crate::program::{KeyOrder, Program, Reg, Sink, SortKey};
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use millstream_kernels::sort::behind;
use millstream_kernels::{Values, Vector, gather};
use std::sync::{Arc, Mutex, PoisonError};

/// Rows beside those that are wanted, after which a worker sorts what it has.
const SPARE_ROWS: usize = 4096;
/// The same where a device sorts: it is asked seldom, and for much.
const DEVICE_SPARE_ROWS: usize = 1 << 17;

/// The first key of a row that as many rows come before as are wanted, by any worker.
pub(super) struct Last {
    order: KeyOrder,
    /// Of rows that are equal in the only key any may be first.
    strictly: bool,
    /// One row, once there are enough.
    key: Mutex<Option<Vector>>,
}

impl Last {
    /// For a sink of the first rows of all that come, by one key or more.
    pub(super) fn of(sink: &Sink) -> Option<Arc<Self>> {
        let Sink::Sort { order, fetch: Some(_), groups, .. } = sink else { return None };
        let first = order.first().filter(|_| groups.is_empty())?;
        Some(Arc::new(Self { order: first.order(), strictly: order.len() == 1, key: Mutex::default() }))
    }

    fn key(&self) -> Option<Vector> {
        self.key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another such row; the first of all counts.
    fn lower(&self, key: Vector) -> Result<()> {
        let mut known = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let is_before = match &*known {
            Some(known) => behind(&key, 1, known, self.order, true)? == [1],
            None => true,
        };
        if is_before {
            *known = Some(key);
        }
        Ok(())
    }
}

/// The rows of one worker.
pub(super) struct BestRows {
    order: Vec<SortKey>,
    types: Vec<DataType>,
    fetch: usize,
    last: Arc<Last>,
    device: Option<Arc<DeviceOrder>>,
}

impl BestRows {
    /// The first `fetch` rows of a sink of these registers; `device` finds them where there is one.
    pub(super) fn new(
        program: &Program,
        registers: &[Reg],
        (order, fetch): (&[SortKey], usize),
        last: Arc<Last>,
        device: Option<Arc<DeviceOrder>>,
    ) -> Self {
        let types = registers.iter().map(|r| program.data_type(*r).clone()).collect();
        Self { order: order.to_vec(), types, fetch, last, device }
    }

    /// Drops the rows of a chunk that come behind the last; no more than the first key is read of them. Whether there is
    /// a last row yet, so that few are left.
    ///
    /// # Errors
    /// What reading a column raises.
    pub(super) fn leave_out(&self, regs: &mut Registers, registers: &[Reg]) -> Result<bool> {
        let (Some(last), [first, ..]) = (self.last.key(), &self.order[..]) else { return Ok(false) };
        let key = registers[first.column];
        regs.sync(key)?;
        let keep = behind(regs.get(key)?, regs.rows, &last, self.last.order, self.last.strictly)?;
        regs.keep(keep, false);
        regs.settle();
        Ok(true)
    }

    /// Whether most of `rows` kept rows need not be.
    pub(super) fn is_stale(&self, rows: usize) -> bool {
        let spare = if self.device.is_some() { DEVICE_SPARE_ROWS } else { SPARE_ROWS };
        rows > self.fetch.saturating_mul(2).saturating_add(spare)
    }

    /// The first of these rows.
    ///
    /// # Errors
    /// What the sort raises.
    pub(super) fn rows(&self, columns: Vec<Vector>, rows: usize) -> Result<Block> {
        let block = Block { columns, rows };
        let first = rows_in_order(&block, &self.types, &self.order, Some(self.fetch), self.device.as_deref())?;
        let columns = block.columns.iter().map(|c| Ok(gather::compacted(&gather::gather(c, &first)?))).collect::<Result<Vec<_>>>()?;
        if let (Some(key), Some(end)) = (self.order.first(), first.len().checked_sub(1)) {
            self.last.lower(gather::gather(&columns[key.column], &[end as u32])?)?;
        }
        Ok(Block { columns, rows: first.len() })
    }
}

/// Least and greatest value of a column in one piece of input, one row each, and how many rows are null; what statistics
/// do not tell is absent.
pub(crate) struct Ends {
    pub least: Option<ArrayRef>,
    pub greatest: Option<ArrayRef>,
    pub nulls: Option<u64>,
}

/// The first key of the first row that each piece of input may have.
pub(super) struct Bar {
    last: Arc<Last>,
    /// One row for each piece; none where it is not known.
    best: Vec<Option<Vector>>,
}

impl Bar {
    /// If the first rows of `stage` are wanted and their first key is a column of its input: `ends` has those of the pieces,
    /// by output column of the leaf. None for keys that statistics do not tell the ends of, as floats, whose NaN they leave out.
    ///
    /// # Errors
    /// `Unsupported` for a type that is no register's.
    pub(super) fn new(last: Option<&Arc<Last>>, stage: &StageExec, ends: impl Fn(usize) -> Vec<Ends>) -> Result<Option<Self>> {
        let (Some(last), Sink::Sort { columns, order, .. }) = (last, stage.sink()) else { return Ok(None) };
        let first = order.first().map(|k| usize::from(columns[k.column]));
        let Some(column) = first.and_then(|r| stage.program().inputs.get(r)) else { return Ok(None) };
        let best = ends(*column).iter().map(|e| best(e, last.order)).collect::<Result<Vec<_>>>()?;
        let covered = |v: &Vector| !matches!(v.values, Values::F64(_) | Values::Any(_));
        let useful = best.iter().any(Option::is_some) && best.iter().flatten().all(covered);
        Ok(useful.then(|| Self { last: Arc::clone(last), best }))
    }

    /// The numbers of the pieces, those with the first rows first.
    ///
    /// # Errors
    /// `Bug` when the ends differ in type.
    pub(super) fn order(&self) -> Result<Vec<usize>> {
        let mut all: Vec<usize> = (0..self.best.len()).collect();
        let mut failed = None;
        all.sort_by(|a, b| match (&self.best[*a], &self.best[*b]) {
            (Some(a), Some(b)) => match (behind(a, 1, b, self.last.order, true), behind(b, 1, a, self.last.order, true)) {
                (Ok(a), Ok(b)) => b.cmp(&a),
                (Err(e), _) | (_, Err(e)) => {
                    failed = Some(e);
                    std::cmp::Ordering::Equal
                }
            },
            (a, b) => a.is_some().cmp(&b.is_some()),
        });
        failed.map_or(Ok(all), |e| Err(Error::from(e)))
    }

    /// Whether no row of piece `p` can be among the first.
    pub(super) fn rules_out(&self, p: usize) -> bool {
        let (Some(best), Some(last)) = (&self.best[p], self.last.key()) else { return false };
        behind(best, 1, &last, self.last.order, self.last.strictly).is_ok_and(|stays| stays == [0])
    }
}

fn best(ends: &Ends, order: KeyOrder) -> Result<Option<Vector>> {
    let end = if order.descending { &ends.greatest } else { &ends.least };
    let (Some(end), Some(nulls)) = (end, ends.nulls) else { return Ok(None) };
    // Without a value it may have nothing but nulls, or the ends are not known.
    if end.is_null(0) || order.nulls_first && nulls > 0 {
        return Ok(None);
    }
    Ok(Some(Reader::default().vector(end)?))
}
