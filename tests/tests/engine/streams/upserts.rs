//! Tables that jobs keep up to date, delivered when a checkpoint is true and when an epoch ends.

use super::faults::Mortal;
use super::model::{Event, Seeded, events, windows};
use super::{DISORDER, STEP, batch, finish, log, ms, rows, session, small, source, windowed};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use futures::TryStreamExt;
use millstream::streams::object_store::ObjectStore;
use millstream::streams::{Driver, DriverOptions, Error, ErrorKind, Job, MemorySource, Progress, UpsertTable, VirtualClock, in_memory};
use millstream::{DataStream, Session, Window, col, count, lit};
use std::sync::Arc;

const KEY: [&str; 3] = ["window_start", "key", "name"];

async fn stream(session: &Session, from: MemorySource) -> DataStream {
    windowed(session.stream(from).unwrap().event_time("at", ms(DISORDER)).unwrap(), 1000, 250).await
}

async fn table(store: &Arc<dyn ObjectStore>) -> Result<UpsertTable, Error> {
    let schema = stream(&session(1), source(&[], 1)).await.schema().unwrap();
    UpsertTable::open(Arc::clone(store), "table".into(), schema, &KEY).await
}

async fn job(threads: usize, from: MemorySource, table: &UpsertTable, per_epoch: bool) -> Job {
    let sink = if per_epoch { table.sink_per_epoch("table") } else { table.sink("table") };
    stream(&session(threads), from).await.to(sink.unwrap()).unwrap()
}

async fn open(job: Job, store: &Arc<dyn ObjectStore>, options: DriverOptions) -> Result<Driver, Error> {
    Driver::open(job, log(store), options, Arc::new(VirtualClock::default())).await
}

/// With epochs delivered at once rows are there before any checkpoint, committed ones behind it.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_there_when_their_epoch_ends_or_when_their_checkpoint_is_true() {
    let all = events(31, 3_000, STEP, DISORDER / 2);
    for per_epoch in [true, false] {
        let store = in_memory();
        let table = table(&store).await.unwrap();
        let source = MemorySource::new("events", batch(&[]).schema(), 1);
        let options = DriverOptions { checkpoint_ms: u64::MAX, ..DriverOptions::default() };
        let mut driver = open(job(2, source.clone(), &table, per_epoch).await, &store, options).await.unwrap();
        source.push(0, batch(&all)).unwrap();
        let before = table.version();
        driver.step().await.unwrap();
        assert_eq!(table.is_empty().unwrap(), !per_epoch);
        assert_eq!(table.version() > before, per_epoch);
        driver.checkpoint().await.unwrap();
        assert!(!table.is_empty().unwrap() && table.changed(before).await > before);
        source.end().unwrap();
        finish(&mut driver).await.unwrap();
        let expected = windows(&all, 1000, 250);
        assert_eq!(rows(&[table.rows().unwrap()]), expected);
        // Rows by key; one that is not there is left out.
        let (first, name) = (&expected[0], |n: &str| Arc::new(StringArray::from(vec![n, "nobody"])) as ArrayRef);
        let keys: [ArrayRef; 3] =
            [Arc::new(Int64Array::from(vec![first.0; 2])), Arc::new(Int64Array::from(vec![first.2; 2])), name(&first.3)];
        assert_eq!(rows(&[table.get(&keys).unwrap()]), expected[..1]);
        // Another process that opens the folder finds the same.
        let again = self::table(&store).await.unwrap();
        assert_eq!(rows(&[again.rows().unwrap()]), expected);
        // And SQL.
        let session = session(1);
        session.register_upserts("t", &again).unwrap();
        let counted = session.sql("select count(*), sum(n) from t").await.unwrap().collect().await.unwrap();
        let n = counted[0].column(0).as_primitive::<Int64Type>().value(0);
        assert_eq!(n, expected.len() as i64);
    }
}

