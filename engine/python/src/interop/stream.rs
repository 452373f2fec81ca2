//! Streams of batches as the C stream interface hands them over.

use arrow::array::{Array, RecordBatch, RecordBatchReader, StructArray, make_array};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use millstream::interop::{CArray, CSchema};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;

// SAFETY: types only; who calls such a function says why it may.
type Get<T> = unsafe extern "C" fn(*mut CStream, *mut T) -> c_int;
// SAFETY: as above.
type GetText = unsafe extern "C" fn(*mut CStream) -> *const c_char;
// SAFETY: as above.
type Release = unsafe extern "C" fn(*mut CStream);

/// `struct ArrowArrayStream`.
#[repr(C)]
pub struct CStream {
    get_schema: Option<Get<CSchema>>,
    get_next: Option<Get<CArray>>,
    get_last_error: Option<GetText>,
    release: Option<Release>,
    private_data: *mut c_void,
}

// SAFETY: a stream is handed over with all it points to; the interface lets any thread read it, one at a time.
unsafe impl Send for CStream {}

/// What an exported stream points to.
struct Owned {
    reader: Box<dyn RecordBatchReader + Send>,
    error: CString,
}

/// What the interface calls EIO.
const FAILED: c_int = 5;

impl CStream {
    /// The batches of `reader`.
    pub fn of(reader: Box<dyn RecordBatchReader + Send>) -> Self {
        Self {
            get_schema: Some(get_schema),
            get_next: Some(get_next),
            get_last_error: Some(get_last_error),
            release: Some(release),
            private_data: Box::into_raw(Box::new(Owned { reader, error: CString::default() })).cast(),
        }
    }

    /// One that holds nothing.
    pub fn empty() -> Self {
        Self { get_schema: None, get_next: None, get_last_error: None, release: None, private_data: ptr::null_mut() }
    }
}

impl Drop for CStream {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: it is released once: the function sets `release` to none.
            unsafe { release(self) }
        }
    }
}

/// Fills `out` with what `make` makes; an error or a panic is kept for `get_last_error`.
///
/// SAFETY: `stream` is one that `of` made and that is not released; `out` may be written.
unsafe fn answer<T>(stream: *mut CStream, out: *mut T, make: impl FnOnce(&mut Owned) -> Result<T, ArrowError>) -> c_int {
    // SAFETY: the caller vouches for it.
    let owned = unsafe { &mut *(*stream).private_data.cast::<Owned>() };
    let made = catch_unwind(AssertUnwindSafe(|| make(owned)));
    let error = match made {
        Ok(Ok(made)) => {
            // SAFETY: as above; what lies there is not yet anybody's.
            unsafe { out.write(made) };
            return 0;
        }
        Ok(Err(ArrowError::ComputeError(text) | ArrowError::CDataInterface(text))) => text,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "panic while a batch was made".into(),
    };
    owned.error = CString::new(error.replace('\0', " ")).unwrap_or_default();
    FAILED
}

// SAFETY: called by a consumer, which keeps to the interface; so are the next ones.
unsafe extern "C" fn get_schema(stream: *mut CStream, out: *mut CSchema) -> c_int {
    // SAFETY: the consumer keeps to the interface.
    unsafe { answer(stream, out, |owned| CSchema::of_table(&owned.reader.schema())) }
}

// SAFETY: as above.
unsafe extern "C" fn get_next(stream: *mut CStream, out: *mut CArray) -> c_int {
    let next = |owned: &mut Owned| match owned.reader.next().transpose()? {
        Some(batch) => Ok(CArray::of(&StructArray::from(batch).to_data())),
        None => Ok(CArray::empty()),
    };
    // SAFETY: the consumer keeps to the interface.
    unsafe { answer(stream, out, next) }
}

// SAFETY: as above.
unsafe extern "C" fn get_last_error(stream: *mut CStream) -> *const c_char {
    // SAFETY: the consumer keeps to the interface.
    unsafe { (*(*stream).private_data.cast::<Owned>()).error.as_ptr() }
}

// SAFETY: as above.
unsafe extern "C" fn release(stream: *mut CStream) {
    // SAFETY: the consumer gives back a stream that `of` made, once.
    unsafe {
        drop(Box::from_raw((*stream).private_data.cast::<Owned>()));
        (*stream).release = None;
    }
}

/// The batches of another library's stream.
pub struct Reader {
    stream: CStream,
    schema: SchemaRef,
    kind: DataType,
}

impl Reader {
    /// The batches of `stream`.
    ///
    /// SAFETY: the stream's producer keeps to the interface.
    pub unsafe fn new(mut stream: CStream) -> Result<Self, ArrowError> {
        let mut schema = CSchema::empty();
        let get = stream.get_schema.ok_or_else(|| ArrowError::CDataInterface("a stream that was released".into()))?;
        // SAFETY: the caller vouches for the producer.
        let code = unsafe { get(&mut stream, &mut schema) };
        let mut reader = Self { stream, schema: Arc::new(arrow::datatypes::Schema::empty()), kind: DataType::Null };
        reader.check(code)?;
        let schema = schema.to_table()?;
        reader.kind = DataType::Struct(schema.fields().clone());
        reader.schema = Arc::new(schema);
        Ok(reader)
    }

    /// An error where a call did not return zero.
    fn check(&mut self, code: c_int) -> Result<(), ArrowError> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: `new` promises a producer that keeps to the interface; the text lives until the next call.
        let text = self.stream.get_last_error.map(|get| unsafe { get(&mut self.stream) }).filter(|text| !text.is_null());
        // SAFETY: as above.
        let text = text.map(|text| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned());
        Err(ArrowError::CDataInterface(text.filter(|t| !t.is_empty()).unwrap_or_else(|| format!("error {code} of the stream"))))
    }

    fn read(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let Some(get) = self.stream.get_next else { return Ok(None) };
        let mut array = CArray::empty();
        // SAFETY: `new` promises a producer that keeps to the interface.
        let code = unsafe { get(&mut self.stream, &mut array) };
        self.check(code)?;
        if array.is_released() {
            return Ok(None);
        }
        // SAFETY: as above; a stream's arrays are of its schema.
        let rows = make_array(unsafe { array.import(&self.kind)? });
        batch(rows.as_ref(), &self.schema).map(Some)
    }
}

/// A struct's fields as columns; the columns' metadata is the schema's.
pub fn batch(rows: &dyn Array, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let Some(rows) = rows.as_any().downcast_ref::<StructArray>().filter(|rows| rows.null_count() == 0) else {
        return Err(ArrowError::CDataInterface("rows that are null".into()));
    };
    RecordBatch::from(rows).with_schema(Arc::clone(schema))
}

impl Iterator for Reader {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if !matches!(read, Ok(Some(_))) {
            self.stream = CStream::empty();
        }
        read.transpose()
    }
}

impl RecordBatchReader for Reader {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
