//! Files as tables: every kind, folders, patterns, partitions, external tables, COPY and INSERT.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::arrow_avro::writer::AvroWriter;
use datafusion::physical_plan::displayable;
use millstream::{ErrorKind, Options, ReadOptions, Session, WriteOptions};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// A session and a folder; `{}` in SQL stands for the folder.
pub struct Files {
    pub session: Session,
    pub dir: TempDir,
}

impl Files {
    pub fn new() -> Self {
        Self::with(Options { threads: 2, ..Options::default() })
    }

    pub fn with(options: Options) -> Self {
        Self { session: Session::with_options(options).unwrap(), dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn sql(&self, sql: &str) -> String {
        sql.replace("{}", &self.dir.path().to_string_lossy())
    }

    /// The rows as text, without a head.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        let sql = self.sql(sql);
        let table = self.session.sql(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        let batches = table.collect().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        let format = FormatOptions::default().with_null("");
        let mut rows = vec![];
        for batch in &batches {
            let columns: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &format).unwrap()).collect();
            rows.extend((0..batch.num_rows()).map(|r| columns.iter().map(|c| c.value(r).to_string()).collect::<Vec<_>>().join(" | ")));
        }
        rows
    }

    /// The error of a statement, without the name of the folder.
    pub async fn error(&self, sql: &str) -> millstream::Error {
        let sql = self.sql(sql);
        let error = match self.session.sql(&sql).await {
            Err(e) => e,
            Ok(table) => match table.collect().await {
                Err(e) => e,
                Ok(_) => panic!("no error: {sql}"),
            },
        };
        millstream::Error::new(error.kind(), error.to_string().replace(&*self.dir.path().to_string_lossy(), "DIR"))
    }

    pub async fn plan(&self, sql: &str) -> String {
        let plan = self.session.sql(&self.sql(sql)).await.unwrap().plan().await.unwrap();
        displayable(plan.as_ref()).indent(false).to_string().replace(&self.dir.path().to_string_lossy()[1..], "DIR")
    }
}

