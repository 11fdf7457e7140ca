//! The behaviour of permits as one thread sees it; what several see at once is in `models`.

use std::io;
use std::sync::atomic::AtomicU64 as Plain;

use super::*;
use crate::bell::Wake;

#[derive(Default)]
struct Counting(Plain);

impl Wake for Counting {
    fn wake(&self) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn permits(cap: u64, cost_max: u64, loops: usize) -> (Permits, Vec<Arc<Bell>>) {
    let bells: Vec<_> = (0..loops)
        .map(|_| Arc::new(Bell::new(Arc::new(Counting::default()))))
        .collect();
    (Permits::new(cap, cost_max, bells.clone()), bells)
}

#[test]
fn the_cap_is_exact() {
    // Goal: all or nothing, up to the cap and not beyond. Method: take to the edge, also in twos, and at the largest cap.
    let (permits, _) = permits(5, 2, 1);
    assert!(permits.try_acquire(2) && permits.try_acquire(2));
    assert!(!permits.try_acquire(2));
    assert!(permits.try_acquire(1));
    assert!(!permits.try_acquire(1));
    assert_eq!((permits.in_use(), permits.cap()), (5, 5));
    permits.release(5);
    assert_eq!(permits.in_use(), 0);
    assert!(permits.try_acquire(0) && !permits.try_acquire(u64::MAX));

    permits.set_cap(u64::MAX);
    assert_eq!(permits.cap(), Permits::CAP_MAX);
    assert!(permits.try_acquire(Permits::CAP_MAX));
    assert!(!permits.try_acquire(1));
    assert_eq!(
        (permits.in_use(), permits.cap()),
        (Permits::CAP_MAX, Permits::CAP_MAX)
    );
}

#[test]
fn waiting_loops_resume_at_the_mark_once() {
    // Goal: hysteresis, and one ring for each loop that waits. Method: cap 20, close one by one, three loops, two wait.
    let (permits, bells) = permits(20, 1, 3);
    assert!(permits.try_acquire(20));
    assert!(bells.iter().all(|bell| bell.try_sleep(|| false)));
    assert_eq!(
        (permits.wait(0), permits.wait(2)),
        (Wait::Armed, Wait::Armed)
    );
    permits.release(1);
    assert_eq!(permits.wait(2), Wait::Armed, "19 of 20 is above the mark");
    assert!(!permits.has_resume(0));
    permits.release(1);
    assert_eq!(
        [0, 1, 2].map(|i| permits.has_resume(i)),
        [true, false, true]
    );
    assert_eq!(
        bells.iter().map(|bell| bell.sent()).collect::<Vec<_>>(),
        [1, 0, 1]
    );
    permits.release(1);
    assert_eq!(permits.resumed(), 2, "a wait is answered once");
    assert!(permits.take_resume(0) && !permits.take_resume(0));
    assert!(!permits.take_resume(1));
}

#[test]
fn any_release_ends_the_wait_for_descriptors() {
    // Goal: EMFILE far below the cap resumes with the next closing. Method: wait_any at 50 of 100, release one, twice.
    let (permits, bells) = permits(100, 1, 2);
    assert!(permits.try_acquire(50));
    assert!(bells[1].try_sleep(|| false));
    permits.wait_any(1);
    permits.release(1);
    permits.release(1);
    assert_eq!(
        (permits.resumed(), bells[1].sent(), bells[0].sent()),
        (1, 1, 0)
    );
    assert!(permits.take_resume(1) && !permits.take_resume(1));
    permits.wait_any(1);
    permits.stop_waiting(1);
    permits.release(1);
    assert!(!permits.take_resume(1));
}

#[test]
fn a_wait_that_comes_late_is_told_so() {
    // Goal: room that came back before the wait is not waited for. Method: wait below the mark.
    let (permits, _) = permits(10, 1, 1);
    assert!(permits.try_acquire(9));
    assert_eq!(permits.wait(0), Wait::TryAgain);
    permits.release(1);
    assert_eq!(permits.resumed(), 0, "it is not on the list");
}

#[test]
fn nothing_resumes_without_room_for_a_connection() {
    // Goal: no circle of resume and refusal. Method: caps too small for the cost, zero included, then one that is enough.
    let (permits, _) = permits(0, 4, 1);
    for cap in 0..4 {
        permits.set_cap(cap);
        assert_eq!(permits.wait(0), Wait::Armed, "cap {cap}");
        assert!(!permits.has_resume(0));
    }
    permits.set_cap(4);
    assert!(permits.take_resume(0));
    assert!(permits.try_acquire(4));
    assert_eq!(permits.wait(0), Wait::Armed);
    permits.release(1);
    assert!(
        !permits.has_resume(0),
        "3 of 4 is below the mark, but 1 is not 4"
    );
    permits.release(3);
    assert!(permits.take_resume(0));
}

#[test]
fn a_lowered_cap_admits_nothing_until_enough_has_closed() {
    // Goal: shrinking below the use is safe. Method: lower under load, drain, count what is admitted.
    let (permits, _) = permits(10, 1, 1);
    assert!(permits.try_acquire(10));
    permits.set_cap(4);
    assert_eq!(permits.wait(0), Wait::Armed);
    for in_use in (4..10).rev() {
        permits.release(1);
        assert_eq!(permits.in_use(), in_use);
        assert!(!permits.try_acquire(1) && !permits.has_resume(0));
    }
    permits.release(1);
    assert!(permits.take_resume(0) && permits.try_acquire(1));
}

#[test]
#[should_panic(expected = "more permits given back")]
fn giving_back_too_much_is_a_bug() {
    // Goal: a double count is caught where it happens. Method: take one, give two.
    let (permits, _) = permits(10, 1, 1);
    assert!(permits.try_acquire(1));
    permits.release(2);
}

#[test]
fn the_word_keeps_its_fields_apart() {
    // Goal: no field leaks into its neighbour. Method: every combination of edge values of cap, use and flags.
    let edges = [
        0,
        1,
        2,
        Permits::CAP_MAX / 2,
        Permits::CAP_MAX - 1,
        Permits::CAP_MAX,
    ];
    for cap in edges {
        for in_use in edges {
            for flags in 0..4 {
                let word = Word(Word::new(7).0 | in_use << IN_USE_SHIFT | flags).with_cap(cap);
                assert_eq!(
                    (word.cap(), word.in_use(), word.flags()),
                    (cap, in_use, flags)
                );
                assert_eq!(word.free(), cap.saturating_sub(in_use));
            }
        }
    }
}
