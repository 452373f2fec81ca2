//! Row groups that statistics rule out.

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use std::collections::HashSet;
use std::sync::Arc;

/// The row groups of `groups` in which `predicate` may hold for some row. Every group is kept where
/// the predicate or the statistics do not allow to tell.
pub(super) fn prune(predicate: Option<&Arc<dyn PhysicalExpr>>, schema: &SchemaRef, m: &ParquetMetaData, groups: &[usize]) -> Vec<usize> {
    let keep_all = || groups.to_vec();
    let Some(predicate) = predicate else { return keep_all() };
    // Filters that were found while running stand in the predicate as they are now.
    let Ok(predicate) = datafusion::physical_expr_common::physical_expr::snapshot_physical_expr(Arc::clone(predicate)) else {
        return keep_all();
    };
    let Ok(pruning) = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).try_build(predicate) else { return keep_all() };
    if pruning.always_true() || groups.is_empty() {
        return keep_all();
    }
    let metas: Vec<&RowGroupMetaData> = groups.iter().map(|g| m.row_group(*g)).collect();
    let statistics = Statistics { metas, m, schema };
    match pruning.prune(&statistics) {
        Ok(keep) => groups.iter().zip(keep).filter(|(_, k)| *k).map(|(g, _)| *g).collect(),
        Err(_) => keep_all(),
    }
}

struct Statistics<'a> {
    metas: Vec<&'a RowGroupMetaData>,
    m: &'a ParquetMetaData,
    schema: &'a SchemaRef,
}

impl Statistics<'_> {
    fn converter(&self, c: &Column) -> Option<StatisticsConverter<'_>> {
        StatisticsConverter::try_new(&c.name, self.schema, self.m.file_metadata().schema_descr()).ok()
    }
}

impl PruningStatistics for Statistics<'_> {
    fn min_values(&self, c: &Column) -> Option<ArrayRef> {
        self.converter(c)?.row_group_mins(self.metas.iter().copied()).ok()
    }

    fn max_values(&self, c: &Column) -> Option<ArrayRef> {
        self.converter(c)?.row_group_maxes(self.metas.iter().copied()).ok()
    }

    fn num_containers(&self) -> usize {
        self.metas.len()
    }

    fn null_counts(&self, c: &Column) -> Option<ArrayRef> {
        let counts = self.converter(c)?.row_group_null_counts(self.metas.iter().copied()).ok()?;
        Some(Arc::new(counts) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(self.metas.iter().map(|m| m.num_rows() as u64))) as ArrayRef)
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
