//! Tests of the timer wheel: borders of its levels, and long runs against a sorted map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const DAY: u64 = 24 * 3600 * 1000;

/// Deadlines in order, ties in arming order: what a wheel must be indistinguishable from.
struct Model {
    armed: BTreeMap<(u64, u32), TimerKey>,
    /// By key, as a re-armed timer gets another place in the order.
    order: BTreeMap<TimerKey, (u64, u32)>,
    now: u64,
    armings: u32,
}

impl Model {
    fn arm(&mut self, timer: TimerKey, deadline: u64) {
        self.cancel(timer);
        let order = (deadline.max(self.now), self.armings);
        self.armings += 1;
        self.armed.insert(order, timer);
        self.order.insert(timer, order);
    }

    fn cancel(&mut self, timer: TimerKey) -> bool {
        self.order
            .remove(&timer)
            .is_some_and(|order| self.armed.remove(&order).is_some())
    }

    fn pop_due(&mut self, now: u64) -> Option<TimerKey> {
        let now = now.max(self.now);
        match self.armed.first_key_value() {
            Some((&(deadline, _), &timer)) if deadline <= now => {
                self.now = deadline;
                self.cancel(timer);
                Some(timer)
            }
            _ => {
                self.now = now;
                None
            }
        }
    }

    fn earliest(&self) -> Option<u64> {
        self.armed
            .first_key_value()
            .map(|(&(deadline, _), _)| deadline)
    }
}

/// A wheel and its model, told the same things and compared after each.
struct Pair {
    wheel: Wheel<u32>,
    model: Model,
    timers: Vec<TimerKey>,
}

impl Pair {
    fn new(now: u64) -> Self {
        let model = Model {
            armed: BTreeMap::new(),
            order: BTreeMap::new(),
            now,
            armings: 0,
        };
        Self {
            wheel: Wheel::new(now, 100_000),
            model,
            timers: Vec::new(),
        }
    }

    fn arm(&mut self, deadline: u64) -> TimerKey {
        let timer = self.wheel.arm(deadline, self.model.armings).unwrap();
        assert_eq!(self.wheel.get(timer), Some(&self.model.armings));
        self.model.arm(timer, deadline);
        assert_eq!(
            self.wheel.deadline(timer),
            Some(deadline.max(self.model.now))
        );
        self.timers.push(timer);
        self.check();
        timer
    }

    fn rearm(&mut self, timer: TimerKey, deadline: u64) {
        let armed = self.model.order.contains_key(&timer);
        assert_eq!(self.wheel.rearm(timer, deadline), armed);
        if armed {
            self.model.arm(timer, deadline);
        }
        self.check();
    }

    fn cancel(&mut self, timer: TimerKey) {
        assert_eq!(self.wheel.cancel(timer).is_some(), self.model.cancel(timer));
        assert_eq!(self.wheel.deadline(timer), None);
        self.check();
    }

    /// One call; whether a timer fired.
    fn pop_due(&mut self, now: u64) -> bool {
        let fired = self.wheel.pop_due(now).map(|(timer, _)| timer);
        assert_eq!(fired, self.model.pop_due(now), "at {now}");
        self.check();
        fired.is_some()
    }

    fn advance(&mut self, now: u64) {
        while self.pop_due(now) {}
        assert!(
            self.wheel
                .next_wake()
                .is_none_or(|wake| wake > now.min(self.model.now))
        );
    }

    fn check(&self) {
        assert_eq!(self.wheel.len() as usize, self.model.armed.len());
        let (wake, earliest) = (self.wheel.next_wake(), self.model.earliest());
        assert_eq!(wake.is_some(), earliest.is_some());
        assert!(wake <= earliest, "{wake:?} is after {earliest:?}");
        assert!(wake.is_none_or(|wake| wake >= self.model.now));
        // Exact once the deadline is in the wheel's current 64 ticks.
        if let (Some(wake), Some(earliest)) = (wake, earliest) {
            let origin = self.wheel.origin;
            if (earliest - origin) / 64 == (self.model.now - origin) / 64 {
                assert_eq!(wake, earliest);
            }
        }
    }
}

