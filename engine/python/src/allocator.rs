//! The allocator of the module: of what is allocated in Rust, not of the interpreter.

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

/// As in the command line (docs/decisions/0003-mimalloc-in-the-shell.md).
const PURGE_DELAY_MS: c_long = 10_000;

/// Sets the allocator up, as the command line does; to be called while the module is loaded.
pub fn keep_freed() {
    // SAFETY: the function stores an integer in a table of options of this module's own copy of the library, which
    // no other thread uses before the module is loaded.
    unsafe {
        mi_option_set(PURGE_DELAY, PURGE_DELAY_MS);
        mi_option_set(PURGE_DECOMMITS, 0);
    }
}
