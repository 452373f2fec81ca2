//! The stage's own page decoder against stock DataFusion's reader, over what writers may write.

use crate::world::mixed;
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::util::pretty::pretty_format_batches;
use bytes::Bytes;
use millstream::{ErrorKind, Options, Preference, Session};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::data_type::{FixedLenByteArray, FixedLenByteArrayType, Int32Type};
use parquet::file::metadata::{ParquetMetaDataReader, ParquetMetaDataWriter};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

const ROWS: usize = 30_000;

/// Numbers in no order.
fn mix(i: usize) -> u64 {
    mixed(i as u64)
}

/// Columns of every covered type; every 7th value null if `nulls`; column `late` is null for whole pages.
fn rows(nulls: bool) -> RecordBatch {
    let keep = |i: usize| !nulls || !mix(i + 17).is_multiple_of(7);
    let opt = |f: &dyn Fn(usize) -> u64| -> Vec<Option<u64>> { (0..ROWS).map(|i| keep(i).then(|| f(i))).collect() };
    let few = opt(&|i| mix(i) % 40);
    let many = opt(&mix);
    let i32s: Int32Array = few.iter().map(|v| v.map(|v| v as i32 - 20)).collect();
    let i64s: Int64Array = many.iter().map(|v| v.map(|v| v as i64)).collect();
    let dates: Date32Array = few.iter().map(|v| v.map(|v| v as i32 * 100)).collect();
    let floats: Float64Array = many.iter().map(|v| v.map(|v| (v % 1000) as f64 / 8.0)).collect();
    let decimal = |p: u8, modulo: u64| {
        let d: Decimal128Array = many.iter().map(|v| v.map(|v| i128::from(v % modulo) - 50)).collect();
        Arc::new(d.with_precision_and_scale(p, 2).unwrap()) as ArrayRef
    };
    let texts = ["", "short", "é à", "a string longer than twelve bytes", "exactly 12 b"];
    let few_text: StringArray = few.iter().map(|v| v.map(|v| texts[v as usize % 5])).collect();
    let many_text: StringArray = many.iter().map(|v| v.map(|v| format!("{} {v}", texts[v as usize % 5]))).collect();
    let late: Int64Array = (0..ROWS).map(|i| (!nulls || i > ROWS / 2).then_some(i as i64)).collect();
    let row: Int32Array = (0..ROWS as i32).map(Some).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("row", Arc::new(row)),
        ("i32s", Arc::new(i32s)),
        ("i64s", Arc::new(i64s)),
        ("dates", Arc::new(dates)),
        ("floats", Arc::new(floats)),
        ("d7", decimal(7, 9_000)),
        ("d15", decimal(15, 1 << 40)),
        ("d38", decimal(38, 1 << 60)),
        ("flags", Arc::new(few.iter().map(|v| v.map(|v| v % 3 == 0)).collect::<BooleanArray>())),
        ("times", Arc::new(many.iter().map(|v| v.map(|v| (v >> 9) as i64)).collect::<TimestampMicrosecondArray>())),
        ("few", Arc::new(few_text)),
        ("many", Arc::new(many_text)),
        ("late", Arc::new(late)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, nulls))).unwrap()
}

fn write(path: &Path, batch: &RecordBatch, p: WriterProperties) {
    let mut w = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(p)).unwrap();
    w.write(batch).unwrap();
    w.close().unwrap();
}

/// Filters of every selectivity on every kind of column, so that late columns are read for few, many,
/// all and no rows.
const QUERIES: &[&str] = &[
    "select * from t",
    "select * from t where row % 997 = 3",
    "select * from t where i32s > 15",
    "select * from t where few = 'é à' and i64s > 0",
    "select * from t where many like '%77%'",
    "select * from t where row between 12000 and 12010",
    "select * from t where late is null and d15 < 0",
    "select * from t where row < 0",
    "select few, sum(d7), min(many), count(late), sum(floats) from t where dates > date '1972-01-01' group by few",
    "select a.row, b.many, a.d38 from t a join t b on a.i64s = b.i64s where b.i32s = 3",
    "select flags, count(times), max(times), sum(d15) from t where not flags or d7 > 3000 group by flags",
    "select row, times, flags from t where times > timestamp '2200-01-01' and row % 3 = 0",
    "select count(*) from t",
];

