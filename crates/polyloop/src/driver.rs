//! The one narrow seam to the world.
//!
//! A [`Driver`] polls, makes and moves sockets, and reads the clock; everything above it (dispatcher, handlers,
//! acceptor, drain) is the same code on every driver. [`mio`] is the real one; the crate `polyloop-sim` has one made
//! of memory, with a virtual clock.
//!
//! Readiness is edge-triggered: a driver tells an edge once, and again only after
//! [`set_interest`](Driver::set_interest) or [`resume_listener`](Driver::resume_listener), which test readiness anew.
//! It may tell spuriously. Flags other than readable and writable are hints: the truth is what `read` returns.

pub mod mio;

use crate::bell::Wake;
use crate::token::Token;
use polyloop_sys::dial::{Dial, KeepAliveNumbers};
use polyloop_sys::peer::PeerAddr;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

/// What the poll said about a socket; a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ready(u8);

impl Ready {
    /// Bytes, or the end of them, can be read; on a listener, a connection waits.
    pub const READABLE: Self = Self(1);
    /// Bytes can be written; on a connecting socket, the attempt is over.
    pub const WRITABLE: Self = Self(2);
    /// Hint: the peer sent FIN. Reading goes on to the end.
    pub const READ_CLOSED: Self = Self(4);
    /// Hint: both directions are over.
    pub const HUNG_UP: Self = Self(8);
    /// Hint: the socket has an error to be collected.
    pub const ERROR: Self = Self(16);
    /// Hint: urgent data. Reads stop at its mark, so a short one does not mean that nothing is left.
    pub const URGENT: Self = Self(32);

    /// Nothing.
    #[must_use]
    pub const fn empty() -> Self {
        Self(0)
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any bit of `other` is in the set.
    #[must_use]
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The raw bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// A set from raw bits; unknown bits are kept and mean nothing.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

/// One thing the poll said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Whom it is about.
    pub token: Token,
    /// What is ready.
    pub ready: Ready,
}

/// What the poll shall tell about a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Bytes to read, FIN, reset. A stream starts with this: asking for writability as well would wake the loop
    /// once for every new connection, to say what everybody knows.
    Read,
    /// That, and room to write: after the first write that was cut short, and while connecting.
    ReadWrite,
}

/// Poll, sockets and clock of one loop.
///
/// # Calling order
/// A listener or stream is registered once, used, and given back by value (`close_stream`, `close_listener`, or
/// dropped when it never was registered). Every call is non-blocking but `poll`. `io::ErrorKind::WouldBlock` means
/// what it means for a non-blocking socket, `Interrupted` may come from any call and is retried by the caller.
pub trait Driver: Sized {
    /// A connected socket. `Send`, since it may be handed to another loop.
    type Stream: Send + 'static;
    /// A listening socket.
    type Listener: Send + 'static;
    /// A pipe that bytes are moved through without being copied.
    type Pipe: 'static;

    /// Nanoseconds of a clock that never goes back; its zero is arbitrary but the same for all loops of a process.
    fn now(&mut self) -> u64;

    /// Waits for events, at most `timeout` (`None`: without limit), and appends at most `events_max` of them.
    ///
    /// # Errors
    /// `Interrupted`, with no events, when a signal ended the wait: the caller knows better how long to wait now. Anything
    /// else only if it makes the loop useless.
    fn poll(
        &mut self,
        timeout: Option<Duration>,
        events_max: usize,
        events: &mut Vec<Event>,
    ) -> io::Result<()>;

    /// The next poll that waits returns at `at_ns` of [`now`](Self::now)'s clock at the latest, and exactly, where a poll's own
    /// timeout may be rounded up. Nothing is told then but that the poll returns.
    ///
    /// # Errors
    /// There is no exact clock to be had: the poll goes by its timeout.
    fn wake_at(&mut self, at_ns: u64) -> io::Result<()>;

    /// What other threads wake the poll with.
    fn waker(&self) -> Arc<dyn Wake>;

    /// Starts to report connections that wait on `listener`; one that already waits is reported.
    ///
    /// # Errors
    /// What the kernel says, `ENOSPC` and `ENOMEM` above all.
    fn resume_listener(&mut self, listener: &mut Self::Listener, token: Token) -> io::Result<()>;

    /// Stops to report connections; they stay in the kernel's queue.
    ///
    /// # Errors
    /// What the kernel says; the listener is then not reported either.
    fn pause_listener(&mut self, listener: &mut Self::Listener) -> io::Result<()>;

    /// Closes the listening socket; what is in its queue is reset by the kernel.
    fn close_listener(&mut self, listener: Self::Listener);

