// One pass over the rows of a chunk, many groups: straight into the buffer.
// Generated code supplies PASS_row.

@compute @workgroup_size(WORKGROUP_SIZE)
fn PASS_rows(@builtin(global_invocation_id) id: vec3<u32>) {
    for (var row = id.x; row < params.rows; row += params.stride) {
        PASS_row(row, 0u);
    }
}
