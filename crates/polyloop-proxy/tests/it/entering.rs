//! Before the relay: PROXY headers in and out, TLS hellos, access lists, deadlines.

use std::time::Duration;

use polyloop_proxy::settings::{
    AcceptProxy, ConnectWhen, GroupSettings, NamePattern, Route, SendProxy,
};
use polyloop_proxy::termination::Cause;
use polyloop_sim::World;

use crate::{Echo, Named, backend, drain, proxy, settings, settle};

/// A hello of TLS 1.2 with a name, and a protocol if one is given; and nothing else a server would need.
pub(crate) fn hello(name: &str, protocol: Option<&str>) -> Vec<u8> {
    let sized = |len: usize, bytes: &[u8]| {
        let size = (bytes.len() as u32).to_be_bytes();
        [&size[4 - len..], bytes].concat()
    };
    let mut extensions = Vec::new();
    let names = sized(2, &[&[0][..], &sized(2, name.as_bytes())].concat());
    extensions.extend([0, 0]);
    extensions.extend(sized(2, &names));
    if let Some(protocol) = protocol {
        extensions.extend([0, 16]);
        extensions.extend(sized(2, &sized(2, &sized(1, protocol.as_bytes()))));
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(sized(1, &[]));
    body.extend(sized(2, &[0x13, 0x01]));
    body.extend(sized(1, &[0]));
    body.extend(sized(2, &extensions));
    let message = [&[1][..], &sized(3, &body)].concat();
    [&[22, 3, 1][..], &sized(2, &message)].concat()
}

#[test]
fn a_header_is_taken_off_and_passed_on_however_it_is_cut() {
    // Goal: header in, header out, payload untouched, with the client's address in the record. Method: one header of each
    // version, whole and byte by byte, with payload fused; a backend that echoes shows what it was sent.
    let v1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 5555 5432\r\n".to_vec();
    let mut v2 = vec![
        0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0, 12,
    ];
    v2.extend([192, 0, 2, 7, 198, 51, 100, 1]);
    v2.extend(5555u16.to_be_bytes());
    v2.extend(5432u16.to_be_bytes());
    for header in [&v1, &v2] {
        for cut in [1, 7, 1000] {
            let world = World::new(1);
            let mut back = backend(&world, || Echo);
            let mut settings = settings(back.listeners());
            settings.listeners[0].accept_proxy = Some(AcceptProxy {
                from: vec!["10.0.0.0/8".parse().unwrap()],
            });
            settings.groups[0].send_proxy = Some(SendProxy::V1);
            let mut front = proxy(&world, 1, settings);
            let client = world.connect(front.sim.listeners());
            let sent = [header.as_slice(), b"payload"].concat();
            let mut got = Vec::new();
            for piece in sent.chunks(cut) {
                client.send(piece);
                got.extend(drain(&mut front.sim, &mut back, &client));
            }
            assert_eq!(got, [v1.as_slice(), b"payload"].concat());
            client.finish();
            settle(&mut front.sim, &mut back);
            assert!(client.is_at_end());
            let records = front.records();
            assert!(records[0].contains("source=192.0.2.7:5555"), "{records:?}");
            drop(client);
            front.assert_at_rest(&world);
        }
    }
}

#[test]
fn without_its_header_a_trusted_peer_is_refused_and_others_are_served_without() {
    // Goal: a header is never guessed. Method: a client of the world (10.x) that is trusted and sends none, a broken one, or
    // none in time; and one that is not trusted, whose header is payload.
    let v1 = &b"PROXY TCP4 192.0.2.7 198.51.100.1 5555 5432\r\n"[..];
    for (from, sent, echo, state) in [
        ("10.0.0.0/8", &b"GET / HTTP/1.1\r\n"[..], &b""[..], "PR"),
        ("10.0.0.0/8", b"PROXY TCP4 1.2.3.4\r\n", b"", "PR"),
        ("10.0.0.0/8", b"PROXY TC", b"", "cR"),
        ("192.168.0.0/16", v1, v1, "--"),
    ] {
        let world = World::new(2);
        let mut back = backend(&world, || Echo);
        let mut settings = settings(back.listeners());
        settings.listeners[0].accept_proxy = Some(AcceptProxy {
            from: vec![from.parse().unwrap()],
        });
        let mut front = proxy(&world, 1, settings);
        let client = world.connect(front.sim.listeners());
        client.send(sent);
        assert_eq!(drain(&mut front.sim, &mut back, &client), echo);
        front.sim.advance(Duration::from_millis(5_010));
        client.finish();
        settle(&mut front.sim, &mut back);
        assert_eq!(client.was_reset(), state != "--", "{state}");
        assert_eq!(front.states(), [state]);
        drop(client);
        front.assert_at_rest(&world);
    }
}

#[test]
fn a_name_chooses_the_group_and_the_hello_reaches_it_whole() {
    // Goal: routes by SNI and ALPN, without taking a byte from the backend. Method: three groups, clients with names, one
    // without TLS; whole and in pieces.
    for cut in [3, 1000] {
        let world = World::new(3);
        let mut backs: Vec<_> = [&b"A"[..], b"B", b"C"]
            .map(|name| backend(&world, move || Named(name)))
            .into_iter()
            .collect();
        let mut settings = settings(backs[0].listeners());
        for back in &backs[1..] {
            let group = crate::settings(back.listeners()).groups.remove(0);
            settings.groups.push(GroupSettings {
                name: format!("group{}", back.listeners()[0]),
                ..group
            });
        }
        settings.listeners[0].routing.routes = vec![
            Route {
                sni: vec![NamePattern::Below("example.org".to_owned())],
                alpn: vec!["h2".to_owned()],
                group: 2,
            },
            Route {
                sni: vec![NamePattern::Exact("db.example.org".to_owned())],
                alpn: Vec::new(),
                group: 1,
            },
        ];
        let mut front = proxy(&world, 1, settings);
        for (sent, name) in [
            (hello("db.example.org", None), b'B'),
            (hello("DB.Example.org", Some("postgresql")), b'B'),
            (hello("www.example.org", Some("h2")), b'C'),
            (hello("other.example.com", Some("h2")), b'A'),
            (b"not TLS at all".to_vec(), b'A'),
        ] {
            let client = world.connect(front.sim.listeners());
            let mut got = Vec::new();
            for piece in sent.chunks(cut) {
                client.send(piece);
                for back in &mut backs {
                    got.extend(drain(&mut front.sim, back, &client));
                }
            }
            assert_eq!(got, [&[name], sent.as_slice()].concat());
            drop(client);
            for back in &mut backs {
                settle(&mut front.sim, back);
            }
        }
        front.assert_at_rest(&world);
    }
}

#[test]
fn access_lists_refuse_before_a_backend_is_asked() {
    // Goal: who may not come costs no backend anything. Method: the world's clients (10.x) allowed, denied, not listed.
    for (allow, deny, is_served) in [
        (vec!["10.0.0.0/8"], vec![], true),
        (vec!["192.168.0.0/16"], vec![], false),
        (vec![], vec!["10.0.0.0/8"], false),
        (vec!["10.0.0.0/16"], vec!["10.0.0.0/8"], true),
    ] {
        let world = World::new(4);
        let mut back = backend(&world, || Named(b"in"));
        let mut settings = settings(back.listeners());
        settings.listeners[0].allow = allow.iter().map(|cidr| cidr.parse().unwrap()).collect();
        settings.listeners[0].deny = deny.iter().map(|cidr| cidr.parse().unwrap()).collect();
        let mut front = proxy(&world, 1, settings);
        let client = world.connect(front.sim.listeners());
        settle(&mut front.sim, &mut back);
        assert_eq!(client.receive(10) == b"in", is_served, "{allow:?} {deny:?}");
        let board = &front.site.listeners[0].boards[0];
        assert_eq!(
            board.refused_for(Cause::AccessDenied),
            u64::from(!is_served)
        );
        let chosen = &front.site.groups[0].backends[0].boards[0].chosen;
        assert_eq!(chosen.value(), u64::from(is_served));
        drop(client);
        settle(&mut front.sim, &mut back);
        front.assert_at_rest(&world);
    }
}

#[test]
fn a_backend_is_asked_for_once_the_client_has_spoken_if_so_told() {
    // Goal: `first-bytes` costs a backend nothing until there is something to say. Method: a silent client, one that speaks.
    let world = World::new(5);
    let mut back = backend(&world, || Echo);
    let mut settings = settings(back.listeners());
    settings.listeners[0].connect_when = ConnectWhen::FirstBytes;
    settings.listeners[0].timeouts.first_byte = Some(Duration::from_secs(3));
    let mut front = proxy(&world, 1, settings);
    let clients = [
        world.connect(front.sim.listeners()),
        world.connect(front.sim.listeners()),
    ];
    settle(&mut front.sim, &mut back);
    assert_eq!(front.site.groups[0].backends[0].taken(), 0);
    clients[1].send(b"hello");
    assert_eq!(drain(&mut front.sim, &mut back, &clients[1]), b"hello");
    front.sim.advance(Duration::from_millis(3_010));
    assert!(clients[0].was_reset() && !clients[1].was_reset());
    assert_eq!(front.states(), ["cR"]);
    drop(clients);
    settle(&mut front.sim, &mut back);
    front.assert_at_rest(&world);
}

#[test]
fn limits_refuse_what_is_over_them_and_are_exact() {
    // Goal: sessions of a listener, of a source, per second; whoever leaves makes room. Method: each limit at two, four
    // clients (each of an address of its own), one leaves, another comes.
    use polyloop_proxy::settings::{ListenerSettings, Rate};
    type Set = fn(&mut ListenerSettings);
    let sets: [(Set, usize); 3] = [
        (|listener| listener.connections_max = Some(2), 2),
        (|listener| listener.source_connections_max = Some(2), 4),
        (
            |listener| {
                listener.rate = Some(Rate {
                    per_second: 1,
                    burst: 2,
                });
            },
            2,
        ),
    ];
    for (set, served) in sets {
        let world = World::new(6);
        let mut back = backend(&world, || Named(b"in"));
        let mut settings = settings(back.listeners());
        set(&mut settings.listeners[0]);
        let mut front = proxy(&world, 2, settings);
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(world.connect(front.sim.listeners()));
            settle(&mut front.sim, &mut back);
        }
        let is_in = |client: &polyloop_sim::Client| client.receive(10) == b"in";
        assert_eq!(
            clients.iter().filter(|client| is_in(client)).count(),
            served
        );
        let refused = |front: &crate::Proxy| -> u64 {
            let boards = front.site.listeners[0].boards.iter();
            boards.map(|board| board.refused_in_all()).sum()
        };
        assert_eq!(refused(&front), 4 - served as u64);
        assert_eq!(front.site.live(0) as usize, served);
        clients.remove(0);
        settle(&mut front.sim, &mut back);
        front.sim.advance(Duration::from_secs(1));
        let client = world.connect(front.sim.listeners());
        settle(&mut front.sim, &mut back);
        assert!(is_in(&client), "there is room again");
        drop((clients, client));
        settle(&mut front.sim, &mut back);
        assert_eq!(front.site.live(0), 0);
        front.assert_at_rest(&world);
    }
}
