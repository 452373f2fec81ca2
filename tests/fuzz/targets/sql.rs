//! SQL: any text is rows or an error, over three small tables.
//!
//! Only queries run: other statements change the session, and with it what the next text means, or write files. A text
//! that could name a place outside the empty folder it runs in is left out. Most mutations change words, not letters.

#![no_main]

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use millstream::{ErrorKind, Session};
use millstream_fuzz::mutate::{Chance, in_words};
use millstream_fuzz::{bounded, lines, own_panics_abort, session, tables};
use std::sync::LazyLock;

static ENGINE: LazyLock<Session> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder").keep();
    std::env::set_current_dir(folder).expect("the folder");
    let session = session(true);
    tables::create(&session);
    session
});

/// The words of the dictionary that libFuzzer gets, too.
static WORDS: LazyLock<Vec<&str>> =
    LazyLock::new(|| include_str!("../sql.dict").lines().filter_map(|l| l.strip_prefix('"')?.strip_suffix('"')).collect());

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut chance = Chance(seed.into());
    let text = std::str::from_utf8(&data[..size]).ok().filter(|_| chance.below(8) > 0);
    let Some(text) = text.map(|t| in_words(t, &WORDS, &mut chance)).filter(|t| t.len() <= max_size) else {
        return fuzzer_mutate(data, size, max_size);
    };
    data[..text.len()].copy_from_slice(text.as_bytes());
    text.len()
});

fuzz_target!(|text: &str| {
    own_panics_abort();
    let leaves = ["://", "/", "..", "~"].iter().any(|place| text.contains(&format!("'{place}")) || text.contains(&format!("\"{place}")));
    if leaves || text.contains("..") || text.contains("://") || !is_query(text) {
        return;
    }
    let result = bounded(async { lines(ENGINE.sql(text).await?).await });
    if let Some(Err(e)) = result {
        // What another crate holds for its own defect is no find.
        assert!(!e.to_string().is_empty() && e.kind() != ErrorKind::Corrupt, "{e}");
    }
});

fn is_query(text: &str) -> bool {
    let state = ENGINE.context().state();
    let parsed = state.sql_to_statement(text, &state.config_options().sql_parser.dialect);
    match parsed {
        Ok(Statement::Statement(s)) => matches!(*s, ast::Statement::Query(_)),
        Ok(Statement::Explain(e)) => matches!(*e.statement, Statement::Statement(s) if matches!(*s, ast::Statement::Query(_))),
        _ => false,
    }
}
