//! Stages in somebody else's DataFusion.

use crate::files::NameFiles;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use millstream_plan::{Rules, install, install_checked};
use std::sync::Arc;

/// Adds Millstream's stages to a DataFusion session. Semantics stay the host's: integer overflow wraps.
///
/// ```
/// use datafusion::execution::SessionStateBuilder;
/// use datafusion::prelude::SessionContext;
///
/// let builder = SessionStateBuilder::new().with_default_features();
/// let ctx = SessionContext::new_with_state(millstream::accelerate(builder).build());
/// # let _ = ctx;
/// ```
pub fn accelerate(builder: SessionStateBuilder) -> SessionStateBuilder {
    with_stages(builder, Rules::default())
}

/// Adds stages by `rules`. Rules that the host appends to its own list stay behind them.
pub(crate) fn with_stages(mut builder: SessionStateBuilder, rules: Rules) -> SessionStateBuilder {
    let theirs = physical_rules(&mut builder);
    builder.with_physical_optimizer_rules(install(theirs, rules))
}

/// Makes integer and decimal overflow an error in stock operators too.
pub(crate) fn with_checked(mut builder: SessionStateBuilder) -> SessionStateBuilder {
    let mut logical = builder.optimizer().take().unwrap_or_default().rules;
    let mut physical = physical_rules(&mut builder);
    install_checked(&mut logical, &mut physical);
    builder.with_optimizer_rules(logical).with_physical_optimizer_rules(physical)
}

/// Makes readers name their files: the last rule, behind all that look for a reader.
pub(crate) fn with_named_files(mut builder: SessionStateBuilder) -> SessionStateBuilder {
    let mut rules = physical_rules(&mut builder);
    rules.push(Arc::new(NameFiles));
    builder.with_physical_optimizer_rules(rules)
}

fn physical_rules(builder: &mut SessionStateBuilder) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    builder.physical_optimizers().take().unwrap_or_default().rules
}
