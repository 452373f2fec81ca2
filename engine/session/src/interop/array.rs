//! Arrays as the C data interface hands them over: pointers to buffers, and who frees them.

use super::Release;
use arrow::array::{ArrayData, BufferSpec, layout};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// `struct ArrowArray`: where the buffers of a column lie, and who frees them. Dropping it releases them.
///
/// ```
/// use arrow::array::{Array, StringArray};
/// let words = StringArray::from(vec![Some("a"), None]);
/// let array = millstream::interop::CArray::of(&words.to_data());
/// drop(words);
/// assert!(!array.is_released());
/// ```
#[repr(C)]
pub struct CArray {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *mut *const c_void,
    children: *mut *mut CArray,
    dictionary: *mut CArray,
    release: Option<Release<CArray>>,
    private_data: *mut c_void,
}

// SAFETY: an array is handed over with all it points to, which does not change; the interface lets any thread read and
// release it.
unsafe impl Send for CArray {}
// SAFETY: as above; shared, it is only read.
unsafe impl Sync for CArray {}

/// What an exported array points to.
struct Owned {
    /// Kept alive; `pointers` points into them.
    _buffers: Vec<Option<Buffer>>,
    pointers: Box<[*const c_void]>,
    children: Box<[*mut CArray]>,
    dictionary: *mut CArray,
}

impl CArray {
    /// The array `data`, whose buffers it shares. Only validity bits that begin elsewhere in their byte than the values
    /// do are copied.
    ///
    /// ```
    /// use arrow::array::{Array, AsArray, BooleanArray, make_array};
    /// use arrow::datatypes::DataType;
    /// let flags = BooleanArray::from(vec![Some(true), None, Some(false)]).slice(1, 2);
    /// // SAFETY: it was exported from an array of this type.
    /// let taken = make_array(unsafe { millstream::interop::CArray::of(&flags.to_data()).import(&DataType::Boolean)? });
    /// assert_eq!(taken.as_boolean(), &flags);
    /// # Ok::<(), arrow::error::ArrowError>(())
    /// ```
    pub fn of(data: &ArrayData) -> Self {
        let spec = layout(data.data_type());
        let mut buffers: Vec<Option<Buffer>> = if spec.can_contain_null_mask { vec![validity(data)] } else { vec![] };
        buffers.extend(data.buffers().iter().cloned().map(Some));
        if spec.variadic {
            // Views end in the lengths of the buffers that they point into.
            let lengths: Vec<i64> = data.buffers()[spec.buffers.len()..].iter().map(|b| b.len() as i64).collect();
            buffers.push(Some(Buffer::from_vec(lengths)));
        }
        let exported = |child: &ArrayData| Box::into_raw(Box::new(Self::of(child)));
        let is_dictionary = matches!(data.data_type(), DataType::Dictionary(_, _));
        let (children, dictionary) = match data.child_data() {
            [values] if is_dictionary => (vec![], exported(values)),
            children => (children.iter().map(exported).collect(), ptr::null_mut()),
        };
        let pointers = buffers.iter().map(|b| b.as_ref().map_or(ptr::null(), |b| b.as_ptr().cast())).collect();
        let mut owned = Box::new(Owned { _buffers: buffers, pointers, children: children.into(), dictionary });
        Self {
            length: data.len() as i64,
            null_count: if data.data_type() == &DataType::Null { data.len() } else { data.null_count() } as i64,
            offset: data.offset() as i64,
            n_buffers: owned.pointers.len() as i64,
            n_children: owned.children.len() as i64,
            buffers: owned.pointers.as_mut_ptr(),
            children: owned.children.as_mut_ptr(),
            dictionary,
            release: Some(release),
            private_data: Box::into_raw(owned).cast(),
        }
    }

    /// One that holds nothing, to be filled by a producer.
    ///
    /// ```
    /// assert!(millstream::interop::CArray::empty().is_released());
    /// ```
    pub fn empty() -> Self {
        Self {
            length: 0,
            null_count: 0,
            offset: 0,
            n_buffers: 0,
            n_children: 0,
            buffers: ptr::null_mut(),
            children: ptr::null_mut(),
            dictionary: ptr::null_mut(),
            release: None,
            private_data: ptr::null_mut(),
        }
    }

