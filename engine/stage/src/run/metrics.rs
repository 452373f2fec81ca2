//! What is measured of a stage's run: shown by EXPLAIN ANALYZE.

use crate::program::Device;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, Time};
use millstream_kernels::gpu::Timings;
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
    pub fallbacks: Count,
    /// What the GPU did, of a stage placed there.
    pub gpu: Option<GpuMetrics>,
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
    /// Copying groups back.
    pub readback: Time,
    /// Bytes to the device.
    pub upload_bytes: Count,
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
            readback: time("gpu_readback_time"),
            upload_bytes: count("gpu_upload_bytes"),
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
        self.readback.add_duration(Duration::from_nanos(t.readback_ns));
        self.upload_bytes.add(t.upload_bytes as usize);
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
            fallbacks: MetricBuilder::new(set).counter("gpu_fallbacks", 0),
            gpu: (device == Device::Gpu).then(|| GpuMetrics::new(set)),
        }
    }
}

/// Counts the rows of a table under its kind, for EXPLAIN ANALYZE and profiles.
pub(super) fn table_kind(set: &ExecutionPlanMetricsSet, kind: &'static str, rows: usize) {
    MetricBuilder::new(set).with_new_label("kind", kind).counter("table_rows", 0).add(rows);
}
