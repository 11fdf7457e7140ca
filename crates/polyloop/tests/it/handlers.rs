//! What a handler may do: panic, be `!Send`, send messages, offload, set timers, connect.

use crate::harness::{
    ANY_PORT, Alone, DEADLINE, Site, alone, ask, assert_closed, assert_echo, eventually, finish,
    pattern, quiet_loops, read_all, read_exactly, reset, settings, settings_with,
};
use polyloop::offload::PoolConfig;
use polyloop::{
    AcceptMode, Accepted, CloseReason, ConnRef, Ctx, Handler, Input, JobId, LoopInfo, PeerAddr,
    PoolFull, PoolId, SendError, Server, ServerSettings, Side, Spread, TIMERS_PER_SESSION_MAX,
    TimerKey, Verdict,
};
use polyloop_sys::listener::{ListenOptions, listen_group};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Echoes, but panics in the callback that the first byte names.
struct Fragile {
    panics_at_close: bool,
    panics_at_finish: bool,
}

impl Handler for Fragile {
    type Message = u8;

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let bytes = input.take_all();
        let _ = cx.write(bytes);
        match bytes[0] {
            b'D' => panic!("on_data"),
            b'T' => _ = cx.set_timer(Duration::ZERO),
            b'M' => cx.send(cx.this(), 0).unwrap(),
            b'O' => _ = cx.offload(PoolId::CPU, || 1).unwrap(),
            // The job panics; the handler is told and goes on.
            b'J' => _ = cx.offload(PoolId::CPU, || panic!("job")).unwrap(),
            b'F' => self.panics_at_finish = true,
            b'C' => self.panics_at_close = true,
            _ => {}
        }
        Verdict::Continue
    }

    fn on_finished(&mut self, _: &mut Ctx<'_, Self>) -> Verdict {
        assert!(!self.panics_at_finish, "on_finished");
        Verdict::Drain
    }

    fn on_timer(&mut self, _: &mut Ctx<'_, Self>, _: TimerKey) -> Verdict {
        panic!("on_timer")
    }

    fn on_message(&mut self, _: &mut Ctx<'_, Self>, _: u8) -> Verdict {
        panic!("on_message")
    }

    fn on_offload(&mut self, cx: &mut Ctx<'_, Self>, _: JobId, result: Option<u8>) -> Verdict {
        assert!(result.is_none(), "on_offload");
        let _ = cx.write(b"lost");
        Verdict::Continue
    }

    fn on_close(&mut self, _: CloseReason) {
        assert!(!self.panics_at_close, "on_close");
    }
}

#[test]
fn a_panic_costs_its_connection_and_nobody_else() {
    // Goal: a panic in any callback is counted and closes one session; others never notice. Method: panic in each
    // callback, three times each, with other connections echoing before, between and after.
    quiet_loops();
    let server = Server::new(|_: Accepted| Fragile {
        panics_at_close: false,
        panics_at_finish: false,
    });
    let server = server.listen(ANY_PORT).unwrap().settings(settings(1));
    let site = Site::start(server);
    let mut others: Vec<_> = (0..16).map(|_| site.connect()).collect();
    let mut panics = 0;
    for _ in 0..3 {
        for kind in *b"DTMOFC" {
            others.iter_mut().for_each(assert_echo);
            let mut stream = site.connect();
            stream.write_all(&[kind]).unwrap();
            if b"FC".contains(&kind) {
                finish(&stream);
            }
            let mut answer = Vec::new();
            // What a session that panics has written may be lost, and its end may be a reset.
            let _ = stream.read_to_end(&mut answer);
            panics += 1;
            eventually("the panic is counted", || {
                site.sum(|numbers| numbers.handler_panics.value()) == panics
            });
        }
    }
    let mut stream = site.connect();
    assert_eq!(ask(&mut stream, b"J"), b"J");
    assert_eq!(read_exactly(&mut stream, 4), b"lost");
    assert_echo(&mut stream);
    others.iter_mut().for_each(assert_echo);
    assert_eq!(site.closes(CloseReason::HandlerPanicked), panics - 3);
    drop((others, stream));
    site.end();
}

