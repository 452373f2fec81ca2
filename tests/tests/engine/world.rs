//! TPC-H at scale 0.01 in a temporary folder, written once for all tests.

use millstream::{Options, Preference, Session};
use millstream_benches::{Suite, suite};
use millstream_datasets::tpch;
use std::path::PathBuf;
use std::sync::OnceLock;
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
