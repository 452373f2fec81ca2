//! Columns of tables in memory that stay on the device: the rows of the CPU, and nothing brought twice.

use super::*;
use millstream::{load_profile, profile_of};
use std::fmt::Write;
use std::path::Path;

/// Four morsels, the last not full.
const ROWS: usize = 200_000;

/// Rows 1 to `rows`, in memory: every type that stays on a device, nulls in some, and types that do not stay.
pub async fn cached(device: Preference, gpu_memory_bytes: Option<u64>, rows: usize) -> Session {
    let options = Options { threads: 2, device, gpu_memory_bytes, ..Options::default() };
    let session = Session::with_options(options).unwrap();
    fill(&session, rows).await;
    session
}

async fn fill(session: &Session, rows: usize) {
    let mut text = "create table t as select".to_string();
    for (name, expression) in [
        ("i", "value"),
        ("few", "case when value % 7 > 0 then value % 13 - 5 end"),
        ("wide", "(value * 1000003) % 999999999989 * case when value % 2 = 0 then 1 else -1 end"),
        ("day", "cast(cast(value % 2000 as int) as date)"),
        ("d", "case when value % 11 > 2 then cast(value % 100000 as decimal(12, 2)) / 4 end"),
        ("flag", "case when value % 5 > 0 then value % 3 = 0 end"),
        ("word", "case when value % 17 > 0 then 'word ' || (value % 9) end"),
        ("long", "'a text that is another in every row ' || value"),
        ("f", "value / 4.0"),
    ] {
        write!(text, " {expression} as {name},").unwrap();
    }
    let text = format!("{} from generate_series(1, {rows})", text.trim_end_matches(','));
    let small = "create table small as select value as id, value * value as square from generate_series(-5, 5)";
    for statement in [text.as_str(), small] {
        session.sql(statement).await.unwrap().collect().await.unwrap();
    }
    for table in ["t", "small"] {
        session.cache(table).await.unwrap();
    }
}

/// Groups on the device, groups after filters of the host, keys of every type, rows selected by numbers, by codes of
/// strings and by what a join finds.
pub const QUERIES: &[&str] = &[
    "select sum(few), count(*), max(wide), min(d) from t where flag and wide > 0",
    "select word, flag, sum(wide), count(few) from t group by word, flag",
    "select few, day, count(*), sum(d) from t where day < date '1971-06-01' group by few, day",
    "select few, sum(f) from t where day < date '1970-02-01' group by few",
    "select few, sum(wide) from t where long like '%7' group by few",
    "select count(*), sum(i) from t where word is null",
    "select i, wide, long from t where few = 3 and d > 5000 order by i limit 50",
    "select i, word, d from t where word like '%3' and wide < 0 order by i desc limit 50",
    "select square, count(*), sum(wide) from t join small on few = id where square > 3 group by square",
    "select i, square, f from t join small on few = id where flag and i % 100 = 0 order by i",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_is_not_brought_again() {
    if !has_gpu("columns that stay") {
        return;
    }
    let _alone = alone().await;
    let (cpu, gpu) = (cached(Preference::Cpu, None, ROWS).await, cached(Preference::Gpu, None, ROWS).await);
    for sql in QUERIES {
        let expected = run(&cpu, sql, CapabilityClass::All, 1).await.lines();
        for class in CLASSES {
            let first = run(&gpu, sql, class, 1).await;
            let second = run(&gpu, sql, class, 1).await;
            for ran in [&first, &second] {
                assert_eq!(ran.lines(), expected, "{class:?}: {sql}");
                assert!(ran.gpu_rows > 0 && ran.fallbacks == 0, "{class:?}: {} rows, {} fallbacks: {sql}", ran.gpu_rows, ran.fallbacks);
            }
            let brought = |ran: &Ran| (ran.upload_bytes, ran.kept_bytes);
            // After a filter of the host the rows are others in each query.
            let stays = !sql.contains("long like") && !sql.contains("is null");
            assert!((second.kept_bytes > 0) == stays, "{class:?}: {:?}: {sql}", brought(&second));
            assert!(
                second.upload_bytes + second.kept_bytes == first.upload_bytes + first.kept_bytes,
                "{class:?}: {:?}, then {:?}: {sql}",
                brought(&first),
                brought(&second)
            );
        }
    }
    // Of a single sum there is nothing left to bring but what is no column.
    let ran = run(&gpu, QUERIES[0], CapabilityClass::All, 1).await;
    assert!(ran.upload_bytes == 0 && ran.kept_bytes > 200_000 * 16, "{} and {}", ran.upload_bytes, ran.kept_bytes);
    gpu.deregister("t").unwrap();
    drop(gpu);
    let device = Device::open(CapabilityClass::All).unwrap().unwrap();
    let memory = device.memory().unwrap();
    assert!(memory.live_bytes == 0 && memory.kept_bytes == 0, "{memory:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_device_memory_is_kept() {
    if !has_gpu("a limit of device memory") {
        return;
    }
    let _alone = alone().await;
    let cpu = cached(Preference::Cpu, None, ROWS).await;
    // Enough for a stage and some of its columns; for a stage alone; for none.
    for (bytes, stays, runs) in [(16 << 20, true, true), (3 << 20, true, false), (100 << 10, false, false)] {
        let gpu = cached(Preference::Gpu, Some(bytes), ROWS).await;
        for sql in QUERIES {
            let expected = run(&cpu, sql, CapabilityClass::All, 1).await.lines();
            for _ in 0..2 {
                let ran = run(&gpu, sql, CapabilityClass::Floor, 1).await;
                assert_eq!(ran.lines(), expected, "{bytes}: {sql}");
                assert!(!runs || ran.fallbacks == 0, "{bytes}: {sql}");
                let memory = floor().memory().unwrap();
                assert!(memory.live_bytes == 0 && memory.kept_bytes <= bytes / 2, "{bytes}: {memory:?}: {sql}");
                assert!(stays || memory.kept_bytes == 0, "{bytes}: {memory:?}: {sql}");
            }
        }
    }
    // The next session sets its own.
    let gpu = cached(Preference::Gpu, None, ROWS).await;
    let ran = run(&gpu, QUERIES[0], CapabilityClass::Floor, 1).await;
    assert_eq!(ran.fallbacks, 0);
}

/// A profile of a machine with a GPU prices what the device would be given, less what it has.
#[tokio::test(flavor = "multi_thread")]
async fn what_stays_is_cheaper_the_next_time() {
    if !has_gpu("prices of columns that stay") {
        return;
    }
    let _alone = alone().await;
    let file = format!("{}/../engine/cost/profiles/h100.json", env!("CARGO_MANIFEST_DIR"));
    let profile = Some(Arc::new(load_profile(Path::new(&file)).unwrap()));
    let options = Options { threads: 2, device: Preference::Gpu, profile, ..Options::default() };
    let session = Session::with_options(options).unwrap();
    fill(&session, ROWS).await;
    let price = async |sql: &str| {
        let plan = session.sql(sql).await.unwrap().plan().await.unwrap();
        profile_of(&plan).stages.iter().filter_map(|s| s.gpu_est_ms).fold(0.0, f64::max)
    };
    // Groups whose codes follow from the table; rows that the device selects.
    for sql in [QUERIES[1], "select i from t where d > 5000 and day < date '1971-01-01'"] {
        let before = price(sql).await;
        run(&session, sql, CapabilityClass::All, 1).await;
        let after = price(sql).await;
        assert!(before > 0.0 && after < before, "{before} ms, then {after} ms: {sql}");
    }
}
