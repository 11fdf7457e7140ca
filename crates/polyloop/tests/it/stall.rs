//! A loop that is stuck is seen, named and rescued.

use crate::harness::{
    ANY_PORT, DEADLINE, Site, Told, alone, ask, assert_echo, connect, eventually, eventually_is,
    settings, settings_with,
};
use polyloop::telemetry::Callback;
use polyloop::{
    AcceptMode, Accepted, Ctx, GateKind, Handler, Input, MemoryMax, Server, ServerSettings, Spread,
    Verdict,
};
use polyloop_core::stall::REPORTS_PER_MINUTE;
use polyloop_core::units::parse_duration;
use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Echoes; `W` waits until the test sends or drops the sender, `C` computes until then, `L` tells the loop.
struct Sticky {
    gate: Arc<Mutex<Receiver<()>>>,
    loop_index: usize,
}

impl Handler for Sticky {
    type Message = ();

    const NAMES: &'static [&'static str] = &["sticky"];

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let bytes = input.take_all();
        if bytes[0] == b'L' {
            let _ = cx.write(&[self.loop_index as u8]);
            return Verdict::Continue;
        }
        let gate = self.gate.lock().unwrap();
        match bytes[0] {
            b'W' => _ = gate.recv_timeout(DEADLINE),
            b'C' => {
                let deadline = Instant::now() + DEADLINE;
                let held = Err(RecvTimeoutError::Timeout);
                while gate.recv_timeout(Duration::ZERO) == held && Instant::now() < deadline {
                    std::hint::black_box((0..10_000_u64).sum::<u64>());
                }
            }
            _ => {}
        }
        drop(gate);
        let _ = cx.write(bytes);
        Verdict::Continue
    }
}

/// A server whose second and later requests must not need the gate's lock while it is held: one gate for each.
fn sticky(settings: ServerSettings) -> (Sender<()>, Site) {
    let (open, gate) = channel();
    let gate = Mutex::new(Some(Arc::new(Mutex::new(gate))));
    let gate = Arc::new(gate);
    let server = Server::new(move |accepted: Accepted| {
        let first = gate.lock().unwrap().take();
        let gate = first.unwrap_or_else(|| Arc::new(Mutex::new(channel().1)));
        Sticky {
            gate,
            loop_index: accepted.loop_index,
        }
    });
    let server = server.listen(ANY_PORT).unwrap();
    (open, Site::start(server.settings(settings)))
}

/// The loop that is stuck.
fn stuck(site: &Site) -> Option<usize> {
    site.status()
        .boards
        .iter()
        .position(|board| board.is_stuck())
}

/// Sixty-four new connections are served while the first one holds its loop.
fn rescued(accept: AcceptMode, how: u8) {
    let (open, site) = sticky(settings_with(2, accept));
    let mut first = site.connect();
    first.write_all(&[how]).unwrap();
    eventually("the watchdog sees it", || stuck(&site).is_some());
    let index = stuck(&site).unwrap();
    let board = &site.status().boards[index];
    assert_eq!(board.beat.sample().callback, Callback::Data as u8);
    assert_eq!(board.numbers.stalls.value(), 1);
    // What the kernel queued at the stuck loop between the stall and the rescue is served as well.
    let mut streams: Vec<_> = (0..64).map(|_| site.connect()).collect();
    streams.iter_mut().for_each(assert_echo);
    assert!(board.is_stuck(), "all were served while it was stuck");
    let rescued = site.sum(|numbers| numbers.accepted_rescued.value());
    assert!(rescued > 0, "the kernel sends some to the stuck loop");
    drop(open);
    let mut answer = [0];
    std::io::Read::read_exact(&mut first, &mut answer).unwrap();
    assert_eq!(answer, [how]);
    eventually("it turns again", || !board.is_stuck());
    assert_eq!(board.numbers.stalls.value(), 1);
    // The loop takes its listener back: what it accepts now is its own.
    assert_eq!(ask(&mut first, b"back"), b"back");
    streams.extend((0..64).map(|_| site.connect()));
    streams.iter_mut().for_each(assert_echo);
    drop((first, streams));
    site.end();
}

