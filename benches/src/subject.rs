//! Server processes: started, waited for, and stopped.
//!
//! The one idea: every subject speaks the same small protocol. It prints `listening on ADDRESS` on its standard output
//! once it serves, and ends on SIGTERM. What it prints otherwise is read and dropped, so that a full pipe can never
//! stop it; the last lines of its standard error are kept for the message that says why it failed. A program made by
//! others does not know the line: it is told where to listen, and asked by a connection ([`Ready`]).
//!
//! Invariant: a server is the process that was started and those that it started; they are billed and ended together.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use polyloop_measure::bill::{self, ProcessBill};
use polyloop_measure::host;
use rustix::process::Signal;
use serde::Serialize;

use crate::load::pin;

/// How a server tells that it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// It prints `listening on ADDRESS`.
    Says,
    /// It takes a connection at this address.
    Takes(SocketAddr),
}

/// How to start a server.
#[derive(Debug, Clone, Serialize)]
pub struct Subject {
    /// What tables call it.
    pub name: String,
    /// The binary.
    pub program: PathBuf,
    /// What it is started with.
    pub arguments: Vec<String>,
    /// The core all of its threads are held to from outside; without it they go where they like.
    pub core: Option<usize>,
    /// How it tells that it serves.
    pub ready: Ready,
    /// The exit code of programs that do not call it a success to be told to end.
    pub ends_with: Option<i32>,
}

impl Subject {
    /// The program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Names a subject; `arguments` are split at blanks.
    #[must_use]
    pub fn new(name: &str, program: PathBuf, arguments: &str) -> Self {
        Self {
            name: name.to_owned(),
            program,
            arguments: arguments.split_whitespace().map(str::to_owned).collect(),
            core: None,
            ready: Ready::Says,
            ends_with: None,
        }
    }

    /// An anchor built beside the running program.
    ///
    /// # Errors
    /// When it was not built.
    pub fn anchor(name: &str, binary: &str, arguments: &str) -> Result<Self> {
        let here = std::env::current_exe().context("the path of this program")?;
        let program = here.parent().unwrap_or_else(|| Path::new(".")).join(binary);
        ensure!(
            program.is_file(),
            "{} is not there; build it with `cargo build --release -p polyloop-benches`",
            program.display()
        );
        Ok(Self::new(name, program, arguments))
    }

    /// Starts the server and waits until it listens.
    ///
    /// # Errors
    /// When it cannot be started, ends at once, or does not say that it listens within 10 s.
    pub fn start(&self) -> Result<Server> {
        let mut child = self.spawn()?;
        host::adopt_child(child.id());
        let (said, addresses) = channel();
        let stdout = child.stdout.take().context("stdout is piped")?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let readers = (
            thread::spawn(move || tell_addresses(stdout, &said)),
            thread::spawn(move || keep_last_lines(stderr)),
        );
        let mut server = Server {
            name: self.name.clone(),
            ends_with: self.ends_with,
            child,
            addr: SocketAddr::from(([0, 0, 0, 0], 0)),
            readers: Some(readers),
        };
        server.addr = match self.ready {
            Ready::Says => server.wait_until_said(&addresses)?,
            Ready::Takes(addr) => server.wait_until_taken(addr)?,
        };
        Ok(server)
    }

    fn spawn(&self) -> Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        spawn_on(self.core, &mut command)
    }
}

