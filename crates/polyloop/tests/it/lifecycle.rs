//! Starting, deadlines, draining, stopping, and starts that fail.

use crate::harness::{
    ANY_PORT, Echo, Holdings, Site, alone, assert_closed, assert_echo, echo, eventually,
    eventually_is, finish, quiet_loops, read_all, read_exactly, settings, settings_with,
};
use polyloop::{
    AcceptMode, Accepted, CloseReason, Ctx, EndedBy, GateKind, Handler, Input, Life, LoopInfo,
    Server, ServerSettings, StartError, Tuning, Verdict,
};
use polyloop_core::cores::CoreList;
use polyloop_core::placement::Pin;
use polyloop_sys::cores;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A drain that the test does not live to see the end of: who ends in time, ended because nobody was left.
const HOUR: Duration = Duration::from_secs(3600);

fn tuned(tuning: Tuning) -> ServerSettings {
    ServerSettings {
        tuning,
        ..settings(1)
    }
}

/// Says one thing, and nothing more.
struct Greeting;

impl Handler for Greeting {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let _ = cx.write(b"and that is all");
        Verdict::Continue
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        input.take_all();
        Verdict::Continue
    }
}

#[test]
fn an_idle_connection_is_closed_by_its_deadline() {
    // Goal: a connection that moves nothing ends, counted as such; deadlines of others are their own. Method: a short
    // timeout; a hundred connections on which nothing moves after a greeting.
    let server = Server::new(|_: Accepted| Greeting)
        .listen(ANY_PORT)
        .unwrap();
    let site = Site::start(server.settings(tuned(Tuning {
        idle_timeout: Some(Duration::from_millis(50)),
        ..Tuning::default()
    })));
    let mut streams: Vec<_> = (0..100).map(|_| site.connect()).collect();
    for stream in &mut streams {
        assert_eq!(read_all(stream), b"and that is all");
    }
    assert_eq!(site.closes(CloseReason::IdleTimeout), 100);
    drop(streams);
    site.end();
}

/// Says good-bye to whatever it is sent, and when the server drains.
struct Polite;

impl Handler for Polite {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        input.take_all();
        let _ = cx.write(b"bye");
        Verdict::Drain
    }

    fn on_drain(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let _ = cx.write(b"closing time");
        Verdict::Drain
    }
}

fn polite(settings: ServerSettings) -> Site {
    let server = Server::new(|_: Accepted| Polite).listen(ANY_PORT).unwrap();
    Site::start(server.settings(settings))
}

#[test]
fn a_peer_that_never_finishes_is_not_waited_for_longer_than_the_linger_timeout() {
    // Goal: a half that never ends has a deadline. Method: the handler drains; one client sends its FIN, the other
    // keeps its half open.
    let site = polite(tuned(Tuning {
        linger_timeout: Duration::from_millis(50),
        ..Tuning::default()
    }));
    let mut stays = site.connect();
    stays.write_all(b"hello").unwrap();
    assert_eq!(read_all(&mut stays), b"bye");
    eventually("the linger deadline", || {
        site.closes(CloseReason::LingerTimeout) == 1
    });
    let mut leaves = site.connect();
    leaves.write_all(b"hello").unwrap();
    finish(&leaves);
    assert_eq!(read_all(&mut leaves), b"bye");
    drop((stays, leaves));
    site.settle();
    assert_eq!(site.closes(CloseReason::LingerTimeout), 1);
    assert_eq!(site.closes(CloseReason::HandlerClosed), 1);
    site.end();
}

#[test]
fn a_drain_lets_conversations_end_and_takes_no_new_ones() {
    // Goal: draining tells every handler, waits for the connections, and refuses new ones. Method: twenty connections
    // over two loops; their handlers say good-bye; the clients read it to the end.
    let site = polite(ServerSettings {
        drain: HOUR,
        ..settings(2)
    });
    let mut streams: Vec<_> = (0..20).map(|_| site.connect()).collect();
    eventually("all are in", || site.status().live() == 20);
    let addr = site.addr();
    site.running().drain();
    for stream in &mut streams {
        assert_eq!(read_all(stream), b"closing time");
    }
    assert_eq!(site.status().life(), Life::Draining);
    eventually("nobody listens", || TcpStream::connect(addr).is_err());
    drop(streams);
    let ended = site.join();
    assert_eq!((ended.by, ended.cut), (EndedBy::Drain, 0));
    assert_eq!(ended.loops_failed, Vec::<String>::new());
}

