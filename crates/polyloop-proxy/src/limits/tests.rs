//! Tests of [`super`]: exact arithmetic against a model of fractions, the table against one without a bound.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

#[test]
fn a_bucket_gives_its_burst_and_then_its_rate() {
    // Goal: burst, rate, and the date of the next token. Method: written out, at a rate that no nanosecond divides.
    let mut bucket = TokenBucket::new(Refill {
        per_second: 3,
        burst: 2,
    });
    assert!(bucket.take(0) && bucket.take(0) && !bucket.take(0));
    let ready_at_ns = bucket.ready_at_ns(0);
    assert_eq!(ready_at_ns, 333_333_334);
    assert!(!bucket.take(ready_at_ns - 1) && bucket.take(ready_at_ns));
    // No drift: exactly three a second for a thousand seconds, asked for ever so often.
    let mut given = 0;
    let mut now_ns = ready_at_ns;
    while now_ns < ready_at_ns + 1000 * SECOND {
        now_ns += 7_777_777;
        given += u32::from(bucket.take(now_ns));
    }
    assert!((2999..=3000).contains(&given), "{given}");
    bucket.put_back();
    assert_eq!(bucket.ready_at_ns(now_ns), now_ns);
    assert!(bucket.take(now_ns));
}

#[test]
fn a_jump_brings_one_burst() {
    // Goal: no more than a burst after any jump, no overflow at the largest numbers. Method: jumps by 30 days, to the
    // end of time, and back.
    for (per_second, burst) in [(1, 1), (1000, 50), (u32::MAX, 100), (7, u32::MAX)] {
        let mut bucket = TokenBucket::new(Refill { per_second, burst });
        for now_ns in [30 * DAY, 60 * DAY, u64::MAX, 5] {
            let given = (0..200).take_while(|_| bucket.take(now_ns)).count();
            let expected = if now_ns == 5 && burst <= 100 {
                0
            } else {
                burst.min(200) as usize
            };
            assert_eq!(given, expected, "{per_second} {burst} {now_ns}");
        }
    }
    let mut nothing = TokenBucket::new(Refill {
        per_second: 0,
        burst: 0,
    });
    assert!(!nothing.take(DAY));
    assert_eq!(nothing.ready_at_ns(DAY), u64::MAX);
}

proptest! {
    #[test]
    fn a_bucket_is_a_fraction(
        per_second in 1_u32..2000, burst in 1_u32..20,
        waits in prop::collection::vec(0_u64..3_000_000_000, 1..200),
    ) {
        // Goal: not a token too many or too few, and the date of the next is right to the nanosecond. Method: a model
        // in fractions of 128 bits, with clocks that sometimes run back.
        let mut bucket = TokenBucket::new(Refill { per_second, burst });
        let (full, one) = (u128::from(burst) * u128::from(SECOND), u128::from(SECOND));
        let (mut level, mut last_ns, mut now_ns) = (full, 0_u64, 0_u64);
        for wait in waits {
            now_ns = if wait % 7 == 0 { now_ns.saturating_sub(wait % SECOND) } else { now_ns + wait / u64::from(1 + per_second / 4) };
            let passed = u128::from(now_ns.saturating_sub(last_ns));
            level = full.min(level + passed * u128::from(per_second));
            last_ns = last_ns.max(now_ns);
            let expected = level >= one;
            if expected {
                prop_assert_eq!(bucket.ready_at_ns(now_ns), now_ns);
                level -= one;
            } else {
                let mut later = bucket;
                let ready_at_ns = bucket.ready_at_ns(now_ns);
                prop_assert!(!later.take(ready_at_ns - 1));
                prop_assert!(later.take(ready_at_ns));
            }
            prop_assert_eq!(bucket.take(now_ns), expected);
        }
    }

    #[test]
    fn a_pace_is_right_to_the_byte(
        per_second in 1_u64..10_000_000_000, moves in prop::collection::vec(1_u64..300_000, 1..200),
    ) {
        // Goal: whoever keeps to the dates moves what the rate allows and one read more, and no less while it always
        // has something to move. Method: moves as early as allowed, against exact sums.
        let rate = ByteRate::new(per_second);
        let mut pace = Pace::default();
        let start_ns = 5 * SECOND;
        let (mut now_ns, mut sum) = (start_ns, 0_u128);
        for &bytes in &moves {
            let passed = u128::from(now_ns - start_ns);
            let allowed = u128::from(rate.burst_bytes()) + passed * u128::from(per_second) / u128::from(SECOND);
            // Dates are whole nanoseconds: what two of them bring is not told apart.
            let allowed = allowed + 2 + 2 * u128::from(per_second / SECOND);
            prop_assert!(sum <= allowed, "{sum} of {allowed}");
            prop_assert!(u128::from(pace.room_bytes(&rate, now_ns)) <= allowed - sum);
            let resume_at_ns = pace.handle_moved(&rate, bytes, now_ns);
            sum += u128::from(bytes);
            prop_assert_eq!(resume_at_ns, pace.resume_at_ns(&rate));
            if resume_at_ns > now_ns {
                // One nanosecond earlier it would have been too much.
                let passed = u128::from(resume_at_ns - 1 - start_ns);
                let allowed = u128::from(rate.burst_bytes()) * u128::from(SECOND) + passed * u128::from(per_second);
                prop_assert!(sum * u128::from(SECOND) + u128::from(per_second) > allowed);
                now_ns = resume_at_ns;
            }
        }
    }
}

