//! Why a node of a finished plan is a stock operator: the carve rule's reasons, read off the node.

use crate::aggregates::covers_group;
use crate::open::covers_join;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use millstream_stage::StageExec;

/// One line on why no stage covers `node`; none for a stage.
pub fn why_stock(node: &dyn ExecutionPlan) -> Option<String> {
    if node.is::<StageExec>() {
        return None;
    }
    if let Some(a) = node.downcast_ref::<AggregateExec>() {
        return Some(why_aggregate(a));
    }
    if let Some(j) = node.downcast_ref::<HashJoinExec>() {
        let why = if covers_join(j) { "rows keep an order that the plan relies on" } else { "a join key has a type without kernel" };
        return Some(why.into());
    }
    if node.is::<ProjectionExec>() {
        return Some("only picks or computes columns: no filter or join to run".into());
    }
    if let Some(f) = node.downcast_ref::<FilterExec>() {
        let why = if f.fetch().is_some() { "stops after a limit" } else { "rows keep an order that the plan relies on" };
        return Some(why.into());
    }
    if node.is::<SortExec>() {
        return Some("sorts each partition on its own".into());
    }
    let why = match node.name() {
        "DataSourceExec" => "a source of rows",
        "RepartitionExec" | "CoalescePartitionsExec" | "SortPreservingMergeExec" => "moves rows between partitions",
        "CooperativeExec" => "yields to other tasks",
        "GlobalLimitExec" | "LocalLimitExec" => "no limit sink: stops its input",
        "WindowAggExec" | "BoundedWindowAggExec" => "no window sink",
        "SortMergeJoinExec" | "SymmetricHashJoinExec" | "PiecewiseMergeJoinExec" => "stages join by hash",
        "NestedLoopJoinExec" | "CrossJoinExec" => "no equality to hash",
        "UnionExec" | "InterleaveExec" => "appends inputs",
        "UnnestExec" => "no kernel unnests",
        "ScalarSubqueryExec" => "runs a subquery first and hands on its value",
        "EmptyExec" | "PlaceholderRowExec" => "a constant",
        _ => "not a node that stages know",
    };
    Some(why.into())
}

fn why_aggregate(node: &AggregateExec) -> String {
    if let Err(why) = covers_group(node) {
        return why;
    }
    if *node.mode() == AggregateMode::Partial { "a first phase on its own".into() } else { "its first phase is not below it".into() }
}
