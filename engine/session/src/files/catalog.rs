//! Paths where SQL has the name of a table, and CREATE EXTERNAL TABLE.

use super::kind::Kind;
use super::location::Location;
use super::{ReadOptions, invalid, listing, unsupported};
use arrow::datatypes::{DataType, Schema};
use async_trait::async_trait;
use datafusion::catalog::{DynamicFileSchemaProvider, Session, TableProvider, TableProviderFactory, UrlTableFactory};
use datafusion::datasource::listing_table_factory::ListingTableFactory;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::CreateExternalTable;
use datafusion::prelude::SessionContext;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Makes a table of a path: `select * from 'sales/*.csv'`.
pub(crate) struct Paths {
    /// None once the session is gone, which holds this.
    state: Box<dyn Fn() -> Option<SessionState> + Send + Sync>,
}

impl Paths {
    /// Lets names in the default schema be paths too.
    pub(crate) fn install(ctx: &SessionContext) -> Result<()> {
        let weak = ctx.state_weak_ref();
        let paths = Arc::new(Self { state: Box::new(move || weak.upgrade().map(|state| state.read().clone())) });
        let names = ctx.state().config_options().catalog.clone();
        if let Some(catalog) = ctx.catalog(&names.default_catalog)
            && let Some(schema) = catalog.schema(&names.default_schema)
        {
            catalog.register_schema(&names.default_schema, Arc::new(DynamicFileSchemaProvider::new(schema, paths)))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paths").finish_non_exhaustive()
    }
}

#[async_trait]
impl UrlTableFactory for Paths {
    async fn try_new(&self, url: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        // What looks like no path is a table that is not there, and an error of its own.
        let is_path = url.contains(['/', '\\', '*']) || super::kind::Ending::of(url).is_some();
        let Some(state) = (self.state)().filter(|_| is_path) else { return Ok(None) };
        listing::table(&state, url, &ReadOptions::default()).await.map(Some)
    }
}

/// What makes external tables, by what STORED AS says.
pub(crate) fn external_tables() -> HashMap<String, Arc<dyn TableProviderFactory>> {
    Kind::names().map(|(name, _)| (name.to_uppercase(), Arc::new(External(name)) as Arc<dyn TableProviderFactory>)).collect()
}

/// With the name of the kind of its files.
#[derive(Debug)]
struct External(&'static str);

#[async_trait]
impl TableProviderFactory for External {
    async fn create(&self, state: &dyn Session, cmd: &CreateExternalTable) -> Result<Arc<dyn TableProvider>> {
        let Some(state) = state.as_any().downcast_ref::<SessionState>() else {
            return ListingTableFactory::new().create(state, cmd).await;
        };
        if cmd.unbounded {
            return Err(unsupported(format!("table {}: unbounded external tables are not read yet", cmd.name)));
        }
        let [path] = cmd.locations.as_slice() else {
            return Err(unsupported(format!("table {}: one location, please: a pattern names many files", cmd.name)));
        };
        let options = self.options(cmd)?;
        let location = Location::parse(path)?;
        let found = location.look(state, options.schema.is_some()).await?;
        if !found.restricted.is_empty() {
            return Err(unsupported(format!("{path}: create the table over all folders, and a view over it that filters")));
        }
        let (table, columns) = listing::listing(state, &location, found, &options, cmd.order_exprs.clone()).await?;
        let names: Vec<&String> = columns.iter().map(|(name, _)| name).collect();
        let declared: Vec<&String> = cmd.table_partition_cols.iter().collect();
        if !declared.is_empty() && declared != names {
            return Err(invalid(format!("{path}: partitioned by {names:?}, not by {declared:?}")));
        }
        let table = table
            .with_definition(cmd.definition.clone())
            .with_constraints(cmd.constraints.clone())
            .with_column_defaults(cmd.column_defaults.clone());
        Ok(Arc::new(table))
    }
}

impl External {
    fn options(&self, cmd: &CreateExternalTable) -> Result<ReadOptions> {
        let schema = cmd.schema.inner();
        let is_folder = |name: &str| cmd.table_partition_cols.iter().any(|c| c == name);
        let declared = !schema.fields().is_empty();
        let mut partition_by = None;
        if declared {
            let mut columns: Vec<(String, DataType)> = vec![];
            for name in &cmd.table_partition_cols {
                let field = schema.field_with_name(name);
                let field = field
                    .map_err(|_| invalid(format!("table {}: partition column {name} has no type: declare it with the others", cmd.name)))?;
                columns.push((name.clone(), field.data_type().clone()));
            }
            partition_by = Some(columns);
        }
        let fields: Vec<_> = schema.fields().iter().filter(|f| !is_folder(f.name())).cloned().collect();
        Ok(ReadOptions {
            format: Some(self.0.to_string()),
            options: cmd.options.iter().map(|(name, value)| (option(name), value.clone())).collect(),
            schema: declared.then(|| Arc::new(Schema::new(fields))),
            partition_by,
        })
    }
}

fn option(name: &str) -> String {
    if name == super::copy::WITHIN { "format.compression".into() } else { name.into() }
}
