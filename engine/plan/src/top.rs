//! The first rows of each group: a filter over row numbers, whose window numbers far more rows than it lets through.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::window::{StandardWindowExpr, WindowExpr};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec, WindowUDFExpr};
use millstream_stage::program::{Type, physical};
use std::sync::Arc;

/// `row_number() over (partition by keys order by order) <= fetch` over `input`.
pub struct FirstRows<'a> {
    /// What is numbered.
    pub input: &'a Arc<dyn ExecutionPlan>,
    /// What the groups are of.
    pub keys: &'a [Arc<dyn PhysicalExpr>],
    /// The order within a group.
    pub order: &'a [PhysicalSortExpr],
    /// Rows of each group.
    pub fetch: usize,
    /// The columns of the input that leave.
    pub columns: Vec<usize>,
}

/// More rows a group are sorted by a stock operator.
const MOST: u64 = 64;

impl<'a> FirstRows<'a> {
    /// What a filter asks for, if it is that and kernels cover it. The number itself may not leave.
    pub fn of(filter: &'a FilterExec) -> Option<Self> {
        // Between them stands what drops the columns that only the window reads.
        let (picked, child) = match filter.input().downcast_ref::<ProjectionExec>() {
            Some(p) => {
                (Some(p.expr().iter().map(|e| Some(e.expr.downcast_ref::<Column>()?.index())).collect::<Option<Vec<_>>>()?), p.input())
            }
            None => (None, filter.input()),
        };
        let below = |column: usize| picked.as_ref().map_or(Some(column), |picked| picked.get(column).copied());
        let (windows, input) = match (child.downcast_ref::<BoundedWindowAggExec>(), child.downcast_ref::<WindowAggExec>()) {
            (Some(w), _) => (w.window_expr(), w.input()),
            (_, Some(w)) => (w.window_expr(), w.input()),
            _ => return None,
        };
        let [window] = windows else { return None };
        let number = input.schema().fields().len();
        let columns = filter.projection().as_ref()?.iter().map(|c| below(*c)).collect::<Option<Vec<_>>>()?;
        let (compared, fetch) = limit(filter.predicate())?;
        let of = |e: &Arc<dyn PhysicalExpr>| e.data_type(&input.schema()).map_or(Type::Any, |t| physical(&t));
        let (keys, order) = (window.partition_by(), window.order_by());
        let covered = is_row_number(window)
            && below(compared) == Some(number)
            && filter.fetch().is_none()
            && columns.iter().all(|c| *c < number)
            && !keys.is_empty()
            && keys.iter().all(|k| of(k) != Type::Any)
            && order.len() <= 1
            && order.iter().all(|o| !matches!(of(&o.expr), Type::Any | Type::Str));
        covered.then_some(Self { input, keys, order, fetch, columns })
    }
}

fn is_row_number(window: &Arc<dyn WindowExpr>) -> bool {
    let standard = window.as_any().downcast_ref::<StandardWindowExpr>();
    let function = standard.and_then(|w| w.get_standard_func_expr().as_any().downcast_ref::<WindowUDFExpr>());
    function.is_some_and(|f| f.fun().name() == "row_number")
}

/// The column that is compared, and the greatest number that passes.
fn limit(predicate: &Arc<dyn PhysicalExpr>) -> Option<(usize, usize)> {
    let compared = predicate.downcast_ref::<BinaryExpr>()?;
    let column = compared.left().downcast_ref::<Column>()?.index();
    let ScalarValue::UInt64(Some(n)) = compared.right().downcast_ref::<Literal>()?.value() else { return None };
    let most = match compared.op() {
        Operator::LtEq => *n,
        Operator::Lt => n.checked_sub(1)?,
        Operator::Eq if *n == 1 => 1,
        _ => return None,
    };
    (1..=MOST).contains(&most).then_some((column, most as usize))
}
