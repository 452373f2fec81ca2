//! Arrow arrays to registers and back. Narrow types live between the two.
//!
//! Decimals become 64-bit integers where every value fits, dates `I32`, booleans bytes, dictionaries
//! codes; the way back gives exactly the type DataFusion declared.

use crate::program::physical;
use crate::{Error, Result};
use arrow::array::{
    Array, ArrayData, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, DictionaryArray, PrimitiveArray, RecordBatch, StringArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{self as dt, DataType, Field, Schema, SchemaRef};
use millstream_kernels::program::Type;
use millstream_kernels::{Buf, Dictionary, Strings, Values, Vector, gather};
use std::collections::HashMap;
use std::sync::Arc;

/// Rows as registers: what moves between stages inside a process.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// The columns, none constant.
    pub columns: Vec<Vector>,
    /// Number of rows.
    pub rows: usize,
}

/// Converts arrays, keeping the identity of dictionaries that batches share.
#[derive(Debug, Default)]
pub struct Reader {
    /// By address of the entries; the dictionary keeps the array alive, so that no address is reused.
    dictionaries: HashMap<usize, (ArrayRef, Arc<Dictionary>)>,
}

impl Reader {
    /// The columns `projection` of a batch.
    ///
    /// # Errors
    /// `Bug` when Arrow refuses a cast that it declared possible.
    pub fn block(&mut self, batch: &RecordBatch, projection: &[usize]) -> Result<Block> {
        let columns = projection.iter().map(|c| self.vector(batch.column(*c))).collect::<Result<_>>()?;
        Ok(Block { columns, rows: batch.num_rows() })
    }

    /// One array as a register.
    ///
    /// # Errors
    /// As [`Reader::block`].
    pub fn vector(&mut self, array: &ArrayRef) -> Result<Vector> {
        let values = match array.data_type() {
            DataType::Boolean => {
                let bits = array.as_boolean().values();
                Values::Bool(bits.iter().map(u8::from).collect::<Vec<_>>().into())
            }
            DataType::Int32 => Values::I32(shared::<dt::Int32Type>(array)),
            DataType::Date32 => Values::I32(shared::<dt::Date32Type>(array)),
            DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 => {
                Values::I32(shared::<dt::Int32Type>(&cast(array, &DataType::Int32)?))
            }
            DataType::Int64 => Values::I64(shared::<dt::Int64Type>(array)),
            DataType::UInt32 => Values::I64(shared::<dt::Int64Type>(&cast(array, &DataType::Int64)?)),
            DataType::Timestamp(..) | DataType::Date64 => Values::I64(shared::<dt::Int64Type>(&reinterpret(array, &DataType::Int64)?)),
            DataType::Decimal32(..) => {
                let v = array.as_primitive::<dt::Decimal32Type>().values();
                Values::I64(v.iter().map(|v| i64::from(*v)).collect::<Vec<_>>().into())
            }
            DataType::Decimal64(..) => Values::I64(Buf::Shared(array.as_primitive::<dt::Decimal64Type>().values().clone())),
            DataType::Decimal128(..) => narrow(array.as_primitive::<dt::Decimal128Type>().values()),
            DataType::Float64 => Values::F64(shared::<dt::Float64Type>(array)),
            DataType::Utf8View => Values::Str(Strings::View(array.as_string_view().clone())),
            DataType::Utf8 | DataType::LargeUtf8 => Values::Str(Strings::View(cast(array, &DataType::Utf8View)?.as_string_view().clone())),
            DataType::Dictionary(_, v) if physical(v) == Type::Str => return self.dictionary(array),
            _ => return Ok(Vector::new(Values::Any(Arc::clone(array)))),
        };
        Ok(Vector::with_valid(values, validity(array.as_ref())))
    }

    fn dictionary(&mut self, array: &ArrayRef) -> Result<Vector> {
        let wanted = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let array = if array.data_type() == &wanted { Arc::clone(array) } else { cast(array, &wanted)? };
        let array = array.as_dictionary::<dt::Int32Type>();
        if array.values().is_empty() || array.values().null_count() > 0 {
            // Nulls among the entries: the views' validity tells them apart.
            return self.vector(&cast(array, &DataType::Utf8View)?);
        }
        let entries = array.values();
        let address = Arc::as_ptr(entries).cast::<()>() as usize;
        let (_, dict) =
            self.dictionaries.entry(address).or_insert_with(|| (Arc::clone(entries), Dictionary::new(entries.as_string::<i32>().clone())));
        let codes = match array.keys().nulls() {
            // What stands under a null may be out of bounds.
            Some(nulls) => array.keys().values().iter().zip(nulls.iter()).map(|(c, ok)| if ok { *c } else { 0 }).collect::<Vec<_>>().into(),
            None => Buf::Shared(array.keys().values().clone()),
        };
        let values = Values::Str(Strings::Dict { codes, dict: Arc::clone(dict) });
        Ok(Vector::with_valid(values, validity(array.keys())))
    }
}

fn shared<T: ArrowPrimitiveType>(array: &ArrayRef) -> Buf<T::Native> {
    Buf::Shared(array.as_primitive::<T>().values().clone())
}

