//! Crate edges, lints and locked versions, read from the manifests.

use crate::source::{File, repository};
use crate::{catches, clean};

/// Which of our crates each of our crates may use; all other edges are forbidden.
const EDGES: &[(&str, &[&str])] = &[
    ("millstream-shaders", &[]),
    ("millstream-kernels", &["millstream-shaders"]),
    ("millstream-cost", &[]),
    ("millstream-stage", &["millstream-kernels"]),
    ("millstream-plan", &["millstream-stage", "millstream-cost"]),
    ("millstream-stream", &["millstream-stage"]),
    ("millstream-connect", &["millstream-stream", "millstream-datasets"]),
    (
        "millstream",
        &[
            "millstream-kernels",
            "millstream-cost",
            "millstream-stage",
            "millstream-plan",
            "millstream-stream",
            "millstream-connect",
            "millstream-datasets",
        ],
    ),
    ("millstream-cli", &["millstream", "millstream-datasets", "millstream-benches"]),
    ("millstream-python", &["millstream"]),
    ("millstream-datasets", &[]),
    // Its criterion benches time the kernels.
    ("millstream-benches", &["millstream-kernels"]),
];

/// May use everything: it ships nothing.
const TESTS: &str = "millstream-tests";

const PLANNED: &[&str] = &["millstream-stage", "millstream-plan", "millstream-stream", "millstream-connect", "millstream"];
const SHELLS: &[&str] = &["millstream-cli", "millstream-python"];
const DATA: &[&str] = &["millstream-datasets", "millstream-benches"];
const DEVICES: &[&str] = &["millstream-kernels"];

/// Who may use what others wrote. A crate that is not listed needs a line here first.
const OTHERS: &[(&str, &[&[&str]])] = &[
    ("arrow", &[DEVICES, PLANNED, SHELLS, DATA]),
    ("parquet", &[PLANNED, DATA]),
    // The command line times plans, which are DataFusion's.
    ("datafusion", &[PLANNED, SHELLS]),
    ("datafusion-proto", &[PLANNED]),
    ("object_store", &[PLANNED]),
    ("tokio", &[PLANNED, SHELLS]),
    ("url", &[PLANNED]),
    ("glob", &[PLANNED]),
    ("wgpu", &[DEVICES]),
    ("naga", &[&["millstream-shaders"]]),
    ("rayon", &[DEVICES, &["millstream-stage"]]),
    ("pollster", &[DEVICES]),
    ("memchr", &[DEVICES]),
    ("clap", &[SHELLS]),
    ("indicatif", &[SHELLS]),
    ("rustyline", &[SHELLS]),
    ("mimalloc", &[SHELLS]),
    ("nix", &[SHELLS]),
    ("terminal_size", &[SHELLS]),
    ("pyo3", &[&["millstream-python"]]),
    ("polars", &[&["millstream"]]),
    ("polars-arrow", &[&["millstream"]]),
    // Python does not use it: its features are those that it has in the workspace.
    ("rustix", &[&["millstream", "millstream-python"]]),
    // Not used: their features are those that they have in the workspace.
    ("libc", &[&["millstream-python"]]),
    // Not used: their features are those that Polars asks for.
    ("either", &[&["millstream"]]),
    ("half", &[&["millstream"]]),
    ("indexmap", &[&["millstream"]]),
    ("rand", &[&["millstream"]]),
    ("simdutf8", &[&["millstream"]]),
    ("typenum", &[&["millstream"]]),
    ("uuid", &[&["millstream"]]),
    ("criterion", &[&["millstream-benches"]]),
    ("nexmark", &[&["millstream-datasets"]]),
    ("tpchgen", &[&["millstream-datasets"]]),
    ("tpchgen-arrow", &[&["millstream-datasets"]]),
];

/// Small, and without an opinion on how the engine is built: anybody's.
const SMALL: &[&str] = &["async-trait", "bytemuck", "bytes", "futures", "hashbrown", "serde", "serde_json", "tempfile", "thiserror"];

/// Crates of which there must be one version: two would double the build and not fit together.
const ONCE: &[&str] = &["arrow", "datafusion", "naga", "object_store", "parquet", "sqlparser", "tokio", "wgpu"];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The name of a section and its entries.
type Section = (String, Vec<(String, String)>);

