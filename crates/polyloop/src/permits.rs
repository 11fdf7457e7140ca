//! Connection permits of the whole process, and the way back for loops that found none.
//!
//! The one idea: everything that decides lives in *one* word, changed only by read-modify-write operations, which happen in
//! one order that all threads agree on. So "is there room", "is somebody waiting" and "may they go on" can never be
//! read from two different moments.
//!
//! ```text
//!    63        33 32         2     1         0
//!   +------------+------------+---------+---------+
//!   |    cap     |   in use   |   any   | resume  |
//!   +------------+------------+---------+---------+
//! ```
//!
//! * A loop takes permits at accept: one compare-and-swap, so the cap is never exceeded, not even for a moment.
//! * A connection gives them back when it is closed: one subtraction, whose old value says whether somebody waits. Nobody
//!   waits: nothing else is touched.
//! * A loop that was refused calls [`Permits::wait`], which sets `resume` in the word. The closing that brings the use down to
//!   the resume mark (90 % of the cap) rings the bells of the loops that wait. The gap keeps a full server from
//!   switching its listeners off and on for each connection.
//! * A loop that the *system* refused (no descriptors, no memory) calls [`Permits::wait_any`], which sets `any`: the very next
//!   closing rings.
//!
//! Why nothing is lost: the waiting loop's `fetch_or` and the closing's `fetch_sub` are ordered. Either the closing comes
//! second and sees the flag, or the waiting comes second and sees the lower count, and is told to try again at once. A flag
//! that stays up with nobody behind it costs the next closing one look at the seats, and no more.
//!
//! Deliberately absent: a lock, a clock (the safety-net timer is the loop's), fairness between waiting loops (all are
//! rung; who comes first takes the room, the others wait again), a guard value (a permit travels with a session from loop to
//! loop and is counted in the end checks).
//!
//! Order of the caller: close the descriptor first, give the permit back second, so that a loop that is rung finds
//! the descriptor free.

use std::fmt;

use crossbeam_utils::CachePadded;
use polyloop_core::admission::resume_at;

use crate::bell::Bell;
use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering, Tally};

/// The process-wide count of connections, in permits. See the module text.
///
/// A loop is named by its index in the bells given to [`Permits::new`]; methods that take one panic when it is out of range.
pub struct Permits {
    /// Contended by design: each accept and each close of each loop changes it once.
    word: CachePadded<AtomicU64>,
    cost_max: u64,
    seats: Box<[CachePadded<Seat>]>,
    resumed: Tally,
    /// Before this, on the loops' clock, nobody says again that the system refuses.
    told_until_ns: AtomicU64,
}

/// Loops that the system refuses say so once a second, all together.
const TOLD_EVERY_NS: u64 = 1_000_000_000;

/// What a loop that asked to wait has to do now.
#[must_use = "a loop that is told to try again and does not is not woken either"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The loop is on the list: stop accepting, its bell will be rung and [`Permits::take_resume`] will say so.
    Armed,
    /// There is room by now and the loop is not on the list: try again at once.
    TryAgain,
}

impl Permits {
    /// The largest cap the word has room for. More descriptors than an `i32` can number cannot be open in one table.
    pub const CAP_MAX: u64 = (1 << 31) - 1;

    /// `cap` permits (at most [`CAP_MAX`](Self::CAP_MAX), silently lowered to it), for loops whose `bells` come in the
    /// order of their indices.
    ///
    /// `cost_max` is the most that one connection takes at once. A waiting loop is told to resume only when that much is
    /// free, because one that resumes and is refused again at once would turn in a circle.
    ///
    /// # Panics
    ///
    /// If `cost_max` is zero.
    pub fn new(cap: u64, cost_max: u64, bells: Vec<Arc<Bell>>) -> Self {
        assert!(cost_max > 0, "a connection costs something");
        let word = Word::new(cap.min(Self::CAP_MAX));
        let seats = bells
            .into_iter()
            .map(|bell| {
                CachePadded::new(Seat {
                    state: AtomicU32::new(0),
                    bell,
                })
            })
            .collect();
        Self {
            word: CachePadded::new(AtomicU64::new(word.0)),
            cost_max,
            seats,
            resumed: Tally::default(),
            told_until_ns: AtomicU64::new(0),
        }
    }

