//! A server under test, its clients, and the postcondition that every test ends with.
//!
//! The one idea: a [`Site`] is a started server that remembers what the process held before it, and
//! [`Site::end`] proves that everything came back: connections, permits, timers, kept bytes, jobs, descriptors and
//! threads, and that a loop with nothing to do does not wake. The proof reads what the loops publish and `/proc`,
//! neither of which wakes a loop.
//!
//! Nothing here sleeps for a time and hopes: [`eventually`] asks again until the answer is yes, and its deadline is
//! how long a broken server makes a test wait, not how fast a working one must be. The one fixed time is the window
//! in which a resting loop must not wake, where there is nothing to ask for but that time passes.

use polyloop::server::MakeFactory;
use polyloop::telemetry::{Numbers, Phase};
use polyloop::{
    AcceptMode, Accepted, CloseReason, Ctx, Ended, Handler, Input, Running, Server, ServerSettings,
    Status, Verdict,
};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// How long a test waits for something that must happen before it is called broken. Far above what a loaded machine
/// needs, since nothing is measured with it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Asks until the answer is yes.
///
/// # Panics
/// When it is still no at the deadline.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in {DEADLINE:?}: {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Takes the process for one test: descriptors and threads are counted, and cannot be told apart by test.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that failed must not fail the others.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a process holds and a server must give back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holdings {
    descriptors: usize,
    /// Threads of polyloop's, by name; the test harness makes threads of its own.
    threads: Vec<String>,
}

impl Holdings {
    pub(crate) fn now() -> Self {
        let names = fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
            // A thread that ends meanwhile has no name any more.
            let name = fs::read_to_string(task.ok()?.path().join("comm")).ok()?;
            let ours = ["loop-", "control", "watchdog", "off-"];
            ours.iter()
                .any(|prefix| name.starts_with(prefix))
                .then(|| name.trim().to_owned())
        });
        let mut threads: Vec<_> = names.collect();
        threads.sort();
        Self {
            descriptors: open_descriptors(),
            threads,
        }
    }
}

/// Descriptors of this process, the one that counts them included.
pub(crate) fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A server under test.
pub(crate) struct Site {
    running: Option<Running>,
    before: Holdings,
    serving: Holdings,
    _alone: MutexGuard<'static, ()>,
}

impl Site {
    /// Starts a server; the test has the process to itself until the site is dropped.
    pub(crate) fn start<M: MakeFactory>(server: Server<M>) -> Self {
        let alone = alone();
        let before = Holdings::now();
        let running = server.start().unwrap();
        let site = Self {
            running: Some(running),
            before,
            serving: Holdings::now(),
            _alone: alone,
        };
        site.rest();
        Self {
            serving: Holdings::now(),
            ..site
        }
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn status(&self) -> &Status {
        self.running().status()
    }

    /// The address of the first listener.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.status().listeners[0].addr.parse().unwrap()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.addr())
    }

    /// The sum of a number over all loops.
    pub(crate) fn sum(&self, of: impl Fn(&Numbers) -> u64) -> u64 {
        let boards = self.status().boards.iter();
        boards.map(|board| of(&board.numbers)).sum()
    }

    /// Sessions closed for a reason, on all loops.
    pub(crate) fn closes(&self, reason: CloseReason) -> u64 {
        let boards = self.status().boards.iter();
        boards
            .map(|board| board.closes[reason.index()].value())
            .sum()
    }

    /// Waits until nobody is connected and everything they held came back; then proves that resting loops rest.
    pub(crate) fn settle(&self) {
        let status = self.status();
        eventually("all connections end", || status.live() == 0);
        for (what, number) in GAUGES {
            eventually(&format!("{what} back to 0"), || self.sum(number) == 0);
        }
        eventually("no socket on its way to a loop", || {
            status.boards.iter().all(|board| board.load() == 0)
        });
        eventually("permits come back", || status.permits.in_use() == 0);
        eventually("descriptors and threads come back", || {
            Holdings::now() == self.serving
        });
        self.rest();
        assert_eq!(
            self.sum(|numbers| &numbers.turns_idle == 0),
            self.status().boards.len() as u64,
            "turns that slept, woke and changed nothing"
        );
    }
}