#[test]
fn connections_for_a_loop_that_waits_are_served_by_another() {
    // Goal: with its own listener per loop, a loop that waits in a handler costs nobody a new connection. Method: the
    // handler waits for the test, which lets go only when 64 new connections have had their echo.
    rescued(AcceptMode::default(), b'W');
}

#[test]
fn connections_for_a_loop_that_computes_are_served_by_another() {
    // Goal: the same for a loop that computes without end. Method: as above, with a loop around the question.
    rescued(AcceptMode::default(), b'C');
}

#[test]
fn an_acceptor_that_is_stuck_is_replaced() {
    // Goal: the only loop that accepts may be stuck too. Method: one connection, which the acceptor keeps when loads
    // are equal; it waits for the test.
    let (open, site) = sticky(settings_with(2, AcceptMode::Acceptor(Spread::Least)));
    let mut first = site.connect();
    assert_eq!(ask(&mut first, b"e"), b"e");
    if site.status().boards[0].numbers.live.value() == 0 {
        // It was handed over: then the acceptor is free, and the other one is passed over by the chooser.
        first.write_all(b"W").unwrap();
        eventually("the watchdog sees it", || stuck(&site) == Some(1));
    } else {
        first.write_all(b"W").unwrap();
        eventually("the watchdog sees it", || stuck(&site) == Some(0));
    }
    let mut streams: Vec<_> = (0..64).map(|_| site.connect()).collect();
    streams.iter_mut().for_each(assert_echo);
    assert!(stuck(&site).is_some());
    drop(open);
    drop((first, streams));
    site.end();
}

#[test]
fn an_admin_listener_whose_loop_is_stuck_is_served_by_another() {
    // Goal: who asks why loop 0 is stuck gets in while it is. Method: a handler that waits on loop 0, where the admin
    // listener lives; a visitor has an answer before it is let go.
    let (open, gate) = channel();
    let gate = Arc::new(Mutex::new(gate));
    let server = Server::new(move |accepted: Accepted| Sticky {
        gate: Arc::clone(&gate),
        loop_index: accepted.loop_index,
    });
    let admin = GateKind::Admin { connections_max: 4 };
    let server = server
        .listen(ANY_PORT)
        .unwrap()
        .listen_on(ANY_PORT.parse().unwrap(), admin);
    let site = Site::start(server.settings(settings(2)));
    let mut streams = vec![site.connect()];
    while ask(streams.last_mut().unwrap(), b"L") != [0] {
        streams.push(site.connect());
    }
    let clients = streams.len() as u64;
    let first = streams.last_mut().unwrap();
    first.write_all(b"W").unwrap();
    eventually_is("the watchdog sees it", &Some(0), || stuck(&site));
    let mut visitor = connect(site.status().listeners[1].addr.parse().unwrap());
    assert_eq!(ask(&mut visitor, b"L"), [1]);
    let live = site.status().live();
    assert_eq!(live, clients, "a visitor stays a visitor");
    assert_eq!(stuck(&site), Some(0));
    open.send(()).unwrap();
    assert_eq!(crate::harness::read_exactly(first, 1), b"W");
    drop((streams, visitor));
    site.end();
}

/// A server of one loop, whose every connection waits at the same gate; its reports are listened to.
fn reported() -> (Sender<()>, Site) {
    let alone = alone();
    Told::start(&alone);
    let (open, gate) = channel();
    let gate = Arc::new(Mutex::new(gate));
    let server = Server::new(move |accepted: Accepted| Sticky {
        gate: Arc::clone(&gate),
        loop_index: accepted.loop_index,
    });
    let server = server.listen(ANY_PORT).unwrap().settings(ServerSettings {
        stall_threshold: Some(REPORT_THRESHOLD),
        ..settings(1)
    });
    (open, Site::start_holding(alone, server))
}