#[test]
fn what_is_left_at_the_drain_deadline_is_cut_and_told() {
    // Goal: a drain ends in time, and says how many it cut. Method: an echo server, whose clients never leave.
    let site = echo(ServerSettings {
        drain: Duration::from_millis(50),
        ..settings(2)
    });
    let mut streams: Vec<_> = (0..20).map(|_| site.connect()).collect();
    streams.iter_mut().for_each(assert_echo);
    // The boards alone: a status that is kept holds the loops' wakers.
    let boards = Arc::clone(&site.status().boards);
    site.running().drain();
    streams.iter_mut().for_each(assert_closed);
    drop(streams);
    let ended = site.join();
    assert_eq!((ended.by, ended.cut), (EndedBy::Drain, 20));
    let cut = CloseReason::DrainDeadline.index();
    let counted = boards.iter().map(|board| board.closes[cut].value());
    assert_eq!(counted.sum::<u64>(), 20);
}

#[test]
fn a_second_order_while_draining_stops_at_once() {
    // Goal: stop overtakes a drain that would take an hour. Method: drain with clients that stay, then stop.
    let site = echo(ServerSettings {
        drain: HOUR,
        ..settings(2)
    });
    let mut streams: Vec<_> = (0..4).map(|_| site.connect()).collect();
    streams.iter_mut().for_each(assert_echo);
    site.running().drain();
    // An order to drain, twice, is one order: only a second signal means more.
    site.running().drain();
    eventually("it drains", || site.status().life() == Life::Draining);
    streams.iter_mut().for_each(assert_echo);
    site.running().stop();
    streams.iter_mut().for_each(assert_closed);
    drop(streams);
    let ended = site.join();
    assert_eq!((ended.by, ended.cut), (EndedBy::Stop, 4));
}

#[test]
fn a_server_that_is_dropped_is_stopped() {
    // Goal: no thread and no descriptor outlives the handle. Method: drop it with connections open.
    let alone = alone();
    let before = Holdings::now();
    let server = Server::new(|_: Accepted| Echo).listen(ANY_PORT).unwrap();
    let running = server.settings(settings(2)).start().unwrap();
    let addr = &running.status().listeners[0].addr;
    let mut stream = crate::harness::connect(addr.parse().unwrap());
    assert_echo(&mut stream);
    drop(running);
    assert_closed(&mut stream);
    drop(stream);
    eventually_is("all is back", &before, Holdings::now);
    drop(alone);
}

/// Waits in its first callback until the test lets go; then echoes.
struct Late(Arc<Mutex<std::sync::mpsc::Receiver<()>>>);

impl Handler for Late {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let _ = self
            .0
            .lock()
            .unwrap()
            .recv_timeout(crate::harness::DEADLINE);
        let _ = cx.write(input.take_all());
        Verdict::Continue
    }
}

#[test]
fn who_waits_in_the_queue_when_a_drain_begins_is_still_served() {
    // Goal: a connection that the kernel has accepted is not reset by closing the listener. Method: the only loop is
    // held in a handler while five more connect and send; then the drain is ordered, and the handler let go.
    let (open, gate) = channel();
    let gate = Arc::new(Mutex::new(gate));
    let server = Server::new(move |_: Accepted| Late(Arc::clone(&gate)));
    let server = server.listen(ANY_PORT).unwrap();
    let site = Site::start(server.settings(ServerSettings {
        drain: HOUR,
        ..settings(1)
    }));
    let mut streams = vec![site.connect()];
    streams[0].write_all(b"x").unwrap();
    let board = Arc::clone(&site.status().boards[0]);
    eventually("the loop is held", || board.beat.sample().callback != 0);
    for _ in 0..5 {
        let mut stream = site.connect();
        stream.write_all(b"x").unwrap();
        finish(&stream);
        streams.push(stream);
    }
    finish(&streams[0]);
    site.running().drain();
    eventually("it drains", || site.status().life() == Life::Draining);
    drop(open);
    for stream in &mut streams {
        assert_eq!(read_exactly(stream, 1), b"x");
        assert_eq!(read_all(stream), b"");
    }
    drop(streams);
    let ended = site.join();
    assert_eq!((ended.by, ended.cut), (EndedBy::Drain, 0));
    assert_eq!(board.numbers.accepted.value(), 6);
}

