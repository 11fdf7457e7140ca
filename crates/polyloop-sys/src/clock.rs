//! Clocks: time that passes, and processor time that was used.
//!
//! The one idea: Linux derives the number of a thread's processor clock from its thread id, so a loop publishes a
//! [`ThreadClock`] once and anybody may read it later at no cost to the loop.
//!
//! Deliberately absent: wall-clock time, which jumps.

#![expect(
    unsafe_code,
    reason = "processor clocks of other threads have no safe wrapper"
)]

use std::io;
use std::mem::MaybeUninit;

use rustix::thread::Pid;
use rustix::time::ClockId;

/// The processor clock of one thread of this process, readable from every other.
///
/// It outlives the thread: afterwards [`cpu_time_ns`](Self::cpu_time_ns) fails, until the kernel gives the id to a new
/// thread of this process, which then is what the clock measures. Readers drop it when they join the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ThreadClock {
    thread_id: Pid,
}

impl ThreadClock {
    /// The clock of the calling thread.
    #[must_use]
    pub fn current() -> Self {
        Self {
            thread_id: rustix::thread::gettid(),
        }
    }

    /// Processor time the thread has used so far, in user and kernel mode, in nanoseconds.
    ///
    /// # Errors
    /// `InvalidInput` when the thread is gone.
    pub fn cpu_time_ns(&self) -> io::Result<u64> {
        read_ns(cpu_clock_id(self.thread_id, CLOCK_OF_THREAD))
    }

    /// The kernel's id of the thread, the name of its directory in `/proc/self/task`.
    #[must_use]
    pub fn thread_id(&self) -> u32 {
        self.thread_id.as_raw_nonzero().get().unsigned_abs()
    }
}

/// Processor time that all threads of process `pid` have used so far, in nanoseconds. Any process may be asked about.
///
/// # Errors
/// `InvalidInput` when there is no such process.
pub fn process_cpu_ns(pid: u32) -> io::Result<u64> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    read_ns(cpu_clock_id(pid, CLOCK_OF_PROCESS))
}

/// Time since some fixed point (boot, less time suspended), in nanoseconds. It never goes back.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    timespec_ns(now.tv_sec, now.tv_nsec)
}

/// The number of a processor clock: the complemented id above three bits that say whose and which. This is kernel
/// interface (`include/linux/posix-timers_types.h`), and what `pthread_getcpuclockid` computes.
fn cpu_clock_id(id: Pid, whose: libc::clockid_t) -> libc::clockid_t {
    (!id.as_raw_nonzero().get() << 3) | whose
}

fn read_ns(clock: libc::clockid_t) -> io::Result<u64> {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `time` is a live, writable timespec for the length of the call; any clock number is allowed, as the
    // kernel answers an unknown one with EINVAL.
    let status = unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `clock_gettime` returned 0, and then it has written the whole timespec.
    let time = unsafe { time.assume_init() };
    Ok(timespec_ns(time.tv_sec, time.tv_nsec))
}

/// Nanoseconds in 64 bits last 584 years, and none of these clocks is ever negative.
fn timespec_ns(seconds: i64, nanoseconds: i64) -> u64 {
    seconds.unsigned_abs() * 1_000_000_000 + nanoseconds.unsigned_abs()
}

/// The scheduler's exact clock (2), of one thread (4).
const CLOCK_OF_THREAD: libc::clockid_t = 2 | 4;

/// The scheduler's exact clock (2), of a whole process.
const CLOCK_OF_PROCESS: libc::clockid_t = 2;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn spin_until(condition: impl Fn() -> bool) {
        while !condition() {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn reads_another_threads_processor_time() {
        // Goal: the clock is the worker's, seen from here. Method: the worker spins until its own clock has moved by
        // 5 ms.
        let (clock_out, clock_in) = mpsc::channel();
        let (stop, stopped) = mpsc::channel::<()>();
        let worker = std::thread::spawn(move || {
            let clock = ThreadClock::current();
            let start_ns = clock.cpu_time_ns().unwrap();
            spin_until(|| clock.cpu_time_ns().unwrap() >= start_ns + 5_000_000);
            clock_out.send(clock).unwrap();
            let _ = stopped.recv();
        });
        let clock = clock_in.recv().unwrap();
        assert_ne!(clock.thread_id(), ThreadClock::current().thread_id());
        assert!(clock.cpu_time_ns().unwrap() >= 5_000_000);
        assert!(process_cpu_ns(std::process::id()).unwrap() >= clock.cpu_time_ns().unwrap());
        drop(stop);
        worker.join().unwrap();
    }

    #[test]
    fn a_clock_number_nobody_has_is_an_error() {
        // Goal: no panic and no stale answer for a process that is gone. Method: an id above the kernel's limit, and
        // zero.
        assert!(process_cpu_ns(0x0fff_ffff).is_err());
        assert!(process_cpu_ns(0).is_err());
        assert!(process_cpu_ns(u32::MAX).is_err());
    }

    #[test]
    fn monotonic_time_goes_on() {
        // Goal: it moves, and only forward. Method: read until it differs.
        let start_ns = monotonic_ns();
        spin_until(|| monotonic_ns() != start_ns);
        assert!(monotonic_ns() > start_ns);
    }
}
