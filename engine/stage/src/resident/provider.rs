//! A table in memory in a catalog, in place of the table that it was loaded from.

use super::{ResidentSource, ResidentTable};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Statistics;
use datafusion::datasource::source::{DataSource, DataSourceExec};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;

/// A cached table. It remembers the table it stands for.
#[derive(Debug)]
pub struct ResidentProvider {
    table: Arc<ResidentTable>,
    original: Arc<dyn TableProvider>,
}

impl ResidentProvider {
    /// `table` in place of `original`.
    pub fn new(table: Arc<ResidentTable>, original: Arc<dyn TableProvider>) -> Self {
        Self { table, original }
    }

    /// What is in memory.
    pub fn table(&self) -> &Arc<ResidentTable> {
        &self.table
    }

    /// The table that it was loaded from.
    pub fn original(&self) -> &Arc<dyn TableProvider> {
        &self.original
    }
}

#[async_trait]
impl TableProvider for ResidentProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.table.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = session.config().target_partitions();
        let source: Arc<dyn DataSource> = Arc::new(ResidentSource::new(Arc::clone(&self.table), projection.cloned(), partitions)?);
        let source = limit.and_then(|n| source.with_fetch(Some(n))).unwrap_or(source);
        Ok(Arc::new(DataSourceExec::new(source)))
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(self.table.statistics())
    }
}