#[test]
fn a_pace_saves_nothing_up() {
    // Goal: after a quiet time there is one burst; bursts are a tenth of a second and at least 64 KiB. Method: a slow
    // and a fast rate; the largest numbers.
    for (per_second, burst) in [(1000, 65_536), (10_000_000, 1_000_000)] {
        let rate = ByteRate::new(per_second);
        assert_eq!(rate.burst_bytes(), burst);
        let mut pace = Pace::default();
        for now_ns in [0, 30 * DAY] {
            assert_eq!(pace.room_bytes(&rate, now_ns), burst);
            assert!(pace.handle_moved(&rate, burst, now_ns) <= now_ns);
            assert_eq!(pace.room_bytes(&rate, now_ns), 0);
            let resume_at_ns = pace.handle_moved(&rate, per_second, now_ns);
            assert_eq!(resume_at_ns, now_ns + SECOND);
        }
    }
    let mut pace = Pace::default();
    let slowest = ByteRate::new(0);
    assert_eq!(
        pace.handle_moved(&slowest, u64::MAX, u64::MAX),
        u64::MAX - 65_536 * SECOND
    );
    let fastest = ByteRate::new(u64::MAX);
    let mut pace = Pace::default();
    assert!(pace.handle_moved(&fastest, 1 << 30, 7) <= 7);
}

fn key(text: &str) -> SourceKey {
    SourceKey::new(text.parse().unwrap())
}

fn numbered(number: u32) -> SourceKey {
    SourceKey::new(IpAddr::V4(number.into()))
}

fn limits(live_max: Option<u32>, rate: Option<Refill>, entries_max: u32) -> SourceLimits {
    SourceLimits {
        live_max,
        rate,
        entries_max,
        when_full: WhenFull::Refuse,
    }
}

