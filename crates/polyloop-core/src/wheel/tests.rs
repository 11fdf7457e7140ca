use super::*;

#[test]
fn a_timer_costs_28_bytes() {
    // Goal: the share of a timer in the memory of an idle connection. Method: allocated bytes per slot via size_of.
    assert_eq!(size_of::<Node<Key>>(), 24);
    assert_eq!(size_of::<Node<[u32; 2]>>(), 24);
    assert_eq!(size_of::<TimerKey>(), 8);
    assert_eq!(size_of::<Option<TimerKey>>(), 8);
}
