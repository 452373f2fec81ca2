//! What this machine's memory gives: the ceiling that kernels are held against.

use std::hint::black_box;
use std::time::Instant;

/// Bytes that are read: far beyond any cache's share of one core.
const BYTES: usize = 1 << 30;
/// The best of so many passes.
const PASSES: usize = 5;

/// Bytes a second that a sum reads.
#[derive(Clone, Copy)]
pub struct Bandwidth {
    pub one_thread: f64,
    pub all_threads: f64,
    pub threads: usize,
}

/// Measures by summing 1 GiB of 64-bit words.
#[expect(clippy::disallowed_methods, reason = "a measurement")]
pub fn measure() -> Bandwidth {
    let words = vec![1u64; BYTES / 8];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let best = |threads: usize| {
        let pass = |_| {
            let started = Instant::now();
            std::thread::scope(|scope| {
                for part in words.chunks(words.len().div_ceil(threads)) {
                    scope.spawn(move || black_box(sum(part)));
                }
            });
            BYTES as f64 / started.elapsed().as_secs_f64()
        };
        (0..PASSES).map(pass).fold(0.0, f64::max)
    };
    assert_eq!(sum(&words), words.len() as u64, "the sum is wrong");
    Bandwidth { one_thread: best(1), all_threads: best(threads), threads }
}

/// Eight sums side by side, so that memory is the limit and not the addition.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; 8];
    let eights = words.chunks_exact(8);
    let rest: u64 = eights.remainder().iter().sum();
    for eight in eights {
        sums.iter_mut().zip(eight).for_each(|(s, w)| *s = s.wrapping_add(*w));
    }
    sums.iter().sum::<u64>() + rest
}
