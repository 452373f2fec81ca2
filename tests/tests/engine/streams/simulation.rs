//! Jobs in bad weather: a store that fails now and then, before its effect, behind it or halfway, rows that come while the
//! job runs, a clock that jumps, drivers that die, and drivers that do not know that they were replaced.
//!
//! Everything follows from a seed: `MILLSTREAM_SEED=n MILLSTREAM_SEEDS=1` runs one again.

use super::model::{Seeded, events, windows};
use super::{DISORDER, STEP, batch, log, ms, read, rows, windowed};
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use millstream::Session;
use millstream::streams::object_store::path::Path;
use millstream::streams::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use millstream::streams::{
    Driver, DriverOptions, ErrorKind, FileFormat, FilesSink, MemorySource, Progress, Restarts, SystemClock, VirtualClock, in_memory,
    run_restarting,
};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

const WINDOWS: [(i64, i64); 4] = [(1000, 1000), (1000, 250), (900, 400), (500, 50)];

/// A store of which one change in `fails_in` fails, and one read in four times as many.
#[derive(Debug)]
struct Weather {
    inner: Arc<dyn ObjectStore>,
    random: Mutex<u64>,
    fails_in: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Works,
    Before,
    Behind,
    Halfway,
}

impl Weather {
    fn fate(&self, fails_in: u64) -> Fate {
        let mut state = self.random.lock().unwrap();
        let mut random = Seeded::new(*state);
        *state = random.next();
        match random.below(fails_in) {
            0 => [Fate::Before, Fate::Behind, Fate::Halfway][random.below(3) as usize],
            _ => Fate::Works,
        }
    }

    fn error() -> Error {
        Error::Generic { store: "weather", source: "thunder".into() }
    }

    async fn changed<T>(&self, change: impl Future<Output = Result<T>>) -> Result<T> {
        match self.fate(self.fails_in) {
            Fate::Works => change.await,
            Fate::Before | Fate::Halfway => Err(Self::error()),
            Fate::Behind => {
                change.await?;
                Err(Self::error())
            }
        }
    }

