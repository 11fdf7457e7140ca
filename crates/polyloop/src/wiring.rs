//! The wires between the loops of a process: inboxes, bells, permits and boards.
//!
//! [`wire`] makes them all before any loop runs, so that a loop finds its peers in place. The same wiring serves the
//! threads of a [`Server`](crate::Server) and the loops of a simulation, which take turns on one thread.

use crate::bell::{Bell, Wake};
use crate::control::Control;
use crate::dispatcher::Gate;
use crate::driver::Driver;
use crate::hub::{Mail, Mailer};
use crate::inbox::{Dropped, Receiver, SendError, Sender, inbox};
use crate::jobs::{Finished, Offload};
use crate::overload::Overload;
use crate::permits::Permits;
use crate::telemetry::LoopBoard;
use polyloop_core::overload::Level;
use polyloop_sys::peer::PeerAddr;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How much each loop's inboxes hold, and how much all loops together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacities {
    /// Connections that may be open at once in the whole process.
    pub connections_max: u64,
    /// Sockets on their way to one loop. When it is full the giver keeps the socket. HAProxy measured that 128 fills
    /// up where 256 does not.
    pub handed_max: usize,
    /// Messages on their way to one loop. When it is full the sender is told.
    pub messages_max: usize,
    /// Jobs that the pools can hold, queued and running; a loop has room for that many results.
    pub jobs_max: usize,
}

impl Default for Capacities {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            handed_max: 1024,
            messages_max: 4096,
            jobs_max: 1024,
        }
    }
}

/// A socket on its way from the loop that accepted it to the loop that will serve it.
pub(crate) struct Handed<S> {
    pub(crate) stream: S,
    pub(crate) peer: PeerAddr,
    /// Index of the server's listener that it came through.
    pub(crate) listener: usize,
    pub(crate) sent_ns: u64,
}

/// The ways out of a loop: to every loop, itself among them.
pub(crate) struct Links<S, M> {
    handed: Arc<[Sender<Handed<S>>]>,
    mailer: Mailer<M>,
    permits: Arc<Permits>,
}

impl<S, M> Clone for Links<S, M> {
    fn clone(&self) -> Self {
        Self {
            handed: Arc::clone(&self.handed),
            mailer: self.mailer.clone(),
            permits: Arc::clone(&self.permits),
        }
    }
}

impl<S: Send, M: Send> Links<S, M> {
    pub(crate) fn mailer(&self) -> Mailer<M> {
        self.mailer.clone()
    }

    pub(crate) fn permits(&self) -> &Permits {
        &self.permits
    }

    /// Gives a socket to a loop, and charges it to `board`, which is that loop's; the socket comes back if the inbox
    /// is full or closed.
    pub(crate) fn hand(
        &self,
        to: usize,
        board: &LoopBoard,
        handed: Handed<S>,
    ) -> Result<(), Handed<S>> {
        // Charged first: between sending and charging, others would see a loop emptier than it is.
        board.charged.fetch_add(1, Ordering::Relaxed);
        match self.handed[to].send(handed) {
            Ok(Dropped(0)) => Ok(()),
            Ok(Dropped(dropped)) => {
                // The loop ended just now. The sockets are closed; their permits and charges are nobody else's.
                board.charged.fetch_sub(dropped as i64, Ordering::Relaxed);
                self.permits.release(dropped as u64);
                Ok(())
            }
            Err(SendError::Full(handed) | SendError::Closed(handed)) => {
                board.charged.fetch_sub(1, Ordering::Relaxed);
                Err(handed)
            }
        }
    }
}

/// The ways into a loop.
pub(crate) struct Post<D: Driver, M> {
    index: usize,
    bell: Arc<Bell>,
    permits: Arc<Permits>,
    overload: Arc<Overload>,
    /// The level that the loop has acted on last.
    level: Level,
    control: Receiver<Control<D::Listener>>,
    handed: Receiver<Handed<D::Stream>>,
    mail: Receiver<Mail<M>>,
    results: Receiver<Finished<M>>,
    results_sender: Sender<Finished<M>>,
}

impl<D: Driver, M: Send> Post<D, M> {
    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Whether anything waits to be taken.
    pub(crate) fn has_work(&self) -> bool {
        !self.handed.is_empty()
            || !self.mail.is_empty()
            || !self.results.is_empty()
            || !self.control.is_empty()
            || self.permits.has_resume(self.index)
            || self.overload.level() != self.level
    }

