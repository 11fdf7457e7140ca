//! One thread of load: a poll, its connections and a shared buffer.
//!
//! The one idea: a connection is a small state machine with at most one message under way. A closed loop starts the next
//! message when an answer is complete; a schedule counts what is *due* on each connection, and a connection that is
//! still waiting catches up afterwards, from the planned moments, which follow from their numbers and need no queue.
//!
//! One clock read per answer: the end of one message is the beginning of the next.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

use super::{Pace, Sample, Stop, Window, fill};

/// The connections of one thread.
#[derive(Debug)]
pub(super) struct Client {
    poll: Poll,
    events: Events,
    /// Wakes the poll for the next planned message; the poll's own timeouts are rounded up to a millisecond.
    alarm: OwnedFd,
    links: Vec<Link>,
    buffers: Buffers,
    epoch: Instant,
}

/// One connection.
#[derive(Debug)]
struct Link {
    stream: TcpStream,
    id: u32,
    /// Number of the message under way, or of the next one.
    sequence: u64,
    under_way: bool,
    sent: usize,
    received: usize,
    /// The moment the latency of the message under way counts from.
    origin_ns: u64,
    /// Messages of this window that should have been sent by now, and that were.
    due: u64,
    started: u64,
}

#[derive(Debug)]
struct Buffers {
    message: Vec<u8>,
    inbox: Vec<u8>,
}

/// What a window has done so far.
struct Progress {
    sample: Sample,
    started: u64,
    under_way: usize,
    last_answer_ns: u64,
}

impl Client {
    pub(super) fn new(
        streams: Vec<(u32, std::net::TcpStream)>,
        message_bytes: usize,
    ) -> Result<Self> {
        let poll = Poll::new()?;
        let alarm = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        poll.registry()
            .register(&mut SourceFd(&alarm.as_raw_fd()), ALARM, Interest::READABLE)?;
        let mut links = Vec::with_capacity(streams.len());
        for (index, (id, stream)) in streams.into_iter().enumerate() {
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut stream, Token(index), interest)?;
            links.push(Link::new(stream, id));
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_POLL),
            alarm,
            links,
            buffers: Buffers {
                message: vec![0; message_bytes],
                inbox: vec![0; message_bytes.max(INBOX_BYTES_MIN)],
            },
            epoch: Instant::now(),
        })
    }

    pub(super) fn run(&mut self, window: Window) -> Result<Sample> {
        let cpu_before_ns = thread_cpu_ns();
        let start_ns = self.now_ns();
        for link in &mut self.links {
            link.due = 0;
            link.started = 0;
        }
        let mut progress = Progress {
            sample: Sample::empty()?,
            started: 0,
            under_way: 0,
            last_answer_ns: start_ns,
        };
        match window.pace {
            Pace::Closed => self.run_closed(window.stop, start_ns, &mut progress)?,
            Pace::Rate(per_second) => {
                let plan = Plan::new(per_second, window.stop, start_ns, self.links.len())?;
                self.run_planned(&plan, &mut progress)?;
            }
        }
        progress.sample.elapsed_ns = progress.last_answer_ns - start_ns;
        progress.sample.cpu_ns = thread_cpu_ns() - cpu_before_ns;
        Ok(progress.sample)
    }

    fn run_closed(&mut self, stop: Stop, start_ns: u64, progress: &mut Progress) -> Result<()> {
        let (end_ns, requests_max) = match stop {
            Stop::After(length) => (start_ns + nanoseconds(length), u64::MAX),
            Stop::Requests(count) => (u64::MAX, count),
        };
        for link in &mut self.links {
            if progress.started < requests_max {
                progress.started += 1;
                progress.under_way += 1;
                link.begin(start_ns, &mut self.buffers)?;
            }
        }
        while progress.under_way > 0 {
            self.wait(progress)?;
            for event in &self.events {
                let Some(link) = self.links.get_mut(event.token().0) else {
                    continue;
                };
                if !link.advance(&mut self.buffers)? {
                    continue;
                }
                let now_ns = nanoseconds(self.epoch.elapsed());
                progress.answered(link, now_ns)?;
                if now_ns < end_ns && progress.started < requests_max {
                    progress.started += 1;
                    progress.under_way += 1;
                    link.begin(now_ns, &mut self.buffers)?;
                }
            }
        }
        Ok(())
    }

    fn run_planned(&mut self, plan: &Plan, progress: &mut Progress) -> Result<()> {
        let mut next = 0;
        loop {
            let mut now_ns = self.now_ns();
            while next < plan.total && plan.moment_ns(next) <= now_ns {
                let link = &mut self.links[(next % plan.links) as usize];
                link.due += 1;
                if !link.under_way {
                    progress.start_planned(
                        link,
                        plan.moment_ns(next),
                        now_ns,
                        &mut self.buffers,
                    )?;
                }
                next += 1;
                now_ns = nanoseconds(self.epoch.elapsed());
            }
            if next == plan.total && progress.under_way == 0 {
                return Ok(());
            }
            if next < plan.total {
                self.set_alarm(plan.moment_ns(next).saturating_sub(now_ns))?;
            }
            self.wait(progress)?;
            for event in &self.events {
                let index = event.token().0;
                let Some(link) = self.links.get_mut(index) else {
                    continue; // the alarm
                };
                if !link.advance(&mut self.buffers)? {
                    continue;
                }
                let now_ns = nanoseconds(self.epoch.elapsed());
                progress.answered(link, now_ns)?;
                if link.due > link.started {
                    let number = link.started * plan.links + index as u64;
                    let moment_ns = plan.moment_ns(number);
                    progress.start_planned(link, moment_ns, now_ns, &mut self.buffers)?;
                }
            }
        }
    }

    /// Waits for something to happen; an answer that does not come is an error, not a hang.
    fn wait(&mut self, progress: &Progress) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(ANSWER_TIMEOUT)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            outcome => outcome.context("the load cannot poll")?,
        }
        let silent_ns = self.now_ns().saturating_sub(progress.last_answer_ns);
        let silent = self.events.is_empty() || silent_ns > 2 * nanoseconds(ANSWER_TIMEOUT);
        ensure!(
            !(silent && progress.under_way > 0),
            "{} answers did not come within {} s",
            progress.under_way,
            ANSWER_TIMEOUT.as_secs()
        );
        Ok(())
    }

    fn set_alarm(&self, delay_ns: u64) -> Result<()> {
        let value = Timespec {
            tv_sec: i64::try_from(delay_ns / NS_PER_S)?,
            // Zero would switch the alarm off.
            tv_nsec: i64::try_from((delay_ns % NS_PER_S).max(1))?,
        };
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: value,
        };
        timerfd_settime(&self.alarm, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        nanoseconds(self.epoch.elapsed())
    }
}

