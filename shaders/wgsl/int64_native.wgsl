// 64-bit integers where the device has them (SHADER_INT64): the same functions as int64_pair.wgsl.
alias Int64 = i64;

fn int64_words(low: u32, high: u32) -> Int64 {
    return i64((u64(high) << 32u) | u64(low));
}

fn int64_low(a: Int64) -> u32 {
    return u32(u64(a) & 4294967295lu);
}

fn int64_high(a: Int64) -> u32 {
    return u32(u64(a) >> 32u);
}

fn int64_from_i32(a: i32) -> Int64 {
    return i64(a);
}

fn int64_add(a: Int64, b: Int64) -> Int64 {
    return a + b;
}

fn int64_sub(a: Int64, b: Int64) -> Int64 {
    return a - b;
}

fn int64_mul(a: Int64, b: Int64) -> Int64 {
    return a * b;
}

fn int64_mul_i32(a: i32, b: i32) -> Int64 {
    return i64(a) * i64(b);
}

fn int64_eq(a: Int64, b: Int64) -> bool {
    return a == b;
}

fn int64_lt(a: Int64, b: Int64) -> bool {
    return a < b;
}

fn int64_select(otherwise: Int64, chosen: Int64, condition: bool) -> Int64 {
    return select(otherwise, chosen, condition);
}
