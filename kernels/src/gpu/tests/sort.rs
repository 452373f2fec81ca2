//! Rows in order: the device against the CPU's twin and a stable sort, on both classes.

use super::*;
use crate::program::KeyOrder;
use crate::sort::{self, Key};
use crate::testing::{self, TYPES};
use crate::vector::{Strings, Values, Vector};
use std::sync::atomic::{AtomicBool, Ordering};

fn ints(values: Vec<i64>) -> Vector {
    Vector::new(Values::I64(values.into()))
}

fn ascending(values: &Vector) -> Key<'_> {
    Key { values, order: KeyOrder::default() }
}

fn sorted(device: &Device, keys: &[Key], n: usize, fetch: Option<usize>, options: &SortOptions) -> Result<Vec<u32>> {
    device.sort(keys, n, fetch, options, &mut Timings::default())
}

/// Where the device's rows differ from those wanted; on the first device that does.
fn first_wrong(keys: &[Key], n: usize, fetch: Option<usize>, options: &SortOptions, want: &[u32]) -> Option<String> {
    devices().iter().find_map(|device| {
        let got = sorted(device, keys, n, fetch, options).unwrap_or_else(|e| panic!("{:?}: {e}", device.class()));
        let at = (0..got.len().max(want.len())).find(|i| got.get(*i) != want.get(*i))?;
        Some(format!("{:?}, {fetch:?} of {n}: place {at}: {:?} for {:?}", device.class(), got.get(at), want.get(at)))
    })
}

/// All rows, and first ones of any number, as the CPU has them; of one key also as a stable sort has them.
fn check(keys: &[Key], n: usize, options: &SortOptions) {
    let want = sort::order(keys, n, None).unwrap();
    for fetch in [None, Some(0), Some(1), Some(n / 100), Some(n / 5), Some(n / 2), Some(n.saturating_sub(1)), Some(n), Some(n + 7)] {
        let wanted = &want[..fetch.unwrap_or(n).min(n)];
        assert_eq!(sort::order(keys, n, fetch).unwrap(), wanted);
        if let Some(wrong) = first_wrong(keys, n, fetch, options, wanted) {
            panic!("{wrong}");
        }
    }
}

fn check_ints(values: Vec<i64>) {
    let mut want: Vec<u32> = (0..values.len() as u32).collect();
    want.sort_by_key(|row| values[*row as usize]);
    let n = values.len();
    let key = ints(values);
    assert_eq!(sort::order(&[ascending(&key)], n, None).unwrap(), want);
    check(&[ascending(&key)], n, &SortOptions::default());
}

#[test]
fn sizes_around_tiles_and_blocks() {
    let mut g = testing::Gen::new(1);
    // A tile has 256 rows, a block 4,096; 65,536 rows have 4,096 counts, and so one sum and then two.
    for n in [0, 1, 2, 3, 31, 32, 33, 255, 256, 257, 4095, 4096, 4097, 12_289, 65_535, 65_536, 65_537, 69_633] {
        check_ints((0..n).map(|_| g.below(1 << 20) as i64).collect());
    }
}

#[test]
fn values_in_every_order() {
    let n = 9_000;
    let mut g = testing::Gen::new(2);
    let shapes: [&mut dyn FnMut(i64) -> i64; 7] = [
        &mut |_| 5,
        &mut |i| i,
        &mut |i| -i,
        &mut |i| i % 3,
        // Digits that all rows share lie between those that they do not.
        &mut |i| ((i % 7) << 40) | (0xAB << 20) | (i % 11),
        &mut |_| g.next() as i64,
        &mut |i| if i == 4567 { i64::MIN } else { i64::MAX - i % 2 },
    ];
    for shape in shapes {
        check_ints((0..n).map(&mut *shape).collect());
    }
}

#[test]
fn keys_of_all_bits() {
    let n = 6_000;
    let mut g = testing::Gen::new(3);
    for bits in [8, 24, 32, 33, 57, 63, 64] {
        let mut key = |bits: u32| ints((0..n).map(|_| (g.next() >> (64 - bits)) as i64).collect());
        // Together up to 128 bits less those of a row's number; then beyond them, where the host settles what is equal.
        let (a, b, c) = (key(bits), key(bits), key(bits));
        check(&[ascending(&a), ascending(&b)], n, &SortOptions::default());
        check(&[ascending(&a), ascending(&b), ascending(&c)], n, &SortOptions::default());
    }
    let few = ints((0..n as i64).map(|i| i % 2).collect());
    let ends = ints((0..n as i64).map(|i| [i64::MIN, -1, 0, i64::MAX][i as usize * 7 % 4]).collect());
    check(&[ascending(&few), ascending(&ends), ascending(&ends), ascending(&few)], n, &SortOptions::default());
}

