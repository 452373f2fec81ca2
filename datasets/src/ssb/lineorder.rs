//! The fact table: a row for each line of an order, in the order of their keys.
//!
//! Each seven orders make a block of 28 rows, so the order of a row is found without those before it.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, StringViewArray};

use super::{Columns, dates, words};
use crate::error::Result;
use crate::random::Sequence;

/// Orders of a block: one of each length from 1 to this.
const BLOCK_ORDERS: u64 = 7;

const BLOCK_ROWS: u64 = BLOCK_ORDERS * (BLOCK_ORDERS + 1) / 2;

/// Days on which orders come in: the first ones, up to 1998-08-02, as in TPC-H.
const ORDER_DAYS: u64 = 2_406;

/// The fewest days from an order to when it is to be delivered, and how many numbers of days there are.
const COMMIT: (u64, u64) = (30, 61);

/// What rows are drawn from.
struct LineOrder {
    rows: u64,
    customers: u64,
    parts: u64,
    suppliers: u64,
    /// By block and place.
    lengths: Sequence,
    /// By order.
    customer: Sequence,
    day: Sequence,
    priority: Sequence,
    /// By row.
    part: Sequence,
    supplier: Sequence,
    quantity: Sequence,
    discount: Sequence,
    tax: Sequence,
    commit: Sequence,
    mode: Sequence,
}

/// What the lines of an order have in common.
#[derive(Clone, Copy)]
struct Order {
    /// From 0.
    number: u64,
    /// The row of its first line.
    first: u64,
    customer: i32,
    day: u64,
    priority: usize,
    /// Cents, with discounts and taxes.
    total: i64,
}

/// One row.
struct Line {
    order: Order,
    row: u64,
    part: i32,
    supplier: i32,
    quantity: i32,
    discount: i32,
    tax: i32,
    commit: u64,
    mode: usize,
}

impl Order {
    /// Sparse as in TPC-H: the first 8 of each 32 keys.
    fn key(&self) -> i64 {
        let number = self.number as i64 + 1;
        number / 8 * 32 + number % 8
    }
}

impl Line {
    /// Cents for one piece, by TPC-H's formula.
    fn price(&self) -> i64 {
        i64::from(90_000 + self.part / 10 % 20_001 + self.part % 1_000 * 100)
    }

    fn extended_price(&self) -> i64 {
        self.price() * i64::from(self.quantity)
    }

    fn revenue(&self) -> i64 {
        self.extended_price() * i64::from(100 - self.discount) / 100
    }

    fn taxed(&self) -> i64 {
        self.revenue() * i64::from(100 + self.tax) / 100
    }
}

impl LineOrder {
    fn new(seed: u64, rows: &dyn Fn(&str) -> Result<u64>) -> Result<Self> {
        let sequence = |column: &str| Sequence::new(seed, &format!("lineorder {column}"));
        Ok(Self {
            rows: rows("lineorder")?,
            customers: rows("customer")?,
            parts: rows("part")?,
            suppliers: rows("supplier")?,
            lengths: sequence("lengths"),
            customer: sequence("customer"),
            day: sequence("day"),
            priority: sequence("priority"),
            part: sequence("part"),
            supplier: sequence("supplier"),
            quantity: sequence("quantity"),
            discount: sequence("discount"),
            tax: sequence("tax"),
            commit: sequence("commit"),
            mode: sequence("mode"),
        })
    }

    /// How many lines each order of a block has.
    fn lengths(&self, block: u64) -> [u64; BLOCK_ORDERS as usize] {
        let mut lengths = std::array::from_fn(|i| i as u64 + 1);
        for i in (1..BLOCK_ORDERS).rev() {
            lengths.swap(i as usize, self.lengths.below(block * BLOCK_ORDERS + i, i + 1) as usize);
        }
        lengths
    }