const ROWS: &str = "select * from (values
    (1, 1.5, 'a,b', date '2024-02-29', true, timestamp '2024-02-29T12:00:00'),
    (2, -0.25, 'say \"hi\"', date '0001-01-01', false, timestamp '1969-12-31T23:59:59'),
    (3, null, 'zwei
Zeilen', date '9999-12-31', null, timestamp '2262-01-01T00:00:00'),
    (4, 1e300, 'ü 漢 🦀', null, true, null)) t(n, x, s, d, b, t)";

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_written_and_read() {
    let files = Files::new();
    let expected = files.rows(&format!("{ROWS} order by n")).await;
    for ending in [
        "parquet",
        "csv",
        "tsv",
        "json",
        "ndjson",
        "jsonl",
        "arrow",
        "ipc",
        "feather",
        "csv.gz",
        "csv.bz2",
        "csv.xz",
        "csv.zst",
        "tsv.gz",
        "json.gz",
        "ndjson.zst",
    ] {
        assert_eq!(files.rows(&format!("copy ({ROWS}) to '{{}}/x.{ending}'")).await, ["4"], "{ending}");
        assert_eq!(files.rows(&format!("select * from '{{}}/x.{ending}' order by n")).await, expected, "{ending}");
        let sum = format!("select sum(n) as n, count(s) as s from '{{}}/x.{ending}' where n > 1");
        assert_eq!(files.rows(&sum).await, ["9 | 3"], "{ending}");
    }
    let gz = std::fs::read(files.path("x.csv.gz")).unwrap();
    assert_eq!(&gz[..2], &[0x1f, 0x8b], "it is gzip");
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_takes_compressions_without_a_level() {
    let files = Files::new();
    for compression in ["zstd", "gzip", "brotli", "snappy", "lz4_raw", "zstd(10)", "uncompressed"] {
        files.rows(&format!("copy ({ROWS}) to '{{}}/{compression}.parquet' options (compression '{compression}')")).await;
        assert_eq!(files.rows(&format!("select sum(n) from '{{}}/{compression}.parquet'")).await, ["10"], "{compression}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_is_read() {
    let files = Files::new();
    let n: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let s: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "b"]));
    let batch = RecordBatch::try_from_iter([("n", n), ("s", s)]).unwrap();
    let file = std::fs::File::create(files.path("x.avro")).unwrap();
    let mut writer = AvroWriter::new(file, batch.schema().as_ref().clone()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    assert_eq!(files.rows("select s, sum(n) n from '{}/x.avro' group by s order by s").await, ["a | 1", "b | 5"]);
    let error = files.error("copy (select 1) to '{}/y.avro'").await;
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_run_over_every_reader() {
    let files = Files::new();
    for ending in ["csv", "json", "arrow", "csv.gz"] {
        files.rows(&format!("copy ({ROWS}) to '{{}}/x.{ending}'")).await;
        let plan = files.plan(&format!("select b, sum(n) from '{{}}/x.{ending}' where n > 1 group by b")).await;
        assert!(plan.contains("StageExec") && plan.contains("DataSourceExec"), "{plan}");
        let stage = plan.lines().position(|l| l.contains("StageExec")).unwrap();
        assert!(plan.lines().position(|l| l.contains("DataSourceExec")).unwrap() > stage, "{plan}");
        assert!(!plan.contains("AggregateExec") && !plan.contains("FilterExec"), "{plan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_and_folders() {
    let files = Files::new();
    for (name, n) in [("a1.csv", 1), ("a2.csv", 2), ("b.csv", 4), ("x/c.csv", 8), ("x/y/d.csv", 16), ("x/y/e.json", 0)] {
        files.write(name, if name.ends_with("csv") { format!("n\n{n}\n") } else { "{\"n\":32}\n".into() });
    }
    files.write("_SUCCESS", "");
    files.write(".hidden.csv", "other\ncolumns,of\n");
    let sum = async |path: &str| files.rows(&format!("select sum(n) from '{path}'")).await.remove(0);
    assert_eq!(sum("{}/*.csv").await, "7");
    assert_eq!(sum("{}/a?.csv").await, "3");
    assert_eq!(sum("{}/[ab]*.csv").await, "7");
    assert_eq!(sum("{}/**/*.csv").await, "31");
    assert_eq!(sum("{}/*/*.csv").await, "8");
    assert_eq!(sum("{}/x/*/*.csv").await, "16");
    assert_eq!(sum("{}/x/**/*.json").await, "32");
    assert_eq!(sum("{}").await, "7");
    assert_eq!(sum("{}/").await, "7");
    // A file that comes later is seen, by a registered table too.
    files.session.register("t", &files.path("*.csv")).await.unwrap();
    files.write("a3.csv", "n\n100\n");
    assert_eq!(files.rows("select sum(n) from t").await, ["107"]);
    assert_eq!(sum("{}").await, "107");
    let error = files.error("select * from '{}/z*.csv'").await.to_string();
    assert!(error.contains("no file matches DIR/z*.csv"), "{error}");
    std::fs::create_dir(files.path("x/y.csv")).unwrap();
    files.write("x/y.csv/z", "");
    let error = files.error("select * from '{}/x'").await.to_string();
    assert!(error.contains("y.csv is a folder with the name of a file"), "{error}");
    let error = files.error("select * from '{}/x/**/*'").await.to_string();
    assert!(error.contains(".csv is csv") && error.contains("e.json is json"), "{error}");
    std::fs::create_dir(files.path("empty")).unwrap();
    let error = files.error("select * from '{}/empty'").await.to_string();
    assert!(error.contains("DIR/empty"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_files_do_not_belong_to_a_folder() {
    let files = Files::new();
    files.write("a.csv", "n\n1\n");
    files.write("_tmp.csv", "n\n2\n");
    files.write(".b.csv", "n\n4\n");
    assert_eq!(files.rows("select sum(n) from '{}'").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_of_values_are_columns() {
    let files = Files::new();
    let rows = "select * from (values (1, 2023, date '2023-01-01', '01'), (2, 2024, date '2024-01-01', '01'), (4, 2024, date '2024-01-02', '02')) t(n, year, day, month)";
    assert_eq!(files.rows(&format!("copy ({rows}) to '{{}}/t/' stored as parquet partitioned by (year, day, month)")).await, ["3"]);
    assert!(Path::new(&files.path("t/year=2024/day=2024-01-02/month=02")).is_dir());
    let sum = async |path: &str, filter: &str| files.rows(&format!("select sum(n) from '{path}' where {filter}")).await.remove(0);
    assert_eq!(sum("{}/t", "year = 2024").await, "6");
    assert_eq!(sum("{}/t", "year > 2023 and day = date '2024-01-01'").await, "2");
    assert_eq!(sum("{}/t", "month = '02'").await, "4");
    assert_eq!(sum("{}/t/year=*/day=*/month=*/*.parquet", "true").await, "7");
    assert_eq!(sum("{}/t/year=2024/day=*/month=*/*.parquet", "true").await, "6");
    assert_eq!(sum("{}/t/year=*/day=*/month=0[2-9]/*.parquet", "true").await, "4");
    assert_eq!(sum("{}/t/year=*/day=2024*/month=*/*.parquet", "year = 2024").await, "6");
    let types = "select arrow_typeof(year), arrow_typeof(day), arrow_typeof(month) from '{}/t' limit 1";
    assert_eq!(files.rows(types).await, ["Int64 | Date32 | Utf8"]);
    // Other folders are not even opened.
    let plan = files.plan("select sum(n) from '{}/t' where year = 2023").await;
    assert!(plan.contains("year=2023") && !plan.contains("year=2024"), "{plan}");
    files.write("t/year=2025/x.parquet", "");
    let error = files.error("select * from '{}/t'").await.to_string();
    assert!(error.contains("year=2025/x.parquet") && error.contains("different kinds of folders"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_folders_come_back_as_they_were() {
    let files = Files::new();
    let rows = "select * from (values (1, 'a/b', true), (2, 'x=y z%', false), (3, 'ü', true)) t(n, s, b)";
    files.rows(&format!("copy ({rows}) to '{{}}/t/' stored as csv partitioned by (s, b)")).await;
    assert_eq!(files.rows("select n, s, b from '{}/t' order by n").await, ["1 | a/b | true", "2 | x=y z% | false", "3 | ü | true"]);
    assert_eq!(files.rows("select n from '{}/t' where s = 'a/b'").await, ["1"]);
    let error = files.error("copy (select 1 as n, cast(null as int) as y) to '{}/u/' stored as parquet partitioned by (y)").await;
    assert!(error.to_string().contains("column y is null") && error.kind() == ErrorKind::Invalid, "{error}");
    assert!(std::fs::read_dir(files.path("u")).map_or(0, Iterator::count) == 0, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn external_tables() {
    let files = Files::new();
    files.write("in.txt", "1;x\n2;y\n");
    files
        .rows(
            "create external table a (n bigint, s varchar) stored as csv location '{}/in.txt' options (has_header 'false', delimiter ';')",
        )
        .await;
    assert_eq!(files.rows("select sum(n), max(s) from a").await, ["3 | y"]);
    for (format, options, ending) in [
        ("parquet", "compression 'zstd'", "parquet"),
        ("csv", "compression 'gzip'", "csv.gz"),
        ("ndjson", "", "ndjson"),
        ("tsv", "", "tsv"),
        ("arrow", "", "arrow"),
    ] {
        let options = if options.is_empty() { String::new() } else { format!("options ({options})") };
        files
            .rows(&format!(
                "create external table {format} (n bigint, s varchar, year int) stored as {format} partitioned by (year) location '{{}}/{format}/' {options}"
            ))
            .await;
        assert_eq!(files.rows(&format!("select count(*) from {format}")).await, ["0"], "{format}");
        assert_eq!(files.rows(&format!("insert into {format} values (1, 'a', 2023), (2, 'b', 2024)")).await, ["2"], "{format}");
        files.rows(&format!("insert into {format} select n + 2, s, 2024 from {format} where year = 2024")).await;
        let sums = format!("select year, sum(n), max(s) from {format} group by year order by year");
        assert_eq!(files.rows(&sums).await, ["2023 | 1 | a", "2024 | 6 | b"], "{format}");
        let folder = std::fs::read_dir(files.path(&format!("{format}/year=2024"))).unwrap();
        for file in folder {
            let name = file.unwrap().file_name().into_string().unwrap();
            assert!(name.ends_with(&format!(".{ending}")), "{format}: {name}");
        }
    }
    // What was written is found again without being declared.
    files.rows("create external table again stored as csv location '{}/csv/'").await;
    assert_eq!(files.rows("select year, sum(n) from again group by year order by year").await, ["2023 | 1", "2024 | 6"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_must_fit_the_folders() {
    let files = Files::new();
    files.write("t/month=01/a.csv", "n\n1\n");
    let create = "create external table t (n int, month int) stored as csv partitioned by (month) location '{}/t/'";
    let error = files.error(create).await.to_string();
    assert!(error.contains("01 is not how a value of type Int32 is written"), "{error}");
    files.rows(&create.replace("month int", "month varchar")).await;
    assert_eq!(files.rows("select n from t where month = '01'").await, ["1"]);
    let error = files.error("create external table u (n int, year int) stored as csv partitioned by (year) location '{}/t/'").await;
    assert!(error.to_string().contains("lies in a folder month=..., not year=..."), "{error}");
    let error = files.error("create external table u stored as xml location '{}/t/'").await;
    assert!(error.to_string().contains("XML is no kind of file") && error.kind() == ErrorKind::Unsupported, "{error}");
    let error = files.error("copy (select 1 as a) to '{}/x.csv' stored as parqet").await;
    assert!(error.to_string().contains("PARQET is no kind of file"), "{error}");
    let error = files.error("copy (select 1 as a) to '{}/x'").await;
    assert!(error.to_string().contains("STORED AS"), "{error}");
    let error = files.error("insert into t values (1, 'x', 3)").await;
    assert!(!error.to_string().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn options_by_the_library() {
    let files = Files::new();
    files.write("a.dat", "# said\n1|x\n2|\n");
    let options = ReadOptions { format: Some("csv".into()), ..ReadOptions::default() };
    let options = options.option("delimiter", "|").option("has_header", "false").option("comment", "#");
    let table = files.session.read_with(&files.path("a.dat"), &options).await.unwrap();
    assert_eq!(table.schema().field(1).name(), "column_2");
    assert_eq!(table.collect().await.unwrap().iter().map(|b| b.num_rows()).sum::<usize>(), 2);
    let error = files.session.read_with(&files.path("a.dat"), &options.clone().option("delimeter", "|")).await.unwrap_err();
    assert!(error.to_string().contains("delimeter"), "{error}");
    let table = files.session.sql("select 1 as a, 2 as b").await.unwrap();
    let options = WriteOptions { partition_by: vec!["c".into()], format: Some("csv".into()), ..WriteOptions::default() };
    let error = table.write_with(&files.path("out/"), &options).await.unwrap_err();
    assert!(error.to_string().contains("no column c"), "{error}");
    // A file is replaced, a folder gets more files.
    for (path, rows) in [("x.csv", 1), ("y/", 2)] {
        for n in 1..=2 {
            let options = WriteOptions { format: Some("csv".into()), ..WriteOptions::default() };
            files.session.sql(&format!("select {n} as n")).await.unwrap().write_with(&files.path(path), &options).await.unwrap();
        }
        assert_eq!(files.rows(&format!("select count(*), max(n) from '{{}}/{path}'")).await, [format!("{rows} | 2")]);
    }
    // A name that is a table stays one.
    files
        .session
        .register("\"a.csv\"", &{
            files.write("other.csv", "z\n5\n");
            files.path("other.csv")
        })
        .await
        .unwrap();
    assert_eq!(files.rows("select z from 'a.csv'").await, ["5"]);
    let error = files.error("select * from nothing_here").await.to_string();
    assert!(error.contains("nothing_here") && error.contains("not found"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_array_is_recognised() {
    let files = Files::new();
    files.write("a.json", "\n [\n {\"n\": 1, \"l\": [1, 2]},\n {\"n\": 2, \"l\": []}\n]\n");
    assert_eq!(files.rows("select sum(n), sum(cardinality(l)) from '{}/a.json'").await, ["3 | 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn line_breaks_in_quotes_of_a_large_file() {
    let files = Files::new();
    // Large enough to be read in parts; every row has line breaks within quotes, which look like rows.
    let row = |i: usize| format!("{i},\"{}\n1,x\n2,y\n\",{i}\n", "z".repeat(i % 97));
    let mut text = String::from("a,s,b\n");
    let mut rows = 0;
    while text.len() < 25 << 20 {
        text += &row(rows);
        rows += 1;
    }
    files.write("quoted.csv", &text);
    let sums = |path: &str| format!("select count(*), sum(a), sum(b), sum(length(s)) from '{{}}/{path}'");
    let length: usize = (0..rows).map(|i| i % 97 + 9).sum();
    let expected = format!("{rows} | {0} | {0} | {length}", rows * (rows - 1) / 2);
    assert!(files.plan(&sums("quoted.csv")).await.contains("2 groups"), "it is to be read in parts");
    assert_eq!(files.rows(&sums("quoted.csv")).await, [expected]);
    // Without them it is read in parts.
    files.write("plain.csv", format!("a,s,b\n{}", "1,abcdefgh,2\n".repeat(2 << 20)));
    assert_eq!(files.rows(&sums("plain.csv")).await, [format!("{0} | {0} | {1} | {2}", 2 << 20, 4 << 20, 16 << 20)]);
}
