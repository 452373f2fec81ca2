//! The rows of db-benchmark: always the same, and with the statistics of the recipe.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float64Type, Int32Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;

const SCALE: f64 = 0.01;
const N: usize = 100_000;

fn whole(table: &str, scale: f64) -> RecordBatch {
    let batches = batches(table, scale, SEED, 8_192).unwrap();
    concat_batches(&batches.schema(), &batches.collect::<Vec<_>>()).unwrap()
}

fn ints(batch: &RecordBatch, column: &str) -> Vec<i32> {
    batch.column_by_name(column).unwrap().as_primitive::<Int32Type>().values().to_vec()
}

fn floats(batch: &RecordBatch, column: &str) -> Vec<f64> {
    batch.column_by_name(column).unwrap().as_primitive::<Float64Type>().values().to_vec()
}

fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    batch.column_by_name(column).unwrap().as_string_view().iter().map(|text| text.unwrap().to_string()).collect()
}

fn set(values: &[i32]) -> HashSet<i32> {
    values.iter().copied().collect()
}

#[test]
fn every_table_has_its_rows_and_columns() {
    let of = |scale: f64| TABLES.map(|table| rows(table, scale).unwrap());
    assert_eq!(of(1.0), [10_000_000, 10_000_000, 10_000, 10, 10_000_000]);
    assert_eq!(of(SCALE), [100_000, 100_000, 100, 10, 100_000]);
    assert_eq!(of(100.0), [1_000_000_000, 1_000_000_000, 1_000_000, 1_000, 1_000_000_000]);
    let names = |table: &str| schema(table).unwrap().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>().join(" ");
    assert_eq!(names("x"), "id1 id2 id3 id4 id5 id6 v1 v2 v3");
    assert_eq!(names("lhs"), "id1 id2 id3 id4 id5 id6 v1");
    assert_eq!(names("small"), "id1 id4 v2");
    assert_eq!(names("medium"), "id1 id2 id4 id5 v2");
    assert_eq!(names("big"), "id1 id2 id3 id4 id5 id6 v2");
    for table in TABLES {
        let batch = whole(table, SCALE);
        assert_eq!(batch.num_rows() as u64, rows(table, SCALE).unwrap(), "{table}");
        assert_eq!(batch.schema(), schema(table).unwrap(), "{table}");
        assert!(batch.schema().fields().iter().all(|field| !field.is_nullable()), "{table}");
    }
    let kinds: Vec<_> = schema("x").unwrap().fields().iter().map(|f| f.data_type().clone()).collect();
    assert_eq!(kinds[..3], [DataType::Utf8View, DataType::Utf8View, DataType::Utf8View]);
    assert_eq!(kinds[3..], [vec![DataType::Int32; 5], vec![DataType::Float64]].concat());
}

#[test]
fn the_rows_depend_on_the_seed_and_not_on_batches_or_ranges() {
    for table in TABLES {
        let expected = whole(table, SCALE);
        let count = rows(table, SCALE).unwrap();
        let cuts = [0, count / 3, count / 2 + 1, count];
        let pieces = cuts.windows(2).flat_map(|cut| range_batches(table, SCALE, SEED, cut[0]..cut[1], 777).unwrap());
        assert_eq!(concat_batches(&expected.schema(), &pieces.collect::<Vec<_>>()).unwrap(), expected, "{table}");
        let other = batches(table, SCALE, SEED + 1, N).unwrap().next().unwrap();
        for (column, field) in expected.schema().fields().iter().enumerate() {
            assert_ne!(other.column(column), expected.column(column), "{table} {}", field.name());
        }
    }
}

/// A change of these rows needs another [`GENERATOR`], and other answers.
#[test]
fn the_first_rows_are_as_they_were() {
    let shown = |table: &str| {
        let first = batches(table, SCALE, SEED, 2).unwrap().next().unwrap();
        let text = arrow::util::pretty::pretty_format_batches(&[first]).unwrap().to_string();
        text.lines().skip(3).take(2).map(|line| line.split_whitespace().collect::<String>()).collect::<Vec<_>>()
    };
    assert_eq!(shown("x"), ["|id001|id096|id0000000764|56|87|949|5|6|10.605804|", "|id084|id084|id0000000126|12|61|420|1|13|36.38057|"]);
    assert_eq!(shown("lhs"), ["|11|83|15929|id11|id83|id15929|48.804602|", "|4|64|52122|id4|id64|id52122|71.37151|"]);
    assert_eq!(shown("small"), ["|3|id3|93.178766|", "|2|id2|1.043321|"]);
    assert_eq!(shown("medium"), ["|4|92|id4|id92|29.757472|", "|10|72|id10|id72|20.254175|"]);
    assert_eq!(shown("big"), ["|11|73|31047|id11|id73|id31047|56.85573|", "|10|38|97363|id10|id38|id97363|36.180526|"]);
}

