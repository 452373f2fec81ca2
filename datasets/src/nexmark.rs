//! Nexmark: the events of an auction house, people, auctions and bids, of the crate `nexmark` with its default
//! proportions (1 : 3 : 46) and distributions. Scale 1 is a million events.
//!
//! | table | columns |
//! | --- | --- |
//! | `person` | `id`, `name`, `email_address`, `credit_card`, `city`, `state`, `date_time`, `extra` |
//! | `auction` | `id`, `item_name`, `description`, `initial_bid`, `reserve`, `date_time`, `expires`, `seller`, `category`, `extra` |
//! | `bid` | `auction`, `bidder`, `price`, `channel`, `url`, `date_time`, `extra` |
//!
//! Numbers are Int64, text is Utf8View, times are Timestamp(ms); no column is nullable. Events come in order, 10,000 a
//! second from 2015-07-15 on. Their times are exact: the crate's are of 32-bit floats, in which they come apart
//! beyond 16 million events.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::{Auction, Bid, Event, EventType, Person};

use crate::error::{Error, Result};
use crate::marker::Marker;
use crate::sink::Format;
use crate::write::{self, BATCH_ROWS, Progress, Table};

/// The tables, in alphabetical order.
pub const TABLES: [&str; 3] = ["auction", "bid", "person"];

/// The smallest scale: a thousand events.
pub const SCALE_MIN: f64 = 0.001;

/// The largest scale: 1e12 events.
pub const SCALE_MAX: f64 = 1e6;

/// The time of the first event, in ms.
pub const BASE_TIME: i64 = 1_436_918_400_000;

/// Events of a second.
pub const PER_SECOND: u64 = 10_000;

/// Changes whenever the files of a scale change, with the generator or with how they are laid out.
const GENERATOR: &str = "nexmark-0.2 layout-1";

/// Of how many events in a row each kind has how many, and where they begin.
const CYCLE: u64 = 50;

fn place(table: &str) -> Result<(EventType, u64, u64)> {
    match table {
        "person" => Ok((EventType::Person, 0, 1)),
        "auction" => Ok((EventType::Auction, 1, 3)),
        "bid" => Ok((EventType::Bid, 4, 46)),
        _ => Err(Error::Invalid(format!("there is no nexmark table `{table}`: it is one of {}", TABLES.join(", ")))),
    }
}

/// The schema of a table.
///
/// # Errors
/// `Invalid` when there is no such table.
pub fn schema(table: &str) -> Result<SchemaRef> {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    let long = |name| Field::new(name, DataType::Int64, false);
    let text = |name| Field::new(name, DataType::Utf8View, false);
    let time = |name| Field::new(name, time.clone(), false);
    place(table)?;
    Ok(Arc::new(Schema::new(match table {
        "person" => vec![
            long("id"),
            text("name"),
            text("email_address"),
            text("credit_card"),
            text("city"),
            text("state"),
            time("date_time"),
            text("extra"),
        ],
        "auction" => vec![
            long("id"),
            text("item_name"),
            text("description"),
            long("initial_bid"),
            long("reserve"),
            time("date_time"),
            time("expires"),
            long("seller"),
            long("category"),
            text("extra"),
        ],
        _ => {
            vec![long("auction"), long("bidder"), long("price"), text("channel"), text("url"), time("date_time"), text("extra")]
        }
    })))
}

/// The number of rows of a table among the first `events` events.
///
/// # Errors
/// `Invalid` when there is no such table.
pub fn rows_of(table: &str, events: u64) -> Result<u64> {
    let (_, first, count) = place(table)?;
    Ok(events / CYCLE * count + (events % CYCLE).saturating_sub(first).min(count))
}

/// The number of rows of a table.
///
/// # Errors
/// `Invalid` when there is no such table, or the scale is out of range.
pub fn rows(table: &str, scale: f64) -> Result<u64> {
    rows_of(table, events(scale)?)
}

fn events(scale: f64) -> Result<u64> {
    if (SCALE_MIN..=SCALE_MAX).contains(&scale) {
        Ok((scale * 1e6).round() as u64)
    } else {
        Err(Error::Invalid(format!("the scale of nexmark, in millions of events, is between {SCALE_MIN} and {SCALE_MAX}, not {scale}")))
    }
}

/// Some rows of a table: the same ones however many are asked for at once.
///
/// ```
/// use millstream_datasets::nexmark;
///
/// let bids = nexmark::batch("bid", 0..1_000)?;
/// assert_eq!(nexmark::batch("bid", 500..600)?, bids.slice(500, 100));
/// # Ok::<(), millstream_datasets::Error>(())
/// ```
///
/// # Errors
/// `Invalid` when there is no such table.
pub fn batch(table: &str, rows: Range<u64>) -> Result<RecordBatch> {
    let (kind, first, count) = place(table)?;
    let config = NexmarkConfig { base_time: BASE_TIME as u64, ..NexmarkConfig::default() };
    let generator = EventGenerator::new(config).with_type_filter(kind).with_offset(rows.start);
    let events: Vec<Event> = generator.take((rows.end.saturating_sub(rows.start)) as usize).collect();
    let at = |row: u64| BASE_TIME + ((row / count * CYCLE + first + row % count) * 1000 / PER_SECOND) as i64;
    let at: Vec<i64> = rows.map(at).collect();
    let columns = match kind {
        EventType::Person => people(&of(&events, |e| if let Event::Person(p) = e { Some(p) } else { None }), at),
        EventType::Auction => auctions(&of(&events, |e| if let Event::Auction(a) = e { Some(a) } else { None }), at),
        EventType::Bid => bids(&of(&events, |e| if let Event::Bid(b) = e { Some(b) } else { None }), at),
    };
    RecordBatch::try_new(schema(table)?, columns).map_err(|e| Error::Bug(e.to_string()))
}

