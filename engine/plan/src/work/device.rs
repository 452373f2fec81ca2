//! What a stage would do on a GPU and beside it, as the code does it today: the host decodes, gives groups their codes one
//! worker at a time, and sends every column anew; groups come home and go into a worker's table.

use super::{Grouping, Source, Step, Table, Walk, is_coded, width};
use crate::work::rows::Flow;
use millstream_cost::{Cpu, DeviceWork, Kernel};
use millstream_stage::program::{Instr, Reg, Type};
use millstream_stage::run::gpu::{Parts, parts};
use millstream_stage::{Sink, StageExec};

/// Bytes of a group's cell, of one state, on the device and on the way back.
const CELL_BYTES: f64 = 12.0;
/// Chunks in memory at a time, on either side.
const CHUNKS_HELD: f64 = 2.0;

/// None where no GPU runs the stage. `resident`: the columns of the input are on the device.
pub fn work(stage: &StageExec, flow: &Flow, source: Source, cpu: &Cpu, resident: bool) -> Option<DeviceWork> {
    let Sink::Group { keys, aggregates, .. } = stage.sink() else { return None };
    let by = Grouping::of(stage, flow, keys, cpu);
    let parts = parts(stage, by.groups).ok()?;
    let mut walk = Walk::new(stage, flow, source);
    let rows = host(&mut walk, &parts, flow, resident);
    let states = aggregates.iter().map(|a| a.function.width()).sum::<usize>() as f64;
    let coded = |t: &usize| by.lookup(1, parts.tables.get(*t).map_or(0.0, |t| Table::of(flow, t.table).rows));
    let mut serial: Vec<Step> = parts.table_keys.iter().flat_map(coded).collect();
    if !parts.keys.is_empty() {
        serial.extend(by.lookup(keys.len(), rows));
        serial.extend(by.insert(keys.len()));
    }
    let inputs = stage.program().inputs.len();
    let sent: Vec<Reg> = parts.inputs.iter().copied().filter(|r| !(resident && usize::from(*r) < inputs)).collect();
    let floats = parts.floats.iter().map(|f| f.1).sum::<usize>();
    serial.push(Step::new(Kernel::Pack, rows * (sent.len() + floats + usize::from(!parts.keys.is_empty())) as f64));
    let mut steps: Vec<Step> = parts.device.iter().filter_map(|i| device_step(i, rows, &parts, flow)).collect();
    steps.push(Step::over(Kernel::Accumulate, rows * states.max(1.0), by.groups * states.max(1.0) * CELL_BYTES));
    let mut after = by.lookup(keys.len(), by.groups);
    after.extend(by.insert(keys.len()));
    after.push(Step::over(Kernel::Accumulate, by.groups * states, by.groups * super::STATE_BYTES));

    let bytes = |all: &[Reg]| all.iter().map(|r| sent_bytes(stage, flow, *r)).sum::<f64>();
    let row_bytes = bytes(&parts.inputs) + floats as f64 * 8.0 + if parts.keys.is_empty() { 0.0 } else { 4.0 };
    let tables: f64 = parts.tables.iter().map(|t| table_bytes(flow, t.table, t.columns)).sum();
    let block_bytes: f64 = (0..stage.program().inputs.len() as Reg).map(|r| width(stage.program().data_type(r))).sum();
    let group_bytes = by.groups * (4.0 + states * CELL_BYTES);
    let column_bytes = rows * row_bytes + tables;
    let chunk_bytes = parts.chunk_bytes as f64;
    Some(DeviceWork {
        host: walk.steps,
        serial,
        after,
        steps,
        column_bytes,
        resident_bytes: rows * (bytes(&parts.inputs) - bytes(&sent)),
        back_bytes: group_bytes,
        held_bytes: tables + group_bytes + CHUNKS_HELD * chunk_bytes.min(rows * row_bytes),
        chunk_bytes,
        run_bytes: parts.pending_bytes as f64 * (column_bytes / (flow.rows * block_bytes).max(1.0)),
        is_new: false,
    })
}

/// What the host does of each block; the rows that it leaves. Filters of the device drop no rows there.
fn host(walk: &mut Walk, parts: &Parts, flow: &Flow, resident: bool) -> f64 {
    let program = walk.stage.program();
    let mut rows = flow.rows;
    for i in &parts.host {
        walk.instr(i, rows);
        if matches!(i, Instr::Filter { .. } | Instr::Probe(_))
            && let Some(at) = program.instrs.iter().position(|whole| whole == i)
        {
            let after = flow.before.get(at + 1).copied().unwrap_or(flow.after);
            rows *= after / flow.before[at].max(1.0);
        }
    }
    let on_device = |r: &&Reg| resident && usize::from(**r) < program.inputs.len();
    let leaves: Vec<Reg> =
        parts.inputs.iter().filter(|r| !on_device(r)).chain(&parts.keys).chain(parts.floats.iter().map(|f| &f.0)).copied().collect();
    walk.read(&leaves, rows);
    if !parts.host.is_empty() {
        walk.push(Kernel::Copy, rows * leaves.len() as f64);
    }
    rows
}

fn device_step(i: &Instr, rows: f64, parts: &Parts, flow: &Flow) -> Option<Step> {
    let table = |n: u16| parts.tables.get(usize::from(n)).map(|t| Table::of(flow, t.table));
    match i {
        Instr::Const { .. } => None,
        Instr::Probe(p) => Some(Step::over(Kernel::ProbeArray, rows, table(p.table).map_or(0.0, |t| t.bytes))),
        Instr::Gather { table: n, .. } => Some(Step::over(Kernel::Gather, rows, table(*n).map_or(0.0, |t| t.rows * 4.0))),
        _ => Some(Step::new(Kernel::Map, rows)),
    }
}

/// Bytes of a value on the device: a word where the values fit one.
fn sent_bytes(stage: &StageExec, flow: &Flow, r: Reg) -> f64 {
    match stage.program().ty(r) {
        Type::Bool => 0.125,
        Type::I32 => 4.0,
        Type::I64 | Type::Decimal => {
            let scale = match stage.program().data_type(r) {
                arrow::datatypes::DataType::Decimal128(_, s) => 10f64.powi(i32::from(*s)),
                _ => 1.0,
            };
            let word = |(lo, hi): (f64, f64)| lo * scale >= f64::from(i32::MIN) && hi * scale <= f64::from(i32::MAX);
            if flow.values[usize::from(r)].range.is_some_and(word) { 4.0 } else { 8.0 }
        }
        // Only whether there is a value.
        Type::F64 | Type::Str | Type::Any => 0.25,
    }
}

fn table_bytes(flow: &Flow, table: u16, columns: usize) -> f64 {
    let t = Table::of(flow, table);
    let wide = |v: &crate::estimate::Values| if is_coded(v) { 4.0 } else { 8.0 };
    let row: f64 = flow.tables.get(usize::from(table)).map_or(0.0, |t| t.columns.iter().take(columns).map(|(v, _)| wide(v)).sum());
    t.bytes + t.rows * row
}
