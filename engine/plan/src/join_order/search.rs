//! The cheapest order of a graph of joins.

use super::graph::{Graph, JoinTree, Relations, columns_of};
use crate::estimate::{Estimate, RESIDUAL, Values, pairs_per_match};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use std::collections::HashMap;
use std::sync::Arc;

type Plan = Arc<dyn ExecutionPlan>;

/// Up to so many relations every order is looked at.
const ALL_ORDERS: usize = 9;

/// Work of putting a row into a join table, in units of looking one up in a small table: of a table as it
/// is, of a relation whose rows are filtered first, of a join whose columns are gathered first.
const BUILD_TABLE: f64 = 1.5;
const BUILD_ROWS: f64 = 3.0;
const BUILD_JOINED: f64 = 5.0;

/// Rows of equal keys are chained, and a chain is walked.
const CHAINED: f64 = 1.5;

/// Work of a row that leaves a join.
const EMIT: f64 = 0.5;

/// Tables beyond so many rows leave the cache, and those beyond the second number the translation buffers.
const CACHED: (f64, f64) = (100e3, 1e6);

/// Work of building on the `build` rows of a relation, which are `gathered` in the end, and probing with `probe` rows.
pub fn work(relation: &Plan, build: f64, probe: f64, gathered: bool) -> f64 {
    let put = if gathered { BUILD_ROWS } else { put(relation) };
    build * put * large(build) + probe * look_up(build)
}

fn put(relation: &Plan) -> f64 {
    if is_table(relation) { BUILD_TABLE } else { BUILD_ROWS }
}

/// How much dearer a row of a build side is whose table leaves the cache, in memory that is new to the process.
fn large(build: f64) -> f64 {
    if build < CACHED.1 { 1.0 } else { 2.0 }
}

fn look_up(build: f64) -> f64 {
    match build {
        b if b < CACHED.0 => 1.0,
        b if b < CACHED.1 => 1.5,
        _ => 2.5,
    }
}

/// Whether a relation's rows are those of a source, every one of them.
fn is_table(plan: &Plan) -> bool {
    match plan.children()[..] {
        [] => true,
        [one] => (plan.is::<ProjectionExec>() || plan.is::<RepartitionExec>() || plan.is::<CooperativeExec>()) && is_table(one),
        _ => false,
    }
}

/// A key of which there are this part as many values as rows is taken as unique.
const UNIQUE: f64 = 0.5;

/// What joins two relations.
struct Joined {
    pair: Relations,
    /// Pairs of rows for each that agrees.
    per_match: f64,
    /// Those of the two of which more than one row may have the same keys.
    chained: Relations,
}

/// The rows of sets of relations.
struct Model {
    rows: Vec<f64>,
    /// Work of putting a row of each relation into a table.
    put: Vec<f64>,
    joined: Vec<Joined>,
    /// What conditions are over.
    conditions: Vec<Relations>,
}

impl Model {
    fn new(graph: &Graph, estimates: &[Estimate]) -> Self {
        let values = |e| -> (usize, Values) {
            let mut columns = columns_of(e);
            let column = columns.next().unwrap_or(0);
            let r = graph.relation(column);
            (r, estimates[r].columns[column - graph.columns(r).start])
        };
        let mut keys: HashMap<Relations, Vec<(Values, Values)>> = HashMap::new();
        for (a, b) in &graph.equalities {
            let ((x, a), (y, b)) = (values(a), values(b));
            keys.entry(1 << x | 1 << y).or_default().push(if x < y { (a, b) } else { (b, a) });
        }
        let joined = keys.into_iter().map(|(pair, keys)| {
            let low = 1 << pair.trailing_zeros();
            let distinct = keys.iter().fold((1.0, 1.0), |d, k| (d.0 * k.0.distinct, d.1 * k.1.distinct));
            let chains = |distinct: f64, of: f64, set: Relations| if distinct < of * UNIQUE { set } else { 0 };
            let chained = keys.first().map_or(0, |k| chains(distinct.0, k.0.of, low) | chains(distinct.1, k.1.of, pair & !low));
            Joined { pair, per_match: pairs_per_match(&keys), chained }
        });
        let mut joined: Vec<_> = joined.collect();
        joined.sort_unstable_by_key(|j| j.pair);
        Self {
            put: graph.relations.iter().map(put).collect(),
            rows: estimates.iter().map(|e| e.rows).collect(),
            joined,
            conditions: graph.conditions.iter().map(|c| graph.used(c)).collect(),
        }
    }