/// Starts a process from a thread that is pinned first: a process inherits the cores of the thread that made it.
///
/// # Errors
/// When the core may not be used or the process cannot be started.
pub fn spawn_on(core: Option<usize>, command: &mut Command) -> Result<Child> {
    let program = Path::new(command.get_program()).to_owned();
    let start = || {
        pin(core)?;
        command
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))
    };
    match thread::scope(|scope| scope.spawn(start).join()) {
        Ok(child) => child,
        Err(_) => bail!("the thread that starts {} panicked", program.display()),
    }
}

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct Server {
    name: String,
    ends_with: Option<i32>,
    child: Child,
    addr: SocketAddr,
    readers: Option<(JoinHandle<()>, JoinHandle<String>)>,
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails when the server has ended, with what it said last: the reason behind the load's complaint.
    ///
    /// # Errors
    /// When it has ended.
    pub fn require_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let words = self.last_words();
            bail!("{} ended by itself: {status}{words}", self.name);
        }
        Ok(())
    }

    /// What all of its processes have used so far.
    ///
    /// # Errors
    /// When one of them is gone.
    pub fn bill(&self) -> Result<ProcessBill> {
        let mut total = ProcessBill::read(self.pid())?;
        for pid in descendants(self.pid())? {
            total.add(ProcessBill::read(pid)?);
        }
        Ok(total)
    }

    /// What all of its processes hold in memory, in bytes. Pages that two of them share are counted twice.
    ///
    /// # Errors
    /// When one of them is gone.
    pub fn resident_bytes(&self) -> Result<u64> {
        let mut total = bill::resident_bytes(self.pid())?;
        for pid in descendants(self.pid())? {
            total += bill::resident_bytes(pid)?;
        }
        Ok(total)
    }

    /// Asks the server to end and waits for it.
    ///
    /// # Errors
    /// When it ended before, fails, or does not end within 10 s (it is killed then).
    pub fn stop(mut self) -> Result<()> {
        self.require_alive()?;
        host::send_signal(self.pid(), Signal::TERM)?;
        let start = Instant::now();
        let mut asked_twice = false;
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                let words = self.last_words();
                let as_told = self.ends_with.is_some() && status.code() == self.ends_with;
                ensure!(
                    as_told || ended_well(status),
                    "{}: {status}{words}",
                    self.name
                );
                return Ok(());
            }
            // The load's connections may be open still, and a server that drains waits for them: the second signal says
            // that nobody needs them.
            if !asked_twice && start.elapsed() > DRAIN_PATIENCE {
                asked_twice = true;
                host::send_signal(self.pid(), Signal::TERM)?;
            }
            thread::sleep(Duration::from_millis(2));
        }
        bail!(
            "{} did not end within {} s of SIGTERM",
            self.name,
            PATIENCE.as_secs()
        )
    }

    fn wait_until_taken(&mut self, addr: SocketAddr) -> Result<SocketAddr> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                let words = self.last_words();
                bail!("{} did not start: {status}{words}", self.name);
            }
            if TcpStream::connect_timeout(&addr, PATIENCE).is_ok() {
                return Ok(addr);
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        let words = self.last_words();
        bail!("{} takes no connection at {addr}{words}", self.name)
    }

    fn wait_until_said(&mut self, addresses: &Receiver<SocketAddr>) -> Result<SocketAddr> {
        match addresses.recv_timeout(PATIENCE) {
            Ok(addr) => Ok(addr),
            Err(_) => {
                self.kill();
                let words = self.last_words();
                bail!("{} did not print `listening on ADDRESS`{words}", self.name)
            }
        }
    }

    fn kill(&mut self) {
        // A process that was waited for has no descendants, and its number may be another's by now.
        let ended = !matches!(self.child.try_wait(), Ok(None));
        let orphans = if ended {
            Vec::new()
        } else {
            descendants(self.pid()).unwrap_or_default()
        };
        // All of these fail only when the process has ended already.
        drop(self.child.kill());
        for pid in orphans {
            drop(host::send_signal(pid, Signal::KILL));
        }
        drop(self.child.wait());
        host::forget_child(self.child.id());
    }

    /// What it said on standard error; to be called once it has ended.
    fn last_words(&mut self) -> String {
        host::forget_child(self.child.id());
        let Some((stdout, stderr)) = self.readers.take() else {
            return String::new();
        };
        drop(stdout.join());
        match stderr.join() {
            Ok(words) if !words.is_empty() => format!("; it said:\n{words}"),
            _ => String::new(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What polyloop answers when connections were open to the end.
const ENDED_WITH_CUTS: i32 = 3;

/// How long a server may drain before it is told a second time.
const DRAIN_PATIENCE: Duration = Duration::from_millis(200);

/// Processes that `pid` started, and those that they started.
fn descendants(pid: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let name = entry?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // One that ends while this looks is nobody's.
        if let Some(parent) = host::read_process(child, "stat")
            .ok()
            .as_deref()
            .and_then(parent)
        {
            parents.push((child, parent));
        }
    }
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&of) = found.get(next) {
        found.extend(
            parents
                .iter()
                .filter(|(_, parent)| *parent == of)
                .map(|(child, _)| child),
        );
        next += 1;
    }
    found.remove(0);
    Ok(found)
}

/// The parent in a line of `/proc/PID/stat`; the name in it may hold anything, and ends at the last parenthesis.
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn ended_well(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.success()
        || status.code() == Some(ENDED_WITH_CUTS)
        || status.signal() == Some(Signal::TERM.as_raw())
}

/// Reads to the end; sends the address of each line that names one.
fn tell_addresses(stdout: impl Read, said: &Sender<SocketAddr>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if let Some(addr) = ready_address(&line) {
            // Only the first address is waited for.
            let _ = said.send(addr);
        }
    }
}