    /// Whether a loop that the system refuses, or that is at the cap, may say so now: one of them, once a second.
    pub fn may_tell(&self, now_ns: u64) -> bool {
        let until_ns = self.told_until_ns.load(Ordering::Relaxed);
        let next_ns = now_ns.saturating_add(TOLD_EVERY_NS);
        // Who loses the race stays silent, as somebody else has just spoken.
        now_ns >= until_ns
            && self
                .told_until_ns
                .compare_exchange(until_ns, next_ns, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Takes `n` permits, all or none; `false` when fewer than `n` are free.
    ///
    /// Refused is not yet waiting: call [`wait`](Self::wait).
    #[must_use]
    pub fn try_acquire(&self, n: u64) -> bool {
        // The load may be stale. That is harmless: a swap from a stale value fails, and a refusal on one is looked at
        // again by `wait`, which reads the newest.
        let mut word = Word(self.word.load(Ordering::Relaxed));
        loop {
            if word.free() < n {
                return false;
            }
            let taken = word.0 + (n << IN_USE_SHIFT);
            match self.word.compare_exchange_weak(
                word.0,
                taken,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(newer) => word = Word(newer),
            }
        }
    }

    /// Gives `n` permits back and rings the loops for which that makes a difference.
    ///
    /// # Panics
    ///
    /// If more is given back than was taken: a connection was counted twice, which is a bug of ours.
    pub fn release(&self, n: u64) {
        self.give_back(n, ANY);
    }

    /// Gives back `n` permits that were never used: nothing was closed, so nobody who waits for descriptors has reason to
    /// try again. Starved loops that each took a permit, failed, and rang the others would keep each other awake for ever.
    ///
    /// # Panics
    ///
    /// As [`release`](Self::release).
    pub fn put_back(&self, n: u64) {
        self.give_back(n, 0);
    }

    fn give_back(&self, n: u64, rung: u64) {
        let before = Word(self.word.fetch_sub(n << IN_USE_SHIFT, Ordering::AcqRel));
        assert!(
            before.in_use() >= n,
            "more permits given back than were taken"
        );
        let now = Word(before.0 - (n << IN_USE_SHIFT));
        if now.flags() != 0 {
            self.settle(now, now.flags() & rung);
        }
    }

    /// Puts the loop on the list of those to ring once the use is down to the resume mark.
    ///
    /// With a cap below `cost_max` nothing can be admitted, and the loop waits until [`set_cap`](Self::set_cap) raises it.
    pub fn wait(&self, loop_index: usize) -> Wait {
        let seat = &self.seats[loop_index];
        // The seat first, the flag second: who takes the flag down must find the seat. The release below publishes it.
        seat.state.fetch_or(RESUME as u32, Ordering::Relaxed);
        let word = Word(self.word.fetch_or(RESUME, Ordering::AcqRel));
        if word.may_resume(self.cost_max) {
            self.stop_waiting(loop_index);
            return Wait::TryAgain;
        }
        Wait::Armed
    }

    /// Puts the loop on the list of those to ring at the next [`release`](Self::release) of anything.
    ///
    /// What the loop saw happened before this call, so a closing in between is not noticed here: make one more attempt after
    /// this call, and [`stop_waiting`](Self::stop_waiting) when it succeeds. Descriptors also become free where no permit
    /// is involved, hence a timer beneath.
    pub fn wait_any(&self, loop_index: usize) {
        let seat = &self.seats[loop_index];
        seat.state.fetch_or(ANY as u32, Ordering::Relaxed);
        self.word.fetch_or(ANY, Ordering::AcqRel);
    }

    /// Takes the loop off both lists, and forgets a resume it was told of and has not taken.
    pub fn stop_waiting(&self, loop_index: usize) {
        // The flags in the word stay: another loop may stand behind them, and nobody costs one look at the seats.
        self.seats[loop_index].state.swap(0, Ordering::AcqRel);
    }

    /// Whether a resume waits for this loop: part of what [`Bell::try_sleep`] has to be told.
    pub fn has_resume(&self, loop_index: usize) -> bool {
        self.seats[loop_index].state.load(Ordering::Relaxed) & RESUMED != 0
    }

    /// Whether the loop was rung because permits or descriptors came back; `true` once for each time it waited.
    ///
    /// It says that trying is worth while, not that it will succeed: others were rung as well.
    pub fn take_resume(&self, loop_index: usize) -> bool {
        // Looked at once a turn, and nearly always in vain: do not pay for the swap then.
        self.has_resume(loop_index)
            && self.seats[loop_index]
                .state
                .fetch_and(!RESUMED, Ordering::AcqRel)
                & RESUMED
                != 0
    }

    /// Changes the cap (at most [`CAP_MAX`](Self::CAP_MAX), silently lowered to it) and rings waiting loops if that makes room.
    ///
    /// A cap below the use is allowed: what is open stays open, and nothing is admitted until enough of it has closed.
    pub fn set_cap(&self, cap: u64) {
        let cap = cap.min(Self::CAP_MAX);
        let mut word = Word(self.word.load(Ordering::Relaxed));
        loop {
            let changed = word.with_cap(cap);
            match self.word.compare_exchange_weak(
                word.0,
                changed.0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return self.settle(changed, 0),
                Err(newer) => word = Word(newer),
            }
        }
    }

    /// Permits taken and not given back.
    pub fn in_use(&self) -> u64 {
        Word(self.word.load(Ordering::Relaxed)).in_use()
    }

    /// The most that may be in use.
    pub fn cap(&self) -> u64 {
        Word(self.word.load(Ordering::Relaxed)).cap()
    }

    /// How often a waiting loop was told to try again, over all loops since the start.
    pub fn resumed(&self) -> u64 {
        self.resumed.read()
    }

    /// Rings the loops behind the flags that are due in `word`: those in `due`, and `resume` when the mark is reached.
    fn settle(&self, word: Word, due: u64) {
        let mut due = due;
        if word.flags() & RESUME != 0 && word.may_resume(self.cost_max) {
            due |= RESUME;
        }
        if due == 0 {
            return;
        }
        // Down with the flags first, then the seats. A loop that arms itself after this sets its flag again and is found by
        // the next one; a loop that armed itself before has published its seat, and this acquires it. Of several closings
        // at once, the one that finds a flag up looks at the seats behind it.
        let due = self.word.fetch_and(!due, Ordering::AcqRel) & due;
        if due == 0 {
            return;
        }
        for seat in &self.seats {
            // Each wait is answered once: the exchange takes the loop off both lists.
            let told = seat
                .state
                .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |state| {
                    (state & due as u32 != 0).then_some(RESUMED)
                });
            if told.is_ok() {
                self.resumed.add(1);
                seat.bell.ring();
            }
        }
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits")
            .field("in_use", &self.in_use())
            .field("cap", &self.cap())
            .finish_non_exhaustive()
    }
}

/// Where a loop waits. Its state holds the flags it waits for, in the bits they have in the word, and [`RESUMED`].
struct Seat {
    state: AtomicU32,
    bell: Arc<Bell>,
}

/// One reading of the word; the layout is in the module text.
#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    fn new(cap: u64) -> Self {
        Self(cap << CAP_SHIFT)
    }

    fn cap(self) -> u64 {
        self.0 >> CAP_SHIFT
    }

    fn in_use(self) -> u64 {
        self.0 >> IN_USE_SHIFT & Permits::CAP_MAX
    }

    fn flags(self) -> u64 {
        self.0 & (RESUME | ANY)
    }

    fn free(self) -> u64 {
        // The use may be above a cap that was lowered.
        self.cap().saturating_sub(self.in_use())
    }

    fn with_cap(self, cap: u64) -> Self {
        Self(self.0 & !(Permits::CAP_MAX << CAP_SHIFT) | cap << CAP_SHIFT)
    }

    fn may_resume(self, cost_max: u64) -> bool {
        // Room first: a cap of zero has no resume mark, and no room either.
        self.free() >= cost_max && self.in_use() <= resume_at(self.cap())
    }
}

const RESUME: u64 = 1;
const ANY: u64 = 1 << 1;
const RESUMED: u32 = 1 << 2;
const IN_USE_SHIFT: u32 = 2;
const CAP_SHIFT: u32 = 33;

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod models;
