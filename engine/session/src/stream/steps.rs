//! Filters and projections: collected until an operator with state takes them along, or made one of their own.

use super::DataStream;
use crate::{Error, ErrorKind, Result};
use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use futures::FutureExt;
use millstream_stage::{RowStage, StageExec};
use millstream_stream::{MapOperator, Operator};
use std::sync::Arc;

/// What is done to the rows before the next operator with state.
pub(super) enum Pending {
    Filter(Expr),
    Select(Vec<Expr>),
}

impl Pending {
    pub(super) fn text(&self) -> String {
        match self {
            Pending::Filter(e) => e.to_string(),
            Pending::Select(e) => format!("select {}", text(e)),
        }
    }
}

pub(super) fn text(exprs: &[Expr]) -> String {
    exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl DataStream {
    /// What is pending, over rows that are not there yet.
    pub(super) fn frame(&self) -> Result<DataFrame> {
        let mut frame = self.session.context().read_batch(RecordBatch::new_empty(Arc::clone(&self.schema)))?;
        for p in &self.pending {
            frame = match p {
                Pending::Filter(e) => frame.filter(e.clone())?,
                Pending::Select(e) => frame.select(e.clone())?,
            };
        }
        Ok(frame)
    }

    /// Makes what is pending an operator: a stage, or stock expressions where there is no kernel for some of it.
    pub(super) fn settle(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let text = self.pending.iter().map(Pending::text).collect::<Vec<_>>().join(", ");
        let mut kept: Vec<(String, String)> = self.schema.fields().iter().map(|f| (f.name().clone(), f.name().clone())).collect();
        for pending in &self.pending {
            if let Pending::Select(exprs) = pending {
                kept = renamed(&kept, exprs);
            }
        }
        let id = self.next_id("map");
        let operator = match self.stage()? {
            Some(stage) => MapOperator::stage(id, stage),
            None => self.stock(id)?,
        };
        self.pending.clear();
        self.schema = operator.schema();
        self.operators.push(Box::new(operator.named(text).keeping(kept)));
        Ok(())
    }

    /// What is pending as one stage, if it is one.
    fn stage(&self) -> Result<Option<RowStage>> {
        // Planning over rows in memory waits for nothing.
        let Some(plan) = self.frame()?.create_physical_plan().now_or_never() else { return Ok(None) };
        let plan = plan?;
        let settings = self.settings()?;
        Ok(whole_stage(&plan).and_then(|stage| RowStage::new(stage, &self.schema, &settings).ok()))
    }

    /// What is pending, by DataFusion's own expressions.
    fn stock(&mut self, id: String) -> Result<MapOperator> {
        let mut steps: Vec<Step> = vec![];
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Filter(e) => {
                    let predicate = self.physical(e)?;
                    steps.push(Box::new(move |b| filtered(&predicate, &b)));
                }
                Pending::Select(exprs) => {
                    let frame = self.session.context().read_batch(RecordBatch::new_empty(Arc::clone(&self.schema)))?;
                    let fields = frame.select(exprs.clone())?.schema().fields().clone();
                    let schema: SchemaRef = Arc::new(Schema::new(fields.iter().map(|f| f.as_ref().clone()).collect::<Vec<Field>>()));
                    let exprs = exprs.into_iter().map(|e| self.physical(e)).collect::<Result<Vec<_>>>()?;
                    self.schema = Arc::clone(&schema);
                    steps.push(Box::new(move |b| projected(&exprs, &schema, &b)));
                }
            }
        }
        let all = move |batch| Ok(steps.iter().try_fold(batch, |b, step| step(b))?);
        Ok(MapOperator::at_once(id, Arc::clone(&self.schema), self.settings()?.pool.clone(), all))
    }

    fn physical(&self, e: Expr) -> Result<Arc<dyn PhysicalExpr>> {
        let input = DFSchema::try_from(Arc::clone(&self.schema))?;
        Ok(self.session.context().create_physical_expr(e, &input)?)
    }

    /// Which rows `predicate` is true for. Nothing is pending.
    pub(super) fn condition(&self, predicate: Expr) -> Result<impl Fn(&RecordBatch) -> Result<BooleanArray> + Send + Sync + 'static> {
        // What is no condition is told here, not when rows come.
        self.frame()?.filter(predicate.clone())?;
        let predicate = self.physical(predicate)?;
        Ok(move |batch: &RecordBatch| holds(&predicate, batch))
    }
}

/// The stage that is all of a plan over rows in memory, if it is one.
pub(super) fn whole_stage(plan: &Arc<dyn ExecutionPlan>) -> Option<&StageExec> {
    let merges = |p: &Arc<dyn ExecutionPlan>| ["CoalescePartitionsExec", "CooperativeExec"].contains(&p.name());
    let mut at = plan;
    while let Some(child) = at.children().first().copied().filter(|_| merges(at)) {
        at = child;
    }
    let stage = at.downcast_ref::<StageExec>()?;
    let mut leaf = stage.input();
    while let Some(child) = leaf.children().first().copied().filter(|_| merges(leaf)) {
        leaf = child;
    }
    leaf.children().is_empty().then_some(stage)
}

/// Of the columns that were handed on, those that a projection hands on, under their new name.
fn renamed(kept: &[(String, String)], exprs: &[Expr]) -> Vec<(String, String)> {
    let mut out = vec![];
    for e in exprs {
        let (column, now) = match e {
            Expr::Column(c) => (c, c.name()),
            Expr::Alias(a) => match a.expr.as_ref() {
                Expr::Column(c) => (c, a.name.as_str()),
                _ => continue,
            },
            _ => continue,
        };
        out.extend(kept.iter().filter(|(_, name)| name == column.name()).map(|(first, _)| (first.clone(), now.to_string())));
    }
    out
}

/// A filter or a projection of a batch.
type Step = Box<dyn Fn(RecordBatch) -> Result<RecordBatch> + Send + Sync>;

fn holds(predicate: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<BooleanArray> {
    let keep = predicate.evaluate(batch)?.into_array(batch.num_rows())?;
    let keep = keep.as_boolean_opt().ok_or_else(|| Error::new(ErrorKind::Invalid, format!("{predicate} is no condition")))?;
    Ok(keep.clone())
}

fn filtered(predicate: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<RecordBatch> {
    Ok(filter_record_batch(batch, &holds(predicate, batch)?).map_err(DataFusionError::from)?)
}

fn projected(exprs: &[Arc<dyn PhysicalExpr>], schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = exprs.iter().map(|e| Ok(e.evaluate(batch)?.into_array(batch.num_rows())?)).collect::<Result<Vec<_>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let made = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options);
    Ok(made.map_err(DataFusionError::from)?)
}
