//! What is measured of a stage's run: shown by EXPLAIN ANALYZE.

use crate::program::Device;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, Time};
use millstream_kernels::ErrorKind;
use millstream_kernels::gpu::Timings;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What is measured of a stage's run.
#[derive(Clone, Debug)]
pub struct StageMetrics {
    /// Rows that entered.
    pub input_rows: Count,
    /// Rows that left.
    pub output_rows: Count,
    /// Time on the pool, all threads.
    pub compute: Time,
    /// Time waiting for bytes.
    pub fetch: Time,
    /// From start to end, builds included.
    pub elapsed: Time,
    /// Morsels of tables in memory that zone maps ruled out.
    pub morsels_pruned: Count,
    /// Times that rows of a stage placed on the GPU ran on the CPU after all.
    pub fallbacks: Fallbacks,
    /// What the GPU did, of a stage placed there.
    pub gpu: Option<GpuMetrics>,
}

/// Why rows of a stage that is placed on the GPU run on the CPU after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Values that may leave 64 bits, strings without a dictionary, floats too far apart: these rows alone.
    Values,
    /// The device's memory, or the limit of it, is used up.
    DeviceMemory,
    /// The host has no memory to keep rows for the device.
    HostMemory,
    /// There is no device, it was lost, or its driver failed.
    Device,
    /// A join table is partly on disk.
    Spilled,
    /// What the device should have been able to do: worth a report.
    Bug,
}

impl Fallback {
    /// All of them, with the names of their metrics.
    pub const ALL: [(Self, &str); 6] = [
        (Self::Values, "gpu_fallbacks_values"),
        (Self::DeviceMemory, "gpu_fallbacks_device_memory"),
        (Self::HostMemory, "gpu_fallbacks_host_memory"),
        (Self::Device, "gpu_fallbacks_device"),
        (Self::Spilled, "gpu_fallbacks_spilled"),
        (Self::Bug, "gpu_fallbacks_bug"),
    ];

    /// What an error of the device says.
    pub fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Unsupported => Self::Values,
            ErrorKind::Exhausted => Self::DeviceMemory,
            ErrorKind::Closed => Self::Device,
            _ => Self::Bug,
        }
    }

    /// What an error of a stage says that did not begin on the device.
    pub(super) fn of_stage(kind: crate::ErrorKind) -> Self {
        match kind {
            crate::ErrorKind::Unsupported => Self::Values,
            crate::ErrorKind::Exhausted => Self::DeviceMemory,
            crate::ErrorKind::Closed => Self::Device,
            _ => Self::Bug,
        }
    }
}

/// How often, and why.
#[derive(Clone, Debug)]
pub struct Fallbacks {
    all: Count,
    set: ExecutionPlanMetricsSet,
    /// A reason is a metric once there is one.
    by_reason: Arc<[OnceLock<Count>; Fallback::ALL.len()]>,
}

impl Fallbacks {
    fn new(set: &ExecutionPlanMetricsSet) -> Self {
        Self { all: MetricBuilder::new(set).counter("gpu_fallbacks", 0), set: set.clone(), by_reason: Arc::default() }
    }

    /// One more.
    pub fn add(&self, why: Fallback) {
        self.all.add(1);
        for ((reason, name), count) in Fallback::ALL.iter().zip(self.by_reason.iter()) {
            if *reason == why {
                count.get_or_init(|| MetricBuilder::new(&self.set).counter(*name, 0)).add(1);
            }
        }
    }
}

/// What is measured on the GPU. Times are of the device's thread; they overlap the pool's.
#[derive(Clone, Debug)]
pub struct GpuMetrics {
    /// Copying rows and join tables to the device.
    pub upload: Time,
    /// Compiling kernels not seen before.
    pub compile: Time,
    /// From submission to completion of the kernels.
    pub kernel: Time,
    /// The kernels by the device's own clock, where it has one.
    pub device: Time,
    /// Copying groups back.
    pub readback: Time,
    /// Bytes to the device.
    pub upload_bytes: Count,
    /// Bytes of columns that had stayed there.
    pub kept_bytes: Count,
    /// Bytes back.
    pub readback_bytes: Count,
    /// Chunks of rows that kernels ran over.
    pub chunks: Count,
    /// Rows of the stage's input that did not need the CPU instead.
    pub rows: Count,
}

impl GpuMetrics {
    fn new(set: &ExecutionPlanMetricsSet) -> Self {
        let time = |name: &'static str| MetricBuilder::new(set).subset_time(name, 0);
        let count = |name: &'static str| MetricBuilder::new(set).counter(name, 0);
        Self {
            upload: time("gpu_upload_time"),
            compile: time("gpu_compile_time"),
            kernel: time("gpu_kernel_time"),
            device: time("gpu_device_time"),
            readback: time("gpu_readback_time"),
            upload_bytes: count("gpu_upload_bytes"),
            kept_bytes: count("gpu_kept_bytes"),
            readback_bytes: count("gpu_readback_bytes"),
            chunks: count("gpu_chunks"),
            rows: count("gpu_rows"),
        }
    }

    /// Adds a run that has ended.
    pub(super) fn add(&self, t: &Timings) {
        self.upload.add_duration(Duration::from_nanos(t.upload_ns));
        self.compile.add_duration(Duration::from_nanos(t.compile_ns));
        self.kernel.add_duration(Duration::from_nanos(t.kernel_ns));
        self.device.add_duration(Duration::from_nanos(t.device_ns));
        self.readback.add_duration(Duration::from_nanos(t.readback_ns));
        self.upload_bytes.add(t.upload_bytes as usize);
        self.kept_bytes.add(t.kept_bytes as usize);
        self.readback_bytes.add(t.readback_bytes as usize);
        self.chunks.add(t.chunks as usize);
    }
}

impl StageMetrics {
    /// Registered with the metrics of a plan node on `device`.
    pub fn new(set: &ExecutionPlanMetricsSet, device: Device) -> Self {
        Self {
            input_rows: MetricBuilder::new(set).counter("input_rows", 0),
            output_rows: MetricBuilder::new(set).output_rows(0),
            compute: MetricBuilder::new(set).elapsed_compute(0),
            fetch: MetricBuilder::new(set).subset_time("fetch_time", 0),
            elapsed: MetricBuilder::new(set).subset_time("stage_time", 0),
            morsels_pruned: MetricBuilder::new(set).counter("morsels_pruned", 0),
            fallbacks: Fallbacks::new(set),
            gpu: (device == Device::Gpu).then(|| GpuMetrics::new(set)),
        }
    }
}

/// Counts the rows of a table under its kind, for EXPLAIN ANALYZE and profiles.
pub(super) fn table_kind(set: &ExecutionPlanMetricsSet, kind: &'static str, rows: usize) {
    MetricBuilder::new(set).with_new_label("kind", kind).counter("table_rows", 0).add(rows);
}
