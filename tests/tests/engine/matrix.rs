//! Q1, Q6 and a join query as {reference, cpu, gpu} x {one epoch, ten epochs with carried state}.

use crate::world::{SCALE, has_gpu, session, suite_tpch};
use arrow::array::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::collect;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use millstream::Preference;
use millstream_benches::{answer, verify};
use millstream_stage::EpochContext;
use std::sync::Arc;

async fn run(id: &str, device: Preference, epochs: usize) -> Vec<RecordBatch> {
    let session = session(true, device).await;
    let plan = session.sql(suite_tpch().query(id).unwrap().sql).await.unwrap().plan().await.unwrap();
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
    for device in [Preference::Reference, Preference::Cpu, Preference::Gpu] {
        if device == Preference::Gpu && !has_gpu(id) {
            continue;
        }
        for epochs in [1, 10] {
            let rows = run(id, device, epochs).await;
            verify(q, &expected, &rows).unwrap_or_else(|m| panic!("{id} on {device:?} in {epochs} epochs: {m}"));
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
async fn q14_a_join() {
    check("q14").await;
}
