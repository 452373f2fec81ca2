//! The comparator accepts what is right in any encoding, and its negative controls: what is wrong is caught.

use std::sync::Arc;

use arrow::array::*;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

use super::*;
use crate::suite::{SortKey, suites};

const UNSORTED: Query = Query { id: "q", sql: "", order_by: &[], limit: None, statistics: &[] };
const BY_FIRST: Query = Query { order_by: &[key(0, false)], ..UNSORTED };

const fn key(column: usize, descending: bool) -> SortKey {
    SortKey { column, descending, nulls_first: false }
}

fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
    let fields: Vec<_> = columns.iter().enumerate().map(|(i, c)| Field::new(format!("c{i}"), c.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn engine(columns: Vec<ArrayRef>) -> Expected {
    let batch = batch(columns);
    Expected::Rows(Answer::of_engine(batch.schema(), vec![batch]))
}

fn listed(columns: Vec<ArrayRef>) -> Expected {
    let batch = batch(columns);
    Expected::Rows(Answer::with_all_ties(batch.schema(), vec![batch]))
}

fn ints(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn floats(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn decimals(values: &[i128], scale: i8) -> ArrayRef {
    Arc::new(Decimal128Array::from(values.to_vec()).with_precision_and_scale(20, scale).unwrap())
}

fn check(query: &Query, expected: Vec<ArrayRef>, actual: Vec<ArrayRef>) -> Result<(), Mismatch> {
    verify(query, &engine(expected), &[batch(actual)])
}

fn rows_of(batch: &RecordBatch, rows: &[u32]) -> RecordBatch {
    let rows = UInt32Array::from(rows.to_vec());
    let columns = batch.columns().iter().map(|column| take(column, &rows, None).unwrap()).collect();
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

/// The array with another value in one row: a small step off for numbers, a value for a null.
fn corrupted(array: &ArrayRef, row: usize) -> ArrayRef {
    let bump = |at: usize| at == row;
    match array.data_type() {
        DataType::Decimal128(precision, scale) => {
            let values = array.as_primitive::<arrow::datatypes::Decimal128Type>();
            let values: Decimal128Array =
                (0..array.len()).map(|i| value(values, i).map_or(bump(i).then_some(1), |v| Some(v + i128::from(bump(i))))).collect();
            Arc::new(values.with_precision_and_scale(*precision, *scale).unwrap())
        }
        DataType::Float64 => {
            let values = array.as_primitive::<arrow::datatypes::Float64Type>();
            let step = |v: f64| if v == 0.0 { 1e-7 } else { v * (1.0 + 1e-7) };
            Arc::new(
                (0..array.len())
                    .map(|i| value(values, i).map_or(bump(i).then_some(1.0), |v| Some(if bump(i) { step(v) } else { v })))
                    .collect::<Float64Array>(),
            )
        }
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            let text = |i: usize| if bump(i) { format!("{}.", values.value(i)) } else { values.value(i).into() };
            Arc::new((0..array.len()).map(|i| Some(text(i))).collect::<StringArray>())
        }
        // Integers and dates.
        other => {
            let wide = cast(&cast(array, &DataType::Int32).unwrap_or_else(|_| array.clone()), &DataType::Int64).unwrap();
            let values = wide.as_primitive::<arrow::datatypes::Int64Type>();
            let moved: Int64Array = (0..array.len()).map(|i| Some(values.value(i) + i64::from(bump(i)))).collect();
            let moved: ArrayRef = Arc::new(moved);
            let narrow = if *other == DataType::Date32 { cast(&moved, &DataType::Int32).unwrap() } else { moved };
            cast(&narrow, other).unwrap()
        }
    }
}

fn value<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, row: usize) -> Option<T::Native> {
    array.is_valid(row).then(|| array.value(row))
}

/// Every embedded answer that is no digest, with its query: the rows that its LIMIT keeps.
fn answers() -> Vec<(&'static Query, Expected, RecordBatch)> {
    let mut answers = Vec::new();
    for suite in suites() {
        for scale in suite.scales() {
            for query in suite.queries {
                let expected = crate::answer(suite, scale, query).unwrap().unwrap();
                let Expected::Rows(expected) = expected else { continue };
                let rows = concat_batches(expected.schema(), expected.batches()).unwrap();
                let rows = rows.slice(0, query.limit.map_or(rows.num_rows(), |limit| limit.min(rows.num_rows())));
                // At scale 10 q11 has none: nothing of it can be dropped or changed.
                if rows.num_rows() > 0 {
                    answers.push((query, Expected::Rows(expected), rows));
                }
            }
        }
    }
    assert!(answers.len() >= 87);
    answers
}

#[test]
fn every_answer_equals_itself_in_one_batch_or_many() {
    for (query, expected, rows) in answers() {
        verify(query, &expected, std::slice::from_ref(&rows)).unwrap();
        let singles: Vec<_> = (0..rows.num_rows()).map(|row| rows.slice(row, 1)).collect();
        verify(query, &expected, &singles).unwrap();
    }
}

#[test]
fn a_corrupted_value_in_any_column_of_any_answer_is_caught() {
    for (query, expected, rows) in answers() {
        let last = rows.num_rows().saturating_sub(1);
        for column in 0..rows.num_columns() {
            for row in [0, last / 2, last] {
                let mut columns = rows.columns().to_vec();
                columns[column] = corrupted(&columns[column], row);
                let wrong = RecordBatch::try_new(rows.schema(), columns).unwrap();
                let mismatch = verify(query, &expected, &[wrong]).unwrap_err();
                let name = rows.schema().field(column).name().clone();
                let Mismatch::Value { row: at, column: named, expected, actual, .. } = &mismatch else { panic!("{mismatch}") };
                assert_ne!(expected, actual, "{mismatch}");
                // A row can be most like another one when its own value is off; the words are right all the same.
                assert!(rows.num_rows() > 1 || (*at == row + 1 && *named == name), "{mismatch}");
            }
        }
    }
}

#[test]
fn dropped_doubled_and_replaced_rows_of_any_answer_are_caught() {
    for (query, expected, rows) in answers() {
        let count = rows.num_rows() as u32;
        let dropped = rows_of(&rows, &(1..count).collect::<Vec<_>>());
        assert!(matches!(verify(query, &expected, &[dropped]), Err(Mismatch::Rows { .. })), "{}", query.id);
        let doubled = [rows.clone(), rows.slice(0, 1)];
        assert!(matches!(verify(query, &expected, &doubled), Err(Mismatch::Rows { .. })), "{}", query.id);
        if count > 1 {
            // One row doubled and another dropped: the count is right, the multiset is not.
            let replaced = rows_of(&rows, &[vec![1], (1..count).collect()].concat());
            assert!(matches!(verify(query, &expected, &[replaced]), Err(Mismatch::Value { .. })), "{}", query.id);
        }
        assert!(matches!(verify(query, &expected, &[]), Err(Mismatch::Rows { actual: 0, .. })), "{}", query.id);
        let narrow = rows.project(&(1..rows.num_columns()).collect::<Vec<_>>()).unwrap();
        assert!(matches!(verify(query, &expected, &[narrow]), Err(Mismatch::Columns { .. })), "{}", query.id);
    }
}

#[test]
fn a_wrong_order_of_any_sorted_answer_is_caught() {
    let mut caught = 0;
    for (query, expected, rows) in answers() {
        let count = rows.num_rows() as u32;
        let reversed = rows_of(&rows, &(0..count).rev().collect::<Vec<_>>());
        let verdict = verify(query, &expected, &[reversed]);
        if query.order_by.is_empty() || count < 2 {
            verdict.unwrap();
        } else {
            assert!(matches!(verdict, Err(Mismatch::Order { .. })), "{}: {verdict:?}", query.id);
            caught += 1;
        }
    }
    assert!(caught > 40, "{caught}");
}

#[test]
fn numbers_are_equal_by_value() {
    let one_and_a_half = || vec![decimals(&[150], 2)];
    check(&UNSORTED, one_and_a_half(), vec![decimals(&[15], 1)]).unwrap();
    check(&UNSORTED, one_and_a_half(), vec![decimals(&[1_500_000], 6)]).unwrap();
    check(&UNSORTED, vec![decimals(&[700], 2)], vec![ints(&[7])]).unwrap();
    check(&UNSORTED, vec![decimals(&[7], 0)], vec![cast(&ints(&[7]), &DataType::UInt8).unwrap()]).unwrap();
    check(&UNSORTED, vec![ints(&[7])], vec![floats(&[7.0])]).unwrap();
    check(&UNSORTED, one_and_a_half(), vec![cast(&decimals(&[150], 2), &DataType::Decimal64(18, 2)).unwrap()]).unwrap();
    check(&UNSORTED, one_and_a_half(), vec![cast(&decimals(&[150], 2), &DataType::Decimal256(50, 2)).unwrap()]).unwrap();
    check(&UNSORTED, one_and_a_half(), vec![decimals(&[151], 2)]).unwrap_err();
    check(&UNSORTED, one_and_a_half(), vec![decimals(&[150], 1)]).unwrap_err();
    check(&UNSORTED, vec![ints(&[7])], vec![floats(&[7.1])]).unwrap_err();
    check(&UNSORTED, vec![ints(&[7])], vec![texts(&["7"])]).unwrap_err();
}

#[test]
fn floats_are_equal_within_a_billionth_and_decimals_within_their_last_place() {
    let answer = || vec![floats(&[25.522005853257337])];
    check(&UNSORTED, answer(), vec![floats(&[25.522005853257337 * (1.0 + 9e-10)])]).unwrap();
    check(&UNSORTED, answer(), vec![floats(&[25.522005853257337 * (1.0 + 2e-9)])]).unwrap_err();
    // An average that DataFusion cuts off, one that is rounded, one that is wrong.
    check(&UNSORTED, answer(), vec![decimals(&[25_522_005], 6)]).unwrap();
    check(&UNSORTED, answer(), vec![decimals(&[25_522_006], 6)]).unwrap();
    check(&UNSORTED, answer(), vec![decimals(&[25_522_007], 6)]).unwrap_err();
    check(&UNSORTED, answer(), vec![decimals(&[25_522_004], 6)]).unwrap_err();
    // The slack is for the engine's decimal only: an exact answer stays exact, and an integer has no places.
    check(&UNSORTED, vec![decimals(&[25_522_005], 6)], vec![floats(&[25.522006])]).unwrap_err();
    check(&UNSORTED, vec![floats(&[3.0])], vec![ints(&[4])]).unwrap_err();
    for special in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0] {
        check(&UNSORTED, vec![floats(&[special])], vec![floats(&[special])]).unwrap();
        check(&UNSORTED, vec![floats(&[special])], vec![floats(&[1.0])]).unwrap_err();
    }
    check(&UNSORTED, vec![floats(&[0.0])], vec![floats(&[-0.0])]).unwrap();
}

#[test]
fn rows_of_floats_are_paired_within_their_tolerance() {
    let near = |x: f64| x * (1.0 + 5e-10);
    let answer = || vec![texts(&["a", "a", "a", "b"]), floats(&[1.0, 2.0, 2.0, f64::NAN]), floats(&[9.0, 8.0, 7.0, 6.0])];
    let result = vec![texts(&["b", "a", "a", "a"]), floats(&[f64::NAN, near(2.0), 2.0, near(1.0)]), floats(&[6.0, 7.0, near(8.0), 9.0])];
    check(&UNSORTED, answer(), result).unwrap();
    let crossed = vec![texts(&["a", "a", "a", "b"]), floats(&[2.0, 1.0, 2.0, f64::NAN]), floats(&[9.0, 8.0, 7.0, 6.0])];
    check(&UNSORTED, answer(), crossed).unwrap_err();
}

#[test]
fn text_and_dates_are_equal_in_every_encoding() {
    let answer = || vec![texts(&["a", "b", "a"])];
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    for encoding in [DataType::LargeUtf8, DataType::Utf8View, dictionary] {
        check(&UNSORTED, answer(), vec![cast(&answer()[0], &encoding).unwrap()]).unwrap();
        check(&UNSORTED, answer(), vec![cast(&texts(&["a", "b", "A"]), &encoding).unwrap()]).unwrap_err();
    }
    check(&UNSORTED, answer(), vec![texts(&["a", "b", "a "])]).unwrap_err();
    let days: ArrayRef = Arc::new(Date32Array::from(vec![8_035]));
    check(&UNSORTED, vec![days.clone()], vec![cast(&days, &DataType::Date64).unwrap()]).unwrap();
    check(&UNSORTED, vec![days.clone()], vec![ints(&[8_035])]).unwrap_err();
    let at = |unit| cast(&days, &DataType::Timestamp(unit, None)).unwrap();
    check(&UNSORTED, vec![at(TimeUnit::Second)], vec![at(TimeUnit::Nanosecond)]).unwrap();
    check(&UNSORTED, vec![days.clone()], vec![at(TimeUnit::Second)]).unwrap_err();
}

#[test]
fn nulls_equal_only_nulls() {
    let with_null: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    check(&UNSORTED, vec![with_null.clone()], vec![with_null.clone()]).unwrap();
    check(&UNSORTED, vec![with_null.clone()], vec![ints(&[1, 0])]).unwrap_err();
    check(&UNSORTED, vec![ints(&[1, 0])], vec![with_null]).unwrap_err();
    let no_type: ArrayRef = Arc::new(NullArray::new(1));
    let no_float: ArrayRef = Arc::new(Float64Array::from(vec![None]));
    check(&UNSORTED, vec![no_float.clone()], vec![no_type]).unwrap();
    check(&UNSORTED, vec![no_float], vec![floats(&[f64::NEG_INFINITY])]).unwrap_err();
}

#[test]
fn order_is_checked_where_it_is_asked_for() {
    check(&UNSORTED, vec![ints(&[1, 2, 3])], vec![ints(&[3, 1, 2])]).unwrap();
    let mismatch = check(&BY_FIRST, vec![ints(&[1, 2, 3])], vec![ints(&[1, 3, 2])]).unwrap_err();
    assert_eq!(mismatch.to_string(), "q: row 3 is out of order: column `c0` is 2 after 3, sorted ascending");
    const TWO_KEYS: Query = Query { order_by: &[key(1, true), key(0, false)], ..UNSORTED };
    let answer = || vec![texts(&["a", "b", "c"]), decimals(&[20, 20, 3], 1)];
    check(&TWO_KEYS, answer(), answer()).unwrap();
    let mismatch = check(&TWO_KEYS, answer(), vec![texts(&["b", "a", "c"]), decimals(&[20, 20, 3], 1)]).unwrap_err();
    assert!(matches!(&mismatch, Mismatch::Order { row: 2, column, .. } if column == "c0"), "{mismatch}");
    let nulls: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(1)]));
    const NULLS_FIRST: Query = Query { order_by: &[SortKey { nulls_first: true, ..key(0, false) }], ..UNSORTED };
    check(&NULLS_FIRST, vec![nulls.clone()], vec![nulls.clone()]).unwrap();
    let nulls_at_the_end: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    check(&NULLS_FIRST, vec![nulls.clone()], vec![nulls_at_the_end]).unwrap_err();
    check(&BY_FIRST, vec![nulls.clone()], vec![nulls]).unwrap_err();
}

