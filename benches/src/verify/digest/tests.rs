//! A digest accepts what is right in any order, batches and encoding; its negative controls; and what it misses.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Float64Type, Int64Type};

use super::*;
use crate::answer::Expected;
use crate::suite::{SortKey, suites};
use crate::verify::verify;

const QUERY: Query = Query { id: "q", sql: "", order_by: &[], limit: None, statistics: &[] };

/// Rows with two keys and two floats, one of them with nulls, NaN and both signs.
fn rows(count: i64) -> RecordBatch {
    let sign = |i: i64| if i % 4 == 0 { -1.0 } else { 1.0 };
    let columns: [(&str, ArrayRef); 4] = [
        ("n", Arc::new(Int64Array::from_iter_values((0..count).map(|i| i * 7919 % count)))),
        ("t", Arc::new(StringArray::from_iter_values((0..count).map(|i| format!("id{}", i % 100))))),
        ("f", Arc::new(Float64Array::from_iter_values((0..count).map(|i| (i % 1000) as f64 / 7.0 + 1.0)))),
        (
            "g",
            Arc::new(Float64Array::from_iter((0..count).map(|i| match i % 50 {
                7 => None,
                8 => Some(f64::NAN),
                9 => Some(f64::INFINITY),
                _ => Some(sign(i) * (i % 997 + 1) as f64 * 1e-3),
            }))),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

fn digest(query: &Query, batch: &RecordBatch) -> Digest {
    Digest::of(query, &batch.schema(), batch.num_rows() as u64, [Ok(batch.clone())].into_iter()).unwrap()
}

fn check(expected: &Digest, actual: &[RecordBatch]) -> Result<(), Mismatch> {
    verify(&QUERY, &Expected::Digest(expected.clone()), actual)
}

fn with(batch: &RecordBatch, column: usize, values: ArrayRef) -> RecordBatch {
    let columns: Vec<_> = batch.schema().fields().iter().map(|f| f.name().clone()).zip(batch.columns().to_vec()).enumerate().collect();
    let columns = columns.into_iter().map(|(i, (name, old))| (name, if i == column { values.clone() } else { old }, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn reordered(batch: &RecordBatch, order: impl Iterator<Item = u32>) -> RecordBatch {
    let order = UInt32Array::from_iter_values(order);
    let columns = batch.columns().iter().map(|c| take(c, &order, None).unwrap()).collect();
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

/// The float in a row changed.
fn changed(batch: &RecordBatch, column: usize, row: usize, change: impl Fn(Option<f64>) -> Option<f64>) -> RecordBatch {
    let values = batch.column(column).as_primitive::<Float64Type>();
    let values: Float64Array = values.iter().enumerate().map(|(i, v)| if i == row { change(v) } else { v }).collect();
    with(batch, column, Arc::new(values))
}

#[test]
fn right_rows_are_right_in_any_order_batches_and_encoding() {
    for count in [1, 15, 1000, 20_000] {
        let batch = rows(count);
        let digest = digest(&QUERY, &batch);
        check(&digest, std::slice::from_ref(&batch)).unwrap();
        let backwards = reordered(&batch, (0..count as u32).rev());
        let pieces: Vec<_> = (0..count as usize).step_by(777).map(|at| backwards.slice(at, 777.min(count as usize - at))).collect();
        check(&digest, &pieces).unwrap();
        let decimal = cast(batch.column(0), &DataType::Decimal128(20, 2)).unwrap();
        check(&digest, &[with(&batch, 0, decimal)]).unwrap();
        check(&digest, &[with(&batch, 0, cast(batch.column(0), &DataType::Float64).unwrap())]).unwrap();
        check(&digest, &[with(&batch, 1, cast(batch.column(1), &DataType::Utf8View).unwrap())]).unwrap();
        let near: Float64Array = batch.column(2).as_primitive::<Float64Type>().unary(|v| v * (1.0 + 9e-10));
        check(&digest, &[with(&batch, 2, Arc::new(near))]).unwrap();
        let far: Float64Array = batch.column(2).as_primitive::<Float64Type>().unary(|v| v * (1.0 + 2e-9));
        check(&digest, &[with(&batch, 2, Arc::new(far))]).unwrap_err();
    }
}

#[test]
fn a_wrong_exact_value_in_any_row_is_caught_with_its_column() {
    let batch = rows(20_000);
    let digest = digest(&QUERY, &batch);
    for row in [0, 1, 9_999, 19_999] {
        let moved = batch.column(0).as_primitive::<Int64Type>();
        let moved: Int64Array = moved.iter().enumerate().map(|(i, v)| v.map(|v| v + i64::from(i == row))).collect();
        let mismatch = check(&digest, &[with(&batch, 0, Arc::new(moved))]).unwrap_err();
        assert!(mismatch.to_string().contains("column `n`"), "{mismatch}");
        let other: StringArray =
            batch.column(1).as_string::<i32>().iter().enumerate().map(|(i, v)| if i == row { Some("id") } else { v }).collect();
        let mismatch = check(&digest, &[with(&batch, 1, Arc::new(other))]).unwrap_err();
        assert!(mismatch.to_string().contains("column `t`"), "{mismatch}");
        let null: StringArray = batch.column(1).as_string::<i32>().iter().enumerate().map(|(i, v)| v.filter(|_| i != row)).collect();
        check(&digest, &[with(&batch, 1, Arc::new(null))]).unwrap_err();
    }
}

#[test]
fn wrong_counts_of_rows_and_columns_are_caught() {
    let batch = rows(1000);
    let digest = digest(&QUERY, &batch);
    assert!(matches!(check(&digest, &[batch.slice(0, 999)]), Err(Mismatch::Rows { expected: 1000, actual: 999, .. })));
    assert!(matches!(check(&digest, &[]), Err(Mismatch::Rows { actual: 0, .. })));
    assert!(matches!(check(&digest, &[batch.clone(), batch.slice(0, 1)]), Err(Mismatch::Rows { actual: 1001, .. })));
    assert!(matches!(check(&digest, &[batch.project(&[0, 1, 2]).unwrap()]), Err(Mismatch::Columns { .. })));
    // One row for another.
    let twice = reordered(&batch, (0..1000).map(|row| if row == 500 { 3 } else { row }));
    check(&digest, &[twice]).unwrap_err();
}

#[test]
fn values_exchanged_between_rows_are_caught() {
    let batch = rows(20_000);
    let digest = digest(&QUERY, &batch);
    let exchanged = reordered(&batch, (0..20_000).map(|row| if row < 2 { 1 - row } else { row }));
    for column in 0..4 {
        let mismatch = check(&digest, &[with(&batch, column, exchanged.column(column).clone())]).unwrap_err();
        assert!(matches!(mismatch, Mismatch::Digest { .. }), "{mismatch}");
    }
    // Of two rows of one part too: there only the weights differ.
    let small = rows(20);
    let digest = self::digest(&QUERY, &small);
    assert_eq!(parts(20), 1);
    let exchanged = reordered(&small, (0..20).map(|row| if row < 2 { 1 - row } else { row }));
    check(&digest, &[with(&small, 2, exchanged.column(2).clone())]).unwrap_err();
}

#[test]
fn a_wrong_float_is_caught_down_to_its_share_of_a_part() {
    for (count, off) in [(100, 1e-7), (1000, 1e-6), (20_000, 1e-5)] {
        let batch = rows(count);
        let digest = digest(&QUERY, &batch);
        for row in [10, count as usize / 2, count as usize - 1] {
            for column in [2, 3] {
                let wrong = changed(&batch, column, row, |v| v.map(|v| v + v.signum() * off * 1000.0));
                assert_ne!(wrong, batch, "a number, not a null");
                check(&digest, &[wrong]).unwrap_err();
            }
            let nudged = changed(&batch, 2, row, |_| Some(batch.column(2).as_primitive::<Float64Type>().value(row) + off * 100.0));
            let mismatch = check(&digest, &[nudged]).unwrap_err();
            assert!(mismatch.to_string().contains("column `f`: the weighted sum"), "{mismatch}");
        }
    }
}

#[test]
fn nulls_signs_and_what_is_no_number_are_caught() {
    let batch = rows(20_000);
    let digest = digest(&QUERY, &batch);
    let plain = 20;
    for wrong in [None, Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY)] {
        check(&digest, &[changed(&batch, 3, plain, |_| wrong)]).unwrap_err();
    }
    check(&digest, &[changed(&batch, 3, plain, |v| v.map(|v| -v))]).unwrap_err();
    for (special, value) in [(7, Some(0.0)), (7, Some(f64::NAN)), (8, None), (9, Some(f64::NEG_INFINITY)), (9, None)] {
        check(&digest, &[changed(&batch, 3, special, |_| value)]).unwrap_err();
    }
    // In a statistic, undefined is undefined.
    let statistic = Query { statistics: &[3], ..QUERY };
    let expected = Expected::Digest(self::digest(&statistic, &batch));
    verify(&statistic, &expected, &[changed(&changed(&batch, 3, 7, |_| Some(f64::NAN)), 3, 8, |_| None)]).unwrap();
    verify(&statistic, &expected, &[changed(&batch, 3, 8, |_| Some(0.0))]).unwrap_err();
}

/// The limits that the module's page states.
#[test]
fn what_a_digest_misses() {
    let batch = rows(20_000);
    let digest = digest(&QUERY, &batch);
    let tiny = changed(&batch, 2, 100, |v| v.map(|v| v * (1.0 + 1e-8)));
    check(&digest, &[tiny]).unwrap();
    // Rows that are equal in every exact column: their floats may be paired in another way.
    let of = |floats: [[f64; 2]; 2]| {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int32Array::from(vec![1, 1]))),
            ("f", Arc::new(Float64Array::from(floats[0].to_vec()))),
            ("g", Arc::new(Float64Array::from(floats[1].to_vec()))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let pairs = self::digest(&QUERY, &of([[1.0, 2.0], [3.0, 4.0]]));
    check(&pairs, &[of([[1.0, 2.0], [4.0, 3.0]])]).unwrap();
}

#[test]
fn an_order_has_no_digest() {
    const FIRST: &[SortKey] = &[SortKey { column: 0, descending: false, nulls_first: false }];
    for query in [Query { order_by: FIRST, ..QUERY }, Query { limit: Some(1), ..QUERY }] {
        let batch = rows(5);
        let made = Digest::of(&query, &batch.schema(), 5, [Ok(batch.clone())].into_iter());
        assert!(matches!(made, Err(Mismatch::Incomparable { .. })), "{made:?}");
    }
}

#[test]
fn json_comes_back_as_it_was() {
    let digest = digest(&QUERY, &rows(20_000));
    let text = digest.to_json().unwrap();
    let back = Digest::from_json(&text).unwrap();
    check(&back, &[rows(20_000)]).unwrap();
    assert_eq!((back.rows, back.keys, back.columns.len()), (digest.rows, digest.keys, digest.columns.len()));
    for broken in
        [text.replacen("\"rows\":20000", "\"rows\":200", 1), text.replacen("exact", "exakt", 1), text[..text.len() / 2].to_string()]
    {
        assert!(Digest::from_json(&broken).is_err());
    }
    // A digest with other sums is another answer.
    check(&Digest { keys: digest.keys ^ 1, ..digest }, &[rows(20_000)]).unwrap_err();
}

#[test]
fn decimals_are_compared_by_value() {
    let decimals = |values: Vec<i128>, scale: i8| -> RecordBatch {
        let values = Decimal128Array::from(values).with_precision_and_scale(20, scale).unwrap();
        RecordBatch::try_from_iter([("d", Arc::new(values) as ArrayRef)]).unwrap()
    };
    let digest = digest(&QUERY, &decimals(vec![150, 200], 2));
    check(&digest, &[decimals(vec![20, 15], 1)]).unwrap();
    check(&digest, &[decimals(vec![20, 16], 1)]).unwrap_err();
}

/// Every embedded digest refuses rows that it was not made of.
#[test]
fn embedded_digests_are_read_and_of_long_answers() {
    let mut count = 0;
    for suite in suites() {
        for scale in suite.scales() {
            for query in suite.queries {
                if let Some(Expected::Digest(digest)) = crate::answer(suite, scale, query).unwrap() {
                    assert!(digest.rows > 1000, "{} {}", suite.name, query.id);
                    let exact = digest.columns.iter().any(|column| matches!(column, ColumnDigest::Exact { .. }));
                    assert!(exact, "{} {}: floats without a key to hold them to their rows", suite.name, query.id);
                    assert!(matches!(digest.verify(query, digest.emptied()), Err(Mismatch::Rows { .. })));
                    count += 1;
                }
            }
        }
    }
    assert!(count >= 30, "{count}");
}
