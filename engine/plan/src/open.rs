//! A stage that is still being carved: nodes are folded into its program from the leaf upwards.

use crate::aggregates::{Sets, sets};
use crate::carve::Carving;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{JoinSide, JoinType, NullEquality, ScalarValue};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{DynamicFilterPhysicalExpr, Literal};
use datafusion::physical_expr::utils::split_conjunction;
use datafusion::physical_plan::aggregates::PhysicalGroupBy;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use millstream_stage::exec::RuntimeFilter;
use millstream_stage::lower::Lowering;
use millstream_stage::program::{GroupingSet, Instr, JoinKind, Probe, Reg, Residual, Type, physical};
use millstream_stage::{Placement, Sink, StageExec};
use std::any::Any;
use std::sync::Arc;

/// A program over `input`, not yet ended by a sink.
pub struct Open {
    input: Arc<dyn ExecutionPlan>,
    /// The program so far.
    pub lowering: Lowering,
    /// Registers of the columns that leave the last folded node.
    pub columns: Vec<Reg>,
    builds: Vec<Side>,
    filters: Vec<RuntimeFilter>,
    /// How many nodes were folded.
    pub folded: usize,
}

/// A build side, open until the probing program is finished and says which columns it gathers.
struct Side {
    open: Open,
    keys: Vec<Reg>,
    null_equals_null: bool,
}

impl Open {
    /// An empty program over the rows of `input`.
    pub fn over(input: Arc<dyn ExecutionPlan>, checked: bool) -> Result<Self> {
        let mut lowering = Lowering::new(checked);
        let schema = input.schema();
        let mut columns = vec![];
        for (i, f) in schema.fields().iter().enumerate() {
            columns.push(lowering.register(f.data_type())?);
            lowering.program.inputs.push(i);
        }
        Ok(Self { input, lowering, columns, builds: vec![], filters: vec![], folded: 0 })
    }

    /// Folds a filter in.
    pub fn filter(&mut self, node: &FilterExec) -> Result<()> {
        self.folded += 1;
        // A filter that another node completes at run time only hints: that node drops the same rows.
        let lasting = split_conjunction(node.predicate()).into_iter().filter(|e| !e.is::<DynamicFilterPhysicalExpr>());
        for e in lasting {
            self.lowering.filter(e, &self.columns)?;
        }
        if let Some(p) = node.projection() {
            self.columns = p.iter().map(|i| self.columns[*i]).collect();
        }
        Ok(())
    }

    /// Folds a projection in.
    pub fn project(&mut self, node: &ProjectionExec) -> Result<()> {
        self.folded += 1;
        self.columns = node.expr().iter().map(|e| self.lowering.expr(&e.expr, &self.columns)).collect::<std::result::Result<_, _>>()?;
        Ok(())
    }

