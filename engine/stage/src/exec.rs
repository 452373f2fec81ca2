//! `StageExec`: a stage as a node of DataFusion's physical plan.
//!
//! Children are the input, the build sides (each a `StageExec` with a build sink) and, where the program
//! waits for scalar subqueries, the node that names them (`subquery.rs`). The node holds no state between
//! runs; a parent stage takes its child's rows in process, without a stream hop.

use crate::context::{Cancel, EpochContext, Settings};
use crate::convert::to_batch;
use crate::program::{Placement, Program, Scope, Sink, SortKey};
use crate::run::{Built, InTable, Output, run_stage};
use crate::shared::Shared;
use crate::subquery;
use crate::{Error, Result};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DfResult;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, DynamicFilterPhysicalExpr, lit};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::{RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream};
use futures::StreamExt;
use millstream_kernels::program::Instr;
use std::fmt;
use std::sync::Arc;

/// A filter on the probe side's scan that a stage completes once it has built table `table`.
#[derive(Clone, Debug)]
pub struct RuntimeFilter {
    /// Which build side.
    pub table: usize,
    /// DataFusion's filter, adopted from the join that the stage replaced.
    pub filter: Arc<DynamicFilterPhysicalExpr>,
    /// The probe side's key columns, as the filter names them.
    pub keys: Vec<Arc<dyn PhysicalExpr>>,
}

/// A stage in a physical plan.
#[derive(Debug, Clone)]
pub struct StageExec {
    id: String,
    program: Arc<Program>,
    sink: Sink,
    scope: Scope,
    placement: Placement,
    input: Arc<dyn ExecutionPlan>,
    builds: Vec<Arc<dyn ExecutionPlan>>,
    subqueries: Option<Arc<dyn ExecutionPlan>>,
    filters: Vec<RuntimeFilter>,
    shared: Option<Arc<Shared>>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl StageExec {
    /// A stage over `input` that leaves rows of `schema`.
    pub fn new(
        id: impl Into<String>,
        program: Arc<Program>,
        sink: Sink,
        placement: Placement,
        input: Arc<dyn ExecutionPlan>,
        builds: Vec<Arc<dyn ExecutionPlan>>,
        schema: SchemaRef,
    ) -> Self {
        let properties = Arc::new(properties(&sink, &schema));
        let metrics = ExecutionPlanMetricsSet::new();
        let subqueries = subquery::node(&program);
        let (id, scope, filters, shared) = (id.into(), Scope::Whole, vec![], None);
        Self { id, program, sink, scope, placement, input, builds, subqueries, filters, shared, schema, properties, metrics }
    }

    /// With filters to complete when the build sides are there.
    pub fn with_filters(mut self, filters: Vec<RuntimeFilter>) -> Self {
        self.filters = filters;
        self
    }

    /// As one of several equal stages, of which one runs.
    pub fn with_shared(mut self, shared: Arc<Shared>) -> Self {
        self.shared = Some(shared);
        self
    }

    /// Over another part of the input.
    pub fn with_scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Declaring that the rows it leaves, over its own schema, have the constant and equal columns that `facts`
    /// says; its order and partitions may be others.
    pub fn with_facts(mut self, facts: &EquivalenceProperties) -> Self {
        let mut eq = facts.clone();
        eq.clear_orderings();
        eq.clear_per_partition_constants();
        self.properties = Arc::new(properties_of(&self.sink, eq));
        self
    }

    /// Declaring that the rows it leaves, over its own schema, come in this order.
    pub fn with_order(mut self, order: LexOrdering) -> Self {
        let mut eq = self.properties.equivalence_properties().clone();
        eq.add_ordering(order);
        self.properties = Arc::new(properties_of(&self.sink, eq));
        self
    }

    /// On another device.
    pub fn with_placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// Stable within a query: the key of what the stage carries between epochs.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the stage does.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// Where it ends.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// How much of the input the sink sees.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Its device, and why.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The input.
    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    /// The build sides.
    pub fn builds(&self) -> &[Arc<dyn ExecutionPlan>] {
        &self.builds
    }

    /// The node that names the scalar subqueries the program waits for, if there are any.
    pub fn subqueries(&self) -> Option<&Arc<dyn ExecutionPlan>> {
        self.subqueries.as_ref()
    }

    /// Filters completed at run time.
    pub fn filters(&self) -> &[RuntimeFilter] {
        &self.filters
    }

    /// What it has in common with equal stages of the plan.
    pub(crate) fn shared(&self) -> Option<&Arc<Shared>> {
        self.shared.as_ref()
    }

    pub(crate) fn metric_set(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    /// Completes the filters that wait for the build sides, so that the scan can prune by them; those of
    /// tables that are not `whole` keep everything.
    pub(crate) fn publish_filters(&self, tables: &[Arc<Built>], whole: impl Fn(usize) -> bool) {
        for f in &self.filters {
            if !whole(f.table) {
                f.filter.mark_complete();
                continue;
            }
            let (built, types) = (&tables[f.table], self.probe_types(f));
            let mut all: Arc<dyn PhysicalExpr> = Arc::new(InTable::new(f.keys.clone(), types.clone(), built));
            if let Some(range) = key_ranges(f, built, types) {
                all = Arc::new(BinaryExpr::new(range, Operator::And, all));
            }
            // A filter that could not be updated drops nothing.
            let _ = f.filter.update(all);
            f.filter.mark_complete();
        }
    }

    fn probe_types(&self, f: &RuntimeFilter) -> Vec<arrow::datatypes::DataType> {
        let probe = self.program.instrs.iter().find_map(|i| match i {
            Instr::Probe(p) if p.table as usize == f.table => Some(p),
            _ => None,
        });
        probe.map_or_else(Vec::new, |p| p.keys.iter().map(|k| self.program.data_type(*k).clone()).collect())
    }

    /// The stage's rows as a stream of batches of the declared types.
    fn stream(self, ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let epoch = ctx.session_config().get_extension::<EpochContext>();
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), 8);
        let out = builder.tx();
        builder.spawn(async move {
            let cancel = Cancel::default();
            let _guard = cancel.guard();
            let collect = matches!(self.sink, Sink::Collect { .. }).then(|| out.clone());
            let pool = Settings::of(&ctx)?.pool.clone();
            let mut rows = match run_stage(&self, ctx, epoch, cancel, collect).await? {
                Output::Blocks(blocks, held) => {
                    let held = move |b| {
                        let _until_the_last = &held;
                        Ok(b)
                    };
                    futures::stream::iter(blocks).map(held).boxed()
                }
                Output::Parts(parts) => parts.stream(&pool),
                Output::Table(_) | Output::Disk(_) => return Err(Error::bug("a build stage is run by the stage that probes it").into()),
            };
            while let Some(block) = rows.next().await {
                let batch = to_batch(&block?, &self.schema)?;
                if out.send(Ok(batch)).await.is_err() {
                    return Ok(());
                }
            }
            Ok(())
        });
        builder.build()
    }

