//! Permits under every interleaving of a loop and one or two closers: run with `--cfg loom`.

use loom::thread;

use super::*;
use crate::bell::models::Poll;

struct World {
    permits: Permits,
    bell: Arc<Bell>,
    poll: Arc<Poll>,
}

/// One loop, `cap` permits, all taken.
fn full(cap: u64) -> Arc<World> {
    let poll = Arc::new(Poll::default());
    let bell = Arc::new(Bell::new(poll.clone()));
    let permits = Permits::new(cap, 1, vec![Arc::clone(&bell)]);
    assert!(permits.try_acquire(cap));
    Arc::new(World {
        permits,
        bell,
        poll,
    })
}

impl World {
    /// What a loop does to get a permit: try, get on the list, look again, sleep. Lost resumes are dead locks, which
    /// the checker reports. Returns how many sleeps were announced.
    fn acquire_as_the_loop(&self) -> u64 {
        let mut announced = 0;
        while !self.permits.try_acquire(1) {
            if self.permits.wait(0) == Wait::TryAgain {
                continue;
            }
            while !self.permits.take_resume(0) {
                announced += 1;
                if self.bell.try_sleep(|| self.permits.has_resume(0)) {
                    self.poll.wait();
                    self.bell.awake();
                }
            }
        }
        announced
    }
}

#[test]
fn no_resume_is_lost() {
    // Goal: a loop that found none gets one after the mark is passed, and is rung once for it. Method: cap 2, so that the
    // mark is 1: of two closings at once either may be the one that rings.
    loom::model(|| {
        let world = full(2);
        let closers = [(); 2].map(|()| {
            let world = Arc::clone(&world);
            thread::spawn(move || world.permits.release(1))
        });
        let announced = world.acquire_as_the_loop();
        for closer in closers {
            closer.join().unwrap();
        }
        assert_eq!(world.permits.in_use(), 1);
        assert!(world.permits.resumed() <= 1 && world.poll.wakes() <= announced);
    });
}

#[test]
fn the_cap_is_never_exceeded() {
    // Goal: no interleaving admits more than the cap, and both sides get through. Method: one permit, a thread that takes it
    // and gives it back, a loop that waits for it; whoever has it counts itself in and out.
    loom::model(|| {
        let world = full(1);
        world.permits.release(1);
        let inside = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let other = {
            let (world, inside) = (Arc::clone(&world), Arc::clone(&inside));
            thread::spawn(move || {
                if world.permits.try_acquire(1) {
                    assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::Relaxed);
                    world.permits.release(1);
                }
            })
        };
        world.acquire_as_the_loop();
        assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
        thread::yield_now();
        inside.fetch_sub(1, Ordering::Relaxed);
        world.permits.release(1);
        other.join().unwrap();
        assert_eq!(world.permits.in_use(), 0);
    });
}

#[test]
fn a_raised_cap_ends_the_wait() {
    // Goal: new room counts like room that came back. Method: raise the cap while the loop gets on the list.
    loom::model(|| {
        let world = full(1);
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.permits.set_cap(10))
        };
        world.acquire_as_the_loop();
        other.join().unwrap();
        assert_eq!((world.permits.in_use(), world.permits.cap()), (2, 10));
    });
}

#[test]
fn a_raised_cap_and_a_closing_at_once_end_the_wait() {
    // Goal: neither leaves the ringing to the other. Method: cap 3 all taken; to resume takes a closing (2 of 3 is the mark)
    // or the new cap, and both happen at once.
    loom::model(|| {
        let world = full(3);
        let raiser = Arc::clone(&world);
        let closer = Arc::clone(&world);
        let raiser = thread::spawn(move || raiser.permits.set_cap(4));
        let closer = thread::spawn(move || closer.permits.release(1));
        world.acquire_as_the_loop();
        raiser.join().unwrap();
        closer.join().unwrap();
        assert_eq!(world.permits.in_use(), 3);
    });
}

#[test]
fn closings_free_a_loop_without_descriptors() {
    // Goal: arm, then one more attempt, then sleep: a descriptor that comes free at any moment is noticed, also one that
    // comes free while the one before is being told. Method: descriptors are a count that two closers raise, relaxed,
    // before they give their permits back; the loop wants both.
    loom::model(|| {
        let world = full(2);
        let free = Arc::new(loom::sync::atomic::AtomicU64::new(0));
        let closers = [(); 2].map(|()| {
            let (world, free) = (Arc::clone(&world), Arc::clone(&free));
            thread::spawn(move || {
                free.fetch_add(1, Ordering::Relaxed);
                world.permits.release(1);
            })
        });
        for wanted in 1..=2 {
            while free.load(Ordering::Relaxed) < wanted {
                world.permits.wait_any(0);
                if free.load(Ordering::Relaxed) >= wanted {
                    world.permits.stop_waiting(0);
                    break;
                }
                while !world.permits.take_resume(0) {
                    if world.bell.try_sleep(|| world.permits.has_resume(0)) {
                        world.poll.wait();
                        world.bell.awake();
                    }
                }
            }
        }
        for closer in closers {
            closer.join().unwrap();
        }
        assert!(world.permits.resumed() <= 2);
    });
}
