//! What the word before the cursor may become.

use super::command::{self, Argument, COMMANDS, FORMATS};
use super::names::{Names, TableNames};
use super::words::{AFTER_FROM, BEFORE_TABLE, CLAUSES, KEYWORDS, STARTS, is_keyword};
use crate::statements::{Lexed, parts};
use datafusion::sql::sqlparser::tokenizer::{Token, Whitespace};
use rustyline::completion::Pair;
use std::ops::Range;
use std::path::Path;

type Words = [(Token, Range<usize>)];

/// Where the word at the cursor begins, and what may stand there instead.
pub fn complete(text: &str, cursor: usize, names: &Names) -> (usize, Vec<Pair>) {
    let before = &text[..cursor];
    let line = before.rfind('\n').map_or(0, |end| end + 1);
    if before[line..].trim_start().starts_with('.') && parts(&before[..line]).1 {
        return of_command(before, line, names);
    }
    let lexed = Lexed::of(before);
    if lexed.error.is_some() {
        let open = lexed.end();
        return match before[open..].chars().next() {
            Some('\'') => (open + 1, paths(&before[open + 1..].replace("''", "'"), "'", |p| p.replace('\'', "''"))),
            Some('"') => (open + 1, in_quotes(&before[open + 1..], names)),
            _ => (cursor, vec![]),
        };
    }
    let commented = |t: &Token| matches!(t, Token::Whitespace(Whitespace::SingleLineComment { .. })) && !before.ends_with('\n');
    let (prefix, start) = match lexed.tokens.iter().rfind(|(t, _)| *t != Token::EOF) {
        Some((t, _)) if commented(t) => return (cursor, vec![]),
        Some((Token::Number(..), range)) if range.end == cursor => return (cursor, vec![]),
        Some((Token::Word(w), range)) if range.end == cursor => match w.quote_style {
            None => (&before[range.start..], range.start),
            Some(_) => return (cursor, vec![]),
        },
        _ => ("", cursor),
    };
    let all: Vec<_> = lexed.words().filter(|(_, range)| range.end <= start).cloned().collect();
    let first = all.iter().rposition(|(t, _)| *t == Token::SemiColon).map_or(0, |at| at + 1);
    let begin = all[..first].last().map_or(0, |(_, range)| range.end);
    // What is being typed is no name yet.
    let typed = |range: &Range<usize>| !prefix.is_empty() && begin + range.start == start;
    let whole = Lexed::of(&text[begin..]);
    let whole: Vec<_> = whole.words().take_while(|(t, _)| *t != Token::SemiColon).filter(|(_, r)| !typed(r)).cloned().collect();
    (start, Query { prefix, before: &all[first..], whole: &whole, names }.candidates())
}

/// The statement around a word that is being typed.
struct Query<'a> {
    prefix: &'a str,
    before: &'a Words,
    whole: &'a Words,
    names: &'a Names,
}

