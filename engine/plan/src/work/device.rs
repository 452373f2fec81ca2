//! What a stage would do on a GPU and beside it, as the code does it today: the host decodes, gives groups their codes one
//! worker at a time where they do not follow from a table in memory, and sends what is not on the device; groups come home and
//! go into a worker's table.

use super::{Grouping, Source, Step, Table, Walk, is_coded, width};
use crate::work::rows::Flow;
use millstream_cost::{Cpu, DeviceWork, Kernel};
use millstream_stage::program::{Instr, Reg, Type};
use millstream_stage::run::gpu::{Parts, TableColumns, direct_codes, parts, row_parts};
use millstream_stage::{Sink, StageExec};

/// Bytes of a group's cell, of one state, on the device and on the way back.
const CELL_BYTES: f64 = 12.0;
/// Chunks in memory at a time, on either side.
const CHUNKS_HELD: f64 = 2.0;

/// None where no GPU runs the stage. `resident`: of each column of the input, the share that is on the device; `sunk`: what the
/// sink does on the host, if it is the host's.
pub fn work(stage: &StageExec, flow: &Flow, source: Source, cpu: &Cpu, resident: &[f64], sunk: &[Step]) -> Option<DeviceWork> {
    if let Sink::Group { keys, .. } = stage.sink() {
        let by = Grouping::of(stage, flow, keys, cpu);
        if let Ok(parts) = parts(stage, by.groups) {
            return groups(stage, flow, source, &by, resident, &parts);
        }
    }
    rows(stage, flow, source, resident, sunk)
}

/// Filters, probes and values on the device, block by block; the rest and the sink on the host, for the rows that survive.
fn rows(stage: &StageExec, flow: &Flow, source: Source, resident: &[f64], sunk: &[Step]) -> Option<DeviceWork> {
    // The device would sort, too, and nobody has priced that.
    if matches!(stage.sink(), Sink::Sort { .. }) {
        return None;
    }
    let (parts, rows) = (row_parts(stage)?, flow.rows);
    let there = |r: &Reg| resident.get(usize::from(*r)).copied().unwrap_or(0.0);
    let mut walk = Walk::new(stage, flow, source);
    let brought: Vec<Reg> = parts.inputs.iter().filter(|r| there(r) <= 0.5).chain(&parts.read).copied().collect();
    walk.read(&brought, rows);
    let codes = (parts.coded.len() + parts.predicates) as f64;
    let sent = parts.inputs.iter().map(|r| 1.0 - there(r)).sum::<f64>() + codes;
    walk.push(Kernel::Pack, rows * sent);
    for keys in &parts.coded {
        walk.push(Kernel::GroupHash, rows);
        walk.push(Kernel::Map, rows * (keys.saturating_sub(1)) as f64);
    }
    let left = survivors(stage, flow, &parts.rest);
    walk.generation += 1;
    parts.outputs.iter().for_each(|r| walk.of[usize::from(*r)] = Some(walk.generation));
    for i in &parts.rest {
        let at = stage.program().instrs.iter().position(|whole| whole == i);
        walk.instr(i, at.map_or(left, |at| flow.before[at]).min(left));
    }
    walk.read(&stage.sink().reads(), flow.after.min(left));
    walk.steps.extend_from_slice(sunk);

    let mut steps: Vec<Step> = parts.device.iter().filter_map(|i| device_step(i, rows, &parts.tables, flow)).collect();
    // Which rows survive, and their values beside each other.
    steps.push(Step::new(Kernel::Map, rows * (1 + parts.outputs.len()) as f64));
    let bytes = |r: &Reg| sent_bytes(stage, flow, *r);
    let row_bytes = parts.inputs.iter().map(bytes).sum::<f64>() + 4.0 * parts.predicates as f64 + 8.0 * parts.coded.len() as f64;
    let back_bytes = left * (4.0 + parts.outputs.iter().map(bytes).sum::<f64>());
    let tables: f64 = parts.tables.iter().map(|t| table_bytes(flow, t.table, t.columns)).sum();
    let (block_rows, block_bytes) = (parts.block_rows as f64, parts.block_rows as f64 * row_bytes);
    Some(DeviceWork {
        host: walk.steps,
        steps,
        column_bytes: rows * row_bytes + tables,
        resident_bytes: rows * parts.inputs.iter().map(|r| there(r) * bytes(r)).sum::<f64>(),
        back_bytes,
        held_bytes: tables + CHUNKS_HELD * block_bytes,
        chunk_bytes: block_bytes,
        // No whole number, so that no price jumps with a row.
        blocks: 1.0 + rows / block_rows,
        ..DeviceWork::default()
    })
}

