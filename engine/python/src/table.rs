//! Lazy tables.

use crate::engine::Engine;
use crate::errors::{caught, invalid};
use crate::expression::{Expr, SortKey};
use crate::interop;
use crate::rows::{Batches, Pulled, Rows};
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::displayable;
use millstream::{JoinKind, Profile, WriteOptions, cast, ident, profile_of};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};
use std::collections::HashMap;
use std::sync::Arc;

/// A plan that runs when its rows are asked for.
#[pyclass(frozen, module = "millstream._native")]
pub struct Table {
    engine: Arc<Engine>,
    pub table: millstream::Table,
}

impl Table {
    pub fn new(engine: Arc<Engine>, table: millstream::Table) -> Self {
        Self { engine, table }
    }

    /// The table after one more step.
    fn step(&self, step: impl FnOnce(millstream::Table) -> millstream::Result<millstream::Table>) -> PyResult<Self> {
        Ok(Self::new(Arc::clone(&self.engine), caught(|| step(self.table.clone()))?))
    }

    /// Cast to the columns that a consumer asks for; as it is where that cannot be, as the interface allows.
    fn requested(&self, schema: &SchemaRef) -> millstream::Table {
        let ours = self.table.schema();
        let pairs = ours.fields().iter().zip(schema.fields());
        let columns = pairs.map(|(our, their)| {
            let value = ident(our.name());
            if our.data_type() == their.data_type() { value } else { cast(value, their.data_type().clone()).alias(our.name()) }
        });
        if ours.fields().len() != schema.fields().len() || ours.fields() == schema.fields() {
            return self.table.clone();
        }
        self.table.clone().select(columns.collect::<Vec<_>>()).unwrap_or_else(|_| self.table.clone())
    }
}

/// Fields by name, for each stage or stock operator.
type Reports<'py> = Vec<Bound<'py, PyDict>>;

fn expressions(columns: Vec<Expr>) -> impl Iterator<Item = millstream::Expr> {
    columns.into_iter().map(|c| c.0)
}

#[pymethods]
impl Table {
    fn filter(&self, predicate: Expr) -> PyResult<Self> {
        self.step(|t| t.filter(predicate.0))
    }

    fn select(&self, columns: Vec<Expr>) -> PyResult<Self> {
        self.step(|t| t.select(expressions(columns)))
    }

    fn group_by(&self, keys: Vec<Expr>, aggregates: Vec<Expr>) -> PyResult<Self> {
        self.step(|t| t.group_by(expressions(keys), expressions(aggregates)))
    }

    fn join(&self, other: &Table, keys: Vec<String>, kind: &str) -> PyResult<Self> {
        let kind = match kind {
            "inner" => JoinKind::Inner,
            "left" => JoinKind::Left,
            "right" => JoinKind::Right,
            "full" => JoinKind::Full,
            "semi" => JoinKind::Semi,
            "anti" => JoinKind::Anti,
            other => return Err(invalid(format!("join {other}: it is one of inner, left, right, full, semi, anti"))),
        };
        self.step(|t| t.join(other.table.clone(), keys.iter().map(String::as_str), kind))
    }

    fn union(&self, other: &Table) -> PyResult<Self> {
        self.step(|t| t.union(other.table.clone()))
    }

    fn distinct(&self) -> PyResult<Self> {
        self.step(millstream::Table::distinct)
    }

    fn sort(&self, keys: Vec<SortKey>) -> PyResult<Self> {
        self.step(|t| t.sort(keys.into_iter().map(|k| k.0)))
    }

    fn limit(&self, rows: usize) -> PyResult<Self> {
        self.step(|t| t.limit(rows))
    }

    fn skip(&self, rows: usize) -> PyResult<Self> {
        self.step(|t| t.skip(rows))
    }

    #[getter]
    fn columns(&self) -> Vec<String> {
        self.table.schema().fields().iter().map(|f| f.name().clone()).collect()
    }

    /// Columns and their types, as text.
    #[getter]
    fn described(&self) -> Vec<(String, String)> {
        self.table.schema().fields().iter().map(|f| (f.name().clone(), f.data_type().to_string())).collect()
    }

