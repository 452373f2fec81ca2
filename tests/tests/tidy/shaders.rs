//! Constants, bindings and sizes of shaders are written once, in Rust.

use crate::source::{File, code, repository};
use crate::{catches, clean};

/// Where they are written.
const LAYOUT: &str = "shaders/src/layout.rs";

/// Names that a text declares as constants: `const NAME`, `override NAME`, or `NAME = value;` in the layout's macro.
fn declared(text: &str) -> Vec<String> {
    let name = |word: &str| word.trim_end_matches([':', '=']).to_string();
    let mut out = vec![];
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        for (i, w) in words.iter().enumerate() {
            let next = words.get(i + 1).copied().unwrap_or("");
            let capital = |w: &str| w.starts_with(|c: char| c.is_ascii_uppercase());
            if matches!(*w, "const" | "override" | "static") && capital(next) {
                out.push(name(next));
            } else if i == 0 && next == "=" && capital(w) {
                out.push(name(w));
            }
        }
    }
    out
}

/// A number where the layout has a name.
fn has_number(text: &str, attribute: &str) -> bool {
    text.match_indices(attribute).any(|(at, _)| text[at + attribute.len()..].trim_start().starts_with(|c: char| c.is_ascii_digit()))
}

fn written_once(files: &[File]) -> Vec<String> {
    let layout: Vec<String> = files.iter().filter(|f| f.path == LAYOUT).flat_map(|f| declared(&code(&f.text))).collect();
    let mut out = vec![];
    for f in files.iter().filter(|f| f.path.starts_with("shaders/") || f.path.starts_with("kernels/src/gpu")) {
        let wgsl = f.path.ends_with(".wgsl");
        if f.path == LAYOUT || !(wgsl || f.is_rust()) {
            continue;
        }
        // Rust holds WGSL in strings, so attributes are looked for in the raw text.
        for attribute in ["@workgroup_size(", "@binding(", "@group("] {
            if has_number(&f.text, attribute) {
                out.push(format!("{}: {attribute} with a number: name it in {LAYOUT}", f.path));
            }
        }
        for name in declared(&code(&f.text)) {
            if wgsl {
                out.push(format!("{}: constant {name} in a shader: declare it in {LAYOUT}", f.path));
            } else if layout.contains(&name) {
                out.push(format!("{}: {name} is declared in {LAYOUT} already", f.path));
            }
        }
    }
    out
}

#[test]
fn constants_of_shaders_are_written_once() {
    let files = repository();
    assert!(files.iter().any(|f| f.path == LAYOUT && declared(&code(&f.text)).contains(&"WORKGROUP_SIZE".to_string())));
    clean(&written_once(&files));
    let shader = "shaders/wgsl/a.wgsl";
    catches(written_once, shader, "const ROWS: u32 = 4u;\n", "let rows = 4u;\n", "constant ROWS");
    catches(written_once, shader, "@compute @workgroup_size(64)\n", "@compute @workgroup_size(WORKGROUP_SIZE)\n", "@workgroup_size(");
    let twice =
        |text: &str| written_once(&[File::new(LAYOUT, "constants! {\n    WIDE = 3;\n}\n"), File::new("kernels/src/gpu/a.rs", text)]);
    assert_eq!(twice("const WIDE: u32 = 3;\n").len(), 1);
    clean(&twice("const NARROW: u32 = 3;\n"));
}
