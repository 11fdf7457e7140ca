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
    AcceptMode, Accepted, CloseReason, Ctx, Ended, Handler, Input, Life, Running, Server,
    ServerSettings, Status, Verdict,
};
use polyloop_sys::Stream;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, panic, thread};

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

/// Asks until the answer is the expected one, and shows the last one at the deadline.
#[track_caller]
pub(crate) fn eventually_is<T: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: &T,
    mut ask: impl FnMut() -> T,
) {
    let deadline = Instant::now() + DEADLINE;
    let mut answer = ask();
    while answer != *expected && Instant::now() < deadline {
        thread::park_timeout(Duration::from_millis(1));
        answer = ask();
    }
    assert_eq!(answer, *expected, "{what}");
}

/// Keeps panics that a test causes on a loop or in a pool out of the output; those of the test itself are shown.
pub(crate) fn quiet_loops() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let shown = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let name = thread::current().name().unwrap_or_default().to_owned();
            if !name.starts_with("loop-") && !name.starts_with("off-") {
                shown(info);
            }
        }));
    });
}

/// What the library tells the operator, by line: everything since the last [`Told::start`].
pub(crate) struct Told;

impl Told {
    /// Begins to listen, or to listen anew. A test calls it once it is alone.
    pub(crate) fn start(_: &Alone) {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let subscriber = tracing_subscriber::fmt()
                .with_writer(|| Self)
                .with_ansi(false)
                .with_target(false)
                .without_time()
                .finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
        });
        Self::text().clear();
    }

    /// The lines that hold a word, without what comes before the message.
    pub(crate) fn lines(word: &str) -> Vec<String> {
        let text = Self::text();
        let lines = text.lines().filter(|line| line.contains(word));
        lines
            .map(|line| line.trim_start().trim_start_matches("WARN ").to_owned())
            .collect()
    }

    fn text() -> MutexGuard<'static, String> {
        static TEXT: Mutex<String> = Mutex::new(String::new());
        TEXT.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Self::text().push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Proof that no other test opens or closes anything.
pub(crate) type Alone = MutexGuard<'static, ()>;

/// Takes the process for one test: descriptors and threads are counted, and cannot be told apart by test.
pub(crate) fn alone() -> Alone {
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
    _alone: Option<Alone>,
}

impl Site {
    /// Starts a server; the test has the process to itself until the site is dropped.
    pub(crate) fn start<M: MakeFactory>(server: Server<M>) -> Self {
        Self::start_holding(alone(), server)
    }

    /// The same for a test that is alone already and leaves it to the site for how long.
    pub(crate) fn start_holding<M: MakeFactory>(alone: Alone, server: Server<M>) -> Self {
        let site = Self::start_alone(&alone, server);
        Self {
            _alone: Some(alone),
            ..site
        }
    }