fn ticket(admission: Admission) -> Ticket {
    match admission {
        Admission::Admitted(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sources_are_addresses_and_networks() {
    // Goal: v4 by /32, v6 by /64, mapped as v4, families apart. Method: pairs.
    assert_eq!(key("10.1.2.3"), key("::ffff:10.1.2.3"));
    assert_ne!(key("10.1.2.3"), key("10.1.2.4"));
    assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:ffff:ffff:ffff"));
    assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
    assert_ne!(key("0.0.0.0"), key("::"));
    assert_ne!(key("10.0.0.1"), key("0:0:a00:1::"));
    let mut shards = [0; 4];
    for number in 0..1000 {
        shards[numbered(number).shard(7, 4)] += 1;
    }
    assert!(
        shards.iter().all(|count| (200..300).contains(count)),
        "{shards:?}"
    );
}

#[test]
fn each_source_has_its_own_limits() {
    // Goal: both limits, the date, and that refusals cost nothing. Method: two sources written out.
    let rate = Refill {
        per_second: 2,
        burst: 3,
    };
    let mut sources = Sources::new(limits(Some(2), Some(rate), 100), 7);
    let (one, other) = (key("10.0.0.1"), key("2001:db8::1"));
    let first = ticket(sources.admit(one, 0));
    let second = ticket(sources.admit(one, 0));
    assert_eq!(sources.admit(one, 0), Admission::TooMany);
    assert_eq!((sources.live(one), sources.live(other)), (2, 0));
    sources.release(first);
    let third = ticket(sources.admit(one, 0));
    sources.release(second);
    let ready_at_ns = SECOND / 2;
    assert_eq!(sources.admit(one, 0), Admission::TooFast { ready_at_ns });
    let _ = ticket(sources.admit(other, 0));
    sources.release(third);
    assert_eq!((sources.sources(), sources.sources_live()), (2, 1));
    // Idle, and remembered.
    assert_eq!(sources.admit(one, 0), Admission::TooFast { ready_at_ns });
    for _ in 0..10 {
        // Not served after all: the token is there again.
        let withdrawn = ticket(sources.admit(one, ready_at_ns));
        sources.withdraw(withdrawn);
    }
    let _ = ticket(sources.admit(one, ready_at_ns));
    assert_eq!(sources.live(one), 1);

    let mut nobody = Sources::new(limits(Some(0), None, 100), 7);
    assert_eq!(nobody.admit(one, 0), Admission::TooMany);
    assert_eq!(nobody.sources(), 0);
}

#[test]
fn without_a_rate_nothing_is_remembered() {
    // Goal: an entry goes with its last connection. Method: many sources, one after the other and together.
    let mut sources = Sources::new(limits(Some(1), None, 1000), 7);
    for number in 0..5000 {
        let ticket = ticket(sources.admit(numbered(number), 0));
        sources.release(ticket);
    }
    assert_eq!((sources.sources(), sources.sources_live()), (0, 0));
    let tickets: Vec<Ticket> = (0..1000)
        .map(|number| ticket(sources.admit(numbered(number), 0)))
        .collect();
    assert_eq!(sources.admit(numbered(1000), 0), Admission::TableFull);
    assert_eq!(sources.admit(numbered(999), 0), Admission::TooMany);
    tickets
        .into_iter()
        .for_each(|ticket| sources.release(ticket));
    assert_eq!(sources.sources(), 0);
}

#[test]
fn a_million_sources_leave_the_table_bounded_and_good_ones_alone() {
    // Goal: a flood from ever new sources neither grows the table nor loses the counts of those with connections.
    // Method: 100 sources hold a connection each, a million others come and go, faster than buckets fill.
    let rate = Refill {
        per_second: 1,
        burst: 1,
    };
    let mut sources = Sources::new(limits(Some(1), Some(rate), 1024), 7);
    let good: Vec<Ticket> = (0..100)
        .map(|number| ticket(sources.admit(numbered(number), 0)))
        .collect();
    for number in 0..1_000_000 {
        let ticket = ticket(sources.admit(numbered(1000 + number), 0));
        sources.release(ticket);
        assert!(sources.sources() <= 1024);
    }
    assert_eq!(sources.sources_live(), 100);
    for number in 0..100 {
        assert_eq!(sources.live(numbered(number)), 1);
        assert_eq!(sources.admit(numbered(number), DAY), Admission::TooMany);
    }
    good.into_iter().for_each(|ticket| sources.release(ticket));
    assert_eq!((sources.sources(), sources.sources_live()), (1024, 0));
    // Once their buckets are full, idle entries are used again before the table grows: each newcomer takes one.
    let mut small = Sources::new(limits(None, Some(rate), 1024), 7);
    for number in 0..10_000 {
        let ticket = ticket(small.admit(numbered(number), u64::from(number) * 2 * SECOND));
        small.release(ticket);
        assert_eq!(small.sources(), 1);
    }
}

#[test]
fn a_full_table_admits_uncounted_if_told() {
    // Goal: the stated answer. Method: a table of one; its bound of 0 counts as 1.
    let mut open = limits(Some(1), None, 0);
    open.when_full = WhenFull::Admit;
    let mut sources = Sources::new(open, 7);
    let counted = ticket(sources.admit(numbered(1), 0));
    assert_eq!(sources.admit(numbered(2), 0), Admission::Uncounted);
    assert_eq!(
        (sources.live(numbered(1)), sources.live(numbered(2))),
        (1, 0)
    );
    sources.release(counted);
    let _ = ticket(sources.admit(numbered(2), 0));
}

#[test]
fn entries_are_as_small_as_promised() {
    // Goal: the memory told in the header, heads included, and a ticket that costs nothing to lack. Method: the sizes.
    assert_eq!(sources::SOURCE_BYTES, [20, 24]);
    assert_eq!(size_of::<Option<Ticket>>(), 4);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Admit(u32),
    Release(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_u32..60).prop_map(Step::Admit),
        4 => any::<usize>().prop_map(Step::Release),
        1 => (0_u64..2 * SECOND).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..600)
}

proptest! {
    #[test]
    fn the_table_is_a_map_until_its_bound(steps in steps(), has_rate in any::<bool>(), entries_max in 1_u32..80, seed in any::<u64>()) {
        // Goal: counts are exact always, and rates are as long as nothing has to go early; the bound holds. Method: a
        // map of plain buckets without a bound.
        let rate = Refill { per_second: 2, burst: 4 };
        let mut sources = Sources::new(limits(Some(3), has_rate.then_some(rate), entries_max), seed);
        let mut model: BTreeMap<u32, (u32, TokenBucket)> = BTreeMap::new();
        let mut tickets = Vec::new();
        let mut now_ns = 0;
        for step in steps {
            match step {
                Step::Wait(ns) => now_ns += ns,
                Step::Release(_) if tickets.is_empty() => {}
                Step::Release(which) => {
                    let (number, ticket): (u32, Ticket) = tickets.swap_remove(which % tickets.len());
                    sources.release(ticket);
                    model.get_mut(&number).unwrap().0 -= 1;
                }
                Step::Admit(number) => {
                    let live_before = model.values().filter(|(live, _)| *live > 0).count();
                    let (live, bucket) = model.entry(number).or_insert_with(|| (0, TokenBucket::new(rate)));
                    let admission = sources.admit(numbered(number), now_ns);
                    if entries_max >= 60 {
                        let expected = if *live >= 3 {
                            "TooMany"
                        } else if has_rate && !bucket.take(now_ns) {
                            "TooFast"
                        } else {
                            "Admitted"
                        };
                        prop_assert!(format!("{admission:?}").starts_with(expected), "{admission:?} {expected}");
                    }
                    match admission {
                        Admission::Admitted(ticket) => {
                            prop_assert!(*live < 3);
                            *live += 1;
                            tickets.push((number, ticket));
                        }
                        Admission::TooMany => prop_assert_eq!(*live, 3),
                        Admission::TooFast { ready_at_ns } => prop_assert!(has_rate && ready_at_ns > now_ns),
                        Admission::TableFull => {
                            prop_assert!(*live == 0 && live_before == entries_max as usize);
                        }
                        Admission::Uncounted => prop_assert!(false),
                    }
                }
            }
            prop_assert!(sources.sources() <= entries_max);
            let live_sources = model.values().filter(|(live, _)| *live > 0).count();
            prop_assert_eq!(sources.sources_live() as usize, live_sources);
            for (&number, &(live, _)) in &model {
                prop_assert_eq!(sources.live(numbered(number)), live);
            }
        }
    }
}
