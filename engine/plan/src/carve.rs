//! Carves stages: replaces runs of filters, projections, hash joins, aggregates and sorts by `StageExec`.
//!
//! A node that a stage cannot take stays as it is, and its children are carved on their own.

use crate::Rules;
use crate::aggregates::{arguments, covers_group, function};
use crate::open::{Open, covers_join};
use crate::top::FirstRows;
use datafusion::common::tree_node::TreeNode;
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_expr::expressions::UnKnownColumn;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::analyze::AnalyzeExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ExecutionPlanProperties, Partitioning, ReplaceChildrenOptions};
use millstream_stage::{AggregateCall, Sink, SortKey, StageExec};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The rule.
#[derive(Debug)]
pub struct Carve {
    rules: Rules,
}

impl Carve {
    /// As `rules` say.
    pub fn new(rules: Rules) -> Self {
        Self { rules }
    }
}

impl PhysicalOptimizerRule for Carve {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let carving = Carving { checked: self.rules.checked, limited: self.rules.limited, ids: AtomicUsize::new(0) };
        carving.query(&plan)
    }

    fn name(&self) -> &str {
        "MillstreamCarve"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// One run of the rule.
pub struct Carving {
    checked: bool,
    /// Memory is limited: what no stage can spill is left to stock operators.
    limited: bool,
    ids: AtomicUsize,
}

type Plan = Arc<dyn ExecutionPlan>;

/// As many first rows of all are held whatever the memory.
const FETCH_MOST: usize = 10_000;

impl Carving {
    /// The id of the next stage: the same for the same plan.
    pub fn next_id(&self) -> String {
        format!("s{}", self.ids.fetch_add(1, Ordering::Relaxed))
    }

    /// A whole query. DataFusion may have moved its sort below a join, whose order our workers do not
    /// keep: such a query is sorted last.
    fn query(&self, plan: &Plan) -> Result<Plan> {
        if plan.is::<AnalyzeExec>() || plan.is::<ScalarSubqueryExec>() {
            let carved = plan.children().into_iter().map(|c| self.query(c)).collect::<Result<Vec<_>>>()?;
            return over(plan, carved);
        }
        let moved = is_pipeline(plan) && plan.output_partitioning().partition_count() == 1 && plan.exists(|n| Ok(n.is::<SortExec>()))?;
        match plan.output_ordering() {
            Some(order) if moved => self.sort(plan, order, None),
            _ => self.carve(plan),
        }
    }

    fn carve(&self, plan: &Plan) -> Result<Plan> {
        if let Some(stage) = self.breaker(plan)? {
            return Ok(stage);
        }
        // A pipeline whose order somebody above may rely on keeps it: our workers do not.
        let ordered = plan.output_ordering().is_some();
        if !ordered && is_pipeline(plan) {
            let open = self.open(plan)?;
            let columns = open.columns.clone();
            return Ok(with_facts(open.finish(Sink::Collect { columns }, plan.schema(), self)?, plan));
        }
        self.children(plan)
    }

    /// A node that stays, over carved children.
    fn children(&self, plan: &Plan) -> Result<Plan> {
        let children = plan.children();
        if children.is_empty() {
            return Ok(Arc::clone(plan));
        }
        if let [child] = children[..] {
            return over(plan, vec![self.ordered(plan, child)?]);
        }
        let carve = |c: &&Plan| self.carve(c).and_then(|new| same_partitions(c, new));
        let carved = children.iter().map(carve).collect::<Result<Vec<_>>>()?;
        over(plan, carved)
    }

    /// The carved child of a node, in the order that the node asks for: a stage does not keep that of its input.
    fn ordered(&self, plan: &Plan, child: &Plan) -> Result<Plan> {
        let carved = self.carve(child)?;
        let Some(required) = plan.required_input_ordering().into_iter().next().flatten() else { return Ok(carved) };
        let required = required.into_single();
        if carved.equivalence_properties().ordering_satisfy_requirement(required.clone())? {
            return Ok(carved);
        }
        self.sort(child, &LexOrdering::from(required), None)
    }

    /// The stage that ends in this node, if the node ends one.
    fn breaker(&self, plan: &Plan) -> Result<Option<Plan>> {
        if let Some(node) = plan.downcast_ref::<AggregateExec>() {
            return Ok(self.group(node)?.map(|s| with_facts(s, plan)));
        }
        if let Some(first) = plan.downcast_ref::<FilterExec>().and_then(FirstRows::of)
            && !self.limited
        {
            return Ok(Some(self.first_rows(&first, plan)?));
        }
        if let Some(node) = plan.downcast_ref::<SortExec>()
            && (!node.preserve_partitioning() || node.input().output_partitioning().partition_count() == 1)
        {
            return Ok(Some(self.sort(node.input(), node.expr(), node.fetch())?));
        }
        if let Some(node) = plan.downcast_ref::<SortPreservingMergeExec>() {
            return match self.sorted(node.input(), node.fetch())? {
                None if is_pipeline(node.input()) => Ok(Some(self.sort(node.input(), node.expr(), node.fetch())?)),
                sorted => Ok(sorted),
            };
        }
        Ok(None)
    }

    /// The first rows of each group.
    fn first_rows(&self, first: &FirstRows, plan: &Plan) -> Result<Plan> {
        let mut open = self.open(first.input)?;
        let all = open.columns.clone();
        let mut columns: Vec<_> = first.columns.iter().map(|c| all[*c]).collect();
        let visible = columns.len();
        let mut place = |open: &mut Open, e: &Arc<dyn PhysicalExpr>| -> Result<usize> {
            let r = open.lowering.expr(e, &all)?;
            Ok(columns.iter().position(|c| *c == r).unwrap_or_else(|| {
                columns.push(r);
                columns.len() - 1
            }))
        };
        let groups = first.keys.iter().map(|k| place(&mut open, k)).collect::<Result<_>>()?;
        let key = |o: &PhysicalSortExpr, column| SortKey { column, descending: o.options.descending, nulls_first: o.options.nulls_first };
        let order = first.order.iter().map(|o| Ok(key(o, place(&mut open, &o.expr)?))).collect::<Result<_>>()?;
        let sink = Sink::Sort { columns, visible, order, fetch: Some(first.fetch), groups };
        Ok(with_facts(open.finish(sink, plan.schema(), self)?, plan))
    }

    /// The open stage whose rows are those of `plan`.
    fn open(&self, plan: &Plan) -> Result<Open> {
        if let Some(node) =
            plan.downcast_ref::<FilterExec>().filter(|n| n.fetch().is_none() && (self.limited || FirstRows::of(n).is_none()))
        {
            let mut open = self.open(node.input())?;
            open.filter(node)?;
            return Ok(open);
        }
        if let Some(node) = plan.downcast_ref::<ProjectionExec>() {
            let mut open = self.open(node.input())?;
            open.project(node)?;
            return Ok(open);
        }
        if let Some(node) = plan.downcast_ref::<HashJoinExec>().filter(|n| covers_join(n)) {
            let build = self.open(node.left())?;
            let mut open = self.open(node.right())?;
            open.join(node, build)?;
            return Ok(open);
        }
        if let Some(inner) = exchange(plan).or_else(|| unlimited_sort(plan)) {
            return self.open(inner);
        }
        if let Some(stage) = self.breaker(plan)? {
            return Open::over(stage, self.checked);
        }
        Open::over(self.children(plan)?, self.checked)
    }

    /// A sort below a merge, perhaps with projections between: one stage sorts all partitions, and there
    /// is nothing left to merge.
    fn sorted(&self, plan: &Plan, fetch: Option<usize>) -> Result<Option<Plan>> {
        if let Some(sort) = plan.downcast_ref::<SortExec>() {
            return Ok(Some(self.sort(sort.input(), sort.expr(), fetch.or(sort.fetch()))?));
        }
        if let Some(p) = plan.downcast_ref::<ProjectionExec>()
            && let Some(below) = self.sorted(p.input(), fetch)?
        {
            return Ok(Some(over(plan, vec![below])?));
        }
        Ok(None)
    }

    /// The rows of `plan` in this order, or the first `fetch` of them.
    fn sort(&self, plan: &Plan, by: &LexOrdering, fetch: Option<usize>) -> Result<Plan> {
        if self.limited && fetch.is_none_or(|n| n > FETCH_MOST) {
            return self.external_sort(plan, by, fetch);
        }
        let mut open = self.open(plan)?;
        let visible = open.columns.len();
        let mut columns = open.columns.clone();
        let mut order = vec![];
        for e in by.iter() {
            let r = open.lowering.expr(&e.expr, &open.columns.clone())?;
            let column = columns.iter().position(|c| *c == r).unwrap_or_else(|| {
                columns.push(r);
                columns.len() - 1
            });
            order.push(SortKey { column, descending: e.options.descending, nulls_first: e.options.nulls_first });
        }
        let stage = open.finish(Sink::Sort { columns, visible, order, fetch, groups: vec![] }, plan.schema(), self)?;
        // A node above, a window for instance, may ask for this very order, expressions included.
        Ok(Arc::new(stage.as_ref().clone().with_facts(plan.equivalence_properties()).with_order(by.clone())))
    }

    /// As [`Carving::sort`], by DataFusion's operator, which sorts more than the memory holds.
    fn external_sort(&self, plan: &Plan, by: &LexOrdering, fetch: Option<usize>) -> Result<Plan> {
        let mut input = self.carve(plan)?;
        if input.output_partitioning().partition_count() > 1 {
            input = Arc::new(CoalescePartitionsExec::new(input));
        }
        Ok(Arc::new(SortExec::new(by.clone(), input).with_fetch(fetch)))
    }

    /// Partial, exchange and final collapse into one sink.
    fn group(&self, last: &AggregateExec) -> Result<Option<Arc<StageExec>>> {
        let first = match last.mode() {
            AggregateMode::Single | AggregateMode::SinglePartitioned => last,
            AggregateMode::Final | AggregateMode::FinalPartitioned => match partial(last.input()) {
                Some(first) => first,
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        if covers_group(first).is_err() {
            return Ok(None);
        }
        let mut open = self.open(first.input())?;
        let columns = open.columns.clone();
        let by = first.group_expr();
        let mut keys = by.expr().iter().map(|(e, _)| open.lowering.expr(e, &columns)).collect::<std::result::Result<Vec<_>, _>>()?;
        let sets = open.grouping_sets(&mut keys, by)?;
        let mut aggregates = vec![];
        for (i, (a, f)) in first.aggr_expr().iter().zip(first.filter_expr()).enumerate() {
            let Some(function) = function(a, by) else { return Ok(None) };
            let args = arguments(&function, a, by, &first.input().schema());
            let args = args.iter().map(|e| open.lowering.expr(e, &columns)).collect::<std::result::Result<_, _>>()?;
            let filter = f.as_ref().map(|f| open.lowering.expr(f, &columns)).transpose()?;
            let returns = last.schema().field(keys.len() + i).data_type().clone();
            aggregates.push(AggregateCall { function, args, filter, returns });
        }
        Ok(Some(open.finish(Sink::Group { keys, sets, aggregates }, last.schema(), self)?))
    }
}

/// The stage that stands for `plan`, with what planning knows of its columns.
fn with_facts(stage: Arc<StageExec>, plan: &Plan) -> Plan {
    Arc::new(stage.as_ref().clone().with_facts(plan.equivalence_properties()))
}

/// The same node over other children.
fn over(plan: &Plan, children: Vec<Plan>) -> Result<Plan> {
    Arc::clone(plan).replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}

/// Whether a collect stage is worth it: there is a filter or a join to run.
fn is_pipeline(plan: &Plan) -> bool {
    if let Some(p) = plan.downcast_ref::<ProjectionExec>() {
        return is_pipeline(p.input());
    }
    plan.downcast_ref::<FilterExec>().is_some_and(|n| n.fetch().is_none()) || plan.downcast_ref::<HashJoinExec>().is_some_and(covers_join)
}

/// What lies behind a node that only moves rows between partitions.
fn exchange(plan: &Plan) -> Option<&Plan> {
    if let Some(n) = plan.downcast_ref::<RepartitionExec>() {
        return Some(n.input());
    }
    if let Some(n) = plan.downcast_ref::<CoalescePartitionsExec>() {
        return n.fetch().is_none().then(|| n.input());
    }
    plan.downcast_ref::<CooperativeExec>().map(CooperativeExec::input)
}

/// What lies behind a sort or merge of all rows: a stage above keeps no order, so it is for nothing.
fn unlimited_sort(plan: &Plan) -> Option<&Plan> {
    if let Some(n) = plan.downcast_ref::<SortExec>() {
        return n.fetch().is_none().then(|| n.input());
    }
    plan.downcast_ref::<SortPreservingMergeExec>().filter(|n| n.fetch().is_none()).map(SortPreservingMergeExec::input)
}

fn partial(plan: &Plan) -> Option<&AggregateExec> {
    if let Some(n) = plan.downcast_ref::<AggregateExec>() {
        return (*n.mode() == AggregateMode::Partial).then_some(n);
    }
    exchange(plan).and_then(partial)
}

/// A stock parent may rely on its children being hashed alike.
fn same_partitions(old: &Plan, new: Plan) -> Result<Plan> {
    let hashed = old.output_partitioning();
    let differs = new.output_partitioning().partition_count() != hashed.partition_count();
    match hashed {
        // Nobody can rely on a key that is gone.
        Partitioning::Hash(keys, n) if differs && keys.iter().any(|k| k.is::<UnKnownColumn>()) => {
            Ok(Arc::new(RepartitionExec::try_new(new, Partitioning::RoundRobinBatch(*n))?))
        }
        Partitioning::Hash(..) if differs => Ok(Arc::new(RepartitionExec::try_new(new, hashed.clone())?)),
        _ => Ok(new),
    }
}
