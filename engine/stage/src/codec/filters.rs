//! Runtime filters over the wire: who they are, and the same filter in the decoded scan.

use crate::Result;
use crate::exec::RuntimeFilter;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr};
use datafusion::physical_plan::ExecutionPlan;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::sync::Arc;

/// A runtime filter: its id is DataFusion's and travels with the scan's predicate.
#[derive(Serialize, Deserialize)]
pub(super) struct FilterMessage {
    table: usize,
    id: u64,
    /// Name and index of the probe side's key columns.
    keys: Vec<(String, usize)>,
}

/// None for a filter without an identity or over keys that are no plain columns.
pub(super) fn describe(f: &RuntimeFilter) -> Option<FilterMessage> {
    let column = |k: &Arc<dyn PhysicalExpr>| k.downcast_ref::<Column>().map(|c| (c.name().to_string(), c.index()));
    let keys = f.keys.iter().map(column).collect::<Option<_>>()?;
    Some(FilterMessage { table: f.table, id: f.filter.expression_id()?, keys })
}

/// The filters of `messages` that stand in a scan below `input`, sharing their state with it.
///
/// # Errors
/// What walking the plan raises.
pub(super) fn adopt(input: &Arc<dyn ExecutionPlan>, messages: &[FilterMessage]) -> Result<Vec<RuntimeFilter>> {
    let mut out = vec![];
    for m in messages {
        let keys: Vec<Arc<dyn PhysicalExpr>> = m.keys.iter().map(|(name, i)| Arc::new(Column::new(name, *i)) as _).collect();
        // Each occurrence was decoded on its own and may have a state of its own: all are completed.
        for found in occurrences(input, m.id)? {
            if found.children().len() != keys.len() {
                continue;
            }
            // The scan names its own columns; this view of the filter names the probe side's.
            let view: Arc<dyn Any + Send + Sync> = found.with_new_children(keys.clone())?;
            if let Ok(filter) = view.downcast::<DynamicFilterPhysicalExpr>() {
                out.push(RuntimeFilter { table: m.table, filter, keys: keys.clone() });
            }
        }
    }
    Ok(out)
}

fn occurrences(plan: &Arc<dyn ExecutionPlan>, id: u64) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
    let mut found = vec![];
    plan.apply(|node| {
        node.apply_expressions(&mut |root| {
            root.apply(|e| {
                if e.is::<DynamicFilterPhysicalExpr>() && e.expression_id() == Some(id) {
                    found.push(Arc::clone(e));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}
