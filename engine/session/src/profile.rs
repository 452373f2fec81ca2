//! What a plan's stages and stock operators did, as data and as text.

use datafusion::datasource::physical_plan::{FileScanConfig, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{MetricValue, MetricsSet};
use millstream_kernels::program::Instr;
use millstream_stage::run::Fallback;
use millstream_stage::{Sink, StageExec};
use std::fmt;
use std::sync::Arc;

/// What ran where. Times and counts are zero before a run.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let session = millstream::Session::new()?;
/// let (_, profile) = session.sql("select count(*) from (values (1), (2)) t(a) where a > 1").await?.profile().await?;
/// assert_eq!(profile.stages.len(), 1);
/// assert!(profile.to_string().contains("group"));
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// The stages, from the root of the plan downwards.
    pub stages: Vec<StageReport>,
    /// What no stage covers, in the same order; scans that a stage reads itself are left out.
    pub stock: Vec<StockReport>,
}

/// One stage. Times are milliseconds.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let table = millstream::Session::new()?.sql("select count(*) from (values (1)) t(a) where a > 0").await?;
/// let stage = &table.stages().await?.stages[0];
/// assert_eq!((stage.sink.as_str(), stage.device.as_str()), ("group", "cpu"));
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct StageReport {
    /// Its name in the plan.
    pub id: String,
    /// Where its program ends: group, build, sort or collect.
    pub sink: String,
    /// Where it ran.
    pub device: String,
    /// Why there.
    pub reason: String,
    /// Kinds of the group or join tables that its sink filled.
    pub tables: Vec<String>,
    /// Rows that entered.
    pub input_rows: usize,
    /// Rows that left, or rows of the join table.
    pub output_rows: usize,
    /// Waiting for bytes, all workers added up.
    pub fetch_ms: f64,
    /// On the pool, all threads added up.
    pub compute_ms: f64,
    /// From start to end, builds included.
    pub elapsed_ms: f64,
    /// Times that the sink spilled to disk.
    pub spills: usize,
    /// Runs on the CPU after all of a stage that was placed on a GPU.
    pub fallbacks: usize,
    /// Why, and how often for each reason: `device memory`, for instance.
    pub fallback_reasons: Vec<(String, usize)>,
    /// Whether it filters, joins or groups; otherwise it only computes, sorts, collects or fills a join table.
    pub is_work: bool,
    /// What the stage was expected to take on the CPU; none without a profile, or where nobody knew how many rows there are.
    pub cpu_est_ms: Option<f64>,
    /// What it was expected to take on the GPU; none also where no GPU runs it.
    pub gpu_est_ms: Option<f64>,
    /// Rows that were expected to enter.
    pub est_rows: Option<usize>,
    /// What it took where it ran, shared by the threads: what its estimate is to be held against. None before a run.
    pub own_ms: Option<f64>,
    /// The device that it would be on by the profile of another machine.
    pub there: Option<String>,
    /// What a GPU did of it.
    pub gpu: GpuReport,
}

/// What a GPU did of a stage. Times are milliseconds of the device's thread.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let table = millstream::Session::new()?.sql("select count(*) from (values (1)) t(a) where a > 0").await?;
/// assert_eq!(table.stages().await?.stages[0].gpu.rows, 0);
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct GpuReport {
    /// Rows of the input that did not need the CPU instead.
    pub rows: usize,
    /// Copying columns and join tables to the device.
    pub upload_ms: f64,
    /// Compiling kernels that were not known.
    pub compile_ms: f64,
    /// Kernels, from submission to completion.
    pub kernel_ms: f64,
    /// Kernels by the device's own clock, without the way to it and back; 0 where it has none.
    pub device_ms: f64,
    /// Copying results back.
    pub readback_ms: f64,
    /// Bytes both ways.
    pub bytes: usize,
    /// Of them to the device.
    pub upload_bytes: usize,
    /// Bytes of columns that had stayed there, and were not brought again.
    pub kept_bytes: usize,
    /// Chunks of rows that kernels ran over.
    pub chunks: usize,
}

/// One stock operator.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let table = millstream::Session::new()?.sql("select rank() over (order by a) from (values (1)) t(a)").await?;
/// let stock = table.stages().await?.stock;
/// assert!(stock.iter().any(|s| s.reason == "no window sink"));
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct StockReport {
    /// DataFusion's name of the node.
    pub operator: String,
    /// Why no stage covers it.
    pub reason: String,
    /// Rows that left, where the operator counts them.
    pub output_rows: Option<usize>,
    /// Its own time, all partitions added up, where the operator measures it.
    pub compute_ms: Option<f64>,
}

