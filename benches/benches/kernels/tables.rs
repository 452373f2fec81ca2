//! Kernels with a table: groups, aggregates, joins.

use crate::Case;
use crate::data::{Column, SPREAD, Seeded, dictionary, floats, integers, values, views};
use millstream_kernels::group::{Groups, KeyType, State, Top, reference};
use millstream_kernels::join::{JoinTable, ProbeScratch};
use millstream_kernels::program::{AggregateOp, KeyOrder, KeyOrders, Listing, Moment, Type};
use millstream_kernels::{CHUNK_ROWS, Value, Vector, join};
use std::collections::BTreeMap;
use std::hint::black_box;

/// Rows of one run.
const ROWS: usize = 1024 * CHUNK_ROWS;
/// Rows and distinct keys of a build side.
const BUILD_ROWS: usize = 512 * CHUNK_ROWS;
/// Probe rows that are looked up by the oracle, which reads the whole build side for each.
const SAMPLED: usize = 50;

pub fn cases() -> Vec<Case> {
    let case = |kernel, name, rows, row_bytes, make| Case { kernel, name, rows, row_bytes, make };
    vec![
        case("group", "ids, 100 dense keys (direct)", ROWS, 12.0, |n| grouping(integers(n, 31, 100, false), "direct")),
        case("group", "ids, 10 sparse keys (hash)", ROWS, 12.0, |n| grouping(integers(n, 32, 10, true), "hash")),
        case("group", "ids, 10,000 sparse keys (hash)", ROWS, 12.0, |n| grouping(integers(n, 33, 10_000, true), "hash")),
        case("group", "ids, 1,000,000 sparse keys (hash)", ROWS, 12.0, |n| grouping(integers(n, 34, 1_000_000, true), "hash")),
        case("group", "known codes of two dictionaries", ROWS, 12.0, |n| knowing(&dictionary(n, 36, 3), &dictionary(n, 37, 2))),
        case("aggregate", "count, 10,000 groups", ROWS, 4.0, |n| aggregating(n, 10_000, AggregateOp::Count)),
        case("aggregate", "sum i64, 4 groups", ROWS, 12.0, |n| aggregating(n, 4, AggregateOp::Sum)),
        case("aggregate", "sum i64, 10,000 groups", ROWS, 12.0, |n| aggregating(n, 10_000, AggregateOp::Sum)),
        case("aggregate", "min i64, 10,000 groups", ROWS, 12.0, |n| aggregating(n, 10_000, AggregateOp::Min)),
        case("aggregate", "stddev, 10,000 groups", ROWS, 12.0, |n| {
            collecting(&[floats(n, 43)], Type::F64, AggregateOp::Moment(Moment::StddevSamp))
        }),
        case("aggregate", "corr, 10,000 groups", ROWS, 20.0, |n| {
            collecting(&[floats(n, 44), floats(n, 45)], Type::F64, AggregateOp::Moment(Moment::Corr))
        }),
        case("aggregate", "median, 10,000 groups", ROWS, 12.0, |n| collecting(&[floats(n, 46)], Type::F64, AggregateOp::Median)),
        case("aggregate", "lists of texts, 10,000 groups", LIST_ROWS, 20.0, |n| listing(&[views(n, 47, 1_000)])),
        case("aggregate", "lists of texts by two keys, 10,000 groups", LIST_ROWS, 36.0, |n| {
            listing(&[views(n, 48, 1_000), integers(n, 49, 1 << 40, false), floats(n, 50)])
        }),
        case("top", "3 rows of each of 10,000 groups", ROWS, 16.0, ranking),
        case("join", "build, dense keys (array)", BUILD_ROWS, 12.0, |n| building(n, false)),
        case("join", "build, sparse keys (hash)", BUILD_ROWS, 12.0, |n| building(n, true)),
        case("join", "probe, dense keys (array)", ROWS, 12.0, |n| probing(n, false)),
        case("join", "probe, sparse keys (hash)", ROWS, 12.0, |n| probing(n, true)),
    ]
}

