//! A small HTTP service: a table of sales, three parameterised queries, answers as JSON.
//!
//! ```text
//! cargo run --release --example analytics_service -p millstream -- 127.0.0.1:8080 sales.parquet
//! curl '127.0.0.1:8080/top_shops?from=2024-01-10&to=2024-02-01&limit=3'
//! curl '127.0.0.1:8080/daily?shop=shop-7'
//! curl '127.0.0.1:8080/total'
//! ```
//!
//! Without a file it serves sales that it makes up. Parameters are values in expressions, never text in
//! SQL. Requests run at the same time on one session; a client that hangs up cancels its query.

#![expect(clippy::disallowed_methods, reason = "a program reads its arguments")]

use arrow::array::{ArrayRef, Date32Array, Decimal128Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use millstream::{Error, ErrorKind, Result, Session, Table, asc, cast, col, count, desc, lit, sum};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

const REQUESTS_MAX: usize = 64;
const REQUEST_BYTES_MAX: usize = 8 * 1024;
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let listener = TcpListener::bind(args.next().as_deref().unwrap_or("127.0.0.1:8080"))?;
    let session = Session::new()?;
    match args.next() {
        Some(file) => session.register("sales", &file).await?,
        None => session.register_batches("sales", made_up_sales(1_000_000)?)?,
    }
    println!("http://{}/total", listener.local_addr()?);
    tokio::task::spawn_blocking(move || serve(listener, session)).await?;
    Ok(())
}

/// The query behind a path. `sales` has the columns `day` (date), `shop` (text) and `amount` (decimal).
fn query(session: &Session, path: &str, parameters: &HashMap<String, String>) -> Result<Table> {
    let mut sales = session.table("sales")?;
    let text = |name: &str| parameters.get(name).map(String::as_str);
    let date = |d: &str| cast(lit(d), DataType::Date32);
    if let Some(from) = text("from") {
        sales = sales.filter(col("day").gt_eq(date(from)))?;
    }
    if let Some(to) = text("to") {
        sales = sales.filter(col("day").lt(date(to)))?;
    }
    if let Some(shop) = text("shop") {
        sales = sales.filter(col("shop").eq(lit(shop)))?;
    }
    let revenue = [sum(col("amount")).alias("revenue"), count(lit(1)).alias("sales")];
    let rows = text("limit").unwrap_or("10").parse().map_err(|_| invalid("limit is no number"))?;
    match path {
        "/total" => sales.group_by([], revenue),
        "/daily" => sales.group_by([col("day")], revenue)?.sort([asc(col("day"))]),
        "/top_shops" => sales.group_by([col("shop")], revenue)?.sort([desc(col("revenue")), asc(col("shop"))])?.limit(rows),
        _ => Err(invalid("no such query: there are /total, /daily and /top_shops")),
    }
}

/// Answers requests until the process ends, each on a thread of its own. Call it where tokio runs.
pub fn serve(listener: TcpListener, session: Session) {
    let (runtime, free) = (Handle::current(), Arc::new(Semaphore::new(REQUESTS_MAX)));
    for client in listener.incoming().flatten() {
        let (session, runtime, permit) = (session.clone(), runtime.clone(), Arc::clone(&free).try_acquire_owned());
        std::thread::spawn(move || {
            // The client may be gone: then there is nobody to tell.
            let _ = match permit {
                Ok(_held) => answer(client, &session, &runtime),
                Err(_) => respond(client, "503 Service Unavailable", b"{\"error\":\"too many requests\"}"),
            };
        });
    }
}

fn answer(mut client: TcpStream, session: &Session, runtime: &Handle) -> std::io::Result<()> {
    client.set_read_timeout(Some(CLIENT_PATIENCE))?;
    let mut request = vec![];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        let mut part = [0; 1024];
        let n = client.read(&mut part)?;
        request.extend_from_slice(&part[..n]);
        if n == 0 || request.len() > REQUEST_BYTES_MAX {
            return respond(client, "400 Bad Request", b"{\"error\":\"no request\"}");
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let target = request.split_whitespace().nth(1).unwrap_or("/");
    let (path, parameters) = target.split_once('?').unwrap_or((target, ""));
    let parameters = parameters.split('&').filter_map(|p| p.split_once('=')).map(|(k, v)| (k.to_string(), decoded(v))).collect();
    let rows = async { query(session, path, &parameters)?.collect().await };
    let outcome = runtime.block_on(async {
        tokio::select! {
            rows = rows => Some(rows),
            () = hung_up(&client) => None,
        }
    });
    match outcome {
        // Dropping the query has cancelled it.
        None => Ok(()),
        Some(Ok(rows)) => respond(client, "200 OK", &json(&rows).map_err(std::io::Error::other)?),
        Some(Err(e)) => {
            let status = if e.kind() == ErrorKind::Invalid { "400 Bad Request" } else { "500 Internal Server Error" };
            let message = e.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ");
            respond(client, status, format!("{{\"error\":\"{message}\"}}").as_bytes())
        }
    }
}

/// Returns when the client has closed its end.
async fn hung_up(client: &TcpStream) {
    let _ = client.set_nonblocking(true);
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        match client.peek(&mut [0]) {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(n) if n > 0 => {}
            _ => return,
        }
    }
}

fn respond(mut client: TcpStream, status: &str, body: &[u8]) -> std::io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_write_timeout(Some(CLIENT_PATIENCE))?;
    let length = body.len();
    write!(client, "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    client.write_all(body)
}

fn json(rows: &[RecordBatch]) -> std::result::Result<Vec<u8>, arrow::error::ArrowError> {
    let mut writer = arrow::json::ArrayWriter::new(vec![]);
    rows.iter().try_for_each(|batch| writer.write(batch))?;
    writer.finish()?;
    Ok(writer.into_inner())
}

/// `%20` and `+` as the characters they stand for.
fn decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), vec![], 0);
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|h| u8::from_str_radix(h, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

/// `rows` sales of 100 shops over the first 100 days of 2024, in batches.
pub fn made_up_sales(rows: usize) -> Result<Vec<RecordBatch>> {
    const FIRST_DAY: i32 = 19_723;
    let batch = |from: usize, to: usize| {
        let day: ArrayRef = Arc::new(Date32Array::from_iter_values((from..to).map(|i| FIRST_DAY + (i % 100) as i32)));
        let shop: ArrayRef = Arc::new(StringArray::from_iter_values((from..to).map(|i| format!("shop-{}", i / 100 % 100))));
        let amount = Decimal128Array::from_iter_values((from..to).map(|i| (i % 1_000) as i128)).with_precision_and_scale(12, 2)?;
        RecordBatch::try_from_iter([("day", day), ("shop", shop), ("amount", Arc::new(amount) as ArrayRef)])
    };
    let parts = (0..rows).step_by(64 * 1024).map(|from| batch(from, rows.min(from + 64 * 1024)));
    parts.collect::<std::result::Result<_, _>>().map_err(|e| Error::new(ErrorKind::Bug, e))
}