#[test]
fn a_timer_costs_28_bytes() {
    // Goal: the share of a timer in the memory of an idle connection. Method: size_of, with the slot's generation.
    assert_eq!(size_of::<Node<Key>>(), 24);
    assert_eq!(size_of::<Node<[u32; 2]>>(), 24);
    assert_eq!(Wheel::<[u32; 2]>::TIMER_BYTES, 28);
    assert_eq!(Wheel::<Key>::TIMER_BYTES, 28);
    assert_eq!(size_of::<TimerKey>(), 8);
    assert_eq!(size_of::<Option<TimerKey>>(), 8);
}

#[test]
fn borders_of_levels_are_exact() {
    // Goal: no timer early or late around the powers of 64. Method: from every start near a border, every deadline
    // near a border is armed twice; the wheel must hold still at one tick before and fire both, in order, on the tick.
    let borders: Vec<u64> = (0..=6)
        .flat_map(|level| [-2, -1, 0, 1, 2].map(|near| (1_i64 << (6 * level)) + near))
        .chain([127, 128, 129, 8191, 8192, 64 * 64 * 63])
        .filter_map(|tick| u64::try_from(tick).ok())
        .collect();
    for &start in &borders {
        for &deadline in &borders {
            for origin in [0, 1, 77, u64::MAX - (1 << 40)] {
                let mut pair = Pair::new(origin);
                pair.advance(origin + start);
                pair.arm(origin + deadline);
                pair.arm(origin + deadline);
                if deadline > start {
                    pair.advance(origin + deadline - 1);
                    assert_eq!(pair.wheel.len(), 2);
                    assert!(pair.wheel.next_wake() <= Some(origin + deadline));
                }
                pair.advance(origin + deadline.max(start));
                assert!(pair.wheel.is_empty());
            }
        }
    }
}

#[test]
fn every_deadline_of_a_small_world_fires_on_its_tick() {
    // Goal: the same with neighbours. Method: all deadlines of the first 4,200 ticks armed at once, then tick by tick;
    // exactly one fires at each.
    let mut pair = Pair::new(0);
    (0..4_200).rev().for_each(|deadline| _ = pair.arm(deadline));
    for now in 0..4_200 {
        assert!(pair.pop_due(now) && !pair.pop_due(now));
    }
}

#[test]
fn following_next_wake_fires_a_lone_timer_with_few_wakes() {
    // Goal: sleeping until next_wake neither misses nor spins. Method: deadlines of all magnitudes; count the wakes.
    for bits in 0..36 {
        for deadline in [1_u64 << bits, (1 << bits) + 1, (2 << bits) - 1] {
            let mut pair = Pair::new(12_345);
            pair.arm(12_345 + deadline);
            let mut wakes = 0;
            while let Some(wake) = pair.wheel.next_wake() {
                pair.advance(wake);
                wakes += 1;
            }
            assert_eq!(pair.model.now, 12_345 + deadline);
            assert!(wakes <= 6, "{deadline}: {wakes}");
            assert!(pair.wheel.cascades() <= 5);
        }
    }
}

#[test]
fn deadlines_beyond_the_horizon_wait_their_time() {
    // Goal: beyond 2^36 ms still never early, however the time passes. Method: steps of a year, of 30 days, one jump.
    for step in [365 * DAY, 30 * DAY, 20_000 * DAY] {
        let mut pair = Pair::new(5);
        for years in [2, 3, 10, 40] {
            pair.arm(5 + years * 365 * DAY);
            pair.arm(6 + years * 365 * DAY);
        }
        let mut now = 5;
        while !pair.wheel.is_empty() {
            now += step;
            pair.advance(now);
        }
        assert!(pair.wheel.cascades() < 8 * 30);
    }
    // At the end of the 48 bits the deadline is cut, and nothing overflows.
    let mut wheel = Wheel::new(0, 2);
    let timer = wheel.arm(u64::MAX, ()).unwrap();
    assert_eq!(wheel.deadline(timer), Some((1 << 48) - 1));
    let before_end = (1 << 48) - 2;
    // 4,000 laps of the top level: even this jump is bounded per call.
    while wheel.next_wake() <= Some(before_end) {
        assert_eq!(wheel.pop_due(before_end), None);
    }
    assert_eq!(wheel.pop_due(u64::MAX), Some((timer, ())));
    let mut wheel = Wheel::new(u64::MAX - 1, 2);
    let timer = wheel.arm(u64::MAX, ()).unwrap();
    assert_eq!(wheel.pop_due(u64::MAX - 1), None);
    assert_eq!(wheel.pop_due(u64::MAX), Some((timer, ())));
}