/// A fresh table over all chunks.
fn group(keys: &Column, ids: &mut Vec<u32>) -> Groups {
    let mut groups = Groups::new(&[KeyType::new(Type::I64, 0)]);
    for key in keys {
        ids.clear();
        groups.ids(&[key], CHUNK_ROWS, ids).expect("group ids");
        black_box(&ids);
    }
    groups
}

fn grouping(keys: Column, kind: &str) -> Box<dyn FnMut()> {
    let mut oracle = reference::Reference::default();
    values(&keys).into_iter().for_each(|key| oracle.add(vec![key], vec![]));
    let mut ids = vec![];
    let groups = group(&keys, &mut ids);
    assert_eq!(groups.kind(), kind);
    let all: Vec<u32> = (0..groups.len() as u32).collect();
    let mut found = values(&groups.keys(&all).expect("keys"));
    found.sort();
    assert!(oracle.groups().keys().map(|k| &k[0]).eq(&found), "the groups differ from the reference");
    let last = groups.keys(&ids).expect("keys").remove(0);
    assert_eq!(values(&[last]), values(&keys[keys.len() - 1..]), "ids of the last chunk");
    Box::new(move || {
        black_box(group(&keys, &mut ids).len());
    })
}

/// The groups of codes that are all known.
fn knowing(a: &Column, b: &Column) -> Box<dyn FnMut()> {
    let keys: Vec<[Vector; 2]> = a.iter().zip(b).map(|(a, b)| [a.clone(), b.clone()]).collect();
    let mut groups = Groups::new(&[KeyType::new(Type::Str, 0); 2]);
    let (mut want, mut ids) = (vec![], vec![]);
    for [a, b] in &keys {
        groups.ids(&[a, b], CHUNK_ROWS, &mut want).expect("group ids");
    }
    let find = move |ids: &mut Vec<u32>| {
        for [a, b] in &keys {
            assert!(groups.find_known(&[a, b], CHUNK_ROWS, None, ids), "all groups are there");
        }
    };
    find(&mut ids);
    assert!(ids == want, "the groups differ from those of a table that grows");
    Box::new(move || {
        ids.clear();
        find(&mut ids);
        black_box(&ids);
    })
}

fn aggregating(rows: usize, groups: u64, op: AggregateOp) -> Box<dyn FnMut()> {
    let arguments = integers(rows, 41, 1 << 30, false);
    let ids: Vec<Vec<u32>> = integers(rows, 42, groups, false)
        .iter()
        .map(|v| values(std::slice::from_ref(v)).iter().map(|v| if let Value::Int(g) = v { *g as u32 } else { 0 }).collect())
        .collect();
    let groups = groups as usize;
    let update = move |state: &mut State| {
        for (ids, argument) in ids.iter().zip(&arguments) {
            state.update(ids, groups, &[argument], None).expect("an update");
        }
    };
    let new = move || State::new(op, KeyType::new(Type::I64, 0)).expect("a state");
    let mut state = new();
    update(&mut state);
    verify_aggregate(&mut state, groups, op, rows);
    Box::new(move || {
        let mut state = new();
        update(&mut state);
        black_box(state.size());
    })
}

/// Groups of the aggregates below.
const GROUPS: usize = 10_000;
/// Rows of lists, which keep them all.
const LIST_ROWS: usize = 256 * CHUNK_ROWS;

/// The group of each row, by chunk.
fn owners(rows: usize) -> Vec<Vec<u32>> {
    let of = |v: &Vector| values(std::slice::from_ref(v)).iter().map(|v| if let Value::Int(g) = v { *g as u32 } else { 0 }).collect();
    integers(rows, 42, GROUPS as u64, false).iter().map(of).collect()
}

