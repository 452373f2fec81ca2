//! The device of every stage: the only place that chooses one.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use millstream_stage::{Device, Placement, StageExec};
use std::sync::Arc;

/// Which devices may be chosen.
///
/// ```
/// assert_eq!(millstream_plan::Preference::default(), millstream_plan::Preference::Auto);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// The cheaper one. Without a measured profile of a GPU that is the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU wherever it can run the stage.
    Gpu,
    /// The oracle, for tests.
    Reference,
}

/// Places stages.
#[derive(Debug)]
pub struct Place {
    prefer: Preference,
}

impl Place {
    /// Places by `prefer`.
    pub fn new(prefer: Preference) -> Self {
        Self { prefer }
    }

    fn placement(&self, stage: &StageExec) -> Placement {
        match self.prefer {
            Preference::Auto => Placement::cpu("auto: no measured profile of a GPU"),
            Preference::Cpu => Placement::cpu("asked for"),
            Preference::Reference => Placement { device: Device::Reference, reason: "asked for".into() },
            Preference::Gpu => match millstream_stage::run::gpu::covers(stage) {
                Ok(how) => Placement { device: Device::Gpu, reason: format!("asked for; {how}") },
                Err(why) => Placement::cpu(format!("gpu asked for, but {why}")),
            },
        }
    }
}

impl PhysicalOptimizerRule for Place {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let placed = plan.transform_up(|node| {
            let Some(stage) = node.downcast_ref::<StageExec>() else { return Ok(Transformed::no(node)) };
            let placed = stage.clone().with_placement(self.placement(stage));
            Ok(Transformed::yes(Arc::new(placed) as Arc<dyn ExecutionPlan>))
        })?;
        Ok(placed.data)
    }

    fn name(&self) -> &str {
        "MillstreamPlace"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
