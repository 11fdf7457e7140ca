//! Signals of a thread.
//!
//! A process that handles signals on one thread blocks them on all others, or the kernel interrupts whichever it likes:
//! a wait of a loop ends early for nothing, and a handler runs on a loop's stack.
#![allow(
    unsafe_code,
    reason = "neither rustix nor socket2 has the signal mask of a thread"
)]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// Blocks every signal that can be blocked on the calling thread, and on threads that it makes from now on.
///
/// Those that a fault raises (SIGSEGV, SIGBUS, SIGFPE, SIGILL) still end the process: blocking them does not hold back
/// what the thread itself causes.
///
/// # Errors
/// What pthread_sigmask(3) answers; there is no documented reason for it to fail.
pub fn block_all_on_this_thread() -> io::Result<()> {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `all` is writable memory of the right type, which sigfillset initialises.
    let filled = unsafe { libc::sigfillset(all.as_mut_ptr()) };
    if filled != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: sigfillset has succeeded and has written the whole set.
    let all = unsafe { all.assume_init() };
    // SAFETY: the set is valid for the call; a null third argument says that the old mask is not wanted.
    let answer = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, ptr::null_mut()) };
    match answer {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_mask_of_the_thread_is_full() {
        // Goal: the kernel itself says that nothing reaches the thread. Method: SigBlk of /proc on a thread of its own.
        let status = std::thread::spawn(|| {
            block_all_on_this_thread().unwrap();
            fs::read_to_string("/proc/thread-self/status").unwrap()
        });
        let status = status.join().unwrap();
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigBlk:\t"))
            .unwrap();
        let mask = u64::from_str_radix(mask, 16).unwrap();
        let bit = |signal: i32| 1_u64 << (signal - 1);
        for signal in [
            libc::SIGTERM,
            libc::SIGINT,
            libc::SIGUSR1,
            libc::SIGHUP,
            libc::SIGCHLD,
        ] {
            assert!(mask & bit(signal) != 0, "signal {signal} is blocked");
        }
        assert!(mask & bit(libc::SIGKILL) == 0, "nobody blocks SIGKILL");
    }
}
