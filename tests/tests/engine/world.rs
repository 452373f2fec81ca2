//! TPC-H, h2o and ssb at scale 0.01 in temporary folders, written once for all tests; rows and plans as text.

use arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::displayable;
use millstream::{Options, Preference, Session};
use millstream_benches::{Suite, suite};
use millstream_datasets::Dataset;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

pub const SCALE: f64 = 0.01;

/// What the states of SplitMix64 are apart.
pub const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// The number of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) behind state `i`.
pub fn mixed(i: u64) -> u64 {
    let mut z = i.wrapping_add(SPREAD);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The folder of the TPC-H tables.
pub fn data() -> PathBuf {
    static DATA: OnceLock<TempDir> = OnceLock::new();
    written(&DATA, Dataset::Tpch)
}

fn data_h2o() -> PathBuf {
    static DATA: OnceLock<TempDir> = OnceLock::new();
    written(&DATA, Dataset::H2o)
}

fn data_ssb() -> PathBuf {
    static DATA: OnceLock<TempDir> = OnceLock::new();
    written(&DATA, Dataset::Ssb)
}

fn written(folder: &OnceLock<TempDir>, dataset: Dataset) -> PathBuf {
    let dir = folder.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        dataset.write_parquet(dir.path(), SCALE, None, &mut |_| {}).expect("tables");
        dir
    });
    dir.path().to_path_buf()
}

pub fn suite_tpch() -> &'static Suite {
    suite("tpch").expect("the suite is embedded")
}

pub fn suite_h2o() -> &'static Suite {
    suite("h2o").expect("the suite is embedded")
}

pub fn suite_ssb() -> &'static Suite {
    suite("ssb").expect("the suite is embedded")
}

/// A session over the TPC-H tables.
pub async fn session(stages: bool, device: Preference) -> Session {
    session_over(suite_tpch(), &data(), stages, device).await
}

/// A session over the tables of db-benchmark.
pub async fn session_h2o(stages: bool, device: Preference) -> Session {
    session_over(suite_h2o(), &data_h2o(), stages, device).await
}

/// A session over the tables of the Star Schema Benchmark.
pub async fn session_ssb(options: Options) -> Session {
    session_with(suite_ssb(), &data_ssb(), options).await
}

async fn session_over(suite: &Suite, data: &Path, stages: bool, device: Preference) -> Session {
    session_with(suite, data, Options { stages, device, ..Options::default() }).await
}

/// On two threads.
async fn session_with(suite: &Suite, data: &Path, options: Options) -> Session {
    let session = Session::with_options(Options { threads: 2, ..options }).expect("a session");
    for t in suite.tables {
        let path = data.join(format!("{t}.parquet"));
        session.register(t, &path.to_string_lossy()).await.expect("a table");
    }
    session
}

/// The rows of a query as lines of text, in an order of their own.
pub async fn sorted_rows(session: &Session, sql: &str) -> Vec<String> {
    let rows = session.sql(sql).await.unwrap().collect().await.unwrap_or_else(|e| panic!("{e}: {sql}"));
    let mut lines: Vec<String> = pretty_format_batches(&rows).unwrap().to_string().lines().map(str::to_string).collect();
    lines.sort();
    lines
}

/// The physical plan of a query.
pub async fn plan_text(session: &Session, sql: &str) -> String {
    let plan = session.sql(sql).await.unwrap().plan().await.unwrap();
    displayable(plan.as_ref()).indent(false).to_string()
}

/// Whether there is a GPU adapter to run `test` on. A skip is printed, past the harness, with the count
/// so far; under `MILLSTREAM_REQUIRE_GPU=1` it is a failure.
pub fn has_gpu(test: &str) -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    if *FOUND.get_or_init(|| !millstream_kernels::gpu::adapters().expect("a list of adapters").is_empty()) {
        return true;
    }
    let required = std::env::var("MILLSTREAM_REQUIRE_GPU").is_ok_and(|v| v == "1");
    assert!(!required, "MILLSTREAM_REQUIRE_GPU=1 and there is no adapter");
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    writeln!(std::io::stderr(), "skipped for want of a GPU adapter: {test} ({count} so far)").expect("stderr");
    false
}