#[test]
fn jumps_do_not_cost_per_tick_and_time_never_goes_back() {
    // Goal: 30 days at once are a few steps; an older `now` changes nothing. Method: a timer per day, one jump.
    let mut pair = Pair::new(1_000);
    (1..=30).for_each(|day| _ = pair.arm(1_000 + day * DAY));
    pair.advance(1_000 + 30 * DAY);
    assert!(pair.wheel.is_empty());
    assert!(pair.wheel.cascades() <= 30 * 5);
    pair.advance(999);
    let late = pair.arm(2_000);
    assert_eq!(pair.wheel.deadline(late), Some(1_000 + 30 * DAY));
    pair.advance(0);
    assert!(pair.wheel.is_empty());
}

#[test]
fn a_large_cascade_is_done_in_bounded_calls() {
    // Goal: a crowd on one moment never stops the loop, and loses or advances nobody. Method: 10,000 timers in one slot
    // of level 2, calls counted; in between timers are cancelled, re-armed and armed.
    let mut wheel = Wheel::new(0, 20_000);
    let crowd: Vec<TimerKey> = (0..10_000)
        .map(|n| wheel.arm(8192 + n % 100, n).unwrap())
        .collect();
    assert_eq!(wheel.pop_due(8191), None);
    assert_eq!((wheel.cascades(), wheel.next_wake()), (0, Some(8192)));
    let mut seen = 0;
    let mut interrupted = 0;
    let mut fired = Vec::new();
    while wheel.next_wake().is_some_and(|wake| wake <= 9_000) {
        match wheel.pop_due(9_000) {
            Some((_, n)) => fired.push(n),
            None if wheel.next_wake() <= Some(9_000) => {
                interrupted += 1;
                if interrupted == 1 {
                    assert_eq!(wheel.next_wake(), Some(8192));
                    assert!(wheel.cancel(crowd[9_999]).is_some());
                    assert!(wheel.rearm(crowd[9_998], 1 << 20));
                    assert!(wheel.rearm(crowd[0], 8_500));
                    assert!(wheel.arm(8_192, 10_000).is_ok());
                }
            }
            None => {}
        }
        assert!(wheel.cascades() - seen <= u64::from(CASCADES_MAX));
        seen = wheel.cascades();
    }
    assert!(interrupted >= 9, "{interrupted}");
    assert!(fired.is_sorted_by_key(|n| match n {
        0 => 8_500,
        10_000 => 8_192,
        n => 8_192 + n % 100,
    }));
    assert_eq!((fired.len(), wheel.len()), (9_999, 1));
    assert_eq!(wheel.pop_due(1 << 20).map(|(_, n)| n), Some(9_998));
}

#[test]
fn a_cascade_whose_rest_is_cancelled_is_over() {
    // Goal: an emptied slot leaves no stale wake-up behind. Method: interrupt a cascade, cancel everything.
    let mut wheel = Wheel::new(0, 5_000);
    let crowd: Vec<TimerKey> = (0..5_000).map(|_| wheel.arm(100, ()).unwrap()).collect();
    assert_eq!(wheel.pop_due(100), None);
    assert_eq!(wheel.next_wake(), Some(64));
    crowd
        .iter()
        .for_each(|timer| assert!(wheel.cancel(*timer).is_some()));
    assert_eq!(wheel.next_wake(), None);
    let timer = wheel.arm(200, ()).unwrap();
    assert_eq!(wheel.next_wake(), Some(192));
    assert_eq!(wheel.pop_due(199), None);
    assert_eq!(wheel.pop_due(200), Some((timer, ())));
}

