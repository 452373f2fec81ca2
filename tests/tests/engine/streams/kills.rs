//! A job in a process of its own that is killed, as the system kills: again and again, at any moment. The process is
//! this test once more: `MILLSTREAM_VICTIM` tells it the folder of the job.
//!
//! `MILLSTREAM_KILLS=n` and `MILLSTREAM_BIDS=n` say how often and over how many bids; with `MILLSTREAM_KILLS_DIR` input and output
//! stay in that folder, for another engine to judge (`tests/long`).

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use datafusion::functions_aggregate::expr_fn::max;
use millstream::streams::{Driver, DriverOptions, FileFormat, FilesSink, FilesSource, Log, SystemClock, local};
use millstream::{Window, col, count, lit};
use millstream_datasets::nexmark;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::model::Seeded;
use super::{ms, session};

const WIDTH: i64 = 10_000;
const SLIDE: i64 = 2_000;

#[expect(clippy::disallowed_methods, reason = "tells the process what to do")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The job, to its end: count and greatest price of each auction's bids, in hopping windows.
async fn run(folder: &Path) {
    let store = local(folder).unwrap();
    let schema = nexmark::schema("bid").unwrap();
    let source = FilesSource::new("bids", Arc::clone(&store), "in".into(), FileFormat::Parquet, schema).bounded();
    let stream = session(2).stream(source).unwrap().event_time("date_time", ms(0)).unwrap();
    let windows = stream.key_by([col("auction")]).window(Window::hop(ms(WIDTH), ms(SLIDE)));
    let windows = windows.aggregate([count(lit(1)).alias("bids"), max(col("price")).alias("price")]).await.unwrap();
    let job = windows.to(FilesSink::new("out", Arc::clone(&store), "out".into(), FileFormat::Parquet)).unwrap();
    let rows = variable("MILLSTREAM_EPOCH_ROWS").expect("the rows of an epoch").parse().unwrap();
    let options = DriverOptions { checkpoint_ms: 50, epoch_rows: rows, epoch_rows_max: rows, ..DriverOptions::default() };
    let log = Log::new(store, "checkpoints".into());
    let mut driver = Driver::open(job, log, options, Arc::new(SystemClock::new())).await.unwrap();
    driver.run(1, || false).await.unwrap();
}

/// Begin of the window and auction: bids, greatest price.
type Answer = BTreeMap<(i64, i64), (i64, i64)>;

/// Writes the bids, and says what has to come of them.
fn write_bids(folder: &Path, count: u64) -> Answer {
    let mut answer = Answer::new();
    std::fs::create_dir_all(folder.join("in")).unwrap();
    let files = 8;
    for f in 0..files {
        let file = File::create(folder.join(format!("in/bids-{f}.parquet"))).unwrap();
        let mut writer = ArrowWriter::try_new(file, nexmark::schema("bid").unwrap(), None).unwrap();
        let (from, until) = (count * f / files, count * (f + 1) / files);
        for at in (from..until).step_by(8192) {
            let batch = nexmark::batch("bid", at..until.min(at + 8192)).unwrap();
            answer_with(&mut answer, &batch);
            writer.write(&batch).unwrap();
            // A row group each: a process that goes on somewhere reads few bytes first.
            writer.flush().unwrap();
        }
        writer.close().unwrap();
    }
    answer
}

fn answer_with(answer: &mut Answer, bids: &RecordBatch) {
    let numbers = |name: &str| bids.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().clone();
    let (auctions, prices) = (numbers("auction"), numbers("price"));
    let at = bids.column_by_name("date_time").unwrap().as_primitive::<TimestampMillisecondType>();
    for row in 0..bids.num_rows() {
        let last = at.value(row).div_euclid(SLIDE) * SLIDE;
        for start in (0..WIDTH / SLIDE).map(|i| last - i * SLIDE) {
            let one = answer.entry((start, auctions[row])).or_insert((0, i64::MIN));
            *one = (one.0 + 1, one.1.max(prices[row]));
        }
    }
}

/// The rows of all files of the output; each of them once.
fn read_windows(folder: &Path) -> Answer {
    let mut answer = Answer::new();
    for entry in std::fs::read_dir(folder.join("out")).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_file() {
            continue;
        }
        for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let starts = batch.column(0).as_primitive::<TimestampMillisecondType>();
            let column = |c: usize| batch.column(c).as_primitive::<Int64Type>().values().clone();
            let (auctions, bids, prices) = (column(2), column(3), column(4));
            for row in 0..batch.num_rows() {
                let doubled = answer.insert((starts.value(row), auctions[row]), (bids[row], prices[row]));
                assert_eq!(doubled, None, "window {} of auction {} came twice", starts.value(row), auctions[row]);
            }
        }
    }
    answer
}

#[test]
fn a_process_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    if let Some(folder) = variable("MILLSTREAM_VICTIM") {
        return tokio::runtime::Runtime::new().unwrap().block_on(run(Path::new(&folder)));
    }
    let number = |name: &str, otherwise: u64| variable(name).map_or(otherwise, |v| v.parse().unwrap());
    let (kills, count) = (number("MILLSTREAM_KILLS", 15), number("MILLSTREAM_BIDS", 300_000));
    let own = tempfile::tempdir().unwrap();
    let folder = variable("MILLSTREAM_KILLS_DIR").map_or_else(|| own.path().to_path_buf(), PathBuf::from);
    let answer = write_bids(&folder, count);
    let (mut random, mut killed, mut longest) = (Seeded::new(9), 0, 60);
    loop {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "streams::kills::a_process_that_is_killed_again_and_again_loses_and_doubles_nothing"])
            .env("MILLSTREAM_VICTIM", &folder)
            // Epochs enough for all the kills, whatever the machine.
            .env("MILLSTREAM_EPOCH_ROWS", (count / (333 * kills.max(1))).max(1).to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        if killed < kills {
            std::thread::sleep(Duration::from_millis(random.below(longest)));
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                child.wait().unwrap();
                killed += 1;
                // Whatever the machine: lives get longer until checkpoints are reached.
                longest = (longest + 5).min(250);
                continue;
            }
        }
        assert!(child.wait().unwrap().success(), "after {killed} kills");
        break;
    }
    println!("{killed} kills over {count} bids, {} rows", answer.len());
    assert!(killed >= kills.min(5), "it ended after {killed} kills: more bids are needed");
    let got = read_windows(&folder);
    let wrong = answer.iter().find(|(k, v)| got.get(k) != Some(v));
    assert!(got.len() == answer.len() && wrong.is_none(), "{} rows of {}, first difference {wrong:?}", got.len(), answer.len());
}
