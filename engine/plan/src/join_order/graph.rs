//! A tree of inner joins taken apart.

use crate::estimate::estimate;
use arrow::datatypes::FieldRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinSide, JoinType, NullEquality, Result};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::projection::ProjectionExec;
use std::sync::Arc;

type Plan = Arc<dyn ExecutionPlan>;
type Expr = Arc<dyn PhysicalExpr>;

/// A set of relations, one bit each.
pub type Relations = u64;

/// Relations and what joins them. The columns of all relations are numbered through; expressions here are
/// over these numbers.
pub struct Graph {
    /// What is joined: no inner joins that could be taken apart.
    pub relations: Vec<Plan>,
    /// Number of the first column of each relation.
    first: Vec<usize>,
    /// Equal keys: an expression over one relation, and one over another.
    pub equalities: Vec<(Expr, Expr)>,
    /// Conditions beyond them.
    pub conditions: Vec<Expr>,
    /// The columns that leave the tree.
    pub outputs: Vec<usize>,
}

/// An order: a relation, or the join of a build and a probe side.
pub enum JoinTree {
    /// Relation `i`.
    Relation(usize),
    /// Build side, probe side.
    Join(Box<JoinTree>, Box<JoinTree>),
}

impl JoinTree {
    /// The relations in it.
    pub fn relations(&self) -> Relations {
        match self {
            JoinTree::Relation(i) => 1 << i,
            JoinTree::Join(l, r) => l.relations() | r.relations(),
        }
    }
}

/// A semi join that is expected to keep no more than this part of a relation's rows comes first.
const MOST_KEPT: f64 = 0.5;

/// So many relations and fewer are reordered.
const RELATIONS_MOST: usize = 32;

impl Graph {
    /// The graph of a tree whose root is an inner join, if it can be taken apart.
    pub fn of(plan: &Plan) -> Option<Self> {
        if !joins(plan) || plan.is::<ProjectionExec>() {
            return None;
        }
        let mut graph = Graph { relations: vec![], first: vec![], equalities: vec![], conditions: vec![], outputs: vec![] };
        graph.outputs = graph.add(plan)?;
        let whole = graph.equalities.iter().all(|(a, b)| one(graph.used(a)) && one(graph.used(b)) && graph.used(a) != graph.used(b));
        (whole && (2..=RELATIONS_MOST).contains(&graph.relations.len())).then_some(graph)
    }

    /// Adds a part of the tree; the columns that leave it.
    fn add(&mut self, plan: &Plan) -> Option<Vec<usize>> {
        if let Some(node) = plan.downcast_ref::<ProjectionExec>().filter(|_| joins(plan)) {
            let below = self.add(node.input())?;
            return node.expr().iter().map(|e| Some(below[e.expr.downcast_ref::<Column>()?.index()])).collect();
        }
        if let Some(node) = semi(plan) {
            return self.add_semi(plan, node);
        }
        let Some(node) = inner(plan) else { return Some(self.add_relation(plan)) };
        let left = self.add(node.left())?;
        let right = self.add(node.right())?;
        for (l, r) in node.on() {
            self.equalities.push((renumbered(l, &|i| left.get(i).copied()).ok()?, renumbered(r, &|i| right.get(i).copied()).ok()?));
        }
        if let Some(f) = node.filter() {
            let column = |i: usize| {
                let c = f.column_indices().get(i)?;
                if c.side == JoinSide::Left { left.get(c.index).copied() } else { right.get(c.index).copied() }
            };
            self.conditions.push(renumbered(f.expression(), &column).ok()?);
        }
        let all: Vec<usize> = left.into_iter().chain(right).collect();
        match &node.projection {
            Some(p) => p.iter().map(|i| all.get(*i).copied()).collect(),
            None => Some(all),
        }
    }

