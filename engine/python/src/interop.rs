//! Tables to and from other libraries by the Arrow PyCapsule interface: pointers change hands, no value is copied.
//! <https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html>

use crate::errors::{caught, invalid};
use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchReader, StructArray, make_array};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
use arrow::ffi_stream::{ArrowArrayStreamReader, FFI_ArrowArrayStream};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::Arc;

const SCHEMA: &CStr = c"arrow_schema";
const ARRAY: &CStr = c"arrow_array";
const STREAM: &CStr = c"arrow_array_stream";

/// Columns on their way out.
pub fn schema_capsule<'py>(py: Python<'py>, schema: &Schema) -> PyResult<Bound<'py, PyCapsule>> {
    let exported = FFI_ArrowSchema::try_from(schema).map_err(invalid)?;
    PyCapsule::new_with_value(py, exported, SCHEMA)
}

/// A schema and an array.
pub type Capsules<'py> = (Bound<'py, PyCapsule>, Bound<'py, PyCapsule>);

/// One batch on its way out, its columns the fields of a struct.
pub fn batch_capsules<'py>(py: Python<'py>, batch: &RecordBatch) -> PyResult<Capsules<'py>> {
    let array = FFI_ArrowArray::new(&StructArray::from(batch.clone()).to_data());
    Ok((schema_capsule(py, &batch.schema())?, PyCapsule::new_with_value(py, array, ARRAY)?))
}

/// Batches on their way out. Unless the consumer takes the stream over, the capsule releases it.
pub fn stream_capsule<'py>(py: Python<'py>, reader: Box<dyn RecordBatchReader + Send>) -> PyResult<Bound<'py, PyCapsule>> {
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(reader), STREAM)
}

/// The batches of an object, none read yet.
pub fn reader(object: &Bound<'_, PyAny>) -> PyResult<Box<dyn RecordBatchReader + Send>> {
    if object.hasattr("__arrow_c_stream__")? {
        let capsule = object.call_method0("__arrow_c_stream__")?;
        let pointer = pointer(&capsule, STREAM)?.cast::<FFI_ArrowArrayStream>();
        // SAFETY: a capsule of this name holds a valid stream that nobody else reads; it is taken out of the capsule, whose
        // destructor then finds it released.
        let reader = unsafe { ArrowArrayStreamReader::from_raw(pointer.as_ptr()) };
        return Ok(Box::new(reader.map_err(invalid)?));
    }
    let array = array(object)?;
    let Some(rows) = array.as_any().downcast_ref::<StructArray>().filter(|rows| rows.null_count() == 0) else {
        return Err(invalid(format!("a table has columns, but this is an array of {}", array.data_type())));
    };
    let batch = RecordBatch::from(rows);
    let schema = batch.schema();
    Ok(Box::new(arrow::array::RecordBatchIterator::new([Ok(batch)], schema)))
}

/// The values of an object with `__arrow_c_array__`.
pub fn array(object: &Bound<'_, PyAny>) -> PyResult<ArrayRef> {
    let missing = |_| {
        let kind = object.get_type().name().map_or_else(|_| "this object".into(), |n| n.to_string());
        invalid(format!("{kind} has no __arrow_c_stream__ and no __arrow_c_array__: it is no Arrow data"))
    };
    let method = object.getattr("__arrow_c_array__").map_err(missing)?;
    let (schema, array): (Bound<'_, PyAny>, Bound<'_, PyAny>) = method.call0()?.extract()?;
    let schema = pointer(&schema, SCHEMA)?.cast::<FFI_ArrowSchema>();
    let array = pointer(&array, ARRAY)?.cast::<FFI_ArrowArray>();
    // SAFETY: capsules of these names hold a valid schema, which is only looked at, and a valid array, which is taken out of
    // its capsule: the destructor then finds it released.
    let data = unsafe { from_ffi(FFI_ArrowArray::from_raw(array.as_ptr()), schema.as_ref()) };
    Ok(make_array(data.map_err(invalid)?))
}

/// The type of an object with `__arrow_c_schema__`.
pub fn data_type(object: &Bound<'_, PyAny>) -> PyResult<DataType> {
    let capsule = object.call_method0("__arrow_c_schema__")?;
    let schema = schema_of(&capsule, |s| DataType::try_from(s))?;
    Ok(schema)
}

/// The columns of a schema capsule.
pub fn schema(capsule: &Bound<'_, PyAny>) -> PyResult<SchemaRef> {
    Ok(Arc::new(schema_of(capsule, |s| Schema::try_from(s))?))
}

fn schema_of<T>(capsule: &Bound<'_, PyAny>, read: impl FnOnce(&FFI_ArrowSchema) -> Result<T, ArrowError>) -> PyResult<T> {
    let pointer = pointer(capsule, SCHEMA)?.cast::<FFI_ArrowSchema>();
    // SAFETY: a capsule of this name holds a valid schema, and lives for as long as it is looked at.
    caught(|| Ok(read(unsafe { pointer.as_ref() })))?.map_err(invalid)
}

fn pointer(capsule: &Bound<'_, PyAny>, name: &CStr) -> PyResult<NonNull<std::ffi::c_void>> {
    let capsule = capsule.cast::<PyCapsule>().map_err(|_| invalid(format!("no capsule {}", name.to_string_lossy())))?;
    capsule.pointer_checked(Some(name))
}

/// The text of what a signal's handler raised inside another library's call. A Ctrl-C is raised again once that
/// library has returned.
pub fn raise_later(e: PyErr) -> String {
    Python::attach(|py| {
        if e.is_instance_of::<pyo3::exceptions::PyKeyboardInterrupt>(py) {
            // SAFETY: this thread is attached to the interpreter.
            unsafe { pyo3::ffi::PyErr_SetInterrupt() };
        }
        e.to_string()
    })
}
