//! The measured facts of a machine.

use crate::{Curve, Kernel};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the profile's format and of what its kernels stand for: profiles of another one are measured anew.
pub const VERSION: u32 = 1;

/// A profile that cannot be used. Whoever wrote the file has to change it, or measure again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("profile: {0}")]
pub struct Error(String);

/// A machine: what its CPU and its device do in how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// [`VERSION`] of whoever wrote it.
    pub version: u32,
    /// What the machine is called in EXPLAIN.
    pub name: String,
    /// Put together from data sheets, not measured: for tests, and for EXPLAIN as a projection.
    #[serde(default)]
    pub synthetic: bool,
    /// Where the numbers are from.
    pub source: String,
    /// The CPU.
    pub cpu: Cpu,
    /// The device that stages would run on; none where there is none.
    pub gpu: Option<Gpu>,
}

/// A CPU. Rates are bytes a second, times nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// The instruction set that the kernels were measured with.
    pub isa: String,
    /// Threads of the pool.
    pub threads: u32,
    /// Reading memory, one thread.
    pub read_bytes_per_s_one: f64,
    /// Reading memory, all threads.
    pub read_bytes_per_s: f64,
    /// What a stage takes however few rows it has.
    pub stage_ns: f64,
    /// What one more thread adds to that.
    pub thread_ns: f64,
    /// What kernels take within a stage, chunk by chunk, over what they take alone.
    pub in_stage: f64,
    /// Nanoseconds a row, one thread, of all of [`Kernel::CPU`].
    pub kernels: BTreeMap<Kernel, Curve>,
}

/// A device behind wgpu. Rates are bytes a second, times nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// The adapter's name, as its driver says it.
    pub name: String,
    /// Vulkan, Metal or Dx12.
    pub backend: String,
    /// Driver name and version: measured anew when it changes.
    pub driver: String,
    /// A CPU that pretends to be a device: priced, and never chosen by `auto`.
    pub is_software: bool,
    /// Memory that stages may take.
    pub memory_bytes: f64,
    /// Host to device, staging included.
    pub upload_bytes_per_s: f64,
    /// Device to host.
    pub readback_bytes_per_s: f64,
    /// Reading the device's own memory.
    pub read_bytes_per_s: f64,
    /// Copying within it; unless measured half of what it reads.
    #[serde(default)]
    pub copy_bytes_per_s: Option<f64>,
    /// From a submission to the host knowing that it is done, of no work.
    pub submit_ns: f64,
    /// One more dispatch in a submission.
    pub dispatch_ns: f64,
    /// Mapping a buffer for the host.
    pub map_ns: f64,
    /// Compiling a kernel that the device has not seen.
    pub compile_ns: f64,
    /// Nanoseconds a row, all of the device at work, of all of [`Kernel::DEVICE`].
    pub kernels: BTreeMap<Kernel, Curve>,
}

impl Gpu {
    /// Bytes copied a second within the device's memory.
    pub fn copy_rate(&self) -> f64 {
        self.copy_bytes_per_s.unwrap_or(self.read_bytes_per_s / 2.0)
    }
}

impl Profile {
    /// Reads a profile and checks it.
    ///
    /// # Errors
    /// What is wrong: no JSON, another version, a kernel missing, a rate that is not positive.
    pub fn parse(json: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let refused = |e: serde_json::Error| Error(e.to_string());
        let Versioned { version } = serde_json::from_str(json).map_err(refused)?;
        if version != VERSION {
            return Err(Error(format!("is of version {version}, not {VERSION}: measure again with devices --calibrate")));
        }
        let profile: Self = serde_json::from_str(json).map_err(refused)?;
        profile.check()?;
        Ok(profile)
    }

    /// As text that [`Profile::parse`] reads.
    ///
    /// # Errors
    /// A number that JSON cannot hold.
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string_pretty(self).map_err(|e| Error(e.to_string()))
    }

    /// Whether every number can be calculated with.
    ///
    /// # Errors
    /// The first that cannot, by name.
    pub fn check(&self) -> Result<(), Error> {
        let cpu = &self.cpu;
        positive(&[("read_bytes_per_s_one", cpu.read_bytes_per_s_one), ("read_bytes_per_s", cpu.read_bytes_per_s)])?;
        positive(&[("threads", f64::from(cpu.threads)), ("in_stage", cpu.in_stage)])?;
        natural(&[("stage_ns", cpu.stage_ns), ("thread_ns", cpu.thread_ns)])?;
        curves(&cpu.kernels, &Kernel::CPU)?;
        let Some(gpu) = &self.gpu else { return Ok(()) };
        positive(&[("memory_bytes", gpu.memory_bytes), ("upload_bytes_per_s", gpu.upload_bytes_per_s)])?;
        positive(&[("readback_bytes_per_s", gpu.readback_bytes_per_s), ("read_bytes_per_s", gpu.read_bytes_per_s)])?;
        positive(&[("copy_bytes_per_s", gpu.copy_rate())])?;
        natural(&[("submit_ns", gpu.submit_ns), ("dispatch_ns", gpu.dispatch_ns)])?;
        natural(&[("map_ns", gpu.map_ns), ("compile_ns", gpu.compile_ns)])?;
        curves(&gpu.kernels, &Kernel::DEVICE)
    }

    /// The device, if `auto` may choose it: there is one, and it is no CPU that pretends.
    pub fn hardware(&self) -> Option<&Gpu> {
        self.gpu.as_ref().filter(|g| !g.is_software)
    }
}

impl Cpu {
    /// Nanoseconds of `kernel` for one row within a stage, with a table of so many bytes.
    pub fn stage_row_ns(&self, kernel: Kernel, table_bytes: f64) -> f64 {
        self.ns(kernel, table_bytes) * if kernel.is_of_stages() { 1.0 } else { self.in_stage }
    }

    /// Nanoseconds of `kernel` for one row, on its own.
    pub fn ns(&self, kernel: Kernel, table_bytes: f64) -> f64 {
        self.kernels.get(&kernel).map_or(0.0, |c| c.at(table_bytes))
    }
}

impl Gpu {
    /// As [`Cpu::ns`].
    pub fn ns(&self, kernel: Kernel, table_bytes: f64) -> f64 {
        self.kernels.get(&kernel).map_or(0.0, |c| c.at(table_bytes))
    }
}

fn positive(all: &[(&str, f64)]) -> Result<(), Error> {
    let bad = all.iter().find(|(_, v)| !(v.is_finite() && *v > 0.0));
    bad.map_or(Ok(()), |(name, v)| Err(Error(format!("{name} is {v}, not above zero"))))
}

fn natural(all: &[(&str, f64)]) -> Result<(), Error> {
    let bad = all.iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0));
    bad.map_or(Ok(()), |(name, v)| Err(Error(format!("{name} is {v}, below zero"))))
}

fn curves(all: &BTreeMap<Kernel, Curve>, wanted: &[Kernel]) -> Result<(), Error> {
    for kernel in wanted {
        match all.get(kernel) {
            None => return Err(Error(format!("kernel {} is missing", kernel.name()))),
            Some(c) if !c.is_sound() => return Err(Error(format!("kernel {}: points out of order, or no numbers", kernel.name()))),
            Some(_) => {}
        }
    }
    Ok(())
}
