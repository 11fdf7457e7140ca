//! A running `polyloop`, its clients, and the postcondition that every test ends with.
//!
//! A [`Polyloop`] is the real binary on ports that the system chose. [`Polyloop::settle`] proves that everything came
//! back: connections, permits, timers, kept bytes, jobs, descriptors; and that loops with nothing to do do not wake,
//! which is read from `/proc`, since asking the process would wake it.
//!
//! [`eventually`] asks again until the answer is yes; its deadline is how long a broken binary makes a test wait. The
//! only fixed times are windows in which something must *not* happen.

use polyloop_sys::Stream;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fs, thread};

/// How long a test waits for something that must happen before it is called broken.
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

/// Proof that no other test runs.
pub(crate) type Alone = MutexGuard<'static, ()>;

/// Takes the machine for one test.
pub(crate) fn alone() -> Alone {
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that failed must not fail the others.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_polyloop");

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Addr {
    Tcp(SocketAddr),
    /// A port of every address, of both families.
    Any(u16),
    Unix(PathBuf),
}

impl Addr {
    /// Finds the address in a line that the binary has printed.
    fn parse(line: &str) -> Option<Self> {
        line.split_whitespace().find_map(|word| {
            if let Some(path) = word.strip_prefix("unix:") {
                return Some(Self::Unix(path.into()));
            }
            if let Some(port) = word.strip_prefix("*:") {
                return port.parse().ok().map(Self::Any);
            }
            let word = word.trim_start_matches("http://").split('/').next();
            word.and_then(|word| word.parse().ok()).map(Self::Tcp)
        })
    }

    fn tcp(&self) -> SocketAddr {
        match self {
            Self::Tcp(addr) => *addr,
            other => panic!("{other:?} is no one TCP address"),
        }
    }
}

/// A running server.
pub(crate) struct Polyloop {
    child: Child,
    /// Service listeners in the order of the flags, then the admin listener.
    addrs: Vec<Addr>,
    stdout: Receiver<String>,
    stderr: Arc<Mutex<String>>,
    stderr_reader: Option<JoinHandle<()>>,
    descriptors: usize,
    /// Backends that are checked or looked up again and again: a timer each, and loops that wake.
    checked: u64,
    _alone: Alone,
}

/// The flags of an ordinary test server: one service listener, and an admin listener.
pub(crate) const LISTEN: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

impl Polyloop {
    /// Starts `polyloop echo` with [`LISTEN`] and more flags, and waits until it rests.
    pub(crate) fn echo(flags: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.arg("echo").args(LISTEN).args(flags);
        command.stderr(Stdio::piped());
        Self::run(command)
    }

    /// Starts `polyloop proxy` with [`LISTEN`] and more flags.
    pub(crate) fn proxy(flags: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.arg("proxy").args(LISTEN).args(flags);
        command.stderr(Stdio::piped());
        Self::run(command)
    }

    /// Starts a command that ends in such a server.
    pub(crate) fn run(mut command: Command) -> Self {
        let alone = alone();
        let is_listener = |arg: &&OsStr| *arg == "--listen" || *arg == "--admin";
        let listeners = command.get_args().filter(is_listener).count();
        let counted = |flag: &str| command.get_args().filter(|arg| *arg == flag).count();
        // Names are looked up again, as backends are checked again: a timer each.
        let reasons = usize::from(counted("--check") > 0) + usize::from(counted("--dns") > 0);
        let checked = reasons * counted("--to");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = lines_of(child.stdout.take().unwrap());
        let stderr = Arc::new(Mutex::new(String::new()));
        let stderr_reader = child.stderr.take().map(|mut pipe| {
            let text = Arc::clone(&stderr);
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                // The end of the process ends the pipe.
                while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                    let piece = String::from_utf8_lossy(&buffer[..count]);
                    text.lock().unwrap().push_str(&piece);
                }
            })
        });
        let mut started = Self {
            child,
            addrs: Vec::new(),
            stdout,
            stderr,
            stderr_reader,
            descriptors: 0,
            checked: checked as u64,
            _alone: alone,
        };
        started.await_listeners(listeners);
        if checked == 0 {
            started.rest();
        }
        started.descriptors = started.count_descriptors();
        started
    }

    fn await_listeners(&mut self, listeners: usize) {
        while self.addrs.len() < listeners {
            let Ok(line) = self.stdout.recv_timeout(DEADLINE) else {
                panic!("no word of listening; on standard error: {}", self.stderr());
            };
            self.addrs.extend(Addr::parse(&line));
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addrs[0].tcp()
    }

    pub(crate) fn addrs(&self) -> &[Addr] {
        &self.addrs
    }

    /// The admin listener, which the binary names last.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.addrs.last().unwrap().tcp()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.addr())
    }

    /// What it has written to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.process(), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// The postcondition, then SIGTERM, which must end it with 0.
    #[track_caller]
    pub(crate) fn end(mut self) {
        self.settle();
        self.signal(Signal::TERM);
        assert_eq!(self.wait().code(), Some(0), "{}", self.stderr());
    }

    pub(crate) fn count_descriptors(&self) -> usize {
        let dir = format!("/proc/{}/fd", self.pid());
        fs::read_dir(dir).unwrap().count()
    }

    /// Takes what is open now for what is open at rest: for a server that was busy by itself when it had started.
    #[track_caller]
    pub(crate) fn recount_descriptors(&mut self) {
        eventually("jobs back to the visitor's", || {
            self.metric("polyloop_offload_pending") <= 1
        });
        let mut before = 0;
        eventually("the visitor has left", || {
            let now = self.count_descriptors();
            let is_same = now == before;
            before = now;
            is_same
        });
        self.descriptors = before;
    }

    /// Whether the first listener still takes connections.
    pub(crate) fn is_listening(&self) -> bool {
        TcpStream::connect(self.addr()).is_ok()
    }

    /// What it said last, once it has ended: how it ended.
    #[track_caller]
    pub(crate) fn last_line(&mut self) -> String {
        let reader = self.stderr_reader.take();
        // The end of the process is the end of the pipe.
        reader.unwrap().join().unwrap();
        self.stderr().lines().last().unwrap_or_default().to_owned()
    }

    /// The thread of loop `index`.
    #[track_caller]
    pub(crate) fn loop_thread(&self, index: usize) -> u32 {
        let name = format!("loop-{index}");
        let loops = self.loops();
        let found = loops
            .iter()
            .find(|&&tid| self.task_file(tid, "comm").trim() == name);
        *found.unwrap()
    }

    /// Thread ids of the loops.
    pub(crate) fn loops(&self) -> Vec<u32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let loops = tasks.filter_map(|task| {
            let path = task.ok()?.path();
            let name = fs::read_to_string(path.join("comm")).ok()?;
            let tid = path.file_name()?.to_str()?.parse().ok()?;
            name.starts_with("loop-").then_some(tid)
        });
        loops.collect()
    }

    fn task_file(&self, tid: u32, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/task/{tid}/{file}", self.pid())).unwrap()
    }

    /// Nanoseconds of CPU that the loops have used.
    pub(crate) fn loops_cpu_ns(&self) -> u64 {
        let cpu_ns = |tid| {
            let stat = self.task_file(tid, "schedstat");
            stat.split(' ').next().unwrap().parse::<u64>().unwrap()
        };
        self.loops().into_iter().map(cpu_ns).sum()
    }

    /// The share of a core that the loops together use during a window.
    pub(crate) fn loops_busy_share(&self) -> f64 {
        let (started, before_ns) = (Instant::now(), self.loops_cpu_ns());
        for _ in 0..BUSY_WINDOW_STEPS {
            thread::park_timeout(WINDOW_STEP);
        }
        let cpu_ns = self.loops_cpu_ns() - before_ns;
        cpu_ns as f64 / started.elapsed().as_nanos() as f64
    }

    /// Waits until nobody is connected and everything they held came back; then proves that resting loops rest, where
    /// no checks of backends wake them.
    #[track_caller]
    pub(crate) fn settle(&self) {
        for gauge in GAUGES {
            eventually(&format!("{gauge} back to 0"), || self.metric(gauge) == 0);
        }
        // The visitor that asks has two deadlines of its own, and its page is a job.
        eventually("timers back to the visitor's", || {
            self.metric("polyloop_timers") <= 2 + self.checked
        });
        eventually("jobs back to the visitor's", || {
            self.metric("polyloop_offload_pending") <= 1
        });
        // Loops keep pipes to splice through, two descriptors each, up to a bound.
        let kept = self.metric("polyloop_pipes");
        assert!(kept <= 32 * self.loops().len() as u64, "{kept} pipes");
        let expected = self.descriptors + 2 * kept as usize;
        // Asking takes a descriptor for a moment.
        eventually("descriptors come back", || {
            self.count_descriptors() == expected
        });
        assert_eq!(self.metric("polyloop_turns_idle_total"), 0);
        eventually("descriptors come back", || {
            self.count_descriptors() == expected
        });
        if self.checked == 0 {
            self.rest();
        }
    }

    /// Proves that the loops do not wake during a window, once they sleep.
    #[track_caller]
    pub(crate) fn rest(&self) {
        self.rest_while(|| {});
    }

    /// The same with something happening in that window, which is none of their business.
    #[track_caller]
    pub(crate) fn rest_while(&self, act: impl FnOnce()) {
        let loops = self.loops();
        for &tid in &loops {
            eventually("the loop sleeps", || {
                // The state follows the name, which ends with the last parenthesis.
                let stat = self.task_file(tid, "stat");
                stat.rsplit_once(") ").unwrap().1.starts_with('S')
            });
        }
        let switches = || {
            let count = |&tid| {
                let status = self.task_file(tid, "status");
                let line = status
                    .lines()
                    .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
                line.unwrap().trim().parse::<u64>().unwrap()
            };
            loops.iter().map(count).collect::<Vec<_>>()
        };
        let before = switches();
        act();
        for _ in 0..REST_WINDOW_STEPS {
            thread::park_timeout(WINDOW_STEP);
        }
        assert_eq!(before, switches(), "loops without work woke up");
    }

    /// A metric, summed over its labels.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let metrics = self.metrics();
        let value = metrics.get(name);
        *value.unwrap_or_else(|| panic!("no {name} among {:?}", metrics.keys()))
    }

    /// A page of the admin listener, be it at a port or a path: status and body.
    #[track_caller]
    pub(crate) fn admin_page(&self, page: &str) -> (u16, String) {
        let (status, _, body) = match self.addrs.last().unwrap() {
            Addr::Tcp(addr) => http(*addr, &request_of(page)),
            Addr::Unix(path) => http_on(unix(path), &request_of(page)),
            Addr::Any(port) => panic!("administrators are not served on *:{port}"),
        };
        (status, body)
    }

    /// All metrics that are whole numbers, summed over their labels.
    pub(crate) fn metrics(&self) -> BTreeMap<String, u64> {
        let (status, body) = self.admin_page("/metrics");
        assert_eq!(status, 200);
        let mut sums = BTreeMap::new();
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            if let Ok(value) = value.parse::<u64>() {
                *sums.entry(name.to_owned()).or_insert(0) += value;
            }
        }
        sums
    }
}

