//! The oracle: `LIKE` by backtracking, one character at a time.

/// Whether `text` is like `pattern` (`%` any run of characters, everything else itself).
pub fn like(text: &str, pattern: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return text.is_empty() };
    let rest = &pattern[first.len_utf8()..];
    if first == '%' {
        return text.char_indices().map(|(i, _)| i).chain([text.len()]).any(|i| like(&text[i..], rest));
    }
    text.strip_prefix(first).is_some_and(|t| like(t, rest))
}