#[test]
fn a_factory_that_panics_costs_the_connection_it_was_asked_for() {
    // Goal: the loop, its permits and its descriptors survive a factory that panics. Method: every second one panics.
    quiet_loops();
    let count = std::sync::atomic::AtomicU64::new(0);
    let count = Arc::new(count);
    let server = Server::new(move |_: Accepted| {
        let nth = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        assert!(nth.is_multiple_of(2), "the factory");
        crate::harness::Echo
    });
    let server = server.listen(ANY_PORT).unwrap().settings(settings(1));
    let site = Site::start(server);
    for _ in 0..20 {
        let mut good = site.connect();
        assert_echo(&mut good);
        assert_closed(&mut site.connect());
        assert_echo(&mut good);
    }
    assert_eq!(site.sum(|numbers| numbers.handler_panics.value()), 20);
    site.end();
}

/// Answers with how many requests its loop has served, counted where only a handler that stays there can.
struct Counting(Rc<Cell<u32>>);

impl Handler for Counting {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        input.take_all();
        self.0.set(self.0.get() + 1);
        let loop_index = cx.loop_index() as u32;
        let _ = cx.write(&loop_index.to_le_bytes());
        let _ = cx.write(&self.0.get().to_le_bytes());
        Verdict::Continue
    }
}

#[test]
fn handlers_of_a_loop_share_what_is_not_send() {
    // Goal: a `!Send` handler compiles, and its loop's handlers share state with no lock. Method: an `Rc` made by the
    // factory of each loop; every loop's answers count up by one.
    let server = Server::with_factories(|_: LoopInfo| {
        let served = Rc::new(Cell::new(0));
        move |_: Accepted| Counting(Rc::clone(&served))
    });
    let acceptor = AcceptMode::Acceptor(Spread::RoundRobin);
    let server = server.listen(ANY_PORT).unwrap();
    let site = Site::start(server.settings(settings_with(2, acceptor)));
    let mut streams: Vec<_> = (0..8).map(|_| site.connect()).collect();
    let mut served = [0; 2];
    for _ in 0..5 {
        for stream in &mut streams {
            let answer = ask(stream, b"8 bytes.");
            let loop_index = u32::from_le_bytes(answer[..4].try_into().unwrap()) as usize;
            served[loop_index] += 1;
            let count = u32::from_le_bytes(answer[4..].try_into().unwrap());
            assert_eq!(count, served[loop_index]);
        }
    }
    assert_eq!(served, [20, 20]);
    drop(streams);
    site.end();
}

/// Passes what it is sent on to every connection that is known.
struct Chat {
    room: Arc<Mutex<Vec<ConnRef>>>,
}

impl Handler for Chat {
    type Message = Vec<u8>;

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        self.room.lock().unwrap().push(cx.this());
        let _ = cx.write(b"+");
        Verdict::Continue
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let bytes = input.take_all();
        for &to in &*self.room.lock().unwrap() {
            cx.send(to, bytes.to_vec()).unwrap();
        }
        Verdict::Continue
    }

    fn on_message(&mut self, cx: &mut Ctx<'_, Self>, message: Vec<u8>) -> Verdict {
        let _ = cx.write(&message);
        Verdict::Continue
    }
}

#[test]
fn messages_reach_connections_on_every_loop_and_only_those() {
    // Goal: a message reaches its connection wherever that lives, and one for a connection that is gone is counted
    // and dropped, even when its slot has been taken again. Method: a chat of six over two loops; two leave, two join.
    let room = Arc::new(Mutex::new(Vec::new()));
    let server = Server::new({
        let room = Arc::clone(&room);
        move |_: Accepted| Chat {
            room: Arc::clone(&room),
        }
    });
    let acceptor = AcceptMode::Acceptor(Spread::RoundRobin);
    let server = server.listen(ANY_PORT).unwrap();
    let site = Site::start(server.settings(settings_with(2, acceptor)));
    let enter = || {
        let mut stream = site.connect();
        assert_eq!(read_exactly(&mut stream, 1), b"+");
        stream
    };
    let mut people: Vec<_> = (0..6).map(|_| enter()).collect();
    let on_loop_0 = |conn: &&ConnRef| conn.loop_index() == 0;
    assert_eq!(room.lock().unwrap().iter().filter(on_loop_0).count(), 3);
    for speaker in 0..people.len() {
        people[speaker].write_all(b"hello").unwrap();
        for listener in &mut people {
            assert_eq!(read_exactly(listener, 5), b"hello");
        }
    }
    people.drain(..2);
    eventually("two have left", || site.status().live() == 4);
    people.extend([enter(), enter()]);
    people[0].write_all(b"again").unwrap();
    for listener in &mut people {
        assert_eq!(read_exactly(listener, 5), b"again");
    }
    eventually("the two are missed", || {
        site.sum(|numbers| numbers.messages_stale.value()) == 2
    });
    assert_eq!(site.sum(|numbers| numbers.messages.value()), 36 + 6);
    drop(people);
    site.end();
}

