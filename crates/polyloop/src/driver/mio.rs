//! The real driver: mio's poll, the kernel's sockets, the monotonic clock.
//!
//! mio contributes the poll and the waker. Sockets are plain descriptors from `polyloop-sys` registered by number,
//! so that TCP and unix sockets are one type of four bytes, and each operation is exactly one system call.

use super::{Driver, Event, Interest, Ready};
use crate::bell::Wake;
use crate::token::Token;
use mio::unix::SourceFd;
use polyloop_sys::alarm_clock::AlarmClock;
use polyloop_sys::clock::monotonic_ns;
use polyloop_sys::dial::{Dial, KeepAliveNumbers};
use polyloop_sys::listener::Listener;
use polyloop_sys::peer::PeerAddr;
use polyloop_sys::pipe::Pipe;
use polyloop_sys::stream::Stream;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

/// See the module's documentation.
#[derive(Debug)]
pub struct MioDriver {
    poll: mio::Poll,
    events: mio::Events,
    waker: Arc<Waker>,
    /// Opened when it is needed for the first time; set to the time beside it.
    alarm_clock: Option<(AlarmClock, u64)>,
}

/// mio allows one waker per poll; everybody shares it.
#[derive(Debug)]
struct Waker(mio::Waker);

impl Wake for Waker {
    fn wake(&self) -> io::Result<()> {
        self.0.wake()
    }
}

impl MioDriver {
    /// Opens a poll that returns at most `events_max` events at once, and its waker: two descriptors.
    ///
    /// # Errors
    /// What epoll_create1(2) and eventfd(2) say, `EMFILE` above all.
    pub fn new(events_max: usize) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), mio_token(Token::WAKER))?;
        Ok(Self {
            poll,
            events: mio::Events::with_capacity(events_max),
            waker: Arc::new(Waker(waker)),
            alarm_clock: None,
        })
    }
}

impl Driver for MioDriver {
    type Stream = Stream;
    type Listener = Listener;
    type Pipe = Pipe;

    fn now(&mut self) -> u64 {
        monotonic_ns()
    }

    fn poll(
        &mut self,
        timeout: Option<Duration>,
        events_max: usize,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        if self.events.capacity() != events_max {
            self.events = mio::Events::with_capacity(events_max);
        }
        self.poll.poll(&mut self.events, timeout)?;
        // That the alarm clock rang is told by having returned.
        let told = self.events.iter().filter(|event| event.token() != ALARM);
        events.extend(told.map(|event| Event {
            token: Token::from_bits(event.token().0 as u64),
            ready: ready_of(event),
        }));
        Ok(())
    }