    /// Whether it holds nothing (any more): in a stream, the end.
    ///
    /// ```
    /// use arrow::array::{Array, NullArray};
    /// assert!(!millstream::interop::CArray::of(&NullArray::new(2).to_data()).is_released());
    /// ```
    pub fn is_released(&self) -> bool {
        self.release.is_none()
    }

    /// The array as one of ours, of type `kind`. Its buffers stay where they are, and are released when nobody shares
    /// them any more; those that are not aligned as Rust wants it are copied.
    ///
    /// ```
    /// use arrow::array::{Array, Int32Array, make_array};
    /// use arrow::datatypes::DataType;
    /// use millstream::interop::CArray;
    /// let numbers = Int32Array::from(vec![Some(1), None]);
    /// // SAFETY: it was exported from an array of this type.
    /// let taken = unsafe { CArray::of(&numbers.to_data()).import(&DataType::Int32)? };
    /// assert_eq!(make_array(taken).null_count(), 1);
    /// // SAFETY: there is nothing to read.
    /// assert!(unsafe { CArray::empty().import(&DataType::Int32) }.is_err());
    /// # Ok::<(), arrow::error::ArrowError>(())
    /// ```
    ///
    /// # Safety
    /// SAFETY: the array is of type `kind`, and its producer keeps to the interface.
    ///
    /// # Errors
    /// What does not fit to `kind`: counts of buffers and children, lengths.
    pub unsafe fn import(self, kind: &DataType) -> Result<ArrayData, ArrowError> {
        if self.is_released() {
            return Err(invalid("an array that was released"));
        }
        let owner = Arc::new(self);
        // SAFETY: the caller vouches for type and producer; the owner keeps the buffers.
        let data = unsafe { node(&owner, &owner, kind)? };
        data.validate()?;
        Ok(data)
    }
}

impl Drop for CArray {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: it is released once: the function sets `release` to none.
            unsafe { release(self) }
        }
    }
}

// SAFETY: called by a consumer, which keeps to the interface.
unsafe extern "C" fn release(array: *mut CArray) {
    // SAFETY: the consumer gives back an array that `of` made, once. Children that it took over were emptied.
    unsafe {
        let array = &mut *array;
        let owned = Box::from_raw(array.private_data.cast::<Owned>());
        owned.children.iter().for_each(|c| drop(Box::from_raw(*c)));
        if !owned.dictionary.is_null() {
            drop(Box::from_raw(owned.dictionary));
        }
        array.release = None;
    }
}

/// The validity bits, counted from the offset of the array's other buffers.
fn validity(data: &ArrayData) -> Option<Buffer> {
    let nulls = data.nulls()?;
    if nulls.offset() == data.offset() {
        return Some(nulls.buffer().clone());
    }
    if data.offset() == 0 {
        // Shares the memory where a byte begins there.
        return Some(nulls.inner().sliced());
    }
    let bits: BooleanBuffer = (0..data.offset()).map(|_| false).chain(nulls.iter()).collect();
    Some(bits.into_inner())
}

