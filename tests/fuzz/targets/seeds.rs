//! Writes the seeds that are not written by hand, whatever its input: `tests/fuzz/run seeds 0 -runs=1` after a change of
//! the messages of stages. A fuzz target, because our crates here link only with libFuzzer.

#![no_main]

use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use millstream_fuzz::stages::{HEAD, all, encode};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion};
use std::error::Error;
use std::fs;
use std::sync::Arc;

/// The length of the checksum behind the head of a message.
const CHECKSUM: usize = 8;

libfuzzer_sys::fuzz_target!(|_bytes: &[u8]| write().expect("seeds"));

fn write() -> Result<(), Box<dyn Error>> {
    for (name, properties) in layouts() {
        let batch = rows(60)?;
        let mut writer =
            ArrowWriter::try_new(vec![], batch.schema(), Some(properties.set_statistics_enabled(EnabledStatistics::Chunk).build()))?;
        writer.write(&batch)?;
        fs::write(format!("corpus/parquet/{name}.parquet"), writer.into_inner()?)?;
    }
    for (at, stage) in all().iter().enumerate() {
        let mut seed = vec![u8::try_from(at)?];
        seed.extend(&encode(stage)?[HEAD + CHECKSUM..]);
        fs::write(format!("corpus/stage/{at:02}"), seed)?;
    }
    Ok(())
}

/// What writers choose between.
fn layouts() -> Vec<(&'static str, WriterPropertiesBuilder)> {
    let plain = || WriterProperties::builder().set_dictionary_enabled(false);
    vec![
        ("dictionary", WriterProperties::builder()),
        ("plain", plain()),
        ("version2", WriterProperties::builder().set_writer_version(WriterVersion::PARQUET_2_0)),
        ("pages", WriterProperties::builder().set_data_page_row_count_limit(16).set_write_batch_size(8)),
        ("snappy", plain().set_compression(Compression::SNAPPY)),
        ("zstd", plain().set_compression(Compression::ZSTD(Default::default()))),
        ("groups", WriterProperties::builder().set_max_row_group_row_count(Some(25))),
        (
            "delta",
            plain()
                .set_column_encoding("n".into(), Encoding::DELTA_BINARY_PACKED)
                .set_column_encoding("s".into(), Encoding::DELTA_BYTE_ARRAY)
                .set_column_encoding("f".into(), Encoding::BYTE_STREAM_SPLIT),
        ),
    ]
}

/// Columns of the types that the decoder of stages covers, every seventh value null.
fn rows(count: i64) -> Result<RecordBatch, arrow::error::ArrowError> {
    let kept = |i: i64| (i % 7 != 3).then_some(i);
    let texts = ["", "b", "cé", "a text longer than twelve bytes"];
    let n: Int64Array = (0..count).map(kept).collect();
    let d: Decimal128Array = (0..count).map(|i| kept(i).map(|i| i128::from(i) * 137 - 300)).collect();
    let f: Float64Array = (0..count).map(|i| kept(i).map(|i| i as f64 / 4.0)).collect();
    let s: StringArray = (0..count).map(|i| kept(i).map(|i| texts[i as usize % texts.len()])).collect();
    let t: TimestampMicrosecondArray = (0..count).map(|i| kept(i).map(|i| i * 1_000_000_007)).collect();
    let columns: [(&str, ArrayRef); 5] = [
        ("n", Arc::new(n)),
        ("d", Arc::new(d.with_precision_and_scale(15, 2)?)),
        ("f", Arc::new(f)),
        ("s", Arc::new(s)),
        ("t", Arc::new(t)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
}