    fn readable(&self) -> Result<()> {
        if self.fate(4 * self.fails_in) == Fate::Works { Ok(()) } else { Err(Self::error()) }
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weather over {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Weather {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        match self.fate(self.fails_in) {
            Fate::Works => self.inner.put_opts(location, payload, opts).await,
            Fate::Behind => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(Self::error())
            }
            // What a put-if-absent is for is that it cannot be half done.
            Fate::Halfway if opts.mode == PutMode::Overwrite => {
                let bytes: bytes::Bytes = payload.into();
                self.inner.put_opts(location, bytes.slice(..bytes.len() / 2).into(), opts).await?;
                Err(Self::error())
            }
            Fate::Before | Fate::Halfway => Err(Self::error()),
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.changed(self.inner.put_multipart_opts(location, opts)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.readable()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.fate(self.fails_in) {
            Fate::Works => self.inner.delete_stream(locations),
            Fate::Behind => self.inner.delete_stream(locations).map(|_| Err(Self::error())).boxed(),
            Fate::Before | Fate::Halfway => futures::stream::iter([Err(Self::error())]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.readable() {
            Ok(()) => self.inner.list(prefix),
            Err(e) => futures::stream::iter([Err(e)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.readable()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.changed(self.inner.copy_opts(from, to, options)).await
    }
}

/// What a run has met, to see that the weather was bad.
#[derive(Default)]
struct Met {
    failures: u64,
    replaced: u64,
    lives: u64,
}

/// A job that somebody runs; nothing of it outlives a driver but source and disk.
struct World {
    seed: u64,
    random: Seeded,
    disk: Arc<dyn ObjectStore>,
    source: MemorySource,
    clock: Arc<VirtualClock>,
    options: DriverOptions,
    format: FileFormat,
    spec: (i64, i64),
    fails_in: u64,
    met: Met,
}

/// One for all seeds, what it costs to make one is no matter of streams: of one to three threads, now and then with hardly any
/// memory.
fn session(random: &mut Seeded) -> Session {
    static SESSIONS: [[OnceLock<Session>; 3]; 2] = [const { [const { OnceLock::new() }; 3] }; 2];
    let (threads, is_tight) = (random.below(3) as usize, random.below(3) == 0);
    let make = || if is_tight { super::memory::tight(threads + 1, 20_000) } else { super::session(threads + 1) };
    SESSIONS[usize::from(is_tight)][threads].get_or_init(make).clone()
}

impl World {
    async fn open(&mut self, fails_in: u64) -> Option<Driver> {
        self.met.lives += 1;
        let random = Mutex::new(self.random.next());
        let store: Arc<dyn ObjectStore> = Arc::new(Weather { inner: Arc::clone(&self.disk), random, fails_in });
        let stream = session(&mut self.random).stream(self.source.clone()).unwrap().event_time("at", ms(DISORDER)).unwrap();
        let sink = FilesSink::new("out", Arc::clone(&store), "out".into(), self.format).rolling(200);
        let job = windowed(stream, self.spec.0, self.spec.1).await.to(sink).unwrap();
        let opened = Driver::open(job, log(&store), self.options.clone(), Arc::clone(&self.clock) as _).await;
        self.survived(opened)
    }

    /// None for an error that another driver may do better after; any other is a bug.
    fn survived<T>(&mut self, outcome: std::result::Result<T, millstream::streams::Error>) -> Option<T> {
        match outcome {
            Ok(t) => return Some(t),
            Err(e) if e.kind() == ErrorKind::Retry => self.met.failures += 1,
            Err(e) if e.kind() == ErrorKind::Closed => self.met.replaced += 1,
            Err(e) => panic!("seed {}: {e}", self.seed),
        }
        None
    }

    /// Runs until the input has ended and its rows are published.
    async fn run(&mut self, mut arriving: VecDeque<(usize, arrow::array::RecordBatch)>) {
        let mut drivers: Vec<Driver> = vec![];
        for turn in 0..100_000 {
            if turn == 2_000 {
                // It clears up: where every other change fails nobody gets through.
                self.fails_in = u64::MAX / 8;
            }
            let chosen = self.random.below(drivers.len().max(1) as u64) as usize;
            match self.random.below(40) {
                0..8 => match arriving.pop_front() {
                    Some((partition, rows)) => self.source.push(partition, rows).unwrap(),
                    None => self.source.end().unwrap(),
                },
                8 => self.clock.advance_ms(self.random.below(100_000)),
                9 => drivers.clear(),
                // The others do not know.
                10 | 11 if drivers.len() < 3 => drivers.extend(self.open(self.fails_in).await),
                12 if !drivers.is_empty() => {
                    let outcome = drivers[chosen].checkpoint().await;
                    if self.survived(outcome).is_none() {
                        drivers.remove(chosen);
                    }
                }
                _ if drivers.is_empty() => drivers.extend(self.open(self.fails_in).await),
                _ => {
                    self.clock.advance_ms(self.random.below(20));
                    let outcome = drivers[chosen].step().await;
                    match self.survived(outcome) {
                        None => drop(drivers.remove(chosen)),
                        Some(step) if step.progress == Progress::Finished => return,
                        Some(_) => {}
                    }
                }
            }
        }
        panic!("seed {}: it does not end", self.seed);
    }
}

async fn simulate(seed: u64) -> Met {
    let mut random = Seeded::new(seed);
    let spec = WINDOWS[random.below(WINDOWS.len() as u64) as usize];
    let all = events(seed, 300 + random.below(900) as i64, STEP, DISORDER / 2);
    let partitions = 1 + random.below(3) as usize;
    let mut arriving = VecDeque::new();
    let mut rest = &all[..];
    while !rest.is_empty() {
        let (some, more) = rest.split_at((1 + random.below(120) as usize).min(rest.len()));
        arriving.push_back((random.below(partitions as u64) as usize, batch(some)));
        rest = more;
    }
    let options = DriverOptions {
        epoch_rows_max: 1 + random.below(400) as usize,
        checkpoint_ms: [0, 20, 200][random.below(3) as usize],
        whole_every: 1 + random.below(6),
        ..DriverOptions::default()
    };
    let format = [FileFormat::Parquet, FileFormat::Csv, FileFormat::NdJson][random.below(3) as usize];
    let source = MemorySource::new("events", batch(&[]).schema(), partitions);
    let fails_in = 5 + random.below(40);
    let (disk, clock, met) = (in_memory(), Arc::default(), Met::default());
    let mut world = World { seed, random, disk, source, clock, options, format, spec, fails_in, met };
    world.run(arriving).await;
    // Whoever comes later finds it done.
    let mut last = world.open(u64::MAX / 8).await.unwrap();
    assert_eq!(last.step().await.unwrap().progress, Progress::Finished, "seed {seed}");
    let names: Vec<_> = world.disk.list(Some(&"out".into())).try_collect().await.unwrap();
    let mut got = vec![];
    for name in names.iter().map(|n| n.location.as_ref()).filter(|n| !n.contains("_staged")) {
        got.extend(read(&world.disk, name, format).await);
    }
    assert_eq!(rows(&got), windows(&all, spec.0, spec.1), "seed {seed}");
    world.met
}

#[expect(clippy::disallowed_methods, reason = "seeds by environment, to run one again")]
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |v| v.parse().unwrap_or_else(|e| panic!("{name}={v}: {e}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn in_bad_weather_nothing_is_lost_or_doubled() {
    let (first, seeds) = (number("MILLSTREAM_SEED", 1), number("MILLSTREAM_SEEDS", 60));
    let mut met = Met::default();
    for seed in first..first + seeds {
        let one = simulate(seed).await;
        met = Met { failures: met.failures + one.failures, replaced: met.replaced + one.replaced, lives: met.lives + one.lives };
    }
    println!("{seeds} seeds from {first}: {} drivers, of which {} failed and {} were replaced", met.lives, met.failures, met.replaced);
    assert!(seeds < 20 || met.failures > seeds && met.replaced > seeds / 4, "the weather was too good");
}

/// Jobs that do not wait for their checkpoints, and are opened again whenever the store fails. When a checkpoint is done is a
/// matter of threads: a seed that fails here may not fail again.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_run_on_get_through_bad_weather() {
    let (first, seeds) = (number("MILLSTREAM_SEED", 1), number("MILLSTREAM_SEEDS", 60).div_ceil(3));
    let mut restarts = 0;
    for seed in first..first + seeds {
        let mut random = Seeded::new(seed);
        let spec = WINDOWS[random.below(WINDOWS.len() as u64) as usize];
        let all = events(seed, 2_000 + random.below(4_000) as i64, STEP, DISORDER / 2);
        let (disk, fails_in, rows_max) = (in_memory(), 25 + random.below(60), 50 + random.below(400) as usize);
        let options =
            DriverOptions { epoch_rows_max: rows_max, checkpoint_ms: 0, whole_every: 1 + random.below(6), ..DriverOptions::default() };
        let open = || {
            let weather = Weather { inner: Arc::clone(&disk), random: Mutex::new(random.next()), fails_in };
            let store: Arc<dyn ObjectStore> = Arc::new(weather);
            let stream = session(&mut random).stream(super::source(&all, 2)).unwrap();
            let options = options.clone();
            async move {
                let stream = windowed(stream.event_time("at", ms(DISORDER)).unwrap(), spec.0, spec.1).await;
                let sink = FilesSink::new("out", Arc::clone(&store), "out".into(), FileFormat::Parquet).rolling(200);
                Driver::open(stream.to(sink).unwrap(), log(&store), options, Arc::new(SystemClock::new())).await
            }
        };
        let patience = Restarts { attempts: 1_000, delay_ms: 0, delay_ms_max: 0 };
        let done = run_restarting(&patience, open, 0, || false, |_| restarts += 1).await;
        assert!(done.is_ok(), "seed {seed}: {}", done.err().unwrap());
        let names: Vec<_> = disk.list(Some(&"out".into())).try_collect().await.unwrap();
        let mut got = vec![];
        for name in names.iter().map(|n| n.location.as_ref()).filter(|n| !n.contains("_staged")) {
            got.extend(read(&disk, name, FileFormat::Parquet).await);
        }
        assert_eq!(rows(&got), windows(&all, spec.0, spec.1), "seed {seed}");
    }
    println!("{seeds} seeds from {first}: {restarts} restarts");
    assert!(restarts > seeds, "the weather was too good");
}
