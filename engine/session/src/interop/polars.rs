//! Columns to and from Polars, whose `ArrowArray` and `ArrowSchema` are the interface's structs too.

use super::{CArray, CSchema};
use arrow::array::{Array, ArrayRef, make_array};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use arrow::error::ArrowError;
use polars::datatypes as theirs;
use polars::error::PolarsError;
use polars::prelude::{CategoricalPhysical, CompatLevel, Series};
use polars_arrow::array::Array as PolarsArray;
use polars_arrow::ffi;
use std::mem::transmute;
use std::sync::Arc;

/// Why a column does not go; which one it is, the caller knows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Arrow(#[from] ArrowError),
    #[error("{0}")]
    Polars(#[from] PolarsError),
}

/// The array as one of Polars, with the same buffers.
pub(crate) fn export(array: &dyn Array) -> Result<Box<dyn PolarsArray>, Refusal> {
    let schema = CSchema::of(&Field::new("", array.data_type().clone(), true))?;
    // SAFETY: both are the interface's `struct ArrowSchema`, which its owner releases once.
    let schema = unsafe { transmute::<CSchema, ffi::ArrowSchema>(schema) };
    // SAFETY: `CSchema::of` keeps to the interface.
    let field = unsafe { ffi::import_field_from_c(&schema)? };
    // SAFETY: both are the interface's `struct ArrowArray`, which its owner releases once.
    let values = unsafe { transmute::<CArray, ffi::ArrowArray>(CArray::of(&array.to_data())) };
    // SAFETY: `CArray::of` keeps to the interface, and the field is this array's.
    Ok(unsafe { ffi::import_array_from_c(values, field.dtype)? })
}

/// The chunks of a column, with the same buffers, and their type; none for a type that Arrow does not have.
pub(crate) fn import(series: &Series) -> Result<Option<(DataType, Vec<ArrayRef>)>, Refusal> {
    let Some(kind) = arrow_type(series.dtype()) else { return Ok(None) };
    let chunk = |i| {
        let array = ffi::export_array_to_c(series.to_arrow(i, CompatLevel::newest()));
        // SAFETY: as in `export`.
        let array = unsafe { transmute::<ffi::ArrowArray, CArray>(array) };
        // SAFETY: Polars keeps to the interface, and `arrow_type` says what `to_arrow` gives.
        Ok(make_array(unsafe { array.import(&kind)? }))
    };
    let chunks: Result<Vec<ArrayRef>, Refusal> = (0..series.n_chunks()).map(chunk).collect();
    Ok(Some((kind, chunks?)))
}

/// How Polars lays a column out for others (`CompatLevel::newest`), without its own notes in the metadata of fields. None
/// for objects of Rust, integers of 128 bits and whatever else Arrow does not have.
fn arrow_type(kind: &theirs::DataType) -> Option<DataType> {
    use theirs::DataType as Theirs;
    let item = |kind: &Theirs| Some(Arc::new(Field::new("item", arrow_type(kind)?, true)));
    let unit = |unit: theirs::TimeUnit| match unit {
        theirs::TimeUnit::Nanoseconds => TimeUnit::Nanosecond,
        theirs::TimeUnit::Microseconds => TimeUnit::Microsecond,
        theirs::TimeUnit::Milliseconds => TimeUnit::Millisecond,
    };
    Some(match kind {
        Theirs::Null => DataType::Null,
        Theirs::Boolean => DataType::Boolean,
        Theirs::Int8 => DataType::Int8,
        Theirs::Int16 => DataType::Int16,
        Theirs::Int32 => DataType::Int32,
        Theirs::Int64 => DataType::Int64,
        Theirs::UInt8 => DataType::UInt8,
        Theirs::UInt16 => DataType::UInt16,
        Theirs::UInt32 => DataType::UInt32,
        Theirs::UInt64 => DataType::UInt64,
        Theirs::Float16 => DataType::Float16,
        Theirs::Float32 => DataType::Float32,
        Theirs::Float64 => DataType::Float64,
        Theirs::Decimal(precision, scale) => DataType::Decimal128(u8::try_from(*precision).ok()?, i8::try_from(*scale).ok()?),
        Theirs::String => DataType::Utf8View,
        Theirs::Binary => DataType::BinaryView,
        Theirs::BinaryOffset => DataType::LargeBinary,
        Theirs::Date => DataType::Date32,
        Theirs::Time => DataType::Time64(TimeUnit::Nanosecond),
        Theirs::Datetime(u, zone) => DataType::Timestamp(unit(*u), zone.as_ref().map(|z| z.as_str().into())),
        Theirs::Duration(u) => DataType::Duration(unit(*u)),
        Theirs::Categorical(..) | Theirs::Enum(..) => {
            let codes = match kind.cat_physical().ok()? {
                CategoricalPhysical::U8 => DataType::UInt8,
                CategoricalPhysical::U16 => DataType::UInt16,
                CategoricalPhysical::U32 => DataType::UInt32,
            };
            DataType::Dictionary(Box::new(codes), Box::new(DataType::Utf8View))
        }
        Theirs::List(of) => DataType::LargeList(item(of)?),
        Theirs::Array(of, width) => DataType::FixedSizeList(item(of)?, i32::try_from(*width).ok()?),
        Theirs::Struct(fields) => {
            let field = |f: &theirs::Field| Some(Field::new(f.name().as_str(), arrow_type(f.dtype())?, true));
            DataType::Struct(fields.iter().map(field).collect::<Option<Fields>>()?)
        }
        _ => return None,
    })
}