impl Link {
    fn new(stream: TcpStream, id: u32) -> Self {
        Self {
            stream,
            id,
            sequence: 0,
            under_way: false,
            sent: 0,
            received: 0,
            origin_ns: 0,
            due: 0,
            started: 0,
        }
    }

    /// Sends the next message, or as much of it as the socket takes now.
    fn begin(&mut self, origin_ns: u64, buffers: &mut Buffers) -> Result<()> {
        debug_assert!(!self.under_way, "one message at a time");
        self.under_way = true;
        self.started += 1;
        self.sent = 0;
        self.received = 0;
        self.origin_ns = origin_ns;
        self.send(buffers)
    }

    fn send(&mut self, buffers: &mut Buffers) -> Result<()> {
        fill(&mut buffers.message, super::PLAIN, self.id, self.sequence);
        while self.sent < buffers.message.len() {
            match self.stream.write(&buffers.message[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("connection {} cannot send", self.id));
                }
            }
        }
        Ok(())
    }

    /// Moves on after an event. Answers whether the answer is complete now.
    fn advance(&mut self, buffers: &mut Buffers) -> Result<bool> {
        if self.under_way && self.sent < buffers.message.len() {
            self.send(buffers)?;
        }
        let was_under_way = self.under_way;
        loop {
            let count = match self.stream.read(&mut buffers.inbox) {
                Ok(0) => bail!("the server closed connection {}", self.id),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("connection {} cannot receive", self.id));
                }
            };
            self.check(count, buffers)?;
            if count < buffers.inbox.len() {
                break; // a short read leaves nothing behind
            }
        }
        Ok(was_under_way && !self.under_way)
    }

    /// Compares `count` received bytes with what was sent.
    fn check(&mut self, count: usize, buffers: &mut Buffers) -> Result<()> {
        let size = buffers.message.len();
        ensure!(
            self.under_way && self.received + count <= size,
            "connection {} got {} bytes more than it sent",
            self.id,
            if self.under_way {
                self.received + count - size
            } else {
                count
            }
        );
        fill(&mut buffers.message, super::PLAIN, self.id, self.sequence);
        let expected = &buffers.message[self.received..self.received + count];
        ensure!(
            buffers.inbox[..count] == *expected,
            "connection {}, message {}: the answer differs from what was sent",
            self.id,
            self.sequence
        );
        self.received += count;
        if self.received == size {
            self.under_way = false;
            self.sequence += 1;
        }
        Ok(())
    }
}

impl Progress {
    fn answered(&mut self, link: &Link, now_ns: u64) -> Result<()> {
        self.under_way -= 1;
        self.sample.requests += 1;
        self.last_answer_ns = now_ns;
        let latency_ns = now_ns.saturating_sub(link.origin_ns);
        self.sample.latency_ns.saturating_record(latency_ns);
        Ok(())
    }

    fn start_planned(
        &mut self,
        link: &mut Link,
        moment_ns: u64,
        now_ns: u64,
        buffers: &mut Buffers,
    ) -> Result<()> {
        let lag_ns = now_ns.saturating_sub(moment_ns);
        self.sample.lag_ns.saturating_record(lag_ns);
        self.started += 1;
        self.under_way += 1;
        link.begin(moment_ns, buffers)
    }
}

/// The planned moments of a window: message `n` goes out `n` intervals after the start, on connection `n mod links`.
struct Plan {
    start_ns: u64,
    interval_ns: f64,
    total: u64,
    links: u64,
}

impl Plan {
    fn new(per_second: f64, stop: Stop, start_ns: u64, links: usize) -> Result<Self> {
        let Stop::After(length) = stop else {
            bail!("a window with a rate is ended by time");
        };
        Ok(Self {
            start_ns,
            interval_ns: NS_PER_S as f64 / per_second,
            total: (length.as_secs_f64() * per_second).ceil() as u64,
            links: links as u64,
        })
    }

    fn moment_ns(&self, number: u64) -> u64 {
        self.start_ns + (number as f64 * self.interval_ns) as u64
    }
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Processor time is never negative.
    time.tv_sec.unsigned_abs() * NS_PER_S + time.tv_nsec.unsigned_abs()
}

/// 2^64 ns are 584 years.
fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// Beyond every connection's number, so that looking it up finds none.
const ALARM: Token = Token(usize::MAX - 1);

const EVENTS_PER_POLL: usize = 1024;

/// Larger than a usual message, so that bytes nobody asked for arrive with the answer and are noticed.
const INBOX_BYTES_MIN: usize = 16 * 1024;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const NS_PER_S: u64 = 1_000_000_000;
