// The rows of a chunk that survive the program, in their order. Three passes: a bitmap and a count for each
// tile of WORKGROUP_SIZE rows, the exclusive scan of the counts, and every surviving row to its place.

var<workgroup> tile_bits: array<atomic<u32>, TILE_WORDS>;
var<workgroup> shares: array<u32, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn mark(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var tile = id.x; tile < params.tiles; tile += params.stride / WORKGROUP_SIZE) {
        if (lane < TILE_WORDS) {
            atomicStore(&tile_bits[lane], 0u);
        }
        workgroupBarrier();
        let row = tile * WORKGROUP_SIZE + lane;
        var keep = false;
        if (row < params.rows) {
            keep = survives(row);
        }
        if (keep) {
            atomicOr(&tile_bits[lane / 32u], 1u << (lane % 32u));
        }
        workgroupBarrier();
        if (lane < TILE_WORDS) {
            selected[SELECTED_BITS + tile * TILE_WORDS + lane] = atomicLoad(&tile_bits[lane]);
        }
        if (lane == 0u) {
            var count = 0u;
            for (var word = 0u; word < TILE_WORDS; word += 1u) {
                count += countOneBits(atomicLoad(&tile_bits[word]));
            }
            selected[counts_at() + tile] = count;
        }
        workgroupBarrier();
    }
}

// One workgroup: each invocation takes a share of the tiles.
@compute @workgroup_size(WORKGROUP_SIZE)
fn scan(@builtin(local_invocation_index) lane: u32) {
    let share = (params.tiles + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
    let first = min(lane * share, params.tiles);
    let end = min(first + share, params.tiles);
    var sum = 0u;
    for (var tile = first; tile < end; tile += 1u) {
        sum += selected[counts_at() + tile];
    }
    shares[lane] = sum;
    workgroupBarrier();
    for (var step = 1u; step < WORKGROUP_SIZE; step *= 2u) {
        var before = 0u;
        if (lane >= step) {
            before = shares[lane - step];
        }
        workgroupBarrier();
        shares[lane] += before;
        workgroupBarrier();
    }
    var at = shares[lane] - sum;
    for (var tile = first; tile < end; tile += 1u) {
        let count = selected[counts_at() + tile];
        selected[counts_at() + tile] = at;
        at += count;
    }
    if (lane == WORKGROUP_SIZE - 1u) {
        selected[SELECTED_TOTAL] = at;
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn fill(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var tile = id.x; tile < params.tiles; tile += params.stride / WORKGROUP_SIZE) {
        let bits = SELECTED_BITS + tile * TILE_WORDS;
        let word = selected[bits + lane / 32u];
        let bit = 1u << (lane % 32u);
        if ((word & bit) != 0u) {
            var to = selected[counts_at() + tile] + countOneBits(word & (bit - 1u));
            for (var before = 0u; before < lane / 32u; before += 1u) {
                to += countOneBits(selected[bits + before]);
            }
            fill_row(tile * WORKGROUP_SIZE + lane, to);
        }
    }
}
