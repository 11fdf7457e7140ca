//! The descriptor table: how many it may hold, how large it is, how many are in it.
//!
//! The one idea: a table that grows while several threads share it stops the thread that grows it until every core
//! has passed a grace period of the kernel's read-copy-update, tens of milliseconds during which a loop serves
//! nobody. So it is grown once, before there are threads, when the same step is a plain copy.
//!
//! Deliberately absent: permits and reserves, which are decisions.

#![expect(
    unsafe_code,
    reason = "a thread that leaves its table has to know what it holds"
)]

use std::fs;
use std::io;
use std::os::fd::RawFd;

use rustix::event::EventfdFlags;
use rustix::process::{Resource, Rlimit};
use rustix::thread::UnshareFlags;

/// What [`raise_limit`] found and what it left. `u64::MAX` stands for "no limit".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// The soft limit before.
    pub soft_before: u64,
    /// The soft limit now, the one that bounds the table.
    pub soft: u64,
    /// The hard limit, which only a privileged process can raise.
    pub hard: u64,
}

/// Raises this process's soft limit of descriptors to its hard limit. Harmless when repeated.
///
/// The usual soft limit of 1,024 exists for programs that use `select`; nothing here does.
///
/// # Errors
/// None is known, as an unprivileged process may always go up to its hard limit; a security filter may forbid it.
pub fn raise_limit() -> io::Result<DescriptorLimit> {
    let before = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: before.maximum,
            maximum: before.maximum,
        },
    )?;
    let after = rustix::process::getrlimit(Resource::Nofile);
    Ok(DescriptorLimit {
        soft_before: before.current.unwrap_or(u64::MAX),
        soft: after.current.unwrap_or(u64::MAX),
        hard: after.maximum.unwrap_or(u64::MAX),
    })
}

/// Gives this thread a table of its own: a copy of the one that it shared, from now on apart. What this thread opens, others do
/// not see, nor what they close; the limit holds for each table by itself, and a look-up in a table that nobody shares needs no
/// atomic reference count.
///
/// Descriptors that were open before are open in both, so that whatever they stand for stays until both have closed it. A value
/// that owns a descriptor opened by *this* thread later must be dropped by this thread: on another, its number is somebody
/// else's. Call it on a thread that will hand no descriptor to others, before it opens its first.
///
/// # Errors
/// `OutOfMemory`, or what a security filter says.
pub fn part_from_shared_table() -> io::Result<()> {
    // SAFETY: no descriptor changes its meaning on this thread or any other by this call: the copy has the same numbers. The
    // condition for later, that descriptors do not cross threads, is the caller's, above; breaking it closes or uses a wrong
    // file, which is no breach of memory.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FILES) }?;
    Ok(())
}

/// Makes the table large enough for `target` descriptors now. Call it before threads start: see the module's text.
/// The memory (8 bytes and a few bits for each) stays until the process ends.
///
/// # Errors
/// `InvalidInput` when `target` is above the soft limit, `OutOfMemory` when the kernel has no room for the table.
pub fn grow_table(target: u64) -> io::Result<()> {
    let Some(last) = target.checked_sub(1) else {
        return Ok(());
    };
    let last = RawFd::try_from(last).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // Any descriptor will do to be copied up; an eventfd needs no file system. Both close at the end of this function,
    // and the table never shrinks.
    let original = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let _highest = rustix::io::fcntl_dupfd_cloexec(&original, last)?;
    Ok(())
}

/// How many descriptors this thread's table holds at the moment. It reads a directory: for start-up, reports and tests.
///
/// # Errors
/// `NotFound` where `/proc` is not mounted.
pub fn count_open() -> io::Result<u64> {
    let mut entries: u64 = 0;
    // The calling thread's own table, which is not the process's once tables have parted.
    for entry in fs::read_dir("/proc/thread-self/fd")? {
        entry?;
        entries += 1;
    }
    // The directory being read is one of them.
    Ok(entries.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_reaches_its_hard_end() {
        // Goal: soft equals hard afterwards, and a second call changes nothing. Method: call twice.
        let first = raise_limit().unwrap();
        assert_eq!(first.soft, first.hard);
        assert!(first.soft_before <= first.soft);
        let second = raise_limit().unwrap();
        assert_eq!(second.soft_before, second.soft);
    }

    #[test]
    fn the_table_grows_and_nothing_stays_open() {
        // Goal: the kernel's own figure for the table's size is at least the target. Method: read it from the status
        // file.
        let limit = raise_limit().unwrap();
        let target = limit.soft.min(4_096);
        grow_table(target).unwrap();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let size = status
            .lines()
            .find_map(|line| line.strip_prefix("FDSize:"))
            .unwrap();
        assert!(size.trim().parse::<u64>().unwrap() >= target);
    }

    #[test]
    fn a_target_beyond_the_limit_is_refused() {
        // Goal: an error, no panic, at every odd size. Method: zero, the limit's successor, and the largest number.
        grow_table(0).unwrap();
        let limit = raise_limit().unwrap();
        for target in [limit.soft.saturating_add(1), u64::MAX] {
            assert_eq!(
                grow_table(target).unwrap_err().kind(),
                io::ErrorKind::InvalidInput
            );
        }
    }

    #[test]
    fn counting_sees_what_is_opened() {
        // Goal: the count covers everything open. Method: open many; other tests open and close in the same table, so
        // only the lower bound is certain.
        let held: Vec<_> = (0..64)
            .map(|_| rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap())
            .collect();
        assert!(count_open().unwrap() >= held.len() as u64);
    }
}
