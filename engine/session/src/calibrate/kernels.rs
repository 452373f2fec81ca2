//! Kernels without a table, over chunks that stay in cache.

use super::data::{Seeded, below, texts};
use super::{Costs, best_ns};
use crate::{Error, ErrorKind, Result};
use millstream_cost::{Curve, Kernel};
use millstream_kernels::filter::select;
use millstream_kernels::gather::Growing;
use millstream_kernels::program::{ArithOp, BoolOp, CompareOp, Type};
use millstream_kernels::{CHUNK_ROWS, Value, Values, Vector, arith, boolean, compare};
use std::hint::black_box;

/// Chunks of a run.
const CHUNKS: usize = 64;

type Outcome = millstream_kernels::Result<()>;

/// Nanoseconds a row of a kernel over `CHUNKS` chunks.
fn row_ns(kernel: impl Fn(usize) -> Outcome) -> Result<f64> {
    let ns = best_ns(|| (0..CHUNKS).try_for_each(&kernel)).map_err(|e: millstream_kernels::Error| Error::new(ErrorKind::Bug, e))?;
    Ok(ns / (CHUNKS * CHUNK_ROWS) as f64)
}

/// What a row costs of each.
pub fn measure() -> Result<Costs> {
    // Small enough that products fit 64 bits, as the products of most decimals do.
    let (a, b) = (below(CHUNKS, 1, 1 << 30, false), below(CHUNKS, 2, 1 << 30, false));
    let constant = Vector::constant(&Value::Int(1 << 29), Type::I64).map_err(|e| Error::new(ErrorKind::Bug, e))?;
    let masks = masks();
    let keep = |v: millstream_kernels::Result<Vector>| v.map(|v| drop(black_box(v)));
    let element_wise = [
        row_ns(|c| keep(compare::compare(CompareOp::Lt, &a[c], &constant, CHUNK_ROWS)))?,
        row_ns(|c| keep(arith::arith(ArithOp::Add, &a[c], &b[c], Type::I64, true, CHUNK_ROWS)))?,
        row_ns(|c| keep(arith::arith(ArithOp::Mul, &b[c], &constant, Type::Decimal, true, CHUNK_ROWS)))?,
        row_ns(|c| keep(boolean::logic(BoolOp::And, &masks[c], &masks[c], CHUNK_ROWS)))?,
    ];
    let strings = texts(CHUNKS, 3, 100);
    let word = Vector::constant(&Value::Str(super::data::text(7)), Type::Str).map_err(|e| Error::new(ErrorKind::Bug, e))?;
    let text = row_ns(|c| keep(compare::compare(CompareOp::Eq, &strings[c], &word, CHUNK_ROWS)))?;
    let filter = row_ns(|c| select(&masks[c], CHUNK_ROWS).map(|s| drop(black_box(s))))?;
    let copy = row_ns_of(|| {
        let mut rows = Growing::new(Type::I64);
        a.iter().try_for_each(|v| rows.push(v, CHUNK_ROWS))?;
        rows.finish().map(|v| drop(black_box(v)))
    })?;
    let all = [
        (Kernel::Map, element_wise.iter().sum::<f64>() / element_wise.len() as f64),
        (Kernel::MapText, text),
        (Kernel::Filter, filter),
        (Kernel::Copy, copy),
    ];
    Ok(all.into_iter().map(|(k, ns)| (k, Curve::flat(ns))).collect())
}

fn row_ns_of(run: impl FnMut() -> Outcome) -> Result<f64> {
    let ns = best_ns(run).map_err(|e: millstream_kernels::Error| Error::new(ErrorKind::Bug, e))?;
    Ok(ns / (CHUNKS * CHUNK_ROWS) as f64)
}

fn masks() -> Vec<Vector> {
    let mut g = Seeded(5);
    let mut chunk = || (0..CHUNK_ROWS).map(|_| (g.below(2)) as u8).collect::<Vec<_>>();
    (0..CHUNKS).map(|_| Vector::new(Values::Bool(chunk().into()))).collect()
}
