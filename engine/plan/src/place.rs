//! The device of every stage: the only place that chooses one.
//!
//! Each stage is priced on the CPU and on the device of the machine's profile (`work.rs`, `millstream_cost`); the whole tree of
//! stages is placed at once ([`tree`]). Without a profile nothing is priced and nothing is asked of a driver.

mod tree;

use crate::machine::Machine;
use crate::work::work;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use millstream_cost::{CpuPrice, DevicePrice, Gpu, Work};
use millstream_stage::run::gpu::covers;
use millstream_stage::{Device, Placement, Prices, StageExec};
use std::sync::Arc;
use tree::{Choice, Node, choose};

#[cfg(test)]
mod tests;

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
    machine: Option<Arc<Machine>>,
}

type Plan = Arc<dyn ExecutionPlan>;

impl Place {
    /// Places by `prefer`; `auto` by the prices on `machine`.
    pub fn new(prefer: Preference, machine: Option<Arc<Machine>>) -> Self {
        Self { prefer, machine }
    }

    /// The placement that was asked for; none where prices decide.
    fn asked(&self, stage: &StageExec) -> Option<Placement> {
        match self.prefer {
            Preference::Auto => None,
            Preference::Cpu => Some(Placement::cpu("asked for")),
            Preference::Reference => Some(Placement::new(Device::Reference, "asked for")),
            Preference::Gpu => Some(match covers(stage) {
                Ok(how) => Placement::new(Device::Gpu, format!("asked for; {how}")),
                Err(why) => Placement::cpu(format!("gpu asked for, but {why}")),
            }),
        }
    }
}

