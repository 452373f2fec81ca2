//! Millstream for Python: the native half of the package `millstream`, a thin shell over the crate of that name.
//!
//! Classes hold what the crate has and turn values, errors and tables into Python's and back (`interop`, without
//! copies); whatever waits for the engine does so in `engine.rs`, without the interpreter's lock and with an ear on
//! Ctrl-C. Names, defaults, documentation and conveniences are the Python half's (`millstream/`), which alone
//! is public.

mod allocator;
mod engine;
mod errors;
mod expression;
mod interop;
mod rows;
mod session;
mod table;

/// Everything that the Python half uses.
#[pyo3::pymodule(gil_used = true)]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::errors::{BugError, CorruptError, ExhaustedError, InvalidError, MillstreamError, RetryError, UnsupportedError};
    #[pymodule_export]
    use crate::expression::{Case, Expr, SortKey, aggregate, call, col, literal, literal_of, when};
    #[pymodule_export]
    use crate::rows::{Batch, Batches, Rows};
    #[pymodule_export]
    use crate::session::Session;
    #[pymodule_export]
    use crate::table::Table;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::allocator::keep_freed();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