    fn add_relation(&mut self, plan: &Plan) -> Vec<usize> {
        let first = self.first.last().zip(self.relations.last()).map_or(0, |(f, r)| f + r.schema().fields().len());
        self.relations.push(Arc::clone(plan));
        self.first.push(first);
        (first..first + plan.schema().fields().len()).collect()
    }

    /// Adds a semi join over a tree: where it drops most rows of the one relation whose columns it looks up,
    /// it is that relation's; else the whole of it is a relation.
    fn add_semi(&mut self, plan: &Plan, node: &HashJoinExec) -> Option<Vec<usize>> {
        let before = (self.relations.len(), self.equalities.len(), self.conditions.len());
        let kept_left = *node.join_type() == JoinType::LeftSemi;
        let (kept, other) = if kept_left { (node.left(), node.right()) } else { (node.right(), node.left()) };
        let below = self.add(kept)?;
        let keys: Option<Vec<(Expr, Expr)>> = node
            .on()
            .iter()
            .map(|(l, r)| if kept_left { (l, r) } else { (r, l) })
            .map(|(k, o)| Some((renumbered(k, &|i| below.get(i).copied()).ok()?, Arc::clone(o))))
            .collect();
        if let Some(reduced) = keys.and_then(|keys| self.reduced(&keys, other)) {
            let (r, plan) = reduced;
            self.relations[r] = plan;
            return match &node.projection {
                Some(p) => p.iter().map(|i| below.get(*i).copied()).collect(),
                None => Some(below),
            };
        }
        self.relations.truncate(before.0);
        self.first.truncate(before.0);
        self.equalities.truncate(before.1);
        self.conditions.truncate(before.2);
        Some(self.add_relation(plan))
    }

    /// The relation that all keys are of, less the rows that `other` does not have, if they are most.
    fn reduced(&self, keys: &[(Expr, Expr)], other: &Plan) -> Option<(usize, Plan)> {
        let used = keys.iter().fold(0, |all, (k, _)| all | self.used(k));
        let r = one(used).then(|| used.trailing_zeros() as usize)?;
        let on = keys
            .iter()
            .map(|(k, o)| Some((renumbered(k, &|c| c.checked_sub(self.first[r])).ok()?, Arc::clone(o))))
            .collect::<Option<_>>()?;
        let relation = Arc::clone(&self.relations[r]);
        let all = estimate(&relation)?.rows;
        let (ty, mode, nulls) = (JoinType::LeftSemi, PartitionMode::CollectLeft, NullEquality::NullEqualsNothing);
        let join: Plan = Arc::new(HashJoinExec::try_new(relation, Arc::clone(other), on, None, &ty, None, mode, nulls, false).ok()?);
        (estimate(&join)?.rows <= all * MOST_KEPT).then_some((r, join))
    }

    /// The columns of relation `i`.
    pub fn columns(&self, i: usize) -> std::ops::Range<usize> {
        self.first[i]..self.first[i] + self.relations[i].schema().fields().len()
    }

    /// The relation of a column.
    pub fn relation(&self, column: usize) -> usize {
        self.first.partition_point(|f| *f <= column) - 1
    }

    /// The field of a column.
    pub fn field(&self, column: usize) -> FieldRef {
        let r = self.relation(column);
        Arc::clone(&self.relations[r].schema().fields()[column - self.first[r]])
    }

    /// The relations that an expression is over.
    pub fn used(&self, e: &Expr) -> Relations {
        columns_of(e).fold(0, |all, c| all | 1 << self.relation(c))
    }

    /// The equalities that join two sets, the side in `left` first.
    pub fn equalities_between(&self, left: Relations, right: Relations) -> Vec<(Expr, Expr)> {
        let turned = |(a, b): &(Expr, Expr)| {
            let (x, y) = (self.used(a), self.used(b));
            if x & left != 0 && y & right != 0 {
                Some((Arc::clone(a), Arc::clone(b)))
            } else if x & right != 0 && y & left != 0 {
                Some((Arc::clone(b), Arc::clone(a)))
            } else {
                None
            }
        };
        self.equalities.iter().filter_map(turned).collect()
    }

