//! Changes of bytes that leave the frame around them whole, so that they reach what is inside it.

/// Chance from a seed: splitmix64.
pub struct Chance(pub u64);

impl Chance {
    /// The next number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// Numbers at which lengths, counts and headers of runs turn.
const TURNS: &[u8] = &[0, 1, 2, 3, 7, 8, 0x0F, 0x10, 0x1F, 0x20, 0x3F, 0x40, 0x7F, 0x80, 0x81, 0xC0, 0xFE, 0xFF];

/// Changes one to four places of `bytes` and keeps their number.
pub fn in_place(bytes: &mut [u8], chance: &mut Chance) {
    if bytes.is_empty() {
        return;
    }
    for _ in 0..1 + chance.below(4) {
        let at = chance.below(bytes.len());
        match chance.below(4) {
            0 => bytes[at] ^= 1 << chance.below(8),
            1 => bytes[at] = TURNS[chance.below(TURNS.len())],
            2 => bytes[at] = bytes[at].wrapping_add(1).wrapping_sub(2 * chance.below(2) as u8),
            _ => {
                let len = 1 + chance.below(16.min(bytes.len() - at));
                let from = chance.below(bytes.len() - len + 1);
                bytes.copy_within(from..from + len, at);
            }
        }
    }
}

/// The data of a Parquet file: what stands before its footer. Without a footer, all of it.
pub fn parquet_data(file: &mut [u8]) -> &mut [u8] {
    let end = file.len().checked_sub(8).and_then(|at| {
        let footer = u32::from_le_bytes(file[at..at + 4].try_into().ok()?);
        at.checked_sub(footer as usize)
    });
    match end {
        Some(end) => &mut file[..end],
        None => file,
    }
}

/// The words, numbers, strings and signs of a text.
fn pieces(text: &str) -> Vec<&str> {
    let mut out = vec![];
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let len = match first {
            '\'' | '"' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        out.push(&rest[..len]);
        rest = rest[len..].trim_start();
    }
    out
}

/// Changes one to three words of a text: others of `vocabulary`, or of the text itself.
pub fn in_words(text: &str, vocabulary: &[&str], chance: &mut Chance) -> String {
    let mut words = pieces(text);
    for _ in 0..1 + chance.below(3) {
        let at = chance.below(words.len() + 1);
        let other = match words.get(chance.below(words.len() + 1)).filter(|_| chance.below(2) == 0) {
            Some(word) => *word,
            None => vocabulary[chance.below(vocabulary.len())],
        };
        let len = chance.below(6).min(words.len() - at);
        match chance.below(4) {
            0 => words.insert(at, other),
            1 if at < words.len() => words[at] = other,
            2 => drop(words.drain(at..at + len)),
            _ => {
                // An expression within itself.
                let copied = words[at..at + len].to_vec();
                let to = chance.below(words.len() + 1);
                words.splice(to..to, copied);
            }
        }
    }
    words.join(" ")
}