/// Sections of a manifest or lock file with their entries, values as written (a list may span lines).
fn sections(text: &str) -> Vec<Section> {
    let mut out: Vec<Section> = vec![];
    let mut open = false;
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if open {
            if let Some((_, value)) = out.last_mut().and_then(|s| s.1.last_mut()) {
                value.push_str(line);
            }
        } else if line.starts_with('[') {
            out.push((line.trim_matches(['[', ']']).to_string(), vec![]));
        } else if let (Some((key, value)), Some(section)) = (line.split_once('='), out.last_mut()) {
            section.1.push((key.trim().to_string(), value.trim().to_string()));
        }
        let value = out.last().and_then(|s| s.1.last()).map_or("", |v| v.1.as_str());
        open = value.matches('[').count() > value.matches(']').count();
    }
    out
}

/// The entries of all sections of this name.
fn entries<'a>(sections: &'a [Section], name: &str) -> Vec<&'a (String, String)> {
    sections.iter().filter(|s| s.0 == name).flat_map(|s| &s.1).collect()
}

fn value<'a>(sections: &'a [Section], section: &str, key: &str) -> &'a str {
    entries(sections, section).into_iter().find(|e| e.0 == key).map_or("", |e| e.1.trim_matches('"'))
}

/// The manifests of the workspace's members: those that do not open a workspace of their own.
fn members(files: &[File]) -> impl Iterator<Item = (&File, Vec<Section>)> {
    let manifests = files.iter().filter(|f| f.name() == "Cargo.toml");
    manifests.map(|f| (f, sections(&f.text))).filter(|(_, s)| !s.iter().any(|s| s.0 == "workspace"))
}

/// Whether the crate `name` may use `used`, ours or another's.
fn allowed(name: &str, used: &str) -> bool {
    if used == "millstream" || used.starts_with("millstream-") {
        return EDGES.iter().any(|(from, to)| *from == name && to.contains(&used));
    }
    SMALL.contains(&used) || OTHERS.iter().any(|(crate_, by)| *crate_ == used && by.iter().any(|by| by.contains(&name)))
}

fn edges(files: &[File]) -> Vec<String> {
    let mut out = vec![];
    for (file, sections) in members(files) {
        let name = value(&sections, "package", "name");
        // Also those of one system: `target.'cfg(unix)'.dev-dependencies`.
        let dependencies = sections.iter().filter(|s| s.0.ends_with("dependencies")).flat_map(|s| &s.1);
        if !EDGES.iter().any(|e| e.0 == name) && name != TESTS {
            out.push(format!("{}: {name} is not in EDGES", file.path));
        }
        for (dependency, said) in dependencies {
            let optional = (said == "{ workspace = true, optional = true }").then_some(dependency.as_str());
            let Some(used) = dependency.strip_suffix(".workspace").or(optional) else {
                out.push(format!("{}: {dependency}: versions and features are set in the root Cargo.toml", file.path));
                continue;
            };
            if !allowed(name, used) && name != TESTS {
                out.push(format!("{}: {name} may not use {used}", file.path));
            }
        }
    }
    out
}

/// The manifests of packages outside the workspace that use its crates, such as the Python package: workspaces of their own.
fn packages_outside(files: &[File]) -> impl Iterator<Item = (&File, Vec<Section>)> {
    let beside = |f: &&File| f.path.starts_with("engine/") || f.path.starts_with("tests/");
    let manifests = files.iter().filter(beside).filter(|f| f.name() == "Cargo.toml");
    manifests.map(|f| (f, sections(&f.text))).filter(|(_, s)| s.iter().any(|s| s.0 == "workspace"))
}

/// The version in the value of a dependency.
fn version(dependency: &str) -> &str {
    let table = dependency.split_once("version = \"").map_or(dependency.trim_start_matches('"'), |(_, rest)| rest);
    table.split('"').next().unwrap_or("")
}

/// A package outside keeps to its edges, and to the root's versions, profile and lints: third-party crates are compiled
/// once for both. What lies in `tests/` may use everything.
fn outside(files: &[File]) -> Vec<String> {
    let root = files.iter().find(|f| f.path == "Cargo.toml").map_or(vec![], |f| sections(&f.text));
    let mut out = vec![];
    for (file, sections) in packages_outside(files) {
        let name = value(&sections, "package", "name");
        let all = sections.iter().filter(|s| s.0.ends_with("dependencies")).flat_map(|s| &s.1);
        for (used, said) in all {
            let theirs = entries(&root, "workspace.dependencies").into_iter().find(|e| e.0 == *used).map_or("", |e| version(&e.1));
            if !allowed(name, used) && !file.path.starts_with("tests/") {
                out.push(format!("{}: {name} may not use {used}", file.path));
            } else if !said.contains("path = ") && !theirs.is_empty() && version(said) != theirs {
                out.push(format!("{}: {used} {} is {theirs} in the root", file.path, version(said)));
            }
        }
        for (at, roots) in [
            ("profile.release", "profile.release"),
            ("profile.release.package.\"*\"", "profile.release.package.\"*\""),
            ("lints.rust", "workspace.lints.rust"),
            ("lints.clippy", "workspace.lints.clippy"),
        ] {
            if entries(&sections, at) != entries(&root, roots) {
                out.push(format!("{}: [{at}] is not that of the root", file.path));
            }
        }
    }
    out
}

