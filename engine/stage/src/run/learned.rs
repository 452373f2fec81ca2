//! Filters learnt while running: rows that no join above will want are dropped where they are read.
//!
//! A join publishes its finished table through DataFusion's dynamic filter, which planning has pushed
//! through groups and joins down to a scan. The stage over that scan looks its rows up in the table.

use super::{Bound, Built};
use crate::convert::Reader;
use crate::program::physical;
use crate::resident::ResidentSource;
use crate::scan::{ParquetScan, Pushed};
use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::Statistics;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::split_conjunction;
use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;
use datafusion::physical_plan::{StatisticsArgs, StatisticsContext};
use millstream_kernels::join::ProbeScratch;
use millstream_kernels::program::{Instr, JoinKind, Probe, Reg};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

/// Whether a row's keys are in a join table: false where they are not or one of them is null. True of every
/// row once the run that built the table is over.
#[derive(Clone)]
pub struct InTable {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Logical types of the keys as the probe has them.
    types: Vec<DataType>,
    /// A plan outlives its runs: it holds no table.
    built: Weak<Built>,
    rows: usize,
}

impl InTable {
    /// `keys`, of these types, in `built`.
    pub fn new(keys: Vec<Arc<dyn PhysicalExpr>>, types: Vec<DataType>, built: &Arc<Built>) -> Self {
        Self { keys, types, built: Arc::downgrade(built), rows: built.table.rows() }
    }
}

impl fmt::Debug for InTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for InTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        write!(f, "({}) IN (build side of {} rows)", keys.join(", "), self.rows)
    }
}

impl PartialEq for InTable {
    fn eq(&self, other: &Self) -> bool {
        Weak::ptr_eq(&self.built, &other.built) && self.keys == other.keys
    }
}

impl Eq for InTable {}

impl Hash for InTable {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Weak::as_ptr(&self.built).hash(state);
        self.keys.hash(state);
    }
}

impl PhysicalExpr for InTable {
    fn data_type(&self, _: &Schema) -> DfResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _: &Schema) -> DfResult<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        let n = batch.num_rows();
        let Some(built) = self.built.upgrade() else { return Ok(ColumnarValue::Scalar(true.into())) };
        let mut reader = Reader::default();
        let keys = self.keys.iter().map(|k| Ok(reader.vector(&k.evaluate(batch)?.into_array(n)?)?)).collect::<DfResult<Vec<_>>>()?;
        let mut heads = vec![];
        let found = built.table.heads(&keys.iter().collect::<Vec<_>>(), n, &mut ProbeScratch::default(), &mut heads);
        found.map_err(crate::Error::from)?;
        Ok(ColumnarValue::Array(Arc::new(heads.iter().map(|h| Some(*h != 0)).collect::<BooleanArray>())))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.keys.iter().collect()
    }

    fn with_new_children(self: Arc<Self>, keys: Vec<Arc<dyn PhysicalExpr>>) -> DfResult<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self { keys, ..self.as_ref().clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A look-up must be expected to drop all but one row in so many to be worth it.
const WORTH: f64 = 4.0;

impl Bound {
    /// The program with look-ups in the tables that `leaf`'s predicate names by now, behind its first
    /// filters: those are cheaper.
    pub(super) fn learned(&self, leaf: &DataSourceExec) -> Self {
        let mut bound = self.clone();
        let Some(Pushed { predicate, columns }) = pushed(leaf) else { return bound };
        let Ok(predicate) = snapshot_physical_expr(predicate) else { return bound };
        for e in split_conjunction(&predicate) {
            if let Some(f) = e.downcast_ref::<InTable>() {
                bound.look_up(f, leaf, &columns);
            }
        }
        bound
    }

    /// Adds the look-up if the program reads the keys and it is expected to drop most rows.
    fn look_up(&mut self, f: &InTable, leaf: &DataSourceExec, columns: &[Option<usize>]) {
        let Some(built) = f.built.upgrade() else { return };
        if self.tables.iter().any(|t| Arc::ptr_eq(t, &built)) {
            return;
        }
        // Columns of the leaf's output, and the registers that hold them.
        let output = |k: &Arc<dyn PhysicalExpr>| columns.iter().position(|c| *c == k.downcast_ref::<Column>().map(Column::index));
        let Some(outputs) = f.keys.iter().map(output).collect::<Option<Vec<_>>>() else { return };
        let register = |o: &usize| self.program.inputs.iter().position(|i| i == o).map(|r| r as Reg);
        let Some(keys) = outputs.iter().map(register).collect::<Option<Vec<_>>>() else { return };
        let alike = keys.iter().zip(&f.types).all(|(k, t)| self.program.ty(*k) == physical(t));
        let Ok(statistics) = StatisticsContext::new().compute(leaf, &StatisticsArgs::new()) else { return };
        let Some(distinct) = distinct(&statistics, &outputs) else { return };
        if !alike || f.rows as f64 * WORTH > distinct {
            return;
        }
        let mut program = self.program.as_ref().clone();
        let rows = program.types.len() as Reg;
        program.types.push(DataType::Int32);
        let table = self.tables.len() as u16;
        let (kind, null_equals_null) = (JoinKind::ProbeSemi, false);
        let probe = Probe { table, keys, kind, null_equals_null, null_aware: false, residual: None, rows, mark: None };
        let first = program.instrs.iter().position(|i| !is_simple(i)).unwrap_or(program.instrs.len());
        let at = program.instrs[..first].iter().rposition(|i| matches!(i, Instr::Filter { .. })).map_or(0, |at| at + 1);
        program.instrs.insert(at, Instr::Probe(Box::new(probe)));
        self.program = Arc::new(program);
        self.tables.push(built);
    }
}

/// What a filter in front of everything else is made of.
fn is_simple(i: &Instr) -> bool {
    matches!(i, Instr::Const { .. } | Instr::Compare { .. } | Instr::Bool { .. } | Instr::IsNull { .. } | Instr::Filter { .. })
}

fn pushed(leaf: &DataSourceExec) -> Option<Pushed> {
    match ResidentSource::of(leaf) {
        Some(resident) => resident.pushed(),
        None => ParquetScan::pushed(leaf),
    }
}

/// Distinct combinations of these columns, as far as statistics tell.
fn distinct(s: &Statistics, columns: &[usize]) -> Option<f64> {
    let rows = *s.num_rows.get_value()? as f64;
    let of = |c: &usize| {
        let c = s.column_statistics.get(*c)?;
        if let Some(n) = c.distinct_count.get_value() {
            return Some(*n as f64);
        }
        let whole =
            |v: &datafusion::common::stats::Precision<datafusion::common::ScalarValue>| match v.get_value()?.cast_to(&DataType::Int64) {
                Ok(datafusion::common::ScalarValue::Int64(v)) => v,
                _ => None,
            };
        Some(whole(&c.max_value)? as f64 - whole(&c.min_value)? as f64 + 1.0)
    };
    let all = columns.iter().map(of).collect::<Option<Vec<_>>>()?;
    Some(all.into_iter().product::<f64>().min(rows))
}
