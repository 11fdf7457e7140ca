//! Tests of [`super`]: small worlds for ties and skips, seeded runs for evenness, properties for hashing.

use super::*;
use proptest::prelude::*;

fn place(chooser: &mut Chooser, loads: &mut [u64], connections: usize) {
    for _ in 0..connections {
        let index = chooser.choose(|index| Some(loads[index]), None);
        loads[index] += 1;
    }
}

#[test]
fn names_read_back() {
    // Goal: the flag's names, both ways, and its error. Method: all of them.
    for spread in Spread::ALL {
        assert_eq!(spread.to_string().parse(), Ok(spread));
    }
    let message = "random".parse::<Spread>().unwrap_err().to_string();
    assert!(message.contains("\"random\"") && message.contains("two-choices"));
}

#[test]
fn the_generator_is_splitmix64() {
    // Goal: the sequence is the published one. Method: its first values for seed 1234567.
    let mut random = SplitMix64(1_234_567);
    let drawn = [random.draw(), random.draw(), random.draw()];
    assert_eq!(
        drawn,
        [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423
        ]
    );
}

#[test]
fn long_connections_spread_evenly() {
    // Goal: the busiest loop holds at most 1.02 times the mean, at two to eight loops and 512 connections.
    // Method: 100 seeds each for the load-aware spreads, each loop as the acceptor in turn.
    for spread in [Spread::Least, Spread::TwoChoices] {
        for loops in 2..=8 {
            for seed in 0..100 {
                let mut loads = vec![0; loops];
                let own = seed as usize % loops;
                place(&mut Chooser::new(spread, own, loops, seed), &mut loads, 512);
                let busiest = loads.iter().max().copied().unwrap() as usize;
                assert!(
                    busiest * loops * 100 <= 512 * 102,
                    "{spread} {seed}: {loads:?}"
                );
            }
        }
    }
}

#[test]
fn closes_do_not_unbalance() {
    // Goal: two choices stay even while connections come and go at random. Method: 1,000 live on eight loops, 20,000
    // replaced, the closing one drawn with a seed.
    let mut chooser = Chooser::new(Spread::TwoChoices, 0, 8, 7);
    let mut random = SplitMix64(42);
    let mut loads = vec![0_u64; 8];
    let mut live = Vec::new();
    for round in 0..21_000 {
        if round >= 1000 {
            let gone: usize = live.swap_remove(random.below(live.len()));
            loads[gone] -= 1;
        }
        let index = chooser.choose(|index| Some(loads[index]), None);
        loads[index] += 1;
        live.push(index);
    }
    let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
    assert!(most - least <= 8, "{loads:?}");
}

#[test]
fn ties_prefer_the_own_loop_then_rotate() {
    // Goal: no loop but the own one is favoured at equal load. Method: equal loads with the own loop in and out.
    for own in 0..4 {
        let mut chooser = Chooser::new(Spread::Least, own, 4, 0);
        assert_eq!(chooser.choose(|_| Some(3), None), own);
        let mut counts = [0; 4];
        for _ in 0..300 {
            counts[chooser.choose(|index| Some(if index == own { 9 } else { 3 }), None)] += 1;
        }
        for (index, count) in counts.into_iter().enumerate() {
            assert_eq!(count, if index == own { 0 } else { 100 });
        }
        // Two choices: equal others are drawn evenly; the own loop wins whenever it is a candidate.
        let mut chooser = Chooser::new(Spread::TwoChoices, own, 4, 1);
        let mut counts = [0; 4];
        for _ in 0..3000 {
            counts[chooser.choose(|index| Some(if index == own { 9 } else { 3 }), None)] += 1;
        }
        assert_eq!(counts[own], 0);
        assert!(
            counts
                .iter()
                .enumerate()
                .all(|(i, &n)| i == own || (850..1150).contains(&n))
        );
    }
}

#[test]
fn round_robin_takes_turns_and_skips() {
    // Goal: each in turn, a stuck one left out. Method: four loops, then without loop 2.
    let mut chooser = Chooser::new(Spread::RoundRobin, 0, 4, 0);
    let drawn: Vec<usize> = (0..5).map(|_| chooser.choose(|_| Some(0), None)).collect();
    assert_eq!(drawn, [1, 2, 3, 0, 1]);
    let alive = |index| (index != 2).then_some(0);
    let drawn: Vec<usize> = (0..4).map(|_| chooser.choose(alive, None)).collect();
    assert_eq!(drawn, [3, 0, 1, 3]);
}

