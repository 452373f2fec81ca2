//! Every type there and back, frames without rows and columns, chunks that end anywhere, and what is refused.

use crate::random::Random;
use crate::wait;
use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::*;
use millstream::polars::prelude::{
    AnyValue, Categories, DataFrame, DataType as Theirs, FrozenCategories, IntoColumn, IntoSeries, NamedFrom, Series,
    TimeUnit as TheirUnit, df,
};
use millstream::{ErrorKind, Session};
use std::sync::Arc;

/// The item of a list.
pub fn item(kind: DataType) -> FieldRef {
    Arc::new(Field::new("item", kind, true))
}

fn one(kind: DataType) -> Fields {
    vec![Field::new("x", kind, true)].into()
}

/// Types, and what they are after a visit to Polars: the table of the guide.
fn visits() -> Vec<(DataType, DataType)> {
    use DataType as D;
    use TimeUnit as U;
    let categories = |codes: D| D::Dictionary(Box::new(codes), Box::new(D::Utf8View));
    let same = [
        D::Null,
        D::Boolean,
        D::Int8,
        D::Int16,
        D::Int32,
        D::Int64,
        D::UInt8,
        D::UInt16,
        D::UInt32,
        D::UInt64,
        D::Float32,
        D::Float64,
        D::Utf8View,
        D::BinaryView,
        D::Date32,
        D::Time64(U::Nanosecond),
        D::Timestamp(U::Millisecond, None),
        D::Timestamp(U::Microsecond, Some("America/New_York".into())),
        D::Timestamp(U::Nanosecond, Some("UTC".into())),
        D::Duration(U::Millisecond),
        D::Duration(U::Microsecond),
        D::Duration(U::Nanosecond),
        D::Decimal128(38, 10),
        D::Decimal128(4, 4),
        D::LargeList(item(D::Int32)),
        D::LargeList(item(D::LargeList(item(D::Utf8View)))),
        D::FixedSizeList(item(D::Boolean), 2),
        D::Struct(one(D::Timestamp(U::Microsecond, None))),
        D::LargeList(item(D::Struct(one(D::Decimal128(10, 2))))),
        D::Struct(one(D::FixedSizeList(item(D::Date32), 1))),
    ];
    let mut out: Vec<(D, D)> = same.into_iter().map(|kind| (kind.clone(), kind)).collect();
    out.extend([
        (D::Float16, D::Float32),
        (D::Utf8, D::Utf8View),
        (D::LargeUtf8, D::Utf8View),
        (D::Binary, D::BinaryView),
        (D::LargeBinary, D::BinaryView),
        (D::FixedSizeBinary(3), D::BinaryView),
        (D::Date64, D::Timestamp(U::Millisecond, None)),
        (D::Time32(U::Second), D::Time64(U::Nanosecond)),
        (D::Time32(U::Millisecond), D::Time64(U::Nanosecond)),
        (D::Time64(U::Microsecond), D::Time64(U::Nanosecond)),
        (D::Timestamp(U::Second, None), D::Timestamp(U::Millisecond, None)),
        (D::Timestamp(U::Second, Some("+02:00".into())), D::Timestamp(U::Millisecond, Some("Etc/GMT-2".into()))),
        (D::Duration(U::Second), D::Duration(U::Millisecond)),
        (D::Decimal32(9, 2), D::Decimal128(9, 2)),
        (D::Decimal64(18, 4), D::Decimal128(18, 4)),
        (D::Decimal256(60, 3), D::Decimal128(38, 3)),
        (D::Decimal128(5, -2), D::Decimal128(7, 0)),
        (D::List(item(D::Utf8)), D::LargeList(item(D::Utf8View))),
        (D::FixedSizeList(item(D::Time32(U::Second)), 2), D::FixedSizeList(item(D::Time64(U::Nanosecond)), 2)),
        (D::Struct(one(D::List(item(D::Int8)))), D::Struct(one(D::LargeList(item(D::Int8))))),
        (D::Dictionary(Box::new(D::Int8), Box::new(D::Utf8)), categories(D::UInt32)),
        (D::Dictionary(Box::new(D::UInt64), Box::new(D::LargeUtf8)), categories(D::UInt32)),
        (D::LargeList(item(D::Dictionary(Box::new(D::Int32), Box::new(D::Utf8)))), D::LargeList(item(categories(D::UInt32)))),
    ]);
    out
}

fn concatenated(batches: &[RecordBatch]) -> RecordBatch {
    concat_batches(&batches[0].schema(), batches).unwrap()
}

/// Through Polars and back.
fn visit(batches: Vec<RecordBatch>) -> RecordBatch {
    let session = Session::new().unwrap();
    let back = wait(async {
        let frame = session.read_batches(batches)?.to_polars().await?;
        session.read_polars(&frame)?.collect().await
    });
    concatenated(&back.unwrap())
}

