//! `millstream bench machine`: what queries get of the machine's memory bandwidth, and of what decompression alone takes.

use super::{folder, one, report};
use crate::Outcome;
use crate::args::{BenchArgs, Common};
use crate::screen::print;
use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::parquet::file::reader::{FileReader, SerializedFileReader};
use millstream::{Session, memory_read_rate};
use millstream_benches::{Query, suite};
use serde_json::json;
use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

pub const NAME: &str = "machine";

/// Rows of the table that is scanned, where it is not said: two columns of 512 MB, far beyond any cache.
const ROWS: u64 = 64 << 20;

/// Half of the values of `y` lie below.
const HALF: i64 = 1 << 61;

const SCAN: Query = query("scan", "select sum(x) from numbers where y < 2305843009213693952");

const SMALL: Query = query("small", "select k, count(*), sum(v) from small where v < 900 group by k order by k");

const fn query(id: &'static str, sql: &'static str) -> Query {
    Query { id, sql, order_by: &[], limit: None, statistics: &[] }
}

/// The columns of TPC-H's query 6.
const Q6_COLUMNS: [&str; 4] = ["l_shipdate", "l_discount", "l_quantity", "l_extendedprice"];

pub async fn run(a: &BenchArgs, common: &Common) -> Outcome {
    let iterations = a.iterations.max(1);
    let (bandwidth, scanned, right) = scan(a.events.unwrap_or(ROWS), common, iterations).await?;
    let gb = |bytes_s: f64| bytes_s / 1e9;
    let per_cent = 100.0 * scanned / bandwidth;
    let threads = common.threads();
    print(&format!("memory read by a sum, {threads} threads           {:>8.1} GB/s\n", gb(bandwidth)))?;
    print(&format!("select sum(x) where y < c, in memory     {:>8.1} GB/s  {per_cent:.0} % of it\n", gb(scanned)))?;
    let small_ms = small(common, iterations).await?;
    print(&format!("group by and sort of 1,000 rows          {small_ms:>8.2} ms    from SQL text to the last row\n"))?;
    let (q6_ms, pages_ms, q6_right) = q6(a, common, iterations).await?;
    let scale = a.scale.unwrap_or(1.0);
    print(&format!("TPC-H q6 at scale {scale}, Parquet            {q6_ms:>8.1} ms\n"))?;
    print(&format!("its columns read and decompressed        {pages_ms:>8.1} ms    q6 takes {:.2} of it\n", q6_ms / pages_ms))?;
    if let Some(file) = &a.json {
        let scan = json!({ "id": "scan", "bandwidth_gb_s": gb(bandwidth), "scanned_gb_s": gb(scanned), "verified": right });
        let small = json!({ "id": "small", "median_ms": small_ms });
        let q6 = json!({ "id": "q6", "median_ms": q6_ms, "decompressed_ms": pages_ms, "verified": q6_right });
        report::write(file, &report::suite(a, scale, common, &[scan, small, q6]))?;
    }
    if right && q6_right { Ok(()) } else { Err("a result was wrong".into()) }
}

/// Bytes a second of a plain sum and of a query, and whether the query's answer is right.
async fn scan(rows: u64, common: &Common, iterations: usize) -> Outcome<(f64, f64, bool)> {
    let rows = usize::try_from(rows)?;
    let session = Session::with_options(common.options()?)?;
    // Any 62 bits: nothing to be narrowed, no order, and half of the rows stay.
    let any = |i: usize| (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (i as u64) << 7;
    let x: Vec<i64> = (0..rows).map(|i| (any(i) >> 30) as i64).collect();
    let y: Vec<i64> = (0..rows).map(|i| (any(i + rows) >> 2) as i64).collect();
    let expected: i64 = x.iter().zip(&y).filter(|(_, y)| **y < HALF).map(|(x, _)| x).sum();
    let batch = RecordBatch::try_from_iter([
        ("x", Arc::new(Int64Array::from(x)) as arrow::array::ArrayRef),
        ("y", Arc::new(Int64Array::from(y)) as arrow::array::ArrayRef),
    ])?;
    session.context().register_batch("numbers", batch.clone())?;
    session.cache("numbers").await?;
    let (mut read, mut scanned, mut right) = (vec![], vec![], true);
    for _ in 0..iterations {
        read.push(memory_read_rate(batch.column(0).as_primitive::<Int64Type>().values(), common.threads()));
        let (batches, _, ms) = one(&SCAN, &session).await?;
        right &= batches.first().is_some_and(|b| b.column(0).as_primitive::<Int64Type>().value(0) == expected);
        scanned.push((2 * rows * 8) as f64 / (ms / 1e3));
    }
    Ok((report::median(&read), report::median(&scanned), right))
}

/// Milliseconds of a query over a thousand rows.
async fn small(common: &Common, iterations: usize) -> Outcome<f64> {
    let session = Session::with_options(common.options()?)?;
    let column = |of: fn(i64) -> i64| Arc::new(Int64Array::from_iter_values((0..1000).map(of))) as arrow::array::ArrayRef;
    let batch = RecordBatch::try_from_iter([("k", column(|i| i % 7)), ("v", column(|i| i))])?;
    session.context().register_batch("small", batch)?;
    session.cache("small").await?;
    let mut ms = vec![];
    for _ in 0..20 * iterations {
        ms.push(one(&SMALL, &session).await?.2);
    }
    Ok(report::median(&ms))
}

/// Milliseconds of query 6 and of reading and decompressing its columns, and whether the query's answer is right.
async fn q6(a: &BenchArgs, common: &Common, iterations: usize) -> Outcome<(f64, f64, bool)> {
    let tpch = suite("tpch").ok_or("no suite tpch")?;
    let query = tpch.query("q6").ok_or("no query q6")?;
    let scale = a.scale.unwrap_or(1.0);
    let dir = folder(tpch, scale, a, common).await?;
    let file = dir.join("lineitem.parquet");
    let session = Session::with_options(common.options()?)?;
    session.register("lineitem", &file.to_string_lossy()).await?;
    let right = match millstream_benches::answer(tpch, scale, query)? {
        Some(expected) => super::verified(query, &session, &expected).await.is_ok(),
        None => true,
    };
    let (mut query_ms, mut pages_ms) = (vec![], vec![]);
    for _ in 0..iterations {
        query_ms.push(one(query, &session).await?.2);
        let started = Instant::now();
        decompress(&file, common.threads())?;
        pages_ms.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok((report::median(&query_ms), report::median(&pages_ms), right))
}

/// Reads and decompresses every page of the columns of query 6, row groups side by side.
fn decompress(file: &Path, threads: usize) -> Outcome {
    let next = AtomicUsize::new(0);
    let work = || -> Result<usize, String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let reader = SerializedFileReader::new(File::open(file).map_err(|e| text(&e))?).map_err(|e| text(&e))?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let columns: Vec<usize> = (0..schema.num_columns()).filter(|c| Q6_COLUMNS.contains(&schema.column(*c).name())).collect();
        let mut bytes = 0;
        loop {
            let group = next.fetch_add(1, Ordering::Relaxed);
            if group >= reader.num_row_groups() {
                return Ok(bytes);
            }
            let group = reader.get_row_group(group).map_err(|e| text(&e))?;
            for c in &columns {
                let mut pages = group.get_column_page_reader(*c).map_err(|e| text(&e))?;
                while let Some(page) = pages.get_next_page().map_err(|e| text(&e))? {
                    bytes += black_box(page).buffer().len();
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|w| w.join().map_err(|_| "a reader panicked".to_string())?.map(|_| ()))
    })?;
    Ok(())
}
