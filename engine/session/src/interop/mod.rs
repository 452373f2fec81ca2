//! Arrow's [C data interface](https://arrow.apache.org/docs/format/CDataInterface.html): columns to and from other
//! libraries in the same process. Pointers change hands, no value is copied.
//!
//! [`CSchema`] says what a column is, [`CArray`] where its buffers lie. Why these are not the structs of the crate `arrow` is
//! said in `docs/decisions/0005-arrow-c-data.md`. The Python package hands them over in capsules; the feature `polars` to
//! Polars.
//!
//! ```
//! use arrow::array::{Array, AsArray, Int64Array};
//! use arrow::datatypes::{DataType, Field, Int64Type, Schema};
//! use millstream::interop::{CArray, CSchema};
//! let schema = CSchema::of_table(&Schema::new(vec![Field::new("a", DataType::Int64, true)]))?;
//! assert_eq!(schema.to_table()?.field(0).name(), "a");
//! let numbers = Int64Array::from(vec![1, 2, 3]);
//! // SAFETY: it was exported from an array of this type.
//! let taken = arrow::array::make_array(unsafe { CArray::of(&numbers.to_data()).import(&DataType::Int64)? });
//! assert_eq!(taken.as_primitive::<Int64Type>().values().as_ptr(), numbers.values().as_ptr());
//! # Ok::<(), arrow::error::ArrowError>(())
//! ```

mod array;
#[cfg(feature = "polars")]
pub(crate) mod polars;
mod schema;

pub use array::CArray;
pub use schema::CSchema;

/// What gives back the memory of one of the interface's structs.
// SAFETY: a type only; who calls such a function says why it may.
type Release<T> = unsafe extern "C" fn(*mut T);
