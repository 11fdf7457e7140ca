//! A loop that is stuck is seen, named and rescued.

use crate::harness::{ANY_PORT, DEADLINE, Site, ask, assert_echo, eventually, settings_with};
use polyloop::telemetry::Callback;
use polyloop::{
    AcceptMode, Accepted, Ctx, Handler, Input, Server, ServerSettings, Spread, Verdict,
};
use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Echoes; `W` waits until the test drops the sender, `C` computes until then.
struct Sticky {
    gate: Arc<Mutex<Receiver<()>>>,
}

impl Handler for Sticky {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let bytes = input.take_all();
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
    let server = Server::new(move |_: Accepted| {
        let first = gate.lock().unwrap().take();
        let gate = first.unwrap_or_else(|| Arc::new(Mutex::new(channel().1)));
        Sticky { gate }
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
fn without_a_watchdog_nothing_is_seen() {
    // Goal: the watchdog can be turned off, and then takes no thread. Method: no threshold; look for its thread.
    let (open, site) = sticky(ServerSettings {
        stall_threshold: None,
        ..settings_with(2, AcceptMode::default())
    });
    assert!(!site.holds_thread("watchdog"));
    drop(open);
    site.end();
}
