//! Rules for every file: names, lengths, line ends.

use crate::source::{File, code, repository};
use crate::{catches, clean};

/// Names that say nothing.
const VAGUE: &[&str] = &["base", "common", "helper", "helpers", "manager", "misc", "util", "utils"];

/// Lines of code that a file has fewer than.
const FILE_LINES: usize = 500;
/// Lines of code that a function has at most.
const FUNCTION_LINES: usize = 70;

/// What is longer, with its reason. A path, or a path and a function.
const LONG: &[(&str, &str)] = &[];

fn names(files: &[File]) -> Vec<String> {
    let vague = |file: &&File| file.path.split('/').any(|part| VAGUE.contains(&part.split('.').next().unwrap_or("")));
    files.iter().filter(vague).map(|f| format!("{}: a name of {VAGUE:?}: say what it holds", f.path)).collect()
}

fn line_ends(files: &[File]) -> Vec<String> {
    let mut out = vec![];
    // Seeds of the fuzz targets are what they are.
    let ours = |f: &&File| !f.text.is_empty() && !f.path.starts_with("tests/fuzz/corpus/");
    for f in files.iter().filter(ours) {
        if f.text.contains('\r') {
            out.push(format!("{}: carriage return", f.path));
        }
        if !f.text.ends_with('\n') {
            out.push(format!("{}: no line end at the end", f.path));
        }
    }
    out
}

/// Lines that are neither empty nor comment.
fn code_lines(f: &File) -> usize {
    let text = if f.is_rust() { code(&f.text) } else { f.text.clone() };
    let comment = if f.path.ends_with(".wgsl") { "//" } else { "#" };
    text.lines().filter(|l| !l.trim().is_empty() && (f.is_rust() || !l.trim().starts_with(comment))).count()
}

fn is_code(f: &File) -> bool {
    let script = f.text.starts_with("#!");
    script || [".rs", ".py", ".wgsl"].iter().any(|ending| f.path.ends_with(ending))
}

fn long_files(files: &[File], long: &[(&str, &str)]) -> Vec<String> {
    let mut out = vec![];
    for f in files.iter().filter(|f| is_code(f)) {
        let (lines, excepted) = (code_lines(f), long.iter().any(|(path, _)| *path == f.path));
        if lines >= FILE_LINES && !excepted {
            out.push(format!("{}: {lines} lines of code: split it, or give a reason in LONG", f.path));
        }
        if lines < FILE_LINES && excepted {
            out.push(format!("{}: short again, take it off LONG", f.path));
        }
    }
    out
}

/// Name and lines of code of each function of a Rust file, as rustfmt sets them.
fn functions(text: &str) -> Vec<(String, usize)> {
    let code = code(text);
    let lines: Vec<&str> = code.lines().map(str::trim_end).collect();
    let mut out = vec![];
    for (at, line) in lines.iter().enumerate() {
        let indentation = line.len() - line.trim_start().len();
        let mut words = line.split_whitespace().skip_while(|w| w.starts_with("pub") || ["const", "async", "unsafe", "extern"].contains(w));
        if words.next() != Some("fn") || line.ends_with('}') || line.ends_with(';') {
            continue;
        }
        let name = words.next().unwrap_or("").split(['(', '<']).next().unwrap_or("");
        let close = format!("{}}}", " ".repeat(indentation));
        let body = lines[at..].iter().take_while(|l| **l != close);
        out.push((name.to_string(), body.filter(|l| !l.is_empty()).count() + 1));
    }
    out
}

fn long_functions(files: &[File], long: &[(&str, &str)]) -> Vec<String> {
    let mut out = vec![];
    for f in files.iter().filter(|f| f.is_rust()) {
        for (name, lines) in functions(&f.text) {
            let id = format!("{} {name}", f.path);
            if lines > FUNCTION_LINES && !long.iter().any(|(path, _)| *path == id) {
                out.push(format!("{id}: {lines} lines of code: split it, or give a reason in LONG"));
            }
        }
    }
    out
}

#[test]
fn names_say_what_is_inside() {
    clean(&names(&repository()));
    for bad in ["kernels/src/utils.rs", "engine/common/src/lib.rs", "docs/misc.md"] {
        assert_eq!(names(&[File::new(bad, "")]).len(), 1, "{bad}");
    }
    clean(&names(&[File::new("kernels/src/database.rs", "")]));
}

#[test]
fn lines_end_in_newlines() {
    clean(&line_ends(&repository()));
    catches(line_ends, "a.md", "one\r\ntwo\r\n", "one\ntwo\n", "carriage return");
    catches(line_ends, "a.md", "one", "one\n", "no line end");
}

#[test]
fn files_are_short() {
    clean(&long_files(&repository(), LONG));
    let check = |files: &[File]| long_files(files, &[("old.rs", "once long")]);
    let line = "let a = 1;\n";
    catches(check, "a.rs", &line.repeat(FILE_LINES), &line.repeat(FILE_LINES - 1), "500 lines");
    catches(check, "a.rs", &line.repeat(FILE_LINES), &"// said\n".repeat(FILE_LINES), "500 lines");
    catches(check, "old.rs", line, &line.repeat(FILE_LINES), "take it off");
}

#[test]
fn functions_are_short() {
    clean(&long_functions(&repository(), LONG));
    let check = |files: &[File]| long_functions(files, &[]);
    let function = |lines: usize| format!("impl A {{\n    pub async fn long(&self) {{\n{}    }}\n}}\n", "        a();\n".repeat(lines));
    catches(check, "a.rs", &function(FUNCTION_LINES - 1), &function(FUNCTION_LINES - 2), "a.rs long: 71");
}