    /// Runs the stage for its rows or its table.
    ///
    /// # Errors
    /// What the data raises; `Closed` when cancelled.
    pub async fn run(&self, ctx: Arc<TaskContext>, epoch: Option<Arc<EpochContext>>) -> Result<Output> {
        let cancel = Cancel::default();
        let guard = cancel.guard();
        let out = run_stage(self, ctx, epoch, cancel, None).await;
        guard.disarm();
        out
    }
}

/// `min <= key AND key <= max` over the integer keys of a table.
fn key_ranges(f: &RuntimeFilter, built: &Built, types: Vec<arrow::datatypes::DataType>) -> Option<Arc<dyn PhysicalExpr>> {
    use Operator::{And, GtEq, LtEq};
    use datafusion::common::ScalarValue as S;
    let mut all: Option<Arc<dyn PhysicalExpr>> = None;
    for (k, (key, t)) in f.keys.iter().zip(types).enumerate() {
        if built.table.rows() == 0 {
            return Some(lit(false));
        }
        let Some((lo, hi)) = built.table.key_range(k) else { continue };
        let scalar = |v: i64| match &t {
            arrow::datatypes::DataType::Int64 => Some(S::Int64(Some(v))),
            arrow::datatypes::DataType::Int32 => i32::try_from(v).ok().map(|v| S::Int32(Some(v))),
            arrow::datatypes::DataType::Date32 => i32::try_from(v).ok().map(|v| S::Date32(Some(v))),
            _ => None,
        };
        let (Some(lo), Some(hi)) = (scalar(lo), scalar(hi)) else { continue };
        let bounds: [Arc<dyn PhysicalExpr>; 2] =
            [Arc::new(BinaryExpr::new(Arc::clone(key), GtEq, lit(lo))), Arc::new(BinaryExpr::new(Arc::clone(key), LtEq, lit(hi)))];
        for b in bounds {
            all = Some(match all {
                Some(a) => Arc::new(BinaryExpr::new(a, And, b)),
                None => b,
            });
        }
    }
    all
}

