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

/// Writes integers as differences, in blocks of `block` values and `parts` parts.
fn encode_deltas(g: &mut Gen, values: &[i64], block: usize, parts: usize) -> Vec<u8> {
    let mut out = vec![];
    let number = |out: &mut Vec<u8>, mut v: u64| {
        while v >= 0x80 {
            out.push(v as u8 | 0x80);
            v >>= 7;
        }
        out.push(v as u8);
    };
    let zigzag = |v: i64| (v << 1 ^ v >> 63) as u64;
    [block, parts, values.len()].into_iter().for_each(|v| number(&mut out, v as u64));
    number(&mut out, zigzag(values.first().copied().unwrap_or(0)));
    let differences: Vec<i64> = values.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
    for block in differences.chunks(block) {
        let least = block.iter().copied().min().unwrap_or(0);
        number(&mut out, zigzag(least));
        let each = parts_of(block, parts);
        let parts: Vec<Vec<u64>> = each.map(|p| p.iter().map(|d| d.wrapping_sub(least) as u64).collect()).collect();
        let widths: Vec<usize> = parts.iter().map(|p| 64 - p.iter().copied().max().unwrap_or(0).leading_zeros() as usize).collect();
        // What stands for a part that is not there does not matter.
        out.extend(parts.iter().zip(&widths).map(|(p, w)| if p.is_empty() { g.below(65) as u8 } else { *w as u8 }));
        for (part, width) in parts.iter().zip(widths).filter(|(p, _)| !p.is_empty()) {
            let mut bits = vec![0u8; PART * width / 8];
            for (i, v) in part.iter().enumerate() {
                (0..width).filter(|b| v >> b & 1 == 1).for_each(|b| bits[(i * width + b) / 8] |= 1 << ((i * width + b) % 8));
            }
            out.extend(bits);
        }
    }
    out
}

/// Values of a part in these tests.
const PART: usize = 32;

fn parts_of(block: &[i64], parts: usize) -> impl Iterator<Item = &[i64]> {
    (0..parts).map(move |p| block.get(p * PART..).map_or(&[][..], |b| &b[..b.len().min(PART)]))
}

#[test]
fn differences_agree_with_the_reference() {
    let mut g = Gen::new(33);
    for round in 0..400 {
        let n = [0usize, 1, 2, 32, 33, 128, 129, 130, 1000][round % 9];
        let bits = [1, 7, 25, 26, 32, 33, 57, 64][round / 9 % 8];
        let values: Vec<i64> = (0..n).map(|_| if g.below(3) == 0 { g.int(64) as i64 } else { (g.next() >> (64 - bits)) as i64 }).collect();
        let bytes = [encode_deltas(&mut g, &values, 128, 4), vec![0xAB; g.below(3) as usize]].concat();
        let (got, used) = deltas::<i64>(&bytes, n).unwrap();
        assert_eq!(got, values, "round {round}");
        assert_eq!((got, used), reference::deltas(&bytes, n, 64).unwrap());
        let narrow: Vec<i32> = values.iter().map(|v| *v as i32).collect();
        assert_eq!(deltas::<i32>(&bytes, n).unwrap().0, narrow);
        assert!(deltas::<i64>(&bytes, n + 1).is_err());
    }
}

#[test]
fn damaged_differences_give_what_the_reference_gives() {
    let mut g = Gen::new(34);
    let mut good = 0;
    for _ in 0..20_000 {
        let n = g.below(200) as usize;
        let values: Vec<i64> = (0..n).map(|_| g.int(40) as i64).collect();
        let mut bytes = encode_deltas(&mut g, &values, 128, 4);
        for _ in 0..g.below(4) {
            let at = g.below(bytes.len() as u64) as usize;
            if g.below(4) == 0 {
                bytes.truncate(at)
            } else {
                bytes[at] = g.next() as u8
            }
            if bytes.is_empty() {
                break;
            }
        }
        let want = reference::deltas(&bytes, n, 64);
        assert_eq!(deltas::<i64>(&bytes, n).map_err(drop), want.map_err(drop), "{bytes:?}");
        let want = reference::deltas(&bytes, n, 32).map(|(v, _)| v).map_err(drop);
        let got = deltas::<i32>(&bytes, n).map(|(v, _)| v.into_iter().map(i64::from).collect()).map_err(drop);
        good += usize::from(got.is_ok());
        assert_eq!(got, want, "{bytes:?}");
        // Whatever they say: no panic.
        let spans = spans_by_length(&bytes, n).unwrap_or_default();
        assert!(spans.iter().all(|s| s.start as usize + s.len as usize <= bytes.len()));
        if let Ok((text, spans)) = prefixed(&bytes, n) {
            assert!(spans.iter().all(|s| s.start as usize + s.len as usize <= text.len()));
        }
    }
    assert!((4_000..19_000).contains(&good), "{good}");
}