impl Query<'_> {
    fn candidates(&self) -> Vec<Pair> {
        if let [.., (Token::Word(owner), _), (Token::Period, _)] = self.before {
            return self.of_owner(&value(owner));
        }
        if self.before.is_empty() {
            return self.keywords(STARTS);
        }
        if expects_table(self.before) {
            let found = self.tables();
            if !found.is_empty() {
                return found;
            }
        }
        let mut found = self.columns();
        if !self.prefix.is_empty() || found.is_empty() {
            found.extend(self.functions());
            found.extend(self.keywords(KEYWORDS));
            found.extend(self.keywords(STARTS));
        }
        let mut seen = std::collections::HashSet::new();
        found.retain(|p| seen.insert(p.replacement.trim_end_matches('(').to_lowercase()));
        found
    }

    /// Columns of a table or of another name of it; tables of a schema. Before FROM is written a name may be anything's.
    fn of_owner(&self, owner: &str) -> Vec<Pair> {
        let sources = sources(self.whole);
        let named = sources.iter().find(|s| s.called == owner).map_or(owner, |s| &s.table);
        let is_named = |t: &TableNames| t.table == named || t.schema.as_deref() == Some(owner);
        let free = sources.is_empty() && !self.names.tables.iter().any(is_named);
        let columns = self.names.tables.iter().filter(|t| free || t.table == named).flat_map(|t| &t.columns);
        let tables = self.names.tables.iter().filter(|t| t.schema.as_deref() == Some(owner)).map(|t| &t.table);
        self.matching(columns.chain(tables))
    }

    /// Tables, and those that WITH defines.
    fn tables(&self) -> Vec<Pair> {
        let defined = self.whole.windows(3).enumerate().filter_map(|(at, three)| match three {
            [(Token::Word(name), _), (Token::Word(as_), _), (Token::LParen, _)] if as_.value.eq_ignore_ascii_case("as") => {
                let before = at.checked_sub(1).map(|at| &self.whole[at].0);
                let is_definition = match before {
                    Some(Token::Comma) => true,
                    Some(Token::Word(w)) => ["with", "recursive"].iter().any(|word| w.value.eq_ignore_ascii_case(word)),
                    _ => false,
                };
                is_definition.then(|| value(name))
            }
            _ => None,
        });
        let mut found = self.matching(defined.collect::<Vec<_>>().iter());
        let local = self.names.tables.iter().filter(|t| t.schema.is_none()).map(|t| &t.table);
        found.extend(self.matching(local));
        let others = self.names.tables.iter().filter(|t| t.schema.is_some() && self.starts(&qualified(t)));
        found.extend(others.map(|t| Pair { display: qualified(t), replacement: qualified(t) }));
        found
    }

    /// Columns and names of the tables of the statement; columns of all tables where it names none yet.
    fn columns(&self) -> Vec<Pair> {
        let sources = sources(self.whole);
        let is_used = |t: &&TableNames| sources.iter().any(|s| s.table == t.table);
        let mut used: Vec<&TableNames> = self.names.tables.iter().filter(is_used).collect();
        if used.is_empty() && !self.prefix.is_empty() {
            used = self.names.tables.iter().collect();
        }
        let mut found = self.matching(used.iter().flat_map(|t| &t.columns));
        found.extend(self.matching(sources.iter().map(|s| &s.called)));
        found
    }

    fn functions(&self) -> Vec<Pair> {
        let found = self.names.functions.iter().filter(|f| self.starts(f));
        found.map(|f| Pair { display: f.clone(), replacement: format!("{}(", self.cased(f)) }).collect()
    }

    fn keywords(&self, words: &[&str]) -> Vec<Pair> {
        let found = words.iter().filter(|w| self.starts(w)).map(|w| self.cased(w));
        found.map(|w| Pair { display: w.clone(), replacement: w }).collect()
    }

    fn matching<'n>(&self, names: impl Iterator<Item = &'n String>) -> Vec<Pair> {
        let found = names.filter(|n| self.starts(n));
        found.map(|n| Pair { display: n.clone(), replacement: identifier(n) }).collect()
    }

    fn starts(&self, name: &str) -> bool {
        starts_with(name, self.prefix)
    }

    /// As the user writes: SELECT or select.
    fn cased(&self, word: &str) -> String {
        if self.prefix.starts_with(|c: char| c.is_uppercase()) { word.to_uppercase() } else { word.to_string() }
    }
}

fn starts_with(name: &str, prefix: &str) -> bool {
    name.to_lowercase().starts_with(&prefix.to_lowercase())
}

fn qualified(t: &TableNames) -> String {
    let schema = t.schema.iter().map(|s| identifier(s) + ".").collect::<String>();
    schema + &identifier(&t.table)
}