/// Sends itself as many messages as it is asked for, in one callback, and says how many were refused.
struct Flood;

impl Handler for Flood {
    type Message = u8;

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let count = input.take_all()[0];
        let full = |nth: &u8| match cx.send(cx.this(), *nth) {
            Ok(()) => false,
            Err(SendError::Full(message)) => message == *nth,
            Err(other) => panic!("{other:?}"),
        };
        let refused = (0..count).filter(full).count();
        let _ = cx.write(&[refused as u8]);
        Verdict::Continue
    }
}

#[test]
fn a_full_inbox_gives_the_message_back() {
    // Goal: inboxes are bounded, and the sender decides about what did not fit. Method: more messages in one callback
    // than the inbox of the own loop holds, which cannot empty it meanwhile.
    let server = Server::new(|_: Accepted| Flood).listen(ANY_PORT).unwrap();
    let site = Site::start(server.settings(ServerSettings {
        messages_max: 16,
        ..settings(1)
    }));
    let mut stream = site.connect();
    for _ in 0..3 {
        assert_eq!(ask(&mut stream, &[20]), [4]);
    }
    eventually("the refusals are published", || {
        site.sum(|numbers| numbers.messages_refused.value()) == 12
    });
    drop(stream);
    site.end();
}

/// Gives a job away for each byte, which ends when the test says so.
struct Delegating {
    gate: Arc<Mutex<Receiver<()>>>,
}

impl Handler for Delegating {
    type Message = u8;

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        for &byte in input.take_all() {
            let gate = Arc::clone(&self.gate);
            let given = cx.offload(PoolId::CPU, move || {
                gate.lock().unwrap().recv_timeout(DEADLINE).unwrap();
                byte.to_ascii_uppercase()
            });
            if given == Err(PoolFull) {
                let _ = cx.write(b"!");
            }
        }
        Verdict::Continue
    }

    fn on_offload(&mut self, cx: &mut Ctx<'_, Self>, _: JobId, result: Option<u8>) -> Verdict {
        let _ = cx.write(&[result.unwrap()]);
        Verdict::Continue
    }
}

fn delegating() -> (Sender<()>, Site) {
    let (open, gate) = channel();
    let gate = Arc::new(Mutex::new(gate));
    let server = Server::new(move |_: Accepted| Delegating {
        gate: Arc::clone(&gate),
    });
    let pools = vec![
        PoolConfig::new("cpu", 1, 2),
        PoolConfig::new("blocking", 0, 0),
    ];
    let server = server.listen(ANY_PORT).unwrap().settings(ServerSettings {
        pools,
        ..settings(1)
    });
    (open, Site::start(server))
}

#[test]
fn a_full_pool_answers_at_once_and_results_come_back_in_order() {
    // Goal: submission never waits, and what was taken returns. Method: a pool of one thread and two places; the jobs
    // wait for the test, so that the fourth has nowhere to go.
    let (open, site) = delegating();
    let mut stream = site.connect();
    stream.write_all(b"a").unwrap();
    eventually("the first job runs", || {
        site.status().pools.stats(PoolId::CPU).running == 1
    });
    stream.write_all(b"bcd").unwrap();
    assert_eq!(read_exactly(&mut stream, 1), b"!", "while all three wait");
    eventually("three are pending", || {
        site.sum(|numbers| numbers.offload_pending.value()) == 3
    });
    for _ in 0..3 {
        open.send(()).unwrap();
    }
    assert_eq!(read_exactly(&mut stream, 3), b"ABC");
    assert_eq!(site.sum(|numbers| numbers.offload_refused.value()), 1);
    assert_eq!(site.sum(|numbers| numbers.offload_done.value()), 3);
    drop(stream);
    site.end();
}

