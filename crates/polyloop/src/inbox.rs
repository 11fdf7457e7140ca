//! The inbox of a loop: a bounded mailbox that rings the loop's bell.
//!
//! The one idea: pushing and waking are one act, so that no sender can forget the second half, and the [`Bell`] makes the
//! second half free while the loop is awake. A burst of messages costs one wake-up.
//!
//! Bounded on purpose: a full inbox gives the message back at once and counts it. The sender knows what the message is
//! worth (another loop for a socket, a refusal for a job), the inbox does not.
//!
//! Deliberately absent: blocking in either direction, and a notice that all senders are gone (a loop is told to stop by a
//! message, not by an absence).
//!
//! Costs, owned up to: the slots are allocated when the inbox is made, `capacity * size_of::<T>()` bytes and a stamp
//! each. A sender that the scheduler stops between reserving a slot and filling it makes the loop's next
//! [`pop`](Receiver::pop) spin until that sender runs again; with one loop a core this is rare and short, and it is the
//! price of a queue without a lock. The memory of one message is bounded by `T`: large values belong in a `Box`.
//!
//! Invariant: [`Receiver::is_empty`], asked after the bell's fence, sees each message whose sender has passed the fence in
//! [`Bell::ring`]. The channel reserves the slot before `push` returns and `is_empty` compares the ends of the ring, so a
//! message being written counts as present.

use std::fmt;

use crate::bell::Bell;
use crate::guard::guarded;
use crate::sync::{Arc, AtomicU32, Ordering, Tally, fence};

/// Makes an inbox with room for `capacity` messages whose senders ring `bell`.
///
/// # Panics
///
/// If `capacity` is zero: such an inbox would refuse each message.
pub fn inbox<T: Send>(capacity: usize, bell: Arc<Bell>) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "an inbox needs room for a message");
    let (producer, consumer) = queue::bounded(capacity);
    let shared = Arc::new(Shared {
        closed: AtomicU32::new(OPEN),
        refused: Tally::default(),
    });
    let sender = Sender {
        producer,
        bell,
        shared: Arc::clone(&shared),
    };
    let receiver = Receiver {
        consumer,
        shared,
        capacity,
    };
    (sender, receiver)
}

/// The way into a loop's inbox. Clones send to the same inbox.
pub struct Sender<T> {
    producer: queue::Producer<T>,
    bell: Arc<Bell>,
    shared: Arc<Shared>,
}

impl<T: Send> Sender<T> {
    /// Hands `message` to the loop and wakes it if it sleeps. Never blocks.
    ///
    /// Taken is not yet read: a loop that ends drops what is in its inbox. Where it ended at this very moment the sender
    /// does that for it, and is told how many messages it dropped, its own or others': whatever they stood for is the
    /// sender's to give back.
    ///
    /// # Errors
    ///
    /// The message comes back: [`SendError::Full`] when the loop is behind by the whole capacity (counted),
    /// [`SendError::Closed`] when the loop is gone and will not come back.
    pub fn send(&self, message: T) -> Result<Dropped, SendError<T>> {
        if self.shared.is_closed() {
            return Err(SendError::Closed(message));
        }
        if let Err(message) = self.producer.push(message) {
            self.shared.refused.add(1);
            return Err(SendError::Full(message));
        }
        self.bell.ring();
        // The receiver may have emptied the inbox for the last time before the push. `ring` has fenced, see `Receiver::close`:
        // either the receiver saw our message, or we see its mark, and empty the inbox in its place.
        let dropped = if self.shared.is_closed() {
            self.producer.discard()
        } else {
            0
        };
        Ok(Dropped(dropped))
    }

    /// Messages waiting in the inbox; out of date as soon as it is read.
    pub fn len(&self) -> usize {
        self.producer.len()
    }

    /// Whether no message waits in the inbox; out of date as soon as it is read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Messages given back because the inbox was full, by all senders since the start.
    pub fn refused(&self) -> u64 {
        self.shared.refused.read()
    }
}

// Not derived: a derived one would ask for `T: Clone`.
impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            producer: self.producer.clone(),
            bell: Arc::clone(&self.bell),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// The loop's end of its inbox. There is one; dropping it closes the inbox and drops what was still in it.
pub struct Receiver<T> {
    consumer: queue::Consumer<T>,
    shared: Arc<Shared>,
    capacity: usize,
}

impl<T: Send> Receiver<T> {
    /// The oldest message, if there is one. Messages of one sender keep their order.
    pub fn pop(&self) -> Option<T> {
        self.consumer.pop()
    }

