//! The control thread: signals, reports, supervision of the loops, and the end.
//!
//! It serves no connection, so that a loop that is stuck cannot keep the process from being told to end.

use super::memory::{MemoryLimit, MemoryWatch};
use super::status::{Life, Status};
use super::watchdog::{Rounds, Watchdog};
use super::{ServerSettings, StartError};
use crate::control::LoopEnd;
use crate::dispatcher::Gate;
use crate::driver::mio::MioDriver;
use crate::wiring::Console;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use mio::{Events, Interest, Poll, Token, Waker};
use polyloop_sys::ThreadClock;
use polyloop_sys::clock::monotonic_ns;
use polyloop_sys::listener::Listener;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals as SignalSource;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

type Hook = Box<dyn FnMut(&Status) + Send>;
type StartedHook = Box<dyn FnOnce(&Status) + Send>;

/// What the user of the library wants to be told.
#[derive(Default)]
pub(super) struct Hooks {
    pub(super) report: Option<(Duration, Hook)>,
    pub(super) dump: Option<Hook>,
    pub(super) started: Option<StartedHook>,
}

/// Whether the control thread takes the process's signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signals {
    Taken,
    LeftAlone,
}

/// What the control thread is told.
pub(super) enum Command {
    LoopServes { index: usize, clock: ThreadClock },
    LoopExited { index: usize, exit: LoopExit },
    Drain,
    Stop,
}

/// How a loop's thread ended.
pub(super) enum LoopExit {
    Ended(LoopEnd),
    Failed(io::Error),
    Panicked(String),
}

impl LoopExit {
    /// What it says where a loop was to begin to serve.
    fn into_error(self) -> io::Error {
        match self {
            Self::Failed(error) => error,
            Self::Panicked(text) => io::Error::other(text),
            Self::Ended(_) => io::Error::other("it ended at once"),
        }
    }
}

/// Loops in words.
fn names_of(loops: &[usize]) -> String {
    let names: Vec<_> = loops.iter().map(|index| format!("loop {index}")).collect();
    names.join(", ")
}

/// Who ended the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// It was told to drain.
    Drain,
    /// It was told to stop at once, perhaps while it drained.
    Stop,
    /// A loop died by a bug of ours.
    LoopFailed,
}

/// How a server ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Who ended it.
    pub by: EndedBy,
    /// Connections that were still open and were closed by the end.
    pub cut: usize,
    /// Loops that died or did not end in time, and why.
    pub loops_failed: Vec<String>,
    /// Jobs that were dropped from the pools' queues, or abandoned while they ran.
    pub jobs_dropped: u64,
    /// From the order to end until the end.
    pub took: Duration,
}

/// A server whose loops have been started.
pub(super) struct Started<M> {
    status: Arc<Status>,
    console: Arc<Console<MioDriver, M>>,
    hooks: Hooks,
    poll: Poll,
    waker: Arc<Waker>,
    signals: Option<SignalSource>,
    pass_signals: Vec<i32>,
    commands: (Sender<Command>, Receiver<Command>),
    threads: Vec<Option<JoinHandle<()>>>,
    clocks: Vec<Option<ThreadClock>>,
    copies: Vec<Vec<Gate<Listener>>>,
    stall_threshold: Option<Duration>,
    memory: Option<MemoryLimit>,
    drain: Duration,
    watchdog: Option<(Sender<()>, JoinHandle<()>)>,
    ending: Option<Ending>,
    /// When the next line about a drain that goes on is due.
    next_progress: Option<Instant>,
    cut: usize,
    loops_failed: Vec<String>,
    /// Removed when everything else is gone.
    _files: SocketFiles,
}

/// The files of unix listeners, which outlive their sockets: removed when this is dropped, after the listeners.
#[derive(Debug, Default)]
pub(super) struct SocketFiles(pub(super) Vec<PathBuf>);

impl Drop for SocketFiles {
    fn drop(&mut self) {
        for path in &self.0 {
            // Whoever comes next finds it stale and removes it; and if somebody has taken its place, it is theirs.
            let _ = polyloop_sys::remove_stale_socket_file(path);
        }
    }
}

/// The end has been ordered.
#[derive(Debug, Clone, Copy)]
struct Ending {
    by: EndedBy,
    since: Instant,
    /// When what is left is closed; `None` is never.
    deadline: Option<Instant>,
    /// When a loop that has not ended is given up.
    give_up_at: Option<Instant>,
}

const SIGNALS: Token = Token(0);
const WAKE: Token = Token(1);

