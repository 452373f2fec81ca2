//! `millstream-verify SUITE QUERY RESULT.parquet (--scale X | --expected ANSWER.parquet)`: is a stored result right?
//!
//! Prints `right` or the first difference, one line. Exit codes: 0 right, 1 wrong, 2 bad usage or a file
//! that cannot be read, 3 no answer is embedded for that scale. `benches/compare/run` checks every engine with it.

use std::path::Path;
use std::process::ExitCode;

use millstream_benches::{Mismatch, answer, read_result, suite, verify};

/// What the check came to.
enum Verdict {
    Right,
    Wrong(Mismatch),
    Unknown(String),
}

#[expect(clippy::disallowed_methods, reason = "a shell reads its arguments")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match check(&arguments) {
        Ok(Verdict::Right) => {
            println!("right");
            ExitCode::SUCCESS
        }
        Ok(Verdict::Wrong(mismatch)) => {
            println!("{mismatch}");
            ExitCode::FAILURE
        }
        Ok(Verdict::Unknown(why)) => {
            println!("{why}");
            ExitCode::from(3)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn check(arguments: &[&str]) -> Result<Verdict, Box<dyn std::error::Error>> {
    let [suite_name, query, result, option, value] = arguments else {
        return Err("usage: millstream-verify SUITE QUERY RESULT.parquet (--scale X | --expected ANSWER.parquet)".into());
    };
    let suite = suite(suite_name).ok_or_else(|| format!("there is no suite `{suite_name}`"))?;
    let query = suite.query(query).ok_or_else(|| format!("{suite_name} has no query `{query}`"))?;
    let expected = match *option {
        "--expected" => read_result(Path::new(value))?,
        "--scale" => {
            let scale = value.parse().map_err(|_| format!("`{value}` is not a scale"))?;
            match answer(suite, scale, query)? {
                Some(expected) => expected,
                None => {
                    return Ok(Verdict::Unknown(format!("no answer of {} is embedded for scale {scale}", query.id)));
                }
            }
        }
        other => return Err(format!("unknown option `{other}`").into()),
    };
    // Not the answer, but read the same way.
    let result = read_result(Path::new(result))?;
    Ok(match verify(query, &expected, result.batches()) {
        Ok(()) => Verdict::Right,
        Err(mismatch) => Verdict::Wrong(mismatch),
    })
}
