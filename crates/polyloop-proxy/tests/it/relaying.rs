//! Bytes both ways, halves in both orders, resets, slow sides, idle sessions.

use std::time::Duration;

use polyloop::{CloseReason, Ctx, Handler, Input, Tuning, Verdict};
use polyloop_proxy::settings::{SendProxy, Splice};
use polyloop_sim::World;

use crate::{Echo, Named, backend, drain, pattern, proxy, proxy_tuned, settings, settle};

/// Has its say once its client has finished.
struct Parting;

impl Handler for Parting {
    type Message = ();

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        input.take_all();
        Verdict::Continue
    }

    fn on_finished(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let _ = cx.write(&pattern(100_000));
        Verdict::Drain
    }
}

#[test]
fn bytes_and_halves_pass_in_order_whatever_their_number() {
    // Goal: every byte and then the FIN, both ways, copied and spliced. Method: 0 B, 1 B, 1 MiB through an echo, with each
    // policy; the client finishes first.
    for splice in [Splice::Off, Splice::Auto, Splice::Always] {
        for len in [0, 1, 1 << 20] {
            let world = World::new(1);
            let mut back = backend(&world, || Echo);
            let mut settings = settings(back.listeners());
            settings.listeners[0].splice = splice;
            let tuning = Tuning {
                pipes_max: 4,
                ..Tuning::default()
            };
            let mut front = proxy_tuned(&world, 1, settings, &tuning);
            let client = world.connect(front.sim.listeners());
            let bytes = pattern(len);
            let (mut sent, mut got) = (0, Vec::new());
            while got.len() < len {
                sent += client.send(&bytes[sent..]);
                got.extend(drain(&mut front.sim, &mut back, &client));
            }
            client.finish();
            assert!(drain(&mut front.sim, &mut back, &client).is_empty());
            assert!(got == bytes && client.is_at_end() && !client.was_reset());
            let spliced = front.sim.sum(|numbers| numbers.bytes_spliced.value());
            match splice {
                Splice::Off => assert_eq!(spliced, 0),
                Splice::Auto => assert_eq!(spliced > 0, len > 1 << 19),
                Splice::Always => assert_eq!(spliced as usize, 2 * len),
            }
            assert_eq!(front.states(), ["--"]);
            drop(client);
            front.assert_at_rest(&world);
        }
    }
}

#[test]
fn a_client_that_finishes_first_gets_the_answer() {
    // Goal: half-close is passed on, and the other half goes on. Method: a backend that speaks after the FIN only.
    let world = World::new(2);
    let mut back = backend(&world, || Parting);
    let mut front = proxy(&world, 1, settings(back.listeners()));
    let client = world.connect(front.sim.listeners());
    client.send(b"that was all");
    client.finish();
    assert!(drain(&mut front.sim, &mut back, &client) == pattern(100_000));
    assert!(client.is_at_end() && !client.was_reset());
    let record = &front.records()[0];
    assert!(record.contains("bytes_up=12 bytes_down=100000"), "{record}");
    drop(client);
    front.assert_at_rest(&world);
}

#[test]
fn a_half_that_never_finishes_has_a_deadline() {
    // Goal: the second half is bounded. Method: the client finishes, the backend says nothing; then the other way round.
    struct Deaf;
    impl Handler for Deaf {
        type Message = ();
        fn on_data(&mut self, _: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
            input.take_all();
            Verdict::Continue
        }
        fn on_finished(&mut self, _: &mut Ctx<'_, Self>) -> Verdict {
            Verdict::Continue
        }
    }
    let world = World::new(3);
    let mut back = backend(&world, || Deaf);
    let mut front = proxy(&world, 1, settings(back.listeners()));
    let client = world.connect(front.sim.listeners());
    settle(&mut front.sim, &mut back);
    client.finish();
    settle(&mut front.sim, &mut back);
    front.sim.advance(Duration::from_secs(29));
    assert_eq!(front.sim.sum(|numbers| numbers.live.value()), 1);
    front.sim.advance(Duration::from_secs(3));
    assert_eq!(front.closes(CloseReason::IdleTimeout), 1);
    settle(&mut front.sim, &mut back);
    let states = front.states();
    assert!(states[0].ends_with('L'), "{states:?}");
    drop(client);
    back.advance(Duration::from_secs(1000));
    front.assert_at_rest(&world);
}

