//! Values of groups, brought to the places at which their groups are asked for.

/// For each of `groups` groups its place in `ids`, or none.
pub(super) fn places(ids: &[u32], groups: usize) -> Vec<u32> {
    let mut place = vec![u32::MAX; groups];
    ids.iter().enumerate().filter(|(_, g)| (**g as usize) < groups).for_each(|(i, g)| place[*g as usize] = i as u32);
    place
}

/// The values whose group has a place among `n`, by place and in the order they came, and where each place
/// begins; at the end the end. A part has the group of each value, the values, and the place of each group.
pub(super) fn by_place<T: Copy + Default>(parts: &[(&[u32], &[T], &[u32])], n: usize) -> (Vec<usize>, Vec<T>) {
    // Those without a place are counted behind all others.
    let at = |place: &[u32], owner: u32| (place[owner as usize] as usize).min(n);
    let mut bounds = vec![0usize; n + 2];
    for (owners, _, place) in parts {
        owners.iter().for_each(|o| bounds[at(place, *o) + 1] += 1);
    }
    (0..=n).for_each(|p| bounds[p + 1] += bounds[p]);
    let mut next = bounds.clone();
    let end = bounds[n];
    let mut out = vec![T::default(); end + 1];
    for (owners, values, place) in parts {
        for (o, v) in owners.iter().zip(*values) {
            let slot = &mut next[at(place, *o)];
            // Nobody can foretell which have none: no branch.
            out[(*slot).min(end)] = *v;
            *slot += 1;
        }
    }
    bounds.truncate(n + 1);
    out.truncate(end);
    (bounds, out)
}
