//! The cheapest devices of a tree of stages. Plain numbers: what a stage takes on either device, and what is saved where
//! a stage and the one above it are both on the device, because its rows stay there.

/// A stage.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Nanoseconds on the CPU.
    pub cpu_ns: f64,
    /// Nanoseconds on the device, rows from and to the host; none where it cannot.
    pub gpu_ns: Option<f64>,
    /// Stages below, by number, and what is saved where both are on the device.
    pub below: Vec<(usize, f64)>,
}

/// Where the stages of a tree are best.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// By stage: whether it is on the device in the cheapest tree.
    pub gpu: Vec<bool>,
    /// Nanoseconds of all of them on the CPU.
    pub cpu_ns: f64,
    /// Nanoseconds of the cheapest tree.
    pub best_ns: f64,
}

/// By how much a tree with the device must be faster: this factor, and this many nanoseconds.
pub const FACTOR: f64 = 1.25;
/// See [`FACTOR`].
pub const GAIN_NS: f64 = 1e6;

impl Choice {
    /// Whether the gain is worth it: an estimate may be wrong, and the CPU never fails.
    pub fn pays(&self) -> bool {
        self.cpu_ns >= self.best_ns * FACTOR && self.cpu_ns - self.best_ns >= GAIN_NS
    }
}

/// The cheapest devices. Children stand before their parents in `nodes`.
pub fn choose(nodes: &[Node]) -> Choice {
    // By stage and device (0 the CPU): the cost of the tree below it, and the devices of the stages below.
    let mut costs: Vec<[f64; 2]> = vec![];
    for node in nodes {
        let on = |device: usize, own: f64| own + node.below.iter().map(|b| below(&costs, *b, device).0).sum::<f64>();
        costs.push([on(0, node.cpu_ns), node.gpu_ns.map_or(f64::INFINITY, |ns| on(1, ns))]);
    }
    let mut gpu: Vec<Option<bool>> = vec![None; nodes.len()];
    for (at, node) in nodes.iter().enumerate().rev() {
        // A root: nobody above has said where it is.
        let here = *gpu[at].get_or_insert(costs[at][1] < costs[at][0]);
        for b in &node.below {
            gpu[b.0] = Some(below(&costs, *b, usize::from(here)).1);
        }
    }
    let gpu: Vec<bool> = gpu.into_iter().map(|g| g.unwrap_or(false)).collect();
    let best_ns = nodes.iter().zip(&gpu).map(|(n, here)| of(n, *here, &gpu)).sum();
    Choice { cpu_ns: nodes.iter().map(|n| n.cpu_ns).sum(), best_ns, gpu }
}

/// The cheaper cost of a stage below one on `device`, and whether it is on the device then.
fn below(costs: &[[f64; 2]], (at, saves): (usize, f64), device: usize) -> (f64, bool) {
    let [cpu, gpu] = costs[at];
    let gpu = if device == 1 { gpu - saves } else { gpu };
    (cpu.min(gpu), gpu < cpu)
}

/// What a stage takes where it is.
fn of(node: &Node, here: bool, gpu: &[bool]) -> f64 {
    match node.gpu_ns {
        Some(ns) if here => ns - node.below.iter().filter(|b| gpu[b.0]).map(|b| b.1).sum::<f64>(),
        _ => node.cpu_ns,
    }
}
