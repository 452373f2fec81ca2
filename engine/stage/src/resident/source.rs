//! The leaf of a plan over a table in memory: a DataFusion `DataSource`.
//!
//! A stage takes its morsels as they are (`ResidentSource::morsel`); a stock operator is given batches of
//! the declared types. Filters that are pushed down only skip morsels: whoever pushed them keeps them.

use super::{Known, ResidentMorsel, ResidentTable, zones};
use crate::Error;
use crate::convert::to_batch;
use crate::run::best::Ends;
use crate::scan::Pushed;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::datasource::source::{DataSource, DataSourceExec};
use datafusion::error::Result as DfResult;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, conjunction};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::{CooperativeExec, cooperative};
use datafusion::physical_plan::execution_plan::SchedulingType;
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::projection::{all_alias_free_columns, new_projections_for_columns};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan, Partitioning, SendableRecordBatchStream};
use millstream_kernels::gpu::Device;
use millstream_kernels::{Strings, Values};
use std::fmt;
use std::sync::Arc;

/// Columns of a table in memory, as a leaf of a plan.
#[derive(Clone, Debug)]
pub struct ResidentSource {
    table: Arc<ResidentTable>,
    /// Columns of the table, in the order in which they leave.
    projection: Vec<usize>,
    schema: SchemaRef,
    /// Each is a run of morsels.
    partitions: usize,
    /// Rows of a partition after which it ends.
    fetch: Option<usize>,
    /// Over the table's columns: what morsels may be skipped by.
    predicate: Option<Arc<dyn PhysicalExpr>>,
}

impl ResidentSource {
    /// These columns of `table` (all when none are named) in up to `partitions` partitions.
    ///
    /// # Errors
    /// When the table has no such column.
    pub fn new(table: Arc<ResidentTable>, projection: Option<Vec<usize>>, partitions: usize) -> DfResult<Self> {
        let projection = projection.unwrap_or_else(|| (0..table.schema().fields().len()).collect());
        let schema = Arc::new(table.schema().project(&projection)?);
        let partitions = partitions.clamp(1, table.morsels().max(1));
        Ok(Self { table, projection, schema, partitions, fetch: None, predicate: None })
    }

    /// The source behind `leaf` if a stage can take its morsels: there is no limit on its rows.
    pub fn of(leaf: &DataSourceExec) -> Option<&Self> {
        leaf.data_source().downcast_ref::<Self>().filter(|s| s.fetch.is_none())
    }

    /// The source below `plan`, read through what only passes batches on.
    pub(crate) fn below(plan: &Arc<dyn ExecutionPlan>) -> Option<&Self> {
        if let Some(c) = plan.downcast_ref::<CoalescePartitionsExec>() {
            return Self::below(c.input());
        }
        if let Some(c) = plan.downcast_ref::<CooperativeExec>() {
            return Self::below(c.input());
        }
        plan.downcast_ref::<DataSourceExec>().and_then(Self::of)
    }

    /// The share of the rows of output column `c` that is on a device.
    pub(crate) fn share_on(&self, device: &Device, c: usize) -> f64 {
        device.kept_rows(&self.table.id, self.projection[c] as u32) as f64 / self.table.rows.max(1) as f64
    }

    /// The same of the codes that output columns have together as group keys.
    pub(crate) fn codes_share_on(&self, device: &Device, columns: &[usize]) -> f64 {
        let number = self.table.codes_number(columns.iter().map(|c| self.projection[*c]).collect());
        device.kept_rows(&self.table.id, number) as f64 / self.table.rows.max(1) as f64
    }

    /// What the values of output column `c` are, and whether some are null; none where there are too many to tell.
    pub(crate) fn known(&self, c: usize) -> Option<(Known, bool)> {
        let column = &self.table.columns[self.projection[c]];
        let known = match column.values.rows(0..0).values {
            Values::Str(Strings::Dict { dict, .. }) => Known::Dictionary(dict),
            Values::Bool(_) => Known::Bool,
            Values::I32(_) | Values::I64(_) => {
                let (low, high) = zones::bounds(&column.zones.bounds()?)?;
                Known::Between(low, high)
            }
            _ => return None,
        };
        Some((known, column.zones.null_count() > 0))
    }

    /// The table.
    pub fn table(&self) -> &Arc<ResidentTable> {
        &self.table
    }

    /// Those of `morsels` that the pushed filters, as they are now, do not rule out.
    pub fn keep(&self, morsels: Vec<usize>) -> Vec<usize> {
        self.table.keep(self.predicate.as_ref(), morsels)
    }

    /// The pushed filters.
    pub fn pushed(&self) -> Option<Pushed> {
        let columns = self.projection.iter().copied().map(Some).collect();
        Some(Pushed { predicate: Arc::clone(self.predicate.as_ref()?), columns })
    }

    /// The morsels `numbers` with the output columns `inputs`, in that order.
    pub fn take(&self, inputs: &[usize], numbers: Vec<usize>) -> impl Iterator<Item = ResidentMorsel> {
        let columns: Arc<[usize]> = inputs.iter().map(|i| self.projection[*i]).collect();
        numbers.into_iter().map(move |m| ResidentMorsel::new(Arc::clone(&self.table), Arc::clone(&columns), self.table.rows_of(m)))
    }

    /// Least and greatest value of output column `c` in morsel `m`.
    pub(crate) fn ends(&self, c: usize, m: usize) -> Ends {
        self.table.columns[self.projection[c]].zones.ends(m)
    }