/// Rows that the device leaves: those behind the last filter or probe before the first that is the host's alone.
fn survivors(stage: &StageExec, flow: &Flow, rest: &[Instr]) -> f64 {
    let drops = |i: &Instr| matches!(i, Instr::Filter { .. } | Instr::Probe(_));
    let host = stage.program().instrs.iter().position(|i| drops(i) && rest.contains(i));
    host.map_or(flow.after, |at| flow.before[at])
}

/// All of the program, and the groups, on the device; the codes of keys and what the device has no instruction for on the host.
fn groups(stage: &StageExec, flow: &Flow, source: Source, by: &Grouping, resident: &[f64], parts: &Parts) -> Option<DeviceWork> {
    let Sink::Group { keys, aggregates, .. } = stage.sink() else { return None };
    let mut walk = Walk::new(stage, flow, source);
    let direct = direct_codes(stage);
    let (groups, codes_there) = direct.map_or((by.groups, 0.0), |(codes, share)| (f64::from(codes), share));
    let rows = host(&mut walk, parts, flow, resident, codes_there);
    let states = aggregates.iter().map(|a| a.function.width()).sum::<usize>() as f64;
    let coded = |t: &usize| by.lookup(1, parts.tables.get(*t).map_or(0.0, |t| Table::of(flow, t.table).rows));
    let mut serial: Vec<Step> = parts.table_keys.iter().flat_map(coded).collect();
    if direct.is_none() && !parts.keys.is_empty() {
        serial.extend(by.lookup(keys.len(), rows));
        serial.extend(by.insert(keys.len()));
    }
    let there = |r: &Reg| resident.get(usize::from(*r)).copied().unwrap_or(0.0);
    let sent = parts.inputs.iter().map(|r| 1.0 - there(r)).sum::<f64>();
    let floats = parts.floats.iter().map(|f| f.1).sum::<usize>();
    walk.push(Kernel::Pack, rows * (sent + floats as f64 + if parts.keys.is_empty() { 0.0 } else { 1.0 - codes_there }));
    let mut steps: Vec<Step> = parts.device.iter().filter_map(|i| device_step(i, rows, &parts.tables, flow)).collect();
    steps.push(Step::over(Kernel::Accumulate, rows * states.max(1.0), groups * states.max(1.0) * CELL_BYTES));
    let mut after = by.lookup(keys.len(), by.groups);
    after.extend(by.insert(keys.len()));
    after.push(Step::over(Kernel::Accumulate, by.groups * states, by.groups * super::STATE_BYTES));

    let bytes = |all: &[Reg]| all.iter().map(|r| sent_bytes(stage, flow, *r)).sum::<f64>();
    let row_bytes = bytes(&parts.inputs) + floats as f64 * 8.0 + if parts.keys.is_empty() { 0.0 } else { 4.0 };
    let tables: f64 = parts.tables.iter().map(|t| table_bytes(flow, t.table, t.columns)).sum();
    let block_bytes: f64 = (0..stage.program().inputs.len() as Reg).map(|r| width(stage.program().data_type(r))).sum();
    let group_bytes = groups * (4.0 + states * CELL_BYTES);
    let column_bytes = rows * row_bytes + tables;
    let chunk_bytes = parts.chunk_bytes as f64;
    Some(DeviceWork {
        host: walk.steps,
        serial,
        after,
        steps,
        column_bytes,
        resident_bytes: rows * (parts.inputs.iter().map(|r| there(r) * sent_bytes(stage, flow, *r)).sum::<f64>() + 4.0 * codes_there),
        back_bytes: group_bytes,
        held_bytes: tables + group_bytes + CHUNKS_HELD * chunk_bytes.min(rows * row_bytes),
        chunk_bytes,
        run_bytes: parts.pending_bytes as f64 * (column_bytes / (flow.rows * block_bytes).max(1.0)),
        blocks: 0.0,
        is_new: false,
    })
}

/// What the host does of each block; the rows that it leaves. Filters of the device drop no rows there.
fn host(walk: &mut Walk, parts: &Parts, flow: &Flow, resident: &[f64], codes_there: f64) -> f64 {
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
    let on_device = |r: &&Reg| resident.get(usize::from(**r)).is_some_and(|share| *share > 0.5);
    let keys = parts.keys.iter().filter(|_| codes_there <= 0.5);
    let leaves: Vec<Reg> =
        parts.inputs.iter().filter(|r| !on_device(r)).chain(keys).chain(parts.floats.iter().map(|f| &f.0)).copied().collect();
    walk.read(&leaves, rows);
    if !parts.host.is_empty() {
        walk.push(Kernel::Copy, rows * leaves.len() as f64);
    }
    rows
}

fn device_step(i: &Instr, rows: f64, tables: &[TableColumns], flow: &Flow) -> Option<Step> {
    let table = |n: u16| tables.get(usize::from(n)).map(|t| Table::of(flow, t.table));
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
