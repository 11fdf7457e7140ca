//! The driver of one simulated loop.

use crate::world::{State, World};
use polyloop::bell::Wake;
use polyloop::driver::{Driver, Event, Interest, Ready};
use polyloop::{Dial, KeepAliveNumbers, PeerAddr, Token};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

/// See the crate's documentation.
#[derive(Debug)]
pub struct SimDriver {
    pub(crate) world: World,
    pub(crate) poller: usize,
}

/// A connected socket. Dropping it closes nothing, so that a loop which forgets one is found out.
#[derive(Debug)]
pub struct SimStream(u32);

/// A listening socket.
#[derive(Debug)]
pub struct SimListener(pub(crate) u32);

impl SimListener {
    /// What clients connect to.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.0
    }
}

/// A pipe. The world counts those that are open.
#[derive(Debug)]
pub struct SimPipe {
    world: World,
    bytes: Vec<u8>,
    capacity_bytes: usize,
}

impl Drop for SimPipe {
    fn drop(&mut self) {
        self.world.lock().pipes -= 1;
    }
}

#[derive(Debug)]
struct SimWaker {
    world: World,
    poller: usize,
}

impl Wake for SimWaker {
    fn wake(&self) -> io::Result<()> {
        self.world.lock().pollers[self.poller].is_rung = true;
        Ok(())
    }
}

/// Names of calls in the trace, apart from the indices of polls.
const READ: u64 = 1 << 32;
const WRITE: u64 = 2 << 32;
const CLOSE: u64 = 3 << 32;
const KEEP_ALIVE: u64 = 4 << 32;

const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const EPIPE: i32 = 32;
const ECONNABORTED: i32 = 103;
const ENOBUFS: i32 = 105;
const ECONNREFUSED: i32 = 111;

fn errno<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}

impl State {
    fn interrupt(&mut self) -> io::Result<()> {
        if self.fires(|faults| faults.interrupts) {
            errno(EINTR)
        } else {
            Ok(())
        }
    }
}

impl Driver for SimDriver {
    type Stream = SimStream;
    type Listener = SimListener;
    type Pipe = SimPipe;

    fn now(&mut self) -> u64 {
        self.world.lock().now_ns
    }

    fn poll(
        &mut self,
        _timeout: Option<Duration>,
        events_max: usize,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        // Nobody waits here: the simulation turns a loop when it has something to do.
        let mut state = self.world.lock();
        state.interrupt()?;
        state.poll(self.poller, events_max, events);
        Ok(())
    }

    fn wake_at(&mut self, _at_ns: u64) -> io::Result<()> {
        // The clock of the simulation stops at every time that a loop names.
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(SimWaker {
            world: self.world.clone(),
            poller: self.poller,
        })
    }

    fn resume_listener(&mut self, listener: &mut SimListener, token: Token) -> io::Result<()> {
        let mut state = self.world.lock();
        let watch = crate::socket::Watch {
            poller: self.poller,
            token,
            interest: Interest::Read,
        };
        let Some(known) = state.listeners.get_mut(&listener.0) else {
            return errno(ENOMEM);
        };
        known.watch = Some(watch);
        if !known.queue.is_empty() {
            state.tell(listener.0, Ready::READABLE);
        }
        Ok(())
    }

    fn pause_listener(&mut self, listener: &mut SimListener) -> io::Result<()> {
        if let Some(known) = self.world.lock().listeners.get_mut(&listener.0) {
            known.watch = None;
        }
        Ok(())
    }

    fn close_listener(&mut self, listener: SimListener) {
        let mut state = self.world.lock();
        if let Some(closed) = state.listeners.remove(&listener.0) {
            for waiting in closed.queue {
                state.close(waiting, true);
            }
        }
    }