/// One array below `owner`, which frees all of them.
///
/// SAFETY: as `CArray::import`; `array` is `owner` or lies below it.
unsafe fn node(array: &CArray, owner: &Arc<CArray>, kind: &DataType) -> Result<ArrayData, ArrowError> {
    let size = |n: i64| usize::try_from(n).map_err(|_| invalid("a length below zero"));
    let (length, offset) = (size(array.length)?, size(array.offset)?);
    let (rows, spec) = (length + offset, layout(kind));
    let given = size(array.n_buffers)?;
    let first = usize::from(spec.can_contain_null_mask);
    let fixed = first + spec.buffers.len();
    // A column of nulls has no buffer; some producers, Polars among them, give it one that is not there.
    let given = if kind == &DataType::Null { 0 } else { given };
    if given < fixed + usize::from(spec.variadic) || !spec.variadic && given != fixed {
        return Err(invalid(&format!("{given} buffers of {kind}")));
    }
    // SAFETY: the producer has as many buffers as it says.
    let pointer = |i: usize| unsafe { (*array.buffers.add(i)).cast::<u8>() };
    // SAFETY: the producer's buffers have the lengths that the interface asks for, and live as long as the owner.
    let buffer = |i: usize, bytes: usize| unsafe {
        match NonNull::new(pointer(i).cast_mut()) {
            Some(at) if bytes > 0 => Ok(Buffer::from_custom_allocation(at, bytes, Arc::clone(owner) as _)),
            None if bytes > 0 => Err(invalid(&format!("no buffer {i} of {kind}"))),
            _ => Ok(Buffer::from_vec(Vec::<u64>::new())),
        }
    };
    let mut buffers: Vec<Buffer> = vec![];
    for (i, spec) in spec.buffers.iter().enumerate() {
        let at = first + i;
        buffers.push(match spec {
            BufferSpec::FixedWidth { byte_width, .. } if !has_offsets(kind) => buffer(at, rows * byte_width)?,
            // A column without rows may do without its one offset.
            BufferSpec::FixedWidth { .. } if rows == 0 => Buffer::from_vec(vec![0_u64]),
            BufferSpec::FixedWidth { byte_width, .. } => buffer(at, (rows + 1) * byte_width)?,
            BufferSpec::BitMap => buffer(at, rows.div_ceil(8))?,
            BufferSpec::VariableWidth => buffer(at, last_offset(&buffers[0], rows, kind)?)?,
            BufferSpec::AlwaysNull => return Err(invalid("a buffer that is always null")),
        });
    }
    if spec.variadic {
        let lengths = buffer(given - 1, (given - 1 - fixed) * size_of::<i64>())?;
        for (i, bytes) in lengths.as_slice().chunks_exact(size_of::<i64>()).enumerate() {
            buffers.push(buffer(fixed + i, size(i64::from_ne_bytes(bytes.try_into().unwrap_or_default()))?)?);
        }
    }
    let valid = if spec.can_contain_null_mask && array.null_count != 0 && !pointer(0).is_null() {
        Some(NullBuffer::new(BooleanBuffer::new(buffer(0, rows.div_ceil(8))?, offset, length)))
    } else {
        None
    };
    // SAFETY: as this function's.
    let children = unsafe { below(array, owner, kind)? };
    let builder = ArrayData::builder(kind.clone()).len(length).offset(offset).buffers(buffers).nulls(valid).child_data(children);
    // SAFETY: the producer vouches for the values; counts and lengths are validated at the end.
    Ok(unsafe { builder.align_buffers(true).build_unchecked() })
}

/// The arrays within `array`.
///
/// SAFETY: as `node`.
unsafe fn below(array: &CArray, owner: &Arc<CArray>, kind: &DataType) -> Result<Vec<ArrayData>, ArrowError> {
    let kinds: Vec<&DataType> = match kind {
        DataType::Dictionary(_, values) => {
            // SAFETY: a producer's dictionary is an array.
            let dictionary = unsafe { array.dictionary.as_ref() }.ok_or_else(|| invalid("codes without a dictionary"))?;
            // SAFETY: as this function's.
            return Ok(vec![unsafe { node(dictionary, owner, values)? }]);
        }
        DataType::Struct(fields) => fields.iter().map(|f| f.data_type()).collect(),
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f)
        | DataType::FixedSizeList(f, _)
        | DataType::Map(f, _) => vec![f.data_type()],
        _ => vec![],
    };
    if array.n_children != kinds.len() as i64 {
        return Err(invalid(&format!("{} children of {kind}", array.n_children)));
    }
    // SAFETY: the producer has as many children as it says, each an array.
    kinds.into_iter().enumerate().map(|(i, kind)| unsafe { node(&**array.children.add(i), owner, kind) }).collect()
}

/// Whether the first buffer has an offset more than there are rows.
fn has_offsets(kind: &DataType) -> bool {
    use DataType::{Binary, LargeBinary, LargeList, LargeUtf8, List, Map, Utf8};
    matches!(kind, Utf8 | LargeUtf8 | Binary | LargeBinary | List(_) | LargeList(_) | Map(_, _))
}

/// Where the last row's bytes end.
fn last_offset(offsets: &Buffer, rows: usize, kind: &DataType) -> Result<usize, ArrowError> {
    let width = if matches!(kind, DataType::LargeUtf8 | DataType::LargeBinary) { 8 } else { 4 };
    let bytes = offsets.as_slice().get(rows * width..(rows + 1) * width).unwrap_or(&[]);
    let offset = match bytes.len() {
        8 => i64::from_ne_bytes(bytes.try_into().unwrap_or_default()),
        _ => i32::from_ne_bytes(bytes.try_into().unwrap_or_default()).into(),
    };
    usize::try_from(offset).map_err(|_| invalid("an offset below zero"))
}

fn invalid(message: &str) -> ArrowError {
    ArrowError::CDataInterface(message.into())
}
