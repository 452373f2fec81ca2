//! Rows in the order of their numbers, all or the first of them: the device twin of [`crate::sort`].
//!
//! A number is one to four words. They are sorted digit by digit, least significant first (`radix.wgsl`), stably, so
//! that equal rows stay in their order; digits that all rows share are left out. Of few first rows the key of the last
//! is found first, digit by digit from the other end (`narrow.wgsl`), and only the rows up to it are sorted and come home
//! (`keep.wgsl`). More rows than a binding holds are several runs, which the host merges.
//!
//! Source: least significant digit radix sort with reduce-then-scan counts (Satish, Harris and Garland, "Designing
//! efficient sorting algorithms for manycore GPUs", IPDPS 2009); radix select (Alabi et al., "Fast k-selection algorithms
//! for graphics processing units", JEA 2012).

mod passes;
#[cfg(test)]
mod tests;

use super::device::Device;
use super::partials::Timings;
use super::worker::cancelled;
use crate::sort::{Key, Numbers};
use crate::{Error, ErrorKind, Result};
use millstream_shaders::layout::{BLOCK_TILES, DIGIT_BITS, DIGITS, KEY_WORDS_MAX, WORKGROUP_SIZE};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// How rows are sorted on a device.
#[derive(Clone, Debug)]
pub struct SortOptions {
    /// Set to true from anywhere: the sort ends with `Closed` soon.
    pub cancel: Arc<AtomicBool>,
    /// Rows of a run, at most (also bounded by what the device binds at once).
    pub run_rows_max: usize,
    /// Workgroups of a dispatch, at most; each takes one block of rows after the other.
    pub workgroups_max: u32,
}

/// More workgroups than any device runs at once gain nothing.
const WORKGROUPS_MAX: u32 = 4096;
/// Rows of a block, which one workgroup takes.
const BLOCK_ROWS: usize = (BLOCK_TILES * WORKGROUP_SIZE) as usize;
/// A run of more rows than these for which memory lacks is cut in two.
const RUN_ROWS_MIN: usize = 1 << 20;
/// First rows are looked for where they are no more than one of so many.
const FIRST_OF: usize = 4;

impl Default for SortOptions {
    fn default() -> Self {
        Self { cancel: Arc::default(), run_rows_max: 1 << 28, workgroups_max: WORKGROUPS_MAX }
    }
}

/// The numbers of rows: the least significant word of all rows, then the next of all rows, and so on.
#[derive(Clone, Debug)]
pub(super) struct Words {
    words: Arc<Vec<u32>>,
    rows: usize,
}

/// A digit: the word that it is in, 0 the least significant, and its lowest bit there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digit {
    plane: u32,
    shift: u32,
}

/// What is wanted of the order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// So many rows.
    fetch: usize,
    /// And all that are equal to the last of them.
    with_equal: bool,
}

/// Rows in order, as they come home.
pub(super) struct Run {
    rows: Vec<u32>,
    /// How many rows were sorted for them: fewer than there are where the first were found before.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests look whether rows were left out"))]
    sorted: u32,
    timings: Timings,
}

/// One sort on the device.
pub(super) struct Job {
    words: Words,
    rows: Range<usize>,
    /// Those that rows differ in, least significant first.
    digits: Arc<[Digit]>,
    /// What rows have in all other digits.
    common: [u32; KEY_WORDS_MAX as usize],
    wanted: Wanted,
    workgroups_max: u32,
    cancel: Arc<AtomicBool>,
}

impl Device {
    /// The rows `0..n` in the order of `keys`, or the first `fetch` of them; see [`crate::sort::order`], whose answer it
    /// is. Blocks until it is there; on the current rayon pool where keys do not fit their numbers. Where the time went is
    /// added to `timings`; chunks are runs.
    ///
    /// # Errors
    /// `Unsupported` for a key that kernels do not compute on, `Exhausted` when the device's memory is used up, `Closed`
    /// when it is gone or the sort was cancelled; `Bug` for more rows than have 32 bits.
    pub fn sort(&self, keys: &[Key<'_>], n: usize, fetch: Option<usize>, options: &SortOptions, timings: &mut Timings) -> Result<Vec<u32>> {
        if u32::try_from(n).is_err() {
            return Err(Error::bug(format!("{n} rows in one sort")));
        }
        let fetch = fetch.unwrap_or(n).min(n);
        let numbers = Numbers::of(keys, n)?;
        cancelled(&options.cancel)?;
        let words = Words { words: Arc::new(numbers.words()), rows: n };
        let wanted = Wanted { fetch, with_equal: !numbers.is_exact() };
        let rows = self.sort_words(&words, wanted, options, timings)?;
        cancelled(&options.cancel)?;
        Ok(numbers.settle(rows, &words.words, fetch))
    }

    /// Rows in the order of their numbers, those of equal ones in their own.
    fn sort_words(&self, words: &Words, wanted: Wanted, options: &SortOptions, timings: &mut Timings) -> Result<Vec<u32>> {
        let (digits, common) = words.digits();
        if digits.is_empty() || wanted.fetch == 0 {
            let rows = if wanted.with_equal && wanted.fetch > 0 { words.rows } else { wanted.fetch };
            return Ok((0..rows as u32).collect());
        }
        let planes = words.planes();
        if planes > KEY_WORDS_MAX as usize {
            return Err(Error::bug("a number of more words than a sort has"));
        }
        // Pairs of a word and a row; all words of a number.
        let fits = self.capabilities().binding_bytes_max as usize / 4 / planes.max(2);
        let mut most = fits.min(options.run_rows_max).max(2);
        let digits: Arc<[Digit]> = digits.into();
        let (mut runs, mut from) = (vec![], 0);
        while from < words.rows {
            cancelled(&options.cancel)?;
            let rows = from..words.rows.min(from + most);
            let len = rows.len();
            let job = Job {
                words: words.clone(),
                rows,
                digits: Arc::clone(&digits),
                common,
                wanted,
                workgroups_max: options.workgroups_max.min(self.capabilities().workgroups_max),
                cancel: Arc::clone(&options.cancel),
            };
            match self.call(move |worker| worker.sort(&job)) {
                Ok(run) => {
                    timings.add(&run.timings);
                    runs.push(run.rows);
                    from += len;
                }
                Err(e) if e.kind() == ErrorKind::Exhausted && len > RUN_ROWS_MIN => most = len.div_ceil(2),
                Err(e) => return Err(e),
            }
        }
        words.merge(runs, wanted, &options.cancel)
    }
}

impl Words {
    fn planes(&self) -> usize {
        self.words.len() / self.rows.max(1)
    }

