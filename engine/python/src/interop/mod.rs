//! Tables to and from other libraries by the Arrow PyCapsule interface: pointers change hands, no value is copied.
//! <https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html>
//!
//! What the pointers mean is in `stream.rs` and, for schemas and arrays, in `millstream::interop`
//! (docs/decisions/0005-arrow-c-data.md).

mod stream;

use crate::errors::{caught, invalid};
use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchIterator, RecordBatchReader, StructArray, make_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use millstream::interop::{CArray, CSchema};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::Arc;
use stream::{CStream, Reader};

const SCHEMA: &CStr = c"arrow_schema";
const ARRAY: &CStr = c"arrow_array";
const STREAM: &CStr = c"arrow_array_stream";

/// Columns on their way out.
pub fn schema_capsule<'py>(py: Python<'py>, schema: &Schema) -> PyResult<Bound<'py, PyCapsule>> {
    PyCapsule::new_with_value(py, CSchema::of_table(schema).map_err(refused)?, SCHEMA)
}

/// A schema and an array.
pub type Capsules<'py> = (Bound<'py, PyCapsule>, Bound<'py, PyCapsule>);

/// One batch on its way out, its columns the fields of a struct.
pub fn batch_capsules<'py>(py: Python<'py>, batch: &RecordBatch) -> PyResult<Capsules<'py>> {
    let array = CArray::of(&StructArray::from(batch.clone()).to_data());
    Ok((schema_capsule(py, &batch.schema())?, PyCapsule::new_with_value(py, array, ARRAY)?))
}

/// Batches on their way out. Unless the consumer takes the stream over, the capsule releases it.
pub fn stream_capsule<'py>(py: Python<'py>, reader: Box<dyn RecordBatchReader + Send>) -> PyResult<Bound<'py, PyCapsule>> {
    PyCapsule::new_with_value(py, CStream::of(reader), STREAM)
}

/// The batches of an object, none read yet.
pub fn reader(object: &Bound<'_, PyAny>) -> PyResult<Box<dyn RecordBatchReader + Send>> {
    if object.hasattr("__arrow_c_stream__")? {
        let capsule = object.call_method0("__arrow_c_stream__")?;
        let stream = pointer(&capsule, STREAM)?.cast::<CStream>();
        // SAFETY: a capsule of this name holds a valid stream that nobody else reads; it is taken out of the capsule, whose
        // destructor then finds it released.
        let reader = unsafe { Reader::new(stream.replace(CStream::empty())) };
        return Ok(Box::new(reader.map_err(refused)?));
    }
    let (field, rows) = column(object)?;
    let DataType::Struct(fields) = field.data_type() else {
        return Err(invalid(format!("a table has columns, but this is an array of {}", field.data_type())));
    };
    let schema: SchemaRef = Arc::new(Schema::new_with_metadata(fields.clone(), field.metadata().clone()));
    let batch = stream::batch(rows.as_ref(), &schema).map_err(refused)?;
    Ok(Box::new(RecordBatchIterator::new([Ok(batch)], schema)))
}

/// The values of an object with `__arrow_c_array__`.
pub fn array(object: &Bound<'_, PyAny>) -> PyResult<ArrayRef> {
    Ok(column(object)?.1)
}

fn column(object: &Bound<'_, PyAny>) -> PyResult<(Field, ArrayRef)> {
    let missing = |_| {
        let kind = object.get_type().name().map_or_else(|_| "this object".into(), |n| n.to_string());
        invalid(format!("{kind} has no __arrow_c_stream__ and no __arrow_c_array__: it is no Arrow data"))
    };
    let method = object.getattr("__arrow_c_array__").map_err(missing)?;
    let (schema, array): (Bound<'_, PyAny>, Bound<'_, PyAny>) = method.call0()?.extract()?;
    let field = read_schema(&schema, CSchema::to_field)?;
    let array = pointer(&array, ARRAY)?.cast::<CArray>();
    // SAFETY: a capsule of this name holds a valid array; it is taken out of the capsule, whose destructor then finds it
    // released. The schema beside it is the array's.
    let data = caught(|| Ok(unsafe { array.replace(CArray::empty()).import(field.data_type()) }))?;
    Ok((field, make_array(data.map_err(refused)?)))
}

/// The type of an object with `__arrow_c_schema__`.
pub fn data_type(object: &Bound<'_, PyAny>) -> PyResult<DataType> {
    let capsule = object.call_method0("__arrow_c_schema__")?;
    Ok(read_schema(&capsule, CSchema::to_field)?.data_type().clone())
}

/// The columns of a schema capsule.
pub fn schema(capsule: &Bound<'_, PyAny>) -> PyResult<SchemaRef> {
    Ok(Arc::new(read_schema(capsule, CSchema::to_table)?))
}

fn read_schema<T>(capsule: &Bound<'_, PyAny>, read: impl FnOnce(&CSchema) -> Result<T, ArrowError>) -> PyResult<T> {
    let schema = pointer(capsule, SCHEMA)?.cast::<CSchema>();
    // SAFETY: a capsule of this name holds a valid schema, and lives for as long as it is looked at.
    read(unsafe { schema.as_ref() }).map_err(refused)
}

fn pointer(capsule: &Bound<'_, PyAny>, name: &CStr) -> PyResult<NonNull<std::ffi::c_void>> {
    let capsule = capsule.cast::<PyCapsule>().map_err(|_| invalid(format!("no capsule {}", name.to_string_lossy())))?;
    capsule.pointer_checked(Some(name))
}

/// An error of the interface as an exception.
pub fn refused(e: ArrowError) -> PyErr {
    match e {
        ArrowError::CDataInterface(text) => invalid(text),
        other => invalid(other),
    }
}

/// The text of what a signal's handler raised inside another library's call. A Ctrl-C is raised again once that
/// library has returned.
pub fn raise_later(e: PyErr) -> String {
    Python::attach(|py| {
        // First the text: once the signal is set, any step of the interpreter raises it.
        let text = e.to_string();
        if e.is_instance_of::<pyo3::exceptions::PyKeyboardInterrupt>(py) {
            // SAFETY: this thread is attached to the interpreter.
            unsafe { pyo3::ffi::PyErr_SetInterrupt() };
        }
        text
    })
}
