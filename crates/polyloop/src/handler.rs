//! What a user of the library writes: a [`Handler`] per connection, and the [`Factory`] that makes them on a loop.
//!
//! A handler is told what happened and answers with a [`Verdict`]; it acts through its [`Ctx`]. It never sees a
//! descriptor, a poll or `WouldBlock`, it never blocks, and it need not be `Send`: it is made on its own loop and
//! stays there.

use crate::close::CloseReason;
use crate::ctx::Ctx;
use crate::hub::Mailer;
use crate::input::Input;
use crate::offload::JobId;
use crate::token::Side;
use polyloop_core::runqueue::Class;
use polyloop_core::wheel::TimerKey;
use polyloop_sys::peer::PeerAddr;

/// What a handler wants to happen next. Every callback returns one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Go on. Reading that was paused stays paused.
    Continue,
    /// Stop reading from the side the callback was about. What arrives stays in the kernel, which in time stops the
    /// peer; nothing that was told is lost. [`Ctx::resume`] goes on, from any later callback. The peer's reset is
    /// still noticed; its FIN is not, until reading goes on.
    Pause,
    /// Go on, but let others first: the session goes to the end of its class's queue, and `on_data` is called again
    /// in the next turn with what was left unconsumed, even if nothing new has arrived. Where nothing was left it is
    /// called when something arrives: work that goes on without input sends itself a message ([`Ctx::send`] to
    /// [`Ctx::this`]), which comes in the next turn.
    Yield,
    /// End in good order: no more callbacks but `on_close`; what was written is delivered, then FIN, then what the
    /// peer still sends is read and dropped until its FIN. The peer gets every byte. Bounded by the linger timeout: when it
    /// is over, and the peer has taken nothing of what it is owed meanwhile, the session closes with
    /// [`CloseReason::LingerTimeout`].
    Drain,
    /// Close once what was written has been delivered to the kernel, without waiting for the peer's FIN. If the peer
    /// is still sending, the kernel answers with a reset, which may overtake the last bytes: prefer `Drain` unless
    /// the protocol says that the peer is quiet.
    Close,
    /// Close now with a reset; what was not delivered is dropped.
    Abort,
}

/// One connection's behaviour. See the module's documentation.
///
/// # Order of calls
/// `on_open` comes first and `on_close` last, exactly once each, and nothing after `on_close`. `on_data` never comes
/// while reading is paused, nor after `on_finished` of the same side. A callback that panics ends its own session
/// with [`CloseReason::HandlerPanicked`] and a reset, so that nobody takes what was written so far for everything;
/// `on_close` is not called then, since the state can no longer be trusted. The same holds for the other methods and for
/// `Drop`, of the handler and of its messages: a panic there is counted, and never reaches the loop. Only a second panic
/// while the first unwinds ends the process, as everywhere in Rust.
///
/// # Speed
/// Every callback runs on the loop, and every other connection of that loop waits for it. Anything that could block
/// or compute for long belongs in [`Ctx::offload`]. A turn that takes longer than 100 ms is reported by the
/// watchdog, with the callback that runs then and its name from [`NAMES`](Self::NAMES).
pub trait Handler: Sized + 'static {
    /// What other connections and offloaded jobs send to this handler; `()` where nothing does.
    type Message: Send + 'static;

    /// Names of the kinds of handler behind this type, for stall reports and logs; see
    /// [`name_index`](Self::name_index).
    const NAMES: &'static [&'static str] = &["connection"];

    /// Which of [`NAMES`](Self::NAMES) this one is. An enum of several kinds overrides it.
    fn name_index(&self) -> usize {
        0
    }

    /// The class it is scheduled in, asked once when the connection opens; later [`Ctx::set_class`] changes it.
    fn class(&self) -> Class {
        Class::Normal
    }

    /// The connection is open. Servers that speak first write here. The default goes on.
    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let _ = cx;
        Verdict::Continue
    }

    /// Bytes have arrived. What the handler does not take from `input` is kept and comes again, with what arrives
    /// after it, as one slice; at most one read buffer's worth (64 KiB by default), beyond which the session closes
    /// with [`CloseReason::InputOverflow`].
    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict;

    /// Bytes have been moved from [`Ctx::side`] to the other side, without passing through here: see
    /// [`Ctx::splice`](crate::Ctx::splice). Called for each move, also for one whose last bytes still wait in a pipe for
    /// room. The default goes on.
    fn on_spliced(&mut self, cx: &mut Ctx<'_, Self>, bytes: usize) -> Verdict {
        let _ = (cx, bytes);
        Verdict::Continue
    }

    /// The peer has finished its half (FIN); everything before it has been handed over. The default drains: what was
    /// written is still delivered, then the session closes. A handler that still has something to say returns
    /// `Continue` and later `Drain`.
    fn on_finished(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let _ = cx;
        Verdict::Drain
    }

    /// The output of [`Ctx::side`] was full and has fallen below half of the watermark. The default goes on.
    fn on_writable(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let _ = cx;
        Verdict::Continue
    }

    /// All input of this turn has been handed over: the place to write one answer for many requests. It follows the
    /// last `on_data` of a batch if that one answered `Continue`. The default goes on.
    fn on_batch_end(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let _ = cx;
        Verdict::Continue
    }

    /// A timer set by [`Ctx::set_timer`] is due; it is gone now. The default goes on.
    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, timer: TimerKey) -> Verdict {
        let _ = (cx, timer);
        Verdict::Continue
    }

    /// An alarm set by [`Ctx::set_alarm`] for `at_ns` is due; the loop's time is that or later, by as much as the loop was
    /// busy. What is written here leaves when the callback returns. The default goes on.
    fn on_alarm(&mut self, cx: &mut Ctx<'_, Self>, at_ns: u64) -> Verdict {
        let _ = (cx, at_ns);
        Verdict::Continue
    }

    /// A message sent with [`Ctx::send`] or a [`Mailer`](crate::Mailer). The default drops it.
    fn on_message(&mut self, cx: &mut Ctx<'_, Self>, message: Self::Message) -> Verdict {
        let _ = (cx, message);
        Verdict::Continue
    }

    /// A job given to [`Ctx::offload`] has ended: with its result, or with `None` if it panicked or was dropped at
    /// shutdown. The default drops the result.
    fn on_offload(
        &mut self,
        cx: &mut Ctx<'_, Self>,
        job: JobId,
        result: Option<Self::Message>,
    ) -> Verdict {
        let _ = (cx, job, result);
        Verdict::Continue
    }

    /// The connection asked for with [`Ctx::connect`] stands; [`Ctx::side`] is the back. The default goes on.
    fn on_connected(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let _ = cx;
        Verdict::Continue
    }

    /// The connection asked for with [`Ctx::connect`] could not be made; the session has no back side, and may ask
    /// again. A resident is told here too when its connection breaks later. The default closes, which is counted as [`CloseReason::ConnectFailed`].
    fn on_connect_failed(&mut self, cx: &mut Ctx<'_, Self>, error: std::io::Error) -> Verdict {
        let _ = (cx, error);
        Verdict::Close
    }

    /// The server drains: it accepts no more, and will close what is left at the deadline. The default goes on, so
    /// that a conversation can end by itself.
    fn on_drain(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let _ = cx;
        Verdict::Continue
    }

    /// A signal that the server was told to pass on arrived. The default goes on.
    fn on_signal(&mut self, cx: &mut Ctx<'_, Self>, signal: i32) -> Verdict {
        let _ = (cx, signal);
        Verdict::Continue
    }

    /// The session has ended. Nothing can be written any more.
    fn on_close(&mut self, reason: CloseReason) {
        let _ = reason;
    }

    /// The session has ended, with all that is known of its end: for handlers that keep records. The default tells
    /// [`on_close`](Self::on_close), which is not called otherwise.
    fn on_end(&mut self, end: &End) {
        self.on_close(end.reason);
    }
}

