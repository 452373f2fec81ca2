//! Streams against a model that knows one row at a time, whole, in epochs, killed at every step and restored.

mod faults;
mod jobs;
mod kills;
mod memory;
mod model;
mod simulation;
mod sinks;
mod upserts;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::functions_aggregate::expr_fn::{count_distinct, max, min, sum};
use faults::Mortal;
use futures::TryStreamExt;
use millstream::streams::object_store::ObjectStore;
use millstream::streams::{
    Attempt, Driver, DriverOptions, ErrorKind, FileFormat, FilesSink, FilesSource, Job, Log, MemorySource, MemoryTable, Progress, Sink,
    VirtualClock, in_memory,
};
use millstream::{DataStream, Options, Session, Window, col, count, lit};
use model::{Event, Row, Seeded, events, windows};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::sync::Arc;
use std::time::Duration;

const STEP: i64 = 10;
const DISORDER: i64 = 300;

fn session(threads: usize) -> Session {
    Session::with_options(Options { threads, ..Options::default() }).unwrap()
}

fn batch(events: &[Event]) -> RecordBatch {
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(events.iter().map(|e| e.id))), true),
        ("at", Arc::new(Int64Array::from_iter_values(events.iter().map(|e| e.at))), true),
        ("key", Arc::new(Int64Array::from_iter(events.iter().map(|e| e.key))), true),
        ("name", Arc::new(StringArray::from_iter_values(events.iter().map(|e| &e.name))), true),
        ("value", Arc::new(Int64Array::from_iter(events.iter().map(|e| e.value))), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn ms(n: i64) -> Duration {
    Duration::from_millis(n as u64)
}

fn source(all: &[Event], partitions: usize) -> MemorySource {
    let source = MemorySource::new("events", batch(&[]).schema(), partitions);
    for (i, some) in all.chunks(997).enumerate() {
        source.push(i % partitions, batch(some)).unwrap();
    }
    source.end().unwrap();
    source
}

/// The pipeline of these tests.
async fn windowed(stream: DataStream, width: i64, slide: i64) -> DataStream {
    let aggregates = [
        count(lit(1)).alias("n"),
        sum(col("value")).alias("s"),
        min(col("value")).alias("lo"),
        max(col("value")).alias("hi"),
        count_distinct(col("value")).alias("d"),
    ];
    let stream = stream.filter(col("id").gt_eq(lit(0))).unwrap();
    stream.key_by([col("key"), col("name")]).window(Window::hop(ms(width), ms(slide))).aggregate(aggregates).await.unwrap()
}

async fn memory_job(
    session: &Session,
    all: &[Event],
    partitions: usize,
    (width, slide): (i64, i64),
    out: &MemoryTable,
    late: &MemoryTable,
) -> Job {
    let stream = session.stream(source(all, partitions)).unwrap().event_time("at", ms(DISORDER)).unwrap();
    windowed(stream, width, slide).await.late_to(late.sink("late")).to(out.sink("windows")).unwrap()
}

fn log(store: &Arc<dyn ObjectStore>) -> Log {
    Log::new(Arc::clone(store), "job".into())
}

async fn open(job: Job, store: &Arc<dyn ObjectStore>, options: DriverOptions) -> Result<Driver, millstream::streams::Error> {
    Driver::open(job, log(store), options, Arc::new(VirtualClock::default())).await
}

/// Epochs of up to `rows` rows, and a checkpoint after each.
fn small(rows: usize) -> DriverOptions {
    DriverOptions { epoch_rows_max: rows, checkpoint_ms: 0, whole_every: 5, discover_ms: 0, ..DriverOptions::default() }
}

async fn finish(driver: &mut Driver) -> Result<(), millstream::streams::Error> {
    while driver.step().await?.progress != Progress::Finished {}
    Ok(())
}

/// Rows in order, strings and numbers as the model has them.
fn rows(batches: &[RecordBatch]) -> Vec<Row> {
    let mut out = vec![];
    for b in batches {
        let column = |name: &str| cast(b.column_by_name(name).unwrap(), &DataType::Int64).unwrap();
        let numbers: Vec<ArrayRef> = ["window_start", "window_end", "key", "n", "s", "lo", "hi", "d"].map(column).into();
        let names = cast(b.column_by_name("name").unwrap(), &DataType::Utf8).unwrap();
        for i in 0..b.num_rows() {
            let some = |c: usize| numbers[c].is_valid(i).then(|| numbers[c].as_primitive::<Int64Type>().value(i));
            let name = names.as_string::<i32>().value(i).to_string();
            out.push((some(0).unwrap(), some(1).unwrap(), some(2), name, some(3).unwrap(), some(4), some(5), some(6), some(7).unwrap()));
        }
    }
    out.sort();
    out
}

const WINDOWS: [(i64, i64); 5] = [(1000, 1000), (1000, 250), (900, 400), (2000, 20), (37, 37)];

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_equals_the_model_however_it_is_cut() {
    let mut random = Seeded::new(1);
    for (case, spec) in WINDOWS.into_iter().cycle().take(15).enumerate() {
        let all = events(case as u64, 6_000, STEP, DISORDER / 2);
        let (out, late) = (MemoryTable::default(), MemoryTable::default());
        let partitions = 1 + case % 3;
        let job = memory_job(&session(1 + case % 3), &all, partitions, spec, &out, &late).await;
        let options = match case % 4 {
            0 => DriverOptions::default(),
            _ => small(1 + random.below(3_000) as usize),
        };
        let mut driver = open(job, &in_memory(), options).await.unwrap();
        finish(&mut driver).await.unwrap();
        let model = windows(&all, spec.0, spec.1);
        assert_eq!(rows(&out.rows().unwrap()), model, "case {case}");
        assert!(late.rows().unwrap().is_empty());
        let metrics = driver.metrics();
        assert_eq!((metrics.rows_in, metrics.rows_out, metrics.late_rows), (6_000, model.len() as u64, 0));
        assert!(metrics.splits.iter().all(|s| s.ended));
        // Negative control.
        assert_ne!(rows(&out.rows().unwrap()), windows(&all[1..], spec.0, spec.1));
    }
}

/// Keys that come and never come again are forgotten: numbers of groups change while windows are open.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_go_are_forgotten() {
    for (spec, threads) in [((1000, 250), 2), ((1000, 1000), 3), ((2000, 20), 1)] {
        let mut all = events(5, 30_000, STEP, DISORDER / 2);
        all.iter_mut().for_each(|e| e.key = e.key.map(|_| e.id / 2));
        let (out, late) = (MemoryTable::default(), MemoryTable::default());
        let job = memory_job(&session(threads), &all, 2, spec, &out, &late).await;
        let mut driver = open(job, &in_memory(), small(2_000)).await.unwrap();
        let mut most = 0;
        while driver.step().await.unwrap().progress != Progress::Finished {
            most = most.max(driver.metrics().state_bytes);
        }
        assert_eq!(rows(&out.rows().unwrap()), windows(&all, spec.0, spec.1), "{spec:?}");
        // 15,000 groups of all panes, of which some 200 are in open windows, would take more.
        assert!(most < 16 << 20, "{spec:?}: {most} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_on_time_and_late_rows_are_the_input() {
    for (case, spec) in WINDOWS.into_iter().enumerate() {
        // Far more disorder than the job expects.
        let all = events(100 + case as u64, 8_000, STEP, 20 * DISORDER);
        let (out, late) = (MemoryTable::default(), MemoryTable::default());
        let job = memory_job(&session(2), &all, 2, spec, &out, &late).await;
        let mut driver = open(job, &in_memory(), small(500)).await.unwrap();
        finish(&mut driver).await.unwrap();
        let late = late.rows().unwrap();
        let ids = |b: &RecordBatch| b.column(0).as_primitive::<Int64Type>().values().to_vec();
        let late: std::collections::BTreeSet<i64> = late.iter().flat_map(ids).collect();
        assert!(!late.is_empty() && late.len() < all.len(), "{}", late.len());
        assert_eq!(driver.metrics().late_rows, late.len() as u64);
        let on_time = all.iter().filter(|e| !late.contains(&e.id));
        let (got, model) = (rows(&out.rows().unwrap()), windows(on_time, spec.0, spec.1));
        let partly = driver.metrics().partly_late_rows as i64;
        if spec.0 == spec.1 {
            assert_eq!((got, partly), (model, 0), "case {case}");
            continue;
        }
        // What such rows miss, and no more, is missing.
        let (most, counted) = ((spec.0 - 1) / spec.1, |rows: &[Row]| rows.iter().map(|r| r.4).sum::<i64>());
        let missed = counted(&model) - counted(&got);
        assert!(partly > 0 && (partly..=partly * most).contains(&missed), "case {case}: {partly} rows missed {missed} windows");
    }
}

/// One life of the job, files to files: dies at change number `dies`, before its effect or behind it.
async fn life(disk: &Arc<dyn ObjectStore>, format: FileFormat, spec: (i64, i64), threads: usize, (dies, behind): (u64, bool)) -> bool {
    let store: Arc<dyn ObjectStore> = Arc::new(Mortal::new(Arc::clone(disk), dies, behind));
    let input = FilesSource::new("in", Arc::clone(&store), "in".into(), format, batch(&[]).schema()).bounded();
    let stream = session(threads).stream(input).unwrap().event_time("at", ms(DISORDER)).unwrap();
    let sink = FilesSink::new("out", Arc::clone(&store), "out".into(), format).rolling(300);
    let job = windowed(stream, spec.0, spec.1).await.to(sink).unwrap();
    let run = async {
        let mut driver = open(job, &store, small(400)).await?;
        finish(&mut driver).await
    };
    match run.await {
        Ok(()) => true,
        Err(e) if e.kind() == ErrorKind::Retry => false,
        Err(e) => panic!("life of {dies} changes, behind {behind}: {e}"),
    }
}

/// For every change that the job makes in its store: it dies there, is restored at another parallelism, dies once
/// more, is restored and gets through.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step_and_restored_at_another_parallelism_nothing_is_lost_or_doubled() {
    for (case, (format, spec)) in
        [(FileFormat::Parquet, (1000, 250)), (FileFormat::Csv, (1000, 1000)), (FileFormat::NdJson, (1000, 100))].into_iter().enumerate()
    {
        let all = events(7 + case as u64, 1_200, STEP, DISORDER / 2);
        let expected = windows(&all, spec.0, spec.1);
        let (mut dies, mut through) = (0, false);
        while !through {
            dies += 1;
            let (behind, disk) = (dies % 2 == case as u64 % 2, in_memory());
            write_input(&disk, format, &all).await;
            through = life(&disk, format, spec, 1 + dies as usize % 3, (dies, behind)).await;
            life(&disk, format, spec, 1 + (dies as usize + 1) % 3, (1 + dies * 7 % 19, !behind)).await;
            assert!(life(&disk, format, spec, 1 + (dies as usize + 2) % 3, (u64::MAX, behind)).await);
            let names: Vec<_> = disk.list(Some(&"out".into())).try_collect().await.unwrap();
            assert!(names.iter().all(|n| !n.location.as_ref().contains("_staged")), "{names:?}");
            let mut got = vec![];
            for name in &names {
                got.extend(read(&disk, name.location.as_ref(), format).await);
            }
            assert_eq!(rows(&got), expected, "case {case}: killed at change {dies}, behind {behind}");
            // Old manifests and state are swept.
            let kept: Vec<_> = disk.list(Some(&"job".into())).try_collect().await.unwrap();
            assert!(kept.len() < 20, "{} files in the log", kept.len());
        }
        assert!(dies > 25, "{dies} changes only");
    }
}

async fn write_input(disk: &Arc<dyn ObjectStore>, format: FileFormat, all: &[Event]) {
    for (i, some) in all.chunks(500).enumerate() {
        let mut sink = FilesSink::new("input", Arc::clone(disk), "in".into(), format);
        sink.write(batch(some)).await.unwrap();
        let attempt = Attempt { generation: 0, checkpoint: i as u64 };
        let items = sink.seal(attempt, &batch(&[]).schema()).unwrap().await.unwrap();
        sink.committer().publish(&items).await.unwrap();
    }
}

async fn read(store: &Arc<dyn ObjectStore>, name: &str, format: FileFormat) -> Vec<RecordBatch> {
    use millstream::streams::object_store::ObjectStoreExt;
    let bytes = store.get(&name.into()).await.unwrap().bytes().await.unwrap();
    match format {
        FileFormat::Parquet => ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap().map(Result::unwrap).collect(),
        FileFormat::Csv => {
            let format = arrow::csv::reader::Format::default().with_header(true);
            let (schema, _) = format.infer_schema(std::io::Cursor::new(&bytes), None).unwrap();
            let reader = arrow::csv::ReaderBuilder::new(Arc::new(schema)).with_header(true).build(std::io::Cursor::new(bytes)).unwrap();
            reader.map(Result::unwrap).collect()
        }
        FileFormat::NdJson => {
            let number = |n: &str| arrow::datatypes::Field::new(n, DataType::Int64, true);
            let mut fields: Vec<_> = ["window_start", "window_end", "key", "n", "s", "lo", "hi", "d"].map(number).into();
            fields.push(arrow::datatypes::Field::new("name", DataType::Utf8, true));
            let schema = Arc::new(arrow::datatypes::Schema::new(fields));
            arrow::json::ReaderBuilder::new(schema).build(std::io::Cursor::new(bytes)).unwrap().map(Result::unwrap).collect()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_drivers_the_older_stops() {
    let all = events(3, 5_000, STEP, DISORDER / 2);
    let (store, out, late) = (in_memory(), MemoryTable::default(), MemoryTable::default());
    let session = session(2);
    let job = || memory_job(&session, &all, 2, (1000, 250), &out, &late);
    let mut old = open(job().await, &store, small(300)).await.unwrap();
    for _ in 0..4 {
        old.step().await.unwrap();
    }
    let mut new = open(job().await, &store, small(300)).await.unwrap();
    let error = old.step().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert!(error.to_string().contains("generation 1 was replaced by generation 2"), "{error}");
    assert!(old.step().await.unwrap_err().to_string().contains("open another one"));
    finish(&mut new).await.unwrap();
    assert_eq!(rows(&out.rows().unwrap()), windows(&all, 1000, 250));
    // A finished job stays finished.
    let mut again = open(job().await, &store, small(300)).await.unwrap();
    again.checkpoint().await.unwrap();
    again = open(job().await, &store, small(300)).await.unwrap();
    assert_eq!(again.step().await.unwrap().progress, Progress::Finished);
    assert_eq!(rows(&out.rows().unwrap()), windows(&all, 1000, 250));
}

/// A job that dies again and again does not read more and more files of state.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_opened_often_still_writes_all_its_state_at_times() {
    let all = events(3, 4_000, STEP, DISORDER / 2);
    let (store, out, late) = (in_memory(), MemoryTable::default(), MemoryTable::default());
    let session = session(1);
    let job = || memory_job(&session, &all, 1, (100_000, 100_000), &out, &late);
    let options = DriverOptions { epoch_rows: 100, ..small(100) };
    for life in 0..20 {
        open(job().await, &store, options.clone()).await.unwrap().step().await.unwrap();
        let objects: Vec<_> = store.list(None).try_collect().await.unwrap();
        let files = objects.iter().filter(|o| o.location.as_ref().contains("state")).count();
        assert!((1..=options.whole_every as usize).contains(&files), "{files} files behind life {life}");
    }
    finish(&mut open(job().await, &store, small(300)).await.unwrap()).await.unwrap();
    assert_eq!(rows(&out.rows().unwrap()), windows(&all, 100_000, 100_000));
}

/// Other windows, aggregates of the same name and type, keys, filters and inputs: their state is another one's.
#[tokio::test(flavor = "multi_thread")]
async fn the_checkpoints_of_another_job_are_refused() {
    let all = events(3, 300, STEP, 0);
    let (session, out) = (session(1), MemoryTable::default());
    let job = async |width, value: millstream::Expr, least, inputs| {
        let one = || session.stream(source(&all, 1)).unwrap().event_time("at", ms(0)).unwrap();
        let stream = (1..inputs).fold(one(), |s, _| s.union(one()).unwrap()).filter(col("id").gt_eq(lit(least))).unwrap();
        let windows = stream.key_by([col("key")]).window(Window::tumble(ms(width))).aggregate([value.alias("v")]).await.unwrap();
        windows.to(out.sink("out")).unwrap()
    };
    let store = in_memory();
    open(job(1000, max(col("value")), 0, 2).await, &store, small(100)).await.unwrap().step().await.unwrap();
    for other in [
        job(500, max(col("value")), 0, 2).await,
        job(1000, min(col("value")), 0, 2).await,
        job(1000, max(col("value")), 1, 2).await,
        job(1000, max(col("value")), 0, 1).await,
    ] {
        let error = open(other, &store, small(100)).await.err().unwrap();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("another job"), "{error}");
    }
    // The same one goes on.
    assert!(open(job(1000, max(col("value")), 0, 2).await, &store, small(100)).await.is_ok());
}

/// A CSV file with other columns is not read as if it had those that were declared.
#[tokio::test(flavor = "multi_thread")]
async fn a_csv_file_of_other_columns_is_refused() {
    use millstream::streams::object_store::ObjectStoreExt;
    let disk = in_memory();
    disk.put(&"in/a.csv".into(), "id,at,value,name,key\n1,2,3,x,4\n".into()).await.unwrap();
    let input = FilesSource::new("in", Arc::clone(&disk), "in".into(), FileFormat::Csv, batch(&[]).schema());
    let job = session(1).stream(input).unwrap().to(MemoryTable::default().sink("out")).unwrap();
    let error = open(job, &disk, small(10)).await.unwrap().step().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("in/a.csv"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_partition_holds_nothing_back_and_metrics_say_who_does() {
    let source = MemorySource::new("events", batch(&[]).schema(), 2);
    let all = events(5, 2_000, STEP, 0);
    source.push(0, batch(&all)).unwrap();
    let (out, clock) = (MemoryTable::default(), Arc::new(VirtualClock::default()));
    let stream = session(2).stream(source.clone()).unwrap().event_time("at", ms(0)).unwrap().idle_after(ms(5_000)).unwrap();
    let job = windowed(stream, 1000, 1000).await.to(out.sink("windows")).unwrap();
    let mut driver = Driver::open(job, log(&in_memory()), DriverOptions::default(), clock.clone()).await.unwrap();
    driver.step().await.unwrap();
    driver.checkpoint().await.unwrap();
    assert!(out.rows().unwrap().is_empty());
    let metrics = driver.metrics();
    assert_eq!((metrics.watermark, metrics.held_back_by.as_deref()), (None, Some("events/1")));
    clock.advance_ms(6_000);
    driver.step().await.unwrap();
    driver.checkpoint().await.unwrap();
    let last = all.iter().map(|e| e.at).max().unwrap();
    // Both are idle by now: the watermark stays where it is known.
    assert_eq!(driver.metrics().watermark, None);
    source.push(0, batch(&[Event { at: last + 1, ..all[0].clone() }])).unwrap();
    driver.step().await.unwrap();
    driver.checkpoint().await.unwrap();
    let metrics = driver.metrics();
    assert_eq!(metrics.watermark, Some(last + 1));
    assert!(metrics.splits[1].idle && !metrics.splits[0].idle);
    assert!(!out.rows().unwrap().is_empty());
    let text = metrics.prometheus("a \"job\"");
    assert!(text.contains("millstream_split_idle{job=\"a \\\"job\\\"\",source=\"events\",split=\"1\"} 1"), "{text}");
    assert_eq!(text.matches("# TYPE millstream_split_rows_total counter").count(), 1);
    source.end().unwrap();
    finish(&mut driver).await.unwrap();
    assert_eq!(rows(&out.rows().unwrap()).iter().map(|r| r.4).sum::<i64>(), 2_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn streamed_windows_equal_the_batch_answer() {
    let all = events(11, 20_000, STEP, DISORDER / 2);
    let session = session(2);
    let (out, late) = (MemoryTable::default(), MemoryTable::default());
    let mut driver = open(memory_job(&session, &all, 3, (1000, 1000), &out, &late).await, &in_memory(), small(1_700)).await.unwrap();
    finish(&mut driver).await.unwrap();
    session.register_batches("events", vec![batch(&all)]).unwrap();
    let begin = "at - ((at % 1000) + 1000) % 1000";
    let sql = format!(
        "select {begin} window_start, {begin} + 1000 window_end, key, name, count(*) n, sum(value) s, min(value) lo, max(value) hi, \
         count(distinct value) d from events group by {begin}, key, name"
    );
    let batch_rows = session.sql(&sql).await.unwrap().collect().await.unwrap();
    assert_eq!(rows(&out.rows().unwrap()), rows(&batch_rows));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_stream_can_do_is_refused_by_name() {
    let session = session(1);
    let stream = || session.stream(source(&events(1, 10, 1, 1), 1)).unwrap();
    let untimed = stream().key_by([col("key")]).window(Window::tumble(ms(10))).aggregate([count(lit(1))]).await;
    assert!(untimed.err().unwrap().to_string().contains("event_time()"));
    let timed = || stream().event_time("at", ms(0)).unwrap();
    assert!(stream().event_time("when", ms(0)).err().unwrap().to_string().contains("when"));
    assert!(timed().filter(col("nothing").gt(lit(1))).err().unwrap().to_string().contains("nothing"));
    let aggregate = |window| async move { timed().key_by([col("key")]).window(window).aggregate([count(lit(1))]).await };
    let error = aggregate(Window::tumble(Duration::from_micros(1_500))).await.err().unwrap();
    assert!(error.to_string().contains("whole number"), "{error}");
    let error = aggregate(Window::hop(ms(10), ms(20))).await.err().unwrap();
    assert!(error.to_string().contains("slide"), "{error}");
    let sketch = datafusion::functions_aggregate::expr_fn::approx_distinct(col("name"));
    let error = timed().key_by([col("key")]).window(Window::tumble(ms(10))).aggregate([sketch]).await.err().unwrap();
    assert_eq!(error.kind(), millstream::ErrorKind::Unsupported);
    assert!(error.to_string().contains("AggregateExec"), "{error}");
    let union = timed().union(stream()).unwrap().key_by([col("key")]).window(Window::tumble(ms(10))).aggregate([count(lit(1))]).await;
    assert!(union.err().unwrap().to_string().contains("every stream of a union"));
    let renamed = timed().select([col("id").alias("at"), col("key")]).unwrap();
    let error = renamed.key_by([col("key")]).window(Window::tumble(ms(10))).aggregate([count(lit(1))]).await.err().unwrap();
    assert!(error.to_string().contains("`at` is `id` of the source"), "{error}");
    // A null event time is an error that names the column.
    let source = MemorySource::new("events", batch(&[]).schema(), 1);
    let null: ArrayRef = Arc::new(Int64Array::from(vec![None::<i64>]));
    let one = batch(&events(1, 1, 1, 1));
    let mut columns = one.columns().to_vec();
    columns[1] = null;
    source.push(0, RecordBatch::try_new(one.schema(), columns).unwrap()).unwrap();
    let stream = session.stream(source).unwrap().event_time("at", ms(0)).unwrap();
    let job = windowed(stream, 10, 10).await.to(MemoryTable::default().sink("out")).unwrap();
    let error = open(job, &in_memory(), small(10)).await.unwrap().step().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("`at` is null"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_batches_and_projections_stand_before_and_behind_windows() {
    let all = events(21, 3_000, STEP, 0);
    let out = MemoryTable::default();
    let stream = session(2).stream(source(&all, 1)).unwrap().event_time("at", ms(0)).unwrap();
    let schema = batch(&[]).schema();
    let twice = |b: RecordBatch| Ok(vec![b.clone(), b]);
    let stream = stream.flat_map(schema, twice).unwrap().filter(col("value").gt(lit(0))).unwrap();
    let stream = stream.key_by([col("key")]).window(Window::tumble(ms(500))).aggregate([count(lit(1)).alias("n")]).await.unwrap();
    let stream = stream.select([col("key"), (col("n") + lit(1)).alias("more")]).unwrap().filter(col("more").gt(lit(3))).unwrap();
    assert_eq!(stream.schema().unwrap().field(1).name(), "more");
    let mut driver = open(stream.to(out.sink("out")).unwrap(), &in_memory(), small(700)).await.unwrap();
    finish(&mut driver).await.unwrap();
    let kept: Vec<Event> = all.iter().filter(|e| e.value > Some(0)).map(|e| Event { name: String::new(), ..e.clone() }).collect();
    let mut want: Vec<i64> = windows(&kept, 500, 500).iter().map(|r| 2 * r.4 + 1).filter(|n| *n > 3).collect();
    let rows = out.rows().unwrap();
    let all = concat_batches(&rows[0].schema(), &rows).unwrap();
    let mut got = all.column(1).as_primitive::<Int64Type>().values().to_vec();
    want.sort_unstable();
    got.sort_unstable();
    assert_eq!(got, want);
}
