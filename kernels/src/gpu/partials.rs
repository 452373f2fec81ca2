//! What a run returns: per group, exact and wider than any device word.

use super::DeviceProgram;
use super::sink::{Cell, CellKind, Cells};
use crate::program::AggregateOp;

/// Where the time and the bytes of a run went. Times are of the device thread, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Copying columns and tables to the device.
    pub upload_ns: u64,
    /// Compiling kernels that this device had not seen.
    pub compile_ns: u64,
    /// Running kernels, from submission to completion.
    pub kernel_ns: u64,
    /// The same by the device's own clock, where it has one: without submitting and waiting.
    pub device_ns: u64,
    /// Copying groups back.
    pub readback_ns: u64,
    /// Bytes copied to the device.
    pub upload_bytes: u64,
    /// Bytes that were already there.
    pub kept_bytes: u64,
    /// Bytes copied back.
    pub readback_bytes: u64,
    /// Chunks of rows, each one upload and one or two passes.
    pub chunks: u64,
}

impl Timings {
    pub(super) fn add(&mut self, other: &Timings) {
        self.upload_ns += other.upload_ns;
        self.compile_ns += other.compile_ns;
        self.kernel_ns += other.kernel_ns;
        self.device_ns += other.device_ns;
        self.readback_ns += other.readback_ns;
        self.upload_bytes += other.upload_bytes;
        self.kept_bytes += other.kept_bytes;
        self.readback_bytes += other.readback_bytes;
        self.chunks += other.chunks;
    }
}

/// One aggregate of every group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregatePartials {
    /// What was computed.
    pub op: AggregateOp,
    /// Values that counted: not null, and let through by the filter. `Count` is this alone.
    pub counts: Vec<u64>,
    /// Exact sums, for `Sum`; meaningless where the count is 0.
    pub sums: Vec<i128>,
    /// Least or greatest values, for `Min` and `Max`; meaningless where the count is 0.
    pub extremes: Vec<i64>,
}

impl AggregatePartials {
    /// The result for `group`: null where nothing counted, unless it is a count.
    pub fn value(&self, group: usize) -> Option<i128> {
        let count = *self.counts.get(group)?;
        match self.op {
            AggregateOp::Count | AggregateOp::CountDistinct => Some(count.into()),
            _ if count == 0 => None,
            AggregateOp::Sum => self.sums.get(group).copied(),
            AggregateOp::Min | AggregateOp::Max => self.extremes.get(group).map(|v| (*v).into()),
            // No shader computes any other.
            _ => None,
        }
    }
}

/// The groups of a run. Group `g` of keys with cardinalities `c0, c1, ..` has the codes
/// `g / (c1 * c2 * ..) % c0`, `g / (c2 * ..) % c1`, and so on; see [`GroupPartials::codes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPartials {
    /// Rows of each group; a group without rows does not exist for `GROUP BY`.
    pub rows: Vec<u64>,
    /// Every aggregate, in the order of the program.
    pub aggregates: Vec<AggregatePartials>,
    /// Where the time went.
    pub timings: Timings,
    cardinalities: Vec<u32>,
}

impl GroupPartials {
    pub(super) fn empty(program: &DeviceProgram, groups: usize) -> Self {
        let aggregates = program.aggregates.iter().map(|a| AggregatePartials {
            op: a.op,
            counts: vec![0; groups],
            sums: if a.op == AggregateOp::Sum { vec![0; groups] } else { vec![] },
            extremes: match a.op {
                AggregateOp::Min => vec![i64::MAX; groups],
                AggregateOp::Max => vec![i64::MIN; groups],
                _ => vec![],
            },
        });
        Self {
            rows: vec![0; groups],
            aggregates: aggregates.collect(),
            timings: Timings::default(),
            cardinalities: program.keys.iter().map(|(_, cardinality)| *cardinality).collect(),
        }
    }

    /// The code of each key of `group`.
    pub fn codes(&self, group: usize) -> Vec<u32> {
        let mut rest = group;
        let mut codes: Vec<u32> = self
            .cardinalities
            .iter()
            .rev()
            .map(|cardinality| {
                let cardinality = *cardinality as usize;
                let code = rest % cardinality;
                rest /= cardinality;
                code as u32
            })
            .collect();
        codes.reverse();
        codes
    }

    /// Adds the groups in `words`, laid out as `cells`.
    pub(super) fn merge(&mut self, words: &[u32], cells: &Cells) {
        for (group, words) in words.chunks_exact(cells.words as usize).enumerate() {
            if words[0] == 0 {
                continue;
            }
            self.rows[group] += u64::from(words[0]);
            for (aggregate, (count_at, cell)) in self.aggregates.iter_mut().zip(&cells.aggregates) {
                let count = u64::from(words[*count_at as usize]);
                aggregate.counts[group] += count;
                match cell {
                    Some(cell) if count > 0 => aggregate.merge(group, words, *cell),
                    _ => {}
                }
            }
        }
    }
}

impl AggregatePartials {
    fn merge(&mut self, group: usize, words: &[u32], cell: Cell) {
        let at = cell.at as usize;
        match cell.kind {
            CellKind::Count => {}
            CellKind::Sum => {
                let high = i128::from(words[at + 2] as i32);
                self.sums[group] += (high << 64) | i128::from(words[at + 1]) << 32 | i128::from(words[at]);
            }
            CellKind::Narrow { least } => {
                let word = if least { !words[at] } else { words[at] };
                self.extreme(group, least, i64::from((word ^ 0x8000_0000) as i32));
            }
            CellKind::Wide { least } => {
                use millstream_shaders::layout::{WIDE_HIGH, WIDE_LOW};
                let key = u64::from(words[at + WIDE_HIGH as usize]) << 32 | u64::from(words[at + WIDE_LOW as usize]);
                let key = if least { !key } else { key };
                self.extreme(group, least, (key ^ (1 << 63)) as i64);
            }
        }
    }

    fn extreme(&mut self, group: usize, least: bool, value: i64) {
        let so_far = &mut self.extremes[group];
        *so_far = if least { value.min(*so_far) } else { value.max(*so_far) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_mixed_radix() {
        let program = DeviceProgram {
            inputs: vec![],
            instrs: vec![],
            constants: vec![],
            keys: vec![(0, 3), (1, 4)],
            aggregates: vec![],
            outputs: vec![],
            sets: vec![],
        };
        let partials = GroupPartials::empty(&program, 12);
        assert_eq!(partials.codes(7), vec![1, 3]);
        assert_eq!(partials.codes(11), vec![2, 3]);
    }
}
