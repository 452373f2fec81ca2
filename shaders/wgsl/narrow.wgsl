// The key of the last row that is wanted, digit by digit, most significant first: how often each value of the digit
// comes among the rows that have the digits found so far, and which of them the wanted row has. Once few enough rows
// beyond those that are wanted share what was found, the rest of the digits may be anything.

var<workgroup> digit_counts: array<atomic<u32>, DIGITS>;

fn word_of(plane: u32, row: u32) -> u32 {
    return columns[plane * params.key_rows + row];
}

fn last_word(plane: u32) -> u32 {
    return atomicLoad(&counts[ORDER_LAST + plane]);
}

// Whether the row has the more significant digits that were found.
fn has_found(row: u32) -> bool {
    for (var plane = params.plane + 1u; plane < params.planes; plane += 1u) {
        if (word_of(plane, row) != last_word(plane)) {
            return false;
        }
    }
    let differing = word_of(params.plane, row) ^ last_word(params.plane);
    return ((differing >> params.shift) >> DIGIT_BITS) == 0u;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn tally(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    atomicStore(&digit_counts[lane], 0u);
    workgroupBarrier();
    let rows = select(params.rows, 0u, atomicLoad(&counts[ORDER_DONE]) != 0u);
    for (var row = id.x; row < rows; row += params.workgroups * WORKGROUP_SIZE) {
        if (has_found(row)) {
            atomicAdd(&digit_counts[(word_of(params.plane, row) >> params.shift) & (DIGITS - 1u)], 1u);
        }
    }
    workgroupBarrier();
    let found = atomicLoad(&digit_counts[lane]);
    if (found != 0u) {
        atomicAdd(&counts[ORDER_TALLY + lane], found);
    }
}

// One workgroup, an invocation a value of the digit.
@compute @workgroup_size(WORKGROUP_SIZE)
fn pick(@builtin(local_invocation_index) lane: u32) {
    let found = atomicExchange(&counts[ORDER_TALLY + lane], 0u);
    // How many of the rows with the digits found so far are wanted.
    let wanted = atomicLoad(&counts[ORDER_WANTED]);
    let is_done = atomicLoad(&counts[ORDER_DONE]) != 0u;
    let end = up_to(lane, found);
    if (!is_done && end - found < wanted && wanted <= end) {
        var word = last_word(params.plane) | (lane << params.shift);
        atomicStore(&counts[ORDER_WANTED], wanted - (end - found));
        if (end - wanted <= params.spare) {
            word |= (1u << params.shift) - 1u;
            for (var plane = 0u; plane < params.plane; plane += 1u) {
                atomicStore(&counts[ORDER_LAST + plane], 0xffffffffu);
            }
            atomicStore(&counts[ORDER_DONE], 1u);
        }
        atomicStore(&counts[ORDER_LAST + params.plane], word);
    }
}
