//! `LIKE` by vectorised substring search.

use super::Pattern;
use crate::vector::{Strings, Values, Vector};
use crate::{Error, Result};
use arrow::array::Array;
use memchr::memmem::Finder;

/// A pattern with its searchers.
struct Matcher<'a> {
    pattern: Pattern<'a>,
    middle: Vec<Finder<'a>>,
}

impl<'a> Matcher<'a> {
    fn new(pattern: Pattern<'a>) -> Self {
        let n = pattern.parts.len();
        let from = usize::from(pattern.starts && n > 0);
        let to = if pattern.ends && n > from { n - 1 } else { n };
        let middle = pattern.parts[from.min(to)..to].iter().map(|p| Finder::new(p.as_bytes())).collect();
        Self { pattern, middle }
    }

    fn matches(&self, text: &[u8]) -> bool {
        let p = &self.pattern;
        let (Some(first), Some(last)) = (p.parts.first(), p.parts.last()) else {
            // Only `%`, or nothing at all.
            return !(p.starts && p.ends) || text.is_empty();
        };
        let mut rest = text;
        if p.starts {
            if p.ends && p.parts.len() == 1 {
                return text == first.as_bytes();
            }
            match rest.strip_prefix(first.as_bytes()) {
                Some(r) => rest = r,
                None => return false,
            }
        }
        if p.ends {
            match rest.strip_suffix(last.as_bytes()) {
                Some(r) => rest = r,
                None => return false,
            }
        }
        for f in &self.middle {
            match f.find(rest) {
                Some(at) => rest = &rest[at + f.needle().len()..],
                None => return false,
            }
        }
        true
    }
}

/// Whether each of `n` strings is (or, if `negated`, is not) like `pattern`.
///
/// # Errors
/// `Unsupported` for a pattern that is not covered, `Bug` for a register of another type.
pub fn like(v: &Vector, pattern: &str, negated: bool, n: usize) -> Result<Vector> {
    let pattern = Pattern::parse(pattern).ok_or_else(|| Error::unsupported(format!("LIKE pattern {pattern:?}")))?;
    let Values::Str(strings) = &v.values else { return Err(Error::bug("LIKE of a register that is no string")) };
    let matcher = Matcher::new(pattern);
    let holds = |s: &str| u8::from(matcher.matches(s.as_bytes()) != negated);
    let len = if v.constant { n.min(1) } else { n };
    let out: Vec<u8> = match strings {
        Strings::Dict { codes, dict } if dict.values().len() <= len => {
            let entries: Vec<u8> = dict.values().iter().map(|s| holds(s.unwrap_or(""))).collect();
            codes[..len].iter().map(|c| entries[*c as usize]).collect()
        }
        s => (0..len).map(|i| holds(s.value(i))).collect(),
    };
    let out = if v.constant && n == 0 { vec![0] } else { out };
    Ok(Vector { values: Values::Bool(out.into()), valid: v.valid.clone(), constant: v.constant, bounds: None })
}
