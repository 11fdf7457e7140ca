//! Tests of the slots: small worlds whole, larger ones against a model.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[test]
fn a_slot_costs_its_generation_and_nothing_else() {
    // Goal: the sizes that the memory budget of a connection counts on. Method: size_of for the alignments in use, with
    // and without impossible values inside `T`.
    assert!(size_of::<Slot<[u64; 12]>>() <= 104);
    assert_eq!(size_of::<Slot<[u32; 6]>>(), 28);
    assert_eq!(size_of::<Slot<[u32; 2]>>(), 12);
    assert_eq!(size_of::<Slot<[u64; 5]>>(), 48);
    assert_eq!(
        size_of::<Slot<(u64, bool, [u32; 6])>>(),
        size_of::<(u64, bool, [u32; 6])>() + 8
    );
    assert_eq!(
        size_of::<Slot<(Vec<u8>, u64)>>(),
        size_of::<(Vec<u8>, u64)>() + 8
    );
    assert_eq!(size_of::<Slot<Box<u8>>>(), 16);
    assert_eq!(size_of::<Key>(), 8);
    assert_eq!(size_of::<Option<Key>>(), 8);
}

/// What a [`Slots`] of three must do, in the plainest way: the free places are a stack, fresh ones follow in order.
#[derive(Clone, Default)]
struct Model {
    live: Vec<(Key, u32)>,
    stale: Vec<Key>,
    free: Vec<(u32, u32)>,
    index_end: u32,
    inserted: u32,
}

impl Model {
    fn insert(&mut self, slots: &mut Slots<u32>) {
        let expected = if self.live.len() == 3 {
            None
        } else if let Some(freed) = self.free.pop() {
            Some(freed)
        } else {
            self.index_end += 1;
            Some((self.index_end - 1, 1))
        };
        let got = slots.insert(self.inserted);
        match expected {
            Some((index, generation)) => {
                assert_eq!(got, Ok(Key::new(index, generation)));
                self.live.push((Key::new(index, generation), self.inserted));
            }
            None => assert_eq!(got, Err(self.inserted)),
        }
        self.inserted += 1;
    }

    fn remove(&mut self, slots: &mut Slots<u32>, position: usize) {
        let (key, value) = self.live.remove(position);
        assert_eq!(slots.remove(key), Some(value));
        self.free.push((key.index(), key.generation() + 1));
        self.stale.push(key);
    }

    fn check(&self, slots: &mut Slots<u32>) {
        for &(key, value) in &self.live {
            assert_eq!(slots.get(key), Some(&value));
            assert_eq!(slots.get_mut(key), Some(&mut { value }));
            assert_eq!(slots.key_at(key.index()), Some(key));
        }
        for &key in &self.stale {
            assert_eq!(slots.get(key), None);
            assert_eq!(slots.get_mut(key), None);
            assert_eq!(slots.remove(key), None);
            assert_ne!(slots.key_at(key.index()), Some(key));
        }
        let mut live = self.live.clone();
        live.sort();
        assert_eq!(
            slots
                .iter()
                .map(|(key, value)| (key, *value))
                .collect::<Vec<_>>(),
            live
        );
        assert!(slots.keys().eq(live.iter().map(|(key, _)| *key)));
        assert_eq!(slots.len() as usize, live.len());
        assert_eq!(slots.is_empty(), live.is_empty());
        assert_eq!(slots.is_full(), live.len() == 3);
        assert_eq!(slots.index_end(), self.index_end);
    }
}

#[test]
fn every_history_of_three_slots_follows_the_model() {
    // Goal: keys, order of reuse and stale keys in all small worlds. Method: every sequence of 9 steps, each an
    // insertion or the removal of the oldest, middle or newest value, against a model; checked after each step.
    let mut histories = 0;
    for code in 0..4_u32.pow(9) {
        let (mut slots, mut model) = (Slots::new(3), Model::default());
        let mut possible = true;
        for step in 0..9 {
            let action = code >> (2 * step) & 3;
            if action == 3 {
                model.insert(&mut slots);
            } else if (action as usize) < model.live.len() {
                model.remove(&mut slots, action as usize);
            } else {
                possible = false;
                break;
            }
            model.check(&mut slots);
        }
        histories += u32::from(possible);
    }
    assert!(histories > 1_000, "{histories}");
}

#[test]
fn numbers_from_outside_resolve_to_nothing() {
    // Goal: no key panics, none that was not handed out resolves. Method: the corners of both numbers.
    let mut slots = Slots::new(2);
    let live = slots.insert(7).unwrap();
    for index in [
        0,
        1,
        2,
        1023,
        1024,
        1025,
        INDEX_MAX,
        INDEX_MAX + 1,
        u32::MAX,
    ] {
        for generation in [0, 1, 2, u32::MAX - 1, u32::MAX] {
            let key = Key::new(index, generation);
            assert_eq!(key.index(), index);
            assert_eq!(slots.get(key).is_some(), key == live, "{key:?}");
            assert_eq!(slots.get_mut(key).is_some(), key == live);
            if key != live {
                assert_eq!(slots.remove(key), None);
            }
        }
        assert_eq!(slots.key_at(index).is_some(), index == 0);
    }
    assert_eq!(slots.len(), 1);
}