    /// Whether no message waits. Part of what [`Bell::try_sleep`] has to be told.
    pub fn is_empty(&self) -> bool {
        self.consumer.is_empty()
    }

    /// Messages waiting; out of date as soon as it is read.
    pub fn len(&self) -> usize {
        self.consumer.len()
    }

    /// The most messages that can wait.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Messages given back because the inbox was full, by all senders since the start.
    pub fn refused(&self) -> u64 {
        self.shared.refused.read()
    }
}

impl<T> Receiver<T> {
    /// Closes the inbox: from now on senders keep their messages. What was sent before waits to be popped, unless its
    /// sender saw the mark and has dropped it.
    pub fn close(&self) {
        self.shared.closed.store(CLOSED, Ordering::Relaxed);
        // Pairs with the fence in `Bell::ring`, between a sender's push and its second look at the mark.
        fence(Ordering::SeqCst);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.close();
        // Messages are the user's, and so is a panic in the drop of one: it must not be the end of the process.
        while let Some(message) = self.consumer.pop() {
            let _ = guarded(|| drop(message));
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// What the two ends share beside the queue: rarely written, so that reading it costs a sender nothing.
struct Shared {
    closed: AtomicU32,
    refused: Tally,
}

impl Shared {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed) == CLOSED
    }
}

/// How many messages a sender has dropped in place of a loop that was ending; nearly always none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what the dropped messages stood for has to be given back"]
pub struct Dropped(pub usize);

const OPEN: u32 = 0;
const CLOSED: u32 = 1;

/// Why a message was not taken, and the message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendError<T> {
    /// The inbox holds as many messages as it may.
    Full(T),
    /// The loop that read this inbox is gone.
    Closed(T),
}

impl<T> SendError<T> {
    /// The message that was not taken.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(message) | Self::Closed(message) => message,
        }
    }
}

// Not derived: messages carry sockets and closures, which need not be printable for their refusal to be.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the inbox is full",
            Self::Closed(_) => "the loop behind the inbox is gone",
        })
    }
}

impl<T> std::error::Error for SendError<T> {}

/// What the inbox asks of a queue, answered by crossbeam's bounded channel.
///
/// A producer holds both ends: a channel whose reader is gone keeps its messages, and with them their sockets, until the
/// last sender is gone too, and only somebody with a reading end can take them out.
#[cfg(not(loom))]
mod queue {
    use crossbeam_channel::{Receiver, Sender};

    pub(super) fn bounded<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
        let (sender, receiver) = crossbeam_channel::bounded(capacity);
        (Producer(sender, receiver.clone()), Consumer(receiver))
    }

    pub(super) struct Producer<T>(Sender<T>, Receiver<T>);

    impl<T> Producer<T> {
        /// Gives the value back when the queue is full. It is never disconnected: see the type's second field.
        pub(super) fn push(&self, value: T) -> Result<(), T> {
            self.0.try_send(value).map_err(|error| error.into_inner())
        }

        /// Drops what is in the queue; returns how many.
        pub(super) fn discard(&self) -> usize {
            let mut dropped = 0;
            while self.1.try_recv().is_ok() {
                dropped += 1;
            }
            dropped
        }

        pub(super) fn len(&self) -> usize {
            self.0.len()
        }
    }

    impl<T> Clone for Producer<T> {
        fn clone(&self) -> Self {
            Self(self.0.clone(), self.1.clone())
        }
    }

    pub(super) struct Consumer<T>(Receiver<T>);

    impl<T> Consumer<T> {
        pub(super) fn pop(&self) -> Option<T> {
            // Empty and "no sender left" are the same to a loop: see the module text.
            self.0.try_recv().ok()
        }

        pub(super) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }

        pub(super) fn len(&self) -> usize {
            self.0.len()
        }
    }
}

/// The same queue for the checker, which has no model of crossbeam: a lock around a deque. The lock orders more than the
/// channel does, so the ordering of push and announcement is checked without it, in `bell`.
#[cfg(loom)]
mod queue {
    use std::collections::VecDeque;

    use loom::sync::{Mutex, MutexGuard};

    use crate::sync::Arc;

