//! Join tables into device buffers: slots and columns, packed first-fit into at most a few buffers.

use super::device::Device;
use super::index::Index;
use super::lower::{Found, Placed, PlacedTable};
use super::pack::{Plan, Slab, measure, storage};
use super::run::RunOptions;
use super::{HostIndex, HostTable, HostValues};
use crate::{Error, ErrorKind, Result};
use millstream_shaders::layout::TABLES_MAX;

/// All tables of a run: where everything lies, and the words of each buffer.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub placed: Vec<PlacedTable>,
    pub buffers: Vec<Vec<u32>>,
    /// Tables whose slots the device has to fill.
    pub to_fill: Vec<Index>,
}

impl Tables {
    /// Packs `tables` as `device` can bind them; the words of the buffers beside.
    ///
    /// # Errors
    /// As [`Tables::pack`].
    pub fn for_device(tables: &[HostTable], options: &RunOptions, device: &Device) -> Result<(Self, Vec<Vec<u32>>)> {
        let bytes_max = options.table_bytes_max.min(device.capabilities().binding_bytes_max as usize);
        let mut packed = Self::pack(tables, bytes_max / 4)?;
        let buffers = std::mem::take(&mut packed.buffers);
        Ok((packed, buffers))
    }

    /// Packs `tables` into buffers of at most `words_max` words.
    ///
    /// # Errors
    /// `Exhausted` when they do not fit, `Bug` when a slot points outside the columns.
    pub fn pack(tables: &[HostTable], words_max: usize) -> Result<Self> {
        let mut packed = Self::default();
        for table in tables {
            let placed = packed.table(table, words_max)?;
            packed.placed.push(placed);
        }
        Ok(packed)
    }

    fn table(&mut self, table: &HostTable, words_max: usize) -> Result<PlacedTable> {
        let rows = table.columns.first().map_or(u32::MAX as usize, |c| c.values.len());
        let found = match &table.index {
            HostIndex::Array(slots) => self.array(table.min_key, slots, rows, words_max)?,
            HostIndex::Hash { codes, heads } => {
                if rows < codes.len() {
                    return Err(Error::bug("a join table has more keys than rows"));
                }
                let (words, index) = Index::pack(codes, heads)?;
                let (buffer, at) = self.place(&words, words_max)?;
                let index = index.placed(buffer, at);
                self.to_fill.push(index);
                Found::Hash(index)
            }
        };
        let mut columns = Vec::with_capacity(table.columns.len());
        for column in &table.columns {
            let measured = measure(column, rows)?;
            let plan: Plan = (storage(&column.values, &measured), measured.nulls);
            let mut slab = Slab::new(Vec::new(), &[plan], rows.next_multiple_of(32));
            if matches!(column.values, HostValues::Kept(_)) {
                return Err(Error::bug("a column of a join table that is on the device"));
            }
            slab.append(&[*column], &[measured], 0..rows, rows);
            let (buffer, at) = self.place(&slab.words, words_max)?;
            let inner = slab.placed.remove(0);
            columns.push(Placed { buffer, values_at: at + inner.values_at, valid_at: inner.valid_at.map(|bits| at + bits), ..inner });
        }
        Ok(PlacedTable { min_key: table.min_key, found, columns })
    }

    fn array(&mut self, min_key: i64, slots: &[u32], rows: usize, words_max: usize) -> Result<Found> {
        let last_key = i128::from(min_key) + slots.len() as i128 - 1;
        let len = u32::try_from(slots.len()).ok().filter(|_| i64::try_from(last_key).is_ok());
        let len = len.ok_or_else(|| Error::bug("a join table has more keys than there are"))?;
        if slots.iter().any(|row| *row as usize > rows) {
            return Err(Error::bug("a slot of a join table points outside its columns"));
        }
        let (buffer, at) = self.place(slots, words_max)?;
        Ok(Found::Array { buffer, at, len })
    }

    /// Copies `words` into the first buffer with room for them.
    fn place(&mut self, words: &[u32], words_max: usize) -> Result<(usize, u32)> {
        // Even nothing takes a word, so that an offset always points inside.
        let needed = words.len().max(1);
        let fits = |buffer: &Vec<u32>| buffer.len() + needed <= words_max;
        let index = match self.buffers.iter().position(fits) {
            Some(index) => index,
            None if self.buffers.len() < TABLES_MAX && needed <= words_max => {
                self.buffers.push(Vec::new());
                self.buffers.len() - 1
            }
            None => {
                return Err(Error::new(ErrorKind::Exhausted, "gpu: the join tables do not fit the device's bindings"));
            }
        };
        let buffer = &mut self.buffers[index];
        let at = buffer.len() as u32;
        buffer.extend_from_slice(words);
        buffer.resize(at as usize + needed, 0);
        Ok((index, at))
    }
}
