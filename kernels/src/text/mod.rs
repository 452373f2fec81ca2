//! Text predicates: `LIKE` of literal parts and `%`.
//!
//! Contract: SQL's `LIKE` over bytes of UTF-8, case sensitive; null of a null. Patterns with `_` or an
//! escape are not covered. A dictionary is searched once an entry where it has fewer entries than rows.

mod cpu;
pub mod reference;

pub use cpu::like;

/// A pattern as its literal parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern<'a> {
    /// What stands between the `%`, in order; not empty.
    parts: Vec<&'a str>,
    /// The first part must be at the start.
    starts: bool,
    /// The last part must be at the end.
    ends: bool,
}

impl<'a> Pattern<'a> {
    /// The pattern `like`, if it is covered.
    pub fn parse(like: &'a str) -> Option<Self> {
        if like.contains(['_', '\\']) {
            return None;
        }
        let parts = like.split('%').filter(|p| !p.is_empty()).collect();
        Some(Self { parts, starts: !like.starts_with('%'), ends: !like.ends_with('%') })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Type;
    use crate::testing::{Gen, check_rows};
    use crate::value::Value;

    #[test]
    fn agrees_with_the_reference() {
        let mut g = Gen::new(51);
        let patterns =
            ["", "%", "%%", "a", "a%", "%a", "%a%", "a%b", "%a%b%", "ab%ab", "PROMO%", "%é%", "%special%requests%", "%BRUSHED", "a%a%a"];
        for round in 0..600 {
            let n = [0usize, 1, 3, 40, 300][round % 5];
            let v = g.vector(Type::Str, n, round % 7 == 6);
            let pattern = patterns[g.below(patterns.len() as u64) as usize];
            let negated = g.below(2) == 1;
            let out = like(&v, pattern, negated, n).unwrap();
            check_rows(&out, n, |i| match v.value(i).unwrap() {
                Value::Str(s) => Value::Bool(reference::like(&s, pattern) != negated),
                _ => Value::Null,
            });
        }
    }

    #[test]
    fn overlapping_ends_do_not_match() {
        assert!(!reference::like("ab", "ab%b"));
        let v = crate::Vector::new(crate::Values::Str(crate::Strings::View(vec!["ab", "abb"].into())));
        let out = like(&v, "ab%b", false, 2).unwrap();
        check_rows(&out, 2, |i| Value::Bool(i == 1));
    }

    #[test]
    fn what_is_not_covered_is_refused() {
        assert!(Pattern::parse("a_").is_none() && Pattern::parse(r"\%").is_none());
        let v = crate::Vector::new(crate::Values::Str(crate::Strings::View(vec!["a"].into())));
        assert!(like(&v, "a_", false, 1).is_err());
    }
}