    pub(super) fn bounded<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
        let values = Arc::new(Mutex::new(VecDeque::new()));
        (Producer(Arc::clone(&values), capacity), Consumer(values))
    }

    fn lock<T>(values: &Mutex<VecDeque<T>>) -> MutexGuard<'_, VecDeque<T>> {
        values.lock().expect("the model stops at the first panic")
    }

    pub(super) struct Producer<T>(Arc<Mutex<VecDeque<T>>>, usize);

    impl<T> Producer<T> {
        pub(super) fn push(&self, value: T) -> Result<(), T> {
            let mut values = lock(&self.0);
            if values.len() == self.1 {
                return Err(value);
            }
            values.push_back(value);
            Ok(())
        }

        pub(super) fn discard(&self) -> usize {
            // Dropped after the lock, as the messages may take it.
            let values = std::mem::take(&mut *lock(&self.0));
            values.len()
        }

        pub(super) fn len(&self) -> usize {
            lock(&self.0).len()
        }
    }

    impl<T> Clone for Producer<T> {
        fn clone(&self) -> Self {
            Self(Arc::clone(&self.0), self.1)
        }
    }

    pub(super) struct Consumer<T>(Arc<Mutex<VecDeque<T>>>);

    impl<T> Consumer<T> {
        pub(super) fn pop(&self) -> Option<T> {
            lock(&self.0).pop_front()
        }

        pub(super) fn is_empty(&self) -> bool {
            self.len() == 0
        }

        pub(super) fn len(&self) -> usize {
            lock(&self.0).len()
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io;
    use std::thread;

    use super::*;
    use crate::bell::Wake;

    struct Silent;

    impl Wake for Silent {
        fn wake(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A sleep that a thread can be woken from, as a poll with an eventfd is.
    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(&self) -> io::Result<()> {
            self.0.unpark();
            Ok(())
        }
    }

    #[test]
    fn full_and_closed_give_the_message_back() {
        // Goal: no message vanishes unseen. Method: fill an inbox of two, then drop its reader.
        let bell = Arc::new(Bell::new(Arc::new(Silent)));
        let (sender, receiver) = inbox::<Box<u32>>(2, bell);
        let other = sender.clone();
        assert!(receiver.is_empty() && sender.is_empty());
        assert_eq!(sender.send(Box::new(1)), Ok(Dropped(0)));
        assert_eq!(other.send(Box::new(2)), Ok(Dropped(0)));
        assert_eq!(sender.send(Box::new(3)), Err(SendError::Full(Box::new(3))));
        assert_eq!(
            (sender.len(), receiver.len(), receiver.capacity()),
            (2, 2, 2)
        );
        assert_eq!((sender.refused(), receiver.refused()), (1, 1));
        assert_eq!(
            (receiver.pop(), receiver.pop(), receiver.pop()),
            (Some(Box::new(1)), Some(Box::new(2)), None)
        );
        drop(receiver);
        let error = other.send(Box::new(4)).unwrap_err();
        assert_eq!(error, SendError::Closed(Box::new(4)));
        assert_eq!(*error.into_inner(), 4);
        assert_eq!(other.refused(), 1, "closed is not full");
    }

    #[test]
    fn a_closing_inbox_drops_what_is_in_it() {
        // Goal: sockets inside a dead loop's inbox are closed. Method: count the references left to a message.
        let bell = Arc::new(Bell::new(Arc::new(Silent)));
        let (sender, receiver) = inbox(4, bell);
        let message = Arc::new(());
        assert_eq!(sender.send(Arc::clone(&message)), Ok(Dropped(0)));
        drop(receiver);
        assert_eq!(Arc::strong_count(&message), 1);
    }

    #[test]
    fn four_senders_and_a_sleeping_loop_lose_nothing() {
        // Goal: the real channel keeps what the model promises. Method: real threads, a reader that sleeps whenever it
        // may, an inbox far smaller than the traffic; a lost wake-up shows as a test that never ends.
        const EACH: u64 = 20_000;
        let bell = Arc::new(Bell::new(Arc::new(Unpark(thread::current()))));
        let (sender, receiver) = inbox::<(usize, u64)>(64, Arc::clone(&bell));
        let senders: Vec<_> = (0..4)
            .map(|id| {
                let sender = sender.clone();
                thread::spawn(move || {
                    for n in 0..EACH {
                        let mut message = (id, n);
                        while let Err(error) = sender.send(message) {
                            message = error.into_inner();
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut next = [0; 4];
        let mut announced = 0;
        while next != [EACH; 4] {
            while let Some((id, n)) = receiver.pop() {
                assert_eq!(n, next[id], "one sender's messages keep their order");
                next[id] += 1;
            }
            if next != [EACH; 4] {
                announced += 1;
                if bell.try_sleep(|| !receiver.is_empty()) {
                    thread::park();
                    bell.awake();
                }
            }
        }
        for sender in senders {
            sender.join().unwrap();
        }
        assert!(bell.sent() <= announced);
        assert_eq!(bell.failed(), 0);
    }

    #[test]
    fn a_message_that_panics_when_dropped_ends_nothing() {
        // Goal: what is left in an inbox goes with it, whatever the drops of messages do. Method: three that panic, and one that
        // lies behind them; the drop of the receiver returns, and has dropped them all.
        struct Charge {
            _alive: Arc<()>,
            panics: bool,
        }
        impl Drop for Charge {
            fn drop(&mut self) {
                assert!(!self.panics, "the drop of a message");
            }
        }
        let (sender, receiver) = inbox(4, Arc::new(Bell::new(Arc::new(Silent))));
        let alive = Arc::new(());
        for panics in [true, true, true, false] {
            assert!(
                sender
                    .send(Charge {
                        _alive: Arc::clone(&alive),
                        panics
                    })
                    .is_ok()
            );
        }
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        drop(receiver);
        std::panic::set_hook(hook);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::thread;

    use super::*;
    use crate::bell::models::Poll;

    #[test]
    fn each_message_arrives_or_comes_back() {
        // Goal: with less room than messages, each is read once or given back. Method: two senders, one slot, and a loop
        // that sleeps whenever the bell lets it; a lost wake-up is a dead lock that the checker reports.
        loom::model(|| {
            let poll = Arc::new(Poll::default());
            let bell = Arc::new(Bell::new(poll.clone()));
            let (sender, receiver) = inbox(1, Arc::clone(&bell));
            let senders = [1u32, 2].map(|message| {
                let sender = sender.clone();
                thread::spawn(move || match sender.send(message) {
                    Ok(Dropped(dropped)) => {
                        assert_eq!(dropped, 0, "nobody closes");
                        0
                    }
                    Err(SendError::Full(message)) => message,
                    Err(SendError::Closed(_)) => unreachable!("the receiver is alive"),
                })
            });
            let mut announced = 0;
            let mut read = 0;
            // One message always arrives; the other may come back. Wait for the first, then collect.
            while read == 0 {
                announced += 1;
                if bell.try_sleep(|| !receiver.is_empty()) {
                    poll.wait();
                    bell.awake();
                }
                read += receiver.pop().unwrap_or(0);
            }
            let returned: u32 = senders.map(|sender| sender.join().unwrap()).iter().sum();
            while let Some(message) = receiver.pop() {
                read += message;
            }
            assert_eq!(read + returned, 3);
            assert_eq!(u64::from(returned > 0), receiver.refused());
            assert!(poll.wakes() <= announced);
        });
    }

    #[test]
    fn a_message_to_a_closing_loop_is_dropped_or_comes_back() {
        // Goal: no message is kept by nobody. Method: send while the receiver is dropped; count references afterwards.
        loom::model(|| {
            let bell = Arc::new(Bell::new(Arc::new(Poll::default())));
            let (sender, receiver) = inbox(1, bell);
            // Another sender stays: the queue itself must not go, or it would take the message with it.
            let _other_sender = sender.clone();
            let message = Arc::new(());
            let copy = Arc::clone(&message);
            let other =
                thread::spawn(move || sender.send(copy).map_err(SendError::into_inner).err());
            drop(receiver);
            let returned = other.join().unwrap();
            assert_eq!(
                Arc::strong_count(&message),
                1 + usize::from(returned.is_some())
            );
        });
    }

    #[test]
    fn what_stands_behind_a_message_is_given_back_once() {
        // Goal: a socket handed to a loop that ends is answered for by exactly one side. Method: send while the receiver
        // closes and takes what is left; what came back, was taken, or was dropped for the loop adds up to one.
        loom::model(|| {
            let bell = Arc::new(Bell::new(Arc::new(Poll::default())));
            let (sender, receiver) = inbox(1, bell);
            let other = thread::spawn(move || match sender.send(7) {
                Ok(Dropped(dropped)) => dropped,
                Err(error) => usize::from(error.into_inner() == 7),
            });
            receiver.close();
            let mut taken = 0;
            while receiver.pop().is_some() {
                taken += 1;
            }
            let by_sender = other.join().unwrap();
            while receiver.pop().is_some() {
                taken += 1;
            }
            assert_eq!(taken + by_sender, 1);
        });
    }
}
