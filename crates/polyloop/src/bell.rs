//! The bell of a loop: how other threads end its sleep, and how they avoid doing so for nothing.
//!
//! The one idea: the loop *announces* its sleep, and whoever brings work *claims* the announcement. Only the one who
//! claims it pays for the system call; everybody else, and everybody while the loop is awake, pays a fence and a load.
//!
//! ```text
//!               try_sleep, no work                    ring: first to claim
//!   AWAKE ---------------------------> ASLEEP ------------------------------> RUNG --> wake()
//!     ^  ^                               |                                      |
//!     |  |  try_sleep found work after all                                      |
//!     |  +-------------------------------+                                      |
//!     +------------------ awake(), after the poll has returned -----------------+
//! ```
//!
//! The two sides run these steps, and the fences make it impossible that both look and neither sees:
//!
//! ```text
//!   producer                           loop
//!   1  push the message                1  announce: state = ASLEEP
//!   2  fence(SeqCst)                   2  fence(SeqCst)
//!   3  read the state                  3  look for messages
//! ```
//!
//! All sequentially consistent fences have one total order. If the producer's comes first, the loop's step 3 sees the
//! message and calls the sleep off. If the loop's comes first, the producer's step 3 sees the announcement (or something
//! later in the state's history) and claims it. The state itself may therefore be relaxed: it carries no data, and
//! the queue orders its own contents.
//!
//! The announcement stands until the poll has *returned*. Taking it back just before the system call, because "we are
//! running until we block", leaves a gap in which a producer believes the loop is awake while it goes to sleep; HAProxy
//! once lost wake-ups that way. The price of the safe order is a wake-up that arrives when the loop has already been
//! roused by something else, at most one for each announced sleep. The waker must keep such a wake-up until the next
//! poll (an eventfd does), and a poll that it ends must be harmless.
//!
//! Deliberately absent: a lock, a wake-up per message, a clock, and any knowledge of what the work is. The model at the
//! end walks all interleavings of two producers and a loop.

use std::fmt;
use std::io;

use crossbeam_utils::CachePadded;

use crate::sync::{Arc, AtomicU32, Ordering, Tally, fence};

/// The loop is running, or has not yet said that it will stop.
const AWAKE: u32 = 0;
/// The loop has announced its sleep and nobody has claimed the announcement.
const ASLEEP: u32 = 1;
/// Somebody has claimed the announcement and sends, or has sent, the wake-up for it.
const RUNG: u32 = 2;

/// Ends the poll a loop sleeps in.
pub trait Wake: Send + Sync + 'static {
    /// Makes the loop's current poll return, or its next one if it is not in a poll; never lost, may be early.
    ///
    /// # Errors
    ///
    /// Whatever the system call reports. [`Bell::ring`] counts it and lets the next producer try again.
    fn wake(&self) -> io::Result<()>;
}

/// The sleep and wake protocol between one loop and everybody who brings it work. See the module text.
///
/// [`try_sleep`](Self::try_sleep) and [`awake`](Self::awake) belong to the loop alone; [`ring`](Self::ring) is for
/// everybody, the loop itself included (it finds itself awake and does nothing).
pub struct Bell {
    /// Written by the loop twice a sleep and by one producer once a sleep, read by each producer for each message: a
    /// cache line of its own, so that the traffic is no more than that.
    state: CachePadded<AtomicU32>,
    /// Behind a pointer because the driver decides what it is. It is called once a sleep, next to a system call.
    waker: Arc<dyn Wake>,
    sent: Tally,
    failed: Tally,
}

impl Bell {
    /// A bell for a loop that is awake and whose polls `waker` ends.
    pub fn new(waker: Arc<dyn Wake>) -> Self {
        Self {
            state: CachePadded::new(AtomicU32::new(AWAKE)),
            waker,
            sent: Tally::default(),
            failed: Tally::default(),
        }
    }

    /// The loop asks whether it may block; `has_work` says whether anything that producers ring for is waiting.
    ///
    /// `true`: nothing is waiting and the sleep is announced. Poll with a timeout, then call [`awake`](Self::awake);
    /// anything pushed from now on is accompanied by a wake-up. `false`: there is work and no announcement stands;
    /// poll with timeout zero. Everything a producer rings for must be looked at by `has_work`: what it omits can be
    /// slept on.
    #[must_use]
    pub fn try_sleep(&self, has_work: impl FnOnce() -> bool) -> bool {
        self.state.store(ASLEEP, Ordering::Relaxed);
        // Pairs with the fence in `ring`: see the two columns in the module text.
        fence(Ordering::SeqCst);
        if has_work() {
            // This may overwrite RUNG. Then a wake-up is under way for a sleep that does not happen, and ends the
            // next poll early: the one spurious wake-up that the protocol allows.
            self.awake();
            return false;
        }
        true
    }

    /// The loop says that its poll has returned. Until the next [`try_sleep`](Self::try_sleep), ringing is free.
    ///
    /// Nothing can be lost between this store and the next look at the queues, because the next sleep looks again
    /// after its fence.
    pub fn awake(&self) {
        self.state.store(AWAKE, Ordering::Relaxed);
    }

