//! Rows of which the last of each key counts.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use std::collections::{BTreeMap, HashMap};

/// A batch and a row of it.
type Place = (usize, usize);

/// Rows of no more than so many batches are copied together when there are dead ones or many small ones.
const BATCHES_MAX: usize = 256;

/// Below so many dead rows they stay.
const FEW: usize = 4_096;

/// What a key was before it changed: a place, or nothing.
type Undo = HashMap<Box<[u8]>, Option<Place>>;

/// Rows by key, and what is needed to take back the latest.
pub(super) struct KeyedRows {
    schema: SchemaRef,
    /// Columns of the key.
    key: Vec<usize>,
    converter: RowConverter,
    batches: Vec<RecordBatch>,
    rows: usize,
    places: HashMap<Box<[u8]>, Place>,
    /// By number of the change.
    undo: BTreeMap<u64, Undo>,
}

/// Rows that are there, to be copied together by whoever has the time.
pub(super) struct Snapshot {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    places: Option<Vec<Place>>,
}

impl Snapshot {
    /// In one batch.
    pub(super) fn into_batch(self) -> Result<RecordBatch, ArrowError> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        match self.places {
            _ if batches.is_empty() => Ok(RecordBatch::new_empty(self.schema)),
            None => arrow::compute::concat_batches(&self.schema, batches),
            Some(places) => interleave_record_batch(&batches, &places),
        }
    }
}

impl KeyedRows {
    /// No rows, of the columns `schema`, by the columns `key` of them.
    pub(super) fn new(schema: SchemaRef, key: Vec<usize>) -> Result<Self, ArrowError> {
        let fields = key.iter().map(|c| SortField::new(schema.field(*c).data_type().clone())).collect();
        let (converter, batches, places) = (RowConverter::new(fields)?, vec![], HashMap::new());
        Ok(Self { schema, key, converter, batches, rows: 0, places, undo: BTreeMap::new() })
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Puts rows in place of those with their keys. With a number of the change it can be taken back.
    pub(super) fn upsert(&mut self, batch: RecordBatch, change: Option<u64>) -> Result<(), ArrowError> {
        let keys: Vec<ArrayRef> = self.key.iter().map(|c| batch.column(*c).clone()).collect();
        let keys = self.converter.convert_columns(&keys)?;
        let at = self.batches.len();
        let mut undo = change.map(|c| self.undo.entry(c).or_default());
        for (row, key) in keys.iter().enumerate() {
            let before = match self.places.get_mut(key.as_ref()) {
                Some(place) => Some(std::mem::replace(place, (at, row))),
                None => {
                    self.places.insert(key.as_ref().into(), (at, row));
                    None
                }
            };
            if let Some(undo) = &mut undo {
                undo.entry(key.as_ref().into()).or_insert(before);
            }
        }
        self.rows += batch.num_rows();
        self.batches.push(batch);
        self.compact()
    }

    /// The changes up to this number cannot be taken back any more.
    pub(super) fn settle(&mut self, change: u64) {
        self.undo = self.undo.split_off(&(change + 1));
    }

    /// Takes back the changes that can be; whether there were any.
    pub(super) fn take_back(&mut self) -> bool {
        let undo = std::mem::take(&mut self.undo);
        let changed = !undo.is_empty();
        for (key, before) in undo.into_values().rev().flatten() {
            match before {
                Some(place) => self.places.insert(key, place),
                None => self.places.remove(&key),
            };
        }
        changed
    }

    /// The rows that are there, in no order.
    pub(super) fn snapshot(&self) -> Snapshot {
        let places = (self.rows > self.len()).then(|| {
            let mut places: Vec<Place> = self.places.values().copied().collect();
            places.sort_unstable();
            places
        });
        Snapshot { schema: self.schema.clone(), batches: self.batches.clone(), places }
    }

    /// The rows with these keys, in their order; those that are not there are left out.
    pub(super) fn get(&self, keys: &[ArrayRef]) -> Result<RecordBatch, ArrowError> {
        let keys = self.converter.convert_columns(keys)?;
        let places: Vec<Place> = keys.iter().filter_map(|k| self.places.get(k.as_ref()).copied()).collect();
        Snapshot { schema: self.schema.clone(), batches: self.batches.clone(), places: Some(places) }.into_batch()
    }

    /// Copies the rows together that are there or may come back, if the others are the most or batches are many.
    fn compact(&mut self) -> Result<(), ArrowError> {
        if self.rows < 2 * self.len() + FEW && self.batches.len() < BATCHES_MAX {
            return Ok(());
        }
        let before = self.undo.values().flat_map(|u| u.values()).flatten();
        let mut places: Vec<Place> = self.places.values().chain(before).copied().collect();
        places.sort_unstable();
        places.dedup();
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let all = interleave_record_batch(&batches, &places)?;
        let moved = |place: &mut Place| *place = (0, places.partition_point(|p| *p < *place));
        self.places.values_mut().for_each(moved);
        self.undo.values_mut().flat_map(|u| u.values_mut()).flatten().for_each(moved);
        (self.rows, self.batches) = (all.num_rows(), vec![all]);
        Ok(())
    }
}
