//! The `millstream` binary as its users run it.

#![expect(clippy::disallowed_methods, reason = "a process is given time to start, and how soon it ends is what is tested")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// A folder of this test run.
fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{}", std::process::id())).join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// TPC-H at scale 0.01, written by the binary itself.
fn data() -> &'static Path {
    static DATA: OnceLock<PathBuf> = OnceLock::new();
    DATA.get_or_init(|| {
        let dir = folder("data");
        let out = millstream(&["generate", "tpch", "--scale", "0.01", "--out", &text(&dir)]);
        assert!(out.status.success(), "{}", stderr(&out));
        dir
    })
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn millstream(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(args).env_remove("COLUMNS").env("MILLSTREAM_PROFILES", "").output().unwrap()
}

fn sql(sql: &str, more: &[&str]) -> Output {
    let tables: Vec<String> =
        ["nation", "lineitem"].iter().map(|t| format!("{t}={}", text(&data().join(format!("{t}.parquet"))))).collect();
    let mut args = vec!["sql", "-c", sql, "--threads", "2"];
    tables.iter().for_each(|t| args.extend(["--table", t]));
    millstream(&[args, more.to_vec()].concat())
}

fn stdout(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// The command fails with this code, says this, and prints no result.
fn fails(out: &Output, code: i32, says: &[&str]) {
    assert_eq!(out.status.code(), Some(code), "{}", stderr(out));
    assert_eq!(stdout(out), "", "{}", stderr(out));
    for s in says {
        assert!(stderr(out).contains(s), "{s:?} is not in {}", stderr(out));
    }
}

/// By the profile of another machine EXPLAIN says where stages would run there, with both estimates, and they run here.
#[test]
fn another_machine_is_explained_and_not_run() {
    let profile = text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../cost/profiles/h100.json"));
    let query = "select l_returnflag, sum(l_quantity) from lineitem group by l_returnflag";
    let explained = stdout(&sql(&format!("explain {query}"), &["--profile", &profile]));
    for says in ["cpu est ms", "gpu est ms", "here the CPU; on NVIDIA H100 PCIe with 32 cores (synthetic) cpu: cpu ", ", gpu "] {
        assert!(explained.contains(says), "{says} is not in {explained}");
    }
    let ran = stdout(&sql(&format!("explain analyze {query}"), &["--profile", &profile]));
    assert!(ran.contains("own ms") && !ran.contains("x est"), "what another machine would take is no error: {ran}");
    assert_eq!(stdout(&sql(query, &["--profile", &profile, "--format", "csv"])).lines().count(), 4);
    fails(&sql(query, &["--profile", "no-such-machine.json"]), 1, &["no-such-machine.json"]);
}

/// By this machine's own profile EXPLAIN ANALYZE holds the estimate against what was measured.
#[test]
fn estimates_are_held_against_measurements() {
    let profiles = folder("profiles");
    // Not this machine's, but kept where its own would be; its GPU is not here.
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../cost/profiles/m4.json"), profiles.join("m4.json")).unwrap();
    let lineitem = format!("lineitem={}", text(&data().join("lineitem.parquet")));
    let query = "explain analyze select l_returnflag, sum(l_quantity) from lineitem group by l_returnflag";
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(["sql", "-c", query, "--table", &lineitem, "--threads", "2"]).env("MILLSTREAM_PROFILES", &profiles);
    let out = stdout(&command.output().unwrap());
    for says in ["est rows", "cpu est ms", "gpu est ms", "own ms", "x est", "auto: cpu "] {
        assert!(out.contains(says), "{says} is not in {out}");
    }
}

const VALUES: &str = "select * from (values (1, 'a', cast(0.5 as decimal(4,2))), (2, null, null)) t(n, s, d) order by n";

#[test]
fn formats() {
    let table = sql(VALUES, &[]);
    assert!(stdout(&table).contains("| 2 | NULL | NULL |"), "{}", stdout(&table));
    let csv = sql(VALUES, &["--format", "csv"]);
    assert_eq!(stdout(&csv), "n,s,d\n1,a,0.50\n2,,\n");
    let json = sql(VALUES, &["--format", "json"]);
    assert_eq!(stdout(&json), "{\"n\":1,\"s\":\"a\",\"d\":0.50}\n{\"n\":2,\"s\":null,\"d\":null}\n");
    for out in [table, csv, json] {
        assert_eq!((out.status.code(), stderr(&out)), (Some(0), String::new()));
    }
}

#[test]
fn a_result_without_rows_has_its_columns() {
    assert_eq!(stdout(&sql("select n_name from nation where n_nationkey < 0", &["--format", "csv"])), "n_name\n");
    assert!(stdout(&sql("select n_name from nation where n_nationkey < 0", &[])).contains("| n_name |"));
}

#[test]
fn output_files() {
    let dir = folder("output");
    for (file, more) in [("a.csv", &[][..]), ("a.json", &[]), ("a.parquet", &[]), ("b.dat", &["--format", "parquet"]), ("a.txt", &[])] {
        let path = dir.join(file);
        let out = sql(VALUES, &[&["-o", &text(&path)], more].concat());
        assert_eq!((out.status.code(), stdout(&out)), (Some(0), String::new()), "{file}: {}", stderr(&out));
        assert!(path.metadata().unwrap().len() > 0, "{file}");
    }
    assert_eq!(std::fs::read_to_string(dir.join("a.csv")).unwrap(), "n,s,d\n1,a,0.50\n2,,\n");
    // What was written as Parquet reads as the same rows.
    let table = format!("t={}", text(&dir.join("a.parquet")));
    let again = millstream(&["sql", "-c", "select * from t order by n", "--table", &table, "--format", "csv"]);
    assert_eq!(stdout(&again), "n,s,d\n1,a,0.50\n2,,\n");
}

#[test]
fn a_failed_query_leaves_no_file() {
    let dir = folder("failed");
    let out = sql("select 10 / (n_nationkey - 3) from nation", &["-o", &text(&dir.join("x.csv"))]);
    fails(&out, 1, &["zero"]);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn a_table_fits_the_width_it_is_given() {
    let path = format!("t={}", text(&data().join("lineitem.parquet")));
    let run = |format: &str| {
        let args = ["sql", "-c", "select * from t order by l_orderkey, l_linenumber limit 5", "--table", &path, "--format", format];
        let out = Command::new(env!("CARGO_BIN_EXE_millstream")).args(args).env("COLUMNS", "60").output().unwrap();
        stdout(&out)
    };
    let table = run("table");
    assert!(table.lines().filter(|l| l.starts_with(['|', '+'])).all(|l| l.chars().count() <= 60), "{table}");
    assert!(table.contains("columns do not fit"), "{table}");
    let csv = run("csv");
    assert!(!csv.contains('…') && csv.lines().any(|l| l.len() > 60), "{csv}");
}

#[test]
fn errors_name_what_is_wrong() {
    fails(&millstream(&["sql", "-c", "select 1", "--table", "t=/no/such/file.parquet"]), 1, &["table t", "/no/such/file.parquet"]);
    fails(&sql("select l_quantiti from lineitem", &[]), 1, &["l_quantiti", "l_quantity"]);
    fails(&sql("select 1 frm nation x", &[]), 1, &["Line: 1", "Column:"]);
    fails(&sql("select n_nationkey + 9223372036854775807 from nation", &[]), 1, &["verflow"]);
    fails(&sql("select sum(n_nationkey + 9223372036854775000) over () from nation", &[]), 1, &["verflow"]);
    fails(&sql("select 1", &["-o", "/no/such/folder/x.csv"]), 1, &["/no/such/folder/x.csv"]);
    fails(&millstream(&["sql", "-f", "/no/such/query.sql"]), 1, &["/no/such/query.sql"]);
}

#[test]
fn damaged_parquet_is_named() {
    let dir = folder("damaged");
    let mut bytes = std::fs::read(data().join("lineitem.parquet")).unwrap();
    std::fs::write(dir.join("cut.parquet"), &bytes[..bytes.len() / 2]).unwrap();
    let cut = format!("t={}", text(&dir.join("cut.parquet")));
    fails(&millstream(&["sql", "-c", "select * from t", "--table", &cut]), 1, &["cut.parquet"]);
    let third = bytes.len() / 3;
    bytes[third..third + 65_536].fill(0xA5);
    std::fs::write(dir.join("corrupt.parquet"), &bytes).unwrap();
    let corrupt = format!("t={}", text(&dir.join("corrupt.parquet")));
    let all = "l_orderkey,l_partkey,l_suppkey,l_quantity,l_extendedprice,l_discount,l_tax,l_comment,l_shipdate,l_commitdate,\
               l_receiptdate,l_returnflag,l_linestatus,l_shipmode,l_shipinstruct,l_linenumber";
    let mins: Vec<String> = all.split(',').map(|c| format!("min({c})")).collect();
    let query = format!("select {} from t where l_quantity > 0", mins.join(", "));
    fails(&millstream(&["sql", "-c", &query, "--table", &corrupt]), 1, &["corrupt.parquet"]);
}

#[test]
fn bad_usage_is_code_2() {
    fails(&millstream(&["sql", "-c", "select 1", "--table", "nonsense"]), 2, &["NAME=PATH"]);
    fails(&millstream(&["sql", "-c", "select 1", "--format", "xml"]), 2, &["xml"]);
    fails(&millstream(&["sql", "-c", ""]), 2, &["no statement"]);
    fails(&millstream(&["bench", "tpcx"]), 2, &["tpcx", "tpch", "h2o", "ssb"]);
    fails(&millstream(&["bench", "tpch", "--queries", "q99"]), 2, &["q99", "q22"]);
    fails(&millstream(&["bench", "h2o", "--queries", "q1"]), 2, &["q1", "g10", "j5"]);
    fails(&millstream(&["bench", "h2o", "--scale", "1000"]), 2, &["1000", "100"]);
    fails(&millstream(&["generate", "tpcx", "--out", "x"]), 2, &["tpcx", "tpch", "h2o", "ssb"]);
    fails(&millstream(&["generate", "tpch", "--out", "x", "--seed", "1"]), 2, &["seed"]);
    fails(&millstream(&["generate", "h2o", "--out", "x", "--scale", "0"]), 2, &["scale of h2o"]);
    fails(&millstream(&["bench", "ssb", "--queries", "q1"]), 2, &["q1", "q1.1", "q4.3"]);
    fails(&millstream(&["generate", "ssb", "--out", "x", "--scale", "0"]), 2, &["scale of ssb"]);
    fails(&millstream(&["sql", "-c", "select 1", "--memory-limit", "4XB"]), 2, &["XB", "GiB"]);
    fails(&millstream(&["sql", "-c", "select 1", "--threads", "0"]), 2, &["--threads"]);
    fails(&millstream(&["frobnicate"]), 2, &["frobnicate"]);
}

#[test]
fn help_has_examples() {
    for args in [&["--help"][..], &["sql", "--help"], &["bench", "--help"]] {
        let out = millstream(args);
        assert_eq!(out.status.code(), Some(0));
        assert!(stdout(&out).contains("Examples:"), "{}", stdout(&out));
    }
}

#[test]
fn statements_come_from_standard_input_too() {
    use std::io::Write;
    let mut child = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["sql", "--format", "csv"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"create table t as\nselect 'a;b' as s;\nselect s from t;\nselect 1 as one").unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(stdout(&out), "s\na;b\none\n1\n");
}

#[test]
fn explain_says_what_runs_where_and_why() {
    let query = "select l_shipmode, count(*) n, sum(sum(l_quantity)) over () from lineitem where l_quantity > 5 group by l_shipmode";
    let out = stdout(&sql(&format!("explain {query}"), &[]));
    for says in ["StageExec", "stage", "group", "cpu", "why there", "WindowAggExec", "no window sink"] {
        assert!(out.contains(says), "{says} is not in\n{out}");
    }
    let analyzed = stdout(&sql(&format!("explain analyze {query}"), &[]));
    assert!(analyzed.contains("7 rows in") && analyzed.contains("rows in") && analyzed.contains("fetch ms"), "{analyzed}");
    // Every row of the filter's input was counted: the line of the group stage starts with its numbers.
    let line = analyzed.lines().find(|l| l.starts_with("s") && l.contains("group")).unwrap();
    let rows: usize = line.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert!(rows > 10_000, "{line}");
}

#[test]
fn bench_writes_every_field() {
    let file = folder("bench").join("out.json");
    let out = millstream(&[
        "bench",
        "tpch",
        "--scale",
        "0.01",
        "--data",
        &text(data()),
        "--queries",
        "q6,q1",
        "--iterations",
        "2",
        "--verify",
        "--json",
        &text(&file),
    ]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    for key in ["suite", "scale", "storage", "threads", "device", "machine"] {
        assert!(!json[key].is_null(), "{key}");
    }
    let queries = json["queries"].as_array().unwrap();
    assert_eq!(queries.len(), 2);
    for q in queries {
        assert_eq!((&q["verified"], q["error"].is_null()), (&serde_json::json!(true), true), "{q}");
        assert_eq!(q["runs_ms"].as_array().unwrap().len(), 2);
        assert!(q["median_ms"].as_f64().unwrap() > 0.0);
        let keys = ["peak_rss_mb", "cpu_s", "events_per_s", "latency_ms", "stages", "stock", "rows", "id"];
        assert!(keys.iter().all(|k| q.get(k).is_some()), "{q}");
        assert!(cfg!(not(target_os = "linux")) || q["peak_rss_mb"].as_f64().unwrap() > 1.0, "{q}");
        let stage = &q["stages"][0];
        for key in ["name", "device", "reason", "cpu_est_ms", "gpu_est_ms", "ms", "rows", "bytes", "upload_ms", "kernel_ms", "readback_ms"]
        {
            assert!(stage.get(key).is_some(), "{key}: {stage}");
        }
        assert!(stage["ms"].as_f64().unwrap() > 0.0 && stage["rows"].as_u64().unwrap() > 0, "{stage}");
    }
}

#[test]
fn bench_generates_at_the_scale_of_the_suite_and_verifies() {
    let dir = text(&folder("h2o"));
    for storage in ["parquet", "memory"] {
        let out = millstream(&[
            "bench",
            "h2o",
            "--data",
            &dir,
            "--queries",
            "g1,g6,g10,j3",
            "--iterations",
            "1",
            "--verify",
            "--storage",
            storage,
        ]);
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        assert_eq!(stderr(&out).contains("wrote h2o at scale 0.01"), storage == "parquet", "{}", stderr(&out));
        assert_eq!(stdout(&out).matches(" yes ").count(), 4, "{}", stdout(&out));
    }
    // Other rows have other answers.
    let other = text(&folder("h2o-seed-1"));
    assert!(millstream(&["generate", "h2o", "--scale", "0.01", "--seed", "1", "--out", &other]).status.success());
    let table = format!("x={other}/x.parquet");
    let sums = |table: &str| stdout(&millstream(&["sql", "-c", "select sum(v1), sum(v3) from x", "--table", table, "--format", "csv"]));
    assert_ne!(sums(&table), sums(&format!("x={dir}/h2o-sf0.01/x.parquet")));
}

#[cfg(unix)]
#[test]
fn ctrl_c_cancels_a_query() {
    use std::time::{Duration, Instant};
    let lineitem = format!("l={}", text(&data().join("lineitem.parquet")));
    let endless = "select count(*) from l a join l b on a.l_linenumber = b.l_linenumber join l c on b.l_linenumber = c.l_linenumber";
    let child = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["sql", "-c", endless, "--table", &lineitem, "--threads", "2"])
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let signalled = Instant::now();
    let out = child.wait_with_output().unwrap();
    assert!(signalled.elapsed() < Duration::from_secs(2), "{:?}", signalled.elapsed());
    fails(&out, 1, &["cancelled"]);
}

#[test]
fn files_of_many_kinds_are_tables() {
    let dir = folder("kinds");
    std::fs::write(dir.join("a.csv"), "n,s\n1,x\n").unwrap();
    std::fs::write(dir.join("b.csv"), "n,s\n2,y\n").unwrap();
    let pattern = format!("t={}/*.csv", text(&dir));
    let out = millstream(&["sql", "-c", "select sum(n), max(s) from t", "--table", &pattern, "--format", "csv"]);
    assert_eq!(stdout(&out).lines().last(), Some("3,y"), "{}", stderr(&out));
    std::fs::write(dir.join("c.csv"), "n,s\n3,z,4\n").unwrap();
    let out = millstream(&["sql", "-c", "select * from t", "--table", &pattern]);
    fails(&out, 1, &["table t", "c.csv", "line 2 has 3 columns, not 2"]);
}

/// The statements of the guide, in its order, in an empty folder.
#[test]
fn the_guide_of_files_runs() {
    let page = include_str!("../../../docs/guide/files.md");
    let blocks: Vec<&str> = page.split("```sql\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    assert!(blocks.len() >= 4, "the guide has SQL");
    let dir = folder("guide");
    std::fs::write(dir.join("guide.sql"), blocks.concat()).unwrap();
    let args = ["sql", "-f", "guide.sql", "--format", "csv"];
    let out = Command::new(env!("CARGO_BIN_EXE_millstream")).args(args).current_dir(&dir).output().unwrap();
    assert_eq!((out.status.code(), stderr(&out)), (Some(0), String::new()));
    let said = stdout(&out);
    for rows in ["count(*)\n4\n", "year,price\n2022,4.0\n2023,1.0\n2024,8.0\n", "city,count(*)\n", "name,price\nnorth,3.5\nsouth,4.0\n"] {
        assert!(said.contains(rows), "{rows} is not in\n{said}");
    }
    assert!(dir.join("by-year/year=2022").is_dir() && dir.join("out/shops.csv.gz").is_file() && dir.join("out/lines").is_dir());
}
