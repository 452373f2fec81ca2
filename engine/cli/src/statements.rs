//! A text of several statements, cut at its semicolons.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer, TokenizerError};
use std::ops::Range;

/// The tokens of a text and where they stand, up to what is no token.
pub struct Lexed {
    pub tokens: Vec<(Token, Range<usize>)>,
    /// Why the rest is no token.
    pub error: Option<TokenizerError>,
}

impl Lexed {
    pub fn of(text: &str) -> Self {
        let mut tokens = vec![];
        let error = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location_into_buf(&mut tokens).err();
        let mut place = Place { text, byte: 0, at: Location { line: 1, column: 1 } };
        let tokens = tokens.into_iter().map(|t| (t.token, place.byte_of(t.span.start)..place.byte_of(t.span.end))).collect();
        Self { tokens, error }
    }

    /// Where the rest begins that is no token.
    pub fn end(&self) -> usize {
        self.tokens.last().map_or(0, |(_, range)| range.end)
    }

    /// Whether the rest is a string, a quoted name or a comment that has not ended yet.
    pub fn is_open(&self) -> bool {
        let opened = |e: &TokenizerError| ["Unterminated", "Unexpected EOF", "before EOF"].iter().any(|part| e.message.contains(part));
        self.error.as_ref().is_some_and(opened)
    }

    /// Tokens that are neither space nor comment.
    pub fn words(&self) -> impl DoubleEndedIterator<Item = &(Token, Range<usize>)> {
        self.tokens.iter().filter(|(t, _)| !matches!(t, Token::Whitespace(_) | Token::EOF))
    }
}

/// Walks a text from location to location, which count lines and characters from 1.
struct Place<'a> {
    text: &'a str,
    byte: usize,
    at: Location,
}

impl Place<'_> {
    fn byte_of(&mut self, wanted: Location) -> usize {
        for c in self.text[self.byte..].chars() {
            if (self.at.line, self.at.column) >= (wanted.line, wanted.column) {
                break;
            }
            self.byte += c.len_utf8();
            self.at = match c {
                '\n' => Location { line: self.at.line + 1, column: 1 },
                _ => Location { line: self.at.line, column: self.at.column + 1 },
            };
        }
        self.byte
    }
}

/// The statements of `text`, without their semicolons. Each stands behind as many blank lines and columns
/// as in the text, so that positions in error messages are those of the text.
///
/// # Errors
/// A string or comment that does not end.
pub fn split(text: &str) -> Result<Vec<String>, TokenizerError> {
    let lexed = Lexed::of(text);
    if let Some(e) = lexed.error {
        return Err(e);
    }
    let mut out = vec![];
    let (mut start, mut empty) = (0, true);
    for (token, range) in lexed.words() {
        if *token != Token::SemiColon {
            empty = false;
            continue;
        }
        if !empty {
            out.push(blank(&text[..start]) + &text[start..range.start]);
        }
        (start, empty) = (range.end, true);
    }
    if !empty {
        out.push(blank(&text[..start]) + &text[start..]);
    }
    Ok(out)
}

/// Whether the last statement of `text` has its semicolon.
pub fn is_complete(text: &str) -> bool {
    let lexed = Lexed::of(text);
    match &lexed.error {
        None => lexed.words().next_back().is_some_and(|(t, _)| *t == Token::SemiColon),
        // What will never be a token is for the parser to complain about.
        Some(_) => !lexed.is_open() && text.trim_end().ends_with(';'),
    }
}

/// What is typed at a prompt.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// A line that begins with a dot, where a statement could begin.
    Command(String),
    /// As [`split`] has it.
    Statement(String),
}

/// Commands and statements of `text`, in order, and whether the last one is complete.
pub fn parts(text: &str) -> (Vec<Part>, bool) {
    let (mut out, mut at) = (vec![], 0);
    loop {
        let rest = &text[at..];
        let lexed = Lexed::of(rest);
        let first = lexed.words().next().map(|(_, range)| range.start).or(lexed.error.as_ref().map(|_| lexed.end()));
        let Some(first) = first else { return (out, true) };
        if rest[first..].starts_with('.') {
            let line = rest[first..].lines().next().unwrap_or_default();
            out.push(Part::Command(line.trim_end().to_string()));
            at += first + line.len();
            continue;
        }
        let Some((_, end)) = lexed.words().find(|(t, _)| *t == Token::SemiColon) else {
            out.push(Part::Statement(blank(&text[..at]) + rest));
            return (out, is_complete(rest));
        };
        if first < end.start {
            out.push(Part::Statement(blank(&text[..at]) + &rest[..end.start]));
        }
        at += end.end;
    }
}

fn blank(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_semicolons_outside_of_strings_and_comments() {
        let text = "cache table é;\n select ';' -- ;\n;;/* ; */\nselect 2";
        let got = split(text).unwrap();
        let trimmed: Vec<&str> = got.iter().map(|s| s.trim()).collect();
        assert_eq!(trimmed, ["cache table é", "select ';' -- ;", "/* ; */\nselect 2"]);
        assert!(got[2].starts_with("              \n"), "{:?}", got[2]);
        assert_eq!(got[2].lines().count(), 4);
        assert!(split(" ;; -- nothing\n").unwrap().is_empty());
        assert!(split("select 'open").is_err());
    }

    #[test]
    fn a_statement_is_complete_with_its_semicolon() {
        for text in
            ["select 1;", "select 1; -- done\n", "select 'a;\nb';", "select $$ ; $$;", "select \"a;\" /* ; */ ;", "select U&'\\zzzz';"]
        {
            assert!(is_complete(text), "{text}");
        }
        for text in ["select 1", "select 'a;", "select ';", "select \"a;", "select 1 -- ;", "/* ; ", "select $$ a;", "select $x$ $$;", ""] {
            assert!(!is_complete(text), "{text}");
        }
    }

    #[test]
    fn commands_stand_where_a_statement_could_begin() {
        let said = |text: &str| {
            let (parts, complete) = parts(text);
            let text = |p: Part| match p {
                Part::Command(c) => c,
                Part::Statement(s) => format!("sql: {}", s.trim()),
            };
            (parts.into_iter().map(text).collect::<Vec<_>>(), complete)
        };
        let of = |parts: &[&str], complete| (parts.iter().map(|p| p.to_string()).collect::<Vec<_>>(), complete);
        assert_eq!(
            said(".timer off\nselect 1;\n .read it's.sql \nselect a\n.b"),
            of(&[".timer off", "sql: select 1", ".read it's.sql", "sql: select a\n.b"], false)
        );
        assert_eq!(said("select 1; select 2;"), of(&["sql: select 1", "sql: select 2"], true));
        assert_eq!(said("-- about\n.help"), of(&[".help"], true));
        assert_eq!(said(" \n -- nothing"), of(&[], true));
        assert_eq!(said(";;"), of(&[], true));
        assert_eq!(said("select 'a"), of(&["sql: select 'a"], false));
        assert_eq!(said("'open"), of(&["sql: 'open"], false));
        assert_eq!(parts("select 1;\nselect x;").0[1], Part::Statement("         \nselect x".into()));
    }
}