/// Long enough that a busy machine does not hold up a loop for so long by itself.
const REPORT_THRESHOLD: Duration = Duration::from_millis(50);

/// The parts of a report: how long the loop was stuck, the connection, and what the thread did.
#[track_caller]
fn parts(site: &Site, report: &str) -> (Duration, String, String) {
    let core = site.status().placement.loops[0];
    let core = core.map_or_else(String::new, |core| format!(" (core {core})"));
    let begin = format!("loop 0{core} is stuck: it has not turned for ");
    let parsed = report.strip_prefix(&begin).and_then(|rest| {
        let (stuck_for, rest) = rest.split_once("; ")?;
        let rest = rest.strip_prefix("handler sticky is in on_data for connection ")?;
        let (connection, rest) = rest.split_once(" (ready phase); the thread ")?;
        let (index, generation) = connection.split_once('#')?;
        index.parse::<u32>().ok()?;
        generation.parse::<u32>().ok()?;
        let (doing, cpu) = rest.split_once(" (CPU time in this turn ")?;
        parse_duration(cpu.strip_suffix(')')?).ok()?;
        let stuck_for = parse_duration(stuck_for).ok()?;
        Some((stuck_for, connection.to_owned(), doing.to_owned()))
    });
    parsed.unwrap_or_else(|| panic!("{report}"))
}

/// Has a connection hold the loop until so many reports have been told in all, then lets go.
fn hold(site: &Site, open: &Sender<()>, stream: &mut TcpStream, how: u8, reports: usize) {
    let board = &site.status().boards[0];
    stream.write_all(&[how]).unwrap();
    eventually("the watchdog sees it", || board.is_stuck());
    eventually("it is told", || Told::lines("is stuck").len() >= reports);
    open.send(()).unwrap();
    assert_eq!(crate::harness::read_exactly(stream, 1), [how]);
    eventually("it turns again", || !board.is_stuck());
}

#[test]
fn a_report_names_the_handler_the_connection_and_what_it_does() {
    // Goal: while a loop is stuck, the operator is told which handler of which connection holds it, and whether it
    // waits (in which system call) or computes. Method: one connection waits, another one computes.
    let (open, site) = reported();
    let mut streams = [site.connect(), site.connect()];
    streams.iter_mut().for_each(assert_echo);
    hold(&site, &open, &mut streams[0], b'W', 1);
    let waits = parts(&site, &Told::lines("is stuck")[0]);
    // Another kernel may keep the number of the call to itself.
    let tells = std::fs::read_to_string("/proc/thread-self/syscall").is_ok();
    let waiting = if tells {
        "is waiting in futex"
    } else {
        "is waiting"
    };
    assert!(waits.2.starts_with(waiting), "{waits:?}");
    let told = Told::lines("is stuck").len();
    hold(&site, &open, &mut streams[1], b'C', told + 1);
    let computes = parts(&site, &Told::lines("is stuck")[told]);
    assert_eq!(computes.2, "computes");
    assert_ne!(
        waits.1, computes.1,
        "the connection is the one that holds it"
    );
    assert_eq!(Told::lines("loop 0 turns again after ").len(), 2);
    drop(streams);
    site.end();
}

#[test]
fn reports_come_at_doubled_intervals_and_not_more_than_so_many() {
    // Goal: a stall is told at 1, 2, 4, .. thresholds, and a loop that is stuck again and again fills no log. Method:
    // one connection holds the loop until the reports of a minute are used up; then two more stalls, which are counted
    // and not told.
    let (open, site) = reported();
    let mut stream = site.connect();
    assert_echo(&mut stream);
    hold(&site, &open, &mut stream, b'W', REPORTS_PER_MINUTE);
    for (nth, report) in Told::lines("is stuck").iter().enumerate() {
        let (stuck_for, ..) = parts(&site, report);
        assert!(stuck_for >= REPORT_THRESHOLD * (1 << nth), "{report}");
    }
    for _ in 0..2 {
        hold(&site, &open, &mut stream, b'W', REPORTS_PER_MINUTE);
    }
    assert_eq!(Told::lines("is stuck").len(), REPORTS_PER_MINUTE);
    assert_eq!(
        Told::lines("turns again").len(),
        1,
        "only what was told ends"
    );
    assert_eq!(site.status().boards[0].numbers.stalls.value(), 3);
    drop(stream);
    site.end();
}

