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
    let words = vec![1i64; BYTES / 8];
    let best = |threads: usize| (0..PASSES).map(|_| memory_read_rate(&words, threads)).fold(0.0, f64::max);
    Bandwidth { one_thread: best(1), all_threads: best(threads) }
}

/// Bytes a second at which `threads` threads read `words` to add them up, once: what a scan is held against.
///
/// ```
/// assert!(millstream::memory_read_rate(&[1; 4096], 2) > 0.0);
/// ```
pub fn memory_read_rate(words: &[i64], threads: usize) -> f64 {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for part in words.chunks(words.len().div_ceil(threads.max(1)).max(1)) {
            scope.spawn(move || black_box(sum(part)));
        }
    });
    size_of_val(words) as f64 / started.elapsed().as_secs_f64()
}

/// Eight sums side by side, so that memory is the limit and not the addition.
fn sum(words: &[i64]) -> i64 {
    let mut sums = [0i64; 8];
    for eight in words.chunks_exact(8) {
        sums.iter_mut().zip(eight).for_each(|(s, w)| *s = s.wrapping_add(*w));
    }
    sums.iter().fold(0, |all, s| all.wrapping_add(*s))
}