    pub(crate) fn has_handed(&self) -> bool {
        !self.handed.is_empty()
    }

    /// From now on other loops keep their sockets; what they gave before is still to be taken.
    pub(crate) fn refuse_handed(&self) {
        self.handed.close();
    }

    pub(crate) fn next_control(&self) -> Option<Control<D::Listener>> {
        self.control.pop()
    }

    pub(crate) fn next_handed(&self) -> Option<Handed<D::Stream>> {
        self.handed.pop()
    }

    pub(crate) fn next_mail(&self) -> Option<Mail<M>> {
        self.mail.pop()
    }

    pub(crate) fn next_result(&self) -> Option<Finished<M>> {
        self.results.pop()
    }

    /// Whether permits or descriptors came back since this loop began to wait for them.
    pub(crate) fn take_permit_news(&self) -> bool {
        self.permits.take_resume(self.index)
    }

    /// The level of memory, if it is another than the one that was taken last.
    pub(crate) fn take_level(&mut self) -> Option<Level> {
        let level = self.overload.level();
        (std::mem::replace(&mut self.level, level) != level).then_some(level)
    }

    /// Results that may wait at once.
    pub(crate) fn results_max(&self) -> usize {
        self.results.capacity()
    }

    pub(crate) fn results_sender(&self) -> Sender<Finished<M>> {
        self.results_sender.clone()
    }
}

impl<D: Driver, M> fmt::Debug for Post<D, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// A loop's place among its peers: what a [`Dispatcher`](crate::Dispatcher) is built on.
pub struct Seat<D: Driver, M> {
    pub(crate) index: usize,
    pub(crate) links: Links<D::Stream, M>,
    pub(crate) boards: Arc<[Arc<LoopBoard>]>,
    pub(crate) offload: Arc<dyn Offload>,
    pub(crate) post: Post<D, M>,
    /// Of which listeners the connections are kept alive.
    pub(crate) kept_alive: Arc<[bool]>,
}

impl<D: Driver, M> Seat<D, M> {
    /// The connections of these listeners, by their index, are kept alive
    /// ([`Driver::keep_alive`]) once they are a second old, with the numbers that they have from their listener. By default,
    /// none are.
    pub fn set_kept_alive(&mut self, listeners: &Arc<[bool]>) {
        self.kept_alive = Arc::clone(listeners);
    }
}

impl<D: Driver, M> fmt::Debug for Seat<D, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// The outside's end of the wires: boards to read, orders to give.
pub struct Console<D: Driver, M> {
    boards: Arc<[Arc<LoopBoard>]>,
    bells: Vec<Arc<Bell>>,
    permits: Arc<Permits>,
    overload: Arc<Overload>,
    controls: Vec<Sender<Control<D::Listener>>>,
    mailer: Mailer<M>,
}

impl<D: Driver, M> fmt::Debug for Console<D, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("loops", &self.boards.len())
            .finish_non_exhaustive()
    }
}

impl<D: Driver, M: Send> Console<D, M> {
    /// What each loop publishes.
    #[must_use]
    pub const fn boards(&self) -> &Arc<[Arc<LoopBoard>]> {
        &self.boards
    }

    /// The connection permits of the process.
    #[must_use]
    pub const fn permits(&self) -> &Arc<Permits> {
        &self.permits
    }

    /// The level of memory, as the loops know it.
    #[must_use]
    pub const fn overload(&self) -> &Arc<Overload> {
        &self.overload
    }

    /// Tells all loops how much memory is left: see [`Level`]. A level is a state, and the last one counts; whether it is
    /// another than before.
    pub fn set_level(&self, level: Level) -> bool {
        let is_new = self.overload.set_level(level);
        if is_new {
            // After the store: a loop that looks for work before it sleeps has either seen the level, or is woken.
            for bell in &self.bells {
                bell.ring();
            }
        }
        is_new
    }

    /// The bell of each loop, for its counts.
    #[must_use]
    pub fn bells(&self) -> &[Arc<Bell>] {
        &self.bells
    }

    /// The way to send messages to the connections of all loops, from any thread.
    #[must_use]
    pub const fn mailer(&self) -> &Mailer<M> {
        &self.mailer
    }

