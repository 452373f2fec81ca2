//! Two scans and two joins as {devices} x {one epoch, ten epochs with carried state} x {in process, sent}.
//!
//! Sent: the plan is encoded, decoded without the session that planned it, and runs in another one.

use crate::wire::{elsewhere, sent};
use crate::world::{SCALE, has_gpu, session, suite_tpch};
use arrow::array::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::collect;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use millstream::Preference;
use millstream_benches::{answer, verify};
use millstream_stage::EpochContext;
use std::sync::Arc;

const DEVICES: [Preference; 3] = [Preference::Reference, Preference::Cpu, Preference::Gpu];
const EPOCHS: [usize; 2] = [1, 10];

async fn run(id: &str, device: Preference, epochs: usize, over_the_wire: bool) -> Vec<RecordBatch> {
    let mut session = session(true, device).await;
    let mut plan = session.sql(suite_tpch().query(id).unwrap().sql).await.unwrap().plan().await.unwrap();
    if over_the_wire {
        (plan, session) = (sent(plan), elsewhere());
    }
    let mut epoch = Arc::new(EpochContext::first(epochs));
    loop {
        // Stock nodes are reset for every epoch; stages hold no state.
        let fresh = reset_plan_states(Arc::clone(&plan)).unwrap();
        let config = session.context().copied_config().with_extension(Arc::clone(&epoch));
        let task = TaskContext::default().with_session_config(config).with_runtime(session.context().runtime_env());
        let rows = collect(fresh, Arc::new(task)).await.unwrap();
        if epoch.is_final() {
            return rows;
        }
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 0, "only the final epoch emits");
        epoch = Arc::new(epoch.next());
    }
}

async fn check(id: &str) {
    let q = suite_tpch().query(id).unwrap();
    let expected = answer(suite_tpch(), SCALE, q).unwrap().unwrap();
    for device in DEVICES {
        if device == Preference::Gpu && !has_gpu(id) {
            continue;
        }
        for epochs in EPOCHS {
            for over_the_wire in [false, true] {
                let rows = run(id, device, epochs, over_the_wire).await;
                verify(q, &expected, &rows)
                    .unwrap_or_else(|m| panic!("{id} on {device:?} in {epochs} epochs, over the wire: {over_the_wire}: {m}"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn q1() {
    check("q1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn q6() {
    check("q6").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn q12_a_join() {
    check("q12").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn q14_a_join() {
    check("q14").await;
}
