//! Columns that stay on the device from query to query.
//!
//! What stays is a [`Piece`], some rows of a column of a table that never changes, packed as a chunk has it. The first
//! chunk that needs it brings it from the host, and leaves a copy; later ones copy it into their place on the
//! device, which costs its memory's bandwidth twice and no bus.
//!
//! Invariants. A piece is only let go under the lock of the index, and only when nobody else holds it: a chunk on its
//! way to the device holds what it was promised. A query lets go of nothing that it has used itself: a table larger than the
//! budget keeps its first part rather than chasing its own tail.

use super::lower::Storage;
use super::pack::{Measured, words_of};
use super::pool::{Lease, Role, rounded};
use super::worker::Worker;
use super::{Device, device};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of columns that stay where no limit of device memory is set: on a card of its own, and on what shares the
/// host's memory.
const KEPT_BYTES_DISCRETE: u64 = 4 << 30;
const KEPT_BYTES_SHARED: u64 = 1 << 30;

/// The name of a table on every device of this process. When it is dropped, devices let go of what they keep of the table.
#[derive(Debug)]
pub struct TableId(u64);

impl TableId {
    /// A name that no table had before.
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Rows of its column `column` from `first` on. `wide`: the column, not only these rows, has values past 32 bits;
    /// `nullable`: it has nulls.
    pub fn piece(&self, column: u32, first: u64, wide: bool, nullable: bool) -> Piece {
        Piece { table: self.0, column, first, wide, nullable }
    }
}

impl Drop for TableId {
    fn drop(&mut self) {
        let table = self.0;
        for device in device::in_use() {
            device.post(move |worker| worker.forget(table));
        }
    }
}

/// Some rows of a column of a table that never changes; how many is known beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Piece {
    table: u64,
    column: u32,
    first: u64,
    pub(super) wide: bool,
    pub(super) nullable: bool,
}

/// A piece that is on the device: its buffer is the device thread's, under this number.
#[derive(Debug)]
pub struct KeptColumn {
    pub(super) slot: u64,
    /// Of device memory that it takes.
    bytes: u64,
    pub(super) storage: Storage,
    pub(super) rows: usize,
    /// The values lie at its beginning; the word where the validity begins, if it has any.
    pub(super) valid_at: Option<usize>,
    pub(super) measured: Measured,
    /// The moment of the last query that used it.
    used: AtomicU64,
}

/// Words on their way from a piece into a chunk: first word there, first word here, how many.
#[derive(Debug)]
pub(super) struct Copied {
    pub column: Arc<KeptColumn>,
    pub spans: Vec<(usize, usize, usize)>,
}

/// A part of a chunk that is to stay: where its values and its validity lie.
#[derive(Debug)]
pub(super) struct ToKeep {
    pub piece: Piece,
    pub storage: Storage,
    pub rows: usize,
    pub values_at: usize,
    pub valid_at: Option<usize>,
    pub measured: Measured,
}

impl ToKeep {
    fn words(&self) -> (usize, usize) {
        let valid = self.valid_at.map_or(0, |_| words_of(Storage::Bits, self.rows));
        (words_of(self.storage, self.rows), valid)
    }
}

/// What a device keeps.
#[derive(Default)]
pub(super) struct Residents {
    pieces: HashMap<Piece, Arc<KeptColumn>>,
    /// No longer wanted, and in use by a chunk on its way.
    doomed: Vec<Arc<KeptColumn>>,
    /// Rows of the pieces of each column of a table.
    rows: HashMap<(u64, u32), u64>,
    /// Bytes of both, and of those whose copies are being made.
    bytes: u64,
}

impl Residents {
    /// Bytes kept.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Of what [`Worker::room`] made room for.
    fn insert(&mut self, piece: Piece, column: KeptColumn) {
        *self.rows.entry((piece.table, piece.column)).or_default() += column.rows as u64;
        if let Some(before) = self.pieces.insert(piece, Arc::new(column)) {
            self.uncount(&piece, &before);
            self.doomed.push(before);
        }
    }

    fn remove(&mut self, piece: &Piece) -> Option<Arc<KeptColumn>> {
        let column = self.pieces.remove(piece)?;
        self.uncount(piece, &column);
        Some(column)
    }

    fn uncount(&mut self, piece: &Piece, column: &KeptColumn) {
        let key = (piece.table, piece.column);
        let left = self.rows.get(&key).map_or(0, |rows| rows.saturating_sub(column.rows as u64));
        if left == 0 {
            self.rows.remove(&key)
        } else {
            self.rows.insert(key, left)
        };
    }

    /// Takes out what was used longest ago, before `moment`, and is not in use now; its slot.
    fn let_go(&mut self, moment: u64) -> Option<u64> {
        let free = self.pieces.iter().filter(|(_, c)| Arc::strong_count(c) == 1 && c.used.load(Ordering::Relaxed) < moment);
        let oldest = free.min_by_key(|(_, c)| c.used.load(Ordering::Relaxed)).map(|(piece, _)| *piece)?;
        let column = self.remove(&oldest)?;
        self.bytes -= column.bytes;
        Some(column.slot)
    }

