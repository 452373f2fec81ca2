//! The rows of the Star Schema Benchmark: always the same, of one piece, and spread as its queries expect.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;

const SCALE: f64 = 0.01;

fn whole(table: &str, scale: f64) -> RecordBatch {
    let batches = batches(table, scale, SEED, 8_192).unwrap();
    concat_batches(&batches.schema(), &batches.collect::<Vec<_>>()).unwrap()
}

fn ints(batch: &RecordBatch, column: &str) -> Vec<i32> {
    batch.column_by_name(column).unwrap().as_primitive::<Int32Type>().values().to_vec()
}

fn longs(batch: &RecordBatch, column: &str) -> Vec<i64> {
    batch.column_by_name(column).unwrap().as_primitive::<Int64Type>().values().to_vec()
}

fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    batch.column_by_name(column).unwrap().as_string_view().iter().map(|text| text.unwrap().to_string()).collect()
}

/// The values are `kinds` different ones, equally frequent but for chance.
fn assert_even<T: std::hash::Hash + Eq>(values: impl IntoIterator<Item = T>, kinds: usize, what: &str) {
    let mut counts: HashMap<T, f64> = HashMap::new();
    values.into_iter().for_each(|value| *counts.entry(value).or_insert(0.0) += 1.0);
    assert_eq!(counts.len(), kinds, "{what}");
    // Chi squared has mean k - 1 and variance 2(k - 1); five standard deviations.
    let (each, free) = (counts.values().sum::<f64>() / kinds as f64, kinds as f64 - 1.0);
    let chi: f64 = counts.values().map(|count| (count - each).powi(2) / each).sum();
    assert!((chi - free).abs() < 5.0 * (2.0 * free).sqrt(), "{what}: {chi} for {free}");
}

#[test]
fn every_table_has_its_rows_and_columns() {
    let of = |scale: f64| TABLES.map(|table| rows(table, scale).unwrap());
    assert_eq!(of(SCALE), [2_500, 2_556, 60_000, 2_000, 250]);
    assert_eq!(of(0.1), [3_000, 2_556, 600_000, 20_000, 250]);
    assert_eq!(of(1.0), [30_000, 2_556, 6_000_000, 200_000, 2_000]);
    assert_eq!(of(2.0), [60_000, 2_556, 12_000_000, 400_000, 4_000]);
    assert_eq!(of(10.0), [300_000, 2_556, 60_000_000, 800_000, 20_000]);
    let names = |table: &str| schema(table).unwrap().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>().join(" ");
    assert_eq!(names("customer"), "c_custkey c_name c_address c_city c_nation c_region c_phone c_mktsegment");
    assert_eq!(names("supplier"), "s_suppkey s_name s_address s_city s_nation s_region s_phone");
    assert_eq!(names("part"), "p_partkey p_name p_mfgr p_category p_brand1 p_color p_type p_size p_container");
    assert_eq!(
        names("lineorder"),
        "lo_orderkey lo_linenumber lo_custkey lo_partkey lo_suppkey lo_orderdate lo_orderpriority lo_shippriority lo_quantity \
         lo_extendedprice lo_ordtotalprice lo_discount lo_revenue lo_supplycost lo_tax lo_commitdate lo_shipmode"
    );
    assert_eq!(
        names("date"),
        "d_datekey d_date d_dayofweek d_month d_year d_yearmonthnum d_yearmonth d_daynuminweek d_daynuminmonth d_daynuminyear \
         d_monthnuminyear d_weeknuminyear d_sellingseason d_lastdayinweekfl d_lastdayinmonthfl d_holidayfl d_weekdayfl"
    );
    for table in TABLES {
        let batch = whole(table, SCALE);
        assert_eq!(batch.num_rows() as u64, rows(table, SCALE).unwrap(), "{table}");
        assert_eq!(batch.schema(), schema(table).unwrap(), "{table}");
        for field in batch.schema().fields() {
            let known = [DataType::Int32, DataType::Int64, DataType::Utf8View].contains(field.data_type());
            assert!(!field.is_nullable() && known, "{field}");
        }
    }
}

#[test]
fn the_rows_depend_on_the_seed_and_not_on_batches_or_ranges() {
    for table in TABLES {
        let expected = whole(table, SCALE);
        let count = rows(table, SCALE).unwrap();
        let cuts = [0, count / 3, count / 2 + 1, count];
        let pieces = cuts.windows(2).flat_map(|cut| range_batches(table, SCALE, SEED, cut[0]..cut[1], 777).unwrap());
        assert_eq!(concat_batches(&expected.schema(), &pieces.collect::<Vec<_>>()).unwrap(), expected, "{table}");
        let other = batches(table, SCALE, SEED + 1, count as usize).unwrap().next().unwrap();
        for (column, field) in expected.schema().fields().iter().enumerate() {
            let name = field.name().as_str();
            let fixed = table == "date" || ["c_custkey", "c_name", "s_suppkey", "s_name", "p_partkey", "lo_shippriority"].contains(&name);
            assert_eq!(other.column(column) == expected.column(column), fixed, "{name}");
        }
    }
}