#[test]
fn a_statistic_may_be_undefined_and_is_noise_near_zero() {
    const SECOND: Query = Query { statistics: &[1], ..UNSORTED };
    let column = |value: Option<f64>| vec![ints(&[1, 2]), Arc::new(Float64Array::from(vec![Some(0.5), value])) as ArrayRef];
    for (a, b) in [(None, Some(f64::NAN)), (Some(f64::NAN), None), (Some(0.0), Some(1e-16)), (Some(1e-16), Some(3e-16))] {
        check(&SECOND, column(a), column(b)).unwrap();
        check(&UNSORTED, column(a), column(b)).unwrap_err();
    }
    for wrong in [0.0, 1.0, f64::INFINITY] {
        check(&SECOND, column(None), column(Some(wrong))).unwrap_err();
    }
    check(&SECOND, column(Some(0.0)), column(Some(2e-15))).unwrap_err();
    check(&SECOND, column(Some(0.25)), column(Some(0.25 + 1e-9))).unwrap_err();
}

#[test]
fn rows_that_tie_at_a_limit_may_differ() {
    let top_2 = Query { limit: Some(2), ..BY_FIRST };
    let result = |names: &[&str]| batch(vec![ints(&[1, 2]), texts(names)]);
    let answer = listed(vec![ints(&[1, 2, 2]), texts(&["a", "b", "c"])]);
    verify(&top_2, &answer, &[result(&["a", "b"])]).unwrap();
    verify(&top_2, &answer, &[result(&["a", "c"])]).unwrap();
    let mismatch = verify(&top_2, &answer, &[result(&["a", "d"])]).unwrap_err();
    assert!(matches!(&mismatch, Mismatch::Value { row: 2, actual, .. } if actual == "'d'"), "{mismatch}");
    verify(&top_2, &answer, &[result(&["b", "c"])]).unwrap_err();
    // The answer of an engine stops at the limit: of the ties only the keys are known.
    let cut = engine(vec![ints(&[1, 2]), texts(&["a", "b"])]);
    verify(&top_2, &cut, &[result(&["a", "d"])]).unwrap();
    verify(&top_2, &cut, &[result(&["d", "b"])]).unwrap_err();
    verify(&top_2, &cut, &[batch(vec![ints(&[1, 3]), texts(&["a", "b"])])]).unwrap_err();
    // Keys of the ties are compared by value too.
    let keys = |keys: ArrayRef| batch(vec![keys, texts(&["a", "b"])]);
    let tenths = engine(vec![decimals(&[10, 15], 1), texts(&["a", "b"])]);
    verify(&top_2, &tenths, &[keys(decimals(&[100, 150], 2))]).unwrap();
    verify(&top_2, &tenths, &[keys(decimals(&[10, 15], 0))]).unwrap_err();
    verify(&top_2, &tenths, &[keys(decimals(&[100, 1500], 2))]).unwrap_err();
    verify(&top_2, &tenths, &[keys(floats(&[1.0, 1.5]))]).unwrap();
    verify(&top_2, &tenths, &[keys(floats(&[1.0, 1.500_000_01]))]).unwrap_err();
    // Fewer rows than the limit: nothing was cut, all are known.
    let few = Query { limit: Some(3), ..BY_FIRST };
    verify(&few, &cut, &[result(&["a", "d"])]).unwrap_err();
    verify(&top_2, &answer, &[result(&["a", "b"]), result(&["a", "b"])]).unwrap_err();
}

#[test]
fn a_mismatch_says_row_column_expected_and_actual() {
    let answer = vec![texts(&["x", "y"]), decimals(&[100, 250], 2)];
    let mismatch = check(&BY_FIRST, answer, vec![texts(&["x", "y"]), decimals(&[100, 251], 2)]).unwrap_err();
    assert_eq!(mismatch.to_string(), "q: row 2, column `c1`: expected 2.50, got 2.51 (the expected row is 'y', 2.50)");
}

#[test]
fn what_cannot_be_compared_is_said() {
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![b"x".as_slice()]));
    let mismatch = check(&UNSORTED, vec![ints(&[1])], vec![bytes]).unwrap_err();
    assert!(matches!(&mismatch, Mismatch::Incomparable { whose: "result", reason, .. } if reason.contains("Binary")));
    const BEYOND: Query = Query { order_by: &[key(3, false)], ..UNSORTED };
    let mismatch = check(&BEYOND, vec![ints(&[1])], vec![ints(&[1])]).unwrap_err();
    assert!(matches!(mismatch, Mismatch::Incomparable { whose: "answer", .. }));
}
