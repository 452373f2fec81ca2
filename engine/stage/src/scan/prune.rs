//! Row groups that statistics rule out.

use crate::run::best::Ends;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt64Array};
use arrow::datatypes::{SchemaRef, UInt64Type};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use std::collections::HashSet;
use std::sync::Arc;

/// The row groups of `groups` in which `predicate` may hold for some row. Every group is kept where
/// the predicate or the statistics do not allow to tell.
pub(super) fn prune(predicate: Option<&Arc<dyn PhysicalExpr>>, schema: &SchemaRef, m: &ParquetMetaData, groups: &[usize]) -> Vec<usize> {
    let metas: Vec<&RowGroupMetaData> = groups.iter().map(|g| m.row_group(*g)).collect();
    match keep(predicate, schema, &Statistics { metas, m, schema }) {
        Some(keep) => groups.iter().zip(keep).filter(|(_, k)| *k).map(|(g, _)| *g).collect(),
        None => groups.to_vec(),
    }
}

/// What statistics say of a column in one row group.
pub(super) fn ends(column: &str, schema: &SchemaRef, m: &ParquetMetaData, group: usize) -> Ends {
    let statistics = Statistics { metas: vec![m.row_group(group)], m, schema };
    let column = Column::from_name(column);
    let nulls =
        statistics.null_counts(&column).and_then(|n| n.as_primitive_opt::<UInt64Type>().filter(|n| n.is_valid(0)).map(|n| n.value(0)));
    Ends { least: statistics.min_values(&column), greatest: statistics.max_values(&column), nulls }
}

/// For each container of `statistics` whether `predicate`, over columns of `schema`, may hold for some
/// of its rows; none where the predicate or the statistics do not allow to tell.
pub(crate) fn keep(predicate: Option<&Arc<dyn PhysicalExpr>>, schema: &SchemaRef, statistics: &dyn PruningStatistics) -> Option<Vec<bool>> {
    // Filters that were found while running stand in the predicate as they are now.
    let predicate = snapshot_physical_expr(Arc::clone(predicate?)).ok()?;
    let pruning = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).try_build(predicate).ok()?;
    if pruning.always_true() || statistics.num_containers() == 0 {
        return None;
    }
    pruning.prune(statistics).ok()
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
