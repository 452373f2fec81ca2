//! Sinks by themselves: what a checkpoint stages, what publishing shows, what sweeping takes away, and that other readers find
//! partitions as they were written.

use super::faults::Mortal;
use super::model::{Seeded, events, windows};
use super::{DISORDER, STEP, finish, ms, open, read, rows, session, small, source, windowed};
use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Date32Array, Date64Array, Float64Array, Int8Array, Int64Array, LargeStringArray, RecordBatch,
    StringArray, StringViewArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use futures::TryStreamExt;
use millstream::streams::object_store::{ObjectStore, ObjectStoreExt};
use millstream::streams::{Attempt, ErrorKind, FileFormat, FilesSink, FilesSource, PrintSink, Sink, Source, in_memory, local};
use millstream::{Table, asc, col, lit};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

const FORMATS: [FileFormat; 3] = [FileFormat::Parquet, FileFormat::Csv, FileFormat::NdJson];
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

fn numbered(keys: ArrayRef) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..keys.len() as i64));
    RecordBatch::try_from_iter_with_nullable([("k", keys, true), ("v", numbers, false)]).unwrap()
}

fn strings(keys: &[Option<&str>]) -> ArrayRef {
    Arc::new(keys.iter().copied().collect::<StringArray>())
}

fn into(store: &Arc<dyn ObjectStore>, format: FileFormat) -> FilesSink {
    FilesSink::new("out", Arc::clone(store), "out".into(), format)
}

/// Writes and stages; gives the items.
async fn stage(sink: &mut FilesSink, batches: &[RecordBatch], (generation, checkpoint): (u64, u64)) -> Vec<String> {
    for batch in batches {
        sink.write(batch.clone()).await.unwrap();
    }
    sink.seal(Attempt { generation, checkpoint }, &batches[0].schema()).unwrap().await.unwrap()
}

async fn publish(sink: &FilesSink, items: &[String]) {
    sink.committer().publish(items).await.unwrap();
}

/// What is in the store, in order.
async fn names(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    let mut names: Vec<String> = store.list(None).map_ok(|o| o.location.to_string()).try_collect().await.unwrap();
    names.sort();
    names
}

/// The folder of a file, below that of the sink.
fn folder_of(name: &str) -> &str {
    name.strip_prefix("out/").and_then(|n| n.rsplit_once('/')).map_or("", |(folder, _)| folder)
}

fn numbers(batches: &[RecordBatch]) -> Vec<i64> {
    let of = |b: &RecordBatch| b.column_by_name("v").unwrap().as_primitive::<Int64Type>().values().to_vec();
    batches.iter().flat_map(of).collect()
}

/// Number and key of each row, in order of the numbers.
async fn pairs(table: Table) -> Vec<(i64, String)> {
    let batches = table.select([col("v"), col("k")]).unwrap().sort([asc(col("v"))]).unwrap().collect().await.unwrap();
    let keys = |b: &RecordBatch| {
        let keys = cast(b.column(1), &DataType::Utf8).unwrap();
        keys.as_string::<i32>().iter().map(|k| k.unwrap().to_string()).collect::<Vec<_>>()
    };
    numbers(&batches).into_iter().zip(batches.iter().flat_map(keys)).collect()
}

/// Names that a path cannot have, that look encoded, that are folders of their own or nothing at all.
const ODD: [&str; 18] = [
    "plain",
    "a/b",
    "a=b",
    "100%",
    "%41",
    "a b ",
    "",
    ".",
    "..",
    "_hidden",
    "ä€",
    "ä/%",
    "it's: \"q\"",
    "?*#~",
    "back\\slash",
    "tab\there",
    "{[^|`]}<>",
    "a+b&c;d",
];

