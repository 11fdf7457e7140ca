//! Messages, offloaded jobs, connections that a handler makes.

use crate::{Echo, assert_at_rest, drain_client, pattern, server};
use polyloop::{
    Accepted, Capacities, ConnRef, Ctx, Handler, Input, JobId, PeerAddr, PoolId, Side, Tuning,
    Verdict,
};
use polyloop_sim::World;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

type Members = Rc<RefCell<Vec<ConnRef>>>;

/// Says what it hears to everybody, on whichever loop they are.
struct Chat {
    members: Members,
}

impl Handler for Chat {
    type Message = Vec<u8>;

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        self.members.borrow_mut().push(cx.this());
        Verdict::Continue
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let said = input.take_all().to_vec();
        for &member in &*self.members.borrow() {
            assert!(cx.send(member, said.clone()).is_ok());
        }
        Verdict::Continue
    }

    fn on_message(&mut self, cx: &mut Ctx<'_, Self>, message: Vec<u8>) -> Verdict {
        let _ = cx.write(&message);
        Verdict::Continue
    }
}

#[test]
fn messages_reach_connections_on_other_loops() {
    // Goal: everybody hears everything, in order; what comes for someone who has left is dropped and counted. Method:
    // 3 loops, 12 members; one speaks, one leaves, one speaks again.
    let world = World::new(1);
    let members: Members = Rc::default();
    let shared = Rc::clone(&members);
    let mut sim = server(&world, 3, &Tuning::default(), move |_| {
        let members = Rc::clone(&shared);
        move |_: Accepted| Chat {
            members: Rc::clone(&members),
        }
    });
    let listeners = sim.listeners().to_vec();
    let mut clients: Vec<_> = (0..12).map(|_| world.connect(&listeners)).collect();
    sim.settle();
    clients[3].send(b"first ");
    sim.settle();
    drop(clients.remove(0));
    sim.settle();
    clients[0].send(b"second");
    for client in &clients {
        assert_eq!(drain_client(&mut sim, client), b"first second");
    }
    assert_eq!(sim.sum(|numbers| numbers.messages.value()), 23);
    assert_eq!(sim.sum(|numbers| numbers.messages_stale.value()), 1);
    drop(clients);
    assert_at_rest(&mut sim, &world);
}

/// Has its input reversed by a pool.
struct Reverser;

impl Handler for Reverser {
    type Message = Vec<u8>;

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let mut bytes = input.take_all().to_vec();
        let leaves = bytes == b"leave";
        let job = cx.offload(PoolId::CPU, move || {
            assert!(bytes != b"panic", "a bug in a job");
            bytes.reverse();
            bytes
        });
        assert!(job.is_ok());
        if leaves {
            Verdict::Abort
        } else {
            Verdict::Continue
        }
    }

    fn on_offload(&mut self, cx: &mut Ctx<'_, Self>, _: JobId, result: Option<Vec<u8>>) -> Verdict {
        let _ = cx.write(result.as_deref().unwrap_or(b"lost"));
        Verdict::Continue
    }
}

#[test]
fn results_come_back_or_are_counted() {
    // Goal: a job's end is an event of its connection, whatever it was. Method: a result, a panic, a connection that
    // is gone.
    let world = World::new(2);
    let mut sim = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Reverser);
    let clients: Vec<_> = (0..3).map(|_| world.connect(sim.listeners())).collect();
    clients[0].send(b"abc");
    assert_eq!(drain_client(&mut sim, &clients[0]), b"cba");
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    clients[1].send(b"panic");
    let got = drain_client(&mut sim, &clients[1]);
    std::panic::set_hook(hook);
    assert_eq!(got, b"lost");
    clients[2].send(b"leave");
    sim.settle();
    assert!(clients[2].was_reset());
    assert_eq!(sim.sum(|numbers| numbers.offload_done.value()), 2);
    assert_eq!(sim.sum(|numbers| numbers.offload_stale.value()), 1);
    drop(clients);
    assert_at_rest(&mut sim, &world);
}

/// A proxy in a few lines: what one side says goes to the other.
struct Proxy {
    to: PeerAddr,
    tries: u32,
}

impl Handler for Proxy {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        assert!(cx.connect(self.to));
        Verdict::Continue
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let to = cx.side().other();
        let _ = cx.write_to(to, input.take_all());
        Verdict::Continue
    }

    fn on_finished(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        let (from, to) = (cx.side(), cx.side().other());
        cx.finish(to);
        if from == Side::Back {
            Verdict::Drain
        } else {
            Verdict::Continue
        }
    }

    fn on_connect_failed(&mut self, cx: &mut Ctx<'_, Self>, _: std::io::Error) -> Verdict {
        self.tries += 1;
        if self.tries < 3 && cx.connect(self.to) {
            Verdict::Continue
        } else {
            Verdict::Close
        }
    }
}