    /// The lines of some rows of the table.
    fn lines(&self, rows: Range<u64>) -> Vec<Line> {
        let mut lines = Vec::with_capacity((rows.end - rows.start + 2 * BLOCK_ORDERS) as usize);
        for block in rows.start / BLOCK_ROWS..rows.end.div_ceil(BLOCK_ROWS) {
            let mut first = block * BLOCK_ROWS;
            for (number, length) in (block * BLOCK_ORDERS..).zip(self.lengths(block)) {
                // The last order of the table may have fewer lines than it would.
                let of_order = first..(first + length).min(self.rows);
                if of_order.start < rows.end && rows.start < of_order.end {
                    self.order(number, of_order, &mut lines);
                }
                first += length;
            }
        }
        // Orders come whole, for their totals.
        lines.retain(|line| rows.contains(&line.row));
        lines
    }

    /// Adds the lines of an order, by its number and rows.
    fn order(&self, number: u64, rows: Range<u64>, lines: &mut Vec<Line>) {
        // A third of the customers has no orders, as in TPC-H: those whose key is a multiple of 3.
        let customer = self.customer.below(number, self.customers - self.customers / 3);
        let order = Order {
            number,
            first: rows.start,
            customer: (customer / 2 * 3 + customer % 2) as i32 + 1,
            day: self.day.below(number, ORDER_DAYS),
            priority: self.priority.below(number, words().order_priority().size() as u64) as usize,
            total: 0,
        };
        let before = lines.len();
        lines.extend(rows.map(|row| self.line(order, row)));
        let total = lines[before..].iter().map(Line::taxed).sum();
        lines[before..].iter_mut().for_each(|line| line.order.total = total);
    }

    fn line(&self, order: Order, row: u64) -> Line {
        Line {
            order,
            row,
            part: self.part.below(row, self.parts) as i32 + 1,
            supplier: self.supplier.below(row, self.suppliers) as i32 + 1,
            quantity: self.quantity.below(row, 50) as i32 + 1,
            discount: self.discount.below(row, 11) as i32,
            tax: self.tax.below(row, 9) as i32,
            commit: order.day + COMMIT.0 + self.commit.below(row, COMMIT.1),
            mode: self.mode.below(row, words().ship_modes().size() as u64) as usize,
        }
    }
}

/// The columns of `lineorder`; `rows` says how many rows a table has.
pub(super) fn columns(seed: u64, rows: &dyn Fn(&str) -> Result<u64>) -> Result<impl Fn(Range<u64>) -> Columns + Send + use<>> {
    let table = LineOrder::new(seed, rows)?;
    Ok(move |rows| {
        let lines = table.lines(rows);
        let ints = |value: fn(&Line) -> i32| -> ArrayRef { Arc::new(Int32Array::from_iter_values(lines.iter().map(value))) };
        let longs = |value: fn(&Line) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(lines.iter().map(value))) };
        let texts = |value: fn(&Line) -> &'static str| -> ArrayRef { Arc::new(StringViewArray::from_iter_values(lines.iter().map(value))) };
        vec![
            ("lo_orderkey", longs(|line| line.order.key())),
            ("lo_linenumber", ints(|line| (line.row - line.order.first) as i32 + 1)),
            ("lo_custkey", ints(|line| line.order.customer)),
            ("lo_partkey", ints(|line| line.part)),
            ("lo_suppkey", ints(|line| line.supplier)),
            ("lo_orderdate", ints(|line| dates::key(line.order.day))),
            ("lo_orderpriority", texts(|line| words().order_priority().get_values()[line.order.priority])),
            ("lo_shippriority", ints(|_| 0)),
            ("lo_quantity", ints(|line| line.quantity)),
            ("lo_extendedprice", longs(Line::extended_price)),
            ("lo_ordtotalprice", longs(|line| line.order.total)),
            ("lo_discount", ints(|line| line.discount)),
            ("lo_revenue", longs(Line::revenue)),
            ("lo_supplycost", longs(|line| line.price() * 6 / 10)),
            ("lo_tax", ints(|line| line.tax)),
            ("lo_commitdate", ints(|line| dates::key(line.commit))),
            ("lo_shipmode", texts(|line| words().ship_modes().get_values()[line.mode])),
        ]
    })
}
