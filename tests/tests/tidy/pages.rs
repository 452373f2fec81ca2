//! Docs that tell the truth: the paths, commands and variables that they name exist.

use crate::source::{File, repository};
use crate::{catches, clean};

fn is_page(f: &File) -> bool {
    f.path.ends_with(".md")
}

/// Endings that make a word a file of this repository.
const ENDINGS: &[&str] = &[".rs", ".md", ".toml", ".wgsl", ".py"];

/// Words of a page that name a file or folder here.
fn paths(text: &str, top: &[&str]) -> Vec<String> {
    let words = text.split(|c: char| c.is_whitespace() || "`()[]|,;\"'".contains(c));
    let mut out = vec![];
    for word in words.map(|w| w.trim_end_matches(['.', ':', '/'])) {
        let pattern = word.contains(['*', '<', '{', '$', '=']) || word.contains("::");
        let outside = word.contains("://") || word.starts_with('/') || word.starts_with('~');
        let first = word.split('/').next().unwrap_or("");
        let ours = word.contains('/') && top.contains(&first);
        let named = word.len() > 3 && ENDINGS.iter().any(|e| word.ends_with(e) && word.len() > e.len());
        if !pattern && !outside && (ours || named) {
            out.push(word.split('#').next().unwrap_or(word).to_string());
        }
    }
    out
}

/// Paths that pages name, and pages that comments of Rust code name.
fn missing_paths(files: &[File]) -> Vec<String> {
    let top: Vec<&str> = files.iter().filter_map(|f| f.path.split_once('/')).map(|(first, _)| first).collect();
    let mut out = vec![];
    for page in files.iter().filter(|f| is_page(f) || f.is_rust() && !f.is_test()) {
        let named = paths(&page.text, &top);
        for path in named.into_iter().filter(|p| is_page(page) || p.starts_with("docs/") && p.ends_with(".md")) {
            // From the root, from the page's folder, or the end of a path.
            let tail = format!("/{}", path.trim_start_matches("../").trim_start_matches("./"));
            let exists = files.iter().any(|f| {
                let rooted = format!("/{}", f.path);
                rooted.ends_with(&tail) || rooted.contains(&format!("{tail}/"))
            });
            if !exists {
                out.push(format!("{}: {path} does not exist", page.path));
            }
        }
    }
    out
}

/// What stands in code on a page: fenced or indented lines (joined where they end in `\`), and words in backticks.
fn snippets(text: &str) -> Vec<String> {
    let mut out = vec![];
    let (mut fenced, mut joined) = (false, String::new());
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced || line.starts_with("    ") {
            joined.push_str(line.trim().trim_end_matches('\\'));
            if !line.ends_with('\\') {
                out.push(std::mem::take(&mut joined));
            }
        } else {
            out.extend(line.split('`').skip(1).step_by(2).map(str::to_string));
        }
    }
    let uncommented = |s: String| s.split(" # ").next().unwrap_or("").trim().to_string();
    out.into_iter().map(uncommented).collect()
}

/// Subcommands and flags of the command line, from the text of its `args.rs`.
fn command_line(files: &[File]) -> (Vec<String>, Vec<String>) {
    let (mut commands, mut flags) = (vec![], vec!["--help".to_string(), "--version".to_string()]);
    for f in files.iter().filter(|f| f.path.starts_with("engine/cli/src/args")) {
        let body = f.text.split("pub enum Command {").nth(1).and_then(|b| b.split("\n}").next()).unwrap_or("");
        commands.extend(body.lines().filter_map(|l| l.trim().split_once('(')).map(|(name, _)| name.to_lowercase()));
        let mut attribute = "";
        for line in f.text.lines().map(str::trim) {
            if line.starts_with("#[arg(") {
                attribute = line;
            } else if let Some((field, _)) = line.strip_prefix("pub ").and_then(|l| l.split_once(':')) {
                for (option, dashes) in [("long", "--"), ("short", "-")] {
                    let said = attribute.trim_end_matches(")]").split(['(', ',']).map(str::trim).find(|a| a.starts_with(option));
                    let given = said.map(|s| s.split_once('=').map_or(field, |(_, v)| v.trim().trim_matches(['"', '\''])));
                    flags.extend(given.map(|name| format!("{dashes}{}", name.replace('_', "-"))));
                }
                attribute = "";
            }
        }
    }
    (commands, flags)
}

/// The words after one of these beginnings are for our command line.
const OURS: &[&str] = &["millstream ", "cargo run --release -- "];

fn wrong_commands(files: &[File], commands: &[String], flags: &[String]) -> Vec<String> {
    let mut out = vec![];
    for page in files.iter().filter(|f| is_page(f)) {
        for snippet in snippets(&page.text) {
            let Some(rest) = OURS.iter().find_map(|o| snippet.strip_prefix(o)) else { continue };
            let mut words = rest.split_whitespace();
            let command = words.next().unwrap_or("");
            if !commands.iter().any(|c| c == command) {
                out.push(format!("{}: `{snippet}`: there is no command {command}", page.path));
            }
            let flag = |w: &&str| w.starts_with('-') && w.len() > 1 && !w.starts_with(|c: char| c.is_ascii_digit());
            let unknown = words.filter(flag).map(|w| w.split('=').next().unwrap_or(w)).find(|w| !flags.iter().any(|f| f == w));
            out.extend(unknown.map(|flag| format!("{}: `{snippet}`: there is no flag {flag}", page.path)));
        }
    }
    out
}