#[test]
fn a_result_for_a_connection_that_is_gone_is_dropped_and_counted() {
    // Goal: the connection may end while its job runs; whoever has taken its slot hears nothing. Method: the client
    // leaves while its job waits for the test, another comes in its place.
    let (open, site) = delegating();
    let mut gone = site.connect();
    gone.write_all(b"a").unwrap();
    eventually("the job runs", || {
        site.status().pools.stats(PoolId::CPU).running == 1
    });
    drop(gone);
    eventually("its connection is gone", || site.status().live() == 0);
    let mut next = site.connect();
    next.write_all(b"b").unwrap();
    open.send(()).unwrap();
    open.send(()).unwrap();
    assert_eq!(read_exactly(&mut next, 1), b"B");
    assert_eq!(site.sum(|numbers| numbers.offload_stale.value()), 1);
    drop(next);
    site.end();
}

/// Sets a timer for each byte, in milliseconds, and says which one fired; `x` cancels the last one set, `?` sets as
/// many as it may.
#[derive(Default)]
struct Ticking {
    set: Vec<(TimerKey, u8, u64)>,
}

impl Handler for Ticking {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        for &byte in input.take_all() {
            match byte {
                b'x' => {
                    let (timer, ..) = self.set.pop().unwrap();
                    assert!(cx.cancel_timer(timer));
                    assert!(!cx.cancel_timer(timer), "it is gone");
                }
                b'?' => {
                    let hour = Duration::from_secs(3600);
                    let set = std::iter::from_fn(|| cx.set_timer(hour)).count();
                    let _ = cx.write(&[set as u8]);
                }
                _ => {
                    let after = Duration::from_millis(u64::from(byte));
                    let due_ns = cx.now_ns() + after.as_nanos() as u64;
                    let timer = cx.set_timer(after).unwrap();
                    self.set.push((timer, byte, due_ns));
                }
            }
        }
        Verdict::Continue
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, timer: TimerKey) -> Verdict {
        let at = self.set.iter().position(|(set, ..)| *set == timer).unwrap();
        let (_, byte, due_ns) = self.set.remove(at);
        assert!(cx.now_ns() >= due_ns, "it fired early");
        assert!(!cx.cancel_timer(timer), "it is gone");
        let _ = cx.write(&[byte]);
        Verdict::Continue
    }
}

#[test]
fn timers_fire_once_in_order_and_die_with_their_connection() {
    // Goal: a handler's timers fire in the order they are due, never early, and are bounded; what is cancelled or
    // outlived does not fire. Method: set them in another order, cancel two; leave with as many armed as allowed.
    let server = Server::new(|_: Accepted| Ticking::default());
    let server = server.listen(ANY_PORT).unwrap().settings(settings(1));
    let site = Site::start(server);
    let mut stream = site.connect();
    stream
        .write_all(&[30, 10, b'x', 20, 5, 0, b'x', 40])
        .unwrap();
    assert_eq!(read_exactly(&mut stream, 4), [5, 20, 30, 40]);
    let max = TIMERS_PER_SESSION_MAX as u8;
    assert_eq!(ask(&mut stream, b"?"), [max]);
    eventually("the gauge counts them, and the idle deadline", || {
        site.sum(|numbers| numbers.timers.value()) == u64::from(max) + 1
    });
    assert_eq!(ask(&mut stream, b"?"), [0]);
    assert_eq!(site.sum(|numbers| numbers.handler_panics.value()), 0);
    drop(stream);
    site.end();
}

/// Passes bytes between its client and a backend, each half on its own.
struct Relay {
    backend: PeerAddr,
    finished: u8,
}

impl Handler for Relay {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        assert!(cx.connect(self.backend));
        assert!(!cx.connect(self.backend), "one back side at a time");
        Verdict::Continue
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let _ = cx.write_to(cx.side().other(), input.take_all());
        Verdict::Continue
    }

    fn on_finished(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        cx.finish(cx.side().other());
        self.finished += 1;
        if self.finished == 2 {
            Verdict::Drain
        } else {
            Verdict::Continue
        }
    }

    fn on_connect_failed(&mut self, cx: &mut Ctx<'_, Self>, error: std::io::Error) -> Verdict {
        let _ = cx.write_to(Side::Front, format!("{:?}", error.kind()).as_bytes());
        Verdict::Close
    }
}