/// What the lock file of a package outside shares with the root's has the same versions.
fn locked_alike(files: &[File]) -> Vec<String> {
    let packages = |f: &File| -> Vec<(String, String)> {
        let locked = sections(&f.text).into_iter().filter(|s| s.0 == "package");
        let of = |p: &Section, key: &str| p.1.iter().find(|e| e.0 == key).map_or(String::new(), |e| e.1.clone());
        locked.map(|p| (of(&p, "name"), of(&p, "version"))).collect()
    };
    let root = files.iter().find(|f| f.path == "Cargo.lock").map_or(vec![], packages);
    let mut out = vec![];
    for (manifest, _) in packages_outside(files) {
        let path = manifest.path.replace("Cargo.toml", "Cargo.lock");
        let Some(lock) = files.iter().find(|f| f.path == path) else {
            out.push(format!("{path}: there is none"));
            continue;
        };
        let shared = packages(lock).into_iter().filter(|p| root.iter().any(|r| r.0 == p.0));
        out.extend(shared.filter(|p| !root.contains(p)).map(|p| format!("{path}: {} {} is not in the root's", p.0, p.1)));
    }
    out
}

fn shared_settings(files: &[File]) -> Vec<String> {
    let mut out = vec![];
    for (file, sections) in members(files) {
        if value(&sections, "lints", "workspace") != "true" {
            out.push(format!("{}: no workspace lints", file.path));
        }
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            if value(&sections, "package", &format!("{key}.workspace")) != "true" {
                out.push(format!("{}: {key} is not the workspace's", file.path));
            }
        }
    }
    out
}

/// Every folder with a manifest is a member, or a workspace of its own.
fn membership(files: &[File]) -> Vec<String> {
    let root = files.iter().find(|f| f.path == "Cargo.toml").map_or(vec![], |f| sections(&f.text));
    let listed = value(&root, "workspace", "members");
    let folder = |f: &File| f.path.trim_end_matches("/Cargo.toml").to_string();
    let forgotten = members(files).map(|(f, _)| folder(f)).filter(|folder| !listed.contains(&format!("\"{folder}\"")));
    forgotten.map(|f| format!("{f}: not a member of the workspace")).collect()
}

fn locked(files: &[File]) -> Vec<String> {
    let mut out = vec![];
    for f in files.iter().filter(|f| f.name() == "Cargo.lock") {
        let sections = sections(&f.text);
        let packages: Vec<_> = sections.iter().filter(|s| s.0 == "package").collect();
        let of = |p: &Section, key: &str| p.1.iter().find(|e| e.0 == key).map_or(String::new(), |e| e.1.trim_matches('"').to_string());
        for p in &packages {
            let (name, source) = (of(p, "name"), of(p, "source"));
            if !source.is_empty() && source != REGISTRY {
                out.push(format!("{}: {name} comes from {source}, not from crates.io", f.path));
            }
            let family = |o: &str| name == o || name.starts_with(&format!("{o}-"));
            let versions = packages.iter().filter(|q| of(q, "name") == name).count();
            if versions > 1 && ONCE.iter().any(|o| family(o)) {
                out.push(format!("{}: {versions} versions of {name}", f.path));
            }
        }
    }
    out
}

#[test]
fn crates_keep_to_their_edges() {
    let files = repository();
    assert!(members(&files).count() >= 9);
    clean(&edges(&files));
    let manifest = |name: &str, used: &str| format!("[package]\nname = \"{name}\"\n\n[dev-dependencies]\n{used} = true\n");
    for (name, bad, good) in [
        ("millstream-kernels", "datafusion.workspace", "arrow.workspace"),
        ("millstream-kernels", "millstream-stage.workspace", "millstream-shaders.workspace"),
        ("millstream-plan", "wgpu.workspace", "thiserror.workspace"),
        ("millstream-plan", "rayon.workspace", "millstream-stage.workspace"),
        ("millstream-shaders", "tokio.workspace", "naga.workspace"),
        ("millstream-stage", "polars.workspace", "serde.workspace"),
        ("millstream-stage", "arrow", "arrow.workspace"),
        ("millstream-stage", "millstream.workspace", "tokio.workspace"),
    ] {
        let wanted = bad.trim_end_matches(".workspace");
        catches(edges, "a/Cargo.toml", &manifest(name, bad), &manifest(name, good), wanted);
    }
    let optional = |name: &str| manifest(name, "polars").replace("= true", "= { workspace = true, optional = true }");
    catches(edges, "a/Cargo.toml", &optional("millstream-stage"), &optional("millstream"), "may not use polars");
    let on_unix = manifest("millstream-plan", "nix.workspace").replace("dev-dependencies", "target.'cfg(unix)'.dev-dependencies");
    assert_eq!(edges(&[File::new("a/Cargo.toml", &on_unix)]).len(), 1);
    assert_eq!(edges(&[File::new("a/Cargo.toml", &manifest("millstream-new", "arrow.workspace"))]).len(), 2);
}

