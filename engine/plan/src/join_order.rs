//! The order of inner joins, and the build side of every hash join, by estimated rows.
//!
//! Runs where DataFusion has just chosen join sides, before it distributes and pushes filters down. A tree
//! of inner joins is taken apart into relations, equalities and further conditions, and put together in the
//! cheapest order: all orders of few relations are looked at, the cheapest next join is taken of many.
//! A tree whose sources do not know their rows stays as it is.

mod graph;
mod search;

use crate::estimate::{Estimate, estimate};
use crate::open::covers_join;
use datafusion::common::{JoinSide, JoinType, NullEquality, Result};
use datafusion::config::ConfigOptions;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter};
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};
use graph::{Graph, JoinTree};
use std::collections::BTreeSet;
use std::sync::Arc;

type Plan = Arc<dyn ExecutionPlan>;

/// The rule.
#[derive(Debug, Default)]
pub struct JoinOrder;

impl PhysicalOptimizerRule for JoinOrder {
    fn optimize(&self, plan: Plan, _: &ConfigOptions) -> Result<Plan> {
        reorder(&plan)
    }

    fn name(&self) -> &str {
        "MillstreamJoinOrder"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A side that is this many times cheaper to build on is worth the exchange.
const WORTH: f64 = 1.2;

fn reorder(plan: &Plan) -> Result<Plan> {
    if let Some(graph) = Graph::of(plan)
        && let Some(new) = ordered(plan, graph)?
    {
        return Ok(new);
    }
    let children = plan.children();
    let new: Vec<Plan> = children.iter().map(|c| reorder(c)).collect::<Result<_>>()?;
    let same = children.iter().zip(&new).all(|(old, new)| Arc::ptr_eq(old, new));
    let plan = match same {
        true => Arc::clone(plan),
        false => Arc::clone(plan).replace_children(new, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))?,
    };
    sides(plan)
}

/// A join that is no inner one with the better of its two sides as the build side.
fn sides(plan: Plan) -> Result<Plan> {
    let Some(node) = plan.downcast_ref::<HashJoinExec>() else { return Ok(plan) };
    let free = *node.join_type() != JoinType::Inner && node.join_type().supports_swap() && !node.null_aware && covers_join(node);
    if !free {
        return Ok(plan);
    }
    let (Some(l), Some(r)) = (estimate(node.left()), estimate(node.right())) else { return Ok(plan) };
    // The side whose rows leave a semi join has all of its columns in the table, the other only keys.
    let (left, right) = match node.join_type() {
        JoinType::LeftSemi | JoinType::LeftAnti => (true, false),
        JoinType::RightSemi | JoinType::RightAnti => (false, true),
        _ => (false, false),
    };
    let (now, other) = (search::work(node.left(), l.rows, r.rows, left), search::work(node.right(), r.rows, l.rows, right));
    if now > other * WORTH { node.swap_inputs(PartitionMode::CollectLeft) } else { Ok(plan) }
}

/// The tree in its cheapest order, if every relation has an estimate.
fn ordered(plan: &Plan, mut graph: Graph) -> Result<Option<Plan>> {
    for relation in &mut graph.relations {
        *relation = reorder(relation)?;
    }
    let Some(estimates) = graph.relations.iter().map(estimate).collect::<Option<Vec<Estimate>>>() else { return Ok(None) };
    let Some(tree) = search::cheapest(&graph, &estimates) else { return Ok(None) };
    let needed = graph.outputs.iter().copied().collect();
    let (joined, columns) = build(&graph, &tree, &needed)?;
    let position = |g: &usize| columns.iter().position(|c| c == g);
    let schema = plan.schema();
    let expressions = graph.outputs.iter().zip(schema.fields()).map(|(g, f)| {
        let at = position(g).ok_or_else(|| datafusion::error::DataFusionError::Internal(format!("join order lost column {}", f.name())))?;
        let expr: Arc<dyn PhysicalExpr> = Arc::new(Column::new(joined.schema().field(at).name(), at));
        Ok(ProjectionExpr { expr, alias: f.name().clone() })
    });
    let expressions = expressions.collect::<Result<Vec<_>>>()?;
    if columns == graph.outputs && joined.schema() == schema {
        return Ok(Some(joined));
    }
    Ok(Some(Arc::new(ProjectionExec::try_new(expressions, joined)?)))
}

/// The plan of a part of the tree with at least the columns `needed`, and which columns it has.
fn build(graph: &Graph, tree: &JoinTree, needed: &BTreeSet<usize>) -> Result<(Plan, Vec<usize>)> {
    let (l, r) = match tree {
        JoinTree::Relation(i) => return Ok((Arc::clone(&graph.relations[*i]), graph.columns(*i).collect())),
        JoinTree::Join(l, r) => (l, r),
    };
    let (left, right) = (l.relations(), r.relations());
    let on = graph.equalities_between(left, right);
    let filters = graph.conditions_between(left, right);
    let mut below = needed.clone();
    on.iter().for_each(|(a, b)| below.extend(graph::columns_of(a).chain(graph::columns_of(b))));
    filters.iter().for_each(|f| below.extend(graph::columns_of(f)));
    let (left, left_columns) = build(graph, l, &below)?;
    let (right, right_columns) = build(graph, r, &below)?;
    let keys = on.iter().map(|(a, b)| Ok((local(a, &left_columns)?, local(b, &right_columns)?))).collect::<Result<Vec<_>>>()?;
    let filter = filters.into_iter().reduce(graph::and).map(|f| pair_filter(graph, f, &left_columns, &right_columns)).transpose()?;
    let all: Vec<usize> = left_columns.iter().chain(&right_columns).copied().collect();
    let kept: Vec<usize> = (0..all.len()).filter(|i| needed.contains(&all[*i])).collect();
    let columns = kept.iter().map(|i| all[*i]).collect();
    let join = HashJoinExec::try_new(
        left,
        right,
        keys,
        filter,
        &JoinType::Inner,
        (kept.len() < all.len()).then_some(kept),
        PartitionMode::CollectLeft,
        NullEquality::NullEqualsNothing,
        false,
    )?;
    if covers_join(&join) {
        return Ok((Arc::new(join), columns));
    }
    // A stock join builds in parallel only where its input is partitioned.
    let partitioned = join.builder().with_partition_mode(PartitionMode::Partitioned).build()?;
    Ok((Arc::new(partitioned), columns))
}

/// An expression over the tree's columns as one over `columns`.
fn local(e: &Arc<dyn PhysicalExpr>, columns: &[usize]) -> Result<Arc<dyn PhysicalExpr>> {
    graph::renumbered(e, &|g| columns.iter().position(|c| *c == g))
}

/// A condition over columns of both sides.
fn pair_filter(graph: &Graph, f: Arc<dyn PhysicalExpr>, left: &[usize], right: &[usize]) -> Result<JoinFilter> {
    let used: Vec<usize> = graph::columns_of(&f).collect::<BTreeSet<_>>().into_iter().collect();
    let mut indices = vec![];
    let mut fields = vec![];
    for g in &used {
        let side = match (left.iter().position(|c| c == g), right.iter().position(|c| c == g)) {
            (Some(index), _) => ColumnIndex { index, side: JoinSide::Left },
            (_, Some(index)) => ColumnIndex { index, side: JoinSide::Right },
            _ => return Err(datafusion::error::DataFusionError::Internal("a join condition without its column".into())),
        };
        indices.push(side);
        fields.push(graph.field(*g));
    }
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    Ok(JoinFilter::new(local(&f, &used)?, indices, schema))
}