    /// Tells the loop that work was pushed. Call it after the push, never before.
    ///
    /// Sends at most one wake-up for each announced sleep, whoever rings how often. It never blocks. When the
    /// wake-up fails the announcement is put back, so that the next one to ring tries again, and the failure is
    /// counted: no producer could do anything about it, and the loop's poll timeout is the net below.
    pub fn ring(&self) {
        // Pairs with the fence in `try_sleep`.
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) != ASLEEP || !self.change(ASLEEP, RUNG) {
            return;
        }
        match self.waker.wake() {
            Ok(()) => self.sent.add(1),
            Err(_) => {
                self.failed.add(1);
                self.change(RUNG, ASLEEP);
            }
        }
    }

    /// Wake-ups sent since the start.
    pub fn sent(&self) -> u64 {
        self.sent.read()
    }

    /// Wake-ups that the system refused since the start.
    pub fn failed(&self) -> u64 {
        self.failed.read()
    }

    fn change(&self, from: u32, to: u32) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell")
            .field("sent", &self.sent())
            .field("failed", &self.failed())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64};

    use super::*;

    #[derive(Default)]
    struct Counting {
        wakes: AtomicU64,
        broken: AtomicBool,
    }

    impl Wake for Counting {
        fn wake(&self) -> io::Result<()> {
            self.wakes.fetch_add(1, Ordering::Relaxed);
            if self.broken.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Other.into());
            }
            Ok(())
        }
    }

    fn counting() -> (Arc<Counting>, Bell) {
        let waker = Arc::new(Counting::default());
        (Arc::clone(&waker), Bell::new(waker))
    }

    #[test]
    fn one_wake_per_sleep() {
        // Goal: a burst costs one wake-up, a busy loop none. Method: ring in each state and count the waker's calls.
        let (waker, bell) = counting();
        bell.ring();
        assert_eq!(waker.wakes.load(Ordering::Relaxed), 0, "awake: no call");
        for sleeps in 1..=3 {
            assert!(bell.try_sleep(|| false));
            for _ in 0..5 {
                bell.ring();
            }
            assert_eq!(waker.wakes.load(Ordering::Relaxed), sleeps);
            bell.awake();
            bell.ring();
            assert_eq!(waker.wakes.load(Ordering::Relaxed), sleeps);
        }
        assert_eq!((bell.sent(), bell.failed()), (3, 0));
    }

    #[test]
    fn work_calls_the_sleep_off() {
        // Goal: work found after the announcement cancels it. Method: let the re-check itself ring, as a producer would.
        let (waker, bell) = counting();
        assert!(!bell.try_sleep(|| true));
        bell.ring();
        assert_eq!(waker.wakes.load(Ordering::Relaxed), 0);
        assert!(!bell.try_sleep(|| {
            bell.ring();
            true
        }));
        bell.ring();
        assert_eq!(
            waker.wakes.load(Ordering::Relaxed),
            1,
            "one for the announced sleep"
        );
    }

    #[test]
    fn a_failed_wake_is_tried_again() {
        // Goal: a refused system call does not strand the loop. Method: a broken waker, then a mended one, in one sleep.
        let (waker, bell) = counting();
        waker.broken.store(true, Ordering::Relaxed);
        assert!(bell.try_sleep(|| false));
        bell.ring();
        bell.ring();
        assert_eq!((bell.sent(), bell.failed()), (0, 2));
        waker.broken.store(false, Ordering::Relaxed);
        bell.ring();
        bell.ring();
        assert_eq!((bell.sent(), bell.failed()), (1, 2));
    }
}

#[cfg(all(test, loom))]
pub(crate) mod models {
    use std::sync::atomic::AtomicU64 as Plain;

    use loom::sync::Notify;
    use loom::sync::atomic::AtomicU64;
    use loom::thread;

    use super::*;

    /// A poll with an eventfd in it: a wake-up is kept until a wait takes it. A wait that nobody ends is a dead lock,
    /// which the checker reports: that is how a lost wake-up shows. It also tries returning early once, as a poll does
    /// when a socket becomes ready.
    #[derive(Default)]
    pub(crate) struct Poll {
        notify: Notify,
        wakes: Plain,
    }

    impl Poll {
        pub(crate) fn wait(&self) {
            self.notify.wait();
        }

        pub(crate) fn wakes(&self) -> u64 {
            self.wakes.load(Ordering::Relaxed)
        }
    }

    impl Wake for Poll {
        fn wake(&self) -> io::Result<()> {
            self.wakes.fetch_add(1, Ordering::Relaxed);
            self.notify.notify();
            Ok(())
        }
    }

    #[test]
    fn nothing_is_lost_and_no_sleep_is_ended_twice() {
        // Goal: the loop hears of each message; wakes never outnumber announced sleeps. Method: two producers whose
        // messages are relaxed stores, the weakest queue there can be, so that only the bell's fences order anything.
        loom::model(|| {
            let poll = Arc::new(Poll::default());
            let bell = Arc::new(Bell::new(poll.clone()));
            let boxes: [Arc<AtomicU64>; 2] = Default::default();
            let producers = boxes.clone().map(|letter| {
                let bell = Arc::clone(&bell);
                thread::spawn(move || {
                    letter.store(1, Ordering::Relaxed);
                    bell.ring();
                })
            });

            let unread = |read: &[bool; 2]| -> [bool; 2] {
                std::array::from_fn(|i| !read[i] && boxes[i].load(Ordering::Relaxed) == 1)
            };
            let mut read = [false; 2];
            let mut announced = 0;
            while read != [true; 2] {
                announced += 1;
                if bell.try_sleep(|| unread(&read) != [false; 2]) {
                    poll.wait();
                    bell.awake();
                }
                let new = unread(&read);
                read = std::array::from_fn(|i| read[i] || new[i]);
            }
            for producer in producers {
                producer.join().unwrap();
            }
            assert!(poll.wakes() <= announced);
        });
    }
}
