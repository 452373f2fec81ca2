//! Columns, batches and frames from a seed.

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::*;
use millstream::polars::prelude::{Column, DataFrame, Series};
use std::sync::Arc;

/// SplitMix64: the same numbers from the same seed, everywhere.
pub struct Random(pub u64);

impl Random {
    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let a = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        b ^ (b >> 31)
    }

    /// One of `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// One of `low..=high`.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as usize) as i64
    }

    /// `value`, or null once in five times.
    pub fn nullable<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(5) > 0).then(|| value(self))
    }

    fn nulls(&mut self, rows: usize) -> Option<NullBuffer> {
        (self.below(3) > 0).then(|| (0..rows).map(|_| self.below(5) > 0).collect())
    }

    fn lengths(&mut self, rows: usize) -> Vec<usize> {
        (0..rows).map(|_| self.below(4)).collect()
    }

    /// Short and long, empty and not of ASCII.
    pub fn text(&mut self) -> String {
        let words = ["", "a", "Ännchen", "twelve bytes", "thirteen byte", "well beyond what fits into a view of sixteen bytes"];
        let word = words[self.below(words.len())];
        if self.below(2) == 0 { word.to_string() } else { format!("{word}{}", self.below(1000)) }
    }

    /// A column of this type, with nulls or without, sometimes a slice of a longer one.
    pub fn column(&mut self, kind: &DataType, rows: usize) -> ArrayRef {
        let before = if self.below(2) == 0 { 0 } else { self.below(20) };
        let more = self.below(4);
        self.whole(kind, before + rows + more).slice(before, rows)
    }

    fn whole(&mut self, kind: &DataType, rows: usize) -> ArrayRef {
        use DataType as D;
        match kind {
            D::Null => Arc::new(NullArray::new(rows)),
            D::Boolean => Arc::new((0..rows).map(|_| self.nullable(|r| r.below(2) == 0)).collect::<BooleanArray>()),
            D::Utf8 | D::LargeUtf8 | D::Utf8View => {
                let texts: StringViewArray = (0..rows).map(|_| self.nullable(Self::text)).collect();
                cast(&texts, kind).unwrap()
            }
            D::Binary | D::LargeBinary | D::BinaryView => {
                let bytes: Vec<Option<Vec<u8>>> = (0..rows).map(|_| self.nullable(|r| vec![255; r.below(30)])).collect();
                cast(&BinaryArray::from_iter(bytes), kind).unwrap()
            }
            D::FixedSizeBinary(width) => {
                let bytes: Vec<u8> = (0..rows * *width as usize).map(|_| self.next() as u8).collect();
                Arc::new(FixedSizeBinaryArray::new(*width, bytes.into(), self.nulls(rows)))
            }
            D::List(item) => {
                let offsets = OffsetBuffer::<i32>::from_lengths(self.lengths(rows));
                let values = self.whole(item.data_type(), *offsets.last().unwrap() as usize);
                Arc::new(ListArray::new(Arc::clone(item), offsets, values, self.nulls(rows)))
            }
            D::LargeList(item) => {
                let offsets = OffsetBuffer::<i64>::from_lengths(self.lengths(rows));
                let values = self.whole(item.data_type(), *offsets.last().unwrap() as usize);
                Arc::new(LargeListArray::new(Arc::clone(item), offsets, values, self.nulls(rows)))
            }
            D::FixedSizeList(item, width) => {
                let values = self.whole(item.data_type(), rows * *width as usize);
                Arc::new(FixedSizeListArray::new(Arc::clone(item), *width, values, self.nulls(rows)))
            }
            D::Struct(fields) => {
                let values = fields.iter().map(|f| self.whole(f.data_type(), rows)).collect();
                Arc::new(StructArray::new(fields.clone(), values, self.nulls(rows)))
            }
            D::Dictionary(_, values) => {
                let texts = ["oak", "ash", "a beech that needs a buffer of its own"];
                let texts: StringArray = (0..rows).map(|_| self.nullable(|r| texts[r.below(3)])).collect();
                cast(&cast(&texts, values).unwrap(), kind).unwrap()
            }
            _ => self.numbers(kind, rows),
        }
    }

    /// What lies in one buffer of fixed width.
    fn numbers(&mut self, kind: &DataType, rows: usize) -> ArrayRef {
        use DataType as D;
        let (low, high) = match kind {
            D::Int8 => (-128, 127),
            D::UInt8 => (0, 255),
            D::UInt16 | D::UInt32 | D::UInt64 => (0, 65_535),
            D::Int16 => (-32_768, 32_767),
            D::Time32(TimeUnit::Second) => (0, 86_399),
            D::Time32(_) | D::Time64(_) => (0, 86_399_999),
            D::Decimal32(..) | D::Decimal64(..) | D::Decimal128(..) | D::Decimal256(..) => (-9_999, 9_999),
            D::Float16 => (-2_000, 2_000),
            _ => (-1_000_000_000, 1_000_000_000),
        };
        let numbers: Int64Array = (0..rows).map(|_| self.nullable(|r| r.between(low, high))).collect();
        // Of the width of the type, then as they lie.
        let lies = match kind {
            D::Date32 | D::Time32(_) => D::Int32,
            D::Date64 | D::Time64(_) | D::Timestamp(..) | D::Duration(_) => D::Int64,
            D::Decimal32(..) => D::Int32,
            D::Decimal64(..) => D::Int64,
            D::Decimal128(precision, scale) => {
                return retyped(&cast(&numbers, &D::Decimal128(*precision, 0)).unwrap(), D::Decimal128(*precision, *scale));
            }
            D::Decimal256(precision, scale) => {
                return retyped(&cast(&numbers, &D::Decimal256(*precision, 0)).unwrap(), D::Decimal256(*precision, *scale));
            }
            plain => plain.clone(),
        };
        retyped(&cast(&numbers, &lies).unwrap(), kind.clone())
    }

    /// Batches of these columns, some without rows.
    pub fn batches(&mut self, kinds: &[DataType], batches: usize) -> Vec<RecordBatch> {
        let fields: Vec<Field> = kinds.iter().enumerate().map(|(i, kind)| Field::new(format!("c{i}"), kind.clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let batch = |_| {
            let rows = self.below(4) * self.below(50);
            let columns = kinds.iter().map(|kind| self.column(kind, rows)).collect();
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options).unwrap()
        };
        (0..batches).map(batch).collect()
    }

    /// The frame with the chunks of each column cut elsewhere.
    pub fn cut(&mut self, frame: &DataFrame) -> DataFrame {
        let columns = frame.columns().iter().map(|column| {
            let whole = column.as_materialized_series();
            let mut out: Series = whole.slice(0, 0);
            let mut start = 0;
            while start < whole.len() {
                let rows = (1 + self.below(40)).min(whole.len() - start);
                out.append(&whole.slice(start as i64, rows)).unwrap();
                start += rows;
            }
            Column::from(out)
        });
        DataFrame::new(frame.height(), columns.collect()).unwrap()
    }
}

/// The same buffers under another name.
fn retyped(array: &ArrayRef, kind: DataType) -> ArrayRef {
    make_array(array.to_data().into_builder().data_type(kind).build().unwrap())
}
