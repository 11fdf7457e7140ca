//! Whether a loop accepts, and how many connections there may be at all.
//!
//! One idea: a listener that cannot be served is taken out of the poll, and put back *because something of ours was
//! released*. An edge-triggered listener that merely stops is stranded until the next SYN; one that keeps trying burns
//! a core. Putting it back makes the kernel tell again that the backlog is not empty, with no new SYN.
//!
//! ```text
//!                handle_full                      handle_exhausted
//!   Full  <----------------------------  Open  ----------------------------> Starved (safety timer)
//!     |   ---------------------------->        <----------------------------    |
//!     |    released, in_use <= resume_at         released, or the timer         |
//!     +--------------------------- handle_drain, from anywhere ----------------+--> Draining (for good)
//! ```
//!
//! *Overloaded* lies over all of them but the last: `handle_overload` leads there from anywhere, nothing that is released
//! leads out, and `handle_relief` back to Open, where the next accept finds out about permits and descriptors anew.
//!
//! * *Full* is our own limit. Every release is known to us, so there is no timer and a full server at rest does not wake.
//! * *Starved* is the system's limit. Another process may free what is missing and nobody tells us, hence the timer.
//! * *Overloaded* is memory's limit ([`overload`](crate::overload)). Who watches it tells of its end, so there is no timer either.
//!
//! Deliberately absent: the listener, the poll, the timer wheel and the counting of permits. Times are nanoseconds of
//! one monotonic clock.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

#[cfg(test)]
mod tests;

/// How long a starved loop waits before it tries again unasked: 100 ms. Ten attempts a second cost nothing to speak
/// of, and nobody waits much longer in the backlog than for one lost packet.
pub const SAFETY_TIMER_NS: u64 = 100_000_000;

/// What the loop does with its listeners and its safety timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// Accepting goes on as it was: change nothing.
    StayOpen,
    /// Put the listeners back into the poll, disarm the safety timer, and accept without waiting for an edge.
    Resume,
    /// Not accepting goes on as it was: change nothing, the timer included.
    StayPaused,
    /// Take the listeners out of the poll if they are in it. Doing so twice must be harmless.
    Pause {
        /// When to call [`Admission::handle_timer`], in nanoseconds; `None` disarms the timer.
        retry_at: Option<u64>,
    },
}

/// The accept gate of one loop.
///
/// Calling order: take a permit before each accept. Without one call [`handle_full`](Self::handle_full), and then, as
/// another loop may have released in between, read the count of permits once more and pass it to
/// [`handle_released`](Self::handle_released). When accept says that something ran out call
/// [`handle_exhausted`](Self::handle_exhausted). After connections of ours closed call `handle_released`, once per batch
/// will do; if permits are shared between loops, whoever brings the count down to [`resume_at`] tells the full loops.
/// Call [`handle_overload`](Self::handle_overload) and [`handle_relief`](Self::handle_relief) when the level of memory says so.
/// Carry out each [`Decision`] at once.
#[derive(Debug, Clone)]
pub struct Admission {
    state: State,
    cap: u64,
    counts: AdmissionCounts,
}

/// What the gate has done so far. For metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AdmissionCounts {
    /// Times the cap was hit.
    pub full: u64,
    /// Times the system ran out of something, repeats after a timer included.
    pub starved: u64,
    /// Times accepting went on because something of ours was released.
    pub resumed_by_release: u64,
    /// Times accepting was tried again because the safety timer fired.
    pub resumed_by_timer: u64,
    /// Times memory was nearly used up.
    pub overloaded: u64,
    /// Times accepting went on because there was memory again.
    pub resumed_by_relief: u64,
}

/// Whether a loop accepts, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It accepts.
    Open,
    /// All permits are in use.
    Full,
    /// The system ran out of descriptors or memory.
    Starved {
        /// The error number that said so.
        errno: i32,
        /// When the safety timer fires, in nanoseconds.
        retry_at: u64,
    },
    /// Memory is nearly used up.
    Overloaded,
    /// It will not accept again.
    Draining,
}