    fn wake_at(&mut self, at_ns: u64) -> io::Result<()> {
        if let Some((clock, set_ns)) = &mut self.alarm_clock {
            // One that is still to ring is left alone.
            if *set_ns != at_ns {
                clock.set(at_ns)?;
                *set_ns = at_ns;
            }
            return Ok(());
        }
        let clock = AlarmClock::open()?;
        let descriptor = clock.as_raw_fd();
        self.poll.registry().register(
            &mut SourceFd(&descriptor),
            ALARM,
            mio::Interest::READABLE,
        )?;
        clock.set(at_ns)?;
        self.alarm_clock = Some((clock, at_ns));
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.waker) as Arc<dyn Wake>
    }

    fn resume_listener(&mut self, listener: &mut Listener, token: Token) -> io::Result<()> {
        let descriptor = listener.as_raw_fd();
        self.poll.registry().register(
            &mut SourceFd(&descriptor),
            mio_token(token),
            mio::Interest::READABLE,
        )
    }

    fn pause_listener(&mut self, listener: &mut Listener) -> io::Result<()> {
        let descriptor = listener.as_raw_fd();
        self.poll.registry().deregister(&mut SourceFd(&descriptor))
    }

    fn close_listener(&mut self, listener: Listener) {
        // The watchdog may hold a copy for a rescue, and a copy keeps the socket in the poll: take it out by hand.
        // A listener that was paused is not in the poll, which is what the error would say.
        let descriptor = listener.as_raw_fd();
        let _ = self.poll.registry().deregister(&mut SourceFd(&descriptor));
    }

    fn accept(&mut self, listener: &mut Listener) -> io::Result<(Stream, PeerAddr)> {
        listener.accept()
    }

    fn has_input(&self, stream: &Stream) -> bool {
        stream.unread_bytes().is_ok_and(|bytes| bytes > 0)
    }

    fn connect(&mut self, dial: &Dial) -> io::Result<Stream> {
        Stream::dial(dial)
    }

    fn local_addr(&mut self, stream: &Stream) -> io::Result<PeerAddr> {
        stream.local_addr()
    }

    fn open_pipe(&mut self, capacity_bytes: usize) -> io::Result<Pipe> {
        Pipe::open(capacity_bytes)
    }

    #[inline]
    fn pipe_len(pipe: &Pipe) -> usize {
        pipe.held_bytes()
    }

    #[inline]
    fn fill_pipe(&mut self, pipe: &mut Pipe, stream: &mut Stream, max: usize) -> io::Result<usize> {
        pipe.fill_from(stream, max)
    }

    #[inline]
    fn drain_pipe(&mut self, pipe: &mut Pipe, stream: &mut Stream) -> io::Result<usize> {
        pipe.drain_to(stream, false)
    }

    fn read_pipe(&mut self, pipe: &mut Pipe, buffer: &mut [u8]) -> io::Result<usize> {
        pipe.read_into(buffer)
    }

    fn register(
        &mut self,
        stream: &mut Stream,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        let descriptor = stream.as_raw_fd();
        self.poll.registry().register(
            &mut SourceFd(&descriptor),
            mio_token(token),
            mio_interest(interest),
        )
    }

    fn set_interest(
        &mut self,
        stream: &mut Stream,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        let descriptor = stream.as_raw_fd();
        self.poll.registry().reregister(
            &mut SourceFd(&descriptor),
            mio_token(token),
            mio_interest(interest),
        )
    }

    fn keep_alive(
        &mut self,
        stream: &mut Stream,
        numbers: Option<KeepAliveNumbers>,
    ) -> io::Result<()> {
        stream.keep_alive(numbers)
    }

    #[inline]
    fn read(&mut self, stream: &mut Stream, buffer: &mut [u8]) -> io::Result<usize> {
        stream.recv(buffer)
    }

    #[inline]
    fn write(&mut self, stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
        stream.send(bytes)
    }

    fn write_vectored(&mut self, stream: &mut Stream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        stream.send_vectored(slices)
    }

    fn shutdown_write(&mut self, stream: &mut Stream) -> io::Result<()> {
        stream.shutdown_write()
    }

    fn take_error(&mut self, stream: &mut Stream) -> io::Result<Option<io::Error>> {
        stream.take_error()
    }

    fn unacked(&mut self, stream: &Stream) -> io::Result<usize> {
        stream.unacked_bytes()
    }

    fn close_stream(&mut self, stream: Stream, abort: bool) {
        // No deregistration: nothing else holds this socket, so closing takes it out of the poll, one call less.
        if abort {
            // Without it the close is merely polite.
            let _ = stream.set_abort_on_close();
        }
        drop(stream);
    }
}

/// No [`Token`] has these bits: their kind is one that none is made with.
const ALARM: mio::Token = mio::Token(0b11 << 30);

#[inline]
const fn mio_token(token: Token) -> mio::Token {
    mio::Token(token.to_bits() as usize)
}

/// Urgent data comes with an edge that says "readable" anyway; asked for, it also says why.
const READS: mio::Interest = mio::Interest::READABLE.add(mio::Interest::PRIORITY);

const fn mio_interest(interest: Interest) -> mio::Interest {
    match interest {
        Interest::Read => READS,
        Interest::ReadWrite => READS.add(mio::Interest::WRITABLE),
    }
}

#[inline]
fn ready_of(event: &mio::event::Event) -> Ready {
    let flag = |is_set: bool, ready: Ready| if is_set { ready } else { Ready::empty() };
    flag(event.is_readable(), Ready::READABLE)
        .with(flag(event.is_writable(), Ready::WRITABLE))
        .with(flag(event.is_read_closed(), Ready::READ_CLOSED))
        .with(flag(
            event.is_read_closed() && event.is_write_closed(),
            Ready::HUNG_UP,
        ))
        .with(flag(event.is_error(), Ready::ERROR))
        .with(flag(event.is_priority(), Ready::URGENT))
}

// Tokens are 64 bits; a platform with narrower pointers would cut them.
const _: () = assert!(usize::BITS == 64, "polyloop needs a 64-bit platform");