#[test]
fn a_reset_is_a_reset_on_the_other_side() {
    // Goal: no FIN where there was none. Method: the client resets; then the backend does.
    struct Breaker;
    impl Handler for Breaker {
        type Message = ();
        fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
            if input.take_all() == b"break" {
                return Verdict::Abort;
            }
            let _ = cx.write(b"part of it");
            Verdict::Continue
        }
    }
    let world = World::new(4);
    let mut back = backend(&world, || Breaker);
    let mut front = proxy(&world, 1, settings(back.listeners()));
    let clients = [
        world.connect(front.sim.listeners()),
        world.connect(front.sim.listeners()),
    ];
    for client in &clients {
        client.send(b"begin");
        assert_eq!(drain(&mut front.sim, &mut back, client), b"part of it");
    }
    clients[0].reset();
    settle(&mut front.sim, &mut back);
    assert_eq!(front.states(), ["CD"]);
    let resets = |sim: &polyloop_sim::Sim<_>| {
        sim.console().boards()[0].closes[CloseReason::PeerReset.index()].value()
    };
    assert_eq!(resets(&back), 1, "the backend saw a reset");
    clients[1].send(b"break");
    settle(&mut front.sim, &mut back);
    assert!(clients[1].was_reset());
    assert_eq!(front.states(), ["SD"]);
    assert_eq!(front.site.groups[0].backends[0].boards[0].resets.value(), 1);
    drop(clients);
    front.assert_at_rest(&world);
}

#[test]
fn a_slow_client_holds_its_backend_and_not_the_memory() {
    // Goal: what is kept for a client that does not read stays within the watermark. Method: a megabyte wanted, a small
    // window; then it reads.
    let world = World::new(5);
    let mut back = backend(&world, || Echo);
    let mut settings = settings(back.listeners());
    settings.listeners[0].buffer_high_bytes = 16 * 1024;
    settings.listeners[0].splice = Splice::Off;
    let tuning = Tuning {
        read_bytes_max: 8 * 1024,
        ..Tuning::default()
    };
    let mut front = proxy_tuned(&world, 1, settings, &tuning);
    let client = world.connect(front.sim.listeners());
    client.set_window(1000);
    let bytes = pattern(1 << 20);
    let mut sent = 0;
    loop {
        let count = client.send(&bytes[sent..]);
        sent += count;
        settle(&mut front.sim, &mut back);
        let kept = front.sim.sum(|numbers| numbers.kept_bytes.value());
        assert!(kept <= 2 * (16 + 8) * 1024, "{kept} bytes kept");
        if count == 0 {
            break;
        }
    }
    let mut got = Vec::new();
    while got.len() < bytes.len() {
        sent += client.send(&bytes[sent..]);
        got.extend(drain(&mut front.sim, &mut back, &client));
    }
    assert!(got == bytes);
    drop(client);
    settle(&mut front.sim, &mut back);
    front.assert_at_rest(&world);
}

#[test]
fn an_idle_session_ends_and_a_busy_one_does_not() {
    // Goal: the idle timeout is the listener's, and any byte either way keeps a session. Method: two clients of a server
    // that speaks first; one speaks now and then.
    let world = World::new(6);
    let mut back = backend(&world, || Named(b"hello"));
    let mut settings = settings(back.listeners());
    settings.listeners[0].timeouts.idle = Some(Duration::from_secs(10));
    let mut front = proxy(&world, 1, settings);
    let clients = [
        world.connect(front.sim.listeners()),
        world.connect(front.sim.listeners()),
    ];
    for client in &clients {
        assert_eq!(drain(&mut front.sim, &mut back, client), b"hello");
    }
    for _ in 0..4 {
        front.sim.advance(Duration::from_secs(6));
        clients[1].send(b"still here");
        assert_eq!(drain(&mut front.sim, &mut back, &clients[1]), b"still here");
    }
    assert_eq!(front.closes(CloseReason::IdleTimeout), 1);
    assert!(clients[0].is_at_end() || clients[0].was_reset());
    assert_eq!(front.states(), ["cD"]);
    drop(clients);
    settle(&mut front.sim, &mut back);
    front.assert_at_rest(&world);
}

