use super::*;
use crate::testing::Gen;
use arrow::buffer::Buffer;

/// Writes codes as random runs, as a Parquet writer may.
fn encode(g: &mut Gen, codes: &[i32], width: u32) -> Vec<u8> {
    let mut out = vec![];
    let mut at = 0;
    let header = |out: &mut Vec<u8>, mut v: u64| {
        while v >= 0x80 {
            out.push(v as u8 | 0x80);
            v >>= 7;
        }
        out.push(v as u8);
    };
    while at < codes.len() {
        let same = codes[at..].iter().take_while(|c| **c == codes[at]).count();
        if same >= 8 || g.below(4) == 0 {
            header(&mut out, (same as u64) << 1);
            out.extend(&(codes[at] as u64).to_le_bytes()[..(width as usize).div_ceil(8)]);
            at += same;
        } else {
            let groups = 1 + g.below(5) as usize;
            header(&mut out, (groups as u64) << 1 | 1);
            let mut bits = vec![0u8; groups * width as usize];
            for i in 0..groups * 8 {
                let v = codes.get(at + i).copied().unwrap_or(0) as u64;
                (0..width as usize)
                    .filter(|b| v >> b & 1 == 1)
                    .for_each(|b| bits[(i * width as usize + b) / 8] |= 1 << ((i * width as usize + b) % 8));
            }
            out.extend(bits);
            at += groups * 8;
        }
    }
    out
}

#[test]
fn codes_agree_with_the_reference_at_every_width() {
    let mut g = Gen::new(31);
    for width in 0..=31u32 {
        for n in [0usize, 1, 7, 8, 9, 63, 1000] {
            let most = (1u64 << width) - 1;
            let mut codes: Vec<i32> = (0..n).map(|_| (g.next() & most) as i32).collect();
            if n > 20 {
                codes[3..20].fill(most as i32);
            }
            let bytes = encode(&mut g, &codes, width);
            assert_eq!(super::codes(&bytes, width, n).unwrap(), codes, "width {width}, {n} values");
            assert_eq!(reference::codes(&bytes, width, n).unwrap(), codes, "reference, width {width}, {n} values");
        }
    }
}

#[test]
fn garbage_gives_what_the_reference_gives_and_never_panics() {
    let mut g = Gen::new(32);
    for round in 0..20_000 {
        // Some are long enough for a register at a time.
        let (longest, most) = if round % 10 == 0 { (600, 3000) } else { (40, 200) };
        let bytes: Vec<u8> = (0..g.below(longest)).map(|_| if g.below(3) == 0 { g.below(8) as u8 } else { g.next() as u8 }).collect();
        let (width, n) = (g.below(33) as u32, g.below(most) as usize);
        let (got, want) = (codes(&bytes, width, n), reference::codes(&bytes, width, n));
        assert_eq!(got.is_ok(), want.is_ok(), "{bytes:?} width {width} n {n}: {got:?} {want:?}");
        if let (Ok(got), Ok(want)) = (got, want) {
            assert_eq!(got, want);
        }
        let (got, want) = (spans(&bytes, n % 5), reference::spans(&bytes, n % 5));
        assert_eq!(got.is_ok(), want.is_ok());
        if let (Ok(got), Ok(want)) = (got, want) {
            assert_eq!(got, want);
        }
    }
    assert!(codes(&[3; 100], 33, 5).is_err());
}

#[test]
fn plain_values_aligned_or_not() {
    let bytes: Vec<u8> = (0..=255).collect();
    let buffer = Buffer::from_vec(bytes.clone());
    for offset in 0..9 {
        let v = plain::<i64>(&buffer.slice(offset), 5).unwrap();
        let want: Vec<i64> = bytes[offset..].chunks_exact(8).take(5).map(|c| i64::from_le_bytes(c.try_into().unwrap())).collect();
        assert_eq!(v.as_ref(), want);
    }
    assert!(plain::<i32>(&buffer, 65).is_err());
    assert!(plain::<i32>(&buffer, usize::MAX).is_err());
}

#[test]
fn lookup_checks_its_codes() {
    assert_eq!(lookup(&[10i64, 20, 30], &[2, 0, 1, 1]).unwrap(), [30, 10, 20, 20]);
    assert!(lookup(&[10i64], &[0, 1]).is_err());
    assert!(lookup(&[10i64], &[-1]).is_err());
    assert!(lookup::<i32>(&[], &[]).unwrap().is_empty());
}

#[test]
fn strings_views_and_spread() {
    let texts = ["", "short", "exactly 12 b", "a string longer than inline", "é"];
    let mut bytes = vec![];
    texts.iter().for_each(|t| {
        bytes.extend((t.len() as u32).to_le_bytes());
        bytes.extend(t.as_bytes());
    });
    let places = spans(&bytes, texts.len()).unwrap();
    let buffer = Buffer::from_vec(bytes);
    let out = views(&buffer, false, places.iter().copied()).unwrap();
    assert_eq!(out.iter().map(|s| s.unwrap()).collect::<Vec<_>>(), texts);
    assert_eq!(strings(&buffer, texts.len()).unwrap().iter().map(|s| s.unwrap()).collect::<Vec<_>>(), texts);
    assert!(strings(&buffer, texts.len() + 1).is_err(), "it ends early");
    assert!(strings(&[], 0).unwrap().iter().next().is_none());
    assert!(strings(&[1, 0, 0, 0, 0xC3, 1, 0, 0, 0, 0xA9], 2).is_err(), "a character in two strings");
    let bad = Buffer::from_vec(vec![1u8, 0, 0, 0, 0xFF]);
    assert!(strings(&bad, 1).is_err());
    assert!(views(&bad, false, spans(&bad, 1).unwrap().into_iter()).is_err());
    assert!(views(&bad, true, [Span { start: 4, len: 2 }].into_iter()).is_err());
    assert_eq!(spread(&[7, 9], &[0, 1, 0, 1]).unwrap(), [0, 7, 0, 9]);
    assert!(spread(&[7], &[1, 1]).is_err());
}