/// Random keys of every type, as [`crate::sort`] is tested: nulls at either end, both directions, long strings, constants.
#[test]
fn random_keys_agree_with_the_cpu() {
    let mut g = testing::Gen::new(4);
    for round in 0..60 {
        let n = [3usize, 200, 5_000, 4_200][round % 4];
        let keys: Vec<(Vector, KeyOrder)> = (0..1 + round / 4 % 4)
            .map(|_| {
                let ty = TYPES[g.below(TYPES.len() as u64) as usize];
                let constant = g.below(8) == 0;
                (g.vector(ty, n, constant), KeyOrder { descending: g.below(2) == 0, nulls_first: g.below(2) == 0 })
            })
            .collect();
        let keys: Vec<Key> = keys.iter().map(|(values, order)| Key { values, order: *order }).collect();
        let want = sort::reference::order(&keys, n).unwrap();
        let options = SortOptions { run_rows_max: [usize::MAX, 1000][round % 2], ..SortOptions::default() };
        for fetch in [None, Some(n / 30), Some(g.below(n as u64) as usize)] {
            if let Some(wrong) = first_wrong(&keys, n, fetch, &options, &want[..fetch.unwrap_or(n)]) {
                panic!("round {round}: {wrong}: {keys:?}");
            }
        }
    }
}

/// Strings that begin alike: the device orders what it has of them, the host settles the rest.
#[test]
fn strings_that_begin_alike() {
    let n = 9_000;
    let mut g = testing::Gen::new(5);
    let texts: Vec<String> =
        (0..n).map(|_| format!("{}{}", ["common prefix ", "common ", ""][g.below(3) as usize], g.below(400))).collect();
    let text = Vector::new(Values::Str(Strings::View(texts.iter().map(Some).collect())));
    let few = ints((0..n).map(|_| g.below(3) as i64).collect());
    let down = Key { values: &text, order: KeyOrder { descending: true, nulls_first: false } };
    for options in [SortOptions::default(), SortOptions { run_rows_max: 2_500, ..SortOptions::default() }] {
        check(&[ascending(&text), ascending(&few)], n, &options);
        check(&[ascending(&few), down], n, &options);
    }
}

/// Runs that the host merges, of every length, and workgroups that take many blocks.
#[test]
fn runs_and_workgroups_of_any_number() {
    let n = 30_000;
    let mut g = testing::Gen::new(6);
    let few = ints((0..n).map(|_| g.below(40) as i64).collect());
    let many = ints((0..n).map(|_| g.next() as i64).collect());
    for (run_rows_max, workgroups_max) in [(1 << 28, 1), (1 << 28, 3), (7_001, 4096), (10_000, 2), (29_999, 1), (30_000, 5)] {
        let options = SortOptions { run_rows_max, workgroups_max, ..SortOptions::default() };
        check(&[ascending(&few)], n, &options);
        check(&[ascending(&few), ascending(&many)], n, &options);
    }
}

/// A million rows have 245 blocks, and 16 sums of their counts.
#[test]
fn a_million_rows() {
    let n = 1_000_003;
    let mut g = testing::Gen::new(7);
    let key = ints((0..n).map(|_| g.below(1 << 14) as i64).collect());
    let keys = [ascending(&key)];
    for fetch in [None, Some(10), Some(100_000)] {
        let want = sort::order(&keys, n, fetch).unwrap();
        if let Some(wrong) = first_wrong(&keys, n, fetch, &SortOptions::default(), &want) {
            panic!("{wrong}");
        }
    }
}

/// More rows than a binding of the floor holds pairs of, and blocks than there are workgroups: several runs there, one elsewhere.
#[test]
#[ignore = "takes a minute and 2 GB; run it after changes to sort.rs, passes.rs or the shaders"]
fn more_rows_than_a_binding_holds() {
    let n = 17_500_000;
    let mut g = testing::Gen::new(8);
    let key = ints((0..n).map(|_| (g.below(1 << 22) * g.below(1 << 12)) as i64).collect());
    for fetch in [None, Some(1_000)] {
        let want = sort::order(&[ascending(&key)], n, fetch).unwrap();
        for device in devices() {
            let mut timings = Timings::default();
            let rows = device.sort(&[ascending(&key)], n, fetch, &SortOptions::default(), &mut timings).unwrap();
            assert!(rows == want, "{:?}, {fetch:?}", device.class());
            assert_eq!(timings.chunks > 1, device.info().binding_bytes_max < n as u64 * 8, "{timings:?}");
        }
    }
}

#[test]
fn the_comparator_sees_one_wrong_row() {
    let n = 5_000;
    let values: Vec<i64> = (0..n as i64).map(|i| i * 7919 % 1000).collect();
    let mut corrupt = values.clone();
    corrupt[3210] += 1;
    let (key, wrong) = (ints(values), ints(corrupt));
    let options = SortOptions::default();
    for fetch in [None, Some(n / 2)] {
        let want = sort::order(&[ascending(&key)], n, fetch).unwrap();
        assert!(first_wrong(&[ascending(&key)], n, fetch, &options, &want).is_none());
        let differs = first_wrong(&[ascending(&wrong)], n, None, &options, &sort::order(&[ascending(&key)], n, None).unwrap());
        assert!(differs.is_some() || devices().is_empty());
        let fewer = first_wrong(&[ascending(&key)], n, fetch, &options, &want[..want.len() - 1]);
        assert!(fewer.is_some() || devices().is_empty(), "a row too many");
    }
}