/// A fresh state over all chunks of these arguments.
fn state(op: AggregateOp, ty: Type, ids: &[Vec<u32>], arguments: &[Column]) -> State {
    let mut state = State::new(op, KeyType::new(ty, 0)).expect("a state");
    for (c, ids) in ids.iter().enumerate() {
        let arguments: Vec<&Vector> = arguments.iter().map(|a| &a[c]).collect();
        state.update(ids, GROUPS, &arguments, None).expect("an update");
    }
    state
}

/// The arguments of each group's rows, for the oracle.
fn bags(ids: &[Vec<u32>], arguments: &[Column]) -> Vec<Vec<Vec<Value>>> {
    let columns: Vec<Vec<Value>> = arguments.iter().map(|a| values(a)).collect();
    let mut bags = vec![vec![]; GROUPS];
    for (row, id) in ids.iter().flatten().enumerate() {
        bags[*id as usize].push(columns.iter().map(|c| c[row].clone()).collect());
    }
    bags
}

/// Floats that are collected of groups and read at the end.
fn collecting(arguments: &[Column], ty: Type, op: AggregateOp) -> Box<dyn FnMut()> {
    let (arguments, ids) = (arguments.to_vec(), owners(arguments[0].len() * CHUNK_ROWS));
    let all: Vec<u32> = (0..GROUPS as u32).collect();
    let found = state(op, ty, &ids, &arguments).finish(&all, GROUPS, true).expect("results");
    for (group, bag) in bags(&ids, &arguments).iter().enumerate() {
        match (found.value(group).expect("a value"), reference::aggregate(op, bag)) {
            (Value::F64(got), Value::F64(want)) => assert!((got - want).abs() <= 1e-9 * want.abs(), "group {group}: {got}, not {want}"),
            (got, want) => assert_eq!(got, want, "group {group}"),
        }
    }
    Box::new(move || {
        let _ = black_box(state(op, ty, &ids, &arguments).finish(&all, GROUPS, true));
    })
}

/// Lists of the first argument in the order of the others.
fn listing(arguments: &[Column]) -> Box<dyn FnMut()> {
    let (arguments, ids) = (arguments.to_vec(), owners(arguments[0].len() * CHUNK_ROWS));
    let by = KeyOrders::new(&vec![KeyOrder::default(); arguments.len() - 1]).expect("few keys");
    let listing = Listing { by, skip_nulls: true };
    let op = AggregateOp::List(listing);
    let all: Vec<u32> = (0..GROUPS as u32).collect();
    let (bounds, found) = state(op, Type::Str, &ids, &arguments).lists(&all).expect("lists");
    for (group, bag) in bags(&ids, &arguments).iter().enumerate() {
        let got: Vec<Value> = (bounds[group]..bounds[group + 1]).map(|i| found.value(i).expect("a value")).collect();
        assert_eq!(got, reference::list(listing, bag), "group {group}");
    }
    Box::new(move || {
        let _ = black_box(state(op, Type::Str, &ids, &arguments).lists(&all));
    })
}

/// The rows with the three least values of each group.
fn ranking(rows: usize) -> Box<dyn FnMut()> {
    const WANTED: usize = 3;
    let (keys, order) = (integers(rows, 42, GROUPS as u64, false), integers(rows, 54, 1 << 40, false));
    let mut all: Vec<(Value, Value)> = values(&keys).into_iter().zip(values(&order)).collect();
    all.sort();
    // The numbers of the rows that are first, of those that were offered a place one after the other.
    let first = move |offered: &mut Vec<(Value, Value)>| {
        let mut top = Top::new(&[KeyType::new(Type::I64, 0)], KeyOrder::default(), WANTED);
        let mut next = 0;
        for (key, by) in keys.iter().zip(&order) {
            let kept = top.offer(&[key], Some(by), CHUNK_ROWS, next).expect("rows");
            next += kept.len() as u32;
            if offered.capacity() > 0 {
                let value = |v: &Vector, row: &u32| v.value(*row as usize).expect("a value");
                offered.extend(kept.iter().map(|row| (value(key, row), value(by, row))));
            }
        }
        top.renumber()
    };
    let mut offered = Vec::with_capacity(rows);
    let mut found: Vec<(Value, Value)> = first(&mut offered).into_iter().map(|row| offered[row as usize].clone()).collect();
    found.sort();
    let least = all.chunk_by(|a, b| a.0 == b.0).flat_map(|group| group.iter().take(WANTED));
    assert!(least.eq(&found), "the first rows differ from those of a sort");
    Box::new(move || {
        black_box(first(&mut vec![]));
    })
}