fn of<'a, T>(events: &'a [Event], kind: impl Fn(&'a Event) -> Option<&'a T>) -> Vec<&'a T> {
    events.iter().filter_map(kind).collect()
}

fn long<T>(rows: &[&T], value: impl Fn(&T) -> usize) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| value(r) as i64)))
}

fn text<'a, T>(rows: &[&'a T], value: impl Fn(&'a T) -> &'a String) -> ArrayRef {
    Arc::new(StringViewArray::from_iter_values(rows.iter().map(|r| value(r))))
}

fn times(at: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(at))
}

fn people(p: &[&Person], at: Vec<i64>) -> Vec<ArrayRef> {
    vec![
        long(p, |p| p.id),
        text(p, |p| &p.name),
        text(p, |p| &p.email_address),
        text(p, |p| &p.credit_card),
        text(p, |p| &p.city),
        text(p, |p| &p.state),
        times(at),
        text(p, |p| &p.extra),
    ]
}

fn auctions(a: &[&Auction], at: Vec<i64>) -> Vec<ArrayRef> {
    let open_for = |a: &Auction| a.expires.saturating_sub(a.date_time) as i64;
    let expires = at.iter().zip(a).map(|(at, a)| at + open_for(a)).collect();
    vec![
        long(a, |a| a.id),
        text(a, |a| &a.item_name),
        text(a, |a| &a.description),
        long(a, |a| a.initial_bid),
        long(a, |a| a.reserve),
        times(at),
        times(expires),
        long(a, |a| a.seller),
        long(a, |a| a.category),
        text(a, |a| &a.extra),
    ]
}

fn bids(b: &[&Bid], at: Vec<i64>) -> Vec<ArrayRef> {
    vec![
        long(b, |b| b.auction),
        long(b, |b| b.bidder),
        long(b, |b| b.price),
        text(b, |b| &b.channel),
        text(b, |b| &b.url),
        times(at),
        text(b, |b| &b.extra),
    ]
}

/// Writes `<out>/<table>.parquet` for every table, as [`crate::h2o::write_parquet`] does.
///
/// # Errors
/// As [`crate::h2o::write_parquet`].
pub fn write_parquet(out: &Path, scale: f64, progress: &mut dyn FnMut(Progress)) -> Result<()> {
    write(out, scale, Format::Parquet, progress)
}

/// [`write_parquet`] for any format: `<out>/<table>.<format>`. Formats may share a folder.
///
/// # Errors
/// As [`write_parquet`].
pub fn write(out: &Path, scale: f64, format: Format, progress: &mut dyn FnMut(Progress)) -> Result<()> {
    let mut tables = Vec::with_capacity(TABLES.len());
    for name in TABLES {
        let count = rows(name, scale)?;
        let starts = (0..count).step_by(BATCH_ROWS);
        // The table is there: no batch of it can fail.
        let batches = starts.map_while(move |from| batch(name, from..count.min(from + BATCH_ROWS as u64)).ok());
        tables.push(Table { name, rows_expected: count, schema: schema(name)?, batches: Box::new(batches) });
    }
    write::write(out, &marker(scale, format), tables, progress)
}

/// True when `dir` holds the whole Parquet data set of this scale, written by this version of the generator.
pub fn is_complete(dir: &Path, scale: f64) -> bool {
    let marker = marker(scale, Format::Parquet);
    let files = TABLES.map(|table| write::file_name(table, &marker));
    marker.holds(dir, &files)
}

/// The file of a table in a folder that [`write()`] filled.
pub fn file(dir: &Path, table: &str, format: Format) -> PathBuf {
    dir.join(format!("{table}.{format}"))
}

fn marker(scale: f64, format: Format) -> Marker {
    Marker { suite: "nexmark", scale, seed: None, format, generator: GENERATOR }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::{Int64Type, TimestampMillisecondType};

    #[test]
    fn rows_are_those_of_the_events() {
        for events in [0, 1, 3, 4, 49, 50, 51, 99, 1_000, 12_345] {
            let all = EventGenerator::new(NexmarkConfig { base_time: 0, ..NexmarkConfig::default() }).take(events);
            let mut counts = [0; 3];
            all.for_each(|e| counts[e.event_type() as usize] += 1);
            assert_eq!(["person", "auction", "bid"].map(|t| rows_of(t, events as u64).unwrap()), counts, "{events}");
        }
    }

    #[test]
    fn times_are_exact_and_in_order_far_out() {
        let far = 100_000_000 / 50 * 46;
        let bids = batch("bid", far..far + 200).unwrap();
        let at = bids.column_by_name("date_time").unwrap().as_primitive::<TimestampMillisecondType>();
        assert_eq!(at.value(0), BASE_TIME + 10_000_000);
        assert!(at.values().windows(2).all(|w| w[0] <= w[1] && w[1] - w[0] <= 1));
    }

    #[test]
    fn auctions_expire_behind_their_begin_and_refer_to_people() {
        let auctions = batch("auction", 0..3_000).unwrap();
        let time = |name| auctions.column_by_name(name).unwrap().as_primitive::<TimestampMillisecondType>().clone();
        assert!(time("date_time").values().iter().zip(time("expires").values()).all(|(at, expires)| at < expires));
        let people = batch("person", 0..1_010).unwrap();
        let known = people.column(0).as_primitive::<Int64Type>().values().clone();
        let sellers = auctions.column_by_name("seller").unwrap().as_primitive::<Int64Type>().clone();
        assert!(sellers.values().iter().all(|s| known.contains(s)));
        assert!(batch("persons", 0..1).is_err() && rows("bid", 0.0).is_err());
    }
}
