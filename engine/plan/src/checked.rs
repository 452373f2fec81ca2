//! Integer and decimal overflow is an error in stock operators too: DataFusion's `+ - *` wrap unless told.
//!
//! The rule runs first, on the planner's own plan: what later rules push into scans, joins and stages is
//! then already checked. A host's session (`accelerate`) does not have it.

mod logical;
mod sum;

pub use logical::CheckedConstants;
pub use sum::{CheckedSum, checked_sum};

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::{LimitEffect, Operator, PartitionEvaluator};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Literal, NegativeExpr};
use datafusion::physical_expr::window::{
    PlainAggregateWindowExpr, SlidingAggregateWindowExpr, StandardWindowExpr, StandardWindowFunctionExpr, WindowExpr,
};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, PhysicalGroupBy};
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use std::any::Any;
use std::sync::Arc;

type Plan = Arc<dyn ExecutionPlan>;
type Expr = Arc<dyn PhysicalExpr>;

/// Makes the arithmetic of every stock operator raise on overflow.
#[derive(Debug, Default)]
pub struct Checked;

impl PhysicalOptimizerRule for Checked {
    fn optimize(&self, plan: Plan, config: &ConfigOptions) -> Result<Plan> {
        let spread = config.execution.target_partitions > 1 && config.optimizer.repartition_windows;
        Ok(plan.transform_up(|node| checked_node(node, spread))?.data)
    }

    fn name(&self) -> &str {
        "MillstreamChecked"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// `expr`, over rows of `schema`, with checked `+ - *` and, over integers, checked negation.
pub(crate) fn checked_expr(expr: Expr, schema: &Schema) -> Result<Transformed<Expr>> {
    expr.transform_up(|e| {
        if let Some(b) = e.downcast_ref::<BinaryExpr>()
            && matches!(b.op(), Operator::Plus | Operator::Minus | Operator::Multiply)
        {
            let checked = b.clone().with_fail_on_overflow(true);
            let changed = checked != *b;
            return Ok(Transformed::new_transformed(Arc::new(checked), changed));
        }
        if let Some(n) = e.downcast_ref::<NegativeExpr>() {
            let ty = n.arg().data_type(schema)?;
            if ty.is_signed_integer() {
                let zero: Expr = Arc::new(Literal::new(ScalarValue::new_zero(&ty)?));
                let minus = BinaryExpr::new(zero, Operator::Minus, Arc::clone(n.arg())).with_fail_on_overflow(true);
                return Ok(Transformed::yes(Arc::new(minus)));
            }
        }
        Ok(Transformed::no(e))
    })
}

/// Rewrites expressions over one schema and remembers whether any changed.
struct Rewriter {
    schema: SchemaRef,
    changed: bool,
}

impl Rewriter {
    fn over(input: &Plan) -> Self {
        Self { schema: input.schema(), changed: false }
    }

    fn expr(&mut self, e: &Expr) -> Result<Expr> {
        let new = checked_expr(Arc::clone(e), &self.schema)?;
        self.changed |= new.transformed;
        Ok(new.data)
    }

    fn exprs<'a>(&mut self, all: impl IntoIterator<Item = &'a Expr>) -> Result<Vec<Expr>> {
        all.into_iter().map(|e| self.expr(e)).collect()
    }

    fn named(&mut self, all: &[(Expr, String)]) -> Result<Vec<(Expr, String)>> {
        all.iter().map(|(e, name)| Ok((self.expr(e)?, name.clone()))).collect()
    }

    fn sorts(&mut self, all: &[PhysicalSortExpr]) -> Result<Vec<PhysicalSortExpr>> {
        all.iter().map(|s| Ok(PhysicalSortExpr { expr: self.expr(&s.expr)?, options: s.options })).collect()
    }

    fn aggregate(&mut self, a: &Arc<AggregateFunctionExpr>) -> Result<Arc<AggregateFunctionExpr>> {
        let before = std::mem::replace(&mut self.changed, false);
        let all = a.all_expressions();
        let (args, order) = (self.exprs(&all.args)?, self.exprs(&all.order_by_exprs)?);
        let new = if self.changed { a.with_new_expressions(args, order) } else { None };
        self.changed = before || new.is_some();
        Ok(new.map_or_else(|| Arc::clone(a), Arc::new))
    }

    fn window(&mut self, w: &Arc<dyn WindowExpr>) -> Result<Arc<dyn WindowExpr>> {
        let before = std::mem::replace(&mut self.changed, false);
        let (args, partition) = (self.exprs(&w.expressions())?, self.exprs(w.partition_by())?);
        let order = self.sorts(w.order_by())?;
        let new = if self.changed { rebuilt_window(w, args, &partition, &order) } else { None };
        self.changed = before || new.is_some();
        Ok(new.unwrap_or_else(|| Arc::clone(w)))
    }
}

fn rebuilt_window(w: &Arc<dyn WindowExpr>, args: Vec<Expr>, partition: &[Expr], order: &[PhysicalSortExpr]) -> Option<Arc<dyn WindowExpr>> {
    let frame = Arc::clone(w.get_window_frame());
    let any = w.as_any();
    if any.is::<SlidingAggregateWindowExpr>() {
        return w.with_new_expressions(args, partition.to_vec(), order.iter().map(|s| Arc::clone(&s.expr)).collect());
    }
    if let Some(plain) = any.downcast_ref::<PlainAggregateWindowExpr>() {
        // Its FILTER is out of reach: such a window keeps DataFusion's arithmetic.
        if w.name().contains("FILTER (WHERE") {
            return None;
        }
        let orders = plain.get_aggregate_expr().order_bys().iter().map(|s| Arc::clone(&s.expr)).collect();
        let aggregate = plain.get_aggregate_expr().with_new_expressions(args, orders)?;
        return Some(Arc::new(PlainAggregateWindowExpr::new(Arc::new(aggregate), partition, order, frame, None)));
    }
    let function = Arc::clone(any.downcast_ref::<StandardWindowExpr>()?.get_standard_func_expr());
    // One without arguments stays what it is: `row_number` is known by its type.
    let function = if args.is_empty() { function } else { Arc::new(WithArguments { function, args }) as _ };
    Some(Arc::new(StandardWindowExpr::new(function, partition, order, frame)))
}

/// A window function whose arguments were rewritten.
#[derive(Debug)]
struct WithArguments {
    function: Arc<dyn StandardWindowFunctionExpr>,
    args: Vec<Expr>,
}

impl StandardWindowFunctionExpr for WithArguments {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn field(&self) -> Result<FieldRef> {
        self.function.field()
    }

