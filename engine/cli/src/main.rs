//! Millstream.
fn main() {}
