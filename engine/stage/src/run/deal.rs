//! The rows of an epoch, dealt out to workers.

use crate::Result;
use crate::context::Pool;
use arrow::array::RecordBatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What `work` makes of each morsel of at most `rows` rows of `batches`, in their order. Each of `workers` takes the next
/// morsel until none is left.
///
/// # Errors
/// What `work` raises; the workers are gone then.
pub async fn deal<W: Send + 'static, T: Send + 'static>(
    pool: &Pool,
    workers: &mut Vec<W>,
    batches: &[RecordBatch],
    rows: usize,
    work: impl Fn(&mut W, &RecordBatch) -> Result<T> + Send + Sync + 'static,
) -> Result<Vec<T>> {
    let morsels: Vec<RecordBatch> =
        batches.iter().flat_map(|b| (0..b.num_rows()).step_by(rows).map(move |at| b.slice(at, rows.min(b.num_rows() - at)))).collect();
    // More hands than morsels would only wait.
    let idle = workers.split_off(workers.len().min(morsels.len()));
    let shared = Arc::new((morsels, work, AtomicUsize::new(0)));
    let tasks = std::mem::take(workers).into_iter().map(|mut worker| {
        let shared = Arc::clone(&shared);
        pool.run(move || {
            let (morsels, work, taken) = &*shared;
            let mut made = vec![];
            loop {
                let at = taken.fetch_add(1, Ordering::Relaxed);
                let Some(morsel) = morsels.get(at) else { return Ok((worker, made)) };
                made.push((at, work(&mut worker, morsel)?));
            }
        })
    });
    let mut made = vec![];
    for (worker, some) in futures::future::try_join_all(tasks).await? {
        workers.push(worker);
        made.extend(some);
    }
    workers.extend(idle);
    made.sort_unstable_by_key(|(at, _)| *at);
    Ok(made.into_iter().map(|(_, made)| made).collect())
}
