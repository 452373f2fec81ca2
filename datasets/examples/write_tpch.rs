//! Writes a TPC-H data set: `cargo run --release -p millstream-datasets --example write_tpch -- SCALE OUT [FORMAT]`.

use std::path::Path;
use std::process::ExitCode;

use millstream_datasets::{Error, Format, tpch};

#[expect(clippy::disallowed_methods, reason = "a shell reads its arguments")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match write(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ Error::Invalid(_)) => {
            eprintln!("error: {error}\nusage: write_tpch SCALE OUT [parquet|csv|json]");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(arguments: &[String]) -> Result<(), Error> {
    let [scale, out, format @ ..] = arguments else {
        return Err(Error::Invalid("a scale and a folder are needed".into()));
    };
    let scale: f64 = scale.parse().map_err(|_| Error::Invalid(format!("`{scale}` is not a number")))?;
    let format: Format = format.first().map_or(Ok(Format::Parquet), |format| format.parse())?;
    let out = Path::new(out);
    if tpch::is_complete_as(out, scale, format) {
        eprintln!("{} is complete already", out.display());
        return Ok(());
    }
    tpch::write(out, scale, format, &mut |progress| {
        if progress.complete {
            eprintln!("{}: {} rows", progress.table, progress.rows);
        }
    })
}
