//! Kernels from registers to registers.

use crate::Case;
use crate::data::{booleans, dictionary, floats, integers, narrow_integers, times, values, views, wide_integers, word};
use millstream_kernels::filter::{Selection, select, select_mask};
use millstream_kernels::group::stable_hash;
use millstream_kernels::program::{ArithOp, BoolOp, CompareOp, Type};
use millstream_kernels::{
    CHUNK_ROWS, Narrow, Result, Value, Values, Vector, arith, bins, boolean, cast, compare, decode, filter, gather, hash, text,
};
use std::hint::black_box;

/// Rows of one run: a column of 64-bit integers is 1 MiB.
const ROWS: usize = 64 * CHUNK_ROWS;

pub fn cases() -> Vec<Case> {
    let case = |kernel, name, row_bytes, make| Case { kernel, name, rows: ROWS, row_bytes, make };
    vec![
        case("compare", "i64 < constant", 9.0, |n| comparing(CompareOp::Lt, integers(n, 1, 1000, false), Value::Int(500), Type::I64)),
        case("compare", "f64 < constant", 9.0, |n| comparing(CompareOp::Lt, floats(n, 2), Value::F64(500.0), Type::F64)),
        case("compare", "dictionary = constant", 5.0, |n| comparing(CompareOp::Eq, dictionary(n, 3, 100), Value::Str(word(7)), Type::Str)),
        case("compare", "view = constant", 17.0, |n| comparing(CompareOp::Eq, views(n, 4, 100), Value::Str(word(7)), Type::Str)),
        case("text", "dictionary like '%d%7%'", 5.0, |n| liking(dictionary(n, 22, 100))),
        case("text", "view like '%d%7%'", 17.0, |n| liking(views(n, 23, 100))),
        case("boolean", "and", 3.0, and),
        case("arith", "i64 + i64 checked", 24.0, |n| adding(integers(n, 7, 1 << 40, false), integers(n, 8, 1 << 40, false), Type::I64)),
        case("arith", "f64 + f64", 24.0, |n| adding(floats(n, 9), floats(n, 10), Type::F64)),
        case("arith", "decimal + decimal in 64 bits", 24.0, |n| {
            adding(integers(n, 11, 1 << 40, false), integers(n, 12, 1 << 40, false), Type::Decimal)
        }),
        case("arith", "decimal + decimal in 128 bits", 48.0, |n| adding(wide_integers(n, 13), wide_integers(n, 14), Type::Decimal)),
        case("cast", "i32 to i64", 12.0, |n| casting(narrow_integers(n, 15), Type::I64, 0)),
        case("cast", "decimal to f64", 16.0, |n| casting(integers(n, 16, 1 << 40, false), Type::F64, 2)),
        case("bins", "minutes of times in order", 16.0, |n| binning(times(n))),
        case("bins", "minutes of times in any order", 16.0, |n| binning(integers(n, 24, 1 << 40, false))),
        case("filter", "mask to selection, 1 % stay", 1.04, |n| selecting(booleans(n, 17, 1))),
        case("filter", "mask to selection, half stays", 3.0, |n| selecting(booleans(n, 18, 50))),
        case("gather", "i64, half of the rows", 10.0, gathering),
        case("hash", "i64, stable", 24.0, hashing),
        case("narrow", "16 bits to i64", 10.0, |n| widening(integers(n, 25, 60_000, false))),
        case("decode", "codes of 4 bits", 4.5, |n| unpacking(n, 4)),
        case("decode", "codes of 17 bits", 6.1, |n| unpacking(n, 17)),
    ]
}

/// Compares what `kernel` gives for each chunk with `oracle` of each row, then times `kernel`.
fn verified(chunks: usize, kernel: impl Fn(usize) -> Result<Vector> + 'static, oracle: impl Fn(usize, usize) -> Value) -> Box<dyn FnMut()> {
    for c in 0..chunks {
        let out = kernel(c).expect("the kernel's answer");
        for i in 0..CHUNK_ROWS {
            assert_eq!(out.value(i).expect("a value"), oracle(c, i), "chunk {c}, row {i}");
        }
    }
    Box::new(move || {
        for c in 0..chunks {
            let _ = black_box(kernel(c));
        }
    })
}

/// Rows of a column that is kept in as few bytes as its range needs.
fn widening(column: Vec<Vector>) -> Box<dyn FnMut()> {
    let narrow: Vec<Narrow> = column.iter().map(|v| Narrow::of(&v.clone().within(Some((0, 59_999)))).expect("a narrow column")).collect();
    let oracle = move |c: usize, i: usize| column[c].value(i).expect("a value");
    verified(narrow.len(), move |c| Ok(narrow[c].rows(0, CHUNK_ROWS)), oracle)
}

/// Codes of one bit-packed run.
fn unpacking(rows: usize, width: u32) -> Box<dyn FnMut()> {
    let mut packed = vec![];
    let mut header = (rows / 8) << 1 | 1;
    while header > 0x7F {
        packed.push(header as u8 | 0x80);
        header >>= 7;
    }
    packed.push(header as u8);
    packed.extend((0..rows * width as usize / 8).map(|i| hash::word(i as u64) as u8));
    let expected = decode::reference::codes(&packed, width, rows).expect("the oracle's answer");
    assert_eq!(decode::codes(&packed, width, rows).expect("the kernel's answer"), expected);
    Box::new(move || {
        let _ = black_box(decode::codes(&packed, width, rows));
    })
}

