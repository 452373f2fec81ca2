//! Stock DataFusion behind the line protocol of `millstream bench SUITE --serve`.
//!
//! `datafusion-native --suite DIR --data DIR --storage parquet|memory --threads N --variant pushdown|no-pushdown`
//!
//! Reads lines `q1` or `q1 /path/to/result.parquet`, answers each with one line of JSON: `{"id", "ms", "rows",
//! "error"}`. `ms` runs from the SQL text to the last row. With a path the rows are stored there, outside the time.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::datasource::MemTable;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The command line.
struct Arguments {
    suite: PathBuf,
    data: PathBuf,
    memory: bool,
    threads: usize,
    pushdown: bool,
}

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<()> {
    let arguments = arguments()?;
    let suite: Value = serde_json::from_str(&fs::read_to_string(arguments.suite.join("suite.json"))?)?;
    let mut queries = HashMap::new();
    for id in strings(&suite["queries"], |query| &query["id"]) {
        queries.insert(id.clone(), fs::read_to_string(arguments.suite.join(format!("{id}.sql")))?);
    }
    let tables = strings(&suite["tables"], |table| table);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(arguments.threads).enable_all().build()?;
    let context = runtime.block_on(register(&arguments, &tables))?;
    let mut replies = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if !line.trim().is_empty() {
            let reply = answer(&runtime, &context, &queries, line.trim());
            writeln!(replies, "{reply}")?;
            replies.flush()?;
        }
    }
    Ok(())
}

fn arguments() -> Result<Arguments> {
    let mut given: HashMap<String, String> = HashMap::new();
    let mut words = std::env::args().skip(1);
    while let Some(option) = words.next() {
        let value = words.next().ok_or_else(|| format!("{option} needs a value"))?;
        given.insert(option, value);
    }
    let mut take = |option: &str| given.remove(option).ok_or_else(|| format!("{option} is missing"));
    Ok(Arguments {
        suite: take("--suite")?.into(),
        data: take("--data")?.into(),
        memory: match take("--storage")?.as_str() {
            "memory" => true,
            "parquet" => false,
            other => return Err(format!("unknown storage {other}").into()),
        },
        threads: take("--threads")?.parse()?,
        pushdown: match take("--variant")?.as_str() {
            "pushdown" => true,
            "no-pushdown" => false,
            other => return Err(format!("unknown variant {other}").into()),
        },
    })
}

/// The strings in a JSON list.
fn strings(list: &Value, of: impl Fn(&Value) -> &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|item| of(item).as_str().map(String::from)).collect()
}

/// A session that sees every table, as files or as `threads` partitions of batches in memory.
async fn register(arguments: &Arguments, tables: &[String]) -> Result<SessionContext> {
    let mut config = SessionConfig::new().with_target_partitions(arguments.threads);
    config.options_mut().execution.parquet.pushdown_filters = arguments.pushdown;
    config.options_mut().execution.parquet.reorder_filters = arguments.pushdown;
    let context = SessionContext::new_with_config(config);
    for table in tables {
        let path = arguments.data.join(format!("{table}.parquet"));
        let path = path.to_str().ok_or("the path of the data is not UTF-8")?;
        if arguments.memory {
            let frame = SessionContext::new().read_parquet(path, ParquetReadOptions::default()).await?;
            let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
            let partitions = partitions(frame.collect().await?, arguments.threads);
            context.register_table(table, Arc::new(MemTable::try_new(schema, partitions)?))?;
        } else {
            context.register_parquet(table, path, ParquetReadOptions::default()).await?;
        }
    }
    Ok(context)
}

/// The batches in `count` runs of neighbours.
fn partitions(batches: Vec<RecordBatch>, count: usize) -> Vec<Vec<RecordBatch>> {
    let size = batches.len().div_ceil(count).max(1);
    batches.chunks(size).map(<[RecordBatch]>::to_vec).collect()
}

/// Runs the query that one line of input asks for.
fn answer(
    runtime: &tokio::runtime::Runtime,
    context: &SessionContext,
    queries: &HashMap<String, String>,
    line: &str,
) -> Value {
    let (id, path) = line.split_once(' ').unwrap_or((line, ""));
    let run = || -> Result<(f64, usize)> {
        let sql = queries.get(id).ok_or_else(|| format!("there is no query {id}"))?;
        let start = Instant::now();
        let (schema, batches) = runtime.block_on(async {
            let frame = context.sql(sql).await?;
            let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
            Ok::<_, Box<dyn Error>>((schema, frame.collect().await?))
        })?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        if !path.is_empty() {
            store(Path::new(path), schema, &batches)?;
        }
        Ok((ms, batches.iter().map(RecordBatch::num_rows).sum()))
    };
    match run() {
        Ok((ms, rows)) => json!({"id": id, "ms": ms, "rows": rows, "error": null}),
        Err(error) => json!({"id": id, "ms": null, "rows": null, "error": error.to_string()}),
    }
}

fn store(path: &Path, schema: SchemaRef, batches: &[RecordBatch]) -> Result<()> {
    // The batches know the nullability of their columns better than the plan.
    let schema = batches.first().map_or(schema, RecordBatch::schema);
    let mut writer = ArrowWriter::try_new(File::create(path)?, schema, None)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.close()?;
    Ok(())
}