/// What `before` must be after a visit. Dictionaries of other codes are compared as texts.
fn same(before: &ArrayRef, after: &ArrayRef, kind: &DataType, what: &str) {
    use DataType as D;
    assert_eq!(after.data_type(), kind, "{what}");
    let plain = match kind {
        D::Dictionary(_, values) => values.as_ref().clone(),
        D::LargeList(of) if matches!(of.data_type(), D::Dictionary(..)) => D::LargeList(item(D::Utf8View)),
        kind => kind.clone(),
    };
    assert_eq!(&cast(before, &plain).unwrap(), &cast(after, &plain).unwrap(), "{what}");
}

#[test]
fn every_type_comes_back_with_its_nulls() {
    for (seed, (kind, after)) in visits().into_iter().enumerate() {
        let batches = Random(seed as u64).batches(&[kind.clone(), DataType::Int64], 5);
        let before = concatenated(&batches);
        let back = visit(batches);
        assert_eq!(back.num_rows(), before.num_rows());
        same(before.column(0), back.column(0), &after, &format!("{kind}"));
        assert_eq!(before.column(1), back.column(1));
    }
}

#[test]
fn random_tables_come_back() {
    let visits = visits();
    for seed in 0..150 {
        let mut random = Random(1_000 + seed);
        let columns: Vec<_> = (0..random.below(7)).map(|_| visits[random.below(visits.len())].clone()).collect();
        let kinds: Vec<_> = columns.iter().map(|c| c.0.clone()).collect();
        let count = 1 + random.below(6);
        let batches = random.batches(&kinds, count);
        let before = concatenated(&batches);
        let back = visit(batches);
        assert_eq!(back.num_rows(), before.num_rows(), "seed {seed}");
        for (i, (kind, after)) in columns.iter().enumerate() {
            same(before.column(i), back.column(i), after, &format!("{kind}, seed {seed}"));
        }
    }
}

/// Frames whose columns have chunks that end in other rows, and slices of them.
#[test]
fn random_frames_come_back() {
    let visits = visits();
    let session = Session::new().unwrap();
    for seed in 0..150 {
        let mut random = Random(5_000 + seed);
        let kinds: Vec<_> = (0..1 + random.below(5)).map(|_| visits[random.below(visits.len())].0.clone()).collect();
        let whole = wait(session.read_batches(random.batches(&kinds, 4)).unwrap().to_polars()).unwrap();
        let frame = random.cut(&whole);
        let rows = random.below(frame.height() + 1);
        let frame = frame.slice(random.below(rows + 1) as i64, rows);
        let back = wait(session.read_polars(&frame).unwrap().to_polars()).unwrap();
        assert_eq!(back.schema(), frame.schema(), "seed {seed}");
        assert!(back.equals_missing(&frame), "seed {seed}: {frame:?} became {back:?}");
    }
}

/// Not only there and back: Polars reads the values that were written.
#[test]
fn polars_sees_the_values() {
    let sql = "select * from (values
        (1, 'a', 2.5, date '2024-02-29', true, timestamp '2024-02-29 12:00:00', cast('1.25' as decimal(10, 2)), [1, 2]),
        (null, null, null, null, null, null, null, null)) t(i, s, x, d, b, at, m, l)";
    let session = Session::new().unwrap();
    let frame = wait(async { session.sql(sql).await?.to_polars().await }).unwrap();
    let cell = |name: &str| frame.column(name).unwrap().get(0).unwrap().into_static();
    assert_eq!(cell("i"), AnyValue::Int64(1));
    assert_eq!(cell("s"), AnyValue::StringOwned("a".into()));
    assert_eq!(cell("x"), AnyValue::Float64(2.5));
    assert_eq!(cell("d"), AnyValue::Date(19_782));
    assert_eq!(cell("b"), AnyValue::Boolean(true));
    assert_eq!(cell("at"), AnyValue::DatetimeOwned(1_709_208_000_000_000_000, TheirUnit::Nanoseconds, None));
    assert_eq!(cell("m"), AnyValue::Decimal(125, 10, 2));
    assert_eq!(cell("l"), AnyValue::List(Series::new("".into(), [1_i64, 2])));
    assert!(frame.columns().iter().all(|c| c.null_count() == 1 && c.get(1).unwrap().is_null()));
}

#[test]
fn categoricals_group_join_and_compare() {
    let session = Session::new().unwrap();
    let words = Series::new("s".into(), [Some("oak"), Some("ash"), None, Some("oak")]);
    let trees = FrozenCategories::new(["oak", "ash", "elm"]).unwrap();
    for kind in [Theirs::from_categories(Categories::global()), Theirs::from_frozen_categories(trees)] {
        let columns = [words.cast(&kind).unwrap(), Series::new("n".into(), [1, 2, 3, 4])];
        let frame = DataFrame::new(4, columns.map(Series::into_column).into()).unwrap();
        session.register_polars("t", &frame).unwrap();
        let ask = |sql: &'static str| wait(async { session.sql(sql).await?.to_polars().await }).unwrap();
        let sums = ask("select cast(s as varchar) as s, sum(n) as n from t group by s order by n");
        assert!(sums.equals_missing(&df!["s" => [Some("ash"), None, Some("oak")], "n" => [2_i64, 3, 5]].unwrap()), "{kind}: {sums}");
        assert_eq!(ask("select n from t where s = 'oak' and n > 1"), df!["n" => [4]].unwrap(), "{kind}");
        assert_eq!(ask("select a.n from t a join t b using (s) where b.n = 2"), df!["n" => [2]].unwrap(), "{kind}");
        assert_eq!(ask("select s from t order by n limit 1").column("s").unwrap().get(0).unwrap().str_value(), "oak", "{kind}");
    }
}

