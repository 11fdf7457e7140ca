//! Everything outside of the loops: sockets, listeners, what the polls will say, and the time.

use crate::client::Client;
use crate::driver::{SimDriver, SimListener};
use crate::faults::{Faults, Random};
use crate::poll::Poller;
use crate::socket::{Socket, Watch};
use polyloop::KeepAliveNumbers;
use polyloop::driver::Ready;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that wait to be read at one end, unless told otherwise.
const WINDOW_BYTES: usize = 64 * 1024;

/// See the module's documentation. Clones are the same world.
#[derive(Debug, Clone)]
pub struct World(Arc<Mutex<State>>);

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) now_ns: u64,
    pub(crate) random: Random,
    pub(crate) faults: Faults,
    /// Descriptors that may be open at our end; the listeners do not count.
    pub(crate) descriptors_max: usize,
    /// Accepts that fail with `EMFILE` although there is room.
    pub(crate) refusals: usize,
    pub(crate) sockets: BTreeMap<u32, Socket>,
    pub(crate) listeners: BTreeMap<u32, Listener>,
    /// Listeners that answer nobody.
    pub(crate) silent: BTreeSet<u32>,
    pub(crate) pollers: Vec<Poller>,
    /// Sockets at our end.
    pub(crate) owned: usize,
    /// Pipes that are open.
    pub(crate) pipes: usize,
    /// Connections that were begun with [`Dial::holds_ack`].
    pub(crate) acks_held: usize,
    /// Sockets that were asked to be kept alive late, in order, and with which numbers; `None` is with those of their listener.
    pub(crate) kept_alive: Vec<(u32, Option<KeepAliveNumbers>)>,
    /// Connections that were begun with a keep-alive.
    pub(crate) kept_from_start: usize,
    /// Whether the listeners of servers to come keep their connections alive.
    pub(crate) listeners_keep_alive: bool,
    /// FINs that were asked for before the close, and errors that were asked for.
    pub(crate) shutdowns: usize,
    pub(crate) errors_taken: usize,
    next_id: u32,
    trace: u64,
}

#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) queue: VecDeque<u32>,
    pub(crate) watch: Option<Watch>,
}

