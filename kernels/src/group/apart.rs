//! Groups that only one of several tables can have: they need no merging.

use super::Groups;

/// Keys are told apart by so many stretches of their range.
const STRETCHES: u32 = 14;

/// A stretch that more than one table has keys in.
const COMMON: u8 = u8::MAX;

/// For each of `tables`, over the same key types, the groups that no other one has, and the rest. None where
/// the first key column does not tell most of them apart: keys that are not clustered, strings.
pub fn apart(tables: &[&Groups]) -> Option<Vec<(Vec<u32>, Vec<u32>)>> {
    if tables.len() < 2 || tables.len() >= usize::from(COMMON) || tables.iter().any(|t| !t.is_plain()) {
        return None;
    }
    let all = || tables.iter().flat_map(|t| first_words(t));
    let (least, most) = all().fold((i64::MAX, i64::MIN), |(lo, hi), w| (lo.min(w), hi.max(w)));
    let width = u64::BITS - (most.wrapping_sub(least) as u64).leading_zeros();
    let shift = width.saturating_sub(STRETCHES);
    let stretch = |w: i64| (w.wrapping_sub(least) as u64 >> shift) as usize;
    // Whose keys a stretch has: 0 nobody's, i + 1 table i's.
    let mut owners = vec![0u8; 1 << STRETCHES];
    for (i, table) in tables.iter().enumerate() {
        for w in first_words(table) {
            let owner = &mut owners[stretch(w)];
            *owner = if *owner == 0 || *owner == i as u8 + 1 { i as u8 + 1 } else { COMMON };
        }
    }
    let common = owners.iter().filter(|o| **o == COMMON).count();
    if common * 2 > owners.iter().filter(|o| **o != 0).count() {
        return None;
    }
    let split = |table: &&Groups| {
        let mut own = Vec::with_capacity(table.len());
        let mut rest = vec![];
        for (g, w) in first_words(table).enumerate() {
            if owners[stretch(w)] == COMMON { rest.push(g as u32) } else { own.push(g as u32) }
        }
        (own, rest)
    };
    Some(tables.iter().map(split).collect())
}

fn first_words(t: &Groups) -> impl Iterator<Item = i64> {
    t.words().chunks_exact(t.stride()).map(|key| key[0] as i64)
}