    fn plane(&self, plane: usize) -> &[u32] {
        &self.words[plane * self.rows..][..self.rows]
    }

    /// The digits that rows differ in, least significant first, and what rows have in all others.
    fn digits(&self) -> (Vec<Digit>, [u32; KEY_WORDS_MAX as usize]) {
        let (mut digits, mut common) = (vec![], [0; KEY_WORDS_MAX as usize]);
        for (p, common) in (0..self.planes()).zip(&mut common) {
            let plane = self.plane(p);
            *common = plane[0];
            let differing = plane.iter().fold(0, |all, word| all | (word ^ plane[0]));
            for shift in (0..u32::BITS).step_by(DIGIT_BITS as usize) {
                let mask = (DIGITS - 1) << shift;
                if differing & mask != 0 {
                    digits.push(Digit { plane: p as u32, shift });
                    *common &= !mask;
                }
            }
        }
        (digits, common)
    }

    /// The numbers of two rows, compared.
    fn is_before(&self, a: u32, b: u32) -> bool {
        let differing = (0..self.planes()).rev().map(|p| (self.plane(p)[a as usize], self.plane(p)[b as usize])).find(|(a, b)| a != b);
        differing.is_some_and(|(a, b)| a < b)
    }

    /// One order of the rows of several runs, which follow one another.
    fn merge(&self, mut runs: Vec<Vec<u32>>, wanted: Wanted, cancel: &AtomicBool) -> Result<Vec<u32>> {
        while runs.len() > 1 {
            cancelled(cancel)?;
            let mut pairs = runs.into_iter();
            runs = vec![];
            while let Some(first) = pairs.next() {
                runs.push(match pairs.next() {
                    Some(second) => self.merged(&first, &second, wanted),
                    None => first,
                });
            }
        }
        Ok(runs.pop().unwrap_or_default())
    }

    fn merged(&self, a: &[u32], b: &[u32], Wanted { fetch, with_equal }: Wanted) -> Vec<u32> {
        let mut all = Vec::with_capacity(a.len() + b.len());
        let (mut i, mut j) = (0, 0);
        while i < a.len() || j < b.len() {
            // Of equal rows those of the earlier run come first.
            let from_b = j < b.len() && (i == a.len() || self.is_before(b[j], a[i]));
            let next = if from_b { b[j] } else { a[i] };
            if all.len() >= fetch && (!with_equal || self.is_before(all[fetch - 1], next)) {
                break;
            }
            all.push(next);
            (i, j) = if from_b { (i, j + 1) } else { (i + 1, j) };
        }
        all
    }
}

impl Job {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn planes(&self) -> usize {
        self.words.planes()
    }

    /// Whether the rows up to the last that is wanted are found before they are sorted.
    fn finds_first(&self) -> bool {
        self.len() > BLOCK_ROWS && self.wanted.fetch <= self.len() / FIRST_OF
    }

    /// How many of `all` sorted rows come home.
    fn returned(&self, all: u32) -> u32 {
        let fetch = u32::try_from(self.wanted.fetch).unwrap_or(u32::MAX);
        if self.wanted.with_equal { all } else { all.min(fetch) }
    }

    /// Workgroups for so many blocks.
    fn workgroups(&self, blocks: u32) -> u32 {
        blocks.clamp(1, self.workgroups_max.max(1))
    }
}

/// The device counts rows in words of 32 bits.
fn count(rows: usize) -> Result<u32> {
    u32::try_from(rows).map_err(|_| Error::new(ErrorKind::Exhausted, "gpu: more rows than a run of a sort has"))
}