#[test]
fn what_kernels_do_not_order_is_refused() {
    let lists = Vector::new(Values::Any(arrow::array::new_null_array(&arrow::datatypes::DataType::Binary, 3)));
    for device in devices() {
        let refused = sorted(&device, &[ascending(&lists)], 3, None, &SortOptions::default());
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
    }
}

/// Two submissions of a sort of all rows, three of one of the first: each may fail, and nothing stays behind.
#[test]
fn faults_become_errors_and_free_everything() {
    let Some(device) = private_device() else { return };
    let n = 20_000;
    let key = ints((0..n as i64).map(|i| i * 7919 % 10_007).collect());
    let keys = [ascending(&key)];
    let options = SortOptions { run_rows_max: 15_000, ..SortOptions::default() };
    for fetch in [None, Some(20)] {
        let want = sort::order(&keys, n, fetch).unwrap();
        for (fault, kind) in [(Fault::Submit, ErrorKind::Closed), (Fault::OutOfMemory, ErrorKind::Exhausted)] {
            device.inject(fault);
            assert_eq!(sorted(&device, &keys, n, fetch, &options).unwrap_err().kind(), kind, "{fault:?}");
            assert_eq!(device.memory().unwrap().live_bytes, 0);
            assert_eq!(sorted(&device, &keys, n, fetch, &options).unwrap(), want, "after {fault:?}");
        }
        // Memory for some of the buffers, and for all of one run but not of the next, larger one.
        for limit_bytes in [4 << 10, 64 << 10, 200 << 10, 300 << 10] {
            device.limit_memory(limit_bytes);
            assert_eq!(sorted(&device, &keys, n, fetch, &options).unwrap_err().kind(), ErrorKind::Exhausted, "{limit_bytes}");
            assert_eq!(device.memory().unwrap().live_bytes, 0);
            device.limit_memory(u64::MAX);
            assert_eq!(sorted(&device, &keys, n, fetch, &options).unwrap(), want, "{limit_bytes}");
        }
    }
    let full = device.memory().unwrap();
    for _ in 0..5 {
        sorted(&device, &keys, n, None, &options).unwrap();
        assert_eq!(device.memory().unwrap(), full, "the pool grows from sort to sort");
    }
}

/// Where memory lacks for all rows at once they are sorted in smaller runs.
#[test]
fn little_memory_makes_more_runs() {
    let Some(device) = private_device() else { return };
    let n = 2_400_000;
    let key = ints((0..n as i64).map(|i| i * 7919 % 65_537).collect());
    let mut chunks = vec![];
    let want = sort::order(&[ascending(&key)], n, Some(n / 2)).unwrap();
    for limit_bytes in [u64::MAX, 40 << 20, 8 << 20] {
        device.limit_memory(limit_bytes);
        let mut timings = Timings::default();
        match device.sort(&[ascending(&key)], n, Some(n / 2), &SortOptions::default(), &mut timings) {
            Ok(rows) => assert!(rows == want, "limit {limit_bytes}"),
            Err(e) => assert_eq!(e.kind(), ErrorKind::Exhausted),
        }
        chunks.push(timings.chunks);
        assert_eq!(device.memory().unwrap().live_bytes, 0);
    }
    assert_eq!(chunks, [1, 2, 0]);
}

#[test]
fn a_lost_device_sorts_nothing() {
    let key = ints((0..5_000).rev().collect());
    for fault in [Fault::Lost, Fault::Panic] {
        let Some(device) = private_device() else { return };
        device.inject(fault);
        for _ in 0..2 {
            let failed = sorted(&device, &[ascending(&key)], 5_000, None, &SortOptions::default());
            assert_eq!(failed.unwrap_err().kind(), ErrorKind::Closed, "{fault:?}");
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how soon is a measurement")]
fn cancellation_ends_a_sort_soon() {
    use std::time::{Duration, Instant};
    let Some(device) = private_device() else { return };
    let n = 2_000_000;
    let key = ints((0..n as i64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15u64 as i64)).collect());
    let cancel = Arc::new(AtomicBool::new(false));
    let options = SortOptions { cancel: Arc::clone(&cancel), ..SortOptions::default() };
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(120));
        cancel.store(true, Ordering::Relaxed);
        Instant::now()
    });
    let outcome = sorted(&device, &[ascending(&key)], n, None, &options);
    let cancelled_at = stopper.join().unwrap();
    if let Err(error) = outcome {
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(cancelled_at.elapsed() < Duration::from_millis(1000), "{:?}", cancelled_at.elapsed());
    }
    assert_eq!(device.memory().unwrap().live_bytes, 0);
    let refused = sorted(&device, &[ascending(&key)], n, None, &options);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Closed);
}
