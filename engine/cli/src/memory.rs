//! The allocator of the process.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// SAFETY: the signature is that of `mimalloc.h`, whose library the allocator links.
unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
}

/// `mi_option_purge_decommits` of mimalloc's `mimalloc.h` (the same number in its versions 2 and 3).
const PURGE_DECOMMITS: c_int = 5;

/// `mi_option_purge_delay` of the same file.
const PURGE_DELAY: c_int = 15;

/// Freed memory is offered to the system after this many milliseconds (mimalloc's default is 10): a query takes
/// again what the one before it freed, and the kernel need not clear it anew
/// (docs/decisions/0003-mimalloc-in-the-shell.md).
const PURGE_DELAY_MS: c_long = 10_000;

/// Sets the allocator up: freed memory is offered after a delay, and only offered: the system takes it where it is
/// short of memory (`MADV_FREE`), not at once. To be called before there is a second thread, and not where memory is
/// limited: what a query has freed would still be the process's.
pub fn keep_freed() {
    // SAFETY: the function stores an integer in a table of options; no other thread runs yet.
    unsafe {
        mi_option_set(PURGE_DELAY, PURGE_DELAY_MS);
        mi_option_set(PURGE_DECOMMITS, 0);
    }
}