    /// All rows in these output columns, unless filters rule some morsels out.
    pub fn whole(&self, columns: &[usize]) -> Option<ResidentMorsel> {
        let all = self.table.morsels();
        let kept = self.keep((0..all).collect()).len() == all && self.fetch.is_none();
        let columns = columns.iter().map(|c| self.projection[*c]).collect();
        kept.then(|| ResidentMorsel::new(Arc::clone(&self.table), columns, 0..self.table.rows()))
    }

    /// The morsels of a partition.
    fn morsels(&self, partition: usize) -> Vec<usize> {
        let share = self.table.morsels().div_ceil(self.partitions);
        (partition * share..((partition + 1) * share).min(self.table.morsels())).collect()
    }

    /// The rows of `partition`, in batches of `size`.
    fn batches(&self, partition: usize, size: usize) -> impl Iterator<Item = DfResult<RecordBatch>> + Send + 'static {
        let source = self.clone();
        let pieces = move |rows: std::ops::Range<usize>| rows.clone().step_by(size).map(move |from| from..(from + size).min(rows.end));
        let mut left = self.fetch.unwrap_or(usize::MAX);
        let table = Arc::clone(&self.table);
        // Filters are found while the query runs: they are asked when the first row is.
        let kept = std::iter::once_with(move || source.keep(source.morsels(partition)));
        let rows = kept.flatten().flat_map(move |m| pieces(table.rows_of(m)));
        let (table, projection, schema) = (Arc::clone(&self.table), self.projection.clone(), Arc::clone(&self.schema));
        rows.map_while(move |rows| {
            let rows = rows.start..rows.end.min(rows.start.saturating_add(left));
            left -= rows.len();
            let block = table.block(projection.iter().copied(), rows.clone());
            (!rows.is_empty()).then(|| Ok(to_batch(&block, &schema)?))
        })
    }

    /// A filter over the output columns, over the table's columns instead.
    fn on_table(&self, filter: Arc<dyn PhysicalExpr>) -> DfResult<Arc<dyn PhysicalExpr>> {
        let column = |e: Arc<dyn PhysicalExpr>| {
            let Some(c) = e.downcast_ref::<Column>() else { return Ok(Transformed::no(e)) };
            let at = self.projection.get(c.index()).ok_or_else(|| Error::bug(format!("a filter on column {c}, which is not read")))?;
            let moved: Arc<dyn PhysicalExpr> = Arc::new(Column::new(c.name(), *at));
            Ok(Transformed::new(moved, true, TreeNodeRecursion::Jump))
        };
        filter.transform_down(column).data()
    }
}

impl DataSource for ResidentSource {
    fn open(&self, partition: usize, ctx: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let batches = futures::stream::iter(self.batches(partition, ctx.session_config().batch_size()));
        Ok(Box::pin(cooperative(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))))
    }

    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let names: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        match t {
            DisplayFormatType::TreeRender => writeln!(f, "format=resident\ntable={}\nrows={}", self.table.name(), self.table.rows()),
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                let (table, rows) = (self.table.name(), self.table.rows());
                write!(f, "resident table={table}, rows={rows}, partitions={}, projection=[{}]", self.partitions, names.join(", "))?;
                if let Some(n) = self.fetch {
                    write!(f, ", fetch={n}")?;
                }
                match &self.predicate {
                    Some(p) => write!(f, ", predicate={p}"),
                    None => Ok(()),
                }
            }
        }
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(self.partitions)
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        EquivalenceProperties::new(Arc::clone(&self.schema))
    }

    fn scheduling_type(&self) -> SchedulingType {
        SchedulingType::Cooperative
    }

    fn partition_statistics(&self, partition: Option<usize>) -> DfResult<Arc<Statistics>> {
        use datafusion::common::stats::Precision;
        let mut all = self.table.statistics().project(Some(&self.projection));
        all.total_byte_size = all.column_statistics.iter().map(|c| c.byte_size).fold(Precision::Exact(0), |a, b| a.add(&b));
        if let Some(p) = partition {
            all = all.to_inexact();
            all.num_rows = Precision::Exact(self.morsels(p).into_iter().map(|m| self.table.rows_of(m).len()).sum());
        }
        if self.predicate.is_some() {
            all = all.to_inexact();
        }
        let partitions = if partition.is_some() { 1 } else { self.partitions };
        Ok(Arc::new(all.with_fetch(self.fetch, 0, partitions)?))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn DataSource>> {
        Some(Arc::new(Self { fetch: limit, ..self.clone() }))
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    fn try_swapping_with_projection(&self, projection: &ProjectionExprs) -> DfResult<Option<Arc<dyn DataSource>>> {
        let exprs: Vec<_> = projection.iter().cloned().collect();
        if !all_alias_free_columns(&exprs) {
            return Ok(None);
        }
        let columns = new_projections_for_columns(&exprs, &self.projection);
        let schema = Arc::new(self.table.schema().project(&columns)?);
        Ok(Some(Arc::new(Self { projection: columns, schema, ..self.clone() })))
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> DfResult<FilterPushdownPropagation<Arc<dyn DataSource>>> {
        let none_claimed = FilterPushdownPropagation::with_parent_pushdown_result(vec![PushedDown::No; filters.len()]);
        if filters.is_empty() {
            return Ok(none_claimed);
        }
        let mine = filters.into_iter().map(|f| self.on_table(f)).collect::<DfResult<Vec<_>>>()?;
        let predicate = conjunction(self.predicate.iter().cloned().chain(mine));
        Ok(none_claimed.with_updated_node(Arc::new(Self { predicate: Some(predicate), ..self.clone() })))
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion> {
        self.predicate.as_ref().map_or(Ok(TreeNodeRecursion::Continue), f)
    }
}
