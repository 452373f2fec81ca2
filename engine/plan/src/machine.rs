//! The machine that stages are priced for: its profile, and what runs have taught since.

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use millstream_cost::{Gpu, Profile};
use millstream_stage::program::Program;
use millstream_stage::{Device, Sink, StageExec};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Whether the device of a profile is in this machine: asked at most once, and only when a stage is to run there.
pub type IsHere = Box<dyn Fn(&Gpu) -> bool + Send + Sync>;

/// How much of a new measurement a correction takes on.
const WEIGHT: f64 = 0.3;
/// Corrections stay within this factor: what is further off is a wrong estimate of rows, not a slower machine.
const CORRECTION_MAX: f64 = 4.0;
/// Stages that were expected to take less teach nothing: they are mostly noise.
const LEAST_NS: f64 = 200_000.0;

/// A profile in use.
pub struct Machine {
    profile: Arc<Profile>,
    threads: u32,
    recorded: bool,
    residency: Residency,
    is_here: IsHere,
    here: OnceLock<bool>,
    learned: Mutex<Learned>,
}

/// What is on the device before a stage starts, whatever is there now: for tests of the choice, and for projections. Without,
/// it is the columns of tables in memory that have stayed there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Residency {
    /// Columns of tables and files.
    pub columns: bool,
    /// Results of the stages below.
    pub results: bool,
    /// Compiled kernels: of programs that have not run in this session, too.
    pub kernels: bool,
}

#[derive(Default)]
struct Learned {
    /// By sink and device: measured over predicted.
    factors: HashMap<(&'static str, Device), f64>,
    /// Programs that ran on the device: their kernels are compiled.
    compiled: HashSet<u64>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Machine({}{})", self.profile.name, if self.recorded { ", recorded" } else { "" })
    }
}

impl Machine {
    /// This machine with so many threads. `is_here` says whether the profile's device still is the one that stages would run on.
    pub fn here(profile: Arc<Profile>, threads: u32, is_here: IsHere) -> Self {
        let (here, learned) = (OnceLock::new(), Mutex::default());
        Self { profile, threads, recorded: false, residency: Residency::default(), is_here, here, learned }
    }

    /// Another machine: plans say where stages would run there, and they run on the CPU here.
    pub fn recorded(profile: Arc<Profile>) -> Self {
        let threads = profile.cpu.threads;
        Self { recorded: true, ..Self::here(profile, threads, Box::new(|_| false)) }
    }

    /// With other data on the device.
    pub fn with_residency(self, residency: Residency) -> Self {
        Self { residency, ..self }
    }

    /// What was measured.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Threads of the CPU.
    pub fn threads(&self) -> u32 {
        self.threads
    }

    /// Whether it is another machine.
    pub fn is_recorded(&self) -> bool {
        self.recorded
    }

    pub(crate) fn residency(&self) -> Residency {
        self.residency
    }

    /// Whether the profile's device can be used, or would be on the recorded machine.
    pub(crate) fn has_device(&self) -> bool {
        let Some(gpu) = self.profile.hardware() else { return false };
        self.recorded || *self.here.get_or_init(|| (self.is_here)(gpu))
    }

    fn lock(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By what stages that end in this sink took longer than the profile says.
    pub fn correction(&self, sink: &Sink, device: Device) -> f64 {
        self.lock().factors.get(&(sink.name(), device)).copied().unwrap_or(1.0)
    }

    /// Whether the device has compiled this stage's kernels in this session.
    pub(crate) fn is_compiled(&self, stage: &StageExec) -> bool {
        self.residency.kernels || self.lock().compiled.contains(&fingerprint(stage.program(), stage.sink()))
    }

    /// Learns from a plan that has run: the average of measured over predicted moves towards what its stages took.
    pub fn learn(&self, plan: &Arc<dyn ExecutionPlan>) {
        if let Some(stage) = plan.downcast_ref::<StageExec>() {
            self.learn_stage(stage);
        }
        plan.children().into_iter().for_each(|c| self.learn(c));
    }

    fn learn_stage(&self, stage: &StageExec) {
        let (device, metrics) = (stage.placement().device, stage.metrics().unwrap_or_default());
        let expected = stage.placement().prices.as_ref().and_then(|p| p.of(device)).filter(|_| !self.recorded);
        let Some(measured) = measured_ns(&metrics, self.threads) else { return };
        if device == Device::Gpu {
            self.lock().compiled.insert(fingerprint(stage.program(), stage.sink()));
        }
        if let Some(expected) = expected.map(|ns| ns as f64).filter(|ns| *ns >= LEAST_NS) {
            self.teach(stage.sink().name(), device, measured / expected);
        }
    }

    /// Moves a correction towards `ratio`, measured over what was expected by the correction of then.
    pub(crate) fn teach(&self, sink: &'static str, device: Device, ratio: f64) {
        if ratio.is_finite() && ratio > 0.0 {
            let mut learned = self.lock();
            let factor = learned.factors.entry((sink, device)).or_insert(1.0);
            *factor = (*factor * ratio.powf(WEIGHT)).clamp(1.0 / CORRECTION_MAX, CORRECTION_MAX);
        }
    }
}

/// What a stage itself took of the wall clock: its time on the pool and waiting for bytes, shared by the threads. None of
/// a stage that did not run, spilled, or fell back to the CPU.
pub fn measured_ns(metrics: &MetricsSet, threads: u32) -> Option<f64> {
    let sum = |name: &str| metrics.sum_by_name(name).map_or(0, |v| v.as_usize());
    let odd = sum("gpu_fallbacks") > 0 || metrics.spill_count().unwrap_or(0) > 0;
    let ns = metrics.elapsed_compute().unwrap_or(0) + sum("fetch_time");
    (ns > 0 && !odd).then(|| ns as f64 / f64::from(threads.max(1)))
}

/// The same for the same program, whatever it reads.
fn fingerprint(program: &Program, sink: &Sink) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{:?} {:?} {sink:?}", program.instrs, program.constants).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink() -> Sink {
        Sink::Collect { columns: vec![] }
    }

    #[test]
    fn a_correction_follows_what_is_measured_within_bounds() {
        let profile = Arc::new(Profile::parse(include_str!("../../cost/profiles/m4.json")).unwrap());
        let machine = Machine::here(profile, 2, Box::new(|_| false));
        assert_eq!(machine.correction(&sink(), Device::Cpu), 1.0);
        // The machine takes 1.6 times what the profile says: the ratio to what was expected, correction included, goes to 1.
        for _ in 0..30 {
            let expected = machine.correction(&sink(), Device::Cpu);
            machine.teach("collect", Device::Cpu, 1.6 / expected);
        }
        assert!((machine.correction(&sink(), Device::Cpu) - 1.6).abs() < 0.01);
        assert_eq!(machine.correction(&sink(), Device::Gpu), 1.0, "of another device");
        for ratio in [1e9, f64::INFINITY, f64::NAN, 0.0, -1.0] {
            machine.teach("collect", Device::Cpu, ratio);
        }
        assert_eq!(machine.correction(&sink(), Device::Cpu), CORRECTION_MAX);
        for _ in 0..9 {
            machine.teach("collect", Device::Cpu, 1e-9);
        }
        assert_eq!(machine.correction(&sink(), Device::Cpu), 1.0 / CORRECTION_MAX);
    }
}
