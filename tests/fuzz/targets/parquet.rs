//! Parquet: any bytes are rows or an error, read whole, filtered and grouped; the error of a stage names the file.
//!
//! Most mutations leave the footer as it is, so that they reach pages: those are our decoder's.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use millstream::Session;
use millstream_fuzz::mutate::{Chance, in_place, parquet_data};
use millstream_fuzz::{bounded, lines, own_panics_abort, session};
use std::sync::LazyLock;
use tempfile::TempDir;

static ENGINE: LazyLock<(Session, TempDir)> = LazyLock::new(|| (session(true), tempfile::tempdir().expect("a folder")));

const QUERIES: &[&str] = &[
    "select * from 'FILE'",
    "select * from 'FILE' where n % 3 = 1",
    "select * from 'FILE' where s > 'b' and d < 5",
    "select s, count(*), sum(d), min(n), max(t) from 'FILE' where f >= 0 or f is null group by s",
];

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut chance = Chance(seed.into());
    if chance.below(8) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    in_place(parquet_data(&mut data[..size]), &mut chance);
    size
});

fuzz_target!(|bytes: &[u8]| {
    own_panics_abort();
    let (session, folder) = &*ENGINE;
    let path = folder.path().join("t.parquet");
    std::fs::write(&path, bytes).expect("a file");
    for query in QUERIES {
        let query = query.replace("FILE", &path.to_string_lossy());
        let answer = bounded(async { Some(lines(session.sql(&query).await.ok()?).await) });
        if let Some(Some(Err(e))) = answer {
            // A footer of other types makes sums that do not fit. A scan without a stage is DataFusion's, and so is its error.
            let (named, said) = (e.to_string().contains("t.parquet"), e.to_string().contains("overflow"));
            assert!(named || said || !query.contains("where"), "no file: {:?}: {e}", e.kind());
        }
    }
});
