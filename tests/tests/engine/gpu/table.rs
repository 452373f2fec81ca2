//! Generated tables: nulls everywhere, keys that grow in number from row group to row group, and one
//! decimal that does not fit 64 bits.

use arrow::array::{ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use millstream::{Options, Preference, Session};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;

const ROWS: i64 = 240_000;
const ROW_GROUP: i64 = 40_000;

/// A session over tables `t`, `dim` and `empty`.
pub async fn registered(device: Preference) -> Session {
    with_options(Options { threads: 2, device, ..Options::default() }).await
}

pub async fn with_options(options: Options) -> Session {
    static DATA: OnceLock<TempDir> = OnceLock::new();
    let dir = DATA.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let all = rows();
        write(&dir.path().join("t.parquet"), &all);
        write(&dir.path().join("empty.parquet"), &all.slice(0, 0));
        write(&dir.path().join("dim.parquet"), &dim());
        dir
    });
    let session = Session::with_options(options).expect("a session");
    for t in ["t", "dim", "empty"] {
        session.register(t, &dir.path().join(format!("{t}.parquet")).to_string_lossy()).await.expect("a table");
    }
    session
}

fn write(path: &Path, batch: &RecordBatch) {
    let schema: SchemaRef = batch.schema();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(ROW_GROUP as usize)).build();
    let file = std::fs::File::create(path).expect("a file");
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).expect("a writer");
    writer.write(batch).expect("rows");
    writer.close().expect("a footer");
}

/// A number that looks random and is not.
fn mixed(i: i64) -> i64 {
    (crate::world::mixed(i as u64) >> 1) as i64
}

fn column<T, A: FromIterator<Option<T>>>(value: impl Fn(i64) -> Option<T>) -> A {
    (0..ROWS).map(value).collect()
}

fn rows() -> RecordBatch {
    let keys = |i: i64| 40 * (i / ROW_GROUP + 1);
    let k: Int64Array = column(|i| (i % 17 != 0).then(|| mixed(i) % keys(i)));
    let s: StringArray = column(|i| (i % 13 != 0).then(|| format!("s{}", mixed(i) % (keys(i) / 8))));
    let d: Date32Array = column(|i| (i % 19 != 0).then(|| (mixed(i + 1) % 100) as i32));
    let v: Decimal128Array = column(|i| (i % 11 != 0).then(|| i128::from(mixed(i + 2) % 2_000_000 - 500_000)));
    let w: Decimal128Array = column(|i| if i == 123_456 { Some(10i128.pow(30)) } else { (i % 7 != 0).then_some(i128::from(i % 50)) });
    let f: Float64Array = column(|i| (i % 5 != 0).then_some((mixed(i + 3) % 1000) as f64 / 1000.0));
    let b: BooleanArray = column(|i| (i % 23 != 0).then_some(mixed(i + 4) % 2 == 0));
    let v = v.with_precision_and_scale(12, 2).expect("a decimal");
    let w = w.with_precision_and_scale(38, 0).expect("a decimal");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("k", Arc::new(k)),
        ("s", Arc::new(s)),
        ("d", Arc::new(d)),
        ("v", Arc::new(v)),
        ("w", Arc::new(w)),
        ("f", Arc::new(f)),
        ("b", Arc::new(b)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).expect("a batch")
}

fn dim() -> RecordBatch {
    let dk: Int64Array = (0..150i64).map(|i| Some(i * 2)).collect();
    let name: StringArray = (0..150).map(|i| (i % 6 != 0).then(|| format!("n{}", i % 20))).collect();
    let weight: Decimal128Array = (0..150i128).map(|i| (i % 10 != 0).then_some(i * 7 - 300)).collect();
    let weight = weight.with_precision_and_scale(8, 1).expect("a decimal");
    let columns: Vec<(&str, ArrayRef)> = vec![("dk", Arc::new(dk)), ("name", Arc::new(name)), ("weight", Arc::new(weight))];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).expect("a batch")
}
