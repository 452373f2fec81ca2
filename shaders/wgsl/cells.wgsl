// Accumulators of groups in TABLE, an array<atomic<u32>> in workgroup memory or in a buffer.
// All zero is the empty accumulator of every cell, and zero changes none: what does not count is
// passed as zero. Only u32 atomics, no loops: nothing ever waits.

fn TABLE_count(at: u32, n: u32) {
    if (n != 0u) {
        atomicAdd(&TABLE[at], n);
    }
}

// Adds a 96-bit two's complement number. The carry out of each word is known from the value that the
// atomic returns, and whoever caused it adds it to the next word; so whatever the order, the three
// words end as the exact sum modulo 2^96. Two carries never meet: middle + carry wraps only to zero.
fn TABLE_sum(at: u32, low: u32, middle: u32, high: u32) {
    var carry = 0u;
    if (low != 0u) {
        carry = select(0u, 1u, atomicAdd(&TABLE[at], low) > 0xffffffffu - low);
    }
    let second = middle + carry;
    carry = select(0u, 1u, second < middle);
    if (second != 0u) {
        carry |= select(0u, 1u, atomicAdd(&TABLE[at + 1u], second) > 0xffffffffu - second);
    }
    let third = high + carry;
    if (third != 0u) {
        atomicAdd(&TABLE[at + 2u], third);
    }
}

// The look first spares most of the contended atomics: the cell only ever grows.
fn TABLE_greatest(at: u32, key: u32) {
    if (atomicLoad(&TABLE[at]) < key) {
        atomicMax(&TABLE[at], key);
    }
}
