//! Writing: interrupted, failing and concurrent runs leave nothing that looks complete.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::marker::Marker;
use crate::write::{Table, write};
use crate::{Dataset, Error, Format, h2o, tpch};

const MARKER: Marker = Marker { suite: "test", scale: 1.0, seed: None, format: Format::Parquet, generator: "test-1" };

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, false)]))
}

fn numbers(batches: i64) -> impl Iterator<Item = RecordBatch> + Send {
    (0..batches).map(|i| RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(vec![i; 10_000]))]).unwrap())
}

fn table(name: &'static str, batches: impl Iterator<Item = RecordBatch> + Send + 'static) -> Table {
    Table { name, rows_expected: 10_000, schema: schema(), batches: Box::new(batches) }
}

fn dies_after(batches: i64) -> impl Iterator<Item = RecordBatch> + Send {
    numbers(batches + 1).inspect(move |batch| {
        let first = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().value(0);
        assert!(first < batches, "out of rows");
    })
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_run_that_dies_leaves_no_half_file_and_no_marker_and_the_next_completes() {
    let dir = tempfile::tempdir().unwrap();
    let files = ["a.parquet".to_string(), "b.parquet".to_string()];
    let died = write(dir.path(), &MARKER, vec![table("a", numbers(2)), table("b", dies_after(30))], &mut |_| {});
    assert!(matches!(&died, Err(Error::Bug(message)) if message.contains("out of rows")), "{died:?}");
    assert!(!names(dir.path()).contains(&"b.parquet".to_string()));
    assert!(names(dir.path()).contains(&".b.parquet.partial".to_string()), "the control: it died while writing");
    assert!(!MARKER.holds(dir.path(), &files));

    let mut reports = Vec::new();
    write(dir.path(), &MARKER, vec![table("a", numbers(2)), table("b", numbers(30))], &mut |p| reports.push(p)).unwrap();
    assert!(MARKER.holds(dir.path(), &files));
    assert_eq!(names(dir.path()), [".lock", "_SUCCESS-test-parquet", "a.parquet", "b.parquet"]);
    let complete: Vec<_> = reports.iter().filter(|p| p.complete).map(|p| (p.table, p.rows)).collect();
    assert!(complete.contains(&("a", 20_000)) && complete.contains(&("b", 300_000)), "{reports:?}");
    assert!(reports.iter().any(|p| p.table == "b" && !p.complete && p.rows < 300_000), "{reports:?}");
}

#[test]
fn a_rewrite_that_dies_withdraws_the_marker_of_the_run_before() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &MARKER, vec![table("a", numbers(2))], &mut |_| {}).unwrap();
    assert!(MARKER.holds(dir.path(), &["a.parquet".into()]));
    write(dir.path(), &MARKER, vec![table("a", dies_after(1))], &mut |_| {}).unwrap_err();
    assert!(!MARKER.holds(dir.path(), &["a.parquet".into()]));
}

#[test]
fn a_marker_holds_only_for_its_own_scale_generator_and_lengths() {
    let dir = tempfile::tempdir().unwrap();
    let files = ["a.parquet".to_string()];
    write(dir.path(), &MARKER, vec![table("a", numbers(2))], &mut |_| {}).unwrap();
    assert!(MARKER.holds(dir.path(), &files));
    assert!(!Marker { scale: 2.0, ..MARKER }.holds(dir.path(), &files));
    assert!(!Marker { seed: Some(1), ..MARKER }.holds(dir.path(), &files));
    assert!(!Marker { generator: "test-2", ..MARKER }.holds(dir.path(), &files));
    assert!(!Marker { format: Format::Csv, ..MARKER }.holds(dir.path(), &files));
    assert!(!MARKER.holds(dir.path(), &["a.parquet".into(), "b.parquet".into()]));

    let length = fs::metadata(dir.path().join("a.parquet")).unwrap().len();
    fs::OpenOptions::new().write(true).open(dir.path().join("a.parquet")).unwrap().set_len(length - 1).unwrap();
    assert!(!MARKER.holds(dir.path(), &files));
}

#[test]
fn a_folder_that_is_being_written_is_refused_to_a_second_writer() {
    let dir = tempfile::tempdir().unwrap();
    let lock = fs::File::create(dir.path().join(".lock")).unwrap();
    lock.lock().unwrap();
    let refused = write(dir.path(), &MARKER, vec![table("a", numbers(1))], &mut |_| {});
    assert!(matches!(&refused, Err(Error::Retry(message)) if message.contains("another process")), "{refused:?}");
    drop(lock);
    write(dir.path(), &MARKER, vec![table("a", numbers(1))], &mut |_| {}).unwrap();
}

#[test]
fn errors_name_the_file_and_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("blocked");
    fs::write(&blocked, "a file where a folder should be").unwrap();
    let error = tpch::write_parquet(&blocked.join("out"), 0.001, &mut |_| {}).unwrap_err();
    assert!(matches!(&error, Error::Invalid(message) if message.contains("blocked")), "{error:?}");
}

/// A full disk while writing, for each format: `/dev/full` accepts no byte.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_reported_as_exhausted_with_the_file() {
    for format in Format::ALL {
        let dir = tempfile::tempdir().unwrap();
        let partial = dir.path().join(format!(".a.{format}.partial"));
        std::os::unix::fs::symlink("/dev/full", partial).unwrap();
        let marker = Marker { format, ..MARKER };
        let error = write(dir.path(), &marker, vec![table("a", numbers(30))], &mut |_| {}).unwrap_err();
        assert!(matches!(&error, Error::Exhausted(message) if message.contains(&format!(".a.{format}.partial"))), "{error:?}");
    }
}

#[test]
fn formats_are_read_by_name() {
    for format in Format::ALL {
        assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
    }
    assert!(matches!("orc".parse::<Format>(), Err(Error::Invalid(message)) if message.contains("orc")));
}

#[test]
fn data_sets_are_found_by_name_and_know_their_files() {
    assert!(
        matches!("tpcx".parse::<Dataset>(), Err(Error::Invalid(message)) if message.contains("tpcx") && message.contains("h2o, nexmark, ssb, tpch"))
    );
    let dir = tempfile::tempdir().unwrap();
    for dataset in Dataset::ALL {
        assert_eq!(dataset.to_string().parse::<Dataset>().unwrap(), dataset);
        let out = dir.path().join(dataset.name());
        dataset.write_parquet(&out, 0.001, None, &mut |_| {}).unwrap();
        assert!(dataset.is_complete(&out, 0.001) && !dataset.is_complete(&out, 0.002));
    }
    assert!(matches!(Dataset::Tpch.write_parquet(dir.path(), 0.001, Some(1), &mut |_| {}), Err(Error::Invalid(_))));
    let other = dir.path().join("other");
    Dataset::H2o.write_parquet(&other, 0.001, Some(1), &mut |_| {}).unwrap();
    assert!(h2o::is_complete(&other, 0.001, 1) && !Dataset::H2o.is_complete(&other, 0.001));
}
