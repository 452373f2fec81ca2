// The hash of a key of 64 bits, as two words: multiplications and shifts that mix all bits into all.

fn hash_words(low: u32, high: u32) -> u32 {
    var h = (low * 0x9e3779b1u) ^ (high * 0x85ebca77u);
    h = (h ^ (h >> 15u)) * 0x2c1b3c6du;
    h = (h ^ (h >> 12u)) * 0x297a2d39u;
    return h ^ (h >> 15u);
}