/// The report of a plan; after its run, with what was measured.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let plan = millstream::Session::new()?.sql("select 1 as a").await?.plan().await?;
/// assert!(millstream::profile_of(&plan).stages.is_empty());
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
pub fn profile_of(plan: &Arc<dyn ExecutionPlan>) -> Profile {
    let mut profile = Profile::default();
    add(plan, false, &mut profile);
    profile
}

fn add(node: &Arc<dyn ExecutionPlan>, below_stage: bool, profile: &mut Profile) {
    let stage = node.downcast_ref::<StageExec>();
    let read_through = below_stage && (["CoalescePartitionsExec", "CooperativeExec"].contains(&node.name()) || is_parquet(node));
    if let Some(stage) = stage {
        profile.stages.push(stage_report(stage));
    } else if let Some(reason) = millstream_plan::why_stock(node.as_ref()).filter(|_| !read_through) {
        let metrics = node.metrics().unwrap_or_default();
        profile.stock.push(StockReport {
            operator: node.name().to_string(),
            reason,
            output_rows: metrics.output_rows(),
            compute_ms: metrics.elapsed_compute().map(milliseconds),
        });
    }
    node.children().into_iter().for_each(|c| add(c, stage.is_some() || read_through, profile));
}

/// Sink and device of a plan node that is a stage; none for stock operators.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let session = millstream::Session::new()?;
/// let plan = session.sql("select a from (values (1)) t(a) group by a").await?.plan().await?;
/// assert_eq!(millstream::stage_of(plan.as_ref()).map(|s| s.0).as_deref(), Some("group"));
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
pub fn stage_of(node: &dyn ExecutionPlan) -> Option<(String, String)> {
    let stage = node.downcast_ref::<StageExec>()?;
    Some((stage.sink().name().to_string(), stage.placement().device.to_string()))
}

/// Parquet files: a stage above reads them itself.
fn is_parquet(node: &Arc<dyn ExecutionPlan>) -> bool {
    let scan = node.downcast_ref::<DataSourceExec>().and_then(|s| s.data_source().downcast_ref::<FileScanConfig>());
    scan.is_some_and(|s| s.file_source().downcast_ref::<ParquetSource>().is_some())
}

fn stage_report(stage: &StageExec) -> StageReport {
    let metrics = stage.metrics().unwrap_or_default();
    let value = |name: &str| metrics.sum_by_name(name).map_or(0, |v| v.as_usize());
    let prices = stage.placement().prices.as_ref();
    StageReport {
        id: stage.id().to_string(),
        sink: stage.sink().name().to_string(),
        device: stage.placement().device.to_string(),
        reason: stage.placement().reason.to_string(),
        tables: tables(&metrics),
        input_rows: value("input_rows"),
        output_rows: metrics.output_rows().unwrap_or(0),
        fetch_ms: milliseconds(value("fetch_time")),
        compute_ms: metrics.elapsed_compute().map_or(0.0, milliseconds),
        elapsed_ms: milliseconds(value("stage_time")),
        spills: metrics.spill_count().unwrap_or(0),
        fallbacks: value("gpu_fallbacks"),
        fallback_reasons: fallback_reasons(&metrics),
        is_work: is_work(stage),
        cpu_est_ms: prices.map(|p| p.cpu_ns as f64 / 1e6),
        gpu_est_ms: prices.and_then(|p| p.gpu_ns).map(|ns| ns as f64 / 1e6),
        est_rows: prices.map(|p| p.rows as usize),
        own_ms: prices.and_then(|p| millstream_plan::measured_ns(&metrics, p.threads)).map(|ns| ns / 1e6),
        there: prices.and_then(|p| p.there).map(|d| d.to_string()),
        gpu: GpuReport {
            rows: value("gpu_rows"),
            upload_ms: milliseconds(value("gpu_upload_time")),
            compile_ms: milliseconds(value("gpu_compile_time")),
            kernel_ms: milliseconds(value("gpu_kernel_time")),
            device_ms: milliseconds(value("gpu_device_time")),
            readback_ms: milliseconds(value("gpu_readback_time")),
            bytes: value("gpu_upload_bytes") + value("gpu_readback_bytes"),
            upload_bytes: value("gpu_upload_bytes"),
            kept_bytes: value("gpu_kept_bytes"),
            chunks: value("gpu_chunks"),
        },
    }
}

fn fallback_reasons(metrics: &MetricsSet) -> Vec<(String, usize)> {
    let count = |name: &str| metrics.sum_by_name(name).map_or(0, |v| v.as_usize());
    let all = Fallback::ALL.iter().map(|(_, name)| (name.trim_start_matches("gpu_fallbacks_").replace('_', " "), count(name)));
    all.filter(|(_, n)| *n > 0).collect()
}

fn is_work(stage: &StageExec) -> bool {
    let works = |i: &Instr| matches!(i, Instr::Filter { .. } | Instr::Probe(_));
    matches!(stage.sink(), Sink::Group { .. }) || stage.program().instrs.iter().any(works)
}