/// A change of these rows needs another [`GENERATOR`], and other answers.
#[test]
fn the_first_rows_are_as_they_were() {
    let shown = |table: &str| {
        let first = batches(table, SCALE, SEED, 2).unwrap().next().unwrap();
        let text = arrow::util::pretty::pretty_format_batches(&[first]).unwrap().to_string();
        let trimmed = |line: &str| line.split('|').map(str::trim).collect::<Vec<_>>().join("|");
        text.lines().skip(3).take(2).map(trimmed).collect::<Vec<_>>()
    };
    assert_eq!(
        shown("customer"),
        [
            "|1|Customer#000000001|jny8Xy6B8wKka0Yk0vpes|SAUDI ARA4|SAUDI ARABIA|MIDDLE EAST|30-638-712-4142|AUTOMOBILE|",
            "|2|Customer#000000002|xGyqbpVPzmM5fQW,rrO9TN|IRAN     9|IRAN|MIDDLE EAST|20-190-437-6233|FURNITURE|"
        ]
    );
    assert_eq!(
        shown("supplier"),
        [
            "|1|Supplier#000000001|2KF7SJS7F4klmiHy6CKvx1Vu|RUSSIA   7|RUSSIA|EUROPE|32-874-893-3512|",
            "|2|Supplier#000000002|tS8W4n7WO78ic0Q2|ETHIOPIA 8|ETHIOPIA|AFRICA|15-985-920-3486|"
        ]
    );
    assert_eq!(
        shown("part"),
        [
            "|1|sienna hot|MFGR#4|MFGR#44|MFGR#4423|pale|SMALL BURNISHED TIN|22|JUMBO CASE|",
            "|2|chartreuse chocolate|MFGR#3|MFGR#35|MFGR#3525|dark|LARGE PLATED TIN|18|SM DRUM|"
        ]
    );
    assert_eq!(
        shown("lineorder"),
        [
            "|1|1|1444|1614|59|19950331|3-MEDIUM|0|34|5153074|15152528|2|5050012|90936|5|19950513|AIR|",
            "|1|2|1444|747|117|19950331|3-MEDIUM|0|22|3625028|15152528|3|3516277|98864|6|19950501|SHIP|"
        ]
    );
    assert_eq!(
        shown("date"),
        [
            "|19920101|January 1, 1992|Wednesday|January|1992|199201|Jan1992|4|1|1|1|1|Winter|0|0|1|1|",
            "|19920102|January 2, 1992|Thursday|January|1992|199201|Jan1992|5|2|2|1|1|Winter|0|0|0|1|"
        ]
    );
}

#[test]
fn dates_are_those_of_the_calendar() {
    let date = whole("date", SCALE);
    let keys = ints(&date, "d_datekey");
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!((keys[0], *keys.last().unwrap()), (19_920_101, 19_981_230));
    let flagged = |column: &str| ints(&date, column).iter().filter(|flag| **flag == 1).count();
    let count = |column: &str, value: i32| ints(&date, column).iter().filter(|v| **v == value).count();
    assert_eq!([1992, 1993, 1994, 1995, 1996, 1997, 1998].map(|year| count("d_year", year)), [366, 365, 365, 365, 366, 365, 364]);
    assert_eq!([199_202, 199_302, 199_602, 199_712, 199_812].map(|month| count("d_yearmonthnum", month)), [29, 28, 29, 31, 30]);
    assert_eq!((flagged("d_lastdayinmonthfl"), flagged("d_holidayfl")), (83, 70), "the last month lacks its last day");
    assert_eq!((flagged("d_lastdayinweekfl"), flagged("d_weekdayfl")), (365, 1_826));
    // 1994-02-04 to 1994-02-10, as q1.3 reads them.
    let of_week: Vec<i32> = keys
        .iter()
        .zip(ints(&date, "d_weeknuminyear"))
        .filter(|(key, week)| **key / 10_000 == 1994 && *week == 6)
        .map(|(key, _)| *key)
        .collect();
    assert_eq!((of_week.len(), of_week[0], of_week[6]), (7, 19_940_204, 19_940_210));
    assert_eq!(ints(&date, "d_weeknuminyear").iter().max(), Some(&53));
    let row = |key: i32| {
        let at = keys.iter().position(|k| *k == key).unwrap();
        ["d_date", "d_dayofweek", "d_yearmonth", "d_sellingseason"].map(|column| texts(&date, column)[at].clone()).join("|")
    };
    assert_eq!(row(19_960_229), "February 29, 1996|Thursday|Feb1996|Winter");
    assert_eq!(row(19_971_225), "December 25, 1997|Thursday|Dec1997|Christmas");
    assert_eq!(row(19_980_830), "August 30, 1998|Sunday|Aug1998|Summer");
}

