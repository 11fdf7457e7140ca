//! What a thread of this process is doing, seen from another: computing, or waiting, and in which system call.
//!
//! The one idea: for a loop that has stopped turning, `/proc` tells without the loop's help what it is stuck in.
//! Reading costs the *asker* three small files and the loop nothing.
//!
//! Deliberately absent: stacks, which need ptrace or a signal and would disturb the thread that is looked at.

use std::fmt;
use std::fs;
use std::io;

/// One look at a thread. It may have moved on since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadState {
    /// The kernel's letter: `R` runs or could, `S` waits, `D` waits and cannot be interrupted (a disk), `T` is stopped.
    pub state: char,
    /// The system call it is in; `None` while it computes, or where the kernel does not tell.
    pub syscall: Option<Syscall>,
    /// The kernel function it waits in; `None` while it runs, or where the kernel does not tell.
    pub wchan: Option<String>,
}

impl ThreadState {
    /// Whether the thread waits for something, as opposed to computing or being ready to.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.state != 'R'
    }
}

impl fmt::Display for ThreadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_waiting(), &self.syscall) {
            (true, Some(syscall)) => write!(f, "waiting in {syscall}")?,
            (true, None) => f.write_str("waiting")?,
            (false, Some(syscall)) => write!(f, "running in {syscall}")?,
            (false, None) => f.write_str("computing")?,
        }
        match &self.wchan {
            Some(wchan) => write!(f, " ({wchan}, state {})", self.state),
            None => write!(f, " (state {})", self.state),
        }
    }
}

/// A system call by number, and by name if it is one that a stuck loop is likely to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syscall {
    /// Its number on this architecture.
    pub number: u64,
    /// Its name, if it is among those that usually block.
    pub name: Option<&'static str>,
}

impl fmt::Display for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "system call {}", self.number),
        }
    }
}

/// Looks at thread `thread_id` of this process.
///
/// # Errors
/// `NotFound` when there is no such thread (any more) or `/proc` is not mounted, `InvalidData` if the kernel's text
/// cannot be understood. That the kernel hides the system call or the wait channel is no error.
pub fn probe(thread_id: u32) -> io::Result<ThreadState> {
    let read = |name: &str| fs::read_to_string(format!("/proc/self/task/{thread_id}/{name}"));
    let state = parse_state(&read("stat")?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no state in the stat file"))?;
    Ok(ThreadState {
        state,
        syscall: read("syscall").ok().and_then(|text| parse_syscall(&text)),
        wchan: read("wchan").ok().and_then(|text| parse_wchan(&text)),
    })
}

/// The letter after the name. The name is in parentheses and may hold any character, parentheses too, so the last
/// closing one counts.
fn parse_state(stat: &str) -> Option<char> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.trim_start()
        .chars()
        .next()
        .filter(char::is_ascii_alphabetic)
}

/// The number that begins the line; `running` and `-1` (blocked, but not in a system call) have none.
fn parse_syscall(text: &str) -> Option<Syscall> {
    let number = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Syscall {
        number,
        name: name_of(number),
    })
}

/// The kernel writes `0` for a thread that does not wait, and for readers it does not trust.
fn parse_wchan(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty() && text != "0").then(|| text.to_owned())
}

fn name_of(number: u64) -> Option<&'static str> {
    let number = libc::c_long::try_from(number).ok()?;
    BLOCKING
        .iter()
        .chain(BLOCKING_OLD)
        .find(|(known, _)| *known == number)
        .map(|(_, name)| *name)
}

/// System calls a handler may be stuck in, on every architecture.
const BLOCKING: &[(libc::c_long, &str)] = &[
    (libc::SYS_accept, "accept"),
    (libc::SYS_accept4, "accept4"),
    (libc::SYS_clock_nanosleep, "clock_nanosleep"),
    (libc::SYS_close, "close"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_copy_file_range, "copy_file_range"),
    (libc::SYS_epoll_pwait, "epoll_pwait"),
    (libc::SYS_epoll_pwait2, "epoll_pwait2"),
    (libc::SYS_fallocate, "fallocate"),
    (libc::SYS_fcntl, "fcntl"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_flock, "flock"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_ftruncate, "ftruncate"),
    (libc::SYS_futex, "futex"),
    (libc::SYS_getdents64, "getdents64"),
    (libc::SYS_getrandom, "getrandom"),
    (libc::SYS_io_uring_enter, "io_uring_enter"),
    (libc::SYS_ioctl, "ioctl"),
    (libc::SYS_madvise, "madvise"),
    (libc::SYS_mmap, "mmap"),
    (libc::SYS_msync, "msync"),
    (libc::SYS_munmap, "munmap"),
    (libc::SYS_nanosleep, "nanosleep"),
    (libc::SYS_openat, "openat"),
    (libc::SYS_ppoll, "ppoll"),
    (libc::SYS_pread64, "pread64"),
    (libc::SYS_pselect6, "pselect6"),
    (libc::SYS_pwrite64, "pwrite64"),
    (libc::SYS_read, "read"),
    (libc::SYS_readv, "readv"),
    (libc::SYS_recvfrom, "recvfrom"),
    (libc::SYS_recvmsg, "recvmsg"),
    (libc::SYS_sched_yield, "sched_yield"),
    (libc::SYS_sendfile, "sendfile"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_sendto, "sendto"),
    (libc::SYS_splice, "splice"),
    (libc::SYS_sync, "sync"),
    (libc::SYS_unlinkat, "unlinkat"),
    (libc::SYS_wait4, "wait4"),
    (libc::SYS_waitid, "waitid"),
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
];

