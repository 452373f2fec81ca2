// The exclusive scan of counts, reduce then scan: a sum for each block of them, the scan of the sums by one
// workgroup, and the scan within each block from its sum on. Nothing waits for another workgroup.

var<workgroup> shares: array<u32, WORKGROUP_SIZE>;

// What this invocation and all before it give, added up. All of a workgroup call it together; afterwards the last
// share is the sum of all, until a barrier and the next call.
fn up_to(lane: u32, value: u32) -> u32 {
    shares[lane] = value;
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
    return shares[lane];
}

fn count_at(i: u32) -> u32 {
    return atomicLoad(&counts[ORDER_COUNTS + i]);
}

// The sums lie behind the counts.
fn sum_at(block: u32) -> u32 {
    return ORDER_COUNTS + params.counts + block;
}

// What the counts of this invocation add up to: those of a block are shared in runs of BLOCK_TILES.
fn share_of(first: u32) -> u32 {
    var sum = 0u;
    for (var i = first; i < min(first + BLOCK_TILES, params.counts); i += 1u) {
        sum += count_at(i);
    }
    return sum;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn reduce(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var block = id.x; block < params.sums; block += params.workgroups) {
        let sum = up_to(lane, share_of((block * WORKGROUP_SIZE + lane) * BLOCK_TILES));
        if (lane == WORKGROUP_SIZE - 1u) {
            atomicStore(&counts[sum_at(block)], sum);
        }
        workgroupBarrier();
    }
}

// One workgroup.
@compute @workgroup_size(WORKGROUP_SIZE)
fn scan(@builtin(local_invocation_index) lane: u32) {
    var at = 0u;
    for (var first = 0u; first < params.sums; first += WORKGROUP_SIZE) {
        let block = first + lane;
        var sum = 0u;
        if (block < params.sums) {
            sum = atomicLoad(&counts[sum_at(block)]);
        }
        let end = at + up_to(lane, sum);
        if (block < params.sums) {
            atomicStore(&counts[sum_at(block)], end - sum);
        }
        at += shares[WORKGROUP_SIZE - 1u];
        workgroupBarrier();
    }
    if (lane == 0u) {
        atomicStore(&counts[ORDER_TOTAL], at);
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn spread(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var block = id.x; block < params.sums; block += params.workgroups) {
        let first = (block * WORKGROUP_SIZE + lane) * BLOCK_TILES;
        let sum = share_of(first);
        var at = atomicLoad(&counts[sum_at(block)]) + up_to(lane, sum) - sum;
        for (var i = first; i < min(first + BLOCK_TILES, params.counts); i += 1u) {
            let count = count_at(i);
            atomicStore(&counts[ORDER_COUNTS + i], at);
            at += count;
        }
        workgroupBarrier();
    }
}
