//! Stages in somebody else's DataFusion.

use datafusion::execution::SessionStateBuilder;
use datafusion::optimizer::Optimizer;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use millstream_plan::{Rules, install, install_checked};

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

/// Adds stages by `rules`.
pub(crate) fn with_stages(mut builder: SessionStateBuilder, rules: Rules) -> SessionStateBuilder {
    let theirs = builder.physical_optimizer_rules().take().unwrap_or_else(|| PhysicalOptimizer::new().rules);
    builder.with_physical_optimizer_rules(install(theirs, rules))
}

/// Makes integer and decimal overflow an error in stock operators too.
pub(crate) fn with_checked(mut builder: SessionStateBuilder) -> SessionStateBuilder {
    let mut logical = builder.optimizer_rules().take().unwrap_or_else(|| Optimizer::new().rules);
    let mut physical = builder.physical_optimizer_rules().take().unwrap_or_else(|| PhysicalOptimizer::new().rules);
    install_checked(&mut logical, &mut physical);
    builder.with_optimizer_rules(logical).with_physical_optimizer_rules(physical)
}
