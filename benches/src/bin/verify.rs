//! `millstream-verify SUITE QUERY RESULT.parquet (--scale X | --expected ANSWER.parquet)`: is a stored result right?
//! With `--digest` instead: its digest, for `answers/make`.
//!
//! Prints `right` or the first difference, one line. Exit codes: 0 right, 1 wrong, 2 bad usage or a file
//! that cannot be read, 3 no answer is embedded for that scale. `benches/compare/run` checks every engine with it.

use std::path::Path;
use std::process::ExitCode;

use millstream_benches::{Mismatch, answer, digest_of_file, read_result, suite, verify_file};

const USAGE: &str = "usage: millstream-verify SUITE QUERY RESULT.parquet (--scale X | --expected ANSWER.parquet | --digest)";

/// What the check came to.
enum Verdict {
    Right,
    Wrong(Mismatch),
    Unknown(String),
    Digest(String),
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
        Ok(Verdict::Digest(json)) => {
            print!("{json}");
            ExitCode::SUCCESS
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
    let [suite_name, query, result, choice @ ..] = arguments else { return Err(USAGE.into()) };
    let suite = suite(suite_name).ok_or_else(|| format!("there is no suite `{suite_name}`"))?;
    let query = suite.query(query).ok_or_else(|| format!("{suite_name} has no query `{query}`"))?;
    let result = Path::new(result);
    let expected = match *choice {
        ["--digest"] => return Ok(Verdict::Digest(digest_of_file(query, result)?.to_json()?)),
        ["--expected", file] => read_result(query, Path::new(file))?,
        ["--scale", scale] => {
            let scale = scale.parse().map_err(|_| format!("`{scale}` is not a scale"))?;
            match answer(suite, scale, query)? {
                Some(expected) => expected,
                None => {
                    return Ok(Verdict::Unknown(format!("no answer of {} is embedded for scale {scale}", query.id)));
                }
            }
        }
        _ => return Err(USAGE.into()),
    };
    Ok(match verify_file(query, &expected, result)? {
        Ok(()) => Verdict::Right,
        Err(mismatch) => Verdict::Wrong(mismatch),
    })
}
