// One pass over the rows of a chunk, few groups: each workgroup gathers them in its own memory, in
// REPLICAS copies so that neighbouring invocations rarely meet in one cell, and then merges them
// into the buffer. Generated code supplies PASS_row; PASS_CELLS parameters from PASS_CELLS_AT on
// describe the cells that this pass changes.

@compute @workgroup_size(WORKGROUP_SIZE)
fn PASS_rows(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var at = lane; at < REPLICAS * REPLICA_WORDS; at += WORKGROUP_SIZE) {
        atomicStore(&local_groups[at], 0u);
    }
    workgroupBarrier();
    let base = (lane % REPLICAS) * REPLICA_WORDS;
    for (var row = id.x; row < params.rows; row += params.stride) {
        PASS_row(row, base);
    }
    workgroupBarrier();
    for (var cell = lane; cell < params.groups * PASS_CELLS; cell += WORKGROUP_SIZE) {
        let parameter = PASS_CELLS_AT + cell % PASS_CELLS;
        merge_cell(cell / PASS_CELLS * GROUP_WORDS, params.words[parameter / 4u][parameter % 4u]);
    }
}