#[test]
fn places_and_brands_are_hierarchies_and_even() {
    for (table, c, scale) in [("customer", 'c', 1.0), ("supplier", 's', 10.0)] {
        let batch = whole(table, scale);
        let of = |column: &str| texts(&batch, &format!("{c}_{column}"));
        let (city, nation, region, phone) = (of("city"), of("nation"), of("region"), of("phone"));
        assert_even(&city, 250, table);
        assert_even(&nation, 25, table);
        let regions: HashMap<&String, &String> = nation.iter().zip(&region).collect();
        assert_eq!(region.iter().collect::<HashSet<_>>().len(), 5);
        assert_eq!(
            ["PERU", "CHINA", "UNITED KINGDOM", "IRAN", "KENYA"].map(|n| regions[&n.to_string()].as_str()),
            ["AMERICA", "ASIA", "EUROPE", "MIDDLE EAST", "AFRICA"]
        );
        for row in 0..batch.num_rows() {
            assert_eq!(city[row][..9].trim_end(), nation[row][..nation[row].len().min(9)].trim_end(), "{table} {row}");
            assert_eq!(regions[&nation[row]], &region[row], "{table} {row}");
            assert_eq!((city[row].len(), phone[row].len()), (10, 15), "{table} {row}");
        }
        assert!(city.contains(&"UNITED KI1".to_string()) && city.contains(&"PERU     7".to_string()));
        assert!(of("address").iter().all(|address| (6..25).contains(&address.len())));
    }
    assert_even(texts(&whole("customer", 1.0), "c_mktsegment"), 5, "segments");

    let part = whole("part", 1.0);
    let (mfgr, category, brand) = (texts(&part, "p_mfgr"), texts(&part, "p_category"), texts(&part, "p_brand1"));
    assert_even(&mfgr, 5, "manufacturers");
    assert_even(&category, 25, "categories");
    assert_even(&brand, 1_000, "brands");
    assert_even(texts(&part, "p_color"), 92, "colours");
    assert_even(texts(&part, "p_type"), 150, "types");
    assert_even(texts(&part, "p_container"), 40, "containers");
    assert_even(ints(&part, "p_size"), 50, "sizes");
    // q2.2: eight brands between these two.
    assert_eq!(brand.iter().filter(|b| ("MFGR#2221"..="MFGR#2228").contains(&b.as_str())).collect::<HashSet<_>>().len(), 8);
    let (name, color) = (texts(&part, "p_name"), texts(&part, "p_color"));
    assert_even(name.iter().flat_map(|name| name.split(' ')), 92, "words");
    for row in 0..part.num_rows() {
        assert!(category[row].starts_with(&mfgr[row]) && brand[row].starts_with(&category[row]), "{row}");
        let (first, second) = name[row].split_once(' ').unwrap();
        assert!(first != second && first != color[row] && second != color[row], "{row}: {} {}", color[row], name[row]);
    }
}

