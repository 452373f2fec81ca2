use super::reference::{Reference, aggregate};
use super::*;

mod list;
mod masked;
mod moments;
mod pick;
mod top;

use crate::program::{AggregateOp, AggregateOp::*, Fraction, Type};
use crate::testing::{Gen, TYPES};
use crate::value::Value;
use crate::vector::{Values, Vector};

/// Key and aggregate columns of one random chunk.
struct Chunk {
    n: usize,
    keys: Vec<Vector>,
    args: Vec<Vector>,
    filters: Vec<Option<Vector>>,
}

const OPS: [(AggregateOp, Type); 18] = [
    (Count, Type::Str),
    (Sum, Type::I32),
    (Sum, Type::I64),
    (Sum, Type::Decimal),
    (Min, Type::I32),
    (Max, Type::Decimal),
    (Min, Type::F64),
    (Max, Type::F64),
    (Min, Type::Str),
    (Max, Type::Str),
    (CountDistinct, Type::Str),
    (CountDistinct, Type::F64),
    (BitAnd, Type::I32),
    (BitOr, Type::I64),
    (BitXor, Type::I64),
    (Median, Type::F64),
    (Median, Type::Decimal),
    (Quantile(FRACTION), Type::F64),
];

const FRACTION: Fraction = Fraction::new(0.3).unwrap();

fn chunk(g: &mut Gen, types: &[Type], n: usize) -> Chunk {
    Chunk {
        n,
        keys: types.iter().map(|t| g.vector(*t, n, false)).collect(),
        args: OPS.iter().map(|(_, t)| g.vector(*t, n, false)).collect(),
        filters: OPS.iter().map(|_| (g.below(3) == 0).then(|| g.vector(Type::Bool, n, false))).collect(),
    }
}

/// Rows of one aggregate: the group of each, its arguments, and which of them count.
struct Rows {
    groups: usize,
    ids: Vec<u32>,
    args: Vec<Vector>,
    filter: Option<Vector>,
}

impl Rows {
    /// The arguments of each group's rows that count, for the reference.
    fn by_group(&self) -> Vec<Vec<Vec<Value>>> {
        let mut rows = vec![vec![]; self.groups];
        for (i, id) in self.ids.iter().enumerate() {
            if self.filter.as_ref().is_none_or(|f| f.value(i).unwrap() == Value::Bool(true)) {
                rows[*id as usize].push(self.args.iter().map(|a| a.value(i).unwrap()).collect());
            }
        }
        rows
    }

    /// Adds all of them to `state`.
    fn add_to(&self, state: &mut State) {
        state.update(&self.ids, self.groups, &self.args.iter().collect::<Vec<_>>(), self.filter.as_ref()).unwrap();
    }

    /// Adds to `state` parts that end at these rows, each through a state of its own. They meet in the order of the rows.
    fn add_parts_to(&self, state: &mut State, new: impl Fn() -> State, ends: &[usize]) {
        let all: Vec<u32> = (0..self.groups as u32).collect();
        let mut from = 0;
        for until in ends {
            let cut = |v: &Vector| v.slice(from, until - from);
            let (args, filter) = (self.args.iter().map(cut).collect(), self.filter.as_ref().map(cut));
            let mut part = new();
            Rows { groups: self.groups, ids: self.ids[from..*until].to_vec(), args, filter }.add_to(&mut part);
            state.merge(&part, &all, &all, self.groups).unwrap();
            from = *until;
        }
    }
}

struct Table {
    groups: Groups,
    states: Vec<State>,
}

impl Table {
    fn new(types: &[Type]) -> Self {
        let key = |t: &Type| KeyType::new(*t, 38);
        Table {
            groups: Groups::new(&types.iter().map(key).collect::<Vec<_>>()),
            states: OPS.iter().map(|(op, t)| State::new(*op, key(t)).unwrap()).collect(),
        }
    }

    fn add(&mut self, c: &Chunk) {
        let mut ids = vec![];
        self.groups.ids(&c.keys.iter().collect::<Vec<_>>(), c.n, &mut ids).unwrap();
        for ((s, a), f) in self.states.iter_mut().zip(&c.args).zip(&c.filters) {
            s.update(&ids, self.groups.len(), &[a], f.as_ref()).unwrap();
        }
    }

    fn merge(&mut self, other: &Table, parts: usize) {
        for part in 0..parts {
            let from = other.groups.part(part, parts).unwrap();
            let to = self.groups.merge(&other.groups, &from).unwrap();
            for (s, o) in self.states.iter_mut().zip(&other.states) {
                // As parts of a table meet in memory, and as they come from a full table or from disk.
                match part % 2 {
                    0 => s.merge(o, &from, &to, self.groups.len()).unwrap(),
                    _ => s.merge_raw(&o.raw(&from).unwrap(), &to, self.groups.len()).unwrap(),
                }
            }
        }
    }

