//! The workers' parts of a sink as one: rows joined, sorted or built into a table, groups merged.

use super::late::LateKeys;
use super::sink::{GroupSink, build, join_blocks, sort};
use crate::convert::Block;
use crate::program::Sink;
use crate::run::Output;
use crate::{Error, Result};
use datafusion::physical_plan::metrics::Time;
use std::sync::Arc;

/// What a sink over rows leaves of the workers' rows.
pub(super) fn finish_rows(parts: Vec<Block>, program: &crate::Program, sink: &Sink) -> Result<Output> {
    match sink {
        Sink::Build { .. } => Ok(Output::Table(Arc::new(build(&parts, program, sink)?))),
        Sink::Sort { columns, visible, order, fetch } => {
            let types: Vec<_> = columns.iter().map(|c| program.data_type(*c).clone()).collect();
            let mut block = sort(&join_blocks(&parts, program, columns)?, &types, order, *fetch)?;
            block.columns.truncate(*visible);
            Ok(Output::Blocks(vec![block]))
        }
        _ => Ok(Output::Blocks(parts)),
    }
}

/// Above this many groups workers' tables are merged in parallel, by part of the keys.
const PARALLEL_GROUPS: usize = 8 * 1024;

/// The groups of all workers, with their results.
pub(super) async fn finish_groups(
    groups: Vec<GroupSink>,
    pool: &crate::Pool,
    program: &Arc<crate::Program>,
    sink: &Sink,
    checked: bool,
    time: &Time,
    late: Option<Arc<LateKeys>>,
) -> Result<Vec<Block>> {
    let total: usize = groups.iter().map(GroupSink::len).sum();
    // Groups by row that may be equal by value must all meet.
    let split = total > PARALLEL_GROUPS && late.as_ref().is_none_or(|l| l.is_exact());
    let parts = if split { pool.threads() } else { 1 };
    let groups = Arc::new(groups);
    let tasks = (0..parts).map(|part| {
        let (groups, program, sink, time, late) = (Arc::clone(&groups), Arc::clone(program), sink.clone(), time.clone(), late.clone());
        pool.run(move || {
            let _timer = time.timer();
            let mut all = merged(&groups, &program, &sink, part, parts)?;
            match late {
                Some(late) => late.finish(&mut all, checked),
                None => all.finish(checked),
            }
        })
    });
    futures::future::try_join_all(tasks).await
}

/// The groups of all workers, to be carried on.
pub(super) async fn merge_groups(
    groups: Vec<GroupSink>,
    pool: &crate::Pool,
    program: &Arc<crate::Program>,
    sink: &Sink,
    time: &Time,
) -> Result<GroupSink> {
    let (program, sink, time) = (Arc::clone(program), sink.clone(), time.clone());
    pool.run(move || {
        let _timer = time.timer();
        merged(&groups, &program, &sink, 0, 1)
    })
    .await
}

fn merged(groups: &[GroupSink], program: &crate::Program, sink: &Sink, part: usize, parts: usize) -> Result<GroupSink> {
    let Sink::Group { keys, aggregates } = sink else { return Err(Error::bug("group sink expected")) };
    let mut all = GroupSink::new(program, keys, aggregates)?;
    for g in groups {
        all.merge(g, part, parts)?;
    }
    Ok(all)
}