/// What is known of a session that has ended.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// Why.
    pub reason: CloseReason,
    /// The side whose socket broke or finished last, where one of them caused it.
    pub side: Option<Side>,
    /// The other end of the front.
    pub peer: PeerAddr,
    /// Loop time, in nanoseconds.
    pub now_ns: u64,
    /// Bytes that were written and not delivered, to the front and to the back.
    pub unsent_bytes: [usize; 2],
}

/// A connection that a loop has taken on, as its factory sees it.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// The other end.
    pub peer: PeerAddr,
    /// This end, if [`Tuning::asks_local_addr`](crate::Tuning::asks_local_addr) is set and the kernel knew.
    pub local: Option<PeerAddr>,
    /// Which listener of the server it came through, in the order they were given.
    pub listener: usize,
    /// The loop it lives on.
    pub loop_index: usize,
}

/// Makes the handlers of one loop, on that loop. It need not be `Send`, so that the handlers of a loop may share
/// state through `Rc`.
pub trait Factory: 'static {
    /// The handlers it makes.
    type Handler: Handler;

    /// Makes the handler of a connection that has just been taken on.
    fn make(&mut self, accepted: Accepted) -> Self::Handler;

    /// Makes the loop's residents, once, before it serves: sessions of its own that no connection brought, for work that
    /// begins here (checks, load, a link to another server). A resident has no front socket; it has timers, messages, jobs, and
    /// a back socket whenever it has asked for one with [`Ctx::connect`](crate::Ctx::connect). It takes no permit, is not
    /// counted as live, and closes when the loop has drained. Unlike other sessions it survives its socket: when that breaks,
    /// `on_connect_failed` tells, and it may connect again. The default is none.
    fn residents(&mut self, loop_index: usize) -> Vec<Self::Handler> {
        let _ = loop_index;
        Vec::new()
    }

    /// The loop is about to serve; `mailer` sends messages to connections on all loops, from any thread. Called once,
    /// before [`residents`](Self::residents). The default forgets it.
    fn started(&mut self, mailer: Mailer<<Self::Handler as Handler>::Message>) {
        let _ = mailer;
    }
}

impl<H: Handler, F: FnMut(Accepted) -> H + 'static> Factory for F {
    type Handler = H;

    fn make(&mut self, accepted: Accepted) -> H {
        self(accepted)
    }
}
