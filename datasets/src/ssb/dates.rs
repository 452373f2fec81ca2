//! The days of the benchmark.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int32Array, StringViewArray};

use super::Columns;

/// Days of `date`: from 1992-01-01, one less than seven years.
pub(super) const DAYS: u64 = 2_556;

const YEAR: i32 = 1992;

/// The weekday of its first day, 0 for Sunday: a Wednesday.
const WEEKDAY: usize = 3;

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Month and day of those that ssb-dbgen calls holidays.
const HOLIDAYS: [(i32, i32); 10] = [(1, 1), (2, 20), (4, 20), (5, 20), (7, 20), (8, 20), (9, 20), (10, 20), (11, 20), (12, 24)];

/// One day.
struct Day {
    year: i32,
    /// From 1, as the next two.
    month: i32,
    of_month: i32,
    of_year: i32,
    /// From 0, Sunday.
    weekday: usize,
    last_of_month: bool,
}

impl Day {
    fn key(&self) -> i32 {
        self.year * 10_000 + self.month * 100 + self.of_month
    }

    fn month_name(&self) -> &'static str {
        MONTHS[self.month as usize - 1]
    }

    fn season(&self) -> &'static str {
        match self.month {
            1..=3 => "Winter",
            4 => "Spring",
            5..=8 => "Summer",
            9..=10 => "Fall",
            _ => "Christmas",
        }
    }
}

/// All days, in order.
static CALENDAR: LazyLock<Vec<Day>> = LazyLock::new(|| {
    let mut days = Vec::with_capacity(DAYS as usize);
    for year in YEAR.. {
        let mut of_year = 0;
        // No year of the benchmark is a multiple of 100.
        let february = if year % 4 == 0 { 29 } else { 28 };
        for (month, length) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
            for of_month in 1..=length {
                if days.len() as u64 == DAYS {
                    return days;
                }
                of_year += 1;
                let weekday = (WEEKDAY + days.len()) % 7;
                days.push(Day { year, month, of_month, of_year, weekday, last_of_month: of_month == length });
            }
        }
    }
    days
});

/// The key of a day by its number from 0, as 19920101.
pub(super) fn key(day: u64) -> i32 {
    CALENDAR[day as usize].key()
}

/// The columns of `date`.
pub(super) fn columns(rows: Range<u64>) -> Columns {
    let days = &CALENDAR[rows.start as usize..rows.end as usize];
    let ints = |value: fn(&Day) -> i32| -> ArrayRef { Arc::new(Int32Array::from_iter_values(days.iter().map(value))) };
    let texts = |value: fn(&Day) -> String| -> ArrayRef { Arc::new(StringViewArray::from_iter_values(days.iter().map(value))) };
    vec![
        ("d_datekey", ints(Day::key)),
        ("d_date", texts(|day| format!("{} {}, {}", day.month_name(), day.of_month, day.year))),
        ("d_dayofweek", texts(|day| WEEKDAYS[day.weekday].into())),
        ("d_month", texts(|day| day.month_name().into())),
        ("d_year", ints(|day| day.year)),
        ("d_yearmonthnum", ints(|day| day.year * 100 + day.month)),
        ("d_yearmonth", texts(|day| format!("{:.3}{}", day.month_name(), day.year))),
        ("d_daynuminweek", ints(|day| day.weekday as i32 + 1)),
        ("d_daynuminmonth", ints(|day| day.of_month)),
        ("d_daynuminyear", ints(|day| day.of_year)),
        ("d_monthnuminyear", ints(|day| day.month)),
        // As ssb-dbgen counts: the first week of a year has six days.
        ("d_weeknuminyear", ints(|day| day.of_year / 7 + 1)),
        ("d_sellingseason", texts(|day| day.season().into())),
        ("d_lastdayinweekfl", ints(|day| i32::from(day.weekday == 6))),
        ("d_lastdayinmonthfl", ints(|day| i32::from(day.last_of_month))),
        ("d_holidayfl", ints(|day| i32::from(HOLIDAYS.contains(&(day.month, day.of_month))))),
        ("d_weekdayfl", ints(|day| i32::from((1..=5).contains(&day.weekday)))),
    ]
}
