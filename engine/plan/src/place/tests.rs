use super::tree::{Node, choose};
use millstream_cost::{DeviceWork, Kernel, Profile, Step, Work, cpu, device};

fn node(cpu_ns: f64, gpu_ns: Option<f64>, below: &[(usize, f64)]) -> Node {
    Node { cpu_ns, gpu_ns, below: below.to_vec() }
}

#[test]
fn a_tree_is_placed_as_a_whole() {
    // Alone the lower stage is better on the CPU; with its rows staying on the device it is not.
    let apart = choose(&[node(4e6, Some(5e6), &[]), node(20e6, Some(6e6), &[(0, 0.0)])]);
    assert_eq!((apart.gpu.as_slice(), apart.best_ns, apart.cpu_ns), ([false, true].as_slice(), 10e6, 24e6));
    let together = choose(&[node(4e6, Some(5e6), &[]), node(20e6, Some(6e6), &[(0, 3e6)])]);
    assert_eq!((together.gpu.as_slice(), together.best_ns), ([true, true].as_slice(), 8e6));
    assert!(together.pays());
}

#[test]
fn a_small_gain_does_not_pay() {
    let gain = |cpu_ns, gpu_ns| choose(&[node(cpu_ns, Some(gpu_ns), &[])]).pays();
    assert!(gain(10e6, 8e6) && !gain(10e6, 8.1e6), "a quarter");
    assert!(gain(2e6, 1e6) && !gain(1.9e6, 1e6), "a millisecond");
    assert!(!choose(&[node(1e9, None, &[])]).pays());
    // The whole tree counts, not the stage that gains.
    assert!(!choose(&[node(10e6, Some(1e6), &[]), node(100e6, None, &[(0, 0.0)])]).pays());
}

/// Every placement of small random trees is tried: none is cheaper.
#[test]
fn no_other_placement_is_cheaper() {
    let mut g = Seeded(3);
    for _ in 0..2000 {
        let n = 1 + g.below(6) as usize;
        let mut free: Vec<usize> = vec![];
        let mut nodes = vec![];
        for at in 0..n {
            let below = free.drain(..g.below(free.len() as u64 + 1) as usize).map(|b| (b, g.unit() * 5.0)).collect::<Vec<_>>();
            let gpu_ns = (g.below(4) > 0).then(|| 5.0 * below.len() as f64 + g.unit() * 10.0);
            nodes.push(Node { cpu_ns: g.unit() * 20.0, gpu_ns, below });
            free.push(at);
        }
        let best = choose(&nodes);
        let cost = |gpu: u32| -> f64 {
            let on = |at: usize| gpu >> at & 1 == 1;
            let of = |(at, n): (usize, &Node)| match (on(at), n.gpu_ns) {
                (false, _) => n.cpu_ns,
                (true, None) => f64::INFINITY,
                (true, Some(ns)) => ns - n.below.iter().filter(|b| on(b.0)).map(|b| b.1).sum::<f64>(),
            };
            nodes.iter().enumerate().map(of).sum()
        };
        let least = (0..1 << n).map(cost).fold(f64::INFINITY, f64::min);
        assert!((best.best_ns - least).abs() < 1e-9, "{nodes:?}: {best:?}, {least} is there");
    }
}

/// SplitMix64.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Between two sizes, evenly by their logarithm.
    fn size(&mut self, from: f64, to: f64) -> f64 {
        (from.ln() + self.unit() * (to.ln() - from.ln())).exp()
    }
}

/// A stage of any shape whose groups and tables grow with its rows.
struct Shape {
    instrs: f64,
    inputs: f64,
    states: f64,
    groups_per_row: f64,
    table_per_row: f64,
    probes: f64,
    host: f64,
    /// The columns are on the device.
    resident: bool,
    /// Tables of any size grow with the rows; else they are small, as they are.
    grows: bool,
}

/// Rows that the tables of a shape that does not grow are of.
const SMALL: f64 = 1e4;

impl Shape {
    fn random(g: &mut Seeded) -> Self {
        Self {
            instrs: g.below(30) as f64,
            inputs: 1.0 + g.below(8) as f64,
            states: 1.0 + g.below(8) as f64,
            groups_per_row: g.size(1e-9, 1e-3),
            table_per_row: g.size(1e-6, 1.0),
            probes: g.below(4) as f64,
            host: if g.below(2) == 0 { 0.0 } else { g.below(4) as f64 },
            resident: g.below(2) == 0,
            grows: true,
        }
    }

