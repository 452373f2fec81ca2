//! Files in object stores: S3 on a real server where there is one, HTTP on one of our own.

use crate::files::Files;
use crate::relay::{FileServer, failing_relay};
use crate::world::data;
use millstream::{ErrorKind, Options, StoreOptions};
use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The server that `tests/servers/s3.py` runs: endpoint and keys. Without one the test is skipped, which is
/// printed, and under `MILLSTREAM_REQUIRE_SERVERS=1` a failure.
fn server(test: &str) -> Option<[String; 3]> {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let found = ["MILLSTREAM_S3_ENDPOINT", "MILLSTREAM_S3_KEY", "MILLSTREAM_S3_SECRET"].map(std::env::var);
    if let [Ok(endpoint), Ok(key), Ok(secret)] = found {
        return Some([endpoint, key, secret]);
    }
    let required = std::env::var("MILLSTREAM_REQUIRE_SERVERS").is_ok_and(|v| v == "1");
    assert!(!required, "MILLSTREAM_REQUIRE_SERVERS=1 and MILLSTREAM_S3_ENDPOINT names no server");
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    writeln!(std::io::stderr(), "skipped for want of an S3 server: {test} ({count} so far)").expect("stderr");
    None
}

fn s3(endpoint: &str, key: &str, secret: &str) -> Files {
    let settings =
        [("AWS_ENDPOINT_URL", endpoint), ("AWS_ALLOW_HTTP", "true"), ("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret)];
    stores(StoreOptions { environment: false, max_retries: 4, ..StoreOptions::default() }.with(settings))
}

fn stores(stores: StoreOptions) -> Files {
    Files::with(Options { threads: 2, stores, ..Options::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_is_written_and_read() {
    let Some([endpoint, key, secret]) = server("s3_is_written_and_read") else { return };
    let files = s3(&endpoint, &key, &secret);
    let lineitem = data().join("lineitem.parquet").to_string_lossy().into_owned();
    let sums = "select l_returnflag, count(*) n, sum(l_quantity) q from 'T' group by l_returnflag order by 1";
    let expected = files.rows(&sums.replace('T', &lineitem)).await;
    files.rows(&format!("copy (select * from '{lineitem}') to 's3://lake/tpch/lineitem.parquet'")).await;
    let over_s3 = sums.replace("'T'", "'s3://lake/tpch/lineitem.parquet'");
    assert_eq!(files.rows(&over_s3).await, expected);
    let plan = files.plan(&over_s3).await;
    assert!(plan.contains("StageExec") && !plan.contains("AggregateExec"), "{plan}");
    // A partitioned folder, patterns over it, and pruning.
    let copy = format!(
        "copy (select l_orderkey, l_quantity, l_returnflag, l_linestatus from '{lineitem}') to 's3://lake/parts/' stored as parquet partitioned by (l_returnflag, l_linestatus)"
    );
    let all: u64 = files.rows(&copy).await[0].parse().unwrap();
    let by_flag = "select l_returnflag, count(*) n, sum(l_quantity) q from 's3://lake/parts/' group by l_returnflag order by 1";
    assert_eq!(files.rows(by_flag).await, expected);
    let pattern = "select count(*) from 's3://lake/parts/l_returnflag=*/l_linestatus=*/*.parquet'";
    assert_eq!(files.rows(pattern).await, [all.to_string()]);
    let one = files.rows("select count(*) from 's3://lake/parts/l_returnflag=[AN]/l_linestatus=*/*.parquet'").await;
    assert!(one[0].parse::<u64>().unwrap() < all);
    let plan = files.plan("select sum(l_quantity) from 's3://lake/parts/' where l_returnflag = 'A'").await;
    assert!(plan.contains("l_returnflag=A") && !plan.contains("l_returnflag=N"), "{plan}");
    // Other kinds, and the command of the library.
    for ending in ["csv", "csv.gz", "json", "arrow"] {
        files.rows(&format!("copy (select 1 as a, 'x' as b union all select 2, 'y') to 's3://lake/kinds/t.{ending}'")).await;
        assert_eq!(files.rows(&format!("select sum(a), max(b) from 's3://lake/kinds/t.{ending}'")).await, ["3 | y"], "{ending}");
    }
    assert_eq!(files.session.read("s3://lake/kinds/*.csv").await.unwrap().write("s3://lake/copy/out.parquet").await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_takes_inserts() {
    let Some([endpoint, key, secret]) = server("s3_takes_inserts") else { return };
    let files = s3(&endpoint, &key, &secret);
    files.rows("create external table t (n bigint, y int) stored as parquet partitioned by (y) location 's3://lake/inserts/'").await;
    assert_eq!(files.rows("insert into t values (1, 2023), (2, 2024)").await, ["2"]);
    assert_eq!(files.rows("insert into t select n + 10, y from t").await, ["2"]);
    assert_eq!(files.rows("select y, sum(n) from t group by y order by y").await, ["2023 | 12", "2024 | 14"]);
    // A large file goes up in many parts.
    files.rows("copy (select value as n, value * 7919 % 1000003 * 104729 as h from generate_series(1, 1500000) t(value)) to 's3://lake/large.parquet'").await;
    assert_eq!(files.rows("select count(*), sum(n) from 's3://lake/large.parquet'").await, ["1500000 | 1125000750000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_errors_say_what_to_do() {
    let Some([endpoint, key, secret]) = server("s3_errors_say_what_to_do") else { return };
    let wrong = |e: millstream::Error, parts: &[&str]| {
        let text = e.to_string();
        assert!(parts.iter().all(|p| text.contains(p)), "{text}");
        assert!(!text.contains("<?xml") && !text.contains(&secret), "{text}");
        assert_eq!(e.kind(), ErrorKind::Invalid, "{text}");
    };
    let read = "select * from 's3://lake/tpch/*.parquet'";
    wrong(s3(&endpoint, &key, "wrong").error(read).await, &["SignatureDoesNotMatch"]);
    wrong(s3(&endpoint, "nobody", &secret).error(read).await, &["InvalidAccessKeyId"]);
    let files = s3(&endpoint, &key, &secret);
    wrong(files.error("select * from 's3://nolake/a/*.parquet'").await, &["no such bucket", "nolake"]);
    wrong(files.error("select * from 's3://lake/nothing/here.parquet'").await, &["s3://lake/nothing/here.parquet"]);
    wrong(files.error("copy (select 1 as a) to 's3://nolake/a.parquet'").await, &["NoSuchBucket"]);
    files.rows("copy (select 1 as a, 2 as b) to 's3://lake/bad/a.csv'").await;
    files.rows("copy (select 'x' as a, 2 as b, 3 as c) to 's3://lake/bad/b.csv'").await;
    wrong(files.error("select * from 's3://lake/bad/'").await, &["bad/a.csv", "bad/b.csv", "column 3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_that_fails_for_a_while_is_asked_again() {
    let Some([endpoint, key, secret]) = server("s3_that_fails_for_a_while_is_asked_again") else { return };
    s3(&endpoint, &key, &secret).rows("copy (select 7 as a) to 's3://lake/retries/a.parquet'").await;
    let (relay, failed) = failing_relay(endpoint.trim_start_matches("http://"), 3);
    let files = s3(&relay, &key, &secret);
    assert_eq!(files.rows("select a from 's3://lake/retries/a.parquet'").await, ["7"]);
    assert_eq!(failed.load(Ordering::Relaxed), 3);
    let (relay, _) = failing_relay(endpoint.trim_start_matches("http://"), 1000);
    let error = s3(&relay, &key, &secret).error("select a from 's3://lake/retries/a.parquet'").await;
    assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
    assert!(error.to_string().contains("4 retries"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_an_error_to_retry() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = [("AWS_ENDPOINT_URL", format!("http://{nobody}")), ("AWS_ALLOW_HTTP", "true".into())];
    let keys = [("AWS_ACCESS_KEY_ID", "a".to_string()), ("AWS_SECRET_ACCESS_KEY", "b".into())];
    let all: Vec<(String, String)> = settings.into_iter().chain(keys).map(|(n, v)| (n.to_string(), v)).collect();
    let options = StoreOptions { settings: all, environment: false, max_retries: 1, retry_timeout: Duration::from_secs(5) };
    let error = stores(options).error("select * from 's3://lake/a.parquet'").await;
    assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_credentials_are_said_soon() {
    // The metadata service of a cloud's machine, where credentials would come from, is nobody here.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{nobody}");
    let settings = [("AWS_ENDPOINT_URL", endpoint.as_str()), ("AWS_METADATA_ENDPOINT", &endpoint), ("AWS_ALLOW_HTTP", "true")];
    let files = stores(StoreOptions { environment: false, ..StoreOptions::default() }.with(settings));
    let started = std::time::Instant::now();
    let error = files.error("select * from 's3://lake/a.parquet'").await;
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let text = error.to_string();
    assert!(["s3://lake", "no credentials", "AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE"].iter().all(|p| text.contains(p)), "{text}");
    let error = files.error("select * from 'hdfs://node/a.parquet'").await;
    assert!(error.to_string().contains("hdfs:// is no known store") && error.to_string().contains("s3"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let error = files.error("copy (select 1 as a) to 'nfs://node/a.parquet'").await;
    assert!(error.to_string().contains("nfs:// is no known store"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_is_read() {
    let nation = std::fs::read(data().join("nation.parquet")).unwrap();
    let csv = b"n,s\n1,a\n2,b\n".to_vec();
    let bad = b"n,s\n1,a\n2\n".to_vec();
    let content = [("/d/nation.parquet", nation), ("/a%20b.csv", csv), ("/bad.csv", bad)];
    let content: HashMap<String, Vec<u8>> = content.into_iter().map(|(name, bytes)| (name.to_string(), bytes)).collect();
    let server = FileServer::new(content, 2);
    let files = stores(StoreOptions { environment: false, max_retries: 3, ..StoreOptions::default() });
    let path = format!("{}/d/nation.parquet", server.url);
    assert_eq!(files.rows(&format!("select count(*), max(n_name) from '{path}'")).await, ["25 | VIETNAM"]);
    assert!(server.requests.lock().unwrap().iter().filter(|r| r.starts_with("HEAD")).count() >= 3, "it failed twice");
    assert_eq!(files.rows(&format!("select sum(n), max(s) from '{}/a%20b.csv'", server.url)).await, ["3 | b"]);
    let error = files.error(&format!("select * from '{}/none.parquet'", server.url)).await;
    assert!(error.to_string().contains(&format!("no file {}/none.parquet", server.url)), "{error}");
    let error = files.error(&format!("select * from '{}/bad.csv'", server.url)).await;
    assert!(error.to_string().contains("bad.csv") && error.to_string().contains("line 3 has 1 column"), "{error}");
    let error = files.error(&format!("copy (select 1 as a) to '{}/x.csv'", server.url)).await;
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let error = files.error(&format!("select * from '{}/d/nation.parquet?signed=1'", server.url)).await;
    assert!(error.to_string().contains("query"), "{error}");
}
