//! The pages of `docs/guide` as their readers follow them: commands and statements run, and answer what the page says.

#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const EXE: &str = env!("CARGO_BIN_EXE_millstream");

/// An empty folder.
fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("pages-{}", std::process::id())).join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// The fenced blocks of a page: what they are written in, and their text.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    page.split("\n```").skip(1).step_by(2).filter_map(|b| b.split_once('\n')).collect()
}

/// A command line of a page and what it prints.
#[derive(Debug, PartialEq)]
struct Step {
    command: String,
    printed: Vec<String>,
}

/// The commands of a page: lines of `console` blocks that begin with `$`.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = vec![];
    for line in blocks(page).into_iter().filter(|b| b.0 == "console").flat_map(|b| b.1.lines()) {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.into(), printed: vec![] }),
            (None, Some(step)) => step.printed.push(line.into()),
            (None, None) => panic!("a block begins with its output: {line}"),
        }
    }
    steps
}

/// What the shell prints for `command`, on both of its outputs.
fn shell(command: &str, dir: &Path) -> Output {
    let bin = Path::new(EXE).parent().unwrap().to_string_lossy();
    let path = format!("{bin}:{}", std::option_env!("PATH").unwrap_or("/usr/bin:/bin"));
    let script = format!("exec 2>&1\n{command}");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(dir).env("PATH", path).env_remove("COLUMNS");
    // Pages show a machine that was not measured.
    command.env("MILLSTREAM_PROFILES", "").output().unwrap()
}

/// Whether the lines are those of the page, where `...` stands for any end of a line, and alone for any lines.
fn matches(page: &[String], lines: &[String]) -> bool {
    match (page.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "..." => {
            matches(rest, lines) || lines.split_first().is_some_and(|(_, others)| matches(page, others))
        }
        (Some((first, rest)), Some((line, others))) => {
            let fits = first.strip_suffix("...").map_or(first == line, |begin| line.starts_with(begin));
            fits && matches(rest, others)
        }
        _ => false,
    }
}

/// Runs the commands of a page; one that fails shows an error or its exit code.
fn follow(name: &str, page: &str) {
    let (dir, steps) = (folder(name), steps(page));
    assert!(steps.len() > 1, "the page has commands");
    for step in steps {
        let out = shell(&step.command, &dir);
        let lines: Vec<String> = String::from_utf8_lossy(&out.stdout).lines().map(str::to_string).collect();
        assert!(matches(&step.printed, &lines), "$ {}\n{}", step.command, lines.join("\n"));
        assert_eq!(
            out.status.success(),
            !step.printed.iter().any(|l| l.starts_with("error:")) || step.command.contains("||"),
            "{}",
            step.command
        );
    }
}

#[test]
fn getting_started() {
    follow("getting-started", include_str!("../../../docs/guide/getting-started.md"));
}

#[test]
fn memory_and_threads() {
    follow("memory-and-threads", include_str!("../../../docs/guide/memory-and-threads.md"));
}

#[test]
fn benchmarks() {
    follow("benchmarks", include_str!("../../../docs/guide/benchmarks.md"));
}

#[test]
fn stages_and_devices() {
    follow("stages-and-devices", include_str!("../../../docs/guide/stages-and-devices.md"));
}

#[test]
fn troubleshooting() {
    follow("troubleshooting", include_str!("../../../docs/guide/troubleshooting.md"));
}

/// The statements of the page in one session, and behind some of them what they answer.
#[test]
fn sql() {
    let blocks = blocks(include_str!("../../../docs/guide/sql.md"));
    let dir = folder("sql");
    let statements: String = blocks.iter().filter(|b| b.0 == "sql").map(|b| b.1).collect();
    std::fs::write(dir.join("page.sql"), statements).unwrap();
    let out = Command::new(EXE).args(["sql", "--threads", "2", "-f", "page.sql"]).current_dir(&dir).env_remove("COLUMNS").output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let said = String::from_utf8_lossy(&out.stdout);
    let answers: Vec<&str> = blocks.iter().filter(|b| b.0 == "text").map(|b| b.1).collect();
    assert!(answers.len() > 8, "the page has answers");
    let mut rest = said.as_ref();
    for answer in answers {
        rest = rest.split_once(answer.trim()).unwrap_or_else(|| panic!("not answered, or not in this order:\n{answer}\nbut\n{rest}")).1;
    }
}

/// Negative controls: other lines, missing lines and lines too many are noticed.
#[test]
fn a_wrong_line_is_noticed() {
    let lines = |text: &str| text.lines().map(str::to_string).collect::<Vec<_>>();
    for (page, printed, same) in [
        ("a\nb", "a\nb", true),
        ("a\nb", "a\nc", false),
        ("a", "a\nb", false),
        ("a\nb", "a", false),
        ("a...\nb", "abc\nb", true),
        ("a...\nb", "cba\nb", false),
        ("...\nb", "x\ny\nb", true),
        ("...\nb", "x\ny", false),
        ("", "a", false),
    ] {
        assert_eq!(matches(&lines(page), &lines(printed)), same, "{page:?} {printed:?}");
    }
    let page = "# A\n\n```console\n$ echo a\na\n$ true\n```\n\n```sql\nselect 1;\n```\n";
    let wanted = [("echo a", vec!["a".to_string()]), ("true", vec![])];
    assert_eq!(steps(page), wanted.map(|(command, printed)| Step { command: command.into(), printed }));
}
