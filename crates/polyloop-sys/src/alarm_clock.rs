//! A clock that makes a descriptor readable at an exact time.
//!
//! epoll's own timeout counts whole milliseconds (mio rounds it up); a timerfd goes by the nanosecond clock, for one
//! system call to set it. It is never read: setting it anew forgets that it rang.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// A timerfd on the clock of [`monotonic_ns`](crate::clock::monotonic_ns).
#[derive(Debug)]
pub struct AlarmClock(OwnedFd);

impl AlarmClock {
    /// Opens one that is not set.
    ///
    /// # Errors
    /// As timerfd_create(2), `EMFILE` above all.
    pub fn open() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Becomes readable at `at_ns`, at once if that is over, instead of at any time set before.
    ///
    /// # Errors
    /// None is known for a time that fits; one beyond 292 years is the last that does.
    pub fn set(&self, at_ns: u64) -> io::Result<()> {
        // 0 would stop the clock.
        let at_ns = i64::try_from(at_ns.max(1)).unwrap_or(i64::MAX);
        let at = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: at_ns / NS_PER_S,
                tv_nsec: at_ns % NS_PER_S,
            },
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &at)?;
        Ok(())
    }
}

impl AsFd for AlarmClock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for AlarmClock {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

const NS_PER_S: i64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic_ns;
    use rustix::event::{PollFd, PollFlags, poll};

    #[test]
    fn it_rings_at_its_time_and_not_before() {
        // Goal: readable not before the time asked for, at once for one that is over, never when moved away. Method: poll
        // without limit for the first two, without waiting for the third.
        let clock = AlarmClock::open().unwrap();
        let rings = |timeout_s: Option<i64>| {
            let timeout = timeout_s.map(|tv_sec| Timespec { tv_sec, tv_nsec: 0 });
            poll(&mut [PollFd::new(&clock, PollFlags::IN)], timeout.as_ref()).unwrap() == 1
        };
        let at_ns = monotonic_ns() + 3_000_000;
        clock.set(at_ns).unwrap();
        assert!(rings(None));
        assert!(monotonic_ns() >= at_ns);
        clock.set(u64::MAX).unwrap();
        assert!(!rings(Some(0)), "setting it forgets that it rang");
        clock.set(0).unwrap();
        assert!(rings(None));
    }
}