    fn expressions(&self) -> Vec<Expr> {
        self.args.clone()
    }

    fn name(&self) -> &str {
        self.function.name()
    }

    fn create_evaluator(&self) -> Result<Box<dyn PartitionEvaluator>> {
        self.function.create_evaluator()
    }

    fn reverse_expr(&self) -> Option<Arc<dyn StandardWindowFunctionExpr>> {
        let function = self.function.reverse_expr()?;
        Some(Arc::new(Self { function, args: self.args.clone() }))
    }

    fn get_result_ordering(&self, schema: &SchemaRef) -> Option<PhysicalSortExpr> {
        self.function.get_result_ordering(schema)
    }

    fn limit_effect(&self) -> LimitEffect {
        self.function.limit_effect()
    }
}

fn checked_node(plan: Plan, spread: bool) -> Result<Transformed<Plan>> {
    let new = if let Some(node) = plan.downcast_ref::<ProjectionExec>() {
        projection(node)?
    } else if let Some(node) = plan.downcast_ref::<FilterExec>() {
        let mut r = Rewriter::over(node.input());
        let predicate = r.expr(node.predicate())?;
        r.changed.then(|| FilterExecBuilder::from(node).with_predicate(predicate).build()).transpose()?.map(plan_of)
    } else if let Some(node) = plan.downcast_ref::<AggregateExec>() {
        aggregate(node)?
    } else if let Some(node) = plan.downcast_ref::<SortExec>() {
        let mut r = Rewriter::over(node.input());
        let order = LexOrdering::new(r.sorts(node.expr())?).filter(|_| r.changed);
        let sort = |o| SortExec::new(o, Arc::clone(node.input())).with_fetch(node.fetch());
        order.map(|o| plan_of(sort(o).with_preserve_partitioning(node.preserve_partitioning())))
    } else if let Some(node) = plan.downcast_ref::<WindowAggExec>() {
        let mut r = Rewriter::over(node.input());
        let windows = node.window_expr().iter().map(|w| r.window(w)).collect::<Result<Vec<_>>>()?;
        r.changed.then(|| WindowAggExec::try_new(windows, Arc::clone(node.input()), spread)).transpose()?.map(plan_of)
    } else if let Some(node) = plan.downcast_ref::<BoundedWindowAggExec>() {
        let mut r = Rewriter::over(node.input());
        let windows = node.window_expr().iter().map(|w| r.window(w)).collect::<Result<Vec<_>>>()?;
        let build = || BoundedWindowAggExec::try_new(windows, Arc::clone(node.input()), node.input_order_mode.clone(), spread);
        r.changed.then(build).transpose()?.map(plan_of)
    } else {
        join(&plan)?
    };
    Ok(match new {
        Some(new) => Transformed::yes(new),
        None => Transformed::no(plan),
    })
}

fn plan_of(node: impl ExecutionPlan + 'static) -> Plan {
    Arc::new(node)
}

fn projection(node: &ProjectionExec) -> Result<Option<Plan>> {
    let mut r = Rewriter::over(node.input());
    let one = |p: &ProjectionExpr| Ok(ProjectionExpr { expr: r.expr(&p.expr)?, alias: p.alias.clone() });
    let exprs = node.expr().iter().map(one).collect::<Result<Vec<_>>>()?;
    r.changed.then(|| ProjectionExec::try_new(exprs, Arc::clone(node.input()))).transpose().map(|p| p.map(plan_of))
}

fn aggregate(node: &AggregateExec) -> Result<Option<Plan>> {
    // Arguments, also those that a final aggregate remembers, are over the rows of the first phase.
    let mut r = Rewriter { schema: node.input_schema(), changed: false };
    let group = node.group_expr();
    let keys = PhysicalGroupBy::new(r.named(group.expr())?, r.named(group.null_expr())?, group.groups().to_vec(), group.has_grouping_set());
    let calls = node.aggr_expr().iter().map(|a| r.aggregate(a)).collect::<Result<Vec<_>>>()?;
    let filters = node.filter_expr().iter().map(|f| f.as_ref().map(|f| r.expr(f)).transpose()).collect::<Result<Vec<_>>>()?;
    if !r.changed {
        return Ok(None);
    }
    let new = AggregateExec::try_new(*node.mode(), keys, calls, filters, Arc::clone(node.input()), node.input_schema())?;
    Ok(Some(plan_of(new.with_limit_options(node.limit_options()))))
}

fn join(plan: &Plan) -> Result<Option<Plan>> {
    if let Some(node) = plan.downcast_ref::<HashJoinExec>() {
        let (on, filter) = (checked_keys(node.on(), node.left(), node.right())?, checked_filter(node.filter())?);
        if on.is_none() && filter.is_none() {
            return Ok(None);
        }
        let on = on.unwrap_or_else(|| node.on().to_vec());
        let new = node.builder().with_on(on).with_filter(filter.or_else(|| node.filter().cloned())).recompute_properties();
        return Ok(Some(new.build_exec()?));
    }
    if let Some(node) = plan.downcast_ref::<NestedLoopJoinExec>() {
        let Some(filter) = checked_filter(node.filter())? else { return Ok(None) };
        return Ok(Some(plan_of(NestedLoopJoinExecBuilder::from(node).with_filter(Some(filter)).build()?)));
    }
    if let Some(node) = plan.downcast_ref::<SortMergeJoinExec>() {
        let (on, filter) = (checked_keys(node.on(), node.left(), node.right())?, checked_filter(node.filter().as_ref())?);
        if on.is_none() && filter.is_none() {
            return Ok(None);
        }
        let on = on.unwrap_or_else(|| node.on().to_vec());
        let filter = filter.or_else(|| node.filter().clone());
        let (left, right, options) = (Arc::clone(node.left()), Arc::clone(node.right()), node.sort_options().to_vec());
        let new = SortMergeJoinExec::try_new(left, right, on, filter, node.join_type(), options, node.null_equality())?;
        return Ok(Some(plan_of(new)));
    }
    Ok(None)
}

fn checked_keys(on: &[(Expr, Expr)], left: &Plan, right: &Plan) -> Result<Option<Vec<(Expr, Expr)>>> {
    let (mut l, mut r) = (Rewriter::over(left), Rewriter::over(right));
    let keys = on.iter().map(|(a, b)| Ok((l.expr(a)?, r.expr(b)?))).collect::<Result<Vec<_>>>()?;
    Ok((l.changed || r.changed).then_some(keys))
}

fn checked_filter(filter: Option<&JoinFilter>) -> Result<Option<JoinFilter>> {
    let Some(f) = filter else { return Ok(None) };
    let mut r = Rewriter { schema: Arc::clone(f.schema()), changed: false };
    let expression = r.expr(f.expression())?;
    Ok(r.changed.then(|| JoinFilter::new(expression, f.column_indices().to_vec(), Arc::clone(f.schema()))))
}
