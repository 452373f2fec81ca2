// The rows up to the last one that is wanted (narrow.wgsl): those before its key in the order of their numbers, then
// those with its key. Two counts for each block of rows, their scan (counts.wgsl), and every row to its place.

var<workgroup> kept_counts: array<atomic<u32>, KEPT_KINDS>;
var<workgroup> kept_bits: array<atomic<u32>, TILE_WORDS * KEPT_KINDS>;

// KEPT_BEFORE, KEPT_LAST, or neither.
fn kind_of(row: u32) -> u32 {
    for (var above = params.planes; above > 0u; above -= 1u) {
        let word = columns[(above - 1u) * params.key_rows + row];
        let last = atomicLoad(&counts[ORDER_LAST + above - 1u]);
        if (word != last) {
            return select(KEPT_KINDS, KEPT_BEFORE, word < last);
        }
    }
    return KEPT_LAST;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn mark(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var block = id.x; block < params.blocks; block += params.workgroups) {
        if (lane < KEPT_KINDS) {
            atomicStore(&kept_counts[lane], 0u);
        }
        workgroupBarrier();
        for (var tile = 0u; tile < BLOCK_TILES; tile += 1u) {
            let row = (block * BLOCK_TILES + tile) * WORKGROUP_SIZE + lane;
            if (row < params.rows) {
                let kind = kind_of(row);
                if (kind < KEPT_KINDS) {
                    atomicAdd(&kept_counts[kind], 1u);
                }
            }
        }
        workgroupBarrier();
        if (lane < KEPT_KINDS) {
            atomicStore(&counts[ORDER_COUNTS + lane * params.blocks + block], atomicLoad(&kept_counts[lane]));
        }
        workgroupBarrier();
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn keep(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let word = lane / 32u;
    let bit = 1u << (lane % 32u);
    for (var block = id.x; block < params.blocks; block += params.workgroups) {
        if (lane < KEPT_KINDS) {
            atomicStore(&kept_counts[lane], count_at(lane * params.blocks + block));
        }
        for (var tile = 0u; tile < BLOCK_TILES; tile += 1u) {
            if (lane < TILE_WORDS * KEPT_KINDS) {
                atomicStore(&kept_bits[lane], 0u);
            }
            workgroupBarrier();
            let row = (block * BLOCK_TILES + tile) * WORKGROUP_SIZE + lane;
            var kind = KEPT_KINDS;
            if (row < params.rows) {
                kind = kind_of(row);
            }
            if (kind < KEPT_KINDS) {
                atomicOr(&kept_bits[kind * TILE_WORDS + word], bit);
            }
            workgroupBarrier();
            if (kind < KEPT_KINDS) {
                let bits = kind * TILE_WORDS;
                var to = atomicLoad(&kept_counts[kind]) + countOneBits(atomicLoad(&kept_bits[bits + word]) & (bit - 1u));
                for (var before = 0u; before < word; before += 1u) {
                    to += countOneBits(atomicLoad(&kept_bits[bits + before]));
                }
                order[to] = row;
            }
            workgroupBarrier();
            if (lane < KEPT_KINDS) {
                var seen = 0u;
                for (var before = 0u; before < TILE_WORDS; before += 1u) {
                    seen += countOneBits(atomicLoad(&kept_bits[lane * TILE_WORDS + before]));
                }
                atomicAdd(&kept_counts[lane], seen);
            }
            workgroupBarrier();
        }
    }
}
