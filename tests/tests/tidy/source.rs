//! The files of the repository, and Rust without its comments, strings and tests.

use std::path::{Path, PathBuf};

/// One file: its path from the root, with `/`, and its text (empty where it is not text).
pub struct File {
    pub path: String,
    pub text: String,
}

impl File {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether only tests, benches or examples are made of it.
    pub fn is_test(&self) -> bool {
        let folder = self.path.split('/').any(|part| part == "tests" || part == "examples");
        folder || self.path.starts_with("benches/benches/") || matches!(self.name(), "tests.rs" | "testing.rs")
    }
}

/// Folders that hold nothing of the project's own: build outputs, data.
const SKIPPED: &[&str] = &["target", "data", "__pycache__", "shared"];

pub fn root() -> PathBuf {
    PathBuf::from("..")
}

/// Every file of the repository, by path.
pub fn repository() -> Vec<File> {
    let mut files = vec![];
    walk(&root(), "", &mut files);
    assert!(files.len() > 100, "the repository was not found: {} files", files.len());
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<File>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if entry.file_type().expect("a type").is_dir() {
            let hidden = name.starts_with('.') && name != ".ci" && name != ".cargo";
            if !hidden && !SKIPPED.contains(&name.as_str()) {
                walk(&entry.path(), &format!("{path}/"), files);
            }
        } else if !name.ends_with(".swp") {
            // Answers are Parquet: their path counts, not their bytes.
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            files.push(File { path, text });
        }
    }
}

/// The same lines with comments, and what stands in strings, blank.
pub fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => until(&chars, at, |c, i| c[i] == '\n'),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment(&chars, at),
            '"' => until(&chars, at + 1, |c, i| c[i] == '"' && !escaped(c, i)) + 1,
            'r' if !word_before(&chars, at) => raw_string(&chars, at),
            '\'' => char_literal(&chars, at),
            _ => at,
        };
        let end = end.min(chars.len());
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

fn until(chars: &[char], from: usize, stop: impl Fn(&[char], usize) -> bool) -> usize {
    (from..chars.len()).find(|i| stop(chars, *i)).unwrap_or(chars.len())
}

fn escaped(chars: &[char], at: usize) -> bool {
    chars[..at].iter().rev().take_while(|c| **c == '\\').count() % 2 == 1
}

/// Whether the character before belongs to an identifier; the `b` of a byte string does not count.
fn word_before(chars: &[char], at: usize) -> bool {
    let word = |i: usize| chars[i].is_alphanumeric() || chars[i] == '_';
    at > 0 && word(at - 1) && !(chars[at - 1] == 'b' && (at == 1 || !word(at - 2)))
}

fn block_comment(chars: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0, from);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The end of `r"..."` or `r#"..."#`; `from` where it is neither.
fn raw_string(chars: &[char], from: usize) -> usize {
    let hashes = chars[from + 1..].iter().take_while(|c| **c == '#').count();
    let open = from + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return from;
    }
    let closes = |c: &[char], i: usize| c[i] == '"' && c[i + 1..].iter().take(hashes).filter(|h| **h == '#').count() == hashes;
    until(chars, open + 1, closes) + 1 + hashes
}

/// The end of `'a'` or `'\n'`; `from` for a lifetime.
fn char_literal(chars: &[char], from: usize) -> usize {
    match (chars.get(from + 1), chars.get(from + 2)) {
        (Some('\\'), _) => until(chars, from + 3, |c, i| c[i] == '\'') + 1,
        (Some(_), Some('\'')) => from + 3,
        _ => from,
    }
}

/// The code that ships: without comments, strings, and items under `#[cfg(test)]`. Lines keep their numbers.
pub fn shipped(text: &str) -> String {
    let code = code(text);
    let lines: Vec<&str> = code.lines().collect();
    let mut out = vec![];
    let mut at = 0;
    while at < lines.len() {
        let end = if lines[at].trim() == "#[cfg(test)]" { item_end(&lines, at) } else { at };
        if end == at {
            out.push(lines[at]);
            at += 1;
        } else {
            out.extend((at..end).map(|_| ""));
            at = end;
        }
    }
    out.join("\n")
}

/// The line after the item that begins at `at`, as rustfmt sets it: its closing brace has its indentation.
fn item_end(lines: &[&str], at: usize) -> usize {
    let indentation = &lines[at][..lines[at].len() - lines[at].trim_start().len()];
    let close = format!("{indentation}}}");
    let mut end = at + 1;
    while end < lines.len() {
        let line = lines[end].trim_end();
        end += 1;
        if line == close || (line.starts_with(indentation) && line.ends_with(';') && !line[indentation.len()..].starts_with(' ')) {
            break;
        }
    }
    end
}

#[test]
fn comments_and_strings_are_no_code() {
    let text = "let a = \"x1 \\\" //\"; // x2\nlet b = br#\"x3\"x4\"#; let c = '\"'; 'a: loop { go() }\n/* x5 /* x6 */ x7 */ end";
    let code = code(text);
    assert_eq!(code.lines().count(), text.lines().count());
    assert!((1..=7).all(|n| !code.contains(&format!("x{n}"))), "{code}");
    assert!(code.contains("'a: loop { go() }") && code.ends_with(" end"), "{code}");
}

#[test]
fn tests_are_not_shipped() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests;\nfn b() {}\n#[cfg(test)]\nmod tests {\n    fn c() {}\n}\nfn d() {}\n";
    let shipped = shipped(text);
    assert_eq!(shipped.lines().filter(|l| !l.is_empty()).collect::<Vec<_>>(), ["fn a() {}", "fn b() {}", "fn d() {}"]);
}
