//! Throughput of every kernel, against what the machine's memory gives to one thread.
//!
//! Kernels run as in a stage: on one thread, chunk by chunk, over registers that stay in cache, so more than
//! 100 % means that a scan from memory could not keep the kernel busy. Every answer is compared with the
//! kernel's reference twin before it is timed.
//!
//!     cargo bench --workspace --bench kernels                      all
//!     cargo bench --workspace --bench kernels -- --quick group     fewer samples, only names with "group"

mod bandwidth;
mod columns;
mod data;
mod tables;

use criterion::{Criterion, Throughput};
use std::cell::RefCell;
use std::time::Duration;

/// One kernel on one shape of data.
struct Case {
    kernel: &'static str,
    name: &'static str,
    /// Rows of one run.
    rows: usize,
    /// Bytes that a row reads and writes, tables aside.
    row_bytes: f64,
    /// Makes the data, verifies the answer, and gives what is timed.
    make: fn(rows: usize) -> Box<dyn FnMut()>,
}

/// Seconds of one run: the median of a case's samples.
struct Timed<'a> {
    case: &'a Case,
    seconds: f64,
}

#[expect(clippy::disallowed_methods, reason = "criterion's arguments, and a measurement")]
fn main() {
    let mut criterion =
        Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    criterion = criterion.configure_from_args();
    let cases: Vec<Case> = columns::cases().into_iter().chain(tables::cases()).collect();
    let mut timed = vec![];
    for case in &cases {
        let samples = RefCell::new(vec![]);
        let mut made = None;
        let mut group = criterion.benchmark_group(case.kernel);
        group.throughput(Throughput::Bytes((case.rows as f64 * case.row_bytes) as u64));
        group.bench_function(case.name, |bencher| {
            let run = made.get_or_insert_with(|| (case.make)(case.rows));
            bencher.iter_custom(|iterations| {
                let started = std::time::Instant::now();
                (0..iterations).for_each(|_| run());
                let elapsed = started.elapsed();
                samples.borrow_mut().push(elapsed.as_secs_f64() / iterations as f64);
                elapsed
            });
        });
        group.finish();
        let mut samples = samples.into_inner();
        samples.sort_by(f64::total_cmp);
        timed.extend(samples.get(samples.len() / 2).map(|seconds| Timed { case, seconds: *seconds }));
    }
    criterion.final_summary();
    let timing = std::env::args().any(|a| a == "--bench") && !std::env::args().any(|a| a == "--list" || a == "--test");
    if timing && !timed.is_empty() {
        print_table(&timed, bandwidth::measure());
    }
}

fn print_table(timed: &[Timed<'_>], memory: bandwidth::Bandwidth) {
    let giga = |bytes: f64| bytes / 1e9;
    println!(
        "\nmemory read by a sum over 1 GiB: {:.1} GB/s on one thread, {:.1} GB/s on {}",
        giga(memory.one_thread),
        giga(memory.all_threads),
        memory.threads
    );
    println!("kernels: {} on one thread, median\n", millstream_kernels::cpu::isa().name());
    println!("| kernel | Mrows/s | GB/s | % of memory |\n| --- | ---: | ---: | ---: |");
    for Timed { case, seconds } in timed {
        let rate = case.rows as f64 * case.row_bytes / seconds;
        let rows = case.rows as f64 / seconds / 1e6;
        println!("| {} {} | {rows:.0} | {:.1} | {:.0} |", case.kernel, case.name, giga(rate), 100.0 * rate / memory.one_thread);
    }
}