    fn work(&self, rows: f64) -> Work {
        let of = if self.grows { rows } else { SMALL };
        let groups = (self.groups_per_row * of).max(1.0);
        let (table, states) = (self.table_per_row * of * 4.0, groups * 16.0);
        let work = |kernel, n: f64| Step::new(kernel, rows * n);
        let on_device = vec![
            work(Kernel::Map, self.instrs),
            Step::over(Kernel::ProbeArray, rows * self.probes, table),
            Step::over(Kernel::Accumulate, rows * self.states, states),
        ];
        let mut steps = on_device.clone();
        steps.push(work(Kernel::DecodeNumber, self.host));
        let column_bytes = rows * self.inputs * 4.0;
        let device = DeviceWork {
            host: if self.resident { vec![] } else { vec![work(Kernel::DecodeNumber, self.host)] },
            serial: if self.resident { vec![] } else { vec![work(Kernel::Pack, self.inputs / 8.0)] },
            after: vec![Step::over(Kernel::Accumulate, groups * self.states, states)],
            steps: on_device,
            column_bytes,
            resident_bytes: if self.resident { column_bytes } else { 0.0 },
            back_bytes: groups * self.states * 12.0,
            held_bytes: 0.0,
            chunk_bytes: 32e6,
            run_bytes: 0.0,
            blocks: 0.0,
            is_new: false,
        };
        Work { rows, rows_out: groups, read_bytes: rows * self.inputs * 8.0, steps, device: Some(device), ..Work::default() }
    }
}

fn profiles() -> Vec<Profile> {
    let all = [
        include_str!("../../../cost/profiles/h100.json"),
        include_str!("../../../cost/profiles/rtx4090.json"),
        include_str!("../../../cost/profiles/m4.json"),
        include_str!("../../../cost/profiles/integrated.json"),
    ];
    all.iter().map(|text| Profile::parse(text).unwrap()).collect()
}

fn on_gpu(work: &Work, profile: &Profile) -> bool {
    let gpu = profile.gpu.as_ref().unwrap();
    let gpu_ns = device(work, &profile.cpu, gpu, profile.cpu.threads).map(|p| p.total_ns);
    let choice = choose(&[Node { cpu_ns: cpu(work, &profile.cpu, profile.cpu.threads).total_ns(), gpu_ns, below: vec![] }]);
    choice.gpu[0] && choice.pays()
}

/// The first rows with which a stage is on the GPU and with more of them is not.
fn flips_back(shape: &Shape, profile: &Profile, chosen: &mut usize) -> Option<(f64, f64)> {
    let mut before = None;
    let mut rows = 1e3;
    while rows < 3e10 {
        let now = on_gpu(&shape.work(rows), profile);
        if let (false, Some(before)) = (now, before) {
            return Some((before, rows));
        }
        if now {
            before = before.or(Some(rows));
            *chosen += 1;
        }
        rows *= 1.9;
    }
    None
}

/// While everything fits the device's cache, more rows never bring a stage back to the CPU. They do on a machine whose
/// device loses more than its CPU when a table leaves the cache: in a memory that both share, for instance.
#[test]
fn more_rows_never_flip_a_stage_back_to_the_cpu() {
    let (mut g, mut chosen) = (Seeded(5), 0);
    for case in 0..3000 {
        let shape = Shape::random(&mut g);
        let small = Shape { grows: false, ..shape };
        for profile in profiles() {
            assert_eq!(flips_back(&small, &profile, &mut chosen), None, "case {case} on {}", profile.name);
        }
    }
    assert!(chosen > 10_000, "the law is about stages that are on the GPU: {chosen}");
}

#[test]
fn a_slower_bus_never_flips_a_stage_to_the_gpu() {
    let (mut g, mut flips) = (Seeded(6), 0);
    for case in 0..4000 {
        let work = Shape::random(&mut g).work(g.size(1e3, 1e10));
        for mut profile in profiles() {
            let mut before = true;
            for _ in 0..8 {
                let now = on_gpu(&work, &profile);
                assert!(before || !now, "case {case} on {}", profile.name);
                flips += usize::from(before && !now);
                before = now;
                let gpu = profile.gpu.as_mut().unwrap();
                gpu.upload_bytes_per_s /= 1.7;
                gpu.readback_bytes_per_s /= 1.7;
            }
        }
    }
    assert!(flips > 1_000, "{flips}");
}

/// Negative control of both laws: a machine whose device slows down as tables grow breaks them.
#[test]
fn a_broken_law_is_noticed() {
    let mut profile = profiles().remove(0);
    let steep = millstream_cost::Curve(vec![(1e5, 0.001), (1e6, 1e3)]);
    profile.gpu.as_mut().unwrap().kernels.insert(Kernel::Accumulate, steep);
    let mut g = Seeded(5);
    assert!((0..500).any(|_| flips_back(&Shape::random(&mut g), &profile, &mut 0).is_some()));
}
