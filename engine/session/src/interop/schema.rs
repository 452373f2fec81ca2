//! Columns and their types as the C data interface writes them: format strings, flags and metadata.
//! <https://arrow.apache.org/docs/format/CDataInterface.html>

use super::Release;
use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, TimeUnit};
use arrow::error::ArrowError;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;

/// `struct ArrowSchema`: the name and the type of a column. Dropping it frees what it points to.
///
/// ```
/// use arrow::datatypes::{DataType, Field};
/// let field = Field::new("words", DataType::new_list(DataType::Utf8View, true), false);
/// assert_eq!(millstream::interop::CSchema::of(&field)?.to_field()?, field);
/// # Ok::<(), arrow::error::ArrowError>(())
/// ```
#[repr(C)]
pub struct CSchema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *mut *mut CSchema,
    dictionary: *mut CSchema,
    release: Option<Release<CSchema>>,
    private_data: *mut c_void,
}

/// What an exported schema points to.
struct Owned {
    _format: CString,
    _name: CString,
    _metadata: Option<Vec<u8>>,
    children: Box<[*mut CSchema]>,
    dictionary: *mut CSchema,
}

const DICTIONARY_ORDERED: i64 = 1;
const NULLABLE: i64 = 2;
const MAP_KEYS_SORTED: i64 = 4;

// SAFETY: the schema owns all it points to, and nothing of it changes.
unsafe impl Send for CSchema {}

impl CSchema {
    /// A table's columns, as the fields of a struct.
    ///
    /// ```
    /// use arrow::datatypes::{DataType, Field, Schema};
    /// let schema = Schema::new(vec![Field::new("a", DataType::Date32, true)]);
    /// assert_eq!(millstream::interop::CSchema::of_table(&schema)?.to_table()?, schema);
    /// # Ok::<(), arrow::error::ArrowError>(())
    /// ```
    ///
    /// # Errors
    /// As [`CSchema::of`].
    pub fn of_table(schema: &Schema) -> Result<Self, ArrowError> {
        let row = Field::new("", DataType::Struct(schema.fields().clone()), false).with_metadata(schema.metadata().clone());
        Self::of(&row)
    }

    /// One column, its metadata included.
    ///
    /// ```
    /// use arrow::datatypes::{DataType, Field};
    /// use millstream::interop::CSchema;
    /// assert!(CSchema::of(&Field::new("a", DataType::Float64, true)).is_ok());
    /// assert!(CSchema::of(&Field::new("a\0b", DataType::Float64, true)).is_err());
    /// ```
    ///
    /// # Errors
    /// For unions and run-end encoded columns, and names with a zero byte.
    pub fn of(field: &Field) -> Result<Self, ArrowError> {
        let mut kind = field.data_type();
        let mut flags = if field.is_nullable() { NULLABLE } else { 0 };
        let mut dictionary = ptr::null_mut();
        if let DataType::Dictionary(codes, values) = kind {
            let ordered = field.dict_is_ordered().unwrap_or(false);
            flags |= if ordered { DICTIONARY_ORDERED } else { 0 };
            dictionary = Box::into_raw(Box::new(Self::of(&Field::new("", values.as_ref().clone(), true))?));
            kind = codes;
        }
        if matches!(kind, DataType::Map(_, true)) {
            flags |= MAP_KEYS_SORTED;
        }
        let children: Result<Vec<Self>, ArrowError> = children(kind).iter().map(|c| Self::of(c)).collect();
        let children: Box<[*mut Self]> = children?.into_iter().map(|c| Box::into_raw(Box::new(c))).collect();
        let text = |t: String| CString::new(t).map_err(|_| ArrowError::CDataInterface("a name with a zero byte".into()));
        let (format, name) = (text(format_of(kind)?)?, text(field.name().clone())?);
        let metadata = encode(field.metadata());
        let mut owned = Box::new(Owned { _format: format, _name: name, _metadata: metadata, children, dictionary });
        Ok(Self {
            format: owned._format.as_ptr(),
            name: owned._name.as_ptr(),
            metadata: owned._metadata.as_ref().map_or(ptr::null(), |m| m.as_ptr().cast()),
            flags,
            n_children: owned.children.len() as i64,
            children: owned.children.as_mut_ptr(),
            dictionary,
            release: Some(release),
            private_data: Box::into_raw(owned).cast(),
        })
    }

