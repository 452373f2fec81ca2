//! Windows whose state is larger than the memory.

use super::model::{events, windows};
use super::{DISORDER, STEP, finish, in_memory, memory_job, ms, open, rows, small, source};
use arrow::array::RecordBatch;
use millstream::streams::{ErrorKind, MemoryTable, Progress};
use millstream::{Options, Session, Window, col};

/// One that allows so little that next to nothing stays in memory.
pub fn tight(threads: usize, limit: usize) -> Session {
    Session::with_options(Options { threads, memory_limit_bytes: Some(limit), ..Options::default() }).unwrap()
}

/// State goes to disk and comes back, also through checkpoints, kills, and drivers with other threads or more memory.
#[tokio::test(flavor = "multi_thread")]
async fn windows_larger_than_the_memory_are_the_same() {
    let mut random = super::Seeded::new(3);
    let specs = [(2_000, 2_000), (100_000, 100_000), (2_000, 500), (4_000, 40)];
    for (case, spec) in specs.into_iter().cycle().take(12).enumerate() {
        let mut all = events(case as u64, 9_000, STEP, DISORDER / 2);
        // Most keys are of one row, others come again and again.
        all.iter_mut().for_each(|e| e.key = e.key.map(|k| if e.id % 3 == 0 { k } else { e.id / 2 }));
        // With the largest, panes are in memory while checkpoints are written, and go to disk later.
        let limit = [20_000, 60_000, 250_000][case / 4];
        let (store, out, late) = (in_memory(), MemoryTable::default(), MemoryTable::default());
        let (mut on_disk, mut lives) = (0, 0);
        loop {
            let threads = 1 + (case + lives) % 3;
            // Now and then all the memory that there is.
            let session = if lives % 4 == 3 { super::session(threads) } else { tight(threads, limit) };
            let job = memory_job(&session, &all, 2, spec, &out, &late).await;
            let options = super::DriverOptions { whole_every: 1 + random.below(9), ..small(100 + random.below(500) as usize) };
            let mut driver = open(job, &store, options).await.unwrap();
            lives += 1;
            let mut progress = Progress::Working;
            for _ in 0..3 + random.below(9) {
                progress = driver.step().await.unwrap().progress;
                on_disk = on_disk.max(driver.metrics().state_on_disk_bytes);
                if progress == Progress::Finished {
                    break;
                }
            }
            if progress == Progress::Finished {
                assert_eq!(driver.metrics().state_on_disk_bytes, 0, "what is closed leaves the disk");
                break;
            }
        }
        let least = if spec.0 > 4_000 { limit as u64 } else { 1 };
        assert!(on_disk >= least && lives > 1, "case {case}: {on_disk} bytes on disk, {lives} lives");
        assert_eq!(rows(&out.rows().unwrap()), windows(&all, spec.0, spec.1), "case {case}, {lives} lives");
        assert!(late.rows().unwrap().is_empty());
    }
}

/// Rows of a window that leave it a few keys at a time are of that window once, in memory that is bounded.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_larger_than_the_memory_leaves_it_in_slices() {
    let (limit, n) = (4 << 20, 400_000);
    let mut all = events(7, n, 1, 0);
    all.iter_mut().for_each(|e| e.key = Some(e.id % 150_000));
    let (out, late) = (MemoryTable::default(), MemoryTable::default());
    let width = 4 * n;
    let job = memory_job(&tight(2, limit), &all, 2, (width, width), &out, &late).await;
    let mut driver = open(job, &in_memory(), super::DriverOptions { checkpoint_ms: u64::MAX, ..small(20_000) }).await.unwrap();
    let mut most = 0;
    while driver.step().await.unwrap().progress != Progress::Finished {
        let metrics = driver.metrics();
        most = most.max(metrics.state_on_disk_bytes);
        assert!(metrics.state_bytes <= limit as u64, "{} bytes in memory", metrics.state_bytes);
    }
    assert!(most > 2 * limit as u64, "{most} bytes on disk");
    let got = out.rows().unwrap();
    let largest = got.iter().map(RecordBatch::num_rows).max().unwrap();
    assert!(got.len() > 8 && largest < 40_000, "{} batches, one of {largest} rows", got.len());
    assert_eq!(rows(&got), windows(&all, width, width));
}

/// What cannot go to disk says so.
#[tokio::test(flavor = "multi_thread")]
async fn reduce_says_that_its_rows_do_not_fit() {
    let all = events(9, 20_000, STEP, 0);
    let reduced = |session: Session| {
        let stream = session.stream(source(&all, 1)).unwrap().event_time("at", ms(DISORDER)).unwrap();
        let keyed = stream.key_by([col("id")]).window(Window::tumble(ms(1_000_000)));
        keyed.reduce("first", |a, _| Ok(a.clone())).unwrap().to(MemoryTable::default().sink("out")).unwrap()
    };
    let mut enough = open(reduced(tight(1, 64 << 20)), &in_memory(), small(1_000)).await.unwrap();
    finish(&mut enough).await.unwrap();
    let mut driver = open(reduced(tight(1, 300_000)), &in_memory(), small(1_000)).await.unwrap();
    let error = finish(&mut driver).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Exhausted && error.to_string().contains("windows of reduce()"), "{error}");
}
