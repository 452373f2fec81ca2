//! What a group stage would do on a GPU and what beside it, from the plan alone: for the planner's prices. Sorts, and stages
//! of which the device only selects rows, have no prices yet.

use super::groups::PENDING_BYTES_MAX;
use super::split::{Form, refusal, split};
use crate::exec::StageExec;
use millstream_kernels::gpu::RunOptions;
use millstream_kernels::program::{Instr, Reg};

/// A stage on a GPU.
#[derive(Clone, Debug)]
pub struct Parts {
    /// What the host runs of each block, in the program's registers.
    pub host: Vec<Instr>,
    /// What the device runs of each row that the host leaves, in registers of its own.
    pub device: Vec<Instr>,
    /// Registers of the program that go to the device.
    pub inputs: Vec<Reg>,
    /// Registers of the program that are group keys: their codes go to the device.
    pub keys: Vec<Reg>,
    /// Floats that become integers on their way to the device, and how many columns of them.
    pub floats: Vec<(Reg, usize)>,
    /// The tables that the device probes; `device` numbers them by their place here.
    pub tables: Vec<TableColumns>,
    /// Bytes of a chunk that goes to the device, at most.
    pub chunk_bytes: usize,
    /// Bytes of the input after which the groups are brought home.
    pub pending_bytes: usize,
}

/// A join table on the device.
#[derive(Clone, Copy, Debug)]
pub struct TableColumns {
    /// Its number in the stage.
    pub table: u16,
    /// How many of its columns go to the device.
    pub columns: usize,
}

/// As [`covers`](super::covers), in full.
///
/// # Errors
/// Why no GPU can run the stage.
pub fn parts(stage: &StageExec) -> Result<Parts, String> {
    if let Some(why) = refusal(stage.program(), stage.sink()) {
        return Err(why);
    }
    let split = split(stage.program(), stage.sink(), &vec![true; stage.builds().len()]).map_err(|e| e.to_string())?;
    let tables = split.tables.iter().map(|t| TableColumns { table: t.table, columns: t.columns.len() }).collect();
    let columns = |form: &Form| if *form == Form::Halves { 2 } else { 1 };
    let floats = split.floats.iter().map(|(r, form)| (*r, columns(form))).collect();
    Ok(Parts {
        floats,
        host: split.host,
        device: split.device.instrs,
        inputs: split.inputs,
        keys: split.keys,
        tables,
        chunk_bytes: RunOptions::default().chunk_bytes_max,
        pending_bytes: PENDING_BYTES_MAX,
    })
}
