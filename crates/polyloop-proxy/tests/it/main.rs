//! Proxied sessions on loops of memory: every byte, every FIN, every place that was taken.
//!
//! | module | what belongs there |
//! |---|---|
//! | `relaying` | bytes both ways, halves, resets, slow sides |
//! | `choosing` | retries, silent backends, caps and queues, failing open |
//! | `ending` | drains, lifetimes, backends that go down, clients that do not speak |
//! | `entering` | PROXY headers, TLS hellos, access lists, deadlines before the relay |
//! | `records` | whether access records tell what happened |
//! | `health` | checks, ejection, operators: who is given sessions |
//! | `waiting` | queues for a place: order, calls, backups, trials |
//! | `sweep` | seeds with faults, and what must hold at the end of each |

#![expect(
    clippy::unwrap_used,
    reason = "in a test a panic is the report; clippy exempts test functions alone"
)]

mod choosing;
mod ending;
mod entering;
mod health;
mod records;
mod relaying;
mod sweep;
mod waiting;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use polyloop::{
    Accepted, Capacities, Choice, CloseReason, Ctx, End, Factory, Handler, Input, TimerKey, Tuning,
    Verdict, WhenFull,
};
use polyloop_proxy::checker::Checker;
use polyloop_proxy::session::{Note, Session};
use polyloop_proxy::settings::{
    BackendSettings, GroupSettings, ListenerSettings, ProxySettings, Routing, Target,
};
use polyloop_proxy::site::{LoopSite, Site};
use polyloop_sim::{Client, Sim, World};

/// Sends back what it gets.
pub(crate) struct Echo;

impl Handler for Echo {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let _ = cx.write(input.take_all());
        Verdict::Continue
    }
}

/// Says its name to everybody, and then echoes.
pub(crate) struct Named(pub(crate) &'static [u8]);

impl Handler for Named {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let _ = cx.write(self.0);
        Verdict::Continue
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let _ = cx.write(input.take_all());
        Verdict::Continue
    }
}

/// A server of one loop.
pub(crate) fn backend<H: Handler, M: Fn() -> H + 'static>(
    world: &World,
    make: M,
) -> Sim<impl Factory<Handler = H> + use<H, M>> {
    let make: Rc<dyn Fn() -> H> = Rc::new(make);
    Sim::new(
        world,
        1,
        &Tuning::default(),
        Capacities::default(),
        WhenFull::Wait,
        move |_| {
            let make = Rc::clone(&make);
            move |_: Accepted| make()
        },
        |_| Choice::Stay,
    )
}

/// The address of a listener of a world.
pub(crate) fn address(listener: u32) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], listener as u16))
}

/// Where nobody listens.
pub(crate) const NOBODY: u32 = 4999;

/// One listener in front of one group of backends.
pub(crate) fn settings(backends: &[u32]) -> ProxySettings {
    let backends = backends
        .iter()
        .map(|&listener| {
            let to = Target::Addr(address(listener));
            BackendSettings::new(format!("b{listener}"), to)
        })
        .collect();
    ProxySettings {
        listeners: vec![ListenerSettings {
            name: "front".to_owned(),
            routing: Routing {
                otherwise: Some(0),
                ..Routing::default()
            },
            ..ListenerSettings::default()
        }],
        groups: vec![GroupSettings {
            name: "group".to_owned(),
            backends,
            ..GroupSettings::default()
        }],
        ..ProxySettings::default()
    }
}

/// What lives on a proxy's loops.
pub(crate) enum Node {
    Session(Session),
    Checker(Checker),
}

/// Calls the same method of whichever it is.
macro_rules! either {
    ($self:ident, $method:ident($($argument:expr),*)) => {
        match $self {
            Node::Session(node) => node.$method($($argument),*),
            Node::Checker(node) => node.$method($($argument),*),
        }
    };
}

impl Handler for Node {
    type Message = Note;

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        either!(self, opened(cx))
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        either!(self, data(cx, input))
    }

    fn on_spliced(&mut self, cx: &mut Ctx<'_, Self>, bytes: usize) -> Verdict {
        match self {
            Self::Session(session) => session.spliced(cx, bytes),
            Self::Checker(_) => panic!("a checker does not splice"),
        }
    }

    fn on_finished(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        match self {
            Self::Session(session) => session.finished(cx),
            Self::Checker(checker) => checker.failed(cx),
        }
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, timer: TimerKey) -> Verdict {
        either!(self, timer(cx, timer))
    }

    fn on_message(&mut self, cx: &mut Ctx<'_, Self>, note: Note) -> Verdict {
        match self {
            Self::Session(session) => session.note(cx, note),
            Self::Checker(_) => Verdict::Continue,
        }
    }

    fn on_connected(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        either!(self, connected(cx))
    }

    fn on_connect_failed(&mut self, cx: &mut Ctx<'_, Self>, error: std::io::Error) -> Verdict {
        match self {
            Self::Session(session) => session.connect_failed(cx, &error),
            Self::Checker(checker) => checker.connect_failed(cx, &error),
        }
    }

    fn on_drain(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        match self {
            Self::Session(session) => session.drain(cx),
            Self::Checker(_) => Verdict::Continue,
        }
    }

    fn on_end(&mut self, end: &End) {
        if let Self::Session(session) = self {
            session.ended(end);
        }
    }
}