fn reinterpret(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let data: ArrayData = array.to_data();
    Ok(arrow::array::make_array(data.into_builder().data_type(to.clone()).build()?))
}

fn validity(array: &dyn Array) -> Option<Buf<u8>> {
    let nulls = array.nulls().filter(|n| n.null_count() > 0)?;
    Some(nulls.iter().map(u8::from).collect::<Vec<_>>().into())
}

/// 64 bits where every value fits.
fn narrow(v: &ScalarBuffer<i128>) -> Values {
    let mut out = Vec::with_capacity(v.len());
    let mut over = 0u64;
    for v in v.iter() {
        let low = *v as i64;
        over |= u64::from(i128::from(low) != *v);
        out.push(low);
    }
    if over == 0 { Values::I64(out.into()) } else { Values::I128(Buf::Shared(v.clone())) }
}

fn nulls(v: &Vector) -> Option<NullBuffer> {
    let valid = v.valid.as_ref()?;
    Some(NullBuffer::new(BooleanBuffer::collect_bool(valid.len(), |i| valid[i] != 0)))
}

/// A register as an array of the logical type `to`, `rows` long.
///
/// # Errors
/// `Bug` when the register does not hold that type.
pub fn to_array(v: &Vector, to: &DataType, rows: usize) -> Result<ArrayRef> {
    let expanded;
    let v = if v.constant {
        expanded = gather::expand(v, rows)?;
        &expanded
    } else {
        v
    };
    let n = nulls(v);
    let array: ArrayRef = match (&v.values, to) {
        (Values::Any(a), _) => Arc::clone(a),
        (Values::Bool(b), _) => Arc::new(BooleanArray::new(BooleanBuffer::collect_bool(b.len(), |i| b[i] != 0), n)),
        (Values::I32(b), DataType::Date32) => Arc::new(PrimitiveArray::<dt::Date32Type>::new(b.clone().into_scalar_buffer(), n)),
        (Values::I32(b), _) => Arc::new(PrimitiveArray::<dt::Int32Type>::new(b.clone().into_scalar_buffer(), n)),
        (Values::I64(_) | Values::I128(_), DataType::Decimal128(p, s)) => {
            let wide: Vec<i128> = match &v.values {
                Values::I64(b) => b.iter().map(|v| i128::from(*v)).collect(),
                Values::I128(b) => b.to_vec(),
                _ => vec![],
            };
            Arc::new(PrimitiveArray::<dt::Decimal128Type>::new(wide.into(), n).with_precision_and_scale(*p, *s)?)
        }
        (Values::I64(b), DataType::Decimal32(p, s)) => {
            let array = PrimitiveArray::<dt::Decimal32Type>::new(b.iter().map(|v| *v as i32).collect::<Vec<_>>().into(), n);
            Arc::new(array.with_precision_and_scale(*p, *s)?)
        }
        (Values::I64(b), DataType::Decimal64(p, s)) => {
            let array = PrimitiveArray::<dt::Decimal64Type>::new(b.clone().into_scalar_buffer(), n);
            Arc::new(array.with_precision_and_scale(*p, *s)?)
        }
        (Values::I64(b), DataType::Timestamp(..) | DataType::Date64) => {
            let raw: ArrayRef = Arc::new(PrimitiveArray::<dt::Int64Type>::new(b.clone().into_scalar_buffer(), n));
            reinterpret(&raw, to)?
        }
        (Values::I64(b), _) => Arc::new(PrimitiveArray::<dt::Int64Type>::new(b.clone().into_scalar_buffer(), n)),
        (Values::F64(b), _) => Arc::new(PrimitiveArray::<dt::Float64Type>::new(b.clone().into_scalar_buffer(), n)),
        (Values::Str(s @ Strings::View(_)), _) | (Values::Str(s), DataType::Utf8View) => {
            Arc::new(gather::with_nulls(&gather::as_views(s), n))
        }
        (Values::Str(Strings::Dict { codes, dict }), _) => dictionary_array(codes, dict, n)?,
        (Values::I128(_), to) => return Err(Error::bug(format!("128-bit register for {to}"))),
    };
    if array.data_type() == to { Ok(array) } else { Ok(cast(&array, to)?) }
}

fn dictionary_array(codes: &Buf<i32>, dict: &Dictionary, n: Option<NullBuffer>) -> Result<ArrayRef> {
    let keys = PrimitiveArray::<dt::Int32Type>::new(codes.clone().into_scalar_buffer(), n);
    let entries: StringArray = dict.values().clone();
    Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(entries))?))
}

/// A block as a batch of the declared types: what leaves for a stock operator or the user.
///
/// # Errors
/// As [`to_array`].
pub fn to_batch(block: &Block, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns =
        block.columns.iter().zip(schema.fields()).map(|(v, f)| to_array(v, f.data_type(), block.rows)).collect::<Result<Vec<_>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(block.rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// The schema of registers of these types, for calls.
pub fn call_schema(types: &[DataType]) -> SchemaRef {
    Arc::new(Schema::new(types.iter().enumerate().map(|(i, t)| Field::new(format!("c{i}"), t.clone(), true)).collect::<Vec<_>>()))
}