    fn accept(&mut self, listener: &mut SimListener) -> io::Result<(SimStream, PeerAddr)> {
        let mut state = self.world.lock();
        state.interrupt()?;
        let is_full = state.owned >= state.descriptors_max;
        let fails = state.fires(|faults| faults.accept_errors);
        let lucky = state.random.below(5);
        let Some(known) = state.listeners.get_mut(&listener.0) else {
            return errno(EAGAIN);
        };
        if known.queue.is_empty() {
            return errno(EAGAIN);
        }
        if is_full {
            return errno(EMFILE);
        }
        if state.refusals > 0 {
            state.refusals -= 1;
            return errno(EMFILE);
        }
        let Some(known) = state.listeners.get_mut(&listener.0) else {
            return errno(EAGAIN);
        };
        if fails {
            let error = [ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM][lucky];
            if error == ECONNABORTED
                && let Some(lost) = known.queue.pop_front()
            {
                state.close(lost, true);
            }
            return errno(error);
        }
        let Some(id) = known.queue.pop_front() else {
            return errno(EAGAIN);
        };
        state.owned += 1;
        let peer = std::net::SocketAddr::from(([10, 0, (id >> 8) as u8, id as u8], 1024));
        Ok((SimStream(id), PeerAddr::from(peer)))
    }

    fn connect(&mut self, dial: &Dial) -> io::Result<SimStream> {
        // The port of an address is the listener's number: 127.0.0.1:7 is listener 7.
        let port = u32::from(dial.port().unwrap_or(0));
        let mut state = self.world.lock();
        if state.owned >= state.descriptors_max {
            return errno(EMFILE);
        }
        state.acks_held += usize::from(dial.holds_ack);
        state.kept_from_start += usize::from(dial.vigilance.keep_alive.is_some());
        let (near, far) = state.pair();
        state.owned += 1;
        if state.silent.contains(&port) {
            state.sockets.remove(&far);
            if let Some(socket) = state.sockets.get_mut(&near) {
                socket.peer = None;
                socket.is_connecting = true;
            }
            return Ok(SimStream(near));
        }
        if let Some(listener) = state.listeners.get_mut(&port) {
            listener.queue.push_back(far);
            state.tell(port, Ready::READABLE);
        } else {
            state.sockets.remove(&far);
            if let Some(socket) = state.sockets.get_mut(&near) {
                socket.peer = None;
                socket.error = Some(ECONNREFUSED);
            }
        }
        Ok(SimStream(near))
    }

    fn has_input(&self, stream: &SimStream) -> bool {
        let state = self.world.lock();
        let socket = state.sockets.get(&stream.0);
        socket.is_some_and(|socket| !socket.arrived.is_empty())
    }

    fn keep_alive(
        &mut self,
        stream: &mut SimStream,
        numbers: Option<KeepAliveNumbers>,
    ) -> io::Result<()> {
        let mut state = self.world.lock();
        state.note(
            KEEP_ALIVE,
            u64::from(stream.0),
            u64::from(numbers.is_some()),
        );
        state.kept_alive.push((stream.0, numbers));
        Ok(())
    }

    fn local_addr(&mut self, _stream: &SimStream) -> io::Result<PeerAddr> {
        Ok(PeerAddr::from(std::net::SocketAddr::from((
            [127, 0, 0, 1],
            80,
        ))))
    }

    fn open_pipe(&mut self, capacity_bytes: usize) -> io::Result<SimPipe> {
        let mut state = self.world.lock();
        if state.owned + 2 > state.descriptors_max || state.fires(|faults| faults.pipe_errors) {
            return errno(EMFILE);
        }
        state.pipes += 1;
        Ok(SimPipe {
            world: self.world.clone(),
            bytes: Vec::new(),
            capacity_bytes,
        })
    }

    fn pipe_len(pipe: &SimPipe) -> usize {
        pipe.bytes.len()
    }

    fn fill_pipe(
        &mut self,
        pipe: &mut SimPipe,
        stream: &mut SimStream,
        max: usize,
    ) -> io::Result<usize> {
        assert!(pipe.bytes.is_empty(), "a pipe is filled when it is empty");
        let mut room = vec![0; max.min(pipe.capacity_bytes)];
        let count = self.read(stream, &mut room)?;
        pipe.bytes.extend(&room[..count]);
        Ok(count)
    }

    fn drain_pipe(&mut self, pipe: &mut SimPipe, stream: &mut SimStream) -> io::Result<usize> {
        let count = self.write(stream, &pipe.bytes)?;
        pipe.bytes.drain(..count);
        Ok(count)
    }

