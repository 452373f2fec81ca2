//! What a session knows by name, for completion.

use millstream::Session;

/// The words that completion offers.
#[derive(Debug, Default)]
pub struct Names {
    pub tables: Vec<TableNames>,
    pub functions: Vec<String>,
}

/// A table or view and its columns.
#[derive(Debug)]
pub struct TableNames {
    /// None for the default schema.
    pub schema: Option<String>,
    pub table: String,
    pub columns: Vec<String>,
}

impl Names {
    /// The names of the default catalog. Schemas of tables are at hand: no file is read.
    pub async fn of(session: &Session) -> Self {
        let state = session.context().state();
        let options = &state.config_options().catalog;
        let mut tables = vec![];
        let catalog = session.context().catalog(&options.default_catalog);
        let schemas = catalog.iter().flat_map(|c| c.schema_names().into_iter().filter_map(|name| Some((c.schema(&name)?, name))));
        for (schema, schema_name) in schemas {
            for table in schema.table_names() {
                let Ok(Some(provider)) = schema.table(&table).await else { continue };
                let columns = provider.schema().fields().iter().map(|f| f.name().clone()).collect();
                let schema = Some(schema_name.clone()).filter(|s| *s != options.default_schema);
                tables.push(TableNames { schema, table, columns });
            }
        }
        tables.sort_by(|a, b| (&a.schema, &a.table).cmp(&(&b.schema, &b.table)));
        let mut functions: Vec<String> = state.scalar_functions().keys().cloned().collect();
        functions.extend(state.aggregate_functions().keys().cloned());
        functions.extend(state.window_functions().keys().cloned());
        functions.extend(state.table_functions().keys().cloned());
        functions.retain(|f| f.starts_with(|c: char| c.is_ascii_alphabetic()));
        functions.sort();
        functions.dedup();
        Self { tables, functions }
    }
}