async fn answer(path: &Path, stages: bool, sql: &str) -> Vec<String> {
    let options = Options { threads: 2, stages, device: Preference::Cpu, ..Options::default() };
    let session = Session::with_options(options).unwrap();
    session.register("t", &path.to_string_lossy()).await.unwrap();
    let rows = session.sql(sql).await.unwrap().collect().await.unwrap();
    let mut lines: Vec<String> = pretty_format_batches(&rows).unwrap().to_string().lines().map(str::to_string).collect();
    lines.sort_unstable();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn every_layout_reads_as_stock_datafusion_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    for nulls in [false, true] {
        let batch = rows(nulls);
        for (name, p) in [
            ("v1", WriterProperties::builder()),
            (
                "v2",
                WriterProperties::builder()
                    .set_writer_version(WriterVersion::PARQUET_2_0)
                    .set_compression(Compression::ZSTD(Default::default())),
            ),
            ("plain", WriterProperties::builder().set_dictionary_enabled(false).set_compression(Compression::SNAPPY)),
            ("small pages", WriterProperties::builder().set_data_page_row_count_limit(777).set_write_batch_size(111)),
            (
                "dictionary then plain",
                WriterProperties::builder()
                    .set_dictionary_page_size_limit(4096)
                    .set_data_page_row_count_limit(3000)
                    .set_write_batch_size(500),
            ),
            ("groups", WriterProperties::builder().set_max_row_group_row_count(Some(7_000)).set_compression(Compression::SNAPPY)),
            (
                "delta",
                WriterProperties::builder()
                    .set_dictionary_enabled(false)
                    .set_column_encoding("many".into(), Encoding::DELTA_BYTE_ARRAY)
                    .set_column_encoding("few".into(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
                    .set_column_encoding("i64s".into(), Encoding::DELTA_BINARY_PACKED)
                    .set_column_encoding("i32s".into(), Encoding::DELTA_BINARY_PACKED)
                    .set_column_encoding("d7".into(), Encoding::DELTA_BINARY_PACKED)
                    .set_column_encoding("flags".into(), Encoding::RLE),
            ),
            (
                "streams of bytes",
                ["i32s", "i64s", "dates", "floats", "d7", "d15", "times"]
                    .into_iter()
                    .fold(WriterProperties::builder().set_dictionary_enabled(false).set_compression(Compression::SNAPPY), |p, c| {
                        p.set_column_encoding(c.into(), Encoding::BYTE_STREAM_SPLIT)
                    }),
            ),
        ] {
            let path = dir.path().join("t.parquet");
            write(&path, &batch, p.build());
            for sql in QUERIES {
                let (on, off) = (answer(&path, true, sql).await, answer(&path, false, sql).await);
                assert_eq!(on, off, "{name}, nulls {nulls}: {sql}");
            }
        }
    }
}

/// Decimals that writers other than Arrow's store in bytes, the greatest first.
#[tokio::test(flavor = "multi_thread")]
async fn decimals_in_bytes_read_as_stock_datafusion_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let schema = "message t { REQUIRED INT32 row; OPTIONAL FIXED_LEN_BYTE_ARRAY(7) d (DECIMAL(15, 2)); \
        REQUIRED FIXED_LEN_BYTE_ARRAY(9) e (DECIMAL(18, 4)); OPTIONAL FIXED_LEN_BYTE_ARRAY(16) f (DECIMAL(38, 0)); }";
    let stored = |v: i64, len: usize| FixedLenByteArray::from(i128::from(v).to_be_bytes()[16 - len..].to_vec());
    let value = |i: usize, modulo: u64| (mix(i) % modulo) as i64 - modulo as i64 / 2;
    let has = |i: &usize| !mix(i + 3).is_multiple_of(5);
    let all: Vec<usize> = (0..20_000).collect();
    let levels: Vec<i16> = all.iter().map(|i| has(i).into()).collect();
    let d: Vec<_> = all.iter().copied().filter(has).map(|i| stored(value(i, 200), 7)).collect();
    let e: Vec<_> = all.iter().map(|i| stored(value(*i, 1_000_000_000_000_000_000), 9)).collect();
    let f: Vec<_> = all.iter().copied().filter(has).map(|i| stored(value(i, 1 << 40), 16)).collect();
    for dictionary in [true, false] {
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let p =
            WriterProperties::builder().set_dictionary_enabled(dictionary).set_data_page_row_count_limit(3_000).set_write_batch_size(500);
        let mut file = SerializedFileWriter::new(File::create(&path).unwrap(), schema, Arc::new(p.build())).unwrap();
        let mut group = file.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let rows: Vec<i32> = all.iter().map(|i| *i as i32).collect();
        column.typed::<Int32Type>().write_batch(&rows, None, None).unwrap();
        column.close().unwrap();
        for (values, levels) in [(&d, Some(&levels[..])), (&e, None), (&f, Some(&levels[..]))] {
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<FixedLenByteArrayType>().write_batch(values, levels, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        file.close().unwrap();
        for sql in [
            "select * from t where row % 7 = 1",
            "select d, count(*), sum(e), min(e), max(f) from t where e > 0 group by d",
            "select row, e from t where d = -0.42 and f is not null",
        ] {
            let (on, off) = (answer(&path, true, sql).await, answer(&path, false, sql).await);
            assert!(on.len() > 20, "{sql}: {on:?}");
            assert_eq!(on, off, "dictionary {dictionary}: {sql}");
        }
    }
}

/// A byte changed anywhere in the data gives the right rows, other rows, or an error; never a panic.
#[tokio::test(flavor = "multi_thread")]
async fn corrupt_bytes_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let batch = rows(true).slice(0, 2_000);
    write(&path, &batch, WriterProperties::builder().set_data_page_row_count_limit(500).set_write_batch_size(100).build());
    let good = std::fs::read(&path).unwrap();
    let mut errors = 0;
    for seed in 0..150 {
        let mut bad = good.clone();
        // The footer is the format library's own.
        let at = mix(seed) as usize % (good.len() * 3 / 4);
        bad[at] ^= 1 << (seed % 8);
        std::fs::write(&path, &bad).unwrap();
        let session = Session::with_options(Options { threads: 2, device: Preference::Cpu, ..Options::default() }).unwrap();
        session.register("t", &path.to_string_lossy()).await.unwrap();
        let result = session.sql("select * from t where row % 3 = 1").await.unwrap().collect().await;
        if let Err(e) = result {
            errors += 1;
            let text = e.to_string();
            assert!(text.contains("t.parquet") && !text.contains("panic"), "byte {at}: {text}");
        }
    }
    assert!(errors > 0, "no corruption was noticed at all");
}

/// Bytes found by fuzzing (tests/fuzz): a header without what its kind of page must have, at which the format's library
/// panics, and one that counts more values than there are.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_page_headers_are_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    for first in ["i64s", "few", "late"] {
        let all = rows(true).slice(0, 2_000);
        let batch = all.project(&[all.schema().index_of(first).unwrap()]).unwrap();
        let plain = WriterProperties::builder().set_dictionary_enabled(false).set_statistics_enabled(EnabledStatistics::None);
        write(&path, &batch, plain.build());
        let good = std::fs::read(&path).unwrap();
        // Thrift: the field's type and distance, then a zigzag number. 0 is a data page, 3 one of version 2.
        assert_eq!(good[4..6], [0x15, 0], "a page's header begins with its kind");
        let number = good.windows(5).position(|w| w == [0x2C, 0x15, 0xA0, 0x1F, 0x15]).expect("the header of a page of 2,000 values");
        for (at, byte) in [(5, 6), (number + 2, 0xA2), (number + 2, 0xA1)] {
            let mut bad = good.clone();
            bad[at] = byte;
            std::fs::write(&path, &bad).unwrap();
            let session = Session::with_options(Options { threads: 2, device: Preference::Cpu, ..Options::default() }).unwrap();
            session.register("t", &path.to_string_lossy()).await.unwrap();
            let error = session.sql(&format!("select count({first}), min({first}) from t")).await.unwrap().collect().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{first}, byte {at}: {error}");
            assert!(error.to_string().contains("t.parquet"), "{first}, byte {at}: {error}");
        }
    }
}