    fn rows(&mut self) -> Vec<(Vec<Value>, Vec<Value>)> {
        let n = self.groups.len();
        let all: Vec<u32> = (0..n as u32).collect();
        let keys = self.groups.keys(&all).unwrap();
        let mut rows: Vec<_> = (0..n)
            .map(|g| {
                let key = keys.iter().map(|k| k.value(g).unwrap()).collect();
                // Integer sums wrap here: the data holds extremes on purpose.
                (key, self.states.iter_mut().map(|s| s.finish(&[g as u32], n, false).unwrap().value(0).unwrap()).collect())
            })
            .collect();
        rows.sort();
        rows
    }
}

fn expected(types: &[Type], chunks: &[Chunk]) -> Vec<(Vec<Value>, Vec<Value>)> {
    let mut r = Reference::default();
    for c in chunks {
        for i in 0..c.n {
            let key = (0..types.len()).map(|k| c.keys[k].value(i).unwrap()).collect();
            let keep = |f: &Option<Vector>| f.as_ref().is_none_or(|f| f.value(i).unwrap() == Value::Bool(true));
            r.add(key, c.args.iter().zip(&c.filters).map(|(a, f)| keep(f).then(|| vec![a.value(i).unwrap()])).collect());
        }
    }
    let wrap = |(op, ty): (AggregateOp, Type), v: Value| match v {
        Value::Int(v) if op == Sum && ty != Type::Decimal => Value::Int((v as i64).into()),
        v => v,
    };
    r.groups().iter().map(|(k, bag)| (k.clone(), OPS.iter().zip(bag).map(|(op, b)| wrap(*op, aggregate(op.0, b))).collect())).collect()
}

fn key_sets(g: &mut Gen) -> Vec<Vec<Type>> {
    let mut sets: Vec<Vec<Type>> = TYPES.iter().map(|t| vec![*t]).collect();
    for width in 2..=5 {
        sets.push((0..width).map(|_| TYPES[g.below(6) as usize]).collect());
    }
    sets
}

#[test]
fn agrees_with_the_reference_whole_and_in_parts() {
    let mut g = Gen::new(21);
    for types in key_sets(&mut g) {
        for sizes in [vec![0], vec![1], vec![50, 0, 300], vec![700, 700]] {
            let chunks: Vec<Chunk> = sizes.iter().map(|n| chunk(&mut g, &types, *n)).collect();
            let want = expected(&types, &chunks);
            let mut whole = Table::new(&types);
            chunks.iter().for_each(|c| whole.add(c));
            assert!(whole.rows() == want, "{types:?} {sizes:?}");

            let mut merged = Table::new(&types);
            for c in &chunks {
                let mut part = Table::new(&types);
                part.add(c);
                merged.merge(&part, 3);
            }
            assert!(merged.rows() == want, "merged {types:?} {sizes:?}");
        }
    }
}

#[test]
fn a_direct_table_grows_and_becomes_a_hash_table() {
    let mut groups = Groups::new(&[KeyType::new(Type::I64, 0)]);
    let mut ids = vec![];
    let mut kinds = vec![];
    for step in [1i64, 3, 1000, 1 << 40] {
        let keys: Vec<i64> = (0..1000).map(|i| i * step - 500).collect();
        let v = Vector::new(crate::Values::I64(keys.clone().into()));
        ids.clear();
        groups.ids(&[&v], 1000, &mut ids).unwrap();
        kinds.push(groups.kind());
        let back = groups.keys(&ids).unwrap().remove(0);
        (0..1000).for_each(|i| assert_eq!(back.value(i).unwrap(), Value::Int(keys[i].into())));
    }
    assert_eq!(kinds, ["direct", "direct", "hash", "hash"]);
}

#[test]
fn a_direct_table_ends_where_integers_end() {
    let mut groups = Groups::new(&[KeyType::new(Type::I64, 0)]);
    for end in [i64::MAX, i64::MIN + 2] {
        let keys: Vec<i64> = (0..3).map(|i| end - i).collect();
        for _ in 0..2 {
            let mut ids = vec![];
            groups.ids(&[&Vector::new(crate::Values::I64(keys.clone().into()))], 3, &mut ids).unwrap();
            let back = groups.keys(&ids).unwrap().remove(0);
            (0..3).for_each(|i| assert_eq!(back.value(i).unwrap(), Value::Int(keys[i].into())));
        }
    }
    assert_eq!(groups.len(), 6);
}

#[test]
fn sums_spill_to_128_bits_before_64_overflow() {
    let mut s = State::new(Sum, KeyType::new(Type::Decimal, 38)).unwrap();
    let v = Vector::new(crate::Values::I64(vec![i64::MAX / 2; 4].into()));
    for _ in 0..10 {
        s.update(&[0, 0, 0, 1], 2, &[&v], None).unwrap();
    }
    assert_eq!(s.value(0, 2).unwrap(), Value::Int(i128::from(i64::MAX / 2) * 30));
    let mut s = State::new(Sum, KeyType::new(Type::I64, 0)).unwrap();
    s.update(&[0, 0, 0, 1], 2, &[&v], None).unwrap();
    assert!(s.value(0, 2).is_err(), "an Int64 sum that does not fit is an error");
}

