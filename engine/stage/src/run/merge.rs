//! The workers' parts of a sink as one: rows joined, sorted or built into a table, groups merged.

use super::flush::PARTS;
use super::gpu::DeviceOrder;
use super::late::LateKeys;
use super::sink::{GroupSink, join_blocks, sorted};
use super::top::FirstRows;
use crate::convert::Block;
use crate::program::Sink;
use crate::run::{Held, Output};
use crate::{Error, Result};
use datafusion::physical_plan::metrics::Time;
use std::sync::Arc;

/// What a sink over rows leaves of the workers' rows; `device` orders them where there is one.
pub(super) fn finish_rows(parts: Vec<Block>, program: &crate::Program, sink: &Sink, device: Option<&DeviceOrder>) -> Result<Output> {
    match sink {
        Sink::Sort { columns, visible, order, fetch, groups } => {
            let all = join_blocks(parts, program, columns)?;
            let mut block = match fetch {
                Some(n) if !groups.is_empty() => FirstRows::new(program, columns, groups, order, *n)?.of(&all)?,
                _ => {
                    let types: Vec<_> = columns.iter().map(|c| program.data_type(*c).clone()).collect();
                    sorted(&all, &types, order, *fetch, device)?
                }
            };
            block.columns.truncate(*visible);
            Ok(Output::Blocks(vec![block], Held::default()))
        }
        _ => Ok(Output::Blocks(parts, Held::default())),
    }
}

/// Above this many groups, or values kept of them, workers' tables are merged in parallel, by part of the keys.
const PARALLEL_ENTRIES: usize = 8 * 1024;

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
    let total: usize = groups.iter().map(GroupSink::entries).sum();
    let flushed = groups.iter().any(|g| !g.flushed().is_empty());
    // Groups by row that may be equal by value must all meet.
    let exact = late.as_ref().is_none_or(|l| l.is_exact());
    if flushed && exact {
        return finish_parts(groups, pool, program, sink, checked, time, late).await;
    }
    let keyed = matches!(&sink, Sink::Group { keys, .. } if !keys.is_empty());
    let split = total > PARALLEL_ENTRIES && exact && keyed;
    let groups = match split && late.is_none() {
        true => match finish_apart(groups, pool, program, sink, checked, time).await? {
            Apart::Done(blocks) => return Ok(blocks),
            Apart::Mixed(groups) => groups,
        },
        false => groups,
    };
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

/// The groups of workers whose tables were emptied while they ran, part by part.
async fn finish_parts(
    groups: Vec<GroupSink>,
    pool: &crate::Pool,
    program: &Arc<crate::Program>,
    sink: &Sink,
    checked: bool,
    time: &Time,
    late: Option<Arc<LateKeys>>,
) -> Result<Vec<Block>> {
    let emptied = groups.into_iter().map(|mut g| {
        let time = time.clone();
        pool.run(move || {
            let _timer = time.timer();
            g.flush()?;
            Ok(g)
        })
    });
    let groups = Arc::new(futures::future::try_join_all(emptied).await?);
    let tasks = (0..PARTS).map(|part| {
        let (groups, program, sink, time, late) = (Arc::clone(&groups), Arc::clone(program), sink.clone(), time.clone(), late.clone());
        pool.run(move || {
            let _timer = time.timer();
            let Sink::Group { keys, aggregates, .. } = &sink else { return Err(Error::bug("group sink expected")) };
            let mut all = GroupSink::new(&program, keys, aggregates)?;
            groups.iter().flat_map(GroupSink::flushed).try_for_each(|f| f.add_to(&mut all, part))?;
            match late {
                Some(late) => late.finish(&mut all, checked),
                None => all.finish(checked),
            }
        })
    });
    futures::future::try_join_all(tasks).await
}

enum Apart {
    Done(Vec<Block>),
    Mixed(Vec<GroupSink>),
}

/// The groups of all workers where few are known to more than one: only those are merged.
async fn finish_apart(
    groups: Vec<GroupSink>,
    pool: &crate::Pool,
    program: &Arc<crate::Program>,
    sink: &Sink,
    checked: bool,
    time: &Time,
) -> Result<Apart> {
    let Sink::Group { keys, aggregates, .. } = sink.clone() else { return Err(Error::bug("group sink expected")) };
    let (program, first) = (Arc::clone(program), time.clone());
    let found = pool.run(move || {
        let _timer = first.timer();
        let Some(split) = GroupSink::apart(&groups) else { return Ok(Err(groups)) };
        let mut common = GroupSink::new(&program, &keys, &aggregates)?;
        for (g, (_, rest)) in groups.iter().zip(&split) {
            common.merge_some(g, rest)?;
        }
        let all: Vec<u32> = (0..common.len() as u32).collect();
        let own = groups.into_iter().zip(split.into_iter().map(|s| s.0));
        Ok(Ok(own.chain([(common, all)]).collect::<Vec<_>>()))
    });
    let parts = match found.await? {
        Ok(parts) => parts,
        Err(groups) => return Ok(Apart::Mixed(groups)),
    };
    let tasks = parts.into_iter().map(|(mut g, ids)| {
        let time = time.clone();
        pool.run(move || {
            let _timer = time.timer();
            g.finish_some(&ids, checked)
        })
    });
    Ok(Apart::Done(futures::future::try_join_all(tasks).await?))
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
    let Sink::Group { keys, aggregates, .. } = sink else { return Err(Error::bug("group sink expected")) };
    let mut all = GroupSink::new(program, keys, aggregates)?;
    add_all(&mut all, groups, part, parts)?;
    Ok(all)
}

/// Adds part `part` of `parts` of these groups.
///
/// # Errors
/// What the kernels raise.
pub(super) fn add_all(all: &mut GroupSink, groups: &[GroupSink], part: usize, parts: usize) -> Result<()> {
    for g in groups {
        all.merge(g, part, parts)?;
        // Only where all parts meet: else they are merged one by one.
        for f in g.flushed() {
            (0..PARTS).try_for_each(|p| f.add_to(all, p))?;
        }
    }
    Ok(())
}
