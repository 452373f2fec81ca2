//! Stages that stand in a plan more than once run once: a common table expression that DataFusion has
//! written out for each of its readers.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use millstream_stage::shared::Shared;
use millstream_stage::{ResidentSource, Sink, StageExec};
use std::sync::Arc;

type Plan = Arc<dyn ExecutionPlan>;

/// The rule.
#[derive(Debug, Default)]
pub struct Share;

impl PhysicalOptimizerRule for Share {
    fn optimize(&self, plan: Plan, _: &ConfigOptions) -> Result<Plan> {
        let mut classes = Classes::default();
        classes.find(&plan);
        classes.0.retain(|c| c.len() > 1);
        if classes.0.is_empty() {
            return Ok(plan);
        }
        // The outermost of equal stages is what is shared: what is below it runs with it.
        let mut outermost = Classes(vec![vec![]; classes.0.len()]);
        plan.apply(|p| {
            Ok(match classes.of(p) {
                Some(c) => {
                    outermost.0[c].push(Arc::clone(p));
                    TreeNodeRecursion::Jump
                }
                None => TreeNodeRecursion::Continue,
            })
        })?;
        let shared: Vec<Arc<Shared>> = outermost.0.iter().map(|c| Arc::new(Shared::new(c.len()))).collect();
        let mark = |p: Plan| match (outermost.of(&p), p.downcast_ref::<StageExec>()) {
            (Some(c), Some(stage)) if outermost.0[c].len() > 1 => {
                let mut placement = stage.placement().clone();
                placement.reason = format!("{}; runs once for {} readers", placement.reason, outermost.0[c].len());
                let stage = stage.clone().with_placement(placement).with_shared(Arc::clone(&shared[c]));
                Ok(Transformed::new(Arc::new(stage) as Plan, true, TreeNodeRecursion::Jump))
            }
            _ => Ok(Transformed::no(p)),
        };
        Ok(plan.transform_down(mark)?.data)
    }

    fn name(&self) -> &str {
        "MillstreamShare"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Equal stages of a plan.
#[derive(Default)]
struct Classes(Vec<Vec<Plan>>);

impl Classes {
    fn find(&mut self, plan: &Plan) {
        if plan.downcast_ref::<StageExec>().is_some_and(|s| matches!(s.sink(), Sink::Group { .. })) && is_repeatable(plan) {
            match self.0.iter_mut().find(|c| same(&c[0], plan)) {
                Some(class) => class.push(Arc::clone(plan)),
                None => self.0.push(vec![Arc::clone(plan)]),
            }
        }
        plan.children().into_iter().for_each(|c| self.find(c));
    }

    fn of(&self, plan: &Plan) -> Option<usize> {
        self.0.iter().position(|c| c.iter().any(|p| Arc::ptr_eq(p, plan)))
    }
}

/// Whether a second run of the plan would give the same rows, whatever the rest of the query finds.
fn is_repeatable(plan: &Plan) -> bool {
    let here = match plan.downcast_ref::<StageExec>() {
        Some(s) => s.subqueries().is_none() && s.filters().is_empty() && s.program().calls.iter().all(|c| !is_volatile(&c.expr)),
        None if plan.is::<DataSourceExec>() => !text(plan).contains("DynamicFilter"),
        None => plan.is::<CoalescePartitionsExec>() || plan.is::<CooperativeExec>(),
    };
    here && plan.children().into_iter().all(is_repeatable)
}

/// Whether two repeatable plans give the same rows.
fn same(a: &Plan, b: &Plan) -> bool {
    let here = match (a.downcast_ref::<StageExec>(), b.downcast_ref::<StageExec>()) {
        (Some(a), Some(b)) => {
            a.sink() == b.sink()
                && a.scope() == b.scope()
                && a.placement().device == b.placement().device
                && format!("{:?}", a.program()) == format!("{:?}", b.program())
        }
        (None, None) => a.name() == b.name() && same_source(a, b),
        _ => false,
    };
    let (x, y) = (a.children(), b.children());
    here && a.schema() == b.schema() && x.len() == y.len() && x.iter().zip(y).all(|(a, b)| same(a, b))
}

fn same_source(a: &Plan, b: &Plan) -> bool {
    let (Some(x), Some(y)) = (a.downcast_ref::<DataSourceExec>(), b.downcast_ref::<DataSourceExec>()) else { return true };
    let tables = match (ResidentSource::of(x), ResidentSource::of(y)) {
        (Some(x), Some(y)) => Arc::ptr_eq(x.table(), y.table()),
        // Only what names all that it reads is known to be the same.
        (None, None) => x.data_source().is::<datafusion::datasource::physical_plan::FileScanConfig>() && text(a) == text(b),
        _ => false,
    };
    tables && text(a) == text(b)
}

/// The node in full: every file, filter and column.
fn text(plan: &Plan) -> String {
    displayable(plan.as_ref()).set_show_schema(true).one_line().to_string() + &displayable(plan.as_ref()).indent(true).to_string()
}
