//! Whether the parts of a CSV file begin at ends of lines, and not at line breaks within quotes; and whether its
//! last quote may be open.

use std::collections::VecDeque;

/// Counts quotes up to where each part begins: after the first line break from the byte before its start.
pub(super) struct Quotes {
    quote: u8,
    line_end: u8,
    /// Where parts start, in order, that are not yet decided.
    starts: VecDeque<u64>,
    /// No quote at all may stand before a part: escapes and comments would hide some.
    must_be_none: bool,
    count: u64,
    at: u64,
    is_good: bool,
}

/// What the quotes of a file say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Said {
    /// Every part begins outside quotes.
    pub(super) parts: bool,
    /// Their number is odd: one may not end.
    pub(super) is_odd: bool,
}

impl Quotes {
    pub(super) fn new(quote: u8, line_end: u8, must_be_none: bool, mut starts: Vec<u64>) -> Self {
        starts.retain(|s| *s > 0);
        starts.sort_unstable();
        Self { quote, line_end, starts: starts.into(), must_be_none, count: 0, at: 0, is_good: true }
    }

    /// Takes the next bytes of the file.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while let Some(start) = self.starts.front() {
            let before = usize::try_from((start - 1).saturating_sub(self.at)).unwrap_or(usize::MAX).min(bytes.len());
            bytes = self.pass(bytes, before);
            let Some(end) = bytes.iter().position(|b| *b == self.line_end) else { break };
            bytes = self.pass(bytes, end);
            self.is_good &= self.count == 0 || (!self.must_be_none && self.count.is_multiple_of(2));
            self.starts.pop_front();
        }
        self.pass(bytes, bytes.len());
    }

    /// The answer at the end of the file.
    pub(super) fn finish(&self) -> Said {
        Said { parts: self.is_good, is_odd: !self.count.is_multiple_of(2) }
    }

    fn pass<'a>(&mut self, bytes: &'a [u8], count: usize) -> &'a [u8] {
        let (passed, rest) = bytes.split_at(count);
        self.count += passed.iter().filter(|b| **b == self.quote).count() as u64;
        self.at += passed.len() as u64;
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For every place to cut `text` in two: whether it may be cut there, by counting one byte after the other.
    #[test]
    fn agrees_with_counting_for_every_start() {
        let text = b"a,b\n1,\"x\ny\"\n\"\"\"\n\",2\n3,4";
        for start in 1..text.len() {
            let end = (start - 1..text.len()).find(|i| text[*i] == b'\n');
            let outside = end.is_none_or(|end| text[..end].iter().filter(|b| **b == b'"').count() % 2 == 0);
            for chunk in [1, 2, 5, 100] {
                let mut quotes = Quotes::new(b'"', b'\n', false, vec![start as u64, 0]);
                text.chunks(chunk).for_each(|c| quotes.push(c));
                assert_eq!(quotes.finish(), Said { parts: outside, is_odd: false }, "{start} {chunk}");
            }
        }
        let mut none = Quotes::new(b'"', b'\n', true, vec![6]);
        none.push(b"\"a\",b\n1,2\n");
        assert!(!none.finish().parts);
        let mut several = Quotes::new(b'"', b'\n', false, vec![5, 6, 7]);
        several.push(b"a,b\n1,2\n3,\"4\n");
        assert_eq!(several.finish(), Said { parts: true, is_odd: true });
    }
}
