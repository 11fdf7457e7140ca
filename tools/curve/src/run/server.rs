//! A server process: started on its cores, waited for, looked at, and stopped.
//!
//! Invariant: a server is the process that was started and those that it started; they end together, also when this
//! value is dropped or the program is interrupted (`polyloop_measure::host`). What it says is read to the end, so that
//! no full pipe stops it; the last lines are kept for the message that says why it failed.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use polyloop_measure::{bill, host};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::subject::{Bill, Post, Ready, Subject};

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct Server {
    name: String,
    ends_with: Vec<i32>,
    bill: Bill,
    child: Child,
    said: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Server {
    /// Writes the subject's files, starts it on `post.cores`, and waits until it serves.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not serve in time; with what it said.
    pub fn start(subject: &Subject, post: Post<'_>) -> Result<Self> {
        for (name, file) in &subject.files {
            let path = post.dir.join(name);
            fs::write(&path, file.filled(post))
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        let mut words = subject.command.words(post).into_iter();
        let name = words.next().unwrap_or_default();
        let program = find_program(&name).with_context(|| format!("{name} is not there"))?;
        let mut command = Command::new(&program);
        command
            .args(words)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = spawn_on(&mut command, post.cores)
            .with_context(|| format!("{} cannot be started", program.display()))?;
        host::adopt_child(child.id());
        let (ready, is_ready) = channel();
        let said = Arc::default();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let mut readers = Vec::new();
        if let (Some(out), Some(err)) = (out, err) {
            readers.push(listen(out, &said, Some(ready)));
            readers.push(listen(err, &said, None));
        }
        let mut server = Self {
            name: subject.name.clone(),
            ends_with: subject.ends_with.clone(),
            bill: subject.bill,
            child,
            said,
            readers,
        };
        let addr = SocketAddr::from(([127, 0, 0, 1], post.port));
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            server.require_alive()?;
            let serves = match subject.ready {
                Ready::Says => is_ready.try_recv().is_ok(),
                Ready::Connects => TcpStream::connect_timeout(&addr, PATIENCE).is_ok(),
            };
            if serves {
                server.settle()?;
                return Ok(server);
            }
            thread::sleep(Duration::from_millis(5));
        }
        let how = match subject.ready {
            Ready::Says => "did not print `listening on ADDRESS`",
            Ready::Connects => "took no connection",
        };
        Err(server.ended(&format!("{how} within {} s", PATIENCE.as_secs())))
    }

    /// Fails when it has ended, with what it said.
    ///
    /// # Errors
    /// When it has ended.
    pub fn require_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.ended(&format!("ended by itself: {status}"))),
        }
    }

    /// Waits until no process is added any more: a listener takes connections before the workers that will serve them
    /// are there, and a worker that is not known is not billed.
    fn settle(&mut self) -> Result<()> {
        let (start, mut since) = (Instant::now(), Instant::now());
        let mut known = self.pids()?;
        while since.elapsed() < SETTLED && start.elapsed() < SETTLED_MAX {
            thread::sleep(Duration::from_millis(10));
            self.require_alive()?;
            let now = self.pids()?;
            if now != known {
                known = now;
                since = Instant::now();
            }
        }
        Ok(())
    }

    /// The processes whose time is billed.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn pids(&self) -> Result<Vec<u32>> {
        let mut pids = vec![self.child.id()];
        if self.bill == Bill::Tree {
            pids.extend(descendants(self.child.id())?);
        }
        Ok(pids)
    }

    /// What they hold in memory. Pages that two of them share are counted twice.
    #[must_use]
    pub fn memory_bytes(&self) -> Option<u64> {
        let sizes = self.pids().ok()?.into_iter().map(bill::resident_bytes);
        sizes.sum::<Result<u64>>().ok()
    }

    /// Name and processor time of each thread, in ticks of the kernel, by its number.
    #[must_use]
    pub fn threads(&self) -> BTreeMap<u32, (String, u64)> {
        let mut threads = BTreeMap::new();
        for pid in self.pids().unwrap_or_default() {
            let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
                continue; // it has ended
            };
            for task in tasks.filter_map(Result::ok) {
                let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                let number = task.file_name().to_string_lossy().parse();
                if let (Ok(number), Some(thread)) = (number, thread_of(&stat)) {
                    threads.insert(number, thread);
                }
            }
        }
        threads
    }

    /// Asks it to end, twice if it drains, and waits.
    ///
    /// # Errors
    /// When it had ended before, fails, or has to be killed.
    pub fn stop(mut self) -> Result<()> {
        self.require_alive()?;
        host::send_signal(self.child.id(), Signal::TERM)?;
        let start = Instant::now();
        let mut asked_twice = false;
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return if self.ended_well(status) {
                    Ok(())
                } else {
                    Err(self.ended(&format!("was told to end: {status}")))
                };
            }
            if !asked_twice && start.elapsed() > DRAIN_PATIENCE {
                asked_twice = true;
                host::send_signal(self.child.id(), Signal::TERM)?;
            }
            thread::sleep(Duration::from_millis(2));
        }
        bail!("{} had to be killed: it does not end on SIGTERM", self.name)
    }

    fn ended_well(&self, status: ExitStatus) -> bool {
        use std::os::unix::process::ExitStatusExt;
        status.success()
            || status
                .code()
                .is_some_and(|code| self.ends_with.contains(&code))
            || status.signal() == Some(Signal::TERM.as_raw())
    }

    /// The error that says what happened and quotes the server.
    fn ended(&mut self, what: &str) -> anyhow::Error {
        self.kill();
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_empty() {
            return anyhow!("{} {what}, and said nothing", self.name);
        }
        let lines: Vec<&str> = said.iter().map(String::as_str).collect();
        anyhow!("{} {what}; it said:\n{}", self.name, lines.join("\n"))
    }

    /// Ends it and all that it started, also what outlived it: they are one process group, whose number stays taken as
    /// long as one of them is there.
    fn kill(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            // It fails when nobody is left, which is what it is for.
            let _ = kill_process_group(group, Signal::KILL);
        }
        drop(self.child.wait());
        host::forget_child(self.child.id());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program: as it stands when it has a path, beside this one, or on the path.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let is_there = |path: PathBuf| path.is_file().then_some(path);
    if name.contains('/') {
        return is_there(name.into());
    }
    let here = std::env::current_exe().ok();
    let beside = here
        .as_deref()
        .and_then(Path::parent)
        .map(|dir| dir.join(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&path).map(|dir| dir.join(name)))
        .find_map(is_there)
}

