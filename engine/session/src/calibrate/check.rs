//! A profile held against what it was not made from: other sizes, whole stages, and choices that are forced both ways.

use super::data::{Seeded, chunks};
use super::stages::define;
use super::{Calibration, tables};
use crate::{MachineProfile, Options, Preference, Result, Session, profile_of};
use datafusion::physical_plan::collect;
use millstream_cost::{Kernel, group_table};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// A prediction and what was measured.
///
/// ```
/// let checked = millstream::Checked { what: "map".into(), predicted_ns: 2.0, measured_ns: 3.0 };
/// assert_eq!(checked.factor(), 1.5);
/// ```
#[derive(Clone, Debug)]
pub struct Checked {
    /// Of what.
    pub what: String,
    /// By the profile.
    pub predicted_ns: f64,
    /// The best of a few runs.
    pub measured_ns: f64,
}

impl Checked {
    /// By how much the prediction is off, either way: 1 is right.
    ///
    /// ```
    /// let checked = millstream::Checked { what: "map".into(), predicted_ns: 4.0, measured_ns: 1.0 };
    /// assert_eq!(checked.factor(), 4.0);
    /// ```
    pub fn factor(&self) -> f64 {
        (self.measured_ns / self.predicted_ns).max(self.predicted_ns / self.measured_ns)
    }
}

/// A choice: every way was forced and measured.
///
/// ```
/// let way = |what: &str, predicted_ns, measured_ns| millstream::Checked { what: what.into(), predicted_ns, measured_ns };
/// let regret = millstream::Regret { of: "device".into(), ways: vec![way("cpu", 1.0, 3.0), way("gpu", 2.0, 2.0)] };
/// assert_eq!(regret.factor(), 1.5);
/// ```
#[derive(Clone, Debug)]
pub struct Regret {
    /// What is chosen, and for what.
    pub of: String,
    /// The ways.
    pub ways: Vec<Checked>,
}

impl Regret {
    /// What the way that the model chooses takes, over the best one: 1 is no regret.
    ///
    /// ```
    /// assert_eq!(millstream::Regret { of: "nothing".into(), ways: vec![] }.factor(), 1.0);
    /// ```
    pub fn factor(&self) -> f64 {
        let chosen = self.ways.iter().min_by(|a, b| a.predicted_ns.total_cmp(&b.predicted_ns));
        let best = self.ways.iter().map(|w| w.measured_ns).fold(f64::INFINITY, f64::min);
        chosen.map_or(1.0, |c| c.measured_ns / best)
    }
}

/// How good a profile is.
///
/// ```
/// assert!(millstream::Check::default().to_string().contains("within 2x"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// Kernels at sizes that were held out.
    pub kernels: Vec<Checked>,
    /// Whole stages, on the CPU and forced on the adapter.
    pub stages: Vec<Checked>,
    /// Choices.
    pub choices: Vec<Regret>,
}

impl fmt::Display for Check {
    /// A line each, and the numbers that sum them up.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = |all: &[Checked]| {
            let good = all.iter().filter(|c| c.factor() <= 2.0).count();
            format!("{good} of {} within 2x", all.len())
        };
        for (name, all) in [("kernels", &self.kernels), ("stages", &self.stages)] {
            for c in all {
                writeln!(
                    f,
                    "{name}  {:<44} predicted {:>12.2} ns  measured {:>12.2} ns  off by {:.2}",
                    c.what,
                    c.predicted_ns,
                    c.measured_ns,
                    c.factor()
                )?;
            }
        }
        for r in &self.choices {
            let way = |w: &Checked| format!("{} {:.2} ms (expected {:.2})", w.what, w.measured_ns / 1e6, w.predicted_ns / 1e6);
            writeln!(f, "choice  {:<40} {}  regret {:.2}", r.of, r.ways.iter().map(way).collect::<Vec<_>>().join(", "), r.factor())?;
        }
        let regrets: Vec<f64> = self.choices.iter().map(Regret::factor).collect();
        let mean = regrets.iter().sum::<f64>() / regrets.len().max(1) as f64;
        let worst = regrets.iter().copied().fold(1.0, f64::max);
        writeln!(f, "kernels: {}; stages: {}", within(&self.kernels), within(&self.stages))?;
        writeln!(f, "regret of {} choices: mean {mean:.2}, worst {worst:.2}", regrets.len())
    }
}

/// Measures how far `profile`, which is of this machine, is off. `progress` is told what comes next.
///
/// ```no_run
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let how = millstream::Calibration { threads: 2, folder: "profiles".into() };
/// let profile = millstream::calibrate(&how, &mut |_| {}).await?;
/// println!("{}", millstream::check(&how, &profile, &mut |_| {}).await?);
/// # Ok::<(), millstream::Error>(()) }).unwrap();
/// ```
///
/// # Errors
/// As [`calibrate`](crate::calibrate).
pub async fn check(how: &Calibration, profile: &MachineProfile, progress: &mut dyn FnMut(&str)) -> Result<Check> {
    let mut out = Check::default();
    progress("kernels of other sizes");
    for case in tables::CASES {
        for size in case.held_out {
            let (bytes, measured_ns) = (case.measure)(*size)?;
            let what = format!("{}, {size}", case.kernel.name());
            out.kernels.push(Checked { what, predicted_ns: profile.cpu.ns(case.kernel, bytes), measured_ns });
        }
    }
    progress("group tables");
    // Ranges that the kernels address directly whatever is in them: wider ones cannot be forced.
    for (groups, range) in [(100, 6_000), (100, 60_000), (1_000, 60_000), (8_000, 64_000), (30_000, 60_000)] {
        out.choices.push(group_choice(profile, groups, range)?);
    }
    stages(how, profile, progress, &mut out).await?;
    Ok(out)
}