#[test]
fn generations_wrap_past_the_two_that_are_never_used() {
    // Goal: after 2^32 - 2 reuses the count goes on at 1. Method: start a place at the last generation.
    let mut slots = Slots::new(1);
    let key = slots.insert(1).unwrap();
    slots.remove(key).unwrap();
    let last = NonZeroU32::new(u32::MAX - 1).unwrap();
    slots.chunks[0][0] = Slot::Free {
        generation: last,
        next: INDEX_NONE,
    };
    let key = slots.insert(2).unwrap();
    assert_eq!(key, Key::new(0, u32::MAX - 1));
    assert_eq!(slots.remove(key), Some(2));
    assert_eq!(slots.insert(3), Ok(Key::new(0, 1)));
    assert_eq!(slots.get(key), None);
}

#[test]
fn growth_moves_no_value_and_wastes_less_than_a_chunk() {
    // Goal: values keep their address, memory follows use. Method: addresses before and after ten chunks.
    let mut slots = Slots::new(10_000);
    assert_eq!(slots.capacity(), 0);
    let first = slots.insert([0_u64; 12]).unwrap();
    let address: *const _ = slots.get(first).unwrap();
    let keys: Vec<Key> = (1..10_000)
        .map(|n| slots.insert([n; 12]).unwrap())
        .collect();
    assert_eq!(slots.insert([0; 12]), Err([0; 12]));
    assert_eq!(slots.capacity(), 10_240);
    let bytes = slots.capacity() as usize * size_of::<Slot<[u64; 12]>>()
        + slots.chunks.capacity() * size_of::<Box<Chunk<[u64; 12]>>>();
    assert!(bytes * 100 <= 103 * 10_240 * 104, "{bytes}");
    assert!(std::ptr::eq(address, slots.get(first).unwrap()));
    for (n, key) in (1..).zip(&keys) {
        assert_eq!(slots.remove(*key), Some([n; 12]));
    }
    // Emptied and filled again, the memory is the same.
    (1..10_000).for_each(|n| assert!(slots.insert([n; 12]).is_ok()));
    assert_eq!((slots.capacity(), slots.index_end()), (10_240, 10_000));
}

#[test]
fn a_value_may_know_its_key_and_a_panic_while_making_it_changes_nothing() {
    // Goal: insert_with is all or nothing. Method: a maker that panics between two that do not, then a full set.
    let mut slots = Slots::new(2);
    let key = slots.insert_with(|key| key).unwrap();
    assert_eq!(slots.get(key), Some(&key));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        slots.insert_with(|_| panic!("made to fail"));
    }));
    assert!(panicked.is_err());
    assert_eq!((slots.len(), slots.index_end()), (1, 1));
    assert_eq!(slots.insert_with(|key| key), Some(Key::new(1, 1)));
    assert_eq!(slots.insert_with(|_| unreachable!("full")), None);
}

#[test]
fn bounds_are_kept_at_both_ends() {
    // Goal: a bound of 0 refuses all, one beyond the index space is cut to it. Method: construct.
    let mut none = Slots::new(0);
    assert!(none.is_full());
    assert_eq!(none.insert(1), Err(1));
    assert_eq!(none.capacity(), 0);
    assert_eq!(Slots::<u8>::new(u32::MAX).count_max(), INDEX_MAX + 1);
}

proptest! {
    #[test]
    fn long_histories_follow_a_map(actions in prop::collection::vec((0..10_u8, any::<u16>()), 1..4_000)) {
        // Goal: no value lost or crossed over chunk borders. Method: random insertions (more often than not) and
        // removals by live, stale or invented keys against a HashMap.
        let mut slots = Slots::new(2_000);
        let mut map = HashMap::new();
        let mut keys: Vec<Key> = Vec::new();
        for (value, (action, pick)) in actions.into_iter().enumerate() {
            let chosen = keys.get(pick as usize % keys.len().max(1)).copied();
            match (action, chosen) {
                (0..=5, _) | (_, None) => match slots.insert(value) {
                    Ok(key) => {
                        prop_assert_eq!(map.insert(key, value), None, "a live key was handed out twice");
                        keys.push(key);
                    }
                    Err(back) => prop_assert!(back == value && map.len() == 2_000),
                },
                (6..=8, Some(key)) => prop_assert_eq!(slots.remove(key), map.remove(&key)),
                (_, Some(key)) => {
                    let invented = Key::new(key.index(), u32::from(pick));
                    prop_assert_eq!(slots.get(invented), map.get(&invented));
                }
            }
            prop_assert_eq!(slots.len() as usize, map.len());
        }
        for key in keys {
            prop_assert_eq!(slots.get(key), map.get(&key));
        }
        prop_assert_eq!(slots.iter().count(), map.len());
    }
}
