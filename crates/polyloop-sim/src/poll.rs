//! What the polls of the loops say, and when: edge-triggered, as epoll does it.
//!
//! The one idea: an edge puts a socket into the queue of its poll, and nothing else does; what is *said* is what the
//! socket is ready for when the poll asks, so that edges run together, and one whose cause is gone (the bytes were read
//! by then, the socket was closed) is never told.
//!
//! Faults may hold an edge back for a later poll, or slip something in that is not so; never alone, since a loop that
//! is woken for nothing counts that, and rightly.

use crate::socket::{Watch, told};
use crate::world::State;
use polyloop::Token;
use polyloop::driver::{Event, Interest, Ready};
use std::collections::VecDeque;

/// One poll.
#[derive(Debug, Default)]
pub(crate) struct Poller {
    /// Sockets and listeners with an edge that was not told yet, in the order of the edges.
    edges: VecDeque<u32>,
    pub(crate) is_rung: bool,
    /// Tokens of sockets that are gone: what a late event may still name.
    ghosts: VecDeque<Token>,
}

/// Ghosts that a poll remembers.
const GHOSTS_MAX: usize = 8;

impl State {
    /// An edge at a socket or a listener. Whoever does not watch for it hears nothing of it.
    pub(crate) fn tell(&mut self, id: u32, edge: Ready) {
        let Some(Watch {
            poller, interest, ..
        }) = self.watch_of(id)
        else {
            return;
        };
        let edges = &mut self.pollers[poller].edges;
        if told(edge, interest) != Ready::empty() && !edges.contains(&id) {
            edges.push_back(id);
        }
    }

    fn watch_of(&self, id: u32) -> Option<Watch> {
        let socket = self.sockets.get(&id).and_then(|socket| socket.watch);
        socket.or_else(|| self.listeners.get(&id).and_then(|listener| listener.watch))
    }

    /// Registers a socket, and tells what it is ready for already.
    pub(crate) fn watch(&mut self, id: u32, poller: usize, token: Token, interest: Interest) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.watch = Some(Watch {
                poller,
                token,
                interest,
            });
            self.tell(id, self.readiness(id));
        }
    }

    /// Takes a socket out of its poll, whose late events may still name it.
    pub(crate) fn unwatch(&mut self, id: u32) {
        if let Some(Watch { poller, token, .. }) = self.watch_of(id) {
            let ghosts = &mut self.pollers[poller].ghosts;
            ghosts.push_back(token);
            ghosts.drain(..ghosts.len().saturating_sub(GHOSTS_MAX));
        }
    }

    /// What a socket or a listener is ready for now.
    fn readiness(&self, id: u32) -> Ready {
        if let Some(listener) = self.listeners.get(&id) {
            let is_empty = listener.queue.is_empty();
            return if is_empty {
                Ready::empty()
            } else {
                Ready::READABLE
            };
        }
        let Some(socket) = self.sockets.get(&id) else {
            return Ready::empty();
        };
        let peer = socket.peer.and_then(|peer| self.sockets.get(&peer));
        socket.readiness(peer.is_some_and(|peer| peer.room() >= peer.edge_room))
    }

    /// What a poll would say about `id` now, if anything.
    fn event_of(&self, id: u32) -> Option<Event> {
        let Watch {
            token, interest, ..
        } = self.watch_of(id)?;
        let ready = told(self.readiness(id), interest);
        (ready != Ready::empty()).then_some(Event { token, ready })
    }

    /// Whether a poll would say something.
    pub(crate) fn has_news(&self, poller: usize) -> bool {
        let Poller { edges, is_rung, .. } = &self.pollers[poller];
        *is_rung || edges.iter().any(|&id| self.event_of(id).is_some())
    }

    /// Says what there is, at most `events_max` of it, and forgets it.
    pub(crate) fn poll(&mut self, poller: usize, events_max: usize, events: &mut Vec<Event>) {
        if std::mem::take(&mut self.pollers[poller].is_rung) {
            events.push(Event {
                token: Token::WAKER,
                ready: Ready::READABLE,
            });
        }
        let mut late = Vec::new();
        while events.len() < events_max
            && let Some(id) = self.pollers[poller].edges.pop_front()
        {
            let Some(event) = self.event_of(id) else {
                continue;
            };
            if !events.is_empty() && self.fires(|faults| faults.late_events) {
                late.push(id);
            } else {
                events.push(event);
            }
        }
        self.pollers[poller].edges.extend(late);
        if (1..events_max).contains(&events.len()) {
            self.say_what_is_not_so(poller, events);
        }
        for event in &*events {
            self.note(
                poller as u64,
                event.token.to_bits(),
                u64::from(event.ready.bits()),
            );
        }
    }

    /// Adds an event without a cause, or one for a socket that is gone.
    fn say_what_is_not_so(&mut self, poller: usize, events: &mut Vec<Event>) {
        if self.fires(|faults| faults.spurious_events) {
            let watches = self.sockets.values().filter_map(|socket| socket.watch);
            let tokens: Vec<Token> = watches
                .filter(|watch| watch.poller == poller)
                .map(|watch| watch.token)
                .collect();
            if !tokens.is_empty() {
                let token = tokens[self.random.below(tokens.len())];
                events.push(Event {
                    token,
                    ready: Ready::READABLE,
                });
            }
        } else if self.fires(|faults| faults.stale_events)
            && let Some(&token) = self.pollers[poller].ghosts.front()
        {
            events.push(Event {
                token,
                ready: Ready::READABLE.with(Ready::READ_CLOSED),
            });
        }
    }
}
