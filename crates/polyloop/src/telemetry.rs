//! What a loop publishes, and what anyone may read.
//!
//! Each loop has a [`LoopBoard`]: counters that only the loop writes (a relaxed load and store, no locked
//! instruction) and anyone reads. Nothing is aggregated while events are handled; whoever asks does the sum. The
//! beat at its head is what the watchdog reads: turn, phase and token, no clock.

use crate::close::CloseReason;
use crate::hist::AtomicHistogram;
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Only the owning loop calls it: two writers would lose counts.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0
            .store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// Replaces the value, for gauges.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The value as last written.
    #[must_use]
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The phases of a turn, in order. The names are the same in code, documentation and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Waiting for the driver.
    Poll = 0,
    /// Signals, drain, stop.
    Control = 1,
    /// Handed-over sockets, messages, finished jobs.
    Inbox = 2,
    /// Deadlines that are due.
    Timers = 3,
    /// Sockets with work.
    Ready = 4,
    /// New connections.
    Accept = 5,
    /// What handlers produced in the inbox and timers phases.
    Flush = 6,
}

impl Phase {
    /// All phases, in the order of a turn.
    pub const ALL: [Self; 7] = [
        Self::Poll,
        Self::Control,
        Self::Inbox,
        Self::Timers,
        Self::Ready,
        Self::Accept,
        Self::Flush,
    ];

    /// The name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Control => "control",
            Self::Inbox => "inbox",
            Self::Timers => "timers",
            Self::Ready => "ready",
            Self::Accept => "accept",
            Self::Flush => "flush",
        }
    }

    /// The phase published under this number.
    #[must_use]
    pub fn from_index(index: u8) -> Self {
        Self::ALL
            .get(usize::from(index))
            .copied()
            .unwrap_or(Self::Poll)
    }
}

/// Which callback of a handler is running, for stall reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Callback {
    /// None; the loop's own work.
    None = 0,
    /// `Factory::make` and `on_open`.
    Open = 1,
    /// `on_data` and `on_batch_end`.
    Data = 2,
    /// `on_finished`.
    Finished = 3,
    /// `on_writable`.
    Writable = 4,
    /// `on_timer`.
    Timer = 5,
    /// `on_message`.
    Message = 6,
    /// `on_offload`.
    Offload = 7,
    /// `on_connected`.
    Connect = 8,
    /// `on_drain` and `on_signal`.
    Control = 9,
    /// `on_close`.
    Close = 10,
    /// `on_connect_failed`.
    ConnectFailed = 11,
    /// `on_alarm`.
    Alarm = 12,
}

impl Callback {
    const NAMES: [&'static str; 13] = [
        "-",
        "on_open",
        "on_data",
        "on_finished",
        "on_writable",
        "on_timer",
        "on_message",
        "on_offload",
        "on_connected",
        "on_drain",
        "on_close",
        "on_connect_failed",
        "on_alarm",
    ];

    /// The name of the callback with this number.
    #[must_use]
    pub fn name_of(index: u8) -> &'static str {
        Self::NAMES.get(usize::from(index)).copied().unwrap_or("-")
    }
}

/// What a loop is doing, as plain stores without a clock; the watchdog brings the clock.
#[derive(Debug, Default)]
pub struct Beat {
    turn: AtomicU64,
    token: AtomicU64,
    phase: AtomicU8,
    callback: AtomicU8,
    name_index: AtomicU8,
}

/// One reading of a [`Beat`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeatSample {
    /// Turns begun.
    pub turn: u64,
    /// The phase of the turn.
    pub phase: Phase,
    /// The token of the session that is being served, or was last.
    pub token: u64,
    /// The callback that is running, by [`Callback::name_of`]; 0 is none.
    pub callback: u8,
    /// The handler's index in its names.
    pub name_index: u8,
}