/// A direct table over the whole range against a hash table of the keys that are there.
fn group_choice(profile: &MachineProfile, groups: usize, range: usize) -> Result<Regret> {
    const CHUNKS: usize = 64;
    let step = range / groups;
    let keys = |n: usize, seed: u64, sparse: bool| {
        let mut g = Seeded(seed);
        chunks(n, || g.below(groups as u64) * step as u64, sparse)
    };
    let known = groups.div_ceil(millstream_kernels::CHUNK_ROWS) * 4;
    let rows = (CHUNKS * millstream_kernels::CHUNK_ROWS) as f64;
    let way = |what: &str, sparse: bool, kernel: Kernel, bytes: f64| -> Result<Checked> {
        let ns = tables::groups_ns(&keys(CHUNKS, 31, sparse), &keys(known, 32, sparse), what)?;
        Ok(Checked { what: what.into(), predicted_ns: profile.cpu.ns(kernel, bytes) * rows, measured_ns: ns * rows })
    };
    let (direct, hash) = (group_table(&profile.cpu, 0.0, Some(range as f64)), group_table(&profile.cpu, groups as f64, None));
    let ways = vec![
        way("direct", false, Kernel::GroupDirect, if direct.0 == Kernel::GroupDirect { direct.1 } else { range as f64 * 4.0 })?,
        way("hash", true, hash.0, hash.1)?,
    ];
    Ok(Regret { of: format!("table of {groups} groups in {range}"), ways })
}

/// Queries over `big`, whose rows are no size that was calibrated with.
const QUERIES: [(&str, &str); 6] = [
    ("sum", "select sum(a), count(*) from T where b < 500"),
    ("arithmetic", "select sum(a * 3 + b), min(a - b), max(b) from T where b > 10"),
    ("few groups", "select k, sum(a), count(*) from T group by k"),
    ("many groups", "select many, sum(a) from T where b < 900 group by many"),
    ("join", "select sum(v), count(*) from T join small on many = id where b < 800"),
    ("join and groups", "select w, sum(a) from T join small on many = id group by w"),
];
const SIZES: [usize; 3] = [5_000, 150_000, 1_500_000];
const RUNS: usize = 5;

async fn stages(how: &Calibration, profile: &MachineProfile, progress: &mut dyn FnMut(&str), out: &mut Check) -> Result<()> {
    let mut warm = profile.clone();
    // Queries run once before they are timed.
    warm.gpu.iter_mut().for_each(|g| g.compile_ns = 0.0);
    let profile = Arc::new(warm);
    let one = session(&profile, 1, Preference::Cpu).await?;
    let all = session(&profile, how.threads, Preference::Cpu).await?;
    let gpu = match &profile.gpu {
        Some(_) => Some(session(&profile, how.threads, Preference::Gpu).await?),
        None => None,
    };
    for (name, sql) in QUERIES {
        progress(&format!("{name}, forced each way"));
        for size in SIZES {
            let of = |what: &str| format!("{what}: {name}, {size} rows");
            let sql = sql.replace('T', &format!("big{size}"));
            let on_all = timed(&all, &sql, "cpu").await?;
            if how.threads > 1 {
                let ways =
                    vec![timed(&one, &sql, "1 thread").await?, Checked { what: format!("{} threads", how.threads), ..on_all.clone() }];
                out.choices.push(Regret { of: of("threads"), ways });
            }
            out.stages.push(Checked { what: of("cpu"), ..on_all.clone() });
            if let Some(gpu) = &gpu {
                let on_gpu = timed(gpu, &sql, "gpu").await?;
                out.stages.push(Checked { what: of("gpu"), ..on_gpu.clone() });
                out.choices.push(Regret { of: of("device"), ways: vec![on_all, on_gpu] });
            }
        }
    }
    Ok(())
}

/// A session with the tables of the queries, its stages priced by the profile.
async fn session(profile: &Arc<MachineProfile>, threads: usize, device: Preference) -> Result<Session> {
    let options = Options { threads, device, profile: Some(Arc::clone(profile)), ..Options::default() };
    let session = Session::with_options(options)?;
    let mut statements =
        vec!["create table small as select value as id, value * 3 as v, value % 20 as w from generate_series(0, 79999)".to_string()];
    for size in SIZES {
        let columns = "value as a, value * 7919 % 1000 as b, value * 31 % 12 as k, value * 7919 % 80000 as many";
        statements.push(format!("create table big{size} as select {columns} from generate_series(1, {size})"));
    }
    define(&session, &statements).await?;
    session.cache("small").await?;
    for size in SIZES {
        session.cache(&format!("big{size}")).await?;
    }
    Ok(session)
}

/// What a query's stages were expected to take in all, and what the query took, planning aside. The first run compiles and warms up.
async fn timed(session: &Session, sql: &str, what: &str) -> Result<Checked> {
    let (mut predicted_ns, mut measured_ns) = (0.0, f64::INFINITY);
    for run in 0..=RUNS {
        let plan = session.sql(sql).await?.plan().await?;
        let started = Instant::now();
        collect(Arc::clone(&plan), session.context().task_ctx()).await?;
        if run > 0 {
            measured_ns = measured_ns.min(started.elapsed().as_nanos() as f64);
        }
        let stages = profile_of(&plan).stages;
        let expected = |s: &crate::StageReport| if s.device == "gpu" { s.gpu_est_ms } else { s.cpu_est_ms };
        predicted_ns = stages.iter().filter_map(expected).sum::<f64>() * 1e6;
    }
    Ok(Checked { what: what.into(), predicted_ns, measured_ns })
}
