//! Access records: whether they tell what happened.

use std::collections::BTreeSet;
use std::time::Duration;

use polyloop::{Ctx, Handler, Input, Side, Verdict};
use polyloop_proxy::balance::Algorithm;
use polyloop_proxy::settings::{ProxyTlv, Route, SendProxy};
use polyloop_proxy::termination::Cause;
use polyloop_sim::World;

use crate::entering::hello;
use crate::{Echo, NOBODY, Named, backend, drain, proxy, settings, settle};

/// Takes everything and says nothing, nor that it has finished.
struct Mute;

impl Handler for Mute {
    type Message = ();

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        input.take_all();
        Verdict::Continue
    }

    fn on_finished(&mut self, _: &mut Ctx<'_, Self>) -> Verdict {
        Verdict::Continue
    }
}

/// Says something and finishes its half, and waits for the other.
struct Bye;

impl Handler for Bye {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let _ = cx.write(b"bye");
        cx.finish(Side::Front);
        Verdict::Continue
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        input.take_all();
        Verdict::Continue
    }
}

/// The value of a field without quotes.
fn field<'l>(line: &'l str, key: &str) -> Option<&'l str> {
    let key = format!(" {key}=");
    let (_, rest) = line.split_once(key.as_str())?;
    rest.split([' ', '\n']).next()
}

fn number(line: &str, key: &str) -> u64 {
    field(line, key)
        .unwrap_or_else(|| panic!("no {key}: {line}"))
        .parse()
        .unwrap()
}

#[test]
fn who_was_tried_is_named_though_nobody_answered() {
    // Goal: a failed session names the backend that failed, and counts no try that was none. Method: one dead backend and
    // two retries allowed; two dead ones.
    for backends in [&[NOBODY][..], &[NOBODY, NOBODY + 1]] {
        let world = World::new(1);
        let mut settings = settings(backends);
        settings.groups[0].balance = Algorithm::RoundRobin;
        let mut front = proxy(&world, 1, settings);
        let client = world.connect(front.sim.listeners());
        front.sim.settle();
        let lines = front.records();
        let line = &lines[0];
        let last = *backends.last().unwrap();
        assert_eq!(field(line, "state"), Some("SC"));
        assert_eq!(field(line, "group"), Some("group"));
        assert_eq!(field(line, "backend"), Some(format!("b{last}").as_str()));
        let address = format!("127.0.0.1:{last}");
        assert_eq!(field(line, "backend_address"), Some(address.as_str()));
        assert_eq!(number(line, "retries"), backends.len() as u64 - 1, "{line}");
        assert_eq!(field(line, "connect_ms"), None);
        let boards = front.site.groups[0].backends.iter();
        let retried: u64 = boards.map(|b| b.boards[0].retried.value()).sum();
        assert_eq!(retried, backends.len() as u64 - 1);
        drop(client);
        front.assert_at_rest(&world);
    }
}

#[test]
fn times_are_of_what_they_are_called_after() {
    // Goal: connecting is timed from the try that succeeded, queueing apart from it, the first byte from the connection on.
    // Method: a silent backend costs five seconds, and one with a place for one lets another wait three.
    let world = World::new(2);
    let silent = world.listen();
    world.silence(silent.id());
    let mut back = backend(&world, || Echo);
    let alive = back.listeners()[0];
    let mut settings = settings(&[silent.id(), alive]);
    settings.groups[0].balance = Algorithm::RoundRobin;
    settings.groups[0].backends[1].connections_max = Some(1);
    let mut front = proxy(&world, 1, settings);
    let client = world.connect(front.sim.listeners());
    front.sim.advance(Duration::from_millis(5_010));
    settle(&mut front.sim, &mut back);
    front.sim.advance(Duration::from_secs(2));
    client.send(b"hi");
    assert_eq!(drain(&mut front.sim, &mut back, &client), b"hi");
    let second = world.connect(front.sim.listeners());
    // The silent one is its first choice too; then there is no place.
    front.sim.advance(Duration::from_millis(5_010));
    settle(&mut front.sim, &mut back);
    front.sim.advance(Duration::from_secs(3));
    client.finish();
    settle(&mut front.sim, &mut back);
    second.finish();
    settle(&mut front.sim, &mut back);
    let lines = front.records();
    let [first, waited] = &lines[..] else {
        panic!("{lines:?}")
    };
    for line in [first, waited] {
        assert_eq!(field(line, "state"), Some("--"), "{line}");
        assert_eq!(number(line, "retries"), 1, "{line}");
        assert!(number(line, "connect_ms") < 100, "{line}");
        assert!(number(line, "duration_ms") > 5_000, "{line}");
        let address = format!("127.0.0.1:{alive}");
        assert_eq!(field(line, "backend_address"), Some(address.as_str()));
    }
    assert_eq!(field(first, "queue_ms"), None, "{first}");
    let first_byte = number(first, "first_byte_ms");
    assert!((2_000..2_100).contains(&first_byte), "{first}");
    let queued = number(waited, "queue_ms");
    assert!((3_000..3_100).contains(&queued), "{waited}");
    assert_eq!(field(waited, "first_byte_ms"), None, "{waited}");
    drop((client, second));
    front.assert_at_rest(&world);
}

