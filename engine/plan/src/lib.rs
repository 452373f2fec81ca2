//! Planner rules: stages out of DataFusion's physical plan, and the device of each.
//!
//! One rule a file. [`install`] puts them where they belong: the order of joins where DataFusion has chosen
//! their sides, stages after the last rule that pushes filters down and before the sanity check.

mod aggregates;
mod carve;
mod checked;
mod estimate;
mod explain;
mod join_order;
mod machine;
mod open;
mod place;
mod share;
mod top;
mod work;

pub use carve::Carve;
pub use checked::{Checked, CheckedConstants, CheckedSum, checked_sum};
pub use explain::why_stock;
pub use join_order::JoinOrder;
pub use machine::{IsHere, Machine, Residency, measured_ns};
pub use place::{Place, Preference};
pub use share::Share;

use datafusion::optimizer::OptimizerRule;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use std::sync::Arc;

/// What the rules are told.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Integer overflow in stages is an error; else it wraps, as in a host's DataFusion.
    pub checked: bool,
    /// Memory is limited: sorts, which a stage does not spill, stay DataFusion's.
    pub limited: bool,
    /// Which devices may be chosen.
    pub prefer: Preference,
    /// The machine whose profile stages are priced by; none: `auto` is the CPU.
    pub machine: Option<Arc<Machine>>,
}

/// DataFusion's logical and physical rules with those in front that make arithmetic raise on overflow.
pub fn install_checked(
    logical: &mut Vec<Arc<dyn OptimizerRule + Send + Sync>>,
    physical: &mut Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
) {
    logical.insert(0, Arc::new(CheckedConstants));
    physical.insert(0, Arc::new(Checked));
}

/// DataFusion's rules with ours in their place.
pub fn install(
    mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
    ours: Rules,
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let check = rules.iter().position(|r| r.name() == "SanityCheckPlan").unwrap_or(rules.len());
    rules.insert(check, Arc::new(Share));
    rules.insert(check, Arc::new(Place::new(ours.prefer, ours.machine.clone())));
    rules.insert(check, Arc::new(Carve::new(ours)));
    if let Some(sides) = rules.iter().position(|r| r.name() == "join_selection") {
        rules.insert(sides + 1, Arc::new(JoinOrder));
    }
    rules
}
