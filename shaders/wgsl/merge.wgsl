// Cells of a workgroup's replicas into the buffer of groups, each by one invocation.

fn merge_count(at: u32) {
    var total = 0u;
    for (var replica = 0u; replica < REPLICAS; replica += 1u) {
        total += atomicLoad(&local_groups[replica * REPLICA_WORDS + at]);
    }
    groups_count(at, total);
}

fn merge_sum(at: u32) {
    for (var replica = 0u; replica < REPLICAS; replica += 1u) {
        let cell = replica * REPLICA_WORDS + at;
        let low = atomicLoad(&local_groups[cell]);
        let middle = atomicLoad(&local_groups[cell + 1u]);
        let high = atomicLoad(&local_groups[cell + 2u]);
        groups_sum(at, low, middle, high);
    }
}

fn merge_greatest(at: u32) {
    var greatest = 0u;
    for (var replica = 0u; replica < REPLICAS; replica += 1u) {
        greatest = max(greatest, atomicLoad(&local_groups[replica * REPLICA_WORDS + at]));
    }
    groups_greatest(at, greatest);
}

// Merges the cell that `descriptor` describes, of the group whose words begin at `base`.
fn merge_cell(base: u32, descriptor: u32) {
    let at = base + descriptor / CELL_KINDS;
    switch descriptor % CELL_KINDS {
        case CELL_COUNT: {
            merge_count(at);
        }
        case CELL_SUM: {
            merge_sum(at);
        }
        default: {
            merge_greatest(at);
        }
    }
}