/// Starts a process that may run on `cores` only: it inherits them from the thread that makes it.
///
/// # Errors
/// When it cannot be started, or a core is not there.
pub fn spawn_on(command: &mut Command, cores: &[usize]) -> Result<Child> {
    let mut set = CpuSet::new();
    for &core in cores.iter().filter(|&&core| core < CpuSet::MAX_CPU) {
        set.set(core);
    }
    let start = || -> Result<Child> {
        sched_setaffinity(None, &set).with_context(|| format!("no cores {cores:?}"))?;
        Ok(command.spawn()?)
    };
    match thread::scope(|scope| scope.spawn(start).join()) {
        Ok(child) => child,
        Err(_) => bail!("the thread that starts it panicked"),
    }
}

/// Reads to the end, keeps the last lines, and tells of the line that says it serves.
fn listen(
    from: impl Read + Send + 'static,
    said: &Arc<Mutex<VecDeque<String>>>,
    ready: Option<Sender<()>>,
) -> JoinHandle<()> {
    let said = Arc::clone(said);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if let Some(ready) = ready.as_ref().filter(|_| line.contains("listening on ")) {
                // Nobody waits for a second one.
                let _ = ready.send(());
            }
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.len() == LAST_LINES {
                said.pop_front();
            }
            said.push_back(line);
        }
    })
}

/// Processes that `pid` started, and those that they started.
fn descendants(pid: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let name = entry?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = host::read_process(child, "stat").unwrap_or_default();
        if let Some(parent) = fields(&stat).and_then(|fields| fields.get(1)?.parse().ok()) {
            parents.push((child, parent));
        }
    }
    let mut found: Vec<u32> = vec![pid];
    let mut next = 0;
    while let Some(&of) = found.get(next) {
        let of_this = parents
            .iter()
            .filter(|(_, parent): &&(u32, u32)| *parent == of);
        found.extend(of_this.map(|(child, _)| child));
        next += 1;
    }
    found.remove(0);
    Ok(found)
}

/// The fields after the name, which may hold anything and ends at the last parenthesis; the state is the first.
fn fields(stat: &str) -> Option<Vec<&str>> {
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().collect())
}

/// Name, and ticks of user and kernel mode.
fn thread_of(stat: &str) -> Option<(String, u64)> {
    let name = stat.get(stat.find('(')? + 1..stat.rfind(')')?)?.to_owned();
    let fields = fields(stat)?;
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some((name, ticks(11)? + ticks(12)?))
}

const PATIENCE: Duration = Duration::from_secs(10);

/// How long the processes of a server have to stay the same. Workers follow their master within milliseconds.
const SETTLED: Duration = Duration::from_millis(150);

/// A server whose processes come and go all the time is measured all the same, and its points are doubted.
const SETTLED_MAX: Duration = Duration::from_secs(2);

/// How long a server may drain before it is told a second time.
const DRAIN_PATIENCE: Duration = Duration::from_millis(300);

const LAST_LINES: usize = 12;

#[cfg(test)]
mod tests;
