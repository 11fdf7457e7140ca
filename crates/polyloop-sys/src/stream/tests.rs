//! Real sockets on loopback; what they are asked must be what the kernel did.

use std::io::{ErrorKind, IoSlice};
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

use super::*;
use crate::dial::KeepAlive;
use crate::listener::{ListenOptions, Listener, listen_group};
use crate::testing::{readable, writable};

fn listener() -> (Listener, SocketAddr) {
    let any_port = "127.0.0.1:0".parse().unwrap();
    let options = ListenOptions {
        reuse_port: false,
        ..ListenOptions::default()
    };
    let listener = listen_group(&any_port, 1, &options).unwrap().remove(0);
    let addr = listener.local_addr().unwrap().socket_addr().unwrap();
    (listener, addr)
}

/// Both ends of one TCP connection: who connected, who accepted.
fn connected() -> (Stream, Stream) {
    let (listener, addr) = listener();
    let client = Stream::dial(&addr.into()).unwrap();
    readable(&[&listener]);
    let (server, peer) = listener.accept().unwrap();
    writable(&client);
    assert!(client.take_error().unwrap().is_none());
    assert_eq!(peer, client.local_addr().unwrap());
    assert_eq!(client.peer_addr().unwrap(), addr.into());
    (client, server)
}

#[test]
fn is_a_descriptor_and_nothing_else() {
    // Goal: a connection's socket costs four bytes, optional or not. Method: ask the compiler.
    assert_eq!(size_of::<Stream>(), 4);
    assert_eq!(size_of::<Option<Stream>>(), 4);
}

