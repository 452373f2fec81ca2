//! What the memory gives.

use std::hint::black_box;
use std::time::Instant;

/// Bytes that are read: beyond a core's share of most caches.
const BYTES: usize = 256 << 20;
/// The best of so many passes.
const PASSES: usize = 3;

/// Bytes a second that a sum reads.
pub struct Bandwidth {
    pub one_thread: f64,
    pub all_threads: f64,
}

pub fn measure(threads: usize) -> Bandwidth {
    let words = vec![1u64; BYTES / 8];
    let best = |threads: usize| {
        let pass = |_| {
            let started = Instant::now();
            std::thread::scope(|scope| {
                for part in words.chunks(words.len().div_ceil(threads.max(1))) {
                    scope.spawn(move || black_box(sum(part)));
                }
            });
            BYTES as f64 / started.elapsed().as_secs_f64()
        };
        (0..PASSES).map(pass).fold(0.0, f64::max)
    };
    Bandwidth { one_thread: best(1), all_threads: best(threads) }
}

/// Eight sums side by side, so that memory is the limit and not the addition.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; 8];
    for eight in words.chunks_exact(8) {
        sums.iter_mut().zip(eight).for_each(|(s, w)| *s = s.wrapping_add(*w));
    }
    sums.iter().sum()
}