    /// The columns of a table.
    ///
    /// ```
    /// use arrow::datatypes::{DataType, Field};
    /// let number = millstream::interop::CSchema::of(&Field::new("a", DataType::Int8, true))?;
    /// assert!(number.to_table().is_err());
    /// # Ok::<(), arrow::error::ArrowError>(())
    /// ```
    ///
    /// # Errors
    /// As [`CSchema::to_field`], and for what is no struct.
    pub fn to_table(&self) -> Result<Schema, ArrowError> {
        let row = self.to_field()?;
        match row.data_type() {
            DataType::Struct(fields) => Ok(Schema::new_with_metadata(fields.clone(), row.metadata().clone())),
            other => Err(invalid(&format!("a table has columns, but this is a column of {other}"))),
        }
    }

    /// The column that it describes.
    ///
    /// ```
    /// use arrow::datatypes::{DataType, Field};
    /// let field = Field::new("price", DataType::Decimal128(10, 2), true);
    /// assert_eq!(millstream::interop::CSchema::of(&field)?.to_field()?, field);
    /// # Ok::<(), arrow::error::ArrowError>(())
    /// ```
    ///
    /// # Errors
    /// For a type that is not Arrow's, and names that are not UTF-8.
    pub fn to_field(&self) -> Result<Field, ArrowError> {
        if self.release.is_none() || self.format.is_null() {
            return Err(invalid("a schema that was released"));
        }
        // SAFETY: a schema that is not released has texts that end in zero, and as many children as it says.
        let (format, name, metadata) = unsafe { (text(self.format)?, text(self.name)?, decode(self.metadata.cast())?) };
        let children: Result<Vec<Field>, ArrowError> = (0..self.n_children.max(0) as usize)
            // SAFETY: as above.
            .map(|i| unsafe { (**self.children.add(i)).to_field() })
            .collect();
        let mut kind = parse(&format, children?, self.flags)?;
        // SAFETY: a dictionary, where there is one, is a schema of its own.
        if let Some(values) = unsafe { self.dictionary.as_ref() } {
            kind = DataType::Dictionary(Box::new(kind), Box::new(values.to_field()?.data_type().clone()));
        }
        let field = Field::new(name, kind, self.flags & NULLABLE != 0);
        Ok(field.with_dict_is_ordered(self.flags & DICTIONARY_ORDERED != 0).with_metadata(metadata))
    }

    /// One that holds nothing, to be filled by a producer.
    ///
    /// ```
    /// assert!(millstream::interop::CSchema::empty().to_field().is_err());
    /// ```
    pub fn empty() -> Self {
        Self {
            format: ptr::null(),
            name: ptr::null(),
            metadata: ptr::null(),
            flags: 0,
            n_children: 0,
            children: ptr::null_mut(),
            dictionary: ptr::null_mut(),
            release: None,
            private_data: ptr::null_mut(),
        }
    }
}

impl Drop for CSchema {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: it is released once: the function sets `release` to none.
            unsafe { release(self) }
        }
    }
}

// SAFETY: called by a consumer, which keeps to the interface.
unsafe extern "C" fn release(schema: *mut CSchema) {
    // SAFETY: the consumer gives back a schema that `of` made, once; its children are ours.
    unsafe {
        let schema = &mut *schema;
        let owned = Box::from_raw(schema.private_data.cast::<Owned>());
        owned.children.iter().for_each(|c| drop(Box::from_raw(*c)));
        if !owned.dictionary.is_null() {
            drop(Box::from_raw(owned.dictionary));
        }
        schema.release = None;
    }
}