impl Drop for Polyloop {
    fn drop(&mut self) {
        // It has ended already, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const REST_WINDOW_STEPS: u32 = 20;
const BUSY_WINDOW_STEPS: u32 = 60;
const WINDOW_STEP: Duration = Duration::from_millis(10);

/// What is zero when nobody is connected.
const GAUGES: [&str; 5] = [
    "polyloop_live",
    "polyloop_load",
    "polyloop_kept_bytes",
    "polyloop_paused",
    "polyloop_permits_in_use",
];

/// A strace that has a thread of the server in its hands: it spoils system calls until it is let go.
pub(crate) struct Strace(Child);

impl Strace {
    /// Attaches to one thread with an expression such as `recvfrom:delay_enter=1h`; `None`, with a message, where
    /// there is no strace or it may not.
    pub(crate) fn inject(tid: u32, what: &str) -> Option<Self> {
        let call = what.split(':').next().unwrap();
        let spawned = Command::new("strace")
            .args(["-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={what}")])
            .args(["-o", "/dev/null", "-p", &tid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = spawned else {
            eprintln!("skipped: there is no strace");
            return None;
        };
        // It says so once it has attached, and ends if it may not.
        let mut said = String::new();
        let mut pipe = BufReader::new(child.stderr.take().unwrap());
        while !said.contains("attached") && pipe.read_line(&mut said).unwrap() > 0 {}
        let strace = Self(child);
        if said.contains("attached") {
            // What it says later, at its end, finds the pipe open.
            thread::spawn(move || std::io::copy(&mut pipe, &mut std::io::sink()));
            return Some(strace);
        }
        eprintln!("skipped: strace cannot attach: {said}");
        None
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // The kernel lets a thread go whose tracer has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lines of a pipe as they come; the end of the channel is the end of the pipe.
fn lines_of(pipe: ChildStdout) -> Receiver<String> {
    let (tell, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Runs the binary to its end: exit code, standard output, standard error.
#[track_caller]
pub(crate) fn run_to_end(
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> (i32, String, String) {
    let mut command = Command::new(BINARY);
    command.args(args);
    finish_command(command)
}

/// Runs a command to its end, which must come by itself.
#[track_caller]
pub(crate) fn finish_command(mut command: Command) -> (i32, String, String) {
    command.stdin(Stdio::null());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut status = None;
    let deadline = Instant::now() + DEADLINE;
    while status.is_none() && Instant::now() < deadline {
        thread::park_timeout(Duration::from_millis(1));
        status = child.try_wait().unwrap();
    }
    if status.is_none() {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    let Some(code) = status.and_then(|status| status.code()) else {
        panic!("it did not end by itself: {stdout}{stderr}");
    };
    (code, stdout, stderr)
}

/// A client whose reads fail the test instead of hanging it.
#[track_caller]
pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A client of a unix socket, as careful.
#[track_caller]
pub(crate) fn unix(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Proves that a connection is served.
#[track_caller]
pub(crate) fn assert_echo(stream: &mut (impl Read + Write)) {
    stream.write_all(b"are you there?").unwrap();
    let mut answer = [0; 14];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"are you there?");
}

/// Asks the same and does not wait for the answer, which whoever waits in a backlog does not get yet. Who is refused may
/// be so before he can ask.
pub(crate) fn send_unanswered(stream: &mut TcpStream) {
    let _ = stream.write_all(b"are you there?");
}

/// Whether the connection has been ended by the other side, asked without waiting.
pub(crate) fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    match peeked {
        Ok(count) => count == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

/// Reads to the end.
#[track_caller]
pub(crate) fn read_all(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Says that nothing more will be sent.
pub(crate) fn finish(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Closes with a reset.
pub(crate) fn reset(stream: TcpStream) {
    let stream = Stream::from(OwnedFd::from(stream));
    stream.set_abort_on_close().unwrap();
}

/// One HTTP request: status and body.
#[track_caller]
pub(crate) fn get(addr: SocketAddr, path: &str) -> (u16, String) {
    let (status, _, body) = http(addr, &request_of(path));
    (status, body)
}

/// A request for one page on a connection of its own.
pub(crate) fn request_of(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// A request as text: status, head and body of the answer.
#[track_caller]
pub(crate) fn http(addr: SocketAddr, request: &str) -> (u16, String, String) {
    http_on(connect(addr), request)
}

/// The same on a connection that stands.
#[track_caller]
pub(crate) fn http_on(mut stream: impl Read + Write, request: &str) -> (u16, String, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let answer = String::from_utf8(read_all(&mut stream)).unwrap();
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no HTTP: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
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
