#!/usr/bin/env bash
# Prints the folder of DataFusion's published SQL logic tests, of the version in Cargo.lock. They come as a crate
# from the registry; nothing of it is built.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=$(grep -A1 '^name = "datafusion"$' Cargo.lock | sed -n 's/^version = "\(.*\)"$/\1/p')
fetch=$(mktemp -d)
trap 'rm -rf "$fetch"' EXIT
mkdir "$fetch/src"
touch "$fetch/src/lib.rs"
cat > "$fetch/Cargo.toml" <<MANIFEST
[package]
name = "fetch"
edition = "2024"
[dependencies]
datafusion-sqllogictest = "=$version"
[workspace]
MANIFEST
cargo metadata --quiet --format-version 1 --manifest-path "$fetch/Cargo.toml" |
    python3 -c 'import json, os, sys
for p in json.load(sys.stdin)["packages"]:
    if p["name"] == "datafusion-sqllogictest":
        print(os.path.join(os.path.dirname(p["manifest_path"]), "test_files"))'