fn relay(alone: &Alone, backend: SocketAddr) -> Site {
    let server = Server::new(move |_: Accepted| Relay {
        backend: backend.into(),
        finished: 0,
    });
    let server = server.listen(ANY_PORT).unwrap().settings(ServerSettings {
        connection_cost: 2,
        ..settings(1)
    });
    Site::start_alone(alone, server)
}

#[test]
fn a_session_of_two_sockets_passes_bytes_and_fins_both_ways() {
    // Goal: a handler that connects relays every byte and each FIN, with bytes in hand before the backend answers.
    // Method: a backend that answers only after the client's FIN, with what it got, twice; 4 MiB each way.
    let alone = alone();
    let backend = TcpListener::bind(ANY_PORT).unwrap();
    let site = relay(&alone, backend.local_addr().unwrap());
    let sent = pattern(4 << 20);
    for _ in 0..3 {
        let mut stream = site.connect();
        let mut writer = stream.try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&sent).unwrap();
                finish(&writer);
            });
            scope.spawn(|| {
                let (mut stream, _) = backend.accept().unwrap();
                let got = read_all(&mut stream);
                assert!(got == sent, "{} bytes came", got.len());
                stream.write_all(&got).unwrap();
                stream.write_all(&got).unwrap();
            });
            let answer = read_all(&mut stream);
            assert!(answer == [&sent[..], &sent[..]].concat());
        });
    }
    site.settle();
    assert_eq!(site.closes(CloseReason::PeerFinished), 3);
    site.end();
}

#[test]
fn a_backend_that_refuses_or_resets_ends_its_session_alone() {
    // Goal: the handler is told that a connection could not be made; a backend's reset ends both sockets. Method: a
    // port that nobody listens on; then a backend that closes with bytes unread, in the middle of a transfer.
    let alone = alone();
    let nobody = TcpListener::bind(ANY_PORT).unwrap();
    let addr = nobody.local_addr().unwrap();
    drop(nobody);
    let site = relay(&alone, addr);
    let mut stream = site.connect();
    assert_eq!(read_all(&mut stream), b"ConnectionRefused");
    drop(stream);
    site.settle();
    assert_eq!(site.closes(CloseReason::ConnectFailed), 1);
    site.end();

    let backend = TcpListener::bind(ANY_PORT).unwrap();
    let site = relay(&alone, backend.local_addr().unwrap());
    let mut stay = site.connect();
    let (mut stay_back, _) = backend.accept().unwrap();
    let mut stream = site.connect();
    let (mut back, _) = backend.accept().unwrap();
    stream.write_all(b"unread").unwrap();
    assert_eq!(back.peek(&mut [0; 1]).unwrap(), 1);
    drop(back);
    assert_closed(&mut stream);
    stay.write_all(b"still here").unwrap();
    assert_eq!(read_exactly(&mut stay_back, 10), b"still here");
    assert_eq!(site.closes(CloseReason::PeerReset), 1);
    back = stay_back;
    drop((stay, back, stream));
    site.end();
}

#[test]
fn a_client_that_leaves_while_its_backend_is_connecting_leaves_nothing() {
    // Goal: a session that ends in the middle of connect gives both sockets back. Method: a backend whose queue is
    // full, so that the attempt hangs; the client resets.
    let alone = alone();
    let options = ListenOptions {
        backlog: 1,
        reuse_port: false,
    };
    let backend = listen_group(&ANY_PORT.parse().unwrap(), 1, &options).unwrap();
    let addr = backend[0].local_addr().unwrap().socket_addr().unwrap();
    // The kernel holds one more than it is told.
    let _queue: Vec<_> = (0..2).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let site = relay(&alone, addr);
    let mut stream = site.connect();
    stream.write_all(b"for the backend").unwrap();
    eventually("bytes wait for the backend", || {
        site.sum(|numbers| numbers.kept_bytes.value()) == 15
    });
    reset(stream);
    site.end();
}
