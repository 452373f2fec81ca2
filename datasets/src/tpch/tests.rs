//! The rows of TPC-H: how many, always the same, and the same in every format.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Decimal128Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;

use super::*;

const SCALE: f64 = 0.01;

/// The row counts of the specification (and of the reference generator for lineitem) at scale 0.01.
const ROWS: [(&str, u64); 8] = [
    ("customer", 1_500),
    ("lineitem", 60_175),
    ("nation", 25),
    ("orders", 15_000),
    ("part", 2_000),
    ("partsupp", 8_000),
    ("region", 5),
    ("supplier", 100),
];

fn whole(table: &str, batch_rows: usize) -> RecordBatch {
    let batches = batches(table, SCALE, batch_rows).unwrap();
    concat_batches(&batches.schema(), &batches.collect::<Vec<_>>()).unwrap()
}

#[test]
fn every_table_has_its_rows() {
    for (table, expected) in ROWS {
        let batch = whole(table, 8_192);
        assert_eq!(batch.num_rows() as u64, expected, "{table}");
        assert_eq!(batch.schema(), schema(table).unwrap(), "{table}");
        let estimate = rows(table, SCALE).unwrap();
        let tolerance = if table == "lineitem" { expected / 100 } else { 0 };
        assert!(estimate.abs_diff(expected) <= tolerance, "{table}: {estimate} for {expected}");
    }
    assert_eq!(ROWS.map(|(table, _)| table), TABLES);
}

#[test]
fn the_rows_do_not_depend_on_batches_or_parts() {
    for table in TABLES {
        let expected = whole(table, 8_192);
        assert_eq!(whole(table, 777), expected, "{table}");
        let parts: Vec<_> = (0..3).flat_map(|index| part_batches(table, SCALE, Part { index, count: 3 }, 1_000).unwrap()).collect();
        assert_eq!(concat_batches(&expected.schema(), &parts).unwrap(), expected, "{table}");
    }
    assert_ne!(
        batches("part", 0.01, 100).unwrap().nth(3),
        batches("part", 0.01, 100).unwrap().nth(4),
        "the control: other rows compare as other"
    );
}

#[test]
fn lineitem_is_that_of_the_reference_generator() {
    let lineitem = whole("lineitem", 8_192);
    assert_eq!(*lineitem.schema().field_with_name("l_tax").unwrap().data_type(), DataType::Decimal128(15, 2));
    assert_eq!(*lineitem.schema().field_with_name("l_shipdate").unwrap().data_type(), DataType::Date32);
    let sum = |column: &str| -> i128 { lineitem.column_by_name(column).unwrap().as_primitive::<Decimal128Type>().values().iter().sum() };
    assert_eq!(sum("l_quantity"), 153_612_700);
    assert_eq!(sum("l_tax"), 242_051);
}

#[test]
fn bad_arguments_are_refused_by_name() {
    let message = |result: Result<Batches>| match result {
        Err(Error::Invalid(message)) => message,
        _ => panic!("not refused as invalid"),
    };
    assert!(message(batches("lineitems", 1.0, 1)).contains("`lineitems`"));
    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY, 0.0001, 1e6] {
        assert!(message(batches("nation", scale, 1)).contains(&scale.to_string()));
    }
    assert!(message(batches("nation", 1.0, 0)).contains("at least one row"));
    assert!(message(part_batches("nation", 1.0, Part { index: 2, count: 2 }, 1)).contains("part 2 of 2"));
    assert!(rows("lineitems", 1.0).is_err());
    assert!(schema("").is_err());
}

#[test]
fn parquet_files_are_the_same_each_time_and_hold_the_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    assert!(!is_complete(&first, SCALE));
    write_parquet(&first, SCALE, &mut |_| {}).unwrap();
    write_parquet(&second, SCALE, &mut |_| {}).unwrap();
    assert!(is_complete(&first, SCALE));
    assert!(!is_complete(&first, 0.02) && !is_complete_as(&first, SCALE, Format::Csv));
    for name in fs::read_dir(&first).unwrap().map(|entry| entry.unwrap().file_name()) {
        assert_eq!(fs::read(first.join(&name)).unwrap(), fs::read(second.join(&name)).unwrap(), "{name:?}");
    }
    for table in TABLES {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file(&first, table, Format::Parquet)).unwrap());
        let reader = reader.unwrap();
        let read: Vec<_> = reader.build().unwrap().map(|batch| batch.unwrap()).collect();
        let expected = whole(table, 8_192);
        assert_eq!(concat_batches(&expected.schema(), &read).unwrap(), expected, "{table}");
    }
}

#[test]
fn parquet_files_are_laid_out_as_promised() {
    let dir = tempfile::tempdir().unwrap();
    write_parquet(dir.path(), 0.05, &mut |_| {}).unwrap();
    let lineitem = File::open(file(dir.path(), "lineitem", Format::Parquet)).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(lineitem).unwrap();
    let groups = reader.metadata().row_groups();
    let rows: Vec<i64> = groups.iter().map(|group| group.num_rows()).collect();
    assert_eq!(rows, [122_880, 122_880, 299_814 - 2 * 122_880]);
    for column in groups.iter().flat_map(|group| group.columns()) {
        let name = column.column_path();
        assert_eq!(column.compression(), Compression::SNAPPY, "{name}");
        assert!(column.statistics().is_some_and(|statistics| statistics.min_bytes_opt().is_some()), "{name}");
        assert!(column.column_index_offset().is_some() && column.offset_index_offset().is_some(), "{name}");
        assert!(column.dictionary_page_offset().is_some(), "{name}");
    }
}

#[test]
fn csv_and_json_hold_the_rows_as_text() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), SCALE, Format::Csv, &mut |_| {}).unwrap();
    write(dir.path(), SCALE, Format::Json, &mut |_| {}).unwrap();
    assert!(is_complete_as(dir.path(), SCALE, Format::Csv) && is_complete_as(dir.path(), SCALE, Format::Json));
    let lines = |table: &str, format: Format| -> Vec<String> {
        let file = File::open(file(dir.path(), table, format)).unwrap();
        BufReader::new(file).lines().map(|line| line.unwrap()).collect()
    };
    for (table, rows) in ROWS {
        assert_eq!(lines(table, Format::Csv).len() as u64, rows + 1, "{table}");
        assert_eq!(lines(table, Format::Json).len() as u64, rows, "{table}");
    }
    let csv = lines("lineitem", Format::Csv);
    assert!(csv[0].starts_with("l_orderkey,l_partkey,l_suppkey,l_linenumber,l_quantity,"), "{}", csv[0]);
    assert_eq!(
        csv[1],
        "1,1552,93,1,17.00,24710.35,0.04,0.02,N,O,1996-03-13,1996-02-12,1996-03-22,DELIVER IN PERSON,TRUCK,\
         egular courts above the"
    );
    assert_eq!(
        lines("lineitem", Format::Json)[0],
        "{\"l_orderkey\":1,\"l_partkey\":1552,\"l_suppkey\":93,\"l_linenumber\":1,\"l_quantity\":17.00,\
         \"l_extendedprice\":24710.35,\"l_discount\":0.04,\"l_tax\":0.02,\"l_returnflag\":\"N\",\"l_linestatus\":\"O\",\
         \"l_shipdate\":\"1996-03-13\",\"l_commitdate\":\"1996-02-12\",\"l_receiptdate\":\"1996-03-22\",\
         \"l_shipinstruct\":\"DELIVER IN PERSON\",\"l_shipmode\":\"TRUCK\",\
         \"l_comment\":\"egular courts above the\"}"
    );
}
