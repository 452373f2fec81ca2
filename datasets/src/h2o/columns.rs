//! The columns of each table, as functions of the row's number.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, StringViewBuilder};
use arrow::datatypes::DataType;

use crate::random::{Permutation, Sequence};

/// Large groups of the group-by table; its small ones have this many rows on average. db-benchmark's `K`.
const GROUPS: u64 = 100;

/// The fewest rows of a right table: with ten keys, nine match.
const RIGHT_ROWS_MIN: u64 = 10;

/// One column of a table.
pub(super) struct Column {
    pub(super) name: &'static str,
    values: Values,
}

/// How the values of a column come about.
enum Values {
    /// One of so many ids, counted from 1.
    Id(Sequence, u64),
    /// The same as text, `id` and at least so many digits.
    IdText(Sequence, u64, usize),
    /// A join key.
    Key(Keys),
    /// The same as text, `id` and the number.
    KeyText(Keys),
    /// A number from 0 to 100 with six decimals.
    UpTo100(Sequence),
}

/// The sides of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// The keys of one column of a join: `count` of them on each side, nine in ten on both, each in some row at least.
#[derive(Debug, Clone, Copy)]
struct Keys {
    /// The keys themselves: common, then only left, then only right.
    keys: Permutation,
    side: Side,
    count: u64,
    /// Which rows are those that make sure of each key.
    shuffled: Permutation,
    others: Sequence,
}

impl Keys {
    /// `family`: the key column that both sides share; `column`: this table's own.
    fn new(seed: u64, family: &str, column: &str, side: Side, count: u64, rows: u64) -> Self {
        Self {
            keys: Permutation::new(seed, family, count + count / 10),
            side,
            count,
            shuffled: Permutation::new(seed, &format!("{column} order"), rows),
            others: Sequence::new(seed, column),
        }
    }

    fn key(&self, row: u64) -> i32 {
        let slot = self.shuffled.at(row);
        let rank = if slot < self.count { slot } else { self.others.below(slot, self.count) };
        let one_sided = self.count / 10;
        let place = if self.side == Side::Right && rank >= self.count - one_sided { rank + one_sided } else { rank };
        // Scales are such that keys fit.
        self.keys.at(place) as i32 + 1
    }
}

impl Column {
    pub(super) fn data_type(&self) -> DataType {
        match self.values {
            Values::Id(..) | Values::Key(_) => DataType::Int32,
            Values::IdText(..) | Values::KeyText(_) => DataType::Utf8View,
            Values::UpTo100(_) => DataType::Float64,
        }
    }

    /// The values of a range of rows.
    pub(super) fn values(&self, rows: Range<u64>) -> ArrayRef {
        match &self.values {
            Values::Id(draws, count) => Arc::new(Int32Array::from_iter_values(rows.map(|row| draws.below(row, *count) as i32 + 1))),
            Values::IdText(draws, count, digits) => texts(rows.map(|row| draws.below(row, *count) + 1), *digits),
            Values::Key(keys) => Arc::new(Int32Array::from_iter_values(rows.map(|row| keys.key(row)))),
            Values::KeyText(keys) => texts(rows.map(|row| keys.key(row) as u64), 1),
            Values::UpTo100(draws) => Arc::new(Float64Array::from_iter_values(rows.map(|row| draws.up_to_100(row)))),
        }
    }
}

fn texts(numbers: impl Iterator<Item = u64>, digits: usize) -> ArrayRef {
    let mut builder = StringViewBuilder::new();
    let mut text = String::new();
    for number in numbers {
        text.clear();
        // Writing to a String cannot fail.
        let _ = write!(text, "id{number:0digits$}");
        builder.append_value(&text);
    }
    Arc::new(builder.finish())
}

/// How many rows a table has where the largest have `rows`; `None` when there is no such table.
pub(super) fn rows(table: &str, rows: u64) -> Option<u64> {
    match table {
        "x" | "lhs" | "big" => Some(rows),
        "small" => Some((rows / 1_000_000).max(RIGHT_ROWS_MIN)),
        "medium" => Some((rows / 1_000).max(RIGHT_ROWS_MIN)),
        _ => None,
    }
}

/// The columns of a table whose largest kind has `largest` rows; `None` when there is no such table.
pub(super) fn columns(table: &str, largest: u64, seed: u64) -> Option<Vec<Column>> {
    if table == "x" {
        return Some(grouped(largest, seed));
    }
    let rows_of_table = rows(table, largest)?;
    let side = if table == "lhs" { Side::Left } else { Side::Right };
    // The key columns of each table, each with the table that has as many rows as there are keys.
    let families: &[(&'static str, &'static str, &str)] = match table {
        "small" => &[("id1", "id4", "small")],
        "medium" => &[("id1", "id4", "small"), ("id2", "id5", "medium")],
        _ => &[("id1", "id4", "small"), ("id2", "id5", "medium"), ("id3", "id6", "big")],
    };
    let keys = |(number, _, like): &(&str, &str, &str)| {
        let count = rows(like, largest)?;
        Some(Keys::new(seed, &format!("keys {number}"), &format!("{table} {number}"), side, count, rows_of_table))
    };
    let keys: Vec<Keys> = families.iter().map(keys).collect::<Option<_>>()?;
    let numbers = families.iter().zip(&keys).map(|((number, ..), keys)| Column { name: number, values: Values::Key(*keys) });
    let texts = families.iter().zip(&keys).map(|((_, text, _), keys)| Column { name: text, values: Values::KeyText(*keys) });
    let value = if side == Side::Left { "v1" } else { "v2" };
    let value = Column { name: value, values: Values::UpTo100(Sequence::new(seed, &format!("{table} {value}"))) };
    Some(numbers.chain(texts).chain([value]).collect())
}

/// The columns of the group-by table.
fn grouped(rows: u64, seed: u64) -> Vec<Column> {
    let column = |name: &'static str, values: &dyn Fn(Sequence) -> Values| {
        let draws = Sequence::new(seed, &format!("x {name}"));
        Column { name, values: values(draws) }
    };
    let small_groups = rows / GROUPS;
    vec![
        column("id1", &|draws| Values::IdText(draws, GROUPS, 3)),
        column("id2", &|draws| Values::IdText(draws, GROUPS, 3)),
        column("id3", &|draws| Values::IdText(draws, small_groups, 10)),
        column("id4", &|draws| Values::Id(draws, GROUPS)),
        column("id5", &|draws| Values::Id(draws, GROUPS)),
        column("id6", &|draws| Values::Id(draws, small_groups)),
        column("v1", &|draws| Values::Id(draws, 5)),
        column("v2", &|draws| Values::Id(draws, 15)),
        column("v3", &Values::UpTo100),
    ]
}
