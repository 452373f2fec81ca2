//! Planner rules: stages out of DataFusion's physical plan, and the device of each.
//!
//! One rule a file. [`install`] puts them where they belong: after the last rule that pushes filters
//! down and before the sanity check.

mod carve;
mod open;
mod place;

pub use carve::Carve;
pub use place::{Place, Preference};

use datafusion::physical_optimizer::PhysicalOptimizerRule;
use std::sync::Arc;

/// What the rules are told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// Integer overflow in stages is an error; else it wraps, as in a host's DataFusion.
    pub checked: bool,
    /// Which devices may be chosen.
    pub prefer: Preference,
}

/// DataFusion's rules with ours in their place.
pub fn install(
    mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
    ours: Rules,
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let check = rules.iter().position(|r| r.name() == "SanityCheckPlan").unwrap_or(rules.len());
    rules.insert(check, Arc::new(Place::new(ours.prefer)));
    rules.insert(check, Arc::new(Carve::new(ours.checked)));
    rules
}