#[test]
fn the_groups_are_those_of_the_recipe() {
    let x = whole("x", SCALE);
    let small_groups = N / 100;
    for (column, groups, digits) in [("id1", 100, 3), ("id2", 100, 3), ("id3", small_groups, 10)] {
        let ids: HashSet<String> = texts(&x, column).into_iter().collect();
        assert_eq!(ids, (1..=groups).map(|n| format!("id{n:0digits$}")).collect(), "{column}");
    }
    for (column, groups) in [("id4", 100), ("id5", 100), ("id6", small_groups as i32), ("v1", 5), ("v2", 15)] {
        let values = ints(&x, column);
        assert_eq!(set(&values), (1..=groups).collect(), "{column}");
        // Evenly: chi squared has mean g - 1 and variance 2(g - 1); five standard deviations.
        let mut counts = HashMap::new();
        values.iter().for_each(|value| *counts.entry(*value).or_insert(0.0) += 1.0);
        let (each, free) = (N as f64 / f64::from(groups), f64::from(groups - 1));
        let chi: f64 = counts.values().map(|count: &f64| (count - each).powi(2) / each).sum();
        assert!((chi - free).abs() < 5.0 * (2.0 * free).sqrt(), "{column}: {chi}");
    }
    // Independent of each other: nearly all pairs occur, and six keys are unique but for chance.
    let pairs: HashSet<_> = ints(&x, "id4").into_iter().zip(ints(&x, "id5")).collect();
    assert!((9_990..=10_000).contains(&pairs.len()), "{}", pairs.len());
    let columns: Vec<Vec<String>> = ["id1", "id2", "id3"].iter().map(|c| texts(&x, c)).collect();
    let rest: Vec<Vec<i32>> = ["id4", "id5", "id6"].iter().map(|c| ints(&x, c)).collect();
    let keys: HashSet<_> = (0..N).map(|i| (&columns[0][i], &columns[1][i], &columns[2][i], rest[0][i], rest[1][i], rest[2][i])).collect();
    assert_eq!(keys.len(), N);
    assert!(ints(&x, "id6").windows(2).any(|pair| pair[0] > pair[1]), "unsorted");
}

#[test]
fn values_have_six_decimals_and_are_even() {
    for (table, column) in [("x", "v3"), ("lhs", "v1"), ("big", "v2")] {
        let values = floats(&whole(table, SCALE), column);
        assert!(values.iter().all(|value| (0.0..=100.0).contains(value)), "{table}");
        // As near to six decimals as a double can be: what the text with six decimals parses to.
        assert!(values.iter().all(|value| format!("{value:.6}").parse::<f64>().unwrap() == *value), "{table}");
        let mean = values.iter().sum::<f64>() / N as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / N as f64;
        // Of an even spread: 50 and 10,000 / 12; five standard errors.
        assert!((mean - 50.0).abs() < 0.46 && (variance - 10_000.0 / 12.0).abs() < 12.0, "{table}: {mean} {variance}");
        let distinct: HashSet<u64> = values.iter().map(|value| value.to_bits()).collect();
        assert!(distinct.len() > N - 200, "{table}: {}", distinct.len());
    }
}