#[test]
fn without_rows_and_without_columns() {
    let session = Session::new().unwrap();
    for (seed, (kind, after)) in visits().into_iter().enumerate() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", kind.clone(), true)]));
        let empty = wait(session.read_batches(vec![RecordBatch::new_empty(schema)]).unwrap().to_polars()).unwrap();
        assert_eq!(empty.shape(), (0, 1), "{kind}, {seed}");
        let back = wait(session.read_polars(&empty).unwrap().collect()).unwrap();
        assert!(back.iter().all(|b| b.num_rows() == 0));
        assert_eq!(session.read_polars(&empty).unwrap().schema().field(0).data_type(), &after);
    }
    for rows in [0, 7] {
        let frame = DataFrame::new(rows, vec![]).unwrap();
        let table = session.read_polars(&frame).unwrap();
        assert_eq!(wait(table.to_polars()).unwrap().shape(), (rows, 0));
        session.register_polars("nothing", &frame).unwrap();
        let count = wait(async { session.sql("select count(*) as n from nothing").await?.to_polars().await }).unwrap();
        assert_eq!(count, df!["n" => [rows as i64]].unwrap());
    }
}

/// The message of an error that must be of this kind.
fn refused<T>(result: millstream::Result<T>, kind: ErrorKind) -> String {
    let error = result.err().expect("an error");
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

#[test]
fn what_does_not_go_is_refused_with_the_columns_name() {
    use DataType as D;
    let session = Session::new().unwrap();
    let entries = StructArray::new(
        vec![Field::new("keys", D::Int32, false), Field::new("values", D::Int32, true)].into(),
        vec![Arc::new(Int32Array::from(vec![1])), Arc::new(Int32Array::from(vec![2]))],
        None,
    );
    let field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    let map: ArrayRef = Arc::new(MapArray::new(field, OffsetBuffer::from_lengths([1]), entries, None, false));
    let intervals: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3)]));
    let pairs = vec![Field::new("x", intervals.data_type().clone(), true)].into();
    let nested: ArrayRef = Arc::new(StructArray::new(pairs, vec![Arc::clone(&intervals)], None));
    let zone: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1]).with_timezone("+05:30"));
    let narrow: ArrayRef = new_null_array(&D::FixedSizeList(item(D::Int8), 0), 1);
    for array in [map, intervals, nested, zone, narrow] {
        let batch = RecordBatch::try_from_iter([("good", Arc::new(Int8Array::from(vec![1])) as ArrayRef), ("odd", array)]).unwrap();
        let text = refused(wait(session.read_batches(vec![batch]).unwrap().to_polars()), ErrorKind::Unsupported);
        assert!(text.starts_with("column odd: Polars has no type for "), "{text}");
    }
    let wide = RecordBatch::try_from_iter([(
        "m",
        cast(&Decimal256Array::from(vec![i256::MAX]).with_precision_and_scale(76, 0).unwrap(), &D::Decimal256(76, 0)).unwrap(),
    )])
    .unwrap();
    assert!(refused(wait(session.read_batches(vec![wide]).unwrap().to_polars()), ErrorKind::Invalid).starts_with("column m: "));
    let late: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX]));
    let late = RecordBatch::try_from_iter([("at", late)]).unwrap();
    assert!(refused(wait(session.read_batches(vec![late]).unwrap().to_polars()), ErrorKind::Invalid).starts_with("column at: "));

    let twice = wait(session.sql("select a.n, b.n from (select 1 as n) a cross join (select 2 as n) b")).unwrap();
    assert_eq!(refused(wait(twice.to_polars()), ErrorKind::Invalid), "a frame has no two columns n: give one another name");
    let wide = df!["fine" => [1], "huge" => [1_i128]].unwrap();
    assert_eq!(refused(session.read_polars(&wide), ErrorKind::Unsupported), "column huge: Arrow has no type for i128");
    let nested = wide.column("huge").unwrap().as_materialized_series().implode().unwrap().into_series().into_column();
    let nested = DataFrame::new(1, vec![nested]).unwrap();
    assert!(refused(session.register_polars("t", &nested), ErrorKind::Unsupported).starts_with("column huge: "));
}

/// What the query raises comes as it is.
#[test]
fn errors_of_the_query_pass() {
    let session = Session::new().unwrap();
    let divided = wait(async { session.sql("select 1 / (a - a) as q from (values (1)) t(a)").await?.to_polars().await });
    assert!(refused(divided, ErrorKind::Invalid).to_lowercase().contains("divide"));
}