fn address(listener: u32) -> PeerAddr {
    PeerAddr::from(SocketAddr::from(([127, 0, 0, 1], listener as u16)))
}

#[test]
fn a_session_with_two_sockets_passes_bytes_and_fins_on() {
    // Goal: two legs, back-pressure across them, half-close in order. Method: a proxy in front of an echo in the same
    // world; a megabyte through it, FIN behind it.
    let world = World::new(3);
    let mut backend = server(&world, 1, &Tuning::default(), |_| |_: Accepted| Echo);
    let to = address(backend.listeners()[0]);
    let mut proxy = server(&world, 1, &Tuning::default(), move |_| {
        move |_: Accepted| Proxy { to, tries: 0 }
    });
    let client = world.connect(proxy.listeners());
    let bytes = pattern(1_000_000);
    let (mut sent, mut got) = (0, Vec::new());
    let mut is_finished = false;
    while !client.is_at_end() {
        sent += client.send(&bytes[sent..]);
        if sent == bytes.len() && !std::mem::replace(&mut is_finished, true) {
            client.finish();
        }
        // Two servers in one world: each settles its own loops, and the other's polls are separate.
        proxy.settle();
        backend.settle();
        got.extend(client.receive(usize::MAX));
        assert!(!client.was_reset());
    }
    assert!(got == bytes, "{} bytes", got.len());
    proxy.settle();
    assert_at_rest(&mut backend, &world);
    assert_at_rest(&mut proxy, &world);
}

#[test]
fn a_refused_connection_is_told_and_may_be_tried_again() {
    // Goal: a handler may try again at once without recursion, and gives up in the end. Method: nobody listens there.
    let world = World::new(4);
    let to = address(4999);
    let mut sim = server(&world, 1, &Tuning::default(), move |_| {
        move |_: Accepted| Proxy { to, tries: 0 }
    });
    let client = world.connect(sim.listeners());
    sim.settle();
    assert!(client.is_at_end());
    let closes = &sim.console().boards()[0].closes;
    assert_eq!(
        closes[polyloop::CloseReason::ConnectFailed.index()].value(),
        1
    );
    assert_at_rest(&mut sim, &world);
}

/// Asks for a job for each byte, and counts the ends that it is told.
struct Asker {
    taken: Rc<Cell<u64>>,
    refused: Rc<Cell<u64>>,
    told: Rc<Cell<u64>>,
}

impl Handler for Asker {
    type Message = ();

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        for _ in 0..input.take_all().len() {
            let count = match cx.offload(PoolId::BLOCKING, || ()) {
                Ok(_) => &self.taken,
                Err(_) => &self.refused,
            };
            count.set(count.get() + 1);
        }
        Verdict::Continue
    }

    fn on_offload(&mut self, _: &mut Ctx<'_, Self>, _: JobId, result: Option<()>) -> Verdict {
        assert_eq!(result, Some(()));
        self.told.set(self.told.get() + 1);
        Verdict::Continue
    }
}

#[test]
fn every_job_that_is_taken_has_its_end_told() {
    // Goal: no result is lost for want of room, however fast the pool. Method: a pool that ends jobs at once, three times
    // as many jobs in one callback as the loop has room for results: what is too many is refused at once.
    let world = World::new(7);
    let (taken, refused, told) = (
        Rc::new(Cell::new(0)),
        Rc::new(Cell::new(0)),
        Rc::new(Cell::new(0)),
    );
    let counts = (Rc::clone(&taken), Rc::clone(&refused), Rc::clone(&told));
    let mut sim = server(&world, 1, &Tuning::default(), move |_| {
        let (taken, refused, told) = (
            Rc::clone(&counts.0),
            Rc::clone(&counts.1),
            Rc::clone(&counts.2),
        );
        move |_: Accepted| Asker {
            taken: Rc::clone(&taken),
            refused: Rc::clone(&refused),
            told: Rc::clone(&told),
        }
    });
    let client = world.connect(sim.listeners());
    for _ in 0..2 {
        client.send(&[0; 3000]);
        sim.settle();
    }
    let room = Capacities::default().jobs_max as u64;
    assert_eq!((taken.get(), told.get()), (2 * room, 2 * room));
    assert_eq!(refused.get(), 6000 - 2 * room);
    assert_eq!(
        sim.sum(|numbers| numbers.offload_refused.value()),
        refused.get()
    );
    drop(client);
    assert_at_rest(&mut sim, &world);
}
