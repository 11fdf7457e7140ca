//! One end of a connection.

use polyloop::Token;
use polyloop::driver::{Interest, Ready};
use std::collections::VecDeque;

/// Who is told about a socket's edges.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    pub(crate) poller: usize,
    pub(crate) token: Token,
    pub(crate) interest: Interest,
}

#[derive(Debug)]
pub(crate) struct Socket {
    /// The other end; `None` once that is closed.
    pub(crate) peer: Option<u32>,
    /// What has arrived and was not read.
    pub(crate) arrived: VecDeque<u8>,
    /// How much may wait to be read: the window.
    pub(crate) window: usize,
    /// How much of it must be free for the peer to be told so: a kernel waits for a third of a send buffer.
    pub(crate) edge_room: usize,
    /// The peer's FIN is behind what has arrived.
    pub(crate) has_fin: bool,
    pub(crate) fin_sent: bool,
    /// An error waits to be collected.
    pub(crate) error: Option<i32>,
    /// A write to this end's peer was cut short: room there is an edge here.
    pub(crate) is_blocked: bool,
    /// Still being connected.
    pub(crate) is_connecting: bool,
    pub(crate) watch: Option<Watch>,
}

impl Socket {
    pub(crate) const fn new(window: usize) -> Self {
        Self {
            peer: None,
            arrived: VecDeque::new(),
            window,
            edge_room: 1,
            has_fin: false,
            fin_sent: false,
            error: None,
            is_blocked: false,
            is_connecting: false,
            watch: None,
        }
    }

    pub(crate) fn room(&self) -> usize {
        self.window.saturating_sub(self.arrived.len())
    }

    /// What a poll that tests readiness anew says, before the interest is looked at. `peer_room` is whether a write
    /// would be taken.
    pub(crate) fn readiness(&self, peer_room: bool) -> Ready {
        let mut ready = Ready::empty();
        if !self.arrived.is_empty() {
            ready = ready.with(Ready::READABLE);
        }
        if self.has_fin {
            ready = ready.with(Ready::READABLE).with(Ready::READ_CLOSED);
        }
        if self.error.is_some() {
            ready = ready.with(Ready::READABLE).with(Ready::READ_CLOSED);
            ready = ready
                .with(Ready::WRITABLE)
                .with(Ready::HUNG_UP)
                .with(Ready::ERROR);
        }
        if peer_room && !self.is_connecting {
            ready = ready.with(Ready::WRITABLE);
        }
        ready
    }
}

/// What of `ready` somebody with this interest is told.
pub(crate) const fn told(ready: Ready, interest: Interest) -> Ready {
    match interest {
        Interest::ReadWrite => ready,
        Interest::Read => Ready::from_bits(ready.bits() & !Ready::WRITABLE.bits()),
    }
}