/// Found by fuzzing too: a footer that counts more rows than the pages have, of columns that the format's library decodes.
#[tokio::test(flavor = "multi_thread")]
async fn columns_that_end_early_are_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let numbers = Arc::new(Int16Array::from_iter_values(0..20_000)) as ArrayRef;
    let delta = WriterProperties::builder().set_dictionary_enabled(false).set_encoding(Encoding::DELTA_BINARY_PACKED);
    write(&path, &RecordBatch::try_from_iter([("n", numbers)]).unwrap(), delta.build());
    let mut bytes = std::fs::read(&path).unwrap();
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&Bytes::from(bytes.clone())).unwrap();
    let group = metadata.row_group(0).clone().into_builder().set_num_rows(30_000).build().unwrap();
    let metadata = metadata.into_builder().set_row_groups(vec![group]).build();
    let footer = u32::from_le_bytes(bytes[bytes.len() - 8..][..4].try_into().unwrap()) as usize;
    bytes.truncate(bytes.len() - 8 - footer);
    ParquetMetaDataWriter::new(&mut bytes, &metadata).finish().unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let session = Session::with_options(Options { threads: 2, device: Preference::Cpu, ..Options::default() }).unwrap();
    session.register("t", &path.to_string_lossy()).await.unwrap();
    let error = session.sql("select n from t where n % 3 = 1").await.unwrap().collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("t.parquet") && error.to_string().contains("after 20000 rows"), "{error}");
}