fn comparing(op: CompareOp, column: Vec<Vector>, with: Value, ty: Type) -> Box<dyn FnMut()> {
    let constant = Vector::constant(&with, ty).expect("a constant");
    let rows = values(&column);
    let oracle =
        move |c: usize, i: usize| compare::reference::compare(op, &rows[c * CHUNK_ROWS + i], &with).map_or(Value::Null, Value::Bool);
    verified(column.len(), move |c| compare::compare(op, &column[c], &constant, CHUNK_ROWS), oracle)
}

fn liking(column: Vec<Vector>) -> Box<dyn FnMut()> {
    const PATTERN: &str = "%d%7%";
    let rows = values(&column);
    let oracle = |c: usize, i: usize| match &rows[c * CHUNK_ROWS + i] {
        Value::Str(s) => Value::Bool(text::reference::like(s, PATTERN)),
        other => other.clone(),
    };
    verified(column.len(), move |c| text::like(&column[c], PATTERN, false, CHUNK_ROWS), oracle)
}

fn and(rows: usize) -> Box<dyn FnMut()> {
    let (a, b) = (booleans(rows, 5, 50), booleans(rows, 6, 50));
    let (x, y) = (values(&a), values(&b));
    let truth = |v: &Value| Some(*v == Value::Bool(true));
    let oracle = |c: usize, i: usize| {
        let row = c * CHUNK_ROWS + i;
        boolean::reference::logic(BoolOp::And, truth(&x[row]), truth(&y[row])).map_or(Value::Null, Value::Bool)
    };
    verified(a.len(), move |c| boolean::logic(BoolOp::And, &a[c], &b[c], CHUNK_ROWS), oracle)
}

fn adding(a: Vec<Vector>, b: Vec<Vector>, ty: Type) -> Box<dyn FnMut()> {
    let (x, y) = (values(&a), values(&b));
    let oracle = |c: usize, i: usize| {
        let row = c * CHUNK_ROWS + i;
        arith::reference::arith(ArithOp::Add, ty, true, &x[row], &y[row]).expect("no overflow in this data")
    };
    verified(a.len(), move |c| arith::arith(ArithOp::Add, &a[c], &b[c], ty, true, CHUNK_ROWS), oracle)
}

fn casting(column: Vec<Vector>, to: Type, scale: i8) -> Box<dyn FnMut()> {
    let rows = values(&column);
    let oracle = |c: usize, i: usize| cast::reference(&rows[c * CHUNK_ROWS + i], to, scale);
    verified(column.len(), move |c| cast::cast(&column[c], to, scale), oracle)
}

fn binning(column: Vec<Vector>) -> Box<dyn FnMut()> {
    const MINUTE: i64 = 60_000_000;
    let rows = values(&column);
    let oracle = |c: usize, i: usize| bins::reference(&rows[c * CHUNK_ROWS + i], MINUTE, 0, 1_000);
    verified(column.len(), move |c| bins::bin(&column[c], MINUTE, 0, 1_000), oracle)
}

fn selecting(masks: Vec<Vector>) -> Box<dyn FnMut()> {
    for mask in &masks {
        let truth: Vec<Option<bool>> = values(std::slice::from_ref(mask)).iter().map(|v| Some(*v == Value::Bool(true))).collect();
        let got = select(mask, CHUNK_ROWS).expect("a selection");
        assert_eq!(got, Selection::Rows(filter::reference(&truth)));
    }
    let masks: Vec<Vec<u8>> =
        masks.into_iter().filter_map(|m| if let Values::Bool(v) = m.values { Some(v.to_vec()) } else { None }).collect();
    Box::new(move || {
        for mask in &masks {
            black_box(select_mask(mask));
        }
    })
}

/// Rows are those of the column: half of them are read and written, with their row numbers.
fn gathering(rows: usize) -> Box<dyn FnMut()> {
    let column = integers(rows, 19, 1 << 40, false);
    let chosen: Vec<Vec<u32>> = booleans(rows, 20, 50)
        .iter()
        .map(|m| match select(m, CHUNK_ROWS).expect("a selection") {
            Selection::Rows(rows) => rows,
            Selection::All => (0..CHUNK_ROWS as u32).collect(),
        })
        .collect();
    for (v, rows) in column.iter().zip(&chosen) {
        let out = gather::gather(v, rows).expect("rows");
        for (i, row) in rows.iter().enumerate() {
            assert_eq!(out.value(i).expect("a value"), v.value(*row as usize).expect("a value"));
        }
    }
    Box::new(move || {
        for (v, rows) in column.iter().zip(&chosen) {
            let _ = black_box(gather::gather(v, rows));
        }
    })
}

fn hashing(rows: usize) -> Box<dyn FnMut()> {
    let column = integers(rows, 21, u64::MAX, false);
    let mut hashes = vec![0u64; CHUNK_ROWS];
    for v in &column {
        hashes.fill(0);
        stable_hash(v, &mut hashes).expect("a hash");
        for (row, h) in values(std::slice::from_ref(v)).iter().zip(&hashes) {
            let Value::Int(row) = row else { unreachable!("integers") };
            assert_eq!(*h, hash::combine(0, hash::int(*row)));
        }
    }
    Box::new(move || {
        for v in &column {
            black_box(stable_hash(v, &mut hashes).is_ok());
        }
    })
}
