//! NDJSON: any bytes are rows, the same with stages and without, or an error that names the file.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| millstream_fuzz::text::read("ndjson", bytes));
