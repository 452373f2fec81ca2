// Rows into the slots of a join table: open addressing, a slot is claimed by who exchanges its 0 for a row's
// number + 1. The keys are all different and there are twice as many slots, so every row finds one.

@compute @workgroup_size(WORKGROUP_SIZE)
fn insert(@builtin(global_invocation_id) id: vec3<u32>) {
    for (var i = id.x; i < params.rows; i += params.stride) {
        let head = atomicLoad(&index[heads_at() + i]);
        let code = codes_at() + 2u * (head - 1u);
        var at = hash_words(atomicLoad(&index[code]), atomicLoad(&index[code + 1u])) & slot_mask();
        var is_placed = false;
        while (!is_placed) {
            let before = atomicCompareExchangeWeak(&index[slots_at() + at], 0u, head);
            is_placed = before.exchanged;
            // A weak exchange may fail although the slot is free: then once more.
            at = select((at + 1u) & slot_mask(), at, before.old_value == 0u);
        }
    }
}