/// How long a loop that was told to end is waited for: one that is stuck in a handler must not keep the process.
const GRACE: Duration = Duration::from_secs(2);

/// How often a drain that goes on is told of.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// How long the start waits for all loops; they only make their factories.
const START_TIMEOUT: Duration = Duration::from_secs(60);

impl<M: Send + 'static> Started<M> {
    pub(super) fn new(
        settings: &ServerSettings,
        status: Arc<Status>,
        console: Console<MioDriver, M>,
        hooks: Hooks,
        signals: Signals,
        copies: Vec<Vec<Gate<Listener>>>,
        files: SocketFiles,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let signals = match signals {
            Signals::Taken => {
                let own = [SIGTERM, SIGINT, SIGUSR1];
                let mut source = SignalSource::new(own.iter().chain(&settings.pass_signals))?;
                poll.registry()
                    .register(&mut source, SIGNALS, Interest::READABLE)?;
                Some(source)
            }
            Signals::LeftAlone => None,
        };
        let loops = status.boards.len();
        Ok(Self {
            status,
            console: Arc::new(console),
            hooks,
            poll,
            waker,
            signals,
            pass_signals: settings.pass_signals.clone(),
            commands: unbounded(),
            threads: Vec::with_capacity(loops),
            clocks: vec![None; loops],
            copies,
            stall_threshold: settings.stall_threshold,
            memory: None,
            drain: settings.drain,
            watchdog: None,
            ending: None,
            next_progress: None,
            cut: 0,
            loops_failed: Vec::new(),
            _files: files,
        })
    }

    pub(super) const fn status(&self) -> &Arc<Status> {
        &self.status
    }

    pub(super) fn commands(&self) -> LoopCommands {
        LoopCommands {
            sender: self.commands.0.clone(),
            waker: Arc::clone(&self.waker),
        }
    }

    /// Has a limit of memory watched, once the loops serve.
    pub(super) fn watch_memory(&mut self, memory: Option<MemoryLimit>) {
        self.memory = memory;
    }

    pub(super) fn add(&mut self, thread: JoinHandle<()>) {
        self.threads.push(Some(thread));
    }

    /// Waits until every loop serves; ends them all if one cannot.
    pub(super) fn wait_until_serving(mut self) -> Result<Self, StartError> {
        let deadline = Instant::now() + START_TIMEOUT;
        while self.clocks.iter().any(Option::is_none) {
            let (loops, source) = match self.commands.1.recv_deadline(deadline) {
                Ok(Command::LoopServes { index, clock }) => {
                    self.clocks[index] = Some(clock);
                    continue;
                }
                Ok(Command::LoopExited { index, exit }) => {
                    self.join_exited(index);
                    (vec![index], exit.into_error())
                }
                Ok(Command::Drain | Command::Stop) => continue,
                Err(_) => {
                    let waits = |index: &usize| self.clocks[*index].is_none();
                    let waited_for = (0..self.clocks.len()).filter(waits).collect();
                    (waited_for, io::ErrorKind::TimedOut.into())
                }
            };
            let what = format!("starting {}", names_of(&loops));
            return Err(self.give_up(StartError::Os { what, source }));
        }
        self.start_watchdog();
        self.status.set_life(Life::Serving);
        if let Some(started) = self.hooks.started.take() {
            started(&self.status);
        }
        Ok(self)
    }

    /// Ends the loops that were started already: nothing half-started stays behind. But for a loop that hangs in its factory: it
    /// cannot be ended, and waiting for it would make the failed start hang as well. It is named.
    pub(super) fn give_up(mut self, mut error: StartError) -> StartError {
        self.console.stop();
        let deadline = Instant::now() + GRACE;
        while self.threads.iter().any(Option::is_some)
            && let Ok(command) = self.commands.1.recv_deadline(deadline)
        {
            if let Command::LoopExited { index, .. } = command {
                self.join_exited(index);
            }
        }
        let is_left = |index: &usize| self.threads[*index].is_some();
        let left: Vec<usize> = (0..self.threads.len()).filter(is_left).collect();
        if let StartError::Os { what, .. } = &mut error
            && !left.is_empty()
        {
            what.push_str(&format!(
                " (left behind, since it does not come to an end: {})",
                names_of(&left)
            ));
        }
        self.status.pools.shutdown(Instant::now());
        error
    }

    /// Takes back the thread of a loop that has said that it is over.
    fn join_exited(&mut self, index: usize) {
        if let Some(thread) = self.threads.get_mut(index).and_then(Option::take) {
            // Its panic, if any, has been caught and told.
            let _ = thread.join();
        }
    }

    fn start_watchdog(&mut self) {
        let stalls = self.stall_threshold.map(|threshold| {
            let clocks = self.clocks.iter().copied().flatten().collect();
            let copies = std::mem::take(&mut self.copies);
            let (status, console) = (Arc::clone(&self.status), Arc::clone(&self.console));
            Watchdog::new(status, console, threshold, clocks, copies)
        });
        let watch = |limit| MemoryWatch::new(limit, Arc::clone(&self.console));
        let memory = self.memory.take().map(watch);
        let rounds = Rounds { stalls, memory };
        if rounds.is_idle() {
            return;
        }
        let (stop, stopped) = bounded(0);
        let spawned = thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || rounds.run(&stopped));
        match spawned {
            Ok(thread) => self.watchdog = Some((stop, thread)),
            Err(error) => {
                tracing::error!(%error, "there is no watchdog: its thread could not start")
            }
        }
    }

    /// Serves on a thread of its own.
    pub(super) fn run_beside(self) -> Result<Running, StartError> {
        let status = Arc::clone(&self.status);
        let commands = self.commands();
        let thread = thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || self.run())
            .map_err(|source| StartError::Os {
                what: "starting the control thread".to_owned(),
                source,
            })?;
        Ok(Running {
            status,
            commands,
            thread: Some(thread),
        })
    }

    /// Serves until the end.
    pub(super) fn run(mut self) -> Ended {
        let mut events = Events::with_capacity(16);
        let mut next_report = self
            .hooks
            .report
            .as_ref()
            .and_then(|(interval, _)| Instant::now().checked_add(*interval));
        while self.threads.iter().any(Option::is_some) {
            let give_up_at = self.ending.and_then(|ending| ending.give_up_at);
            let wake_at = [next_report, give_up_at, self.next_progress];
            let timeout = wake_at
                .into_iter()
                .flatten()
                .min()
                .map(|at| at.saturating_duration_since(Instant::now()));
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                if self.ending.is_none() {
                    self.loops_failed
                        .push(format!("the control thread cannot poll: {error}"));
                }
                self.end(EndedBy::LoopFailed);
            }
            self.take_signals();
            while let Ok(command) = self.commands.1.try_recv() {
                self.obey(command);
            }
            if let Some(at) = next_report
                && let Some((interval, report)) = &mut self.hooks.report
                && at <= Instant::now()
            {
                // From now, not from when it was due: after a pause there is one report, not a burst.
                next_report = Instant::now().checked_add(*interval);
                report(&self.status);
            }
            self.tell_progress();
            self.give_up_late_loops();
        }
        self.finish()
    }

    fn take_signals(&mut self) {
        let Some(source) = &mut self.signals else {
            return;
        };
        let signals: Vec<i32> = source.pending().collect();
        for signal in signals {
            match signal {
                SIGTERM | SIGINT => self.end(EndedBy::Drain),
                SIGUSR1 if !self.pass_signals.contains(&SIGUSR1) => {
                    if let Some(dump) = &mut self.hooks.dump {
                        dump(&self.status);
                    }
                }
                signal => self.console.signal(signal),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::LoopServes { .. } => {}
            Command::LoopExited { index, exit } => self.note_exit(index, exit),
            Command::Drain if self.ending.is_none() => self.end(EndedBy::Drain),
            Command::Drain => {}
            Command::Stop => self.end(EndedBy::Stop),
        }
    }

    fn note_exit(&mut self, index: usize, exit: LoopExit) {
        self.join_exited(index);
        let failure = match exit {
            LoopExit::Ended(end) => {
                self.cut += end.cut;
                self.tell_drained_elsewhere();
                return;
            }
            LoopExit::Failed(error) => format!("loop {index} failed: {error}"),
            LoopExit::Panicked(text) => format!("loop {index} panicked: {text}"),
        };
        tracing::error!("{failure}: this is a bug; the process ends");
        self.cut_all_of(index);
        self.loops_failed.push(failure);
        self.end(EndedBy::LoopFailed);
    }

    /// Orders the end. An order to drain while draining stops at once.
    fn end(&mut self, by: EndedBy) {
        let now = Instant::now();
        let (by, since) = match self.ending {
            None => (by, now),
            Some(Ending {
                by: EndedBy::Drain,
                since,
                ..
            }) => {
                let by = if by == EndedBy::Drain {
                    EndedBy::Stop
                } else {
                    by
                };
                (by, since)
            }
            // Stopping already.
            Some(_) => return,
        };
        // The copies of the listeners go first: one that stayed open would take connections that nobody accepts.
        self.stop_watchdog();
        self.status.set_life(Life::Draining);
        let patience = match by {
            EndedBy::Drain => {
                let drain_ns = u64::try_from(self.drain.as_nanos()).unwrap_or(u64::MAX);
                self.console.drain(monotonic_ns().saturating_add(drain_ns));
                self.drain
            }
            EndedBy::Stop | EndedBy::LoopFailed => {
                self.console.stop();
                Duration::ZERO
            }
        };
        self.next_progress = (by == EndedBy::Drain).then(|| now + PROGRESS_EVERY);
        self.ending = Some(Ending {
            by,
            since,
            // A time that is beyond what the clock can name never comes.
            deadline: now.checked_add(patience),
            give_up_at: now.checked_add(patience.saturating_add(GRACE)),
        });
        self.tell_drained_elsewhere();
    }

    /// The first loop, which has the gates of administrators, lets visitors in until every other loop has drained.
    fn tell_drained_elsewhere(&self) {
        let others = self.threads.iter().skip(1).flatten().count();
        if self.ending.is_some() && others == 0 {
            self.console.drained_elsewhere(0);
        }
    }

    /// Says, about once a second, what a drain still waits for.
    fn tell_progress(&mut self) {
        let now = Instant::now();
        let Some(ending) = self.ending else { return };
        if self.next_progress.is_none_or(|at| at > now) {
            return;
        }
        self.next_progress = now.checked_add(PROGRESS_EVERY);
        let left = match self.status.live() {
            1 => "1 connection left".to_owned(),
            live => format!("{live} connections left"),
        };
        match ending.deadline {
            Some(deadline) => {
                let seconds = deadline.saturating_duration_since(now).as_secs_f64().ceil();
                tracing::info!("draining: {left}, {seconds} s to go");
            }
            None => tracing::info!("draining: {left}"),
        }
    }

    fn stop_watchdog(&mut self) {
        self.copies.clear();
        if let Some((stop, thread)) = self.watchdog.take() {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("the watchdog panicked: this is a bug");
            }
        }
    }

    /// A loop that is stuck while the process is to end is left behind, and told of.
    fn give_up_late_loops(&mut self) {
        let Some(ending) = self.ending else { return };
        if ending.give_up_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        for index in 0..self.threads.len() {
            if self.threads[index].take().is_some() {
                self.cut_all_of(index);
                self.loops_failed
                    .push(format!("loop {index} did not end in time: it is stuck"));
            }
        }
    }

    /// Counts what lived on a loop that cannot tell any more, or was on its way there.
    fn cut_all_of(&mut self, index: usize) {
        let load = self.status.boards[index].load();
        self.cut += usize::try_from(load).unwrap_or(usize::MAX);
    }

    fn finish(mut self) -> Ended {
        self.stop_watchdog();
        let report = self.status.pools.shutdown(Instant::now() + GRACE);
        self.status.set_life(Life::Ended);
        let now = Instant::now();
        let (by, since) = self
            .ending
            .map_or((EndedBy::LoopFailed, now), |e| (e.by, e.since));
        Ended {
            by,
            cut: self.cut,
            loops_failed: self.loops_failed,
            jobs_dropped: report.dropped + report.abandoned,
            took: now.saturating_duration_since(since),
        }
    }
}

