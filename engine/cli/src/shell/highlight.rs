//! Colours of a statement that is being typed.

use super::words::is_keyword;
use crate::statements::Lexed;
use datafusion::sql::sqlparser::tokenizer::{Token, Whitespace};

const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const CYAN: &str = "\x1b[36m";
pub const GREY: &str = "\x1b[90m";
pub const RESET: &str = "\x1b[0m";

/// The same text with colours: keywords, strings, numbers, comments.
pub fn highlighted(text: &str) -> String {
    let lexed = Lexed::of(text);
    let mut out = String::with_capacity(text.len() * 2);
    for (token, range) in &lexed.tokens {
        paint(&mut out, style(token), &text[range.clone()]);
    }
    let rest = &text[lexed.end()..];
    let style = match rest.chars().next() {
        Some('\'' | '$') => GREEN,
        Some('/') => GREY,
        _ => "",
    };
    paint(&mut out, style, rest);
    out
}

fn style(token: &Token) -> &'static str {
    match token {
        Token::Word(w) if w.quote_style.is_none() && is_keyword(&w.value.to_lowercase()) => BOLD,
        Token::Number(..) => CYAN,
        Token::Whitespace(Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_)) => GREY,
        Token::SingleQuotedString(_) | Token::EscapedStringLiteral(_) | Token::DollarQuotedString(_) => GREEN,
        _ => "",
    }
}

fn paint(out: &mut String, style: &str, text: &str) {
    let reset = if style.is_empty() { "" } else { RESET };
    out.extend([style, text, reset]);
}

#[test]
fn colours_leave_the_text_as_it_is() {
    let plain = |s: &str| [BOLD, GREEN, CYAN, GREY, RESET].iter().fold(s.to_string(), |s, code| s.replace(code, ""));
    for text in ["select 'it''s', n_name, 1.5 -- é\nfrom \"é\" /* x", "SELECT 'open", ".mode csv", "", "select $$ a"] {
        assert_eq!(plain(&highlighted(text)), text);
    }
    assert_eq!(highlighted("select a, 'b"), "\x1b[1mselect\x1b[0m a, \x1b[32m'b\x1b[0m");
    assert_eq!(highlighted("1 -- x"), "\x1b[36m1\x1b[0m \x1b[90m-- x\x1b[0m");
}