#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_odd_names_come_back_as_they_were() {
    let values: Vec<Option<&str>> = ODD.into_iter().map(Some).chain([None]).collect();
    let keys: Vec<Option<&str>> = [&values[..], &values[..]].concat();
    for format in FORMATS {
        let folder = tempfile::tempdir().unwrap();
        let store = local(folder.path()).unwrap();
        let mut sink = into(&store, format).partition_by(["k"]);
        let items = stage(&mut sink, &[numbered(strings(&keys))], (1, 1)).await;
        publish(&sink, &items).await;
        let stored = names(&store).await;
        let folders: BTreeSet<&str> = stored.iter().map(|n| folder_of(n)).collect();
        assert_eq!((stored.len(), folders.len()), (ODD.len() + 1, ODD.len() + 1), "{stored:?}");
        for wanted in ["k=a%2Fb", "k=a=b", "k=100%25", "k=%2541", "k=", "k=ä€", "k=..", "k=tab%09here", "k=__HIVE_DEFAULT_PARTITION__"] {
            assert!(folders.contains(wanted), "{wanted} in {folders:?}");
        }
        let path = format!("{}/out/", folder.path().display());
        let session = session(2);
        let wanted: Vec<(i64, String)> = keys.iter().enumerate().map(|(v, k)| (v as i64, k.unwrap_or(NULL).to_string())).collect();
        assert_eq!(pairs(session.read(&path).await.unwrap()).await, wanted, "{format:?}");
        // A query for one value looks into its folder only, and finds it.
        for (i, value) in ODD.into_iter().enumerate() {
            let found = pairs(session.read(&path).await.unwrap().filter(col("k").eq(lit(value))).unwrap()).await;
            let both = [i, i + values.len()].map(|v| (v as i64, value.to_string()));
            assert_eq!(found, both, "{format:?}: k = {value:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn integers_dates_booleans_and_strings_are_folders() {
    const DAY: i64 = 86_400_000;
    let cases: Vec<(ArrayRef, Vec<&str>)> = vec![
        (Arc::new(Int8Array::from(vec![Some(-1), Some(7), None, Some(-1)])), vec!["-1", "7", NULL]),
        (Arc::new(UInt64Array::from(vec![u64::MAX, 0])), vec!["0", "18446744073709551615"]),
        (Arc::new(BooleanArray::from(vec![true, false, true])), vec!["false", "true"]),
        (Arc::new(Date32Array::from(vec![19_875, -1])), vec!["1969-12-31", "2024-06-01"]),
        // Two times of one day are one folder.
        (Arc::new(Date64Array::from(vec![19_875 * DAY, 19_875 * DAY + 1, 0])), vec!["1970-01-01", "2024-06-01"]),
        (Arc::new(LargeStringArray::from(vec!["x", "y"])), vec!["x", "y"]),
        (Arc::new(StringViewArray::from(vec!["x", "a string longer than twelve bytes"])), vec!["a string longer than twelve bytes", "x"]),
    ];
    for (keys, wanted) in cases {
        let store = in_memory();
        let mut sink = into(&store, FileFormat::Parquet).partition_by(["k"]);
        let items = stage(&mut sink, &[numbered(Arc::clone(&keys))], (1, 1)).await;
        publish(&sink, &items).await;
        let stored = names(&store).await;
        let folders: Vec<String> = stored.iter().map(|n| folder_of(n).to_string()).collect();
        let wanted: Vec<String> = wanted.iter().map(|v| format!("k={v}")).collect();
        assert_eq!(folders, wanted, "{}", keys.data_type());
        let mut found = vec![];
        for name in &stored {
            let batches = read(&store, name, FileFormat::Parquet).await;
            assert!(batches.iter().all(|b| b.num_columns() == 1 && b.schema().field(0).name() == "v"));
            found.extend(numbers(&batches));
        }
        found.sort_unstable();
        assert_eq!(found, (0..keys.len() as i64).collect::<Vec<_>>(), "{}", keys.data_type());
    }
}

/// Two levels of folders and files of three rows: every row is in its folder, in order, and no file is longer or, but for the
/// last of a folder, shorter.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_folder_keep_their_order_through_full_files() {
    let (mut random, store) = (Seeded::new(8), in_memory());
    let mut sink = into(&store, FileFormat::Parquet).rolling(3).partition_by(["n", "k"]);
    let (mut batches, mut wanted, mut next) = (vec![], BTreeMap::<String, Vec<i64>>::new(), 0);
    for _ in 0..9 {
        let rows: Vec<(Option<i64>, &str)> = (0..random.below(12))
            .map(|_| ([Some(1), Some(2), None][random.below(3) as usize], ["x", "y"][random.below(2) as usize]))
            .collect();
        let values: Vec<i64> = (next..next + rows.len() as i64).collect();
        next += rows.len() as i64;
        for ((k, n), v) in rows.iter().zip(&values) {
            wanted.entry(format!("n={n}/k={}", k.map_or(NULL.into(), |k| k.to_string()))).or_default().push(*v);
        }
        let columns: [(&str, ArrayRef, bool); 3] = [
            ("k", Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.0))), true),
            ("v", Arc::new(Int64Array::from(values)), true),
            ("n", Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1))), true),
        ];
        batches.push(RecordBatch::try_from_iter_with_nullable(columns).unwrap());
    }
    let items = stage(&mut sink, &batches, (1, 1)).await;
    publish(&sink, &items).await;
    let (mut found, mut lengths) = (BTreeMap::<String, Vec<i64>>::new(), BTreeMap::<String, Vec<usize>>::new());
    for name in names(&store).await {
        let values = numbers(&read(&store, &name, FileFormat::Parquet).await);
        lengths.entry(folder_of(&name).into()).or_default().push(values.len());
        found.entry(folder_of(&name).into()).or_default().extend(values);
    }
    assert_eq!(found, wanted);
    for (folder, mut lengths) in lengths {
        let last = lengths.pop().unwrap();
        assert!((1..=3).contains(&last) && lengths.iter().all(|l| *l == 3), "{folder}: {lengths:?}, {last}");
    }
    assert!(wanted.len() == 6 && wanted.values().any(|v| v.len() > 3), "{wanted:?}");
}