impl Admission {
    /// An open gate for at most `cap` connections.
    ///
    /// # Panics
    /// When `cap` is 0: [`Budget::compute`] never grants that.
    #[must_use]
    pub fn new(cap: u64) -> Self {
        assert!(cap > 0, "a cap of 0 admits nobody");
        Self {
            state: State::Open,
            cap,
            counts: AdmissionCounts::default(),
        }
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether the loop may accept.
    #[must_use]
    #[inline]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// What the gate has done so far.
    #[must_use]
    pub const fn counts(&self) -> AdmissionCounts {
        self.counts
    }

    /// No permit was left. A starved loop becomes a full one: its timer would only find the cap again.
    pub fn handle_full(&mut self) -> Decision {
        match self.state {
            State::Open | State::Starved { .. } => {
                self.state = State::Full;
                self.counts.full += 1;
                Decision::Pause { retry_at: None }
            }
            State::Full | State::Overloaded | State::Draining => Decision::StayPaused,
        }
    }

    /// An accept failed at `now` because something ran out ([`AcceptAction::Pause`](crate::errno::AcceptAction::Pause)).
    /// A starved loop starts its timer anew; a full one stays full, as its release tells more than a timer.
    pub fn handle_exhausted(&mut self, errno: i32, now: u64) -> Decision {
        match self.state {
            State::Open | State::Starved { .. } => {
                let retry_at = now.saturating_add(SAFETY_TIMER_NS);
                self.state = State::Starved { errno, retry_at };
                self.counts.starved += 1;
                Decision::Pause {
                    retry_at: Some(retry_at),
                }
            }
            State::Full | State::Overloaded | State::Draining => Decision::StayPaused,
        }
    }

    /// Connections of ours closed, and `in_use` permits are left in use.
    pub fn handle_released(&mut self, in_use: u64) -> Decision {
        match self.state {
            State::Open => Decision::StayOpen,
            // Full: not before there is room for a whole batch, or every close would mean one accept and two changes
            // of the poll. Starved: a descriptor is a descriptor, and it is the first that counts.
            State::Full if in_use > resume_at(self.cap) => Decision::StayPaused,
            State::Full | State::Starved { .. } => {
                self.state = State::Open;
                self.counts.resumed_by_release += 1;
                Decision::Resume
            }
            // What was released helps nobody while there is no memory.
            State::Overloaded | State::Draining => Decision::StayPaused,
        }
    }

    /// The safety timer fired at `now`. Too early a call, or one from a timer that was disarmed too late, is harmless:
    /// it arms the timer again or changes nothing.
    pub fn handle_timer(&mut self, now: u64) -> Decision {
        match self.state {
            State::Open => Decision::StayOpen,
            State::Starved { retry_at, .. } if now < retry_at => Decision::Pause {
                retry_at: Some(retry_at),
            },
            State::Starved { .. } => {
                self.state = State::Open;
                self.counts.resumed_by_timer += 1;
                Decision::Resume
            }
            State::Full | State::Overloaded | State::Draining => Decision::StayPaused,
        }
    }

    /// Memory is nearly used up ([`Level::Stop`](crate::overload::Level::Stop)): nobody is let in, whatever is free.
    pub fn handle_overload(&mut self) -> Decision {
        match self.state {
            State::Open | State::Full | State::Starved { .. } => {
                self.state = State::Overloaded;
                self.counts.overloaded += 1;
                Decision::Pause { retry_at: None }
            }
            State::Overloaded | State::Draining => Decision::StayPaused,
        }
    }

    /// There is memory again. Whether there are permits and descriptors the next accept finds out.
    pub fn handle_relief(&mut self) -> Decision {
        match self.state {
            State::Open => Decision::StayOpen,
            State::Overloaded => {
                self.state = State::Open;
                self.counts.resumed_by_relief += 1;
                Decision::Resume
            }
            State::Full | State::Starved { .. } | State::Draining => Decision::StayPaused,
        }
    }

    /// The loop drains: nothing is accepted again.
    pub fn handle_drain(&mut self) -> Decision {
        let before = std::mem::replace(&mut self.state, State::Draining);
        match before {
            State::Draining => Decision::StayPaused,
            _ => Decision::Pause { retry_at: None },
        }
    }
}

/// The count of permits in use at which a full loop accepts again: 90 % of the cap, rounded down, so always below it.
/// For caps up to 10 that is one below the cap.
///
/// # Panics
/// When `cap` is 0.
#[must_use]
pub const fn resume_at(cap: u64) -> u64 {
    assert!(cap > 0, "a cap of 0 admits nobody");
    // cap * 9 / 10 without overflow.
    cap - cap.div_ceil(10)
}

/// What happens to new connections at the cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// They wait in the kernel's backlog.
    #[default]
    Wait,
    /// They are accepted and closed at once, from the reserve of descriptors.
    Refuse,
    /// The connection that has been idle longest is closed in their favour.
    EvictIdle,
}

/// A name that is no [`WhenFull`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownWhenFull {
    /// The text as typed.
    pub text: String,
}