/// One life of a job into a table, which dies at change number `dies` of the store; the table outlives it, or not.
async fn life(
    disk: &Arc<dyn ObjectStore>,
    held: &mut Option<UpsertTable>,
    all: &[Event],
    threads: usize,
    per_epoch: bool,
    (dies, behind): (u64, bool),
) -> bool {
    let store: Arc<dyn ObjectStore> = Arc::new(Mortal::new(Arc::clone(disk), dies, behind));
    let run = async {
        let table = match held {
            Some(table) => table.clone(),
            None => held.insert(table(&store).await?).clone(),
        };
        let mut driver = open(job(threads, source(all, 2), &table, per_epoch).await, &store, small(300)).await?;
        finish(&mut driver).await
    };
    match run.await {
        Ok(()) => true,
        Err(e) if e.kind() == ErrorKind::Retry => false,
        Err(e) => panic!("a life of {dies} changes, behind {behind}: {e}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_a_table_ends_up_with_every_row_once() {
    let all = events(33, 1_200, STEP, DISORDER / 2);
    let expected = windows(&all, 1000, 250);
    let (mut dies, mut through) = (0, false);
    while !through {
        dies += 1;
        through = true;
        // A table dies with its job, or goes on while other jobs take over.
        for (per_epoch, outlives) in [(true, false), (false, false), (true, true), (false, true)] {
            let (behind, disk) = (dies % 2 == 0, in_memory());
            let first = if outlives { Some(table(&disk).await.unwrap()) } else { None };
            let mut held = first.clone();
            through &= life(&disk, &mut held, &all, 1 + dies as usize % 3, per_epoch, (dies, behind)).await;
            held = first.clone();
            life(&disk, &mut held, &all, 2, per_epoch, (1 + dies * 7 % 19, !behind)).await;
            held = first;
            assert!(life(&disk, &mut held, &all, 1, per_epoch, (u64::MAX, behind)).await);
            let case = format!("killed at change {dies}, behind {behind}, per epoch {per_epoch}, outlives {outlives}");
            assert_eq!(rows(&[held.unwrap().rows().unwrap()]), expected, "{case}");
            assert_eq!(rows(&[table(&disk).await.unwrap().rows().unwrap()]), expected, "{case}");
            let left: Vec<_> = disk.list(Some(&"table".into())).try_collect().await.unwrap();
            assert!(left.iter().all(|o| !o.location.as_ref().contains("_staged")), "{case}: {left:?}");
        }
    }
    assert!(dies > 15, "{dies} changes only");
}

/// A job that fails leaves rows that were seen and that no checkpoint has: the next one takes them back, and brings them.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_too_early_is_taken_back_and_comes_again() {
    let all = events(35, 3_000, STEP, DISORDER / 2);
    let store = in_memory();
    let table = table(&store).await.unwrap();
    let options = DriverOptions { checkpoint_ms: u64::MAX, epoch_rows: 500, epoch_rows_max: 500, ..DriverOptions::default() };
    let mut driver = open(job(2, source(&all, 1), &table, true).await, &store, options.clone()).await.unwrap();
    driver.step().await.unwrap();
    driver.step().await.unwrap();
    driver.checkpoint().await.unwrap();
    let committed = rows(&[table.rows().unwrap()]);
    driver.step().await.unwrap();
    driver.step().await.unwrap();
    let seen = rows(&[table.rows().unwrap()]);
    assert!(!committed.is_empty() && seen.len() > committed.len());
    // A sink that was replaced writes no more.
    let next = job(2, source(&all, 1), &table, true).await;
    assert_eq!(rows(&[table.rows().unwrap()]), committed);
    let refused = async {
        driver.step().await?;
        driver.step().await?;
        driver.checkpoint().await
    };
    assert_eq!(refused.await.unwrap_err().kind(), ErrorKind::Closed);
    let mut driver = open(next, &store, options).await.unwrap();
    driver.step().await.unwrap();
    driver.step().await.unwrap();
    assert_eq!(rows(&[table.rows().unwrap()]), seen);
    finish(&mut driver).await.unwrap();
    assert_eq!(rows(&[table.rows().unwrap()]), windows(&all, 1000, 250));
}

/// Rows that keep changing: files give way to one with all rows, and what is read is the last of each key.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_keeps_changing_stays_small() {
    let schema = batch(&[]).schema();
    let store = in_memory();
    let open_table = || UpsertTable::open(Arc::clone(&store), "table".into(), Arc::clone(&schema), &["key"]);
    let (table, source) = (open_table().await.unwrap(), MemorySource::new("events", Arc::clone(&schema), 1));
    let job = session(1).stream(source.clone()).unwrap().to(table.sink("table").unwrap()).unwrap();
    let mut driver = open(job, &store, small(10_000)).await.unwrap();
    let (mut random, mut model) = (Seeded::new(5), std::collections::BTreeMap::new());
    for round in 0..300 {
        let mut all = events(round, 400, STEP, 0);
        for e in &mut all {
            e.key = Some(random.below(50) as i64);
            e.id += 1_000 * round as i64;
            model.insert(e.key, e.id);
        }
        source.push(0, batch(&all)).unwrap();
        assert_eq!(driver.step().await.unwrap().progress, Progress::Working);
        if round % 60 == 0 {
            let late = open_table().await.unwrap();
            assert_eq!(ids(&late.rows().unwrap()), model, "round {round}");
        }
    }
    assert_eq!(ids(&table.rows().unwrap()), model);
    let files: Vec<_> = store.list(Some(&"table".into())).try_collect().await.unwrap();
    assert!(files.len() < 130 && files.iter().any(|f| f.location.as_ref().ends_with("-all.arrow")), "{} files", files.len());
    // Who opened it early catches up.
    let reader = open_table().await.unwrap();
    source.push(0, batch(&events(1, 1, STEP, 0)[..1])).unwrap();
    driver.step().await.unwrap();
    assert!(reader.refresh().await.unwrap() && !reader.refresh().await.unwrap());
    assert_eq!(ids(&reader.rows().unwrap()), ids(&table.rows().unwrap()));
}

