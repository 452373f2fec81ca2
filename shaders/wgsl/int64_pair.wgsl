// 64-bit integers of two's complement on devices without a 64-bit type: x is the low word, y the high.
// Every operation is modulo 2^64; whoever generates the calls has proved that nothing wraps.
alias Int64 = vec2<u32>;

fn int64_words(low: u32, high: u32) -> Int64 {
    return Int64(low, high);
}

fn int64_low(a: Int64) -> u32 {
    return a.x;
}

fn int64_high(a: Int64) -> u32 {
    return a.y;
}

fn int64_from_i32(a: i32) -> Int64 {
    return Int64(bitcast<u32>(a), bitcast<u32>(a >> 31u));
}

fn int64_add(a: Int64, b: Int64) -> Int64 {
    let low = a.x + b.x;
    return Int64(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn int64_sub(a: Int64, b: Int64) -> Int64 {
    return Int64(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

// The 64-bit product of two words, from products of their 16-bit halves.
fn int64_product(a: u32, b: u32) -> Int64 {
    let a_low = a & 0xffffu;
    let a_high = a >> 16u;
    let b_low = b & 0xffffu;
    let b_high = b >> 16u;
    let bottom = a_low * b_low;
    // At most 0xfffe0001 + 0xffff: no carry is lost.
    let middle = a_high * b_low + (bottom >> 16u);
    let across = a_low * b_high + (middle & 0xffffu);
    return Int64((across << 16u) | (bottom & 0xffffu), a_high * b_high + (middle >> 16u) + (across >> 16u));
}

fn int64_mul(a: Int64, b: Int64) -> Int64 {
    let low = int64_product(a.x, b.x);
    return Int64(low.x, low.y + a.x * b.y + a.y * b.x);
}

// The exact product of two signed words.
fn int64_mul_i32(a: i32, b: i32) -> Int64 {
    let product = int64_product(bitcast<u32>(a), bitcast<u32>(b));
    // A negative factor was read as itself + 2^32: take the other factor off the high word again.
    let correction = select(0u, bitcast<u32>(b), a < 0) + select(0u, bitcast<u32>(a), b < 0);
    return Int64(product.x, product.y - correction);
}

fn int64_eq(a: Int64, b: Int64) -> bool {
    return a.x == b.x && a.y == b.y;
}

fn int64_lt(a: Int64, b: Int64) -> bool {
    return select(bitcast<i32>(a.y) < bitcast<i32>(b.y), a.x < b.x, a.y == b.y);
}

fn int64_select(otherwise: Int64, chosen: Int64, condition: bool) -> Int64 {
    return Int64(select(otherwise.x, chosen.x, condition), select(otherwise.y, chosen.y, condition));
}
