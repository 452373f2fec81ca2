//! The house rules as tests: crate edges, names, lengths, banned words, docs that tell the truth.
//!
//! Every rule is a function from files to complaints, so that its test can run it twice: over the repository,
//! which must be clean, and over a made-up file that breaks the rule, which must be caught.

mod manifests;
mod pages;
mod rust;
mod shaders;
mod source;
mod text;

use source::File;

/// Fails with all complaints, one a line.
fn clean(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Negative control: `check` must complain about `wanted` in this file, and be content with `good` in its place.
fn catches(check: impl Fn(&[File]) -> Vec<String>, path: &str, bad: &str, good: &str, wanted: &str) {
    let complaints = check(&[File::new(path, bad)]);
    assert!(complaints.iter().any(|c| c.contains(wanted)), "not caught: {bad}\ncomplaints: {complaints:?}");
    clean(&check(&[File::new(path, good)]));
}