    /// Folds a hash join in: `build` becomes a table that this program probes.
    pub fn join(&mut self, node: &HashJoinExec, mut build: Open) -> Result<()> {
        self.folded += 1;
        let table = self.builds.len() as u16;
        let (mut keys, mut build_keys) = (vec![], vec![]);
        for (l, r) in node.on() {
            build_keys.push(build.lowering.expr(l, &build.columns)?);
            keys.push(self.lowering.expr(r, &self.columns)?);
        }
        let rows = self.lowering.register(&DataType::Int32)?;
        let kind = join_kind(*node.join_type());
        let left: Vec<DataType> = build.columns.iter().map(|r| build.lowering.program.data_type(*r).clone()).collect();
        let inner_filter = node.filter().filter(|_| kind == JoinKind::Inner);
        let residual = match node.filter().filter(|_| kind != JoinKind::Inner) {
            Some(f) => {
                let probe_columns = self.columns.clone();
                let (instrs, cond) = self.lowering.nested(|l| {
                    let columns = pair_columns(l, f, table, rows, &left, &probe_columns)?;
                    l.expr(f.expression(), &columns)
                })?;
                Some(Residual { instrs, cond })
            }
            None => None,
        };
        let mark = match kind {
            JoinKind::ProbeMark | JoinKind::BuildMark => Some(self.lowering.register(&DataType::Boolean)?),
            _ => None,
        };
        let null_equals_null = node.null_equality() == NullEquality::NullEqualsNull;
        let null_aware = node.null_aware;
        self.lowering.push(Instr::Probe(Box::new(Probe { table, keys, kind, null_equals_null, null_aware, residual, rows, mark })));
        if kind.has_tail() {
            self.lowering.forget();
        }
        if let Some(f) = inner_filter {
            let columns = pair_columns(&mut self.lowering, f, table, rows, &left, &self.columns.clone())?;
            self.lowering.filter(f.expression(), &columns)?;
        }
        self.columns = self.joined_columns(*node.join_type(), table, rows, &left, mark)?;
        if let Some(p) = &node.projection {
            self.columns = p.iter().map(|i| self.columns[*i]).collect();
        }
        for produced in node.dynamic_expressions_produced() {
            let produced: Arc<dyn Any + Send + Sync> = produced;
            let Ok(filter) = produced.downcast::<DynamicFilterPhysicalExpr>() else { continue };
            let keys = node.on().iter().map(|(_, r)| Arc::clone(r)).collect();
            self.filters.push(RuntimeFilter { table: table.into(), filter, keys });
        }
        self.builds.push(Side { open: build, keys: build_keys, null_equals_null });
        Ok(())
    }

    /// The grouping sets over these keys, to which the number of the set is added; none of a plain group.
    pub fn grouping_sets(&mut self, keys: &mut Vec<Reg>, by: &PhysicalGroupBy) -> Result<Vec<GroupingSet>> {
        let Some(Sets { sets, id }) = sets(by) else { return Ok(vec![]) };
        let mut all = vec![];
        for (absent, number) in sets {
            let mut own = vec![];
            for (key, absent) in keys.iter().zip(&absent) {
                let ty = self.lowering.program.data_type(*key).clone();
                own.push(if *absent { self.constant(ScalarValue::try_new_null(&ty)?)? } else { *key });
            }
            own.push(self.constant(ScalarValue::UInt64(Some(number)).cast_to(&id)?)?);
            all.push(GroupingSet { keys: own, total: absent.iter().all(|a| *a) });
        }
        keys.extend(all.first().and_then(|s| s.keys.last()));
        Ok(all)
    }

    fn constant(&mut self, value: ScalarValue) -> Result<Reg> {
        let literal: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(value));
        Ok(self.lowering.expr(&literal, &[])?)
    }

    fn joined_columns(&mut self, ty: JoinType, table: u16, rows: Reg, left: &[DataType], mark: Option<Reg>) -> Result<Vec<Reg>> {
        let mut out = vec![];
        if !matches!(ty, JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark) {
            for (c, t) in left.iter().enumerate() {
                out.push(gather(&mut self.lowering, table, c, rows, t)?);
            }
        }
        if !matches!(ty, JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark) {
            out.extend(&self.columns);
        }
        out.extend(mark);
        Ok(out)
    }

    /// Ends the program with a sink over `self.columns` and what else it reads.
    pub fn finish(mut self, sink: Sink, schema: SchemaRef, carving: &Carving) -> Result<Arc<StageExec>> {
        let sink = self.lowering.program.finish(sink);
        let mut builds: Vec<Arc<dyn ExecutionPlan>> = vec![];
        for (t, side) in self.builds.into_iter().enumerate() {
            builds.push(side.finish(t as u16, &mut self.lowering.program.instrs, carving)?);
        }
        let input = coalesced(self.input, &sink);
        let stage =
            StageExec::new(carving.next_id(), Arc::new(self.lowering.program), sink, Placement::cpu("not placed"), input, builds, schema);
        Ok(Arc::new(stage.with_filters(self.filters)))
    }
}

