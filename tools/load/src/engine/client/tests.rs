//! What a client decides without a connection.

use super::*;
use crate::plan::arrivals::ArrivalKind;

/// Steps that the walk took, and what they counted.
fn walk(kind: ArrivalKind, interval_ns: f64, until_ns: u64) -> (u64, u64) {
    let mut arrivals = Arrivals::new(kind, interval_ns, 0, 7);
    let (mut steps, mut counted, mut last_ns) = (0, 0, 0);
    each_unsent(&mut arrivals, until_ns, |planned_ns, count| {
        assert!(planned_ns < until_ns && planned_ns >= last_ns);
        last_ns = planned_ns;
        steps += 1;
        counted += count;
    });
    assert!(arrivals.peek_ns() >= until_ns);
    (steps, counted)
}

#[test]
fn what_was_never_sent_is_counted_whole_in_bounded_time() {
    // Goal: no plan is so far beyond reach that its stage cannot be ended, and none of it is left out. Method: a thousand million
    // requests of one connection, whose number is known exactly, or within chance; and few, which are counted one by one.
    let second = 1_000_000_000;
    let few = walk(ArrivalKind::Fixed, 1e6, second);
    assert_eq!(few, (1_000, 1_000));
    let few = walk(ArrivalKind::Bursty { size: 10 }, 1e6, second);
    assert_eq!(few, (1_000, 1_000));
    let (steps, counted) = walk(ArrivalKind::Fixed, 1.0, second);
    assert!(steps <= 2 * UNSENT_STEPS_MAX, "{steps}");
    assert_eq!(counted, second);
    for kind in [ArrivalKind::Exponential, ArrivalKind::Bursty { size: 8 }] {
        let (steps, counted) = walk(kind, 1.0, second);
        assert!(steps <= 2 * UNSENT_STEPS_MAX, "{kind}: {steps}");
        let off = counted.abs_diff(second);
        assert!(off < second / 1_000, "{kind}: {counted}");
    }
}