impl Beat {
    /// A new turn begins.
    #[inline]
    pub fn turn(&self) {
        self.turn
            .store(self.turn.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// A phase begins.
    #[inline]
    pub fn phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    /// A callback begins.
    #[inline]
    pub fn enter(&self, token: u64, name_index: usize, callback: Callback) {
        self.token.store(token, Relaxed);
        self.name_index.store(name_index as u8, Relaxed);
        self.callback.store(callback as u8, Relaxed);
    }

    /// The callback has returned.
    #[inline]
    pub fn leave(&self) {
        self.callback.store(Callback::None as u8, Relaxed);
    }

    /// What it says now. The fields are read one by one; a reader that needs them to belong together reads twice.
    #[must_use]
    pub fn sample(&self) -> BeatSample {
        BeatSample {
            turn: self.turn.load(Relaxed),
            phase: Phase::from_index(self.phase.load(Relaxed)),
            token: self.token.load(Relaxed),
            callback: self.callback.load(Relaxed),
            name_index: self.name_index.load(Relaxed),
        }
    }
}

/// Whether a number only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows; Prometheus names end in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// Declares the plain numbers of a board once: field, kind and help text.
macro_rules! numbers {
    ($($(#[$kind:ident])? $name:ident: $help:literal,)*) => {
        /// The plain numbers that a loop publishes. Only the loop writes them.
        #[derive(Debug, Default)]
        pub struct Numbers {
            $(#[doc = $help] pub $name: Counter,)*
        }

        impl Numbers {
            /// Every number: name without prefix, kind, help, value.
            pub fn each(&self, mut tell: impl FnMut(&'static str, Kind, &'static str, u64)) {
                $(tell(stringify!($name), numbers!(@kind $($kind)?), $help, self.$name.value());)*
            }
        }
    };
    (@kind) => { Kind::Counter };
    (@kind gauge) => { Kind::Gauge };
}

numbers! {
    turns: "Turns of the loop.",
    polls_slept: "Polls that were allowed to sleep.",
    events: "Events taken from polls.",
    busy_ns: "Nanoseconds from the end of a poll to the end of its turn.",
    slept_ns: "Nanoseconds in polls.",
    accepted: "Connections taken from a listener, by this loop.",
    accepted_rescued: "Of those, taken from the listener of a loop that was stuck.",
    handed_out: "Connections given to another loop.",
    adopted: "Connections taken on from another loop.",
    hand_over_refused: "Hand-overs that found the other loop's inbox full, and stayed here.",
    refused: "Connections closed at once because the cap was reached.",
    evicted: "Connections closed to make room for another.",
    accept_errors: "Accepts that failed, other than for lack of resources.",
    accept_exhausted: "Accepts that failed for lack of resources (EMFILE, ENFILE, ENOBUFS, ENOMEM).",
    accept_paused: "Times the listeners were paused.",
    accept_paused_by_memory: "Of those, times because memory was nearly used up.",
    accept_resumed_by_memory: "Times they were resumed because there was memory again.",
    accept_resumed_by_release: "Times they were resumed because a connection of ours closed.",
    accept_resumed_by_timer: "Times they were resumed by the safety timer.",
    #[gauge] live: "Connections that live on this loop.",
    #[gauge] paused: "1 while the loop does not accept.",
    opened: "Sessions opened.",
    bytes_in: "Bytes read.",
    bytes_out: "Bytes written.",
    bytes_spliced: "Of those read, bytes moved from socket to socket without being copied.",
    reads: "Read system calls.",
    writes: "Write system calls.",
    writes_short: "Writes that the kernel took only in part, or not at all.",
    reads_held: "Times a socket's reading stopped because its output was full.",
    #[gauge] kept_bytes: "Bytes kept because they could not be written, or were left by a handler.",
    #[gauge] kept_blocks: "Blocks of 4 KiB in use for them.",
    #[gauge] pipes: "Pipes open for splicing.",
    pipes_refused: "Times no pipe was to be had, and bytes were copied instead.",
    #[gauge] timers: "Timers armed.",
    timers_fired: "Timers and alarms fired, idle deadlines among them.",
    messages: "Messages delivered to handlers.",
    messages_stale: "Messages for a connection that was gone.",
    messages_refused: "Messages to this loop that came back to their senders because its inbox was full.",
    offloaded: "Jobs given to a pool.",
    offload_refused: "Jobs that a full pool refused.",
    offload_done: "Results delivered to handlers.",
    offload_stale: "Results for a connection that was gone.",
    #[gauge] offload_pending: "Jobs given away whose result has not come back.",
    wakeups: "Times the loop was woken from outside.",
    events_stale: "Events for a connection that was gone.",
    events_held: "Events for a socket that is not being read, because of a pause or a full output.",
    turns_idle: "Turns that slept, woke and changed nothing.",
    handler_panics: "Panics of handlers; each closed one connection.",
    budget_poll: "Polls that returned as many events as allowed.",
    budget_control: "Turns in which sessions that are to be told of a drain were left for the next.",
    budget_inbox: "Turns in which one kind of the inbox phase used up its budget.",
    budget_timers: "Turns in which the timers phase used up its budget.",
    budget_bytes: "Connections that used up their bytes of a turn.",
    budget_quota: "Turns in which the ready phase used up its time.",
    budget_accept: "Turns in which the accept phase used up its burst.",
    budget_flush: "Flushes that used up their writes of a turn.",
    #[gauge] turn_ns_max: "The longest turn so far, in nanoseconds.",
    stalls: "Times the watchdog found the loop stuck.",
}

/// Everything one loop publishes.
#[derive(Debug)]
pub struct LoopBoard {
    /// What the loop is doing now.
    pub beat: CachePadded<Beat>,
    /// Handed over to this loop and not yet adopted: the one number that others write.
    pub charged: CachePadded<AtomicI64>,
    /// Whether the watchdog holds the loop to be stuck; givers then pass it over.
    pub stuck: AtomicU8,
    /// Thread id, 0 until the loop runs.
    pub thread_id: AtomicU32,
    /// The core it is pinned to, or `u32::MAX`.
    pub core: AtomicU32,
    /// Counters and gauges.
    pub numbers: Box<Numbers>,
    /// Closed sessions by [`CloseReason::index`].
    pub closes: [Counter; CloseReason::COUNT],
    /// Nanoseconds of a whole turn without its poll.
    pub turn_time: AtomicHistogram,
    /// Nanoseconds of one dispatch, one in 64.
    pub handler_time: AtomicHistogram,
    /// Nanoseconds from hand-over or sending to taking, of sockets and messages.
    pub inbox_wait: AtomicHistogram,
    /// Events per poll.
    pub poll_events: AtomicHistogram,
}

impl LoopBoard {
    /// A board with everything at zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            beat: CachePadded::default(),
            charged: CachePadded::default(),
            stuck: AtomicU8::new(0),
            thread_id: AtomicU32::new(0),
            core: AtomicU32::new(u32::MAX),
            numbers: Box::default(),
            closes: [const { Counter(AtomicU64::new(0)) }; CloseReason::COUNT],
            turn_time: AtomicHistogram::new(),
            handler_time: AtomicHistogram::new(),
            inbox_wait: AtomicHistogram::new(),
            poll_events: AtomicHistogram::new(),
        }
    }

    /// Live connections plus those on their way: what spreading compares.
    #[must_use]
    pub fn load(&self) -> u64 {
        self.numbers
            .live
            .value()
            .saturating_add_signed(self.charged.load(Relaxed))
    }

    /// Whether the watchdog holds the loop to be stuck.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.stuck.load(Relaxed) != 0
    }
}

impl Default for LoopBoard {
    fn default() -> Self {
        Self::new()
    }
}
