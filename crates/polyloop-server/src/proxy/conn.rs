//! What lives on the loops of `polyloop proxy`: sessions, the embedded echo, checkers, namers, and
//! administrators' visitors.
//!
//! The one idea: one enum, as for the echo service. A session is its largest kind by far, so the others cost nothing more.

use std::io;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use polyloop::{
    Accepted, Class, Ctx, End, Factory, Handler, Input, JobId, Mailer, TimerKey, Verdict,
};
use polyloop_proxy::checker::Checker;
use polyloop_proxy::session::{Note, Session};
use polyloop_proxy::site::LoopSite;

use super::names::{LookedUp, Namer};
use super::resolver::Resolver;
use crate::admin::{Admin, Answer, Visited};

/// One of them.
#[derive(Debug)]
pub(super) enum Conn {
    Session(Session),
    /// Behind a proxy without backends.
    Echo,
    Checker(Checker),
    Namer(Namer),
    Admin(Admin),
}

/// What one of them is told.
#[derive(Debug)]
pub(super) enum Message {
    Note(Note),
    LookedUp(LookedUp),
    Answer(Answer),
}

/// Makes the connections of one loop.
pub(super) struct Conns {
    home: Rc<LoopSite>,
    /// By the index of a gate: which listener of the settings it belongs to.
    listeners: Rc<[usize]>,
    /// The gates after those.
    admin_gate: Option<usize>,
    mailer: Arc<OnceLock<Mailer<Message>>>,
    resolver: Arc<Resolver>,
}

impl Conns {
    pub(super) fn new(
        home: Rc<LoopSite>,
        listeners: &[usize],
        has_admin: bool,
        mailer: Arc<OnceLock<Mailer<Message>>>,
        resolver: Arc<Resolver>,
    ) -> Self {
        Self {
            home,
            listeners: listeners.into(),
            admin_gate: has_admin.then_some(listeners.len()),
            mailer,
            resolver,
        }
    }
}

impl Factory for Conns {
    type Handler = Conn;

    fn make(&mut self, accepted: Accepted) -> Conn {
        match self.listeners.get(accepted.listener) {
            Some(&listener) => Conn::Session(Session::new(&self.home, listener, accepted.local)),
            None if self.admin_gate == Some(accepted.listener) => Conn::Admin(Admin::new()),
            None => Conn::Echo,
        }
    }

    fn residents(&mut self, _loop_index: usize) -> Vec<Conn> {
        let checkers = Checker::all(&self.home).into_iter().map(Conn::Checker);
        let namers = Namer::all(&self.home, &self.resolver).into_iter();
        checkers.chain(namers.map(Conn::Namer)).collect()
    }

    fn started(&mut self, mailer: Mailer<Message>) {
        // The same for all loops; the first tells.
        let _ = self.mailer.set(mailer);
    }
}

impl Visited for Conn {
    fn message(answer: Answer) -> Message {
        Message::Answer(answer)
    }
}

impl Handler for Conn {
    type Message = Message;

    const NAMES: &'static [&'static str] = &["proxy", "echo", "check", "admin", "name"];

    fn name_index(&self) -> usize {
        match self {
            Self::Session(_) => 0,
            Self::Echo => 1,
            Self::Checker(_) => 2,
            Self::Admin(_) => 3,
            Self::Namer(_) => 4,
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Session(_) | Self::Echo | Self::Checker(_) | Self::Namer(_) => Class::Normal,
            // A person looking for the reason why everything is slow must not wait behind everything.
            Self::Admin(_) => Class::Urgent,
        }
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        match self {
            Self::Session(session) => session.opened(cx),
            Self::Echo => Verdict::Continue,
            Self::Checker(checker) => checker.opened(cx),
            Self::Namer(namer) => namer.look_up(cx, Message::LookedUp),
            Self::Admin(admin) => admin.on_open(cx),
        }
    }

    #[inline]
    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        match self {
            Self::Session(session) => session.data(cx, input),
            Self::Echo => {
                let _ = cx.write(input.take_all());
                Verdict::Continue
            }
            Self::Checker(checker) => checker.data(cx, input),
            // It has no socket.
            Self::Namer(_) => Verdict::Continue,
            Self::Admin(admin) => admin.on_data(cx, input),
        }
    }

    fn on_spliced(&mut self, cx: &mut Ctx<'_, Self>, bytes: usize) -> Verdict {
        match self {
            Self::Session(session) => session.spliced(cx, bytes),
            Self::Echo | Self::Checker(_) | Self::Namer(_) | Self::Admin(_) => Verdict::Continue,
        }
    }

    fn on_finished(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        match self {
            Self::Session(session) => session.finished(cx),
            Self::Checker(checker) => checker.failed(cx),
            Self::Namer(_) => Verdict::Continue,
            Self::Echo | Self::Admin(_) => Verdict::Drain,
        }
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, timer: TimerKey) -> Verdict {
        match self {
            Self::Session(session) => session.timer(cx, timer),
            Self::Echo => Verdict::Continue,
            Self::Checker(checker) => checker.timer(cx, timer),
            Self::Namer(namer) => namer.timer(cx, timer, Message::LookedUp),
            Self::Admin(admin) => admin.on_timer(cx),
        }
    }

    fn on_message(&mut self, cx: &mut Ctx<'_, Self>, message: Message) -> Verdict {
        match (self, message) {
            (Self::Session(session), Message::Note(note)) => session.note(cx, note),
            _ => Verdict::Continue,
        }
    }

    fn on_offload(
        &mut self,
        cx: &mut Ctx<'_, Self>,
        _job: JobId,
        message: Option<Message>,
    ) -> Verdict {
        match (self, message) {
            (Self::Admin(admin), Some(Message::Answer(answer))) => {
                admin.on_answer(cx, Some(answer))
            }
            (Self::Admin(admin), _) => admin.on_answer(cx, None),
            (Self::Namer(namer), Some(Message::LookedUp(looked_up))) => {
                namer.looked_up(cx, Some(looked_up))
            }
            (Self::Namer(namer), _) => namer.looked_up(cx, None),
            _ => Verdict::Continue,
        }
    }

    fn on_connected(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        match self {
            Self::Session(session) => session.connected(cx),
            Self::Checker(checker) => checker.connected(cx),
            Self::Echo | Self::Namer(_) | Self::Admin(_) => Verdict::Continue,
        }
    }

    fn on_connect_failed(&mut self, cx: &mut Ctx<'_, Self>, error: io::Error) -> Verdict {
        match self {
            Self::Session(session) => session.connect_failed(cx, &error),
            Self::Checker(checker) => checker.connect_failed(cx, &error),
            Self::Echo | Self::Namer(_) | Self::Admin(_) => Verdict::Continue,
        }
    }

    fn on_drain(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        match self {
            Self::Session(session) => session.drain(cx),
            Self::Echo | Self::Checker(_) | Self::Namer(_) => Verdict::Continue,
            Self::Admin(admin) => admin.on_drain(),
        }
    }

    fn on_end(&mut self, end: &End) {
        if let Self::Session(session) = self {
            session.ended(end);
        }
    }
}
