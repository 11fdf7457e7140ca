use super::*;

#[test]
fn a_slot_costs_its_generation_and_nothing_else() {
    // Goal: the sizes that the memory budget of a connection counts on. Method: size_of for the alignments in use.
    assert!(size_of::<Slot<[u64; 12]>>() <= 104);
    assert_eq!(size_of::<Slot<[u32; 6]>>(), 28);
    assert_eq!(size_of::<Slot<[u32; 2]>>(), 12);
    assert_eq!(
        size_of::<Slot<(u64, bool, [u32; 6])>>(),
        size_of::<(u64, bool, [u32; 6])>() + 8
    );
    assert_eq!(size_of::<Key>(), 8);
    assert_eq!(size_of::<Option<Key>>(), 8);
}
