// One digit of a stable radix sort, least significant digit first. A count of each digit in each block of rows, digit
// by digit, so that the scan of all counts (counts.wgsl) is where the block's rows of a digit begin; then every row to
// its place. A row's place among those of its tile with the same digit is the number of bits before its own.

var<workgroup> digit_counts: array<atomic<u32>, DIGITS>;
var<workgroup> digit_bits: array<atomic<u32>, TILE_WORDS * DIGITS>;
var<workgroup> places: array<u32, DIGITS>;

fn digit_of(word: u32) -> u32 {
    return (word >> params.shift) & (DIGITS - 1u);
}

// The word that is sorted by, and the row, of place `i`.
fn entry(i: u32) -> vec2<u32> {
    if (params.origin == ORIGIN_PAIRS) {
        return vec2<u32>(origin[2u * i], origin[2u * i + 1u]);
    }
    var row = i;
    if (params.origin == ORIGIN_ROWS) {
        row = origin[i];
    }
    return vec2<u32>(columns[params.plane * params.key_rows + row], row);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn count(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var block = id.x; block < params.blocks; block += params.workgroups) {
        atomicStore(&digit_counts[lane], 0u);
        workgroupBarrier();
        for (var tile = 0u; tile < BLOCK_TILES; tile += 1u) {
            let i = (block * BLOCK_TILES + tile) * WORKGROUP_SIZE + lane;
            if (i < params.rows) {
                atomicAdd(&digit_counts[digit_of(entry(i).x)], 1u);
            }
        }
        workgroupBarrier();
        atomicStore(&counts[ORDER_COUNTS + lane * params.blocks + block], atomicLoad(&digit_counts[lane]));
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn scatter(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let word = lane / 32u;
    let bit = 1u << (lane % 32u);
    for (var before = 0u; before < TILE_WORDS; before += 1u) {
        atomicStore(&digit_bits[before * DIGITS + lane], 0u);
    }
    for (var block = id.x; block < params.blocks; block += params.workgroups) {
        places[lane] = atomicLoad(&counts[ORDER_COUNTS + lane * params.blocks + block]);
        workgroupBarrier();
        for (var tile = 0u; tile < BLOCK_TILES; tile += 1u) {
            let i = (block * BLOCK_TILES + tile) * WORKGROUP_SIZE + lane;
            let is_row = i < params.rows;
            var found = vec2<u32>(0u, 0u);
            var digit = 0u;
            if (is_row) {
                found = entry(i);
                digit = digit_of(found.x);
                atomicOr(&digit_bits[word * DIGITS + digit], bit);
            }
            workgroupBarrier();
            if (is_row) {
                var to = places[digit] + countOneBits(atomicLoad(&digit_bits[word * DIGITS + digit]) & (bit - 1u));
                for (var before = 0u; before < word; before += 1u) {
                    to += countOneBits(atomicLoad(&digit_bits[before * DIGITS + digit]));
                }
                if (params.only_rows != 0u) {
                    order[to] = found.y;
                } else {
                    order[2u * to] = found.x;
                    order[2u * to + 1u] = found.y;
                }
            }
            workgroupBarrier();
            // Each invocation moves one digit on, and clears its bits for the next tile.
            var seen = 0u;
            for (var before = 0u; before < TILE_WORDS; before += 1u) {
                seen += countOneBits(atomicExchange(&digit_bits[before * DIGITS + lane], 0u));
            }
            places[lane] += seen;
            workgroupBarrier();
        }
    }
}
