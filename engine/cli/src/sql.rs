//! `millstream sql`: one query over named files.

use crate::Outcome;
use crate::args::{Common, Format, SqlArgs};
use arrow::util::pretty::pretty_format_batches;
use millstream::Session;

pub async fn run(a: &SqlArgs, common: &Common) -> Outcome {
    let text = match (&a.command, &a.file) {
        (Some(c), _) => c.clone(),
        (None, Some(f)) => std::fs::read_to_string(f).map_err(|e| format!("cannot read {}: {e}", f.display()))?,
        (None, None) => return Err("give a query with -c or a file with -f".into()),
    };
    let session = Session::with_options(common.options())?;
    for t in &a.tables {
        let (name, path) = t.split_once('=').ok_or_else(|| format!("--table {t}: expected NAME=PATH"))?;
        session.register(name, path).await?;
    }
    let table = session.sql(&text).await?;
    let schema = table.schema();
    let batches = table.collect().await?;
    match a.format {
        Format::Table if batches.is_empty() => println!("{}", pretty_format_batches(&[arrow::array::RecordBatch::new_empty(schema)])?),
        Format::Table => println!("{}", pretty_format_batches(&batches)?),
        Format::Csv => {
            let mut out = arrow::csv::Writer::new(std::io::stdout().lock());
            if batches.is_empty() {
                out.write(&arrow::array::RecordBatch::new_empty(schema))?;
            }
            batches.iter().try_for_each(|b| out.write(b))?;
        }
        Format::Json => {
            let mut out = arrow::json::LineDelimitedWriter::new(std::io::stdout().lock());
            batches.iter().try_for_each(|b| out.write(b))?;
            out.finish()?;
        }
    }
    Ok(())
}