#[test]
fn a_lifetime_ends_even_a_busy_session() {
    // Goal: the longest lifetime holds however much is said, with its jitter. Method: eight chatty clients; the ends are not
    // all at one moment.
    let world = World::new(7);
    let mut back = backend(&world, || Echo);
    let mut settings = settings(back.listeners());
    settings.listeners[0].timeouts.lifetime = Some(Duration::from_secs(100));
    settings.listeners[0].timeouts.lifetime_jitter_percent = 50;
    let mut front = proxy(&world, 1, settings);
    let mut clients: Vec<_> = Vec::new();
    for _ in 0..8 {
        clients.push(world.connect(front.sim.listeners()));
        settle(&mut front.sim, &mut back);
        front.sim.advance(Duration::from_millis(7));
    }
    let mut lives = Vec::new();
    for _ in 0..101 {
        front.sim.advance(Duration::from_secs(1));
        for client in &clients {
            client.send(b"chat");
        }
        settle(&mut front.sim, &mut back);
        clients.retain(|client| !client.was_reset() && !client.is_at_end());
        clients.iter().for_each(|client| drop(client.receive(100)));
        lives.push(front.sim.sum(|numbers| numbers.live.value()));
    }
    assert_eq!(lives[48], 8, "none before half of it");
    clients.clear();
    settle(&mut front.sim, &mut back);
    front.sim.advance(Duration::from_secs(40));
    settle(&mut front.sim, &mut back);
    assert_eq!(front.states(), ["PD"; 8]);
    lives.dedup();
    assert!(lives.len() > 3, "{lives:?}: they end one by one");
    front.assert_at_rest(&world);
}

#[test]
fn a_byte_rate_holds_in_each_direction() {
    // Goal: no session moves more than its rate beyond one burst, copied and spliced, and every byte arrives. Method: a
    // megabyte through an echo at 100,000 bytes a second (a burst is 64 KiB), counted each second.
    for splice in [Splice::Off, Splice::Always] {
        let world = World::new(8);
        let mut back = backend(&world, || Echo);
        let mut settings = settings(back.listeners());
        settings.listeners[0].bytes_per_second_max = Some(100_000);
        settings.listeners[0].splice = splice;
        let tuning = Tuning {
            pipes_max: 4,
            read_bytes_max: 16 * 1024,
            ..Tuning::default()
        };
        let mut front = proxy_tuned(&world, 1, settings, &tuning);
        let client = world.connect(front.sim.listeners());
        let bytes = pattern(1_000_000);
        let (mut sent, mut got) = (0, Vec::new());
        for second in 0..14u32 {
            for _ in 0..20 {
                sent += client.send(&bytes[sent..]);
                got.extend(drain(&mut front.sim, &mut back, &client));
                front.sim.advance(Duration::from_millis(50));
            }
            let most = 100_000 * (second as usize + 1) + 65_536 + 70_000;
            assert!(got.len() <= most, "{} after {second} s", got.len());
        }
        assert!(got == bytes, "{} of {}", got.len(), bytes.len());
        drop(client);
        settle(&mut front.sim, &mut back);
        front.assert_at_rest(&world);
    }
}

#[test]
fn the_handshake_with_a_backend_ends_with_bytes_that_are_in_hand() {
    // Goal: who has spoken, or has a header to come first, needs one packet less, unless the group is told not to. Method:
    // clients that speak first and clients that wait, with and without a header and the setting.
    for (speaks, has_header, hold_ack, held) in [
        (true, false, true, 1),
        (false, false, true, 0),
        (false, true, true, 1),
        (true, true, false, 0),
    ] {
        let world = World::new(5);
        let mut back = backend(&world, || Echo);
        let mut settings = settings(back.listeners());
        settings.groups[0].hold_ack = hold_ack;
        settings.groups[0].send_proxy = has_header.then_some(SendProxy::V1);
        let mut front = proxy(&world, 1, settings);
        let client = world.connect(front.sim.listeners());
        if speaks {
            client.send(b"first");
        }
        settle(&mut front.sim, &mut back);
        assert_eq!(world.acks_held(), held, "{speaks} {has_header} {hold_ack}");
    }
}