/// The address in a line such as `listening on 127.0.0.1:7000`, whatever follows it.
fn ready_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on ")?;
    rest.split_whitespace()
        .next()?
        .trim_end_matches([',', ';'])
        .parse()
        .ok()
}

fn keep_last_lines(stderr: impl Read) -> String {
    let mut last = VecDeque::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    Vec::from(last).join("\n")
}

const PATIENCE: Duration = Duration::from_secs(10);

const LAST_LINES: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Subject {
        let mut shell = Subject::new("script", "/bin/sh".into(), "");
        shell.arguments = vec!["-c".into(), script.into()];
        shell
    }

    #[test]
    fn a_server_is_all_of_its_processes() {
        // Goal: what a child does is on the bill, and it ends with its parent; by a shell that starts a busy one.
        let script = "(while :; do :; done) & echo listening on 127.0.0.1:1; wait";
        let server = shell(script).start().unwrap();
        let children = descendants(server.pid()).unwrap();
        assert_eq!(children.len(), 1, "{children:?}");
        let before = server.bill().unwrap();
        while server.bill().unwrap().since(before).cpu_ns == 0 {
            thread::yield_now();
        }
        drop(server);
        // Whoever adopts orphans buries this one; until then it is a zombie, which has no memory.
        while bill::resident_bytes(children[0]).is_ok_and(|bytes| bytes > 0) {
            thread::yield_now();
        }
    }

    #[test]
    fn a_name_does_not_hide_a_parent() {
        // Goal: blanks and parentheses in a process's name move no field, by an example.
        assert_eq!(parent("12 (a ) b) S 7 12 12"), Some(7));
        assert_eq!(parent("12"), None);
    }

    #[test]
    fn a_server_of_others_is_asked_by_a_connection() {
        // Goal: no line is needed where a connection is taken, and an end is noticed; by scripts beside a listener.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let mut quiet = shell("exec sleep 600");
        quiet.ready = Ready::Takes(addr);
        assert_eq!(quiet.start().unwrap().addr(), addr);
        drop(listener);
        let mut broken = shell("echo no such module >&2; exit 1");
        broken.ready = Ready::Takes(addr);
        let error = broken.start().unwrap_err();
        assert!(error.to_string().contains("no such module"), "{error:#}");
    }

    #[test]
    fn the_ready_line_is_found_in_company() {
        // Goal: the line may have a prefix and a suffix, and other lines are no address; by examples.
        let addr = "127.0.0.1:7000".parse().unwrap();
        for line in [
            "listening on 127.0.0.1:7000",
            "echo listening on 127.0.0.1:7000, 2 loops",
        ] {
            assert_eq!(ready_address(line), Some(addr));
        }
        assert_eq!(
            ready_address("listening on [::1]:9"),
            "[::1]:9".parse().ok()
        );
        assert_eq!(ready_address("listening on unix:/run/x"), None);
        assert_eq!(ready_address("hello"), None);
    }

    #[test]
    fn a_server_is_waited_for_and_ended() {
        // Goal: start and stop of a well-behaved server, by a script that sleeps until SIGTERM.
        let server = shell("echo listening on 127.0.0.1:1; exec sleep 600")
            .start()
            .unwrap();
        assert_eq!(server.addr().port(), 1);
        server.stop().unwrap();
    }

    #[test]
    fn a_server_that_fails_is_quoted() {
        // Goal: the reason reaches the person, by scripts that end before and after they listen.
        let error = shell("echo no such address >&2; exit 1")
            .start()
            .unwrap_err();
        assert!(error.to_string().contains("no such address"), "{error:#}");
        let script = "trap 'echo broken >&2; exit 4' TERM; echo listening on 127.0.0.1:1; while :; do sleep 0.01; done";
        let error = shell(script).start().unwrap().stop().unwrap_err();
        assert!(error.to_string().contains("broken"), "{error:#}");
    }
}
