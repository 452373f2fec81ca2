//! Measures this machine for the cost model: seconds, with what it does next told as it goes.
//!
//! ```text
//! kernels   the CPU's kernels, one thread, over registers as a stage has them
//! tables    those with a table, by its size
//! memory    what the memory gives to one thread and to all
//! stages    what only whole stages show: their start, decoding, DataFusion's expressions
//! device    stages forced on the adapter that would be used, by their own metrics
//! check     the profile held against sizes that it was not made from, and against choices forced both ways
//! ```
//!
//! Every number is the best of a few runs: what disturbs a measurement makes it longer.

#![expect(clippy::disallowed_methods, reason = "Instant::now: a measurement")]

mod check;
mod data;
mod device;
mod kernels;
mod memory;
mod stages;
mod tables;

pub use check::{Check, Checked, Regret, check};
pub use memory::memory_read_rate;

use crate::{Error, ErrorKind, MachineProfile, Result};
use millstream_cost::{Cpu, Curve, Kernel, VERSION};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How to measure.
///
/// ```
/// let how = millstream::Calibration { threads: 2, folder: "profiles".into() };
/// assert_eq!(how.threads, 2);
/// ```
#[derive(Clone, Debug)]
pub struct Calibration {
    /// Threads of the CPU.
    pub threads: usize,
    /// A folder for files of a few megabytes, which are gone afterwards. It is made where it is missing.
    pub folder: PathBuf,
}

/// Measures the CPU and the adapter that stages would run on, if there is one. `progress` is told what comes next.
///
/// ```no_run
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let how = millstream::Calibration { threads: 2, folder: "profiles".into() };
/// let profile = millstream::calibrate(&how, &mut |what| eprintln!("{what}")).await?;
/// println!("{}", profile.to_json().unwrap());
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
///
/// # Errors
/// `Exhausted` without memory for some 100 MB, `Invalid` when the folder cannot be written to, `Bug` when a kernel fails.
pub async fn calibrate(how: &Calibration, progress: &mut dyn FnMut(&str)) -> Result<MachineProfile> {
    progress("memory");
    let memory = memory::measure(how.threads);
    progress("kernels");
    let mut measured = kernels::measure()?;
    progress("tables");
    for case in tables::CASES {
        measured.insert(case.kernel, curve(case, case.calibrated)?);
    }
    progress("stages");
    let stages = stages::measure(how, &mut measured).await?;
    // Packing looks for the range of a value, and copies it.
    let ns = |k: Kernel| measured.get(&k).map_or(0.0, |c| c.at(0.0));
    measured.insert(Kernel::Pack, Curve::flat(2.0 * ns(Kernel::Map) + ns(Kernel::Copy)));
    let devices = crate::devices()?;
    let cpu = Cpu {
        isa: devices.isa.into(),
        threads: u32::try_from(how.threads).unwrap_or(u32::MAX),
        read_bytes_per_s_one: memory.one_thread,
        read_bytes_per_s: memory.all_threads,
        stage_ns: stages.stage_ns,
        thread_ns: stages.thread_ns,
        in_stage: 1.0,
        kernels: measured,
    };
    let source = format!("measured by millstream {} devices --calibrate on the machine itself", env!("CARGO_PKG_VERSION"));
    let mut profile = MachineProfile { version: VERSION, name: devices.isa.into(), synthetic: false, source, cpu, gpu: None };
    profile.cpu.in_stage = stages::in_stage(&profile).await?;
    if let Some(adapter) = devices.adapters.first() {
        progress(&format!("{} [{}]", adapter.name, adapter.backend));
        profile.gpu = Some(device::measure(how, adapter).await?);
    }
    let of = profile.gpu.as_ref().map_or_else(|| "no GPU".to_string(), |g| g.name.clone());
    profile.name = format!("{} threads, {}, {of}", how.threads, devices.isa);
    profile.check().map_err(|e| Error::new(ErrorKind::Bug, e))?;
    Ok(profile)
}

/// The points of a kernel whose cost depends on its table, for tables of these sizes.
fn curve(case: &tables::Case, sizes: &[usize]) -> Result<Curve> {
    let mut points = vec![];
    for size in sizes {
        points.push((case.measure)(*size)?);
    }
    // A larger table is never cheaper: what says so is noise.
    let mut least = 0.0;
    for p in &mut points {
        least = f64::max(least, p.1);
        p.1 = least;
    }
    Ok(Curve(points))
}

/// Nanoseconds of `work`, of the best of some runs: at least three, until they have taken 12 ms.
fn best_ns<E>(mut work: impl FnMut() -> std::result::Result<(), E>) -> std::result::Result<f64, E> {
    const RUNS: usize = 3;
    const ENOUGH: Duration = Duration::from_millis(12);
    let (mut best, mut all, mut runs) = (f64::INFINITY, Duration::ZERO, 0);
    while runs < RUNS || all < ENOUGH {
        let started = Instant::now();
        work()?;
        let took = started.elapsed();
        best = best.min(took.as_nanos() as f64);
        all += took;
        runs += 1;
    }
    Ok(best)
}

/// Kernels and what they cost.
type Costs = BTreeMap<Kernel, Curve>;