#[test]
fn nine_in_ten_keys_are_on_both_sides() {
    // At scale 1 the small tables have the recipe's own lengths.
    for (scale, families) in [
        (SCALE, &[("id1", "small", 10), ("id2", "medium", 100), ("id3", "big", 100_000)][..]),
        (1.0, &[("id1", "small", 10), ("id2", "medium", 10_000)]),
    ] {
        // Enough rows to meet every key but one in a billion.
        let some = rows("lhs", scale).unwrap().min(300_000);
        let left = range_batches("lhs", scale, SEED, 0..some, some as usize).unwrap().next().unwrap();
        for (column, table, count) in families {
            let right = ints(&whole(table, scale), column);
            let (left_keys, right_keys) = (set(&ints(&left, column)), set(&right));
            // Unique in the table of their own size, and all in the larger left one.
            assert_eq!((right.len(), right_keys.len(), left_keys.len()), (*count, *count, *count), "{column}");
            assert_eq!(left_keys.intersection(&right_keys).count(), count * 9 / 10, "{column}");
            let all: HashSet<i32> = left_keys.union(&right_keys).copied().collect();
            assert_eq!(all, (1..=(*count as i32) * 11 / 10).collect(), "{column}");
            // Which match is no question of size.
            let sum: f64 = left_keys.intersection(&right_keys).map(|key| f64::from(*key)).sum();
            let mean = sum / (*count as f64 * 0.9) / (*count as f64 * 1.1);
            assert!((0.3..0.7).contains(&mean), "{column}: {mean}");
            // Rows match as keys do.
            let matching = ints(&left, column).iter().filter(|key| right_keys.contains(key)).count();
            assert!((matching as f64 / some as f64 - 0.9).abs() < 0.02, "{column}: {matching}");
        }
    }
    // The smaller keys of the larger right tables are from the same right-hand set.
    assert_eq!(set(&ints(&whole("big", SCALE), "id1")), set(&ints(&whole("small", SCALE), "id1")));
    assert_eq!(set(&ints(&whole("medium", SCALE), "id1")), set(&ints(&whole("small", SCALE), "id1")));
    assert_eq!(set(&ints(&whole("big", SCALE), "id2")), set(&ints(&whole("medium", SCALE), "id2")));
    for table in ["lhs", "big"] {
        let batch = whole(table, SCALE);
        for (number, text) in [("id1", "id4"), ("id2", "id5"), ("id3", "id6")] {
            let expected: Vec<String> = ints(&batch, number).iter().map(|key| format!("id{key}")).collect();
            assert_eq!(texts(&batch, text), expected, "{table} {text}");
        }
        assert!(ints(&batch, "id3").windows(2).filter(|pair| pair[0] > pair[1]).count() > N / 3, "unsorted");
    }
    assert_ne!(ints(&whole("lhs", SCALE), "id1"), ints(&whole("big", SCALE), "id1"));
}

#[test]
fn keys_of_the_largest_scale_fit() {
    let last = rows("big", SCALE_MAX).unwrap();
    for table in ["lhs", "big"] {
        let batch = range_batches(table, SCALE_MAX, SEED, last - 10_000..last, 10_000).unwrap().next().unwrap();
        assert!(ints(&batch, "id3").iter().all(|key| (1..=1_100_000_000).contains(key)), "{table}");
    }
}

#[test]
fn parquet_files_are_the_same_each_time_and_hold_the_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    write_parquet(&first, SCALE, SEED, &mut |_| {}).unwrap();
    let mut reported = HashMap::new();
    write_parquet(&second, SCALE, SEED, &mut |p| {
        reported.insert(p.table, p.rows);
    })
    .unwrap();
    assert_eq!(reported.values().sum::<u64>(), 300_110);
    assert!(is_complete(&first, SCALE, SEED));
    assert!(!is_complete(&first, 0.02, SEED) && !is_complete(&first, SCALE, 1) && !is_complete_as(&first, SCALE, SEED, Format::Csv));
    for name in fs::read_dir(&first).unwrap().map(|entry| entry.unwrap().file_name()) {
        assert_eq!(fs::read(first.join(&name)).unwrap(), fs::read(second.join(&name)).unwrap(), "{name:?}");
    }
    for table in TABLES {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file(&first, table, Format::Parquet)).unwrap());
        let read: Vec<_> = reader.unwrap().build().unwrap().map(|batch| batch.unwrap()).collect();
        let expected = whole(table, SCALE);
        assert_eq!(concat_batches(&expected.schema(), &read).unwrap(), expected, "{table}");
    }
}

#[test]
fn bad_arguments_are_refused_by_name() {
    let message = |result: Result<Batches>| match result {
        Err(Error::Invalid(message)) => message,
        _ => panic!("not refused as invalid"),
    };
    assert!(message(batches("y", 1.0, SEED, 1)).contains("`y`"));
    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY, 0.0001, 1e3] {
        assert!(message(batches("x", scale, SEED, 1)).contains(&scale.to_string()));
    }
    assert!(message(batches("x", 1.0, SEED, 0)).contains("at least one row"));
    assert!(message(range_batches("small", 1.0, SEED, 0..11, 1)).contains("10 rows"));
    assert!(rows("large", 1.0).is_err() && schema("").is_err());
}
