//! Customers, suppliers and parts, as functions of the row's number.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, StringViewArray};
use tpchgen::distribution::Distribution;

use super::{Columns, words};
use crate::random::Sequence;

/// Letters of a nation's name that begin those of its cities, filled up with blanks.
const CITY_LETTERS: usize = 9;

const CITIES: u64 = 10;

/// The letters of addresses.
const LETTERS: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ,";

/// How long addresses are.
const ADDRESS: Range<u64> = 6..25;

/// The columns of `customer`.
pub(super) fn customer(seed: u64) -> impl Fn(Range<u64>) -> Columns + Send {
    let places = Places::new(seed, "customer");
    let segment = Sequence::new(seed, "customer segment");
    move |rows| {
        let [address, city, nation, region, phone] = places.columns(&rows);
        vec![
            ("c_custkey", keys(&rows)),
            ("c_name", texts(&rows, |row| format!("Customer#{:09}", row + 1))),
            ("c_address", address),
            ("c_city", city),
            ("c_nation", nation),
            ("c_region", region),
            ("c_phone", phone),
            ("c_mktsegment", texts(&rows, |row| one_of(words().market_segments(), segment, row))),
        ]
    }
}

/// The columns of `supplier`.
pub(super) fn supplier(seed: u64) -> impl Fn(Range<u64>) -> Columns + Send {
    let places = Places::new(seed, "supplier");
    move |rows| {
        let [address, city, nation, region, phone] = places.columns(&rows);
        vec![
            ("s_suppkey", keys(&rows)),
            ("s_name", texts(&rows, |row| format!("Supplier#{:09}", row + 1))),
            ("s_address", address),
            ("s_city", city),
            ("s_nation", nation),
            ("s_region", region),
            ("s_phone", phone),
        ]
    }
}

/// Where customers and suppliers are.
struct Places {
    length: Sequence,
    letters: Sequence,
    nation: Sequence,
    city: Sequence,
    phone: Sequence,
}

impl Places {
    fn new(seed: u64, table: &str) -> Self {
        let sequence = |column: &str| Sequence::new(seed, &format!("{table} {column}"));
        Self {
            length: sequence("address length"),
            letters: sequence("address"),
            nation: sequence("nation"),
            city: sequence("city"),
            phone: sequence("phone"),
        }
    }

    /// The number of a row's nation in TPC-H.
    fn nation(&self, row: u64) -> usize {
        self.nation.below(row, words().nations().size() as u64) as usize
    }

    /// Address, city, nation, region and phone.
    fn columns(&self, rows: &Range<u64>) -> [ArrayRef; 5] {
        let (nations, regions) = (words().nations(), words().regions());
        let city = |row: u64| {
            let nation = nations.get_value(self.nation(row));
            format!("{nation:<CITY_LETTERS$.CITY_LETTERS$}{}", self.city.below(row, CITIES))
        };
        // What goes for a weight there is the nation's region.
        let region = |row: u64| regions.get_value(nations.get_weight(self.nation(row)) as usize).to_string();
        [
            texts(rows, |row| self.address(row)),
            texts(rows, city),
            texts(rows, |row| nations.get_value(self.nation(row)).to_string()),
            texts(rows, region),
            texts(rows, |row| self.phone(row)),
        ]
    }

    fn address(&self, row: u64) -> String {
        let length = ADDRESS.start + self.length.below(row, ADDRESS.end - ADDRESS.start);
        let at = |i| LETTERS[self.letters.below(row * ADDRESS.end + i, LETTERS.len() as u64) as usize];
        (0..length).map(|i| char::from(at(i))).collect()
    }

    /// The nation's code and three groups of digits that do not begin with a zero.
    fn phone(&self, row: u64) -> String {
        let digits = |group: u64, least: u64, most: u64| least + self.phone.below(3 * row + group, most - least + 1);
        format!("{}-{}-{}-{}", 10 + self.nation(row), digits(0, 100, 999), digits(1, 100, 999), digits(2, 1000, 9999))
    }
}

/// The columns of `part`.
pub(super) fn part(seed: u64) -> impl Fn(Range<u64>) -> Columns + Send {
    let sequence = |column: &str| Sequence::new(seed, &format!("part {column}"));
    let colors = [sequence("color"), sequence("name 1"), sequence("name 2")];
    // Manufacturer, category and brand: one number of 1000 says all three.
    let (brand, ty, size, container) = (sequence("brand"), sequence("type"), sequence("size"), sequence("container"));
    let brand = move |row: u64| {
        let number = brand.below(row, 1_000);
        (number / 200 + 1, number / 40 % 5 + 1, number % 40 + 1)
    };
    move |rows| {
        vec![
            ("p_partkey", keys(&rows)),
            ("p_name", texts(&rows, |row| part_colors(&colors, row)[1..].join(" "))),
            ("p_mfgr", texts(&rows, |row| format!("MFGR#{}", brand(row).0))),
            ("p_category", texts(&rows, |row| format!("MFGR#{}{}", brand(row).0, brand(row).1))),
            ("p_brand1", texts(&rows, |row| format!("MFGR#{}{}{}", brand(row).0, brand(row).1, brand(row).2))),
            ("p_color", texts(&rows, |row| part_colors(&colors, row)[0].to_string())),
            ("p_type", texts(&rows, |row| one_of(words().part_types(), ty, row))),
            ("p_size", Arc::new(Int32Array::from_iter_values(rows.clone().map(|row| size.below(row, 50) as i32 + 1)))),
            ("p_container", texts(&rows, |row| one_of(words().part_containers(), container, row))),
        ]
    }
}

/// Three different colours: the part's own and two for its name.
fn part_colors(colors: &[Sequence; 3], row: u64) -> [&'static str; 3] {
    let all = words().part_colors().get_values();
    let count = all.len() as u64;
    let mut taken = [0; 3];
    for (i, draws) in colors.iter().enumerate() {
        // One of those that are left, counted past the smaller ones that are taken.
        let mut number = draws.below(row, count - i as u64);
        let mut before = taken;
        before[..i].sort_unstable();
        before[..i].iter().for_each(|other| number += u64::from(*other <= number));
        taken[i] = number;
    }
    taken.map(|number| all[number as usize])
}

fn one_of(words: &Distribution, draws: Sequence, row: u64) -> String {
    words.get_value(draws.below(row, words.size() as u64) as usize).to_string()
}

fn keys(rows: &Range<u64>) -> ArrayRef {
    // Scales are such that keys fit.
    Arc::new(Int32Array::from_iter_values(rows.clone().map(|row| row as i32 + 1)))
}

fn texts(rows: &Range<u64>, value: impl Fn(u64) -> String) -> ArrayRef {
    Arc::new(StringViewArray::from_iter_values(rows.clone().map(value)))
}
