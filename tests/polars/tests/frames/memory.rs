//! No value is copied: the addresses of buffers before and after.

use crate::random::Random;
use crate::types::item;
use crate::wait;
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, TimeUnit};
use millstream::Session;
use millstream::polars::prelude::{DataFrame, IntoColumn, NamedFrom, Series};
use polars_arrow::array as theirs;
use std::sync::Arc;

/// Types in which both hold a column alike.
fn alike() -> Vec<DataType> {
    use DataType as D;
    vec![
        D::Boolean,
        D::UInt8,
        D::Int16,
        D::Int32,
        D::Int64,
        D::UInt64,
        D::Float32,
        D::Float64,
        D::Utf8View,
        D::BinaryView,
        D::Date32,
        D::Time64(TimeUnit::Nanosecond),
        D::Timestamp(TimeUnit::Millisecond, None),
        D::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into())),
        D::Duration(TimeUnit::Nanosecond),
        D::Decimal128(20, 2),
        D::LargeList(item(D::Int64)),
        D::LargeList(item(D::Utf8View)),
        D::FixedSizeList(item(D::Float64), 3),
        D::Struct(vec![Field::new("a", D::Int64, true), Field::new("b", D::Utf8View, true)].into()),
    ]
}

/// Where the values of a column of ours begin; of nested ones, those of the first column within.
fn ours(array: &dyn Array) -> *const u8 {
    let data = array.to_data();
    let mut leaf = &data;
    while let Some(child) = leaf.child_data().first() {
        leaf = child;
    }
    let bits = if leaf.data_type() == &DataType::Boolean { leaf.offset() / 8 } else { 0 };
    leaf.buffers()[0].as_ptr().wrapping_add(bits)
}

/// The same of a chunk of Polars.
fn addresses(array: &dyn theirs::Array) -> *const u8 {
    let any = array.as_any();
    macro_rules! primitive {
        ($($t:ty),*) => {$(
            if let Some(array) = any.downcast_ref::<theirs::PrimitiveArray<$t>>() {
                return array.values().as_ptr().cast();
            }
        )*};
    }
    primitive!(u8, i16, i32, i64, u64, i128, f32, f64);
    if let Some(array) = any.downcast_ref::<theirs::BooleanArray>() {
        array.values().as_slice().0.as_ptr()
    } else if let Some(array) = any.downcast_ref::<theirs::Utf8ViewArray>() {
        array.views().as_ptr().cast()
    } else if let Some(array) = any.downcast_ref::<theirs::BinaryViewArray>() {
        array.views().as_ptr().cast()
    } else if let Some(array) = any.downcast_ref::<theirs::ListArray<i64>>() {
        addresses(array.values().as_ref())
    } else if let Some(array) = any.downcast_ref::<theirs::FixedSizeListArray>() {
        addresses(array.values().as_ref())
    } else if let Some(array) = any.downcast_ref::<theirs::StructArray>() {
        addresses(array.values()[0].as_ref())
    } else {
        panic!("{:?}", array.dtype())
    }
}

fn batch(column: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([("a", column, true)]).unwrap()
}

fn to_polars(batches: Vec<RecordBatch>) -> DataFrame {
    wait(async { Session::new()?.read_batches(batches)?.to_polars().await }).unwrap()
}

fn chunk(frame: &DataFrame, i: usize) -> *const u8 {
    addresses(frame.columns()[0].as_materialized_series().chunks()[i].as_ref())
}

#[test]
fn columns_keep_their_memory_both_ways() {
    for (seed, kind) in alike().into_iter().enumerate() {
        let mut random = Random(seed as u64);
        let columns: Vec<ArrayRef> = (0..3).map(|_| random.column(&kind, 700)).collect();
        let frame = to_polars(columns.iter().cloned().map(batch).collect());
        assert_eq!(frame.columns()[0].n_chunks(), 3, "{kind}");
        let session = Session::new().unwrap();
        let back = wait(session.read_polars(&frame).unwrap().collect()).unwrap();
        assert_eq!(back.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [700, 700, 700]);
        for (i, column) in columns.iter().enumerate() {
            assert_eq!(chunk(&frame, i), ours(column.as_ref()), "{kind} to Polars");
            assert_eq!(back[i].column(0).data_type(), &kind);
            assert_eq!(ours(back[i].column(0).as_ref()), ours(column.as_ref()), "{kind} from Polars");
            assert_eq!(back[i].column(0), column, "{kind}");
        }
    }
}

#[test]
fn a_long_batch_is_handed_on_in_slices_of_itself() {
    let column = Random(1).column(&DataType::Int64, 20_000);
    let frame = to_polars(vec![batch(Arc::clone(&column))]);
    let chunks = frame.columns()[0].as_materialized_series().chunks();
    let mut at = ours(column.as_ref()) as usize;
    for slice in chunks {
        assert_eq!(addresses(slice.as_ref()) as usize, at);
        at += slice.len() * size_of::<i64>();
    }
    assert_eq!(frame.height(), 20_000);
}

/// The negative control, and what is said of texts: views are written, the text stays.
#[test]
fn copies_are_seen_as_copies() {
    let texts = StringArray::from(vec!["a text that is too long for a view", "another one that is too long"]);
    let frame = to_polars(vec![batch(Arc::new(texts.clone()))]);
    let chunks = frame.columns()[0].as_materialized_series().chunks();
    let views = chunks[0].as_any().downcast_ref::<theirs::Utf8ViewArray>().unwrap();
    assert_ne!(chunk(&frame, 0), ours(&texts));
    assert_eq!(views.data_buffers()[0].as_ptr(), texts.values().as_ptr());

    let seconds = Random(2).column(&DataType::Timestamp(TimeUnit::Second, None), 100);
    assert_ne!(chunk(&to_polars(vec![batch(Arc::clone(&seconds))]), 0), ours(seconds.as_ref()));
    let milliseconds = cast(&seconds, &DataType::Timestamp(TimeUnit::Millisecond, None)).unwrap();
    assert_eq!(chunk(&to_polars(vec![batch(Arc::clone(&milliseconds))]), 0), ours(milliseconds.as_ref()));
}

#[test]
fn slices_of_a_frame_are_slices_of_its_memory() {
    let frame = DataFrame::new(1_000, vec![Series::new("a".into(), (0..1_000_i64).collect::<Vec<_>>()).into_column()]).unwrap();
    let begins = chunk(&frame, 0) as usize;
    let session = Session::new().unwrap();
    let batches = wait(session.read_polars(&frame.slice(17, 900)).unwrap().collect()).unwrap();
    assert_eq!((batches.len(), batches[0].num_rows()), (1, 900));
    assert_eq!(ours(batches[0].column(0).as_ref()) as usize, begins + 17 * size_of::<i64>());
}

/// Batches outlive the frame that they come from, and frames the session.
#[test]
fn memory_lives_as_long_as_anybody_needs_it() {
    let column = Random(3).column(&DataType::Utf8View, 5_000);
    let frame = to_polars(vec![batch(Arc::clone(&column))]);
    let session = Session::new().unwrap();
    session.register_polars("t", &frame).unwrap();
    drop(frame);
    let again = wait(async { session.sql("select a from t").await?.to_polars().await }).unwrap();
    drop(session);
    let session = Session::new().unwrap();
    let batches = wait(session.read_polars(&again).unwrap().collect()).unwrap();
    drop(again);
    let schema = batches[0].schema();
    assert_eq!(arrow::compute::concat_batches(&schema, &batches).unwrap().column(0), &column);
}