#[test]
fn a_full_wheel_gives_the_value_back_and_keys_go_stale() {
    // Goal: the bound, and keys after firing or cancelling. Method: a wheel of two.
    let mut wheel = Wheel::new(0, 2);
    let first = wheel.arm(1, 'a').unwrap();
    let second = wheel.arm(2, 'b').unwrap();
    assert_eq!(wheel.arm(3, 'c'), Err('c'));
    *wheel.get_mut(second).unwrap() = 'B';
    assert_eq!(wheel.pop_due(1), Some((first, 'a')));
    assert_eq!(wheel.cancel(second), Some('B'));
    let third = wheel.arm(3, 'c').unwrap();
    for gone in [first, second] {
        assert_ne!(third, gone);
        assert_eq!(
            (
                wheel.get(gone).copied(),
                wheel.deadline(gone),
                wheel.cancel(gone)
            ),
            (None, None, None)
        );
        assert!(wheel.get_mut(gone).is_none() && !wheel.rearm(gone, 9));
    }
    assert_eq!(wheel.len(), 1);
}

#[test]
fn a_million_steps_of_a_busy_server_follow_the_model() {
    // Goal: long use leaks and reorders nothing. Method: a seeded mix of arming, re-arming, cancelling and small steps
    // of time, one million in all, against the model.
    let mut pair = Pair::new(0);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut now = 0;
    for _ in 0..1_000_000 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let delay = (seed >> 20) & ((1 << (4 + (seed >> 56) % 16)) - 1);
        let timer = pair
            .timers
            .get((seed >> 32) as usize % pair.timers.len().max(1))
            .copied();
        match (seed % 8, timer) {
            (0 | 1, _) | (_, None) if pair.timers.len() < 5_000 => _ = pair.arm(now + delay),
            (0..=3, Some(timer)) => pair.rearm(timer, now + delay),
            (4, Some(timer)) => {
                pair.cancel(timer);
                pair.timers.retain(|other| *other != timer);
            }
            _ => {
                now += delay % 16;
                while let Some((fired, _)) = pair.wheel.pop_due(now) {
                    assert_eq!(pair.model.pop_due(now), Some(fired));
                }
                assert_eq!(pair.model.pop_due(now), None);
                if seed.is_multiple_of(64) {
                    let order = &pair.model.order;
                    pair.timers.retain(|timer| order.contains_key(timer));
                }
            }
        }
    }
    pair.advance(now + (1 << 20));
    assert!(pair.wheel.is_empty());
    assert!(pair.wheel.occupied.iter().all(|bits| *bits == 0));
}

/// One step: what, which timer, and a length whose magnitude is drawn first so that all levels are met.
fn step() -> impl Strategy<Value = (u8, u16, u64)> {
    (
        0..10_u8,
        any::<u16>(),
        (0..36_u32, any::<u64>()).prop_map(|(bits, x)| x & ((1 << bits) - 1)),
    )
}

proptest! {
    #[test]
    fn any_history_follows_the_model(
        origin in prop_oneof![Just(0), 0..1_u64 << 45],
        steps in prop::collection::vec(step(), 1..600),
    ) {
        // Goal: firing order, never early, next_wake and keys under any mix. Method: random steps over all magnitudes,
        // with deadlines in the past and times that go back, against the BTreeMap. Delays are kept within the
        // horizon in which ties are ordered.
        let mut pair = Pair::new(origin);
        for (what, pick, length) in steps {
            let (now, delay) = (pair.model.now, length % ((1 << 36) - (1 << 30)));
            let timer = pair.timers.get(pick as usize % pair.timers.len().max(1)).copied();
            match (what, timer) {
                (0..=3, _) | (_, None) => _ = pair.arm(now + delay),
                (4, Some(timer)) => pair.cancel(timer),
                (5, Some(timer)) => pair.rearm(timer, now + delay),
                (6, _) => _ = pair.arm(now.saturating_sub(delay)),
                // One call only, as when the loop's budget ends: the wheel stands behind the time.
                (7, _) => _ = pair.pop_due(now + length),
                (8, _) => pair.advance(now.saturating_sub(length)),
                (_, Some(timer)) => {
                    // To the border of a live timer, where mistakes would be.
                    let near = pair.wheel.deadline(timer).unwrap_or(now + length);
                    pair.advance((near + u64::from(pick % 3)).saturating_sub(1));
                }
            }
        }
        pair.advance(pair.model.now + (1 << 36));
        prop_assert!(pair.wheel.is_empty());
    }
}
