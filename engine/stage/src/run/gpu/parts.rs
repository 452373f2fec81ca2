//! What a stage would do on a GPU and what beside it, from the plan alone: for the planner's prices.

use super::groups::{PENDING_BYTES_MAX, TABLE_GROUPS_MAX};
use super::split::{Form, refusal, split};
use crate::exec::StageExec;
use crate::resident::ResidentSource;
use crate::run::MORSEL_ROWS;
use crate::run::worker::RESERVE_ROWS;
use millstream_kernels::gpu::RunOptions;
use millstream_kernels::program::{Instr, Reg};

/// A group stage on a GPU.
#[derive(Clone, Debug)]
pub struct Parts {
    /// What the host runs of each block, in the program's registers.
    pub host: Vec<Instr>,
    /// What the device runs of each row that the host leaves, in registers of its own.
    pub device: Vec<Instr>,
    /// Registers of the program that go to the device.
    pub inputs: Vec<Reg>,
    /// Registers of the program that are group keys of which the host makes codes, row by row: they go to the device.
    pub keys: Vec<Reg>,
    /// Else, key by key, the table whose rows get codes, by its place in `tables`.
    pub table_keys: Vec<usize>,
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

/// A stage of which a GPU selects the rows.
#[derive(Clone, Debug)]
pub struct RowParts {
    /// Registers of the program that go to the device.
    pub inputs: Vec<Reg>,
    /// Registers that the host reads of every row, to make join codes or sets of a dictionary's codes of them.
    pub read: Vec<Reg>,
    /// Probes whose keys the host makes a code of: how many keys each has.
    pub coded: Vec<usize>,
    /// Predicates on strings: a code a row goes to the device for each.
    pub predicates: usize,
    /// What the device runs of each row.
    pub device: Vec<Instr>,
    /// Registers of the program that come back for the rows that survive.
    pub outputs: Vec<Reg>,
    /// What the host runs of those, in the program's registers.
    pub rest: Vec<Instr>,
    /// The tables that the device probes; `device` numbers them by their place here.
    pub tables: Vec<TableColumns>,
    /// Rows that go to the device at a time, at most.
    pub block_rows: usize,
}

/// As [`covers`](super::covers), in full, of a stage whose groups or rows the host keeps; none where no GPU runs it.
pub fn row_parts(stage: &StageExec) -> Option<RowParts> {
    let split = super::selected(stage)?;
    let is_read = |r: &Reg| split.is_read_here(*r);
    let read = split.reads().into_iter().filter(is_read).collect();
    Some(RowParts {
        read,
        inputs: split.inputs,
        coded: split.coded.iter().map(|c| c.keys.len()).collect(),
        predicates: split.predicates.len(),
        device: split.device.instrs,
        outputs: split.outputs,
        rest: split.rest,
        tables: split.tables.iter().map(|t| TableColumns { table: t.table, columns: t.columns.len() }).collect(),
        block_rows: if ResidentSource::below(stage.input()).is_some() { MORSEL_ROWS } else { RESERVE_ROWS },
    })
}

/// As [`covers`](super::covers), in full, of a group stage whose groups the device makes. `groups`: about how many there will be.
///
/// # Errors
/// Why no GPU can run the stage.
pub fn parts(stage: &StageExec, groups: f64) -> Result<Parts, String> {
    if let Some(why) = refusal(stage.program(), stage.sink()) {
        return Err(why);
    }
    let keys_of_tables = groups <= f64::from(TABLE_GROUPS_MAX);
    let split = split(stage.program(), stage.sink(), &vec![true; stage.builds().len()], keys_of_tables).map_err(|e| e.to_string())?;
    let tables = split.tables.iter().map(|t| TableColumns { table: t.table, columns: t.columns.len() + t.codes.len() }).collect();
    let columns = |form: &Form| if *form == Form::Halves { 2 } else { 1 };
    let floats = split.floats.iter().map(|(r, form)| (*r, columns(form))).collect();
    Ok(Parts {
        floats,
        host: split.host,
        device: split.device.instrs,
        inputs: split.inputs,
        keys: split.keys,
        table_keys: split.table_keys.iter().map(|k| k.table).collect(),
        tables,
        chunk_bytes: RunOptions::default().chunk_bytes_max,
        pending_bytes: PENDING_BYTES_MAX,
    })
}