fn properties(sink: &Sink, schema: &SchemaRef) -> PlanProperties {
    let mut eq = EquivalenceProperties::new(Arc::clone(schema));
    if let Sink::Sort { order, visible, groups, .. } = sink
        && groups.is_empty()
    {
        // A stage that is still to be checked may declare fewer columns than it lets out.
        let known = order.iter().take_while(|k| k.column < (*visible).min(schema.fields().len()));
        let exprs: Vec<PhysicalSortExpr> = known.map(|k| sort_expr(k, schema)).collect();
        eq.add_orderings(LexOrdering::new(exprs));
    }
    properties_of(sink, eq)
}

fn properties_of(sink: &Sink, eq: EquivalenceProperties) -> PlanProperties {
    let emission = if matches!(sink, Sink::Collect { .. }) { EmissionType::Incremental } else { EmissionType::Final };
    PlanProperties::new(eq, Partitioning::UnknownPartitioning(1), emission, Boundedness::Bounded)
}

fn sort_expr(k: &SortKey, schema: &SchemaRef) -> PhysicalSortExpr {
    PhysicalSortExpr {
        expr: Arc::new(Column::new(schema.field(k.column).name(), k.column)),
        options: arrow::compute::SortOptions { descending: k.descending, nulls_first: k.nulls_first },
    }
}

impl DisplayAs for StageExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let DisplayFormatType::TreeRender = t {
            return write!(f, "{} on {}", self.sink.name(), self.placement.device);
        }
        let count = |name: &str, n: usize| if n > 0 { format!(" {name}={n}") } else { String::new() };
        let instrs = &self.program.instrs;
        let filters = instrs.iter().filter(|i| matches!(i, Instr::Filter { .. })).count();
        write!(f, "StageExec: {} id={} device={} ({})", self.sink.name(), self.id, self.placement.device, self.placement.reason)?;
        write!(f, "{}{}", count("instructions", instrs.len()), count("filters", filters))?;
        for i in instrs {
            if let Instr::Probe(p) = i {
                let keys: Vec<&str> = p.keys.iter().map(|k| physical_name(&self.program, *k)).collect();
                write!(
                    f,
                    ", probe #{} {:?} on [{}]{}",
                    p.table,
                    p.kind,
                    keys.join(", "),
                    if p.residual.is_some() { " with residual" } else { "" }
                )?;
            }
        }
        match &self.sink {
            Sink::Group { keys, sets, aggregates } => {
                let names: Vec<&str> = aggregates.iter().map(|a| a.function.name()).collect();
                let sets = if sets.is_empty() { String::new() } else { format!(", sets={}", sets.len()) };
                write!(f, ", keys={}{sets}, aggregates=[{}]", keys.len(), names.join(", "))?;
            }
            Sink::Sort { fetch: Some(n), groups, .. } => write!(f, ", fetch={n}{}", count("of each group, keys", groups.len()))?,
            _ => {}
        }
        for c in &self.program.calls {
            write!(f, ", call {}", c.expr)?;
        }
        Ok(())
    }
}

fn physical_name(program: &Program, r: u16) -> &'static str {
    use millstream_kernels::program::Type;
    match program.ty(r) {
        Type::Bool => "bool",
        Type::I32 => "i32",
        Type::I64 => "i64",
        Type::Decimal => "decimal",
        Type::F64 => "f64",
        Type::Str => "str",
        Type::Any => "any",
    }
}

impl ExecutionPlan for StageExec {
    fn name(&self) -> &str {
        "StageExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        std::iter::once(&self.input).chain(&self.builds).chain(&self.subqueries).collect()
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        if children.len() != self.children().len() {
            return Err(Error::bug("a stage has its input, its build sides and its subqueries as children").into());
        }
        let mut new = self.as_ref().clone();
        if let Some(old) = &self.subqueries {
            new.subqueries = children.pop();
            if let Some(subqueries) = new.subqueries.as_ref().filter(|s| !Arc::ptr_eq(s, old)) {
                new.program = Arc::new(subquery::rebind(&self.program, old, subqueries)?);
            }
        }
        new.builds = children.split_off(1);
        new.input = children.remove(0);
        new.metrics = ExecutionPlanMetricsSet::new();
        // Other children may give other rows.
        new.shared = None;
        Ok(Arc::new(new))
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion> {
        for c in &self.program.calls {
            if f(&c.expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, ctx: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(Error::bug(format!("a stage has one partition, not {partition}")).into());
        }
        let (stage, schema) = (self.clone(), Arc::clone(&self.schema));
        // Nothing starts before the first poll: a scalar subquery above may have to run first.
        let stream = futures::stream::once(async move { stage.stream(ctx) }).flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
