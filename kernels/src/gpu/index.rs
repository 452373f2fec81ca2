//! Join tables by hash: the rows of their keys, brought into slots by the device itself.
//!
//! One region of words: slots, at first all 0; the key of each row, two words; the rows to insert. A slot
//! holds a row's number + 1; which of several colliding keys comes first is left to chance, what a probe finds is not.

use super::kernel::{Kernel, pass};
use super::pack::word_pairs;
use crate::{Error, Result};
use millstream_shaders as shaders;
use millstream_shaders::layout::{self, Output, Params, WORKGROUP_SIZE};

/// A hash table on its way to the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Index {
    /// The buffer of join tables that it is in.
    pub buffer: usize,
    pub slots_at: u32,
    /// Slots, a power of two, less one.
    pub mask: u32,
    pub codes_at: u32,
    heads_at: u32,
    heads: u32,
}

impl Index {
    /// The words of a table whose rows `heads` are found by their codes, and where things lie in it.
    ///
    /// # Errors
    /// `Bug` for a head that is no row, or more rows than 32 bits count.
    pub fn pack(codes: &[u64], heads: &[u32]) -> Result<(Vec<u32>, Self)> {
        if heads.iter().any(|head| *head == 0 || *head as usize > codes.len()) {
            return Err(Error::bug("a head of a join table is none of its rows"));
        }
        let slots = (2 * heads.len()).next_power_of_two().max(2);
        let words = slots + 2 * codes.len() + heads.len();
        u32::try_from(words).map_err(|_| Error::bug("a join table has more rows than there are"))?;
        let mut all = vec![0; slots];
        all.extend(word_pairs(codes));
        all.extend_from_slice(heads);
        let (codes_at, heads_at) = (slots as u32, (slots + 2 * codes.len()) as u32);
        Ok((all, Self { buffer: 0, slots_at: 0, mask: slots as u32 - 1, codes_at, heads_at, heads: heads.len() as u32 }))
    }

    /// In buffer `buffer`, from word `at` on.
    pub fn placed(self, buffer: usize, at: u32) -> Self {
        Self { buffer, slots_at: at, codes_at: self.codes_at + at, heads_at: self.heads_at + at, ..self }
    }

    /// The kernel that fills the slots, its parameters and its workgroups.
    pub fn kernel(&self, workgroups_max: u32) -> (Kernel, Params, u32) {
        let mut source = layout::declarations(0, Output::Index);
        let words = [self.slots_at, self.mask, self.codes_at, self.heads_at];
        for (i, name) in ["slots_at", "slot_mask", "codes_at", "heads_at"].into_iter().enumerate() {
            source += &format!("fn {name}() -> u32 {{ return {}; }}\n", Params::word(i));
        }
        source += shaders::HASH.source;
        source += shaders::INSERT.source;
        let workgroups = self.heads.div_ceil(WORKGROUP_SIZE).clamp(1, workgroups_max);
        let params = Params::new(self.heads, workgroups * WORKGROUP_SIZE, 0, &words);
        let kernel = Kernel {
            source,
            tables: 0,
            has_columns: false,
            params: vec![],
            passes: const { &[pass("insert", false)] },
            output_words: 0,
            groups: 0,
            rows_per_workgroup: WORKGROUP_SIZE,
        };
        (kernel, params, workgroups)
    }
}