    /// Tells all loops to accept no more, and to close what is left at `deadline_ns` of the driver's clock.
    pub fn drain(&self, deadline_ns: u64) {
        for loop_index in 0..self.controls.len() {
            self.order(loop_index, Control::Drain { deadline_ns });
        }
    }

    /// Tells a loop with gates for administrators that every other loop has ended. Until then it lets visitors in, although it
    /// may have drained: who asks how the drain goes shall have an answer.
    pub fn drained_elsewhere(&self, loop_index: usize) {
        self.order(loop_index, Control::DrainedElsewhere);
    }

    /// Tells all loops to close everything and end.
    pub fn stop(&self) {
        for loop_index in 0..self.controls.len() {
            self.order(loop_index, Control::Stop);
        }
    }

    /// Passes a signal on to every handler of every loop.
    pub fn signal(&self, signal: i32) {
        for (loop_index, control) in self.controls.iter().enumerate() {
            // A loop that is stuck in a storm of signals loses some of them, never the order to end.
            if control.len() < SIGNALS_MAX {
                self.order(loop_index, Control::Signal(signal));
            }
        }
    }

    /// Lets loop `by` accept through copies of the gates of loop `of`, which is stuck.
    pub(crate) fn rescue(&self, of: usize, by: usize, gates: Vec<Gate<D::Listener>>) {
        self.order(by, Control::Rescue { of, gates });
    }

    /// Ends that.
    pub(crate) fn end_rescue(&self, of: usize, by: usize) {
        self.order(by, Control::RescueEnd { of });
    }

    fn order(&self, loop_index: usize, order: Control<D::Listener>) {
        // Only a loop that has ended refuses: there is one drain with its end elsewhere, one stop, and one rescue and its end for each other
        // loop that gets stuck, and room for them beside SIGNALS_MAX signals.
        let _ = self.controls[loop_index].send(order);
    }
}

/// Orders that a loop may leave lying.
const CONTROLS_MAX: usize = 1024;

/// Orders that a loop may leave lying before it is no longer told of signals: the rest is for orders that must not get
/// lost.
const SIGNALS_MAX: usize = 256;

/// Makes the wires between loops whose polls are woken by `wakers`.
#[must_use]
pub fn wire<D: Driver, M: Send + 'static>(
    wakers: Vec<Arc<dyn Wake>>,
    capacities: Capacities,
    offload: &Arc<dyn Offload>,
) -> (Vec<Seat<D, M>>, Console<D, M>) {
    let bells: Vec<_> = wakers
        .into_iter()
        .map(|waker| Arc::new(Bell::new(waker)))
        .collect();
    let permits = Arc::new(Permits::new(capacities.connections_max, 1, bells.clone()));
    let overload = Arc::new(Overload::default());
    let boards: Arc<[_]> = bells.iter().map(|_| Arc::new(LoopBoard::new())).collect();
    let mut handed = Vec::new();
    let mut mail_senders = Vec::new();
    let mut controls = Vec::new();
    let mut posts = Vec::new();
    for (index, bell) in bells.iter().enumerate() {
        let (control_sender, control) = inbox(CONTROLS_MAX, Arc::clone(bell));
        let (handed_sender, handed_receiver) = inbox(capacities.handed_max, Arc::clone(bell));
        let (mail_sender, mail) = inbox(capacities.messages_max, Arc::clone(bell));
        let (results_sender, results) = inbox(capacities.jobs_max.max(1), Arc::clone(bell));
        controls.push(control_sender);
        handed.push(handed_sender);
        mail_senders.push(mail_sender);
        posts.push(Post {
            index,
            bell: Arc::clone(bell),
            permits: Arc::clone(&permits),
            overload: Arc::clone(&overload),
            level: Level::Normal,
            control,
            handed: handed_receiver,
            mail,
            results,
            results_sender,
        });
    }
    let links = Links {
        handed: handed.into(),
        mailer: Mailer::new(mail_senders),
        permits: Arc::clone(&permits),
    };
    let seats = posts
        .into_iter()
        .map(|post| Seat {
            index: post.index,
            links: links.clone(),
            boards: Arc::clone(&boards),
            offload: Arc::clone(offload),
            post,
            kept_alive: Arc::default(),
        })
        .collect();
    let mailer = links.mailer();
    (
        seats,
        Console {
            boards,
            bells,
            permits,
            overload,
            controls,
            mailer,
        },
    )
}
