//! Tests of Millstream with Polars, which are all in `tests/frames`; and the guide to them.

#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/polars.md")]
struct GuideToPolars;
