//! Sessions.

use crate::engine::Engine;
use crate::errors::{caught, invalid};
use crate::expression::data_type;
use crate::interop;
use crate::rows::read_all;
use crate::table::Table;
use arrow::array::RecordBatchReader;
use arrow::datatypes::{DataType, Field, Schema};
use millstream::{Options, Preference, ReadOptions};
use pyo3::prelude::*;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A catalog, settings, and the threads of its queries.
#[pyclass(frozen, module = "millstream._native")]
pub struct Session(Arc<Engine>);

/// Columns by name, each with its type: a name of SQL or an Arrow type.
type Columns<'py> = Vec<(String, Bound<'py, PyAny>)>;

fn columns(columns: Columns<'_>) -> PyResult<Vec<(String, DataType)>> {
    columns.into_iter().map(|(name, kind)| Ok((name, data_type(&kind)?))).collect()
}

/// How files are read, as the Python half says it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Reading<'py> {
    format: Option<String>,
    options: HashMap<String, String>,
    schema: Option<Columns<'py>>,
    partition_by: Option<Columns<'py>>,
}

impl Reading<'_> {
    fn options(self) -> PyResult<ReadOptions> {
        let schema = self.schema.map(columns).transpose()?;
        let fields = schema.map(|c| c.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect::<Vec<_>>());
        Ok(ReadOptions {
            format: self.format,
            options: self.options.into_iter().collect(),
            schema: fields.map(|fields| Arc::new(Schema::new(fields))),
            partition_by: self.partition_by.map(columns).transpose()?,
        })
    }
}

#[pymethods]
impl Session {
    #[new]
    #[pyo3(signature = (threads, memory_limit, device, stages, settings))]
    fn new(
        threads: Option<usize>,
        memory_limit: Option<usize>,
        device: &str,
        stages: bool,
        settings: Vec<(String, String)>,
    ) -> PyResult<Self> {
        let device = match device {
            "auto" => Preference::Auto,
            "cpu" => Preference::Cpu,
            "gpu" => Preference::Gpu,
            other => return Err(invalid(format!("device {other}: it is one of auto, cpu, gpu"))),
        };
        let mut options = Options { stages, device, memory_limit_bytes: memory_limit, ..Options::default() };
        match threads {
            Some(0) => return Err(invalid("threads: a session needs at least one")),
            Some(threads) => options.threads = threads,
            None => {}
        }
        options.stores.settings = settings;
        Ok(Self(Arc::new(Engine::new(options)?)))
    }

    #[getter]
    fn threads(&self) -> usize {
        self.0.session.options().threads
    }

    fn sql(&self, py: Python<'_>, query: &str) -> PyResult<Table> {
        let table = self.0.wait(py, self.0.session.sql(query))?;
        Ok(Table::new(Arc::clone(&self.0), table))
    }

    fn table(&self, name: &str) -> PyResult<Table> {
        Ok(Table::new(Arc::clone(&self.0), caught(|| self.0.session.table(name))?))
    }

    fn read(&self, py: Python<'_>, path: &str, reading: Reading<'_>) -> PyResult<Table> {
        let options = reading.options()?;
        let table = self.0.wait(py, self.0.session.read_with(path, &options))?;
        Ok(Table::new(Arc::clone(&self.0), table))
    }

    fn register_path(&self, py: Python<'_>, name: &str, path: &str, reading: Reading<'_>) -> PyResult<()> {
        let options = reading.options()?;
        self.0.wait(py, self.0.session.register_with(name, path, &options))
    }

    /// The batches of an Arrow object, read now.
    fn register_batches(&self, py: Python<'_>, name: &str, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let batches = read_all(py, interop::reader(object)?)?;
        caught(|| self.0.session.register_batches(name, batches))
    }

    /// The batches of an Arrow object, read once, by a query.
    fn register_stream(&self, name: &str, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let reader = interop::reader(object)?;
        let schema = reader.schema();
        caught(|| self.0.session.register_stream(name, schema, batches_of(reader)))
    }

    fn register_view(&self, name: &str, table: &Table) -> PyResult<()> {
        caught(|| self.0.session.register_view(name, table.table.clone()))
    }

    fn read_batches(&self, py: Python<'_>, object: &Bound<'_, PyAny>) -> PyResult<Table> {
        let batches = read_all(py, interop::reader(object)?)?;
        Ok(Table::new(Arc::clone(&self.0), caught(|| self.0.session.read_batches(batches))?))
    }

    fn deregister(&self, name: &str) -> PyResult<bool> {
        caught(|| self.0.session.deregister(name))
    }

    fn tables(&self) -> PyResult<Vec<String>> {
        caught(|| Ok(self.0.session.tables()))
    }

    /// Rows and bytes of a table that is now in memory.
    fn cache(&self, py: Python<'_>, name: &str) -> PyResult<(usize, usize)> {
        let cached = self.0.wait(py, self.0.session.cache(name))?;
        Ok((cached.rows, cached.bytes))
    }

    fn uncache(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.0.wait(py, self.0.session.uncache(name))
    }
}

/// A reader as a stream. A batch may take its time, for instance in Python code: each is read on a thread for that.
fn batches_of(
    reader: Box<dyn RecordBatchReader + Send>,
) -> impl futures::Stream<Item = Result<arrow::array::RecordBatch, millstream::Error>> + Send {
    let reader = Arc::new(Mutex::new(reader));
    futures::stream::try_unfold(reader, |reader| async move {
        let taken = Arc::clone(&reader);
        let next = move || taken.lock().unwrap_or_else(PoisonError::into_inner).next().transpose();
        let failed = |e: &dyn std::fmt::Display| millstream::Error::new(millstream::ErrorKind::Invalid, e);
        let batch = tokio::task::spawn_blocking(next).await.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        Ok(batch.map(|batch| (batch, reader)))
    })
}