impl Side {
    /// The build stage, with just the columns that the probing program gathers.
    fn finish(self, table: u16, probing: &mut [Instr], carving: &Carving) -> Result<Arc<dyn ExecutionPlan>> {
        let mut used: Vec<u16> = vec![];
        each_gather(probing, &mut |t, c| {
            if t == table && !used.contains(c) {
                used.push(*c);
            }
        });
        used.sort_unstable();
        each_gather(probing, &mut |t, c| {
            if t == table {
                *c = used.binary_search(c).unwrap_or(0) as u16;
            }
        });
        let columns: Vec<Reg> = used.iter().map(|c| self.open.columns[*c as usize]).collect();
        let program = &self.open.lowering.program;
        let field = |(i, r): (usize, &Reg)| arrow::datatypes::Field::new(format!("c{i}"), program.data_type(*r).clone(), true);
        let schema = Arc::new(arrow::datatypes::Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>()));
        let sink = Sink::Build { keys: self.keys, columns, null_equals_null: self.null_equals_null };
        Ok(self.open.finish(sink, schema, carving)?)
    }
}

/// A sink over the whole input keeps the node that says so to the planner and to a cluster's scheduler.
fn coalesced(input: Arc<dyn ExecutionPlan>, sink: &Sink) -> Arc<dyn ExecutionPlan> {
    use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
    let many = input.output_partitioning().partition_count() > 1;
    if many && !matches!(sink, Sink::Collect { .. }) { Arc::new(CoalescePartitionsExec::new(input)) } else { input }
}

fn each_gather(instrs: &mut [Instr], f: &mut dyn FnMut(u16, &mut u16)) {
    for i in instrs {
        match i {
            Instr::Gather { table, column, .. } => f(*table, column),
            Instr::Probe(p) => {
                if let Some(r) = &mut p.residual {
                    each_gather(&mut r.instrs, f);
                }
            }
            _ => {}
        }
    }
}

fn gather(l: &mut Lowering, table: u16, column: usize, rows: Reg, t: &DataType) -> Result<Reg> {
    let out = l.register(t)?;
    l.push(Instr::Gather { table, column: column as u16, rows, out });
    Ok(out)
}

/// The registers that a join filter's expression is over.
fn pair_columns(
    l: &mut Lowering,
    f: &datafusion::physical_plan::joins::utils::JoinFilter,
    table: u16,
    rows: Reg,
    left: &[DataType],
    probe: &[Reg],
) -> std::result::Result<Vec<Reg>, datafusion::error::DataFusionError> {
    f.column_indices()
        .iter()
        .map(|c| match c.side {
            JoinSide::Left => gather(l, table, c.index, rows, &left[c.index]),
            _ => Ok(probe[c.index]),
        })
        .collect()
}

/// DataFusion's left side is the build side.
fn join_kind(t: JoinType) -> JoinKind {
    match t {
        JoinType::Inner => JoinKind::Inner,
        JoinType::Left => JoinKind::BuildOuter,
        JoinType::Right => JoinKind::ProbeOuter,
        JoinType::Full => JoinKind::Full,
        JoinType::LeftSemi => JoinKind::BuildSemi,
        JoinType::RightSemi => JoinKind::ProbeSemi,
        JoinType::LeftAnti => JoinKind::BuildAnti,
        JoinType::RightAnti => JoinKind::ProbeAnti,
        JoinType::LeftMark => JoinKind::BuildMark,
        JoinType::RightMark => JoinKind::ProbeMark,
    }
}

/// Whether kernels can hash and compare these join keys.
pub fn covers_join(node: &HashJoinExec) -> bool {
    let typed = |e: &Arc<dyn datafusion::physical_expr::PhysicalExpr>, side: &Arc<dyn ExecutionPlan>| e.data_type(&side.schema()).ok();
    let keys = node.on().iter().all(|(l, r)| match (typed(l, node.left()), typed(r, node.right())) {
        (Some(l), Some(r)) => {
            let (a, b) = (physical(&l), physical(&r));
            a == b && a != Type::Any && (l == r || a == Type::Str)
        }
        _ => false,
    });
    keys && node.fetch().is_none()
}