/// Rows written behind a seal are of the next checkpoint, however late the first one is staged.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_staged_while_the_next_is_written() {
    let store = in_memory();
    let mut sink = into(&store, FileFormat::Parquet).rolling(2).partition_by(["k"]);
    let batch = numbered(strings(&[Some("x"), Some("y"), Some("x"), Some("x")]));
    let attempt = |checkpoint| Attempt { generation: 1, checkpoint };
    sink.write(batch.clone()).await.unwrap();
    let first = sink.seal(attempt(1), &batch.schema()).unwrap();
    sink.write(batch.slice(0, 1)).await.unwrap();
    let second = sink.seal(attempt(2), &batch.schema()).unwrap();
    let third = sink.seal(attempt(3), &batch.schema()).unwrap();
    let (third, second, first) = (third.await.unwrap(), second.await.unwrap(), first.await.unwrap());
    assert_eq!((first.len(), second.len(), third.len()), (3, 1, 0));
    let mut seen = vec![];
    for (items, wanted) in [(&first, vec![0, 1, 2, 3]), (&second, vec![0])] {
        publish(&sink, items).await;
        let mut values = vec![];
        for name in names(&store).await.into_iter().filter(|n| !n.contains("_staged") && !seen.contains(n)).collect::<Vec<_>>() {
            values.extend(numbers(&read(&store, &name, FileFormat::Parquet).await));
            seen.push(name);
        }
        values.sort_unstable();
        assert_eq!(values, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_staged_is_invisible_and_published_once() {
    let store = in_memory();
    let keys = strings(&[Some("x"), Some("y"), Some("x")]);
    let batch = numbered(keys);
    let renamed = RecordBatch::try_from_iter(["_k", "v"].into_iter().zip(batch.columns().iter().cloned())).unwrap();
    let mut sink = into(&store, FileFormat::Csv).partition_by(["_k"]);
    let source = FilesSource::new("in", Arc::clone(&store), "out".into(), FileFormat::Csv, renamed.schema());
    let items = stage(&mut sink, std::slice::from_ref(&renamed), (1, 1)).await;
    assert_eq!(items.len(), 2);
    assert!(names(&store).await.iter().all(|n| n.starts_with("out/_staged/part-")));
    assert_eq!(source.splits().await.unwrap(), Vec::<String>::new());
    publish(&sink, &items).await;
    let published: Vec<String> = items.iter().map(|i| format!("out/{i}")).collect();
    assert!(published[0].starts_with("out/_k=x/part-") && published[1].starts_with("out/_k=y/part-"), "{published:?}");
    assert_eq!((names(&store).await, source.splits().await.unwrap()), (published.clone(), published.clone()));
    // Once more, and by another sink: nothing changes, not even when a file was written.
    let written = store.head(&published[0].as_str().into()).await.unwrap().last_modified;
    publish(&into(&store, FileFormat::Csv), &items).await;
    assert_eq!(names(&store).await, published);
    assert_eq!(store.head(&published[0].as_str().into()).await.unwrap().last_modified, written);
    // What is gone before it was published is not passed over.
    let lost = stage(&mut sink, &[renamed], (1, 2)).await;
    for name in names(&store).await.iter().filter(|n| n.contains("_staged")) {
        store.delete(&name.as_str().into()).await.unwrap();
    }
    let error = sink.committer().publish(&lost).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("gone"), "{error}");
}

/// Publishing dies at every change it makes: a folder with a marker has all its files, and the next one who publishes finishes.
#[tokio::test(flavor = "multi_thread")]
async fn a_marker_is_there_when_all_files_of_its_folder_are() {
    let batch = numbered(Arc::new(Int64Array::from(vec![1, 2, 1, 1, 1, 2, 1])));
    let mut died = 0;
    loop {
        let disk = in_memory();
        let sink = |store: &Arc<dyn ObjectStore>| into(store, FileFormat::Csv).rolling(2).partition_by(["k"]).success_markers();
        let items = stage(&mut sink(&disk), std::slice::from_ref(&batch), (1, 1)).await;
        assert_eq!(items.len(), 4);
        assert!(!names(&disk).await.iter().any(|n| n.contains("_SUCCESS")));
        let mortal: Arc<dyn ObjectStore> = Arc::new(Mortal::new(Arc::clone(&disk), died + 1, died % 2 == 0));
        let done = sink(&mortal).committer().publish(&items).await.is_ok();
        let seen = names(&disk).await;
        for folder in ["k=1", "k=2"] {
            let parts = seen.iter().filter(|n| folder_of(n) == folder && n.contains("/part-")).count();
            let wanted = items.iter().filter(|i| i.starts_with(folder)).count();
            assert!(parts == wanted || !seen.contains(&format!("out/{folder}/_SUCCESS")), "died at {died}: {seen:?}");
        }
        publish(&sink(&disk), &items).await;
        let mut wanted: Vec<String> = items.iter().map(|i| format!("out/{i}")).collect();
        wanted.extend(["out/k=1/_SUCCESS".to_string(), "out/k=2/_SUCCESS".to_string()]);
        wanted.sort();
        assert_eq!(names(&disk).await, wanted, "died at {died}");
        if done {
            break;
        }
        died += 1;
    }
    // A copy and a removal for each file, and two markers.
    assert_eq!(died, 2 * 4 + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_folders_that_get_files_are_marked() {
    let store = in_memory();
    let marked = async |sink: &mut FilesSink, keys: Vec<i64>, checkpoint| {
        let items = stage(sink, &[numbered(Arc::new(Int64Array::from(keys)))], (1, checkpoint)).await;
        publish(sink, &items).await;
        let markers: Vec<String> = names(&store).await.into_iter().filter(|n| n.ends_with("_SUCCESS")).collect();
        for name in &markers {
            assert_eq!(store.head(&name.as_str().into()).await.unwrap().size, 0);
            store.delete(&name.as_str().into()).await.unwrap();
        }
        markers
    };
    let mut sink = into(&store, FileFormat::Csv).partition_by(["k"]).success_markers();
    assert_eq!(marked(&mut sink, vec![1, 2], 1).await, ["out/k=1/_SUCCESS", "out/k=2/_SUCCESS"]);
    assert_eq!(marked(&mut sink, vec![2], 2).await, ["out/k=2/_SUCCESS"]);
    assert_eq!(marked(&mut sink, vec![], 3).await, Vec::<String>::new());
    assert_eq!(marked(&mut into(&store, FileFormat::Csv).success_markers(), vec![1], 4).await, ["out/_SUCCESS"]);
    // Only who asks for them gets them.
    assert_eq!(marked(&mut into(&store, FileFormat::Csv).partition_by(["k"]), vec![1], 5).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn sweeping_takes_what_older_drivers_staged_in_vain() {
    let store = in_memory();
    let mut sink = into(&store, FileFormat::Csv).partition_by(["k"]);
    let batch = numbered(strings(&[Some("a/b"), None]));
    let published = stage(&mut sink, std::slice::from_ref(&batch), (1, 1)).await;
    publish(&sink, &published).await;
    let named = stage(&mut sink, std::slice::from_ref(&batch), (1, 2)).await;
    let vain = stage(&mut sink, std::slice::from_ref(&batch), (1, 3)).await;
    let mine = stage(&mut sink, &[batch], (2, 3)).await;
    let staged = |items: &[String]| -> Vec<String> {
        items.iter().map(|i| format!("out/_staged/{}", i.rsplit_once('/').map_or(i.as_str(), |(_, file)| file))).collect()
    };
    let mut wanted: Vec<String> = published.iter().map(|i| format!("out/{i}")).collect();
    wanted.extend(staged(&named).into_iter().chain(staged(&mine)));
    wanted.sort();
    let before = names(&store).await;
    assert!(staged(&vain).iter().all(|n| before.contains(n)) && before.len() == wanted.len() + 2, "{before:?}");
    sink.committer().sweep(2, &named).await.unwrap();
    assert_eq!(names(&store).await, wanted);
    // What was named can still be published.
    publish(&sink, &named).await;
    assert_eq!(names(&store).await.iter().filter(|n| !n.contains("_staged")).count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_folder_is_refused_by_name() {
    let rows = numbered(strings(&[Some("x")]));
    let floats = numbered(Arc::new(Float64Array::from(vec![1.5])));
    let named = |name: &str| RecordBatch::try_from_iter([(name, strings(&[Some("x")])), ("v", rows.column(1).clone())]).unwrap();
    let cases: [(&[&str], RecordBatch, &[&str]); 7] = [
        (&["w"], rows.clone(), &["`w`", "k, v"]),
        (&["k"], floats, &["`k`", "Float64"]),
        (&["k", "v"], rows.clone(), &["all columns"]),
        (&["k", "k"], rows.clone(), &["`k` twice"]),
        (&["a=b"], named("a=b"), &["`a=b`", "another name"]),
        (&["a/b"], named("a/b"), &["`a/b`", "another name"]),
        (&[""], named(""), &["``", "another name"]),
    ];
    for (columns, rows, wanted) in cases {
        let mut sink = into(&in_memory(), FileFormat::Csv).partition_by(columns.iter().copied());
        let written = sink.write(rows.clone()).await.unwrap_err();
        // Also without rows: at the first checkpoint.
        let sealed = sink.seal(Attempt { generation: 1, checkpoint: 1 }, &rows.schema()).err().unwrap();
        for error in [written, sealed] {
            let text = error.to_string();
            assert!(error.kind() == ErrorKind::Invalid && text.contains("`out` cannot partition by"), "{columns:?}: {text}");
            assert!(wanted.iter().all(|w| text.contains(w)), "{columns:?}: {text}");
        }
    }
    let mut sink = into(&in_memory(), FileFormat::Csv).partition_by(["k"]);
    sink.write(rows).await.unwrap();
}

/// The whole way: windows of a job in partitions, read back as a table.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_a_job_are_the_model() {
    let all = events(21, 4_000, STEP, DISORDER / 2);
    let folder = tempfile::tempdir().unwrap();
    let store = local(folder.path()).unwrap();
    let stream = session(2).stream(source(&all, 2)).unwrap().event_time("at", ms(DISORDER)).unwrap();
    let sink = into(&store, FileFormat::Parquet).rolling(50).partition_by(["name"]).success_markers();
    let job = windowed(stream, 1000, 500).await.to(sink).unwrap();
    let mut driver = open(job, &in_memory(), small(700)).await.unwrap();
    finish(&mut driver).await.unwrap();
    let stored = names(&store).await;
    assert!(stored.iter().all(|n| n.starts_with("out/name=name ")), "{stored:?}");
    assert_eq!(stored.iter().filter(|n| n.ends_with("/_SUCCESS")).count(), 7);
    let table = session(2).read(&format!("{}/out/", folder.path().display())).await.unwrap();
    let found = rows(&table.collect().await.unwrap());
    assert_eq!(found, windows(&all, 1000, 500));
    // Negative control.
    assert_ne!(found, windows(&all[1..], 1000, 500));
}

/// What was printed.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl io::Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes nothing.
struct Broken(io::ErrorKind);

impl io::Write for Broken {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn printed_rows_are_lines_behind_one_header() {
    let paper = Paper::default();
    let text = || String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
    let mut sink = PrintSink::new(paper.clone());
    let rows = numbered(strings(&[Some("plain"), Some("a, \"b\""), None, Some("ä")]));
    let schema: SchemaRef = rows.schema();
    sink.write(rows.slice(0, 0)).await.unwrap();
    assert_eq!(text(), "");
    sink.write(rows.slice(0, 3)).await.unwrap();
    // At once, before any checkpoint.
    assert_eq!(text(), "k,v\nplain,0\n\"a, \"\"b\"\"\",1\n,2\n");
    let items = sink.seal(Attempt { generation: 1, checkpoint: 1 }, &schema).unwrap().await.unwrap();
    assert!(items.is_empty());
    sink.committer().publish(&items).await.unwrap();
    sink.write(rows.slice(3, 1)).await.unwrap();
    assert_eq!(text(), "k,v\nplain,0\n\"a, \"\"b\"\"\",1\n,2\nä,3\n");
    for (broken, kind) in [(io::ErrorKind::BrokenPipe, ErrorKind::Closed), (io::ErrorKind::StorageFull, ErrorKind::Retry)] {
        let error = PrintSink::new(Broken(broken)).write(rows.clone()).await.unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains("`print`"), "{error}");
    }
}