    fn read_pipe(&mut self, pipe: &mut SimPipe, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(pipe.bytes.len());
        for (to, from) in buffer.iter_mut().zip(pipe.bytes.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }

    fn register(
        &mut self,
        stream: &mut SimStream,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        let mut state = self.world.lock();
        if state.fires(|faults| faults.register_errors) {
            return errno(ENOSPC);
        }
        state.watch(stream.0, self.poller, token, interest);
        Ok(())
    }

    fn set_interest(
        &mut self,
        stream: &mut SimStream,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.world
            .lock()
            .watch(stream.0, self.poller, token, interest);
        Ok(())
    }

    fn read(&mut self, stream: &mut SimStream, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.world.lock();
        state.interrupt()?;
        let is_short = buffer.len() > 1 && state.fires(|faults| faults.short_reads);
        let asked = if is_short {
            1 + state.random.below(buffer.len() - 1)
        } else {
            buffer.len()
        };
        let bytes = state.receive(stream.0, asked);
        if is_short && bytes.len() == asked {
            // What is left has arrived just after the read, and is an edge of its own.
            state.tell(stream.0, Ready::READABLE);
        }
        buffer[..bytes.len()].copy_from_slice(&bytes);
        state.note(READ, u64::from(stream.0), bytes.len() as u64);
        let Some(socket) = state.sockets.get_mut(&stream.0) else {
            return errno(EPIPE);
        };
        match (bytes.len(), socket.error.take(), socket.has_fin) {
            (0, Some(error), _) => errno(error),
            (0, None, true) => Ok(0),
            (0, None, false) => errno(EAGAIN),
            (count, error, _) => {
                socket.error = error;
                Ok(count)
            }
        }
    }

    fn write(&mut self, stream: &mut SimStream, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.world.lock();
        state.interrupt()?;
        let Some(socket) = state.sockets.get(&stream.0) else {
            return errno(EPIPE);
        };
        assert!(!socket.fin_sent, "a write after FIN");
        if socket.peer.is_none() {
            return errno(EPIPE);
        }
        let is_short = state.fires(|faults| faults.short_writes);
        let offered = if is_short {
            state.random.below(bytes.len() + 1)
        } else {
            bytes.len()
        };
        let count = state.send(stream.0, &bytes[..offered]);
        if count < bytes.len() {
            // The room that there was is an edge that comes at once, as if the peer had just read.
            let has_room = count == offered;
            if has_room {
                state.tell(stream.0, Ready::WRITABLE);
            } else if let Some(socket) = state.sockets.get_mut(&stream.0) {
                socket.is_blocked = true;
            }
        }
        state.note(WRITE, u64::from(stream.0), count as u64);
        if count == 0 { errno(EAGAIN) } else { Ok(count) }
    }

    fn write_vectored(
        &mut self,
        stream: &mut SimStream,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let bytes: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        self.write(stream, &bytes)
    }

    fn shutdown_write(&mut self, stream: &mut SimStream) -> io::Result<()> {
        let mut state = self.world.lock();
        state.shutdowns += 1;
        state.finish(stream.0);
        Ok(())
    }

    fn take_error(&mut self, stream: &mut SimStream) -> io::Result<Option<io::Error>> {
        let mut state = self.world.lock();
        state.errors_taken += 1;
        let error = state
            .sockets
            .get_mut(&stream.0)
            .and_then(|socket| socket.error.take());
        Ok(error.map(io::Error::from_raw_os_error))
    }

    fn unacked(&mut self, stream: &SimStream) -> io::Result<usize> {
        let state = self.world.lock();
        let peer = state.sockets.get(&stream.0).and_then(|near| near.peer);
        let far = peer.and_then(|peer| state.sockets.get(&peer));
        Ok(far.map_or(0, |far| far.arrived.len()))
    }

    fn close_stream(&mut self, stream: SimStream, abort: bool) {
        let mut state = self.world.lock();
        state.owned -= 1;
        state.note(CLOSE, u64::from(stream.0), u64::from(abort));
        state.close(stream.0, abort);
    }
}