#[test]
fn orders_are_of_one_piece_and_refer_to_rows_that_exist() {
    let lineorder = whole("lineorder", SCALE);
    let column = |name: &str| ints(&lineorder, name);
    let [keys, total, price, revenue, cost] =
        ["lo_orderkey", "lo_ordtotalprice", "lo_extendedprice", "lo_revenue", "lo_supplycost"].map(|name| longs(&lineorder, name));
    let [line, customer, day] = ["lo_linenumber", "lo_custkey", "lo_orderdate"].map(column);
    let priority = texts(&lineorder, "lo_orderpriority");
    let [part, discount, tax, quantity] = ["lo_partkey", "lo_discount", "lo_tax", "lo_quantity"].map(column);
    let calendar = ints(&whole("date", SCALE), "d_datekey");
    let days: Vec<usize> = day.iter().map(|key| calendar.binary_search(key).unwrap()).collect();
    let commit: Vec<usize> = column("lo_commitdate").iter().map(|key| calendar.binary_search(key).unwrap()).collect();
    assert!(customer.iter().all(|key| (1..=2_500).contains(key) && key % 3 != 0));
    assert!(part.iter().all(|key| (1..=2_000).contains(key)));
    assert!(column("lo_suppkey").iter().all(|key| (1..=250).contains(key)));
    for row in 0..keys.len() {
        let piece = i64::from(90_000 + part[row] / 10 % 20_001 + part[row] % 1_000 * 100);
        assert_eq!(price[row], piece * i64::from(quantity[row]), "{row}");
        assert_eq!(revenue[row], price[row] * i64::from(100 - discount[row]) / 100, "{row}");
        assert_eq!(cost[row], piece * 6 / 10, "{row}");
        assert!((days[row] + 30..=days[row] + 90).contains(&commit[row]), "{row}");
    }
    let mut lengths = vec![];
    let mut first = 0;
    for (number, end) in (1..=keys.len()).filter(|end| *end == keys.len() || keys[*end] != keys[*end - 1]).enumerate() {
        let number = number as i64 + 1;
        assert_eq!(keys[first], (number >> 3 << 5) | (number & 7));
        assert!(line[first..end].iter().copied().eq(1..=(end - first) as i32), "{number}");
        let taxed = |row: usize| revenue[row] * i64::from(100 + tax[row]) / 100;
        let sum: i64 = (first..end).map(taxed).sum();
        for row in first..end {
            assert!(customer[row] == customer[first] && day[row] == day[first] && priority[row] == priority[first], "{number}");
            assert_eq!(total[row], sum, "{number}");
        }
        lengths.push(end - first);
        first = end;
    }
    // Each length once in seven orders; the table ends in such a block.
    let blocks: Vec<&[usize]> = lengths.chunks(7).take(60_000 / 28).collect();
    assert_eq!(blocks.concat().iter().sum::<usize>(), 60_000 / 28 * 28);
    for block in &blocks {
        let mut sorted = block.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, [1, 2, 3, 4, 5, 6, 7]);
    }
    assert_even(blocks.iter().map(|block| block[0]), 7, "first lengths");
    // Of 5,040 orders of seven lengths 2,142 draws see 1,745 on average.
    let kinds: HashSet<&[usize]> = blocks.into_iter().collect();
    assert!((1_650..1_850).contains(&kinds.len()), "{}", kinds.len());
}

#[test]
fn values_of_orders_are_even_and_independent() {
    let scale = 0.1;
    let lineorder = whole("lineorder", scale);
    let first: Vec<bool> = ints(&lineorder, "lo_linenumber").iter().map(|line| *line == 1).collect();
    // Once an order, or else lines of the same one would count as draws of their own.
    let of_orders = |values: Vec<i32>| values.into_iter().zip(&first).filter(|(_, first)| **first).map(|(value, _)| value);
    assert_even(of_orders(ints(&lineorder, "lo_orderdate")), 2_406, "days");
    assert_even(of_orders(ints(&lineorder, "lo_custkey")), 2_000, "customers");
    assert_even(
        texts(&lineorder, "lo_orderpriority").into_iter().zip(&first).filter(|(_, first)| **first).map(|(p, _)| p),
        5,
        "priorities",
    );
    let kinds = [("lo_quantity", 50), ("lo_discount", 11), ("lo_tax", 9), ("lo_suppkey", 250), ("lo_partkey", 20_000)];
    for (column, kinds) in kinds {
        assert_even(ints(&lineorder, column), kinds, column);
    }
    assert_even(texts(&lineorder, "lo_shipmode"), 7, "modes");

    // What queries select is the product of what each of their conditions selects.
    let rows = lineorder.num_rows();
    let share = |keys: &[bool]| keys.iter().filter(|k| **k).count() as f64 / keys.len() as f64;
    let marked =
        |table: &str, column: &str, value: &str| -> Vec<bool> { texts(&whole(table, scale), column).iter().map(|t| t == value).collect() };
    let [customer, supplier, part] = ["lo_custkey", "lo_suppkey", "lo_partkey"].map(|column| ints(&lineorder, column));
    let (asian, buyers) = (marked("customer", "c_region", "ASIA"), marked("supplier", "s_region", "ASIA"));
    let category = marked("part", "p_category", "MFGR#12");
    let with_orders: Vec<bool> = asian.iter().enumerate().filter(|(i, _)| (i + 1) % 3 != 0).map(|(_, is)| *is).collect();
    let [quantity, discount, day] = ["lo_quantity", "lo_discount", "lo_orderdate"].map(|column| ints(&lineorder, column));
    let check = |what: &str, expected: f64, selects: &dyn Fn(usize) -> bool| {
        let found = (0..rows).filter(|row| selects(*row)).count() as f64;
        let mean = expected * rows as f64;
        // Lines of an order share its day and customer: at most five times the variance of independent rows.
        assert!((found - mean).abs() < 5.0 * (5.0 * mean).sqrt(), "{what}: {found} of {mean}");
    };
    let q1 = 365.0 / 2_406.0 * 3.0 / 11.0 * 24.0 / 50.0;
    check("q1.1", q1, &|row| day[row] / 10_000 == 1993 && (1..=3).contains(&discount[row]) && quantity[row] < 25);
    let at = |keys: &[bool], key: i32| keys[key as usize - 1];
    check("q2.1", share(&category) * share(&buyers), &|row| at(&category, part[row]) && at(&buyers, supplier[row]));
    check("q3.1", share(&with_orders) * share(&buyers), &|row| at(&asian, customer[row]) && at(&buyers, supplier[row]));
}