    /// Of the unwanted, what is in use no longer: its slots.
    fn swept(&mut self) -> Vec<u64> {
        let (free, held) = std::mem::take(&mut self.doomed).into_iter().partition::<Vec<_>, _>(|c| Arc::strong_count(c) == 1);
        self.doomed = held;
        self.bytes -= free.iter().map(|c| c.bytes).sum::<u64>();
        free.iter().map(|c| c.slot).collect()
    }
}

impl Device {
    /// A number for a query that uses [`Device::kept`]: greater than all before.
    pub fn moment(&self) -> u64 {
        self.new_run_id() + 1
    }

    /// The `rows` rows of `piece` if they are on the device, where they then stay until nobody holds them.
    pub fn kept(&self, piece: &Piece, rows: usize, moment: u64) -> Option<Arc<KeptColumn>> {
        let residents = self.residents();
        let column = residents.pieces.get(piece).filter(|c| c.rows == rows)?;
        column.used.fetch_max(moment, Ordering::Relaxed);
        Some(Arc::clone(column))
    }

    /// Rows of column `column` of a table that are on the device.
    pub fn kept_rows(&self, table: &TableId, column: u32) -> u64 {
        self.residents().rows.get(&(table.0, column)).copied().unwrap_or(0)
    }
}

impl Worker {
    /// Bytes that may stay.
    fn kept_bytes_max(&self) -> u64 {
        match self.pool.limit_bytes {
            u64::MAX if self.is_discrete => KEPT_BYTES_DISCRETE,
            u64::MAX => KEPT_BYTES_SHARED,
            // What chunks on their way hold cannot make room: runs have the other half whatever comes.
            limit => limit / 2,
        }
    }

    /// Room for what of a chunk is to stay, as far as there is any, and the copies that fill it.
    pub(super) fn begin_keeping(
        &mut self,
        to_keep: &[ToKeep],
        moment: u64,
        chunk: &wgpu::Buffer,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Vec<(Piece, KeptColumn, Lease)> {
        let mut begun = vec![];
        for part in to_keep {
            let (values, valid) = part.words();
            let Some(lease) = self.room((values + valid) as u64 * 4, moment) else { break };
            let mut copy = |from: usize, to: usize, words: usize| {
                if words > 0 {
                    encoder.copy_buffer_to_buffer(chunk, from as u64 * 4, &lease.buffer, to as u64 * 4, Some(words as u64 * 4));
                }
            };
            copy(part.values_at, 0, values);
            part.valid_at.iter().for_each(|at| copy(*at, values, valid));
            let (storage, rows, measured, used) = (part.storage, part.rows, part.measured, AtomicU64::new(moment));
            let (slot, bytes, valid_at) = (self.next_slot, lease.bytes(), part.valid_at.map(|_| values));
            self.next_slot += 1;
            begun.push((part.piece, KeptColumn { slot, bytes, storage, rows, valid_at, measured, used }, lease));
        }
        begun
    }

    /// From now on these are found, if their copies were made.
    pub(super) fn end_keeping(&mut self, begun: Vec<(Piece, KeptColumn, Lease)>, made: bool) {
        let shared = Arc::clone(&self.shared);
        let mut residents = shared.residents();
        for (piece, column, lease) in begun {
            if made {
                self.kept.insert(column.slot, lease);
                residents.insert(piece, column);
            } else {
                residents.bytes -= column.bytes;
                self.pool.discard(lease);
            }
        }
    }

    /// A buffer for a piece; none where that would take more than may stay.
    fn room(&mut self, bytes: u64, moment: u64) -> Option<Lease> {
        let shared = Arc::clone(&self.shared);
        let mut residents = shared.residents();
        residents.swept().into_iter().for_each(|slot| self.free(slot));
        loop {
            if residents.bytes + rounded(bytes) <= self.kept_bytes_max()
                && let Ok(lease) = self.pool.take(&self.device, Role::Kept, bytes)
            {
                residents.bytes += lease.bytes();
                return Some(lease);
            }
            let slot = residents.let_go(moment)?;
            self.free(slot);
        }
    }

    /// Lets go of a piece for the sake of a run; whether there was one to let go.
    pub(super) fn make_room(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut residents = shared.residents();
        let mut free = residents.swept();
        free.extend(residents.let_go(u64::MAX));
        let any = !free.is_empty();
        free.into_iter().filter_map(|slot| self.kept.remove(&slot)).for_each(|lease| self.pool.discard(lease));
        any
    }

    /// Lets go of what is more than may stay.
    pub(super) fn shrink(&mut self) {
        while self.shared.residents().bytes > self.kept_bytes_max() && self.make_room() {}
    }

    /// Lets go of a table.
    pub(super) fn forget(&mut self, table: u64) {
        let shared = Arc::clone(&self.shared);
        let mut residents = shared.residents();
        let gone: Vec<Piece> = residents.pieces.keys().filter(|p| p.table == table).copied().collect();
        let gone: Vec<_> = gone.iter().filter_map(|p| residents.remove(p)).collect();
        residents.doomed.extend(gone);
        residents.swept().into_iter().for_each(|slot| self.free(slot));
    }

    fn free(&mut self, slot: u64) {
        if let Some(lease) = self.kept.remove(&slot) {
            self.pool.give(lease);
        }
    }
}
