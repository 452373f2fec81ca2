//! Where windows begin and end, in numbers of the event time's unit.

use crate::{Error, ErrorKind, Result};
use std::collections::BTreeSet;

/// Windows of one width that begin every `slide`, counted from `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    width: i64,
    slide: i64,
    offset: i64,
    pane: i64,
}

impl Windows {
    /// Windows `[s, s + width)` for every `s` that is `offset` and a multiple of `slide`. With `slide` equal to
    /// `width` they tumble.
    ///
    /// # Errors
    /// `Invalid` unless `0 < slide <= width`.
    pub fn new(width: i64, slide: i64, offset: i64) -> Result<Self> {
        if slide <= 0 || slide > width || width > i64::MAX / 8 {
            let text = format!("windows of width {width} every {slide}: 0 < slide <= width <= {} is needed", i64::MAX / 8);
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        Ok(Self { width, slide, offset: offset.rem_euclid(slide), pane: gcd(width, slide) })
    }

    /// The width of a window.
    pub fn width(&self) -> i64 {
        self.width
    }

    /// From one window's begin to the next one's.
    pub fn slide(&self) -> i64 {
        self.slide
    }

    /// Whether a row is in one window only.
    pub fn is_tumbling(&self) -> bool {
        self.slide == self.width
    }

    /// The begin of the pane that has `t`.
    pub(super) fn pane_of(&self, t: i64) -> i64 {
        t - (t - self.offset).rem_euclid(self.pane)
    }

    /// The width of a pane.
    pub(super) fn pane(&self) -> i64 {
        self.pane
    }

    /// The begin of the first window that ends after `t`: the first one that has `t`, and the first one open
    /// when `t` is the watermark.
    pub(super) fn first_with(&self, t: i64) -> i64 {
        let behind = t - self.width;
        behind - (behind - self.offset).rem_euclid(self.slide) + self.slide
    }

    /// The first event time whose windows all begin at `start`, a window's begin, or later.
    pub(super) fn whole_from(&self, start: i64) -> i64 {
        start + self.width - self.slide
    }

    /// As [`Windows::first_with`], of any watermark.
    pub(super) fn first_open(&self, watermark: i64) -> i64 {
        let room = 4 * self.width;
        self.first_with(watermark.clamp(i64::MIN + room, i64::MAX - room))
    }

    /// The begins of the windows that have rows and end by `watermark`, in order, where `panes` are the begins of the panes
    /// that have rows and `next` is the first window that is not closed.
    pub(super) fn due(&self, mut panes: BTreeSet<i64>, mut next: Option<i64>, watermark: i64) -> Vec<i64> {
        let mut due = vec![];
        while let Some(pane) = panes.first() {
            let first = self.first_with(*pane);
            let start = next.map_or(first, |next| next.max(first));
            if start.saturating_add(self.width) > watermark {
                break;
            }
            due.push(start);
            next = Some(start + self.slide);
            panes = panes.split_off(&(start + self.slide));
        }
        due
    }

    /// An error for an event time that no window can be computed for.
    pub(super) fn check(&self, t: i64) -> Result<()> {
        let room = 4 * self.width;
        if t < i64::MIN + room || t > i64::MAX - room {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("event time {t} is at the end of its range: its windows cannot be computed"),
            ));
        }
        Ok(())
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_those_of_the_definition() {
        for (width, slide, offset) in [(10, 10, 0), (10, 10, 3), (10, 4, 0), (12, 4, 1), (7, 1, 0), (9, 6, -4)] {
            let w = Windows::new(width, slide, offset).unwrap();
            let begins: Vec<i64> = (-200..200).filter(|s| (s - offset).rem_euclid(slide) == 0).collect();
            for t in -50..50 {
                let first = begins.iter().find(|s| **s + width > t).unwrap();
                assert_eq!(w.first_with(t), *first, "{w:?} {t}");
                assert_eq!(*first >= begins[30], t >= w.whole_from(begins[30]), "{w:?} {t}");
                let pane = w.pane_of(t);
                assert!(pane <= t && t < pane + w.pane());
                // A pane is in a window whole or not at all.
                for s in &begins {
                    let inside = |t: i64| *s <= t && t < s + width;
                    assert!((pane..pane + w.pane()).all(|u| inside(u) == inside(t)), "{w:?} {t}");
                }
            }
        }
        assert!(Windows::new(10, 0, 0).is_err() && Windows::new(10, 11, 0).is_err());
        assert!(Windows::new(10, 10, 0).unwrap().check(i64::MAX - 3).is_err());
    }
}