#[test]
fn every_spread_skips_loops_without_a_load() {
    // Goal: nothing goes to a stuck loop; with none left the own loop serves. Method: every subset of five loops, every
    // spread, every own loop.
    let source = Some("192.0.2.7".parse().unwrap());
    for spread in Spread::ALL {
        for own in 0..5 {
            for alive in 0_usize..32 {
                let mut chooser = Chooser::new(spread, own, 5, alive as u64);
                for _ in 0..20 {
                    let load = |index: usize| (alive >> index & 1 == 1).then_some(index as u64);
                    let index = chooser.choose(load, source);
                    assert!(alive >> index & 1 == 1 || (alive == 0 && index == own));
                }
            }
        }
    }
    assert_eq!(
        Chooser::new(Spread::TwoChoices, 0, 1, 0).choose(|_| Some(9), None),
        0
    );
}

#[test]
fn correction_follows_its_formula() {
    // Goal: keep within the margin or one connection, else the least loaded. Method: a table for loop 0.
    let correct = |loads: &[Option<u64>], margin| {
        Chooser::new(Spread::Least, 0, loads.len(), 0).correct(margin, |index| loads[index])
    };
    for (loads, margin, expected) in [
        (&[Some(0), Some(0)][..], 10, None),
        (&[Some(1), Some(0)], 0, None), // over the mean, but not by one connection
        (&[Some(2), Some(0)], 10, Some(1)),
        (&[Some(2), Some(0)], 100, None),   // exactly at the margin
        (&[Some(110), Some(90)], 10, None), // exactly at the margin
        (&[Some(111), Some(90)], 10, Some(1)),
        (&[Some(90), Some(111)], 10, None),
        (&[Some(30), Some(20), Some(10)], 10, Some(2)),
        (&[Some(30), None, Some(10)], 10, Some(2)),
        (&[Some(30), None], 10, None), // nobody to hand it to
        (&[None, Some(30), Some(10)], 10, Some(2)),
        (&[None, None], 10, None),
        (&[Some(u64::MAX), Some(u64::MAX - 9)], 0, Some(1)),
        (&[Some(5)], 0, None),
    ] {
        assert_eq!(correct(loads, margin), expected, "{loads:?} {margin}");
    }
}

proptest! {
    #[test]
    fn correction_bounds_any_kernel_choice(seed in any::<u64>(), loops in 2_usize..9) {
        // Goal: however the kernel hashes, no loop ends over the margin plus one. Method: random arrivals, each corrected.
        let mut random = SplitMix64(seed);
        let mut choosers: Vec<_> =
            (0..loops).map(|own| Chooser::new(Spread::Least, own, loops, 0)).collect();
        let mut loads = vec![0_u64; loops];
        for _ in 0..512 {
            let arrived = random.below(loops);
            let kept = choosers[arrived].correct(10, |index| Some(loads[index])).unwrap_or(arrived);
            loads[kept] += 1;
        }
        let busiest = loads.iter().max().copied().unwrap() as usize;
        // Kept at most at the larger of both borders of the mean, and then one was added.
        prop_assert!((busiest - 1) * loops * 100 <= (512 * 110).max((512 + loops) * 100), "{loads:?}");
    }

    #[test]
    fn a_source_stays_unless_its_loop_goes(bits in any::<u128>(), v4 in any::<u32>(), gone in 0_usize..8) {
        // Goal: same loop from any chooser and seed, mapped or not; a skipped loop moves its own sources only.
        // Method: random addresses, one loop taken out.
        let plain = IpAddr::from(v4.to_be_bytes());
        let mapped = IpAddr::V6(std::net::Ipv4Addr::from(v4).to_ipv6_mapped());
        let mut one = Chooser::new(Spread::SourceHash, 0, 8, 1);
        let mut other = Chooser::new(Spread::SourceHash, 5, 8, 2);
        prop_assert_eq!(one.choose(|_| Some(0), Some(plain)), other.choose(|_| Some(9), Some(mapped)));
        let source = Some(IpAddr::from(bits.to_be_bytes()));
        let before = one.choose(|_| Some(0), source);
        let after = one.choose(|index| (index != gone).then_some(0), source);
        prop_assert!(after == before || before == gone);
        prop_assert!(after != gone);
    }
}

#[test]
fn sources_spread_evenly() {
    // Goal: neighbouring addresses do not share a loop. Method: a /16 over seven loops, each within 5 % of its share.
    let mut chooser = Chooser::new(Spread::SourceHash, 0, 7, 0);
    let mut counts = [0_u32; 7];
    for low in 0..=u16::MAX {
        let address = IpAddr::from([10, 0, (low >> 8) as u8, low as u8]);
        counts[chooser.choose(|_| Some(0), Some(address))] += 1;
    }
    let share = 65_536 / 7;
    assert!(
        counts
            .iter()
            .all(|count| count.abs_diff(share) < share / 20),
        "{counts:?}"
    );
}