impl World {
    /// A world without faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_faults(seed, Faults::default())
    }

    /// A world with faults.
    #[must_use]
    pub fn with_faults(seed: u64, faults: Faults) -> Self {
        Self(Arc::new(Mutex::new(State {
            now_ns: 1_000_000_000,
            random: Random::new(seed),
            faults,
            descriptors_max: usize::MAX,
            refusals: 0,
            sockets: BTreeMap::new(),
            listeners: BTreeMap::new(),
            silent: BTreeSet::new(),
            pollers: Vec::new(),
            owned: 0,
            pipes: 0,
            acks_held: 0,
            kept_alive: Vec::new(),
            kept_from_start: 0,
            listeners_keep_alive: false,
            shutdowns: 0,
            errors_taken: 0,
            next_id: 0,
            trace: 0,
        })))
    }

    /// The driver of one more loop.
    #[must_use]
    pub fn driver(&self) -> SimDriver {
        let mut state = self.lock();
        state.pollers.push(Poller::default());
        SimDriver {
            world: self.clone(),
            poller: state.pollers.len() - 1,
        }
    }

    /// A listening socket.
    #[must_use]
    pub fn listen(&self) -> SimListener {
        let mut state = self.lock();
        let id = state.take_id();
        state.listeners.insert(
            id,
            Listener {
                queue: VecDeque::new(),
                watch: None,
            },
        );
        SimListener(id)
    }

    /// A connection to one of `listeners`, chosen by the seed, as the kernel chooses by a hash.
    ///
    /// # Panics
    /// When `listeners` is empty.
    #[must_use]
    pub fn connect(&self, listeners: &[u32]) -> Client {
        let mut state = self.lock();
        let at = state.random.below(listeners.len());
        let (near, far) = state.pair();
        let refused = match state.listeners.get_mut(&listeners[at]) {
            Some(listener) => {
                listener.queue.push_back(far);
                state.tell(listeners[at], Ready::READABLE);
                false
            }
            None => true,
        };
        if refused {
            state.close(far, true);
        }
        Client {
            world: self.clone(),
            id: near,
        }
    }

    /// Makes a listener one that answers nobody, as a host that drops what it is sent: connections to it are never made.
    pub fn silence(&self, listener: u32) {
        self.lock().silent.insert(listener);
    }

    /// Ends that: connections from now on are taken, and wait in the queue until somebody accepts them.
    pub fn speak(&self, listener: u32) {
        self.lock().silent.remove(&listener);
    }

    /// Allows only so many open sockets at our end: `EMFILE` beyond.
    pub fn set_descriptors_max(&self, count: usize) {
        self.lock().descriptors_max = count;
    }

    /// Lets the next `count` accepts at which somebody waits fail for want of descriptors, whatever there is: somebody else held
    /// them for that moment.
    pub fn refuse_accepts(&self, count: usize) {
        self.lock().refusals = count;
    }

    /// Turns all faults off, for the end of a run.
    pub fn calm(&self) {
        self.lock().faults = Faults::default();
    }

    /// Sockets open at our end.
    #[must_use]
    pub fn owned(&self) -> usize {
        self.lock().owned
    }

    /// Pipes that are open.
    #[must_use]
    pub fn pipes(&self) -> usize {
        self.lock().pipes
    }

    /// Connections that were begun with [`Dial::holds_ack`](polyloop::Dial::holds_ack). Here they stand at once all the same.
    #[must_use]
    pub fn acks_held(&self) -> usize {
        self.lock().acks_held
    }

    /// Sockets that were asked to be kept alive late, in order, and with which numbers; `None` is with those of their listener.
    /// Older sockets have lower numbers.
    #[must_use]
    pub fn kept_alive(&self) -> Vec<(u32, Option<KeepAliveNumbers>)> {
        self.lock().kept_alive.clone()
    }

    /// Connections that were begun with a keep-alive.
    #[must_use]
    pub fn kept_from_start(&self) -> usize {
        self.lock().kept_from_start
    }

    /// FINs that were asked for without a close.
    #[must_use]
    pub fn shutdowns(&self) -> usize {
        self.lock().shutdowns
    }

    /// How often a socket was asked for its error.
    #[must_use]
    pub fn errors_taken(&self) -> usize {
        self.lock().errors_taken
    }

    /// From now on, servers are made whose connections are kept alive.
    pub fn keep_alive(&self) {
        self.lock().listeners_keep_alive = true;
    }

    /// The time, in nanoseconds.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.lock().now_ns
    }

    /// A number made of everything that the loops were told and did, in order: two runs that differ anywhere differ here.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.lock().trace
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked while it held the world has failed already.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(crate) const fn take_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// Two ends that are connected.
    pub(crate) fn pair(&mut self) -> (u32, u32) {
        let (near, far) = (self.take_id(), self.take_id());
        for (id, peer) in [(near, far), (far, near)] {
            self.sockets.insert(
                id,
                Socket {
                    peer: Some(peer),
                    ..Socket::new(WINDOW_BYTES)
                },
            );
        }
        (near, far)
    }

    /// Adds a step to the trace.
    pub(crate) const fn note(&mut self, call: u64, id: u64, result: u64) {
        // FNV-1a over three words; it has to notice a difference, not to withstand anybody.
        let mut trace = self.trace;
        let words = [call, id, result];
        let mut at = 0;
        while at < words.len() {
            trace = (trace ^ words[at])
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(23);
            at += 1;
        }
        self.trace = trace;
    }

    /// Whether a class of fault that is on fires now.
    pub(crate) fn fires(&mut self, class: impl Fn(&Faults) -> bool) -> bool {
        class(&self.faults) && self.random.once_in(4)
    }

    /// Sends `bytes` from `id` to its peer, as many as the window takes.
    pub(crate) fn send(&mut self, id: u32, bytes: &[u8]) -> usize {
        let Some(peer) = self.sockets.get(&id).and_then(|socket| socket.peer) else {
            return 0;
        };
        let Some(far) = self.sockets.get_mut(&peer) else {
            return 0;
        };
        let count = bytes.len().min(far.room());
        far.arrived.extend(&bytes[..count]);
        if count > 0 {
            self.tell(peer, Ready::READABLE);
        }
        if count < bytes.len()
            && let Some(socket) = self.sockets.get_mut(&id)
        {
            socket.is_blocked = true;
        }
        count
    }

    /// Reads at most `max` bytes that have arrived at `id`; room is an edge for a peer that waits for it.
    pub(crate) fn receive(&mut self, id: u32, max: usize) -> Vec<u8> {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return Vec::new();
        };
        let count = max.min(socket.arrived.len());
        let bytes: Vec<u8> = socket.arrived.drain(..count).collect();
        let peer = socket.peer;
        let has_edge = socket.room() >= socket.edge_room;
        if let Some(far) = peer.and_then(|peer| self.sockets.get_mut(&peer))
            && far.is_blocked
            && count > 0
            && has_edge
        {
            far.is_blocked = false;
            self.tell_peer(id, Ready::WRITABLE);
        }
        bytes
    }

    fn tell_peer(&mut self, id: u32, edge: Ready) {
        if let Some(peer) = self.sockets.get(&id).and_then(|socket| socket.peer) {
            self.tell(peer, edge);
        }
    }

    /// FIN from `id` to its peer.
    pub(crate) fn finish(&mut self, id: u32) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut socket.fin_sent, true) {
            return;
        }
        if let Some(far) = socket.peer.and_then(|peer| self.sockets.get_mut(&peer)) {
            assert!(!far.has_fin, "a second FIN");
            far.has_fin = true;
            self.tell_peer(id, Ready::READABLE.with(Ready::READ_CLOSED));
        }
    }

    /// A reset from `id` to its peer: what it has not read is lost.
    pub(crate) fn reset(&mut self, id: u32) {
        const ECONNRESET: i32 = 104;
        let Some(peer) = self
            .sockets
            .get_mut(&id)
            .and_then(|socket| socket.peer.take())
        else {
            return;
        };
        if let Some(far) = self.sockets.get_mut(&peer) {
            far.peer = None;
            far.error = Some(ECONNRESET);
            far.arrived.clear();
            let ready = far.readiness(false);
            self.tell(peer, ready);
        }
    }

    /// A reset from `id` to its peer that comes behind what was sent, and is noticed as such.
    pub(crate) fn break_off(&mut self, id: u32) {
        const ECONNRESET: i32 = 104;
        let socket = self.sockets.get_mut(&id);
        let Some(peer) = socket.and_then(|socket| socket.peer.take()) else {
            return;
        };
        if let Some(far) = self.sockets.get_mut(&peer) {
            far.peer = None;
            far.error = Some(ECONNRESET);
            let ready = far.readiness(false);
            self.tell(peer, ready);
        }
    }

    /// Closes an end. As the kernel does it: a reset if asked for or if something was left unread, FIN otherwise.
    pub(crate) fn close(&mut self, id: u32, aborts: bool) {
        let Some(socket) = self.sockets.get(&id) else {
            return;
        };
        if aborts || !socket.arrived.is_empty() {
            self.reset(id);
        } else {
            self.finish(id);
        }
        self.unwatch(id);
        if let Some(Socket {
            peer: Some(peer), ..
        }) = self.sockets.remove(&id)
            && let Some(far) = self.sockets.get_mut(&peer)
        {
            far.peer = None;
        }
    }

    /// Loses a connection, where the seed says so: at our end it is `ETIMEDOUT`, at the other a reset.
    pub(crate) fn lose_somebody(&mut self) {
        const ETIMEDOUT: i32 = 110;
        if !self.fires(|faults| faults.losses) || !self.random.once_in(16) {
            return;
        }
        let watched = self
            .sockets
            .iter()
            .filter(|(_, socket)| socket.watch.is_some() && socket.peer.is_some());
        let ids: Vec<u32> = watched.map(|(&id, _)| id).collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[self.random.below(ids.len())];
        self.reset(id);
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.error = Some(ETIMEDOUT);
            socket.arrived.clear();
            let ready = socket.readiness(false);
            self.tell(id, ready);
        }
    }
}
