//! The part of checked arithmetic that has to happen before DataFusion's own logical rules: constants,
//! which they fold and wrap, and `sum`, which becomes the checked one.

use super::checked_expr;
use super::sum::checked_sum;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::WindowFunctionDefinition;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, Operator, Volatility};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::physical_expr::create_physical_expr;
use std::sync::Arc;

/// Raises the overflow of constants, and replaces `sum` by the checked one.
#[derive(Debug, Default)]
pub struct CheckedConstants;

impl OptimizerRule for CheckedConstants {
    fn name(&self) -> &str {
        "millstream_checked_constants"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.map_expressions(|e| {
            raise_constants(&e)?;
            e.transform_up(|e| Ok(replace_sum(e)))
        })
    }
}

fn replace_sum(mut e: Expr) -> Transformed<Expr> {
    let stock = |f: &Arc<AggregateUDF>| f.name() == "sum" && *f != checked_sum();
    let replaced = match &mut e {
        Expr::AggregateFunction(a) if stock(&a.func) => {
            a.func = checked_sum();
            true
        }
        Expr::WindowFunction(w) => match &w.fun {
            WindowFunctionDefinition::AggregateUDF(f) if stock(f) => {
                w.fun = WindowFunctionDefinition::AggregateUDF(checked_sum());
                true
            }
            _ => false,
        },
        _ => false,
    };
    Transformed::new_transformed(e, replaced)
}

/// Evaluates the largest constant parts that add, subtract or multiply, as lazily as at run time.
fn raise_constants(e: &Expr) -> Result<()> {
    e.apply(|e| {
        if !is_constant(e)? {
            return Ok(TreeNodeRecursion::Continue);
        }
        if e.exists(|e| Ok(is_arithmetic(e)))? {
            match evaluate(e) {
                Err(DataFusionError::ArrowError(a, _)) if matches!(*a, ArrowError::ArithmeticOverflow(_)) => return Err((*a).into()),
                // Another error is for the one who runs the query, if it is raised at all.
                _ => {}
            }
        }
        Ok(TreeNodeRecursion::Jump)
    })?;
    Ok(())
}

fn is_arithmetic(e: &Expr) -> bool {
    matches!(e, Expr::BinaryExpr(b) if matches!(b.op, Operator::Plus | Operator::Minus | Operator::Multiply))
}

fn is_constant(e: &Expr) -> Result<bool> {
    let variable = e.exists(|e| {
        Ok(match e {
            Expr::Literal(..) | Expr::BinaryExpr(_) | Expr::Cast(_) | Expr::TryCast(_) | Expr::Negative(_) | Expr::Case(_) => false,
            Expr::Between(_) | Expr::InList(_) | Expr::IsNull(_) | Expr::IsNotNull(_) | Expr::Not(_) => false,
            Expr::ScalarFunction(f) => f.func.signature().volatility != Volatility::Immutable,
            _ => true,
        })
    })?;
    Ok(!variable)
}

fn evaluate(e: &Expr) -> Result<()> {
    let none = DFSchema::empty();
    let physical = create_physical_expr(e, &none, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
    let physical = checked_expr(physical, none.as_arrow())?.data;
    let one = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &RecordBatchOptions::new().with_row_count(Some(1)))?;
    physical.evaluate(&one)?;
    Ok(())
}
