use super::*;
use crate::gpu::tests::devices;
use crate::testing::Gen;

fn words(planes: &[&[u32]]) -> Words {
    Words { words: Arc::new(planes.concat()), rows: planes[0].len() }
}

fn wanted(fetch: usize, with_equal: bool) -> Wanted {
    Wanted { fetch, with_equal }
}

#[test]
fn digits_that_all_rows_share_are_left_out() {
    let (digits, common) = words(&[&[0x01_AB_00_05, 0x02_AB_00_05, 0x01_AB_00_05], &[7, 7, 7], &[0x00_FF_00_00, 0, 0]]).digits();
    assert_eq!(digits, [Digit { plane: 0, shift: 24 }, Digit { plane: 2, shift: 16 }]);
    assert_eq!(common, [0x00_AB_00_05, 7, 0, 0]);
    assert_eq!(words(&[&[9, 9], &[1, 1]]).digits(), (vec![], [9, 1, 0, 0]));
}

#[test]
fn runs_are_merged_in_their_order() {
    let all = words(&[&[3, 1, 2, 3, 1, 2, 3, 1, 1], &[0; 9]]);
    let runs = || vec![vec![1, 2, 0], vec![4, 5, 3], vec![7, 8, 6]];
    let merged = |fetch, with_equal| all.merge(runs(), wanted(fetch, with_equal), &AtomicBool::new(false)).unwrap();
    assert_eq!(merged(9, false), [1, 4, 7, 8, 2, 5, 0, 3, 6]);
    assert_eq!(merged(2, false), [1, 4]);
    assert_eq!(merged(2, true), [1, 4, 7, 8], "all that are equal to the last");
    assert_eq!(merged(4, true), [1, 4, 7, 8]);
    assert_eq!(merged(5, true), [1, 4, 7, 8, 2, 5]);
    assert_eq!(all.merge(runs(), wanted(2, false), &AtomicBool::new(true)).unwrap_err().kind(), ErrorKind::Closed);
}

/// Of few first rows little more than those are sorted, whatever their keys are like.
#[test]
fn few_rows_beyond_the_first_are_sorted() {
    let n = 200_000;
    let mut g = Gen::new(11);
    let mut random = |bits: u32| (0..n).map(|_| (g.next() >> (64 - bits)) as u32).collect::<Vec<u32>>();
    let (low, high, few) = (random(32), random(32), random(2));
    let skewed: Vec<u32> = high.iter().map(|w| if w % 50 == 0 { *w } else { w & 0x1FF }).collect();
    let constant = vec![1u32 << 31; n];
    let all = [words(&[&high]), words(&[&low, &few]), words(&[&low, &constant, &skewed]), words(&[&few])];
    for device in devices() {
        for (case, words) in all.iter().enumerate() {
            let (digits, common) = words.digits();
            for (fetch, with_equal) in [(1, false), (1_000, false), (1_000, true), (n / 4, false), (n / 4 + 1, false)] {
                let job = Job {
                    words: words.clone(),
                    rows: 0..n,
                    digits: digits.clone().into(),
                    common,
                    wanted: wanted(fetch, with_equal),
                    workgroups_max: 64,
                    cancel: Arc::default(),
                };
                let run = device.call(move |worker| worker.sort(&job)).unwrap();
                let mut want: Vec<u32> = (0..n as u32).collect();
                want.sort_by_key(|row| (0..words.planes()).rev().map(|p| words.plane(p)[*row as usize]).collect::<Vec<_>>());
                assert_eq!(run.rows[..fetch], want[..fetch], "{case}: {fetch}");
                let what = format!("{case}: {} rows were sorted for {fetch}, equal ones {with_equal}", run.sorted);
                match (fetch > n / 4, case, with_equal) {
                    (true, ..) => assert_eq!(run.sorted as usize, n, "{what}"),
                    // A quarter of the rows has each of four values: only who wants equal rows sorts all of them.
                    (false, 3, true) => assert!((n / 5..n / 3).contains(&(run.sorted as usize)), "{what}"),
                    (false, ..) => assert!((fetch..=fetch + BLOCK_ROWS).contains(&(run.sorted as usize)), "{what}"),
                }
            }
        }
    }
}