/// Starts a server that must not start, and proves that nothing is left of it.
#[track_caller]
fn fails<M: polyloop::server::MakeFactory>(server: Server<M>) -> StartError {
    let before = Holdings::now();
    let error = server.start().map(drop).expect_err("it must not start");
    eventually_is("a failed start leaves nothing", &before, Holdings::now);
    error
}

#[test]
fn a_start_that_fails_leaves_nothing_behind() {
    // Goal: each way a start can fail is told by its own error, and descriptors and threads are as before. Method:
    // two loops, so that there is something half-started; count.
    quiet_loops();
    let _alone = alone();
    let echo = || Server::new(|_: Accepted| Echo).settings(settings(2));

    assert!(matches!(fails(echo()), StartError::NoListener));
    assert!(matches!(
        echo().listen("nonsense"),
        Err(StartError::Address(_))
    ));

    let taken = TcpListener::bind(ANY_PORT).unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    // The second of two fails: the first has to go again.
    let server = echo().listen(ANY_PORT).unwrap().listen(&addr).unwrap();
    let error = fails(server);
    assert!(matches!(error, StartError::Listen(_)), "{error:?}");
    assert!(error.to_string().contains(&addr), "{error}");
    drop(taken);

    let mut wish = settings(2);
    wish.connections_max = Some(1 << 40);
    let error = fails(echo().settings(wish).listen(ANY_PORT).unwrap());
    assert!(matches!(error, StartError::Descriptors(_)), "{error:?}");

    let mut wish = settings(2);
    wish.tuning_on_core.insert(4095, Tuning::default());
    let error = fails(echo().settings(wish).listen(ANY_PORT).unwrap());
    assert!(
        matches!(error, StartError::NoLoopOnCore { core: 4095, .. }),
        "{error:?}"
    );
}

#[test]
fn loops_that_share_a_core_cannot_accept_by_core() {
    // Goal: `reuseport-cpu` with more loops than cores is told with both numbers, pinned or not, however the cores were
    // named; and one loop per core starts. Method: each way to wish for it.
    let alone = alone();
    let allowed = cores::allowed();
    let wished = |loops: usize, cores: Option<CoreList>, pin: Pin| {
        let mut wish = settings_with(loops, AcceptMode::ReuseportCpu);
        wish.wish.cores = cores;
        wish.wish.pin = pin;
        Server::new(|_: Accepted| Echo)
            .settings(wish)
            .listen(ANY_PORT)
            .unwrap()
    };
    let one: CoreList = allowed[0].to_string().parse().unwrap();
    let loops = allowed.len() + 1;
    for (loops, named, pin, cores) in [
        (loops, None, Pin::Auto, allowed.len()),
        (loops, None, Pin::Always, allowed.len()),
        (3, Some(one.clone()), Pin::Auto, 1),
    ] {
        let error = fails(wished(loops, named, pin));
        let s = if cores == 1 { "" } else { "s" };
        assert_eq!(
            error.to_string(),
            format!(
                "reuseport-cpu needs a core of its own for each loop, and there are {loops} loops on {cores} core{s}: \
                 use fewer loops, or name more cores"
            )
        );
    }
    let error = fails(wished(1, None, Pin::Never));
    assert!(matches!(error, StartError::NotPinned { .. }), "{error:?}");
    Site::start_alone(&alone, wished(1, Some(one), Pin::Auto)).end();
}

