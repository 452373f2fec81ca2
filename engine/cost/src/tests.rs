use crate::*;
use std::collections::BTreeMap;

fn machine() -> Profile {
    let flat = |all: &[Kernel], ns: f64| all.iter().map(|k| (*k, Curve::flat(ns))).collect::<BTreeMap<_, _>>();
    let cpu = Cpu {
        isa: "avx2".into(),
        threads: 4,
        read_bytes_per_s_one: 1e10,
        read_bytes_per_s: 2e10,
        stage_ns: 1e5,
        thread_ns: 1e4,
        in_stage: 1.0,
        kernels: flat(&Kernel::CPU, 1.0),
    };
    let gpu = Gpu {
        name: "one".into(),
        backend: "Vulkan".into(),
        driver: "1".into(),
        is_software: false,
        memory_bytes: 1e9,
        upload_bytes_per_s: 1e10,
        readback_bytes_per_s: 1e10,
        read_bytes_per_s: 5e11,
        copy_bytes_per_s: None,
        submit_ns: 5e4,
        dispatch_ns: 5e3,
        map_ns: 3e4,
        compile_ns: 1e7,
        kernels: flat(&Kernel::DEVICE, 0.01),
    };
    Profile { version: VERSION, name: "test".into(), synthetic: true, source: "made up".into(), cpu, gpu: Some(gpu) }
}

fn work(rows: f64) -> Work {
    let device = DeviceWork {
        steps: vec![Step::new(Kernel::Map, rows * 4.0), Step::over(Kernel::Accumulate, rows, 4096.0)],
        column_bytes: rows * 16.0,
        chunk_bytes: 32e6,
        back_bytes: 1e4,
        held_bytes: 1e8,
        ..DeviceWork::default()
    };
    let steps = vec![Step::new(Kernel::Map, rows * 4.0), Step::over(Kernel::GroupDirect, rows, 4096.0)];
    Work { rows, read_bytes: rows * 16.0, steps, device: Some(device), ..Work::default() }
}

#[test]
fn a_profile_is_its_json() {
    let profile = machine();
    assert_eq!(Profile::parse(&profile.to_json().unwrap()).unwrap(), profile);
}

#[test]
fn a_profile_that_cannot_be_calculated_with_is_refused() {
    let refused = |change: &dyn Fn(&mut Profile)| {
        let mut profile = machine();
        change(&mut profile);
        Profile::parse(&profile.to_json().unwrap()).unwrap_err().to_string()
    };
    assert!(refused(&|p| p.version = 7).contains("version 7"));
    assert!(refused(&|p| p.cpu.read_bytes_per_s = 0.0).contains("read_bytes_per_s is 0"));
    assert!(refused(&|p| p.cpu.stage_ns = -1.0).contains("stage_ns"));
    assert!(refused(&|p| drop(p.cpu.kernels.remove(&Kernel::GroupHash))).contains("group_hash is missing"));
    let twice = Curve(vec![(8.0, 1.0), (8.0, 2.0)]);
    assert!(refused(&move |p| drop(p.gpu.as_mut().unwrap().kernels.insert(Kernel::Map, twice.clone()))).contains("out of order"));
    assert!(Profile::parse("{").is_err() && Profile::parse("{\"version\": 1}").is_err());
}

#[test]
fn every_kernel_has_the_name_that_profiles_have() {
    for kernel in Kernel::CPU {
        assert_eq!(serde_json::to_string(&kernel).unwrap(), format!("\"{}\"", kernel.name()));
    }
    assert!(Kernel::DEVICE.iter().all(|k| Kernel::CPU.contains(k)));
}

#[test]
fn the_cpu_is_bound_by_kernels_or_by_memory() {
    let (m, w) = (machine(), work(1e6));
    let one = cpu(&w, &m.cpu, 1);
    assert_eq!((one.compute_ns, one.memory_ns), (5e6, 1.6e6));
    assert_eq!(one.total_ns(), 1e5 + 5e6);
    assert_eq!(one.most().0, "kernels");
    let dearer = Cpu { in_stage: 2.0, ..m.cpu.clone() };
    assert_eq!(cpu(&w, &dearer, 1).compute_ns, 1e7, "chunk by chunk");
    let four = cpu(&w, &m.cpu, 4);
    assert_eq!(four.compute_ns, 5e6 / 4.0);
    assert_eq!(four.memory_ns, 1.6e6 / 2.0, "more threads than the memory feeds");
    assert_eq!(cheapest_threads(&w, &m.cpu, 4), 4);
    assert_eq!(cheapest_threads(&work(100.0), &m.cpu, 4), 1);
}

#[test]
fn threads_merge_the_groups_that_they_met() {
    let m = machine();
    let merge_ns = |groups: f64, threads: u32| {
        let merge = vec![Step::new(Kernel::GroupHash, groups)];
        cpu(&Work { sunk_rows: 1e6, groups, merge, ..work(1e6) }, &m.cpu, threads).merge_ns
    };
    assert_eq!(merge_ns(1e3, 1), 0.0);
    assert_eq!(merge_ns(1e3, 4), 1e3, "every thread has met every group");
    assert_eq!(merge_ns(1e6, 4), 2.5e5, "every thread has met its rows");
}

