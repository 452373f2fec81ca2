//! TPC-H at scale 0.01 in a temporary folder, written once for all tests.

use millstream::{Options, Preference, Session};
use millstream_benches::{Suite, suite};
use millstream_datasets::tpch;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

pub const SCALE: f64 = 0.01;

pub fn data() -> PathBuf {
    static DATA: OnceLock<TempDir> = OnceLock::new();
    let dir = DATA.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        tpch::write_parquet(dir.path(), SCALE, &mut |_| {}).expect("tpch tables");
        dir
    });
    dir.path().to_path_buf()
}

pub fn suite_tpch() -> &'static Suite {
    suite("tpch").expect("the suite is embedded")
}

/// A session over the TPC-H tables.
pub async fn session(stages: bool, device: Preference) -> Session {
    let session = Session::with_options(Options { threads: 2, stages, device, ..Options::default() }).expect("a session");
    for t in suite_tpch().tables {
        let path = data().join(format!("{t}.parquet"));
        session.register(t, &path.to_string_lossy()).await.expect("a table");
    }
    session
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
