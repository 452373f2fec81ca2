//! The model.
//!
//! On the CPU the threads share the rows, and memory gives what it gives:
//!
//! ```text
//! T_cpu = stage + max(steps / threads, bytes read / bandwidth) + merge
//! ```
//!
//! On a device the host's workers fill one chunk while the device is at the one before:
//!
//! ```text
//! feed   = max((host + serial) / threads, serial, bytes read / bandwidth)
//! device = chunks x (submit + dispatches x t_d) + bytes not resident / upload + bytes resident / copy
//!          + max(bytes / device's memory, steps)
//! T_gpu  = stage + max(feed, device) + min(feed, device) / chunks + runs x (map + submit + back / readback) + after + compile
//! ```
//!
//! Where the device only selects rows, block by block, each worker waits for the device's answer to its block and goes on with
//! the rows that are left:
//!
//! ```text
//! device = blocks x (3 x (submit + dispatches x t_d) + 2 x map) + bytes not resident / upload + ... + back / readback
//! T_gpu  = stage + max((host + device) / threads, device) + after + compile
//! ```
//!
//! A device that is the CPU itself overlaps nothing. Chunks and threads are no whole numbers here, so that no price jumps with a row.

use crate::{Cpu, DeviceWork, Gpu, Kernel, Step, Work};

/// Dispatches a chunk takes: the rows, and what brings partial groups together.
const DISPATCHES: f64 = 2.0;
/// The part of a device's memory that one stage may take.
const MEMORY_SHARE: f64 = 0.8;
/// Bytes of the first chunk.
const FIRST_CHUNK_BYTES: f64 = 1048576.0;
/// Bytes of a slot of a direct table, and of a group of a hash table (slot, key, load factor of a half).
const DIRECT_BYTES: f64 = 4.0;
const HASH_BYTES: f64 = 24.0;

/// Nanoseconds of a stage on the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuPrice {
    /// Whatever the rows.
    pub fixed_ns: f64,
    /// Kernels, all threads at work.
    pub compute_ns: f64,
    /// Reading memory, while the kernels run.
    pub memory_ns: f64,
    /// Bringing the threads' parts together.
    pub merge_ns: f64,
}

impl CpuPrice {
    /// From start to end.
    pub fn total_ns(&self) -> f64 {
        self.fixed_ns + self.compute_ns.max(self.memory_ns) + self.merge_ns
    }

    /// What most of it is for.
    pub fn most(&self) -> (&'static str, f64) {
        let body = if self.memory_ns > self.compute_ns { ("memory", self.memory_ns) } else { ("kernels", self.compute_ns) };
        largest(&[body, ("merge", self.merge_ns), ("start", self.fixed_ns)])
    }
}

/// Nanoseconds of a stage on a device, in all and by what they are for; parts overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DevicePrice {
    /// From start to end.
    pub total_ns: f64,
    /// The host's part: decoding, strings, codes of groups, packing.
    pub host_ns: f64,
    /// Bytes to the device.
    pub upload_ns: f64,
    /// Kernels.
    pub kernel_ns: f64,
    /// Submitting, mapping, starting.
    pub latency_ns: f64,
    /// Bytes back.
    pub readback_ns: f64,
    /// Compiling.
    pub compile_ns: f64,
}

impl DevicePrice {
    /// What most of it is for.
    pub fn most(&self) -> (&'static str, f64) {
        largest(&[
            ("host", self.host_ns),
            ("upload", self.upload_ns),
            ("kernels", self.kernel_ns),
            ("latency", self.latency_ns),
            ("readback", self.readback_ns),
            ("compile", self.compile_ns),
        ])
    }
}

