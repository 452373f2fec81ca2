//! Stages whose rows the device selects: collect, build, sort and groups that the host makes.

use super::table::{registered, with_options};
use super::{CLASSES, alone, floor, run};
use crate::world::has_gpu;
use millstream::{Options, Preference};
use millstream_kernels::gpu::{CapabilityClass, Fault};

/// Queries, and a sink that must be among those of the stages on the device.
const QUERIES: &[(&str, &str)] = &[
    ("select * from t where k < 20 and d > date '1970-01-20'", "collect"),
    ("select s, f, k * 2 + 1, case when b then v else -v end, d is null from t where v > 0 or k = 3", "collect"),
    ("select s, upper(s), f from t where s like 's1%' and k > 7 and f < 0.5", "collect"),
    ("select s, name, weight, v from t join dim on k = dk", "collect"),
    ("select s, name, v + weight from t join dim on k = dk where v > weight * 100 and name like 'n1%'", "collect"),
    ("select t.s, dim.name, v from dim right join t on k = dk where v > 5000", "collect"),
    ("select s, v from t where k in (select dk from dim where weight > 0)", "collect"),
    ("select s, v from t where k not in (select dk from dim where dk is not null)", "collect"),
    ("select s, v from t where exists (select 1 from dim where dk = k and weight < v) and d < date '1970-02-01'", "collect"),
    // Several build rows a key.
    ("select a.s, b.w from (select * from t where v > 490000) a join (select k, v, w from t where v > 495000) b on a.k = b.k", "collect"),
    ("select a.s, b.w from (select * from t where v > 499000) b right join (select * from t where v > 498000) a on a.k = b.k", "collect"),
    // Build rows at the end.
    ("select name, v from dim left join (select * from t where v > 490000) on k = dk", "collect"),
    ("select name, weight from dim where exists (select 1 from t where k = dk and v > 490000)", "collect"),
    ("select name, weight from dim where not exists (select 1 from t where k = dk and v > weight and d is not null)", "collect"),
    ("select name, v from dim full join (select * from t where v > 490000) on k = dk", "collect"),
    // The sink is the host's: floats, distinct values.
    ("select k, round(sum(f), 6), count(distinct s) from t where v > 0 and d is not null group by k", "group"),
    ("select s, min(f), max(f), count(*) from t join dim on k = dk where weight > 100 group by s", "group"),
    ("select s, v, k from t where v > 480000 order by v desc, k, s limit 50", "top-n"),
    ("select s, v, k from t where k * 3 between 30 and 60 order by v, k, s, d", "sort"),
    ("select k, count(distinct w) from t where k < 5 group by k", "group"),
    // Strings by their codes, in filters and as keys; keys of two columns; keys too far apart for an array.
    ("select k, v from t where s = 's3' or s like 's1%' or s in ('s20', 's22')", "collect"),
    ("select k, v from t where coalesce(s, 's3') = 's3' and v > 0", "collect"),
    ("select k, case when s = 's3' or k = 7 then v end from t where s <> 's1' and (s > 's2' or k < 30)", "collect"),
    ("select a.k, a.v, b.n from t a join (select s, count(*) n from t group by s) b on a.s = b.s where a.v > 480000", "collect"),
    ("select a.s, b.s, a.v from t a join (select * from t where v > 490000) b on a.k = b.k and a.d = b.d where a.v > 400000", "collect"),
    ("select s, name, v from t join (select dk * 1000003 as far, name from dim) on k * 1000003 = far where v > 0", "collect"),
    ("select s, v from t where k * 1000003 not in (select dk * 1000003 from dim)", "collect"),
    (
        "select name, count(*), sum(v) from t join (select dk * 1000003 as far, name, weight from dim) on k * 1000003 = far group by name",
        "group",
    ),
    ("select * from t where k < -5", "collect"),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_are_those_of_the_cpu() {
    if !has_gpu("gpu::rows::the_rows_are_those_of_the_cpu") {
        return;
    }
    let _alone = alone().await;
    let (cpu, gpu) = (registered(Preference::Cpu).await, registered(Preference::Gpu).await);
    for (sql, sink) in QUERIES {
        let want = run(&cpu, sql, CapabilityClass::All, 1).await;
        assert!(want.sinks_on_gpu.is_empty(), "{sql}");
        for class in CLASSES {
            let ran = run(&gpu, sql, class, 1).await;
            assert_eq!(ran.lines(), want.lines(), "{class:?}: {sql}");
            assert!(ran.sinks_on_gpu.contains(sink), "{sql}: {:?}", ran.sinks_on_gpu);
            assert_eq!((ran.fallbacks, ran.gpu_rows), (0, ran.input_rows), "{class:?}: {sql}");
            assert!(ran.chunks > 0 || ran.input_rows == 0, "{sql}");
        }
    }
    // Negative control: the comparison tells rows apart.
    let other = run(&gpu, QUERIES[0].0, CapabilityClass::All, 1).await;
    assert_ne!(other.lines(), run(&cpu, QUERIES[3].0, CapabilityClass::All, 1).await.lines());
}

/// Epochs run the same stages again and again, groups carried along.
#[tokio::test(flavor = "multi_thread")]
async fn groups_of_the_host_go_on_over_epochs() {
    if !has_gpu("groups_of_the_host_go_on_over_epochs") {
        return;
    }
    let _alone = alone().await;
    let (cpu, gpu) = (registered(Preference::Cpu).await, registered(Preference::Gpu).await);
    let sql = "select k, count(distinct s), min(f), count(*) from t where v > 0 and d is not null group by k";
    let want = run(&cpu, sql, CapabilityClass::All, 1).await.lines();
    for class in CLASSES {
        assert_eq!(run(&gpu, sql, class, 10).await.lines(), want, "{class:?}");
    }
}

/// A value that needs 128 bits is in one block: that block is the CPU's, the others are not.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_does_not_fit_falls_back_alone() {
    if !has_gpu("a_block_that_does_not_fit_falls_back_alone") {
        return;
    }
    let _alone = alone().await;
    let (cpu, gpu) = (registered(Preference::Cpu).await, registered(Preference::Gpu).await);
    let sql = "select s, w from t where w > 40";
    let want = run(&cpu, sql, CapabilityClass::All, 1).await.lines();
    for class in CLASSES {
        let ran = run(&gpu, sql, class, 1).await;
        assert_eq!(ran.lines(), want, "{class:?}");
        assert_eq!(ran.fallbacks, 1, "{class:?}");
        assert!(ran.gpu_rows > ran.input_rows / 2 && ran.gpu_rows < ran.input_rows, "{} of {}", ran.gpu_rows, ran.input_rows);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_fault_the_cpu_goes_on() {
    if !has_gpu("after_a_fault_the_cpu_goes_on") {
        return;
    }
    let _alone = alone().await;
    let (cpu, gpu) = (registered(Preference::Cpu).await, registered(Preference::Gpu).await);
    for (sql, _) in [QUERIES[0], QUERIES[4], QUERIES[9], QUERIES[13], QUERIES[15]] {
        let want = run(&cpu, sql, CapabilityClass::Floor, 1).await.lines();
        for fault in [Fault::Submit, Fault::OutOfMemory, Fault::Lost, Fault::Panic] {
            run(&gpu, sql, CapabilityClass::Floor, 1).await;
            floor().inject(fault);
            let ran = run(&gpu, sql, CapabilityClass::Floor, 1).await;
            assert_eq!(ran.lines(), want, "{fault:?}: {sql}");
            assert!(ran.fallbacks > 0, "{fault:?}: {sql}");
        }
        assert_eq!(run(&gpu, sql, CapabilityClass::Floor, 1).await.fallbacks, 0, "a device that was lost is replaced");
    }
}

/// Memory that runs out in the middle: the blocks before are the device's, those after are the CPU's.
#[tokio::test(flavor = "multi_thread")]
async fn memory_that_runs_out_loses_no_row() {
    if !has_gpu("memory_that_runs_out_loses_no_row") {
        return;
    }
    let _alone = alone().await;
    let cpu = registered(Preference::Cpu).await;
    let gpu = async |gpu_memory_bytes: Option<u64>| {
        with_options(Options { threads: 1, device: Preference::Gpu, gpu_memory_bytes, ..Options::default() }).await
    };
    let sql = "select s, k, v * 2 from t where k < 230 and v > -400000";
    let want = run(&cpu, sql, CapabilityClass::Floor, 1).await.lines();
    for limit_bytes in [1 << 10, 32 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20] {
        let ran = run(&gpu(Some(limit_bytes)).await, sql, CapabilityClass::Floor, 1).await;
        assert_eq!(ran.lines(), want, "limit {limit_bytes}");
    }
    assert_eq!(floor().memory().unwrap().live_bytes, 0);
    assert_eq!(run(&gpu(None).await, sql, CapabilityClass::Floor, 1).await.fallbacks, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn build_sides_of_a_limited_memory_spill() {
    if !has_gpu("build_sides_of_a_limited_memory_spill") {
        return;
    }
    let _alone = alone().await;
    let sql = "select count(*), sum(a.v), min(b.s) from t a join (select * from t where v > 300000 and k > 3) b on a.k = b.k and a.d = b.d and a.v = b.v";
    let want = run(&registered(Preference::Cpu).await, sql, CapabilityClass::All, 1).await.lines();
    let options = Options { threads: 2, device: Preference::Gpu, memory_limit_bytes: Some(3 << 20), ..Options::default() };
    let tight = run(&with_options(options).await, sql, CapabilityClass::All, 1).await;
    assert_eq!(tight.lines(), want);
    assert!(tight.sinks_on_gpu.contains(&"build"), "{:?}", tight.sinks_on_gpu);
}

/// What raises for a row that a filter drops must not raise on the way to the device or after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_row_never_raises() {
    if !has_gpu("a_dropped_row_never_raises") {
        return;
    }
    let _alone = alone().await;
    let (cpu, gpu) = (registered(Preference::Cpu).await, registered(Preference::Gpu).await);
    let sql = "select s, 100 / k from t where k <> 0 and 100 / k > 3";
    let want = run(&cpu, sql, CapabilityClass::All, 1).await.lines();
    for class in CLASSES {
        assert_eq!(run(&gpu, sql, class, 1).await.lines(), want, "{class:?}");
    }
    // And what raises for a row that stays, raises.
    let table = gpu.sql("select s, 100 / k from t where v > 0").await.unwrap();
    assert!(table.collect().await.is_err());
}