#[test]
fn bytes_go_both_ways() {
    // Goal: one call moves bytes, an empty socket says so. Method: an echo by hand over TCP and over a unix pair.
    for (client, server) in [connected(), Stream::pair().unwrap()] {
        let mut buffer = [0; 64];
        assert_eq!(
            server.recv(&mut buffer).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        assert_eq!(client.send(b"hello").unwrap(), 5);
        readable(&[&server]);
        let received = server.recv(&mut buffer).unwrap();
        assert_eq!(server.send(&buffer[..received]).unwrap(), 5);
        readable(&[&client]);
        assert_eq!(client.recv(&mut buffer).unwrap(), 5);
        assert_eq!(&buffer[..5], b"hello");
    }
}

#[test]
fn slices_leave_in_order_up_to_the_bound() {
    // Goal: the documented number of slices is sent, and the rest is not lost but not taken. Method: more than allowed.
    let (client, server) = connected();
    let bytes: Vec<u8> = (0..20).collect();
    let slices: Vec<_> = bytes.chunks(1).map(IoSlice::new).collect();
    assert_eq!(client.send_vectored(&slices).unwrap(), Stream::SLICES_MAX);
    readable(&[&server]);
    let mut buffer = [0; 64];
    assert_eq!(server.recv(&mut buffer).unwrap(), Stream::SLICES_MAX);
    assert_eq!(&buffer[..Stream::SLICES_MAX], &bytes[..Stream::SLICES_MAX]);
    assert_eq!(client.send_vectored(&[]).unwrap(), 0);
}

#[test]
fn a_full_socket_says_so() {
    // Goal: writing never blocks. Method: write to a peer that does not read until the kernel takes no more.
    let (client, _server) = connected();
    let block = [0; 65_536];
    let error = loop {
        match client.send(&block) {
            Ok(sent) => assert!((1..=block.len()).contains(&sent)),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_fin_closes_one_direction() {
    // Goal: half-close is passed on after the data, and the other half lives. Method: finish one side, then answer.
    let (client, server) = connected();
    client.send(b"last").unwrap();
    client.shutdown_write().unwrap();
    readable(&[&server]);
    let mut buffer = [0; 16];
    assert_eq!(server.recv(&mut buffer).unwrap(), 4);
    readable(&[&server]);
    assert_eq!(server.recv(&mut buffer).unwrap(), 0);
    assert_eq!(server.send(b"answer").unwrap(), 6);
    readable(&[&client]);
    assert_eq!(client.recv(&mut buffer).unwrap(), 6);
    assert_eq!(client.send(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn an_abort_is_a_reset() {
    // Goal: the peer learns of an abort as a reset, once; whoever takes it reads 0 afterwards. Method: drop one end
    // after asking for it.
    let (client, server) = connected();
    client.set_abort_on_close().unwrap();
    drop(client);
    readable(&[&server]);
    assert_eq!(
        server.take_error().unwrap().unwrap().kind(),
        ErrorKind::ConnectionReset
    );
    assert!(server.take_error().unwrap().is_none());
    assert_eq!(server.recv(&mut [0; 1]).unwrap(), 0);
    assert_eq!(
        server.peer_addr().unwrap_err().kind(),
        ErrorKind::NotConnected
    );
    assert!(server.shutdown_write().is_err());
}

#[test]
fn a_refused_connect_is_told_by_the_socket() {
    // Goal: connecting begins without waiting, and its failure is found where the doc says. Method: a port that is
    // held by a socket that does not listen, so nobody else can get it meanwhile.
    let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let addr = held.local_addr().unwrap().as_socket().unwrap();
    let kind = match Stream::connect_tcp(addr) {
        Ok(stream) => {
            writable(&stream);
            stream.take_error().unwrap().unwrap().kind()
        }
        Err(error) => error.kind(),
    };
    assert_eq!(kind, ErrorKind::ConnectionRefused);
    // A unix peer has no name: its address is port 0 of nobody, where nobody listens.
    assert_eq!(Dial::from(PeerAddr::Unix).port(), Some(0));
}

#[test]
fn sockets_are_opened_as_promised() {
    // Goal: close-on-exec and non-blocking from the first moment, Nagle off at both ends. Method: ask the kernel.
    let (client, server) = connected();
    let (left, right) = Stream::pair().unwrap();
    for stream in [&client, &server, &left, &right] {
        assert!(
            rustix::io::fcntl_getfd(stream)
                .unwrap()
                .contains(rustix::io::FdFlags::CLOEXEC)
        );
        assert!(
            rustix::fs::fcntl_getfl(stream)
                .unwrap()
                .contains(rustix::fs::OFlags::NONBLOCK)
        );
    }
    assert!(sockopt::tcp_nodelay(&client).unwrap());
    // Inherited from the listener: accepting costs one system call.
    assert!(sockopt::tcp_nodelay(&server).unwrap());
    assert_eq!(left.peer_addr().unwrap(), PeerAddr::Unix);
    assert_eq!(left.local_addr().unwrap(), PeerAddr::Unix);
}

#[test]
fn silent_peers_can_be_given_up() {
    // Goal: the settings arrive. Method: read them back; and a unix socket refuses them without harm.
    let (client, _server) = connected();
    let (idle, interval) = (Duration::from_secs(60), Duration::from_secs(10));
    let vigilance = |idle| Vigilance {
        keep_alive: Some(KeepAlive {
            idle,
            interval,
            count: 6,
        }),
        user_timeout: Some(Duration::from_secs(30)),
    };
    client.set_vigilance(&vigilance(idle)).unwrap();
    assert!(sockopt::socket_keepalive(&client).unwrap());
    assert_eq!(sockopt::tcp_keepidle(&client).unwrap(), idle);
    assert_eq!(sockopt::tcp_keepintvl(&client).unwrap(), interval);
    assert_eq!(sockopt::tcp_keepcnt(&client).unwrap(), 6);
    assert_eq!(sockopt::tcp_user_timeout(&client).unwrap(), 30_000);
    let too_long = Duration::from_secs(40_000);
    assert!(client.set_vigilance(&vigilance(too_long)).is_err());
    let (left, _right) = Stream::pair().unwrap();
    assert!(left.set_vigilance(&vigilance(idle)).is_err());
    left.set_vigilance(&Vigilance::default()).unwrap();
}

#[test]
fn an_accepted_socket_inherits_the_numbers_and_not_the_switch() {
    // Goal: a keep-alive of the listener costs its connections nothing until they are told, and then takes one call. Method:
    // read the options of an accepted socket before and after; numbers out of the kernel's range are told at the listener.
    let (listener, addr) = listener();
    let keep_alive = KeepAlive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(10),
        count: 6,
    };
    let mut vigilance = Vigilance {
        keep_alive: Some(keep_alive),
        user_timeout: Some(Duration::from_secs(30)),
    };
    vigilance.bequeath(listener.as_fd()).unwrap();
    let _client = Stream::dial(&addr.into()).unwrap();
    readable(&[&listener]);
    let (server, _) = listener.accept().unwrap();
    assert!(!sockopt::socket_keepalive(&server).unwrap());
    assert_eq!(sockopt::tcp_user_timeout(&server).unwrap(), 30_000);
    server.keep_alive(None).unwrap();
    assert!(sockopt::socket_keepalive(&server).unwrap());
    assert_eq!(sockopt::tcp_keepidle(&server).unwrap(), keep_alive.idle);
    assert_eq!(
        sockopt::tcp_keepintvl(&server).unwrap(),
        keep_alive.interval
    );
    assert_eq!(sockopt::tcp_keepcnt(&server).unwrap(), 6);
    for (idle, count) in [(0, 6), (32_768, 6), (60, 0), (60, 128)] {
        let wrong = KeepAlive {
            idle: Duration::from_secs(idle),
            count,
            ..keep_alive
        };
        assert_eq!(
            KeepAliveNumbers::try_from(wrong).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        vigilance.keep_alive = Some(wrong);
        vigilance.bequeath(listener.as_fd()).unwrap_err();
    }
}

#[test]
fn the_last_ack_of_a_handshake_travels_with_the_first_bytes() {
    // Goal: a connection whose ACK is held is there for the server when its first bytes are. Method: dial so, wait until it
    // stands at this end, look at the listener's queue, send; once is enough, since a host that stops us for a delayed ACK's
    // 200 ms between the two looks sends the ACK by itself.
    let (listener, addr) = listener();
    let mut dial = Dial::from(addr);
    dial.holds_ack = true;
    let was_held = (0..50).any(|_| {
        let client = Stream::dial(&dial).unwrap();
        writable(&client);
        assert!(client.take_error().unwrap().is_none());
        let was_there = listener.accept();
        client.send(b"first").unwrap();
        let was_held = was_there.is_err();
        let (server, _) = was_there.unwrap_or_else(|error| {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            readable(&[&listener]);
            listener.accept().unwrap()
        });
        readable(&[&server]);
        assert_eq!(server.unread_bytes().unwrap(), 5);
        let mut bytes = [0; 8];
        assert_eq!(server.recv(&mut bytes).unwrap(), 5);
        assert_eq!(server.unread_bytes().unwrap(), 0);
        was_held
    });
    assert!(was_held);
}

#[test]
fn a_connection_comes_from_where_it_was_told_to() {
    // Goal: source address, with and without a port, and options reach the kernel. Method: dial from another loopback address,
    // twice without a port and once with one that is known to be free.
    let (listener, addr) = listener();
    let from: SocketAddr = "127.0.0.77:0".parse().unwrap();
    let mut ports = Vec::new();
    for _ in 0..2 {
        let mut dial = Dial::from(addr);
        dial.from = Some(from);
        dial.vigilance.user_timeout = Some(Duration::from_secs(7));
        let stream = Stream::dial(&dial).unwrap();
        readable(&[&listener]);
        let (_server, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), Some(from.ip()));
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), 7_000);
        assert_eq!(peer, stream.local_addr().unwrap());
        ports.push(peer.port().unwrap());
        stream.set_abort_on_close().unwrap();
    }
    let mut dial = Dial::from(addr);
    dial.from = Some(SocketAddr::new(from.ip(), ports[0]));
    let stream = Stream::dial(&dial).unwrap();
    assert_eq!(stream.local_addr().unwrap().port(), Some(ports[0]));
    // The same four numbers again cannot be had while that one stands.
    let error = Stream::dial(&dial).unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable
        ),
        "{error}"
    );
}