/// The same columns again, through the oracle.
fn verify_aggregate(state: &mut State, groups: usize, op: AggregateOp, rows: usize) {
    let mut bags: BTreeMap<i128, Vec<Vec<Value>>> = BTreeMap::new();
    let ids = values(&integers(rows, 42, groups as u64, false));
    for (id, argument) in ids.into_iter().zip(values(&integers(rows, 41, 1 << 30, false))) {
        if let Value::Int(id) = id {
            bags.entry(id).or_default().push(vec![argument]);
        }
    }
    for (group, bag) in bags {
        let want = reference::aggregate(op, &bag);
        assert_eq!(state.value(group as u32, groups).expect("a value"), want, "group {group}");
    }
}

/// Distinct build keys in random order, over all of 64 bits when `sparse`, as [`integers`] spreads them.
fn build_side(rows: usize, sparse: bool) -> Vector {
    let mut keys: Vec<i64> = (0..rows as i64).map(|k| if sparse { k.wrapping_mul(SPREAD as i64) } else { k }).collect();
    let mut g = Seeded(51);
    (1..keys.len()).rev().for_each(|i| keys.swap(i, g.below(i as u64 + 1) as usize));
    Vector::new(millstream_kernels::Values::I64(keys.into()))
}

fn table(build: &Vector, sparse: bool) -> JoinTable {
    let key = KeyType::new(Type::I64, 0);
    let table = JoinTable::build(std::slice::from_ref(build), &[key], build.values.len(), false).expect("a table");
    assert_eq!(table.kind(), if sparse { "hash" } else { "array" });
    table
}

fn building(rows: usize, sparse: bool) -> Box<dyn FnMut()> {
    let build = build_side(rows, sparse);
    let probe = integers(CHUNK_ROWS, 52, rows as u64 * 2, sparse);
    verify_join(&table(&build, sparse), &build, &probe);
    Box::new(move || {
        black_box(table(&build, sparse).size());
    })
}

/// Half of the probe rows match.
fn probing(rows: usize, sparse: bool) -> Box<dyn FnMut()> {
    let build = build_side(BUILD_ROWS, sparse);
    let table = table(&build, sparse);
    let probe = integers(rows, 53, BUILD_ROWS as u64 * 2, sparse);
    verify_join(&table, &build, &probe);
    let (mut scratch, mut heads) = (ProbeScratch::default(), vec![]);
    Box::new(move || {
        for key in &probe {
            table.heads(&[key], CHUNK_ROWS, &mut scratch, &mut heads).expect("heads");
            black_box(&heads);
        }
    })
}

fn verify_join(table: &JoinTable, build: &Vector, probe: &Column) {
    let build: Vec<Vec<Value>> = values(std::slice::from_ref(build)).into_iter().map(|v| vec![v]).collect();
    let rows = &probe[0];
    let mut heads = vec![];
    table.heads(&[rows], CHUNK_ROWS, &mut ProbeScratch::default(), &mut heads).expect("heads");
    for (i, head) in heads.iter().enumerate().take(SAMPLED) {
        let want = join::reference::matches(&build, &[rows.value(i).expect("a key")], false);
        let got: Vec<usize> = head.checked_sub(1).map(|row| row as usize).into_iter().collect();
        assert_eq!(got, want, "probe row {i}");
    }
}