    /// Takes one connection from the queue.
    ///
    /// # Errors
    /// As accept(2); see [`polyloop_core::errno`].
    fn accept(&mut self, listener: &mut Self::Listener) -> io::Result<(Self::Stream, PeerAddr)>;

    /// Whether bytes wait to be read; a stream that cannot say has none.
    fn has_input(&self, stream: &Self::Stream) -> bool;

    /// Starts a connection; the stream becomes writable when the attempt is over. A failed one is told with
    /// [`Ready::ERROR`] or [`Ready::HUNG_UP`] in the same event: writable without these is taken for a connection that stands.
    ///
    /// # Errors
    /// As connect(2), without `EINPROGRESS`.
    fn connect(&mut self, dial: &Dial) -> io::Result<Self::Stream>;

    /// This end's address.
    ///
    /// # Errors
    /// As getsockname(2).
    fn local_addr(&mut self, stream: &Self::Stream) -> io::Result<PeerAddr>;

    /// Opens a pipe with room for about `capacity_bytes`.
    ///
    /// # Errors
    /// As pipe2(2), `EMFILE` above all.
    fn open_pipe(&mut self, capacity_bytes: usize) -> io::Result<Self::Pipe>;

    /// Bytes in the pipe.
    fn pipe_len(pipe: &Self::Pipe) -> usize;

    /// Moves at most `max` bytes from `stream` into an *empty* pipe; 0 is the peer's FIN.
    ///
    /// # Errors
    /// As splice(2).
    fn fill_pipe(
        &mut self,
        pipe: &mut Self::Pipe,
        stream: &mut Self::Stream,
        max: usize,
    ) -> io::Result<usize>;

    /// Moves what the pipe holds into `stream`, as much as that takes.
    ///
    /// # Errors
    /// As splice(2).
    fn drain_pipe(&mut self, pipe: &mut Self::Pipe, stream: &mut Self::Stream)
    -> io::Result<usize>;

    /// Takes bytes out of the pipe by copying them; as many as fit into `buffer`, or as there are.
    ///
    /// # Errors
    /// As read(2).
    fn read_pipe(&mut self, pipe: &mut Self::Pipe, buffer: &mut [u8]) -> io::Result<usize>;

    /// Starts to report readiness of `stream`.
    ///
    /// # Errors
    /// What the kernel says, `ENOSPC` and `ENOMEM` above all.
    fn register(
        &mut self,
        stream: &mut Self::Stream,
        token: Token,
        interest: Interest,
    ) -> io::Result<()>;

    /// Changes what is reported and tests readiness anew.
    ///
    /// # Errors
    /// What the kernel says.
    fn set_interest(
        &mut self,
        stream: &mut Self::Stream,
        token: Token,
        interest: Interest,
    ) -> io::Result<()>;

    /// Has the kernel ask a silent peer whether it is still there; without `numbers`, with those that the stream has from its
    /// listener.
    ///
    /// # Errors
    /// As setsockopt(2).
    fn keep_alive(
        &mut self,
        stream: &mut Self::Stream,
        numbers: Option<KeepAliveNumbers>,
    ) -> io::Result<()>;

    /// Reads into `buffer`; 0 is the peer's FIN.
    ///
    /// # Errors
    /// As recv(2).
    fn read(&mut self, stream: &mut Self::Stream, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes from `bytes`, perhaps less than all.
    ///
    /// # Errors
    /// As send(2).
    fn write(&mut self, stream: &mut Self::Stream, bytes: &[u8]) -> io::Result<usize>;

    /// Writes from several slices, at most [`SLICES_MAX`], in order.
    ///
    /// # Errors
    /// As sendmsg(2).
    fn write_vectored(
        &mut self,
        stream: &mut Self::Stream,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize>;

    /// Sends FIN after what was written.
    ///
    /// # Errors
    /// As shutdown(2).
    fn shutdown_write(&mut self, stream: &mut Self::Stream) -> io::Result<()>;

    /// Collects the socket's error, and clears it.
    ///
    /// # Errors
    /// As getsockopt(2).
    fn take_error(&mut self, stream: &mut Self::Stream) -> io::Result<Option<io::Error>>;

    /// Bytes written that the peer has not acknowledged. Asked at deadlines only.
    ///
    /// # Errors
    /// As ioctl(2) with `SIOCOUTQ`.
    fn unacked(&mut self, stream: &Self::Stream) -> io::Result<usize>;

    /// Closes a stream; `abort` sends a reset instead of FIN and drops what is unsent.
    fn close_stream(&mut self, stream: Self::Stream, abort: bool);
}

/// The most slices one [`Driver::write_vectored`] is given.
pub const SLICES_MAX: usize = 16;