    /// The conditions that can be checked where two sets meet, and not before.
    pub fn conditions_between(&self, left: Relations, right: Relations) -> Vec<Expr> {
        let before = |used: Relations, side: Relations| used & !side == 0 && side.count_ones() > 1;
        let here = |e: &&Expr| {
            let used = self.used(e);
            used & !(left | right) == 0 && !before(used, left) && !before(used, right)
        };
        self.conditions.iter().filter(here).cloned().collect()
    }
}

fn one(set: Relations) -> bool {
    set.count_ones() == 1
}

/// A semi join of nothing but equal keys.
fn semi(plan: &Plan) -> Option<&HashJoinExec> {
    let node = plan.downcast_ref::<HashJoinExec>()?;
    let plain = matches!(node.join_type(), JoinType::LeftSemi | JoinType::RightSemi)
        && node.fetch().is_none()
        && node.null_equality() == NullEquality::NullEqualsNothing
        && node.filter().is_none();
    plain.then_some(node)
}

/// An inner join that may be taken apart: its conditions raise no error on rows that it would not have met.
fn inner(plan: &Plan) -> Option<&HashJoinExec> {
    let node = plan.downcast_ref::<HashJoinExec>()?;
    let plain = *node.join_type() == JoinType::Inner
        && node.fetch().is_none()
        && node.null_equality() == NullEquality::NullEqualsNothing
        && node.filter().is_none_or(|f| infallible(f.expression()) && f.column_indices().iter().all(|c| c.side != JoinSide::None));
    plain.then_some(node)
}

/// Comparisons and logic of columns and literals.
fn infallible(e: &Expr) -> bool {
    let node = e.is::<Column>()
        || e.is::<Literal>()
        || e.is::<InListExpr>()
        || e.is::<LikeExpr>()
        || e.is::<NotExpr>()
        || e.is::<IsNullExpr>()
        || e.is::<IsNotNullExpr>()
        || e.downcast_ref::<BinaryExpr>().is_some_and(|b| compares(*b.op()) || matches!(b.op(), Operator::And | Operator::Or))
        || e.downcast_ref::<CastExpr>().is_some_and(|c| c.expr().is::<Literal>());
    node && e.children().into_iter().all(infallible)
}

fn compares(op: Operator) -> bool {
    use Operator::*;
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Whether a node is an inner join, a semi join that keeps rows of one, or only picks columns of one.
fn joins(plan: &Plan) -> bool {
    if let Some(n) = plan.downcast_ref::<ProjectionExec>() {
        return n.expr().iter().all(|e| e.expr.is::<Column>()) && joins(n.input());
    }
    if let Some(n) = semi(plan) {
        return joins(if *n.join_type() == JoinType::LeftSemi { n.left() } else { n.right() });
    }
    inner(plan).is_some()
}

/// The columns of an expression.
pub fn columns_of(e: &Expr) -> impl Iterator<Item = usize> {
    let mut out = vec![];
    let visited = e.apply(|e| {
        out.extend(e.downcast_ref::<Column>().map(Column::index));
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "the visitor raises nothing");
    out.into_iter()
}

/// The expression with each column `i` as column `to(i)`.
pub fn renumbered(e: &Expr, to: &dyn Fn(usize) -> Option<usize>) -> Result<Expr> {
    let new = |e: Expr| match e.downcast_ref::<Column>() {
        Some(c) => {
            let at = to(c.index()).ok_or_else(|| DataFusionError::Internal(format!("join order lost column {}", c.name())))?;
            Ok(Transformed::yes(Arc::new(Column::new(c.name(), at)) as Expr))
        }
        None => Ok(Transformed::no(e)),
    };
    Ok(Arc::clone(e).transform(new)?.data)
}

/// Both.
pub fn and(a: Expr, b: Expr) -> Expr {
    Arc::new(BinaryExpr::new(a, Operator::And, b))
}
