//! What jobs do besides windows: side outputs, functions, watermarks of their own, restarts, tables in and out.

use super::faults::Mortal;
use super::model::{Event, events, windows};
use super::{DISORDER, STEP, batch, finish, log, memory_job, ms, open, rows, session, small, source, windowed};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use millstream::streams::object_store::ObjectStore;
use millstream::streams::{
    Driver, DriverOptions, Error, ErrorKind, FileFormat, FilesSource, MemorySource, MemoryTable, Restart, Restarts, SystemClock,
    VirtualClock, in_memory, run_restarting,
};
use millstream::{Expr, Window, col, count, lit};
use std::sync::Arc;

fn ids(batches: &[RecordBatch]) -> Vec<i64> {
    let mut ids: Vec<i64> = batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    ids.sort_unstable();
    ids
}

/// Reading ahead and checkpoints beside epochs change no row; nor does a kill between them.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_runs_on_equals_one_that_steps() {
    for (case, spec) in [(1000, 1000), (1000, 250), (2000, 20)].into_iter().enumerate() {
        let all = events(case as u64, 20_000, STEP, DISORDER / 2);
        let (store, out, late) = (in_memory(), MemoryTable::default(), MemoryTable::default());
        let mut epochs = 0;
        for life in 0..4 {
            let job = memory_job(&session(1 + life % 3), &all, 1 + case % 2, spec, &out, &late).await;
            let mut driver = open(job, &store, small(501)).await.unwrap();
            if life < 3 {
                // Dropped where it next waits, a few epochs on, whatever the machine: the checkpoint on its way goes with it.
                let (cut, mut begun) = (tokio::sync::Notify::new(), 0);
                let run = driver.run(0, || {
                    begun += 1;
                    if begun == 3 + 2 * life {
                        cut.notify_one();
                    }
                    false
                });
                tokio::select! { biased; () = cut.notified() => {}, done = run => panic!("case {case}: not cut: {done:?}") }
            } else {
                driver.run(0, || false).await.unwrap();
                epochs = driver.metrics().epochs;
            }
        }
        assert!(epochs > 0);
        assert_eq!(rows(&out.rows().unwrap()), windows(&all, spec.0, spec.1), "case {case}");
        assert!(late.rows().unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_put_aside_and_those_that_go_on_are_all_there_are() {
    let all = events(41, 5_000, STEP, 0);
    let (out, aside, more) = (MemoryTable::default(), MemoryTable::default(), MemoryTable::default());
    let stream = session(2).stream(source(&all, 2)).unwrap();
    let stream = stream.side_output(col("value").gt(lit(20)), aside.sink("large")).unwrap().filter(col("id").gt_eq(lit(10))).unwrap();
    let stream = stream.side_output(col("key").is_null(), more.sink("none")).unwrap();
    let mut driver = open(stream.to(out.sink("out")).unwrap(), &in_memory(), small(700)).await.unwrap();
    finish(&mut driver).await.unwrap();
    let wanted = |keep: &dyn Fn(&&Event) -> bool| all.iter().filter(keep).map(|e| e.id).collect::<Vec<_>>();
    // Null is not true: such rows go on.
    let large = |e: &&Event| e.value.is_some_and(|v| v > 20);
    let (mut first, mut second, mut rest) =
        (wanted(&large), wanted(&|e| !large(e) && e.id >= 10 && e.key.is_none()), wanted(&|e| !large(e) && e.id >= 10 && e.key.is_some()));
    [&mut first, &mut second, &mut rest].into_iter().for_each(|v| v.sort_unstable());
    assert!(!first.is_empty() && !second.is_empty() && !rest.is_empty());
    assert_eq!(ids(&aside.rows().unwrap()), first);
    assert_eq!(ids(&more.rows().unwrap()), second);
    assert_eq!(ids(&out.rows().unwrap()), rest);
    let metrics = driver.metrics();
    assert_eq!((metrics.operators[0].rows_aside, metrics.operators[0].rows_in), (first.len() as u64, 5_000));
    assert_eq!(metrics.late_rows, 0);
    assert!(metrics.prometheus("j").contains("operator_rows_aside_total{job=\"j\",operator=\"split0\",device=\"host\"}"));
}

/// Filters and projections run as a stage, in order; what DataFusion leaves nothing of for a stage runs without one.
#[tokio::test(flavor = "multi_thread")]
async fn filters_and_projections_are_a_stage_where_they_can_be() {
    let all = events(43, 5_000, STEP, 0);
    let run = async |columns: Vec<Expr>, filter: Option<Expr>| {
        let (out, stream) = (MemoryTable::default(), session(2).stream(source(&all, 1)).unwrap());
        let stream = filter.map_or(Ok(stream), |f| session(2).stream(source(&all, 1)).unwrap().filter(f)).unwrap();
        let mut driver = open(stream.select(columns).unwrap().to(out.sink("out")).unwrap(), &in_memory(), small(1_234)).await.unwrap();
        finish(&mut driver).await.unwrap();
        (driver.metrics().operators[0].device, out.rows().unwrap())
    };
    let numbers = |b: &RecordBatch, c: usize| b.column(c).as_primitive::<Int64Type>().values().to_vec();
    let filter = col("value").gt(lit(3)).and(col("name").not_eq(lit("name 2")));
    let (device, got) = run(vec![col("id"), (col("value") * lit(3) + col("id")).alias("sum"), col("name")], Some(filter)).await;
    let kept: Vec<&Event> = all.iter().filter(|e| e.value.is_some_and(|v| v > 3) && e.name != "name 2").collect();
    assert!(kept.len() > 1_000 && kept.len() < 3_000 && device == "cpu", "{device}");
    let got: (Vec<i64>, Vec<i64>) = got.iter().flat_map(|b| numbers(b, 0).into_iter().zip(numbers(b, 1))).unzip();
    assert_eq!(got.0, kept.iter().map(|e| e.id).collect::<Vec<_>>());
    assert_eq!(got.1, kept.iter().map(|e| e.value.unwrap() * 3 + e.id).collect::<Vec<_>>());
    let (device, got) = run(vec![col("name"), col("id")], None).await;
    assert_eq!((device, got[0].schema().field(0).name().as_str()), ("host", "name"));
    assert_eq!(got.iter().flat_map(|b| numbers(b, 1)).collect::<Vec<_>>(), all.iter().map(|e| e.id).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn watermarks_come_from_a_column_or_a_function() {
    let all = events(45, 4_000, STEP, DISORDER / 2);
    let expected = windows(&all, 1000, 250);
    // The column `id` grows with time: it is a mark that runs behind by what the function takes off.
    for with in ["function", "column"] {
        let (out, late) = (MemoryTable::default(), MemoryTable::default());
        let marked = all.iter().scan(i64::MIN, |greatest, e| {
            *greatest = e.at.max(*greatest);
            Some(Event { value: e.value, id: *greatest - DISORDER, ..e.clone() })
        });
        let marked: Vec<Event> = marked.collect();
        let stream = session(2).stream(source(&marked, 1)).unwrap().event_time("at", ms(0)).unwrap();
        let stream = match with {
            "column" => stream.watermark_from("id").unwrap(),
            _ => stream
                .watermark_with("behind", |b| Ok(b["at"].as_primitive::<Int64Type>().values().iter().max().map(|at| at - DISORDER)))
                .unwrap(),
        };
        // `windowed` keeps ids from 0 on.
        let stream = stream.filter(lit(true)).unwrap();
        let aggregates = [
            count(lit(1)).alias("n"),
            datafusion::functions_aggregate::expr_fn::sum(col("value")).alias("s"),
            datafusion::functions_aggregate::expr_fn::min(col("value")).alias("lo"),
            datafusion::functions_aggregate::expr_fn::max(col("value")).alias("hi"),
            datafusion::functions_aggregate::expr_fn::count_distinct(col("value")).alias("d"),
        ];
        let keyed = stream.key_by([col("key"), col("name")]).window(Window::hop(ms(1000), ms(250)));
        let job = keyed.aggregate(aggregates).await.unwrap().late_to(late.sink("late")).to(out.sink("out")).unwrap();
        let mut driver = open(job, &in_memory(), small(300)).await.unwrap();
        let mut open_windows = 0;
        while driver.step().await.unwrap().rows_in > 0 {
            open_windows += usize::from(!out.rows().unwrap().is_empty());
        }
        assert!(open_windows > 3, "windows close while rows come: {open_windows}");
        assert_eq!(rows(&out.rows().unwrap()), expected, "{with}");
        assert!(late.rows().unwrap().is_empty());
    }
    let stream = || session(1).stream(source(&all, 1)).unwrap();
    assert!(stream().watermark_from("id").err().unwrap().to_string().contains("behind event_time()"));
    let timed = || stream().event_time("at", ms(0)).unwrap();
    assert!(timed().watermark_from("nothing").err().unwrap().to_string().contains("nothing"));
    assert!(timed().watermark_from("name").err().unwrap().to_string().contains("marks in `name` are Utf8"));
    // A panic in the function is an error of the job.
    let job = timed().watermark_with("bad", |_| panic!("no")).unwrap().to(MemoryTable::default().sink("out")).unwrap();
    let error = open(job, &in_memory(), small(10)).await.unwrap().step().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Bug && error.to_string().contains("`bad` panicked"), "{error}");
    // Late rows without windows go nowhere.
    let error = stream().late_to(MemoryTable::default().sink("late")).to(MemoryTable::default().sink("out")).err().unwrap();
    assert!(error.to_string().contains("there are none"), "{error}");
}

/// A store that fails again and again: the job is opened again until it is through, and says why; an error that would come
/// again is not tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_outside_is_opened_again() {
    let all = events(47, 2_000, STEP, DISORDER / 2);
    let (disk, out, late) = (in_memory(), MemoryTable::default(), MemoryTable::default());
    let restarts = Restarts { attempts: 3, delay_ms: 1, delay_ms_max: 2 };
    let (mut lives, mut reasons) = (0, vec![]);
    let opened = || {
        lives += 1;
        // Each lives a little longer, so that there are checkpoints between failures. A fast machine is through with few of
        // them, but not with three changes.
        let store: Arc<dyn ObjectStore> = Arc::new(Mortal::new(Arc::clone(&disk), 3 * lives, lives % 2 == 0));
        let (all, out, late) = (all.clone(), out.clone(), late.clone());
        async move {
            let job = memory_job(&session(2), &all, 2, (1000, 250), &out, &late).await;
            Driver::open(job, log(&store), small(200), Arc::new(VirtualClock::default())).await
        }
    };
    let told = |r: &Restart| reasons.push((r.attempt, r.delay_ms, r.reason.to_string()));
    let metrics = run_restarting(&restarts, opened, 0, || false, told).await.unwrap().metrics();
    assert!(lives > 1 && metrics.restarts as usize == reasons.len() && reasons.len() == lives as usize - 1, "{lives} {reasons:?}");
    assert!(reasons.iter().all(|(_, delay, why)| *delay <= 2 && why.contains("the power went")), "{reasons:?}");
    assert!(metrics.last_failure.unwrap().contains("the power went"));
    assert_eq!(rows(&out.rows().unwrap()), windows(&all, 1000, 250));
    // Too often without a checkpoint.
    let mut tries = 0;
    let never = || {
        tries += 1;
        async { Err::<Driver, _>(Error::new(ErrorKind::Retry, "nobody there")) }
    };
    let error = run_restarting(&restarts, never, 0, || false, |_| ()).await.err().unwrap();
    assert_eq!((tries, error.to_string().as_str()), (4, "nobody there"));
    // What would come again.
    let mut tries = 0;
    let wrong = || {
        tries += 1;
        async {
            let store = in_memory();
            let bad: Arc<dyn ObjectStore> = Arc::clone(&store);
            let input = FilesSource::new("in", Arc::clone(&bad), "in".into(), FileFormat::Csv, batch(&[]).schema());
            millstream::streams::object_store::ObjectStoreExt::put(&store, &"in/a.csv".into(), "no,such\n1,2\n".into()).await.unwrap();
            let job = session(1).stream(input).unwrap().to(MemoryTable::default().sink("out")).unwrap();
            Driver::open(job, log(&store), DriverOptions::default(), Arc::new(SystemClock::new())).await
        }
    };
    let error = run_restarting(&restarts, wrong, 0, || false, |_| ()).await.err().unwrap();
    assert_eq!((tries, error.kind()), (1, ErrorKind::Invalid));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_become_streams_and_streams_tables() {
    let all = events(49, 3_000, STEP, DISORDER / 2);
    let session = session(2);
    session.register_batches("events", vec![batch(&all)]).unwrap();
    let table = session.sql("select * from events where id >= 0").await.unwrap();
    let stream = session.stream_of("events", table).await.unwrap().event_time("at", ms(DISORDER)).unwrap();
    let got = windowed(stream, 1000, 250).await.to_table().await.unwrap().collect().await.unwrap();
    assert_eq!(rows(&got), windows(&all, 1000, 250));
    // No rows are a table too.
    let none = session.stream(source(&[], 1)).unwrap().to_table().await.unwrap();
    assert_eq!(none.schema().fields(), batch(&[]).schema().fields());
    assert_eq!(none.collect().await.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    let growing = FilesSource::new("in", in_memory(), "in".into(), FileFormat::Csv, batch(&[]).schema());
    let error = session.stream(growing).unwrap().to_table().await.err().unwrap();
    assert!(error.to_string().contains("`in` does not end"), "{error}");
    // A function of batches, at once.
    let schema = session.stream(source(&all, 1)).unwrap().select([col("id")]).unwrap().schema().unwrap();
    let mapped = session.stream(source(&all, 1)).unwrap().map(schema, |b| Ok(b.project(&[0]).unwrap())).unwrap();
    assert_eq!(ids(&mapped.to_table().await.unwrap().collect().await.unwrap()).len(), 3_000);
    let source = MemorySource::new("events", batch(&[]).schema(), 1);
    source.push(0, batch(&all)).unwrap();
    source.end().unwrap();
    let panics = session.stream(source).unwrap().map(batch(&[]).schema(), |_| panic!("no such luck")).unwrap();
    assert!(panics.to_table().await.err().unwrap().to_string().contains("no such luck"));
}

/// The first of two rows' ids, the last one's name and time, the sum of their values: it matters which row came first.
fn first_last_sum(a: &RecordBatch, b: &RecordBatch) -> millstream::Result<RecordBatch> {
    let values = |r: &RecordBatch| r["value"].as_primitive::<Int64Type>().iter().map(|v| v.unwrap_or(0)).collect::<Vec<_>>();
    let sums: Int64Array = values(a).iter().zip(values(b)).map(|(a, b)| Some(a + b)).collect();
    let columns = vec![a["id"].clone(), b["at"].clone(), a["key"].clone(), b["name"].clone(), Arc::new(sums) as ArrayRef];
    Ok(RecordBatch::try_new(a.schema(), columns).unwrap())
}

/// Begin, key, first id, last name, sum.
type Reduced = (i64, Option<i64>, i64, String, i64);

/// Of widths that are whole slides: a pane is a slide.
fn reduced_model(all: &[Event], width: i64, slide: i64) -> Vec<Reduced> {
    // Rows of an earlier pane come first, those of one pane in the order in which they came.
    let mut all: Vec<&Event> = all.iter().collect();
    all.sort_by_key(|e| e.at.div_euclid(slide));
    let mut rows: std::collections::BTreeMap<(i64, Option<i64>), Reduced> = std::collections::BTreeMap::new();
    for e in all {
        for start in (e.at - width + 1..=e.at).filter(|s| s.rem_euclid(slide) == 0) {
            let row = rows.entry((start, e.key)).or_insert((start, e.key, e.id, String::new(), 0));
            (row.3, row.4) = (e.name.clone(), row.4 + e.value.unwrap_or(0));
        }
    }
    rows.into_values().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_reduced_in_the_order_in_which_they_came() {
    for (case, (width, slide)) in [(500, 500), (600, 200)].into_iter().enumerate() {
        // A single null value would be 0 alone: the model says so too.
        let all: Vec<Event> = events(51 + case as u64, 3_000, STEP, DISORDER / 2)
            .into_iter()
            .map(|e| Event { value: Some(e.value.unwrap_or(0)), ..e })
            .collect();
        let (store, out) = (in_memory(), MemoryTable::default());
        for life in 0..3 {
            let stream = session(2).stream(source(&all, 1)).unwrap().event_time("at", ms(DISORDER)).unwrap();
            let keyed = stream.filter(col("id").gt_eq(lit(0))).unwrap().key_by([col("key")]);
            let reduced = keyed.window(Window::hop(ms(width), ms(slide))).reduce("first, last, sum", first_last_sum).unwrap();
            let mut driver = open(reduced.to(out.sink("out")).unwrap(), &store, small(97)).await.unwrap();
            if life == 2 {
                finish(&mut driver).await.unwrap();
            } else {
                for _ in 0..11 {
                    driver.step().await.unwrap();
                }
            }
        }
        let mut got: Vec<Reduced> = vec![];
        for b in out.rows().unwrap() {
            let number = |name: &str| b[name].as_primitive::<Int64Type>().clone();
            let (starts, ends, keys, ids, sums) =
                (number("window_start"), number("window_end"), number("key"), number("id"), number("value"));
            for i in 0..b.num_rows() {
                assert_eq!(ends.value(i), starts.value(i) + width);
                let key = keys.is_valid(i).then(|| keys.value(i));
                got.push((starts.value(i), key, ids.value(i), b["name"].as_string::<i32>().value(i).to_string(), sums.value(i)));
            }
        }
        got.sort();
        let mut want = reduced_model(&all, width, slide);
        want.sort();
        assert_eq!(got, want, "case {case}");
    }
    let all = events(53, 300, STEP, 0);
    let keyed = || session(1).stream(source(&all, 1)).unwrap().event_time("at", ms(0)).unwrap();
    let error = keyed().key_by([col("key") + lit(1)]).window(Window::tumble(ms(10))).reduce("f", first_last_sum).err().unwrap();
    assert!(error.to_string().contains("select() `key + Int32(1)` as one first"), "{error}");
    for (combine, says) in [
        ((|a, _| Ok(a.slice(0, 0))) as fn(&RecordBatch, &RecordBatch) -> millstream::Result<RecordBatch>, "reduce made 0 rows"),
        (|_, _| panic!("no such luck"), "no such luck"),
        (
            |a, b| {
                let mut made = first_last_sum(a, b)?;
                let at = made["at"].clone();
                let mut columns = made.columns().to_vec();
                columns[2] = at;
                made = RecordBatch::try_new(a.schema(), columns).unwrap();
                Ok(made)
            },
            "reduce changed the key `key`",
        ),
    ] {
        let job = keyed().key_by([col("key")]).window(Window::tumble(ms(1000))).reduce("bad", combine).unwrap();
        let mut driver = open(job.to(MemoryTable::default().sink("out")).unwrap(), &in_memory(), small(500)).await.unwrap();
        let error = finish(&mut driver).await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
