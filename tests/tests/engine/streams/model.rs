//! Windows one row at a time, with nothing of the engine: the judge of the streams' tests.

use std::collections::{BTreeMap, BTreeSet};

/// A seeded generator of the tests' own.
pub struct Seeded(u64);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

#[derive(Clone, Debug)]
pub struct Event {
    pub id: i64,
    pub at: i64,
    pub key: Option<i64>,
    pub name: String,
    pub value: Option<i64>,
}

/// `n` events whose times grow by about `step` each and come up to `disorder` late.
pub fn events(seed: u64, n: i64, step: i64, disorder: i64) -> Vec<Event> {
    let mut r = Seeded::new(seed);
    let mut at = -3 * step;
    (0..n)
        .map(|id| {
            at += r.below(2 * step as u64 + 1) as i64;
            // A gap now and then: windows without rows.
            if r.below(500) == 0 {
                at += 700 * step;
            }
            let key = (r.below(40) != 0).then(|| r.below(23) as i64 * 1_000_003);
            let name = format!("name {}", r.below(7));
            let value = (r.below(9) != 0).then(|| r.below(1000) as i64 - 500);
            Event { id, at: at - r.below(disorder as u64 + 1) as i64, key, name, value }
        })
        .collect()
}

/// Begin, end, key, name: rows, sum, least and greatest value, distinct values.
pub type Row = (i64, i64, Option<i64>, String, i64, Option<i64>, Option<i64>, Option<i64>, i64);

#[derive(Default)]
struct Group {
    rows: i64,
    values: Vec<i64>,
}

/// The rows of all windows `[s, s + width)`, `s` a multiple of `slide`, that have an event.
pub fn windows<'a>(events: impl IntoIterator<Item = &'a Event>, width: i64, slide: i64) -> Vec<Row> {
    let mut groups: BTreeMap<(i64, Option<i64>, String), Group> = BTreeMap::new();
    for e in events {
        let mut begin = e.at.div_euclid(slide) * slide;
        while begin + width > e.at {
            let group = groups.entry((begin, e.key, e.name.clone())).or_default();
            group.rows += 1;
            group.values.extend(e.value);
            begin -= slide;
        }
    }
    let row = |((begin, key, name), g): ((i64, Option<i64>, String), Group)| {
        let sum = (!g.values.is_empty()).then(|| g.values.iter().sum());
        let distinct = g.values.iter().collect::<BTreeSet<_>>().len() as i64;
        (begin, begin + width, key, name, g.rows, sum, g.values.iter().min().copied(), g.values.iter().max().copied(), distinct)
    };
    groups.into_iter().map(row).collect()
}