/// The name as SQL needs it, in quotes where it would be read as another.
fn identifier(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain && !is_keyword(name) { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// What a word names: unquoted, case does not count.
fn value(word: &datafusion::sql::sqlparser::tokenizer::Word) -> String {
    if word.quote_style.is_some() { word.value.clone() } else { word.value.to_lowercase() }
}

/// The word in lower case, where it could be SQL's.
fn bare(token: &Token) -> Option<String> {
    match token {
        Token::Word(w) if w.quote_style.is_none() => Some(w.value.to_lowercase()),
        _ => None,
    }
}

fn is_one_of(token: &Token, words: &[&str]) -> bool {
    bare(token).is_some_and(|w| words.binary_search(&w.as_str()).is_ok())
}

/// Whether the next word names a table.
fn expects_table(before: &Words) -> bool {
    let last = before.last().map(|(t, _)| t);
    match last {
        Some(Token::Comma) => in_from(before),
        Some(token) => is_one_of(token, BEFORE_TABLE),
        None => false,
    }
}

/// Whether words end in a list of tables.
fn in_from(before: &Words) -> bool {
    let mut depth = 0;
    for (token, _) in before.iter().rev() {
        match token {
            Token::RParen => depth += 1,
            Token::LParen if depth == 0 => return false,
            Token::LParen => depth -= 1,
            token if depth == 0 && is_one_of(token, AFTER_FROM) => return false,
            token if depth == 0 && is_one_of(token, &["from"]) => return true,
            _ => {}
        }
    }
    false
}

/// A table of a statement and what it is called there.
struct Source {
    called: String,
    table: String,
}

fn sources(words: &Words) -> Vec<Source> {
    let (mut out, mut at) = (vec![], 0);
    while at < words.len() {
        at += 1;
        if !expects_table(&words[..at]) {
            continue;
        }
        let Some((Token::Word(name), _)) = words.get(at) else { continue };
        let mut table = value(name);
        at += 1;
        while let (Some((Token::Period, _)), Some((Token::Word(part), _))) = (words.get(at), words.get(at + 1)) {
            table = value(part);
            at += 2;
        }
        if words.get(at).is_some_and(|(t, _)| is_one_of(t, &["as"])) {
            at += 1;
        }
        let other = words.get(at).filter(|(t, _)| !is_one_of(t, CLAUSES));
        let called = match other {
            Some((Token::Word(w), _)) => value(w),
            _ => table.clone(),
        };
        out.push(Source { called, table });
    }
    out
}

/// Names within double quotes.
fn in_quotes(prefix: &str, names: &Names) -> Vec<Pair> {
    let all = names.tables.iter().flat_map(|t| std::iter::once(&t.table).chain(&t.columns));
    let mut found: Vec<&String> = all.filter(|n| n.starts_with(prefix)).collect();
    found.sort();
    found.dedup();
    found.into_iter().map(|n| Pair { display: n.clone(), replacement: n.replace('"', "\"\"") + "\"" }).collect()
}

/// Files and folders that `typed` may become; `close` ends the name of a file.
fn paths(typed: &str, close: &str, escape: impl Fn(&str) -> String) -> Vec<Pair> {
    let (folder, prefix) = typed.rsplit_once('/').map_or(("", typed), |(folder, _)| typed.split_at(folder.len() + 1));
    let Ok(entries) = std::fs::read_dir(Path::new(if folder.is_empty() { "." } else { folder })) else { return vec![] };
    let mut found: Vec<Pair> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let shown = name.starts_with(prefix) && (prefix.starts_with('.') || !name.starts_with('.'));
            let end = if entry.path().is_dir() { "/" } else { close };
            let display = if end == "/" { format!("{name}/") } else { name.clone() };
            shown.then(|| Pair { display, replacement: format!("{}{end}", escape(&format!("{folder}{name}"))) })
        })
        .collect();
    found.sort_by(|a, b| a.display.cmp(&b.display));
    found
}

/// Names of commands, and what may follow each.
fn of_command(before: &str, line: usize, names: &Names) -> (usize, Vec<Pair>) {
    let dot = line + before[line..].len() - before[line..].trim_start().len();
    let plain = |words: Vec<String>, prefix: &str| {
        let found = words.into_iter().filter(|w| starts_with(w, prefix));
        found.map(|w| Pair { display: w.clone(), replacement: w }).collect()
    };
    let Some((name, typed)) = before[dot..].split_once(char::is_whitespace) else {
        return (dot, plain(COMMANDS.iter().map(|c| c.0.to_string()).collect(), &before[dot..]));
    };
    let typed = typed.trim_start();
    let argument = COMMANDS.iter().find(|c| c.0 == name).map_or(Argument::None, |c| c.2);
    let found = match argument {
        Argument::None => vec![],
        Argument::Table => plain(names.tables.iter().map(qualified).collect(), typed),
        Argument::Format => plain(command::names(FORMATS), typed),
        Argument::Switch => plain(vec!["on".into(), "off".into()], typed),
        Argument::Path => paths(typed, "", str::to_string),
    };
    (before.len() - typed.len(), found)
}

#[cfg(test)]
mod tests;
