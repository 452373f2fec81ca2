// Between the two passes of a 64-bit least or greatest value: where the high word moved on, the low
// word belonged to a value that lost. The cells are those that the second pass describes.

fn settle_cell(at: u32) {
    let high = atomicLoad(&groups[at + WIDE_HIGH]);
    if (high != atomicLoad(&groups[at + WIDE_SETTLED])) {
        atomicStore(&groups[at + WIDE_SETTLED], high);
        atomicStore(&groups[at + WIDE_LOW], 0u);
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn settle(@builtin(global_invocation_id) id: vec3<u32>) {
    for (var group = id.x; group < params.groups; group += params.stride) {
        for (var cell = low_CELLS_AT; cell < low_CELLS_AT + low_CELLS; cell += 1u) {
            let descriptor = params.words[cell / 4u][cell % 4u];
            settle_cell(group * GROUP_WORDS + descriptor / CELL_KINDS - WIDE_LOW);
        }
    }
}
