//! Nothing is left behind: a thousand queries later, some cancelled and some failed, the device has the memory and the objects
//! that it had.

use super::resident::{QUERIES as SQL, cached};
use super::*;
use millstream_kernels::gpu::{DeviceMemory, DeviceObjects};

const QUERIES: usize = 1_000;
/// After so many, every query has run: its kernels are compiled, its buffers are in the pool.
const WARM: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_queries_leave_nothing() {
    if !has_gpu("a thousand queries") {
        return;
    }
    let _alone = alone().await;
    let (cpu, gpu) = (cached(Preference::Cpu, None, 3_000).await, cached(Preference::Gpu, None, 3_000).await);
    let mut expected = vec![];
    for sql in SQL {
        expected.push(run(&cpu, sql, CapabilityClass::Floor, 1).await.lines());
    }
    let device = floor();
    let mut warm: Option<(DeviceMemory, DeviceObjects)> = None;
    let mut on_gpu = 0;
    for i in 0..QUERIES {
        let n = i % SQL.len();
        match i % 50 {
            48 => {
                let dropped = tokio::time::timeout(Duration::from_micros(500), run(&gpu, SQL[n], CapabilityClass::Floor, 1)).await;
                drop(dropped);
            }
            49 => {
                device.inject(Fault::Submit);
                assert_eq!(run(&gpu, SQL[n], CapabilityClass::Floor, 1).await.lines(), expected[n], "{}", SQL[n]);
            }
            _ => {
                let ran = run(&gpu, SQL[n], CapabilityClass::Floor, 1).await;
                on_gpu += usize::from(ran.gpu_rows > 0);
                assert_eq!(ran.lines(), expected[n], "query {i}: {}", SQL[n]);
            }
        }
        if i == WARM {
            warm = Some((quiet(&device).await, device.objects().unwrap()));
        }
    }
    // Of one query zone maps rule all rows out.
    assert!(on_gpu > QUERIES * 8 / 10, "{on_gpu} queries ran on the device");
    let (memory, objects) = (quiet(&device).await, device.objects().unwrap());
    let (warm_memory, warm_objects) = warm.unwrap();
    // What waits for its next use may grow by what two queries at once needed.
    let pool = memory.pooled_bytes <= warm_memory.pooled_bytes + (64 << 20);
    assert!(memory.live_bytes == 0 && memory.kept_bytes == warm_memory.kept_bytes && pool, "{warm_memory:?}, then {memory:?}");
    assert!(
        objects.passing <= warm_objects.passing + 2 && objects.compiled <= warm_objects.compiled + 2,
        "{warm_objects:?}, then {objects:?}"
    );
    assert!(objects.buffers <= warm_objects.buffers + 32, "{warm_objects:?}, then {objects:?}");
    drop(gpu);
    assert_eq!(quiet(&device).await.kept_bytes, 0);
    println!("{QUERIES} queries, {on_gpu} on the device: {warm_objects:?} and {warm_memory:?}, then {objects:?} and {memory:?}");
}

/// The memory once what was cancelled has let go of its own.
async fn quiet(device: &Device) -> DeviceMemory {
    for _ in 0..200 {
        let memory = device.memory().unwrap();
        if memory.live_bytes == 0 {
            return memory;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    device.memory().unwrap()
}