    /// The same for a test that has opened sockets of its own already, and therefore is alone already.
    pub(crate) fn start_alone<M: MakeFactory>(_: &Alone, server: Server<M>) -> Self {
        let before = Holdings::now();
        let running = server.start().unwrap();
        let site = Self {
            running: Some(running),
            before,
            serving: Holdings::now(),
            _alone: None,
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

    /// Whether the server has a thread whose name begins so.
    pub(crate) fn holds_thread(&self, prefix: &str) -> bool {
        let threads = &self.serving.threads;
        threads.iter().any(|name| name.starts_with(prefix))
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
        eventually_is(
            "what a server without connections holds",
            &self.serving,
            Holdings::now,
        );
        self.rest();
        let idle = self.sum(|numbers| numbers.turns_idle.value());
        assert_eq!(idle, 0, "turns that slept, woke and changed nothing");
    }

    /// Proves that loops without work do not wake: once each sleeps in its poll, the kernel switches none of them in
    /// and no turn is counted for the length of a window.
    fn rest(&self) {
        let asleep = |tid: u32| {
            let stat = fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap();
            // The state follows the name, which ends with the last parenthesis.
            stat.rsplit_once(") ").unwrap().1.starts_with('S')
        };
        for board in &*self.status().boards {
            let tid = board.thread_id.load(Relaxed);
            eventually("the loop sleeps in its poll", || {
                board.beat.sample().phase == Phase::Poll && asleep(tid)
            });
        }
        let before = self.wakings();
        for _ in 0..REST_WINDOW_STEPS {
            thread::park_timeout(REST_WINDOW_STEP);
        }
        assert_eq!(before, self.wakings(), "loops without work woke up");
    }

    /// For each loop: its turns, and how often the kernel took it off its core because it went to sleep.
    fn wakings(&self) -> Vec<(u64, u64)> {
        let boards = self.status().boards.iter();
        boards
            .map(|board| {
                let tid = board.thread_id.load(Relaxed);
                let status = fs::read_to_string(format!("/proc/self/task/{tid}/status")).unwrap();
                let line = status
                    .lines()
                    .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
                let switches = line.unwrap().trim().parse().unwrap();
                (board.numbers.turns.value(), switches)
            })
            .collect()
    }

    /// The postcondition, then the end: nothing may be left of the server.
    pub(crate) fn end(self) {
        self.settle();
        self.running().stop();
        let ended = self.join();
        assert_eq!((ended.cut, ended.loops_failed), (0, Vec::new()));
    }

    /// Waits for the end that has been ordered; nothing may be left of the server.
    pub(crate) fn join(mut self) -> Ended {
        eventually("the server ends", || self.status().life() == Life::Ended);
        let ended = self.running.take().unwrap().join();
        eventually_is(
            "what the process holds without the server",
            &self.before,
            Holdings::now,
        );
        ended
    }
}

/// The window in which a loop without work must not wake: 20 steps of 10 ms. Watchdogs and reports run beside the
/// loops and do not touch them, so there is nothing that it has to be longer than.
const REST_WINDOW_STEPS: u32 = 20;
const REST_WINDOW_STEP: Duration = Duration::from_millis(10);

type Gauge = (&'static str, fn(&Numbers) -> u64);

/// What is zero when nobody is connected.
const GAUGES: [Gauge; 5] = [
    ("timers", |numbers| numbers.timers.value()),
    ("kept bytes", |numbers| numbers.kept_bytes.value()),
    ("kept blocks", |numbers| numbers.kept_blocks.value()),
    ("offloaded jobs", |numbers| numbers.offload_pending.value()),
    ("paused listeners", |numbers| numbers.paused.value()),
];

/// Settings for tests: `loops` loops, pinned where the host has the cores, no drain to wait for.
pub(crate) fn settings(loops: usize) -> ServerSettings {
    let mut settings = ServerSettings::default();
    settings.wish.loops = Some(loops);
    settings
}

/// The same, with one loop accepting for all.
pub(crate) fn settings_with(loops: usize, accept: AcceptMode) -> ServerSettings {
    ServerSettings {
        accept,
        ..settings(loops)
    }
}

/// An address that the system fills in.
pub(crate) const ANY_PORT: &str = "127.0.0.1:0";

/// Answers with what it is sent.
#[derive(Debug)]
pub(crate) struct Echo;

impl Handler for Echo {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let _ = cx.write(input.take_all());
        Verdict::Continue
    }
}

/// Starts an echo server.
pub(crate) fn echo(settings: ServerSettings) -> Site {
    let server = Server::new(|_: Accepted| Echo).listen(ANY_PORT).unwrap();
    Site::start(server.settings(settings))
}

/// A client whose reads fail the test instead of hanging it.
pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends, and reads as much as was sent.
#[track_caller]
pub(crate) fn ask(stream: &mut TcpStream, request: &[u8]) -> Vec<u8> {
    stream.write_all(request).unwrap();
    read_exactly(stream, request.len())
}

#[track_caller]
pub(crate) fn read_exactly(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut answer = vec![0; count];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// Proves that a connection is served.
#[track_caller]
pub(crate) fn assert_echo(stream: &mut TcpStream) {
    assert_eq!(ask(stream, b"are you there?"), b"are you there?");
}

/// Reads until the peer's FIN.
#[track_caller]
pub(crate) fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// What `read` gives at a connection that the server ended: nothing, or a reset.
#[track_caller]
pub(crate) fn assert_closed(stream: &mut TcpStream) {
    match stream.read(&mut [0; 16]) {
        Ok(0) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("expected the end of the connection, got {other:?}"),
    }
}

/// Says that nothing more will be sent.
#[track_caller]
pub(crate) fn finish(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Closes with a reset.
pub(crate) fn reset(stream: TcpStream) {
    let stream = Stream::from(OwnedFd::from(stream));
    stream.set_abort_on_close().unwrap();
}

/// Bytes of which every stretch differs from every other, so that a lost or swapped one shows.
pub(crate) fn pattern(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        bytes.extend(next());
    }
    bytes.truncate(count);
    bytes
}