/// The labels of the stage's `table_rows` metrics.
fn tables(metrics: &MetricsSet) -> Vec<String> {
    let mut kinds: Vec<String> = vec![];
    for m in metrics.iter().filter(|m| matches!(m.value(), MetricValue::Count { name, .. } if name == "table_rows")) {
        let kind = m.labels().iter().find(|l| l.name() == "kind").map(|l| l.value().to_string());
        kinds.extend(kind.filter(|k| !kinds.contains(k)));
    }
    kinds
}

fn milliseconds(nanoseconds: usize) -> f64 {
    nanoseconds as f64 / 1e6
}

impl fmt::Display for Profile {
    /// Two small tables; a line each for a stage and a stock operator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.stages.is_empty() {
            let head = [
                "stage",
                "sink",
                "device",
                "on it",
                "rows in",
                "est rows",
                "rows out",
                "fetch ms",
                "compute ms",
                "total ms",
                "cpu est ms",
                "gpu est ms",
                "own ms",
                "x est",
                "table",
                "notes",
                "why there",
            ];
            let rows = self.stages.iter().map(StageReport::cells).collect();
            write_table(f, &head, rows)?;
        }
        if !self.stock.is_empty() {
            if !self.stages.is_empty() {
                writeln!(f)?;
            }
            let rows = self.stock.iter().map(StockReport::cells).collect();
            write_table(f, &["stock operator", "rows out", "compute ms", "why no stage"], rows)?;
        }
        Ok(())
    }
}

impl StageReport {
    /// What it took over what it was expected to take; none before a run, and where the estimate is another machine's.
    ///
    /// ```
    /// let report = millstream::StageReport { device: "cpu".into(), cpu_est_ms: Some(2.0), own_ms: Some(3.0), ..Default::default() };
    /// assert_eq!(report.error(), Some(1.5));
    /// ```
    pub fn error(&self) -> Option<f64> {
        let expected = if self.device == "gpu" { self.gpu_est_ms } else { self.cpu_est_ms };
        Some(self.own_ms? / expected.filter(|ms| *ms > 0.0 && self.there.is_none())?)
    }

    fn cells(&self) -> Vec<String> {
        let optional = |v: Option<f64>| v.map_or_else(String::new, |ms| format!("{ms:.1}"));
        let count = |n: usize, what: &str| if n > 0 { format!("{n} {what}") } else { String::new() };
        let why: Vec<String> = self.fallback_reasons.iter().map(|(why, n)| format!("{n} {why}")).collect();
        let why = if why.is_empty() { String::new() } else { format!("({})", why.join(", ")) };
        let notes = [count(self.spills, "spills"), count(self.fallbacks, "fallbacks"), why].join(" ");
        vec![
            self.id.clone(),
            self.sink.clone(),
            self.device.clone(),
            self.there.clone().unwrap_or_default(),
            self.input_rows.to_string(),
            self.est_rows.map_or_else(String::new, |n| n.to_string()),
            self.output_rows.to_string(),
            format!("{:.1}", self.fetch_ms),
            format!("{:.1}", self.compute_ms),
            format!("{:.1}", self.elapsed_ms),
            optional(self.cpu_est_ms),
            optional(self.gpu_est_ms),
            optional(self.own_ms),
            self.error().map_or_else(String::new, |x| format!("{x:.2}")),
            self.tables.join("+"),
            notes.trim().to_string(),
            self.reason.clone(),
        ]
    }
}

impl StockReport {
    fn cells(&self) -> Vec<String> {
        let rows = self.output_rows.map_or_else(String::new, |n| n.to_string());
        let compute = self.compute_ms.map_or_else(String::new, |ms| format!("{ms:.1}"));
        vec![self.operator.clone(), rows, compute, self.reason.clone()]
    }
}

/// Columns as wide as their widest cell, numbers to the right; a column without any text is left out.
fn write_table(f: &mut fmt::Formatter<'_>, head: &[&str], rows: Vec<Vec<String>>) -> fmt::Result {
    let used: Vec<usize> = (0..head.len()).filter(|c| rows.iter().any(|r| !r[*c].is_empty())).collect();
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).chain([head[c].len()]).max().unwrap_or(0);
    let number = |c: usize| rows.iter().all(|r| r[c].is_empty() || r[c].parse::<f64>().is_ok());
    let line = |cells: &dyn Fn(usize) -> String| {
        let padded = used.iter().map(|c| {
            let (text, width) = (cells(*c), width(*c));
            if number(*c) { format!("{text:>width$}") } else { format!("{text:<width$}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    writeln!(f, "{}", line(&|c| head[c].to_string()))?;
    rows.iter().try_for_each(|r| writeln!(f, "{}", line(&|c| r[c].clone())))
}
