use super::reference::list;
use super::*;
use crate::program::{KeyOrder, KeyOrders, Listing};

const GROUPS: usize = 7;

/// The lists of all groups.
fn lists(s: &State) -> Vec<Vec<Value>> {
    let all: Vec<u32> = (0..GROUPS as u32).collect();
    let (bounds, values) = s.lists(&all).unwrap();
    bounds.windows(2).map(|w| (w[0]..w[1]).map(|i| values.value(i).unwrap()).collect()).collect()
}

/// As a multiset where nothing orders the rows, or not all of them.
fn sorted(mut lists: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
    lists.iter_mut().for_each(|l| l.sort());
    lists
}

#[test]
fn agrees_with_the_reference_whole_and_in_parts() {
    let mut g = Gen::new(43);
    for round in 0..360 {
        let ty = TYPES[round % 6];
        let flag = |bit: usize| round >> bit & 1 == 1;
        let (n, keys) = (g.below(300) as usize, round / 6 % 3);
        let mut args = vec![g.vector(ty, n, round % 11 == 0)];
        for _ in 0..keys {
            let ty = TYPES[g.below(6) as usize];
            args.push(g.vector(ty, n, false));
        }
        let orders: Vec<KeyOrder> = (0..keys).map(|k| KeyOrder { descending: flag(k), nulls_first: flag(k + 1) }).collect();
        let listing = Listing { by: KeyOrders::new(&orders).unwrap(), skip_nulls: flag(3) };
        let ids: Vec<u32> = (0..n).map(|_| g.below(GROUPS as u64 - 1) as u32).collect();
        let filter = (g.below(2) == 0).then(|| g.vector(Type::Bool, n, false));
        let rows = Rows { groups: GROUPS, ids, args, filter };
        let want: Vec<Vec<Value>> = rows.by_group().iter().map(|r| list(listing, r)).collect();

        let new = || State::new(List(listing), KeyType::new(ty, 38)).unwrap();
        let mut whole = new();
        rows.add_to(&mut whole);
        // One part after the other: rows that are equal in all keys stay in the order they came.
        assert_eq!(lists(&whole), want, "round {round}: {listing:?} of {ty:?}");
        let whole_raw = new_of(&whole, listing, ty);
        assert_eq!(sorted(lists(&whole_raw)), sorted(want.clone()), "as columns, round {round}");

        let mut merged = new();
        rows.add_parts_to(&mut merged, new, &[n / 3, n / 2, n]);
        assert_eq!(lists(&merged), want, "in parts, round {round}: {listing:?} of {ty:?}");
        // Negative control.
        if let Some(first) = want.iter().position(|l| !l.is_empty()) {
            let mut wrong = want;
            wrong[first].pop();
            assert_ne!(lists(&merged), wrong);
        }
    }
}

/// The same state through what would go to disk, its groups in another order.
fn new_of(s: &State, listing: Listing, ty: Type) -> State {
    let backwards: Vec<u32> = (0..GROUPS as u32).rev().collect();
    let mut other = State::new(List(listing), KeyType::new(ty, 38)).unwrap();
    other.merge_raw(&s.raw(&backwards).unwrap(), &backwards, GROUPS).unwrap();
    other
}

#[test]
fn parts_hold_no_more_text_than_their_own() {
    let long = "x".repeat(1000);
    let all = crate::Strings::View(arrow::array::StringViewArray::from_iter_values((0..1000).map(|_| &long)));
    let values = Vector::new(Values::Str(all)).slice(0, 3);
    let listing = Listing { by: KeyOrders::default(), skip_nulls: true };
    let mut s = State::new(List(listing), KeyType::new(Type::Str, 0)).unwrap();
    s.update(&[0, 1, 0], 2, &[&values], None).unwrap();
    assert!(s.size() < 20_000, "{} bytes", s.size());
    assert_eq!(s.listed(), 3);
}