#[test]
fn without_a_watchdog_nothing_is_seen() {
    // Goal: the watchdog can be turned off, and then takes no thread. Method: no threshold; look for its thread.
    let (open, site) = sticky(ServerSettings {
        stall_threshold: None,
        // The same thread would watch over memory where a control group has a limit.
        memory_max: MemoryMax::Off,
        ..settings_with(2, AcceptMode::default())
    });
    assert!(!site.holds_thread("watchdog"));
    drop(open);
    site.end();
}

/// A server of three loops whose connections, in the order of their coming, each have a gate of their own; and the gates.
fn gated() -> (Vec<Sender<()>>, Site) {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..256).map(|_| channel()).unzip();
    let gates = Arc::new(Mutex::new(receivers.into_iter()));
    let server = Server::new(move |accepted: Accepted| {
        let gate = gates.lock().unwrap().next();
        Sticky {
            gate: Arc::new(Mutex::new(gate.unwrap_or_else(|| channel().1))),
            loop_index: accepted.loop_index,
        }
    });
    let server = server.listen(ANY_PORT).unwrap();
    (senders, Site::start(server.settings(settings(3))))
}

/// Where a stream lives, and which gate is its own.
struct Placed {
    stream: TcpStream,
    gate: usize,
    loop_index: usize,
}

#[test]
fn two_stuck_loops_of_three_are_served_by_the_third() {
    // Goal: whoever rescues a loop can itself get stuck; then somebody else is asked. Method: the loops with the fewest
    // connections, which are asked first, are held, both at once or one after the other has been seen; new connections are
    // served whichever loop the kernel gives them to.
    for together in [true, false] {
        let (gates, site) = gated();
        let mut placed: [Vec<Placed>; 3] = Default::default();
        let mut count = 0;
        let is_spread = |placed: &[Vec<Placed>; 3]| {
            let mut counts = placed.each_ref().map(Vec::len);
            counts.sort_unstable();
            counts[0] > 0 && counts[2] > 1
        };
        while !is_spread(&placed) {
            let mut stream = site.connect();
            let index = usize::from(ask(&mut stream, b"L")[0]);
            placed[index].push(Placed {
                stream,
                gate: count,
                loop_index: index,
            });
            count += 1;
        }
        placed.sort_by_key(Vec::len);
        for few in &mut placed[..2] {
            few.truncate(1);
        }
        eventually("the others have left", || {
            site.status().live() == 2 + placed[2].len() as u64
        });
        let stuck = || site.status().stuck();
        for (nth, few) in placed[..2].iter_mut().enumerate() {
            few[0].stream.write_all(b"W").unwrap();
            if !together {
                eventually_is("the watchdog sees it", &(nth + 1), stuck);
            }
        }
        eventually_is("the watchdog sees both", &2, stuck);
        let mut streams: Vec<_> = (0..64).map(|_| site.connect()).collect();
        streams.iter_mut().for_each(assert_echo);
        for few in &placed[..2] {
            let board = &site.status().boards[few[0].loop_index];
            let callback = board.beat.sample().callback;
            assert_eq!(callback, Callback::Data as u8, "it is held until now");
        }
        for few in &placed[..2] {
            gates[few[0].gate].send(()).unwrap();
        }
        eventually_is("they turn again", &0, stuck);
        streams.extend((0..64).map(|_| site.connect()));
        streams.iter_mut().for_each(assert_echo);
        drop((streams, placed));
        site.end();
    }
}
