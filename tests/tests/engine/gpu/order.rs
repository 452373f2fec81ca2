//! Rows that the device puts in order: those of the CPU, one by one, all of them and the first; and what happens when it fails.

use super::table::{registered, with_options};
use super::{CLASSES, Ran, alone, floor, run};
use crate::sort::{self, ORDERS};
use crate::world::has_gpu;
use arrow::util::pretty::pretty_format_batches;
use millstream::{Options, Preference, Session};
use millstream_kernels::gpu::{CapabilityClass, Fault};
use std::time::{Duration, Instant};

fn text(ran: &Ran) -> String {
    pretty_format_batches(&ran.rows).unwrap().to_string()
}

/// Every type as a key, nulls at either end, strings longer than what the device has of them, more keys than it has bits for.
#[tokio::test(flavor = "multi_thread")]
async fn the_order_is_that_of_the_cpu() {
    if !has_gpu("the_order_is_that_of_the_cpu") {
        return;
    }
    let _alone = alone().await;
    let (_dir, path) = sort::table();
    let mut ordered = 0;
    for in_memory in [false, true] {
        let cpu = sort::session(&path, true, Preference::Cpu, in_memory).await;
        let gpu = sort::session(&path, true, Preference::Gpu, in_memory).await;
        for (n, order) in ORDERS.iter().enumerate() {
            let class = CLASSES[(n + usize::from(in_memory)) % 2];
            // Lists are the host's.
            let covered = !order.starts_with('l');
            for (wanted, which, sink) in
                [("", "i % 9 = 3", "sort"), (" limit 17", "true", "top-n"), (" limit 9000", "b and d > 0", "top-n")]
            {
                let sql = format!("select i, day, many, f, d, wide from t where {which} order by {order}{wanted}");
                let (want, got) = (run(&cpu, &sql, class, 1).await, run(&gpu, &sql, class, 1).await);
                assert!(text(&want) == text(&got), "in memory {in_memory}, {class:?}: {sql}");
                assert_eq!(got.fallbacks, 0, "{sql}");
                assert!(got.sinks_on_gpu.contains(&sink) || !covered, "{sql}: {:?}", got.sinks_on_gpu);
                ordered += usize::from(got.chunks > 0);
            }
        }
        // Negative control.
        let (up, down) = ("select i from t order by wide limit 3", "select i from t order by wide desc limit 3");
        assert_ne!(text(&run(&gpu, up, CLASSES[0], 1).await), text(&run(&cpu, down, CLASSES[0], 1).await));
    }
    assert!(ordered > 90, "{ordered} queries ran kernels");
}