/// Makes them.
pub(crate) struct Nodes(Rc<LoopSite>);

impl Factory for Nodes {
    type Handler = Node;

    fn make(&mut self, accepted: Accepted) -> Node {
        Node::Session(Session::new(&self.0, accepted.listener, accepted.local))
    }

    fn residents(&mut self, _: usize) -> Vec<Node> {
        Checker::all(&self.0)
            .into_iter()
            .map(Node::Checker)
            .collect()
    }
}

/// A proxy, what its loops share, and the records it has written.
pub(crate) struct Proxy {
    pub(crate) sim: Sim<Nodes>,
    pub(crate) site: Arc<Site>,
    records: Arc<Mutex<Vec<String>>>,
}

pub(crate) fn proxy(world: &World, loops: usize, settings: ProxySettings) -> Proxy {
    proxy_tuned(world, loops, settings, &Tuning::default())
}

pub(crate) fn proxy_tuned(
    world: &World,
    loops: usize,
    settings: ProxySettings,
    tuning: &Tuning,
) -> Proxy {
    let tuning = Tuning {
        idle_timeout: settings.listeners[0].timeouts.idle,
        output_high_bytes: settings.listeners[0].buffer_high_bytes as usize,
        asks_local_addr: true,
        ..tuning.clone()
    };
    let site = Arc::new(Site::new(settings, loops));
    let records = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&records);
    site.set_records(move |line| sink.lock().unwrap().push(line.to_owned()));
    let shared = Arc::clone(&site);
    let sim = Sim::new(
        world,
        loops,
        &tuning,
        Capacities::default(),
        WhenFull::Wait,
        move |index| Nodes(LoopSite::new(&shared, index, 7)),
        |_| Choice::Stay,
    );
    let mailer = sim.console().mailer().clone();
    site.set_waker(move |who| mailer.send(who, Note::Turn).is_ok());
    Proxy { sim, site, records }
}

impl Proxy {
    /// The records so far; taken.
    pub(crate) fn records(&self) -> Vec<String> {
        std::mem::take(&mut *self.records.lock().unwrap())
    }

    /// The termination states of the records so far; taken.
    pub(crate) fn states(&self) -> Vec<String> {
        let state = |line: &String| {
            let at = line.find("state=").unwrap() + 6;
            line[at..at + 2].to_owned()
        };
        self.records().iter().map(state).collect()
    }

    /// What must hold once everybody has left.
    pub(crate) fn assert_at_rest(&mut self, world: &World) {
        self.sim.settle();
        for group in &self.site.groups {
            assert_eq!(group.waiting(), 0, "sessions in a queue");
            for backend in &group.backends {
                assert_eq!(backend.taken(), 0, "places at a backend");
            }
        }
        let sum = |number: fn(&polyloop::telemetry::Numbers) -> u64| self.sim.sum(number);
        assert_eq!(sum(|numbers| numbers.live.value()), 0, "live sessions");
        assert_eq!(sum(|numbers| numbers.timers.value()), 0, "timers");
        assert_eq!(sum(|numbers| numbers.kept_bytes.value()), 0, "kept bytes");
        assert_eq!(sum(|numbers| numbers.handler_panics.value()), 0, "panics");
        assert_eq!(sum(|numbers| numbers.turns_idle.value()), 0, "idle turns");
        assert_eq!(self.sim.console().permits().in_use(), 0, "permits");
        assert_eq!(world.owned(), 0, "sockets open at our end");
    }

    pub(crate) fn closes(&self, reason: CloseReason) -> u64 {
        let boards = self.sim.console().boards().iter();
        boards
            .map(|board| board.closes[reason.index()].value())
            .sum()
    }
}

/// Two servers in one world: each settles its own loops until neither has anything to do.
pub(crate) fn settle<A: Factory, B: Factory>(front: &mut Sim<A>, back: &mut Sim<B>) {
    while front.settle() + back.settle() > 0 {}
}

/// Reads everything that comes until nothing comes any more.
pub(crate) fn drain<A: Factory, B: Factory>(
    front: &mut Sim<A>,
    back: &mut Sim<B>,
    client: &Client,
) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        settle(front, back);
        let bytes = client.receive(usize::MAX);
        if bytes.is_empty() {
            return all;
        }
        all.extend(bytes);
    }
}

/// Bytes that are not all alike.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}