/// Packages and targets that cargo commands on pages name.
fn wrong_targets(files: &[File]) -> Vec<String> {
    let named = |name: &str| files.iter().any(|f| f.name() == "Cargo.toml" && f.text.contains(&format!("name = \"{name}\"")));
    let target = |folder: &str, name: &str| {
        let ends = [format!("/{folder}/{name}.rs"), format!("/{folder}/{name}/main.rs")];
        files.iter().any(|f| ends.iter().any(|e| f.path.ends_with(e)))
    };
    let mut out = vec![];
    for page in files.iter().filter(|f| is_page(f)) {
        for snippet in snippets(&page.text) {
            let Some(at) = snippet.find("cargo ") else { continue };
            let words: Vec<&str> = snippet[at..].split_whitespace().take_while(|w| *w != "--").collect();
            for pair in words.windows(2) {
                let exists = match pair[0] {
                    "-p" | "--package" => named(pair[1]),
                    "--test" => target("tests", pair[1]),
                    "--bench" => target("benches", pair[1]),
                    "--example" => target("examples", pair[1]),
                    _ => true,
                };
                if !exists {
                    out.push(format!("{}: `{snippet}`: there is no {}", page.path, pair[1]));
                }
            }
        }
    }
    out
}

/// Variables of the environment that pages name are read somewhere.
fn unknown_variables(files: &[File]) -> Vec<String> {
    let mut out = vec![];
    for page in files.iter().filter(|f| is_page(f)) {
        for word in page.text.split(|c: char| !(c.is_ascii_uppercase() || c == '_')).filter(|w| w.starts_with("MILLSTREAM_")) {
            if !files.iter().any(|f| !is_page(f) && f.text.contains(&format!("\"{word}\""))) {
                out.push(format!("{}: nothing reads {word}", page.path));
            }
        }
    }
    out
}

#[test]
fn paths_on_pages_exist() {
    clean(&missing_paths(&repository()));
    let check = |files: &[File]| {
        let mut all = vec![File::new("kernels/src/hash/mod.rs", "")];
        all.extend(files.iter().map(|f| File::new(&f.path, &f.text)));
        missing_paths(&all)
    };
    for (bad, good) in [
        ("see `kernels/src/hush`", "see `kernels/src/hash`"),
        ("[a](kernels/src/hash/cpu.rs)", "[a](kernels/src/hash/mod.rs)"),
        ("carve.rs folds", "hash/mod.rs hashes and/or not"),
        ("`old.toml`", "`kernels/*/none.rs`"),
    ] {
        catches(check, "docs/A.md", bad, good, "does not exist");
    }
    catches(check, "kernels/src/a.rs", "// see docs/a.md\n", "// see docs/b\n", "docs/a.md does not exist");
}

#[test]
fn commands_on_pages_exist() {
    let files = repository();
    let (commands, flags) = command_line(&files);
    assert!(["sql", "bench", "generate", "devices"].iter().all(|c| commands.iter().any(|known| known == c)), "{commands:?}");
    assert!(["-c", "--table", "--memory-limit", "--scale"].iter().all(|f| flags.iter().any(|known| known == f)), "{flags:?}");
    clean(&wrong_commands(&files, &commands, &flags));
    let check = |files: &[File]| wrong_commands(files, &commands, &flags);
    let good = "    cargo run --release -- bench tpch --scale 1   # said\n";
    catches(check, "README.md", "    cargo run --release -- bunch tpch\n", good, "no command bunch");
    catches(check, "README.md", "`millstream bench tpch --scael 1`", "`millstream bench tpch --scale 1`", "no flag --scael");
    catches(
        check,
        "README.md",
        "    millstream sql -c a \\\n        --tabel b=c\n",
        "    millstream sql -c a \\\n        --table b=c\n",
        "--tabel",
    );
}

#[test]
fn cargo_targets_on_pages_exist() {
    clean(&wrong_targets(&repository()));
    let check = |files: &[File]| {
        let mut all = vec![File::new("a/tests/tidy/main.rs", ""), File::new("a/Cargo.toml", "name = \"a\"\n")];
        all.extend(files.iter().map(|f| File::new(&f.path, &f.text)));
        wrong_targets(&all)
    };
    catches(check, "README.md", "    cargo test --test tydi\n", "    cargo test --test tidy\n", "no tydi");
    catches(check, "README.md", "`A=1 cargo test -p b`", "`A=1 cargo test -p a`", "no b");
}

#[test]
fn variables_on_pages_are_read() {
    clean(&unknown_variables(&repository()));
    let check = |files: &[File]| {
        let mut all = vec![File::new("a.rs", "var(\"MILLSTREAM_A\")")];
        all.extend(files.iter().map(|f| File::new(&f.path, &f.text)));
        unknown_variables(&all)
    };
    catches(check, "README.md", "`MILLSTREAM_B=1`", "`MILLSTREAM_A=1`", "nothing reads MILLSTREAM_B");
}
