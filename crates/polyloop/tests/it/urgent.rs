//! Urgent data (`MSG_OOB`): reads stop at its mark, and splicing takes the mark for an end. It is dropped, what is before and
//! behind it is not.

use crate::harness::{ANY_PORT, Alone, DEADLINE, Site, alone, connect, finish, read_all, settings};
use polyloop::{
    Accepted, Ctx, Handler, Input, PeerAddr, Server, ServerSettings, Side, Tuning, Verdict,
};
use rustix::net::SendFlags;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// Holds its loop at the first byte from its client until the test lets go. What comes after it is echoed; with a backend, what
/// comes from there is spliced to the client.
struct Holder {
    gate: Arc<Mutex<(Sender<()>, Receiver<()>)>>,
    backend: Option<SocketAddr>,
    is_held: bool,
}

impl Handler for Holder {
    type Message = ();

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        if let Some(backend) = self.backend {
            assert!(cx.connect(PeerAddr::from(backend)));
        }
        Verdict::Continue
    }

    fn on_connected(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        cx.splice(Side::Back, true);
        Verdict::Continue
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, input: &mut Input<'_>) -> Verdict {
        let mut bytes = input.take_all();
        if !std::mem::replace(&mut self.is_held, true) {
            let gate = self.gate.lock().unwrap();
            gate.0.send(()).unwrap();
            gate.1.recv_timeout(DEADLINE).unwrap();
            bytes = &bytes[1..];
        }
        let _ = cx.write_to(Side::Front, bytes);
        Verdict::Continue
    }

    fn on_finished(&mut self, cx: &mut Ctx<'_, Self>) -> Verdict {
        cx.finish(Side::Front);
        if cx.side() == Side::Back || self.backend.is_none() {
            Verdict::Drain
        } else {
            Verdict::Continue
        }
    }
}

/// A server whose loop is held by a client, and the two ends of the gate.
fn held(alone: &Alone, backend: Option<SocketAddr>) -> (Site, Receiver<()>, Sender<()>) {
    let (tell, entered) = channel();
    let (open, gate) = channel();
    let gate = Arc::new(Mutex::new((tell, gate)));
    let server = Server::new(move |_: Accepted| Holder {
        gate: Arc::clone(&gate),
        backend,
        is_held: false,
    });
    let server = server.listen(ANY_PORT).unwrap().settings(ServerSettings {
        tuning: Tuning {
            pipes_max: 4,
            ..Tuning::default()
        },
        ..settings(1)
    });
    (Site::start_alone(alone, server), entered, open)
}

/// Words with urgent data between them, all of it before anybody reads.
fn say_urgently(stream: &mut TcpStream) {
    stream.write_all(b"before, ").unwrap();
    assert_eq!(rustix::net::send(&*stream, b"!", SendFlags::OOB), Ok(1));
    stream.write_all(b"behind").unwrap();
}

#[test]
fn what_is_behind_urgent_data_is_read() {
    // Goal: a read that stops at the mark has not drained the socket. Method: a loop that is held while words, urgent data and
    // more words arrive: one edge for all of it.
    let alone = alone();
    let (site, entered, open) = held(&alone, None);
    let mut stream = site.connect();
    stream.write_all(b"W").unwrap();
    entered.recv_timeout(DEADLINE).unwrap();
    say_urgently(&mut stream);
    open.send(()).unwrap();
    assert_eq!(
        crate::harness::read_exactly(&mut stream, 14),
        b"before, behind"
    );
    drop(stream);
    site.end();
}

#[test]
fn urgent_data_does_not_cut_off_what_is_spliced() {
    // Goal: a FIN passed on says that this was all, also where splicing stops at a mark. Method: a backend that sends words, urgent
    // data, more words and a FIN while the loop is held.
    // Released last: the listener is a descriptor as well.
    let alone = alone();
    let listener = TcpListener::bind(ANY_PORT).unwrap();
    let (site, entered, open) = held(&alone, Some(listener.local_addr().unwrap()));
    let mut stream = connect(site.addr());
    let (mut backend, _) = listener.accept().unwrap();
    stream.write_all(b"W").unwrap();
    entered.recv_timeout(DEADLINE).unwrap();
    say_urgently(&mut backend);
    finish(&backend);
    open.send(()).unwrap();
    assert_eq!(read_all(&mut stream), b"before, behind");
    drop((stream, backend));
    site.end();
}
