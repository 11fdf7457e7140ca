//! The host of a run: how busy it was, and what the run changes on it.
//!
//! The one idea: a run leaves the host as it found it, also when it is interrupted: its one setting ([`Congestion`]), its
//! files ([`Scratch`]) and its processes ([`adopt_child`]). What a result file says about the host is
//! [`Machine`](crate::machine::Machine).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Cores this process may run on.
#[must_use]
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The commit of the working tree, with `+changes` when it differs from it; `None` without git.
#[must_use]
pub fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let head = git(&["rev-parse", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changes.is_empty() {
        head
    } else {
        format!("{head}+changes")
    })
}

/// The most open files that a process started here may have.
#[must_use]
pub fn open_files_max() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// Raises the soft limit of open files to the hard one; servers started afterwards inherit it.
///
/// # Errors
/// When the system refuses.
pub fn raise_open_files() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Time all cores together spent, in ticks of the kernel's accounting (10 ms).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MachineTime {
    /// Doing something: user, system and interrupt time.
    pub busy_ticks: u64,
    /// Wanted by this machine and given to another one by the hypervisor.
    pub steal_ticks: u64,
    /// Everything, idle time included.
    pub total_ticks: u64,
}

impl MachineTime {
    /// Reads the counters now.
    ///
    /// # Errors
    /// When `/proc/stat` cannot be read or understood.
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
        Self::parse(&text).context("/proc/stat has no line `cpu` with eight figures")
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let figures: Vec<u64> = line
            .split_whitespace()
            .map_while(|word| word.parse().ok())
            .collect();
        let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = figures[..] else {
            return None;
        };
        let busy_ticks = user + nice + system + irq + softirq;
        Some(Self {
            busy_ticks,
            steal_ticks: steal,
            total_ticks: busy_ticks + idle + iowait + steal,
        })
    }

    /// Adds what was used at another time.
    pub fn add(&mut self, other: Self) {
        self.busy_ticks += other.busy_ticks;
        self.steal_ticks += other.steal_ticks;
        self.total_ticks += other.total_ticks;
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            busy_ticks: self.busy_ticks.saturating_sub(earlier.busy_ticks),
            steal_ticks: self.steal_ticks.saturating_sub(earlier.steal_ticks),
            total_ticks: self.total_ticks.saturating_sub(earlier.total_ticks),
        }
    }

    /// Busy time in nanoseconds.
    #[must_use]
    pub fn busy_ns(self) -> u64 {
        self.busy_ticks * 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1)
    }

    /// The share of all time that was stolen.
    #[must_use]
    pub fn steal_share(self) -> f64 {
        self.steal_ticks as f64 / self.total_ticks.max(1) as f64
    }
}

/// TCP segments that this network namespace has sent again, over all connections since it was made; `None` where the system
/// does not tell.
#[must_use]
pub fn tcp_retransmits() -> Option<u64> {
    retransmits_in(&fs::read_to_string("/proc/net/snmp").ok()?)
}

/// A line of names and a line of figures, both beginning with `Tcp:`.
fn retransmits_in(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, figures) = (lines.next()?, lines.next()?);
    let at = names
        .split_whitespace()
        .position(|name| name == "RetransSegs")?;
    figures.split_whitespace().nth(at)?.parse().ok()
}

/// The host's congestion control, set for the length of a run.
///
/// Accepted sockets take theirs from the listener and the listener from the host when it is made, so a load that sets it
/// on its own sockets changes one direction only. Without the right to set it, the value stays and [`told`](Self::told)
/// says so.
#[derive(Debug)]
pub struct Congestion {
    told: String,
}

impl Congestion {
    /// Sets `wanted` for the host, or keeps what is there when `wanted` is `None`.
    #[must_use]
    pub fn set(wanted: Option<&str>) -> Self {
        let path = setting_path(CONGESTION);
        let before = read_line(&path);
        let told = match wanted {
            None => format!("{before} (the host's, kept)"),
            Some(wanted) if wanted == before => format!("{before} (the host's)"),
            Some(wanted) => match fs::write(&path, wanted) {
                Ok(()) => {
                    leave_behind().congestion = Some(before.clone());
                    format!("{wanted} (set for the run on a host with {before})")
                }
                Err(error) => format!("{before} at the server, {wanted} at the client ({error})"),
            },
        };
        Self { told }
    }

    /// What was in force and why, for the result.
    #[must_use]
    pub fn told(&self) -> &str {
        &self.told
    }
}

impl Drop for Congestion {
    fn drop(&mut self) {
        leave_behind().restore_congestion();
    }
}

/// What has to be put right before this process ends, however it ends.
#[derive(Debug)]
struct LeaveBehind {
    congestion: Option<String>,
    children: Vec<u32>,
    directories: Vec<PathBuf>,
}

impl LeaveBehind {
    fn restore_congestion(&mut self) {
        if let Some(before) = self.congestion.take()
            && let Err(error) = fs::write(setting_path(CONGESTION), &before)
        {
            eprintln!("{CONGESTION} could not be set back to {before}: {error}");
        }
    }
}

