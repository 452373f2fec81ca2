//! Damaged, odd and enormous files: an error that says where, or the right rows; never a panic.

use crate::files::Files;
use millstream::ErrorKind;
use std::fmt::Write as _;

/// The error of a statement says all of this.
async fn says(files: &Files, sql: &str, kind: ErrorKind, parts: &[&str]) {
    let error = files.error(sql).await;
    let text = error.to_string();
    assert!(parts.iter().all(|p| text.contains(p)), "{sql}: {text}");
    assert_eq!(error.kind(), kind, "{sql}: {text}");
    assert!(!text.contains("Execution error") && !text.contains("External error"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_row_of_the_wrong_shape_is_named() {
    let files = Files::new();
    files.write("few.csv", "a,b\n1,x\n\n\"2\n\",y\n3\n");
    says(&files, "select * from '{}/few.csv'", ErrorKind::Invalid, &["/few.csv", "line 6 has 1 column, not 2"]).await;
    files.write("many.csv", "a,b\n1,x\n2,y,z\n");
    says(&files, "select * from '{}/many.csv'", ErrorKind::Invalid, &["/many.csv", "line 3 has 3 columns, not 2"]).await;
    // Beyond the rows that are looked at, in the last part of a large file.
    let good = format!("a,b\n{}", "12345678,abcdefgh\n".repeat(1 << 20));
    files.write("late.csv", format!("{good}1,2,3\n{}", "1,2\n".repeat(100)));
    assert!(files.plan("select sum(a) from '{}/late.csv'").await.contains("2 groups"));
    says(&files, "select sum(a) from '{}/late.csv'", ErrorKind::Invalid, &["/late.csv", "line 1048578 has 3 columns, not 2"]).await;
    files.write("late.csv.gz", []);
    files.rows("copy (select 1 as a, 2 as b) to '{}/ok.csv.gz'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_value_is_named() {
    let files = Files::new();
    files.write("t.csv", "n,price,day\n1,1.50,2024-01-01\n2,1.5x,2024-01-02\n3,1,2024-13-01\n");
    let create = |name: &str, types: &str| format!("create external table {name} ({types}) stored as csv location '{{}}/t.csv'");
    files.rows(&create("d", "n int, price decimal(10, 2), day varchar")).await;
    says(&files, "select sum(price) from d", ErrorKind::Invalid, &["/t.csv", "line 3", "column price", "'1.5x'", "Decimal128(10, 2)"])
        .await;
    assert_eq!(files.rows("select sum(n) from d").await, ["6"], "a column that is not read cannot fail");
    files.rows(&create("f", "n int, price double, day varchar")).await;
    says(&files, "select sum(price) from f", ErrorKind::Invalid, &["line 3", "column price", "'1.5x'", "Float64"]).await;
    files.rows(&create("e", "n int, price varchar, day date")).await;
    says(&files, "select max(day) from e", ErrorKind::Invalid, &["line 4", "column day", "'2024-13-01'", "Date32"]).await;
    files.rows(&create("g", "n int, price varchar, day timestamp")).await;
    says(&files, "select max(day) from g", ErrorKind::Invalid, &["line 4", "column day", "'2024-13-01'", "Timestamp"]).await;
    // A type that was found out from the first rows.
    files.write("late.csv", format!("n\n{}x7\n", "1\n".repeat(10_000)));
    let parts = ["line 10002, column n: 'x7' is no Int64", "schema_infer_max_rec"];
    says(&files, "select sum(n) from '{}/late.csv'", ErrorKind::Invalid, &parts).await;
    files.rows("create external table h stored as csv location '{}/late.csv' options (schema_infer_max_rec '20000')").await;
    assert_eq!(files.rows("select count(n) from h").await, ["10001"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_value_in_json_is_named() {
    let files = Files::new();
    files.write("v.json", format!("{}{{\"n\":\"x\"}}\n", "{\"n\":1}\n".repeat(10_000)));
    says(&files, "select sum(n) from '{}/v.json'", ErrorKind::Invalid, &["/v.json", "line 10001", "'n'", "\"x\"", "Int64"]).await;
    files.write("s.json", "{\"n\":1}\n{\"n\":2\n{\"n\":3}\n");
    says(&files, "select * from '{}/s.json'", ErrorKind::Invalid, &["/s.json", "line 3"]).await;
    files.write("late.json", format!("{}{{\"n\" 2}}\n", "{\"n\":1}\n".repeat(10_000)));
    says(&files, "select * from '{}/late.json'", ErrorKind::Invalid, &["/late.json", "line 10001"]).await;
    files.write("cut.json", "{\"n\":1}\n{\"n\":2");
    says(&files, "select * from '{}/cut.json'", ErrorKind::Invalid, &["/cut.json", "line 2"]).await;
    files.write("object.json", "3\n");
    says(&files, "select * from '{}/object.json'", ErrorKind::Invalid, &["/object.json"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_named() {
    let files = Files::new();
    let rows = "select value as n, 'row ' || value as s from generate_series(1, 200000) t(value)";
    for ending in ["csv.gz", "csv.bz2", "csv.xz", "csv.zst", "json.gz", "parquet", "arrow"] {
        files.rows(&format!("copy ({rows}) to '{{}}/x.{ending}'")).await;
        let bytes = std::fs::read(files.path(&format!("x.{ending}"))).unwrap();
        files.write(&format!("cut.{ending}"), &bytes[..bytes.len() / 2]);
        let mut bad = bytes.clone();
        let middle = bad.len() / 2;
        bad[middle..middle + 64].fill(0xA5);
        files.write(&format!("bad.{ending}"), &bad);
        for name in ["cut", "bad"] {
            let sql = format!("select sum(n), max(s) from '{{}}/{name}.{ending}'");
            // Arrow and Parquet carry no checksum: changed values can be values too.
            if name == "bad" && ["parquet", "arrow"].contains(&ending) {
                let text = files.session.sql(&sql.replace("{}", &files.dir.path().to_string_lossy())).await;
                let text = match text {
                    Ok(table) => table.collect().await.map(|_| String::new()).unwrap_or_else(|e| e.to_string()),
                    Err(e) => e.to_string(),
                };
                assert!(text.is_empty() || text.contains(&format!("bad.{ending}")), "{text}");
                continue;
            }
            let error = files.error(&sql).await;
            assert!(error.to_string().contains(&format!("{name}.{ending}")), "{error}");
            assert!([ErrorKind::Corrupt, ErrorKind::Invalid].contains(&error.kind()), "{error}");
        }
    }
    for ending in ["parquet", "arrow", "avro", "csv.gz", "json"] {
        files.write(
            &format!("noise.{ending}"),
            (0..5000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()).collect::<Vec<_>>(),
        );
        let error = files.error(&format!("select * from '{{}}/noise.{ending}'")).await;
        assert!(error.to_string().contains(&format!("noise.{ending}")), "{error}");
        files.write(&format!("empty.{ending}"), "");
        let error = files.error(&format!("select * from '{{}}/empty.{ending}'")).await;
        assert!(error.to_string().contains(&format!("empty.{ending}")), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_do_not_fit_together_are_both_named() {
    let files = Files::new();
    files.write("h/a.csv", "id,name\n1,x\n");
    files.write("h/b.csv", "name,id\ny,2\n");
    let parts = ["column 1 is id in", "/h/a.csv", "name in", "/h/b.csv"];
    says(&files, "select * from '{}/h'", ErrorKind::Invalid, &parts).await;
    files.write("w/a.csv", "id,name\n1,x\n");
    files.write("w/b.csv", "id,name,more\n2,y,z\n");
    says(&files, "select * from '{}/w'", ErrorKind::Invalid, &["/w/a.csv", "column 3 is", "more in", "/w/b.csv"]).await;
    // Numbers of all files are put together.
    files.write("m/a.csv", "n,s\n1,1\n");
    files.write("m/b.csv", "n,s\n2.5,x\n");
    assert_eq!(files.rows("select sum(n), max(s) from '{}/m'").await, ["3.5 | x"]);
    files.write("mj/a.json", "{\"n\":1,\"l\":[1]}\n");
    files.write("mj/b.json", "{\"l\":[0.5],\"n\":2.5}\n");
    assert_eq!(files.rows("select sum(n), sum(l[1]) from '{}/mj'").await, ["3.5 | 1.5"]);
    files.write("j/a.json", "{\"n\":1}\n");
    files.write("j/b.json", "{\"n\":{\"m\":1}}\n");
    says(&files, "select * from '{}/j'", ErrorKind::Invalid, &["column n is", "/j/a.json", "/j/b.json"]).await;
    for ending in ["parquet", "arrow"] {
        files.rows(&format!("copy (select 1 as n, 'x' as s) to '{{}}/{ending}/a.{ending}'")).await;
        files.rows(&format!("copy (select date '2024-01-01' as n, 'x' as s) to '{{}}/{ending}/b.{ending}'")).await;
        let parts = [format!("/{ending}/a.{ending}"), format!("/{ending}/b.{ending}"), "n ".into()];
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        says(&files, &format!("select * from '{{}}/{ending}'"), ErrorKind::Invalid, &parts).await;
    }
    // A file that comes later and does not fit is named when it is read.
    files.write("later/a.csv", "n\n1\n");
    files.session.register("later", &files.path("later")).await.unwrap();
    files.write("later/b.csv", "n\nx\n");
    says(&files, "select sum(n) from later", ErrorKind::Invalid, &["/later/b.csv", "line 2", "column n", "'x'"]).await;
    // Columns that only some files have are null in the others.
    files.rows("copy (select 1 as a) to '{}/u/a.parquet'").await;
    files.rows("copy (select 2 as a, 3 as b) to '{}/u/b.parquet'").await;
    assert_eq!(files.rows("select a, b from '{}/u' order by a").await, ["1 | ", "2 | 3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn encodings() {
    let files = Files::new();
    files.write("bom.csv", "\u{feff}name,n\nü,1\n");
    assert_eq!(files.rows("select name, n from '{}/bom.csv'").await, ["ü | 1"]);
    files.write("latin1.csv", b"name,town\nx,Ulm\ny,M\xfcnchen\n");
    let parts = ["/latin1.csv", "line 3", "column town", "byte 0xFC is not UTF-8", "iconv"];
    says(&files, "select * from '{}/latin1.csv'", ErrorKind::Invalid, &parts).await;
    files.write("late.csv", [b"name,town\n".to_vec(), b"x,Ulm\n".repeat(10_000), b"y,M\xfcnchen\n".to_vec()].concat());
    says(&files, "select * from '{}/late.csv'", ErrorKind::Invalid, &["/late.csv", "line 10002", "column town", "0xFC"]).await;
    let utf16 = |bom: &str| format!("{bom}a,b\n1,2\n").encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    files.write("utf16.csv", utf16("\u{feff}"));
    says(&files, "select * from '{}/utf16.csv'", ErrorKind::Invalid, &["/utf16.csv", "UTF-16"]).await;
    files.write("nobom.csv", utf16(""));
    says(&files, "select * from '{}/nobom.csv'", ErrorKind::Invalid, &["/nobom.csv", "NUL", "UTF-16"]).await;
    files.write("utf16.json", "\u{feff}{\"a\":1}\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
    says(&files, "select * from '{}/utf16.json'", ErrorKind::Invalid, &["/utf16.json", "UTF-16"]).await;
    files.write("latin1.json", b"{\"a\":\"x\"}\n{\"a\":\"M\xfcnchen\"}\n");
    says(&files, "select * from '{}/latin1.json'", ErrorKind::Invalid, &["/latin1.json", "line 2", "UTF-8"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quotes_nulls_and_line_ends() {
    let files = Files::new();
    files.write("q.csv", "a,b\r\n\"x,1\",\"say \"\"hi\"\"\"\r\n,\"\"\r\n\"line\nbreak\",5\" disk\r\n");
    let rows = files.rows("select length(a), length(b), b from '{}/q.csv'").await;
    assert_eq!(rows, ["3 | 8 | say \"hi\"", " |  | ", "10 | 7 | 5\" disk"]);
    files.write("open.csv", "a,b\n1,\"x\n2,y\n");
    says(&files, "select * from '{}/open.csv'", ErrorKind::Invalid, &["/open.csv", "the quote in line 2 does not end"]).await;
    files.write("nulls.csv", "n,x,s\n1,,\n,2.5,a\n");
    assert_eq!(files.rows("select count(n), count(x), count(s), count(*) from '{}/nulls.csv'").await, ["1 | 1 | 1 | 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_and_enormous() {
    let files = Files::new();
    files.write("head.csv", "a,b\n");
    assert_eq!(files.rows("select count(*), max(a), min(b) from '{}/head.csv'").await, ["0 |  | "]);
    files.write("none.csv", "");
    says(&files, "select * from '{}/none.csv'", ErrorKind::Invalid, &["/none.csv", "empty"]).await;
    files.write("blank.csv", "\n\n");
    says(&files, "select * from '{}/blank.csv'", ErrorKind::Invalid, &["/blank.csv has no columns"]).await;
    files.write("twice.csv", "a,b,a\n1,2,3\n");
    says(&files, "select * from '{}/twice.csv'", ErrorKind::Invalid, &["/twice.csv", "column 3 is called a"]).await;
    files.write("some/a.csv", "");
    files.write("some/b.csv", "n\n1\n");
    assert_eq!(files.rows("select n from '{}/some'").await, ["1"]);
    files.write("objects.json", "{}\n{}\n");
    assert_eq!(files.rows("select count(*) from '{}/objects.json'").await, ["2"]);
    for ending in ["parquet", "csv", "arrow"] {
        assert_eq!(files.rows(&format!("copy (select 1 as a where false) to '{{}}/zero.{ending}'")).await, ["0"], "{ending}");
        assert_eq!(files.rows(&format!("select count(*), count(a) from '{{}}/zero.{ending}'")).await, ["0 | 0"], "{ending}");
    }
    // A field of 10 MB, and one that is not closed.
    let big = "x".repeat(10 << 20);
    files.write("big.csv", format!("n,s\n1,{big}\n2,\"{big}\"\n"));
    assert_eq!(files.rows("select n, length(s) from '{}/big.csv' order by n").await, ["1 | 10485760", "2 | 10485760"]);
    files.write("big.json", format!("{{\"s\":\"{big}\"}}\n"));
    assert_eq!(files.rows("select length(s) from '{}/big.json'").await, ["10485760"]);
    files.write("open.csv", format!("n,s\n1,\"{big}\n"));
    says(&files, "select * from '{}/open.csv'", ErrorKind::Invalid, &["/open.csv", "the quote in line 2 does not end"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_columns() {
    let files = Files::new();
    let line = |f: &dyn Fn(usize) -> String| (0..5000).map(f).collect::<Vec<_>>().join(",");
    let text = format!("{}\n{}\n{}\n", line(&|i| format!("c{i}")), line(&|i| i.to_string()), line(&|i| (i * 2).to_string()));
    files.write("wide.csv", text);
    assert_eq!(files.rows("select sum(c0), sum(c4999) from '{}/wide.csv'").await, ["0 | 14997"]);
    files.rows("copy (select * from '{}/wide.csv') to '{}/wide.parquet'").await;
    assert_eq!(files.rows("select sum(c17), sum(c4999) from '{}/wide.parquet'").await, ["51 | 14997"]);
}

async fn many_files(count: usize) {
    let files = Files::new();
    for i in 0..count {
        files.write(&format!("many/{:03}/{i}.csv", i % 100), format!("n\n{i}\n"));
    }
    let sums = format!("{count} | {}", count * (count - 1) / 2);
    assert_eq!(files.rows("select count(*), sum(n) from '{}/many/*/*.csv'").await, std::slice::from_ref(&sums));
    files.session.register("many", &files.path("many/*/*.csv")).await.unwrap();
    let odd = count / 2;
    files.write(&format!("many/{:03}/{odd}.csv", odd % 100), "n\nx\n");
    let error = files.error("select sum(n) from many").await.to_string();
    assert!(error.contains(&format!("/{odd}.csv, line 2, column n: 'x' is no Int64")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_files() {
    many_files(10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes, for the file system"]
async fn a_hundred_thousand_files() {
    many_files(100_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deeply_nested() {
    let files = Files::new();
    let mut text = String::new();
    for i in 0..10 {
        let (open, close) = ("{\"a\":".repeat(60), "}".repeat(60));
        writeln!(text, "{open}[[[{i}],[]]]{close}").unwrap();
    }
    files.write("deep.json", &text);
    let path = "['a']".repeat(59);
    assert_eq!(files.rows(&format!("select sum(a{path}[1][1][1]) from '{{}}/deep.json'")).await, ["45"]);
    let (open, close) = ("{\"a\":".repeat(5000), "}".repeat(5000));
    files.write("deeper.json", format!("{open}1{close}\n"));
    let error = files.error("select * from '{}/deeper.json'").await;
    assert!(error.to_string().contains("/deeper.json"), "{error}");
    files.write("lists.json", format!("{{\"l\":{}{}}}\n", "[".repeat(100_000), "]".repeat(100_000)));
    let error = files.error("select * from '{}/lists.json'").await;
    assert!(error.to_string().contains("/lists.json"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_at_the_edges() {
    let files = Files::new();
    files.write("d.csv", "i,d\n1,0001-01-01\n2,9999-12-31\n3,1969-12-31\n4,1600-02-29\n");
    let days = "select i, d from '{}/d.csv' order by d";
    assert_eq!(files.rows(days).await, ["1 | 0001-01-01", "4 | 1600-02-29", "3 | 1969-12-31", "2 | 9999-12-31"]);
    let create =
        |name: &str, kind: &str, file: &str| format!("create external table {name} (i int, d {kind}) stored as csv location '{{}}/{file}'");
    files.write("far.csv", "i,d\n1,+262142-12-31\n2,-262143-01-01\n");
    files.rows(&create("far", "date", "far.csv")).await;
    assert_eq!(files.rows("select count(*), count(d) from far").await, ["2 | 2"]);
    files.rows("copy (select * from far) to '{}/far.parquet'").await;
    assert_eq!(files.rows("select d = (select max(d) from far) from '{}/far.parquet' where i = 1").await, ["true"]);
    files.write("beyond.csv", "i,d\n1,+999999999-01-01\n");
    files.rows(&create("beyond", "date", "beyond.csv")).await;
    says(&files, "select d from beyond", ErrorKind::Invalid, &["/beyond.csv", "line 2", "column d"]).await;
    // Nanoseconds reach from 1677 to 2262: what is outside is an error and no other time.
    files.write("t.csv", "i,d\n1,1969-12-31T23:59:59.999999999\n2,2262-04-11T23:47:16.854775807\n");
    files.rows(&create("t", "timestamp", "t.csv")).await;
    assert_eq!(files.rows("select d from t order by i").await, ["1969-12-31T23:59:59.999999999", "2262-04-11T23:47:16.854775807"]);
    files.write("out.csv", "i,d\n1,9999-12-31T00:00:00\n");
    files.rows(&create("out", "timestamp", "out.csv")).await;
    says(&files, "select d from out", ErrorKind::Invalid, &["/out.csv", "line 2", "column d", "9999-12-31"]).await;
    // Found out, they have seconds.
    assert_eq!(files.rows("select d from '{}/out.csv'").await, ["9999-12-31T00:00:00"]);
    files.write("neg.json", "{\"d\":\"0001-01-01T00:00:00\"}\n");
    assert_eq!(files.rows("select d from '{}/neg.json'").await, ["0001-01-01T00:00:00"]);
}
