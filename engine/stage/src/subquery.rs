//! The scalar subqueries that a program waits for, as a child of its stage.
//!
//! Their values belong to DataFusion's `ScalarSubqueryExec` above, and only plan nodes are decoded in its
//! scope. So a stage whose late constants or calls hold such expressions has one more child, a projection
//! of each distinct one over a single row: EXPLAIN shows it, rewrites see it, and any codec or converter
//! brings it over the wire. It never runs: the stage evaluates the expressions itself when it starts.

use crate::program::{ConstantSource, Program};
use crate::{Error, ErrorKind, Result};
use arrow::datatypes::Schema;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use std::sync::Arc;

type Expr = Arc<dyn PhysicalExpr>;

/// The node that names the scalar subqueries of `program`; none where it has none.
pub(crate) fn node(program: &Program) -> Option<Arc<dyn ExecutionPlan>> {
    let mut found: Vec<Expr> = vec![];
    for e in expressions(program) {
        let _ = e.apply(|e| {
            if e.is::<ScalarSubqueryExpr>() && !found.contains(e) {
                found.push(Arc::clone(e));
            }
            Ok(TreeNodeRecursion::Continue)
        });
    }
    if found.is_empty() {
        return None;
    }
    let named = found.into_iter().enumerate().map(|(i, expr)| ProjectionExpr { expr, alias: name(i) });
    let row = Arc::new(PlaceholderRowExec::new(Arc::new(Schema::empty())));
    // Typing a subquery cannot fail; if it did, the stage would run and refuse to serialise.
    ProjectionExec::try_new(named, row).ok().map(|p| Arc::new(p) as _)
}

/// The scalar subqueries that `node` names.
///
/// # Errors
/// `Corrupt` when it is another kind of node.
pub(crate) fn named(node: Option<&Arc<dyn ExecutionPlan>>) -> Result<Vec<Expr>> {
    let Some(node) = node else { return Ok(vec![]) };
    let Some(p) = node.downcast_ref::<ProjectionExec>() else {
        return Err(Error::new(ErrorKind::Corrupt, format!("a stage's subqueries are a projection, not {}", node.name())));
    };
    Ok(p.expr().iter().map(|e| Arc::clone(&e.expr)).collect())
}

/// The name of the `i`-th subquery, as a column.
pub(crate) fn name(i: usize) -> String {
    format!("subquery {i}")
}

/// `expr` with column `first + i` for the `i`-th of `subqueries`.
///
/// # Errors
/// What rewriting the expression raises.
pub(crate) fn detach(expr: &Expr, subqueries: &[Expr], first: usize) -> Result<Expr> {
    let detached = Arc::clone(expr).transform_up(|e| match subqueries.iter().position(|s| s.as_ref() == e.as_ref()) {
        Some(i) => Ok(Transformed::yes(Arc::new(Column::new(&name(i), first + i)) as _)),
        None => Ok(Transformed::no(e)),
    })?;
    Ok(detached.data)
}

/// The inverse of [`detach`].
///
/// # Errors
/// What rewriting the expression raises.
pub(crate) fn attach(expr: &Expr, subqueries: &[Expr], first: usize) -> Result<Expr> {
    let attached = Arc::clone(expr).transform_up(|e| {
        let column = e.downcast_ref::<Column>().and_then(|c| c.index().checked_sub(first));
        match column.and_then(|i| subqueries.get(i)) {
            Some(s) => Ok(Transformed::yes(Arc::clone(s))),
            None => Ok(Transformed::no(e)),
        }
    })?;
    Ok(attached.data)
}

/// `program` with the subqueries of node `new` in the places of those of `old`.
///
/// # Errors
/// `Corrupt` when `new` does not name as many subqueries as `old`.
pub(crate) fn rebind(program: &Program, old: &Arc<dyn ExecutionPlan>, new: &Arc<dyn ExecutionPlan>) -> Result<Program> {
    let (old, new) = (named(Some(old))?, named(Some(new))?);
    if old.len() != new.len() {
        return Err(Error::new(ErrorKind::Corrupt, format!("{} subqueries in the place of {}", new.len(), old.len())));
    }
    let swap = |e: &Expr, first: usize| attach(&detach(e, &old, first)?, &new, first);
    let mut program = program.clone();
    for c in &mut program.constants {
        if let ConstantSource::Late(e) = &mut c.source {
            *e = swap(e, 0)?;
        }
    }
    for c in &mut program.calls {
        c.expr = swap(&c.expr, c.inputs.fields().len())?;
    }
    Ok(program)
}

fn expressions(program: &Program) -> impl Iterator<Item = &Expr> {
    let late = program.constants.iter().filter_map(|c| match &c.source {
        ConstantSource::Late(e) => Some(e),
        ConstantSource::Literal(_) => None,
    });
    late.chain(program.calls.iter().map(|c| &c.expr))
}