#[test]
fn keys_of_the_largest_scale_fit() {
    let last = rows("lineorder", SCALE_MAX).unwrap();
    let batch = range_batches("lineorder", SCALE_MAX, SEED, last - 10_000..last, 10_000).unwrap().next().unwrap();
    let keys = longs(&batch, "lo_orderkey");
    assert!(keys.iter().all(|key| (5_999_900_000..=6_000_000_000).contains(key)), "{keys:?}");
    for column in ["lo_custkey", "lo_partkey", "lo_suppkey"] {
        assert!(ints(&batch, column).iter().all(|value| *value > 0), "{column}");
    }
}

#[test]
fn parquet_files_are_the_same_each_time_and_hold_the_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    write_parquet(&first, SCALE, SEED, &mut |_| {}).unwrap();
    write_parquet(&second, SCALE, SEED, &mut |_| {}).unwrap();
    assert!(is_complete(&first, SCALE, SEED));
    assert!(!is_complete(&first, 0.02, SEED) && !is_complete(&first, SCALE, 0) && !is_complete_as(&first, SCALE, SEED, Format::Csv));
    for name in fs::read_dir(&first).unwrap().map(|entry| entry.unwrap().file_name()) {
        assert_eq!(fs::read(first.join(&name)).unwrap(), fs::read(second.join(&name)).unwrap(), "{name:?}");
    }
    for table in TABLES {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file(&first, table, Format::Parquet)).unwrap());
        let read: Vec<_> = reader.unwrap().build().unwrap().map(|batch| batch.unwrap()).collect();
        let expected = whole(table, SCALE);
        assert_eq!(concat_batches(&expected.schema(), &read).unwrap(), expected, "{table}");
    }
}

#[test]
fn csv_and_json_hold_the_rows_as_text() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), SCALE_MIN, SEED, Format::Csv, &mut |_| {}).unwrap();
    write(dir.path(), SCALE_MIN, SEED, Format::Json, &mut |_| {}).unwrap();
    let lines = |table: &str, format: Format| -> Vec<String> {
        let file = File::open(file(dir.path(), table, format)).unwrap();
        BufReader::new(file).lines().map(|line| line.unwrap()).collect()
    };
    for table in TABLES {
        let rows = rows(table, SCALE_MIN).unwrap();
        assert_eq!(lines(table, Format::Csv).len() as u64, rows + 1, "{table}");
        assert_eq!(lines(table, Format::Json).len() as u64, rows, "{table}");
    }
    assert_eq!(
        lines("date", Format::Csv)[1],
        "19920101,\"January 1, 1992\",Wednesday,January,1992,199201,Jan1992,4,1,1,1,1,Winter,0,0,1,1"
    );
    let json = &lines("date", Format::Json)[0];
    assert!(json.starts_with("{\"d_datekey\":19920101,\"d_date\":\"January 1, 1992\",\"d_dayofweek\":\"Wednesday\","), "{json}");
}

#[test]
fn bad_arguments_are_refused_by_name() {
    let message = |result: Result<Batches>| match result {
        Err(Error::Invalid(message)) => message,
        _ => panic!("not refused as invalid"),
    };
    assert!(message(batches("dates", 1.0, SEED, 1)).contains("`dates`"));
    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY, 0.0001, 1e4] {
        assert!(message(batches("date", scale, SEED, 1)).contains(&scale.to_string()));
    }
    assert!(message(batches("date", 1.0, SEED, 0)).contains("at least one row"));
    assert!(message(range_batches("date", 1.0, SEED, 0..2_557, 1)).contains("2556 rows"));
    assert!(rows("orders", 1.0).is_err() && schema("").is_err());
}