/// Calls that younger architectures left out.
#[cfg(target_arch = "x86_64")]
const BLOCKING_OLD: &[(libc::c_long, &str)] = &[
    (libc::SYS_epoll_wait, "epoll_wait"),
    (libc::SYS_open, "open"),
    (libc::SYS_pause, "pause"),
    (libc::SYS_poll, "poll"),
    (libc::SYS_rename, "rename"),
    (libc::SYS_select, "select"),
    (libc::SYS_unlink, "unlink"),
];

/// Calls that younger architectures left out.
#[cfg(not(target_arch = "x86_64"))]
const BLOCKING_OLD: &[(libc::c_long, &str)] = &[];

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::mpsc;

    use super::*;
    use crate::clock::ThreadClock;

    #[test]
    fn the_kernels_texts_parse() {
        // Goal: every form the kernel writes is understood. Method: texts in the kernel's format, and broken ones.
        assert_eq!(
            parse_state("812 (loop-0) S 1 812 812 0 -1 4194304"),
            Some('S')
        );
        assert_eq!(parse_state("812 (a) R (b) c) D 1 812"), Some('D'));
        assert_eq!(parse_state("812 (loop-0)"), None);
        assert_eq!(parse_state(""), None);
        assert_eq!(parse_syscall("running\n"), None);
        assert_eq!(parse_syscall("-1 0x7ffc12345678 0x7f1234567890\n"), None);
        assert_eq!(parse_syscall(""), None);
        let read = format!(
            "{} 0x3 0x7ffd 0x400 0x0 0x0 0x0 0x7ffd 0x7f12\n",
            libc::SYS_read
        );
        assert_eq!(parse_syscall(&read).unwrap().to_string(), "read");
        let unknown = parse_syscall("99999 0x0").unwrap();
        assert_eq!((unknown.number, unknown.name), (99_999, None));
        assert_eq!(unknown.to_string(), "system call 99999");
        assert_eq!(parse_wchan("0"), None);
        assert_eq!(parse_wchan("\n"), None);
        assert_eq!(
            parse_wchan("futex_do_wait").as_deref(),
            Some("futex_do_wait")
        );
    }

    #[test]
    fn a_report_reads_well() {
        // Goal: the watchdog can print a state as it is. Method: one of each kind.
        let syscall = parse_syscall(&format!("{} 0x0", libc::SYS_fsync));
        let wchan = Some("jbd2_log_wait_commit".to_owned());
        let mut state = ThreadState {
            state: 'D',
            syscall,
            wchan,
        };
        assert_eq!(
            state.to_string(),
            "waiting in fsync (jbd2_log_wait_commit, state D)"
        );
        state = ThreadState {
            state: 'R',
            syscall: None,
            wchan: None,
        };
        assert_eq!(state.to_string(), "computing (state R)");
    }

    #[test]
    fn tells_waiting_from_computing() {
        // Goal: both answers on real threads. Method: this thread looks at itself, and at one that blocks in a read;
        // the look is repeated until the other has arrived there.
        let own = probe(ThreadClock::current().thread_id()).unwrap();
        assert!(!own.is_waiting(), "{own}");
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (id_out, id_in) = mpsc::channel();
        let blocked = std::thread::spawn(move || {
            id_out.send(ThreadClock::current().thread_id()).unwrap();
            let _ = reader.read(&mut [0]);
        });
        let thread_id = id_in.recv().unwrap();
        let in_read = |state: &ThreadState| {
            state.is_waiting()
                && state
                    .syscall
                    .is_none_or(|syscall| syscall.name == Some("read"))
        };
        while !in_read(&probe(thread_id).unwrap()) {
            std::thread::yield_now();
        }
        drop(writer);
        blocked.join().unwrap();
        assert_eq!(probe(u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