impl WhenFull {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Wait, Self::Refuse, Self::EvictIdle];

    /// The name on the command line and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Refuse => "refuse",
            Self::EvictIdle => "evict-idle",
        }
    }
}

impl fmt::Display for WhenFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for WhenFull {
    type Err = UnknownWhenFull;

    fn from_str(text: &str) -> Result<Self, UnknownWhenFull> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.name() == text)
            .ok_or_else(|| UnknownWhenFull {
                text: text.to_owned(),
            })
    }
}

impl fmt::Display for UnknownWhenFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no policy for a full server; write wait, refuse or evict-idle",
            self.text
        )
    }
}

impl Error for UnknownWhenFull {}

/// The descriptors there are and what they are for. `compute` makes connections of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The soft `RLIMIT_NOFILE`, after it was raised.
    pub limit_nofile: u64,
    /// Descriptors open now: polls, wakers, listeners, logs.
    pub open_now: u64,
    /// Descriptors kept back, see [`default_reserve`].
    pub reserve: u64,
    /// Descriptors that one connection needs: 1, or 2 for a proxied session, or 4 with its pipes.
    pub cost_per_connection: u64,
    /// The number of connections asked for, if any.
    pub wanted: Option<u64>,
}

/// Why there can be no such number of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdmissionError {
    /// Not even one connection fits under the limit.
    NothingLeft {
        /// What there was to divide.
        budget: Budget,
    },
    /// More connections are wanted than fit.
    TooMany {
        /// What there was to divide.
        budget: Budget,
        /// The number asked for.
        wanted: u64,
        /// The number that fits.
        cap: u64,
    },
    /// No connections are wanted.
    NoneWanted,
}

impl Budget {
    /// The number of connections: the one asked for, or all that fit: `(limit - open - reserve) / cost`.
    ///
    /// # Errors
    /// [`AdmissionError`] when none fit, fewer than wanted, or none are wanted.
    ///
    /// # Panics
    /// When `cost_per_connection` is 0.
    pub fn compute(&self) -> Result<u64, AdmissionError> {
        assert!(
            self.cost_per_connection > 0,
            "a connection costs a descriptor at least"
        );
        let taken = self.open_now.saturating_add(self.reserve);
        let cap = self.limit_nofile.saturating_sub(taken) / self.cost_per_connection;
        match self.wanted {
            Some(0) => Err(AdmissionError::NoneWanted),
            _ if cap == 0 => Err(AdmissionError::NothingLeft { budget: *self }),
            Some(wanted) if wanted > cap => Err(AdmissionError::TooMany {
                budget: *self,
                wanted,
                cap,
            }),
            Some(wanted) => Ok(wanted),
            None => Ok(cap),
        }
    }

    /// The limit that would do for `connections`.
    #[must_use]
    pub const fn limit_for(&self, connections: u64) -> u64 {
        connections
            .saturating_mul(self.cost_per_connection)
            .saturating_add(self.open_now)
            .saturating_add(self.reserve)
    }
}

/// Descriptors kept back for what is opened while serving: 32 for the process (name look-ups, the admin listener's
/// visitors, a log that is reopened, a refused connection) and 4 per loop (a spare poll and waker, a sibling's listener,
/// one socket on its way between loops).
#[must_use]
pub const fn default_reserve(loops: u64) -> u64 {
    loops.saturating_mul(4).saturating_add(32)
}

impl fmt::Display for AdmissionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |f: &mut fmt::Formatter<'_>, budget: &Budget| {
            let Budget {
                limit_nofile,
                open_now,
                reserve,
                cost_per_connection,
                ..
            } = budget;
            write!(
                f,
                "the descriptor limit (RLIMIT_NOFILE) of {limit_nofile}: {open_now} are open, {reserve} are kept \
                 in reserve, a connection costs {cost_per_connection}"
            )
        };
        match self {
            Self::NothingLeft { budget } => {
                f.write_str("no connection fits under ")?;
                told(f, budget)?;
                let need = budget.limit_for(1);
                write!(f, "; raise the limit to {need} or more (ulimit -n, LimitNOFILE=)")
            }
            Self::TooMany { budget, wanted, cap } => {
                write!(f, "{wanted} connections do not fit under ")?;
                told(f, budget)?;
                let need = budget.limit_for(*wanted);
                write!(
                    f,
                    "; ask for {cap} or fewer, or raise the limit to {need} or more (ulimit -n, LimitNOFILE=)"
                )
            }
            Self::NoneWanted => f.write_str(
                "0 connections serve nobody; ask for 1 or more, or leave the number out to have all that fit",
            ),
        }
    }
}

impl Error for AdmissionError {}
