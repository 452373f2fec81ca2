//! The example service, over HTTP.

#[path = "../../../engine/session/examples/analytics_service.rs"]
#[allow(dead_code)]
mod analytics_service;

use crate::world::data;
use analytics_service::{made_up_sales, serve};
use millstream::Session;
use millstream_stage::Settings;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

async fn start() -> (SocketAddr, Session) {
    let session = Session::new().unwrap();
    session.register_batches("sales", made_up_sales(10_000).unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (runtime, served) = (tokio::runtime::Handle::current(), session.clone());
    // A plain thread: it serves for ever and must not hold the test's runtime back.
    std::thread::spawn(move || {
        let _entered = runtime.enter();
        serve(listener, served);
    });
    (address, session)
}

fn ask(address: SocketAddr, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    stream
}

/// Status line and body.
fn get(address: SocketAddr, target: &str) -> (String, String) {
    let mut text = String::new();
    ask(address, target).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_string(), body.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_as_json() {
    let (address, _session) = start().await;
    // 10,000 amounts of 0.00 to 9.99, ten times over.
    assert_eq!(get(address, "/total"), ("HTTP/1.1 200 OK".into(), r#"[{"revenue":49950.00,"sales":10000}]"#.into()));
    let (status, top) = get(address, "/top_shops?limit=2");
    assert!(status.contains("200") && top.matches("shop-").count() == 2, "{top}");
    let (_, one) = get(address, "/daily?shop=shop-1&from=2024-01-10&to=2024-01-11");
    assert!(one.matches("2024-01-10").count() == 1 && !one.contains("2024-01-11"), "{one}");
    assert_eq!(get(address, "/daily?shop=shop%2D1&from=2024-01-10&to=2024-01-11").1, one);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_told_why() {
    let (address, _session) = start().await;
    let (status, body) = get(address, "/nothing");
    assert!(status.contains("400") && body.contains("/top_shops"), "{body}");
    assert!(get(address, "/total?from=yesterday").0.contains("400"));
    assert!(get(address, "/top_shops?limit=many").1.contains("limit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_at_once() {
    let (address, _session) = start().await;
    let clients: Vec<_> = (0..16).map(|_| std::thread::spawn(move || get(address, "/total").1)).collect();
    for c in clients {
        assert_eq!(c.join().unwrap(), r#"[{"revenue":49950.00,"sales":10000}]"#);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_cancels_its_query() {
    let (address, session) = start().await;
    let lineitem = data().join("lineitem.parquet");
    session.register("l", &lineitem.to_string_lossy()).await.unwrap();
    // Sales that take for ever to compute: a view over a join of many pairs.
    session.context().deregister_table("sales").unwrap();
    let view = "create view sales as select cast('2024-01-01' as date) as day, a.l_shipmode as shop, b.l_tax as amount \
                from l a join l b on a.l_linenumber = b.l_linenumber";
    session.sql(view).await.unwrap();
    let pool = session.context().copied_config().get_extension::<Settings>().unwrap().pool.clone();
    let client = ask(address, "/total");
    let asked = Instant::now();
    while pool.running() == 0 {
        assert!(asked.elapsed() < Duration::from_secs(10), "never at work");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(pool.running() > 0, "too short to be cancelled");
    drop(client);
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(pool.running(), 0);
}