static LEAVE_BEHIND: Mutex<LeaveBehind> = Mutex::new(LeaveBehind {
    congestion: None,
    children: Vec::new(),
    directories: Vec::new(),
});

fn leave_behind() -> std::sync::MutexGuard<'static, LeaveBehind> {
    // A panic while the lock is held leaves plain values behind, and cleaning up must go on.
    LEAVE_BEHIND
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Notes a process that must not outlive this one.
pub fn adopt_child(pid: u32) {
    leave_behind().children.push(pid);
}

/// Forgets a process that has ended; to be called before its number can be used again.
pub fn forget_child(pid: u32) {
    leave_behind().children.retain(|&child| child != pid);
}

/// A directory for files that servers read, gone when this value is, or when the process is told to end.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes the directory where temporary files belong. Two in one process have different names.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        let number = SCRATCHES.fetch_add(1, Ordering::Relaxed);
        let name = format!("polyloop-bench-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        leave_behind().directories.push(path.clone());
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        leave_behind().directories.retain(|path| *path != self.path);
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("{} could not be removed: {error}", self.path.display());
        }
    }
}

static SCRATCHES: AtomicU64 = AtomicU64::new(0);

/// Sends `signal` to process `pid`.
///
/// # Errors
/// When there is no such process or it belongs to somebody else.
pub fn send_signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .with_context(|| format!("{pid} is no process"))?;
    kill_process(pid, signal).with_context(|| format!("process {pid:?}"))?;
    Ok(())
}

/// From now on an interrupt or a request to end restores the host, ends the servers, and then this process.
///
/// # Errors
/// When the signals cannot be caught.
pub fn clean_up_on_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot catch signals")?;
    thread::Builder::new()
        .name("clean-up".into())
        .spawn(move || {
            if let Some(signal) = signals.forever().next() {
                let mut behind = leave_behind();
                behind.restore_congestion();
                for &child in &behind.children {
                    // One that is gone already is as good as one that is told to go.
                    drop(send_signal(child, Signal::TERM));
                }
                for directory in &behind.directories {
                    drop(fs::remove_dir_all(directory));
                }
                std::process::exit(128 + signal);
            }
        })
        .context("no thread for signals")?;
    Ok(())
}

/// A file of `/proc` about process `pid`, as text.
///
/// # Errors
/// When it cannot be read, most likely because the process is gone.
pub fn read_process(pid: u32, file: &str) -> Result<String> {
    let path = PathBuf::from(format!("/proc/{pid}")).join(file);
    fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
}

/// The number after `label:` in a file of labelled lines.
///
/// # Errors
/// When there is no such line.
pub fn labelled_number(text: &str, label: &str) -> Result<u64> {
    let value = after_label(text, label);
    let number = value
        .as_deref()
        .and_then(|text| text.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("there is no line `{label}: <number>`"))
}

/// The text after `label:`.
pub(crate) fn after_label(text: &str, label: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == label).then(|| value.trim().to_owned())
    })
}

/// Refuses to go on when the machine has fewer cores than a placement names.
///
/// # Errors
/// When `highest` is beyond the last core.
pub fn require_core(highest: usize) -> Result<()> {
    ensure!(
        polyloop_sys::cores::allowed().contains(&highest),
        "core {highest} is not one this process may use; name others by the flags of the cores"
    );
    Ok(())
}

/// What a file of one line says; nothing when it cannot be read.
pub(crate) fn read_line(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Where the kernel keeps a setting.
pub(crate) fn setting_path(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

pub(crate) const CONGESTION: &str = "net.ipv4.tcp_congestion_control";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retransmits_are_found_by_their_name() {
        // Goal: the figure under the name, wherever kernels put it; none where it is missing.
        let text =
            "Ip: A\nIp: 1\nTcp: InSegs RetransSegs InErrs\nTcp: 9 7 0\nUdp: RetransSegs\nUdp: 5\n";
        assert_eq!(retransmits_in(text), Some(7));
        assert_eq!(retransmits_in("Tcp: InSegs\nTcp: 9\n"), None);
        assert!(tcp_retransmits().is_some());
    }

    #[test]
    fn machine_time_is_read_off_the_first_line() {
        // Goal: busy, stolen and total ticks from a known text; and no guess about a short line.
        let text = "cpu  10 1 20 300 5 2 3 4 7 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        let time = MachineTime::parse(text).unwrap();
        assert_eq!(
            (time.busy_ticks, time.steal_ticks, time.total_ticks),
            (36, 4, 345)
        );
        assert_eq!(MachineTime::parse("cpu  1 2 3\n"), None);
    }

    #[test]
    fn labelled_numbers_are_found_whole() {
        // Goal: a label matches in full, not as a part of another; by the two kinds of context switches.
        let text = "nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t5\nRss:  12 kB\n";
        assert_eq!(labelled_number(text, "voluntary_ctxt_switches").unwrap(), 5);
        assert_eq!(labelled_number(text, "Rss").unwrap(), 12);
        labelled_number(text, "Pss").unwrap_err();
    }
}