/// Nothing but an order: all rows of the stage are the device's.
const ORDERED: &[&str] = &[
    "select s, k, d, v, b from t order by s, k desc nulls last, d, v, b",
    "select s, k, d, v, f, b from t order by f desc nulls first, v, s, k, d, b limit 300",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_only_orders_is_on_the_device() {
    if !has_gpu("a_stage_that_only_orders_is_on_the_device") {
        return;
    }
    let _alone = alone().await;
    let (cpu, gpu) = (registered(Preference::Cpu).await, registered(Preference::Gpu).await);
    for sql in ORDERED {
        let want = text(&run(&cpu, sql, CapabilityClass::All, 1).await);
        for class in CLASSES {
            let ran = run(&gpu, sql, class, 1).await;
            assert!(text(&ran) == want, "{class:?}: {sql}");
            assert_eq!((ran.fallbacks, ran.gpu_rows), (0, ran.input_rows), "{class:?}: {sql}");
            assert!(ran.chunks > 0 && ran.input_rows > 0, "{sql}");
        }
    }
    // No rows, one row, and rows that are all the same.
    for sql in [
        "select s, k from empty order by s, k",
        "select k from (select max(k) k from t) order by k",
        "select b from dim cross join (select true b) order by b",
    ] {
        let want = text(&run(&cpu, sql, CapabilityClass::All, 1).await);
        let ran = run(&gpu, sql, CapabilityClass::Floor, 1).await;
        assert_eq!((text(&ran), ran.fallbacks), (want, 0), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_fault_the_cpu_orders() {
    if !has_gpu("after_a_fault_the_cpu_orders") {
        return;
    }
    let _alone = alone().await;
    let (cpu, gpu) = (registered(Preference::Cpu).await, registered(Preference::Gpu).await);
    for sql in ORDERED {
        let want = text(&run(&cpu, sql, CapabilityClass::Floor, 1).await);
        for fault in [Fault::Submit, Fault::OutOfMemory, Fault::Lost, Fault::Panic] {
            run(&gpu, sql, CapabilityClass::Floor, 1).await;
            floor().inject(fault);
            let ran = run(&gpu, sql, CapabilityClass::Floor, 1).await;
            assert!(text(&ran) == want, "{fault:?}: {sql}");
            assert_eq!((ran.fallbacks, ran.gpu_rows), (1, 0), "{fault:?}: {sql}");
        }
        // A device that was lost is replaced.
        assert_eq!(run(&gpu, sql, CapabilityClass::Floor, 1).await.fallbacks, 0);
        for limit_bytes in [1 << 10, 128 << 10] {
            let options = Options { threads: 2, device: Preference::Gpu, gpu_memory_bytes: Some(limit_bytes), ..Options::default() };
            let ran = run(&with_options(options).await, sql, CapabilityClass::Floor, 1).await;
            assert!(text(&ran) == want, "limit {limit_bytes}");
            assert_eq!(ran.fallbacks, 1, "limit {limit_bytes}");
        }
        assert_eq!(floor().memory().unwrap().live_bytes, 0);
        let ran = run(&gpu, sql, CapabilityClass::Floor, 1).await;
        assert_eq!((ran.fallbacks, ran.gpu_rows), (0, ran.input_rows));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_sort_frees_the_device() {
    if !has_gpu("a_cancelled_sort_frees_the_device") {
        return;
    }
    let _alone = alone().await;
    let gpu = registered(Preference::Gpu).await;
    for wait_ms in [1, 20, 60, 150] {
        let _ = tokio::time::timeout(Duration::from_millis(wait_ms), run(&gpu, ORDERED[0], CapabilityClass::Floor, 1)).await;
        let deadline = Instant::now() + Duration::from_secs(10);
        while floor().memory().unwrap().live_bytes > 0 {
            assert!(Instant::now() < deadline, "memory of a cancelled query is still held");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert_eq!(run(&gpu, ORDERED[0], CapabilityClass::Floor, 1).await.fallbacks, 0);
}

/// Few first rows are held of many, as on the CPU.
#[tokio::test(flavor = "multi_thread")]
async fn a_limited_memory_holds_the_first_rows() {
    if !has_gpu("gpu::order::a_limited_memory_holds_the_first_rows") {
        return;
    }
    let _alone = alone().await;
    let sql = "select s, k, d, v, f, b from t where v is not null order by v * 2 desc, f, s, k, d, b limit 100";
    let want = text(&run(&registered(Preference::Cpu).await, sql, CapabilityClass::All, 1).await);
    let options = Options { threads: 2, device: Preference::Gpu, memory_limit_bytes: Some(16_000_000), ..Options::default() };
    let ran = run(&with_options(options).await, sql, CapabilityClass::All, 1).await;
    assert!(text(&ran) == want);
    assert_eq!((ran.fallbacks, ran.sinks_on_gpu.as_slice()), (0, ["top-n"].as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_who_orders() {
    let explain = async |session: &Session, sql: &str| {
        let rows = session.sql(&format!("explain {sql}")).await.unwrap().collect().await.unwrap();
        pretty_format_batches(&rows).unwrap().to_string()
    };
    let (_dir, path) = sort::table();
    let gpu = sort::session(&path, true, Preference::Gpu, false).await;
    for (sql, how) in [
        ("select * from t order by i", "device=gpu (asked for; 0 instructions on the host; sorted on the device)"),
        ("select * from t where day > date '1970-02-01' order by f desc limit 5", "on the host; sorted on the device)"),
        ("select * from t where day > date '1970-02-01' order by l", "; sorted on the host: no compute shader orders List("),
        ("select * from t order by l, i", "device=cpu (gpu asked for, but no compute shader orders List("),
        (
            "select few, i from (select few, i, row_number() over (partition by few order by i) r from t) where r <= 2",
            "device=cpu (gpu asked for, but no compute shader covers the first rows of groups)",
        ),
    ] {
        let text = explain(&gpu, sql).await;
        assert!(text.contains(how), "{sql}\n{text}");
    }
    let auto = sort::session(&path, true, Preference::Auto, false).await;
    assert!(!explain(&auto, "select * from t order by i").await.contains("device=gpu"));
}