#[test]
fn merging_a_state_without_rows_changes_nothing() {
    let key = KeyType::new(Type::I64, 0);
    let mut s = State::new(Sum, key).unwrap();
    let v = Vector::new(crate::Values::I64(vec![7].into()));
    s.merge(&State::new(Sum, key).unwrap(), &[0], &[0], 1).unwrap();
    s.update(&[0], 1, &[&v], None).unwrap();
    s.merge(&State::new(Sum, key).unwrap(), &[0], &[0], 1).unwrap();
    assert_eq!(s.value(0, 1).unwrap(), Value::Int(7));
}

#[test]
fn absorbed_results_equal_the_rows_behind_them() {
    let mut g = Gen::new(23);
    for (op, ty) in [(Count, Type::I64), (Sum, Type::I32), (Sum, Type::Decimal), (Min, Type::I32), (Max, Type::Decimal)] {
        let new = || State::new(op, KeyType::new(ty, 38)).unwrap();
        let (mut whole, mut absorbed) = (new(), new());
        for _ in 0..6 {
            // Every group has a row in every part, often with nulls only.
            let ids: Vec<u32> = (0..30).map(|i| if i < 7 { i } else { g.below(3) as u32 }).collect();
            let v = g.vector(ty, ids.len(), false);
            let mut part = new();
            part.update(&ids, 7, &[&v], None).unwrap();
            let mut result = |r: u32| if let Value::Int(v) = part.value(r, 7).unwrap() { Some(v) } else { None };
            let results: Vec<Option<i128>> = [4, 0, 1, 2, 3, 6, 5].into_iter().map(&mut result).collect();
            absorbed.absorb(&[4, 0, 1, 2, 3, 6, 5], 7, &results).unwrap();
            whole.update(&ids, 7, &[&v], None).unwrap();
        }
        for r in 0..7 {
            assert_eq!(absorbed.value(r, 7).unwrap(), whole.value(r, 7).unwrap(), "{op:?} of {ty:?}, group {r}");
        }
    }
}

/// Clustered keys: what is apart and the rest are all groups, once, and nothing apart is in another table.
#[test]
fn groups_that_are_apart_are_in_one_table_only() {
    let mut g = Gen::new(77);
    for clustered in [true, false] {
        for with_null in [true, false] {
            let tables: Vec<Groups> = (0..3i64)
                .map(|t| {
                    let base = if clustered { t * 9_000 } else { 0 };
                    // The last keys of a cluster are the first of the next.
                    let keys: Vec<i64> = (0..20_000).map(|_| base + g.below(9_100) as i64).collect();
                    let valid: Vec<u8> = (0..keys.len()).map(|i| u8::from(!with_null || i % 1000 != 7)).collect();
                    let mut table = Groups::new(&[KeyType::new(Type::I64, 0)]);
                    let n = keys.len();
                    table.ids(&[&Vector::with_valid(Values::I64(keys.into()), Some(valid.into()))], n, &mut vec![]).unwrap();
                    table
                })
                .collect();
            let Some(split) = apart(&tables.iter().collect::<Vec<_>>()) else {
                assert!(!clustered);
                continue;
            };
            assert!(clustered);
            let mut seen = std::collections::HashMap::new();
            for (t, (own, rest)) in split.iter().enumerate() {
                let mut all: Vec<u32> = own.iter().chain(rest).copied().collect();
                all.sort_unstable();
                assert_eq!(all, (0..tables[t].len() as u32).collect::<Vec<_>>());
                assert!(own.len() > rest.len());
                for (ids, is_own) in [(own, true), (rest, false)] {
                    let keys = tables[t].keys(ids).unwrap().remove(0);
                    (0..ids.len()).for_each(|i| seen.entry(format!("{:?}", keys.value(i).unwrap())).or_insert(vec![]).push(is_own));
                }
            }
            assert!(seen.values().all(|s| s.len() == 1 || s.iter().all(|own| !own)), "a group apart is in two tables");
        }
    }
}

#[test]
fn a_median_of_the_longest_decimals_does_not_overflow() {
    let most = 10i128.pow(38) - 1;
    for (values, want) in [([most, most - 2], most - 1), ([-most, 1 - most], 1 - most), ([-most, most], 0), ([-3, 2], 0), ([-6, 3], -1)] {
        let mut s = State::new(Median, KeyType::new(Type::Decimal, 38)).unwrap();
        s.update(&[0, 0], 1, &[&Vector::new(Values::I128(values.to_vec().into()))], None).unwrap();
        assert_eq!(s.value(0, 1).unwrap(), Value::Int(want), "{values:?}");
    }
}

#[test]
fn groups_that_a_list_has_not_met_are_null() {
    let mut s = State::new(Median, KeyType::new(Type::F64, 0)).unwrap();
    s.update(&[1], 2, &[&Vector::new(Values::F64(vec![2.5].into()))], None).unwrap();
    let values: Vec<Value> = (0..4).map(|g| s.value(g, 4).unwrap()).collect();
    assert_eq!(values, [Value::Null, Value::F64(2.5), Value::Null, Value::Null]);
}
