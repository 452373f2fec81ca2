//! Kernels with a table, by its size.

use super::best_ns;
use super::data::{Seeded, below, each, spread, texts};
use crate::{Error, ErrorKind, Result};
use millstream_cost::Kernel;
use millstream_kernels::group::{Groups, KeyType, State};
use millstream_kernels::join::{JoinTable, ProbeScratch};
use millstream_kernels::program::{AggregateOp, Type};
use millstream_kernels::{CHUNK_ROWS, Value, Values, Vector, gather};
use std::hint::black_box;

/// A kernel, how to measure it with a table of some size, and with which sizes.
pub struct Case {
    pub kernel: Kernel,
    /// Bytes of the table (as the planner counts them) and nanoseconds a row.
    pub measure: fn(usize) -> Result<(f64, f64)>,
    /// What the profile is made of.
    pub calibrated: &'static [usize],
    /// What it is checked with.
    pub held_out: &'static [usize],
}

/// Rows that are looked up, but for the largest tables.
const CHUNKS: usize = 64;

/// Least to largest: within the core's caches, within the shared one, beyond.
pub const CASES: &[Case] = &[
    Case {
        kernel: Kernel::Gather,
        measure: gather_ns,
        calibrated: &[2_048, 131_072, 1 << 20, 1 << 23],
        held_out: &[16_384, 400_000, 3_000_000],
    },
    Case { kernel: Kernel::GroupDirect, measure: direct_ns, calibrated: &[100, 65_536, 1 << 20], held_out: &[1_000, 30_000, 400_000] },
    Case {
        kernel: Kernel::GroupHash,
        measure: hash_ns,
        calibrated: &[10, 1_000, 20_000, 200_000, 1 << 20],
        held_out: &[100, 5_000, 60_000, 500_000],
    },
    Case { kernel: Kernel::GroupText, measure: text_ns, calibrated: &[10, 2_000, 100_000], held_out: &[100, 20_000] },
    Case { kernel: Kernel::GroupInsert, measure: insert_ns, calibrated: &[1_000, 100_000, 1 << 20], held_out: &[20_000, 400_000] },
    Case { kernel: Kernel::Accumulate, measure: accumulate_ns, calibrated: &[4, 16_384, 1 << 20], held_out: &[100, 100_000] },
    Case { kernel: Kernel::ProbeArray, measure: array_ns, calibrated: &[1_000, 65_536, 1 << 20], held_out: &[10_000, 300_000] },
    Case {
        kernel: Kernel::ProbeHash,
        measure: probe_ns,
        calibrated: &[1_000, 20_000, 200_000, 1 << 20],
        held_out: &[5_000, 60_000, 500_000],
    },
    Case { kernel: Kernel::BuildArray, measure: build_array_ns, calibrated: &[10_000, 1 << 20], held_out: &[100_000, 500_000] },
    Case { kernel: Kernel::BuildHash, measure: build_hash_ns, calibrated: &[10_000, 200_000, 1 << 20], held_out: &[50_000, 500_000] },
];

fn bug(e: millstream_kernels::Error) -> Error {
    Error::new(ErrorKind::Bug, e)
}

fn row_ns(chunks: usize, run: impl FnMut() -> millstream_kernels::Result<()>) -> Result<f64> {
    Ok(best_ns(run).map_err(bug)? / (chunks * CHUNK_ROWS) as f64)
}

fn gather_ns(values: usize) -> Result<(f64, f64)> {
    let mut g = Seeded(11);
    let column = Vector::new(Values::I64((0..values as i64).collect::<Vec<_>>().into()));
    let mut chunk = || (0..CHUNK_ROWS).map(|_| g.below(values as u64) as u32).collect::<Vec<_>>();
    let rows: Vec<Vec<u32>> = (0..CHUNKS).map(|_| chunk()).collect();
    let ns = row_ns(CHUNKS, || rows.iter().try_for_each(|r| gather::gather(&column, r).map(|v| drop(black_box(v)))))?;
    Ok((values as f64 * 8.0, ns))
}

/// Looking up keys that are all known, in a table of this kind.
pub fn groups_ns(keys: &[Vector], known: &[Vector], kind: &str) -> Result<f64> {
    let (mut groups, mut ids) = (Groups::new(&[KeyType::new(Type::I64, 0)]), vec![]);
    let mut look_up = |keys: &[Vector]| {
        keys.iter().try_for_each(|key| {
            ids.clear();
            groups.ids(&[key], CHUNK_ROWS, &mut ids)?;
            black_box(&ids);
            Ok(())
        })
    };
    look_up(known).map_err(bug)?;
    let ns = row_ns(keys.len(), || look_up(keys))?;
    if groups.kind() != kind {
        return Err(Error::new(ErrorKind::Bug, format!("a {} table where a {kind} one was to be measured", groups.kind())));
    }
    Ok(ns)
}

