//! Servers to stand behind a proxy: in the test, where it can look inside, and in a process of its own.

use crate::harness::{BINARY, DEADLINE, eventually, reset};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What a backend does with a connection, in a thread of its own. Reads return every few milliseconds, so that it can
/// ask whether it is over.
type Act = dyn Fn(TcpStream, &Shared) + Send + Sync;

/// A server in the test.
pub(super) struct Backend {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// What its threads share.
pub(super) struct Shared {
    is_over: AtomicBool,
    accepted: AtomicUsize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Backend {
    /// Sends back what comes.
    pub(super) fn echo() -> Self {
        Self::act(any(), echo_until_over)
    }

    /// The same at an address that was another's.
    pub(super) fn echo_at(addr: SocketAddr) -> Self {
        Self::act(TcpListener::bind(addr).unwrap(), echo_until_over)
    }

    /// Says its name and closes.
    pub(super) fn named(name: &'static str) -> Self {
        Self::named_on(any(), name)
    }

    /// The same where the test wants it.
    pub(super) fn named_on(listener: TcpListener, name: &'static str) -> Self {
        Self::act(listener, move |mut stream, _| {
            // A check looks in and is gone again.
            let _ = stream.write_all(name.as_bytes());
        })
    }

    /// Says the next answer and closes.
    pub(super) fn answering(answer: impl Fn() -> &'static str + Send + Sync + 'static) -> Self {
        Self::act(any(), move |mut stream, _| {
            let _ = stream.write_all(answer().as_bytes());
        })
    }

    /// Says where the connection came from, and closes once the other side has finished.
    pub(super) fn noting_sources() -> Self {
        Self::act(any(), |mut stream, shared| {
            let source = stream.peer_addr().unwrap().to_string();
            while !shared.is_over() && !is_finished(&stream) {}
            let _ = stream.write_all(source.as_bytes());
        })
    }

    /// Listens to the end, then tells what it heard.
    pub(super) fn telling() -> Self {
        Self::act(any(), |mut stream, shared| {
            let mut heard = b"got:".to_vec();
            let mut buffer = [0; 4096];
            while !shared.is_over() {
                match stream.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => heard.extend(&buffer[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
            let _ = stream.write_all(&heard);
        })
    }

    /// Accepts and says nothing.
    pub(super) fn silent() -> Self {
        Self::act(any(), |stream, shared| {
            while !shared.is_over() && !is_finished(&stream) {
                thread::park_timeout(READ_TIMEOUT);
            }
        })
    }

    fn act(
        listener: TcpListener,
        act: impl Fn(TcpStream, &Shared) + Send + Sync + 'static,
    ) -> Self {
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            is_over: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            threads: Mutex::default(),
        });
        let acceptor = {
            let (shared, act) = (Arc::clone(&shared), Arc::new(act));
            thread::spawn(move || accept_all(&listener, &shared, act))
        };
        Self {
            addr,
            shared,
            acceptor: Some(acceptor),
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// As `--to` wants it.
    pub(super) fn to(&self) -> String {
        self.addr.to_string()
    }

    /// Connections so far.
    pub(super) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Stops listening and resets every connection, as a process that is killed does in the middle of things.
    pub(super) fn kill(&mut self) {
        let Some(acceptor) = self.acceptor.take() else {
            return;
        };
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes who accepts.
        let _ = TcpStream::connect(self.addr);
        acceptor.join().unwrap();
        let threads = std::mem::take(&mut *self.shared.threads.lock().unwrap());
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.kill();
        }
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }
}

fn any() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>, act: Arc<Act>) {
    loop {
        let (stream, _) = listener.accept().unwrap();
        if shared.is_over() {
            return;
        }
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let thread = {
            let (shared, act) = (Arc::clone(shared), Arc::clone(&act));
            thread::spawn(move || act(stream, &shared))
        };
        shared.threads.lock().unwrap().push(thread);
    }
}

fn echo_until_over(mut stream: TcpStream, shared: &Shared) {
    let mut buffer = vec![0; 16 * 1024];
    while !shared.is_over() {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if stream.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
    reset(stream);
}

/// Whether the other side has finished or broken off; takes nothing.
fn is_finished(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

const READ_TIMEOUT: Duration = Duration::from_millis(5);

/// An echo server in a process of its own, for signals.
pub(super) struct Process {
    child: Child,
    addr: String,
}

impl Process {
    pub(super) fn echo() -> Self {
        let mut child = Command::new(BINARY)
            .args(["echo", "--listen", "127.0.0.1:0", "--loops", "1"])
            .args(["--pin", "never", "--log", "off"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let addr = line.trim().rsplit(' ').next().unwrap().to_owned();
        Self { child, addr }
    }

    pub(super) fn to(&self) -> String {
        self.addr.clone()
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let process = format!("/proc/{}", self.child.id());
        let state_of = |stat: String| {
            let text = std::fs::read_to_string(stat).unwrap_or_default();
            text.rsplit_once(") ").map(|(_, rest)| rest.chars().next())
        };
        match signal {
            Signal::KILL => eventually("it is dead", || {
                state_of(format!("{process}/stat")).is_none_or(|state| state == Some('Z'))
            }),
            // Each of its threads stops by itself; one that has not may still answer.
            Signal::STOP => eventually("it stands still", || {
                let tasks = std::fs::read_dir(format!("{process}/task")).unwrap();
                tasks.flatten().all(|task| {
                    let stat = task.path().join("stat").display().to_string();
                    state_of(stat).is_none_or(|state| state == Some('T'))
                })
            }),
            _ => {}
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, or does now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
