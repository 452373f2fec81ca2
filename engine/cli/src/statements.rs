//! A text of several statements, cut at its semicolons.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer, TokenizerError};

/// The statements of `text`, without their semicolons. Each stands behind as many blank lines and columns
/// as in the text, so that positions in error messages are those of the text.
///
/// # Errors
/// A string or comment that does not end.
pub fn split(text: &str) -> Result<Vec<String>, TokenizerError> {
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location()?;
    let mut out = vec![];
    let (mut start, mut empty) = (0, true);
    for t in &tokens {
        match t.token {
            Token::SemiColon => {
                let at = offset(text, t.span.start);
                if !empty {
                    out.push(blank(&text[..start]) + &text[start..at]);
                }
                (start, empty) = (at + 1, true);
            }
            Token::Whitespace(_) | Token::EOF => {}
            _ => empty = false,
        }
    }
    if !empty {
        out.push(blank(&text[..start]) + &text[start..]);
    }
    Ok(out)
}

/// Byte of a location, which counts lines and characters from 1.
fn offset(text: &str, at: Location) -> usize {
    let lines: usize = text.split_inclusive('\n').take(at.line as usize - 1).map(str::len).sum();
    lines + text[lines..].chars().take(at.column as usize - 1).map(char::len_utf8).sum::<usize>()
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
}
