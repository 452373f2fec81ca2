//! What a stage would do, on the CPU and on a device.

use crate::Kernel;

/// One kernel over some rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What is done.
    pub kernel: Kernel,
    /// To so many rows (or values).
    pub rows: f64,
    /// The table that is read at random while doing so; 0 where there is none.
    pub table_bytes: f64,
}

impl Step {
    /// A step without a table.
    pub fn new(kernel: Kernel, rows: f64) -> Self {
        Self { kernel, rows, table_bytes: 0.0 }
    }

    /// A step with one.
    pub fn over(kernel: Kernel, rows: f64, table_bytes: f64) -> Self {
        Self { kernel, rows, table_bytes }
    }
}

/// A stage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// Rows that enter.
    pub rows: f64,
    /// Rows that leave.
    pub rows_out: f64,
    /// Bytes that the host reads from memory.
    pub read_bytes: f64,
    /// Bytes of the rows that leave.
    pub out_bytes: f64,
    /// What the CPU does, shared by its threads.
    pub steps: Vec<Step>,
    /// Rows that reach the sink, and the groups that they are of.
    pub sunk_rows: f64,
    /// See above; 0 where there are none to merge.
    pub groups: f64,
    /// What bringing all groups together once takes: with several threads, each brings those that it has met.
    pub merge: Vec<Step>,
    /// The same stage on a device; none where no device runs it.
    pub device: Option<DeviceWork>,
}

/// A stage on a device, with what stays on the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceWork {
    /// What the host does before, shared by its threads: decoding, strings, calls, packing.
    pub host: Vec<Step>,
    /// What it does for one worker at a time: codes of groups that have to be looked up.
    pub serial: Vec<Step>,
    /// What it does at the end: groups that came back into a table.
    pub after: Vec<Step>,
    /// What the device does.
    pub steps: Vec<Step>,
    /// Bytes of the columns and join tables that the device reads, each once a row.
    pub column_bytes: f64,
    /// Those of them that are on the device already.
    pub resident_bytes: f64,
    /// Bytes that come back.
    pub back_bytes: f64,
    /// Bytes of device memory at the most.
    pub held_bytes: f64,
    /// Bytes that are uploaded at a time, at most; rows are sent in doubling chunks up to it.
    pub chunk_bytes: f64,
    /// Bytes after which groups are brought home; the rest of the input begins anew.
    pub run_bytes: f64,
    /// Of a stage whose rows come back block by block, how many blocks, each of which its worker waits for; 0 where rows go to
    /// the device and groups come back at the end.
    pub blocks: f64,
    /// The device has not seen the kernel yet.
    pub is_new: bool,
}