fn ids(rows: &RecordBatch) -> std::collections::BTreeMap<Option<i64>, i64> {
    let (keys, ids) = (rows.column(2).as_primitive::<Int64Type>(), rows.column(0).as_primitive::<Int64Type>());
    let out: std::collections::BTreeMap<_, _> = keys.iter().zip(ids.values().iter().copied()).collect();
    assert_eq!(out.len(), rows.num_rows(), "a key twice");
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_delivered_per_epoch_is_refused_with_the_reason() {
    let (session, store) = (session(1), in_memory());
    let events = || session.stream(source(&events(1, 10, 1, 1), 1)).unwrap().event_time("at", ms(0)).unwrap();
    let refused = async |stream: DataStream, key: &[&str]| {
        let table = UpsertTable::open(in_memory(), "t".into(), stream.schema().unwrap(), key).await.unwrap();
        open(stream.to(table.sink_per_epoch("t").unwrap()).unwrap(), &store, small(10)).await.err().map(|e| e.to_string())
    };
    let windows =
        async || events().key_by([col("key")]).window(Window::tumble(ms(10))).aggregate([count(lit(1)).alias("n")]).await.unwrap();
    let error = refused(events(), &["id"]).await.unwrap();
    assert!(error.contains("`t` cannot be delivered per epoch: its rows have no key"), "{error}");
    let error = refused(windows().await, &["window_start"]).await.unwrap();
    assert!(error.contains("`key` is of the key of the rows"), "{error}");
    let dropped = windows().await.select([col("window_start"), col("n")]).unwrap();
    assert!(refused(dropped, &["window_start"]).await.unwrap().contains("no key"));
    // A key may have another name by then, and more columns.
    let renamed = windows().await.filter(col("n").gt(lit(0))).unwrap();
    let renamed = renamed.select([col("key").alias("k"), col("window_start").alias("since"), col("n")]).unwrap();
    assert_eq!(refused(renamed, &["since", "k", "n"]).await, None);
    // Not a table's fault, but that of who names its key.
    let schema = batch(&[]).schema();
    let nothing = UpsertTable::open(in_memory(), "t".into(), Arc::clone(&schema), &["nothing"]).await;
    assert!(nothing.err().unwrap().to_string().contains("nothing"));
    assert!(UpsertTable::open(in_memory(), "t".into(), schema, &[]).await.is_err());
    let table = table(&in_memory()).await.unwrap();
    let other: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    assert!(table.get(&[other.clone(), other.clone(), other]).is_err_and(|e| e.kind() == ErrorKind::Invalid));
    assert_eq!(table.schema().field(0).data_type(), &DataType::Int64);
}