fn largest(parts: &[(&'static str, f64)]) -> (&'static str, f64) {
    parts.iter().copied().fold(("", 0.0), |a, b| if b.1 > a.1 { b } else { a })
}

fn on_cpu(steps: &[Step], cpu: &Cpu) -> f64 {
    steps.iter().map(|s| s.rows * cpu.stage_row_ns(s.kernel, s.table_bytes)).sum()
}

/// Nanoseconds to read bytes from memory with so many threads.
fn memory_ns(bytes: f64, cpu: &Cpu, threads: f64) -> f64 {
    bytes / (cpu.read_bytes_per_s_one * threads).min(cpu.read_bytes_per_s.max(cpu.read_bytes_per_s_one)) * 1e9
}

/// The stage on so many threads of the CPU.
pub fn cpu(work: &Work, cpu: &Cpu, threads: u32) -> CpuPrice {
    let threads = f64::from(threads.max(1));
    CpuPrice {
        fixed_ns: cpu.stage_ns + (threads - 1.0) * cpu.thread_ns,
        compute_ns: on_cpu(&work.steps, cpu) / threads,
        memory_ns: memory_ns(work.read_bytes, cpu, threads),
        // Threads merge in parallel, and none has met more groups than rows.
        merge_ns: if threads > 1.0 { on_cpu(&work.merge, cpu) * (work.sunk_rows / threads / work.groups.max(1.0)).min(1.0) } else { 0.0 },
    }
}

/// The stage on a device whose host has so many threads; none where no device runs it, or this one's memory is too small.
pub fn device(work: &Work, host: &Cpu, gpu: &Gpu, threads: u32) -> Option<DevicePrice> {
    let d = work.device.as_ref()?;
    if d.held_bytes > gpu.memory_bytes * MEMORY_SHARE {
        return None;
    }
    let threads = f64::from(threads.max(1));
    let (chunks, runs) = (chunks(d), runs(d));
    let serial_ns = on_cpu(&d.serial, host);
    // What is on the device is not read on the host.
    let read_bytes = work.read_bytes * (1.0 - d.resident_bytes / d.column_bytes.max(1.0)).clamp(0.0, 1.0);
    let feed_ns = ((on_cpu(&d.host, host) + serial_ns) / threads).max(serial_ns).max(memory_ns(read_bytes, host, threads));
    // What is there is copied into its place.
    let copied_ns = d.resident_bytes / gpu.copy_rate() * 1e9;
    let upload_ns = (d.column_bytes - d.resident_bytes).max(0.0) / gpu.upload_bytes_per_s * 1e9 + copied_ns;
    let compute: f64 = d.steps.iter().map(|s| s.rows * gpu.ns(s.kernel, s.table_bytes)).sum();
    let kernel_ns = compute.max(d.column_bytes / gpu.read_bytes_per_s * 1e9);
    let after_ns = on_cpu(&d.after, host) / threads;
    let mut price = DevicePrice {
        total_ns: 0.0,
        host_ns: feed_ns + after_ns,
        upload_ns,
        kernel_ns,
        latency_ns: host.stage_ns
            + (threads - 1.0) * host.thread_ns
            + chunks * (gpu.submit_ns + DISPATCHES * gpu.dispatch_ns)
            + runs * (gpu.map_ns + gpu.submit_ns),
        readback_ns: runs * d.back_bytes / gpu.readback_bytes_per_s * 1e9,
        compile_ns: if d.is_new { gpu.compile_ns } else { 0.0 },
    };
    let device_ns = upload_ns + kernel_ns;
    if d.blocks > 0.0 {
        // Rows to the device, through the kernel, and back in two steps: how many, and which.
        let waits_ns = d.blocks * (3.0 * (gpu.submit_ns + gpu.dispatch_ns) + 2.0 * gpu.map_ns);
        let (start_ns, device_ns) = (host.stage_ns + (threads - 1.0) * host.thread_ns, device_ns + waits_ns + price.readback_ns);
        let both_ns = if gpu.is_software { feed_ns + device_ns } else { device_ns.max(feed_ns + device_ns / threads) };
        price.latency_ns = start_ns + waits_ns;
        price.total_ns = start_ns + both_ns + after_ns + price.compile_ns;
        return Some(price);
    }
    let both_ns = if gpu.is_software { feed_ns + device_ns } else { feed_ns.max(device_ns) + feed_ns.min(device_ns) / chunks };
    price.total_ns = both_ns + after_ns + price.latency_ns + price.readback_ns + price.compile_ns;
    Some(price)
}

/// Chunks that double up to the largest, and then stay.
fn chunks(d: &DeviceWork) -> f64 {
    let (bytes, most) = (d.column_bytes, d.chunk_bytes.max(FIRST_CHUNK_BYTES));
    // The bytes that chunks 1, 2, 4 ... of the first's size take until one is as large as it may be.
    let doubling = most - FIRST_CHUNK_BYTES;
    let doublings = (bytes.min(doubling) / FIRST_CHUNK_BYTES + 1.0).log2();
    1.0 + doublings + (bytes - doubling).max(0.0) / most
}

fn runs(d: &DeviceWork) -> f64 {
    if d.run_bytes > 0.0 { (d.column_bytes / d.run_bytes).max(1.0) } else { 1.0 }
}

/// The number of threads, at most `threads`, with which the work is done soonest.
pub fn cheapest_threads(work: &Work, on: &Cpu, threads: u32) -> u32 {
    let time = |n: &u32| cpu(work, on, *n).total_ns();
    (1..=threads.max(1)).min_by(|a, b| time(a).total_cmp(&time(b))).unwrap_or(1)
}

/// The cheaper table for `groups` keys of a range of `codes` possible ones: its kernel and its bytes.
pub fn group_table(on: &Cpu, groups: f64, codes: Option<f64>) -> (Kernel, f64) {
    let hash = (Kernel::GroupHash, groups * HASH_BYTES);
    let direct = codes.map(|codes| (Kernel::GroupDirect, codes * DIRECT_BYTES));
    direct.filter(|d| on.ns(d.0, d.1) <= on.ns(hash.0, hash.1)).unwrap_or(hash)
}