fn direct_ns(groups: usize) -> Result<(f64, f64)> {
    let ns = groups_ns(&below(CHUNKS, 12, groups, false), &each(13, groups, false), "direct")?;
    Ok((groups as f64 * 4.0, ns))
}

fn hash_ns(groups: usize) -> Result<(f64, f64)> {
    let ns = groups_ns(&below(CHUNKS, 14, groups, true), &each(15, groups, true), "hash")?;
    Ok((groups as f64 * 24.0, ns))
}

/// A new table of keys that are all new.
fn insert_ns(groups: usize) -> Result<(f64, f64)> {
    let (keys, mut ids) = (each(22, groups, true), vec![]);
    let run = || {
        let mut table = Groups::new(&[KeyType::new(Type::I64, 0)]);
        keys.iter().try_for_each(|key| {
            ids.clear();
            table.ids(&[key], CHUNK_ROWS, &mut ids)
        })
    };
    Ok((groups as f64 * 24.0, row_ns(keys.len(), run)?))
}

fn text_ns(groups: usize) -> Result<(f64, f64)> {
    let keys = texts(CHUNKS / 2, 16, groups);
    let known = texts(groups.div_ceil(CHUNK_ROWS).max(1) * 2, 17, groups);
    let (mut table, mut ids) = (Groups::new(&[KeyType::new(Type::Str, 0)]), vec![]);
    let mut look_up = |keys: &[Vector]| {
        keys.iter().try_for_each(|key| {
            ids.clear();
            table.ids(&[key], CHUNK_ROWS, &mut ids)?;
            black_box(&ids);
            Ok(())
        })
    };
    look_up(&known).map_err(bug)?;
    Ok((groups as f64 * 64.0, row_ns(keys.len(), || look_up(&keys))?))
}

fn accumulate_ns(groups: usize) -> Result<(f64, f64)> {
    let arguments = below(CHUNKS, 18, 1 << 30, false);
    let id = |v: Value| if let Value::Int(id) = v { id as u32 } else { 0 };
    let of = |v: &Vector| (0..CHUNK_ROWS).map(|i| v.value(i).map(id)).collect::<millstream_kernels::Result<Vec<u32>>>();
    let ids: Vec<Vec<u32>> = below(CHUNKS, 19, groups, false).iter().map(of).collect::<Result<_, _>>().map_err(bug)?;
    let mut state = State::new(AggregateOp::Sum, KeyType::new(Type::I64, 0)).map_err(bug)?;
    let mut update = || ids.iter().zip(&arguments).try_for_each(|(ids, v)| state.update(ids, groups, &[v], None));
    update().map_err(bug)?;
    Ok((groups as f64 * 16.0, row_ns(CHUNKS, update)?))
}

/// Every key once, in random order; over all of 64 bits when `sparse`.
fn build_side(rows: usize, sparse: bool) -> Vector {
    let mut g = Seeded(20);
    let mut keys: Vec<i64> = (0..rows as u64).map(|k| spread(k, sparse)).collect();
    (1..keys.len()).rev().for_each(|i| keys.swap(i, g.below(i as u64 + 1) as usize));
    Vector::new(Values::I64(keys.into()))
}

fn table(keys: &Vector) -> Result<JoinTable> {
    JoinTable::build(std::slice::from_ref(keys), &[KeyType::new(Type::I64, 0)], keys.values.len(), false).map_err(bug)
}

/// Half of the rows find one.
fn heads_ns(rows: usize, sparse: bool) -> Result<f64> {
    let table = table(&build_side(rows, sparse))?;
    let probe = below(CHUNKS, 21, rows * 2, sparse);
    let (mut scratch, mut heads) = (ProbeScratch::default(), vec![]);
    row_ns(CHUNKS, || probe.iter().try_for_each(|key| table.heads(&[key], CHUNK_ROWS, &mut scratch, &mut heads).map(|_| ())))
}

fn array_ns(rows: usize) -> Result<(f64, f64)> {
    Ok((rows as f64 * 4.0, heads_ns(rows, false)?))
}

fn probe_ns(rows: usize) -> Result<(f64, f64)> {
    Ok((rows as f64 * 24.0, heads_ns(rows, true)?))
}

fn build_ns(rows: usize, sparse: bool) -> Result<f64> {
    let keys = build_side(rows, sparse);
    let ns = best_ns(|| table(&keys).map(|t| drop(black_box(t))))?;
    Ok(ns / rows as f64)
}

fn build_array_ns(rows: usize) -> Result<(f64, f64)> {
    Ok((rows as f64 * 4.0, build_ns(rows, false)?))
}

fn build_hash_ns(rows: usize) -> Result<(f64, f64)> {
    Ok((rows as f64 * 24.0, build_ns(rows, true)?))
}