    fn collect(&self, py: Python<'_>) -> PyResult<Batches> {
        let batches = self.engine.wait(py, self.table.clone().collect())?;
        Ok(Batches::new(self.table.schema(), batches))
    }

    fn stream(&self, py: Python<'_>) -> PyResult<Rows> {
        let rows = self.engine.wait(py, self.table.clone().stream())?;
        Ok(Rows::new(Arc::clone(&self.engine), rows))
    }

    /// Whether running it changes something outside.
    #[getter]
    fn writes(&self) -> bool {
        self.table.writes()
    }

    fn write(
        &self,
        py: Python<'_>,
        path: &str,
        format: Option<String>,
        options: HashMap<String, String>,
        partition_by: Vec<String>,
    ) -> PyResult<u64> {
        let options = WriteOptions { format, options: options.into_iter().collect(), partition_by };
        self.engine.wait(py, self.table.clone().write_with(path, &options))
    }

    /// The plan, what runs where, and why; measured, with `analyze`.
    fn explain(&self, py: Python<'_>, analyze: bool) -> PyResult<String> {
        let plan = self.engine.wait(py, self.table.clone().plan())?;
        if analyze {
            let mut rows = caught(|| millstream::run(&self.engine.session, &plan))?;
            self.engine.wait(py, async {
                while let Some(batch) = rows.next().await {
                    batch?;
                }
                Ok(())
            })?;
        }
        Ok(format!("{}\n{}", displayable(plan.as_ref()).indent(false), profile_of(&plan)))
    }

    /// Runs it; what was measured, as text, and as fields of stages and of stock operators.
    fn profile<'py>(&self, py: Python<'py>) -> PyResult<(Batches, String, Reports<'py>, Reports<'py>)> {
        let (batches, profile) = self.engine.wait(py, self.table.clone().profile())?;
        let stages = stages(py, &profile)?;
        let stock = stock(py, &profile)?;
        Ok((Batches::new(self.table.schema(), batches), profile.to_string(), stages, stock))
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        interop::schema_capsule(py, &self.table.schema())
    }

    /// Runs it; batches are handed over as they are ready.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(&self, py: Python<'py>, requested_schema: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyCapsule>> {
        let table = match requested_schema {
            Some(capsule) => self.requested(&interop::schema(&capsule)?),
            None => self.table.clone(),
        };
        let rows = self.engine.wait(py, table.stream())?;
        interop::stream_capsule(py, Box::new(Pulled::new(Arc::clone(&self.engine), rows)))
    }
}

fn stages<'py>(py: Python<'py>, profile: &Profile) -> PyResult<Reports<'py>> {
    let report = |s: &millstream::StageReport| {
        let fields = PyDict::new(py);
        fields.set_item("id", &s.id)?;
        fields.set_item("sink", &s.sink)?;
        fields.set_item("device", &s.device)?;
        fields.set_item("reason", &s.reason)?;
        fields.set_item("tables", &s.tables)?;
        fields.set_item("input_rows", s.input_rows)?;
        fields.set_item("output_rows", s.output_rows)?;
        fields.set_item("fetch_ms", s.fetch_ms)?;
        fields.set_item("compute_ms", s.compute_ms)?;
        fields.set_item("elapsed_ms", s.elapsed_ms)?;
        fields.set_item("spills", s.spills)?;
        fields.set_item("fallbacks", s.fallbacks)?;
        Ok(fields)
    };
    profile.stages.iter().map(report).collect()
}

fn stock<'py>(py: Python<'py>, profile: &Profile) -> PyResult<Reports<'py>> {
    let report = |s: &millstream::StockReport| {
        let fields = PyDict::new(py);
        fields.set_item("operator", &s.operator)?;
        fields.set_item("reason", &s.reason)?;
        fields.set_item("output_rows", s.output_rows)?;
        fields.set_item("compute_ms", s.compute_ms)?;
        Ok(fields)
    };
    profile.stock.iter().map(report).collect()
}