    fn rows_of(&self, set: Relations) -> f64 {
        let all: f64 = self.rows.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1).map(|(_, r)| r).product();
        let matches: f64 = self.joined.iter().filter(|j| j.pair & !set == 0).map(|j| j.per_match).product();
        let kept = self.conditions.iter().filter(|c| **c & !set == 0).count();
        (all / matches * RESIDUAL.powi(kept as i32)).max(1.0)
    }

    /// Work of building on one set and probing with the other.
    fn work(&self, build: Relations, rows: f64, probe: Relations, probe_rows: f64) -> f64 {
        let put = match build.count_ones() {
            1 => self.put[build.trailing_zeros() as usize],
            _ => BUILD_JOINED,
        };
        let mut met = self.joined.iter().filter(|j| j.pair & build != 0 && j.pair & probe != 0);
        let chain = if met.all(|j| j.chained & build != 0) { CHAINED } else { 1.0 };
        rows * put * chain * large(rows) + probe_rows * look_up(rows)
    }

    fn connected(&self, a: Relations, b: Relations) -> bool {
        self.joined.iter().any(|j| j.pair & a != 0 && j.pair & b != 0)
    }
}

/// The cheapest order; none where the relations are not all joined with one another.
pub fn cheapest(graph: &Graph, estimates: &[Estimate]) -> Option<JoinTree> {
    let model = Model::new(graph, estimates);
    if model.rows.len() <= ALL_ORDERS { all_orders(&model) } else { greedy(&model) }
}

/// What is known of the best way to join a set.
#[derive(Clone, Copy)]
struct Best {
    work: f64,
    rows: f64,
    /// The build side; the rest probes. None of one relation.
    build: Relations,
}

fn all_orders(model: &Model) -> Option<JoinTree> {
    let n = model.rows.len();
    let mut best: Vec<Option<Best>> = vec![None; 1 << n];
    for set in 1..1u64 << n {
        let rows = model.rows_of(set);
        if set.count_ones() == 1 {
            best[set as usize] = Some(Best { work: 0.0, rows, build: 0 });
            continue;
        }
        let mut build = (set - 1) & set;
        while build != 0 {
            let probe = set & !build;
            if let (Some(b), Some(p)) = (best[build as usize], best[probe as usize])
                && model.connected(build, probe)
            {
                let all = b.work + p.work + model.work(build, b.rows, probe, p.rows) + rows * EMIT;
                if best[set as usize].is_none_or(|now| all < now.work) {
                    best[set as usize] = Some(Best { work: all, rows, build });
                }
            }
            build = (build - 1) & set;
        }
    }
    tree(&best, (1 << n) - 1)
}

fn tree(best: &[Option<Best>], set: Relations) -> Option<JoinTree> {
    let b = best[set as usize]?;
    if set.count_ones() == 1 {
        return Some(JoinTree::Relation(set.trailing_zeros() as usize));
    }
    Some(JoinTree::Join(Box::new(tree(best, b.build)?), Box::new(tree(best, set & !b.build)?)))
}

/// Joins the pair with the fewest rows, until one is left.
fn greedy(model: &Model) -> Option<JoinTree> {
    let mut parts: Vec<(f64, JoinTree)> = model.rows.iter().enumerate().map(|(i, r)| (*r, JoinTree::Relation(i))).collect();
    while parts.len() > 1 {
        let mut least: Option<(f64, usize, usize)> = None;
        for i in 0..parts.len() {
            for j in i + 1..parts.len() {
                let (a, b) = (parts[i].1.relations(), parts[j].1.relations());
                let rows = if model.connected(a, b) { model.rows_of(a | b) } else { continue };
                if least.is_none_or(|l| rows < l.0) {
                    least = Some((rows, i, j));
                }
            }
        }
        let (rows, i, j) = least?;
        let (b, a) = (parts.swap_remove(j), parts.swap_remove(i));
        let (x, y) = (a.1.relations(), b.1.relations());
        let (build, probe) = if model.work(x, a.0, y, b.0) <= model.work(y, b.0, x, a.0) { (a.1, b.1) } else { (b.1, a.1) };
        parts.push((rows, JoinTree::Join(Box::new(build), Box::new(probe))));
    }
    parts.pop().map(|p| p.1)
}