#[test]
fn a_device_pays_for_the_bus_and_for_starting() {
    let m = machine();
    let gpu = m.gpu.as_ref().unwrap();
    let price = |w: &Work, gpu: &Gpu| device(w, &m.cpu, gpu, 4).unwrap();
    let w = work(1e8);
    let cold = price(&w, gpu);
    assert_eq!(cold.upload_ns, 1.6e9 / 1e10 * 1e9);
    assert_eq!(cold.most().0, "upload");
    let mut resident = w.clone();
    resident.device.as_mut().unwrap().resident_bytes = 1.6e9;
    assert!(price(&resident, gpu).total_ns < cold.total_ns / 3.0);
    let slow = Gpu { upload_bytes_per_s: 1e9, ..gpu.clone() };
    assert!(price(&w, &slow).total_ns > 5.0 * cold.total_ns);
    let mut new = w.clone();
    new.device.as_mut().unwrap().is_new = true;
    assert_eq!(price(&new, gpu).total_ns, cold.total_ns + gpu.compile_ns);
    let software = Gpu { is_software: true, ..gpu.clone() };
    assert!(price(&w, &software).total_ns > cold.total_ns, "nothing overlaps");
    let small = Gpu { memory_bytes: 1e8, ..gpu.clone() };
    assert!(device(&w, &m.cpu, &small, 4).is_none());
    assert!(device(&Work::default(), &m.cpu, gpu, 4).is_none());
}

#[test]
fn no_price_jumps_with_a_row() {
    let m = machine();
    let gpu = m.gpu.as_ref().unwrap();
    let total = |rows: f64| device(&work(rows), &m.cpu, gpu, 4).unwrap().total_ns;
    let mut rows = 1.0;
    while rows < 1e9 {
        let (a, b) = (total(rows), total(rows * 1.001));
        assert!(b >= a && b <= a * 1.01, "{rows}: {a} then {b}");
        rows *= 1.37;
    }
}

#[test]
fn the_cheaper_group_table_depends_on_what_fits_the_cache() {
    let mut m = machine();
    let rising = Curve(vec![(1e6, 1.0), (1e8, 20.0)]);
    m.cpu.kernels.insert(Kernel::GroupDirect, rising.clone());
    m.cpu.kernels.insert(Kernel::GroupHash, Curve(rising.0.iter().map(|(b, ns)| (*b, ns * 2.0)).collect()));
    assert_eq!(group_table(&m.cpu, 1e4, Some(1e4)).0, Kernel::GroupDirect);
    assert_eq!(group_table(&m.cpu, 1e4, Some(1e8)).0, Kernel::GroupHash, "few groups in a wide range");
    assert_eq!(group_table(&m.cpu, 1e4, None).0, Kernel::GroupHash);
}

/// The fixtures say that they are synthetic and where they are from; only a recorded machine may say otherwise.
#[test]
fn the_profiles_of_other_machines_are_sound() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
    let mut seen = vec![];
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let profile = Profile::parse(&std::fs::read_to_string(&path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let name = path.file_stem().unwrap().to_string_lossy().to_string();
        assert_eq!(profile.synthetic, name != "lavapipe", "{name}");
        assert!(profile.source.len() > 40, "{name} says where its numbers are from");
        assert_eq!(profile.hardware().is_some(), name != "lavapipe", "{name}");
        seen.push(name);
    }
    seen.sort();
    assert_eq!(seen, ["h100", "integrated", "lavapipe", "m4", "rtx4090"]);
}

#[test]
fn workers_wait_for_the_rows_of_each_block() {
    let m = machine();
    let gpu = m.gpu.as_ref().unwrap();
    let with = |blocks: f64, host_ns: f64, resident: f64| {
        let mut w = work(1e6);
        let d = w.device.as_mut().unwrap();
        (d.blocks, d.host, d.resident_bytes) = (blocks, vec![Step::new(Kernel::Map, host_ns)], resident * d.column_bytes);
        device(&w, &m.cpu, gpu, 4).unwrap()
    };
    // Start; the bus, the kernels, ten times three submissions and two maps, the rows back.
    let device_ns = 1.6e6 + 5e4 + 10.0 * (3.0 * 5.5e4 + 2.0 * 3e4) + 1e3;
    assert_eq!(with(10.0, 0.0, 0.0).total_ns, 1.3e5 + device_ns);
    // Much to do on the host: the device's time is shared by those who wait for it.
    assert_eq!(with(10.0, 4e7, 0.0).total_ns, 1.3e5 + 1e7 + device_ns / 4.0);
    assert!(with(20.0, 0.0, 0.0).total_ns > with(10.0, 0.0, 0.0).total_ns);
    // What is there is copied there: half of what its memory reads.
    assert_eq!(with(10.0, 0.0, 1.0).upload_ns, 16e6 / 2.5e11 * 1e9);
}