#[test]
fn a_loop_that_cannot_start_ends_those_that_have() {
    // Goal: a factory-maker that panics on one loop is a start that failed, and the other loop ends. Method: panic on
    // each of two loops in turn; an admin listener and a unix socket are to be closed as well.
    quiet_loops();
    let _alone = alone();
    let path = std::env::temp_dir().join(format!("polyloop-it-f-{}.sock", std::process::id()));
    for broken in 0..2 {
        let server = Server::with_factories(move |info: LoopInfo| {
            assert_ne!(info.index, broken, "no factory for loop {broken}");
            |_: Accepted| Echo
        });
        let admin = GateKind::Admin { connections_max: 4 };
        let server = server
            .listen(ANY_PORT)
            .unwrap()
            .listen(&format!("unix:{}", path.display()))
            .unwrap()
            .listen_on(ANY_PORT.parse().unwrap(), admin);
        let error = fails(server.settings(settings(2)));
        let text = error.to_string();
        assert!(text.contains(&format!("loop {broken}")), "{text}");
        assert!(text.contains("no factory"), "{text}");
        assert!(!path.exists(), "the socket's file is still there");
    }
}

#[test]
fn reports_come_and_a_start_is_told_once() {
    // Goal: the hooks run on the control thread: once started, then a report an interval. Method: count three reports.
    let (tell, told) = channel();
    let reports = tell.clone();
    let server = Server::new(|_: Accepted| Echo).listen(ANY_PORT).unwrap();
    let server = server
        .settings(settings(1))
        .on_started(move |status| tell.send(("started", status.life())).unwrap())
        .on_report(Duration::from_millis(10), move |status| {
            // The test stops to listen while the server still reports.
            let _ = reports.send(("report", status.life()));
        });
    let site = Site::start(server);
    assert_eq!(told.recv().unwrap(), ("started", Life::Serving));
    for _ in 0..3 {
        assert_eq!(told.recv().unwrap(), ("report", Life::Serving));
    }
    site.end();
}

#[test]
fn a_start_that_fails_does_not_wait_for_a_factory_that_hangs() {
    // Goal: a start that cannot succeed says so, and names who was left behind. Method: one factory panics, the other one waits
    // until the test has its answer.
    quiet_loops();
    let alone = alone();
    let before = Holdings::now();
    let (open, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let server = Server::with_factories(move |info: LoopInfo| {
        assert_ne!(info.index, 0, "no factory for loop 0");
        let _ = gate.lock().unwrap().recv();
        |_: Accepted| Echo
    });
    let server = server.listen(ANY_PORT).unwrap().settings(settings(2));
    let text = server.start().map(drop).unwrap_err().to_string();
    assert!(text.contains("starting loop 0 (left behind"), "{text}");
    assert!(text.contains("an end: loop 1)"), "{text}");
    drop(open);
    eventually_is("the other ends too", &before, Holdings::now);
    drop(alone);
}

#[test]
fn a_drain_without_end_is_told_of_and_ends_with_its_last_connection() {
    // Goal: the longest time that can be named is no mistake; who drains says once a second what for; visitors are let in
    // meanwhile, and hold up nothing. Method: a client and a visitor who stays.
    let alone = alone();
    crate::harness::Told::start(&alone);
    let admin = GateKind::Admin { connections_max: 4 };
    let server = Server::new(|_: Accepted| Echo)
        .listen(ANY_PORT)
        .unwrap()
        .listen_on(ANY_PORT.parse().unwrap(), admin);
    let site = Site::start_holding(
        alone,
        server.settings(ServerSettings {
            drain: Duration::MAX,
            ..settings(2)
        }),
    );
    let mut stream = site.connect();
    assert_echo(&mut stream);
    site.running().drain();
    eventually("nobody listens", || {
        TcpStream::connect(site.addr()).is_err()
    });
    eventually("it is told", || {
        !crate::harness::Told::lines("draining: 1 connection left").is_empty()
    });
    let admin = site.status().listeners[1].addr.parse().unwrap();
    let mut visitor = crate::harness::connect(admin);
    assert_echo(&mut visitor);
    assert_echo(&mut stream);
    drop(stream);
    assert_closed(&mut visitor);
    drop(visitor);
    let ended = site.join();
    assert_eq!((ended.by, ended.cut), (EndedBy::Drain, 0));
}