#[test]
fn strings_by_length_and_by_prefix() {
    let mut g = Gen::new(35);
    for n in [0usize, 1, 2, 40, 300] {
        let mut texts: Vec<Vec<u8>> = (0..n).map(|_| g.text().into_bytes()).collect();
        let lengths: Vec<i64> = texts.iter().map(|t| t.len() as i64).collect();
        let bytes = [encode_deltas(&mut g, &lengths, 128, 4), texts.concat()].concat();
        let of = |bytes: &[u8], spans: &[Span]| -> Vec<Vec<u8>> {
            spans.iter().map(|s| bytes[s.start as usize..][..s.len as usize].to_vec()).collect()
        };
        assert_eq!(of(&bytes, &spans_by_length(&bytes, n).unwrap()), texts);
        if n > 0 {
            assert!(spans_by_length(&bytes[..bytes.len() - texts[n - 1].len().max(1)], n).is_err(), "it ends early");
        }
        texts.sort();
        let shared: Vec<i64> = (0..n)
            .map(|i| if i == 0 { 0 } else { texts[i - 1].iter().zip(&texts[i]).take_while(|(a, b)| a == b).count() as i64 })
            .collect();
        let ends: Vec<&[u8]> = texts.iter().zip(&shared).map(|(t, s)| &t[*s as usize..]).collect();
        let lengths: Vec<i64> = ends.iter().map(|e| e.len() as i64).collect();
        let bytes = [encode_deltas(&mut g, &shared, 128, 4), encode_deltas(&mut g, &lengths, 128, 4), ends.concat()].concat();
        let (text, spans) = prefixed(&bytes, n).unwrap();
        assert_eq!(of(&text, &spans), texts);
    }
    let more = [encode_deltas(&mut g, &[0, 2], 128, 4), encode_deltas(&mut g, &[1, 1], 128, 4), b"ab".to_vec()].concat();
    assert!(prefixed(&more, 2).is_err(), "the first string has one byte, the second begins with two of it");
    let negative = [encode_deltas(&mut g, &[3, -1], 128, 4), b"abc".to_vec()].concat();
    assert!(spans_by_length(&negative, 2).is_err());
}

#[test]
fn bits_streams_and_big_endian_integers() {
    let mut g = Gen::new(36);
    for n in [0usize, 1, 7, 8, 9, 100] {
        let values: Vec<i64> = (0..n).map(|_| g.int(64) as i64).collect();
        let streams: Vec<u8> = (0..8).flat_map(|k| values.iter().map(move |v| v.to_le_bytes()[k])).collect();
        assert_eq!(split::<i64>(&streams, n).unwrap(), values);
        assert!(split::<i64>(&streams, n + 1).is_err());
        let bytes: Vec<u8> = (0..n.div_ceil(8)).map(|_| g.next() as u8).collect();
        let want: Vec<u8> = (0..n).map(|i| bytes[i / 8] >> (i % 8) & 1).collect();
        assert_eq!(bits(&bytes, n).unwrap(), want);
        assert!(bits(&bytes, 8 * bytes.len() + 1).is_err());
        for len in 1..=16 {
            let fits: Vec<i64> = values.iter().map(|v| if len < 8 { v >> (64 - 8 * len) } else { *v }).collect();
            let stored: Vec<u8> = fits.iter().flat_map(|v| i128::from(*v).to_be_bytes()[16 - len..].to_vec()).collect();
            assert_eq!(big_endian(&stored, len, n).unwrap(), fits, "{len} bytes");
            assert!(big_endian(&stored, len, n + 1).is_err());
        }
    }
    for v in [i128::from(i64::MAX) + 1, i128::from(i64::MIN) - 1, i128::MAX, i128::MIN] {
        assert!(big_endian(&v.to_be_bytes(), 16, 1).is_err(), "{v}");
    }
    assert!(big_endian(&[], 0, 1).is_err() && big_endian(&[], 0, 0).unwrap().is_empty());
    assert!(split::<i32>(&[], usize::MAX).is_err());
}