/// Types without parameters, and what the interface calls them.
const PLAIN: &[(&str, DataType)] = &[
    ("n", DataType::Null),
    ("b", DataType::Boolean),
    ("c", DataType::Int8),
    ("C", DataType::UInt8),
    ("s", DataType::Int16),
    ("S", DataType::UInt16),
    ("i", DataType::Int32),
    ("I", DataType::UInt32),
    ("l", DataType::Int64),
    ("L", DataType::UInt64),
    ("e", DataType::Float16),
    ("f", DataType::Float32),
    ("g", DataType::Float64),
    ("z", DataType::Binary),
    ("Z", DataType::LargeBinary),
    ("vz", DataType::BinaryView),
    ("u", DataType::Utf8),
    ("U", DataType::LargeUtf8),
    ("vu", DataType::Utf8View),
    ("tdD", DataType::Date32),
    ("tdm", DataType::Date64),
    ("tts", DataType::Time32(TimeUnit::Second)),
    ("ttm", DataType::Time32(TimeUnit::Millisecond)),
    ("ttu", DataType::Time64(TimeUnit::Microsecond)),
    ("ttn", DataType::Time64(TimeUnit::Nanosecond)),
    ("tDs", DataType::Duration(TimeUnit::Second)),
    ("tDm", DataType::Duration(TimeUnit::Millisecond)),
    ("tDu", DataType::Duration(TimeUnit::Microsecond)),
    ("tDn", DataType::Duration(TimeUnit::Nanosecond)),
    ("tiM", DataType::Interval(IntervalUnit::YearMonth)),
    ("tiD", DataType::Interval(IntervalUnit::DayTime)),
    ("tin", DataType::Interval(IntervalUnit::MonthDayNano)),
];

const UNITS: [(char, TimeUnit); 4] =
    [('s', TimeUnit::Second), ('m', TimeUnit::Millisecond), ('u', TimeUnit::Microsecond), ('n', TimeUnit::Nanosecond)];

fn format_of(kind: &DataType) -> Result<String, ArrowError> {
    if let Some((format, _)) = PLAIN.iter().find(|(_, plain)| plain == kind) {
        return Ok((*format).to_string());
    }
    Ok(match kind {
        DataType::Timestamp(unit, zone) => {
            let letter = UNITS.iter().find(|(_, u)| u == unit).map_or('n', |(letter, _)| *letter);
            format!("ts{letter}:{}", zone.as_deref().unwrap_or(""))
        }
        DataType::Decimal32(precision, scale) => format!("d:{precision},{scale},32"),
        DataType::Decimal64(precision, scale) => format!("d:{precision},{scale},64"),
        DataType::Decimal128(precision, scale) => format!("d:{precision},{scale}"),
        DataType::Decimal256(precision, scale) => format!("d:{precision},{scale},256"),
        DataType::FixedSizeBinary(bytes) => format!("w:{bytes}"),
        DataType::List(_) => "+l".into(),
        DataType::LargeList(_) => "+L".into(),
        DataType::ListView(_) => "+vl".into(),
        DataType::LargeListView(_) => "+vL".into(),
        DataType::FixedSizeList(_, values) => format!("+w:{values}"),
        DataType::Struct(_) => "+s".into(),
        DataType::Map(_, _) => "+m".into(),
        other => return Err(invalid(&format!("the type {other} is not handed over"))),
    })
}

fn children(kind: &DataType) -> Vec<&Field> {
    match kind {
        DataType::List(child)
        | DataType::LargeList(child)
        | DataType::ListView(child)
        | DataType::LargeListView(child)
        | DataType::FixedSizeList(child, _)
        | DataType::Map(child, _) => vec![child],
        DataType::Struct(fields) => fields.iter().map(Arc::as_ref).collect(),
        _ => vec![],
    }
}

