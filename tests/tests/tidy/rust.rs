//! What Rust code may not say, and where.

use crate::source::{File, code, repository, shipped};
use crate::{catches, clean};

/// Words that are banned in some files, outside tests, comments and strings.
struct Ban {
    /// Beginnings of paths, or ends where they begin with `/`.
    within: &'static [&'static str],
    except: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

const EVERYWHERE: &[&str] = &["shaders/", "kernels/", "engine/", "benches/", "datasets/"];

const BANS: &[Ban] = &[
    Ban {
        within: EVERYWHERE,
        except: &["benches/compare/"],
        words: &[".unwrap()", ".unwrap_err()", ".expect(", ".expect_err(", "panic!(", "unreachable!("],
        why: "bad input never panics: return the crate's error",
    },
    Ban { within: EVERYWHERE, except: &[], words: &["todo!(", "unimplemented!(", "dbg!("], why: "nothing is half done" },
    Ban {
        within: EVERYWHERE,
        except: &["engine/cli/", "benches/src/bin/", "benches/compare/", "benches/build.rs", "shaders/build.rs"],
        words: &["println!(", "print!(", "eprintln!(", "eprint!("],
        why: "a library does not print",
    },
    Ban {
        within: &["kernels/src/"],
        except: &[],
        words: &["std::fs", "std::net", "std::env", "SystemTime", "tokio", "async fn", "datafusion"],
        why: "a kernel knows no plan, no calendar time, no async, no I/O",
    },
    Ban {
        within: &["kernels/src/"],
        except: &["kernels/src/gpu/"],
        words: &["wgpu", "Instant"],
        why: "kernels/src/gpu alone talks to devices and times them",
    },
    Ban { within: &["/reference.rs"], except: &[], words: &["simd!", "rayon", "std::arch"], why: "an oracle is a loop, never optimised" },
    Ban {
        within: &["engine/"],
        // The shells call one C function of their allocator, docs/decisions/0003-mimalloc-in-the-shell.md.
        except: &[
            "engine/session/src/interop/",
            "engine/python/src/interop/",
            "engine/cli/src/memory.rs",
            "engine/python/src/allocator.rs",
        ],
        words: &["unsafe"],
        why: "unsafe only in kernels and in the interop of Arrow C data",
    },
    Ban { within: &["shaders/", "benches/", "datasets/"], except: &[], words: &["unsafe"], why: "unsafe only in kernels" },
];

fn banned(files: &[File]) -> Vec<String> {
    let mut out = vec![];
    let is = |f: &File, places: &[&str]| places.iter().any(|p| f.path.starts_with(p) || (p.starts_with('/') && f.path.ends_with(p)));
    for f in files.iter().filter(|f| f.is_rust() && !f.is_test()) {
        let bans: Vec<&Ban> = BANS.iter().filter(|b| is(f, b.within) && !is(f, b.except)).collect();
        let code = if bans.is_empty() { String::new() } else { shipped(&f.text) };
        for (number, line) in code.lines().enumerate() {
            for ban in &bans {
                let said = ban.words.iter().filter(|w| has_word(line, w));
                out.extend(said.map(|w| format!("{}:{}: {w} ({})", f.path, number + 1, ban.why)));
            }
        }
    }
    out
}

/// Whether `line` has `word`, not as the end of a longer one (`print!(` in `eprint!(`).
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let inside = |at: usize| word.starts_with(part) && line[..at].ends_with(part);
    let beyond = |at: usize| word.ends_with(part) && line[at + word.len()..].starts_with(part);
    line.match_indices(word).any(|(at, _)| !inside(at) && !beyond(at))
}

/// How many lines above `unsafe` its reason may stand.
const SAFETY_LINES: usize = 4;

fn unsafe_has_its_reason(files: &[File]) -> Vec<String> {
    let mut out = vec![];
    for f in files.iter().filter(|f| f.is_rust()) {
        let code = code(&f.text);
        let text: Vec<&str> = f.text.lines().collect();
        for (at, _) in code.lines().enumerate().filter(|(_, line)| has_word(line, "unsafe")) {
            let said = text[at.saturating_sub(SAFETY_LINES)..=at].iter().any(|l| l.contains("SAFETY"));
            if !said {
                out.push(format!("{}:{}: unsafe without a SAFETY comment", f.path, at + 1));
            }
        }
    }
    out
}

#[test]
fn no_banned_word() {
    clean(&banned(&repository()));
    let kernel = "kernels/src/a/cpu.rs";
    for (path, bad, good, wanted) in [
        (kernel, "let a = b.unwrap();\n", "let a = b.unwrap_or(0);\n", "unwrap()"),
        (kernel, "let a = b.expect(\"c\");\n", "let a = b?; // not .expect(\n", ".expect("),
        (kernel, "panic!(\"a\");\n", "#[cfg(test)]\nmod tests {\n    panic!(\"a\");\n}\n", "panic!("),
        ("engine/cli/src/a.rs", "todo!()\n", "println!()\n", "todo!("),
        ("engine/plan/src/a.rs", "eprintln!(\"a\");\n", "\"eprintln!(\";\n", "eprintln!("),
        (kernel, "use std::fs::File;\n", "use std::fmt;\n", "std::fs"),
        (kernel, "use wgpu::Device;\n", "// as wgpu does\n", "wgpu"),
        ("kernels/src/group/reference.rs", "simd! {}\n", "loop {}\n", "simd!"),
        ("engine/stage/src/a.rs", "unsafe { a() }\n", "let unsafety = a();\n", "unsafe"),
    ] {
        catches(banned, path, bad, good, wanted);
    }
    assert!(banned(&[File::new("kernels/src/a/tests.rs", "a.unwrap();\n")]).is_empty());
    assert!(!has_word("eprint!(1)", "print!(") && has_word("(print!(1))", "print!("));
}

#[test]
fn unsafe_code_says_why_it_is_sound() {
    clean(&unsafe_has_its_reason(&repository()));
    let check = unsafe_has_its_reason;
    catches(check, "kernels/src/a.rs", "unsafe { a() }\n", "// SAFETY: a is sound.\nunsafe { a() }\n", "a.rs:1");
}
