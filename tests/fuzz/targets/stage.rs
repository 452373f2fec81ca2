//! Stage messages: any bytes are refused, or a stage that encodes to a message of itself and runs without ending the process.
//!
//! An input is the number of the stage whose children it gets, and the body of a message: `tests/fuzz/src/stages.rs`.

#![no_main]

use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use millstream::Session;
use millstream_fuzz::mutate::Chance;
use millstream_fuzz::stages::{HEAD, Plan, all, body, decode, encode, seal, sections};
use millstream_fuzz::{bounded, own_panics_abort, session};
use std::sync::{Arc, LazyLock};

/// The stages, the head of their messages, and the session that runs what is decoded.
static STAGES: LazyLock<(Vec<Plan>, Vec<u8>, Session)> = LazyLock::new(|| {
    let stages = all();
    let head = encode(&stages[0]).expect("a message")[..HEAD].to_vec();
    (stages, head, session(true))
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut chance = Chance(seed.into());
    let whole = data[..size].split_first().and_then(|(stage, rest)| Some((*stage, sections(rest)?))).filter(|(_, s)| !s.is_empty());
    let Some((stage, mut parts)) = whole.filter(|_| chance.below(16) > 0) else { return fuzzer_mutate(data, size, max_size) };
    let at = chance.below(parts.len());
    let before = parts[at].len();
    let room = before + max_size - size;
    parts[at].resize(room, 0);
    let after = fuzzer_mutate(&mut parts[at], before, room);
    parts[at].truncate(after);
    let body = body(&parts);
    data[0] = stage;
    data[1..=body.len()].copy_from_slice(&body);
    1 + body.len()
});

fuzz_target!(|input: &[u8]| {
    own_panics_abort();
    let (stages, head, session) = &*STAGES;
    let Some((stage, body)) = input.split_first() else { return };
    let children: Vec<Plan> = stages[usize::from(*stage) % stages.len()].children().into_iter().cloned().collect();
    let Ok(decoded) = decode(&seal(head, body), &children) else { return };
    let message = encode(&decoded).expect("a stage that was decoded can be encoded");
    let again = decode(&message, &children).expect("its message can be decoded");
    assert_eq!(encode(&again).expect("a message"), message, "the message of a message");
    bounded(async {
        let Ok(mut rows) = execute_stream(Arc::clone(&again), session.context().task_ctx()) else { return };
        while let Some(Ok(_)) = rows.next().await {}
    });
});