fn parse(format: &str, children: Vec<Field>, flags: i64) -> Result<DataType, ArrowError> {
    if let Some((_, plain)) = PLAIN.iter().find(|(known, _)| *known == format) {
        return Ok(plain.clone());
    }
    let unknown = || invalid(&format!("the type {format} is not taken over"));
    if format == "+s" {
        return Ok(DataType::Struct(Fields::from(children)));
    }
    if format.starts_with('+') {
        let child = Arc::new(children.into_iter().next().ok_or_else(unknown)?);
        return match format {
            "+l" => Ok(DataType::List(child)),
            "+L" => Ok(DataType::LargeList(child)),
            "+vl" => Ok(DataType::ListView(child)),
            "+vL" => Ok(DataType::LargeListView(child)),
            "+m" => Ok(DataType::Map(child, flags & MAP_KEYS_SORTED != 0)),
            other => {
                let values = other.strip_prefix("+w:").and_then(|n| n.parse().ok()).filter(|n| *n >= 0);
                Ok(DataType::FixedSizeList(child, values.ok_or_else(unknown)?))
            }
        };
    }
    let (kind, rest) = format.split_once(':').ok_or_else(unknown)?;
    match kind {
        "w" => Ok(DataType::FixedSizeBinary(rest.parse().ok().filter(|n| *n >= 0).ok_or_else(unknown)?)),
        "d" => decimal(rest).ok_or_else(unknown),
        _ => {
            let letter = kind.strip_prefix("ts").and_then(|l| l.chars().next());
            let (_, unit) = UNITS.iter().find(|(known, _)| Some(*known) == letter).ok_or_else(unknown)?;
            Ok(DataType::Timestamp(*unit, (!rest.is_empty()).then(|| rest.into())))
        }
    }
}

fn decimal(rest: &str) -> Option<DataType> {
    let numbers: Result<Vec<i16>, _> = rest.split(',').map(str::parse).collect();
    let numbers = numbers.ok()?;
    let (precision, scale) = (u8::try_from(*numbers.first()?).ok()?, i8::try_from(*numbers.get(1)?).ok()?);
    match numbers.get(2).unwrap_or(&128) {
        32 => Some(DataType::Decimal32(precision, scale)),
        64 => Some(DataType::Decimal64(precision, scale)),
        128 => Some(DataType::Decimal128(precision, scale)),
        256 => Some(DataType::Decimal256(precision, scale)),
        _ => None,
    }
}

/// Key and value after one another, each behind its length; the number of pairs before all. None where there are none.
fn encode(metadata: &HashMap<String, String>) -> Option<Vec<u8>> {
    let mut out = (metadata.len() as i32).to_ne_bytes().to_vec();
    for text in metadata.iter().flat_map(|(key, value)| [key, value]) {
        out.extend((text.len() as i32).to_ne_bytes());
        out.extend(text.as_bytes());
    }
    (!metadata.is_empty()).then_some(out)
}

/// The pairs of `encode`.
///
/// SAFETY: `at` is null or points to metadata as `encode` writes it.
unsafe fn decode(at: *const u8) -> Result<HashMap<String, String>, ArrowError> {
    let mut at = at;
    if at.is_null() {
        return Ok(HashMap::new());
    }
    // SAFETY: the caller vouches for the lengths that are read.
    let pairs = unsafe { at.cast::<i32>().read_unaligned().max(0) as usize };
    // SAFETY: as above.
    at = unsafe { at.add(4) };
    let mut texts = Vec::with_capacity(2 * pairs);
    for _ in 0..2 * pairs {
        // SAFETY: as above.
        let bytes = unsafe {
            let length = at.cast::<i32>().read_unaligned().max(0) as usize;
            let bytes = std::slice::from_raw_parts(at.add(4), length);
            at = at.add(4 + length);
            bytes
        };
        texts.push(String::from_utf8(bytes.to_vec()).map_err(|_| invalid("metadata that is not UTF-8"))?);
    }
    let mut texts = texts.into_iter();
    Ok(std::iter::from_fn(|| Some((texts.next()?, texts.next()?))).collect())
}

/// SAFETY: `at` is null or points to a text that ends in zero.
unsafe fn text(at: *const c_char) -> Result<String, ArrowError> {
    if at.is_null() {
        return Ok(String::new());
    }
    // SAFETY: the caller vouches for it.
    let text = unsafe { CStr::from_ptr(at) };
    text.to_str().map(str::to_string).map_err(|_| invalid("a name that is not UTF-8"))
}

fn invalid(message: &str) -> ArrowError {
    ArrowError::CDataInterface(message.into())
}