#[test]
fn packages_outside_the_workspace_fit_to_it() {
    let files = repository();
    assert_eq!(packages_outside(&files).count(), 3);
    clean(&outside(&files));
    clean(&locked_alike(&files));
    let lints = "[workspace.lints.rust]\na = \"warn\"\n";
    let root = format!("[workspace.dependencies]\narrow = {{ version = \"59\" }}\n[profile.release]\nopt-level = 3\n{lints}");
    let shell = |used: &str, opt: u32| {
        let lints = lints.replace("workspace.", "");
        format!(
            "[package]\nname = \"millstream-python\"\n[workspace]\n[dependencies]\n{used}\n[profile.release]\nopt-level = {opt}\n{lints}"
        )
    };
    let check = |files: &[File]| outside(&[File::new("Cargo.toml", &root), File::new(&files[0].path, &files[0].text)]);
    let good = shell("arrow = { version = \"59\", features = [\"ffi\"] }\nmillstream = { path = \"../session\" }", 3);
    let path = "engine/a/Cargo.toml";
    catches(check, path, &shell("millstream-stage = { path = \"../stage\" }", 3), &good, "may not use millstream-stage");
    catches(check, path, &shell("polars = \"2\"", 3), &good, "may not use polars");
    catches(check, path, &shell("arrow = \"58\"", 3), &good, "arrow 58 is 59");
    catches(check, path, &shell("arrow = \"59\"", 2), &good, "profile.release");
    catches(check, path, &good.replace("warn", "deny"), &good, "lints.rust");
    let lock = |version: u32| format!("[[package]]\nname = \"arrow\"\nversion = \"{version}.0.0\"\n");
    let alike = |version: u32| {
        locked_alike(&[File::new(path, &good), File::new("Cargo.lock", &lock(59)), File::new("engine/a/Cargo.lock", &lock(version))])
    };
    clean(&alike(59));
    assert_eq!(alike(58).len(), 1);
}

#[test]
fn every_crate_has_the_settings_of_the_workspace() {
    clean(&shared_settings(&repository()));
    let package = "[package]\nversion.workspace = true\nedition.workspace = true\nrust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n";
    let good = format!("{package}\n[lints]\nworkspace = true\n");
    catches(shared_settings, "a/Cargo.toml", package, &good, "no workspace lints");
    catches(shared_settings, "a/Cargo.toml", &good.replace("edition.workspace = true", "edition = \"2021\""), &good, "edition");
}

#[test]
fn every_manifest_is_a_member() {
    clean(&membership(&repository()));
    let root = File::new("Cargo.toml", "[workspace]\nmembers = [\n    \"a\",\n]\n");
    let with = |path: &str| membership(&[File::new("Cargo.toml", &root.text), File::new(path, "[package]\nname = \"b\"\n")]);
    assert_eq!(with("b/Cargo.toml").len(), 1);
    clean(&with("a/Cargo.toml"));
}

#[test]
fn the_lock_file_has_one_version_of_what_must_fit_together() {
    let files = repository();
    assert!(files.iter().any(|f| f.path == "Cargo.lock" && f.text.contains("name = \"datafusion-common\"")));
    clean(&locked(&files));
    let package = |name: &str, version: u32, source: &str| {
        format!("[[package]]\nname = \"{name}\"\nversion = \"{version}.0.0\"\nsource = \"{source}\"\n\n")
    };
    let two = |name: &str| package(name, 1, REGISTRY) + &package(name, 2, REGISTRY);
    catches(locked, "Cargo.lock", &two("arrow-schema"), &two("hashbrown"), "2 versions of arrow-schema");
    catches(locked, "Cargo.lock", &package("a", 1, "git+https://example.org/a"), &package("a", 1, REGISTRY), "not from crates.io");
}
