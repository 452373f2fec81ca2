//! Results: batches at hand, and the batches of a running query.

use crate::engine::Engine;
use crate::errors::{Halt, invalid};
use crate::interop::{Capsules, batch_capsules, raise_later, refused, schema_capsule, stream_capsule};
use arrow::array::{RecordBatch, RecordBatchIterator, RecordBatchReader};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream::{Error, ErrorKind};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;

/// Batches in memory.
#[pyclass(frozen, module = "millstream._native")]
pub struct Batches {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

impl Batches {
    /// With the columns as the batches have them, as planned where there is no batch.
    pub fn new(planned: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { schema: batches.first().map_or(planned, RecordBatch::schema), batches }
    }
}

#[pymethods]
impl Batches {
    #[getter]
    fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The values of the first rows as text, row by row.
    fn cells(&self, rows: usize) -> PyResult<Vec<Vec<String>>> {
        let options = FormatOptions::default().with_null("null");
        let mut out = vec![];
        for batch in &self.batches {
            let columns: Result<Vec<_>, _> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options)).collect();
            let columns = columns.map_err(invalid)?;
            for row in 0..batch.num_rows().min(rows - out.len()) {
                let cells: Result<Vec<String>, _> = columns.iter().map(|c| c.value(row).try_to_string()).collect();
                out.push(cells.map_err(invalid)?);
            }
        }
        Ok(out)
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        schema_capsule(py, &self.schema)
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(&self, py: Python<'py>, requested_schema: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyCapsule>> {
        // Casts are the producer's choice, and there are none here.
        drop(requested_schema);
        let batches: Vec<Result<RecordBatch, ArrowError>> = self.batches.iter().cloned().map(Ok).collect();
        stream_capsule(py, Box::new(RecordBatchIterator::new(batches, Arc::clone(&self.schema))))
    }
}

/// One batch of a running query.
#[pyclass(frozen, module = "millstream._native")]
pub struct Batch(RecordBatch);

#[pymethods]
impl Batch {
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(&self, py: Python<'py>, requested_schema: Option<Bound<'py, PyAny>>) -> PyResult<Capsules<'py>> {
        drop(requested_schema);
        batch_capsules(py, &self.0)
    }
}

/// The batches of a running query. Dropping it cancels the query.
#[pyclass(frozen, module = "millstream._native")]
pub struct Rows {
    /// None after the end or an error.
    rows: Mutex<Option<millstream::Rows>>,
    engine: Arc<Engine>,
}

impl Rows {
    pub fn new(engine: Arc<Engine>, rows: millstream::Rows) -> Self {
        Self { engine, rows: Mutex::new(Some(rows)) }
    }
}

#[pymethods]
impl Rows {
    /// The next batch, none at the end.
    fn next(&self, py: Python<'_>) -> PyResult<Option<Batch>> {
        py.detach(|| {
            let mut slot = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(rows) = slot.as_mut() else { return Ok(None) };
            let next = self.engine.listen(async { rows.next().await.transpose() });
            if !matches!(next, Ok(Some(_))) {
                *slot = None;
            }
            Ok(next?.map(Batch))
        })
    }

    /// Ends the query.
    fn close(&self, py: Python<'_>) {
        py.detach(|| *self.rows.lock().unwrap_or_else(PoisonError::into_inner) = None);
    }
}

/// The batches of a running query for a library that pulls them through the C interface, from any thread.
pub struct Pulled {
    rows: Option<millstream::Rows>,
    engine: Arc<Engine>,
    schema: SchemaRef,
    /// The thread that asked for the stream. It may take the interpreter's lock to hear signals; another one might wait for a
    /// thread that holds the lock and waits for it.
    home: ThreadId,
}

impl Pulled {
    pub fn new(engine: Arc<Engine>, rows: millstream::Rows) -> Self {
        Self { schema: rows.schema(), engine, rows: Some(rows), home: std::thread::current().id() }
    }

    fn pull(&mut self) -> Result<Option<RecordBatch>, Halt> {
        let Some(rows) = self.rows.as_mut() else { return Ok(None) };
        let (engine, next) = (&self.engine, async { rows.next().await.transpose() });
        if std::thread::current().id() != self.home {
            return engine.block(next, || Ok(()));
        }
        // The caller may or may not hold the lock: while it waits here it does not.
        Python::try_attach(|py| py.detach(|| engine.listen(next)))
            .unwrap_or_else(|| Err(Error::new(ErrorKind::Invalid, "the interpreter has ended").into()))
    }
}

impl Iterator for Pulled {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let pulled = self.pull();
        if !matches!(pulled, Ok(Some(_))) {
            self.rows = None;
        }
        // The C interface carries errors as text.
        let text = |halt| match halt {
            Halt::Failed(e) => ArrowError::ComputeError(e.to_string()),
            Halt::Raised(e) => ArrowError::ComputeError(raise_later(e)),
        };
        pulled.map_err(text).transpose()
    }
}

impl RecordBatchReader for Pulled {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// All batches of another library's stream, an empty one where there is none.
pub fn read_all(py: Python<'_>, reader: Box<dyn RecordBatchReader + Send>) -> PyResult<Vec<RecordBatch>> {
    let schema = reader.schema();
    let batches: Result<Vec<RecordBatch>, ArrowError> = py.detach(|| reader.collect());
    let mut batches = batches.map_err(refused)?;
    if batches.is_empty() {
        batches.push(RecordBatch::new_empty(schema));
    }
    Ok(batches)
}