impl PhysicalOptimizerRule for Place {
    fn optimize(&self, plan: Plan, _: &ConfigOptions) -> Result<Plan> {
        let priced = self.machine.as_deref().map(|m| Priced::new(&plan, m));
        // Children first, as the stages were collected.
        let mut at = 0;
        let placed = plan.transform_up(|node| {
            let Some(stage) = node.downcast_ref::<StageExec>() else { return Ok(Transformed::no(node)) };
            let asked = self.asked(stage);
            let placement = match &priced {
                Some(priced) => priced.placement(at, asked),
                None => asked.unwrap_or_else(|| Placement::cpu("auto: no measured profile of a GPU")),
            };
            at += 1;
            Ok(Transformed::yes(Arc::new(stage.clone().with_placement(placement)) as Plan))
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

/// The stages of a plan with their prices, children first, and where they are best.
struct Priced<'a> {
    machine: &'a Machine,
    stages: Vec<Stage>,
    choice: Choice,
}

/// A stage with its prices.
struct Stage {
    work: Option<Work>,
    cpu: CpuPrice,
    /// Nanoseconds on the CPU, corrected.
    cpu_ns: f64,
    /// The price there and its corrected total, or why there is none.
    gpu: std::result::Result<(DevicePrice, f64), String>,
    /// Stages right below, stock operators aside.
    below: Vec<usize>,
}

impl<'a> Priced<'a> {
    fn new(plan: &Plan, machine: &'a Machine) -> Self {
        let mut stages = vec![];
        collect(plan, machine, &mut stages);
        let nodes: Vec<Node> = stages.iter().map(|s| node(s, &stages, machine)).collect();
        Self { machine, choice: choose(&nodes), stages }
    }

    fn placement(&self, at: usize, asked: Option<Placement>) -> Placement {
        let stage = &self.stages[at];
        let Some(work) = &stage.work else {
            return asked.unwrap_or_else(|| Placement::cpu("auto: nobody knows how many rows come in"));
        };
        let (best, reason) = self.verdict(at);
        let there = self.machine.is_recorded().then_some(best);
        let gpu_ns = stage.gpu.as_ref().ok().map(|(_, ns)| *ns as u64);
        let prices = Prices { cpu_ns: stage.cpu_ns as u64, gpu_ns, rows: work.rows as u64, threads: self.machine.threads(), there };
        let placement = asked.unwrap_or_else(|| match there {
            // What is elsewhere runs nothing here.
            Some(there) => Placement::cpu(format!("auto: here the CPU; on {} {there}: {reason}", self.machine.profile().name)),
            None => Placement::new(best, format!("auto: {reason}")),
        });
        placement.priced(Some(prices))
    }

    /// The device that the model chooses, and why.
    fn verdict(&self, at: usize) -> (Device, String) {
        let stage = &self.stages[at];
        let cpu = format!("cpu {} ({})", ms(stage.cpu_ns), part(stage.cpu.most()));
        let (price, gpu_ns) = match &stage.gpu {
            Ok(gpu) => gpu,
            Err(why) => return (Device::Cpu, format!("{cpu}; {why}")),
        };
        let both = format!("{cpu}, gpu {} ({})", ms(*gpu_ns), part(price.most()));
        if self.machine.profile().hardware().is_none() {
            return (Device::Cpu, format!("{both}; a software adapter is never chosen"));
        }
        if !self.choice.gpu[at] {
            return (Device::Cpu, both);
        }
        if !self.choice.pays() {
            let Choice { cpu_ns, best_ns, .. } = self.choice;
            return (Device::Cpu, format!("{both}; the query would take {} for {}: too little gained", ms(best_ns), ms(cpu_ns)));
        }
        if !self.machine.has_device() {
            return (Device::Cpu, format!("{both}; the GPU of the profile is not here: millstream devices --calibrate"));
        }
        (Device::Gpu, both)
    }
}

/// The stages of a plan, children first, and the ones right below `plan`.
fn collect(plan: &Plan, machine: &Machine, stages: &mut Vec<Stage>) -> Vec<usize> {
    let below: Vec<usize> = plan.children().into_iter().flat_map(|c| collect(c, machine, stages)).collect();
    let Some(stage) = plan.downcast_ref::<StageExec>() else { return below };
    stages.push(price(stage, below, machine));
    vec![stages.len() - 1]
}

fn price(stage: &StageExec, below: Vec<usize>, machine: &Machine) -> Stage {
    let (profile, threads) = (machine.profile(), machine.threads());
    let mut work = work(stage, &profile.cpu, machine.residency());
    if let Some(device) = work.as_mut().and_then(|w| w.device.as_mut()) {
        device.is_new = !machine.is_compiled(stage);
    }
    let cpu = work.as_ref().map_or(CpuPrice::default(), |w| millstream_cost::cpu(w, &profile.cpu, threads));
    let gpu = match (&profile.gpu, &work) {
        (None, _) => Err("no GPU was measured".into()),
        (Some(gpu), Some(work)) => on_device(stage, work, gpu, machine),
        (_, None) => Err("nobody knows how many rows come in".into()),
    };
    let cpu_ns = cpu.total_ns() * machine.correction(stage.sink(), Device::Cpu);
    Stage { work, cpu, cpu_ns, gpu, below }
}

fn on_device(stage: &StageExec, work: &Work, gpu: &Gpu, machine: &Machine) -> std::result::Result<(DevicePrice, f64), String> {
    covers(stage)?;
    if work.device.is_none() {
        return Err("nobody has priced it on a GPU".into());
    }
    let price = millstream_cost::device(work, &machine.profile().cpu, gpu, machine.threads());
    let price = price.ok_or_else(|| format!("its tables do not fit the memory of {}", gpu.name))?;
    Ok((price, price.total_ns * machine.correction(stage.sink(), Device::Gpu)))
}

/// A stage among the others: what stays on the device between two of them need not go home and come again.
fn node(stage: &Stage, stages: &[Stage], machine: &Machine) -> Node {
    let upload = machine.profile().gpu.as_ref().map_or(f64::INFINITY, |g| g.upload_bytes_per_s);
    let saves = |below: &usize| match (&stage.gpu, &stages[*below]) {
        (Ok((above, _)), Stage { gpu: Ok((price, _)), work: Some(work), .. }) if machine.residency().results => {
            price.readback_ns + above.upload_ns.min(work.out_bytes / upload * 1e9)
        }
        _ => 0.0,
    };
    // Nobody knows what a stage without estimate takes: it stays on the CPU and weighs nothing.
    Node {
        cpu_ns: if stage.work.is_some() { stage.cpu_ns } else { 0.0 },
        gpu_ns: stage.gpu.as_ref().ok().map(|(_, ns)| *ns),
        below: stage.below.iter().map(|b| (*b, saves(b))).collect(),
    }
}

fn ms(ns: f64) -> String {
    if ns < 1e5 { format!("{:.2} ms", ns / 1e6) } else { format!("{:.1} ms", ns / 1e6) }
}

fn part((name, ns): (&str, f64)) -> String {
    format!("{name} {}", ms(ns))
}
