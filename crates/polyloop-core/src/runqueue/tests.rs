//! Tests of the run queue: weights, order, and what a turn may see.

use super::*;

fn key(class: Class, number: u32) -> Key {
    Key::new(number, class.index() as u32 + 1)
}

fn class_of(key: Key) -> Class {
    Class::ALL[key.generation() as usize - 1]
}

/// A queue with `count` entries numbered from 0 in each class, and the turn begun.
fn full(count: u32) -> RunQueue {
    let mut queue = RunQueue::new();
    for class in Class::ALL {
        for number in 0..count {
            queue.push(class, key(class, number));
        }
    }
    queue.begin_turn();
    queue
}

#[test]
fn names_and_indices_agree_with_the_order() {
    // Goal: tables and metrics by class cannot be crossed. Method: walk ALL.
    for (index, class) in Class::ALL.into_iter().enumerate() {
        assert_eq!(class.index(), index);
    }
    assert_eq!(
        Class::ALL.map(Class::name),
        ["urgent", "normal", "bulk", "heavy"]
    );
    assert_eq!(Class::default(), Class::Normal);
}

#[test]
fn each_round_serves_the_weights() {
    // Goal: shares are exact while all classes have work. Method: ten rounds of a queue that is full everywhere.
    let mut queue = full(640);
    for round in 0..10 {
        let mut served = [0; Class::COUNT];
        for _ in 0..WEIGHTS.iter().sum::<u32>() {
            served[class_of(queue.next().unwrap()).index()] += 1;
        }
        assert_eq!(served, WEIGHTS, "round {round}");
    }
}

#[test]
fn one_class_has_its_order_and_all_is_served() {
    // Goal: FIFO inside a class, no entry lost or doubled. Method: drain a full queue, compare the numbers.
    let mut queue = full(300);
    let mut next = [0; Class::COUNT];
    while let Some(key) = queue.next() {
        let expected = &mut next[class_of(key).index()];
        assert_eq!(key.index(), *expected);
        *expected += 1;
    }
    assert_eq!(next, [300; Class::COUNT]);
    assert!(queue.is_empty());
    assert_eq!(queue.left_in_turn(), 0);
}

#[test]
fn what_is_pushed_during_a_turn_waits_for_the_next() {
    // Goal: a socket that queues itself again cannot prolong the turn. Method: push back everything served.
    for only_normal in [true, false] {
        let mut queue = RunQueue::new();
        for class in Class::ALL {
            if !only_normal || class == Class::Normal {
                (0..5).for_each(|number| queue.push(class, key(class, number)));
            }
        }
        let count = queue.len();
        for _ in 0..3 {
            queue.begin_turn();
            assert_eq!(queue.left_in_turn(), count);
            for left in (0..count).rev() {
                let key = queue.next().unwrap();
                queue.push(class_of(key), key);
                assert_eq!(queue.left_in_turn(), left);
                assert_eq!(queue.len(), count);
            }
            assert_eq!(queue.next(), None);
        }
    }
}

#[test]
fn short_turns_starve_nobody() {
    // Goal: the bound on waiting holds when the budget ends every turn early. Method: turns of each length from 1
    // to 200, all classes kept full; the last entry of each class must come within its rounds.
    for turn_length in 1..=200 {
        let mut queue = full(20);
        let mut served = 0_u32;
        let mut first_lap = [0; Class::COUNT];
        while first_lap != [20; Class::COUNT] {
            queue.begin_turn();
            for _ in 0..turn_length {
                let Some(key) = queue.next() else { break };
                served += 1;
                let class = class_of(key);
                if key.index() < 20 {
                    first_lap[class.index()] += 1;
                }
                queue.push(class, Key::new(1000, key.generation()));
            }
        }
        // Heavy is the slowest: position 19 at weight 1, and two rounds for where the first one began.
        assert!(
            served <= 22 * WEIGHTS.iter().sum::<u32>(),
            "{turn_length}: {served}"
        );
    }
}

#[test]
fn unspent_shares_lapse() {
    // Goal: heavy is served at most once per round, however long it was idle. Method: rounds without heavy, then
    // many heavy ones against a full normal class.
    let mut queue = RunQueue::new();
    for number in 0..1000 {
        queue.push(Class::Normal, key(Class::Normal, number));
        queue.push(Class::Urgent, key(Class::Urgent, number));
    }
    queue.begin_turn();
    (0..500).for_each(|_| assert!(queue.next().is_some()));
    (0..10).for_each(|number| queue.push(Class::Heavy, key(Class::Heavy, number)));
    queue.begin_turn();
    let order: Vec<Class> = std::iter::from_fn(|| queue.next()).map(class_of).collect();
    let heavy: Vec<usize> = (0..order.len())
        .filter(|&at| order[at] == Class::Heavy)
        .take(10)
        .collect();
    // After the normal ones are gone only heavy is left; before that a whole round lies between two.
    for pair in heavy[..7].windows(2) {
        assert!(pair[1] - pair[0] >= 60, "{heavy:?}");
    }
}

#[test]
fn a_warm_queue_keeps_its_memory() {
    // Goal: no allocation once warm. Method: capacities after the first of many laps, and after each other.
    let mut queue = RunQueue::new();
    let mut warm = None;
    for _ in 0..50 {
        for class in Class::ALL {
            (0..100).for_each(|number| queue.push(class, key(class, number)));
        }
        let capacity = queue.rings.each_ref().map(VecDeque::capacity);
        assert_eq!(*warm.get_or_insert(capacity), capacity);
        queue.begin_turn();
        while queue.next().is_some() {}
    }
}