#[test]
fn a_session_has_one_name_wherever_it_is_told() {
    // Goal: a record and the header to the backend name the session alike, and no two sessions do. Method: a backend that
    // echoes the header, sessions accepted in one turn on two loops.
    let world = World::new(3);
    let mut back = backend(&world, || Echo);
    let mut settings = settings(back.listeners());
    settings.groups[0].send_proxy = Some(SendProxy::V2 {
        tlvs: vec![ProxyTlv::UniqueId],
        checksum: false,
    });
    let mut front = proxy(&world, 2, settings);
    front.site.set_wall_offset(1_770_091_506_789);
    let clients: Vec<_> = (0..10)
        .map(|_| world.connect(front.sim.listeners()))
        .collect();
    let mut told = BTreeSet::new();
    for client in &clients {
        let header = drain(&mut front.sim, &mut back, client);
        let id = header[header.len() - 24..].to_vec();
        told.insert(String::from_utf8(id).unwrap());
        client.finish();
    }
    settle(&mut front.sim, &mut back);
    let lines = front.records();
    let ids: BTreeSet<_> = lines
        .iter()
        .map(|line| field(line, "id").unwrap().to_owned())
        .collect();
    assert_eq!((ids.len(), &ids), (10, &told));
    drop(clients);
    front.assert_at_rest(&world);
}

#[test]
fn a_timeout_names_the_side_that_owed_something() {
    // Goal: an operator sees whom to ask. Method: idle with both sides open, the last word here and there; one half closed,
    // the other side silent, in both orders.
    for (says, finishes, state) in [
        (true, false, "sD"),
        (false, true, "sL"),
        (false, false, "cD"),
    ] {
        let world = World::new(4);
        let mut back = backend(&world, || Mute);
        let mut settings = settings(back.listeners());
        settings.listeners[0].timeouts.idle = Some(Duration::from_secs(60));
        let mut front = proxy(&world, 1, settings);
        let client = world.connect(front.sim.listeners());
        settle(&mut front.sim, &mut back);
        if says {
            client.send(b"are you there?");
        }
        if finishes {
            client.finish();
        }
        settle(&mut front.sim, &mut back);
        front.sim.advance(Duration::from_secs(61));
        assert_eq!(front.states(), [state]);
        // The backend keeps its end for ever, so not all is at rest.
        assert_eq!(front.site.groups[0].backends[0].taken(), 0);
    }
    let world = World::new(5);
    let mut back = backend(&world, || Named(b"well?"));
    let mut settings_of_both = settings(back.listeners());
    settings_of_both.listeners[0].timeouts.idle = Some(Duration::from_secs(60));
    let mut front = proxy(&world, 1, settings_of_both);
    let client = world.connect(front.sim.listeners());
    settle(&mut front.sim, &mut back);
    front.sim.advance(Duration::from_secs(61));
    assert_eq!(front.states(), ["cD"]);
    drop(client);
    settle(&mut front.sim, &mut back);
    let mut back = backend(&world, || Bye);
    let mut front = proxy(&world, 1, settings(back.listeners()));
    let client = world.connect(front.sim.listeners());
    settle(&mut front.sim, &mut back);
    // As long as it has something to take, its deadline asks whether it takes any.
    let _ = client.receive(usize::MAX);
    front.sim.advance(Duration::from_secs(31));
    let lines = front.records();
    assert_eq!(field(&lines[0], "state"), Some("cL"), "{lines:?}");
    assert!(lines[0].contains("did not finish its half in time"));
    drop(client);
    settle(&mut front.sim, &mut back);
    front.assert_at_rest(&world);
}

#[test]
fn each_way_not_to_be_routed_has_its_own_words() {
    // Goal: no TLS, a bad hello and a name without a route are three things. Method: one client of each kind.
    let world = World::new(6);
    let mut settings = settings(&[NOBODY]);
    settings.listeners[0].routing.otherwise = None;
    settings.listeners[0].routing.routes = vec![Route {
        sni: Vec::new(),
        alpn: vec!["h2".to_owned()],
        group: 0,
    }];
    let mut front = proxy(&world, 1, settings);
    for (sent, cause, detail) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Cause::NotTls, false),
        (vec![22, 3, 1, 0, 0, 1, 1, 1], Cause::HelloRefused, true),
        (hello("db.example.org", None), Cause::NoRoute, false),
    ] {
        let client = world.connect(front.sim.listeners());
        client.send(&sent);
        front.sim.settle();
        let lines = front.records();
        let board = &front.site.listeners[0].boards[0];
        assert_eq!(board.refused_for(cause), 1, "{cause:?} {lines:?}");
        assert_eq!(lines[0].contains(" detail="), detail, "{lines:?}");
        assert_eq!(field(&lines[0], "state"), Some("PR"));
        drop(client);
    }
    front.assert_at_rest(&world);
}

#[test]
fn who_leaves_during_the_second_try_is_the_one_who_left() {
    // Goal: the first try's failure is not blamed for what the client did later. Method: a dead backend, then a silent one;
    // a reset while that is waited for.
    let world = World::new(7);
    let silent = world.listen();
    world.silence(silent.id());
    let mut settings = settings(&[NOBODY, silent.id()]);
    settings.groups[0].balance = Algorithm::RoundRobin;
    let mut front = proxy(&world, 1, settings);
    let client = world.connect(front.sim.listeners());
    front.sim.settle();
    client.reset();
    front.sim.settle();
    let lines = front.records();
    assert_eq!(field(&lines[0], "state"), Some("CC"), "{lines:?}");
    assert_eq!(number(&lines[0], "retries"), 1);
    let name = format!("b{}", silent.id());
    assert_eq!(field(&lines[0], "backend"), Some(name.as_str()));
    front.assert_at_rest(&world);
}