/// The way to the control thread: a queue, and the waker of its poll.
#[derive(Clone)]
pub(super) struct LoopCommands {
    sender: Sender<Command>,
    waker: Arc<Waker>,
}

impl LoopCommands {
    pub(super) fn send(&self, command: Command) {
        // The control thread outlives whoever can send; were it gone, nobody would be left to be told.
        if self.sender.send(command).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

/// A server that serves on threads of its own.
pub struct Running {
    status: Arc<Status>,
    commands: LoopCommands,
    thread: Option<JoinHandle<Ended>>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Running {
    /// What the server publishes.
    #[must_use]
    pub const fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Tells the server to accept no more and to end when its connections have, or after the drain time.
    pub fn drain(&self) {
        self.commands.send(Command::Drain);
    }

    /// Tells the server to close everything and end.
    pub fn stop(&self) {
        self.commands.send(Command::Stop);
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// If the control thread panicked, which is a bug.
    #[must_use]
    pub fn join(mut self) -> Ended {
        let thread = self.thread.take();
        match thread.map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => unreachable!("the thread is taken here and at the drop only"),
        }
    }
}

impl Drop for Running {
    /// Stops the server and waits for it: no thread outlives its handle.
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.stop();
            // A panic of the control thread has been printed by the hook; a drop must not panic again.
            let _ = thread.join();
        }
    }
}
